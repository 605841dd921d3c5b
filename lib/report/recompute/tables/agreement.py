"""Tables of agreement of 06_biometry: limits, proportional bias, sizes, reliability, equivalence, gestational age."""

import math
from collections.abc import Callable
from dataclasses import replace

from scipy import special

from lib.report.recompute import by_subject
from lib.report.recompute.estimates import NAN, Estimate, known, largest, least, mean, mean_interval
from lib.report.recompute.results import Results, Row, grouped, summarised
from lib.report.recompute.tables.biometry import GUESSES
from lib.report.recompute.tables.regions import group_of_cases, names_of_groups

KEY = ("quantity", "route")
WEEKS = (14.0, 40.0)  # of the growth chart
CENTILES = {3: "3rd", 10: "10th", 90: "90th"}


def measured(results: Results) -> list[Row]:
    """Measured heads after post-processing, with their difference, mean and difference in percent."""
    rows = []
    for row in results.rows("06_biometry/measurements"):
        predicted, reference = row["predicted_mm"], row["reference_mm"]
        if row["route"] not in GUESSES and row["stage"] == "post" and not math.isnan(predicted + reference):
            difference = predicted - reference
            values = {"difference": difference, "size": (predicted + reference) / 2}
            rows.append(row | values | {"percent": 100 * difference / reference})
    return rows


def _columns(rows: list[Row], *names: str) -> list[list]:
    return [[row[name] for row in rows] for name in names]


def _limits(rows: list[Row], column: str, unit: str) -> Row:
    bias, lower, upper = by_subject.limits(*_columns(rows, column, "subject"))
    row = {"n": len(grouped(rows, "case"))} | bias.columns(f"bias_{unit}")
    return row | lower.columns(f"lower_limit_{unit}") | upper.columns(f"upper_limit_{unit}")


def _or_percentiles(rows: list[Row], column: str, unit: str) -> Row:
    p, low, high = by_subject.percentiles(*_columns(rows, column, "subject"))
    ends = {f"percentile_2_5_{unit}": low, f"percentile_97_5_{unit}": high}
    return _limits(rows, column, unit) | {"p_normal": p} | ends


def first_images(results: Results) -> list[Row]:
    """Limits over the first image of each examination, of the quantities of which one has several."""
    kept = []
    for of in grouped(measured(results), *KEY).values():
        images = [list(grouped(group, "case").values()) for group in grouped(of, "subject").values()]
        if any(len(each) > 1 for each in images):
            first = {each[0][0]["case"] for each in images}
            kept += [row for row in of if row["case"] in first]
    return summarised(kept, KEY, lambda rows: _limits(rows, "difference", "mm"))


def _by_head(describe: Callable[[list[Row]], Row]) -> Callable[[Results], list[Row]]:
    return lambda results: summarised(measured(results), KEY, describe)


def _times(estimate: Estimate, factor: float) -> Estimate:
    return replace(estimate, value=estimate.value * factor, low=estimate.low * factor, high=estimate.high * factor)


def _proportional(rows: list[Row]) -> Row:
    slope, _ = by_subject.regression(*_columns(rows, "difference", "size", "subject"))
    relative, _ = by_subject.regression(*_columns(rows, "percent", "size", "subject"))
    verdict = "not tested" if math.isnan(slope.low) else "yes" if slope.low > 0 or slope.high < 0 else "no"
    row = {"n": len(grouped(rows, "case"))} | _times(slope, 100).columns("slope_per_100_mm")
    row |= _times(relative, 100).columns("percent_slope_per_100_mm") | {"proportional": verdict}
    sizes = [each["size"] for each in rows]
    return row | {"smallest_mm": min(sizes), "largest_mm": max(sizes)}


