"""Components of the error of HC on phantoms (error-budget.csv of 06), seeds averaged first."""

import numpy as np
import pandas as pd

from lib.report.summaries.means import by_case, mean_over, with_interval


def components(long: pd.DataFrame) -> list[str]:
    """Columns of the components and of their sum, which is the last."""
    return [name for name in long if name.endswith("_mm")]


def component_name(column: str) -> str:
    """Name of a component as printed."""
    return column.removesuffix("_mm").replace("_", " ")


def error_budget(long: pd.DataFrame) -> pd.DataFrame:
    """Mean with confidence interval, SD and root mean square of each component and of the total, over the same n cases.

    `share_percent` is the mean product of a component and the total, in percent of the total's mean square: shares add
    up to 100 %, and a component that compensates others has a negative one. `not_measured` counts predictions.
    """
    names = components(long)
    complete = long[long[names].notna().all(axis=1)]
    if complete.empty:
        return pd.DataFrame()
    of_cases = by_case(complete, names)
    total = of_cases[names[-1]].to_numpy(float)
    missing = len(long) - len(complete)
    return pd.DataFrame([_component(of_cases, name, total) | {"not_measured": missing} for name in names])


def _component(of_cases: pd.DataFrame, name: str, total: np.ndarray) -> dict[str, object]:
    values, mean = of_cases[name].to_numpy(float), mean_over(of_cases, name)
    row: dict[str, object] = {"component": component_name(name), "n": mean.count}
    row |= with_interval("mean_mm", mean)
    row["sd_mm"] = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    row["rms_mm"] = float(np.sqrt(np.mean(values**2)))
    return row | {"share_percent": float(100 * np.mean(values * total) / np.mean(total**2))}


def holds_all_errors(table: pd.DataFrame, long: pd.DataFrame) -> bool:
    """Whether n and not_measured of `error_budget` account for every row of error-budget.csv, and shares for 100 %."""
    is_complete = long[components(long)].notna().all(axis=1)
    if not is_complete.any():
        return table.empty
    counts = long[is_complete]["case"].nunique(), int((~is_complete).sum())
    shares = table["share_percent"].iloc[:-1].sum()
    return bool((table[["n", "not_measured"]] == counts).all(axis=None) and np.isclose(shares, 100))
