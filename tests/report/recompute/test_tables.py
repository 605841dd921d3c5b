"""Tables of synthetic studies of every kind, made by the report's own functions and recomputed without them."""

import re
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import statistics
from lib.data import cases
from lib.evaluation import quality
from lib.evaluation.quality import LARGE_MM
from lib.report import captions, content, every_case, recompute, tables
from lib.report.findings import measurements
from lib.report.recompute import compare, estimates, long_tables, printed
from lib.report.recompute import every_case as recomputed_cases
from lib.report.recompute.findings import heads as recomputed_heads
from lib.report.recompute.findings.lines import Tables
from lib.report.recompute.results import Results
from lib.report.recompute.tables import biometry, flags, regions
from lib.report.summaries import biometry_errors, flag_worth, measurement_agreement
from lib.study import files, params
from tests import builders_report
from tests.builders_report import OTHER, folder
from tests.report.recompute import by_chance

REGIONS, LESIONS, VOLUMES, POINTS = "demo", "busi", "lgg_quick", "hc18_landmarks_quick"
EVALUATED, MEASURED = "05_evaluation", "06_biometry"


def plain(name: str, **changes) -> params.Study:
    """A study of one fold and seed, that of landmarks compared with another."""
    study = params.read_study(files.study_file(name))
    others = [OTHER] if name == POINTS else study.compare_with
    return study.model_copy(update={"folds": [0], "seeds": [0], "compare_with": others} | changes)


