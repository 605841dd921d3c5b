"""Indicators of how far the prediction of a head can be trusted: plain numbers from plain arrays, without a reference.

Most are ratios without a unit, so that one limit serves images of every size. What follows from them is decided in
`lib.evaluation.quality`.
"""

import cv2
import numpy as np

from lib.imaging import connected_parts, ellipse, head_points, robust_ellipse
from lib.imaging.ellipse import Ellipse

OF_MASKS = ["frame_share", "arc_coverage", "fit_residual", "axis_ratio", "size_share", "second_part"]
OF_MASKS += ["method_difference", "uncertain_mm"]
OF_LINES = ["axis_ratio", "size_share", "peak_height"]
WIDEST_GAP_DEG = 10.0  # between neighbouring edge points; a wider one is not covered by the edge
UNCERTAIN = 0.005  # probabilities nearer to 0 or 1 have an entropy below 0.05 bits and are left out
LEVELS = 64  # of an image's distribution of grey values


def describe(
    region: np.ndarray, raw: np.ndarray, entropy_bits: float, spacing_mm: tuple[float, float] | None
) -> dict[str, float]:
    """Indicators of one predicted head, one value for each of OF_MASKS; NaN where no ellipse can be fitted.

    Args:
        region: (H, W) bool, the head after post-processing.
        raw: (H, W) bool, the head before it.
        entropy_bits: of the head's probability (`entropy`).
        spacing_mm: (row, col) pixel size; None if unknown, then pixels are taken to be square.

    Returns:
        frame_share: `frame_share` of the region.
        arc_coverage, fit_residual: of the fitted ellipse by the edge of the region (`arc_coverage`, `fit_residual`).
        axis_ratio: long axis over short axis.
        size_share: mean axis over the diagonal of the image. The pixel size cancels, so it tells a head that is small
            or large for the field of view, and not a wrong pixel size.
        second_part: `second_part` of the raw region.
        method_difference: HC of the ellipse with the region's second moments against that of the fitted one, relative.
        uncertain_mm: entropy per side of a pixel on the edge, about the width of the band in which the edge may lie (a
            second uncertain region adds to it), in mm; NaN without a pixel size.
    """
    indicators = dict.fromkeys(OF_MASKS, float("nan")) | {"second_part": second_part(raw)}
    spacing = spacing_mm or (1.0, 1.0)
    points = ellipse.edge_points(region) * np.asarray(spacing)
    try:
        fitted = ellipse.fit_ellipse(points)
    except ValueError:
        return indicators
    solid = connected_parts.solid_component(region)
    hc = ellipse.ellipse_perimeter_mm(fitted.major, fitted.minor)
    by_moments = ellipse.measure_lines(*ellipse.ellipse_of_moments(solid, spacing))["hc"]
    pixel_mm = float(np.sqrt(np.prod(spacing))) if spacing_mm else float("nan")
    return indicators | {
        "frame_share": frame_share(solid, len(points)),
        "arc_coverage": arc_coverage(points, fitted),
        "fit_residual": fit_residual(points, fitted),
        "axis_ratio": fitted.major / fitted.minor,
        "size_share": (fitted.major + fitted.minor) / 2 / _diagonal(region.shape, spacing),
        "method_difference": abs(by_moments - hc) / hc,
        "uncertain_mm": entropy_bits / max(len(points), 1) * pixel_mm,
    }


def _diagonal(shape: tuple[int, ...], spacing: tuple[float, float]) -> float:
    """Diagonal of an image of (rows, cols) pixels, in the unit of the (row, col) spacing."""
    return float(np.hypot(shape[0] * spacing[0], shape[1] * spacing[1]))


def frame_share(region: np.ndarray, edge_count: int) -> float:
    """Share of a (H, W) bool region's outline that lies on the frame of the image, both counted in sides of pixels.

    `edge_count` is the number of sides between a pixel inside and one outside (`ellipse.edge_points`).
    """
    on_frame = sum(int(np.count_nonzero(side)) for side in (region[0], region[-1], region[:, 0], region[:, -1]))
    return on_frame / max(on_frame + edge_count, 1)


