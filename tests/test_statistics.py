import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib import statistics

VALUES = np.random.default_rng(0).gamma(2, 1.5, 60)
ONE_EACH = np.array([f"s{n}" for n in range(60)])


def width(estimate):
    return estimate.high - estimate.low


def scipy_s(data, statistic, **how):
    """Ends of scipy's percentile bootstrap with the same seed."""
    draws = {"n_resamples": statistics.RESAMPLES, "rng": np.random.default_rng(statistics.SEED)}
    found = stats.bootstrap(data, statistic, method="percentile", **draws, **how).confidence_interval
    return pytest.approx((found.low, found.high), rel=1e-12)


@pytest.mark.parametrize("count", [2, 3, 17, 60, 200])
def test_with_one_value_a_subject_the_interval_is_scipy_s_percentile_bootstrap(count):
    for seed in range(4):
        values = np.random.default_rng(seed).gamma(2, 10.0**seed, count)
        found = statistics.bootstrap(values, np.arange(count))
        assert (found.low, found.high) == scipy_s((values,), np.mean)
        assert found.value == pytest.approx(float(np.mean(values)))


@pytest.mark.parametrize("count", [2, 3, 17, 60])
def test_with_subjects_of_unequal_size_the_interval_is_scipy_s_of_paired_sums_and_sizes(count):
    def mean_of(sums, sizes, axis):
        return sums.sum(axis) / sizes.sum(axis)

    for seed in range(4):
        draw = np.random.default_rng(seed)
        sizes = draw.integers(1, 9, count)
        subjects = draw.permutation(np.repeat(np.arange(count), sizes))
        values = draw.gamma(2, 10.0**seed, len(subjects))
        found = statistics.bootstrap(values, subjects)
        sums = np.bincount(subjects, values)
        assert (found.low, found.high) == scipy_s((sums, sizes.astype(float)), mean_of, paired=True)


def test_the_interval_of_four_subjects_counted_by_hand():
    # Sums of four draws from 0 to 3: 5 of 256 are at most 1 (2.0 %), 15 at most 2 (5.9 %), so 2.5 % lies at 2 / 4.
    found = statistics.bootstrap(np.arange(4.0), np.arange(4))
    assert (found.value, found.low, found.high, found.count) == (1.5, 0.5, 2.5, 4)


def test_the_interval_of_a_mean_is_about_that_of_the_normal_distribution():
    found = statistics.bootstrap(VALUES, ONE_EACH)
    assert width(found) == pytest.approx(2 * 1.96 * VALUES.std() / np.sqrt(60), rel=0.1)


def test_duplicated_images_of_a_subject_do_not_narrow_the_interval():
    by_subject = statistics.bootstrap(np.repeat(VALUES, 4), np.repeat(ONE_EACH, 4))
    by_image = statistics.bootstrap(np.repeat(VALUES, 4), np.arange(240))
    once = statistics.bootstrap(VALUES, ONE_EACH)
    assert (by_subject.low, by_subject.high) == pytest.approx((once.low, once.high))
    assert width(by_subject) == pytest.approx(2 * width(by_image), rel=0.15)  # four copies: half as wide


def test_nan_is_left_out_and_not_counted():
    spoilt, subjects = np.append(VALUES, [np.nan, np.nan]), np.append(ONE_EACH, ["s0", "new"])
    assert statistics.bootstrap(spoilt, subjects) == statistics.bootstrap(VALUES, ONE_EACH)
    assert statistics.bootstrap(spoilt, subjects).count == 60


@pytest.mark.parametrize("nobody", [None, np.nan, pd.NA])
def test_a_value_of_no_subject_is_refused_and_not_left_out(nobody):
    subjects = np.array(["a", "b", nobody, "d"], dtype=object)
    with pytest.raises(ValueError, match="1 of 4 values are of no subject, first value 3"):
        statistics.bootstrap(np.arange(4.0), subjects)


@pytest.mark.parametrize("name", ["nan", "NA", "None", "null", ""])
def test_a_subject_may_have_any_name(name):
    subjects = ["a", "b", name, name]
    found = statistics.bootstrap(np.array([1.0, 1.0, 0.0, 0.0]), np.array(subjects))
    assert (found.value, found.count) == (0.5, 4)


def test_the_same_values_give_the_same_interval_twice():
    assert statistics.bootstrap(VALUES, ONE_EACH) == statistics.bootstrap(VALUES.copy(), ONE_EACH)


def test_the_interval_follows_a_shift_and_a_scale():
    one, other = statistics.bootstrap(VALUES, ONE_EACH), statistics.bootstrap(3 * VALUES + 5, ONE_EACH)
    assert (other.value, other.low, other.high) == pytest.approx([3 * v + 5 for v in (one.value, one.low, one.high)])


def test_equal_values_have_an_interval_of_no_width():
    assert statistics.bootstrap(np.full(5, 0.9), np.arange(5)) == statistics.Estimate(0.9, 0.9, 0.9, 5)


def test_one_subject_has_a_value_without_an_interval():
    found = statistics.bootstrap(np.array([1.0, 3.0]), np.array(["a", "a"]))
    assert found.value == 2
    assert np.isnan([found.low, found.high]).all()
    assert found.count == 2


@pytest.mark.parametrize("values", [np.array([]), np.array([np.nan, np.nan])])
def test_no_value_is_nan_with_a_count_of_0(values):
    found = statistics.bootstrap(values, np.arange(len(values)))
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.count == 0


def test_limits_of_agreement_typed_out():
    bias, lower, upper = statistics.limits_of_agreement(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    # mean 3, variance 10 / 4
    assert (bias, lower, upper) == pytest.approx((3, 3 - 1.96 * np.sqrt(2.5), 3 + 1.96 * np.sqrt(2.5)))


def test_limits_of_agreement_turn_with_the_sign():
    bias, lower, upper = statistics.limits_of_agreement(VALUES)
    assert statistics.limits_of_agreement(-VALUES) == pytest.approx((-bias, -upper, -lower))


def test_limits_of_agreement_leave_out_nan():
    spoilt = np.append(VALUES, np.nan)
    assert statistics.limits_of_agreement(spoilt) == statistics.limits_of_agreement(VALUES)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan]])
def test_limits_of_agreement_need_two_differences(values):
    with pytest.raises(ValueError, match="differences; limits of agreement need at least 2"):
        statistics.limits_of_agreement(np.array(values))
