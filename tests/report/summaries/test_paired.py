import numpy as np
import pandas as pd
import pytest

from lib import statistics
from lib.report.summaries import paired


def compared(pairs, route_b="landmark", study_b="other", missed=(0, 0)):
    """comparison.csv of (error of A, error of B), one case each."""
    table = pd.DataFrame(pairs, columns=["error_a_mm", "error_b_mm"])
    table["case"] = table["subject"] = [f"c{place}" for place in range(len(table))]
    table["difference_mm"] = table["error_a_mm"] - table["error_b_mm"]
    table["reference_a_mm"], table["reference_b_mm"] = 100.0, 99.0
    table["not_measured_a"], table["not_measured_b"] = missed
    return table.assign(quantity="hc", study_a="own", route_a="ellipse", study_b=study_b, route_b=route_b)


def test_a_comparison_of_five_cases_worked_by_hand():
    long = compared([(1.0, 3.0), (2.0, 2.5), (4.0, 1.0), (np.nan, 1.0), (2.0, np.nan)])
    long.loc[3, "not_measured_a"], long.loc[4, "not_measured_b"] = 2, 1
    row = paired.comparison(long).iloc[0]
    assert row[paired.PAIR].tolist() == ["hc", "ellipse", "other", "landmark"]
    assert (row["n"], row["not_measured_a"], row["not_measured_b"]) == (3, 2, 1)
    assert row["error_a_mm"] == pytest.approx(7 / 3)
    assert row["error_b_mm"] == pytest.approx(6.5 / 3)
    assert row["difference_mm"] == pytest.approx((-2 - 0.5 + 3) / 3)
    assert row[["difference_mm_least", "difference_mm_largest", "difference_mm_subjects"]].tolist() == [-2, 3, 3]
    shares = row[["a_better_percent", "a_better_percent_low", "a_better_percent_high"]].tolist()
    assert shares == pytest.approx([100 * value for value in statistics.proportion_interval(2, 3)])
    # a pair without common cases has no difference; equal errors are not better
    row = paired.comparison(compared([(np.nan, 1.0), (2.0, np.nan)])).iloc[0]
    assert row["n"] == 0
    assert np.isnan([row["difference_mm"], row["error_a_mm"], row["a_better_percent"]]).all()
    assert paired.comparison(compared([(1.0, 1.0), (1.0, 2.0)]))["a_better_percent"].tolist() == [50]


def test_references_that_differ_by_half_a_millimetre_are_reported():
    long = compared([(1.0, 3.0), (2.0, 2.5)])
    row = paired.references(pd.concat([long, compared([(1.0, 3.0)], "baseline", "own")])).iloc[0]
    assert (row["n"], row["difference_mm"], row["amount_mm"], row["largest_mm"], row["differ"]) == (2, 1, 1, 1, True)
    nearer = long.assign(reference_b_mm=[100.5, 99.75])
    row = paired.references(nearer).iloc[0]
    assert row["difference_mm"] == pytest.approx(-0.125)
    assert (row["amount_mm"], row["largest_mm"]) == pytest.approx((0.375, 0.5))
    assert not row["differ"]
    # a case counts once; references of one study are not compared with themselves
    both = pd.concat([compared([(1.0, 3.0), (2.0, 2.0)], route) for route in ("landmark", "another")])
    assert paired.references(both)["n"].tolist() == [2]
    assert paired.references(compared([(1.0, 3.0)], "baseline", "own")).empty
    assert paired.comparison(compared([])).empty


def test_overlaps_of_three_cases_worked_by_hand():
    long = pd.DataFrame({"dice_a": [0.9, 0.8, 0.0], "dice_b": [0.8, 0.85, 0.5], "subject": list("abc")})
    long = long.assign(difference=long["dice_a"] - long["dice_b"], **{"class": "head"}, study_b="other", study_a="own")
    row = paired.overlap_comparison(long).iloc[0]
    assert (row["n"], row["class"], row["study_b"]) == (3, "head", "other")
    assert row["dice_a"] == pytest.approx(1.7 / 3)
    assert row["difference"] == pytest.approx(-0.45 / 3)
    assert row["a_better_percent"] == pytest.approx(100 / 3)
