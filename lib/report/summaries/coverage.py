"""How often the intervals of measurements contain the reference, on test cases (06_biometry).

Rows are single predictions, of which a case has one per seed; n counts cases. A head that was not measured counts as
not covered, as in the calibration.
"""

import numpy as np
import pandas as pd

from lib.data.cases import TRIVIAL_BASELINES
from lib.report.summaries.means import by_group, median_over, share_over, with_interval
from lib.report.summaries.measurement_agreement import in_order_of_size

KEY = ["quantity", "route"]


def coverage(measurements: pd.DataFrame, bounds: pd.DataFrame) -> pd.DataFrame:
    """Coverage by quantity, from measurements.csv and intervals.csv; only of runs whose validation gave an interval.

    Covered are predictions, and examinations (subjects) of which every image is covered. The width is that of the
    whole interval, in mm and in percent of the prediction. `without_interval` counts predictions of the other runs.
    """
    return by_group(_rows(measurements, bounds), KEY, _coverage)


def by_size(measurements: pd.DataFrame, bounds: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Coverage by group of the data set (cases.csv of 01), in order of HC; columns as in `coverage`."""
    rows = _rows(measurements, bounds)
    rows = in_order_of_size(rows[rows["is_calibrated"]], measurements, manifest)
    return by_group(rows, [*KEY, "group"], _of_size)


def _rows(measurements: pd.DataFrame, bounds: pd.DataFrame) -> pd.DataFrame:
    """Final predictions of the network with a reference; is_calibrated, covered, and the width of the interval."""
    rows = measurements[~measurements["route"].isin(TRIVIAL_BASELINES) & (measurements["stage"] == "post")]
    rows = rows[rows["reference_mm"].notna()]
    known = bounds[bounds["error_per_root"].notna()]
    runs = set(zip(known["fold"], known["seed"], known["quantity"]))
    is_calibrated = [run in runs for run in zip(rows["fold"], rows["seed"], rows["quantity"])]
    width = rows["high_mm"] - rows["low_mm"]
    return rows.assign(
        is_calibrated=np.array(is_calibrated, bool),
        covered=rows["reference_mm"].between(rows["low_mm"], rows["high_mm"]),
        width_mm=width,
        width_percent=100 * width / rows["predicted_mm"],
    )


def _coverage(rows: pd.DataFrame) -> dict[str, object]:
    known = rows[rows["is_calibrated"]]
    whole = known.groupby(["subject", "seed"], as_index=False)["covered"].all()
    row = {"n": known["case"].nunique(), "covered": int(known["covered"].sum())} | share_over(known, "covered")
    row |= share_over(whole.rename(columns={"covered": "whole_subject"}), "whole_subject")
    row |= with_interval("median_width_mm", median_over(known, "width_mm"))
    row |= {"median_width_percent": known["width_percent"].median()}
    row |= {"not_measured": int(known["predicted_mm"].isna().sum())}
    return row | {"without_interval": int((~rows["is_calibrated"]).sum())}


def _of_size(rows: pd.DataFrame) -> dict[str, object]:
    row = {"smallest_hc_mm": rows["hc_mm"].min(), "largest_hc_mm": rows["hc_mm"].max()}
    row |= {"n": rows["case"].nunique(), "covered": int(rows["covered"].sum())} | share_over(rows, "covered")
    return row | {"median_width_mm": rows["width_mm"].median()}
