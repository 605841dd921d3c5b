"""MRI volumes, (D, H, W, C) uint8: where the head lies, which slices are kept, slices in the network's size.

Source of the order of steps: Buda, Saha, Mazurowski 2019, Comput Biol Med 109:218-225. Different here: nothing is set
to zero before the crop, padding holds the background's value instead of 0 (which is the mean of all tissue after
normalising), and each channel has percentiles of its own.
"""

from functools import lru_cache

import cv2
import numpy as np
from scipy import ndimage

from lib.imaging import intensity
from lib.imaging.geometry import Geometry
from lib.imaging.intensity import Statistics

SPLINE_ORDER = 2
VANISHING = 1e-18  # a weight fades by 0.17 a pixel: in float32 it becomes a denormal, with which products are slow


def content_box(volume: np.ndarray, level: float) -> tuple[int, int, int, int]:
    """The smallest box (row, col, height, width), the same for all slices, that holds everything bright.

    A channel with a bright background makes it the whole frame, as does a volume without anything bright; nothing
    bright is ever cut off. A constant channel counts for nothing: what fills a channel that was not measured says
    nothing about the head. ValueError for what is no volume. Bright is what exceeds in some channel a share, the level
    from 0 to 1, of this channel's own maximum over the volume.
    """
    intensity.require_volume(volume)
    brightest, darkest = volume.max(axis=0), volume.min(axis=0)  # (H, W, C)
    peak = brightest.max(axis=(0, 1))
    varies = peak > darkest.min(axis=(0, 1))
    content = ((brightest > level * peak.astype(float)) & varies).any(axis=-1)  # (H, W)
    left, top, width, height = cv2.boundingRect(content.view(np.uint8))
    return (top, left, height, width) if width else (0, 0, *content.shape)


def kept_slices(depth: int, end_slices_dropped: int) -> slice:
    """The slices that are left when some are dropped at each end; ValueError if none is left."""
    most = (depth - 1) // 2
    if not 0 <= end_slices_dropped <= most:
        found = f"end_slices_dropped = {end_slices_dropped}   not allowed with {depth} slices"
        raise ValueError(f"{found}: at least one must be left; 0 to {most}")
    return slice(end_slices_dropped, depth - end_slices_dropped)


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

    (D, h, w, C) -> (D, rows, cols, C) float32. Equal, to float32's digits, to `skimage.transform.resize(slice,
    (rows, cols), order=2, mode="edge", anti_aliasing=False)`, which clips in this way.
    """
    channels = np.moveaxis(volume, -1, 0)  # (C, D, h, w)
    low, high = (bound(axis=(0, 2, 3))[:, None, None] for bound in (channels.min, channels.max))  # (D, 1, 1)
    turned = _resize_last(channels, cols).swapaxes(2, 3)  # (C, D, cols, h)
    resized = _resize_last(turned, rows).swapaxes(2, 3)  # (C, D, rows, cols)
    return np.moveaxis(np.clip(resized, low, high, out=resized), 0, -1)


def _resize_last(values: np.ndarray, size: int) -> np.ndarray:
    """Resizes the last axis, (..., n) -> (..., size) float32, in memory of its own.

    One product of two large matrices: a product per slice waits at each for all threads of BLAS, and took five times
    as long where other processes wanted the cores.
    """
    n = values.shape[-1]
    if n == size:
        return values.astype(np.float32)
    flat = np.ascontiguousarray(values, np.float32).reshape(-1, n)
    return (flat @ spline_matrix(n, size).T.astype(np.float32)).reshape(*values.shape[:-1], size)


def to_network(volume: np.ndarray, mapping: Geometry, statistics: Statistics) -> np.ndarray:
    """Kept slices as the network gets them, (D, C, h, w) float32: cropped, normalised, resized, padded, in this order.

    Normalising comes before resizing because clipping at the percentiles must meet measured values, not those that a
    spline overshoots to. Padding comes last, with the background's value, so it enters neither the statistics nor
    the splines. ValueError if the size or the channels are not those of the mapping (native to network pixels, the
    crop included) and of the whole volume's statistics.
    """
    intensity.require_volume(volume)
    native = (mapping.native_height, mapping.native_width)
    if volume.shape[1:3] != native:
        raise ValueError(f"slices of {volume.shape[1:3]} pixels with the geometry of {native}; expected the same size")
    inner = resize(intensity.normalise(volume[(slice(None), *mapping.crop)], statistics), *mapping.inner_shape)
    network = (mapping.network_height, mapping.network_width)
    slices = np.empty((len(volume), volume.shape[-1], *network), np.float32)
    if mapping.inner_shape != network:
        slices[:] = intensity.background(statistics)[:, None, None]
    slices[(..., *mapping.inner)] = np.moveaxis(inner, -1, 1)
    return slices


def fullest_slice(mask: np.ndarray) -> int:
    """Index of the slice of a mask (D, H, W) with most foreground, the first of equals; the middle if all are empty."""
    counts = np.count_nonzero(mask, axis=(1, 2))
    return int(counts.argmax()) if counts.any() else len(mask) // 2
