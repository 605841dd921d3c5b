"""Two studies on the same cases, paired, from the long tables of 07_comparison; A is this study.

Differences are A's minus B's, with 95 % intervals from resampling subjects.
"""

import pandas as pd

from lib.report.summaries.means import by_group, estimated, mean_over_rows

PAIR = ["quantity", "route_a", "study_b", "route_b"]
NOTABLE_MM = 0.5  # mean difference of two studies' references from which they are not the same reference


def comparison(long: pd.DataFrame) -> pd.DataFrame:
    """Absolute errors of two studies by pair, from comparison.csv: one row per pair x quantity x case, seeds averaged.

    Means are over the n cases that both measured; predictions of A and of B that could not be measured are counted.
    """

    def describe(group: pd.DataFrame) -> dict[str, object]:
        both = group.dropna(subset=["difference_mm"])
        difference = mean_over_rows(both, "difference_mm")
        means = {f"error_{side}_mm": float(both[f"error_{side}_mm"].mean()) for side in "ab"}
        better = {"a_better_percent": float(100 * (both["difference_mm"] < 0).mean())}
        counts = {f"not_measured_{side}": int(group[f"not_measured_{side}"].sum()) for side in "ab"}
        return {"n": difference.count} | means | estimated("difference_mm", difference) | better | counts

    return by_group(long, PAIR, describe)


def references(long: pd.DataFrame) -> pd.DataFrame:
    """How far the references of two studies lie apart by quantity and other study, in the cases of both.

    `differ` says that the mean amount is above NOTABLE_MM, so that they are not judged by the same reference.
    """

    def describe(group: pd.DataFrame) -> dict[str, object]:
        one = group.drop_duplicates("case")
        one = one.assign(apart=one["reference_a_mm"] - one["reference_b_mm"])
        amounts = one["apart"].abs()
        difference, amount = mean_over_rows(one, "apart"), float(amounts.mean())
        row = {"n": difference.count} | estimated("difference_mm", difference)
        return row | {"amount_mm": amount, "largest_mm": float(amounts.max()), "differ": amount > NOTABLE_MM}

    return by_group(long[long["study_a"] != long["study_b"]], ["quantity", "study_b"], describe)


def overlap_comparison(long: pd.DataFrame) -> pd.DataFrame:
    """Dice of two studies after post-processing by class and other study, from overlaps.csv.

    Means are over the n cases whose reference shows the class and that both predicted.
    """

    def describe(group: pd.DataFrame) -> dict[str, object]:
        both = group.dropna(subset=["difference"])
        difference = mean_over_rows(both, "difference")
        means = {f"dice_{side}": float(both[f"dice_{side}"].mean()) for side in "ab"}
        better = {"a_better_percent": float(100 * (both["difference"] > 0).mean())}
        return {"n": difference.count} | means | estimated("difference", difference) | better

    return by_group(long, ["class", "study_b"], describe)
