import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import __main__, datasets
from lib.evaluation import biometry
from lib.report import model_card, tables
from lib.report.content import read_table
from lib.study import files, params, study_files
from tests import builders_report
from tests.builders_report import folder

SECTIONS = ["Model and intended use", "Data", "Training", "Results", "Known failures", "Limits", "How to repeat"]
HEADS, POINTS, VOLUMES = "hc18_quick", "hc18_landmarks_quick", "lgg_quick"


def study_of(name):
    """A study of params/ of which one fold was tested."""
    return params.read_study(files.study_file(name)).model_copy(update={"folds": [0], "compare_with": []})


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    """The cards of three kinds of finished studies by their names; reports of these studies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPORTS_ROOT", str(tmp_path_factory.mktemp("reports")))
        for name in (HEADS, POINTS, VOLUMES):
            files.write_bytes(folder(study_of(name), "05_evaluation/models/fold0-seed0.safetensors"), name.encode())
            builders_report.write_study(study_of(name))
        yield {name: model_card.text(study_of(name)) for name in (HEADS, POINTS, VOLUMES)}


@pytest.mark.parametrize("name", [HEADS, POINTS, VOLUMES])
def test_a_card_has_every_section_and_says_what_it_is_not_for(cards, name):
    assert re.findall("(?m)^## (.*)$", cards[name]) == SECTIONS
    assert cards[name].startswith(f"# Model card: {study_of(name).title}\n\n**For research only: this is not a medical")
    assert "**Not intended:** diagnosis, dating or any other decision about a patient" in cards[name]
    assert f"make study STUDY={name} DATA=<raw folder>" in cards[name]
    assert "- **Commit:** 0123456789ab (with + if files had changed). **Date:** 2026-11-21 15:57 UTC." in cards[name]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        (HEADS, "05_evaluation/tables/per_class"),
        (HEADS, "05_evaluation/tables/distances"),
        (HEADS, "05_evaluation/tables/failures"),
        (HEADS, "06_biometry/tables/agreement"),
        (HEADS, "06_biometry/tables/failures"),
        (POINTS, "05_evaluation/tables/points"),
        (POINTS, "06_biometry/tables/agreement"),
        (VOLUMES, "05_evaluation/tables/patient-dice"),
    ],
)
def test_every_figure_of_a_card_is_a_cell_of_a_table_of_the_study(cards, name, table):
    rows = read_table(study_of(name), table)
    rows = rows[rows["stage"] == "post"].drop(columns="stage") if "stage" in rows else rows
    cells = [cell for column in tables.printed_cells(rows).values() for cell in column if len(cell) > 3]
    assert len(cells) > 3
    assert [cell for cell in cells if f" {cell} |" not in cards[name]] == []


def test_data_training_and_checksums_are_those_of_the_study(cards):
    text, study = cards[HEADS], study_of(HEADS)
    assert "- **HC18, fetal head circumference**, licence: CC BY 4.0." in text
    assert "- **Cases:** 20 of 10 examinations (999 are published, https://doi.org/10.5281/zenodo.1327317)." in text
    assert "pixel size from 0.200 to 0.400 mm" in text
    assert "```bibtex\n@article{hc18,\n" in text
    assert "journal = {PLoS ONE}," in text
    assert (
        "- **Licence of the weights:** CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/), as the data." in text
    )
    assert "1,942,289 parameters each" in text.replace(tables.KEEP, ",")
    model = folder(study, "05_evaluation/models/fold0-seed0.safetensors")
    assert f"| 0 | 0 | 12 | 4 | 4 | 4 | float32 | 0.450 | {files.sha256(model)} |" in text
    assert "- **Selection:** epoch by pooled Dice, and threshold, on validation cases;" in text


def test_the_card_of_data_that_forbid_it_says_why_the_weights_are_not_passed_on(cards):
    assert "(LGG, brain MRI of lower-grade glioma (kaggle_3m): CC BY-NC-SA 4.0)" in cards[VOLUMES]
    assert "not passed on (Multicentre Fetal Biometry (Di Vece et al.): CC BY-NC-SA 4.0)" in cards[POINTS]
    assert "@article{divece," in cards[POINTS] or "{divece," in cards[POINTS]


def test_which_weights_may_be_passed_on_follows_from_the_licences_of_images_and_landmarks():
    may = {name for name in study_files.names() if not model_card.not_open(params.read_study(files.study_file(name)))}
    closed = {name for name in study_files.names() if name.startswith(("lgg", "busi", "hc18_landmarks"))}
    assert closed == set(study_files.names()) - may
    assert {"demo", "hc18_quick", "phantom_lgg", "phantom_hc18_landmarks"} <= may


def test_the_error_of_each_fold_is_the_mean_over_its_own_heads(tmp_path, monkeypatch):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    study, rows = study_of(HEADS), []
    for fold, errors in ((0, (1.0, 3.0)), (1, (-2.0, np.nan))):
        for place, error in enumerate(errors):
            key = [f"c{fold}{place}", f"s{fold}{place}", fold, 0]
            rows += [
                [*key, "post", "ellipse", "hc", 200 + error, 200.0, ""],
                [*key, "raw", "ellipse", "hc", 9.0, 200.0, ""],
            ]
            rows.append([*key, "post", "baseline", "hc", 150.0, 200.0, ""])
    files.write_csv(folder(study, "06_biometry/measurements.csv"), pd.DataFrame(rows, columns=biometry.COLUMNS))
    table = model_card.errors_by_fold(study).set_index("fold")
    assert table["mae_mm"].to_dict() == {0: 2.0, 1: 2.0}
    assert table["bias_mm"].to_dict() == {0: 2.0, 1: -2.0}
    assert table[["n", "not_measured"]].to_numpy().tolist() == [[2, 0], [1, 1]]


def test_coverage_and_flags_are_in_the_card_of_a_study_with_their_tables(cards):
    titles = {"coverage": "Coverage of the prediction intervals", "flag-worth": "Worth of the quality flags"}
    for name, title in titles.items():
        assert title not in cards[VOLUMES]
        table = files.read_csv(folder(study_of(HEADS), f"06_biometry/tables/{name}.csv"), [])
        section = cards[HEADS].partition(f"### {title}\n\n")[2].partition("\n\n")[0].splitlines()
        assert len(section) == 2 + len(table)  # heading and rule
        first = [cell.strip() for cell in section[2].strip("|").split("|")]
        assert first[0] == str(table.iloc[0, 0]).upper() or first[0] == str(table.iloc[0, 0])


def test_limits_name_what_the_study_lacks(cards, monkeypatch):
    assert "- The figures rest on 4 of 20 cases, of 2 examinations;" in cards[HEADS]
    assert "A person may have had several examinations" in cards[HEADS]
    assert "The images are synthetic" not in cards[HEADS]
    phantom = replace(datasets.of(study_of(HEADS)), phantom=datasets.DATASETS["phantom_hc18"].phantom)
    monkeypatch.setattr(datasets, "of", lambda study: phantom)
    text = model_card.text(study_of(HEADS))
    assert "The images are synthetic: the results say nothing about patients." in text
    assert "make study STUDY=hc18_quick\n" in text


def test_a_table_in_markdown_has_one_line_per_row_and_no_bar_of_its_own():
    table = pd.DataFrame({"case": ["a|b", "c\nd"], "mae_mm": [1.234, 2.0], "mae_mm_low": [1.0, 1.5]})
    table["mae_mm_high"] = [2.0, 3.0]
    lines = model_card.markdown(table, "subject").replace(tables.KEEP, " ").split("\n")
    assert lines[0] == "| Case | Mean abs. error (mm) [95 % CI] |"
    assert lines[1:] == ["| --- | --- |", r"| a\|b | 1.23 [1.00, 2.00] |", "| c d | 2.00 [1.50, 3.00] |"]


def test_an_entry_of_the_bibliography_is_copied_whole_and_an_unknown_one_is_named():
    entry = model_card.bibtex("hc18")
    assert entry.startswith("@article{hc18,\n")
    assert entry.endswith("\n}")
    assert entry.count("@") == 1
    with pytest.raises(ValueError, match=r"references\.bib: no entry 'nobody'; expected one for every data set"):
        model_card.bibtex("nobody")


def test_an_unfinished_study_has_no_card_and_its_first_missing_step_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    assert __main__.main(["card", "demo"]) == 2
    expected = (
        "study demo has not run to its end; run 'make study STUDY=demo' first:\n  01_data_verification: not comple"
    )
    assert capsys.readouterr().err.startswith(expected)
    assert not list(tmp_path.iterdir())


def test_a_stale_study_has_no_card_and_ships_no_weights(cards, tmp_path, capsys):
    """The table of 05 changed after its record was written, and there is no report."""
    table = folder(study_of(HEADS), "05_evaluation/tables/per_class.csv")
    before = table.read_bytes()
    table.write_bytes(before + b"\n")
    for command in (["card", HEADS], ["ship", HEADS, str(tmp_path / "new")]):
        assert __main__.main(command) == 2
        first, *steps = capsys.readouterr().err.splitlines()
        assert first == f"study {HEADS} has not run to its end; run 'make study STUDY={HEADS}' first:"
        stale = "  05_evaluation: output files changed or missing (1): tables/per_class.csv"
        assert steps == [stale, "  report: not completed yet"]
    table.write_bytes(before)
    assert not (tmp_path / "new").exists()
