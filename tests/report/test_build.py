"""A made-up study, small enough to know every number, typeset to PDF."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from pypdf import PdfReader

from lib import datasets
from lib.data import findings
from lib.evaluation import postprocessing, training_precision
from lib.report import build, tables
from lib.report.content import read_table
from lib.report.summaries import dice
from lib.study import files, params, staleness
from lib.verification import rehosted
from tests.builders_report import (
    CASES,
    DATE,
    cells_of,
    folder,
    rounded_of,
    text_of,
    text_with,
    unreferred,
    write_records,
    write_study,
)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of every step of the demo study, in a reports root of their own."""
    root = tmp_path_factory.mktemp("reports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPORTS_ROOT", str(root))
        write_study(params.read_study(files.study_file("demo")))
    return root


@pytest.fixture
def study(made_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> params.Study:
    """The demo's parameters, with a copy of the files that a test may change."""
    shutil.copytree(made_once, tmp_path / "reports")
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
    return params.read_study(files.study_file("demo"))


@pytest.fixture(scope="module")
def built_once(made_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[params.Study, str]]:
    """The demo, and the text of its report; nothing is changed."""
    root = shutil.copytree(made_once, tmp_path_factory.mktemp("built") / "reports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPORTS_ROOT", str(root))
        made = params.read_study(files.study_file("demo"))
        text = text_of(build.write_pdf(made))
        yield made, text


@pytest.fixture
def other_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], params.Study]:
    """Small files of every step of a study of params/, of which one fold is tested."""
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))

    def write(name: str) -> params.Study:
        made = params.read_study(files.study_file(name)).model_copy(update={"folds": [0], "seeds": [0]})
        write_study(made)
        return made

    return write


# --- the precision of arithmetic


def test_what_was_trained_in_float32_has_one_sentence_and_no_table(built_once: tuple[params.Study, str]) -> None:
    assert "Predictions are computed in float32, as training was." in built_once[1]
    assert "predicted once more" not in built_once[1]


def test_what_the_precision_of_training_would_change_is_printed(study: params.Study) -> None:
    check_precision_is_printed(study, "0.988")


@pytest.mark.slow
def test_how_far_the_precision_of_training_would_move_points_is_printed(other_study) -> None:
    check_precision_is_printed(other_study("hc18_landmarks_quick"), "0.37")


def check_precision_is_printed(made: params.Study, said: str) -> None:
    rounded = rounded_of(made, "bfloat16")
    files.write_csv(folder(made, "05_evaluation/precision.csv"), rounded)
    tables.save(training_precision.summary(rounded), folder(made, "05_evaluation/tables/precision"))
    write_records(made)
    text = text_of(build.write_pdf(made))
    assert "Predictions are computed in float32, whatever training computed in; Table" in text
    assert "says what bfloat16 would change" in text
    assert said in text
    assert all(cell in text for cell in cells_of(made, "05_evaluation/tables/precision"))
    assert unreferred(text) == []


# --- the whole


def test_the_pdf_holds_the_numbers_of_the_tables(study: params.Study) -> None:
    text = text_of(build.write_pdf(study))
    per_class = files.read_csv(folder(study, "05_evaluation/tables/per_class.csv"), [])
    agreement = files.read_csv(folder(study, "06_biometry/tables/agreement.csv"), [])
    for value in per_class[["dice", "dice_low", "dice_high", "iou", "pooled_dice"]].to_numpy().ravel():
        assert f"{value:.3f}" in text
    for value in agreement[["mae_mm", "bias_mm", "upper_limit_mm"]].to_numpy().ravel():
        assert f"{value:.2f}" in text
    assert "Not for clinical use" in PdfReader(folder(study, "report.pdf")).pages[0].extract_text()
    assert 'a "quoted" #name' in text.replace("“", '"').replace("”", '"')
    assert "claim of 03_model" in text.lower()


def test_the_loss_is_said_in_words_part_by_part(study: params.Study) -> None:
    built = build.write_pdf(study)
    content = files.read_json(built.parent / "report" / "content.json")
    content["study"] |= {"focal_weight": 0.25, "focal_gamma": 2.5, "label_smoothing": 0.05}
    text = text_with(built, content)
    assert "The loss is cross-entropy (weight 1), focal loss" in text
    assert "(weight 0.25, exponent 2.5, of the plain probability) plus the soft Dice loss" in text
    assert "smoothed by 0.05" in text
    assert "sequence(" not in text  # markup that Typst took for text


