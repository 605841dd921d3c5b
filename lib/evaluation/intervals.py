"""Intervals of measurements: their constants, from the validation cases of a run, and their limits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lib.data.cases import QUANTITIES, TRIVIAL_BASELINES
from lib.statistics import conformal

COLUMNS = ["fold", "seed", "quantity", "level", "subjects", "images", "error_per_root"]
LIMITS = ["low_mm", "high_mm"]


def constants(heads: pd.DataFrame) -> dict[str, Any]:
    """Constants of one run for its model file, from its measured validation heads (`validation.COLUMNS`).

    `error_per_root` holds for each quantity the bound of |error| / root of the prediction, both in mm, that an image of
    a new subject keeps with a probability of `level` (`conformal.quantile`), None if there is none; `subjects` and
    `images` were measured. A head that was not measured counts as an infinite error. The root, because errors in mm
    grow with the head, but those of small heads are the larger ones in percent.
    """
    bounds = {}
    for quantity in QUANTITIES:
        rows = heads[heads["quantity"] == quantity]
        predicted = rows["predicted_mm"].to_numpy(float)
        error = np.abs(predicted - rows["reference_mm"].to_numpy(float))
        scores = np.divide(error, np.sqrt(predicted), out=np.full(len(rows), np.inf), where=predicted > 0)
        bound = conformal.quantile(scores, rows["subject"].to_numpy())
        bounds[quantity] = bound if np.isfinite(bound) else None
    counts = {"subjects": int(heads["subject"].nunique()), "images": int(heads["case"].nunique())}
    return {"level": conformal.LEVEL} | counts | {"error_per_root": bounds}


def of_runs(heads: pd.DataFrame) -> pd.DataFrame:
    """`constants` of every run, one row per quantity (COLUMNS); error_per_root is NaN if there is no bound."""
    rows: list[dict[str, Any]] = []
    for (fold, seed), of_run in heads.groupby(["fold", "seed"], sort=False):
        known = constants(of_run)
        bounds = known.pop("error_per_root")
        rows += [{"fold": fold, "seed": seed, "error_per_root": bounds[q], "quantity": q} | known for q in QUANTITIES]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"error_per_root": float})


def limits_mm(predicted_mm: float, error_per_root: float | None) -> tuple[float, float]:
    """(low, high) of one measurement in mm; NaN if it or its bound is unknown. A length is not negative."""
    if error_per_root is None or not np.isfinite([predicted_mm, error_per_root]).all():
        return float("nan"), float("nan")
    reach = error_per_root * float(np.sqrt(predicted_mm))
    return max(0.0, predicted_mm - reach), predicted_mm + reach


def with_limits(measurements: pd.DataFrame, bounds: pd.DataFrame) -> pd.DataFrame:
    """A table of measurements (`biometry.COLUMNS`) with LIMITS before its flags, from the `bounds` of `of_runs`.

    NaN for baselines and before post-processing: the bounds are those of the network's final measurement.
    """
    at = {(row["fold"], row["seed"], row["quantity"]): row["error_per_root"] for row in bounds.to_dict("records")}
    pairs = [_limits_of(row, at) for row in measurements.to_dict("records")]
    place = list(measurements.columns).index("flags")
    limits = pd.DataFrame(pairs, columns=LIMITS, index=measurements.index, dtype=float)
    return pd.concat([measurements.iloc[:, :place], limits, measurements.iloc[:, place:]], axis=1)


def are_complete(measurements: pd.DataFrame, bounds: pd.DataFrame) -> bool:
    """Whether exactly the final measurements of runs with a bound have limits, which enclose the prediction."""
    known = bounds[bounds["error_per_root"].notna()]
    runs = set(zip(known["fold"], known["seed"], known["quantity"]))
    in_run = [run in runs for run in zip(measurements["fold"], measurements["seed"], measurements["quantity"])]
    is_final = (measurements["stage"] == "post") & ~measurements["route"].isin(TRIVIAL_BASELINES)
    expected = is_final & np.array(in_run, bool) & measurements["predicted_mm"].notna()
    encloses = measurements["predicted_mm"].between(measurements["low_mm"], measurements["high_mm"])
    return bool((expected == encloses).all() and (expected == measurements[LIMITS].notna().all(axis=1)).all())


def _limits_of(row: Mapping[str, Any], at: Mapping[tuple, float]) -> tuple[float, float]:
    is_final = row["stage"] == "post" and row["route"] not in TRIVIAL_BASELINES
    return limits_mm(row["predicted_mm"], at.get((row["fold"], row["seed"], row["quantity"])) if is_final else None)
