"""Agreement of two methods that measure the same quantity, several times in some subjects."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from lib.statistics import FEWEST_SUBJECTS, Estimate, mean_interval
from lib.statistics.jackknife import estimate, finite, jackknife, uncertainty

Z = 1.96  # as published; the normal quantile is 1.95996
EQUAL = 1e-6  # differences whose range is smaller are equal up to rounding, in any unit of the project
NORMAL_MEAN_DEVIATION = float(np.sqrt(2 / np.pi))  # mean absolute deviation of a normal variable in standard deviations
NAN = float("nan")


@dataclass(frozen=True)
class Limits:
    """Bias and 95 % limits of agreement, between which 95 % of single differences lie if they are normal."""

    bias: Estimate
    lower: Estimate
    upper: Estimate
    between_sd: float  # of the subjects' own mean differences; 0 if their estimated variance is negative
    within_sd: float  # of the differences of one subject, or then of all differences; NaN if no subject has two


@dataclass(frozen=True)
class ProportionalBias:
    """Regression on the size of the difference, and of its standard deviation around that line."""

    slope: Estimate  # change of the difference per unit of size
    intercept: float
    spread_slope: float  # 0 if its interval contains 0
    spread_intercept: float
    covariance: np.ndarray  # (4, 4), of slope, intercept, spread_slope and spread_intercept; NaN without intervals
    quantile: float  # of a 95 % interval

    @property
    def is_proportional(self) -> bool:
        """Whether the interval of the slope excludes 0; False without an interval."""
        return self.slope.low > 0 or self.slope.high < 0

    def limits_at(self, size: np.ndarray | float) -> tuple[np.ndarray | float, ...]:
        """Bias, lower and upper 95 % limit of agreement at a size. Source: Bland and Altman 1999."""
        bias = self.intercept + self.slope.value * size
        reach = Z * np.maximum(self.spread_intercept + self.spread_slope * size, 0)
        return bias, bias - reach, bias + reach

    def intervals_at(self, size: float) -> tuple[Estimate, Estimate, Estimate]:
        """`limits_at` a size with their intervals, from those of bias and spread as in `limits_of_agreement`.

        A spread that changes with size can be near 0 at one end, so its interval is not a ratio but symmetric.
        """
        weights = np.array([[size, 1, 0, 0], [0, 0, size, 1]])
        bias, _, upper = self.limits_at(size)
        covariance = weights @ self.covariance @ weights.T
        half = self.quantile * np.sqrt(covariance[0, 0])
        of_bias = replace(self.slope, value=float(bias), low=float(bias - half), high=float(bias + half))
        is_constant = self.spread_slope == 0
        return of_bias, *_limits_around(of_bias, float(upper - bias) / Z, covariance, self.quantile, is_constant)


@dataclass(frozen=True)
class Percentiles:
    """2.5 and 97.5 percentiles of differences, in place of limits of agreement where these are not normal."""

    p_normal: float  # Shapiro-Wilk; NaN below FEWEST_SUBJECTS subjects or if all differences are equal
    low: float  # NaN unless p_normal is below 5 %
    high: float


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided t tests of whether a mean difference lies between -margin and +margin."""

    bias: Estimate
    p_value: float  # the larger of the two; NaN without an interval

    @property
    def holds(self) -> bool:
        """Whether both tests reject at 5 %."""
        return self.p_value < 0.05


