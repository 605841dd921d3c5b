"""Errors in millimetres, of shapes and of volumes, from the long tables of 06_biometry."""

import numpy as np
import pandas as pd

from lib import statistics
from lib.data.cases import GUESSES
from lib.report.summaries import means
from lib.report.summaries.means import by_case, counts_all, estimated, mean_over_cases

AGREEMENT_KEY = ["quantity", "route", "stage"]


def agreement(measurements: pd.DataFrame) -> pd.DataFrame:
    """Error in millimetres by quantity, route and stage, over cases whose reference is known.

    With several seeds n counts a case once and errors are averaged over a case's seeds first; bias and limits are
    those of single predictions, and `not_measured` and `flagged` count predictions.

    Args:
        measurements: the long table of 06_biometry, one row a case x seed x quantity x route x stage.

    Returns:
        One row a quantity x route x stage; a guess, which knows no stage and no seed, has one of post alone.
        `not_measured` have a reference but no prediction. The interval is of the mean absolute error (95 %,
        resampling subjects); the limits are those of agreement (95 % of predictions), which treat images of one
        subject as independent.
    """
    groups = dict(list(with_guesses_once(measurements).groupby(AGREEMENT_KEY, sort=False)))
    quantities = list(dict.fromkeys(quantity for quantity, _, _ in groups))
    ordered = sorted(groups, key=lambda key: quantities.index(key[0]))  # stable: routes, stages as they come
    return pd.DataFrame([dict(zip(AGREEMENT_KEY, key)) | describe_agreement(groups[key]) for key in ordered])


def with_guesses_once(measurements: pd.DataFrame) -> pd.DataFrame:
    """Rows of measurements.csv; of a guess, which knows no stage and no seed, one a case and quantity."""
    again = measurements.duplicated(["case", *AGREEMENT_KEY]) | (measurements["stage"] == "raw")
    return measurements[~(again & measurements["route"].isin(GUESSES))]


def holds_all_measurements(table: pd.DataFrame, measurements: pd.DataFrame) -> bool:
    """Whether n and not_measured of `agreement` count every row of measurements.csv that has a reference."""
    known = with_guesses_once(measurements[measurements["reference_mm"].notna()])
    return means.counts_all(table, known, AGREEMENT_KEY, known["predicted_mm"].notna(), ["not_measured"])


def describe_agreement(group: pd.DataFrame) -> dict[str, object]:
    """One row of `agreement`."""
    known = group[group["reference_mm"].notna()]
    measured = known[known["predicted_mm"].notna()]
    difference = measured["predicted_mm"] - measured["reference_mm"]
    errors = measured.assign(mm=difference.abs(), percent=difference.abs() / measured["reference_mm"] * 100)
    of_cases = means.by_case(errors, ["mm", "percent"])
    error = statistics.bootstrap(of_cases["mm"].to_numpy(float), of_cases["subject"].to_numpy())
    enough = len(difference) >= 2
    limits = statistics.limits_of_agreement(difference.to_numpy(float)) if enough else (float("nan"),) * 3
    return {
        "n": error.count,
        "not_measured": len(known) - len(measured),
        "mae_mm": error.value,
        "mae_low": error.low,
        "mae_high": error.high,
        "mae_percent": float(of_cases["percent"].mean()),
        "median_mm": float(of_cases["mm"].median()),
        "bias_mm": limits[0],
        "lower_limit_mm": limits[1],
        "upper_limit_mm": limits[2],
        "flagged": int(group["flags"].ne("").sum()),
    }


SHAPE_FIGURES = ["area_mm2", "centroid_row_mm", "centroid_col_mm", "height_mm", "width_mm", "eccentricity"]
SIZES = ("reference_voxels", "predicted_voxels", "reference_ml", "predicted_ml")


def shapes(long: pd.DataFrame) -> pd.DataFrame:
    """Predicted structures against reference ones, by class: area, place and form.

    Means are over the n cases that show both, those in mm and mm² over the n_mm of them whose pixel size is known;
    seeds of a case are averaged first.

    Args:
        long: shapes.csv of 06_biometry, a row a case x seed x class x source.
    """
    groups = long.groupby("class", sort=False)
    return pd.DataFrame([{"class": name} | _compare_shapes(group) for name, group in groups])


