"""Made-up studies of every kind, small enough to know every number: gathered, typeset to PDF, and checked."""

import copy
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pypdf import PdfReader

from lib import datasets
from lib.data import findings
from lib.download import sources
from lib.evaluation import postprocessing, training_precision
from lib.report import build, tables
from lib.report.content import LANDMARKS, read_table, rows_of
from lib.study import files, params, staleness
from lib.verification import rehosted
from tests import builders_report
from tests.builders_report import CASES, OTHER, cells_of, folder, text_of, text_with, unreferred, write_records

ALL_PATIENTS = 110  # published
# Studies of params/, of which one fold is tested.
REGIONS, LESIONS, VOLUMES = "demo", "busi", "lgg_quick"
POINTS, PHANTOM = "hc18_landmarks_quick", "phantom_hc18_landmarks"  # the first is compared with another study
VERIFIED, EVALUATED, MEASURED = "01_data_verification", "05_evaluation", "06_biometry"
PRINTED = {
    REGIONS: {VERIFIED: "groups colours", EVALUATED: "detection groups effect baselines", MEASURED: "shapes"},
    LESIONS: {EVALUATED: "detection"},
    VOLUMES: {"02_preprocessing": "lost", EVALUATED: "groups effect patients patient-dice end-slices"},
    POINTS: {VERIFIED: "landmark-audit", EVALUATED: "points heatmap_loss", MEASURED: "agreement"}
    | {"07_comparison": "references"},
}


@dataclass(frozen=True)
class Built:
    """A report that was built; nothing of it is changed."""

    study: params.Study
    pdf: Path
    given: dict[str, Any]  # to the template
    text: str  # without ends of pages

    @property
    def first(self) -> str:
        """The text of page one."""
        return re.sub(r"\s+", " ", PdfReader(self.pdf).pages[0].extract_text())

    def row(self, name: str, **values: object) -> dict[str, str]:
        """A row of a table as it is printed, by some of its values."""
        rows = rows_of(self.study, name)
        (found,) = [row for row in rows if all(row[key] == value for key, value in values.items())]
        return {key: re.sub(r"\s+", " ", cell) for key, cell in found.items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Built]]:
    """The report of a study by its name, built once."""

    @cache
    def build_once(name: str) -> Built:
        study = params.read_study(files.study_file(name))
        others = [OTHER] if name == POINTS else study.compare_with
        study = study.model_copy(update={"folds": [0], "seeds": [0], "compare_with": others})
        builders_report.write_study(study)
        pdf = build.write_pdf(study)
        given = files.read_json(pdf.parent / "report" / "content.json")
        return Built(study, pdf, given, text_with(pdf, given))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPORTS_ROOT", str(tmp_path_factory.mktemp("reports")))
        yield build_once


@pytest.fixture
def changeable(built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], params.Study]:
    """A study by its name, with a copy of its files, of which a test may change some."""

    def copy_of(name: str) -> params.Study:
        one = built(name)
        shutil.copytree(one.pdf.parents[1], tmp_path / "reports")
        monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
        return one.study

    return copy_of


@pytest.fixture
def study(changeable) -> params.Study:
    return changeable(REGIONS)


# --- what is printed


@pytest.mark.parametrize("name", PRINTED)
def test_every_cell_of_a_table_is_in_the_pdf_which_refers_to_every_figure_and_table(built, name: str) -> None:
    text = built(name).text.replace("_ study", "_study")
    for step, tables_of_step in PRINTED[name].items():
        for table in tables_of_step.split():
            cells = cells_of(built(name).study, f"{step}/tables/{table}")
            assert len(cells) >= 2
            assert [cell for cell in cells if cell not in text] == []
    assert unreferred(text) == []


def test_the_pdf_holds_the_numbers_of_the_tables(built) -> None:
    demo = built(REGIONS)
    per_class = read_table(demo.study, "05_evaluation/tables/per_class")
    agreement = read_table(demo.study, "06_biometry/tables/agreement")
    values = per_class[["dice", "dice_low", "dice_high", "iou", "pooled_dice"]].to_numpy().ravel()
    assert [value for value in values if f"{value:.3f}" not in demo.text] == []
    values = agreement[["mae_mm", "bias_mm", "upper_limit_mm"]].to_numpy().ravel()
    assert [value for value in values if f"{value:.2f}" not in demo.text] == []
    assert "Not for clinical use" in demo.first
    assert 'a "quoted" #name' in demo.text.replace("“", '"').replace("”", '"')
    assert "claim of 03_model" in demo.text.lower()


