"""Reliability of two methods: intraclass correlation and concordance, which depend on how much the subjects differ."""

from collections.abc import Callable

import numpy as np

from lib.statistics import Estimate
from lib.statistics.jackknife import finite, jackknife


def intraclass_correlation(ratings: np.ndarray, subjects: np.ndarray) -> Estimate:
    """ICC(2,1), the absolute agreement of single ratings: cases (N,) by raters (R,), both random, interval by subject.

    Rows with NaN are ignored. Source: Shrout and Fleiss 1979, Psychol Bull 86:420.
    """
    columns, codes = finite(subjects, *np.asarray(ratings, float).T)
    table = np.stack(columns, axis=1)
    return _on_z_scale(lambda rows: _icc(table[rows]), codes)


def _icc(table: np.ndarray) -> float:
    cases, raters = table.shape
    if cases < 2:
        return float("nan")
    centred = table - table.mean()
    of_cases, of_raters = centred.mean(axis=1), centred.mean(axis=0)
    residual = np.square(centred - of_cases[:, None] - of_raters).sum() / ((cases - 1) * (raters - 1))
    between = raters * np.square(of_cases).sum() / (cases - 1)
    rater = cases * np.square(of_raters).sum() / (raters - 1)
    total = between + (raters - 1) * residual + raters * (rater - residual) / cases
    return float((between - residual) / total) if total > 0 else float("nan")


def concordance(first: np.ndarray, second: np.ndarray, subjects: np.ndarray) -> Estimate:
    """Lin's concordance correlation coefficient of two measurements (N,), with an interval by subject (N,).

    Rows with NaN are ignored. Source: Lin 1989, Biometrics 45:255.
    """
    (x, y), codes = finite(subjects, first, second)
    return _on_z_scale(lambda rows: _concordance(x[rows], y[rows]), codes)


def _concordance(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 2:
        return float("nan")
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    total = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * covariance / total) if total > 0 else float("nan")


def _on_z_scale(statistic: Callable[[np.ndarray], float], codes: np.ndarray) -> Estimate:
    """A correlation with the jackknife interval of its Fisher transform; no interval of a perfect one."""
    count, of_subjects = len(codes), int(codes.max(initial=-1)) + 1
    value = statistic(np.ones(count, bool))
    with np.errstate(divide="ignore", invalid="ignore"):  # arctanh(1), so NaN bounds
        (z,), covariance, quantile = jackknife(lambda rows: np.arctanh(statistic(rows)), codes)
        low, high = np.tanh(z + quantile * np.sqrt(covariance[0, 0]) * np.array([-1, 1]))
    return Estimate(value, float(low), float(high), count, of_subjects, float("nan"), float("nan"))
