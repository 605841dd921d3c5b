"""Agreement and reliability: worked examples of the literature, known answers, bad input."""

import numpy as np
import pytest
from scipy import stats

from lib.statistics import agreement, jackknife, reliability

# Bland and Altman 1986, Lancet 1:307, table 1: peak expiratory flow (l/min), first reading by each meter.
WRIGHT = np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427], float)
MINI = np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451], float)
# Bland and Altman 1999, table 4: cardiac output by radionuclide ventriculography and impedance, 12 subjects.
COUNTS = [5, 4, 6, 5, 6, 4, 4, 6, 3, 5, 6, 6]
RV = """7.83 7.42 7.89 7.12 7.88 6.16 7.26 6.71 6.54 4.75 5.24 4.86 4.78 6.05 5.42 4.21 3.61 3.72 3.87 3.92 3.13 2.98
2.85 3.17 3.09 3.12 5.92 6.42 5.92 6.27 7.13 6.62 6.58 6.93 4.54 4.81 5.11 5.29 5.39 5.57 4.48 4.92 3.97 4.22 4.65 4.74
4.44 4.50 6.78 6.07 6.52 6.42 6.41 5.76 5.06 4.72 4.90 4.80 4.90 5.10"""
IC = """6.57 5.62 6.90 6.57 6.35 4.06 4.29 4.26 4.09 4.71 5.50 5.08 5.02 6.01 5.67 4.14 4.20 4.61 4.68 5.04 3.03 2.86
2.77 2.46 2.32 2.43 5.90 5.81 5.70 5.76 5.09 4.63 4.61 5.09 4.72 4.61 4.36 4.20 4.36 4.20 3.17 3.12 2.96 4.35 4.62 3.16
3.53 3.53 7.20 6.09 7.00 7.10 7.40 6.80 4.50 4.20 3.80 3.80 4.20 4.50"""
CARDIAC = np.subtract(*([float(value) for value in text.split()] for text in (RV, IC)))
OWNERS = np.repeat(np.arange(12), COUNTS)
# Bland and Altman 1999, table 3: fat in human milk (g/100 ml) by enzymic hydrolysis of triglycerides and by Gerber.
TRIG = """0.96 1.16 0.97 1.01 1.25 1.22 1.46 1.66 1.75 1.72 1.67 1.67 1.93 1.99 2.01 2.28 2.15 2.29 2.45 2.40 2.79 2.77
2.64 2.73 2.67 2.61 3.01 2.93 3.18 3.18 3.19 3.12 3.33 3.51 3.66 3.95 4.20 4.05 4.30 4.74 4.71 4.71 4.74 5.23 6.21"""
GERBER = """0.85 1.00 1.00 1.00 1.20 1.20 1.38 1.65 1.68 1.70 1.70 1.70 1.88 2.00 2.05 2.17 2.20 2.28 2.43 2.55 2.60
2.65 2.67 2.70 2.70 2.70 3.00 3.02 3.03 3.11 3.15 3.15 3.40 3.42 3.62 3.95 4.27 4.30 4.35 4.75 4.79 4.80 4.80 5.42
6.20"""
FAT = np.array([[float(value) for value in text.split()] for text in (TRIG, GERBER)])
# Shrout and Fleiss 1979, table 2: six targets by four judges.
JUDGED = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def test_peak_flow_meters_have_the_bias_and_the_limits_of_bland_and_altman_1986():
    limits = agreement.limits_of_agreement(WRIGHT - MINI, np.arange(17))
    assert round(limits.bias.value, 1) == -2.1
    sd = (limits.upper.value - limits.bias.value) / agreement.Z
    assert round(sd, 1) == 38.8
    assert np.isnan(limits.within_sd)
    # The paper's approximate interval of the lower limit is -114.3 to -45.1: with the SD's skewness it lies lower.
    assert limits.lower.low < -114.3
    assert limits.lower.low < limits.lower.value < limits.lower.high
    assert limits.lower.high - limits.lower.low == pytest.approx(114.3 - 45.1, rel=0.25)


