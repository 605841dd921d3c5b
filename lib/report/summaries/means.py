"""Summaries of a long table: one row per group, and means over cases with confidence intervals."""

from collections.abc import Callable

import pandas as pd

from lib import statistics
from lib.statistics import Estimate


def by_group(rows: pd.DataFrame, key: list[str], describe: Callable[[pd.DataFrame], dict[str, object]]) -> pd.DataFrame:
    """One row per group, in order of appearance: its key and the values that `describe` computes from its rows."""
    groups = rows.groupby(key, sort=False, dropna=False)
    return pd.DataFrame([dict(zip(key, values)) | describe(group) for values, group in groups])


def with_interval(name: str, estimate: Estimate) -> dict[str, float]:
    """The columns of an estimate, which `tables` prints as one column and a number of subjects (`Estimate.columns`)."""
    return estimate.columns(name)


def by_case(rows: pd.DataFrame, values: list[str]) -> pd.DataFrame:
    """The subject of each case, and the means of some columns over its seeds, ignoring missing values."""
    return rows.groupby("case", sort=False).agg({"subject": "first"} | dict.fromkeys(values, "mean"))


def mean_over(rows: pd.DataFrame, value: str) -> Estimate:
    """The mean of a column over cases (one per row) with a value, with its 95 % CI from resampling subjects."""
    return statistics.mean_interval(rows[value].to_numpy(float), rows["subject"].to_numpy())


def median_over(rows: pd.DataFrame, value: str) -> Estimate:
    """The median of a column over cases (one per row) with a value, with its 95 % CI by subject."""
    return statistics.median_interval(rows[value].to_numpy(float), rows["subject"].to_numpy())


def mean_without_largest(rows: pd.DataFrame, value: str) -> float:
    """The mean of a column over cases (one per row) but the one with the largest value; NaN below two values."""
    return float(rows[value].dropna().sort_values().iloc[:-1].mean())


def share_over(rows: pd.DataFrame, value: str) -> dict[str, float]:
    """The share of cases in which a boolean column holds, in percent, and its 95 % CI: <value>_percent, _low, _high."""
    total = statistics.effective_number(rows[value].to_numpy(float), rows["subject"].to_numpy()) if len(rows) else 0
    share, low, high = statistics.proportion_interval(float(rows[value].mean()) * total, total)
    name = f"{value}_percent"
    return {name: 100 * share, f"{name}_low": 100 * low, f"{name}_high": 100 * high}


def counts_all(table: pd.DataFrame, long: pd.DataFrame, key: list[str], in_mean: pd.Series, others: list[str]) -> bool:
    """Whether a table by `key` accounts for all long rows: n counts the cases `in_mean`, `others` all other rows."""
    cases = long[in_mean].drop_duplicates(["case", *key])
    counted = table.reindex(columns=["n", *others]).sum()
    return [counted["n"], counted[others].sum()] == [len(cases), int((~in_mean).sum())]
