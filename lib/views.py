"""Views of the long tables of landmarks, shapes, volumes and compared studies, as a report prints them."""

import numpy as np
import pandas as pd

from lib import statistics
from lib.tables import by_case, counts_all, estimated, mean_over_cases

SHAPE_FIGURES = ["area_mm2", "centroid_row_mm", "centroid_col_mm", "height_mm", "width_mm", "eccentricity"]
SIZES = ("reference_voxels", "predicted_voxels", "reference_ml", "predicted_ml")
PAIR = ["quantity", "route_a", "study_b", "route_b"]
NOTABLE_MM = 0.5  # mean difference of two studies' references from which they are not the same reference


def landmarks(errors: pd.DataFrame) -> pd.DataFrame:
    """How far predicted ends lie from the reference's, by line and route.

    Errors are averaged over a case's seeds first. Means in pixels and in percent are over n cases, those in mm over
    the n_mm of them whose pixel size is known; a guess, which knows no seed, counts once a case. `missed` counts
    predictions of a line without both ends: they have no distance and are in no mean.

    Args:
        errors: cases.csv of a landmark study's 05_evaluation, a row a case x seed x route x line.

    Returns:
        A row a line x route: n, n_mm, mean error in mm and in native pixels with 95 % intervals from resampling
        subjects, median and 95th percentile over cases in mm, mean error in percent of the reference's OFD, missed.
    """
    groups = errors.groupby(["line", "route"], sort=False)
    return pd.DataFrame([{"line": line, "route": route} | _describe(group) for (line, route), group in groups])


def _describe(group: pd.DataFrame) -> dict[str, object]:
    """One row of `landmarks`."""
    of_cases = by_case(group, ["error_mm", "error_px", "normalised_error_percent"])
    known = of_cases["error_mm"].dropna()
    mm, px = (mean_over_cases(group, name) for name in ("error_mm", "error_px"))
    return {
        "n": px.count,
        "n_mm": mm.count,
        **estimated("error_mm", mm),
        **estimated("error_px", px),
        "median_mm": float(known.median()),
        "percentile_95_mm": float(np.percentile(known, 95)) if len(known) else float("nan"),
        "normalised_error_percent": float(of_cases["normalised_error_percent"].mean()),
        "missed": int(group["error_px"].isna().sum()),
    }


def holds_all_lines(table: pd.DataFrame, errors: pd.DataFrame) -> bool:
    """Whether n and missed of `landmarks` count every row of the long table."""
    return counts_all(table, errors, ["line", "route"], errors["error_px"].notna(), ["missed"])


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


def comparison(long: pd.DataFrame) -> pd.DataFrame:
    """Errors of two studies on the same cases, paired; A is this study.

    Args:
        long: comparison.csv of 07_comparison, a row a pair x quantity x case, seeds averaged.

    Returns:
        A row a quantity x pair: n cases that both measured, their mean absolute errors, the mean of A's minus B's with
        its 95 % interval from resampling subjects, the share of cases in which A's is the smaller, and how many
        predictions of A and of B could not be measured: those are in no mean.
    """
    rows = []
    for pair, group in long.groupby(PAIR, sort=False):
        both = group.dropna(subset=["difference_mm"])
        found = statistics.bootstrap(both["difference_mm"].to_numpy(float), both["subject"].to_numpy())
        means = {f"error_{side}_mm": float(both[f"error_{side}_mm"].mean()) for side in "ab"}
        better = float(100 * (both["difference_mm"] < 0).mean())
        counts = {f"not_measured_{side}": int(group[f"not_measured_{side}"].sum()) for side in "ab"}
        described = means | estimated("difference_mm", found) | {"a_better_percent": better}
        rows.append(dict(zip(PAIR, pair)) | {"n": found.count} | described | counts)
    return pd.DataFrame(rows)


def references(long: pd.DataFrame) -> pd.DataFrame:
    """How far the references of two compared studies lie apart: those of A minus those of B, in the cases of both.

    Args:
        long: comparison.csv of 07_comparison.

    Returns:
        A row a quantity x other study: n cases, mean difference with its 95 % interval, mean and largest amount, and
        whether the mean amount is above NOTABLE_MM, so that the studies are not judged by the same reference.
    """
    rows = []
    others = long[long["study_a"] != long["study_b"]]
    for (quantity, study), group in others.groupby(["quantity", "study_b"], sort=False):
        one = group.drop_duplicates("case")
        apart = one["reference_a_mm"] - one["reference_b_mm"]
        found = statistics.bootstrap(apart.to_numpy(float), one["subject"].to_numpy())
        amounts = {"amount_mm": float(apart.abs().mean()), "largest_mm": float(apart.abs().max())}
        key = {"quantity": quantity, "study_b": study, "n": found.count}
        rows.append(key | estimated("difference_mm", found) | amounts | {"differ": amounts["amount_mm"] > NOTABLE_MM})
    return pd.DataFrame(rows)


def overlap_comparison(long: pd.DataFrame) -> pd.DataFrame:
    """Dice of two studies on the same cases after post-processing, paired; A is this study.

    Args:
        long: overlaps.csv of 07_comparison, a row a pair x class x case whose reference shows the class.

    Returns:
        A row a class x other study: n, mean Dice of both, the mean of A's minus B's with its 95 % interval from
        resampling subjects, and the share of cases in which A's is the higher.
    """
    rows = []
    for (name, study), group in long.groupby(["class", "study_b"], sort=False):
        both = group.dropna(subset=["difference"])
        found = statistics.bootstrap(both["difference"].to_numpy(float), both["subject"].to_numpy())
        means = {f"dice_{side}": float(both[f"dice_{side}"].mean()) for side in "ab"}
        better = {"a_better_percent": float(100 * (both["difference"] > 0).mean())}
        key = {"class": name, "study_b": study, "n": found.count}
        rows.append(key | means | estimated("difference", found) | better)
    return pd.DataFrame(rows)
