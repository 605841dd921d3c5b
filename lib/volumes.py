"""MRI volumes: where the head lies, one intensity scale for a whole volume, slices in the network's size.

A volume is (D, H, W, C) uint8: slices, rows, columns, sequences (channels). Intensities are put on one scale by
statistics of the whole volume, never of a slice: a slice near the vertex holds little tissue, and its own statistics
would shift every value in it.

Source of the order of steps: Buda, Saha, Mazurowski 2019, Comput Biol Med 109:218-225. Different here: nothing is set
to zero before the crop, padding holds the background's value instead of 0 (which is the mean of all tissue after
normalising), and each channel has percentiles of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from lib.geometry import Geometry

LEVELS = 256  # of uint8
SPLINE_ORDER = 2
VANISHING = 1e-18  # a weight fades by 0.17 a pixel: in float32 it becomes a denormal, with which products are slow


@dataclass(frozen=True)
class Statistics:
    """What puts the intensities of one volume on a common scale; one number a channel.

    Attributes:
        low, high: percentiles that values are clipped to, in grey levels 0 to 255.
        mean, std: of the clipped values after `low` has become 0 and `high` 1; std is 0 for a constant channel.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def content_box(volume: np.ndarray, level: float) -> tuple[int, int, int, int]:
    """The smallest box, the same for all slices, that holds everything bright.

    A channel with a bright background makes it the whole frame; nothing bright is ever cut off.

    Args:
        volume: (D, H, W, C) uint8.
        level: share of a channel's own maximum over the volume that a pixel must exceed in some channel, 0 to 1.

    Returns:
        (row, col, height, width) in pixels; the whole frame if nothing is bright. A constant channel counts for
        nothing: what fills a channel that was not measured says nothing about the head.

    Raises:
        ValueError: no such volume.
    """
    _require_volume(volume)
    brightest, darkest = volume.max(axis=0), volume.min(axis=0)  # (H, W, C)
    peak = brightest.max(axis=(0, 1))
    varies = peak > darkest.min(axis=(0, 1))
    content = ((brightest > level * peak.astype(float)) & varies).any(axis=-1)  # (H, W)
    if not content.any():
        return 0, 0, *content.shape
    rows, cols = np.flatnonzero(content.any(axis=1)), np.flatnonzero(content.any(axis=0))
    return int(rows[0]), int(cols[0]), int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1


def kept_slices(depth: int, end_slices_dropped: int) -> slice:
    """The slices that are left when some are dropped at each end.

    Raises:
        ValueError: none is left, or the number is negative.
    """
    most = (depth - 1) // 2
    if not 0 <= end_slices_dropped <= most:
        raise ValueError(
            f"end_slices_dropped = {end_slices_dropped}   not allowed with {depth} slices: at least one must be left; "
            f"0 to {most}"
        )
    return slice(end_slices_dropped, depth - end_slices_dropped)


def statistics(volume: np.ndarray, percentiles: Sequence[float]) -> Statistics:
    """Intensity statistics of each channel over a volume that holds only the slices and the crop to be used.

    The percentiles are those of `np.percentile` (linear); 256 grey levels allow to take them from a histogram.

    Args:
        volume: (D, h, w, C) uint8.
        percentiles: the lower and the upper one, 0 to 100.

    Raises:
        ValueError: no such volume.
    """
    _require_volume(volume)
    columns = [_channel_statistics(volume[..., channel], percentiles) for channel in range(volume.shape[-1])]
    return Statistics(*(tuple(row) for row in zip(*columns)))


def _channel_statistics(values: np.ndarray, percentiles: Sequence[float]) -> tuple[float, float, float, float]:
    counts = np.bincount(values.ravel(), minlength=LEVELS)
    low, high = _percentiles(counts, percentiles)
    if high <= low:
        return low, high, 0.0, 0.0
    scaled = _rescale(low, high)
    mean = counts @ scaled / values.size
    return low, high, float(mean), float(np.sqrt(counts @ (scaled - mean) ** 2 / values.size))


def _percentiles(counts: np.ndarray, percentiles: Sequence[float]) -> list[float]:
    """Percentiles by linear interpolation between sorted values, from how often each grey level occurs."""
    up_to = np.cumsum(counts)
    places = np.asarray(percentiles, float) / 100 * (up_to[-1] - 1)
    before = np.floor(places).astype(np.int64)
    here, after = (np.searchsorted(up_to, place, side="right") for place in (before, np.ceil(places)))
    return (here + (after - here) * (places - before)).tolist()


def _rescale(low: float, high: float) -> np.ndarray:
    """Each grey level after clipping and rescaling to 0..1: (256,) float64."""
    return (np.clip(np.arange(LEVELS), low, high) - low) / (high - low)


def normalise(volume: np.ndarray, given: Statistics) -> np.ndarray:
    """Clips to low..high, rescales to 0..1, subtracts the mean, divides by the standard deviation.

    Args:
        volume: (D, H, W, C) uint8.
        given: of this volume; a channel with equal percentiles or without spread becomes 0 everywhere.

    Returns:
        (D, H, W, C) float32; in memory the channels come first, as `resize` wants them.

    Raises:
        ValueError: no such volume, or statistics of another number of channels.
    """
    _require_volume(volume)
    table = _table(given)  # (C, 256)
    if len(table) != volume.shape[-1]:
        raise ValueError(f"a volume of {volume.shape[-1]} channels with statistics of {len(table)}; expected as many")
    normalised = np.empty((len(table), *volume.shape[:-1]), np.float32)
    for channel, values in enumerate(table):
        np.take(values, volume[..., channel], out=normalised[channel], mode="clip")  # "clip" saves a copy of `out`
    return np.moveaxis(normalised, 0, -1)


