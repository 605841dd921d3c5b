import numpy as np
import pandas as pd
import pytest

from lib import statistics

VALUES = np.random.default_rng(0).gamma(2, 1.5, 60)
ONE_EACH = np.array([f"s{n}" for n in range(60)])


@pytest.mark.parametrize(
    ("values", "subjects", "expected"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], (1.5, np.nan, np.nan, 4, 4, 0, 3)),  # too few subjects for an interval
        ([0.9] * 6, range(6), (0.9, 0.9, 0.9, 6, 6, 0.9, 0.9)),
        ([1, 3], ["a", "a"], (2, np.nan, np.nan, 2, 1, 1, 3)),
        ([], [], (np.nan, np.nan, np.nan, 0, 0, np.nan, np.nan)),
        ([np.nan, np.nan], ["a", "b"], (np.nan, np.nan, np.nan, 0, 0, np.nan, np.nan)),
        *[([1, 1, 0], [name, name, "b"], (2 / 3, np.nan, np.nan, 3, 2, 0, 1)) for name in ("nan", "NA", "None", "")],
    ],
)
def test_estimates_counted_by_hand(values, subjects, expected):
    estimate = statistics.mean_interval(np.array(values, float), np.array(subjects))
    assert tuple(vars(estimate).values()) == pytest.approx(expected, nan_ok=True)


def test_nan_is_ignored_and_not_counted():
    values, subjects = np.append(VALUES, [np.nan, np.nan]), np.append(ONE_EACH, ["s0", "new"])
    assert statistics.mean_interval(values, subjects) == statistics.mean_interval(VALUES, ONE_EACH)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_value_without_a_subject_is_refused_and_not_ignored(missing):
    subjects = np.array(["a", "b", missing, "d"], dtype=object)
    with pytest.raises(ValueError, match="1 of 4 values have no subject, the first is value 3"):
        statistics.mean_interval(np.arange(4.0), subjects)
