"""Two studies on the same cases, paired, from the long tables of 07_comparison."""

import pandas as pd

from lib import statistics
from lib.report.summaries.means import estimated

PAIR = ["quantity", "route_a", "study_b", "route_b"]
NOTABLE_MM = 0.5  # mean difference of two studies' references from which they are not the same reference


def comparison(long: pd.DataFrame) -> pd.DataFrame:
    """Errors of two studies on the same cases, paired; A is this study.

    Args:
        long: comparison.csv of 07_comparison, a row a pair x quantity x case, seeds averaged.

    Returns:
        A row a quantity x pair: n cases that both measured, their mean absolute errors, the mean of A's minus B's with
        its 95 % interval from resampling subjects, the share of cases in which A's is the smaller, and how many
        predictions of A and of B could not be measured: those are in no mean.
    """
    rows = []
    for pair, group in long.groupby(PAIR, sort=False):
        both = group.dropna(subset=["difference_mm"])
        found = statistics.bootstrap(both["difference_mm"].to_numpy(float), both["subject"].to_numpy())
        means = {f"error_{side}_mm": float(both[f"error_{side}_mm"].mean()) for side in "ab"}
        better = float(100 * (both["difference_mm"] < 0).mean())
        counts = {f"not_measured_{side}": int(group[f"not_measured_{side}"].sum()) for side in "ab"}
        described = means | estimated("difference_mm", found) | {"a_better_percent": better}
        rows.append(dict(zip(PAIR, pair)) | {"n": found.count} | described | counts)
    return pd.DataFrame(rows)


def references(long: pd.DataFrame) -> pd.DataFrame:
    """How far the references of two compared studies lie apart: those of A minus those of B, in the cases of both.

    Args:
        long: comparison.csv of 07_comparison.

    Returns:
        A row a quantity x other study: n cases, mean difference with its 95 % interval, mean and largest amount, and
        whether the mean amount is above NOTABLE_MM, so that the studies are not judged by the same reference.
    """
    rows = []
    others = long[long["study_a"] != long["study_b"]]
    for (quantity, study), group in others.groupby(["quantity", "study_b"], sort=False):
        one = group.drop_duplicates("case")
        apart = one["reference_a_mm"] - one["reference_b_mm"]
        found = statistics.bootstrap(apart.to_numpy(float), one["subject"].to_numpy())
        amounts = {"amount_mm": float(apart.abs().mean()), "largest_mm": float(apart.abs().max())}
        key = {"quantity": quantity, "study_b": study, "n": found.count}
        rows.append(key | estimated("difference_mm", found) | amounts | {"differ": amounts["amount_mm"] > NOTABLE_MM})
    return pd.DataFrame(rows)


def overlap_comparison(long: pd.DataFrame) -> pd.DataFrame:
    """Dice of two studies on the same cases after post-processing, paired; A is this study.

    Args:
        long: overlaps.csv of 07_comparison, a row a pair x class x case whose reference shows the class.

    Returns:
        A row a class x other study: n, mean Dice of both, the mean of A's minus B's with its 95 % interval from
        resampling subjects, and the share of cases in which A's is the higher.
    """
    rows = []
    for (name, study), group in long.groupby(["class", "study_b"], sort=False):
        both = group.dropna(subset=["difference"])
        found = statistics.bootstrap(both["difference"].to_numpy(float), both["subject"].to_numpy())
        means = {f"dice_{side}": float(both[f"dice_{side}"].mean()) for side in "ab"}
        better = {"a_better_percent": float(100 * (both["difference"] > 0).mean())}
        key = {"class": name, "study_b": study, "n": found.count}
        rows.append(key | means | estimated("difference", found) | better)
    return pd.DataFrame(rows)
