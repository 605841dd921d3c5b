import numpy as np
import pandas as pd
import pytest

from lib.evaluation.error_budget import COLUMNS
from lib.report.summaries import error_budget
from lib.statistics import FEWEST_SUBJECTS


def of_cases(*parts, seed=0):
    """error-budget.csv from (fit, pixel size, resolution, prediction) of each case."""
    keys = [[f"c{n}", f"s{n}", 0, seed, "ellipse"] for n in range(len(parts))]
    return pd.DataFrame([[*key, *part, sum(part)] for key, part in zip(keys, parts)], columns=COLUMNS)


def test_components_of_two_heads_worked_by_hand():
    long = of_cases((1, 0, 0, 3), (1, 0, 0, -3))
    table = error_budget.error_budget(long)
    assert table["component"].tolist() == ["fit", "pixel size", "resolution", "prediction", "total"]
    assert table["n"].tolist() == [2] * 5
    assert table["mean_mm"].tolist() == [1, 0, 0, 0, 1]
    assert table["sd_mm"].tolist() == pytest.approx([0, 0, 0, np.sqrt(18), np.sqrt(18)])
    assert table["rms_mm"].tolist() == pytest.approx([1, 0, 0, 3, np.sqrt(10)])  # totals 4 and -2
    assert table["share_percent"].tolist() == pytest.approx([10, 0, 0, 90, 100])
    assert table["mean_mm_low"].isna().all()
    assert FEWEST_SUBJECTS > 2


def test_a_component_that_compensates_another_has_a_negative_share_and_all_add_up():
    long = of_cases(*np.random.default_rng(0).normal([1, 0, -1, 2], 1, (12, 4)).tolist())
    table = error_budget.error_budget(long)
    assert table["share_percent"].iloc[2] < 0
    assert table["share_percent"].iloc[:4].sum() == pytest.approx(100)
    assert (table["mean_mm_low"] < table["mean_mm"]).all()
    assert error_budget.holds_all_errors(table, long)


def test_seeds_are_averaged_first_and_a_head_that_is_not_measured_is_counted_and_in_no_mean():
    first, second = of_cases((1, 0, 0, 1), (1, 0, 0, 3)), of_cases((1, 0, 0, 5), (1, 0, 0, np.nan), seed=1)
    long = pd.concat([first, second], ignore_index=True)
    table = error_budget.error_budget(long).set_index("component")
    assert table.loc["prediction", "mean_mm"] == 3  # of (1 + 5) / 2 and 3
    assert set(table["not_measured"]) == {1}
    assert error_budget.holds_all_errors(table.reset_index(), long)
    assert not error_budget.holds_all_errors(table.reset_index(), long.iloc[:3])
    assert error_budget.error_budget(long.iloc[3:]).empty
    assert error_budget.holds_all_errors(pd.DataFrame(), long.iloc[3:])
