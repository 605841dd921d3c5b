"""Jackknife over subjects: the uncertainty of any statistic of rows, several of which may be of one subject."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

from lib.statistics import FEWEST_SUBJECTS, Estimate


def finite(subjects: np.ndarray, *values: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The rows in which all values (N,) are finite, and the subject of each as a code from 0.

    ValueError for inputs of different lengths or a missing subject.
    """
    arrays = [np.asarray(each, float) for each in values]
    owners = np.asarray(subjects, object)
    if {len(each) for each in arrays} != {len(owners)}:
        raise ValueError(f"{[len(each) for each in arrays]} values, {len(owners)} subjects; expected equal numbers")
    missing = np.flatnonzero(pd.isna(owners))
    if len(missing):
        raise ValueError(f"{len(missing)} of {len(owners)} values have no subject, the first is value {missing[0] + 1}")
    kept = np.isfinite(arrays).all(axis=0)
    _, codes = np.unique(owners[kept].astype(str), return_inverse=True)
    return [each[kept] for each in arrays], codes


def jackknife(statistic: Callable[[np.ndarray], np.ndarray], codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Value (S,) of a statistic, its covariance (S, S) and the t quantile of a 95 % interval.

    The statistic takes a mask of the rows (N,) to use; one subject at a time is left out. NaN below FEWEST_SUBJECTS
    subjects, and where the statistic is undefined without one of them.
    """
    value = np.atleast_1d(statistic(np.ones(len(codes), bool)))
    count = int(codes.max(initial=-1)) + 1
    if count < FEWEST_SUBJECTS:
        return value, *uncertainty(np.full((count, len(value)), np.nan))
    left_out = np.array([np.atleast_1d(statistic(codes != code)) for code in range(count)])
    return value, *uncertainty(left_out)


def uncertainty(left_out: np.ndarray) -> tuple[np.ndarray, float]:
    """Covariance (S, S) and t quantile from the values of a statistic without each subject, (subjects, S).

    NaN below FEWEST_SUBJECTS subjects.
    """
    count, size = left_out.shape
    if count < FEWEST_SUBJECTS:
        return np.full((size, size), np.nan), np.nan
    deviations = left_out - left_out.mean(axis=0)
    return (count - 1) / count * deviations.T @ deviations, float(stats.t.ppf(0.975, count - 1))


def estimate(value: float, half_width: float, count: int, codes: np.ndarray) -> Estimate:
    """A value with a symmetric interval; least and largest are missing, since it is no mean of values."""
    bounds = (float(value - half_width), float(value + half_width))
    return Estimate(float(value), *bounds, count, int(codes.max(initial=-1)) + 1, np.nan, np.nan)
