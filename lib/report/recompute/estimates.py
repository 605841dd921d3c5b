"""Means, intervals and quantiles, written from docs/statistics.md without a line of lib.statistics."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from lib.report.recompute.results import Row, grouped

RESAMPLES, SEED = 2000, 20181  # as documented; a test holds them to those of lib.statistics
FEWEST_SUBJECTS = 6  # below, there is no interval
NAN = float("nan")


@dataclass(frozen=True)
class Mean:
    """A mean over values, of which `n` are known."""

    value: float
    low: float
    high: float
    n: int

    def columns(self, name: str) -> Row:
        """The mean and its bounds as three columns."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


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


def mean_over_cases(rows: Sequence[Row], value: Callable[[Row], float]) -> Mean:
    """Mean over cases, seeds averaged first, with the interval by subject."""
    return mean_interval(*by_case(rows, value))


def mean_interval(values: Sequence[float], subjects: Sequence[str]) -> Mean:
    """Mean with a bootstrap-t interval whose unit is the subject."""
    of_subject: dict[str, list[float]] = {}
    for value, subject in zip(values, subjects):
        if not math.isnan(value):
            of_subject.setdefault(subject, []).append(value)
    count, groups = sum(map(len, of_subject.values())), [of_subject[name] for name in sorted(of_subject)]
    if len(groups) < FEWEST_SUBJECTS:
        return Mean(mean(values), NAN, NAN, count)
    totals, sizes = (np.array([how(group) for group in groups], float) for how in (math.fsum, len))
    return Mean(mean(values), *_bounds(totals, sizes), count)


def _bounds(totals: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Bounds for the ratio of the sums of totals and sizes over G subjects, resampled with Beta(1/2, 3/2) weights."""
    count = len(totals)
    centre = math.fsum(totals) / math.fsum(sizes)
    own = math.sqrt(count / (count - 1) * math.fsum((totals - centre * sizes) ** 2)) / math.fsum(sizes)
    weights = np.random.default_rng(SEED).beta(0.5, 1.5, size=(RESAMPLES, count))
    whole, size = weights.sum(axis=1), weights.dot(sizes)
    resampled = weights.dot(totals) / size
    squares = ((totals - np.outer(resampled, sizes)) ** 2 * weights).sum(axis=1) / whole
    errors = np.sqrt(squares / (count - 1)) * whole / size
    studentised = [(each - centre) / error if error > 0 else 0.0 for each, error in zip(resampled, errors)]
    tail = special.ndtr(math.sqrt(count / (count - 1)) * special.stdtrit(count - 1, 0.025))
    return centre - quantile(studentised, 1 - tail) * own, centre - quantile(studentised, tail) * own


def limits_of_agreement(differences: Sequence[float]) -> tuple[float, float, float]:
    """Bias and bias -+ 1.96 standard deviations of at least two differences; else NaN."""
    kept = known(differences)
    if len(kept) < 2:
        return NAN, NAN, NAN
    bias = mean(kept)
    spread = math.sqrt(math.fsum((each - bias) ** 2 for each in kept) / (len(kept) - 1))
    return bias, bias - 1.96 * spread, bias + 1.96 * spread
