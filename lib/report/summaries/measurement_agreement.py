"""Agreement of predicted and reference measurements after post-processing (06_biometry), one row per quantity.

n counts cases. Everything else is of single predictions, of which a case has one per seed. Images of one subject are
no independent measurements, nor are seeds of one image, so all intervals are by subject.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from lib.data.cases import group_names, group_of
from lib.imaging import growth
from lib.report.summaries.biometry_errors import measured_rows
from lib.report.summaries.means import by_group, with_interval
from lib.statistics import Estimate, agreement, mean_interval, reliability
from lib.statistics.agreement import Limits, ProportionalBias

KEY = ["quantity", "route"]
CENTILES = {3: "3rd", 10: "10th", 90: "90th"}
DAYS_PER_WEEK = 7


def limits_mm(measurements: pd.DataFrame) -> pd.DataFrame:
    """Bias and 95 % limits of agreement in mm, with their intervals; percentiles where differences are not normal."""
    return by_group(_differences(measurements), KEY, lambda rows: _limits_or_percentiles(rows, "difference", "mm"))


def limits_percent(measurements: pd.DataFrame) -> pd.DataFrame:
    """Bias, limits of agreement and percentiles as `limits_mm`, in percent of the reference."""
    return by_group(_differences(measurements), KEY, lambda rows: _limits_or_percentiles(rows, "percent", "percent"))


def limits_first_image(measurements: pd.DataFrame) -> pd.DataFrame:
    """Bias and limits of agreement in mm over the first image of each subject only, in the order of measurements.csv.

    A sensitivity analysis; no rows of a quantity of which no subject has two images. The first image is known before
    any result is, whereas the worst one of each subject would widen the limits by its selection.
    """
    rows = _differences(measurements)
    cases = rows.groupby([*KEY, "subject"], sort=False)["case"]
    is_first, is_repeated = rows["case"] == cases.transform("first"), cases.transform("nunique") > 1
    is_shown = is_repeated.groupby([rows[name] for name in KEY]).transform("any") & is_first
    return by_group(rows[is_shown.astype(bool)], KEY, lambda group: _limits(group, "difference", "mm"))


def _differences(measurements: pd.DataFrame) -> pd.DataFrame:
    """Measured heads with their difference and mean (mm), and the difference in percent of the reference."""
    rows = measured_rows(measurements)
    difference, mean = rows["predicted_mm"] - rows["reference_mm"], (rows["predicted_mm"] + rows["reference_mm"]) / 2
    return rows.assign(difference=difference, mean_mm=mean, percent=100 * difference / rows["reference_mm"])


def _limits(rows: pd.DataFrame, column: str, unit: str) -> dict[str, object]:
    limits = agreement.limits_of_agreement(rows[column], rows["subject"])
    return {"n": rows["case"].nunique()} | limit_columns(limits, unit)


def _limits_or_percentiles(rows: pd.DataFrame, column: str, unit: str) -> dict[str, object]:
    found = agreement.percentiles_unless_normal(rows[column], rows["subject"])
    ends = {f"percentile_2_5_{unit}": found.low, f"percentile_97_5_{unit}": found.high}
    return _limits(rows, column, unit) | {"p_normal": found.p_normal} | ends


def limit_columns(limits: Limits, unit: str) -> dict[str, float]:
    """Columns bias_<unit>, lower_limit_<unit> and upper_limit_<unit> with their intervals."""
    lower, upper = (with_interval(f"{name}_limit_{unit}", getattr(limits, name)) for name in ("lower", "upper"))
    return with_interval(f"bias_{unit}", limits.bias) | lower | upper


def proportional(measurements: pd.DataFrame) -> pd.DataFrame:
    """Slopes on the mean of both measurements, in mm and in percent, and the smallest and the largest mean.

    The slope of the difference is per 100 mm, so it is in percent of the size too; that of the difference in percent of
    the reference is in percentage points per 100 mm. Where the interval of the first excludes 0 (`proportional`: yes),
    bias and limits are those of `limits_at_sizes`, else the constant ones of `limits_mm`.
    """
    return by_group(_differences(measurements), KEY, _proportional)


def _proportional(rows: pd.DataFrame) -> dict[str, object]:
    fitted, relative = (_on_size(rows, column) for column in ("difference", "percent"))
    row = {"n": rows["case"].nunique()} | with_interval("slope_per_100_mm", _times(fitted.slope, 100))
    row |= with_interval("percent_slope_per_100_mm", _times(relative.slope, 100)) | {"proportional": _verdict(fitted)}
    return row | {"smallest_mm": rows["mean_mm"].min(), "largest_mm": rows["mean_mm"].max()}


def _on_size(rows: pd.DataFrame, column: str) -> ProportionalBias:
    return agreement.proportional_bias(rows[column], rows["mean_mm"], rows["subject"])


def limits_at_sizes(measurements: pd.DataFrame) -> pd.DataFrame:
    """Bias and limits of the regression at the smallest and the largest mean, with their intervals.

    Rows of the quantities only whose difference changes with size (`proportional`: yes). The bias is also given in
    percent of the size.
    """
    table = []
    for key, rows in _differences(measurements).groupby(KEY, sort=False):
        fitted, sizes = _on_size(rows, "difference"), rows["mean_mm"]
        for size in (sizes.min(), sizes.max()) if fitted.is_proportional else ():
            row = dict(zip(KEY, key)) | {"size_mm": size, "n": rows["case"].nunique()}
            table.append(row | _limits_at(fitted, size))
    return pd.DataFrame(table)


def _limits_at(fitted: ProportionalBias, size: float) -> dict[str, float]:
    bias, lower, upper = fitted.intervals_at(size)
    row = with_interval("bias_mm", bias) | with_interval("lower_limit_mm", lower)
    return row | with_interval("upper_limit_mm", upper) | with_interval("bias_percent", _times(bias, 100 / size))


def _verdict(fitted: ProportionalBias) -> str:
    if np.isnan(fitted.slope.low):
        return "not tested"  # too few subjects
    return "yes" if fitted.is_proportional else "no"


def _times(estimate: Estimate, factor: float) -> Estimate:
    values = (estimate.value, estimate.low, estimate.high)
    return replace(estimate, **dict(zip(("value", "low", "high"), (factor * value for value in values))))


def by_size(measurements: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Errors and limits of agreement by group of the data set (cases.csv of 01), with the HC that each group spans.

    Groups have their printed name (`cases.group_names`) and are in order of HC.
    """
    rows = in_order_of_size(_differences(measurements), measurements, manifest)
    return by_group(rows, [*KEY, "group"], _of_size)


