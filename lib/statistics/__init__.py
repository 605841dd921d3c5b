"""Confidence intervals by subject for means, and for proportions."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

RESAMPLES = 2000  # limits of a 95 % interval then vary by about 2 % of its width between seeds
SEED = 20181
FEWEST_SUBJECTS = 6  # below, no method that was simulated keeps its promise at a useful width (docs/statistics.md)


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
        parts = ("low", "high", "least", "largest", "subjects")
        return {name: self.value} | {f"{name}_{part}": getattr(self, part) for part in parts}


def mean_interval(values: np.ndarray, subjects: np.ndarray) -> Estimate:
    """Mean of values (N,) with a 95 % bootstrap-t interval, whose unit is the subject (N,), not the image.

    Images of one subject are correlated, so resampling images would make intervals too narrow. NaN values are ignored;
    ValueError if a subject is missing. Below FEWEST_SUBJECTS subjects there is no interval.

    Source: weights from Beta(1/2, 3/2), Owen 2025, arXiv 2508.10083; level for small samples, Hesterberg 2015.
    """
    table = pd.DataFrame({"value": np.asarray(values, float), "subject": np.asarray(subjects)})
    missing = np.flatnonzero(table["subject"].isna())
    if len(missing):
        raise ValueError(f"{len(missing)} of {len(table)} values have no subject, the first is value {missing[0] + 1}")
    kept = table.dropna(subset=["value"])
    groups = kept.groupby("subject")["value"].agg(["sum", "size"]).to_numpy(float)
    enough = len(groups) >= FEWEST_SUBJECTS
    low, high = _bootstrap_t(*groups.T) if enough else (float("nan"), float("nan"))
    least, largest = float(kept["value"].min()), float(kept["value"].max())
    return Estimate(float(kept["value"].mean()), low, high, len(kept), len(groups), least, largest)


def _bootstrap_t(sums: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Limits for the ratio of two totals over subjects (G,), from weighted resampling of whole subjects."""
    count = len(sums)
    mean = sums.sum() / sizes.sum()
    error = np.sqrt(count / (count - 1) * np.square(sums - mean * sizes).sum()) / sizes.sum()
    weights = np.random.default_rng(SEED).beta(0.5, 1.5, size=(RESAMPLES, count))
    weights /= weights.sum(axis=1, keepdims=True)
    totals = weights @ sizes
    means = weights @ sums / totals
    residuals = np.square(sums - means[:, None] * sizes)
    errors = np.sqrt((weights * residuals).sum(axis=1) / (count - 1)) / totals
    ratios = np.divide(means - mean, errors, out=np.zeros_like(means), where=errors > 0)
    tail = stats.norm.cdf(np.sqrt(count / (count - 1)) * stats.t.ppf(0.025, count - 1))
    lower, upper = np.quantile(ratios, [tail, 1 - tail])
    return float(mean - upper * error), float(mean - lower * error)


def proportion_interval(hits: int, total: int) -> tuple[float, float, float]:
    """hits / total with its 95 % Wilson interval, (value, low, high); NaN if total is 0. Source: Wilson 1927."""
    if total == 0:
        return float("nan"), float("nan"), float("nan")
    low, high = stats.binomtest(hits, total).proportion_ci(method="wilson")
    return hits / total, float(low), float(high)
