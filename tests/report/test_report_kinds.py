"""Reports of studies that are not of regions in images: made-up volumes and landmarks, typeset to PDF."""

import copy
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pypdf import PdfReader

from lib import datasets
from lib.download import sources
from lib.report import tables
from lib.report.build import TEMPLATE, check, collect, write_pdf
from lib.report.content import LANDMARKS, read_table, rows_of
from lib.study import files, params
from tests.builders_report import CASES, OTHER, cells_of, folder, text_with, unreferred, write_study

ALL_PATIENTS = 110  # published


@dataclass(frozen=True)
class Built:
    """A report that was built, and what stands in it.

    Attributes:
        study: its parameters.
        pdf: its file.
        given: what the template was given.
        text: all of it, without ends of pages.
    """

    study: params.Study
    pdf: Path
    given: dict[str, Any]
    text: str

    @property
    def first(self) -> str:
        """The text of page one."""
        return re.sub(r"\s+", " ", PdfReader(self.pdf).pages[0].extract_text())

    @property
    def said(self) -> str:
        """The text before the study's parameters are listed, whose meanings speak of every kind of study."""
        return self.text.partition("All keys of the study file")[0]

    def content(self) -> dict[str, Any]:
        """What the template was given, to be changed."""
        return copy.deepcopy(self.given)


@pytest.fixture(scope="module", autouse=True)
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all studies of this file lie."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPORTS_ROOT", str(tmp_path_factory.mktemp("reports")))
        yield files.reports_root()


def build(name: str, **changed: object) -> Built:
    study = params.read_study(files.study_file(name))
    study = study.model_copy(update={"folds": [0], "seeds": [0]} | changed)
    write_study(study)
    pdf = write_pdf(study)
    given = files.read_json(pdf.parent / "report" / "content.json")
    return Built(study, pdf, given, text_with(pdf, given))


@pytest.fixture(scope="module")
def volumes(root: Path) -> Built:
    """LGG, of which 20 patients are at hand; nothing is changed."""
    assert root.is_dir()
    return build("lgg_quick")


@pytest.fixture(scope="module")
def other_volumes(volumes: Built) -> str:
    """The text for other volumes: all patients, each with a lesion and a voxel size, more pictures, another sampler."""
    content = volumes.content()
    content["study"] |= {"oversample_classes": [], "area_weight_floor": 0.15}
    content["data"] |= {"with_spacing": CASES, "cases": ALL_PATIENTS}
    content["evaluation"]["ranked"] = 13
    for row in content["evaluation"]["post"]:
        row["absent"] = "0"
    for row in content["sizes"]:
        row |= {"reference_ml": "12.34", "error_ml": "5.67 [4.00, 7.00]", "bias_ml": "−1.23"}
    return text_with(volumes.pdf, content)


@pytest.fixture(scope="module")
def landmarks(root: Path) -> Built:
    """Landmarks on HC18, beside another study; nothing is changed."""
    assert root.is_dir()
    return build("hc18_landmarks_quick", compare_with=[OTHER])


@pytest.fixture(scope="module")
def other_landmarks(landmarks: Built) -> str:
    """The text for other landmarks: a map an end, a width in mm, and more pairs."""
    content = landmarks.content()
    content["study"] |= {"heatmap_per": "point", "heatmap_sigma": 1.75, "heatmap_sigma_unit": "mm"}
    content["model"]["arguments"]["out_channels"] = 4
    content["comparison"]["pairs"] *= 3
    return text_with(landmarks.pdf, content)


@pytest.fixture(scope="module")
def phantom(root: Path) -> Built:
    """Landmarks on drawn heads; nothing is changed."""
    assert root.is_dir()
    return build("phantom_hc18_landmarks")


def row_of(built: Built, name: str, **values: object) -> dict[str, str]:
    """A row of a table as it is printed, by some of its values."""
    rows = rows_of(built.study, name)
    (found,) = [row for row in rows if all(row[key] == value for key, value in values.items())]
    return {key: re.sub(r"\s+", " ", cell) for key, cell in found.items()}


# --- volumes


