"""Tables of 06_biometry of widths across a structure's own axes, and of the components of the error of HC."""

import math

from lib.report.recompute import by_subject
from lib.report.recompute.estimates import NAN, mean, mean_interval, mean_over_cases, share_of_cases
from lib.report.recompute.results import Results, Row, grouped, summarised

ENLARGED_MM = 10.0  # of the atrium. Source: Gaglioti et al. 2005, doi:10.1002/uog.1857


def of_parts(rows: list[Row]) -> list[Row]:
    """Parts of the reference, the predicted widths of seeds averaged."""
    known = [row for row in rows if row["outcome"] != "invented"]
    return [
        of[0] | {"predicted_mm": mean([row["predicted_mm"] for row in of])}
        for of in grouped(known, "class", "case", "part").values()
    ]


def widths(results: Results) -> list[Row]:
    """Errors of width by class."""
    return summarised(results.rows("06_biometry/widths"), ("class",), _widths)


def _widths(rows: list[Row]) -> Row:
    parts = of_parts(rows)
    differences, subjects = (
        [row["predicted_mm"] - row["reference_mm"] for row in parts],
        [row["subject"] for row in parts],
    )
    error = mean_interval(list(map(abs, differences)), subjects)
    pairs = zip(parts, differences)
    row = {"n": error.n, "reference_mm": mean([part["reference_mm"] for part, each in pairs if not math.isnan(each)])}
    row |= error.columns("mae_mm") | {"largest_error_mm": error.largest}
    for name, each in zip(("bias", "lower_limit", "upper_limit"), by_subject.limits(differences, subjects)):
        row |= each.columns(f"{name}_mm")
    return row | {name: sum(each["outcome"] == name for each in rows) for name in ("missed", "invented")}


def enlarged(results: Results) -> list[Row]:
    """How well ventricles from ENLARGED_MM are recognised; a missed one counts as not enlarged."""
    parts = of_parts([row for row in results.rows("06_biometry/widths") if row["class"] == "lv"])
    wide = [row for row in parts if row["reference_mm"] >= ENLARGED_MM]
    narrow = [row for row in parts if not row["reference_mm"] >= ENLARGED_MM]
    if not wide or not narrow:
        return []
    row = {"class": "lv", "limit_mm": ENLARGED_MM}
    measures = (("sensitivity", "n_enlarged", wide, True), ("specificity", "n_normal", narrow, False))
    for name, count, of, wanted in measures:
        right = [(part["predicted_mm"] >= ENLARGED_MM) == wanted for part in of]
        row |= {count: len(of)} | share_of_cases(name, right, [part["subject"] for part in of])
    return [row]


def error_budget(results: Results) -> list[Row]:
    """Components of the error of HC over the cases in which all are known; the last is their sum."""
    rows = results.rows("06_biometry/error-budget")
    names = [name for name in (rows[0] if rows else {}) if name.endswith("_mm")]
    complete = [row for row in rows if not any(math.isnan(row[name]) for name in names)]
    cases = {name: [mean([row[name] for row in of]) for of in grouped(complete, "case").values()] for name in names}
    table = []
    for name in names if complete else []:
        one, values, total = mean_over_cases(complete, lambda row, n=name: row[n]), cases[name], cases[names[-1]]
        centre, squares = mean(values), mean([each**2 for each in values])
        spread = math.fsum((each - centre) ** 2 for each in values)
        row = {"component": name.removesuffix("_mm").replace("_", " "), "n": one.n} | one.columns("mean_mm")
        row["sd_mm"] = math.sqrt(spread / (len(values) - 1)) if len(values) > 1 else NAN
        row["rms_mm"] = math.sqrt(squares)
        products, whole = mean([a * b for a, b in zip(values, total)]), mean([each**2 for each in total])
        table.append(row | {"share_percent": 100 * products / whole, "not_measured": len(rows) - len(complete)})
    return table


TABLES = {"widths": widths, "enlarged": enlarged, "error-budget": error_budget}
