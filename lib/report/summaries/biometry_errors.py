"""Errors of head measurements, shapes and volumes (06_biometry), seeds averaged first; 95 % CIs are by subject."""

import numpy as np
import pandas as pd

from lib.data.cases import TRIVIAL_BASELINES
from lib.report.summaries.means import by_case, by_group, counts_all, mean_over, median_over, with_interval
from lib.statistics.agreement import limits_of_agreement

AGREEMENT_KEY = ["quantity", "route", "stage"]
FEWEST_FOR_SHARE = 20  # cases; of fewer, one is more than 5 %
SHAPE_VALUES = ["area_mm2", "centroid_row_mm", "centroid_col_mm", "height_mm", "width_mm", "eccentricity"]


def agreement(measurements: pd.DataFrame) -> pd.DataFrame:
    """Error in millimetres by quantity, route and stage, over the n cases with a reference.

    Confidence intervals are those of the mean and the median absolute error. Bias and 95 % limits of agreement are
    those of single predictions; `measurement_agreement` has their intervals. `not_measured` (with a reference only)
    and `flagged` count predictions. A baseline has no stage or seed, and therefore one row (post).
    """
    rows = with_baselines_once(measurements)
    order = pd.factorize(rows["quantity"])[0].argsort(kind="stable")
    return by_group(rows.iloc[order], AGREEMENT_KEY, _agreement)


def measured_rows(measurements: pd.DataFrame) -> pd.DataFrame:
    """Rows of measurements.csv after post-processing with both values, without baselines."""
    rows = measurements[~measurements["route"].isin(TRIVIAL_BASELINES) & (measurements["stage"] == "post")]
    return rows.dropna(subset=["predicted_mm", "reference_mm"])


def with_baselines_once(measurements: pd.DataFrame) -> pd.DataFrame:
    """Rows of measurements.csv, with one row per case and quantity of each baseline, which has no stage or seed."""
    repeated = measurements.duplicated(["case", *AGREEMENT_KEY]) | (measurements["stage"] == "raw")
    return measurements[~(repeated & measurements["route"].isin(TRIVIAL_BASELINES))]


def holds_all_measurements(table: pd.DataFrame, measurements: pd.DataFrame) -> bool:
    """Whether n and not_measured of `agreement` account for every row of measurements.csv with a reference."""
    known = with_baselines_once(measurements[measurements["reference_mm"].notna()])
    return counts_all(table, known, AGREEMENT_KEY, known["predicted_mm"].notna(), ["not_measured"])


def _agreement(group: pd.DataFrame) -> dict[str, object]:
    known = group[group["reference_mm"].notna()]
    measured = known[known["predicted_mm"].notna()]
    difference = measured["predicted_mm"] - measured["reference_mm"]
    errors = measured.assign(mm=difference.abs(), percent=difference.abs() / measured["reference_mm"] * 100)
    of_cases = by_case(errors, ["mm", "percent"])
    error = mean_over(of_cases, "mm")
    limits = limits_of_agreement(difference, measured["subject"])
    row = {"n": error.count, "not_measured": len(known) - len(measured)}
    row |= with_interval("mae_mm", error)
    row |= {"mae_percent": float(of_cases["percent"].mean())} | with_interval("median_mm", median_over(of_cases, "mm"))
    row |= {"bias_mm": limits.bias.value, "lower_limit_mm": limits.lower.value, "upper_limit_mm": limits.upper.value}
    return row | {"flagged": int(group["flags"].ne("").sum())}


def largest_shares(measurements: pd.DataFrame) -> pd.DataFrame:
    """By quantity and route, the part of the sum of absolute errors (mm) that the largest 5 % make up, in percent.

    Over cases, with seeds averaged; a fraction of an error counts in part. About 15 % if errors are normal. NaN below
    FEWEST_FOR_SHARE cases, or if all errors are 0.
    """
    rows = measured_rows(measurements)
    rows = rows.assign(mm=(rows["predicted_mm"] - rows["reference_mm"]).abs())
    return by_group(rows, ["quantity", "route"], _largest_share)