@pytest.mark.parametrize(
    "name",
    [
        "01_data_verification/tables/groups",
        "01_data_verification/tables/colours",
        "05_evaluation/tables/detection",
        "05_evaluation/tables/groups",
        "05_evaluation/tables/effect",
        "05_evaluation/tables/baselines",
        "06_biometry/tables/shapes",
    ],
)
def test_every_cell_of_a_table_is_in_the_pdf(built_once: tuple[params.Study, str], name: str) -> None:
    study, text = built_once
    cells = cells_of(study, name)
    assert len(cells) >= 3
    assert [cell for cell in cells if cell not in text] == []


def test_the_confusion_matrix_is_drawn(built_once: tuple[params.Study, str]) -> None:
    assert "Where the pixels of each reference class go, in percent of that class" in built_once[1]


def test_one_tested_fold_is_no_table_of_folds_and_a_sampler_that_is_off_is_not_described(
    built_once: tuple[params.Study, str],
) -> None:
    study, text = built_once
    assert (len(study.folds), study.oversample_classes) == (1, [])
    assert "by tested fold" not in text
    assert "what the sampler changes" not in text


def test_what_was_drawn_more_often_is_said_with_its_table(study: params.Study) -> None:
    built = build.write_pdf(study)
    content = files.read_json(built.parent / "report" / "content.json")
    content["study"] |= {"oversample_classes": ["lv"], "oversample_factor": 3.5}
    text = text_with(built, content)
    assert "Images that show LV are drawn 3.5 times as often" in text
    assert "what the sampler changes" in text
    assert "77.7" in text


def test_every_step_of_post_processing_is_described_with_its_number(study: params.Study) -> None:
    built = build.write_pdf(study)
    content = files.read_json(built.parent / "report" / "content.json")
    numbers = {"closing_pixels": 9, "dilation_pixels": 13, "minimum_area_mm2": 4.5, "parts_kept": 3}
    content["study"] |= numbers | {"minimum_probability": 0.35, "minimum_margin": 0.15}
    content["study"]["postprocessing"] = list(postprocessing.KEYS)
    text = text_with(built, content)
    for said in (
        "the largest connected part of the foreground is kept",
        "holes are filled",
        "cracks in the first class are closed with a square of 9 pixels",
        "structures outside the head, dilated by a square of 13 pixels, are dropped",
        "parts of a structure under 4.5 mm² are dropped",
        "of each structure the 3 largest parts are kept",
        "mean probability is below 0.35, or whose mean lead over the next class is below 0.15",
    ):
        assert said in text


def test_the_same_files_give_the_same_bytes(study: params.Study) -> None:
    first = build.write_pdf(study).read_bytes()
    record = build.STEP.record_file(study.study)
    before = record.read_bytes()
    record.unlink()
    assert build.write_pdf(study).read_bytes() == first
    assert record.read_bytes() == before


def test_a_report_that_was_just_built_needs_no_second_build_until_its_pdf_is_gone(study: params.Study) -> None:
    pdf = build.write_pdf(study)
    assert staleness.stale_reasons(build.STEP, study) == []
    pdf.unlink()
    assert staleness.stale_reasons(build.STEP, study) == ["1 of its files changed or are gone: ../report.pdf"]


def test_the_study_folder_compiles_by_itself(study: params.Study, tmp_path: Path) -> None:
    built = build.write_pdf(study).read_bytes()
    moved = (tmp_path / "elsewhere").resolve()
    folder(study, "").rename(moved)
    assert build.typeset(moved / "report" / "report.typ", DATE) == built


@pytest.mark.parametrize(
    "name", ["01_data_verification/folds.csv", "04_training/fold0-seed0/run.json", "05_evaluation/cases.csv"]
)
def test_a_missing_required_file_is_named(study: params.Study, name: str) -> None:
    folder(study, name).unlink()
    with pytest.raises(ValueError, match=f"1 of its files changed or are gone: {Path(name).name}"):
        build.write_pdf(study)
    write_records(study)  # as if the step had never made the file
    with pytest.raises(ValueError, match=f"{name}: missing"):
        build.write_pdf(study)
    assert not build.STEP.record_file(study.study).exists()


