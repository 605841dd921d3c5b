"""Agreement of two methods with a jackknife over subjects: limits, proportional bias, reliability, equivalence."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import special, stats

from lib.report.recompute.estimates import FEWEST_SUBJECTS, NAN, Estimate, at_rank, mean, mean_interval

Z = 1.96
EQUAL = 1e-6  # a range of equal differences
Groups = list[np.ndarray]  # the rows of each subject, (rows, columns)


def groups_of(subjects: Sequence[str], *columns: Sequence[float]) -> Groups:
    """Rows with finite values by subject."""
    rows: dict[str, list[tuple]] = {}
    for subject, *values in zip(subjects, *columns):
        if all(map(math.isfinite, values)):
            rows.setdefault(subject, []).append(tuple(values))
    return [np.array(rows[name], float) for name in sorted(rows)]


def jackknife(groups: Groups, statistic: Callable[[Groups], Sequence[float]]) -> tuple[np.ndarray, float]:
    """Covariance of a statistic from leaving out one subject at a time, and the t quantile of a 95 % interval."""
    count = len(groups)
    if count < FEWEST_SUBJECTS:
        size = len(statistic(groups))
        return np.full((size, size), NAN), NAN
    left = np.array([statistic(groups[:place] + groups[place + 1 :]) for place in range(count)], float)
    spread = left - left.mean(axis=0)
    return (count - 1) / count * sum(np.outer(row, row) for row in spread), float(special.stdtrit(count - 1, 0.975))


def plain(value: float, low: float, high: float, groups: Groups) -> Estimate:
    """An estimate that is no mean of values, so without a least and a largest one."""
    return Estimate(value, low, high, sum(map(len, groups)), len(groups), NAN, NAN)


# --- limits of agreement of repeated measurements. Source: Bland and Altman 2007; intervals: Zou 2013


def mean_and_sd(groups: Groups) -> tuple[float, float]:
    """Mean, and standard deviation of a single value from the components of a one-way analysis of variance."""
    values = [group[:, 0] for group in groups]
    count, subjects = sum(map(len, values)), len(values)
    centre = math.fsum(np.concatenate(values)) / count
    inside = math.fsum(math.fsum((group - group.mean()) ** 2) for group in values)
    within = inside / (count - subjects) if count > subjects else 0.0
    between = math.fsum(len(group) * (group.mean() - centre) ** 2 for group in values) / (subjects - 1)
    size = (count - sum(len(group) ** 2 for group in values) / count) / (subjects - 1)
    if between < within:  # subjects differ by less than chance, so all values are taken as independent
        return centre, math.sqrt((inside + between * (subjects - 1)) / (count - 1))
    return centre, math.sqrt((between - within) / size + within)


def limits(differences: Sequence[float], subjects: Sequence[str]) -> tuple[Estimate, Estimate, Estimate]:
    """Bias, lower and upper limit of agreement, each with its interval."""
    bias, groups = mean_interval(differences, subjects), groups_of(subjects, differences)
    if len(groups) < 2:
        return bias, plain(NAN, NAN, NAN, groups), plain(NAN, NAN, NAN, groups)
    centre, sd = mean_and_sd(groups)
    low, high = centre - Z * sd, centre + Z * sd
    if len(groups) < FEWEST_SUBJECTS:
        return bias, plain(low, NAN, NAN, groups), plain(high, NAN, NAN, groups)
    covariance, quantile = jackknife(groups, mean_and_sd)
    return bias, *around(centre, sd, covariance, quantile, groups)


def around(
    centre: float, sd: float, covariance: np.ndarray, quantile: float, groups: Groups, is_ratio: bool = True
) -> tuple[Estimate, Estimate]:
    """Lower and upper limit, each with the interval that follows from those of bias and standard deviation."""
    errors = np.sqrt(np.diag(covariance))
    correlation = covariance[0, 1] / (errors[0] * errors[1] or 1)
    of_mean, of_sd = quantile * errors
    wide, narrow = Z * of_sd, Z * of_sd
    if is_ratio:
        wide, narrow = (sign * Z * sd * math.expm1(sign * of_sd / (sd or 1)) for sign in (1, -1))

    def joint(of_sd: float, sign: int) -> float:
        squares = of_mean**2 + of_sd**2 + 2 * sign * correlation * of_mean * of_sd
        return NAN if math.isnan(squares) else math.sqrt(max(squares, 0))

    low, high = centre - Z * sd, centre + Z * sd
    lower = plain(low, low - joint(wide, -1), low + joint(narrow, -1), groups)
    return lower, plain(high, high - joint(narrow, 1), high + joint(wide, 1), groups)


def percentiles(differences: Sequence[float], subjects: Sequence[str]) -> tuple[float, float, float]:
    """p of the Shapiro-Wilk test of the first difference of each subject; below 5 %, the 2.5 and 97.5 percentiles."""
    groups = groups_of(subjects, differences)
    first = [group[0, 0] for group in groups]
    if len(first) < FEWEST_SUBJECTS or max(first) - min(first) < EQUAL:
        return NAN, NAN, NAN
    p = float(stats.shapiro(first).pvalue)
    if not p < 0.05:
        return p, NAN, NAN
    ordered = sorted(np.concatenate(groups)[:, 0].tolist())
    return p, *(at_rank(ordered, share * (len(ordered) + 1)) for share in (0.025, 0.975))


# --- proportional bias. Source: Bland and Altman 1999


def line(groups: Groups) -> tuple[float, float]:
    """Slope and intercept of the least-squares line of column 0 on column 1; NaN if it is not determined."""
    y, x = np.concatenate(groups).T if groups else (np.array([]), np.array([]))
    if len(x) < 3 or x.max() == x.min():
        return NAN, NAN
    slope = math.fsum((x - x.mean()) * (y - y.mean())) / math.fsum((x - x.mean()) ** 2)
    return slope, float(y.mean() - slope * x.mean())


def lines(groups: Groups) -> tuple[float, ...]:
    """Slope and intercept of the difference on size, those of its spread, and the spread without a slope."""
    slope, intercept = line(groups)
    residuals = [np.column_stack([np.abs(g[:, 0] - intercept - slope * g[:, 1]), g[:, 1]]) for g in groups]
    squares = math.fsum(math.fsum(each[:, 0] ** 2) for each in residuals)
    constant = math.sqrt(squares / max(sum(map(len, groups)) - 2, 1)) if slope == slope else NAN
    return slope, intercept, *line([each / np.array([math.sqrt(2 / math.pi), 1]) for each in residuals]), constant


def regression(
    differences: Sequence[float], sizes: Sequence[float], subjects: Sequence[str]
) -> tuple[Estimate, Callable[[float], tuple[Estimate, Estimate, Estimate]]]:
    """Slope with its interval, and the function that gives bias, lower and upper limit at a size with theirs."""
    groups = groups_of(subjects, differences, sizes)
    slope, intercept, spread_slope, spread, constant = lines(groups)
    covariance, quantile = jackknife(groups, lines)
    half = quantile * math.sqrt(covariance[0, 0])
    is_sloped = abs(spread_slope) > quantile * math.sqrt(covariance[2, 2])

    def at(size: float) -> tuple[Estimate, Estimate, Estimate]:
        bias, sd = intercept + slope * size, max(spread + spread_slope * size, 0.0) if is_sloped else constant
        weights = np.array([[size, 1, 0, 0, 0], [0, 0, size, 1, 0] if is_sloped else [0, 0, 0, 0, 1]])
        there = weights @ covariance @ weights.T
        reach = quantile * math.sqrt(there[0, 0])
        pair = around(bias, sd, there, quantile, groups, is_ratio=not is_sloped)
        return plain(bias, bias - reach, bias + reach, groups), *pair

    return plain(slope, slope - half, slope + half, groups), at


# --- reliability and equivalence


def icc(groups: Groups) -> tuple[float]:
    """ICC(2,1) on the scale of Fisher's transform. Source: Shrout and Fleiss 1979."""
    table = np.concatenate(groups)
    cases, raters = table.shape
    rows, columns, whole = table.mean(axis=1), table.mean(axis=0), table.mean()
    of_rows = raters * math.fsum((rows - whole) ** 2) / (cases - 1)
    of_columns = cases * math.fsum((columns - whole) ** 2) / (raters - 1)
    rest = float(((table - rows[:, None] - columns + whole) ** 2).sum()) / ((cases - 1) * (raters - 1))
    total = of_rows + (raters - 1) * rest + raters * (of_columns - rest) / cases
    return (_z((of_rows - rest) / total),) if total > 0 else (NAN,)


