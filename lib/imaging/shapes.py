"""Position and shape of a structure, in millimetres."""

from dataclasses import dataclass

import cv2
import numpy as np

from lib.imaging import connected_parts

COLUMNS = ["area_mm2", "parts", "top_mm", "left_mm", "height_mm", "width_mm"]
COLUMNS += ["centroid_row_mm", "centroid_col_mm", "eccentricity"]
SECTIONS = 200  # across a structure, evenly spaced along its long axis
WIDEST = 20  # neighbouring sections over which a width is averaged, so that single pixels do not decide it


def describe(region: np.ndarray, spacing_mm: tuple[float, float] | None) -> dict[str, float]:
    """Area, bounding box, centroid and eccentricity of a (H, W) bool region: one value for each of COLUMNS.

    Positions are from the image's upper left corner. Eccentricity is that of the ellipse with the region's second
    moments, with pixels as rectangles: 0 for a disc, near 1 for a line. All but `parts` are NaN for an empty region.
    Without a (row, col) spacing, values in mm are NaN and eccentricity assumes square pixels.
    """
    frame = connected_parts.foreground_frame(region)
    if frame is None:
        return dict.fromkeys(COLUMNS, float("nan")) | {"parts": 0}
    inner = np.ascontiguousarray(region[frame]).view(np.uint8)
    (top, left), (height, width) = (axis.start for axis in frame), inner.shape
    moments = cv2.moments(inner, binaryImage=True)
    row_mm, col_mm = spacing_mm or (float("nan"), float("nan"))
    larger, smaller = principal_moments(moments, spacing_mm or (1.0, 1.0), own=1 / 12)
    return {
        "area_mm2": moments["m00"] * row_mm * col_mm,
        "parts": cv2.connectedComponents(inner, connectivity=8)[0] - 1,
        "top_mm": top * row_mm,
        "left_mm": left * col_mm,
        "height_mm": height * row_mm,
        "width_mm": width * col_mm,
        "centroid_row_mm": (top + moments["m01"] / moments["m00"] + 0.5) * row_mm,
        "centroid_col_mm": (left + moments["m10"] / moments["m00"] + 0.5) * col_mm,
        "eccentricity": float(np.sqrt(1 - smaller / larger)),
    }


def principal_moments(moments: dict[str, float], spacing: tuple[float, float], own: float) -> tuple[float, float]:
    """Second central moments per area along a region's long and short axis, in the squared unit of (row, col) spacing.

    Computed from `cv2.moments` and a pixel's `own` second moment: 1 / 12 as a rectangle, 0 as a point.
    """
    area = moments["m00"]
    down, across = (moments["mu02"] / area + own) * spacing[0] ** 2, (moments["mu20"] / area + own) * spacing[1] ** 2
    mixed = moments["mu11"] / area * spacing[0] * spacing[1]
    mean, half = (down + across) / 2, np.hypot((down - across) / 2, mixed)
    return mean + half, mean - half


@dataclass(frozen=True)
class MatchedPart:
    """A connected part of a structure in the reference, in the prediction, or the two that overlap."""

    reference_mm: float  # width across its own long axis; NaN if there is no such part
    predicted_mm: float
    outcome: str  # "both", "missed" (only in the reference) or "invented" (only predicted)


def match_parts(reference: np.ndarray, predicted: np.ndarray, spacing_mm: tuple[float, float]) -> list[MatchedPart]:
    """Widths of the connected parts of two (H, W) bool regions: reference parts from left to right, then invented ones.

    Parts are paired one to one so that most pixels overlap in all; parts without overlap are missed or invented.
    """
    frame = connected_parts.foreground_frame(reference | predicted)
    if frame is None:
        return []
    from scipy.optimize import linear_sum_assignment  # takes a fifth of a second: see lib.imaging.growth

    sides, unknown = [_parts(region[frame]) for region in (reference, predicted)], float("nan")
    widths = [[width_mm(part, spacing_mm) for part in parts] for parts in sides]
    shared = np.array([[np.count_nonzero(one & other) for other in sides[1]] for one in sides[0]])
    shared = shared.reshape(len(sides[0]), len(sides[1]))
    pairs = {row: col for row, col in zip(*linear_sum_assignment(shared, maximize=True)) if shared[row, col] > 0}
    matched = [
        MatchedPart(width, widths[1][pairs[row]], "both") if row in pairs else MatchedPart(width, unknown, "missed")
        for row, width in enumerate(widths[0])
    ]
    left_over = (width for col, width in enumerate(widths[1]) if col not in pairs.values())
    return matched + [MatchedPart(unknown, width, "invented") for width in left_over]