def test_page_one_of_volumes_says_dice_by_patient_and_that_the_data_are_not_for_commerce(volumes: Built) -> None:
    row = row_of(volumes, "05_evaluation/tables/per_class", stage="post")
    tested = len(set(read_table(volumes.study, "05_evaluation/cases")["case"]))
    assert f"in all {tested} patients (fold 0 of 5, 1 seed)" in volumes.first
    assert (
        f"mean Dice of the n patients whose reference shows the structure, all slices together, "
        f"with its 95 % interval was: lesion {row['dice']} "
        f"(median {row['dice_median']}; n = {tested - 1}, missed in 0, invented in 0 of 1 without it)"
    ) in volumes.first.replace("post- processing", "post-processing")
    assert "Not for commercial use, by the licence of the data (CC BY-NC-SA 4.0)" in volumes.first


def test_a_report_of_volumes_speaks_of_no_images(volumes: Built) -> None:
    others = ("mirrored image", "looks at no image", "learn nothing from images", "intensity images", "image sizes")
    said = volumes.said.split("Contents")[1]
    for phrase in others:
        said = said.replace(phrase, "")
    assert re.findall(r".{30}\bimages?\b.{20}", said) == []


@pytest.mark.parametrize(
    "name",
    [
        "02_preprocessing/tables/lost",
        "05_evaluation/tables/groups",
        "05_evaluation/tables/effect",
        "05_evaluation/tables/patients",
        "05_evaluation/tables/patient-dice",
        "05_evaluation/tables/end-slices",
    ],
)
def test_every_cell_of_a_table_of_volumes_is_in_the_pdf(volumes: Built, name: str) -> None:
    cells = cells_of(volumes.study, name)
    assert len(cells) >= 2
    assert [cell for cell in cells if cell not in volumes.text] == []


def test_the_preprocessing_of_volumes_is_said_with_its_numbers_and_what_it_loses(volumes: Built) -> None:
    for said in (
        "in the order of the numbers in their names",
        "At each end 1 slice is left out",
        "holds every pixel above 10 % of a channel’s largest value",
        "clipped to its percentiles 10 and 99",
        "by splines of order 2 until it fits 128 × 128 pixels",
        "40 of 20 000 reference voxels lie in slices that were left out and 5 outside the crop, in 2 of 20 patients",
        "It sees one slice at a time, its 3 sequences as channels",
        "in three dimensions is kept",
    ):
        assert said in volumes.text.replace("'", "’").replace(tables.KEEP, " ")


def test_slices_that_are_drawn_by_their_area_are_said(volumes: Built, other_volumes: str) -> None:
    said = "slices are drawn by the area of their foreground, but for a share of 0.15"
    assert said in other_volumes
    assert said not in volumes.text
    assert "Slices that show lesion are drawn 3 times as often" in volumes.text
    assert "what the sampler changes" in other_volumes


def test_a_patient_without_lesion_is_counted_where_patients_are_listed(volumes: Built) -> None:
    row = row_of(volumes, "05_evaluation/tables/patient-dice", stage="post")
    assert row["absent"] == "1"
    assert (
        f"Of {row['n']}, 1 is such a patient. Dice per patient, absent = 1, is {row['dice_per_patient']} for lesion"
        in volumes.text
    )
    assert "No healthy controls" not in volumes.text


def test_no_two_different_numbers_carry_one_name(volumes: Built) -> None:
    found: dict[tuple[str, ...], set[str]] = {}
    for row in rows_in(volumes.given["evaluation"]):
        of = (row["class"], row.get("stage", "post"), row.get("method", ""))
        for name in row:
            if "dice" in name or "iou" in name or "per_patient" in name:
                found.setdefault((name, *of), set()).add(row[name].partition(tables.KEEP)[0])  # without its interval
    assert {"dice", "pooled_dice", "dice_per_patient", "dice_without"} <= {name for name, *_ in found}
    assert [name for name, values in found.items() if len(values) > 1] == []
    row = row_of(volumes, "05_evaluation/tables/patient-dice", stage="post")
    assert row["dice_per_patient"].partition(" ")[0] not in {
        value for name, values in found.items() if name[0] == "dice" for value in values
    }


def rows_in(value: object) -> Iterator[dict[str, str]]:
    """Every row of a table, one a class, in what a report gathers."""
    if isinstance(value, dict) and "class" in value:
        yield value
    else:
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from rows_in(each)


def test_without_healthy_patients_their_absence_is_a_limit(other_volumes: str) -> None:
    assert "No healthy controls. Every test patient has a lesion" in other_volumes