def limits_of_agreement(differences: np.ndarray, subjects: np.ndarray) -> Limits:
    """Limits of agreement of differences (N,), of which a subject (N,) may have several; its true value may change.

    The variance is the sum of the two components of a one-way random effects model. A negative component between
    subjects is set to 0; the model is then that of independent differences, so the other component is their variance,
    and the limits are the plain ones. The interval of a limit combines those of the bias and of the standard deviation
    (MOVER) and their correlation, all from a jackknife over subjects: the published intervals from chi-squared
    quantiles are too narrow for differences with heavy tails. NaN is ignored. There are no limits below two subjects,
    and no intervals below FEWEST_SUBJECTS.

    Source: Bland and Altman 2007, J Biopharm Stat 17:571 (variance); Thompson 1962, Ann Math Stat 33:273 (a negative
    component and the pooled rest); Zou 2013, Stat Methods Med Res 22:630 (MOVER).
    """
    bias = mean_interval(differences, subjects)
    (values,), codes = finite(subjects, differences)
    if bias.subjects < 2:
        none = estimate(NAN, NAN, len(values), codes)
        return Limits(bias, none, none, NAN, NAN)
    sums = _sums(values - values.mean(), codes)
    whole, groups = _components(sums.sum(axis=0), len(sums)), len(sums)
    with np.errstate(invalid="ignore", divide="ignore"):  # two subjects, of which none can be left out
        covariance, quantile = uncertainty(_mean_and_sd(_components(sums.sum(axis=0) - sums, groups - 1)))
    mean, sd = values.mean(), _mean_and_sd(whole)[1]
    lower, upper = _limits_around(estimate(mean, NAN, len(values), codes), sd, covariance, quantile)
    between, within = np.sqrt(whole[1:])
    return Limits(bias, lower, upper, float(between), float(within) if len(values) > groups else NAN)


def _limits_around(
    bias: Estimate, sd: float, covariance: np.ndarray, quantile: float, is_ratio: bool = True
) -> tuple[Estimate, Estimate]:
    """Lower and upper limit with their intervals, from the covariance (2, 2) of bias and standard deviation.

    The interval of the standard deviation is a ratio or symmetric.
    """
    of_bias, of_sd = quantile * np.sqrt(np.diag(covariance))
    relative = of_sd / (sd or 1)
    wide, narrow = (sd * np.expm1(relative), -sd * np.expm1(-relative)) if is_ratio else (of_sd, of_sd)
    correlation = covariance[0, 1] / (np.sqrt(covariance[0, 0] * covariance[1, 1]) or 1)
    (below_low, above_low), (below_high, above_high) = _margins(of_bias, Z * wide, Z * narrow, correlation)
    low, high = float(bias.value - Z * sd), float(bias.value + Z * sd)
    lower = replace(bias, value=low, low=low - below_low, high=low + above_low)
    return lower, replace(bias, value=high, low=high - below_high, high=high + above_high)


def percentiles_unless_normal(differences: np.ndarray, subjects: np.ndarray) -> Percentiles:
    """Percentiles between which 95 % of differences (N,) lie, where a test finds that these are not normal.

    The Shapiro-Wilk test is for independent values, so it has one difference per subject (N,): the first. It finds
    small deviations among many subjects, and none among few; so do the percentiles depend on many values, and to print
    them where they are not needed does no harm. Their rank is (n + 1) times the share: below 39 values they are the
    least and the largest. NaN is ignored.

    Source: Bland and Altman 1999, Stat Methods Med Res 8:135 (percentiles); Shapiro and Wilk 1965, Biometrika 52:591.
    """
    (values,), codes = finite(subjects, differences)
    _, places = np.unique(codes, return_index=True)
    first = values[places]
    if len(first) < FEWEST_SUBJECTS or np.ptp(first) < EQUAL:
        return Percentiles(NAN, NAN, NAN)
    p_normal = float(stats.shapiro(first).pvalue)
    low, high = np.quantile(values, [0.025, 0.975], method="weibull") if p_normal < 0.05 else (NAN, NAN)
    return Percentiles(p_normal, float(low), float(high))


def _margins(of_bias: float, wide: float, narrow: float, correlation: float) -> tuple[tuple[float, float], ...]:
    """Distances from the lower and the upper limit of agreement to the ends of their intervals, (below, above) each.

    From half the interval of the bias, and the distances of a limit's reach to the upper and the lower end of its own.
    """

    def joint(of_sd: float, sign: int) -> float:
        return float(np.sqrt(max(of_bias**2 + of_sd**2 + 2 * sign * correlation * of_bias * of_sd, 0)))

    return (joint(wide, -1), joint(narrow, -1)), (joint(narrow, 1), joint(wide, 1))


