import copy
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typst
from pypdfium2 import PdfDocument

from lib import datasets
from lib.data import findings
from lib.download import sources
from lib.evaluation import postprocessing, training_precision
from lib.report import build, tables
from lib.report.content import LANDMARKS, describe_software, read_table, rows_of
from lib.report.recompute import materials as recomputed
from lib.study import files, params, staleness, study_files
from lib.verification import rehosted
from tests import builders_pages, builders_report
from tests.builders_figures import write_font
from tests.builders_report import CASES, OTHER, cells_of, folder, text_of, text_with, unreferred, write_records

ALL_PATIENTS = 110  # published
# Studies of params/, of which one fold is tested.
REGIONS, LESIONS, VOLUMES = "demo", "busi", "lgg_quick"
POINTS, PHANTOM = "hc18_landmarks_quick", "phantom_hc18_landmarks"  # the first is compared with another study
PER_CLASS, AGREEMENT = "05_evaluation/tables/per_class", "06_biometry/tables/agreement"
VERIFIED, EVALUATED, MEASURED = "01_data_verification", "05_evaluation", "06_biometry"
OF_HEADS = "limits-mm limits-percent proportional-bias by-size reliability equivalence gestational-age centiles"
PRINTED = {
    REGIONS: {VERIFIED: "groups colours", EVALUATED: "per_class detection groups effect baselines failures"}
    | {MEASURED: f"agreement shapes widths enlarged error-budget failures {OF_HEADS}"},
    LESIONS: {EVALUATED: "detection"},
    VOLUMES: {"02_preprocessing": "lost", EVALUATED: "groups effect patients patient-dice end-slices failures"}
    | {MEASURED: "volume-limits"},
    POINTS: {VERIFIED: "landmark-audit", EVALUATED: "points heatmap_loss failures", MEASURED: f"agreement {OF_HEADS}"}
    | {"07_comparison": "references"},
}


@dataclass(frozen=True)
class Built:
    """A finished report; tests must not change its files."""

    study: params.Study
    pdf: Path
    content: dict[str, Any]  # of content.json
    text: str  # without page breaks

    def row(self, name: str, **values: object) -> dict[str, str]:
        """The printed row of a table with some given values."""
        rows = rows_of(self.study, name)
        (one,) = [row for row in rows if all(row[key] == value for key, value in values.items())]
        return {key: re.sub(r"\s+", " ", cell) for key, cell in one.items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Built]]:
    """Builds the report of a study, by name, once per module."""

    @cache
    def build_once(name: str) -> Built:
        study = params.read_study(files.study_file(name))
        others = [OTHER] if name == POINTS else study.compare_with
        study = study.model_copy(update={"folds": [0], "seeds": [0], "compare_with": others})
        builders_report.write_study(study)
        pdf = build.write_pdf(study)
        content = files.read_json(pdf.parent / "report" / "content.json")
        return Built(study, pdf, content, text_with(pdf, content))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPORTS_ROOT", str(tmp_path_factory.mktemp("reports")))
        yield build_once


@pytest.fixture
def changeable(built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], params.Study]:
    """A study by name, with a copy of its files that a test may change."""

    def copy_of(name: str) -> params.Study:
        one = built(name)
        shutil.copytree(one.pdf.parents[1], tmp_path / "reports")
        monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
        return one.study

    return copy_of


@pytest.fixture
def study(changeable) -> params.Study:
    return changeable(REGIONS)


def lacking(text: str, *parts: str) -> list[str]:
    return [part for part in parts if part not in text]


@pytest.mark.parametrize("name", PRINTED)
def test_every_cell_of_a_table_is_in_the_pdf_which_refers_to_every_figure_and_table(built, name: str) -> None:
    for step, tables_of_step in PRINTED[name].items():
        for table in tables_of_step.split():
            cells = cells_of(built(name).study, f"{step}/tables/{table}")
            assert cells
            assert lacking(built(name).text, *cells) == []
    assert unreferred(built(name).text) == []


def test_the_pdf_holds_the_numbers_of_the_tables_and_page_one_those_of_its_kind_with_its_licence(built) -> None:
    demo, volumes, points = (built(name) for name in (REGIONS, VOLUMES, POINTS))
    first, of_volumes, of_points = (text_of(each.pdf, pages=2) for each in (demo, volumes, points))
    assert "Not for clinical use" in first
    assert lacking(demo.text.replace("“", '"').replace("”", '"'), 'a "quoted" #name', "Claim of 03_model") == []
    row = volumes.row(PER_CLASS, stage="post")
    tested = read_table(volumes.study, "05_evaluation/cases")["case"].nunique()
    missed = f"which was missed in 0 of {tested - 1} patients"
    median = row["dice_median"].replace("(", "(range ")  # of few patients
    assert f"Median Dice was {median} for the lesion, {missed} (Table 1)" in of_volumes
    assert f"missed or invented class) in none of {tested} patients" in of_volumes
    assert "0 of 1" in of_volumes  # invented
    size = volumes.row("06_biometry/tables/volumes", stage="post")
    error = size["error_voxels"].replace(tables.KEEP, " ").replace(" (", " voxels (range ")
    assert f"error of the volume of the lesion was {error}" in of_pages(volumes, 2)
    for quantity in ("BPD", "OFD"):
        own, shape = (points.row(AGREEMENT, quantity=quantity, route=each) for each in ("landmark", "mean shape"))
        assert lacking(text_of(points.pdf, pages=3), own["median_mm"], own["mae_mm"]) == []  # in Table 2
        assert f"{shape['mae_mm']} mm for {quantity}" in points.text
    assert all("Not for commercial use" in text for text in (of_volumes, of_points))
    assert lacking(of_points, "(CC BY-NC-SA 4.0)", "(CC BY 4.0)") == []


