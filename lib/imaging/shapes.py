"""Where a structure lies and what form it has, in millimetres."""

import cv2
import numpy as np

COLUMNS = [
    "area_mm2",
    "parts",
    "top_mm",
    "left_mm",
    "height_mm",
    "width_mm",
    "centroid_row_mm",
    "centroid_col_mm",
    "eccentricity",
]


def describe(region: np.ndarray, spacing_mm: tuple[float, float] | None) -> dict[str, float]:
    """Area, bounding box, centroid and eccentricity of a region, all parts together.

    Positions are from the image's upper left corner. Eccentricity is that of the ellipse with the region's second
    moments, a pixel counted as a small rectangle: 0 for a disc, near 1 for a line.

    Args:
        region: (H, W) bool.
        spacing_mm: (row, col) pixel size; None where it is not known: what is in mm is then NaN, and pixels are
            taken as square for the eccentricity.

    Returns:
        A value for each of COLUMNS; all but `parts` are NaN for an empty region.
    """
    binary = np.ascontiguousarray(region).view(np.uint8)
    left, top, width, height = cv2.boundingRect(binary)
    if width == 0:
        return dict.fromkeys(COLUMNS, float("nan")) | {"parts": 0}
    inner = np.ascontiguousarray(binary[top : top + height, left : left + width])
    parts = cv2.connectedComponents(inner, connectivity=8)[0] - 1
    moments = cv2.moments(inner, binaryImage=True)
    row_mm, col_mm = spacing_mm or (float("nan"), float("nan"))
    return {
        "area_mm2": moments["m00"] * row_mm * col_mm,
        "parts": parts,
        "top_mm": top * row_mm,
        "left_mm": left * col_mm,
        "height_mm": height * row_mm,
        "width_mm": width * col_mm,
        "centroid_row_mm": (top + moments["m01"] / moments["m00"] + 0.5) * row_mm,
        "centroid_col_mm": (left + moments["m10"] / moments["m00"] + 0.5) * col_mm,
        "eccentricity": eccentricity(moments, spacing_mm or (1.0, 1.0)),
    }


def eccentricity(moments: dict[str, float], spacing: tuple[float, float]) -> float:
    """sqrt(1 - short axis^2 / long axis^2) of the ellipse with these central moments, 0 to 1."""
    row, col = spacing
    area = moments["m00"]
    across = (moments["mu20"] / area + 1 / 12) * col**2
    down = (moments["mu02"] / area + 1 / 12) * row**2
    mixed = moments["mu11"] / area * row * col
    middle, half = (across + down) / 2, np.hypot((across - down) / 2, mixed)
    return float(np.sqrt(1 - (middle - half) / (middle + half)))
