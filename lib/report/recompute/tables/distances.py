"""Tables of 05_evaluation of boundary distances, size errors, presence and parts, from its cases.csv."""

import math
from collections.abc import Callable

from lib.report.recompute.estimates import (
    NAN,
    by_case,
    known,
    largest,
    mean,
    mean_over_cases,
    median_over_cases,
    share_of_cases,
)
from lib.report.recompute.results import Results, Row, drawn, grouped, present, summarised
from lib.report.recompute.tables.regions import CASES, dice_of, outcomes

HALF = 0.5  # Dice from which a structure is found in its place


def in_unit(unit: str) -> Callable[[Results], list[Row]]:
    """Distances by class and stage of the cases in a unit, and where some are missing with the diagonal instead."""

    def table(results: Results) -> list[Row]:
        rows = [row for row in results.rows(CASES) if not math.isnan(row[f"diagonal_{unit}"])]
        lines = []
        for key, group in grouped(rows, "class", "stage").items():
            counts = {name: count for name, count in outcomes(group).items() if name in ("missed", "invented")}
            found = [row for row in group if not math.isnan(row[f"hd95_{unit}"])]
            every = [_penalised(row, unit) for row in group if present(row) or drawn(row)]
            parts = [(False, found)] + ([(True, every)] if any(counts.values()) else [])
            start = dict(zip(("class", "stage"), key))
            lines += [start | {"penalty": is_penalised} | _lengths(of, unit) | counts for is_penalised, of in parts]
        return lines

    return table


def _penalised(row: Row, unit: str) -> Row:
    missing = {name: row[f"diagonal_{unit}"] for name in (f"hd95_{unit}", f"assd_{unit}") if math.isnan(row[name])}
    return row | missing


def _lengths(rows: list[Row], unit: str) -> Row:
    columns: Row = {}
    for name in (f"hd95_{unit}", f"assd_{unit}"):
        each, middle = (how(rows, lambda row, n=name: row[n]) for how in (mean_over_cases, median_over_cases))
        columns |= middle.columns(f"median_{name}") | each.columns(name)
        if name.startswith("hd95"):
            of_cases = sorted(known(by_case(rows, lambda row, n=name: row[n])[0]))
            columns = {"n": each.n} | columns | {f"largest_{name}": largest([row[name] for row in rows])}
            columns[f"others_{name}"] = mean(of_cases[:-1])
    return columns | mean_over_cases(rows, lambda row: row["nsd"]).columns("nsd")


def size_error(row: Row) -> float:
    """Predicted minus reference size, in percent of the reference; NaN without a reference."""
    whole = row["tp"] + row["fn"]
    return 100 * (row["fp"] - row["fn"]) / whole if whole else NAN


def size_errors(results: Results) -> list[Row]:
    """Error of the area or volume by class and stage."""

    def describe(rows: list[Row]) -> Row:
        kept = [row for row in rows if present(row)]
        error, middle = (how(kept, lambda row: abs(size_error(row))) for how in (mean_over_cases, median_over_cases))
        row = {"n": error.n} | middle.columns("median_error_percent") | error.columns("size_error_percent")
        return row | mean_over_cases(kept, size_error).columns("bias_percent")

    return summarised(results.rows(CASES), ("class", "stage"), describe)


def presence(results: Results) -> list[Row]:
    """Whether structures are predicted where the reference has them; with several seeds for each seed."""
    rows = results.rows(CASES)
    several = ("seed",) if len(grouped(rows, "seed")) > 1 else ()
    return summarised(rows, ("class", "stage", *several), _presence)


def _presence(rows: list[Row]) -> Row:
    counts, with_class = outcomes(rows), [row for row in rows if present(row)]
    without = [row for row in rows if not present(row)]
    row = {"n": len(rows), "detected": sum(map(drawn, with_class))}
    row["dice_from_half"] = sum(dice_of(each) >= HALF for each in with_class)
    row |= {name: counts[name] for name in ("missed", "invented", "absent")}
    shares = (("sensitivity", with_class, True), ("specificity", without, False), ("false_alarms", without, True))
    for name, of, wanted in shares:
        row |= share_of_cases(name, [drawn(each) == wanted for each in of], [each["subject"] for each in of])
    return row


def parts(results: Results) -> list[Row]:
    """Connected parts that were found, of classes with several parts in some reference."""
    rows = results.rows(CASES)
    several = {row["class"] for row in rows if row["reference_parts"] > 1}

    def f1(row: Row) -> float:
        return 2 * row["found_parts"] / (row["found_parts"] + row["reference_parts"] + _false(row))

    def describe(of_class: list[Row]) -> Row:
        one = mean_over_cases([row for row in of_class if present(row)], f1)
        counts = {name: sum(row[name] for row in of_class) for name in ("reference_parts", "found_parts")}
        counts["false_parts"] = sum(map(_false, of_class))
        return {"n": one.n} | one.columns("part_f1") | counts

    return summarised([row for row in rows if row["class"] in several], ("class", "stage"), describe)


def _false(row: Row) -> int:
    return row["predicted_parts"] - row["matched_parts"]


TABLES = {
    "distances": in_unit("mm"),
    "distances-pixels": in_unit("px"),
    "size-errors": size_errors,
    "presence": presence,
    "parts": parts,
}