@pytest.mark.parametrize(
    ("name", "present", "absent"),
    [
        (
            REGIONS,
            ["in percent of that class", "missed or invented class) in none of 4 images"],
            ["by tested fold", "the sampler", "under other names"],
        ),
        (
            LESIONS,
            ["No pixel size is known", "0.876", "A scene is an image with its near-duplicates"],
            ["Ramanujan", "in millimetres,", "Bland", "Beside observers"],
        ),
        (VOLUMES, ["40 of 20 000", "2 of 20 patients", "128 × 128", "10 and 99", "3 times"], ["(ml)", "0.15"]),
        (VOLUMES, ["22.5", "110", "In 3 of 20", "not a random", "All test patients after"], ["No healthy controls"]),
        (POINTS, ["3 network pixels", "2 heatmaps", "0.02", "0.300", "6.2 % of the OFD", "1 of 4"], ["Dice"]),
        (POINTS, ["A better", "3.0 %"], ["cross-entropy", "post-processing", "threshold"]),
        (PHANTOM, ["are synthetic"], ["Not for commercial use", "Beside observers", "Comparison"]),
    ],
)
def test_a_kind_of_study_has_its_numbers_and_sections_and_no_other_kind_s(built, name, present, absent) -> None:
    text = built(name).text.replace(tables.KEEP, " ")
    before_keys = text.partition("All keys of the study file")[0]  # their descriptions mention every kind
    assert lacking(text, *present) == []
    assert lacking(before_keys, *absent) == absent


@pytest.mark.parametrize(("name", "unit", "word"), [(REGIONS, "mm", "mm"), (VOLUMES, "px", "pixels")])
def test_sentences_on_boundaries_and_presence_have_the_numbers_of_their_tables(built, name, unit, word) -> None:
    one, text = built(name), built(name).text.replace(tables.KEEP, " ")
    of, case = {"stage": "post", "class": one.study.classes[1]}, "case" if unit == "mm" else "patient"
    distances = one.row("05_evaluation/tables/distances" + "-pixels" * (unit == "px"), **of)
    presence = one.row("05_evaluation/tables/presence", **of)
    names = (f"{part}hd95_{unit}" for part in ("median_", "", "largest_", "others_"))
    median, mean, largest, others = (distances[name].replace(tables.KEEP, " ") for name in names)
    assert median in text
    name_of = one.row("05_evaluation/tables/presence", **of)["class"]
    outlier = (
        f"HD95 of the {name_of} was {largest} {word}; without that {case}, the mean would be {others} instead of {mean}"
    )
    assert f"The largest of the {distances['n']} {outlier} {word}" in text
    found, stricter = presence["detected"], presence["dice_from_half"]
    unit_word = "patients" if name == VOLUMES else "images"
    assert f"Dice of at least 0.5 was reached in {stricter} of {found} {unit_word} for the {name_of}" in text
    assert f"The {name_of} was predicted in {found} of {found} {unit_word} that show it" in text
    assert ("and was predicted in 0 of 1 that do not" in text) == (name == VOLUMES)


PARTS_OF_CASES = {"method": "", "group": "", "fold": ""}  # columns of rows that are not of all cases, or of the network


def test_no_two_different_numbers_carry_one_name(built) -> None:
    values: dict[tuple[str, ...], set[str]] = {}
    of_evaluation = [rows for rows in built(VOLUMES).content["evaluation"].values() if isinstance(rows, list)]
    for row in [row for rows in of_evaluation for row in rows if "class" in row]:
        key = (row["class"], *(row.get(part, whole) for part, whole in {"stage": "post", **PARTS_OF_CASES}.items()))
        for name in row:
            if "dice" in name or "iou" in name or "per_patient" in name:
                values.setdefault((name, *key), set()).add(row[name].partition(tables.KEEP)[0])  # without its interval
    assert {"dice", "pooled_dice", "dice_per_patient", "dice_without"} <= {name for name, *_ in values}
    assert [name for name, each in values.items() if len(each) > 1] == []
    row = built(VOLUMES).row("05_evaluation/tables/patient-dice", stage="post")
    assert row["absent"] == "1"
    mean = row["dice_per_patient"].partition(" ")[0]
    assert not any(mean in each for key, each in values.items() if key[0] == "dice")


COUNTED = "image case head patient volume slice examination subject fold seed run epoch thread class voxel pixel key"
COUNTED += " structure threshold finding time failure part point line network hour minute second"


@pytest.mark.parametrize("name", PRINTED)
def test_one_of_a_thing_is_not_counted_in_the_plural(built, name: str) -> None:
    many = "|".join("classes" if word == "class" else word + "s" for word in COUNTED.split())
    prose, _, _ = built(name).text.partition("All keys of the study file")  # then values stand before words
    assert re.findall(rf".{{0,60}}(?<![\d.,–/·-])(?<!\d )\b1 (?:test |tested |training )?(?:{many})\b", prose) == []


def test_the_strongest_method_without_a_network_stands_beside_the_network(built) -> None:
    text = built(REGIONS).text.translate(str.maketrans("“”’", '""\''))
    first = '0.505 [0.485, 0.515] for the parenchyma ("Otsu\'s threshold, holes filled, ellipse", n = 4) and'
    best = '0.876 [0.856, 0.886] for the head ("brightest pixels, robust ellipse", n = 4). The network reached 0.987'
    mm = "the mean absolute error of HC was 0.13 [0.12, 0.14] mm, and 1.24 [1.23, 1.25] mm without a network"
    gain = "its mean Dice of the head was 0.111 [0.091, 0.121] higher. HC was more accurate than by that method: "
    gain += "mean difference of the absolute errors −1.11 mm [−1.12, −1.10]"
    assert lacking(text, first, best, mm, gain) == []


def test_what_loses_all_overlap_by_post_processing_is_counted_wherever_failures_are_explained(built) -> None:
    one = built(VOLUMES)
    content = copy.deepcopy(one.content)
    content["evaluation"]["raw"][0] |= {"missed": "0", "no_overlap": "0"}
    content["evaluation"]["post"][0] |= {"missed": "0", "no_overlap": "2"}
    content["evaluation"]["effect"][0] |= {"better": "3"}
    told = ["Before and after it, the lesion was predicted without any overlap 0 and 2 times."]
    told += ["2 had no overlap with it.", "and none after it, as in 2 patients here."]
    told += ["In 2 patients, post-processing removed every part that overlapped the reference"]
    assert lacking(text_with(one.pdf, content), *told) == []
    content["evaluation"]["post"][0] |= {"no_overlap": "0"}
    assert lacking(text_with(one.pdf, content), *told) == told