def _parts(region: np.ndarray) -> list[np.ndarray]:
    """Connected parts of a region from left to right, each (H, W) bool."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=8)
    return [labels == 1 + at for at in np.argsort(statistics[1:, cv2.CC_STAT_LEFT], kind="stable")][: count - 1]


def width_mm(part: np.ndarray, spacing_mm: tuple[float, float]) -> float:
    """Largest width of a connected (H, W) bool part across its long axis, holes filled; NaN if it is empty.

    The long axis is that of its second moments. Sections across it are measured between the outer edges of the pixels,
    as drawn calipers are, and the largest mean of neighbouring ones, over a tenth of the length, is the width: exact
    for a rectangle, 0.2 % too small for an ellipse. Meaningless for a part about as long as it is wide.
    """
    frame = connected_parts.foreground_frame(part)
    if frame is None:
        return float("nan")
    inner = np.pad(connected_parts.fill_holes(part[frame]), 1)
    starts, ends = _edges(inner) * np.asarray(spacing_mm)  # (E, 2) mm each
    angle = _long_axis(inner, spacing_mm)
    along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    (first, last), (from_, to) = ((starts @ axis, ends @ axis) for axis in (along, across))
    sections = _sections(first, last, from_, to)
    return float(np.convolve(sections, np.full(WIDEST, 1 / WIDEST), "valid").max())


def _edges(region: np.ndarray) -> np.ndarray:
    """Both ends of every edge between a pixel inside and one outside, the inside on one side: (2, E, 2) (row, col)."""
    step = np.diff(region.astype(np.int8), axis=0)  # 1 where the region begins below
    row, col = np.nonzero(step)
    turn = step[row, col] / 2
    level = [[row + 0.5, col - turn], [row + 0.5, col + turn]]
    step = np.diff(region.astype(np.int8), axis=1)
    row, col = np.nonzero(step)
    turn = step[row, col] / 2
    upright = [[row + turn, col + 0.5], [row - turn, col + 0.5]]
    return np.concatenate([np.array(level), np.array(upright)], axis=2).transpose(0, 2, 1)


def _long_axis(region: np.ndarray, spacing_mm: tuple[float, float]) -> float:
    """Angle of a region's long axis in radians, from the column axis towards the row axis."""
    moments = cv2.moments(region.view(np.uint8), binaryImage=True)
    area = moments["m00"]
    down, right = (moments[name] / area + 1 / 12 for name in ("mu02", "mu20"))  # of pixels as rectangles
    mixed = moments["mu11"] / area * spacing_mm[0] * spacing_mm[1]
    return float(np.arctan2(2 * mixed, right * spacing_mm[1] ** 2 - down * spacing_mm[0] ** 2) / 2)


def _sections(first: np.ndarray, last: np.ndarray, from_: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Widths at SECTIONS positions along an axis of a region whose edges (E,) run from (first, from_) to (last, to)."""
    ends = np.minimum(first, last).min(), np.maximum(first, last).max()
    at = ends[0] + (np.arange(SECTIONS) + 0.5) / SECTIONS * (ends[1] - ends[0])
    crosses = (first[:, None] <= at) != (last[:, None] <= at)  # (E, SECTIONS)
    span = np.where(first == last, 1.0, last - first)
    height = from_[:, None] + (at - first[:, None]) * ((to - from_) / span)[:, None]
    return np.abs(np.sum(height * np.sign(last - first)[:, None] * crosses, axis=0))
