"""How well flags find large errors of HC (06_biometry), over all measured heads; limits come from validation cases."""

import numpy as np
import pandas as pd

from lib import statistics
from lib.data.cases import TRIVIAL_BASELINES
from lib.evaluation import quality

ANY, NONE = "any flag", "no flag"
RATE = ["", "_low", "_high"]


def worth(measurements: pd.DataFrame) -> pd.DataFrame:
    """One row per flag that was raised, the most frequent first, then ANY and NONE; no rows without a head.

    Of all heads after post-processing (cases of one subject, and seeds, count as independent): how many have the flag
    (share_percent), how many of these have a large error or were not measured (`quality.is_large`; precision_percent),
    and the share of all large errors that they are (recall_percent), with 95 % Wilson intervals. In the row NONE these
    are the heads without a flag, and the large errors that no flag found. The row ANY has the p value of Fisher's exact
    test (two-sided) of large errors with and without a flag; single flags are not tested.
    """
    heads = heads_of(measurements)
    if heads.empty:
        return pd.DataFrame()
    flags = heads["flags"].map(lambda text: set(filter(None, text.split("; "))))
    large = quality.is_large(heads["predicted_mm"], heads["reference_mm"])
    names = sorted(set().union(*flags), key=lambda name: (-sum(name in of for of in flags), name))
    groups = {name: flags.map(lambda of, name=name: name in of) for name in names}
    groups |= {ANY: flags.map(bool), NONE: ~flags.map(bool)}
    table = pd.DataFrame([{"flag": name} | _worth(has.to_numpy(), large) for name, has in groups.items()])
    return table.assign(p=np.where(table["flag"] == ANY, _p_value(groups[ANY].to_numpy(), large), np.nan))


def _p_value(has: np.ndarray, large: np.ndarray) -> float:
    """NaN if all heads have a flag or none, or all errors are large or none: then nothing is compared."""
    from scipy import stats  # takes a second, and only studies with heads need it

    if has.all() or large.all() or not (has.any() and large.any()):
        return float("nan")
    table = [[int((each & has).sum()), int((each & ~has).sum())] for each in (large, ~large)]
    return float(stats.fisher_exact(table).pvalue)


def heads_of(measurements: pd.DataFrame) -> pd.DataFrame:
    """Rows of HC after post-processing with a reference, by the network."""
    rows = measurements[(measurements["stage"] == "post") & (measurements["quantity"] == "hc")]
    return rows[~rows["route"].isin(TRIVIAL_BASELINES) & rows["reference_mm"].notna()]


def _worth(has: np.ndarray, large: np.ndarray) -> dict[str, object]:
    heads, hits = int(has.sum()), int((has & large).sum())
    row = {"heads": heads} | _rate("share", heads, len(has)) | {"large_errors": hits}
    return row | _rate("precision", hits, heads) | _rate("recall", hits, int(large.sum()))


def _rate(name: str, hits: int, total: int) -> dict[str, float]:
    values = (100 * value for value in statistics.proportion_interval(hits, total))
    return {f"{name}_percent{part}": value for part, value in zip(RATE, values)}


def holds_all_heads(table: pd.DataFrame, measurements: pd.DataFrame) -> bool:
    """Whether the rows ANY and NONE of `worth` account for every head: flagged ones are in no mean left out."""
    counted = int(table.loc[table["flag"].isin([ANY, NONE]), "heads"].sum()) if len(table) else 0
    return counted == len(heads_of(measurements))