def test_a_step_that_has_not_run_is_named(study: params.Study) -> None:
    folder(study, "06_biometry/record.json").unlink()
    with pytest.raises(ValueError, match="06_biometry: it has not run to its end"):
        build.write_pdf(study)


def test_absent_figures_and_biometry_are_left_out(study: params.Study) -> None:
    for name in ("06_biometry/measurements.csv", "05_evaluation/figures/dice-distribution.svg"):
        folder(study, name).unlink()
    write_records(study)
    text = text_of(build.write_pdf(study))
    assert "Ramanujan" not in text
    assert "Difference against mean" not in text
    assert "below each column" not in text


def test_several_seeds_thresholds_baselines_and_left_out_cases_are_said_in_words(study: params.Study) -> None:
    built = build.write_pdf(study)
    content = files.read_json(built.parent / "report" / "content.json")
    content["study"] |= {"seeds": [0, 1], "folds": [0, 1], "exclude": ["case99"]}
    content["runs"] += [content["runs"][0] | {"seed": 1, "label": "04_training/fold0-seed1"}]
    content["evaluation"]["chosen"] = [
        {"fold": "0", "seed": "0", "threshold": "0.5", "validation_score": "0.9", "validation_cases": "4"}
    ]
    content["evaluation"]["baselines"] = [{"method": "Otsu", "class": "csp", "n": "4", "dice": "0.5"}]
    text = text_with(built, content)
    assert "trained 2 times, once for each pair of tested fold and seed" in text
    assert "Dice after post-processing, by tested fold" in text
    assert "bias and limits are of single predictions" in text
    assert "Left out by the study file: case99" in text
    assert "lists the thresholds" in text


# --- images of another data set


def come_from_hc18(study: params.Study, twins: int) -> None:
    """Writes that so many of the 20 cases are HC18's."""
    row = ("hc18", "HC18, fetal head circumference", CASES, twins, twins, "head", 15, 0.991, 9, 4)
    table = pd.DataFrame([row], columns=rehosted.IDENTITY_COLUMNS)
    tables.save(table, folder(study, "01_data_verification/tables/identity"))
    write_records(study)


@pytest.fixture
def nobody_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The study's data set does not say who is who."""
    real = datasets.of
    monkeypatch.setattr(datasets, "of", lambda study: replace(real(study), names_subjects=False))


@pytest.mark.usefixtures("nobody_named")
def test_the_content_says_whose_images_most_of_these_are(study: params.Study) -> None:
    assert build.describe_identity(study) == []
    come_from_hc18(study, 10)
    (found,) = build.collect(study)["identity"]
    assert (found["dataset"], found["twin_classes"], found["twins"]) == ("hc18", "head", 10)
    assert found["citation"] == "hc18"
    assert found["said"]["reference_dice_median"] == "0.991"


def test_a_data_set_that_says_who_is_who_is_no_copy(study: params.Study) -> None:
    come_from_hc18(study, 20)
    assert build.describe_identity(study) == []


@pytest.mark.usefixtures("nobody_named")
def test_a_minority_of_images_of_another_data_set_does_not_make_it_that(study: params.Study) -> None:
    come_from_hc18(study, 9)
    assert build.describe_identity(study) == []


def test_page_one_says_that_no_tumour_is_labelled_where_the_images_are_hc18_s(other_study: Callable) -> None:
    study = other_study("fetal_tumour_quick")
    come_from_hc18(study, CASES)
    pdf = build.write_pdf(study)
    first = re.sub(r"\s+", " ", PdfReader(pdf).pages[0].extract_text())
    assert "These are the images of HC18, fetal head circumference under other names" in first
    assert "20 of 20 were found there, 20 of them equal in every pixel" in first
    assert 'the class "tumour" is the head, and no tumour is labelled' in first.replace("“", '"').replace("”", '"')
    text = text_of(pdf)
    assert "Of 15 pairs of equal images the references were compared: their median Dice is 0.991" in text
    assert "Of the 9 examinations that HC18, fetal head circumference names, 4 have images in more than one" in text
    assert "Examinations are not women" in text
    assert files.read_json(pdf.parent / "report" / "content.json")["identity"][0]["equal_pixels"] == CASES


def test_without_twins_nothing_is_said_of_other_names(built_once: tuple[params.Study, str]) -> None:
    assert "under other names" not in built_once[1]
    assert "Where the images come from" not in built_once[1]