def test_cardiac_output_has_the_variance_components_of_bland_and_altman_1999():
    limits = agreement.limits_of_agreement(CARDIAC, OWNERS)
    assert limits.within_sd == pytest.approx(0.413, abs=0.0005)  # REML of the R package BAtrending on the same data
    assert limits.between_sd == pytest.approx(0.934, abs=0.04)  # there by REML; here by analysis of variance
    groups = [CARDIAC[owner == OWNERS] for owner in range(12)]
    ratio = stats.f_oneway(*groups).statistic  # mean squares between and within, by scipy
    size = (60**2 - np.square(COUNTS).sum()) / (11 * 60)
    total = limits.within_sd**2 * (1 + (ratio - 1) / size)
    assert limits.upper.value == pytest.approx(CARDIAC.mean() + agreement.Z * np.sqrt(total))
    assert limits.lower.value == pytest.approx(CARDIAC.mean() - agreement.Z * np.sqrt(total))
    assert limits.upper.low < limits.upper.value < limits.upper.high


def test_four_subjects_have_about_the_published_limits_and_no_interval():
    rows = OWNERS < 4
    limits = agreement.limits_of_agreement(CARDIAC[rows], OWNERS[rows])
    # -2.14 and 3.59 in the R package SimplyAgree (Zou 2013), which gives every subject the same weight.
    assert limits.upper.value - limits.lower.value == pytest.approx(3.59 + 2.14, rel=0.05)
    assert np.isnan([limits.lower.low, limits.lower.high, limits.upper.low, limits.bias.low]).all()


def test_one_measurement_a_subject_has_nearly_the_exact_interval_where_differences_are_normal():
    count = 101
    scores = stats.norm.ppf((np.arange(count) + 0.5) / count)
    scores /= scores.std(ddof=1)
    upper = agreement.limits_of_agreement(scores, np.arange(count)).upper
    exact = stats.nct.ppf([0.025, 0.975], count - 1, agreement.Z * np.sqrt(count)) / np.sqrt(count)  # Carkeet 2015
    assert [upper.low, upper.high] == pytest.approx(exact, abs=0.06)  # widths 0.68
    assert upper.value == pytest.approx(agreement.Z)


def test_limits_follow_shift_scale_and_sign_and_do_not_depend_on_order_or_names():
    limits = agreement.limits_of_agreement(CARDIAC, OWNERS)
    order = np.random.default_rng(0).permutation(60)
    other = agreement.limits_of_agreement(5 - 3 * CARDIAC[order], np.array([f"s{owner}" for owner in OWNERS])[order])
    for end, from_end in (("low", "high"), ("value", "value"), ("high", "low")):
        assert getattr(other.lower, end) == pytest.approx(5 - 3 * getattr(limits.upper, from_end))
    assert other.within_sd == pytest.approx(3 * limits.within_sd)


def test_a_slope_and_the_limits_around_it_are_those_of_least_squares():
    x, subjects = np.linspace(50, 350, 40), np.arange(40) // 2
    noise = np.tile([1.0, -2.0, 2.0, -1.0], 10)
    y = -3 + 0.02 * x + noise
    fitted = agreement.proportional_bias(y, x, subjects)
    expected = stats.linregress(x, y)
    assert (fitted.slope.value, fitted.intercept) == pytest.approx((expected.slope, expected.intercept))
    assert fitted.is_proportional
    assert fitted.slope.low < 0.02 < fitted.slope.high
    assert fitted.spread_slope == 0
    sd = np.sqrt(np.square(y - expected.intercept - expected.slope * x).sum() / 38)
    line = expected.intercept + 100 * expected.slope
    assert fitted.limits_at(100.0) == pytest.approx((line, line - agreement.Z * sd, line + agreement.Z * sd))
    assert agreement.proportional_bias(-y, x, subjects).is_proportional
    # a spread that grows with the size: limits widen as in Bland and Altman 1999, 2.46 times the absolute residual
    wider = agreement.proportional_bias(noise * x / 100, x, subjects)
    residuals = noise * x / 100 - wider.intercept - wider.slope.value * x
    absolute = stats.linregress(x, np.abs(residuals))
    bias, _, upper = wider.limits_at(np.array([100.0, 300.0]))
    assert upper - bias == pytest.approx(2.456 * (absolute.intercept + absolute.slope * np.array([100, 300])), rel=1e-3)
    assert not wider.is_proportional


