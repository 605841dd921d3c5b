"""Landmark heatmaps: encoding of targets, decoding to points, errors.

A heatmap is a Gaussian of height 1 around a point. Per line, one map has both endpoints of OFD and one those of BPD, so
endpoints need no order; per point, there are four maps in the canonical order of `head_points.POINTS`.
"""

from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from lib.imaging.head_points import PEAK_LEVEL, PEAK_REACH, canonical

MIN_REACH_PX = 3.0
MAX_STEPS, TOLERANCE_PX = 20, 1e-4  # of the sub-pixel refinement; one step is enough for a clean peak
VANISHING = 1e-18  # smaller values are set to 0: their products are denormal, and slow


def encode(points: np.ndarray, sigma: float, shape: tuple[int, int], per: Literal["line", "point"]) -> np.ndarray:
    """Target heatmaps of one image: (2 or 4, h, w) float32, 0 to 1.

    Endpoints that share a map are combined by the maximum of their Gaussians, so that both peaks have height 1. Of a
    point outside the frame, the map has the part of its Gaussian inside.

    Args:
        points: (4, 2) of (row, col) in network pixels; ValueError if not finite.
        sigma: standard deviation in network pixels; ValueError if not finite and positive.
        shape: (h, w) of the network's input.
    """
    if not (0 < sigma < np.inf and np.isfinite(points).all()):
        raise ValueError(f"points {np.asarray(points).tolist()}, sigma {sigma}; expected finite points, sigma above 0")
    ordered = canonical(np.asarray(points, np.float64))
    rows = _profile(np.arange(shape[0]) - ordered[:, :1], sigma)  # (4, h)
    cols = _profile(np.arange(shape[1]) - ordered[:, 1:], sigma)  # (4, w)
    maps = rows[:, :, None] * cols[:, None, :]  # (4, h, w) float32
    return maps if per == "point" else np.maximum(maps[0::2], maps[1::2])


def _profile(away: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian of height 1 at distances `away` from its centre, float32."""
    heights = np.exp(-0.5 * (away / sigma) ** 2)
    heights[heights < VANISHING] = 0
    return heights.astype(np.float32)


def decode(maps: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Sub-pixel endpoints in heatmaps (2 or 4, h, w); sigma as in `encode`.

    The first endpoint of a line is the maximum of its map (per point: of the sum of its two maps), the second the
    highest other local maximum more than three standard deviations away; endpoints closer than that cannot be
    separated. It has to be a local maximum because the flank of a first peak smeared along the skull is often higher
    than the second peak; if there is none, it is the highest remaining pixel. Both are refined by `_refine`, and may
    lie up to one standard deviation outside the frame.

    Returns:
        Points in canonical order, (4, 2) float64, and the map's height at each, (4,) float64. An endpoint that is not
        detected is NaN with height 0.
    """
    lines = maps.reshape(2, -1, *maps.shape[1:]).sum(axis=1)  # (2, h, w)
    ends = canonical(np.concatenate([_find_endpoints(line, sigma) for line in lines]))
    return ends[:, :2], ends[:, 2]


def _find_endpoints(line: np.ndarray, sigma: float) -> np.ndarray:
    """Row, column and height of the two endpoints in one map: (h, w) -> (2, 3)."""
    ends = np.tile([np.nan, np.nan, 0.0], (2, 1))
    reach = max(PEAK_REACH * sigma, MIN_REACH_PX)
    if not np.isfinite(line).all():
        return ends
    maxima, rest = local_maxima(torch.from_numpy(line), sigma).numpy(), line.copy()
    for end in ends:
        candidates = maxima if maxima.max() > PEAK_LEVEL else rest
        pixel = np.array(np.unravel_index(np.argmax(candidates), line.shape))
        height = candidates[tuple(pixel)]
        if not height > PEAK_LEVEL:
            break
        end[:2], end[2] = _refine(line, pixel, sigma), height
        window, (rows, cols) = _window(pixel, reach, line.shape)
        near = rows[:, None] ** 2 + cols**2 <= reach**2
        maxima[window][near] = rest[window][near] = -np.inf
    return ends


def local_maxima(lines: torch.Tensor, sigma: float) -> torch.Tensor:
    """Maps (..., h, w) with all pixels set to -inf except those that are the highest within one sigma."""
    radius = max(1, round(sigma))
    flat = lines.reshape(-1, 1, *lines.shape[-2:])
    highest = functional.max_pool2d(flat, 2 * radius + 1, stride=1, padding=radius)
    return torch.where(flat == highest, flat, -torch.inf).reshape(lines.shape)


def _refine(line: np.ndarray, pixel: np.ndarray, sigma: float) -> np.ndarray:
    """Sub-pixel position of an endpoint, by a matched filter around its highest pixel (row, col).

    m is the centroid of the map times a Gaussian G centred on p. If the map is such a Gaussian centred on q, m is the
    midpoint of p and q, so p <- 2 m - p gives q at once; for other maps the step is repeated. Where the window or the
    frame truncates the Gaussians, the centroid of G * G in the same window replaces p, so that q remains the fixed
    point. The result is at most one standard deviation from the highest pixel.
    """
    window, (rows, cols) = _window(pixel, PEAK_REACH * sigma, line.shape)
    values, offset = line[window].astype(np.float64), np.zeros(2)
    for _ in range(MAX_STEPS):
        down = np.exp(-0.5 * ((rows - offset[0]) / sigma) ** 2)
        across = np.exp(-0.5 * ((cols - offset[1]) / sigma) ** 2)
        by_row, by_col = down * (values @ across), across * (down @ values)
        total = by_row.sum()
        if not total > 0:
            return pixel.astype(np.float64)
        own = np.array([rows @ down**2 / (down @ down), cols @ across**2 / (across @ across)])
        moved = offset + 2 * (np.array([rows @ by_row, cols @ by_col]) / total - own)
        moved *= min(1.0, sigma / max(float(np.hypot(*moved)), 1e-9))
        converged, offset = np.abs(moved - offset).max() < TOLERANCE_PX, moved
        if converged:
            break
    return pixel + offset


def _window(pixel: np.ndarray, reach: float, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], list[np.ndarray]]:
    """Window around a pixel, clipped to the frame: as slices, and as rows and columns relative to the pixel."""
    first = np.maximum(pixel - int(np.ceil(reach)), 0)
    last = np.minimum(pixel + int(np.ceil(reach)) + 1, shape)
    offsets = [np.arange(*limits, dtype=np.float64) - centre for *limits, centre in zip(first, last, pixel)]
    return tuple(slice(*limits) for limits in zip(first, last)), offsets


