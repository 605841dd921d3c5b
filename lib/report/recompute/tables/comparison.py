"""Tables of 07_comparison: this study (A) against others (B)."""

import math

from lib.report.recompute.estimates import Estimate, largest, mean, mean_interval, share_of_cases
from lib.report.recompute.results import Results, Row, grouped, summarised

NOTABLE_MM = 0.5  # mean absolute difference above which two references are said to differ


def comparison(results: Results) -> list[Row]:
    """Paired absolute errors."""

    def describe(rows: list[Row]) -> Row:
        both = [row for row in rows if not math.isnan(row["difference_mm"])]
        counts = {name: sum(row[name] for row in rows) for name in ("not_measured_a", "not_measured_b")}
        return _paired(both, ("error_a_mm", "error_b_mm"), "difference_mm", -1) | counts

    rows = results.rows("07_comparison/comparison")
    return summarised(rows, ("quantity", "route_a", "study_b", "route_b"), describe)


def overlaps(results: Results) -> list[Row]:
    """Paired Dice."""

    def describe(rows: list[Row]) -> Row:
        both = [row for row in rows if not math.isnan(row["difference"])]
        return _paired(both, ("dice_a", "dice_b"), "difference", 1)

    return summarised(results.rows("07_comparison/overlaps"), ("class", "study_b"), describe)


def _paired(rows: list[Row], sides: tuple[str, str], difference: str, better: int) -> Row:
    """Means of both and of the difference, and the share of cases in which its sign says that A is better."""
    one, subjects = _over(rows, difference), [row["subject"] for row in rows]
    row = {"n": one.n} | {side: mean([row[side] for row in rows]) for side in sides} | one.columns(difference)
    return row | share_of_cases("a_better", [row[difference] * better > 0 for row in rows], subjects)


def _over(rows: list[Row], column: str) -> Estimate:
    return mean_interval([row[column] for row in rows], [row["subject"] for row in rows])


def references(results: Results) -> list[Row]:
    """Differences between the references of two studies."""

    def describe(rows: list[Row]) -> Row:
        once = [of_case[0] for of_case in grouped(rows, "case").values()]
        once = [row | {"difference": row["reference_a_mm"] - row["reference_b_mm"]} for row in once]
        one, amounts = _over(once, "difference"), [abs(row["difference"]) for row in once]
        row = {"n": one.n} | one.columns("difference_mm") | {"amount_mm": mean(amounts), "largest_mm": largest(amounts)}
        return row | {"differ": mean(amounts) > NOTABLE_MM}

    rows = [row for row in results.rows("07_comparison/comparison") if row["study_a"] != row["study_b"]]
    return summarised(rows, ("quantity", "study_b"), describe)


TABLES = {"comparison": comparison, "references": references, "overlaps": overlaps}