def test_fat_in_milk_has_the_regression_of_bland_and_altman_1999_and_its_limits_have_intervals():
    differences, means, samples = FAT[0] - FAT[1], FAT.mean(axis=0), np.arange(45)
    fitted = agreement.proportional_bias(differences, means, samples)
    assert (round(fitted.intercept, 3), round(fitted.slope.value, 4)) == (0.079, -0.0283)
    assert (round(fitted.spread_intercept, 5), fitted.spread_slope) == (0.08033, 0)
    assert fitted.is_proportional
    error = stats.linregress(means, differences).stderr
    assert fitted.slope.high - fitted.slope.low == pytest.approx(2 * stats.t.ppf(0.975, 43) * error, rel=0.1)
    spread, moment = fitted.spread_intercept, np.square(means - means.mean()).sum()
    for size in (1.5, 3.0, 4.5):
        of_bias, *limits = fitted.intervals_at(size)
        assert [each.value for each in (of_bias, *limits)] == pytest.approx([*fitted.limits_at(size)])
        leverage = 1 / 45 + (size - means.mean()) ** 2 / moment  # of a regression with normal residuals
        half = stats.t.ppf(0.975, 43) * spread * np.sqrt(leverage)
        assert of_bias.high - of_bias.low == pytest.approx(2 * half, rel=0.25)
        half = stats.t.ppf(0.975, 43) * spread * np.sqrt(leverage + agreement.Z**2 / (2 * 43))
        for limit in limits:
            assert 0.9 < (limit.high - limit.low) / (2 * half) < 1.4  # the residuals are not normal
            assert limit.low < limit.value < limit.high


def test_limits_of_a_slope_in_a_large_sample_have_the_interval_of_normal_theory_where_the_spread_changes_too():
    random = np.random.default_rng(7)
    sizes = random.uniform(50, 350, 2000)
    flat, wider = random.normal(0, 2, 2000), random.normal(0, 0.02, 2000) * sizes
    fitted = agreement.proportional_bias(1 + 0.01 * sizes + flat, sizes, np.arange(2000))
    half = agreement.Z * 2 * np.sqrt((1 + 100**2 / np.var(sizes) + agreement.Z**2 / 2) / 2000)
    upper = fitted.intervals_at(sizes.mean() + 100)[2]
    assert upper.high - upper.low == pytest.approx(2 * half, rel=0.05)
    sloped = agreement.proportional_bias(1 + 0.01 * sizes + wider, sizes, np.arange(2000))
    assert sloped.spread_slope == pytest.approx(0.02, rel=0.15)
    for size in (100.0, 300.0):
        bias, lower, upper = sloped.intervals_at(size)
        truth = 1 + 0.01 * size + np.array([0, -1, 1]) * agreement.Z * 0.02 * size
        for each, value in zip((bias, lower, upper), truth):
            assert each.low < value < each.high
    ends = [each.high - each.low for each in (sloped.intervals_at(size)[2] for size in (100.0, 300.0))]
    assert ends[1] > 1.5 * ends[0]


def test_subjects_that_differ_by_less_than_chance_have_no_component_and_all_differences_are_independent():
    values, owners = np.array([1.0, -1, 2, -2]), np.array([0, 0, 1, 1])
    limits = agreement.limits_of_agreement(values, owners)
    # Mean squares 0 between and (2 + 8) / 2 = 5 within, so (0 - 5) / 2 between; the variance of all is 10 / 3.
    assert (limits.between_sd, limits.within_sd) == (0, pytest.approx(np.sqrt(10 / 3)))
    assert limits.upper.value == pytest.approx(agreement.Z * np.sqrt(10 / 3))
    apart = agreement.limits_of_agreement(values, np.arange(4))
    assert (apart.lower.value, apart.upper.value) == pytest.approx((limits.lower.value, limits.upper.value))
    # with as much between as within subjects by chance, both ways agree: there is no jump
    ends = []
    for shift in (0.999, 1.001):
        shifted = values + shift * np.sqrt(2.5) * np.array([1, 1, -1, -1])
        ends.append(agreement.limits_of_agreement(shifted, owners).upper.value)
    assert ends[0] == pytest.approx(ends[1], rel=2e-3)


