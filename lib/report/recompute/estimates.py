"""Means, intervals and quantiles, written from docs/statistics.md without a line of lib.statistics."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from lib.report.recompute.results import Row, grouped

# As documented; a test holds them to those of lib.statistics.
RESAMPLES, SEED, LEAST_TAIL = 4000, 20181, 0.0125
FEWEST_SUBJECTS = 6  # below, there is no interval
BLOCK = 2**22  # random numbers drawn at once
NAN = float("nan")


@dataclass(frozen=True)
class Estimate:
    """A mean or median over values, of which `n` are known, of `subjects` subjects, from the least to the largest."""

    value: float
    low: float
    high: float
    n: int
    subjects: int
    least: float
    largest: float

    def columns(self, name: str) -> Row:
        """The columns that a table has of it."""
        beside = {part: getattr(self, part) for part in ("low", "high", "least", "largest", "subjects")}
        return {name: self.value} | {f"{name}_{part}": value for part, value in beside.items()}


def known(values: Sequence[float]) -> list[float]:
    """The values that are not missing."""
    return [float(value) for value in values if not math.isnan(value)]


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are not missing; NaN if there are none."""
    kept = known(values)
    return math.fsum(kept) / len(kept) if kept else NAN


def quantile(values: Sequence[float], share: float) -> float:
    """Quantile of the known values, by linear interpolation between order statistics."""
    kept = sorted(known(values))
    if not kept:
        return NAN
    below, rest = divmod(share * (len(kept) - 1), 1)
    after = min(int(below) + 1, len(kept) - 1)
    return kept[int(below)] + rest * (kept[after] - kept[int(below)])


def least(values: Sequence[float]) -> float:
    """Smallest known value."""
    return min(known(values), default=NAN)


def largest(values: Sequence[float]) -> float:
    """Largest known value."""
    return max(known(values), default=NAN)


def by_case(rows: Sequence[Row], value: Callable[[Row], float]) -> tuple[list[float], list[str]]:
    """A value of each case, the mean of those of its seeds, and its subject."""
    cases = grouped(rows, "case").values()
    return [mean([value(row) for row in of_case]) for of_case in cases], [of_case[0]["subject"] for of_case in cases]


def mean_over_cases(rows: Sequence[Row], value: Callable[[Row], float]) -> Estimate:
    """Mean over cases, seeds averaged first, with the interval by subject."""
    return mean_interval(*by_case(rows, value))


def median_over_cases(rows: Sequence[Row], value: Callable[[Row], float]) -> Estimate:
    """Median over cases, seeds averaged first, with the interval by subject."""
    return median_interval(*by_case(rows, value))


def mean_interval(values: Sequence[float], subjects: Sequence[str]) -> Estimate:
    """Mean with a bootstrap-t interval whose unit is the subject, cut to the range of the values."""
    pairs = [(value, subject) for value, subject in zip(values, subjects) if not math.isnan(value)]
    groups = [[value for value, of in pairs if of == name] for name in sorted({subject for _, subject in pairs})]
    totals, sizes = (np.array([how(group) for group in groups], float) for how in (math.fsum, len))
    low, high, bounds = least(values), largest(values), (NAN, NAN)
    if len(groups) >= FEWEST_SUBJECTS:
        bounds = tuple(min(max(bound, low), high) for bound in _bounds(totals, sizes))
    return Estimate(mean(values), *bounds, len(pairs), len(groups), low, high)


