"""Agreement of two methods that measure the same quantity, several times in some subjects."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from lib.statistics import Estimate, mean_interval
from lib.statistics.jackknife import estimate, finite, jackknife, uncertainty

Z = 1.96  # as published; the normal quantile is 1.95996
NORMAL_MEAN_DEVIATION = float(np.sqrt(2 / np.pi))  # mean absolute deviation of a normal variable in standard deviations
NAN = float("nan")


@dataclass(frozen=True)
class Limits:
    """Bias and 95 % limits of agreement, between which 95 % of single differences lie if they are normal."""

    bias: Estimate
    lower: Estimate
    upper: Estimate
    between_sd: float  # of the subjects' own mean differences; 0 if the estimated variance is negative
    within_sd: float  # of the differences of one subject; NaN if no subject has two


@dataclass(frozen=True)
class ProportionalBias:
    """Regression on the size of the difference, and of its standard deviation around that line."""

    slope: Estimate  # change of the difference per unit of size
    intercept: float
    spread_slope: float  # 0 if its interval contains 0
    spread_intercept: float

    @property
    def is_proportional(self) -> bool:
        """Whether the interval of the slope excludes 0; False without an interval."""
        return self.slope.low > 0 or self.slope.high < 0

    def limits_at(self, size: np.ndarray | float) -> tuple[np.ndarray | float, ...]:
        """Bias, lower and upper 95 % limit of agreement at a size. Source: Bland and Altman 1999."""
        bias = self.intercept + self.slope.value * size
        spread = Z * (self.spread_intercept + self.spread_slope * size)
        return bias, bias - spread, bias + spread


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

    The variance is the sum of the two components of a one-way random effects model. The interval of a limit combines
    those of the bias and of the standard deviation (MOVER) and their correlation, all from a jackknife over subjects:
    the published intervals from chi-squared quantiles are too narrow for differences with heavy tails. NaN is ignored.
    There are no limits below two subjects, and no intervals below FEWEST_SUBJECTS.

    Source: Bland and Altman 2007, J Biopharm Stat 17:571 (variance); Zou 2013, Stat Methods Med Res 22:630 (MOVER).
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
    (below_low, above_low), (below_high, above_high) = _margins(sd, covariance, quantile)
    lower = estimate(mean - Z * sd, NAN, len(values), codes)
    upper = estimate(mean + Z * sd, NAN, len(values), codes)
    lower = replace(lower, low=lower.value - below_low, high=lower.value + above_low)
    upper = replace(upper, low=upper.value - below_high, high=upper.value + above_high)
    between, within = np.sqrt(np.maximum(whole[1:], 0))
    return Limits(bias, lower, upper, float(between), float(within) if len(values) > groups else NAN)


def _margins(sd: float, covariance: np.ndarray, quantile: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Distances from the lower and the upper limit of agreement to the ends of their intervals, (below, above) each."""
    error, relative = quantile * np.sqrt(np.diag(covariance)) / (1, sd or 1)
    correlation = covariance[0, 1] / (np.sqrt(covariance[0, 0] * covariance[1, 1]) or 1)
    wide, narrow = Z * sd * np.expm1(relative), -Z * sd * np.expm1(-relative)  # the interval of an SD is a ratio

    def joint(of_sd: float, sign: int) -> float:
        return float(np.sqrt(max(error**2 + of_sd**2 + 2 * sign * correlation * error * of_sd, 0)))

    return (joint(wide, -1), joint(narrow, -1)), (joint(narrow, 1), joint(wide, 1))


def _sums(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Sums by subject, (subjects, 5), from which `_components` are computed, so that one subject can be left out."""
    counts, sums = np.bincount(codes), np.bincount(codes, values)
    return np.stack([counts, sums, sums**2 / counts, np.bincount(codes, values**2), counts**2], axis=-1)


def _components(sums: np.ndarray, groups: int) -> np.ndarray:
    """Mean, variance between and within subjects from totals of `_sums`, (..., 5) to (..., 3).

    The variance between subjects can be negative; the one within them is 0 if no subject has two values.
    """
    count, total, of_means, squares, squared_counts = np.moveaxis(sums, -1, 0)
    degrees = count - groups
    within = np.where(degrees > 0, (squares - of_means) / np.maximum(degrees, 1), 0)
    between = (of_means - total**2 / count) / (groups - 1)  # mean square
    size = (count - squared_counts / count) / (groups - 1)  # the mean number of values of a subject
    return np.stack([total / count, (between - within) / size, within], axis=-1)


def _mean_and_sd(components: np.ndarray) -> np.ndarray:
    variance = components[..., 1] + components[..., 2]
    return np.stack([components[..., 0], np.sqrt(np.maximum(variance, 0))], axis=-1)


def proportional_bias(differences: np.ndarray, sizes: np.ndarray, subjects: np.ndarray) -> ProportionalBias:
    """Regression of the difference (N,) and of its spread on the size (N,), with intervals by subject (N,).

    The intervals are those of a jackknife over subjects. Rows with NaN are ignored. Everything is NaN if all sizes are
    equal or fewer than three rows remain. Source: Bland and Altman 1999, Stat Methods Med Res 8:135.
    """
    (y, x), codes = finite(subjects, differences, sizes)
    (slope, intercept), covariance, quantile = jackknife(lambda rows: _line(x[rows], y[rows]), codes)
    of_slope = estimate(slope, quantile * np.sqrt(covariance[0, 0]), len(x), codes)
    residuals = y - intercept - slope * x
    deviations = np.abs(residuals) / NORMAL_MEAN_DEVIATION
    (spread_slope, spread), covariance, quantile = jackknife(lambda rows: _line(x[rows], deviations[rows]), codes)
    if not abs(spread_slope) > quantile * np.sqrt(covariance[0, 0]):
        degrees = max(len(x) - 2, 1)
        spread_slope, spread = 0 * slope, 0 * slope + np.sqrt(np.square(residuals).sum() / degrees)
    return ProportionalBias(of_slope, float(intercept), float(spread_slope), float(spread))


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