def test_percentiles_are_ranks_of_the_differences_and_given_only_if_one_a_subject_is_not_normal():
    scores = stats.norm.ppf((np.arange(79) + 0.5) / 79)
    assert agreement.percentiles_unless_normal(scores, np.arange(79)).p_normal > 0.9
    assert np.isnan(agreement.percentiles_unless_normal(scores, np.arange(79)).low)
    skewed = np.exp(scores)
    found = agreement.percentiles_unless_normal(skewed, np.arange(79))
    assert found.p_normal == stats.shapiro(skewed).pvalue < 0.001
    assert (found.low, found.high) == pytest.approx((skewed[1], skewed[-2]))  # ranks 80 times 0.025 and 0.975
    # the test has the first difference of each subject, the percentiles have all of them
    twice, owners = np.concatenate([skewed, 100 + scores]), np.tile(np.arange(79), 2)
    again = agreement.percentiles_unless_normal(twice, owners)
    assert again.p_normal == found.p_normal
    assert again.high > 100
    few = agreement.percentiles_unless_normal(np.array([0.0, 0, 0, 0, 0, 50]), np.arange(6))
    assert (few.low, few.high) == (0, 50)  # below 39 values, the least and the largest
    for values in (np.arange(5.0) ** 9, np.full(9, 1.5) + 1e-12 * np.arange(9), np.array([])):
        assert np.isnan(agreement.percentiles_unless_normal(values, np.arange(len(values))).p_normal)


def test_judges_have_the_icc_of_shrout_and_fleiss_1979_and_the_concordance_of_lins_formula():
    icc = reliability.intraclass_correlation(JUDGED, np.arange(6))
    assert round(icc.value, 2) == 0.29
    assert icc.low < 0.29 < icc.high
    first, last = JUDGED[:, 0], JUDGED[:, 3]
    concordance = reliability.concordance(first, last, np.arange(6))
    covariance = np.cov(first, last, ddof=0)
    expected = 2 * covariance[0, 1] / (np.trace(covariance) + (first.mean() - last.mean()) ** 2)
    assert concordance.value == pytest.approx(expected) == pytest.approx(0.60526, abs=1e-5)


def test_the_interval_of_a_concordance_is_that_of_lin_in_a_large_sample():
    random = np.random.default_rng(4)
    first = random.normal(size=800)
    second = 0.2 + first + random.normal(0, 0.5, 800)
    found = reliability.concordance(first, second, np.arange(800))
    r, value = np.corrcoef(first, second)[0, 1], found.value
    shift = (second.mean() - first.mean()) ** 2 / (first.std() * second.std())
    # Lin 1989, with the correction of 2000, as in the R package epiR
    variance = (1 - r**2) * value**2 * (1 - value**2) / r**2 + 2 * value**3 * (1 - value) * shift / r
    variance = (variance - value**4 * shift**2 / (2 * r**2)) / 798 / (1 - value**2) ** 2
    expected = np.tanh(np.arctanh(value) + np.array([-1, 1]) * 1.96 * np.sqrt(variance))
    assert [found.low, found.high] == pytest.approx(expected, abs=0.004)
    icc = reliability.intraclass_correlation(np.stack([first, second], 1), np.arange(800))
    assert [icc.value, icc.low, icc.high] == pytest.approx([found.value, found.low, found.high], abs=0.002)


def test_images_of_one_subject_widen_every_interval():
    values, subjects = np.repeat(WRIGHT - MINI, 4), np.repeat(np.arange(17), 4)
    noise = np.tile([1.0, -1.0, 2.0, -2.0], 17)
    grouped = agreement.limits_of_agreement(values + noise, subjects)
    apart = agreement.limits_of_agreement(values + noise, np.arange(68))
    assert grouped.upper.high - grouped.upper.low > 1.8 * (apart.upper.high - apart.upper.low)
    sizes = np.repeat(WRIGHT, 4) + noise
    slopes = [agreement.proportional_bias(values, sizes, each).slope for each in (subjects, np.arange(68))]
    assert slopes[0].high - slopes[0].low > 1.6 * (slopes[1].high - slopes[1].low)


