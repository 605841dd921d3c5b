"""Errors in millimetres, of shapes and of volumes, from the long tables of 06_biometry.

Seeds of a case are averaged first; intervals are 95 %, from resampling subjects.
"""

import numpy as np
import pandas as pd

from lib import statistics
from lib.data.cases import TRIVIAL_BASELINES
from lib.report.summaries.means import by_case, by_group, counts_all, estimated, mean_over

AGREEMENT_KEY = ["quantity", "route", "stage"]
SHAPE_FIGURES = ["area_mm2", "centroid_row_mm", "centroid_col_mm", "height_mm", "width_mm", "eccentricity"]


def agreement(measurements: pd.DataFrame) -> pd.DataFrame:
    """Error in millimetres by quantity, route and stage, over cases whose reference is known.

    n counts a case once, the interval is of the mean absolute error. Bias and limits of agreement (95 % of
    predictions) are those of single predictions and treat images of one subject as independent; `not_measured` (with
    a reference alone) and `flagged` count predictions. A guess knows no stage and no seed: it has one row, of post.
    """
    rows = with_guesses_once(measurements)
    places = pd.factorize(rows["quantity"])[0]
    return by_group(rows.iloc[places.argsort(kind="stable")], AGREEMENT_KEY, _agreement)


def measured_rows(measurements: pd.DataFrame) -> pd.DataFrame:
    """Rows of measurements.csv by no guess, after post-processing, that have both values."""
    rows = measurements[~measurements["route"].isin(TRIVIAL_BASELINES) & (measurements["stage"] == "post")]
    return rows.dropna(subset=["predicted_mm", "reference_mm"])


def with_guesses_once(measurements: pd.DataFrame) -> pd.DataFrame:
    """Rows of measurements.csv; of a guess, which knows no stage and no seed, one per case and quantity."""
    again = measurements.duplicated(["case", *AGREEMENT_KEY]) | (measurements["stage"] == "raw")
    return measurements[~(again & measurements["route"].isin(TRIVIAL_BASELINES))]


def holds_all_measurements(table: pd.DataFrame, measurements: pd.DataFrame) -> bool:
    """Whether n and not_measured of `agreement` count every row of measurements.csv that has a reference."""
    known = with_guesses_once(measurements[measurements["reference_mm"].notna()])
    return counts_all(table, known, AGREEMENT_KEY, known["predicted_mm"].notna(), ["not_measured"])


def _agreement(group: pd.DataFrame) -> dict[str, object]:
    known = group[group["reference_mm"].notna()]
    measured = known[known["predicted_mm"].notna()]
    difference = measured["predicted_mm"] - measured["reference_mm"]
    errors = measured.assign(mm=difference.abs(), percent=difference.abs() / measured["reference_mm"] * 100)
    of_cases = by_case(errors, ["mm", "percent"])
    error = mean_over(of_cases, "mm")
    enough = len(difference) >= 2
    limits = statistics.limits_of_agreement(difference.to_numpy(float)) if enough else (float("nan"),) * 3
    row = {"n": error.count, "not_measured": len(known) - len(measured)}
    row |= {"mae_mm": error.value, "mae_low": error.low, "mae_high": error.high}
    row |= {"mae_percent": float(of_cases["percent"].mean()), "median_mm": float(of_cases["mm"].median())}
    row |= dict(zip(("bias_mm", "lower_limit_mm", "upper_limit_mm"), limits))
    return row | {"flagged": int(group["flags"].ne("").sum())}


def shapes(long: pd.DataFrame) -> pd.DataFrame:
    """Predicted structures against reference ones by class, over the n cases that show both, n_mm with a pixel size."""
    return by_group(long, ["class"], _shapes)


def _shapes(group: pd.DataFrame) -> dict[str, object]:
    one, other = (group[group["source"] == source].set_index(["case", "seed"]) for source in ("reference", "predicted"))
    other = other.loc[one.index]
    off = other[SHAPE_FIGURES] - one[SHAPE_FIGURES]
    errors = off.abs()
    # Made at once: a frame that grows by columns is summed in another order, with other last digits.
    pairs = pd.DataFrame(
        {
            "reference_area_mm2": one["area_mm2"],
            "area_error_mm2": errors["area_mm2"],
            "area_error_percent": 100 * errors["area_mm2"] / one["area_mm2"],
            "centroid_distance_mm": np.hypot(off["centroid_row_mm"], off["centroid_col_mm"]),
            "height_error_mm": errors["height_mm"],
            "width_error_mm": errors["width_mm"],
            "eccentricity": one["eccentricity"],
            "eccentricity_error": errors["eccentricity"],
        }
    )
    of_cases = pairs[(one["parts"] > 0) & (other["parts"] > 0)].groupby(level="case").mean()
    return {"n": len(of_cases), "n_mm": int(of_cases["area_error_mm2"].notna().sum())} | of_cases.mean().to_dict()


def volumes(long: pd.DataFrame) -> pd.DataFrame:
    """Predicted volumes against reference ones, by class and stage; a miss is an error of the whole volume.

    Means in voxels are over n cases, those in percent over the n_percent of them whose reference shows the class,
    those in millilitres over the n_ml of them whose voxel size is known. Bias is predicted - reference.
    """
    return by_group(long, ["class", "stage"], _volumes)


def _volumes(group: pd.DataFrame) -> dict[str, object]:
    shown, predicted = group["reference_voxels"] > 0, group["predicted_voxels"] > 0
    off = {unit: (group[f"predicted_{unit}"] - group[f"reference_{unit}"]).abs() for unit in ("voxels", "ml")}
    off["percent"] = 100 * off["voxels"] / group["reference_voxels"].where(shown)
    sizes = [f"{source}_{unit}" for unit in ("voxels", "ml") for source in ("reference", "predicted")]
    of_cases = by_case(group.assign(**off), [*sizes, *off])
    voxels, ml = (mean_over(of_cases, unit) for unit in ("voxels", "ml"))
    mean = {name: float(of_cases[name].mean()) for name in (*sizes, "percent")}

    def bias(unit: str) -> dict[str, float]:
        return {f"bias_{unit}": float((of_cases[f"predicted_{unit}"] - of_cases[f"reference_{unit}"]).mean())}

    row = {"n": voxels.count} | {name: mean[name] for name in ("reference_voxels", "predicted_voxels")}
    row |= estimated("error_voxels", voxels) | bias("voxels")
    row |= {"n_percent": int(of_cases["percent"].notna().sum()), "error_percent": mean["percent"]}
    row |= {"n_ml": ml.count, "reference_ml": mean["reference_ml"]} | estimated("error_ml", ml) | bias("ml")
    return row | {"missed": int((shown & ~predicted).sum()), "invented": int((~shown & predicted).sum())}


def holds_all_volumes(table: pd.DataFrame, long: pd.DataFrame) -> bool:
    """Whether n of `volumes` counts every case of volumes.csv."""
    return counts_all(table, long, ["class", "stage"], long["reference_voxels"].notna(), [])
