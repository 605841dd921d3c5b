"""Heads of validation cases, measured as those of test cases are: what the constants of a model file are chosen on."""

from typing import Any

import numpy as np

from lib.data import cases
from lib.evaluation import biometry

COLUMNS = biometry.COLUMNS  # of validation.csv of 05_evaluation: those of measurements.csv of 06_biometry


def of_masks(
    row: dict[str, Any], reference: np.ndarray, predicted: np.ndarray, heads: list[int], measuring: dict[str, Any]
) -> list[dict[str, Any]]:
    """Rows of one case, one per quantity, from its masks (H, W) uint8 at native size; COLUMNS without fold and seed.

    Args:
        row: of the manifest.
        heads: indices of the classes whose union is the head.
        measuring: keys of 06 (`params.measuring`).

    [] if the case has nothing to compare with: no head class, no pixel size, or no head in its reference.
    """
    spacing_mm = cases.spacing_mm(row)
    if not heads or spacing_mm is None:
        return []
    region = np.isin(reference, heads)
    if not region.any():
        return []
    axes = dict.fromkeys(("ofd_mm", "bpd_mm"), np.nan) | biometry.axes_of(np.isin(predicted, heads), spacing_mm)
    return _rows(row, {"route": "ellipse"} | axes, biometry.reference_of_region(row, lambda: region), measuring)


def of_points(
    row: dict[str, Any], reference: np.ndarray, predicted: np.ndarray, measuring: dict[str, Any]
) -> list[dict[str, Any]]:
    """`of_masks` for landmarks, from endpoints (4, 2) in native pixels, NaN where none was predicted."""
    spacing_mm = cases.spacing_mm(row)
    if spacing_mm is None or not measuring["head_classes"]:
        return []
    head = {"route": "landmark"} | biometry.lengths_mm(predicted, spacing_mm)
    return _rows(row, head, biometry.reference_of_points(row, reference), measuring)


def _rows(
    row: dict[str, Any], head: dict[str, Any], reference_mm: dict[str, float], measuring: dict[str, Any]
) -> list[dict[str, Any]]:
    key = {"case": row["case"], "subject": row["subject"], "stage": "post", "route": head["route"]}
    measured = biometry.measure(head, measuring["max_axis_ratio"], measuring["hc_range_mm"])
    return [key | each | {"reference_mm": reference_mm[each["quantity"]]} for each in measured]