def test_page_one_of_volumes_holds_their_dice_and_of_landmarks_their_errors_with_each_licence(built) -> None:
    volumes, landmarks = built(VOLUMES), built(POINTS)
    row = volumes.row("05_evaluation/tables/per_class", stage="post")
    tested = read_table(volumes.study, "05_evaluation/cases")["case"].nunique()
    assert f"lesion {row['dice']} (median {row['dice_median']}; n = {tested - 1}, missed in 0" in volumes.first
    for quantity in ("BPD", "OFD"):
        routes = ("landmark", "mean shape")
        own, shape = (landmarks.row("06_biometry/tables/agreement", quantity=quantity, route=each) for each in routes)
        assert f"{quantity} {own['mae_mm']} mm (median {own['median_mm']}; n = {own['n']}, not" in landmarks.first
        assert f"{quantity} by {shape['mae_mm']} mm" in landmarks.first
    assert all("Not for commercial use" in each.first for each in (volumes, landmarks))
    assert [licence in landmarks.first for licence in ("(CC BY-NC-SA 4.0)", "(CC BY 4.0)")] == [True, True]


@pytest.mark.parametrize(
    ("name", "present", "absent"),
    [
        (REGIONS, ["in percent of that class"], ["by tested fold", "what the sampler changes", "under other names"]),
        (LESIONS, ["No pixel size is known", "0.876"], ["Ramanujan", "in millimetres,", "Bland", "Human variability"]),
        (VOLUMES, ["40 of 20 000", "2 of 20 patients", "128 × 128", "10 and 99", "3 times"], ["(ml)", "0.15"]),
        (VOLUMES, ["22.5", "110", "For 3 of 20", "not at random", "All test patients"], ["No healthy controls"]),
        (POINTS, ["3 pixels", "2 heatmaps", "0.02", "0.300", " 6.2 no float32", "missed: 1)"], ["Dice", "threshold"]),
        (POINTS, ["A nearer", "3.0 %"], ["Segmentation", "cross-entropy", "post-processing"]),
        (PHANTOM, ["made here"], ["Not for commercial use", "Human variability", "Comparison"]),
    ],
)
def test_a_kind_of_study_has_its_numbers_and_sections_and_no_other_kind_s(built, name, present, absent) -> None:
    text = built(name).text.replace(tables.KEEP, " ").replace("segmentation comes by the same way", "")
    before_keys = text.partition("All keys of the study file")[0]  # their meanings speak of every kind
    assert [each for each in present if each not in text] == []
    assert [each for each in absent if each in before_keys] == []


def test_no_two_different_numbers_carry_one_name(built) -> None:
    values: dict[tuple[str, ...], set[str]] = {}
    for row in rows_in(built(VOLUMES).given["evaluation"]):
        key = (row["class"], row.get("stage", "post"), row.get("method", ""))
        for name in row:
            if "dice" in name or "iou" in name or "per_patient" in name:
                values.setdefault((name, *key), set()).add(row[name].partition(tables.KEEP)[0])  # without its interval
    assert {"dice", "pooled_dice", "dice_per_patient", "dice_without"} <= {name for name, *_ in values}
    assert [name for name, each in values.items() if len(each) > 1] == []
    row = built(VOLUMES).row("05_evaluation/tables/patient-dice", stage="post")
    assert row["absent"] == "1"
    mean = row["dice_per_patient"].partition(" ")[0]
    assert not any(mean in each for key, each in values.items() if key[0] == "dice")


def rows_in(value: object) -> Iterator[dict[str, str]]:
    """Every row of a table, one per class, in what a report gathers."""
    if isinstance(value, dict) and "class" in value:
        yield value
    else:
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from rows_in(each)