def test_widths_and_the_error_budget_are_stated_with_their_numbers(built) -> None:
    demo = built(REGIONS)
    row = demo.row("06_biometry/tables/widths", **{"class": "LV"})
    enlarged = demo.row("06_biometry/tables/enlarged")
    parts = {
        name: demo.row("06_biometry/tables/error-budget", component=name) for name in ("fit", "prediction", "total")
    }
    stated = [f"{row['mae_mm']} mm for the LV (n = {row['n']}, largest error {row['largest_error_mm']} mm; bias"]
    stated += [f"limits of agreement from {row['lower_limit_mm']} to {row['upper_limit_mm']} mm; 1 missed, 0 invented)"]
    stated += [f"of {enlarged['n_enlarged']} such ventricles, {enlarged['sensitivity_percent']} % were recognised"]
    stated += [f"root mean square of the error of HC is {parts['total']['rms_mm']} mm"]
    stated += [
        f"{parts[name]['rms_mm']} mm for {name} ({parts[name]['share_percent']} %)" for name in ("fit", "prediction")
    ]
    assert lacking(demo.text, *stated) == []


def test_sentences_of_agreement_follow_the_verdicts_of_their_tables(built) -> None:
    one = built(REGIONS)
    assert "There were too few subjects to test whether the difference of BPD, OFD and HC changes with size" in one.text
    assert "Equivalence of the mean was not shown for BPD, OFD and HC." in one.text
    content = copy.deepcopy(one.content)
    slopes, tests = content["biometry"]["proportional-bias"], content["biometry"]["equivalence"]
    slopes[0]["proportional"], slopes[2]["proportional"] = "no", "yes"
    at = {"quantity": "HC", "lower_limit_mm": "1.11 [0.9, 1.2]", "upper_limit_mm": "9.99", "bias_percent": "3.3"}
    sizes = [("120.00", "5.55"), ("235.00", "7.77 [6.6, 8.8]")]
    content["biometry"]["limits-at-sizes"] = [at | {"size_mm": size, "bias_mm": bias} for size, bias in sizes]
    content["tables"]["06_biometry/limits-at-sizes"] = content["tables"]["06_biometry/limits-mm"]
    content["biometry"]["limits-mm"][0] |= {
        "percentile_2_5_mm": "−4.44",
        "percentile_97_5_mm": "6.66",
        "p_normal": "0.012",
    }
    first = {"quantity": "HC", "n": "3", "bias_mm": "2.22", "lower_limit_mm": "−1.00", "upper_limit_mm": "5.00"}
    content["biometry"]["limits-first-image"] = [first]
    content["biometry"]["limits-mm"][-1] |= {"percentile_2_5_mm": "−3.33", "percentile_97_5_mm": "8.88", "n": "39"}
    for row, (mean, single) in zip(tests, (("yes", "yes"), ("yes", "no"), ("yes", "undecided"))):
        row |= {"mean_within_margin": mean, "single_within_margin": single}
    text = text_with(one.pdf, content)
    assert lacking(text, "one bias and one pair of limits do not describe all sizes", "120.00 5.55 3.3 1.11") == []
    assert "235.00 7.77 [6.6, 8.8] 3.3 1.11 [0.9, 1.2] 9.99" in text
    assert "one pair of limits do not describe" not in one.text
    assert lacking(text, "lines are those of the regression on size", "Bands: 95 % confidence intervals") == []
    assert lacking(text, "minimum and maximum were −4.44 and 6.66 mm for BPD (p = 0.012)") == []
    skewed = "2.5th and 97.5th percentiles of the differences, which were not normally distributed, of −3.33 mm and"
    assert lacking(text, f"{skewed} 8.88 mm (Table 2)") == []
    assert "not normally distributed" not in of_pages(one, 2)
    assert lacking(text, "only (n = 3), the limits of HC were −1.00 to 5.00 mm") == []
    percent = one.row("06_biometry/tables/limits-percent", quantity="HC")["lower_limit_percent"]
    assert f"mm, or {percent.split(' ')[0]} % and" in of_pages(one, 2)
    bias = one.row("06_biometry/tables/limits-mm", quantity="HC")["bias_mm"]
    assert f"with a bias of {of_unit(bias, 'mm')} and 95 % limits of agreement of" in of_pages(one, 2)


def of_unit(cell: str, unit: str) -> str:
    """A printed value with its unit before the interval."""
    value, space, interval = cell.partition(" ")
    return f"{value} {unit}{space}{interval}"


def of_pages(one: Built, count: int) -> str:
    return text_of(one.pdf, pages=count).replace(tables.KEEP, " ")


@pytest.mark.parametrize("name", [REGIONS, LESIONS, VOLUMES, POINTS])
def test_the_abstract_has_its_parts_in_at_most_300_words_and_the_main_tables_follow_it(built, name) -> None:
    text = of_pages(built(name), 3)
    parts = [text.index(f"{part}.") for part in ("Methods", "Results", "Conclusion", "Not for clinical use")]
    assert parts == sorted(parts)
    assert len(text[parts[0] : parts[3]].split()) <= 300
    assert "Table 1. Main results" in text[parts[3] :]
    assert ("Table 2. Main results" in text[parts[3] :]) == (name != LESIONS)  # without a pixel size


def test_the_discussion_says_what_was_found_what_fails_and_what_is_not_shown(built) -> None:
    text, found = built(REGIONS).text.replace(tables.KEEP, " "), built(REGIONS).content["findings"]
    discussion = text[text.index("What the numbers say") :]
    said = [*found["main"], found["failures"][0], *found["weak"], *found["unshown"]]
    assert lacking(discussion, *[each.replace(tables.KEEP, " ").rstrip(".") for each in said]) == []
    assert lacking(discussion, "Where it fails.", "What is not shown.", "Limitations", "images of another") == []