def ccc(groups: Groups) -> tuple[float]:
    """Lin's concordance on the scale of Fisher's transform. Source: Lin 1989."""
    x, y = np.concatenate(groups).T
    total = float(np.var(x) + np.var(y) + (np.mean(x) - np.mean(y)) ** 2)
    shared = math.fsum((x - x.mean()) * (y - y.mean())) / len(x)
    return (_z(2 * shared / total),) if total > 0 else (NAN,)


def _z(correlation: float) -> float:
    return math.atanh(correlation) if abs(correlation) < 1 else math.copysign(math.inf, correlation)


def correlation(
    first: Sequence[float], second: Sequence[float], subjects: Sequence[str], statistic: Callable
) -> Estimate:
    """A correlation with the interval of its Fisher transform."""
    groups = groups_of(subjects, first, second)
    if sum(map(len, groups)) < 2:
        return plain(NAN, NAN, NAN, groups)
    (z,) = statistic(groups)
    covariance, quantile = jackknife(groups, statistic) if math.isfinite(z) else (np.array([[NAN]]), NAN)
    half = quantile * math.sqrt(covariance[0, 0])
    return plain(math.tanh(z), math.tanh(z - half), math.tanh(z + half), groups)


def equivalence(differences: Sequence[float], subjects: Sequence[str], margin: float) -> float:
    """p of two one-sided t tests that the mean difference lies within the margin."""
    groups = groups_of(subjects, differences)
    covariance, _ = jackknife(groups, lambda left: (mean(np.concatenate(left)[:, 0]),))
    error, room = math.sqrt(covariance[0, 0]), margin - abs(mean(differences))
    if math.isnan(error):
        return NAN
    ratio = room / error if error else math.copysign(math.inf, room) if room else NAN
    return (
        float(1 - special.stdtr(len(groups) - 1, ratio)) if ratio < 5 else float(special.stdtr(len(groups) - 1, -ratio))
    )
