"""How far predicted landmarks lie from the reference's, from the long table of 05_evaluation."""

import numpy as np
import pandas as pd

from lib.report.summaries.means import by_case, by_group, counts_all, estimated, mean_over


def landmarks(errors: pd.DataFrame) -> pd.DataFrame:
    """How far predicted ends lie from the reference's: one row per line and route of cases.csv of 05_evaluation.

    Errors are averaged over a case's seeds first. Means in pixels and in percent of the reference's OFD are over n
    cases, those in mm over the n_mm of them whose pixel size is known; a guess, which knows no seed, counts once per
    case. `missed` counts predictions of a line without both ends: they have no distance and are in no mean.
    """
    return by_group(errors, ["line", "route"], _describe)


def _describe(group: pd.DataFrame) -> dict[str, object]:
    of_cases = by_case(group, ["error_mm", "error_px", "normalised_error_percent"])
    known = of_cases["error_mm"].dropna()
    mm, px = (mean_over(of_cases, name) for name in ("error_mm", "error_px"))
    row = {"n": px.count, "n_mm": mm.count} | estimated("error_mm", mm) | estimated("error_px", px)
    row["median_mm"] = float(known.median())
    row["percentile_95_mm"] = float(np.percentile(known, 95)) if len(known) else float("nan")
    row["normalised_error_percent"] = float(of_cases["normalised_error_percent"].mean())
    return row | {"missed": int(group["error_px"].isna().sum())}


def holds_all_lines(table: pd.DataFrame, errors: pd.DataFrame) -> bool:
    """Whether n and missed of `landmarks` count every row of the long table."""
    return counts_all(table, errors, ["line", "route"], errors["error_px"].notna(), ["missed"])
