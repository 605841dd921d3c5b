"""How far predicted landmarks lie from the reference's, from the long table of 05_evaluation."""

import numpy as np
import pandas as pd

from lib.report.summaries.means import by_case, counts_all, estimated, mean_over_cases


def landmarks(errors: pd.DataFrame) -> pd.DataFrame:
    """How far predicted ends lie from the reference's, by line and route.

    Errors are averaged over a case's seeds first. Means in pixels and in percent are over n cases, those in mm over
    the n_mm of them whose pixel size is known; a guess, which knows no seed, counts once a case. `missed` counts
    predictions of a line without both ends: they have no distance and are in no mean.

    Args:
        errors: cases.csv of a landmark study's 05_evaluation, a row a case x seed x route x line.

    Returns:
        A row a line x route: n, n_mm, mean error in mm and in native pixels with 95 % intervals from resampling
        subjects, median and 95th percentile over cases in mm, mean error in percent of the reference's OFD, missed.
    """
    groups = errors.groupby(["line", "route"], sort=False)
    return pd.DataFrame([{"line": line, "route": route} | _describe(group) for (line, route), group in groups])


def _describe(group: pd.DataFrame) -> dict[str, object]:
    """One row of `landmarks`."""
    of_cases = by_case(group, ["error_mm", "error_px", "normalised_error_percent"])
    known = of_cases["error_mm"].dropna()
    mm, px = (mean_over_cases(group, name) for name in ("error_mm", "error_px"))
    return {
        "n": px.count,
        "n_mm": mm.count,
        **estimated("error_mm", mm),
        **estimated("error_px", px),
        "median_mm": float(known.median()),
        "percentile_95_mm": float(np.percentile(known, 95)) if len(known) else float("nan"),
        "normalised_error_percent": float(of_cases["normalised_error_percent"].mean()),
        "missed": int(group["error_px"].isna().sum()),
    }


def holds_all_lines(table: pd.DataFrame, errors: pd.DataFrame) -> bool:
    """Whether n and missed of `landmarks` count every row of the long table."""
    return counts_all(table, errors, ["line", "route"], errors["error_px"].notna(), ["missed"])
