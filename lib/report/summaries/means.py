"""Views of a long table: one row per group, means over cases with their intervals, and whether no row is lost."""

from collections.abc import Callable

import pandas as pd

from lib import statistics
from lib.statistics import Estimate


def by_group(rows: pd.DataFrame, key: list[str], describe: Callable[[pd.DataFrame], dict[str, object]]) -> pd.DataFrame:
    """One row per group, in the order in which they come: its key, and what `describe` says of its rows."""
    groups = rows.groupby(key, sort=False, dropna=False)
    return pd.DataFrame([dict(zip(key, values)) | describe(group) for values, group in groups])


def estimated(name: str, mean: Estimate) -> dict[str, float]:
    """A mean with the ends of its interval beside it: <name>, <name>_low, <name>_high."""
    return {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}


def by_case(rows: pd.DataFrame, values: list[str]) -> pd.DataFrame:
    """The subject of each case, and the means of some columns over its seeds, what is missing left out."""
    return rows.groupby("case", sort=False).agg({"subject": "first"} | dict.fromkeys(values, "mean"))


def mean_over(rows: pd.DataFrame, value: str) -> Estimate:
    """The mean of a column over rows of one case each that have a value, its interval from resampling subjects."""
    return statistics.bootstrap(rows[value].to_numpy(float), rows["subject"].to_numpy())


def counts_all(view: pd.DataFrame, long: pd.DataFrame, key: list[str], in_mean: pd.Series, others: list[str]) -> bool:
    """Whether a view by `key` loses no row of its long table: n counts the cases `in_mean`, `others` all other rows."""
    cases = long[in_mean].drop_duplicates(["case", *key])
    counted = view.reindex(columns=["n", *others]).sum()
    return [counted["n"], counted[others].sum()] == [len(cases), int((~in_mean).sum())]