def arc_coverage(points: np.ndarray, fitted: Ellipse) -> float:
    """Share of an ellipse that (N, 2) edge points cover, by eccentric anomaly, all in the ellipse's unit.

    Gaps of more than WIDEST_GAP_DEG between neighbouring points are not covered: 1 for a whole outline, 0.5 for half.
    """
    angle = np.deg2rad(fitted.angle_deg)
    down, right = (points - np.asarray(fitted.centre)).T
    along = (right * np.cos(angle) + down * np.sin(angle)) / fitted.major
    across = (down * np.cos(angle) - right * np.sin(angle)) / fitted.minor
    around = np.sort(np.degrees(np.arctan2(across, along)))
    gaps = np.diff(np.append(around, around[0] + 360))
    return float(1 - gaps[gaps > WIDEST_GAP_DEG].sum() / 360)


def fit_residual(points: np.ndarray, fitted: Ellipse) -> float:
    """Root mean square distance of (N, 2) edge points from an ellipse over its mean axis, all in one unit."""
    away = robust_ellipse.distances(points, *fitted.centre, fitted.major, fitted.minor, fitted.angle_deg)
    return float(np.sqrt(np.mean(away**2)) / ((fitted.major + fitted.minor) / 2))


def second_part(region: np.ndarray) -> float:
    """Area of the second largest connected part of a (H, W) bool region over that of the largest; NaN if empty."""
    frame = connected_parts.foreground_frame(region)
    if frame is None:
        return float("nan")
    inner = np.ascontiguousarray(region[frame]).view(np.uint8)
    areas = np.sort(cv2.connectedComponentsWithStats(inner, connectivity=8)[2][1:, cv2.CC_STAT_AREA])
    return float(areas[-2] / areas[-1]) if len(areas) > 1 else 0.0


def entropy(probability: np.ndarray) -> float:
    """Entropy (bits) of (H, W) float32 probabilities, summed over the image; no threshold enters it."""
    kept = probability[(probability > UNCERTAIN) & (probability < 1 - UNCERTAIN)].astype(np.float64)
    bits = -(kept * np.log2(kept) + (1 - kept) * np.log2(1 - kept))
    return float(bits.sum())


def describe_lines(
    points: np.ndarray, heights: np.ndarray, shape: tuple[int, ...], spacing_mm: tuple[float, float] | None
) -> dict[str, float]:
    """Indicators of a head predicted by its lines, one for each of OF_LINES; NaN if an endpoint is unknown.

    Args:
        points: (4, 2) endpoints of OFD and BPD in native pixels.
        heights: heights of the heatmaps' peaks; `peak_height` is the lowest.
        shape: (rows, cols) of the image.
        spacing_mm: (row, col) pixel size; None if unknown, then pixels are taken to be square.
    """
    spacing = spacing_mm or (1.0, 1.0)
    lines = head_points.line_lengths(points * np.asarray(spacing))
    longer, shorter = np.max(lines), np.min(lines)  # NaN if one is
    return {
        "axis_ratio": float(longer / shorter) if shorter > 0 else float("nan"),
        "size_share": float(np.mean(lines) / _diagonal(shape, spacing)),
        "peak_height": float(np.min(heights)),
    }


def grey_levels(image: np.ndarray) -> np.ndarray:
    """Distribution of the grey values of an (h, w) uint8 image: LEVELS evenly spaced quantiles, ascending."""
    up_to = np.cumsum(np.bincount(image.ravel(), minlength=256))
    shares = (np.arange(LEVELS) + 0.5) / LEVELS
    return np.searchsorted(up_to, shares * up_to[-1], side="left").astype(np.float64)


def grey_distance(image: np.ndarray, usual: np.ndarray) -> float:
    """Distance in grey levels of the distribution of an (h, w) uint8 image from a usual one, LEVELS quantiles.

    The Wasserstein distance of order 1: how far grey values have to be moved on average. Of several images, the mean
    of their quantiles is the distribution that is nearest to all (the barycentre of order 2).

    Source: Bonneel et al. 2015, Journal of Mathematical Imaging and Vision 51:22-45, doi:10.1007/s10851-014-0506-3.
    """
    return float(np.mean(np.abs(grey_levels(image) - np.asarray(usual))))