def _compare_shapes(group: pd.DataFrame) -> dict[str, object]:
    """One row of `shapes`."""
    one, other = (group[group["source"] == source].set_index(["case", "seed"]) for source in ("reference", "predicted"))
    other = other.loc[one.index]
    off = other[SHAPE_FIGURES] - one[SHAPE_FIGURES]
    pairs = pd.DataFrame(
        {
            "reference_area_mm2": one["area_mm2"],
            "area_error_mm2": off["area_mm2"].abs(),
            "area_error_percent": 100 * off["area_mm2"].abs() / one["area_mm2"],
            "centroid_distance_mm": np.hypot(off["centroid_row_mm"], off["centroid_col_mm"]),
            "height_error_mm": off["height_mm"].abs(),
            "width_error_mm": off["width_mm"].abs(),
            "eccentricity": one["eccentricity"],
            "eccentricity_error": off["eccentricity"].abs(),
        }
    )
    of_cases = pairs[(one["parts"] > 0) & (other["parts"] > 0)].groupby(level="case").mean()
    return {"n": len(of_cases), "n_mm": int(of_cases["area_error_mm2"].notna().sum())} | of_cases.mean().to_dict()


def volumes(long: pd.DataFrame) -> pd.DataFrame:
    """Predicted volumes against reference ones, by class and stage.

    Errors are averaged over a case's seeds first; a miss is an error of the whole volume. Means in voxels are over n
    cases, those in percent over the n_percent of them whose reference shows the class, those in millilitres over the
    n_ml of them whose voxel size is known.

    Args:
        long: volumes.csv of 06_biometry, a row a case x seed x class x stage.

    Returns:
        A row a class x stage: n; mean reference and prediction, mean absolute error with its 95 % interval from
        resampling subjects and in percent, bias (predicted - reference), in voxels; the same in ml; predictions that
        missed the class, or invented it.
    """
    groups = long.groupby(["class", "stage"], sort=False)
    return pd.DataFrame([{"class": name, "stage": stage} | _sizes(group) for (name, stage), group in groups])


def _sizes(group: pd.DataFrame) -> dict[str, object]:
    """One row of `volumes`."""
    shown, found = group["reference_voxels"] > 0, group["predicted_voxels"] > 0
    off = {unit: group[f"predicted_{unit}"] - group[f"reference_{unit}"] for unit in ("voxels", "ml")}
    percent = 100 * off["voxels"].abs() / group["reference_voxels"].where(shown)
    each = group.assign(voxels=off["voxels"].abs(), ml=off["ml"].abs(), percent=percent)
    of_cases = by_case(each, [*SIZES, "percent"])
    error = {unit: mean_over_cases(each, unit) for unit in off}
    bias = {unit: float((of_cases[f"predicted_{unit}"] - of_cases[f"reference_{unit}"]).mean()) for unit in off}
    return {
        "n": error["voxels"].count,
        "reference_voxels": float(of_cases["reference_voxels"].mean()),
        "predicted_voxels": float(of_cases["predicted_voxels"].mean()),
        **estimated("error_voxels", error["voxels"]),
        "bias_voxels": bias["voxels"],
        "n_percent": int(of_cases["percent"].notna().sum()),
        "error_percent": float(of_cases["percent"].mean()),
        "n_ml": error["ml"].count,
        "reference_ml": float(of_cases["reference_ml"].mean()),
        **estimated("error_ml", error["ml"]),
        "bias_ml": bias["ml"],
        "missed": int((shown & ~found).sum()),
        "invented": int((~shown & found).sum()),
    }


def holds_all_volumes(table: pd.DataFrame, long: pd.DataFrame) -> bool:
    """Whether n of `volumes` counts every case of volumes.csv."""
    return counts_all(table, long, ["class", "stage"], long["reference_voxels"].notna(), [])
