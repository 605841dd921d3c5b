"""Paired comparisons of this study (A) with others (B), from 07_comparison; 95 % CIs are by subject."""

import pandas as pd

from lib.report.summaries.means import by_group, mean_over, share_over, with_interval

PAIR = ["quantity", "route_a", "study_b", "route_b"]
NOTABLE_MM = 0.5  # mean absolute difference above which the references of two studies count as different


def comparison(long: pd.DataFrame) -> pd.DataFrame:
    """Absolute errors by pair over the n cases of comparison.csv measured by both, and counts of missing values."""

    def describe(group: pd.DataFrame) -> dict[str, object]:
        counts = {name: int(group[name].sum()) for name in ("not_measured_a", "not_measured_b")}
        return _paired(group, ("error_a_mm", "error_b_mm"), "difference_mm", lower_is_better=True) | counts

    return by_group(long, PAIR, describe)


def _paired(group: pd.DataFrame, sides: tuple[str, str], difference: str, lower_is_better: bool) -> dict[str, object]:
    """Means of A, B and A - B, and percentage of cases in which A is better."""
    both = group.dropna(subset=[difference])
    mean = mean_over(both, difference)
    better = both[difference] < 0 if lower_is_better else both[difference] > 0
    means = {side: float(both[side].mean()) for side in sides}
    share = share_over(both.assign(a_better=better), "a_better")
    return {"n": mean.count} | means | with_interval(difference, mean) | share


def references(long: pd.DataFrame) -> pd.DataFrame:
    """Difference between the references of two studies; they `differ` if the mean absolute one is above NOTABLE_MM."""

    def describe(group: pd.DataFrame) -> dict[str, object]:
        one = group.drop_duplicates("case")
        one = one.assign(difference=one["reference_a_mm"] - one["reference_b_mm"])
        amounts = one["difference"].abs()
        difference, amount = mean_over(one, "difference"), float(amounts.mean())
        row = {"n": difference.count} | with_interval("difference_mm", difference)
        return row | {"amount_mm": amount, "largest_mm": float(amounts.max()), "differ": amount > NOTABLE_MM}

    return by_group(long[long["study_a"] != long["study_b"]], ["quantity", "study_b"], describe)


def overlap_comparison(long: pd.DataFrame) -> pd.DataFrame:
    """Dice after post-processing by class and other study, over the n cases of overlaps.csv predicted by both."""

    def describe(group: pd.DataFrame) -> dict[str, object]:
        return _paired(group, ("dice_a", "dice_b"), "difference", lower_is_better=False)

    return by_group(long, ["class", "study_b"], describe)