def test_a_comparison_is_printed_with_its_baseline(built) -> None:
    points = built(POINTS)
    for quantity in ("BPD", "OFD", "HC"):
        row = points.row("07_comparison/tables/comparison", quantity=quantity, study_b=OTHER)
        baseline = points.row("07_comparison/tables/comparison", quantity=quantity, route_b="baseline")
        pair = f"{row['error_a_mm']} mm (landmark) and 3.00 mm (ellipse in {OTHER}) for {quantity}"
        error = f"{baseline['error_b_mm']} mm ({quantity})"
        text = points.text.replace("_ ", "_")  # a line may end after an underscore
        assert lacking(text, pair, error, row["difference_mm"], baseline["difference_mm"]) == []


def change(content: dict, study: dict | None = None, rows: dict | None = None, **parts: dict) -> dict:
    """A content with some values changed: of the study, of some rows (by part and list), and of other parts."""
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
ONE_THREAD = {"step": "04_training/fold0-seed0", "device": "cpu (x86_64, 1 thread)"}
ON_GPU = {"step": "04_training/fold1-seed0", "device": "NVIDIA H200"}
NOT_SHOWN = {"date": "", "time": "", "peak": "", "commit": ""}
TRAINED = {"provenance": {"steps": [ONE_THREAD | NOT_SHOWN, ON_GPU | NOT_SHOWN]}}
TRAINED_TEXT = ["Training ran on the x86_64 processor (CPU) in 1 thread and a GPU (NVIDIA H200)"]
STEPS_TEXT = ["square of 9 pixels", "square of 13 pixels", "under 4.5 mm²", "3 largest", "below 0.35", "below 0.15"]
CHOSEN = {"fold": "0", "seed": "0", "threshold": "0.5", "validation_score": "0.9", "validation_cases": "4"}
OTSU = {"method": "Otsu's own", "class": "csp", "n": "4", "dice": "0.5", "dice_subjects": "4", "hc_error_mm": "–"}
SEVERAL = {"study": {"seeds": [0, 1], "folds": [0, 1], "exclude": ["case99"], "threshold_candidates": [0.4, 0.5]}}
SEVERAL |= {"evaluation": {"chosen": [CHOSEN], "baselines": [OTSU]}}
ML = {"reference_ml": "12.34", "error_ml": "5.67 [4.00, 7.00]", "bias_ml": "−1.23"}
WHOLE = {"study": {"oversample_classes": [], "area_weight_floor": 0.15}, "evaluation": {"ranked": 13}}
WHOLE |= {"data": {"with_spacing": CASES, "cases": ALL_PATIENTS}}
WHOLE |= {"rows": {("evaluation", "post"): {"absent": "0"}, ("sizes", ""): ML}}
ENDS = {"study": {"heatmap_per": "point", "heatmap_sigma": 1.75, "heatmap_sigma_unit": "mm"}}
NO_MM = {"biometry": None, "rows": {("evaluation", name): {"error_mm": tables.DASH} for name in ("found", "guesses")}}


@pytest.mark.parametrize(
    ("name", "changes", "present", "absent"),
    [
        (REGIONS, {"study": {"focal_weight": 0.25, "focal_gamma": 2.5}}, ["weight 0.25, exponent 2.5"], ["sequence("]),
        (REGIONS, {"study": {"schedule": "constant"}}, ["The last of 4 epochs was selected"], ["as is usual"]),
        (REGIONS, {"study": SAMPLED}, ["3.5 times", "the sampler", "77.7"], []),
        (REGIONS, {"study": STEPS}, STEPS_TEXT, ["sequence("]),  # markup that Typst would print as text
        (REGIONS, TRAINED, TRAINED_TEXT, []),
        (REGIONS, SEVERAL, ["by tested fold", "case99", "Thresholds selected on", "Otsu's own"], []),
        (VOLUMES, WHOLE, ["0.15", "No healthy controls", *ML.values()], ["not a random", "All test patients after"]),
        (POINTS, ENDS, ["1.75 mm", "Each endpoint has its own heatmap"], []),
        (POINTS, {"comparison": {"pairs": [], "guess": [], "references": []}}, ["share no measured"], ["A better"]),
        (PHANTOM, NO_MM, ["Mean (pixels)"], ["Ramanujan"]),
    ],
)
def test_another_content_is_printed_with_its_numbers(built, name, changes, present, absent) -> None:
    text = text_with(built(name).pdf, change(built(name).content, **changes))
    assert lacking(text, *present) == []
    assert lacking(text, *absent) == absent


@pytest.mark.parametrize(("name", "unit"), [(REGIONS, "cases"), (VOLUMES, "patients")])
def test_a_study_without_post_processing_prints_each_result_once(tmp_path, monkeypatch, name: str, unit: str) -> None:
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    changed = {"folds": [0], "seeds": [0], "postprocessing": []}
    study = params.read_study(files.study_file(name)).model_copy(update=changed)
    builders_report.write_study(study)
    pdf = build.write_pdf(study)
    text = text_with(pdf, files.read_json(pdf.parent / "report" / "content.json"))
    assert lacking(text, "There is no post-processing") == []
    twice = ["After post-processing", "Before post-processing", "after post-processing", "Effect of post-processing"]
    assert lacking(text, *twice) == twice
    assert [row["stage"] for row in rows_of(study, PER_CLASS)] == ["post"] * (len(study.classes) - 1)


@pytest.mark.parametrize("name", [REGIONS, LESIONS])
def test_a_study_with_one_test_case_has_a_report(tmp_path, monkeypatch, name: str) -> None:
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    all_of_fold = builders_report.tested
    monkeypatch.setattr(builders_report, "tested", lambda study: all_of_fold(study)[:1])
    study = params.read_study(files.study_file(name)).model_copy(update={"folds": [0], "seeds": [0]})
    builders_report.write_study(study)
    text = text_of(build.write_pdf(study))
    dice = rows_of(study, PER_CLASS)[-1]["dice"]
    assert "[" not in dice  # one subject has no interval
    assert lacking(text, dice, "1 test case of 1") == []