# --- no heads, no pixel sizes


def test_a_study_without_heads_and_pixel_sizes_has_a_report_without_biometry(other_study: Callable) -> None:
    study = other_study("busi")
    content = build.collect(study)
    assert content["biometry"] is None
    text = text_of(build.write_pdf(study))
    for absent in (
        "Head circumference was off",
        "Ramanujan",
        "Structures in millimetres",
        "Bland",
        "Human variability",
    ):
        assert absent not in text
    assert "No pixel size is known" in text
    assert "head circumference" not in text.replace("ellipse; head circumference", "")
    assert "No pixel size is published, so nothing is in millimetres" in text
    assert "No patients are named" in text
    for cell in cells_of(study, "05_evaluation/tables/detection"):
        assert cell in text
    assert "0.876" in text  # of the chosen threshold


def test_check_of_a_study_without_heads_recomputes_what_there_is(other_study: Callable) -> None:
    assert build.check(other_study("busi_quick")) == []


# --- parts


def test_every_figure_and_table_is_referred_to(built_once: tuple[params.Study, str]) -> None:
    assert unreferred(built_once[1]) == []


def test_keys_changed_after_the_runs_are_all_named_and_no_report_is_built(study: params.Study) -> None:
    changed = study.model_copy(update={"epochs": study.epochs + 5, "flip_average": False})
    with pytest.raises(ValueError, match="must run before its report is built") as error:
        build.write_pdf(changed)
    assert f"04_training/fold0-seed0: key epochs: {study.epochs} -> {study.epochs + 5}" in str(error.value)
    assert "05_evaluation: key flip_average: True -> False" in str(error.value)
    assert not folder(study, "report.pdf").exists()


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


def test_findings_of_one_check_are_counted_one_by_one(study: params.Study) -> None:
    found = [
        findings.Finding("note", findings.Check("duplicate"), "case03", other, "") for other in ("case04", "case05")
    ]
    files.write_csv(folder(study, "01_data_verification/findings.csv"), findings.to_table(found))
    counted = build.describe_data(study)
    assert (counted["findings"], counted["finding_counts"][0]["findings"]) == (2, "2")


def test_check_finds_nothing_in_tables_that_follow_from_the_long_ones(study: params.Study) -> None:
    assert build.check(study) == []


def test_check_names_a_changed_cell(study: params.Study) -> None:
    path = folder(study, "05_evaluation/tables/per_class.csv")
    table = files.read_csv(path, [])
    table.loc[1, "dice"] = 0.999
    files.write_csv(path, table)
    assert build.check(study) == [
        f"05_evaluation/tables/per_class.csv, row 3, column dice: printed 0.999, "
        f"recomputed {dice.per_class(read_table(study, '05_evaluation/cases'))['dice'].iloc[1]}"
    ]


def test_check_names_a_table_that_has_lost_a_row_of_its_long_table(study: params.Study) -> None:
    for name, column, said in (
        ("05_evaluation/tables/per_class", "n", "printed 3, recomputed 4"),
        ("06_biometry/tables/agreement", "not_measured", "printed -1, recomputed 0"),
    ):
        path = folder(study, f"{name}.csv")
        whole = path.read_bytes()
        table = files.read_csv(path, [])
        table.loc[0, column] -= 1
        files.write_csv(path, table)
        lost, cell = build.check(study)
        assert lost == f"{name}.csv: n and what is counted beside it leave out rows of the long table"
        assert cell == f"{name}.csv, row 2, column {column}: {said}"
        path.write_bytes(whole)


def test_check_notices_a_number_changed_in_what_is_typeset(study: params.Study) -> None:
    path = folder(study, "06_biometry/tables/agreement.typ")
    path.write_text(path.read_text().replace('"20.00', '"2.00', 1))
    assert build.check(study) == ["06_biometry/tables/agreement.typ: not the table that follows from the long one"]


def test_a_comment_of_the_study_file_is_its_key_s_reason(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# heading\nepochs: 40  # one cycle\ndepth: 4\n")
    assert build.read_reasons(path) == {"epochs": "one cycle", "depth": ""}


@pytest.mark.parametrize(("seconds", "text"), [(9.6, "10 s"), (70, "1 min 10 s"), (3700, "1 h 1 min")])
def test_a_duration_for_reading(seconds: float, text: str) -> None:
    assert build.as_duration(seconds) == text
