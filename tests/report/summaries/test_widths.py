import numpy as np
import pandas as pd
import pytest

from lib.report.summaries import widths


def parts(rows, **columns):
    """widths.csv of ventricles from (case, part, reference, predicted); NaN where a part is in one mask only."""
    table = pd.DataFrame(rows, columns=["case", "part", "reference_mm", "predicted_mm"])
    only_predicted, only_reference = table["reference_mm"].isna(), table["predicted_mm"].isna()
    table["outcome"] = np.select([only_predicted, only_reference], ["invented", "missed"], "both")
    return table.assign(**({"subject": table["case"], "fold": 0, "seed": 0, "class": "lv"} | columns))


def test_errors_bias_limits_and_counts_of_ventricles_worked_by_hand():
    rows = [("a", 1, 8.0, 9.0), ("a", 2, 10.0, 9.0), ("b", 1, 12.0, 15.0), ("b", 2, 7.0, np.nan), ("c", 1, np.nan, 4.0)]
    row = widths.widths(parts(rows)).iloc[0]
    assert (row["class"], row["n"], row["missed"], row["invented"]) == ("lv", 3, 1, 1)
    assert (row["reference_mm"], row["mae_mm"]) == pytest.approx((10, 5 / 3))  # a missed one is in no mean
    assert row["bias_mm"] == pytest.approx(1)  # of 1 and -1 in a, and 3 in b
    assert row["largest_error_mm"] == 3
    assert np.isnan(row[["lower_limit_mm_low", "upper_limit_mm_high"]].astype(float)).all()  # of two subjects
    # Mean squares 6 between and 2 within, so the variances are (6 - 2) / (4 / 3) between and 2 within, 5 in all.
    assert (row["lower_limit_mm"], row["upper_limit_mm"]) == pytest.approx((1 - 1.96 * 5**0.5, 1 + 1.96 * 5**0.5))


def test_limits_of_six_subjects_have_an_interval_and_a_component_below_0_is_none():
    rows = [(f"s{n}", part, 10.0, 10.0 + (1 if part == 1 else -1) * (n + 1)) for n in range(6) for part in (1, 2)]
    row = widths.widths(parts(rows)).iloc[0]
    # Every subject has the mean 0, so the parts count as independent: 2 (1 + 4 + ... + 36) / 11 is their variance.
    assert row["upper_limit_mm"] == pytest.approx(1.96 * (2 * 91 / 11) ** 0.5)
    assert row["upper_limit_mm_low"] < row["upper_limit_mm"] < row["upper_limit_mm_high"]
    assert (row["bias_mm"], row["largest_error_mm"]) == (0, 6)


def test_seeds_of_a_part_are_averaged_first_and_every_row_is_counted():
    first = parts([("a", 1, 8.0, 9.0), ("b", 1, 9.0, np.nan)])
    both = pd.concat([first, parts([("a", 1, 8.0, 11.0), ("b", 1, 9.0, 9.0), ("b", 2, np.nan, 3.0)], seed=1)])
    table = widths.widths(both)
    row = table.iloc[0]
    assert (row["n"], row["mae_mm"], row["missed"], row["invented"]) == (2, 1.0, 1, 1)  # 2 and 0
    assert widths.holds_all_parts(table, both)
    assert not widths.holds_all_parts(table, pd.concat([both, first.assign(case="d")]))
    assert not widths.holds_all_parts(widths.widths(both[both["outcome"] != "invented"]), both)
    assert widths.widths(both.iloc[:0]).empty


def test_enlarged_ventricles_are_counted_from_exactly_ten_millimetres():
    rows = [("a", 1, 10.0, 10.0), ("b", 1, 12.0, 9.99), ("c", 1, 11.0, np.nan), ("d", 1, 15.0, 14.0)]
    rows += [("e", 1, 9.99, 9.0), ("f", 1, 8.0, 10.5), ("g", 1, np.nan, 12.0)]
    row = widths.enlarged(parts(rows)).iloc[0]
    counts = [row[name] for name in ("n_enlarged", "sensitivity_percent", "n_normal", "specificity_percent")]
    assert counts == [4, 50, 2, 50]
    # Wilson 1927 for 2 of 4: (2 + z^2 / 2 -+ z sqrt(4 / 4 + z^2 / 4)) / (4 + z^2), z = 1.96
    bounds = [row["sensitivity_percent_low"], row["sensitivity_percent_high"]]
    assert bounds == pytest.approx([15.00, 85.00], abs=0.01)
    # two of a subject: variance of means 0.25 + 0.25 as 4 / 3 x that of single ones; fewer subjects widen the interval
    shared = widths.enlarged(parts(rows).assign(subject=["s", "s", "t", "t", "u", "u", "v"])).iloc[0]
    assert shared["sensitivity_percent"] == 50
    assert shared["sensitivity_percent_high"] - shared["sensitivity_percent_low"] > 71
    for one_kind in (rows[:4], rows[4:]):
        assert widths.enlarged(parts(one_kind)).empty
    assert widths.enlarged(parts(rows, **{"class": "csp"})).empty  # a wide CSP is no enlarged ventricle