def test_sizes_are_in_voxels_and_in_millilitres_only_with_a_voxel_size(volumes: Built, other_volumes: str) -> None:
    row = row_of(volumes, "06_biometry/tables/volumes", stage="post")
    assert f"volume was off by {row['error_voxels']} voxels for lesion" in volumes.text
    assert "No voxel size is published, so nothing is in millilitres" in volumes.text
    assert "(ml)" not in volumes.text
    for said in ("The same in millilitres", "12.34", "5.67 [4.00, 7.00]", "−1.23"):
        assert said in other_volumes


def test_that_a_part_of_lgg_is_at_hand_is_said_from_the_numbers(volumes: Built, other_volumes: str) -> None:
    assert f"Published are {ALL_PATIENTS} patients" in volumes.text
    assert "here are 20 of them, and not at random: with 22.5 slices in the median, where all have 33" in volumes.text
    for said in ("not at random", "Part of the data."):
        assert said in volumes.text
        assert said not in other_volumes


def test_limits_of_lgg_are_said(volumes: Built) -> None:
    for said in (
        "For 3 of 20 patients a sequence is a copy of FLAIR",
        "Each lesion was outlined once; how far two readers of these volumes agree is not known",
        "3 in each fold choose epoch and threshold",
        "it is no yardstick for a figure of this study",
        "No voxel size is published",
        "pooled Dice” is that of counts summed over all patients",
    ):
        assert said in volumes.text.replace('"', "”")


def test_some_patients_of_a_fold_that_validate_are_said(volumes: Built) -> None:
    said = "3 patients of fold k + 1, spread over its strata, choose the epoch that is kept and the threshold; the rest"
    assert said in volumes.text
    assert "validates in part" in volumes.text


def test_pictures_that_show_every_case_are_not_shown_again(volumes: Built, other_volumes: str) -> None:
    for said, text, silent in (
        ("All test patients after post-processing, the worst first", volumes.text, other_volumes),
        ("The worst patients after post-processing", other_volumes, volumes.text),
        ("Patients around the median", other_volumes, volumes.text),
    ):
        assert said in text
        assert said not in silent


def test_a_list_of_many_patients_goes_on_over_pages(volumes: Built, tmp_path: Path) -> None:
    study = shutil.copytree(volumes.pdf.parent, tmp_path / "study")
    name = "05_evaluation/tables/patients"
    table = read_table(volumes.study, name)
    many = pd.concat([table] * 40, ignore_index=True)
    many["case"] = [f"patient{place:03d}" for place in range(len(many))]
    tables.save(many, study / name)
    text = text_with(study / "report.pdf", volumes.content(), pages=True)
    assert len(many) >= ALL_PATIENTS
    assert [case for case in many["case"] if case not in text] == []


def test_every_figure_and_table_of_volumes_is_referred_to(volumes: Built) -> None:
    assert unreferred(volumes.text) == []


# --- landmarks


def test_page_one_of_landmarks_says_errors_beside_the_mean_shape_s_and_the_points_licence(landmarks: Built) -> None:
    name = "06_biometry/tables/agreement"
    for quantity in ("BPD", "OFD"):
        own, shape = (row_of(landmarks, name, quantity=quantity, route=route) for route in ("landmark", "mean shape"))
        assert f"{quantity} {own['mae_mm']} mm (median {own['median_mm']}; n = {own['n']}, not" in landmarks.first
        assert f"{quantity} by {shape['mae_mm']} mm" in landmarks.first
    assert "Not for commercial use, by the licence of the landmarks (CC BY-NC-SA 4.0)" in landmarks.first
    assert "(CC BY 4.0)" in landmarks.first  # of the images


def test_a_report_of_landmarks_speaks_of_no_regions(landmarks: Built) -> None:
    for absent in (
        "Dice",
        "Segmentation",
        "cross-entropy",
        "post-processing",
        "threshold",
        "Structures in millimetres",
    ):
        assert absent not in landmarks.said.replace("segmentation comes by the same way", "")


