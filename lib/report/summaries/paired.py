"""Two studies on the same cases, paired, from the long tables of 07_comparison; A is this study.

Differences are A's minus B's, with 95 % intervals from resampling subjects.
"""

import pandas as pd

from lib.report.summaries.means import by_group, estimated, mean_over

PAIR = ["quantity", "route_a", "study_b", "route_b"]
NOTABLE_MM = 0.5  # mean difference of two studies' references from which they are not the same reference


def comparison(long: pd.DataFrame) -> pd.DataFrame:
    """Absolute errors by pair, over the n cases of comparison.csv that both measured; what was not measured counted."""

    def describe(group: pd.DataFrame) -> dict[str, object]:
        counts = {name: int(group[name].sum()) for name in ("not_measured_a", "not_measured_b")}
        return _paired(group, ("error_a_mm", "error_b_mm"), "difference_mm", lower_is_better=True) | counts

    return by_group(long, PAIR, describe)


def _paired(group: pd.DataFrame, sides: tuple[str, str], difference: str, lower_is_better: bool) -> dict[str, object]:
    """Means of A and B and of their difference A - B, and the share of cases in which A is better."""
    both = group.dropna(subset=[difference])
    mean = mean_over(both, difference)
    better = both[difference] < 0 if lower_is_better else both[difference] > 0
    means = {side: float(both[side].mean()) for side in sides}
    return {"n": mean.count} | means | estimated(difference, mean) | {"a_better_percent": float(100 * better.mean())}


def references(long: pd.DataFrame) -> pd.DataFrame:
    """How far the references of two studies lie apart; they `differ` if the mean amount is above NOTABLE_MM."""

    def describe(group: pd.DataFrame) -> dict[str, object]:
        one = group.drop_duplicates("case")
        one = one.assign(apart=one["reference_a_mm"] - one["reference_b_mm"])
        amounts = one["apart"].abs()
        difference, amount = mean_over(one, "apart"), float(amounts.mean())
        row = {"n": difference.count} | estimated("difference_mm", difference)
        return row | {"amount_mm": amount, "largest_mm": float(amounts.max()), "differ": amount > NOTABLE_MM}

    return by_group(long[long["study_a"] != long["study_b"]], ["quantity", "study_b"], describe)


def overlap_comparison(long: pd.DataFrame) -> pd.DataFrame:
    """Dice after post-processing by class and other study, over the n cases of overlaps.csv that both predicted."""

    def describe(group: pd.DataFrame) -> dict[str, object]:
        return _paired(group, ("dice_a", "dice_b"), "difference", lower_is_better=False)

    return by_group(long, ["class", "study_b"], describe)
