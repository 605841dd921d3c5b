"""Post-processing of a predicted mask: each step takes and gives (H, W) uint8 class indices.

Of several classes the first is the outer one (the head), which holds the others (structures in it). A part that is
dropped becomes the outer class inside the head, background elsewhere, so that no step makes a hole.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from lib.imaging import connected_parts
from lib.imaging.connected_parts import Parts

KEYS: dict[str, tuple[str, ...]] = {  # every step, with the keys of a study file that it uses
    "largest_component": (),
    "fill_holes": (),
    "close_outer": ("closing_pixels",),
    "inside_outer": ("dilation_pixels",),
    "minimum_area": ("minimum_area_mm2",),
    "largest_parts": ("parts_kept",),
    "confident_parts": ("minimum_probability", "minimum_margin"),
}


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Keeps the largest connected part of the foreground, (H, W) or (D, H, W); what lies apart becomes background.

    All classes together, because a structure such as the lateral ventricles may rightly show in two parts.
    """
    return np.where(connected_parts.largest_component(mask > 0), mask, 0).astype(np.uint8)


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Gives background that is enclosed by the foreground to the first class (the one around the others)."""
    return np.where(connected_parts.fill_holes(mask > 0) & (mask == 0), 1, mask).astype(np.uint8)


def close_outer(mask: np.ndarray, side_px: int) -> np.ndarray:
    """Closes cracks in the first class with a square; only background is taken, never another class's pixels."""
    outer = np.pad((mask == 1).astype(np.uint8), side_px)  # OpenCV takes what lies beyond the frame for foreground
    square = np.ones((side_px, side_px), np.uint8)
    closed = cv2.morphologyEx(outer, cv2.MORPH_CLOSE, square)[side_px:-side_px, side_px:-side_px]
    return np.where((closed > 0) & (mask == 0), 1, mask).astype(np.uint8)


def inside_outer(mask: np.ndarray, side_px: int) -> np.ndarray:
    """Drops structures outside the head: the first class with its holes filled, dilated by a square."""
    head = connected_parts.fill_holes(mask == 1).astype(np.uint8)
    allowed = cv2.dilate(head, np.ones((side_px, side_px), np.uint8))
    return np.where((mask > 1) & (allowed == 0), 0, mask).astype(np.uint8)


def minimum_area(mask: np.ndarray, pixel_mm2: float | None, minimum_mm2: float, class_count: int) -> np.ndarray:
    """Drops parts smaller than an area; where the area of a pixel is not known (None) it does nothing.

    Of two classes, background included, the one is judged, of more the structures in the first.
    """
    if pixel_mm2 is None:
        return mask
    return keep_parts(mask, class_count, lambda part: part.areas >= minimum_mm2 / pixel_mm2)


def largest_parts(mask: np.ndarray, count: int, class_count: int) -> np.ndarray:
    """Keeps the largest few parts of each class, of equals those that OpenCV counts first (nearly from the top)."""

    def among_largest(part: Parts) -> np.ndarray:
        largest = np.argsort(-part.areas, kind="stable")[:count]
        return np.isin(np.arange(len(part.areas)), largest)

    return keep_parts(mask, class_count, among_largest)


def confident_parts(
    mask: np.ndarray, probability: np.ndarray, minimum_probability: float, minimum_margin: float
) -> np.ndarray:
    """Drops parts whose mean probability, or mean lead over the next class, is low; `probability` is (C, H, W)."""

    def is_confident(part: Parts) -> np.ndarray:
        inside = probability[:, part.rows, part.cols]  # (C, N)
        own, others = inside[part.index], np.delete(inside, part.index, axis=0).max(axis=0)
        return (part.mean(own) >= minimum_probability) & (part.mean(own - others) >= minimum_margin)

    return keep_parts(mask, len(probability), is_confident)


def keep_parts(mask: np.ndarray, class_count: int, holds: Callable[[Parts], np.ndarray]) -> np.ndarray:
    """Drops connected parts for which something does not hold; `holds` gives a bool for each part.

    Parts are judged one by one of the structures, or of the one class that there is. A dropped part becomes the outer
    class where that encloses it, if there is one, else background.
    """
    outer, dropped = 1 if class_count > 2 else 0, np.zeros(mask.shape, bool)
    for index in range(1 + outer, class_count):
        part = connected_parts.parts_of(mask, index)
        if part is not None:
            dropped[part.rows, part.cols] = ~holds(part)[part.labels]
    surroundings = connected_parts.fill_holes(mask == 1) if outer and dropped.any() else 0
    return np.where(dropped, surroundings, mask).astype(np.uint8)


def describe(names: Sequence[str], keys: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Steps in order, each with the keys that it uses, as `apply` takes them: {"step": name, key: value, …}."""
    return [{"step": name} | {key: keys[key] for key in KEYS[name]} for name in names]


def apply(
    mask: np.ndarray, probability: np.ndarray, pixel_mm2: float | None, steps: Sequence[Mapping[str, Any]]
) -> np.ndarray:
    """A mask, (H, W) or (D, H, W) uint8 class indices, after steps (of `describe`, or a file of weights) in order.

    `probability`, (C, *mask.shape) float32, is what it was made of; `pixel_mm2` is None where the size of a pixel is
    not known. Works on the rectangle (or box) that holds the foreground: no step goes beyond it.
    """
    frame = connected_parts.foreground_frame(mask)
    if frame is None:
        return mask
    inner, inner_probability = np.ascontiguousarray(mask[frame]), probability[(slice(None), *frame)]
    for step in steps:
        inner = apply_step(inner, inner_probability, pixel_mm2, step)
    whole = np.zeros_like(mask)
    whole[frame] = inner
    return whole


def apply_step(
    mask: np.ndarray, probability: np.ndarray, pixel_mm2: float | None, step: Mapping[str, Any]
) -> np.ndarray:
    """One step of `apply`; ValueError if there is no such step."""
    match step["step"]:
        case "largest_component":
            return largest_component(mask)
        case "fill_holes":
            return fill_holes(mask)
        case "close_outer":
            return close_outer(mask, step["closing_pixels"])
        case "inside_outer":
            return inside_outer(mask, step["dilation_pixels"])
        case "minimum_area":
            return minimum_area(mask, pixel_mm2, step["minimum_area_mm2"], len(probability))
        case "largest_parts":
            return largest_parts(mask, step["parts_kept"], len(probability))
        case "confident_parts":
            return confident_parts(mask, probability, step["minimum_probability"], step["minimum_margin"])
    raise ValueError(f"step = {step['step']!r}   not known; allowed: {', '.join(KEYS)}")