def test_heatmaps_are_said_with_their_width_loss_and_decoding(landmarks: Built) -> None:
    for said in (
        "a Gaussian of height 1 with a standard deviation of 3 pixels of the network’s input",
        "Both ends of a line share one map",
        "It puts out 2 heatmaps, one for each line, and starts blank",
        "here such a network scores 1. Whether ends are found is said by the error, not by the loss",
        "where no other summit is left, it is the highest place of the rest",
        "the highest other summit, more than 3 standard deviations away",
        "nowhere higher than 0.02 shows no peak",
        "The left end of OFD and the upper end of BPD are called the first",
        "a blank map, of which every point is taken in the middle of the frame",
    ):
        assert said in landmarks.text.replace("'", "’")


def test_a_map_for_each_end_and_a_width_in_mm_are_said(other_landmarks: str) -> None:
    assert "with a standard deviation of 1.75 mm" in other_landmarks
    assert "Each end has a map of its own" in other_landmarks
    assert "It puts out 4 heatmaps, one for each point" in other_landmarks


def test_that_the_points_of_hc18_are_ends_of_ellipses_is_said(landmarks: Built, phantom: Built) -> None:
    said = "They are the ends of ellipses that were fitted by least squares to the outlines of HC18"
    assert said in landmarks.text
    assert said in phantom.text
    assert "they are made here" in phantom.text
    assert "they are made here" not in landmarks.text


@pytest.mark.parametrize(
    "name",
    [
        "01_data_verification/tables/landmark-audit",
        "05_evaluation/tables/points",
        "05_evaluation/tables/heatmap_loss",
        "06_biometry/tables/agreement",
        "07_comparison/tables/references",
    ],
)
def test_every_cell_of_a_table_of_landmarks_is_in_the_pdf(landmarks: Built, name: str) -> None:
    cells = cells_of(landmarks.study, name)
    assert len(cells) >= 2
    assert [cell for cell in cells if cell not in landmarks.text.replace("_ study", "_study")] == []


def test_a_missed_line_is_counted_in_the_text(landmarks: Built) -> None:
    row = row_of(landmarks, "05_evaluation/tables/points", line="BPD", route="landmark")
    assert row["missed"] == "1"
    assert f"n = {row['n']}, missed: 1)" in landmarks.text


def test_the_kept_epoch_of_landmarks_stands_with_its_error(landmarks: Built) -> None:
    assert "Validation error (% of OFD)" in landmarks.text
    assert "On validation the heatmaps’ loss was 0.300, where a blank map has 1.000" in landmarks.text.replace("'", "’")
    kept = landmarks.given["runs"][0]["kept"]
    assert kept["validation_error_percent"] == "6.2"
    assert " 6.2 no float32" in landmarks.text  # in the table of runs


def test_without_pixel_sizes_landmarks_are_off_by_pixels(phantom: Built) -> None:
    content = phantom.content()
    content["biometry"] = None
    for row in content["evaluation"]["found"] + content["evaluation"]["guesses"]:
        row["error_mm"] = tables.DASH
    text = text_with(phantom.pdf, content)
    row = row_of(phantom, "05_evaluation/tables/points", line="OFD", route="landmark")
    assert f"The ends of the lines were off by {row['error_px']} pixels (OFD, n = {row['n']}, missed: 0)" in text
    assert "Ramanujan" not in text


def test_phantoms_of_landmarks_say_nothing_of_commerce_or_people(phantom: Built) -> None:
    assert "Not for commercial use" not in phantom.text
    assert "Human variability" not in phantom.text
    assert "Comparison" not in phantom.said


def test_every_figure_and_table_of_landmarks_is_referred_to(landmarks: Built) -> None:
    assert unreferred(landmarks.text) == []


# --- comparison


def test_a_comparison_is_printed_with_its_guess_its_references_and_what_people_reach(landmarks: Built) -> None:
    name = "07_comparison/tables/comparison"
    for quantity in ("BPD", "OFD", "HC"):
        row = row_of(landmarks, name, quantity=quantity, study_b=OTHER)
        said = f"{quantity} {row['error_a_mm']} mm (landmark) against 3.00 mm (ellipse in {OTHER}), a difference of "
        assert said + f"{row['difference_mm']} mm" in landmarks.text.replace("_ study", "_study")
        guess = row_of(landmarks, name, quantity=quantity, route_b="baseline")
        assert f"{guess['error_b_mm']} mm ({quantity})" in landmarks.text
        assert guess["difference_mm"] in landmarks.text
    assert "A’s training mean" in landmarks.text.replace("'", "’")
    assert "they are not the same reference" in landmarks.text
    assert "two HC measurements by the same observer differ by up to ±3.0 % (95 % limits)" in landmarks.text


