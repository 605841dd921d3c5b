"""Ellipse fits and head measurements (BPD, OFD, HC) from the edge of a mask."""

from dataclasses import dataclass

import cv2
import numpy as np

from lib.imaging import connected_parts, shapes
from lib.imaging.head_points import axis_endpoints


@dataclass(frozen=True)
class Ellipse:
    """An ellipse by its full axes, in any one unit."""

    centre: tuple[float, float]  # (row, col)
    major: float
    minor: float
    angle_deg: float  # of the long axis, from the column axis towards the row axis, 0 to 180


def ellipse_perimeter_mm(major_mm: float, minor_mm: float) -> float:
    """Perimeter of an ellipse (HC) from its full axes, long (OFD) and short (BPD), all in mm.

    Relative error below 1e-9 up to an axis ratio of 2; ValueError unless 0 < minor_mm <= major_mm < inf.

    Source: Ramanujan 1914, second approximation.
    """
    if not 0 < minor_mm <= major_mm < np.inf:
        raise ValueError(f"axes (major, minor) = ({major_mm}, {minor_mm}) mm; expected 0 < minor <= major")
    h = ((major_mm - minor_mm) / (major_mm + minor_mm)) ** 2
    return float(np.pi / 2 * (major_mm + minor_mm) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h))))


def fit_ellipse(points: np.ndarray) -> Ellipse:
    """Least-squares ellipse of (N, 2) points (row, col); ValueError if N < 6 or the points define no ellipse.

    Exact for points on an ellipse and reproducible to the last digit. OpenCV's fitEllipseDirect and fitEllipseAMS add
    random noise to such points (axes vary by 0.1 % between calls) or silently use another fit.

    Source: Fitzgibbon, Pilu, Fisher 1999, in the numerically stable form of Halir and Flusser 1998.
    """
    if len(points) < 6:
        raise ValueError(f"{len(points)} points; an ellipse needs at least 6")
    points = np.asarray(points, np.float64)
    mean = points.mean(axis=0)
    centred = points - mean if np.isfinite(points).all() else np.zeros_like(points)
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(centred.T @ centred), 0))  # singular values, the smaller first
    if not spread[0] > 1e-6 * spread[1]:
        raise ValueError(f"{len(points)} points define no ellipse: they lie on a line or a point, or are not finite")
    scale = spread[1] / np.sqrt(len(points))
    quadratic, linear = _fit_conic(centred / scale)
    centre = np.linalg.solve(-2 * quadratic, linear[:2])
    weights, axes = np.linalg.eigh(quadratic / (centre @ quadratic @ centre - linear[2]))
    if not 0 < weights[0] <= weights[1] < np.inf:
        raise ValueError(f"{len(points)} points define no ellipse")
    major, minor = 2 * scale / np.sqrt(weights)
    angle_deg = np.degrees(np.arctan2(axes[1, 0], axes[0, 0])) % 180
    x, y = centre * scale
    return Ellipse((float(y + mean[0]), float(x + mean[1])), float(major), float(minor), float(angle_deg))


