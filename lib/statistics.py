"""Means with confidence intervals by subject, and limits of agreement between two measurements."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

RESAMPLES = 2000  # limits of a 95 % interval then vary by about 2 % of its width between seeds
SEED = 20181


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval; its limits are NaN with fewer than two subjects."""

    value: float
    low: float
    high: float
    count: int  # number of values


def bootstrap(values: np.ndarray, subjects: np.ndarray) -> Estimate:
    """Mean of values (N,) with a 95 % percentile interval from resampling whole subjects (N,).

    Images of one subject are correlated, so resampling images would make intervals too narrow. NaN values are ignored;
    ValueError if a subject is missing.

    Source: Efron 1979. `scipy.stats.bootstrap` of paired sums and sizes draws the same subjects from the same seed; its
    limits agree to 1e-12, but most differ in the last digit, and CSVs store every digit.
    """
    table = pd.DataFrame({"value": np.asarray(values, float), "subject": np.asarray(subjects)})
    missing = np.flatnonzero(table["subject"].isna())
    if len(missing):
        raise ValueError(f"{len(missing)} of {len(table)} values have no subject, the first is value {missing[0] + 1}")
    kept = table.dropna(subset=["value"])
    mean = float(kept["value"].mean())  # NaN if all are
    groups = kept.groupby("subject")["value"].agg(["sum", "size"]).to_numpy()
    if len(groups) < 2:
        return Estimate(mean, float("nan"), float("nan"), len(kept))
    draws = np.random.default_rng(SEED).integers(len(groups), size=(RESAMPLES, len(groups)))
    sums, sizes = groups[draws].sum(axis=1).T
    low, high = np.percentile(sums / sizes, [2.5, 97.5])
    return Estimate(mean, float(low), float(high), len(kept))


def limits_of_agreement(differences: np.ndarray) -> tuple[float, float, float]:
    """Bias and 95 % limits of agreement, (bias, lower, upper): mean and mean -+ 1.96 SD of the differences.

    Values that are not finite are ignored; ValueError if fewer than two remain. Source: Bland and Altman 1986.
    """
    finite = np.asarray(differences, float)[np.isfinite(differences)]
    if len(finite) < 2:
        raise ValueError(f"{len(finite)} differences; limits of agreement need at least 2")
    bias, spread = float(np.mean(finite)), float(np.std(finite, ddof=1))
    return bias, bias - 1.96 * spread, bias + 1.96 * spread
