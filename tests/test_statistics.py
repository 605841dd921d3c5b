import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import coverage
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
    median = statistics.median_interval(np.array(values, float), np.array(subjects))
    assert tuple(vars(median).values()) == pytest.approx((pd.Series(values).median(), *expected[1:]), nan_ok=True)


def test_nan_is_ignored_and_not_counted():
    values, subjects = np.append(VALUES, [np.nan, np.nan]), np.append(ONE_EACH, ["s0", "new"])
    for interval in (statistics.mean_interval, statistics.median_interval):
        assert interval(values, subjects) == interval(VALUES, ONE_EACH)


def bootstrap_t_in_a_loop(values, subjects):
    """The limits of `mean_interval` by their definition: one resample at a time, one subject at a time."""
    names, codes = np.unique(subjects, return_inverse=True)
    groups = [values[codes == code] for code in range(len(names))]
    count, mean = len(groups), values.mean()
    draw, shape = np.random.default_rng(statistics.SEED), (statistics.RESAMPLES, count)
    weights = np.sin(np.pi / 2 * draw.random(shape)) ** 2 * draw.random(shape)
    assert stats.kstest(weights.ravel(), stats.beta(0.5, 1.5).cdf).pvalue > 0.01

    def error_of(weight, mean):
        total = sum(w * len(group) for w, group in zip(weight, groups))
        return np.sqrt(sum(w * (group - mean).sum() ** 2 for w, group in zip(weight, groups)) / (count - 1)) / total

    ratios = []
    for weight in weights / weights.sum(axis=1, keepdims=True):
        weighted = np.average(values, weights=weight[codes])
        ratios.append((weighted - mean) / error_of(weight, weighted))
    error = error_of(np.full(count, 1 / count), mean)
    tail = max(0.0125, stats.norm.cdf(np.sqrt(count / (count - 1)) * stats.t.ppf(0.025, count - 1)))
    return mean - np.quantile(ratios, [1 - tail, tail]) * error


@pytest.mark.parametrize("count", [6, 25])  # the least tail, and Hesterberg's
def test_the_interval_of_a_mean_is_the_one_computed_in_a_loop(count):
    subjects = np.arange(4 * count) % count // np.array([1, 2, 1, 1] * count)  # some have more values than others
    values = np.random.default_rng(1).gamma(2, 1, len(subjects))
    estimate = statistics.mean_interval(values, subjects)
    assert (estimate.low, estimate.high) == pytest.approx(bootstrap_t_in_a_loop(values, subjects), rel=1e-9)
    sums, sizes = (np.bincount(subjects, weights)[np.unique(subjects)] for weights in (values, None))
    batch = statistics.bootstrap_t(np.stack([sums, 2 * sums]), np.stack([sizes, sizes]).astype(float))
    assert [batch[0][0], batch[1][0]] == pytest.approx([estimate.low, estimate.high])
    assert [batch[0][1], batch[1][1]] == pytest.approx([2 * estimate.low, 2 * estimate.high])


def test_intervals_follow_scale_and_shift_and_a_block_of_weights_changes_only_the_draw(monkeypatch):
    for interval in (statistics.mean_interval, statistics.median_interval):
        plain, changed = interval(VALUES, ONE_EACH), interval(3 - 2 * VALUES, ONE_EACH)
        assert plain.low < plain.value < plain.high
        assert changed.value == pytest.approx(3 - 2 * plain.value)
    assert (changed.low, changed.high) == pytest.approx((3 - 2 * plain.high, 3 - 2 * plain.low))  # of the median
    many = statistics.mean_interval(VALUES, ONE_EACH, resamples=20_000)
    monkeypatch.setattr(statistics, "BLOCK", 60 * 7)
    few = statistics.mean_interval(VALUES, ONE_EACH, resamples=20_000)
    assert (few.low, few.high) == pytest.approx((many.low, many.high), rel=0.01)
    assert few != many


def test_a_limit_beyond_the_values_is_cut():
    failed = statistics.mean_interval(np.array([0.9, 1, 1, 1, 1, 0]), np.arange(6))  # would be -2.9 to 1.1
    assert (failed.low, failed.high) == (0, 1)


