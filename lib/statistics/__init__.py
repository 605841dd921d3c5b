"""Confidence intervals by subject for means and medians, and for proportions; measured in docs/statistics.md."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from lib.study import files

RESAMPLES = 4000  # limits then vary by 1 to 2 % of the width of the interval between seeds
SEED = 20181
FEWEST_SUBJECTS = 6  # the fewest for which order statistics give a 95 % interval of a median, whatever the values
PARTS = ("low", "high", "least", "largest", "subjects")  # columns beside the value of an estimate in a table
LEAST_TAIL = 0.0125  # of each side; the full correction for few subjects covers 99 % and doubles the width at six
COVERAGE = Path(__file__).with_name("coverage.csv")  # written by python -m benchmarks.coverage
BLOCK = 2**22  # weights in memory at once, 32 MB


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval."""

    value: float
    low: float  # NaN below FEWEST_SUBJECTS subjects
    high: float
    count: int  # number of values
    subjects: int  # number of subjects that the values come from
    least: float  # smallest and largest value
    largest: float

    def columns(self, name: str) -> dict[str, float]:
        """The value as <name>, and its <name>_low, _high, _least, _largest and _subjects, as columns of a table.

        `report.tables` prints them as one column and the number of subjects. Where there is no interval, low and high
        are missing, and the least and the largest value are printed instead.
        """
        return {name: self.value} | {f"{name}_{part}": getattr(self, part) for part in PARTS}


def mean_interval(values: np.ndarray, subjects: np.ndarray, resamples: int = RESAMPLES) -> Estimate:
    """Mean of values (N,) with a 95 % bootstrap-t interval, whose unit is the subject (N,), not the image.

    Images of one subject are correlated, so resampling images would make intervals too narrow. NaN values are ignored;
    ValueError if a subject is missing. Below FEWEST_SUBJECTS subjects there is no interval. Limits beyond the
    least or largest value are cut: with one outlier among few values they would lie far outside.
    """
    kept = _known(values, subjects)
    groups = kept.groupby("subject")["value"].agg(["sum", "size"]).to_numpy(float)
    limits = bootstrap_t(*groups.T, resamples) if len(groups) >= FEWEST_SUBJECTS else (np.nan, np.nan)
    return _estimate(kept, kept["value"].mean(), limits)


def median_interval(values: np.ndarray, subjects: np.ndarray) -> Estimate:
    """Median of values (N,) with a 95 % interval between two of the sorted values, whose unit is the subject (N,).

    NaN, missing and few subjects as in `mean_interval`.
    """
    kept = _known(values, subjects)
    enough = kept["subject"].nunique() >= FEWEST_SUBJECTS
    limits = median_limits(kept["value"].to_numpy(), kept["subject"].to_numpy()) if enough else (np.nan, np.nan)
    return _estimate(kept, kept["value"].median(), limits)


def measured_coverage(subjects: int) -> dict[str, float] | None:
    """Measured coverage (%) of intervals from the largest simulated number of `subjects` not above this one, or None.

    Keys lowest_mean, highest_mean, lowest_median, highest_median: over realistic Dice and errors, one or several images
    per subject; outlier_mean: the lowest where few outliers decide the mean.
    """
    table = files.read_csv(COVERAGE, ["subjects"])
    rows = table[table["subjects"] <= subjects]
    return None if rows.empty else rows.iloc[-1].to_dict()


def proportion_interval(hits: float, total: float) -> tuple[float, float, float]:
    """hits / total with its 95 % Wilson interval, (value, low, high); NaN if total is 0. Source: Wilson 1927.

    For correlated images, `total` is their `effective_number` and hits / total remains the proportion.
    """
    if total == 0:
        return float("nan"), float("nan"), float("nan")
    share, square = hits / total, stats.norm.ppf(0.975) ** 2
    centre, scale = share + square / (2 * total), 1 + square / total
    reach = np.sqrt(square * share * (1 - share) / total + (square / (2 * total)) ** 2)
    return share, float(max(0, centre - reach) / scale), float(min(scale, centre + reach) / scale)


def effective_number(values: np.ndarray, subjects: np.ndarray) -> float:
    """Number of independent values whose mean is as uncertain as that of the values (N,) of these subjects (N,).

    N, divided by the design effect if images of a subject are alike, and reduced by the squared ratio of the t
    quantiles of N and of the subjects; their number if all values are equal. Source: Korn and Graubard 1998, as in
    `svyciprop(method = "beta")` of the R package survey.
    """
    values, codes = np.asarray(values, float), np.unique(subjects, return_inverse=True)[1]
    deviations, count, groups = values - values.mean(), len(values), codes.max() + 1
    if groups < 2 or not deviations.any():
        return float(groups)
    between = np.square(np.bincount(codes, deviations)).sum() * groups / (groups - 1)
    alone = np.square(deviations).sum() * count / (count - 1)
    quantiles = stats.t.ppf(0.975, [count - 1, groups - 1])
    return float(count / max(1.0, between / alone) * (quantiles[0] / quantiles[1]) ** 2)