def background(given: Statistics) -> np.ndarray:
    """(C,) float32: what `low` and all below it become, hence what padding and rotation must fill in."""
    return _table(given)[:, 0]


def _table(given: Statistics) -> np.ndarray:
    """The normalised value of each grey level: (C, 256) float32."""
    table = np.zeros((len(given.low), LEVELS), np.float32)
    for row, low, high, mean, std in zip(table, given.low, given.high, given.mean, given.std):
        if high > low and std > 0:
            row[:] = (_rescale(low, high) - mean) / std
    return table


@lru_cache(maxsize=64)  # at most 32 MiB at 256 pixels
def spline_matrix(n_in: int, n_out: int) -> np.ndarray:
    """The resizing of one axis as a matrix: (n_out, n_in) float64, read-only.

    It is what `skimage.transform.resize(order=2, mode="edge", anti_aliasing=False)` does along an axis: scipy's zoom
    with pixel centres at half-integers, here of each unit vector. A spline is linear in its samples, so one product
    resizes all slices and channels at once.
    """
    zoom = (n_out / n_in, 1)  # of the columns alone
    matrix = ndimage.zoom(np.eye(n_in), zoom, order=SPLINE_ORDER, mode="nearest", grid_mode=True)
    matrix[np.abs(matrix) < VANISHING] = 0
    matrix.flags.writeable = False  # one array for all callers
    return matrix


def resize(volume: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Resizes each slice by splines of order 2 and clips it to the range that it had, over all its channels.

    Equal, to float32's digits, to `skimage.transform.resize(slice, (rows, cols), order=2, mode="edge",
    anti_aliasing=False)`, which clips in this way.

    Args:
        volume: (D, h, w, C) float32.
        rows, cols: new size of a slice, in pixels.

    Returns:
        (D, rows, cols, C) float32.
    """
    channels = np.moveaxis(volume, -1, 0)  # (C, D, h, w)
    low, high = (bound(axis=(0, 2, 3))[:, None, None] for bound in (channels.min, channels.max))  # (D, 1, 1)
    turned = _resize_last(channels, cols).swapaxes(2, 3)  # (C, D, cols, h)
    resized = _resize_last(turned, rows).swapaxes(2, 3)  # (C, D, rows, cols)
    return np.moveaxis(np.clip(resized, low, high, out=resized), 0, -1)


def _resize_last(values: np.ndarray, size: int) -> np.ndarray:
    """Resizes the last axis, (..., n) -> (..., size) float32, in memory of its own.

    One product of two large matrices: a product a slice waits at each for all threads of BLAS, and took five times
    as long where other processes wanted the cores.
    """
    n = values.shape[-1]
    if n == size:
        return values.astype(np.float32)
    flat = np.ascontiguousarray(values, np.float32).reshape(-1, n)
    return (flat @ spline_matrix(n, size).T.astype(np.float32)).reshape(*values.shape[:-1], size)


def to_network(volume: np.ndarray, mapping: Geometry, given: Statistics) -> np.ndarray:
    """Slices as the network gets them: cropped, normalised, resized, padded, in this order.

    Normalising comes before resizing because clipping at the percentiles must meet measured values, not those that a
    spline overshoots to. Padding comes last, with the background's value, so it enters neither the statistics nor
    the splines.

    Args:
        volume: (D, H, W, C) uint8, the slices to be shown, at native size.
        mapping: from native to network pixels, the crop included.
        given: statistics of the volume that these slices belong to.

    Returns:
        (D, C, h, w) float32.

    Raises:
        ValueError: no such volume, or one of another size or number of channels than mapping and statistics.
    """
    _require_volume(volume)
    native = (mapping.native_height, mapping.native_width)
    if volume.shape[1:3] != native:
        raise ValueError(f"slices of {volume.shape[1:3]} pixels with the geometry of {native}; expected the same size")
    inner = resize(normalise(volume[(slice(None), *mapping.crop)], given), *mapping.inner_shape)
    network = (mapping.network_height, mapping.network_width)
    shown = np.empty((len(volume), volume.shape[-1], *network), np.float32)
    if mapping.inner_shape != network:
        shown[:] = background(given)[:, None, None]
    shown[(..., *mapping.inner)] = np.moveaxis(inner, -1, 1)
    return shown


def _require_volume(volume: np.ndarray) -> None:
    if volume.dtype != np.uint8 or volume.ndim != 4 or 0 in volume.shape:
        raise ValueError(
            f"an array {volume.shape} of {volume.dtype}   is no volume; expected (slices, rows, columns, channels) of "
            "uint8, none of them 0"
        )


def fullest_slice(mask: np.ndarray) -> int:
    """Index of the slice of a mask (D, H, W) with most foreground, the first of equals; the middle if all are empty."""
    counts = np.count_nonzero(mask, axis=(1, 2))
    return int(counts.argmax()) if counts.any() else len(mask) // 2


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest part of a mask whose voxels touch by a face, an edge or a corner (26 neighbours).

    Args:
        mask: (D, H, W) bool.

    Returns:
        (D, H, W) bool; of parts of one size the first in the order of voxels; an empty mask stays empty.
    """
    labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3), bool))
    if count == 0:
        return np.zeros(mask.shape, bool)
    sizes = np.bincount(labels.ravel())
    return labels == 1 + sizes[1:].argmax()