def _bounds(totals: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Bounds for the ratio of the sums of totals and sizes over G subjects, resampled with Beta(1/2, 3/2) weights."""
    count = len(totals)
    centre = math.fsum(totals) / math.fsum(sizes)
    own = math.sqrt(count / (count - 1) * math.fsum((totals - centre * sizes) ** 2)) / math.fsum(sizes)
    weights = _weights(count)
    whole, size = weights.sum(axis=1), weights.dot(sizes)
    resampled = weights.dot(totals) / size
    squares = ((totals - np.outer(resampled, sizes)) ** 2 * weights).sum(axis=1) / whole
    errors = np.sqrt(squares / (count - 1)) * whole / size
    studentised = [(each - centre) / error if error > 0 else 0.0 for each, error in zip(resampled, errors)]
    tail = max(LEAST_TAIL, special.ndtr(math.sqrt(count / (count - 1)) * special.stdtrit(count - 1, 0.025)))
    return centre - quantile(studentised, 1 - tail) * own, centre - quantile(studentised, tail) * own


def _weights(count: int) -> np.ndarray:
    """Beta(1/2, 3/2) weights of the subjects, (RESAMPLES, count): an arcsine and a uniform variable, multiplied."""
    draw, blocks, drawn = np.random.default_rng(SEED), [], 0
    while drawn < RESAMPLES:
        rows = min(max(1, BLOCK // count), RESAMPLES - drawn)
        angle, factor = draw.random((rows, count)), draw.random((rows, count))
        blocks.append(np.sin(np.pi / 2 * angle) ** 2 * factor)
        drawn += rows
    return np.vstack(blocks)


def median_interval(values: Sequence[float], subjects: Sequence[str]) -> Estimate:
    """Median with an interval between two sorted values, whose ranks are those of the effective number of values."""
    pairs = [(value, subject) for value, subject in zip(values, subjects) if not math.isnan(value)]
    kept, count = sorted(value for value, _ in pairs), len({subject for _, subject in pairs})
    middle, bounds = quantile(kept, 0.5), (NAN, NAN)
    if count >= FEWEST_SUBJECTS:
        signs = [float(value > middle) - float(value < middle) for value, _ in pairs]
        number = effective_number(signs, [subject for _, subject in pairs])
        share = lower_rank(number) / (number + 1)
        bounds = at_rank(kept, share * (len(kept) + 1)), at_rank(kept, (1 - share) * (len(kept) + 1))
    return Estimate(middle, *bounds, len(kept), count, least(kept), largest(kept))


def at_rank(ordered: list[float], rank: float) -> float:
    """The value at a rank from 1 between sorted values."""
    return quantile(ordered, min(max((rank - 1) / (len(ordered) - 1), 0.0), 1.0))


def effective_number(values: Sequence[float], subjects: Sequence[str]) -> float:
    """Number of independent values with the same uncertainty of the mean, for correlated values of subjects."""
    centre, groups = mean(values), {}
    for value, subject in zip(values, subjects):
        groups.setdefault(subject, []).append(value - centre)
    count, number = len(values), len(groups)
    alone = math.fsum((value - centre) ** 2 for value in values)
    if number < 2 or alone == 0:
        return float(number)
    between = math.fsum(math.fsum(group) ** 2 for group in groups.values()) * number / (number - 1)
    effect = max(1.0, between / (alone * count / (count - 1)))
    return count / effect * (special.stdtrit(count - 1, 0.975) / special.stdtrit(number - 1, 0.975)) ** 2


def lower_rank(count: float) -> float:
    """Rank whose order statistic lies above the median of `count` values in 2.5 %, continued between whole ranks."""

    def is_above(rank: float) -> bool:
        return 1 - special.betainc(rank, count - rank + 1, 0.5) > 0.025

    low, high = 1.0, (count + 1) / 2
    if count <= 1 or is_above(low):
        return 1.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if is_above(middle) else (middle, high)
    return (low + high) / 2


def wilson(hits: float, total: float) -> tuple[float, float, float]:
    """A proportion with its interval, for a total that may be an effective number. Source: Wilson 1927."""
    if total == 0:
        return NAN, NAN, NAN
    share, z = hits / total, special.ndtri(0.975)
    middle = share + z**2 / (2 * total)
    reach = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    whole = 1 + z**2 / total
    return share, max(0.0, middle - reach) / whole, min(whole, middle + reach) / whole


def share_of_cases(name: str, holds: Sequence[bool], subjects: Sequence[str]) -> Row:
    """Percentage of cases in which something holds, with its interval by subject."""
    hits = [float(each) for each in holds]
    number = effective_number(hits, subjects) if hits else 0.0
    share, low, high = wilson(mean(hits) * number, number)
    column = f"{name}_percent"
    return {column: 100 * share, f"{column}_low": 100 * low, f"{column}_high": 100 * high}
