"""Tables of 06_biometry: agreement, flagged heads, shapes, volumes."""

import math

from lib.report.recompute import by_subject
from lib.report.recompute.estimates import NAN, by_case, mean, mean_over_cases, median_over_cases
from lib.report.recompute.results import Results, Row, grouped, summarised

GUESSES = ("baseline", "mean shape", "blank map")  # routes that use no image, so that stages do not differ
SHAPE_ERRORS = ("height_mm", "width_mm")


def measurements(results: Results) -> list[Row]:
    """Rows of measurements.csv, those of a route without an image once per case and quantity."""
    rows, seen = [], set()
    for row in results.rows("06_biometry/measurements"):
        key = tuple(row[name] for name in ("case", "quantity", "route", "stage"))
        is_guess = row["route"] in GUESSES
        if not (is_guess and (key in seen or row["stage"] == "raw")):
            rows.append(row)
        seen.add(key)
    return rows


def agreement(results: Results) -> list[Row]:
    """Errors in millimetres by quantity, route and stage."""
    rows = measurements(results)
    order = list(grouped(rows, "quantity"))
    ordered = sorted(rows, key=lambda row: order.index((row["quantity"],)))
    return summarised(ordered, ("quantity", "route", "stage"), _agreement)


def _agreement(rows: list[Row]) -> Row:
    known = [row for row in rows if not math.isnan(row["reference_mm"])]
    measured = [row for row in known if not math.isnan(row["predicted_mm"])]
    error = mean_over_cases(measured, error_mm)
    percent = mean(by_case(measured, lambda row: 100 * error_mm(row) / row["reference_mm"])[0])
    differences, subjects = (
        [row["predicted_mm"] - row["reference_mm"] for row in measured],
        [row["subject"] for row in measured],
    )
    limits = by_subject.limits(differences, subjects)
    row = {"n": error.n, "not_measured": len(known) - len(measured)}
    row |= error.columns("mae_mm") | {"mae_percent": percent}
    row |= median_over_cases(measured, error_mm).columns("median_mm")
    row |= {f"{name}_mm": each.value for name, each in zip(("bias", "lower_limit", "upper_limit"), limits)}
    return row | {"flagged": sum(row["flags"] != "" for row in rows)}


def largest_shares(results: Results) -> list[Row]:
    """What the largest errors of the network's final measurements contribute, by quantity and route."""
    rows = [row for row in measurements(results) if row["stage"] == "post" and row["route"] not in GUESSES]
    rows = [row for row in rows if not math.isnan(row["predicted_mm"] + row["reference_mm"])]
    name = "largest_share_percent"
    return summarised(rows, ("quantity", "route"), lambda of: {name: _largest_share(by_case(of, error_mm)[0])})


def _largest_share(errors: list[float]) -> float:
    """What the largest twentieth of at least 20 errors adds to their sum, in percent."""
    ordered, total = sorted(errors, reverse=True), math.fsum(errors)
    if len(errors) < 20 or not total:
        return NAN
    whole, twentieths = divmod(len(errors), 20)
    return 100 * (math.fsum(ordered[:whole]) + twentieths / 20 * ordered[whole]) / total


def error_mm(row: Row) -> float:
    """Absolute error of a measurement."""
    return abs(row["predicted_mm"] - row["reference_mm"])


def flagged(results: Results) -> list[Row]:
    """Flagged heads after post-processing with their HC."""
    names = ("case", "predicted_mm", "reference_mm", "flags")
    rows = [row for row in results.rows("06_biometry/measurements") if row["stage"] == "post"]
    return [{name: row[name] for name in names} for row in rows if row["flags"] and row["quantity"] == "hc"]


def shapes(results: Results) -> list[Row]:
    """Errors of structures in millimetres, where both masks contain them."""
    return summarised(results.rows("06_biometry/shapes"), ("class",), _shapes)


def _shapes(rows: list[Row]) -> Row:
    pairs = []
    for (case, _), pair in grouped(rows, "case", "seed").items():
        of = {row["source"]: row for row in pair}
        if of["reference"]["parts"] > 0 and of["predicted"]["parts"] > 0:
            pairs.append({"case": case, "subject": pair[0]["subject"]} | _shape_error(of["reference"], of["predicted"]))
    names = [name for name in (pairs or [_shape_error({}, {})])[0] if name not in ("case", "subject")]
    of_cases = {name: by_case(pairs, lambda row, name=name: row[name])[0] for name in names}
    n_mm = sum(not math.isnan(value) for value in of_cases["area_error_mm2"])
    row = {"n": len(grouped(pairs, "case")), "n_mm": n_mm}
    return row | {name: mean(values) for name, values in of_cases.items()}


def _shape_error(reference: Row, predicted: Row) -> Row:
    """Differences of one structure; NaN for each of two empty rows."""

    def error(name: str) -> float:
        return abs(predicted.get(name, NAN) - reference.get(name, NAN))

    area = reference.get("area_mm2", NAN)
    return {
        "reference_area_mm2": area,
        "area_error_mm2": error("area_mm2"),
        "area_error_percent": 100 * error("area_mm2") / area,
        "centroid_distance_mm": math.hypot(error("centroid_row_mm"), error("centroid_col_mm")),
        **{name.replace("_mm", "_error_mm"): error(name) for name in SHAPE_ERRORS},
        "eccentricity": reference.get("eccentricity", NAN),
        "eccentricity_error": error("eccentricity"),
    }


def volumes(results: Results) -> list[Row]:
    """Errors of volumes by class and stage."""
    return summarised(results.rows("06_biometry/volumes"), ("class", "stage"), _volumes)


def _volumes(rows: list[Row]) -> Row:
    def mean_of(name: str) -> float:
        return mean(by_case(rows, lambda row: row[name])[0])

    def bias(unit: str) -> float:
        return mean(by_case(rows, lambda row: row[f"predicted_{unit}"] - row[f"reference_{unit}"])[0])

    def percent(row: Row) -> float:
        return 100 * _volume_error(row, "voxels") / row["reference_voxels"] if row["reference_voxels"] else NAN

    voxels, ml = (mean_over_cases(rows, lambda row, unit=unit: _volume_error(row, unit)) for unit in ("voxels", "ml"))
    of_percent = [each for each in by_case(rows, percent)[0] if not math.isnan(each)]
    row = {"n": voxels.n} | {name: mean_of(name) for name in ("reference_voxels", "predicted_voxels")}
    row |= voxels.columns("error_voxels") | {"bias_voxels": bias("voxels")}
    row |= {"n_percent": len(of_percent), "error_percent": mean(of_percent), "n_ml": ml.n}
    row |= {"reference_ml": mean_of("reference_ml")} | ml.columns("error_ml") | {"bias_ml": bias("ml")}
    row["missed"] = sum(row["reference_voxels"] > 0 and row["predicted_voxels"] == 0 for row in rows)
    return row | {"invented": sum(row["reference_voxels"] == 0 and row["predicted_voxels"] > 0 for row in rows)}


def _volume_error(row: Row, unit: str) -> float:
    return abs(row[f"predicted_{unit}"] - row[f"reference_{unit}"])


TABLES = {"agreement": agreement, "flagged": flagged, "shapes": shapes, "volumes": volumes}