def test_a_comparison_is_printed_with_its_guess(built) -> None:
    text = built(POINTS).text.replace("_ study", "_study")
    for quantity in ("BPD", "OFD", "HC"):
        row = built(POINTS).row("07_comparison/tables/comparison", quantity=quantity, study_b=OTHER)
        assert f"{quantity} {row['error_a_mm']} mm (landmark) against 3.00 mm (ellipse in {OTHER})" in text
        guess = built(POINTS).row("07_comparison/tables/comparison", quantity=quantity, route_b="baseline")
        assert f"{guess['error_b_mm']} mm ({quantity})" in text
        assert [row["difference_mm"] in text, guess["difference_mm"] in text] == [True, True]


# --- what another content prints


def change(content: dict, study: dict | None = None, rows: dict | None = None, **parts: dict) -> dict:
    """A content with other values: of the study, of some rows (by part and list), and of other parts."""
    content = copy.deepcopy(content)
    for (part, name), values in (rows or {}).items():
        for row in content[part][name] if name else content[part]:
            row.update(values)
    for part, values in ({"study": study or {}} | parts).items():
        content[part] = content[part] | values if isinstance(values, dict) else values
    return content


SAMPLED = {"oversample_classes": ["lv"], "oversample_factor": 3.5}
STEPS = {"closing_pixels": 9, "dilation_pixels": 13, "minimum_area_mm2": 4.5, "parts_kept": 3}
STEPS |= {"minimum_probability": 0.35, "minimum_margin": 0.15, "postprocessing": list(postprocessing.KEYS)}
STEPS_SAID = ["square of 9 pixels", "square of 13 pixels", "under 4.5 mm²", "3 largest", "below 0.35", "below 0.15"]
CHOSEN = {"fold": "0", "seed": "0", "threshold": "0.5", "validation_score": "0.9", "validation_cases": "4"}
OTSU = {"method": "Otsu", "class": "csp", "n": "4", "dice": "0.5"}
SEVERAL = {"study": {"seeds": [0, 1], "folds": [0, 1], "exclude": ["case99"]}}
SEVERAL |= {"evaluation": {"chosen": [CHOSEN], "baselines": [OTSU]}}
ML = {"reference_ml": "12.34", "error_ml": "5.67 [4.00, 7.00]", "bias_ml": "−1.23"}
WHOLE = {
    "study": {"oversample_classes": [], "area_weight_floor": 0.15},
    "data": {"with_spacing": CASES, "cases": ALL_PATIENTS},
    "evaluation": {"ranked": 13},
    "rows": {("evaluation", "post"): {"absent": "0"}, ("sizes", ""): ML},
}
ENDS = {"study": {"heatmap_per": "point", "heatmap_sigma": 1.75, "heatmap_sigma_unit": "mm"}}
NO_MM = {"biometry": None, "rows": {("evaluation", name): {"error_mm": tables.DASH} for name in ("found", "guesses")}}


@pytest.mark.parametrize(
    ("name", "changes", "present", "absent"),
    [
        (REGIONS, {"study": {"focal_weight": 0.25, "focal_gamma": 2.5}}, ["weight 0.25, exponent 2.5"], ["sequence("]),
        (REGIONS, {"study": SAMPLED}, ["3.5 times", "what the sampler changes", "77.7"], []),
        (REGIONS, {"study": STEPS}, STEPS_SAID, ["sequence("]),  # markup that Typst took for text
        (REGIONS, SEVERAL, ["by tested fold", "case99", "lists the thresholds", "Otsu"], []),
        (VOLUMES, WHOLE, ["0.15", "No healthy controls", *ML.values()], ["not at random", "All test patients"]),
        (POINTS, ENDS, ["1.75 mm", "Each end has a map of its own"], []),
        (POINTS, {"comparison": {"pairs": [], "guess": [], "references": []}}, ["they share no"], ["A nearer"]),
        (PHANTOM, NO_MM, ["pixels (OFD, n = 4, missed: 0)"], ["Ramanujan"]),
    ],
)
def test_another_content_is_printed_with_its_numbers(built, name, changes, present, absent) -> None:
    text = text_with(built(name).pdf, change(built(name).given, **changes))
    assert [each for each in present if each not in text] == []
    assert [each for each in absent if each in text] == []