@pytest.mark.parametrize("interval", [statistics.mean_interval, statistics.median_interval])
def test_images_of_a_subject_that_are_alike_tell_no_more_than_one(interval):
    once, thrice = interval(VALUES, ONE_EACH), interval(np.repeat(VALUES, 3), np.repeat(ONE_EACH, 3))
    ignored = interval(np.repeat(VALUES, 3), np.arange(180))
    assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=0.06)
    assert ignored.high - ignored.low < 0.7 * (once.high - once.low)


def test_ranks_of_the_limits_of_a_median_are_those_of_the_binomial_distribution_and_of_hutson():
    for count, share in ((59, 0.3750191), (37, 0.3441421)):  # rank / (n + 1) of flood data, Hutson 1999, table 8
        assert statistics.lower_rank(count) / (count + 1) == pytest.approx(share, abs=5e-5)
    for count in (6, 10, 23, 100):
        whole = stats.binom.ppf(0.025, count, 0.5)  # the largest whole rank that leaves out at most 2.5 %
        assert whole <= statistics.lower_rank(count) < whole + 1
    assert [statistics.lower_rank(count) for count in (1, 5)] == [1, 1]  # the minimum leaves out more
    estimate = statistics.median_interval(np.arange(1.0, 60), np.arange(59))
    assert (estimate.value, estimate.low) == (30, pytest.approx(60 * 0.3750191, abs=3e-3))
    assert estimate.high == pytest.approx(60 - estimate.low)


@pytest.mark.parametrize(
    ("values", "subjects", "number"),
    [
        ([0, 1, 1, 0, 1], [1, 2, 3, 4, 5], 5),  # one value each
        ([0, 0, 1, 1], ["a", "a", "b", "b"], 4 / 3 * (3.182446 / 12.706205) ** 2),  # design effect 4 : 4 / 3 = 3
        ([1, 1, 1, 1], ["a", "a", "b", "b"], 2),
        ([1, 0], ["a", "a"], 1),
    ],
)
def test_the_effective_number_counted_by_hand(values, subjects, number):
    counted = statistics.effective_number(np.array(values, float), np.array(subjects))
    assert counted == pytest.approx(number, rel=1e-6)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.883, 1),
    ],
)
def test_wilson_s_interval_is_that_of_newcombe_1998_table_1_and_of_scipy(hits, total, low, high):
    value, *limits = statistics.proportion_interval(hits, total)
    assert value == hits / total
    assert limits == pytest.approx([low, high], abs=5e-5)
    assert limits == pytest.approx(stats.binomtest(hits, total).proportion_ci(method="wilson"), abs=1e-12)
    assert np.isnan(statistics.proportion_interval(0, 0)).all()


def test_measured_coverage_is_that_of_the_next_smaller_number_and_keeps_what_docs_promise():
    assert statistics.measured_coverage(5) is None
    assert statistics.measured_coverage(29) == statistics.measured_coverage(20)
    table = pd.read_csv(statistics.COVERAGE).set_index("subjects")
    assert table.index[0] == statistics.FEWEST_SUBJECTS
    assert (table.loc[[10, 20, 30], "lowest_mean"] >= [90, 92, 93]).all()
    assert (table[["highest_mean", "highest_median"]] <= 98).all(axis=None)


@pytest.mark.slow
def test_coverage_of_a_part_of_the_benchmark_is_what_coverage_csv_says(monkeypatch):
    monkeypatch.setattr(coverage, "SUBJECTS", (10,))
    measured, table = coverage.by_subjects(coverage.measure()), pd.read_csv(statistics.COVERAGE)
    pd.testing.assert_frame_equal(measured, table[table["subjects"] == 10].reset_index(drop=True))


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_value_without_a_subject_is_refused_and_not_ignored(missing):
    subjects = np.array(["a", "b", missing, "d"], dtype=object)
    with pytest.raises(ValueError, match="1 of 4 values have no subject, the first is value 3"):
        statistics.mean_interval(np.arange(4.0), subjects)
    with pytest.raises(ValueError, match="1 of 4 values have no subject, the first is value 3"):
        statistics.median_interval(np.arange(4.0), subjects)