def test_many_pairs_stand_in_the_table_alone(landmarks: Built, other_landmarks: str) -> None:
    assert "Mean absolute errors were" in landmarks.text
    assert "Mean absolute errors were" not in other_landmarks
    assert "A nearer" in other_landmarks


def test_studies_that_share_nothing_are_said_to(landmarks: Built) -> None:
    content = landmarks.content()
    content["comparison"] |= {"pairs": [], "guess": [], "references": []}
    text = text_with(landmarks.pdf, content)
    assert "they share no measured quantity and no class" in text
    assert "A nearer" not in text


# --- check


@pytest.mark.parametrize(
    ("kind", "name", "column"),
    [
        ("volumes", "05_evaluation/tables/per_class", "dice"),
        ("volumes", "05_evaluation/tables/patients", "dice_raw"),
        ("volumes", "05_evaluation/tables/patient-dice", "median_per_patient"),
        ("volumes", "05_evaluation/tables/end-slices", "dice_without"),
        ("volumes", "06_biometry/tables/volumes", "bias_voxels"),
        ("landmarks", "05_evaluation/tables/points", "error_mm"),
        ("landmarks", "05_evaluation/tables/heatmap_loss", "heatmap_loss"),
        ("landmarks", "06_biometry/tables/agreement", "mae_mm"),
        ("landmarks", "07_comparison/tables/comparison", "difference_mm"),
        ("landmarks", "07_comparison/tables/references", "amount_mm"),
    ],
)
def test_check_names_a_changed_cell_of_each_table(
    kind: str, name: str, column: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = request.getfixturevalue(kind)
    shutil.copytree(built.pdf.parents[1], tmp_path / "reports")
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
    assert check(built.study) == []
    table = read_table(built.study, name)
    right = table.loc[0, column]
    table.loc[0, column] = 77.5
    files.write_csv(folder(built.study, f"{name}.csv"), table)
    (found,) = check(built.study)
    assert found.startswith(f"{name}.csv, row 2, column {column}: printed 77.5, recomputed ")
    assert float(found.rpartition(" ")[2]) == pytest.approx(right, rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("volumes", "02_preprocessing/lost.csv"),
        ("volumes", "05_evaluation/tables/patient-dice.typ"),
        ("volumes", "06_biometry/tables/volumes.csv"),
        ("landmarks", "05_evaluation/tables/points.typ"),
        ("landmarks", "05_evaluation/tables/heatmap_loss.csv"),
        ("landmarks", "07_comparison/tables/comparison.csv"),
    ],
)
def test_a_missing_table_of_each_kind_is_named(
    kind: str, name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = request.getfixturevalue(kind)
    shutil.copytree(built.pdf.parents[1], tmp_path / "reports")
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
    folder(built.study, name).unlink()
    again = f"{name}: missing; the report needs it; run notebook {name.partition('/')[0]} again"
    with pytest.raises(ValueError, match=again):
        collect(built.study)


# --- parts


def test_every_data_set_and_the_landmarks_stand_in_the_bibliography() -> None:
    held = set(re.findall(r"@\w+\{(\w+),", (TEMPLATE / "references.bib").read_text(encoding="utf-8")))
    cited = {each.citation for each in datasets.DATASETS.values()}
    cited |= {citation for _, citation, _ in LANDMARKS.values() if citation is not None}
    assert cited - held == set()


def test_the_licence_of_the_landmarks_is_that_of_their_source() -> None:
    source = sources.find_source("landmarks", files.ROOT / "data" / "sources.yaml")
    _, citation, licence = LANDMARKS["multicentre"]
    assert source.licence.startswith(licence)
    assert source.citation == citation
    assert LANDMARKS["role_challenge"][1:] == (None, "no licence stated")


def test_a_table_without_rows_is_not_printed(volumes: Built, landmarks: Built) -> None:
    assert "06_biometry/flagged" not in landmarks.given["tables"]
    assert "01_data_verification/landmark-audit" not in volumes.given["tables"]
    assert "02_preprocessing/lost" not in landmarks.given["tables"]
    assert "02_preprocessing/lost" in volumes.given["tables"]
