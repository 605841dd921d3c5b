import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib import statistics

VALUES = np.random.default_rng(0).gamma(2, 1.5, 60)
ONE_EACH = np.array([f"s{n}" for n in range(60)])


@pytest.mark.parametrize("largest", [1, 8])
@pytest.mark.parametrize("count", [2, 3, 17, 60, 200])
def test_the_interval_is_scipy_s_percentile_bootstrap_of_paired_sums_and_sizes(count, largest):
    def mean_of(sums, sizes, axis):
        return sums.sum(axis) / sizes.sum(axis)

    for seed in range(4):
        draw = np.random.default_rng(seed)
        sizes = draw.integers(1, largest + 1, count)
        subjects = draw.permutation(np.repeat(np.arange(count), sizes))
        values = draw.gamma(2, 10.0**seed, len(subjects))
        estimate = statistics.bootstrap(values, subjects)
        draws = {"n_resamples": statistics.RESAMPLES, "rng": np.random.default_rng(statistics.SEED)}
        pairs = np.bincount(subjects, values), sizes.astype(float)
        interval = stats.bootstrap(pairs, mean_of, method="percentile", paired=True, **draws).confidence_interval
        assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high), rel=1e-12)
        assert estimate.value == pytest.approx(values.mean())


@pytest.mark.parametrize(
    ("values", "subjects", "expected"),
    [
        # Sums of four draws from 0 to 3: 5 of 256 are at most 1 (2.0 %), 15 at most 2 (5.9 %), so 2.5 % lies at 2 / 4.
        ([0, 1, 2, 3], [0, 1, 2, 3], (1.5, 0.5, 2.5, 4)),
        ([0.9] * 5, [0, 1, 2, 3, 4], (0.9, 0.9, 0.9, 5)),
        ([1, 3], ["a", "a"], (2, np.nan, np.nan, 2)),  # one subject has no interval
        ([], [], (np.nan, np.nan, np.nan, 0)),
        ([np.nan, np.nan], ["a", "b"], (np.nan, np.nan, np.nan, 0)),
        *[([1, 1, 0, 0], [name, name, "b", "c"], (0.5, 0, 1, 4)) for name in ("nan", "NA", "None", "null", "")],
    ],
)
def test_estimates_counted_by_hand(values, subjects, expected):
    estimate = statistics.bootstrap(np.array(values, float), np.array(subjects))
    assert (estimate.value, estimate.low, estimate.high, estimate.count) == pytest.approx(expected, nan_ok=True)


def test_nan_is_ignored_and_not_counted():
    values, subjects = np.append(VALUES, [np.nan, np.nan]), np.append(ONE_EACH, ["s0", "new"])
    assert statistics.bootstrap(values, subjects) == statistics.bootstrap(VALUES, ONE_EACH)
    assert statistics.limits_of_agreement(values) == statistics.limits_of_agreement(VALUES)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_value_without_a_subject_is_refused_and_not_ignored(missing):
    subjects = np.array(["a", "b", missing, "d"], dtype=object)
    with pytest.raises(ValueError, match="1 of 4 values have no subject, the first is value 3"):
        statistics.bootstrap(np.arange(4.0), subjects)


def test_limits_of_agreement_typed_out_need_two_differences():
    limits = statistics.limits_of_agreement(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert limits == pytest.approx((3, 3 - 1.96 * np.sqrt(2.5), 3 + 1.96 * np.sqrt(2.5)))  # mean 3, variance 10 / 4
    two = statistics.limits_of_agreement(np.array([1.0, 3.0]))
    assert two == pytest.approx((2, 2 - 1.96 * np.sqrt(2), 2 + 1.96 * np.sqrt(2)))
    for values in ([], [1.0], [1.0, np.nan]):
        with pytest.raises(ValueError, match="differences; limits of agreement need at least 2"):
            statistics.limits_of_agreement(np.array(values))
