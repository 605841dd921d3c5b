"""What an ensemble says about one image or volume, and its measurements: plain arrays in, plain values out.

Every step is the function that the study's own evaluation calls, so the same image gives the same numbers.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lib.evaluation import biometry, intervals, postprocessing, quality
from lib.imaging import geometry, head_points, head_quality, shapes
from lib.imaging.head_points import POINT_COLUMNS
from lib.imaging.preparation import heatmap_sigma
from lib.models import inference, trained_model
from lib.prediction.ensemble import Ensemble

Spacing = tuple[float, float]


@dataclass(frozen=True)
class Answer:
    """The prediction for one image (H, W) or volume (D, H, W) at native size."""

    mask: np.ndarray | None  # uint8 class indices after post-processing; None with landmarks
    maps: dict[str, np.ndarray]  # by class (or line: heatmaps), float32 from 0 to 1, of the mask's shape
    head: dict[str, Any] = field(default_factory=dict)  # endpoints and lengths of the axes; {} if no head is measured
    raised: list[str] = field(default_factory=list)  # flags of the head by its indicators


def predict(ensemble: Ensemble, native: np.ndarray, spacing_mm: Spacing | None = None) -> Answer:
    """The answer for an image (H, W) or a volume (D, H, W, channels), uint8; ValueError for another array.

    Several members: the mean of their probabilities (of their heatmaps, with landmarks), cut at the mean of their
    thresholds. The spacing is the (row, col) pixel size in mm, None if unknown: then nothing is in millimetres.
    """
    return finish(ensemble, compute(ensemble, native), native, spacing_mm)


def compute(ensemble: Ensemble, native: np.ndarray) -> np.ndarray:
    """Output of the networks, averaged: probabilities (C, ...) at native size, or heatmaps (2, h, w) as they are."""
    if ensemble.is_landmark:
        each = (trained_model.line_heatmaps(member, native)[0] for member in ensemble.members)
    else:
        each = (trained_model.probability(member, native) for member in ensemble.members)
    total = next(each)
    for other in each:
        total = total + other
    return total if len(ensemble.members) == 1 else total / np.float32(len(ensemble.members))


def finish(ensemble: Ensemble, output: np.ndarray, native: np.ndarray, spacing_mm: Spacing | None) -> Answer:
    """The answer from the networks' output for a native array."""
    if ensemble.is_landmark:
        return _of_heatmaps(ensemble, output, native, spacing_mm)
    raw = inference.decide(output, ensemble.threshold)
    pixel_mm2 = spacing_mm[0] * spacing_mm[1] if spacing_mm else None
    mask = postprocessing.apply(raw, output, pixel_mm2, ensemble.about["postprocessing"])
    maps = dict(zip(ensemble.about["classes"][1:], output[1:]))
    if not ensemble.head:
        return Answer(mask, maps)
    axes = biometry.axes_of(np.isin(mask, ensemble.head), spacing_mm)
    indicators = quality.of_masks({"raw": raw, "post": mask}, output, ensemble.head, spacing_mm)
    return Answer(mask, maps, _head("ellipse", axes), _raised(ensemble, indicators, native))


def _raised(ensemble: Ensemble, indicators: dict[str, float], native: np.ndarray) -> list[str]:
    """Flags of a head by its indicators and the grey values of its image."""
    grey = quality.grey_distance(native, ensemble.about["preparation"], ensemble.usual_greys)
    return quality.raised(indicators | grey, ensemble.limits)


def _of_heatmaps(ensemble: Ensemble, maps: np.ndarray, native: np.ndarray, spacing_mm: Spacing | None) -> Answer:
    preparation = ensemble.about["preparation"]
    mapping = geometry.fit(native.shape, tuple(preparation["image_size"]))
    points, heights = trained_model.decode(maps, mapping, heatmap_sigma(preparation, mapping, spacing_mm))
    found = dict(zip(POINT_COLUMNS, points.ravel().tolist())) | biometry.lengths_mm(points, spacing_mm)
    confidence = {f"confidence_{line}": float(height) for line, height in zip(head_points.LINES, heights)}
    maps_of_lines = dict(zip(head_points.LINES, geometry.to_native(maps, mapping)))
    indicators = head_quality.describe_lines(points, heights, native.shape, spacing_mm)
    return Answer(None, maps_of_lines, _head("landmark", found | confidence), _raised(ensemble, indicators, native))


def _head(route: str, found: dict[str, float]) -> dict[str, Any]:
    """A row in the columns of 06's points.csv and `find_heads`, NaN for what was not found."""
    columns = [name for name in biometry.HEAD_COLUMNS if name not in ("case", "subject", "fold", "seed", "stage")]
    return dict.fromkeys(columns, np.nan) | {"route": route, "stage": "post"} | found


def measurements(ensemble: Ensemble, answer: Answer) -> list[dict[str, Any]]:
    """BPD, OFD and HC: stage, route, quantity, predicted_mm, low_mm, high_mm (NaN if unknown) and flags; [] if no head.

    The limits are those of `Ensemble.intervals`: they hold for images like those on which the model was validated.
    """
    if not answer.head:
        return []
    limits = ensemble.about["max_axis_ratio"], ensemble.about["hc_range_mm"]
    rows = biometry.measure(answer.head, *limits, answer.raised)
    bounds = ensemble.intervals["error_per_root"]
    return [
        {"stage": "post", "route": answer.head["route"]}
        | row
        | dict(zip(intervals.LIMITS, intervals.limits_mm(row["predicted_mm"], bounds[row["quantity"]])))
        for row in rows
    ]


def shapes_of(ensemble: Ensemble, answer: Answer, spacing_mm: Spacing | None) -> list[dict[str, Any]]:
    """Shape of each structure of an image (`imaging.shapes`), one row per class; [] for volumes and landmarks."""
    if answer.mask is None or ensemble.is_volume:
        return []
    names = ensemble.about["classes"][1:]
    return [{"class": n} | shapes.describe(answer.mask == i, spacing_mm) for i, n in enumerate(names, start=1)]


def volumes_of(ensemble: Ensemble, answer: Answer, voxel_mm3: float) -> list[dict[str, Any]]:
    """Size of each structure of a volume, one row per class: predicted_voxels, predicted_ml (NaN if unknown)."""
    if answer.mask is None or not ensemble.is_volume:
        return []
    counts = {name: int(np.count_nonzero(answer.mask == i)) for i, name in enumerate(ensemble.about["classes"]) if i}
    ml = voxel_mm3 / 1000
    return [{"class": n, "predicted_voxels": count, "predicted_ml": count * ml} for n, count in counts.items()]
