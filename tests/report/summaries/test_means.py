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


def test_the_ends_of_an_interval_stand_beside_their_mean():
    assert means.estimated("dice", Estimate(0.8, 0.7, 0.9, 12)) == {"dice": 0.8, "dice_low": 0.7, "dice_high": 0.9}


def test_seeds_of_a_case_are_averaged_without_what_is_missing():
    found = means.by_case(ROWS, ["mm"])
    assert found.index.tolist() == ["a", "b", "c"]
    assert found["subject"].tolist() == ["s", "s", "t"]
    assert found["mm"].tolist() == pytest.approx([1.5, 4.0, NAN], nan_ok=True)


def test_a_mean_over_cases_weighs_each_case_once_and_counts_those_that_have_a_value():
    found = means.mean_over(means.by_case(ROWS, ["mm"]), "mm")
    assert found.value == pytest.approx((1.5 + 4.0) / 2)
    assert found.count == 2


def test_a_view_that_counts_a_case_too_few_in_its_mean_or_beside_it_has_lost_a_row():
    long = pd.DataFrame({"case": ["a", "b", "c"], "class": "head"})
    in_mean = pd.Series([True, True, False])
    view = pd.DataFrame({"class": ["head"], "n": [2], "absent": [1]})
    assert means.counts_all(view, long, ["class"], in_mean, ["absent"])
    assert not means.counts_all(view.assign(n=1), long, ["class"], in_mean, ["absent"])
    assert not means.counts_all(view.assign(absent=0), long, ["class"], in_mean, ["absent"])


def test_a_case_of_two_seeds_counts_once_in_its_mean():
    long = pd.DataFrame({"case": ["a", "a"], "class": "head", "seed": [0, 1]})
    view = pd.DataFrame({"class": ["head"], "n": [1]})
    assert means.counts_all(view, long, ["class"], pd.Series([True, True]), [])
