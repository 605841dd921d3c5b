"""Landmarks as heatmaps and back: targets, decoding, errors.

A heatmap is a Gaussian of height 1 about a point. Per line it shows both ends of OFD (first map) or BPD (second), so
no order of ends is needed; per point there are four maps in the order of `head_points.POINTS`, ends in canonical order.
"""

from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from lib.imaging.head_points import canonical

LEVEL = 0.02  # height below which a map shows nothing; a Gaussian's rim, where it is cut out, has 0.011
REACH = 3.0  # standard deviations about an end that belong to it
LEAST_REACH = 3.0  # pixels
ROUNDS, SETTLED_PX = 20, 1e-4  # of the search for an end between the pixels; it settles in one on a clean peak
VANISHING = 1e-18  # below, profiles are 0: products of such numbers are denormal, and slow


def encode(points: np.ndarray, sigma: float, shape: tuple[int, int], per: Literal["line", "point"]) -> np.ndarray:
    """The heatmaps that a network should show for one image: (2 or 4, h, w) float32, 0 to 1.

    Where the two ends of a line share a map, each pixel has the higher of both Gaussians, so that both peaks have
    height 1. A point outside the frame gives what of its Gaussian lies inside.

    Args:
        points: (4, 2) in network pixels; ValueError if not finite.
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
    """A Gaussian of height 1 at some distances, float32."""
    heights = np.exp(-0.5 * (away / sigma) ** 2)
    heights[heights < VANISHING] = 0
    return heights.astype(np.float32)


def decode(maps: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """The end points that heatmaps (2 or 4, h, w) show; sigma as in `encode`.

    The first end of a line is the highest place of its map (per point: of the sum of its two maps), the second the
    highest other summit more than three standard deviations away; so two ends nearer than that cannot be told apart.
    A summit, because the flank of a first end that is smeared along the skull is often higher than the second end.
    Where no other summit is left it is the highest place of the rest. Each is then found between the pixels, see
    `_refine`. An end at or just beyond the frame is found as well, up to one standard deviation outside.

    Returns:
        Points in canonical order, (4, 2) float64, and how high the map is at each, (4,) float64. An end that no map
        shows is NaN with height 0.
    """
    lines = maps.reshape(2, -1, *maps.shape[1:]).sum(axis=1)  # (2, h, w)
    ends = canonical(np.concatenate([_find_ends(line, sigma) for line in lines]))
    return ends[:, :2], ends[:, 2]


def _find_ends(line: np.ndarray, sigma: float) -> np.ndarray:
    """Row, column and height of the two ends in one map: (h, w) -> (2, 3)."""
    ends = np.tile([np.nan, np.nan, 0.0], (2, 1))
    reach = max(REACH * sigma, LEAST_REACH)
    if not np.isfinite(line).all():
        return ends
    tops, rest = summits(torch.from_numpy(line), sigma).numpy(), line.copy()
    for end in ends:
        candidates = tops if tops.max() > LEVEL else rest
        place = np.array(np.unravel_index(np.argmax(candidates), line.shape))
        height = candidates[tuple(place)]
        if not height > LEVEL:
            break
        end[:2], end[2] = _refine(line, place, sigma), height
        window, (rows, cols) = _window(place, reach, line.shape)
        near = rows[:, None] ** 2 + cols**2 <= reach**2
        tops[window][near] = rest[window][near] = -np.inf
    return ends


def summits(lines: torch.Tensor, sigma: float) -> torch.Tensor:
    """Maps (..., h, w) at those places alone that are the highest within one sigma; -inf elsewhere."""
    radius = max(1, round(sigma))
    flat = lines.reshape(-1, 1, *lines.shape[-2:])
    highest = functional.max_pool2d(flat, 2 * radius + 1, stride=1, padding=radius)
    return torch.where(flat == highest, flat, -torch.inf).reshape(lines.shape)


def _refine(line: np.ndarray, place: np.ndarray, sigma: float) -> np.ndarray:
    """An end between the pixels, by a matched filter about the (row, col) of its highest pixel.

    m is the centroid of the map times a Gaussian G about p. Of a map that is such a Gaussian about q, m lies halfway
    between p and q, so p <- 2 m - p gives q at once; of others, repeating it does. Where the window or the frame cuts
    the Gaussians, the centroid of G * G in the same window stands for p, so that q stays the fixed point. An end is
    sought within one standard deviation of its highest pixel.
    """
    window, (rows, cols) = _window(place, REACH * sigma, line.shape)
    values, offset = line[window].astype(np.float64), np.zeros(2)
    for _ in range(ROUNDS):
        down = np.exp(-0.5 * ((rows - offset[0]) / sigma) ** 2)
        across = np.exp(-0.5 * ((cols - offset[1]) / sigma) ** 2)
        by_row, by_col = down * (values @ across), across * (down @ values)
        total = by_row.sum()
        if not total > 0:
            return place.astype(np.float64)
        own = np.array([rows @ down**2 / (down @ down), cols @ across**2 / (across @ across)])
        moved = offset + 2 * (np.array([rows @ by_row, cols @ by_col]) / total - own)
        moved *= min(1.0, sigma / max(float(np.hypot(*moved)), 1e-9))
        settled, offset = np.abs(moved - offset).max() < SETTLED_PX, moved
        if settled:
            break
    return place + offset


def _window(place: np.ndarray, reach: float, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], list[np.ndarray]]:
    """What lies about a pixel in the frame: as slices, and as rows and columns counted from the pixel."""
    first = np.maximum(place - int(np.ceil(reach)), 0)
    last = np.minimum(place + int(np.ceil(reach)) + 1, shape)
    offsets = [np.arange(*ends, dtype=np.float64) - middle for *ends, middle in zip(first, last, place)]
    return tuple(slice(*ends) for ends in zip(first, last)), offsets


def peaks(maps: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
    """`decode` in whole pixels for a batch at once, where an epoch needs a figure and no millimetres.

    (N, 2 or 4, h, w) of any float type -> (N, 4, 2) float32 on the maps' device, canonical order; NaN where no map
    shows an end. Sigma is in network pixels, one or (N,).
    """
    count, _, height, width = maps.shape
    lines = maps.float().reshape(count, 2, -1, height, width).sum(dim=2)  # (N, 2, h, w)
    reach = (REACH * torch.as_tensor(sigma, device=maps.device)).clamp_min(LEAST_REACH).reshape(-1, 1, 1, 1)
    tops = summits(lines, float(torch.as_tensor(sigma, dtype=torch.float32).min()))
    first, has_first = _highest(lines)
    rows = torch.arange(height, device=maps.device).reshape(-1, 1) - first[..., 0, None, None]  # (N, 2, h, 1)
    cols = torch.arange(width, device=maps.device) - first[..., 1, None, None]  # (N, 2, 1, w)
    near = rows**2 + cols**2 <= reach**2
    (top, has_top), (rest, has_rest) = (_highest(values.masked_fill(near, -torch.inf)) for values in (tops, lines))
    second, has_second = torch.where(has_top[..., None], top, rest), has_first & (has_top | has_rest)
    known = torch.stack([has_first, has_second], dim=2)[..., None]
    ends = torch.where(known, torch.stack([first, second], dim=2), torch.nan)  # (N, line, end, axis)
    order = torch.stack(  # OFD: left before right; BPD: above before below
        [ends[:, 0, :, 1] * height + ends[:, 0, :, 0], ends[:, 1, :, 0] * width + ends[:, 1, :, 1]], dim=1
    )
    turned = (order[..., 0] > order[..., 1])[..., None, None]
    return torch.where(turned, ends.flip(2), ends).reshape(count, 4, 2)


def _highest(lines: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(..., h, w) -> (row, col) of the highest pixel of each map, (..., 2), and whether it shows an end, (...)."""
    heights, places = lines.flatten(-2).max(dim=-1)
    width = lines.shape[-1]
    return torch.stack([places // width, places % width], dim=-1).float(), heights > LEVEL


def distance(predicted: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Normalised mean error of images, (N, 4, 2) pixels -> (N,): mean distance of the ends over the reference's OFD.

    The better pairing of each line's ends counts. An end that is NaN counts as one OFD away, so that a blank map has
    distance 1 and showing nothing is never better than a guess.
    """
    one, other = predicted.reshape(-1, 2, 2, 2), reference.to(predicted).reshape(-1, 2, 2, 2)
    ofd = torch.linalg.vector_norm(other[:, 0, 1] - other[:, 0, 0], dim=1).reshape(-1, 1, 1)

    def paired(ends: torch.Tensor) -> torch.Tensor:
        away = torch.linalg.vector_norm(one - ends, dim=3) / ofd  # (N, line, end)
        return torch.where(away.isnan(), 1.0, away).mean(dim=2)

    return torch.minimum(paired(other), paired(other.flip(2))).mean(dim=1)