def at_sizes(results: Results) -> list[Row]:
    """Limits of the regression at both ends of the sizes, where its slope is not 0."""
    table = []
    for key, rows in grouped(measured(results), *KEY).items():
        slope, at = by_subject.regression(*_columns(rows, "difference", "size", "subject"))
        sizes = [each["size"] for each in rows]
        for size in (min(sizes), max(sizes)):
            if slope.low > 0 or slope.high < 0:
                bias, lower, upper = at(size)
                row = dict(zip(KEY, key)) | {"size_mm": size, "n": len(grouped(rows, "case"))}
                row |= bias.columns("bias_mm") | lower.columns("lower_limit_mm") | upper.columns("upper_limit_mm")
                table.append(row | _times(bias, 100 / size).columns("bias_percent"))
    return table


def by_size(results: Results) -> list[Row]:
    """Errors and limits by group of the data set, in order of HC."""
    rows = in_order_of_size(results, measured(results))

    def describe(of_group: list[Row]) -> Row:
        sizes, errors, percent, subjects = _columns(of_group, "hc_mm", "difference", "percent", "subject")
        row = {"smallest_hc_mm": least(sizes), "largest_hc_mm": largest(sizes)}
        row |= _limits(of_group, "difference", "mm")
        row |= mean_interval([abs(each) for each in errors], subjects).columns("mae_mm")
        return row | mean_interval([abs(each) for each in percent], subjects).columns("mae_percent")

    return summarised(rows, (*KEY, "group"), describe)


def in_order_of_size(results: Results, rows: list[Row]) -> list[Row]:
    """Rows with the group and the reference HC of their case, by quantity, then in order of the HC of the groups."""
    group, names, heads = group_of_cases(results), names_of_groups(results), {}
    for row in results.rows("06_biometry/measurements"):
        if row["quantity"] == "hc":
            heads.setdefault(row["case"], row["reference_mm"])
    rows = [row | {"group": names[group[row["case"]]], "hc_mm": heads[row["case"]]} for row in rows]
    order = {key[0]: least([row["hc_mm"] for row in of]) for key, of in grouped(rows, "group").items()}
    rows.sort(key=lambda row: order[row["group"]])
    quantities = list(grouped(rows, "quantity"))
    return sorted(rows, key=lambda row: quantities.index((row["quantity"],)))


def _reliability(rows: list[Row]) -> Row:
    columns = _columns(rows, "predicted_mm", "reference_mm", "subject")
    row = {"n": len(grouped(rows, "case"))} | by_subject.correlation(*columns, by_subject.icc).columns("icc")
    return row | by_subject.correlation(*columns, by_subject.ccc).columns("ccc")


def equivalence(results: Results) -> list[Row]:
    """Whether the mean difference and single ones lie within the margin of the study file."""
    margin = results.study.equivalence_margin_percent

    def describe(rows: list[Row]) -> Row:
        columns = _columns(rows, "percent", "subject")
        p, (bias, lower, upper) = by_subject.equivalence(*columns, margin), by_subject.limits(*columns)
        outer, inner = (-lower.low, upper.high), (-lower.high, upper.low)
        slope, _ = by_subject.regression(*_columns(rows, "percent", "size", "subject"))
        inside = "depends on size" if slope.low > 0 or slope.high < 0 else "yes"
        single = inside if max(outer) < margin else "no" if max(inner) > margin else "undecided"
        row = {"n": len(grouped(rows, "case")), "margin_percent": margin} | bias.columns("bias_percent")
        row |= {"p_value": p, "mean_within_margin": "yes" if p < 0.05 else "not shown"}
        is_known = len(known([*outer, *inner])) == 4
        return row | {"single_within_margin": single if is_known else "not shown"}

    return summarised(measured(results), KEY, describe)


# --- growth chart. Source: Papageorghiou et al. 2014, Lancet 384:869-79


def chart_mean(quantity: str, weeks: float) -> float:
    """Mean size in mm at a gestational age."""
    log = math.log(weeks)
    return {
        "hc": -28.2849 + 1.69267 * weeks**2 - 0.397485 * weeks**2 * log,
        "bpd": 5.60878 + 0.158369 * weeks**2 - 0.00256379 * weeks**3,
        "ofd": -12.4097 + 0.626342 * weeks**2 - 0.148075 * weeks**2 * log,
    }[quantity]


