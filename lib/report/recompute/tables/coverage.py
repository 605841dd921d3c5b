"""Coverage of the intervals of measurements, and the bounds from which these intervals follow."""

import math

from lib.report.recompute.estimates import NAN, median_interval, quantile, share_of_cases
from lib.report.recompute.results import Results, Row, grouped, summarised
from lib.report.recompute.tables.agreement import KEY, in_order_of_size
from lib.report.recompute.tables.biometry import GUESSES

LEVEL = 0.9
FEWEST = 9  # subjects: of nine, the largest score is the bound
QUANTITIES = ("bpd", "ofd", "hc")


def bounds(results: Results) -> list[Row]:
    """intervals.csv of 05: the scaled error that enough validation subjects keep, by run and quantity."""
    rows = []
    for (fold, seed), of_run in grouped(results.rows("05_evaluation/validation"), "fold", "seed").items():
        counts = {f"{name}s": len(grouped(of_run, key)) for name, key in (("subject", "subject"), ("image", "case"))}
        for quantity in QUANTITIES:
            heads = [row for row in of_run if row["quantity"] == quantity]
            key = {"fold": fold, "seed": seed, "quantity": quantity, "level": LEVEL}
            rows.append(key | counts | {"error_per_root": bound(heads)})
    return rows


def bound(heads: list[Row]) -> float:
    """The smallest scaled error that LEVEL of the subjects and a next one keep, even if that one does not.

    Each subject weighs 1 and shares it among its heads; NaN if they do not suffice. Source: Lee, Barber, Willett 2023.
    """
    subjects = grouped(heads, "subject")
    errors = sorted({scaled_error(row) for row in heads})
    for error in errors:
        kept = math.fsum(sum(scaled_error(row) <= error for row in of) / len(of) for of in subjects.values())
        if kept >= LEVEL * (len(subjects) + 1) - 1e-9:
            return error if math.isfinite(error) else NAN
    return NAN


def scaled_error(row: Row) -> float:
    """Error divided by the root of the prediction, both in mm; infinite without a prediction."""
    predicted = row["predicted_mm"]
    return abs(predicted - row["reference_mm"]) / math.sqrt(predicted) if predicted > 0 else math.inf


def known_bounds(results: Results) -> dict[tuple, float]:
    """Scaled errors of intervals.csv by fold, seed and quantity, of the runs that have one."""
    rows = [row for row in results.rows("05_evaluation/intervals") if not math.isnan(row["error_per_root"])]
    return {(row["fold"], row["seed"], row["quantity"]): row["error_per_root"] for row in rows}


def limits(row: Row, reach: float) -> tuple[float, float]:
    """(low, high) of a row of measurements.csv whose run has the bound `reach`, NaN for none."""
    predicted = row["predicted_mm"]
    if row["route"] in GUESSES or row["stage"] != "post" or math.isnan(predicted + reach):
        return NAN, NAN
    mm = reach * predicted**0.5
    return max(predicted - mm, 0.0), predicted + mm


def judged(results: Results) -> list[Row]:
    """Final predictions with a reference: whether their run has a bound, and whether the interval has the reference."""
    bounds, rows = known_bounds(results), []
    for row in results.rows("06_biometry/measurements"):
        if row["route"] in GUESSES or row["stage"] != "post" or math.isnan(row["reference_mm"]):
            continue
        width = row["high_mm"] - row["low_mm"]
        values = {"calibrated": (row["fold"], row["seed"], row["quantity"]) in bounds, "width": width}
        values["covered"] = row["low_mm"] <= row["reference_mm"] <= row["high_mm"]
        rows.append(row | values | {"percent": 100 * width / row["predicted_mm"]})
    return rows


def coverage(results: Results) -> list[Row]:
    """Coverage by quantity and route."""
    return summarised(judged(results), KEY, _coverage)


def _coverage(rows: list[Row]) -> Row:
    known = [row for row in rows if row["calibrated"]]
    subjects = [row["subject"] for row in known]
    whole = {key[0]: [] for key in grouped(known, "subject", "seed")}
    for key, of in grouped(known, "subject", "seed").items():
        whole[key[0]].append(all(row["covered"] for row in of))
    pairs = [(each, subject) for subject, of in whole.items() for each in of]
    row = {"n": len(grouped(known, "case")), "covered": sum(row["covered"] for row in known)}
    row |= share_of_cases("covered", [row["covered"] for row in known], subjects)
    row |= share_of_cases("whole_subject", [each for each, _ in pairs], [subject for _, subject in pairs])
    row |= median_interval([row["width"] for row in known], subjects).columns("median_width_mm")
    row["median_width_percent"] = quantile([row["percent"] for row in known], 0.5)
    row["not_measured"] = sum(math.isnan(row["predicted_mm"]) for row in known)
    return row | {"without_interval": len(rows) - len(known)}


def by_size(results: Results) -> list[Row]:
    """Coverage by group of the data set, in order of HC."""
    rows = in_order_of_size(results, [row for row in judged(results) if row["calibrated"]])

    def describe(of_group: list[Row]) -> Row:
        sizes, widths = ([row[name] for row in of_group] for name in ("hc_mm", "width"))
        row = {"smallest_hc_mm": min(sizes), "largest_hc_mm": max(sizes), "n": len(grouped(of_group, "case"))}
        row["covered"] = sum(row["covered"] for row in of_group)
        held, subjects = ([each[name] for each in of_group] for name in ("covered", "subject"))
        return row | share_of_cases("covered", held, subjects) | {"median_width_mm": quantile(widths, 0.5)}

    return summarised(rows, (*KEY, "group"), describe)


TABLES = {"coverage": coverage, "coverage-by-size": by_size}