def test_a_list_of_many_patients_goes_on_over_pages(changeable) -> None:
    study = changeable(VOLUMES)
    table = read_table(study, "05_evaluation/tables/patients")
    many = pd.concat([table] * 40, ignore_index=True)
    many["case"] = [f"patient{place:03d}" for place in range(len(many))]
    tables.save(many, folder(study, "05_evaluation/tables/patients"))
    text = text_with(folder(study, "report.pdf"), files.read_json(folder(study, "report/content.json")), pages=True)
    assert len(many) >= ALL_PATIENTS
    assert [case for case in many["case"] if case not in text] == []


@pytest.mark.parametrize(("name", "least"), [(REGIONS, "0.988"), pytest.param(POINTS, "0.37", marks=pytest.mark.slow)])
def test_what_the_precision_of_training_would_change_is_printed(changeable, name: str, least: str) -> None:
    study = changeable(name)
    rounded = builders_report.rounded_of(study, "bfloat16")
    files.write_csv(folder(study, "05_evaluation/precision.csv"), rounded)
    tables.save(training_precision.summary(rounded), folder(study, "05_evaluation/tables/precision"))
    write_records(study)
    text = text_of(build.write_pdf(study))
    cells = [least, "bfloat16", *cells_of(study, "05_evaluation/tables/precision")]
    assert [cell for cell in cells if cell not in text] == []
    assert unreferred(text) == []


def test_absent_figures_and_biometry_are_left_out(study: params.Study) -> None:
    for name in ("06_biometry/measurements.csv", "05_evaluation/figures/dice-distribution.svg"):
        folder(study, name).unlink()
    write_records(study)
    text = text_of(build.write_pdf(study))
    assert [each for each in ("Ramanujan", "Difference against mean", "below each column") if each in text] == []


# --- whether it holds


def test_the_same_files_give_the_same_bytes_wherever_they_lie(study: params.Study, tmp_path: Path) -> None:
    record, pdf = build.STEP.record_file(study.study), build.write_pdf(study)
    before, first = record.read_bytes(), pdf.read_bytes()
    assert staleness.stale_reasons(build.STEP, study) == []
    pdf.unlink()
    assert staleness.stale_reasons(build.STEP, study) == ["1 of its files changed or are gone: ../report.pdf"]
    record.unlink()
    assert build.write_pdf(study).read_bytes() == first
    assert record.read_bytes() == before
    moved = (tmp_path / "elsewhere").resolve()
    folder(study, "").rename(moved)
    assert build.typeset(moved / "report" / "report.typ", builders_report.DATE) == first


@pytest.mark.parametrize(
    ("study_name", "names"),
    [
        (REGIONS, ["01_data_verification/folds.csv", "04_training/fold0-seed0/run.json", "05_evaluation/cases.csv"]),
        (VOLUMES, ["02_preprocessing/lost.csv", "05_evaluation/tables/patient-dice.typ"]),
        (VOLUMES, ["06_biometry/tables/volumes.csv"]),
        (POINTS, ["05_evaluation/tables/points.typ", "05_evaluation/tables/heatmap_loss.csv"]),
        (POINTS, ["07_comparison/tables/comparison.csv"]),
    ],
)
def test_a_missing_file_is_named(changeable, study_name: str, names: list[str]) -> None:
    study = changeable(study_name)
    for name in names:
        content = folder(study, name).read_bytes()
        folder(study, name).unlink()
        with pytest.raises(ValueError, match=f"1 of its files changed or are gone: .*{Path(name).name}"):
            build.write_pdf(study)
        again = f"{name}: missing; the report needs it; run notebook {name.partition('/')[0]} again"
        with pytest.raises(ValueError, match=again):  # as where the step had never made the file
            build.collect(study)
        folder(study, name).write_bytes(content)
    folder(study, names[0]).unlink()
    write_records(study)
    with pytest.raises(ValueError, match=f"{names[0]}: missing"):
        build.write_pdf(study)
    assert not build.STEP.record_file(study.study).exists()