def test_raw_masks_are_compared_in_an_appendix_only_where_a_result_changed(built) -> None:
    demo = built(REGIONS)
    said = "Post-processing changed the Dice of no case."
    assert lacking(demo.text, "Raw against post-processed masks", said) == [said]
    same = {
        "better": "0",
        "worse": "0",
        "missed_post": "0",
        "missed_raw": "0",
        "invented_post": "0",
        "invented_raw": "0",
    }
    text = text_with(demo.pdf, change(demo.content, rows={("evaluation", "effect"): same}))
    assert lacking(text, said, "Raw against post-processed masks") == ["Raw against post-processed masks"]
    raw, post = (demo.row(PER_CLASS, **{"stage": stage, "class": "CSP"}) for stage in ("raw", "post"))
    assert raw["iou"] != post["iou"]
    assert lacking(demo.text, post["iou"], raw["iou"]) == [raw["iou"]]


def test_the_largest_distances_of_a_penalty_are_explained_only_where_there_is_one(built) -> None:
    demo, said = built(REGIONS), "Missed and invented structures have no distance and are drawn"
    assert said not in demo.text
    content = copy.deepcopy(demo.content)
    first = content["evaluation"]["distances"]["mm"][0]
    content["evaluation"]["distances"]["mm"].append(first | {"penalty": "yes", "missed": "2"})
    assert lacking(text_with(demo.pdf, content), said, "(with penalty)", "of the 2 missed and 0 invented") == []


def test_a_study_of_one_class_is_told_without_other_classes(built) -> None:
    lesions, demo = built(LESIONS), built(REGIONS)
    words = ["lowest Dice among the classes", "Confusion between classes"]
    results = lesions.text.partition("Parameters")[0]
    assert lacking(results, *words, "of that class, summed") == [*words, "of that class, summed"]
    assert lacking(demo.text, *words) == []


def test_every_case_is_in_the_appendix_with_a_link_to_its_pictures(built) -> None:
    for name in (REGIONS, VOLUMES, POINTS):
        one = built(name)
        every = one.content["every_case"]
        links = re.findall(rb"/URI ?\(gallery\.html#([^)]*)\)", one.pdf.read_bytes())
        assert sorted({each.decode() for each in links}) == sorted(row["anchor"] for row in every["rows"])
        assert lacking(one.text, *(value for row in every["rows"] for value in row["values"])) == []


def test_own_data_are_named_without_a_reference_or_a_licence(built) -> None:
    demo = built(REGIONS)
    source = {"kind": "own", "short_name": "own data", "facts": {}, "drawn": "", "record": "", "group_word": "group"}
    content = change(demo.content, {"dataset": "own_ovaries"}, source=source, made_here=False)
    text = text_with(demo.pdf, content)
    said = "own data (own_ovaries, not publicly available)"
    assert text.count(said) == 2  # title, summary
    own = ["The data are the author's own (own_ovaries), not publicly available", "The masks are the author’s own"]
    assert lacking(text.replace("'", "’"), *(each.replace("'", "’") for each in own)) == []
    title = datasets.DATASETS[demo.study.dataset].title
    assert lacking(text, title, "are synthetic", "Published results") == [title, "are synthetic", "Published results"]


@pytest.mark.parametrize("name", [REGIONS, PHANTOM, "phantom_lgg"])
def test_a_phantom_is_told_as_drawn_and_neither_as_published_nor_as_of_hospitals(built, name: str) -> None:
    text = built(name).text
    short_name = datasets.of(built(name).study).phantom.short_name
    assert (
        lacking(text, f"The data are synthetic: {short_name}", "belong to no person", "The reference is the drawing")
        == []
    )
    assert lacking(text.lower(), "no approval was") == []  # that of the demo is its author's text
    about = text[
        text.index("The data are synthetic") : text.index("Partition Images" if "lgg" not in name else "Partition P")
    ]
    of_others = ["publisher", "institution", "sonographer", "Published results", "As reported"]
    assert lacking(about, *of_others) == of_others
    assert lacking(text, "publisher put", "publisher substituted") == ["publisher put", "publisher substituted"]


def test_the_materials_of_published_data_give_facts_flow_and_characteristics_with_their_numbers(built) -> None:
    volumes = built(VOLUMES)
    of_data = [
        "This study uses 20 of the 110 published patients",
        "The Cancer Imaging Archive",
        "not state the country",
    ]
    of_flow = ["not available here: 90", "Available and included 20 patients", "0.836 (0.873)"]
    assert lacking(volumes.text, *of_data, *of_flow) == []
    content = volumes.content
    row = next(row for row in content["characteristics"]["rows"] if row["name"] == "Slices in total")
    parts = content["parts"][0]
    assert row["cells"][-1] == str(content["data"]["slices"]["total"])
    assert content["characteristics"]["rows"][0]["cells"] == [
        str(part["cases"]) for part in (parts["train"], parts["validation"], parts["test"], {"cases": CASES})
    ]
    assert lacking(volumes.text, *row["cells"]) == []
    excluded = change(content, flow={"excluded": [{"reason": "named in the study file", "cases": 4}], "available": 24})
    assert (
        lacking(text_with(volumes.pdf, excluded), "Available 24 patients", "excluded: 4 named in the study file") == []
    )


def test_parameters_are_printed_with_the_words_of_the_study_file() -> None:
    printed = [build.as_text(value) for value in (True, False, None, [], [0.5, 2], "dice")]
    assert printed == ["true", "false", "null", "[]", "0.5, 2", "dice"]


def test_a_list_of_many_patients_continues_over_pages(changeable) -> None:
    study = changeable(VOLUMES)
    table = read_table(study, "05_evaluation/tables/patients")
    many = pd.concat([table] * 40, ignore_index=True)
    many["case"] = [f"patient{place:03d}" for place in range(len(many))]
    tables.save(many, folder(study, "05_evaluation/tables/patients"))
    text = text_with(folder(study, "report.pdf"), files.read_json(folder(study, "report/content.json")), pages=True)
    assert len(many) >= ALL_PATIENTS
    assert lacking(text, *many["case"]) == []