@pytest.fixture(scope="session")
def reports_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Reports with a synthetic study of a kind, each written once; to be copied."""

    @cache
    def write(name: str) -> Path:
        reports = tmp_path_factory.mktemp(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("REPORTS_ROOT", str(reports))
            builders_report.write_study(plain(name))
        return reports

    return write


@pytest.fixture
def study_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reports_of: Callable[[str], Path]
) -> Callable[[str], params.Study]:
    """A synthetic study of a kind, whose files a test may change."""
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))

    def copy(name: str) -> params.Study:
        shutil.copytree(reports_of(name), tmp_path, dirs_exist_ok=True)
        return plain(name)

    return copy


def differences(study: params.Study, *names: str) -> list[str]:
    """Differences of some tables of a study; the others are placeholders without numbers."""
    checked, tables_of, results = recompute.Checked(), recompute.Tables(), Results(study)
    for name in names:
        part = partial(recompute.check_table, results, name, checked, tables_of)
        recompute.attempt(checked, f"{name}.csv", part)
    return checked.differences


CELLS = {  # a changed cell of each table
    REGIONS: {
        EVALUATED: "per_class.dice precision.dice_mean groups.dice effect.change distances.hd95_mm presence.missed "
        "size-errors.bias_percent parts.part_f1 failure-counts.failed failures.contrast",
        MEASURED: "agreement.bias_mm limits-mm.lower_limit_mm limits-percent.bias_percent by-size.mae_mm centiles.n "
        "proportional-bias.slope_per_100_mm reliability.ccc equivalence.bias_percent gestational-age.bias_days "
        "coverage.covered_percent coverage-by-size.covered "
        "widths.mae_mm enlarged.sensitivity_percent error-budget.rms_mm failure-counts.failed "
        "flag-worth.precision_percent flagged.predicted_mm",
    },
    VOLUMES: {
        EVALUATED: "patients.dice_raw patient-dice.median_per_patient end-slices.dice_without distances-pixels.nsd",
        MEASURED: "volumes.bias_voxels volume-limits.bias_voxels",
    },
    LESIONS: {EVALUATED: "per_class.dice"},  # without heads and pixel sizes
    POINTS: {
        EVALUATED: "points.error_mm points.missed heatmap_loss.heatmap_loss failure-counts.missed",
        MEASURED: "agreement.mae_mm coverage.median_width_mm",
        "07_comparison": "comparison.difference_mm references.amount_mm",
    },
}


@pytest.mark.parametrize("name", CELLS)
def test_a_changed_cell_of_each_table_is_named_with_both_values(study_of, name: str) -> None:
    study = study_of(name)
    changed = [
        (f"{step}/tables/{cell.split('.')[0]}", cell) for step, cells in CELLS[name].items() for cell in cells.split()
    ]
    for at, cell in changed:
        column = cell.partition(".")[2]
        table = files.read_csv(folder(study, f"{at}.csv"), [])
        table.loc[0, column] -= 1
        tables.save(table, folder(study, at))
    found = differences(study, *dict.fromkeys(at for at, _ in changed))
    assert len(found) == len(changed)
    for line, (at, cell) in zip(found, changed):
        start = f"{at}.csv, row 2, column {cell.partition('.')[2]}: printed "
        assert line.startswith(start)
        told, correct = line.removeprefix(start).split(", recomputed ")
        assert float(correct) == pytest.approx(float(told) + 1, rel=1e-9)


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


def test_a_changed_difference_from_the_method_without_a_network_is_named(study_of) -> None:
    study, at = study_of(REGIONS), "05_evaluation/tables/baselines"
    table = files.read_csv(folder(study, f"{at}.csv"), [])
    assert not [line for line in differences(study, at) if "row 6" in line]  # its means differ by those of rows 4 and 5
    table.loc[4, ["dice", "hc_error_mm"]] += 0.05
    tables.save(table, folder(study, at))
    lines = [line for line in differences(study, at) if "row 6" in line]
    assert [line.partition(", recomputed ")[0] for line in lines] == [
        f"{at}.csv, row 6, column {name}: printed {table.loc[4, name]}" for name in ("dice", "hc_error_mm")
    ]


def test_a_table_that_cannot_be_read_is_named_and_the_others_are_compared(study_of) -> None:
    study = study_of(REGIONS)
    per_class = folder(study, "05_evaluation/tables/per_class.csv")
    per_class.write_text(per_class.read_text().replace("post", "post,post", 1))
    (line,) = differences(study, "05_evaluation/tables/per_class")
    assert "05_evaluation/tables/per_class.csv: cannot be recomputed: " in line
    assert "cells, the header has " in line


@pytest.mark.parametrize(
    "changes", ["as drawn", "found", "missed", "no large error", "no flag", "no limits", "two runs"]
)
def test_the_sentences_about_flags_are_written_twice_with_the_same_numbers(monkeypatch, tmp_path, changes: str) -> None:
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    study = params.read_study(files.study_file(POINTS))
    study = study.model_copy(update={"folds": [0], "seeds": [0], "compare_with": []})
    by_chance.write_study(study, 5, monkeypatch)
    results = Results(study)
    measured, indicators, limits = (
        results.table(name) for name in (f"{MEASURED}/measurements", f"{EVALUATED}/indicators", f"{EVALUATED}/limits")
    )
    match changes:
        case "found" | "missed":
            is_large = ~((measured["predicted_mm"] - measured["reference_mm"]).abs() <= LARGE_MM)
            measured["flags"] = np.where(is_large == (changes == "found"), "elongated", "")
        case "no large error":
            measured["predicted_mm"] = measured["reference_mm"]
        case "no flag":
            measured["flags"] = ""
        case "no limits":
            limits.drop(index=limits.index, inplace=True)
        case "two runs":
            indicators["seed"] = [0] * 5 + [1] * (len(indicators) - 5)
    worth = flag_worth.worth(measured)
    expected = captions.of_flags(worth, indicators, limits)
    recomputed = flags.flag_worth(results)
    assert flags.finding(results, list(worth.columns), recomputed) == expected
    assert ("flagged more often" in expected) == (changes == "found")
    assert ("flagged less often" in expected) == (changes == "missed")
    assert ("No limits were chosen" in expected) == (changes == "no limits")
    assert ("5 to 15 validation cases of each run" in expected) == (changes == "two runs")
    assert compare.differing("", list(worth.columns), worth.to_dict("records"), recomputed)[0] == []


@pytest.mark.parametrize("name", [REGIONS, VOLUMES, LESIONS, POINTS])
def test_every_table_of_numbers_drawn_by_chance_is_recomputed(monkeypatch, tmp_path, name: str) -> None:
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    study = params.read_study(files.study_file(name))
    study = study.model_copy(update={"folds": [0], "seeds": [0], "compare_with": []})
    by_chance.write_study(study, len(name), monkeypatch)
    names = [f"{path.parts[-3]}/tables/{path.stem}" for path in tmp_path.glob(f"{name}/0[56]*/tables/*.csv")]
    placeholders = ("confusion", "05_evaluation/tables/folds", "shapes", "baselines")
    checked = [each for each in names if not each.endswith(placeholders)]
    assert len(checked) >= 19
    assert differences(study, *checked) == []
    results = Results(study)
    assert long_tables.listed_failures(results) == []
    assert long_tables.other_bounds(results) == []
    worst = results.table("05_evaluation/failures")
    worst.loc[0, ["value", "result"]] = [0.25, "CSP 0.250"]
    named = [line.partition(": found")[0] for line in long_tables.listed_failures(results)]
    assert named == [f"05_evaluation/failures.csv, row 2, column {column}" for column in ("value", "result")]
    results.table("05_evaluation/failures").drop(index=0, inplace=True)
    (line,) = long_tables.listed_failures(results)
    assert line.startswith("05_evaluation/failures.csv: cases ")


def test_a_changed_bound_or_limit_and_a_lost_validation_case_are_named(study_of) -> None:
    study = study_of(REGIONS)
    bounds, measured = (
        folder(study, f"{name}.csv") for name in ("05_evaluation/intervals", "06_biometry/measurements")
    )
    assert long_tables.other_bounds(Results(study)) == []
    assert (
        list(long_tables.told(Results(study), long_tables.MEASURED, long_tables.limits_of_bounds(Results(study)))) == []
    )
    rows = files.read_csv(measured, [])
    place = rows.index[rows["low_mm"].notna()][0]
    rows.loc[place, "low_mm"] -= 1
    files.write_csv(measured, rows)
    results = Results(study)
    (line,) = long_tables.told(results, long_tables.MEASURED, long_tables.limits_of_bounds(results))
    assert line.startswith(f"06_biometry/measurements.csv, row {place + 2}, column low_mm: found ")
    changed = files.read_csv(bounds, [])
    changed.loc[1, "error_per_root"] = 0.01
    files.write_csv(bounds, changed)
    (line,) = long_tables.other_bounds(Results(study))
    assert line == "05_evaluation/intervals.csv, row 3, column error_per_root: found 0.01, recomputed 0.45"
    validated = folder(study, "05_evaluation/validation.csv")
    files.write_csv(validated, files.read_csv(validated, []).iloc[6:])  # eight of ten subjects
    lines = long_tables.other_bounds(Results(study))
    assert [line.partition(": ")[0].rpartition(" ")[2] for line in lines[:3]] == [
        "subjects",
        "images",
        "error_per_root",
    ]
    assert lines[2].endswith("recomputed nan")


def test_a_study_without_post_processing_is_recomputed(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    study = plain(REGIONS, postprocessing=[])
    builders_report.write_study(study)
    assert differences(study, *(f"05_evaluation/tables/{name}" for name in ("per_class", "effect", "distances"))) == []


def test_a_number_of_findings_is_printed_as_one(study_of) -> None:
    study = study_of(REGIONS)
    rows = files.read_csv(folder(study, "01_data_verification/findings.csv"), [])
    files.write_csv(folder(study, "01_data_verification/findings.csv"), pd.concat([rows] * 1200))
    counts = pd.DataFrame([{"severity": "warn", "check": "HC differs", "findings": 1200}])
    tables.save(counts, folder(study, "01_data_verification/tables/finding-counts"))
    assert differences(study, "01_data_verification/tables/finding-counts") == []


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


NUMBERS = [
    0.0,
    -0.0,
    1e-12,
    -1e-9,
    0.5,
    2.5,
    -2.675,
    0.125,
    0.0004,
    -0.00049,
    1e-7,
    0.9995,
    123456.789,
    -0.001,
    float("nan"),
]


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
    assert [printed.cell(value, "bias_mm") for value in (0.004, -0.004, -1e-12)] == ["<0.01", ">−0.01", "0.00"]
    assert printed.cell(0.0004, "p") == printed.cell(0.0004, "p_value") == "<0.001"
    assert printed.cell(1234567, "pixels") == "1\u00a0234\u00a0567"
    assert printed.cell(31.0, "hc_error_mm_subjects") == tables.format_cell(31.0, "hc_error_mm_subjects") == "31"
    row = {"n": 3, "a_mm": 1.234, "a_mm_low": 1.0, "a_mm_high": 2.0, "a_mm_least": 0.5, "a_mm_largest": 9.0}
    row |= {"a_mm_subjects": 7}
    nothing = row | dict.fromkeys(("a_mm_low", "a_mm_high"), float("nan"))
    first, other = printed.printed_rows(list(row), [row, nothing])
    assert first == {"n": "3", "a_mm_subjects": "7", "a_mm": "1.23\u00a0[1.00,\u00a02.00]"}
    assert other["a_mm"] == "1.23\u00a0(0.50\u00a0to\u00a09.00)"
    equal = dict.fromkeys((name for name in row if name.startswith("a_mm")), 2.0)
    several, alone = printed.printed_rows(list(row), [row | equal, row | equal | {"a_mm_subjects": 1}])
    assert (several["a_mm"], alone["a_mm"]) == ("2.00\u00a0[all\u00a0equal]", "2.00")


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


@pytest.mark.parametrize("name", [REGIONS, VOLUMES, POINTS])
def test_every_case_is_recomputed_and_a_forged_result_of_one_differs(study_of, name: str) -> None:
    study = study_of(name)
    printed_rows = content.describe_cases(study)
    assert printed_rows["rows"]
    assert recomputed_cases.every_case(Results(study)) == printed_rows
    path = folder(study, "05_evaluation/cases.csv")
    table = pd.read_csv(path, dtype={"case": str, "subject": str})
    column = "error_mm" if name == POINTS else "fp"
    files.write_csv(path, table.assign(**{column: table[column] * 3}))
    forged = recomputed_cases.every_case(Results(study))["rows"]
    assert [row["case"] for row in forged] == [row["case"] for row in printed_rows["rows"]]
    assert forged[0]["values"] != printed_rows["rows"][0]["values"]


def test_of_many_cases_both_rank_the_same_worst(monkeypatch, study_of) -> None:
    for name in (REGIONS, POINTS):
        study = study_of(name)
        monkeypatch.setattr(every_case, "MOST_CASES", 2)
        monkeypatch.setattr(every_case, "WORST_CASES", 3)
        monkeypatch.setattr(recomputed_cases, "ALL_UP_TO", 2)
        monkeypatch.setattr(recomputed_cases, "WORST", 3)
        printed_rows = content.describe_cases(study)
        assert (printed_rows["cases"], len(printed_rows["rows"])) == (4, 3)
        assert recomputed_cases.every_case(Results(study)) == printed_rows


def test_groups_are_named_as_the_report_names_them() -> None:
    heads = {"hc1 csp": 150.4, "hc0": 99.6, "hc1": 176.6, "hc2": float("nan"), "north": 200.0, "hcx": 210.0, "": 80.0}
    table = pd.DataFrame({"stratum": heads.keys(), "hc_mm": heads.values()}).assign(case=range(len(heads)))
    results = Results(params.read_study(files.study_file(REGIONS)), _tables={"01_data_verification/cases": table})
    named = regions.names_of_groups(results)
    assert named == cases.group_names(table)
    assert named["hc1"] == "HC 150–177 mm"


@pytest.mark.parametrize(("count", "largest"), [(19, 50.0), (20, 0.5), (20, 50.0), (41, 90.0)])
def test_the_largest_errors_and_their_sentence_are_recomputed(count: int, largest: float) -> None:
    draw = np.random.default_rng(count)
    rows = pd.DataFrame({"case": [f"c{place}" for place in range(count)], "route": "ellipse", "stage": "post"})
    rows = rows.assign(subject=rows["case"], seed=0, flags="", reference_mm=200.0)
    heads = [rows.assign(quantity=each, predicted_mm=200 + draw.normal(size=count)) for each in ("bpd", "hc")]
    heads[1].loc[count // 2, "predicted_mm"] = 200 + largest
    long = pd.concat([*heads, heads[0].assign(route="baseline", predicted_mm=260.0)], ignore_index=True)
    results = Results(params.read_study(files.study_file(REGIONS)), _tables={"06_biometry/measurements": long})
    shares = biometry_errors.largest_shares(long)
    assert (
        compare.differing("", list(shares.columns), shares.to_dict("records"), biometry.largest_shares(results))[0]
        == []
    )
    printed_tables = {"agreement": biometry_errors.agreement(long), "limits-mm": measurement_agreement.limits_mm(long)}
    verified = {
        f"06_biometry/tables/{name}": (list(table.columns), table.to_dict("records"))
        for name, table in printed_tables.items()
    }
    own = measurements.biometry(*printed_tables.values(), shares)
    assert recomputed_heads.errors(results, Tables(verified)) == own
    assert any("make up much of the mean" in sentence for sentence in own) == (count >= 20 and largest > 1)


@pytest.mark.parametrize("seed", range(12))
def test_limits_of_flags_of_numbers_drawn_by_chance_are_recomputed(seed: int) -> None:
    draw = np.random.default_rng(seed)
    count = int(draw.integers(18, 120))
    large = draw.random(count) < 0.1
    table = pd.DataFrame({name: draw.random(count) for name in ("frame_share", "arc_coverage", "axis_ratio")})
    table["second_part"] = 0.002 * draw.random(count)  # its limit would be below the smallest
    table["size_share"] = np.where(large & (draw.random(count) < 0.7), 1.5, 1) * draw.choice([0.2, 0.3, 0.4], count)
    table["uncertain_mm"] = np.where(large, 3 + draw.random(count), 3.2 * draw.random(count))
    table.loc[draw.random(count) < 0.05, "uncertain_mm"] = np.nan
    hc = pd.DataFrame({"reference_mm": 200.0, "predicted_mm": 200 + np.where(large, 9.0, 1.0)}, index=table.index)
    hc.loc[large & (draw.random(count) < 0.3), "predicted_mm"] = np.nan
    hc["flags"] = np.where(hc["predicted_mm"].isna(), "no ellipse", "")
    own = quality.choose_limits(table, large, hc["flags"].ne("").to_numpy())
    recomputed = flags.limits_of_run(table.to_dict("records"), hc.to_dict("records"))
    assert recomputed == pytest.approx(own, rel=1e-12)
    assert bool(own) == (count >= 20)


def test_a_changed_or_missing_limit_of_a_flag_is_named(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    study = params.read_study(files.study_file(REGIONS))
    study = study.model_copy(update={"folds": [0], "seeds": [0], "compare_with": []})
    by_chance.write_study(study, 5, monkeypatch)
    draw, names = np.random.default_rng(3), [f"c{number}" for number in range(40)]
    of_run = {"fold": 0, "seed": 0}
    of_heads = pd.DataFrame({"case": names, "role": "validation", **of_run, "axis_ratio": draw.random(40)})
    hc = pd.DataFrame({"case": names, "quantity": "hc", **of_run, "flags": ""})
    hc["reference_mm"], hc["predicted_mm"] = 200.0, 200 + 6 * draw.random(40)
    chosen = quality.limits_of(hc, of_heads.to_dict("records"))
    limits = pd.DataFrame([of_run | {"flag": name, "limit": value} for name, value in chosen.items()])
    written = {"indicators": of_heads, "validation": hc, "limits": limits}
    for name, table in written.items():
        files.write_csv(folder(study, f"{EVALUATED}/{name}.csv"), table)
    assert long_tables.other_limits(Results(study)) == []
    files.write_csv(folder(study, f"{EVALUATED}/limits.csv"), limits.assign(limit=limits["limit"] + 0.1))
    (line,) = long_tables.other_limits(Results(study))
    assert line.startswith(
        f"{EVALUATED}/limits.csv, row 2, column limit: found {chosen['elongated'] + 0.1}, recomputed "
    )
    files.write_csv(folder(study, f"{EVALUATED}/limits.csv"), limits.iloc[:0])
    assert long_tables.other_limits(Results(study)) == [
        f"{EVALUATED}/limits.csv: 0 limits; recomputed 1, or of other runs and flags"
    ]
