"""Means over cases, worked by hand."""

import pandas as pd
import pytest

from lib.report.summaries import means
from lib.statistics import Estimate

NAN = float("nan")
# Case b lacks its value in one of two seeds, c in both.
ROWS = pd.DataFrame(
    {
        "case": ["a", "b", "c", "a", "b", "c"],
        "subject": ["s", "s", "t", "s", "s", "t"],
        "mm": [1.0, 4.0, NAN, 2.0, NAN, NAN],
    }
)


def test_a_mean_over_cases_weighs_each_case_once_and_counts_those_that_have_a_value():
    of_cases = means.by_case(ROWS, ["mm"])
    assert of_cases.index.tolist() == ["a", "b", "c"]
    assert of_cases["subject"].tolist() == ["s", "s", "t"]
    assert of_cases["mm"].tolist() == pytest.approx([1.5, 4.0, NAN], nan_ok=True)
    mean = means.mean_over(of_cases, "mm")
    assert means.with_interval("dice", Estimate(0.8, 0.7, 0.9, 12)) == {"dice": 0.8, "dice_low": 0.7, "dice_high": 0.9}
    assert (mean.value, mean.count) == (pytest.approx((1.5 + 4.0) / 2), 2)


def test_a_view_that_counts_a_case_too_few_in_its_mean_or_beside_it_has_lost_a_row():
    long = pd.DataFrame({"case": ["a", "b", "c"], "class": "head"})
    in_mean = pd.Series([True, True, False])
    view = pd.DataFrame({"class": ["head"], "n": [2], "absent": [1]})
    assert means.counts_all(view, long, ["class"], in_mean, ["absent"])
    assert not means.counts_all(view.assign(n=1), long, ["class"], in_mean, ["absent"])
    assert not means.counts_all(view.assign(absent=0), long, ["class"], in_mean, ["absent"])
    seeds = long.assign(case=["a", "a", "b"])  # a case of two seeds counts once
    assert means.counts_all(view.assign(n=1), seeds, ["class"], in_mean, ["absent"])