@pytest.mark.parametrize(("name", "least"), [(REGIONS, "0.988"), (POINTS, "0.37")])
def test_the_effect_of_the_precision_of_training_is_printed(changeable, name: str, least: str) -> None:
    study = changeable(name)
    rounded = builders_report.rounded_of(study, "bfloat16")
    files.write_csv(folder(study, "05_evaluation/precision.csv"), rounded)
    tables.save(training_precision.summary(rounded), folder(study, "05_evaluation/tables/precision"))
    write_records(study)
    text = text_of(build.write_pdf(study))
    assert lacking(text, least, "bfloat16", *cells_of(study, "05_evaluation/tables/precision")) == []
    assert unreferred(text) == []


def test_missing_figures_and_biometry_and_tables_without_rows_are_omitted(built, study: params.Study) -> None:
    for name in ("06_biometry/measurements.csv", "05_evaluation/figures/dice-distribution.svg"):
        folder(study, name).unlink()
    write_records(study)
    omitted = ["Ramanujan", "Bland–Altman plots", "below each column"]
    assert lacking(text_of(build.write_pdf(study)), *omitted) == omitted
    printed = {name: built(name).content["tables"] for name in (VOLUMES, POINTS)}
    assert "02_preprocessing/lost" in printed[VOLUMES]
    assert "01_data_verification/landmark-audit" not in printed[VOLUMES]
    assert "02_preprocessing/lost" not in printed[POINTS]


def test_the_same_files_give_the_same_bytes_in_any_folder(study: params.Study, tmp_path: Path) -> None:
    record, pdf = build.STEP.record_file(study.study), build.write_pdf(study)
    before, first = record.read_bytes(), pdf.read_bytes()
    assert staleness.stale_reasons(build.STEP, study) == []
    pdf.unlink()
    assert staleness.stale_reasons(build.STEP, study)[0].endswith(": ../report.pdf")
    record.unlink()
    assert build.write_pdf(study).read_bytes() == first
    assert record.read_bytes() == before
    moved = (tmp_path / "elsewhere").resolve()
    folder(study, "").rename(moved)
    assert build.typeset(moved / "report" / "report.typ", builders_report.DATE) == first


WILD = ["#let x = $1$", "*a* _b_ `c` @d", "<script>alert(1)", "\"q\" 'b' \\n", "\u202egnp.= -", "x" * 200]


def joined(text: str) -> str:
    """A text without blanks and hyphens, at which lines may break."""
    return re.sub(r"[\s-]", "", text)