def peaks(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    """`decode` to whole pixels for a batch: (N, 2 or 4, h, w) of any float type -> (N, 4, 2) float32, on its device.

    In canonical order; NaN where no endpoint is detected. Sigma is in network pixels.
    """
    count, channels, height, width = maps.shape
    lines = maps.float().reshape(count, 2, channels // 2, height, width).sum(dim=2)  # (N, 2, h, w)
    maxima = local_maxima(lines, sigma)
    first, has_first = _highest(lines)
    rows = torch.arange(height, device=maps.device).reshape(-1, 1) - first[..., 0, None, None]  # (N, 2, h, 1)
    cols = torch.arange(width, device=maps.device) - first[..., 1, None, None]  # (N, 2, 1, w)
    near = rows**2 + cols**2 <= max(PEAK_REACH * sigma, MIN_REACH_PX) ** 2
    (top, has_top), (rest, has_rest) = (_highest(values.masked_fill(near, -torch.inf)) for values in (maxima, lines))
    second, has_second = torch.where(has_top[..., None], top, rest), has_first & (has_top | has_rest)
    detected = torch.stack([has_first, has_second], dim=2)[..., None]
    ends = torch.where(detected, torch.stack([first, second], dim=2), torch.nan)  # (N, line, end, axis)
    order = torch.stack(  # OFD: left before right; BPD: above before below
        [ends[:, 0, :, 1] * height + ends[:, 0, :, 0], ends[:, 1, :, 0] * width + ends[:, 1, :, 1]], dim=1
    )
    swapped = (order[..., 0] > order[..., 1])[..., None, None]
    return torch.where(swapped, ends.flip(2), ends).reshape(count, 4, 2)


def _highest(lines: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(row, col) of the highest pixel of each map and whether it exceeds PEAK_LEVEL: (..., h, w) -> (..., 2), (...)."""
    heights, indices = lines.flatten(-2).max(dim=-1)
    width = lines.shape[-1]
    return torch.stack([indices // width, indices % width], dim=-1).float(), heights > PEAK_LEVEL


def distance(predicted: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Normalised mean error per image, (N, 4, 2) pixels -> (N,): mean endpoint distance over the reference's OFD.

    The better pairing of each line's endpoints counts; a NaN endpoint is one OFD away, so a blank map has distance 1.
    """
    predicted, reference = predicted.reshape(-1, 2, 2, 2), reference.to(predicted).reshape(-1, 2, 2, 2)
    ofd = torch.linalg.vector_norm(reference[:, 0, 1] - reference[:, 0, 0], dim=1).reshape(-1, 1, 1)

    def paired(ends: torch.Tensor) -> torch.Tensor:
        away = torch.linalg.vector_norm(predicted - ends, dim=3) / ofd  # (N, line, end)
        return torch.where(away.isnan(), 1.0, away).mean(dim=2)

    return torch.minimum(paired(reference), paired(reference.flip(2))).mean(dim=1)