def chart_sd(quantity: str, weeks: float) -> float:
    """Standard deviation in mm at a gestational age; NaN at an unknown one."""
    if math.isnan(weeks):
        return NAN
    log, cube = math.log(weeks), weeks**3
    return {
        "hc": 1.98735 + 0.0136772 * cube - 0.00726264 * cube * log + 0.000976253 * cube * log**2,
        "bpd": math.exp(0.101242 + 0.00150557 * cube - 0.000771535 * cube * log + 0.0000999638 * cube * log**2),
        "ofd": math.exp(-0.880034 + weeks**2 * (0.0631165 - 0.0317136 * log + 0.00408302 * log**2)),
    }[quantity]


def age(quantity: str, size_mm: float) -> float:
    """Weeks at which the chart's mean is a size, by bisection; NaN outside the chart."""
    low, high = WEEKS
    if not chart_mean(quantity, low) <= size_mm <= chart_mean(quantity, high):
        return NAN
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if chart_mean(quantity, middle) < size_mm else (low, middle)
    return (low + high) / 2


def _gestational_age(rows: list[Row]) -> Row:
    pairs = [[7 * age(row["quantity"], row[f"{side}_mm"]) for side in ("predicted", "reference")] for row in rows]
    dated = [row | {"days": a - b} for row, (a, b) in zip(rows, pairs) if not math.isnan(a - b)]
    amounts = [abs(row["days"]) for row in dated]
    row = {"outside_chart": len(rows) - len(dated)} | _limits(dated, "days", "days")
    row |= mean_interval(amounts, [each["subject"] for each in dated]).columns("mae_days")
    within = sum(each <= 7 for each in amounts)
    return row | {"up_to_one_week": within, "over_one_week": len(amounts) - within}


def _centiles(rows: list[Row]) -> Row:
    errors = []
    for row in rows:
        sd = chart_sd(row["quantity"], age(row["quantity"], row["reference_mm"]))
        errors += [] if math.isnan(sd) else [row | {"error_sd": row["difference"] / sd}]
    table = _limits(errors, "error_sd", "sd")
    for centile, name in CENTILES.items():
        at = special.ndtri(centile / 100)
        crossing = [abs(special.ndtr(at - row["error_sd"]) - centile / 100) for row in errors]
        table[f"across_{name}_centile_percent"] = 100 * mean(crossing)
    return table


def volume_limits(results: Results) -> list[Row]:
    """Limits of agreement and slope of volumes by class, in ml or, if no voxel size is known, in voxels."""
    rows = results.rows("06_biometry/volumes")
    unit = "ml" if known([row["reference_ml"] for row in rows]) else "voxels"
    differences = []
    for row in rows:
        predicted, reference = float(row[f"predicted_{unit}"]), float(row[f"reference_{unit}"])
        if row["stage"] == "post" and not math.isnan(predicted - reference):
            differences.append(row | {"difference": predicted - reference, "size": (predicted + reference) / 2})

    def describe(of_class: list[Row]) -> Row:
        slope, _ = by_subject.regression(*_columns(of_class, "difference", "size", "subject"))
        return _or_percentiles(of_class, "difference", unit) | _times(slope, 100).columns("slope_percent")

    return summarised(differences, ("class",), describe)


TABLES = {
    "limits-mm": _by_head(lambda rows: _or_percentiles(rows, "difference", "mm")),
    "limits-percent": _by_head(lambda rows: _or_percentiles(rows, "percent", "percent")),
    "limits-first-image": first_images,
    "proportional-bias": _by_head(_proportional),
    "limits-at-sizes": at_sizes,
    "by-size": by_size,
    "reliability": _by_head(_reliability),
    "equivalence": equivalence,
    "gestational-age": _by_head(_gestational_age),
    "centiles": _by_head(_centiles),
    "volume-limits": volume_limits,
}
