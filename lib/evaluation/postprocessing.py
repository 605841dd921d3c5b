"""What is done to a predicted mask afterwards: each step takes and gives (H, W) uint8 class indices;
the largest component is also found in volumes, (D, H, W).

Of several classes the first is the outer one (the head), which holds the others (structures in it). A part that is
dropped becomes what surrounds it: the outer class inside the head, background elsewhere; so no step makes a hole, and
none gives a structure's pixels to the outer class because that one was smoothed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from lib.imaging import connected_parts
from lib.imaging.connected_parts import Parts
from lib.study.params import EvaluationParams


@dataclass(frozen=True)
class Prediction:
    """A mask on its way.

    Attributes:
        mask: (H, W) or (D, H, W) uint8 class indices.
        probability: (C, *mask.shape) float32 that the mask was made of.
        pixel_mm2: area of a pixel, None where it is not known.
    """

    mask: np.ndarray
    probability: np.ndarray
    pixel_mm2: float | None

    @property
    def parted(self) -> range:
        """Classes whose parts are judged one by one: the structures, or the one class that there is."""
        count = len(self.probability)
        return range(2, count) if count > 2 else range(1, count)

    @property
    def surroundings(self) -> np.ndarray:
        """What a dropped part becomes, (H, W) uint8: the outer class in the head, if there is one, else background."""
        if len(self.probability) <= 2:
            return np.zeros_like(self.mask)
        return connected_parts.fill_holes(self.mask == 1).astype(np.uint8)


def largest_component(given: Prediction, _: EvaluationParams) -> np.ndarray:
    """Keeps the largest connected part of the foreground; what lies apart from it becomes background.

    All classes together, because a structure such as the lateral ventricles may rightly show in two parts.
    """
    return np.where(connected_parts.largest_component(given.mask > 0), given.mask, 0).astype(np.uint8)


def fill_holes(given: Prediction, _: EvaluationParams) -> np.ndarray:
    """Gives background that is enclosed by the foreground to the first class (the one around the others)."""
    filled = given.mask.copy()
    filled[connected_parts.fill_holes(given.mask > 0) & (given.mask == 0)] = 1
    return filled


def close_outer(given: Prediction, chosen: EvaluationParams) -> np.ndarray:
    """Closes cracks in the first class; only background is taken, never another class's pixels."""
    side = chosen.closing_pixels
    outer = np.pad((given.mask == 1).astype(np.uint8), side)  # OpenCV takes what lies beyond the frame for foreground
    closed = cv2.morphologyEx(outer, cv2.MORPH_CLOSE, square(side))[side:-side, side:-side]
    return np.where((closed > 0) & (given.mask == 0), 1, given.mask).astype(np.uint8)


def inside_outer(given: Prediction, chosen: EvaluationParams) -> np.ndarray:
    """Drops structures outside the head: the first class with its holes filled, dilated by a little."""
    head = connected_parts.fill_holes(given.mask == 1).astype(np.uint8)
    allowed = cv2.dilate(head, square(chosen.dilation_pixels))
    return np.where((given.mask > 1) & (allowed == 0), 0, given.mask).astype(np.uint8)


def minimum_area(given: Prediction, chosen: EvaluationParams) -> np.ndarray:
    """Drops parts smaller than an area in mm2; where no pixel size is known it does nothing."""
    if given.pixel_mm2 is None:
        return given.mask
    least = chosen.minimum_area_mm2 / given.pixel_mm2
    return keep_parts(given, lambda part: part.areas >= least)


def largest_parts(given: Prediction, chosen: EvaluationParams) -> np.ndarray:
    """Keeps the largest few parts of each class, of equals those that OpenCV counts first (nearly from the top)."""

    def among_largest(part: Parts) -> np.ndarray:
        kept = np.zeros(len(part.areas), bool)
        kept[np.argsort(-part.areas, kind="stable")[: chosen.parts_kept]] = True
        return kept

    return keep_parts(given, among_largest)


def confident_parts(given: Prediction, chosen: EvaluationParams) -> np.ndarray:
    """Drops parts whose mean probability, or mean lead over the next class, is low."""

    def is_confident(part: Parts) -> np.ndarray:
        shown = given.probability[:, part.rows, part.cols]  # (C, N)
        own, others = shown[part.index], np.delete(shown, part.index, axis=0).max(axis=0)
        certain = part.mean(own) >= chosen.minimum_probability
        return certain & (part.mean(own - others) >= chosen.minimum_margin)

    return keep_parts(given, is_confident)


def keep_parts(given: Prediction, holds: Callable[[Parts], np.ndarray]) -> np.ndarray:
    """Drops connected parts for which something does not hold; `holds` gives a bool for each part."""
    kept, surroundings = given.mask.copy(), None
    for part in (connected_parts.parts_of(given.mask, index) for index in given.parted):
        if part is None:
            continue
        dropped = ~holds(part)[part.labels]
        if dropped.any():
            surroundings = given.surroundings if surroundings is None else surroundings
            places = part.rows[dropped], part.cols[dropped]
            kept[places] = surroundings[places]
    return kept


STEPS: dict[str, Callable[[Prediction, EvaluationParams], np.ndarray]] = {
    "largest_component": largest_component,
    "fill_holes": fill_holes,
    "close_outer": close_outer,
    "inside_outer": inside_outer,
    "minimum_area": minimum_area,
    "largest_parts": largest_parts,
    "confident_parts": confident_parts,
}

KEYS = {  # that a step uses, of 05_evaluation
    "close_outer": ("closing_pixels",),
    "inside_outer": ("dilation_pixels",),
    "minimum_area": ("minimum_area_mm2",),
    "largest_parts": ("parts_kept",),
    "confident_parts": ("minimum_probability", "minimum_margin"),
}


def describe(chosen: EvaluationParams) -> list[dict[str, Any]]:
    """The steps that a study names, in order, each with the keys that it uses: {"step": name, key: value, …}."""
    return [
        {"step": step} | {key: getattr(chosen, key) for key in KEYS.get(step, ())} for step in chosen.postprocessing
    ]


def apply(given: Prediction, chosen: EvaluationParams) -> np.ndarray:
    """The steps that a study names, in order: uint8 of the mask's shape.

    Works on the rectangle (or box) that holds the foreground: no step goes beyond it.
    """
    frame = connected_parts.foreground_frame(given.mask)
    if frame is None:
        return given.mask
    mask, probability = np.ascontiguousarray(given.mask[frame]), given.probability[(slice(None), *frame)]
    for step in chosen.postprocessing:
        mask = STEPS[step](Prediction(mask, probability, given.pixel_mm2), chosen)
    whole = np.zeros_like(given.mask)
    whole[frame] = mask
    return whole


def square(side: int) -> np.ndarray:
    """A full kernel."""
    return np.ones((side, side), np.uint8)