def _largest_share(group: pd.DataFrame) -> dict[str, float]:
    errors = np.sort(by_case(group, ["mm"])["mm"].to_numpy(float))
    share = np.nan
    if len(errors) >= FEWEST_FOR_SHARE and errors[-1] > 0:
        sums = np.concatenate([[0.0], np.cumsum(errors[::-1])])
        share = 100 * np.interp(len(errors) / 20, np.arange(len(sums)), sums) / sums[-1]
    return {"largest_share_percent": share}


def shapes(long: pd.DataFrame) -> pd.DataFrame:
    """Errors of predicted structures by class, over the n cases where both masks contain it, n_mm with a pixel size."""
    return by_group(long, ["class"], _shapes)


def _shapes(group: pd.DataFrame) -> dict[str, object]:
    indexed = group.set_index(["case", "seed"])
    reference, predicted = (indexed[indexed["source"] == source] for source in ("reference", "predicted"))
    predicted = predicted.loc[reference.index]
    differences = predicted[SHAPE_VALUES] - reference[SHAPE_VALUES]
    errors = differences.abs()
    # One constructor call: a frame built column by column is summed in another order and differs in the last digits.
    pairs = pd.DataFrame(
        {
            "reference_area_mm2": reference["area_mm2"],
            "area_error_mm2": errors["area_mm2"],
            "area_error_percent": 100 * errors["area_mm2"] / reference["area_mm2"],
            "centroid_distance_mm": np.hypot(differences["centroid_row_mm"], differences["centroid_col_mm"]),
            "height_error_mm": errors["height_mm"],
            "width_error_mm": errors["width_mm"],
            "eccentricity": reference["eccentricity"],
            "eccentricity_error": errors["eccentricity"],
        }
    )
    of_cases = pairs[(reference["parts"] > 0) & (predicted["parts"] > 0)].groupby(level="case").mean()
    return {"n": len(of_cases), "n_mm": int(of_cases["area_error_mm2"].notna().sum())} | of_cases.mean().to_dict()


def volumes(long: pd.DataFrame) -> pd.DataFrame:
    """Volume errors by class and stage; a missed structure has an error of its whole volume.

    Means in voxels are over n cases, those in percent over the n_percent of them whose reference contains the class,
    those in millilitres over the n_ml of them with a known voxel size. Bias is predicted - reference.
    """
    return by_group(long, ["class", "stage"], _volumes)


def _volumes(group: pd.DataFrame) -> dict[str, object]:
    positive, predicted = group["reference_voxels"] > 0, group["predicted_voxels"] > 0
    units = ("voxels", "ml")
    errors = {unit: (group[f"predicted_{unit}"] - group[f"reference_{unit}"]).abs() for unit in units}
    errors["percent"] = 100 * errors["voxels"] / group["reference_voxels"].where(positive)
    sizes = [f"{source}_{unit}" for unit in units for source in ("reference", "predicted")]
    of_cases = by_case(group.assign(**errors), [*sizes, *errors])
    voxels, ml = (mean_over(of_cases, unit) for unit in units)
    mean = {name: float(of_cases[name].mean()) for name in (*sizes, "percent")}
    bias = {unit: float((of_cases[f"predicted_{unit}"] - of_cases[f"reference_{unit}"]).mean()) for unit in units}
    row = {"n": voxels.count} | {name: mean[name] for name in ("reference_voxels", "predicted_voxels")}
    row |= with_interval("error_voxels", voxels) | {"bias_voxels": bias["voxels"]}
    row |= {"n_percent": int(of_cases["percent"].notna().sum()), "error_percent": mean["percent"]}
    row |= {"n_ml": ml.count, "reference_ml": mean["reference_ml"]} | with_interval("error_ml", ml)
    row |= {"bias_ml": bias["ml"], "missed": int((positive & ~predicted).sum())}
    return row | {"invented": int((~positive & predicted).sum())}


def holds_all_volumes(table: pd.DataFrame, long: pd.DataFrame) -> bool:
    """Whether n of `volumes` accounts for every case of volumes.csv."""
    return counts_all(table, long, ["class", "stage"], long["reference_voxels"].notna(), [])
