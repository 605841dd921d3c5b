"""Means with intervals, and agreement of two measurements; the unit that is drawn is the subject."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

RESAMPLES = 2000  # the ends of a 95 % interval then move by about 2 % of its width from seed to seed
SEED = 20181


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; NaN ends where fewer than two subjects stand behind it."""

    value: float
    low: float
    high: float
    count: int  # of values


def bootstrap(values: np.ndarray, subjects: np.ndarray) -> Estimate:
    """A mean over values (N,) with a 95 % percentile interval from resampling whole subjects (N,).

    Images of one subject are alike; resampling images would make intervals too narrow. A value that is NaN is left out;
    ValueError if a subject is missing.

    Source: Efron 1979, with subjects as the units. `scipy.stats.bootstrap` of paired sums and sizes draws the same
    subjects from the same seed; its ends agree to 1e-12, but only a quarter of them in the last digit, which CSVs hold.
    """
    table = pd.DataFrame({"value": np.asarray(values, float), "subject": np.asarray(subjects)})
    nobody = np.flatnonzero(table["subject"].isna())
    if len(nobody):
        raise ValueError(f"{len(nobody)} of {len(table)} values are of no subject, first value {nobody[0] + 1}")
    kept = table.dropna(subset=["value"])
    mean = float(kept["value"].mean())  # NaN of none
    groups = kept.groupby("subject")["value"].agg(["sum", "size"]).to_numpy()
    if len(groups) < 2:
        return Estimate(mean, float("nan"), float("nan"), len(kept))
    picks = np.random.default_rng(SEED).integers(len(groups), size=(RESAMPLES, len(groups)))
    sums, sizes = groups[picks].sum(axis=1).T
    low, high = np.percentile(sums / sizes, [2.5, 97.5])
    return Estimate(mean, float(low), float(high), len(kept))


def limits_of_agreement(differences: np.ndarray) -> tuple[float, float, float]:
    """Bias and 95 % limits of agreement, (bias, lower, upper): mean -+ 1.96 SD.

    NaN is left out; ValueError if fewer than two differences remain. Source: Bland and Altman 1986.
    """
    finite = np.asarray(differences, float)[np.isfinite(differences)]
    if len(finite) < 2:
        raise ValueError(f"{len(finite)} differences; limits of agreement need at least 2")
    bias, spread = float(np.mean(finite)), float(np.std(finite, ddof=1))
    return bias, bias - 1.96 * spread, bias + 1.96 * spread
