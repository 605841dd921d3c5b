"""Position and shape of a structure, in millimetres."""

import cv2
import numpy as np

from lib.imaging import connected_parts

COLUMNS = ["area_mm2", "parts", "top_mm", "left_mm", "height_mm", "width_mm"]
COLUMNS += ["centroid_row_mm", "centroid_col_mm", "eccentricity"]


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
