"""Tables typed out by hand: what a mean holds, what is counted beside it, how it is written."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typst

from lib import tables

NAN = float("nan")


def long_table(counts: list[tuple[int, int, int]], seed: int = 0, stage: str = "post") -> pd.DataFrame:
    """The long table of 05 for one class, from (tp, fp, fn) of each case; two cases a subject."""
    rows = []
    for place, (tp, fp, fn) in enumerate(counts):
        both, total = 2 * tp + fp + fn, tp + fp + fn
        key = {
            "case": f"c{place}",
            "subject": f"s{place // 2}",
            "fold": 0,
            "seed": seed,
            "class": "csp",
            "stage": stage,
        }
        found = {"dice": 2 * tp / both if both else NAN, "iou": tp / total if total else NAN}
        rows.append(key | {"tp": tp, "fp": fp, "fn": fn, "tn": 100} | found)
    return pd.DataFrame(rows)


def measurements(rows: list[tuple[str, str, float, float, object]]) -> pd.DataFrame:
    """The long table of 06, from (route, stage, predicted, reference, flags); a subject each."""
    table = pd.DataFrame(rows, columns=["route", "stage", "predicted_mm", "reference_mm", "flags"])
    return table.assign(case=[f"c{i}" for i in range(len(table))], quantity="hc", seed=0, fold=0).assign(
        subject=lambda t: t["case"]
    )


def test_a_miss_counts_0_and_absent_and_invented_cases_are_counted_beside_the_mean() -> None:
    shown, missed, invented, absent = (40, 10, 10), (0, 0, 50), (0, 30, 0), (0, 0, 0)
    row = tables.per_class(long_table([shown, missed, invented, absent])).iloc[0]
    assert row["n"] == 2
    assert row["dice"] == pytest.approx((0.8 + 0) / 2)
    assert row["iou"] == pytest.approx((40 / 60 + 0) / 2)
    assert (row["dice_median"], row["dice_min"]) == (pytest.approx(0.4), 0)
    assert (row["absent"], row["missed"], row["invented"]) == (1, 1, 1)
    assert row["pooled_dice"] == pytest.approx(80 / (80 + 40 + 60))  # invented pixels count here


def test_the_interval_holds_the_mean_and_needs_two_subjects() -> None:
    several = tables.per_class(long_table([(9, 1, 1), (8, 2, 2), (5, 5, 5), (9, 0, 2)])).iloc[0]
    assert several["dice_low"] < several["dice"] < several["dice_high"]
    one = tables.per_class(long_table([(9, 1, 1), (8, 2, 2)])).iloc[0]
    assert np.isnan(one["dice_low"])
    assert np.isnan(one["dice_high"])


def test_a_class_that_no_reference_shows_has_no_mean() -> None:
    row = tables.per_class(long_table([(0, 3, 0), (0, 0, 0)])).iloc[0]
    assert row["n"] == 0
    assert np.isnan(row["dice"])
    assert (row["invented"], row["absent"]) == (1, 1)


def test_one_seed_gives_no_seed_column_and_two_give_rows_of_their_own() -> None:
    one = long_table([(9, 1, 1), (8, 2, 2)])
    assert "seed" not in tables.per_class(one)
    both = tables.per_class(pd.concat([one, long_table([(7, 3, 3), (8, 2, 2)], seed=1)]))
    assert both["seed"].tolist() == ["all", "0", "1"]
    assert both["n"].tolist() == [2, 2, 2]
    assert both["dice"].tolist() == pytest.approx([0.8, 0.85, 0.75])


def test_rows_come_by_class_and_stage_as_in_the_long_table() -> None:
    raw, post = (long_table([(9, 1, 1)], stage=stage) for stage in ("raw", "post"))
    lv = raw.assign(**{"class": "lv"})
    table = tables.per_class(pd.concat([raw, post, lv]))
    assert table[["class", "stage"]].values.tolist() == [["csp", "raw"], ["csp", "post"], ["lv", "raw"]]


def test_agreement_of_three_heads_worked_by_hand() -> None:
    rows = [("ellipse", "post", 101.0, 100.0, ""), ("ellipse", "post", 198.0, 200.0, "HC out of range")]
    rows += [("ellipse", "post", 304.0, 300.0, NAN), ("ellipse", "post", NAN, 250.0, "no ellipse")]
    row = tables.agreement(measurements(rows)).iloc[0]
    assert (row["n"], row["not_measured"], row["flagged"]) == (3, 1, 2)
    assert row["mae_mm"] == pytest.approx(7 / 3)
    assert row["mae_percent"] == pytest.approx((1 + 1 + 4 / 3) / 3)
    assert row["bias_mm"] == pytest.approx(1)  # (1 - 2 + 4) / 3; standard deviation 3
    assert row["lower_limit_mm"] == pytest.approx(1 - 1.96 * 3)
    assert row["upper_limit_mm"] == pytest.approx(1 + 1.96 * 3)


def test_cases_without_a_reference_are_neither_measured_nor_missing() -> None:
    row = tables.agreement(measurements([("ellipse", "post", 101.0, 100.0, ""), ("ellipse", "post", 90.0, NAN, "")]))
    assert (row["n"].item(), row["not_measured"].item()) == (1, 0)
    assert np.isnan(row["bias_mm"].item())


def test_the_baseline_stands_once_though_it_is_measured_at_both_stages() -> None:
    rows = [(route, stage, 1.0, 2.0, "") for route in ("ellipse", "baseline") for stage in ("raw", "post")]
    table = tables.agreement(measurements(rows))
    expected = [["ellipse", "raw"], ["ellipse", "post"], ["baseline", "post"]]
    assert table[["route", "stage"]].values.tolist() == expected


def test_seeds_count_a_case_once_and_are_averaged_before_the_mean() -> None:
    rows = [("ellipse", "post", 102.0, 100.0, ""), ("ellipse", "post", 210.0, 200.0, "")]
    baseline = [("baseline", "post", 150.0, 100.0, ""), ("baseline", "post", 150.0, 200.0, "")]
    first, again = measurements(rows), measurements(rows).assign(seed=1, predicted_mm=[104.0, NAN])
    guessed = measurements(baseline)
    both = pd.concat([first, again, guessed, guessed.assign(seed=1)])
    table = tables.agreement(both).set_index("route")
    assert table["n"].tolist() == [2, 2]
    assert table.loc["ellipse", "mae_mm"] == pytest.approx(((2 + 4) / 2 + 10) / 2)
    assert table.loc["ellipse", "mae_percent"] == pytest.approx((3 + 5) / 2)
    assert table.loc["ellipse", "bias_mm"] == pytest.approx((2 + 4 + 10) / 3)  # of single predictions
    assert table["not_measured"].tolist() == [1, 0]


def test_quantities_stay_together() -> None:
    one = measurements([("ellipse", "post", 1.0, 2.0, ""), ("baseline", "post", 1.0, 2.0, "")])
    both = pd.concat(
        [one.iloc[:1], one.iloc[:1].assign(quantity="bpd"), one.iloc[1:], one.iloc[1:].assign(quantity="bpd")]
    )
    assert tables.agreement(both)["quantity"].tolist() == ["hc", "hc", "bpd", "bpd"]


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (0.97149, "dice", "0.971"),
        (-1.005, "bias_mm", "−1.00"),
        (-0.001, "bias_mm", "0.00"),
        (2.345, "mae_percent", "2.3"),
        (0.15384, "spacing_row_mm", "0.154"),
        (12345, "parameters", "12\u00a0345"),
        (NAN, "dice", "–"),
        (None, "threshold", "–"),
        (0.00012, "learning_rate", "0.00012"),
        (640.0, "value", "640"),
        (0.04941, "value", "0.0494"),
        ("csp", "class", "CSP"),
        ("csp", "case", "csp"),
        (True, "stopped_early", "yes"),
        (np.int64(3), "missed", "3"),
    ],
)
def test_a_cell_for_reading(value: object, name: str, text: str) -> None:
    assert tables.format_cell(value, name) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dice", "Dice"),
        ("pooled_dice", "Pooled Dice"),
        ("mae_mm", "Mean abs. error (mm)"),
        ("mae_percent", "Mean abs. error (%)"),
        ("lower_limit_mm", "Lower limit (mm)"),
        ("hc_mm", "HC (mm)"),
        ("n", "n"),
        ("fold_groups", "Fold groups"),
    ],
)
def test_a_column_s_name_for_reading(name: str, text: str) -> None:
    assert tables.title(name) == text


def test_a_value_and_its_interval_share_a_column(tmp_path: Path) -> None:
    table = pd.DataFrame({"mae_mm": [1.234], "mae_low": [1.1], "mae_high": [1.4], "mae_percent": [0.5]})
    tables.save(table, tmp_path / "x")
    text = (tmp_path / "x.typ").read_text().replace(tables.KEEP, " ")
    assert '"1.23 [1.10, 1.40]", "0.5"' in text
    assert "columns: 2" in text
    assert "Low" not in text


def test_an_interval_without_ends_is_left_out() -> None:
    table = pd.DataFrame({"dice": [0.9], "dice_low": [NAN], "dice_high": [NAN]})
    assert '  "0.900",' in tables.to_typst(table)


def test_the_csv_keeps_every_digit_and_bytes_stay(tmp_path: Path) -> None:
    table = pd.DataFrame({"dice": [1 / 3], "case": ["a"]})
    tables.save(table, tmp_path / "x")
    first = (tmp_path / "x.csv").read_bytes(), (tmp_path / "x.typ").read_bytes()
    assert pd.read_csv(tmp_path / "x.csv", float_precision="round_trip")["dice"].item() == 1 / 3
    tables.save(table, tmp_path / "x")
    assert ((tmp_path / "x.csv").read_bytes(), (tmp_path / "x.typ").read_bytes()) == first


def test_text_that_means_something_to_typst_is_printed_as_it_is(tmp_path: Path) -> None:
    wild = '#panic("x") *b* _i_ $1$ @ref <l> \\ "q" ] } // /* `'
    (tmp_path / "x.typ").write_text(tables.to_typst(pd.DataFrame({"found": [wild], "n": [1]})), encoding="utf-8")
    (tmp_path / "doc.typ").write_text('#include "x.typ"\n#metadata("end") <end>', encoding="utf-8")
    typst.compile(tmp_path / "doc.typ", output=tmp_path / "doc.pdf", ignore_system_fonts=True)
    escaped = wild.replace("\\", "\\\\").replace('"', '\\"')
    assert f'"{escaped}"' in (tmp_path / "x.typ").read_text(encoding="utf-8")


def test_a_table_without_rows_is_a_header(tmp_path: Path) -> None:
    (tmp_path / "x.typ").write_text(tables.to_typst(pd.DataFrame(columns=["case", "flags"])), encoding="utf-8")
    typst.compile(tmp_path / "x.typ", output=tmp_path / "x.pdf", ignore_system_fonts=True)


def test_a_table_without_columns_still_compiles(tmp_path: Path) -> None:
    (tmp_path / "x.typ").write_text(tables.to_typst(pd.DataFrame()), encoding="utf-8")
    typst.compile(tmp_path / "x.typ", output=tmp_path / "x.pdf", ignore_system_fonts=True)
    assert tables.readable(pd.DataFrame()).empty


def test_a_table_to_look_at_reads_as_the_printed_one() -> None:
    table = pd.DataFrame({"class": ["csp"], "n": [3], "dice": [0.9], "dice_low": [0.85], "dice_high": [NAN]}, index=[7])
    read = tables.readable(table.assign(dice_high=0.95))
    assert [text.replace(tables.KEEP, " ") for text in read.columns] == ["Class", "n", "Dice [95 % interval]"]
    assert [text.replace(tables.KEEP, " ") for text in read.iloc[0]] == ["CSP", "3", "0.900 [0.850, 0.950]"]
    assert all(f'"{cell}"' in tables.to_typst(table.assign(dice_high=0.95)) for cell in read.iloc[0])
    assert list(tables.readable(table.iloc[:0]).columns) == list(read.columns)