def test_a_step_that_has_not_run_and_every_changed_key_are_named(study: params.Study) -> None:
    folder(study, "06_biometry/record.json").unlink()
    folder(study, "report.pdf").unlink()
    changed = study.model_copy(update={"epochs": study.epochs + 5, "flip_average": False})
    with pytest.raises(ValueError, match="06_biometry: it has not run to its end") as error:
        build.write_pdf(changed)
    assert f"04_training/fold0-seed0: key epochs: {study.epochs} -> {study.epochs + 5}" in str(error.value)
    assert "05_evaluation: key flip_average: True -> False" in str(error.value)
    assert not folder(study, "report.pdf").exists()


# --- images of another data set


@pytest.mark.parametrize(
    ("names_subjects", "twins", "count"), [(False, 0, 0), (False, 9, 0), (False, 10, 1), (True, 20, 0)]
)
def test_images_are_another_data_set_s_if_most_are_and_nobody_is_named(
    study: params.Study, monkeypatch: pytest.MonkeyPatch, names_subjects: bool, twins: int, count: int
) -> None:
    own = replace(datasets.of(study), names_subjects=names_subjects)
    monkeypatch.setattr(datasets, "of", lambda _: own)
    come_from_hc18(study, twins)
    identity = build.describe_identity(study)
    assert len(identity) == count
    for one in identity:
        assert (one["dataset"], one["twin_classes"], one["twins"], one["citation"]) == ("hc18", "head", twins, "hc18")
        assert one["said"]["reference_dice_median"] == "0.991"


def come_from_hc18(study: params.Study, twins: int) -> None:
    """Writes that so many of the 20 cases are HC18's."""
    row = ("hc18", "HC18, fetal head circumference", CASES, twins, twins, "head", 15, 0.991, 9, 4)
    table = pd.DataFrame([row], columns=rehosted.IDENTITY_COLUMNS)
    tables.save(table, folder(study, "01_data_verification/tables/identity"))
    write_records(study)


def test_page_one_says_that_no_tumour_is_labelled_where_the_images_are_hc18_s(changeable) -> None:
    study = changeable("fetal_tumour_quick")
    come_from_hc18(study, CASES)
    pdf = build.write_pdf(study)
    first = re.sub(r"\s+", " ", PdfReader(pdf).pages[0].extract_text())
    assert "20 of 20 were found there, 20 of them equal in every pixel" in first
    assert "no tumour is labelled" in first
    text = text_of(pdf)
    assert [each for each in ("Of 15 pairs", "0.991", "Of the 9", "4 have images") if each not in text] == []


# --- check


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        (REGIONS, ["05_evaluation per_class dice", "05_evaluation precision dice_mean"]),
        (LESIONS, ["05_evaluation per_class iou"]),
        (VOLUMES, ["05_evaluation patients dice_raw", "05_evaluation patient-dice median_per_patient"]),
        (VOLUMES, ["05_evaluation end-slices dice_without", "06_biometry volumes bias_voxels"]),
        (POINTS, ["05_evaluation points error_mm", "05_evaluation heatmap_loss heatmap_loss"]),
        (POINTS, ["06_biometry agreement mae_mm", "07_comparison comparison difference_mm"]),
        (POINTS, ["07_comparison references amount_mm"]),
        (PHANTOM, ["06_biometry agreement bias_mm"]),
    ],
)
def test_check_names_a_changed_cell_of_each_table_and_no_other(changeable, name: str, cells: list[str]) -> None:
    study = changeable(name)
    assert build.check(study) == []
    for step, table_name, column in map(str.split, cells):
        path = folder(study, f"{step}/tables/{table_name}.csv")
        whole, table = path.read_bytes(), files.read_csv(path, [])
        right, table.loc[0, column] = table.loc[0, column], 77.5
        files.write_csv(path, table)
        (fault,) = build.check(study)
        assert fault.startswith(f"{step}/tables/{table_name}.csv, row 2, column {column}: printed 77.5, recomputed ")
        assert float(fault.rpartition(" ")[2]) == pytest.approx(right, rel=1e-9)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("study_name", "name", "column"),
    [
        (REGIONS, "05_evaluation/tables/per_class", "n"),
        (REGIONS, "06_biometry/tables/agreement", "not_measured"),
        (VOLUMES, "06_biometry/tables/volumes", "n"),
        (POINTS, "05_evaluation/tables/points", "missed"),
    ],
)
def test_check_names_a_table_that_has_lost_a_row_of_its_long_table(changeable, study_name, name, column) -> None:
    study = changeable(study_name)
    table = read_table(study, name)
    table.loc[0, column] -= 1
    files.write_csv(folder(study, f"{name}.csv"), table)
    lost, cell = build.check(study)
    assert lost.startswith(f"{name}.csv: n and what is counted beside it")
    printed = table.loc[0, column]
    assert cell == f"{name}.csv, row 2, column {column}: printed {printed}, recomputed {printed + 1}"


