"""Tables of 05_evaluation of boundary distances, size errors, presence and parts, from its cases.csv."""

import math
from collections.abc import Callable

from lib.report.recompute.estimates import NAN, largest, mean_over_cases, wilson
from lib.report.recompute.results import Results, Row, drawn, grouped, present, summarised
from lib.report.recompute.tables.regions import CASES, outcomes


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
    hd95, assd = (mean_over_cases(rows, lambda row, n=name: row[f"{n}_{unit}"]) for name in ("hd95", "assd"))
    nsd = mean_over_cases(rows, lambda row: row["nsd"])
    row = {"n": hd95.n} | hd95.columns(f"hd95_{unit}")
    row[f"largest_hd95_{unit}"] = largest([each[f"hd95_{unit}"] for each in rows])
    return row | assd.columns(f"assd_{unit}") | nsd.columns("nsd")


def size_error(row: Row) -> float:
    """Predicted minus reference size, in percent of the reference; NaN without a reference."""
    whole = row["tp"] + row["fn"]
    return 100 * (row["fp"] - row["fn"]) / whole if whole else NAN


def size_errors(results: Results) -> list[Row]:
    """Error of the area or volume by class and stage."""

    def describe(rows: list[Row]) -> Row:
        kept = [row for row in rows if present(row)]
        error = mean_over_cases(kept, lambda row: abs(size_error(row)))
        bias = mean_over_cases(kept, size_error)
        return {"n": error.n} | error.columns("size_error_percent") | bias.columns("bias_percent")

    return summarised(results.rows(CASES), ("class", "stage"), describe)


def presence(results: Results) -> list[Row]:
    """Whether structures are predicted where the reference has them; with several seeds for each seed."""
    rows = results.rows(CASES)
    several = ("seed",) if len(grouped(rows, "seed")) > 1 else ()
    return summarised(rows, ("class", "stage", *several), _presence)


def _presence(rows: list[Row]) -> Row:
    counts = outcomes(rows) | {"detected": sum(present(row) and drawn(row) for row in rows)}
    row = {"n": len(rows)} | {name: counts[name] for name in ("detected", "missed", "invented", "absent")}
    without = counts["absent"] + counts["invented"]
    shares = {"sensitivity": ("detected", counts["detected"] + counts["missed"])}
    shares |= {"specificity": ("absent", without), "false_alarms": ("invented", without)}
    for name, (hits, total) in shares.items():
        percent = (100 * share for share in wilson(counts[hits], total))
        row |= dict(zip((f"{name}_percent", f"{name}_percent_low", f"{name}_percent_high"), percent))
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
