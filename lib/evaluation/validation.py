"""Heads of validation cases, measured as those of test cases are: what the constants of a model file are chosen on.

The threshold is chosen on all validation cases before the first head is measured. Until then each case is kept as what
its heads are measured from (`Candidates`), because the probability takes a hundred times as much memory.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.data import cases
from lib.evaluation import biometry
from lib.imaging import head_quality
from lib.imaging.regions import region_of

COLUMNS = biometry.COLUMNS  # of validation.csv of 05_evaluation: those of measurements.csv of 06_biometry


@dataclass(frozen=True)
class Candidates:
    """A validation case at every candidate of the threshold: its scores, and the heads that could be chosen."""

    row: dict[str, Any]  # of the manifest
    scores: list[float]  # one per candidate
    reference_mm: dict[str, float]  # by quantity; {} if there is nothing to compare with
    heads: list[dict[str, bytes]]  # packed regions by stage, one dict per candidate; [] without a reference
    entropy_bits: float  # of the head's probability; NaN without a reference
    grey: dict[str, float]  # indicator of the image


def reference_mm(row: dict[str, Any], reference: np.ndarray, heads: Sequence[int]) -> dict[str, float]:
    """BPD, OFD and HC that the heads of a case are compared with, from its row and its reference mask (H, W).

    {} if there is nothing to compare with: no head class, no pixel size, or no head in the reference.
    """
    if not heads or cases.spacing_mm(row) is None:
        return {}
    region = region_of(reference, heads)
    return biometry.reference_of_region(row, lambda: region) if region.any() else {}


def packed_heads(stages: Mapping[str, np.ndarray], heads: Sequence[int]) -> dict[str, bytes]:
    """The head in each stage's mask (H, W) uint8, one bit per pixel and compressed: some kB."""
    return {stage: zlib.compress(np.packbits(region_of(mask, heads)), 1) for stage, mask in stages.items()}


def unpacked(packed: bytes, shape: tuple[int, int]) -> np.ndarray:
    """A region of `packed_heads`, (H, W) bool."""
    bits = np.unpackbits(np.frombuffer(zlib.decompress(packed), np.uint8), count=shape[0] * shape[1])
    return bits.reshape(shape).view(bool)


def measured(case: Candidates, chosen: int, measuring: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of a case with a reference at the chosen candidate, COLUMNS without fold and seed; and its indicators.

    `measuring` are the keys of 06 (`params.measuring`).
    """
    spacing_mm = cases.spacing_mm(case.row)
    shape = (int(case.row["height"]), int(case.row["width"]))
    stages = {stage: unpacked(packed, shape) for stage, packed in case.heads[chosen].items()}
    post = stages["post"]
    indicators = head_quality.describe(post, stages.get("raw", post), case.entropy_bits, spacing_mm)
    key = {"case": case.row["case"], "subject": case.row["subject"], "role": "validation", "route": "ellipse"}
    return of_region(case.row, case.reference_mm, post, measuring), key | indicators | case.grey


def of_region(
    row: dict[str, Any], reference_mm: dict[str, float], predicted: np.ndarray, measuring: dict[str, Any]
) -> list[dict[str, Any]]:
    """Rows of one case, one per quantity, from its predicted head (H, W) bool; COLUMNS without fold and seed."""
    axes = dict.fromkeys(("ofd_mm", "bpd_mm"), np.nan) | biometry.axes_of(predicted, cases.spacing_mm(row))
    return _rows(row, {"route": "ellipse"} | axes, reference_mm, measuring)


def of_points(
    row: dict[str, Any], reference: np.ndarray, predicted: np.ndarray, measuring: dict[str, Any]
) -> list[dict[str, Any]]:
    """`of_region` for landmarks, from endpoints (4, 2) in native pixels, NaN where none was predicted.

    [] if the case has nothing to compare with: no head class or no pixel size.
    """
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