def test_check_notices_another_number_of_rows_and_a_number_changed_in_what_is_typeset(study: params.Study) -> None:
    path = folder(study, "06_biometry/tables/agreement.typ")
    path.write_text(path.read_text().replace('"20.00', '"2.00', 1))
    effect = folder(study, "05_evaluation/tables/precision.csv")
    files.write_csv(effect, files.read_csv(effect, []).iloc[1:])
    rows, typeset = build.check(study)
    assert re.match(r"05_evaluation/tables/precision.csv: 2 rows of .*; expected 3 of", rows)
    assert typeset == "06_biometry/tables/agreement.typ: not the table that follows from the long one"


# --- parts


@pytest.mark.parametrize(
    ("tested", "roles"),
    [
        ([0], ["tests", "validates", "trains"]),
        ([2], ["validates", "trains", "tests"]),
        ([0, 2], ["tested once", "not tested", "tested once"]),
    ],
)
def test_the_role_of_each_of_three_folds(tested: list[int], roles: list[str]) -> None:
    assert [build.fold_role(fold, tested, 3) for fold in range(3)] == roles


def test_the_data_are_counted(changeable) -> None:
    study = changeable(VOLUMES)
    found = [findings.Finding("note", findings.Check("duplicate"), "case03", other, "") for other in ("case04", "x")]
    files.write_csv(folder(study, "01_data_verification/findings.csv"), findings.to_table(found))
    data = build.describe_data(study)
    assert (data["findings"], data["warnings"], data["notes"]) == (2, 0, 2)
    assert data["finding_counts"][0]["findings"] == "2"
    assert (data["cases"], data["subjects"], data["largest_subject"], data["with_spacing"]) == (CASES, CASES, 1, 0)
    assert data["slices"] == {"total": 450, "least": 21, "most": 24, "median": 22.5}
    assert "validates in part" in data["folds"]


def test_a_comment_of_the_study_file_is_its_key_s_reason(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# heading\nepochs: 40  # one cycle\ndepth: 4\n")
    assert build.read_reasons(path) == {"epochs": "one cycle", "depth": ""}


@pytest.mark.parametrize(("seconds", "text"), [(9.6, "10 s"), (70, "1 min 10 s"), (3700, "1 h 1 min")])
def test_a_duration_for_reading(seconds: float, text: str) -> None:
    assert build.as_duration(seconds) == text


def test_every_data_set_and_the_landmarks_are_cited_under_the_licence_of_their_source() -> None:
    held = set(re.findall(r"@\w+\{(\w+),", (build.TEMPLATE / "references.bib").read_text(encoding="utf-8")))
    cited = {each.citation for each in datasets.DATASETS.values()}
    assert (cited | {citation for _, citation, _ in LANDMARKS.values()}) - held == {None}
    source = sources.find_source("landmarks", files.ROOT / "data" / "sources.yaml")
    _, citation, licence = LANDMARKS["multicentre"]
    assert source.licence.startswith(licence)
    assert (source.citation, LANDMARKS["role_challenge"][2]) == (citation, "no licence stated")


def test_a_table_without_rows_is_not_printed(built) -> None:
    given = {name: built(name).given["tables"] for name in (VOLUMES, POINTS)}
    assert "02_preprocessing/lost" in given[VOLUMES]
    assert "01_data_verification/landmark-audit" not in given[VOLUMES]
    assert not {"06_biometry/flagged", "02_preprocessing/lost"} & set(given[POINTS])