def median_limits(values: np.ndarray, subjects: np.ndarray) -> tuple[float, float]:
    """95 % limits of the median of values (N,): order statistics of the effective number of values, interpolated.

    Sources: Hutson 1999, J Appl Stat 26:343 (fractional ranks); Woodruff 1952, JASA 47:635 (the interval of a
    proportion, read off the sorted values).
    """
    ordered, number = np.sort(values), effective_number(np.sign(values - np.median(values)), subjects)
    share = lower_rank(number) / (number + 1)
    ranks = np.array([share, 1 - share]) * (len(ordered) + 1)
    low, high = np.interp(ranks, np.arange(1, len(ordered) + 1), ordered)
    return float(low), float(high)


def lower_rank(count: float) -> float:
    """Rank r, counted from 1, whose order statistic of `count` values lies above their median with 2.5 % probability.

    The probability of the binomial distribution, continued between whole ranks; 1 if even the least value is above
    the median more often.
    """

    def excess(rank: float) -> float:
        return special.betaincc(rank, count - rank + 1, 0.5) - 0.025

    return float(optimize.brentq(excess, 1.0, (count + 1) / 2)) if count > 1 and excess(1.0) < 0 else 1.0


def bootstrap_t(
    sums: np.ndarray, sizes: np.ndarray, resamples: int = RESAMPLES
) -> tuple[np.ndarray | float, np.ndarray | float]:
    """95 % limits (...,) of sum / size over subjects, from their sums and numbers of values (..., G), G at least 2.

    The t statistic of the mean is computed with random weights of the subjects, and its quantiles replace those of
    Student's distribution. Their tails are those of Hesterberg for few subjects, at least LEAST_TAIL.

    Sources: weights from Beta(1/2, 3/2), Owen 2025, arXiv 2508.10083; tails, Hesterberg 2015, Am Stat 69:371.
    """
    count = sums.shape[-1]
    mean = sums.sum(axis=-1) / sizes.sum(axis=-1)
    deviations = sums - mean[..., None] * sizes
    error = np.sqrt(count / (count - 1) * np.square(deviations).sum(axis=-1)) / sizes.sum(axis=-1)
    ratios = [_t_statistics(deviations, sizes, weights) for weights in _weights(count, resamples)]
    expanded = stats.norm.cdf(np.sqrt(count / (count - 1)) * stats.t.ppf(0.025, count - 1))
    tail = max(LEAST_TAIL, expanded)
    lower, upper = np.quantile(np.concatenate(ratios, axis=-1), [tail, 1 - tail], axis=-1)
    return mean - upper * error, mean - lower * error


def _weights(count: int, resamples: int) -> Iterator[np.ndarray]:
    """Weights of the subjects (B, G), in blocks, of which each row sums to 1."""
    draw, rows = np.random.default_rng(SEED), max(1, BLOCK // count)
    for start in range(0, resamples, rows):
        size = (min(rows, resamples - start), count)
        arcsine = np.square(np.sin(np.pi / 2 * draw.random(size)))  # Beta(1/2, 1/2)
        weights = arcsine * draw.random(size)  # Beta(1/2, 3/2); three times as fast as numpy's beta
        yield weights / weights.sum(axis=1, keepdims=True)


def _t_statistics(deviations: np.ndarray, sizes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean over its standard error (..., B), of deviations from the mean by subject (..., G)."""
    totals = sizes @ weights.T
    means = deviations @ weights.T / totals
    # the weighted sum of (deviation - mean * size)**2, expanded so that it needs no array (..., B, G)
    squares = np.square(deviations) @ weights.T - 2 * means * (deviations * sizes @ weights.T)
    squares += np.square(means) * (np.square(sizes) @ weights.T)
    errors = np.sqrt(np.maximum(squares, 0) / (weights.shape[1] - 1)) / totals
    return np.divide(means, errors, out=np.zeros_like(means), where=errors > 0)


def _known(values: np.ndarray, subjects: np.ndarray) -> pd.DataFrame:
    """Columns value and subject without NaN values; ValueError if a subject is missing."""
    table = pd.DataFrame({"value": np.asarray(values, float), "subject": np.asarray(subjects)})
    missing = np.flatnonzero(table["subject"].isna())
    if len(missing):
        raise ValueError(f"{len(missing)} of {len(table)} values have no subject, the first is value {missing[0] + 1}")
    return table.dropna(subset=["value"])


def _estimate(kept: pd.DataFrame, value: float, limits: tuple[float, float]) -> Estimate:
    least, largest = float(kept["value"].min()), float(kept["value"].max())
    low, high = map(float, np.clip(limits, least, largest))
    return Estimate(float(value), low, high, len(kept), kept["subject"].nunique(), least, largest)
