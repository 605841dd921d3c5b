"""Tables of 05_evaluation of a landmark study."""

import math

from lib.report.recompute.estimates import (
    NAN,
    by_case,
    largest,
    mean,
    mean_over_cases,
    median_over_cases,
    quantile,
)
from lib.report.recompute.results import Results, Row, summarised

BLANK_LOSS = 1.0  # of a heatmap without a peak, by the definition of the loss


def points(results: Results) -> list[Row]:
    """Errors of endpoints by line and route."""

    def describe(rows: list[Row]) -> Row:
        mm, px = (mean_over_cases(rows, lambda row, unit=unit: row[f"error_{unit}"]) for unit in ("mm", "px"))
        of_cases = by_case(rows, lambda row: row["error_mm"])[0]
        percent = mean(by_case(rows, lambda row: row["normalised_error_percent"])[0])
        row = {"n": px.n, "n_mm": mm.n} | mm.columns("error_mm") | px.columns("error_px")
        row |= median_over_cases(rows, lambda row: row["error_mm"]).columns("median_mm")
        row |= {"lower_quartile_mm": quantile(of_cases, 0.25), "upper_quartile_mm": quantile(of_cases, 0.75)}
        row["percentile_95_mm"] = quantile(of_cases, 0.95)
        row["normalised_error_percent"] = percent
        return row | {"missed": sum(math.isnan(each["error_px"]) for each in rows)}

    return summarised(results.rows("05_evaluation/cases"), ("line", "route"), describe)


def heatmap_loss(results: Results) -> list[Row]:
    """Validation loss and error of the last best epoch of each run."""
    table = []
    for step in results.runs:
        best = [row for row in results.rows(f"{step.label}/history") if row["best"]][-1]
        fold, seed = step.run or (0, 0)
        row = {"fold": fold, "seed": seed, "kept_epoch": best["epoch"], "heatmap_loss": best["validation_loss"]}
        row["blank_map_loss"] = BLANK_LOSS
        table.append(row | {"validation_error_percent": best["validation_error_percent"]})
    return table


def precision(results: Results) -> list[Row]:
    """Effect of the precision of training on endpoints."""

    def describe(rows: list[Row]) -> Row:
        px, mm = ([row[f"shift_{unit}"] for row in rows] for unit in ("px", "mm"))
        row = {"n": sum(not math.isnan(each) for each in px)}
        row |= {"mean_shift_px": mean(px), "largest_shift_px": largest(px)}
        return row | {"mean_shift_mm": mean(mm), "largest_shift_mm": largest(mm)}

    return summarised(results.rows("05_evaluation/precision"), ("line", "training_precision"), describe)


def paired_error(predicted: list[tuple[float, float]], reference: list[tuple[float, float]]) -> float:
    """Mean distance of two endpoints from the reference, under the better of the two pairings; NaN without one."""
    pairings = [sum(map(math.dist, predicted, ends)) / 2 for ends in (reference, reference[::-1])]
    return NAN if any(map(math.isnan, pairings)) else min(pairings)


TABLES = {"points": points, "heatmap_loss": heatmap_loss, "precision": precision}