def _sums(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Sums by subject, (subjects, 5), from which `_components` are computed, so that one subject can be left out."""
    counts, sums = np.bincount(codes), np.bincount(codes, values)
    return np.stack([counts, sums, sums**2 / counts, np.bincount(codes, values**2), counts**2], axis=-1)


def _components(sums: np.ndarray, groups: int) -> np.ndarray:
    """Mean, variance between and within subjects from totals of `_sums`, (..., 5) to (..., 3).

    The variance within subjects is 0 if no subject has two values. If the one between them would be negative, it is 0,
    and that within them is the variance of all values. The other way, keeping the mean square within subjects, made the
    standard deviation 8 % too large where few subjects had two values (`docs/decisions.md`, 2026-11-28).
    """
    count, total, of_means, squares, squared_counts = np.moveaxis(sums, -1, 0)
    degrees = count - groups
    within = np.where(degrees > 0, (squares - of_means) / np.maximum(degrees, 1), 0)
    between = (of_means - total**2 / count) / (groups - 1)  # mean square
    size = (count - squared_counts / count) / (groups - 1)  # the mean number of values of a subject
    component, pooled = (between - within) / size, (squares - total**2 / count) / np.maximum(count - 1, 1)
    within = np.maximum(np.where(component < 0, pooled, within), 0)  # by rounding, a variance of 0 can be negative
    return np.stack([total / count, np.maximum(component, 0), within], axis=-1)


def _mean_and_sd(components: np.ndarray) -> np.ndarray:
    return np.stack([components[..., 0], np.sqrt(components[..., 1] + components[..., 2])], axis=-1)


def proportional_bias(differences: np.ndarray, sizes: np.ndarray, subjects: np.ndarray) -> ProportionalBias:
    """Regression of the difference (N,) and of its spread on the size (N,), with intervals by subject (N,).

    The intervals are those of a jackknife over subjects. Rows with NaN are ignored. Everything is NaN if all sizes are
    equal or fewer than three rows remain. Source: Bland and Altman 1999, Stat Methods Med Res 8:135.
    """
    (y, x), codes = finite(subjects, differences, sizes)
    coefficients, covariance, quantile = jackknife(lambda rows: _regression(x[rows], y[rows]), codes)
    slope = estimate(coefficients[0], quantile * np.sqrt(covariance[0, 0]), len(x), codes)
    is_sloped = abs(coefficients[2]) > quantile * np.sqrt(covariance[2, 2])
    kept = [0, 1, 2, 3] if is_sloped else [0, 1, 4, 5]
    _, *others = map(float, coefficients[kept])
    return ProportionalBias(slope, *others, covariance[np.ix_(kept, kept)], quantile)


def _regression(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slope and intercept of y on x, of its standard deviation on x, and of that without a slope, (6,)."""
    slope, intercept = _line(x, y)
    residuals = y - intercept - slope * x
    spread = _line(x, np.abs(residuals) / NORMAL_MEAN_DEVIATION)
    return np.array([slope, intercept, *spread, 0 * slope, np.sqrt(np.square(residuals).sum() / max(len(x) - 2, 1))])


def _line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slope and intercept of the least-squares line; NaN below three points or if all x are equal."""
    if len(x) < 3 or np.ptp(x) == 0:
        return np.array([NAN, NAN])
    centred = x - x.mean()
    slope = (centred * y).sum() / (centred**2).sum()
    return np.array([slope, y.mean() - slope * x.mean()])


def equivalence(differences: np.ndarray, subjects: np.ndarray, margin: float) -> Equivalence:
    """Tests whether the mean of differences (N,) lies within the margin, by subject (N,): two one-sided t tests (TOST).

    The standard error is that of a jackknife over subjects.
    """
    (values,), codes = finite(subjects, differences)
    (mean,), covariance, _ = jackknife(lambda rows: values[rows].mean() if rows.any() else NAN, codes)
    error, room = float(np.sqrt(covariance[0, 0])), margin - abs(mean)
    ratio = room / error if error > 0 else np.sign(room) * np.inf if error == 0 else NAN
    return Equivalence(mean_interval(differences, subjects), float(stats.t.sf(ratio, codes.max(initial=0))))
