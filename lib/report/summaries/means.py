"""Means over cases with their intervals, and whether a table counts every row that it was made of."""

import pandas as pd

from lib import statistics
from lib.statistics import Estimate


def estimated(name: str, found: Estimate) -> dict[str, float]:
    """A mean with the ends of its interval beside it: <name>, <name>_low, <name>_high."""
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def by_case(rows: pd.DataFrame, values: list[str]) -> pd.DataFrame:
    """The subject of each case, and the means of some columns over its seeds, what is missing left out."""
    return rows.groupby("case", sort=False).agg({"subject": "first"} | dict.fromkeys(values, "mean"))


def mean_over_cases(rows: pd.DataFrame, value: str) -> Estimate:
    """The mean of a column over cases whose seeds are averaged first, and in how many cases it is not missing."""
    found = by_case(rows, [value])
    return statistics.bootstrap(found[value].to_numpy(float), found["subject"].to_numpy())


def counts_all(table: pd.DataFrame, long: pd.DataFrame, key: list[str], in_mean: pd.Series, others: list[str]) -> bool:
    """Whether no row is lost between a long table and its view.

    Args:
        table: the view, in which n counts cases.
        long: the long table.
        key: columns that tell the view's rows apart.
        in_mean: of each row of the long table, whether the mean should hold it.
        others: columns of the view that count all other rows.
    """
    cases = long[in_mean].drop_duplicates(["case", *key])
    counted = table.reindex(columns=["n", *others]).sum()
    return [counted["n"], counted[others].sum()] == [len(cases), int((~in_mean).sum())]
