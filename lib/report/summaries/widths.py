"""Widths of the CSP and the ventricles across their own axes (widths.csv of 06), seeds of a part averaged first."""

import pandas as pd

from lib.report.summaries.means import by_group, counts_all, mean_over, share_over, with_interval
from lib.report.summaries.measurement_agreement import limit_columns
from lib.statistics.agreement import limits_of_agreement

# Of the atrium, from which a ventricle counts as enlarged: Gaglioti et al. 2005, doi:10.1002/uog.1857.
ENLARGED_MM = 10.0
VENTRICLE = "lv"


def widths(long: pd.DataFrame) -> pd.DataFrame:
    """Errors of width by class over the n parts measured in both masks, with bias and 95 % limits of agreement.

    A part is one connected component. Intervals are by subject; bias and limits are of predicted minus reference, and
    `largest_error_mm` is the largest absolute error. `missed` and `invented` count parts, of predictions, that have no
    counterpart and are in no mean.
    """
    return by_group(long, ["class"], _widths)


def of_parts(long: pd.DataFrame) -> pd.DataFrame:
    """Rows of widths.csv whose part is in the reference, seeds averaged: subject, reference_mm, predicted_mm."""
    known = long[long["outcome"] != "invented"]
    columns = {"subject": "first", "reference_mm": "first", "predicted_mm": "mean"}
    return known.groupby(["class", "case", "part"], sort=False).agg(columns).reset_index()


def _widths(group: pd.DataFrame) -> dict[str, object]:
    parts = of_parts(group)
    difference = parts["predicted_mm"] - parts["reference_mm"]
    table = parts.assign(error=difference.abs())
    error, limits = mean_over(table, "error"), limits_of_agreement(difference, parts["subject"])
    row = {"n": error.count, "reference_mm": float(parts["reference_mm"].where(difference.notna()).mean())}
    row |= with_interval("mae_mm", error) | {"largest_error_mm": error.largest} | limit_columns(limits, "mm")
    return row | {name: int((group["outcome"] == name).sum()) for name in ("missed", "invented")}


def enlarged(long: pd.DataFrame) -> pd.DataFrame:
    """How well enlarged ventricles are recognised: of reference ventricles from ENLARGED_MM, and of narrower ones.

    Sensitivity is over the n_enlarged, specificity over the n_normal reference ventricles; a missed ventricle counts as
    not enlarged. No rows unless both kinds are present. Intervals are Wilson's over the effective number of ventricles.
    """
    parts = of_parts(long[long["class"] == VENTRICLE])
    is_wide, is_called = parts["reference_mm"] >= ENLARGED_MM, parts["predicted_mm"] >= ENLARGED_MM
    parts = parts.assign(sensitivity=is_called, specificity=~is_called)
    if not is_wide.any() or is_wide.all():
        return pd.DataFrame()
    row: dict[str, object] = {"class": VENTRICLE, "limit_mm": ENLARGED_MM}
    for name, count, of in (("sensitivity", "n_enlarged", is_wide), ("specificity", "n_normal", ~is_wide)):
        row |= {count: int(of.sum())} | share_over(parts[of], name)
    return pd.DataFrame([row])


def holds_all_parts(table: pd.DataFrame, long: pd.DataFrame) -> bool:
    """Whether n, missed and invented of `widths` account for every row of widths.csv."""
    return counts_all(table, long, ["class", "part"], long["outcome"] == "both", ["missed", "invented"])
