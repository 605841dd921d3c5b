"""Boundary distances and matched parts of a structure, in millimetres where the pixel size is known."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lib import metrics
from lib.imaging import connected_parts

LENGTHS = ("hausdorff", "hd95", "assd")
PART_COLUMNS = ["reference_parts", "found_parts", "predicted_parts", "matched_parts"]
COLUMNS = [f"{name}_{unit}" for unit in ("mm", "px") for name in (*LENGTHS, "diagonal")] + ["nsd", *PART_COLUMNS]


def describe(
    reference: np.ndarray,
    predicted: np.ndarray,
    spacing_mm: Sequence[float] | None,
    tolerances: Mapping[str, float | None],
) -> dict[str, Any]:
    """Values of some of COLUMNS for two bool regions, (H, W) or (D, H, W).

    Lengths have one unit: mm with a spacing, one per axis, and otherwise pixels, each axis counting 1. `diagonal` is
    that of the image or volume, which no distance exceeds; it tells the unit of a case without a distance, too.
    `tolerances` are those of NSD by unit; None for no NSD.
    """
    unit, spacing = ("mm", spacing_mm) if spacing_mm else ("px", (1.0,) * reference.ndim)
    tolerance = tolerances.get(unit)
    measured = metrics.distances(reference, predicted, spacing, np.nan if tolerance is None else tolerance)
    lengths = {name: getattr(measured, name) for name in LENGTHS}
    lengths["diagonal"] = float(np.linalg.norm(np.multiply(reference.shape, spacing)))
    parts = connected_parts.match_parts(reference, predicted)
    row = {f"{name}_{unit}": length for name, length in lengths.items()}
    return row | {"nsd": measured.nsd} | dict(zip(PART_COLUMNS, parts))
