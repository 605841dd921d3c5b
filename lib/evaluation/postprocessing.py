"""Post-processing of a predicted mask: each step takes and returns (H, W) uint8 class indices.

With several classes, the first is the outer one (the head), which encloses the others (structures in it). A removed
part becomes the outer class inside the head and background elsewhere, so that no step leaves a hole.
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
    """Keeps the largest connected part of all classes together, as some (lateral ventricles) can have two parts."""
    return mask * connected_parts.largest_component(mask > 0)


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Assigns background enclosed by the foreground to the first class, which surrounds the others."""
    return mask + (connected_parts.fill_holes(mask > 0) & (mask == 0))


def close_outer(mask: np.ndarray, side_px: int) -> np.ndarray:
    """Morphological closing of the first class with a square; it grows into background only, not into other classes."""
    outer = np.pad((mask == 1).astype(np.uint8), side_px)  # OpenCV treats pixels beyond the frame as foreground
    square = np.ones((side_px, side_px), np.uint8)
    closed = cv2.morphologyEx(outer, cv2.MORPH_CLOSE, square)[side_px:-side_px, side_px:-side_px]
    return np.where((closed > 0) & (mask == 0), 1, mask).astype(np.uint8)


def inside_outer(mask: np.ndarray, side_px: int) -> np.ndarray:
    """Removes structures outside the head, the first class with its holes filled, dilated by a square."""
    head = connected_parts.fill_holes(mask == 1).astype(np.uint8)
    allowed = cv2.dilate(head, np.ones((side_px, side_px), np.uint8))
    return np.where((mask > 1) & (allowed == 0), 0, mask).astype(np.uint8)


def minimum_area(mask: np.ndarray, pixel_mm2: float | None, minimum_mm2: float, class_count: int) -> np.ndarray:
    """Removes parts smaller than an area (`keep_parts`); does nothing if the area of a pixel is unknown (None)."""
    if pixel_mm2 is None:
        return mask
    return keep_parts(mask, class_count, lambda part: part.areas >= minimum_mm2 / pixel_mm2)


def largest_parts(mask: np.ndarray, count: int, class_count: int) -> np.ndarray:
    """Keeps the `count` largest parts of each class; ties go to the part that OpenCV labels first."""

    def among_largest(part: Parts) -> np.ndarray:
        largest = np.argsort(-part.areas, kind="stable")[:count]
        return np.isin(np.arange(len(part.areas)), largest)

    return keep_parts(mask, class_count, among_largest)


def confident_parts(
    mask: np.ndarray, probability: np.ndarray, minimum_probability: float, minimum_margin: float
) -> np.ndarray:
    """Removes parts with a low mean probability or mean margin over the next class; `probability` is (C, H, W)."""

    def is_confident(part: Parts) -> np.ndarray:
        inside = probability[:, part.rows, part.cols]  # (C, N)
        own, others = inside[part.index], np.delete(inside, part.index, axis=0).max(axis=0)
        return (part.mean(own) >= minimum_probability) & (part.mean(own - others) >= minimum_margin)

    return keep_parts(mask, len(probability), is_confident)


def keep_parts(mask: np.ndarray, class_count: int, is_kept: Callable[[Parts], np.ndarray]) -> np.ndarray:
    """Removes connected parts of the structures, or of the only class, for which `is_kept` returns False.

    `class_count` includes background. A removed part becomes the outer class where that encloses it, else background.
    """
    outer, removed = 1 if class_count > 2 else 0, np.zeros(mask.shape, bool)
    for index in range(1 + outer, class_count):
        part = connected_parts.parts_of(mask, index)
        if part is not None:
            removed[part.rows, part.cols] = ~is_kept(part)[part.labels]
    surroundings = connected_parts.fill_holes(mask == 1) if outer and removed.any() else 0
    return np.where(removed, surroundings, mask).astype(np.uint8)


def describe(names: Sequence[str], keys: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Steps in order with the keys that they use, in the form required by `apply`: {"step": name, key: value, …}."""
    return [{"step": name} | {key: keys[key] for key in KEYS[name]} for name in names]


def apply(
    mask: np.ndarray, probability: np.ndarray, pixel_mm2: float | None, steps: Sequence[Mapping[str, Any]]
) -> np.ndarray:
    """Applies steps (of `describe`, or from a model file) in order to (H, W) or (D, H, W) uint8 class indices.

    `probability` is (C, *mask.shape) float32; `pixel_mm2` is the area of a pixel, None if unknown. Works on the
    bounding box of the foreground, which no step exceeds.
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
    """Applies one step; ValueError if its name is unknown."""
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