def _fit_conic(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ellipse p' Q p + (l0, l1) p + l2 = 0 of least algebraic error, p = (x, y): Q (2, 2) and l (3,)."""
    y, x = points.T
    squares = np.column_stack([x * x, x * y, y * y])
    lines = np.column_stack([x, y, np.ones_like(x)])
    to_linear = -np.linalg.solve(lines.T @ lines, lines.T @ squares)
    scatter = squares.T @ squares + (squares.T @ lines) @ to_linear
    _, vectors = np.linalg.eig(np.array([scatter[2] / 2, -scatter[1], scatter[0] / 2]))
    a, b, c = vectors.real
    best = vectors.real[:, np.argmax(4 * a * c - b * b)]  # 4ac - b^2 > 0: an ellipse
    return np.array([[best[0], best[1] / 2], [best[1] / 2, best[2]]]), to_linear @ best


def ellipse_of_moments(region: np.ndarray, spacing: tuple[float, float]) -> tuple[float, float]:
    """Full axes (long, short) of the ellipse with a (H, W) bool region's second moments, in the unit of the spacing.

    Ten times as fast as a fit to the edge, but only for ellipses entirely inside the image. Zeros for an empty region.
    """
    frame = connected_parts.foreground_frame(region)
    if frame is None:
        return 0.0, 0.0
    moments = cv2.moments(np.ascontiguousarray(region[frame]).view(np.uint8), binaryImage=True)
    larger, smaller = shapes.principal_moments(moments, spacing, own=0)  # pixels as points, as in fill_ellipse
    return float(4 * np.sqrt(larger)), float(4 * np.sqrt(max(smaller, 0)))


def fill_ellipse(ellipse: Ellipse, shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies inside an ellipse: (H, W) bool."""
    cos, sin = np.cos(np.deg2rad(ellipse.angle_deg)), np.sin(np.deg2rad(ellipse.angle_deg))
    long, short = (ellipse.major / 2) ** -2.0, (ellipse.minor / 2) ** -2.0
    # Inside: xx x^2 + 2 xy x y + yy y^2 <= 1 about the centre. Solved for x, each row is one run of columns.
    xx, xy, yy = cos**2 * long + sin**2 * short, cos * sin * (long - short), sin**2 * long + cos**2 * short
    y = np.arange(shape[0]) - ellipse.centre[0]
    root = xy**2 * y**2 - xx * (yy * y**2 - 1)
    inside = np.flatnonzero(root >= 0)
    centre, reach = -xy * y[inside] / xx + ellipse.centre[1], np.sqrt(root[inside]) / xx
    first, last = (cols.astype(np.int32)[:, None] for cols in (np.ceil(centre - reach), np.floor(centre + reach)))
    cols = np.arange(shape[1], dtype=np.int32)
    filled = np.zeros(shape, bool)
    filled[inside] = (cols >= first) & (cols <= last)
    return filled


def measure_head(region: np.ndarray, spacing_mm: tuple[float, float]) -> dict[str, float]:
    """BPD (short axis), OFD (long axis) and HC of a head mask, outer to outer: {"bpd", "ofd", "hc"} in mm.

    The (H, W) bool region extends to the skull's outer border; the spacing is the (row, col) pixel size. ValueError if
    no ellipse can be fitted, or the pixel size is not positive.
    """
    ellipse = fit_head(region, spacing_mm)
    return measure_lines(ellipse.major, ellipse.minor)


def fit_head(region: np.ndarray, spacing_mm: tuple[float, float]) -> Ellipse:
    """Ellipse of a head mask, in mm from the centre of the first pixel; arguments and errors as in `measure_head`."""
    if not (spacing_mm[0] > 0 and spacing_mm[1] > 0):
        raise ValueError(f"spacing {spacing_mm} mm; expected two positive numbers")
    return fit_ellipse(edge_points(region) * np.asarray(spacing_mm))


def measure_lines(ofd_mm: float, bpd_mm: float) -> dict[str, float]:
    """BPD, OFD and HC from the lengths of OFD and BPD (at least 0): {"bpd", "ofd", "hc"} in mm, NaN if unknown.

    HC is the perimeter of the ellipse with these axes, whichever is longer; if one is 0, twice the other.
    """
    longer, shorter = float(np.maximum(ofd_mm, bpd_mm)), float(np.minimum(ofd_mm, bpd_mm))  # both NaN if one is
    hc = ellipse_perimeter_mm(longer, shorter) if shorter > 0 else 2 * longer
    return {"bpd": float(bpd_mm), "ofd": float(ofd_mm), "hc": hc}


def outline(ellipse: Ellipse, count: int = 64) -> np.ndarray:
    """Points on an ellipse, evenly spaced by eccentric anomaly: (count, 2) of (row, col) in its unit."""
    around, angle = np.linspace(0, 2 * np.pi, count, endpoint=False), np.deg2rad(ellipse.angle_deg)
    along, across = ellipse.major / 2 * np.cos(around), ellipse.minor / 2 * np.sin(around)
    rows, cols = along * np.sin(angle) + across * np.cos(angle), along * np.cos(angle) - across * np.sin(angle)
    return np.column_stack([rows, cols]) + np.asarray(ellipse.centre)


def ellipse_endpoints(ellipse: Ellipse, spacing_mm: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Endpoints of the long axis (OFD) and the short axis (BPD) in pixels, canonical order: (4, 2) of (row, col).

    The ellipse is in mm, as from `fit_head` (axes differ if pixels are not square), or in pixels with the default.
    """
    return axis_endpoints(ellipse.centre, ellipse.major, ellipse.minor, ellipse.angle_deg) / np.asarray(spacing_mm)


def edge_points(region: np.ndarray) -> np.ndarray:
    """Outer edge of a (H, W) bool region, at the midpoints of inside and outside neighbours: (N, 2) of (row, col).

    A contour through pixel centres would be half a pixel too small. Only the largest component counts, and holes are
    ignored. The frame of the image is no edge: a truncated head is fitted by its visible edge.
    """
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(region).view(np.uint8))
    top, left = max(top - 1, 0), max(left - 1, 0)  # a margin of one pixel, except at the frame
    solid = connected_parts.solid_component(region[top : top + height + 2, left : left + width + 2])
    row_down, col_down = np.nonzero(solid[1:] != solid[:-1])
    row_right, col_right = np.nonzero(solid[:, 1:] != solid[:, :-1])
    down = np.column_stack([row_down + 0.5, col_down])
    right = np.column_stack([row_right, col_right + 0.5])
    return np.concatenate([down, right]) + np.array([top, left])