@pytest.mark.parametrize(("shift", "holds"), [(0.0, True), (2.0, True), (2.9, False), (3.5, False), (-3.5, False)])
def test_equivalence_is_a_one_sided_t_test_against_each_margin(shift, holds):
    values = shift + np.tile([-1.0, 1.0], 10)
    found = agreement.equivalence(values, np.arange(20), 3.0)
    tests = stats.ttest_1samp(values, -3, alternative="greater"), stats.ttest_1samp(values, 3, alternative="less")
    assert found.p_value == pytest.approx(max(test.pvalue for test in tests))
    assert found.holds is holds or found.holds == holds


def test_equal_differences_have_no_spread_and_are_equivalent_within_the_margin_only():
    subjects, sizes = np.arange(8), np.linspace(100, 300, 8)
    limits = agreement.limits_of_agreement(np.full(8, 1.5), subjects)
    for each in (limits.bias, limits.lower, limits.upper):
        assert (each.value, each.low, each.high) == pytest.approx((1.5, 1.5, 1.5))
    slope = agreement.proportional_bias(np.full(8, 1.5), sizes, subjects).slope
    assert (slope.value, slope.low, slope.high) == pytest.approx((0, 0, 0), abs=1e-12)
    p_values = [agreement.equivalence(np.full(8, 1.5), subjects, margin).p_value for margin in (2.0, 1.0)]
    assert p_values == [0, 1]
    same = np.linspace(1, 2, 8)
    perfect = reliability.concordance(same, same, subjects)
    assert perfect.value == pytest.approx(1)
    assert np.isnan(perfect.low)
    assert np.isnan(agreement.proportional_bias(sizes, np.full(8, 2.0), subjects).slope.value)  # equal sizes
    assert np.isnan(reliability.concordance(np.ones(8), np.ones(8), subjects).value)


def test_too_few_subjects_have_no_interval_and_one_subject_no_limits():
    assert np.isnan(agreement.equivalence(CARDIAC[:20], OWNERS[:20], 3.0).p_value)
    assert not agreement.equivalence(CARDIAC[:20], OWNERS[:20], 3.0).holds
    one = agreement.limits_of_agreement(CARDIAC[:5], OWNERS[:5])
    assert (one.bias.value, one.bias.subjects) == (pytest.approx(CARDIAC[:5].mean()), 1)
    assert np.isnan([one.lower.value, one.upper.value, one.within_sd]).all()
    for values in ([], [1.0], [np.nan, 2.0]):
        limits = agreement.limits_of_agreement(np.array(values), np.arange(len(values)))
        assert np.isnan([limits.lower.value, limits.upper.value]).all()
        slope = agreement.proportional_bias(np.array(values), np.ones(len(values)), np.arange(len(values)))
        assert np.isnan(slope.slope.value)
        assert not slope.is_proportional
        icc = reliability.intraclass_correlation(np.ones((len(values), 2)), np.arange(len(values)))
        assert np.isnan([icc.value, icc.low]).all()


def test_nan_rows_are_ignored_and_a_missing_subject_is_refused():
    holed, owners = np.append(CARDIAC, np.nan), np.append(OWNERS, 99)
    expected = agreement.limits_of_agreement(CARDIAC, OWNERS)
    assert agreement.limits_of_agreement(holed, owners) == expected
    assert expected.upper.count == 60
    assert expected.upper.subjects == 12
    with pytest.raises(ValueError, match="1 of 3 values have no subject, the first is value 2"):
        jackknife.finite(np.array(["a", None, "b"], object), np.ones(3))
    with pytest.raises(ValueError, match=r"\[3, 2\] values, 3 subjects; expected equal numbers"):
        jackknife.finite(np.arange(3), np.ones(3), np.ones(2))