def test_wild_names_of_cases_subjects_titles_and_people_are_printed_literally(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    people = {"author": " and ".join(WILD[:3]), "degree": WILD[3], "institution": WILD[0], "supervisors": WILD}
    changed = {"folds": [0], "seeds": [0], "title": " + ".join(WILD[:5]), "exclude": WILD} | people
    study = params.read_study(files.study_file(VOLUMES)).model_copy(update=changed)
    plain = builders_report.manifest_of(study)
    names = [f"{WILD[place % len(WILD)]}{place:02d}" for place in range(CASES)]
    wild = plain.assign(case=names, subject=names, fold_group=names)
    monkeypatch.setattr(builders_report, "manifest_of", lambda _: wild.copy())
    builders_report.write_study(study)
    pdf = build.write_pdf(study)
    tested = set(read_table(study, "05_evaluation/cases")["case"])
    expected = {*tested, *changed["exclude"], study.title, study.author, study.degree, study.institution}
    shown = sorted(joined(each.replace("\u202e", "[U+202E]")) for each in expected)
    assert lacking(joined(text_of(pdf)), *shown) == []
    page = pdf.with_name("index.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    about = PdfDocument(pdf).get_metadata_dict()
    assert (about["Title"], about["Author"]) == (study.title, study.author)


def test_the_title_page_has_what_the_study_file_and_the_citation_file_say(built) -> None:
    demo = built(REGIONS)
    named = {"title": "On heads", "author": "A. Writer", "degree": "Master of Science", "institution": "A University"}
    content = change(demo.content, named | {"supervisors": ["B. Reader", "C. Other"]})
    content["software"] |= {"doi": "10.5281/zenodo.1", "repository": "https://example.org/code"}
    text_with(demo.pdf, content, pages=True)
    first = text_of(demo.pdf.with_name("other.pdf"), pages=1)
    assert lacking(first, *named.values(), "Supervisors B. Reader C. Other", "21 November 2026") == []
    said = ("commit 0123456789ab", "doi:10.5281/zenodo.1", "https://example.org/code")
    assert lacking(joined(first), *map(joined, said)) == []
    assert lacking(text_of(demo.pdf, pages=1), "Supervisor", "Summary") == ["Supervisor", "Summary"]


CITATION = (
    'cff-version: 1.2.0\ndoi: "10.5281/zenodo.1"  # of all versions\nversion: 0.1.0\nrepository-code: https://a.org/b\n'
)


@pytest.mark.parametrize("text", [CITATION, "version: 2\n", None, files.ROOT.joinpath("CITATION.cff").read_text()])
def test_the_citation_file_is_read_alike_by_the_report_and_its_check(tmp_path, text: str | None) -> None:
    path = tmp_path / "CITATION.cff"
    if text is not None:
        path.write_text(text)
    said = describe_software(path)
    assert said == recomputed.software(path)
    assert said["doi"] == ("10.5281/zenodo.1" if text == CITATION else "")
    for wrong in ("a: [", "- a"):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=r"CITATION\.cff: (not valid YAML|expected keys)"):
            describe_software(path)


NAMED = {"title": "Köpfe 漢\u0378\u0379", "author": "Жанна अनिता محمد", "exclude": ["\u0378_01"]}  # two of no script
CODES = ["Köpfe 漢[U+0378 0379]", "[U+0378]_01", "No font was available for 2 characters"]


@pytest.mark.skipif(sys.platform != "linux", reason="fonts of a user lie elsewhere")
@pytest.mark.parametrize(
    ("font", "without", "printed"), [("漢", "\u0378\u0379", CODES), ("漢\u0378\u0379", "", ["\u0378_01"])]
)
def test_a_character_that_no_font_has_is_printed_as_its_code(
    study, tmp_path, monkeypatch, font, without, printed
) -> None:
    source = folder(study, "report") / "report.typ"
    content, plain = source.with_name("content.json"), build.typeset(source, builders_report.DATE)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    write_font(tmp_path / "home" / ".local" / "share" / "fonts" / "squares.ttf", font)
    assert build.typeset(source, builders_report.DATE) == plain  # which does not need that font
    files.write_json(content, change(files.read_json(content), NAMED))
    (tmp_path / "named.pdf").write_bytes(build.typeset(source, builders_report.DATE))
    assert lacking(text_of(tmp_path / "named.pdf"), "Жанна", "अनिता", "محمد", *printed) == []
    assert files.read_json(content)["without_font"] == without


def test_characters_that_cannot_be_shown_are_listed_without_those_that_only_join_others(tmp_path):
    source = tmp_path / "a.typ"
    for text, without in (("漢\u200d字\ufe0f x", "字漢"), ("é, Жанна, अनिता", ""), ("a\ue000b\ufeffc", "\ue000\ufeff")):
        source.write_text(f'#set document(title: "a")\n= a\n{text}', encoding="utf-8")
        compiler = typst.Compiler(source, root=tmp_path, ignore_system_fonts=True)
        assert build.without_font(compiler, build.TAGGED) == without


def test_a_report_is_tagged_for_reading_aloud_and_for_archives_and_has_one_font_family(built) -> None:
    pdf = built(REGIONS).pdf.read_bytes()
    assert b"<pdfuaid:part>1<" in pdf
    assert b"<pdfaid:part>2<" in pdf
    assert b"<pdfaid:conformance>A<" in pdf
    assert b"STIXGeneral-Regular" in pdf
    assert b"Libertinus" not in pdf


def test_a_report_that_typst_fails_to_tag_is_written_without_tags_and_says_so(
    built, tmp_path, monkeypatch, capsys
) -> None:
    compiled = build._compiled
    source = shutil.copytree(built(REGIONS).pdf.parent, tmp_path / "copy") / "report" / "report.typ"
    (tmp_path / "tagged.pdf").write_bytes(build.typeset(source, builders_report.DATE))

    def failing(source: Path, date: str, options: dict[str, Any]) -> tuple[bytes, list[typst.TypstWarning]]:
        if options is build.TAGGED:  # as Typst does where a float meets the end of a page, which no short text shows
            raise typst.TypstError("internal error: parent group (occurred at tags/tree/build.rs)")
        return compiled(source, date, options)

    monkeypatch.setattr(build, "_compiled", failing)
    pdf = build.typeset(source, builders_report.DATE)
    assert b"<pdfaid:conformance>B<" in pdf
    assert b"pdfuaid" not in pdf
    (tmp_path / "untagged.pdf").write_bytes(pdf)
    assert text_of(tmp_path / "untagged.pdf").split() == text_of(tmp_path / "tagged.pdf").split()
    assert "since Typst cannot tag it: internal error: parent group" in capsys.readouterr().err


def pages_of(folder: Path, text: str) -> list[builders_pages.Page]:
    """Pages of a document in the style of the report."""
    shutil.copytree(build.TEMPLATE, folder / "report", ignore=lambda *_: [])
    style = '#import "style.typ": style\n#import "lists.typ": *\n#show: style.with("A title", "An author")\n'
    (folder / "report" / "report.typ").write_text(style + text, encoding="utf-8")
    (folder / "a.pdf").write_bytes(build.typeset(folder / "report" / "report.typ", builders_report.DATE))
    return builders_pages.pages(folder / "a.pdf")


def test_a_page_s_head_names_the_first_chapter_and_section_on_it_or_those_that_go_on(tmp_path) -> None:
    text = "Title\n#pagebreak()\n= One\n#lorem(9)\n== A\n#pagebreak()\n#lorem(9)\n== B\n== C\n#pagebreak()\n#lorem(9)\n"
    pages = pages_of(tmp_path, text + "#pagebreak()\n#lorem(9)\n= Two\n#lorem(9)")
    heads = [page.text.splitlines()[0] for page in pages]
    assert heads == ["Title", "1 One 1.1 A", "1 One 1.2 B", "1 One 1.3 C", "2 Two"]


def test_lists_have_short_captions_and_the_abbreviations_that_occur(tmp_path) -> None:
    caption = (
        "Error of the head (in mm), by group, over all test cases of the folds, with intervals: BPD. A second sentence"
    )
    table = f"#figure(table([OFD]), kind: table, caption: [{caption}])"
    text = f"#contents-pages((:))\n= One\nHC is measured; SDs, too.\n{table}"
    front = re.sub(r"\s+", " ", pages_of(tmp_path, text)[0].text)
    assert "Table 1 Error of the head, by group, over all test cases of the folds ." in front
    assert front.partition("Abbreviations")[2].split("circumference")[0] == " BPD biparietal diameter HC head "
    assert "SD standard deviation" in front
    assert "OFD occipitofrontal" in front
    assert "CSP" not in front


def test_floats_stay_below_the_heading_of_their_chapter_and_above_the_next(tmp_path) -> None:
    figure = (
        '#floating(rect(height: 60mm, width: 9mm), [Caption CAPTION], <F>, kind: "picture", supplement: [Figure])\n'
    )
    figures = "".join(figure.replace("CAPTION", f"number{n}.").replace("<F>", f"<f{n}>") for n in range(5))
    text = f'#import "words.typ": *\nTitle\n#pagebreak()\n= One\n#lorem(40)\n\n{figures}\n= Two\n#lorem(40)'
    words = " ".join(line for page in pages_of(tmp_path, text) for line in page.lines[2:])  # without the page's head
    places = [words.index("One"), *(words.index(f"number{n}") for n in range(5)), words.index("Two")]
    assert places == sorted(places)


def test_where_pictures_alone_float_tables_after_them_fill_the_page_before(tmp_path) -> None:
    more = "supplement: [Figure]"
    picture = f'#floating(rect(height: 200mm, width: 9mm), [picture], <P>, kind: "picture", {more})\n'
    table = f"#floating(table([cell]), [table], <T>, kind: table, {more})\n"
    text = (
        f'#import "words.typ": *\nTitle\n#pagebreak()\n#set figure(placement: bottom)\n#lorem(250)\n\n{picture}{table}'
    )
    _, first, second = (page.text for page in pages_of(tmp_path, text))
    assert ("table" in first, "picture" in first) == (True, False)
    assert ("table" in second, "picture" in second) == (False, True)


@pytest.mark.parametrize("name", [REGIONS, POINTS])
def test_pages_are_two_thirds_full_but_the_last_of_a_chapter(built, name: str) -> None:
    pages = builders_pages.pages(built(name).pdf)
    sparse = {number + 1: page.filled for number, page in enumerate(pages[:-1]) if page.filled < 2 / 3}
    last_ones = {number for number, page in enumerate(pages) if page.begins_chapter}
    assert {number: filled for number, filled in sparse.items() if number not in {1, *last_ones}} == {}  # 1: the title


NEEDED = {
    REGIONS: "01_data_verification/folds.csv 04_training/fold0-seed0/run.json 05_evaluation/cases.csv",
    VOLUMES: "02_preprocessing/lost.csv 05_evaluation/tables/patient-dice.typ 06_biometry/tables/volumes.csv",
    POINTS: "05_evaluation/tables/points.typ 05_evaluation/tables/heatmap_loss.csv 07_comparison/tables/comparison.csv",
}


@pytest.mark.parametrize("study_name", NEEDED)
def test_a_missing_file_is_named(changeable, study_name: str) -> None:
    study, names = changeable(study_name), NEEDED[study_name].split()
    for name in names:
        content = folder(study, name).read_bytes()
        folder(study, name).unlink()
        with pytest.raises(ValueError, match=f"{name.partition('/')[0]}.*: .*{Path(name).name}"):
            build.write_pdf(study)
        with pytest.raises(ValueError, match=f"{name}: missing.* rerun notebook {name.partition('/')[0]}"):
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
    with pytest.raises(ValueError, match="06_biometry: not completed yet") as error:
        build.write_pdf(changed)
    keys = (f"epochs: {study.epochs} -> {study.epochs + 5}", "flip_average: True -> False")
    assert lacking(str(error.value), "fold0-seed0: ", *keys) == []
    assert not folder(study, "report.pdf").exists()


def test_images_belong_to_another_data_set_if_most_match_and_no_subject_is_named(study, monkeypatch) -> None:
    dataset = datasets.of(study)
    for names_subjects, twins, count in ((False, 0, 0), (False, 9, 0), (False, 10, 1), (True, 20, 0)):
        changed = replace(dataset, names_subjects=names_subjects)
        monkeypatch.setattr(datasets, "of", lambda _, changed=changed: changed)
        come_from_hc18(study, twins)
        identity = build.describe_identity(study)
        values = [[one[name] for name in ("dataset", "twin_classes", "twins")] for one in identity]
        assert values == [["hc18", "head", 10]] * count
        assert [one["said"]["reference_dice_median"] for one in identity] == ["0.991"] * count


def come_from_hc18(study: params.Study, twins: int) -> None:
    """Declares some of the 20 cases to be near-duplicates of HC18."""
    row = ("hc18", "HC18, fetal head circumference", CASES, twins, twins, "head", 15, 0.991, 9, 4)
    table = pd.DataFrame([row], columns=rehosted.IDENTITY_COLUMNS)
    tables.save(table, folder(study, "01_data_verification/tables/identity"))
    write_records(study)


def test_page_one_says_that_no_tumour_is_labelled_where_the_images_are_hc18_s(changeable) -> None:
    study = changeable("fetal_tumour_quick")
    come_from_hc18(study, CASES)
    pdf = build.write_pdf(study)
    same = "20 of 20 were identified there, 20 of them equal in every pixel"
    assert lacking(text_of(pdf, pages=2), same, "no tumour is labelled") == []
    assert lacking(text_of(pdf), "of 15 pairs", "0.991", "Of the 9", "4 have images") == []


def test_data_are_counted(changeable) -> None:
    study = changeable(VOLUMES)
    found = [findings.Finding("note", findings.Check("duplicate"), "case03", other, "") for other in ("case04", "x")]
    files.write_csv(folder(study, "01_data_verification/findings.csv"), findings.to_table(found))
    data = build.describe_data(study)
    assert (data["findings"], data["warnings"], data["notes"]) == (2, 0, 2)
    assert data["finding_counts"][0]["findings"] == "2"
    assert (data["cases"], data["subjects"], data["largest_subject"], data["with_spacing"]) == (CASES, CASES, 1, 0)
    assert data["slices"] == {"total": 450, "least": 21, "most": 24, "median": 22.5}


def test_reasons_are_comments_of_the_study_file_and_durations_use_their_largest_unit(tmp_path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# heading\nepochs: 40  # one cycle\ndepth: 4\n")
    assert build.read_reasons(path) == {"epochs": "one cycle", "depth": ""}
    assert [build.as_duration(seconds) for seconds in (9.6, 70, 3700)] == ["10 s", "1 min 10 s", "1 h 1 min"]


def test_every_data_set_and_the_landmarks_are_cited_with_the_licence_of_their_source() -> None:
    entries = set(re.findall(r"@\w+\{(\w+),", (build.TEMPLATE / "references.bib").read_text(encoding="utf-8")))
    cited = {each.citation for each in datasets.DATASETS.values()}
    assert (cited | {citation for _, citation, _ in LANDMARKS.values()}) - entries == {None}
    source = sources.find_source("landmarks", files.ROOT / "data" / "sources.yaml")
    _, citation, licence = LANDMARKS["multicentre"]
    assert source.licence.startswith(licence)
    assert (source.citation, LANDMARKS["role_challenge"][2]) == (citation, "no licence stated")


def test_a_comment_that_only_repeats_the_description_of_its_key_is_no_reason(tmp_path, monkeypatch):
    values = params.values_of(params.read_study(files.study_file("hc18_quick"))) | {"study": "mine"}
    monkeypatch.setattr(files, "study_file", lambda name: tmp_path / f"{name}.yaml")
    path = study_files.write(values, {"epochs": "few images"}, "Mine.")
    rows = [row for group in build.parameters(params.read_study(path)) for row in group["rows"]]
    assert {row["key"]: row["reason"] for row in rows if row["reason"]} == {"epochs": "few images"}
