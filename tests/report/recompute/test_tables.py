"""Tables of synthetic studies of every kind, made by the report's own functions and recomputed without them."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import statistics
from lib.report import recompute, tables
from lib.report.recompute import compare, estimates, printed
from lib.report.recompute.results import Results
from lib.study import files, params
from tests import builders_report
from tests.builders_report import OTHER, folder

REGIONS, LESIONS, VOLUMES, POINTS = "demo", "busi", "lgg_quick", "hc18_landmarks_quick"
EVALUATED, MEASURED = "05_evaluation", "06_biometry"


@pytest.fixture
def study_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., params.Study]:
    """Writes a synthetic study of a kind."""
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))

    def write(name: str, **changes) -> params.Study:
        study = params.read_study(files.study_file(name))
        others = [OTHER] if name == POINTS else study.compare_with
        study = study.model_copy(update={"folds": [0], "seeds": [0], "compare_with": others} | changes)
        builders_report.write_study(study)
        return study

    return write


def differences(study: params.Study, *names: str) -> list[str]:
    """Differences of some tables of a study; the others are placeholders without numbers."""
    checked, tables_of, results = recompute.Checked(), recompute.Tables(), Results(study)
    for name in names:
        part = partial(recompute.check_table, results, name, checked, tables_of)
        recompute.attempt(checked, f"{name}.csv", part)
    return checked.differences


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        (REGIONS, {EVALUATED: "per_class.dice per_class.n precision.dice_mean groups.dice effect.change"}),
        (REGIONS, {MEASURED: "agreement.not_measured agreement.bias_mm"}),
        (VOLUMES, {EVALUATED: "patients.dice_raw patient-dice.median_per_patient end-slices.dice_without"}),
        (VOLUMES, {MEASURED: "volumes.bias_voxels volumes.n"}),
        (LESIONS, {EVALUATED: "per_class.dice"}),  # without heads and pixel sizes
        (POINTS, {EVALUATED: "points.error_mm points.missed heatmap_loss.heatmap_loss", MEASURED: "agreement.mae_mm"}),
        (POINTS, {"07_comparison": "comparison.difference_mm references.amount_mm"}),
    ],
)
def test_a_changed_cell_of_each_table_is_named_with_both_values(study_of, name: str, cells: dict[str, str]) -> None:
    study = study_of(name)
    for step, cell in [(step, cell) for step, of_step in cells.items() for cell in of_step.split()]:
        table_name, _, column = cell.partition(".")
        at = f"{step}/tables/{table_name}.csv"
        assert differences(study, at.removesuffix(".csv")) == []
        table = files.read_csv(folder(study, at), [])
        true = table.copy()
        table.loc[0, column] -= 1
        tables.save(table, folder(study, at).with_suffix(""))
        (difference,) = differences(study, at.removesuffix(".csv"))
        told, correct = difference.removeprefix(f"{at}, row 2, column {column}: printed ").split(", recomputed ")
        assert float(correct) == pytest.approx(float(told) + 1, rel=1e-9)
        tables.save(true, folder(study, at).with_suffix(""))


def test_a_lost_row_a_changed_print_and_a_table_that_nothing_recomputes_are_named(study_of) -> None:
    study = study_of(REGIONS)
    path, effect = folder(study, "06_biometry/tables/agreement.typ"), folder(study, "05_evaluation/tables/effect.csv")
    path.write_text(path.read_text().replace('"20.00', '"2.00', 1))
    files.write_csv(effect, files.read_csv(effect, []).iloc[1:])
    tables.save(pd.DataFrame({"value": [1.5]}), folder(study, "06_biometry/tables/new"))
    folder(study, "06_biometry/tables/volumes.csv").write_text("class,stage\nlv,post\n")
    names = ("05_evaluation/tables/effect", *(f"06_biometry/tables/{name}" for name in ("agreement", "new", "volumes")))
    lines = differences(study, *names)
    lost, rows, typeset, new, more, unprinted = lines
    assert unprinted == "06_biometry/tables/volumes.typ: is no table"
    assert re.match(r"05_evaluation/tables/effect.csv: 2 rows of class, .*; recomputed 3 of class, ", lost)
    assert rows == "05_evaluation/tables/effect.typ: 3 rows; recomputed 2"
    assert typeset.startswith("06_biometry/tables/agreement.typ, row 3, column mae_mm: printed 2.00")
    assert typeset.partition("recomputed ")[2].startswith("20.00")
    assert new.endswith(
        "tables/new.csv: cannot be recomputed: there is no function for this table in lib/report/recompute"
    )
    assert more.startswith("06_biometry/tables/volumes.csv: 1 rows of class, stage; recomputed 0")


def test_a_table_that_cannot_be_read_is_named_and_the_others_are_compared(study_of) -> None:
    study = study_of(REGIONS)
    per_class = folder(study, "05_evaluation/tables/per_class.csv")
    per_class.write_text(per_class.read_text().replace("post", "post,post", 1))
    (line,) = differences(study, "05_evaluation/tables/per_class")
    assert "05_evaluation/tables/per_class.csv: cannot be recomputed: " in line
    assert "cells, the header has " in line


def test_several_seeds_and_a_study_without_post_processing_are_recomputed(study_of) -> None:
    study = study_of(REGIONS, postprocessing=[])
    assert differences(study, "05_evaluation/tables/per_class", "05_evaluation/tables/effect") == []
    from lib.report.summaries import biometry_errors, dice

    cases = folder(study, "05_evaluation/cases.csv")
    long = files.read_csv(cases, [])
    twice = pd.concat([long, long.assign(seed=1, tp=long["tp"] - 30, fn=long["fn"] + 30)], ignore_index=True)
    twice["dice"], twice["iou"] = (
        2 * twice.tp / (2 * twice.tp + twice.fp + twice.fn),
        twice.tp / (twice.tp + twice.fp + twice.fn),
    )
    files.write_csv(cases, twice)
    tables.save(dice.per_class(twice), folder(study, "05_evaluation/tables/per_class"))
    tables.save(dice.detection(twice), folder(study, "05_evaluation/tables/detection"))
    measured = files.read_csv(folder(study, "06_biometry/measurements.csv"), [])
    both = pd.concat([measured, measured.assign(seed=1)], ignore_index=True)
    files.write_csv(folder(study, "06_biometry/measurements.csv"), both)
    tables.save(biometry_errors.agreement(both), folder(study, "06_biometry/tables/agreement"))
    names = ("05_evaluation/tables/per_class", "05_evaluation/tables/detection", "06_biometry/tables/agreement")
    assert differences(study, *names) == []


@pytest.mark.parametrize(("subjects", "most"), [(1, 3), (5, 1), (6, 1), (9, 4), (60, 3)])
def test_the_mean_and_its_interval_are_those_of_the_other_implementation(subjects: int, most: int) -> None:
    draw = np.random.default_rng(subjects)
    names = [f"s{subject}" for subject in range(subjects) for _ in range(draw.integers(1, most + 1))]
    values = 1 - draw.beta(1, 6, len(names))
    values[:1] = np.nan if subjects > 6 else values[:1]
    own, other = estimates.mean_interval(values.tolist(), names), statistics.mean_interval(values, np.array(names))
    assert (own.n, estimates.RESAMPLES, estimates.SEED) == (other.count, statistics.RESAMPLES, statistics.SEED)
    assert own.columns("x") == pytest.approx(other.columns("x"), rel=1e-9, nan_ok=True)
    assert np.isnan(own.low) == (subjects < 6)


NUMBERS = [0.0, -0.0, 0.5, 2.5, -2.675, 0.125, 0.0004, -0.00049, 1e-7, 0.9995, 123456.789, -0.001, float("nan")]


@pytest.mark.parametrize(
    "column", ["dice", "mae_mm", "area_mm2", "share_percent", "error_voxels", "spacing_mm", "value"]
)
def test_numbers_are_rounded_as_the_report_rounds_them(column: str) -> None:
    draw = np.random.default_rng(1)
    values = [*NUMBERS, *draw.normal(0, 1, 200), *draw.normal(0, 1000, 50), *np.arange(0.0625, 9, 0.125)]
    known = values if column != "value" else [value for value in values if value == value]
    assert [printed.cell(float(each), column) for each in known] == [
        tables.format_cell(float(each), column) for each in known
    ]
    others = [True, False, 0, 7, -1234, 1234567, "csp", "a | b", "dice", None]
    for name in (column, "class"):
        assert [printed.cell(each, name) for each in others] == [tables.format_cell(each, name) for each in others]


def test_rounding_known_by_hand() -> None:
    assert printed.cell(0.98765, "dice") == "0.988"
    assert printed.cell(-12.375, "bias_mm") == "−12.38"
    assert printed.cell(0.00031, "change") == "0.00031"
    assert printed.cell(1234567, "pixels") == "1\u00a0234\u00a0567"
    row = {"n": 3, "a_mm": 1.234, "a_mm_low": 1.0, "a_mm_high": 2.0, "a_mm_least": 0.5, "a_mm_largest": 9.0}
    row |= {"a_mm_subjects": 7}
    nothing = row | dict.fromkeys(("a_mm_low", "a_mm_high"), float("nan"))
    first, other = printed.printed_rows(list(row), [row, nothing])
    assert first == {"n": "3", "a_mm_subjects": "7", "a_mm": "1.23\u00a0[1.00,\u00a02.00]"}
    assert other["a_mm"] == "1.23\u00a0(0.50\u00a0to\u00a09.00)"


def test_cells_are_read_back_from_typst_and_put_into_it() -> None:
    table = pd.DataFrame({"class": ['a "b"', "c\\d"], "dice": [0.5, float("nan")], "dice_low": 0.1, "dice_high": 0.9})
    markup = tables.to_typst(table)
    assert printed.cells_of(markup) == [
        ['a "b"', "0.500\u00a0[0.100,\u00a00.900]"],
        ["c\\d", "–\u00a0[0.100,\u00a00.900]"],
    ]
    again = [["x", '"1"'], ["y\\", "2"]]
    assert printed.cells_of(printed.with_cells(markup, again)) == again
    with pytest.raises(ValueError, match="has other rows"):
        printed.with_cells(markup, [["x", "1"]])
    assert compare.differing_print("t.typ", "no rows", ["class"], []) == ["t.typ: is no table"]