def in_order_of_size(rows: pd.DataFrame, measurements: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Rows of measurements with the group of the data set and the reference HC of their case, sorted by both.

    Quantities stay in their order; the groups of each are in order of HC.
    """
    groups = pd.Series(group_of(manifest["stratum"]).map(group_names(manifest)).to_numpy(), manifest["case"])
    rows = rows.assign(group=groups.reindex(rows["case"]).to_numpy())
    heads = measurements[measurements["quantity"] == "hc"].drop_duplicates("case").set_index("case")["reference_mm"]
    rows = rows.assign(hc_mm=heads.reindex(rows["case"]).to_numpy())
    order = rows.groupby("group")["hc_mm"].min()
    rows = rows.assign(order=rows["group"].map(order)).sort_values("order", kind="stable")
    return rows.iloc[pd.factorize(rows["quantity"])[0].argsort(kind="stable")]


def _of_size(rows: pd.DataFrame) -> dict[str, object]:
    row = {"smallest_hc_mm": rows["hc_mm"].min(), "largest_hc_mm": rows["hc_mm"].max()}
    row |= _limits(rows, "difference", "mm")
    for name, column in (("mae_mm", "difference"), ("mae_percent", "percent")):
        row |= with_interval(name, mean_interval(rows[column].abs().to_numpy(), rows["subject"].to_numpy()))
    return row


def reliabilities(measurements: pd.DataFrame) -> pd.DataFrame:
    """ICC(2,1) and Lin's concordance of predicted and reference measurement."""
    return by_group(measured_rows(measurements), KEY, _reliability)


def _reliability(rows: pd.DataFrame) -> dict[str, object]:
    ratings, subjects = rows[["predicted_mm", "reference_mm"]].to_numpy(float), rows["subject"].to_numpy()
    row = {"n": rows["case"].nunique()}
    row |= with_interval("icc", reliability.intraclass_correlation(ratings, subjects))
    return row | with_interval("ccc", reliability.concordance(*ratings.T, subjects))


def equivalence(measurements: pd.DataFrame, margin_percent: float) -> pd.DataFrame:
    """Whether the mean difference, and 95 % of single differences, are within a margin in percent of the reference.

    The mean is tested by two one-sided t tests (p). Single measurements are within the margin if the whole intervals of
    both limits of agreement are, and outside it if the whole interval of one is; otherwise it is undecided. Where the
    difference in percent changes with size, one pair of limits inside the margin decides nothing ("depends on size").
    """
    rows = _differences(measurements)
    return by_group(rows, KEY, lambda group: _equivalence(group, margin_percent))


def _equivalence(rows: pd.DataFrame, margin: float) -> dict[str, object]:
    percent, subjects = rows["percent"].to_numpy(float), rows["subject"].to_numpy()
    test = agreement.equivalence(percent, subjects, margin)
    limits = agreement.limits_of_agreement(percent, subjects)
    outer, inner = (-limits.lower.low, limits.upper.high), (-limits.lower.high, limits.upper.low)
    inside = "depends on size" if _on_size(rows, "percent").is_proportional else "yes"
    single = inside if max(outer) < margin else "no" if max(inner) > margin else "undecided"
    row = {"n": rows["case"].nunique(), "margin_percent": margin} | with_interval("bias_percent", test.bias)
    row |= {"p_value": test.p_value, "mean_within_margin": "yes" if test.holds else "not shown"}
    return row | {"single_within_margin": single if np.isfinite([*outer, *inner]).all() else "not shown"}


def gestational_age(measurements: pd.DataFrame) -> pd.DataFrame:
    """Error in days of the gestational age at which the growth chart's mean is the measured size.

    Over the n cases whose reference and prediction both have such an age; `outside_chart` counts other predictions.
    """
    rows = measured_rows(measurements)
    days = {side: DAYS_PER_WEEK * _ages(rows, f"{side}_mm") for side in ("predicted", "reference")}
    return by_group(rows.assign(days=days["predicted"] - days["reference"]), KEY, _gestational_age)


def _ages(rows: pd.DataFrame, column: str) -> np.ndarray:
    return np.array([growth.age_weeks(*each) for each in zip(rows["quantity"], rows[column])], float)


def _gestational_age(rows: pd.DataFrame) -> dict[str, object]:
    known = rows[rows["days"].notna()]
    row = {"outside_chart": len(rows) - len(known)} | _limits(known, "days", "days")
    row |= with_interval("mae_days", mean_interval(known["days"].abs().to_numpy(), known["subject"].to_numpy()))
    within = int((known["days"].abs() <= DAYS_PER_WEEK).sum())
    return row | {"up_to_one_week": within, "over_one_week": len(known) - within}


def centiles(measurements: pd.DataFrame) -> pd.DataFrame:
    """Error in standard deviations of the growth chart, and the share of fetuses that it moves across a centile.

    The standard deviation is that of the age at which the chart's mean is the reference, over the n cases with such an
    age. The shares are of healthy fetuses of one age, whose true sizes are those of the chart (percent).
    """
    rows = measured_rows(measurements)
    sd = [_chart_sd(*each) for each in zip(rows["quantity"], _ages(rows, "reference_mm"))]
    rows = rows.assign(error_sd=(rows["predicted_mm"] - rows["reference_mm"]) / np.array(sd, float))
    return by_group(rows, KEY, _centiles)


def _chart_sd(quantity: str, weeks: float) -> float:
    return growth.mean_and_sd_mm(quantity, weeks)[1] if np.isfinite(weeks) else np.nan


def _centiles(rows: pd.DataFrame) -> dict[str, object]:
    known = rows[rows["error_sd"].notna()]
    row = _limits(known, "error_sd", "sd")
    for centile, name in CENTILES.items():
        share = growth.share_crossing(known["error_sd"], centile)
        row[f"across_{name}_centile_percent"] = 100 * float(share.mean()) if len(share) else np.nan
    return row


def volume_limits(long: pd.DataFrame) -> pd.DataFrame:
    """Bias, limits of agreement, percentiles and slope of volumes by class after post-processing (volumes.csv).

    In millilitres over the cases with a known voxel size; in voxels if no case has one. The slope is that of the
    difference on the mean of both volumes, in percent.
    """
    rows, unit = volume_differences(long)
    return by_group(rows, ["class"], lambda group: _volume_limits(group, unit))


def volume_differences(long: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Volumes after post-processing with their `difference` and `mean`, and the unit, "ml" or "voxels"."""
    unit = "ml" if long["reference_ml"].notna().any() else "voxels"
    predicted, reference = (long[f"{side}_{unit}"].astype(float) for side in ("predicted", "reference"))
    rows = long.assign(difference=predicted - reference, mean=(predicted + reference) / 2)
    return rows[(rows["stage"] == "post") & rows["difference"].notna()], unit


def _volume_limits(rows: pd.DataFrame, unit: str) -> dict[str, object]:
    slope = agreement.proportional_bias(rows["difference"], rows["mean"], rows["subject"]).slope
    return _limits_or_percentiles(rows, "difference", unit) | with_interval("slope_percent", _times(slope, 100))
