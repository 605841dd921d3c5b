"""Cropping, slice selection and resizing of MRI volumes, (D, H, W, C) uint8.

The order of steps follows Buda, Saha, Mazurowski 2019, Comput Biol Med 109:218-225, but with percentiles per channel,
nothing set to 0 before cropping, and padding with the background's value (after normalisation 0 is the mean of tissue).
"""

from functools import lru_cache

import cv2
import numpy as np
from scipy import ndimage

from lib.imaging import intensity
from lib.imaging.geometry import Geometry
from lib.imaging.intensity import Statistics

SPLINE_ORDER = 2
VANISHING = 1e-18  # weights decay by a factor of 0.17 per pixel; products with denormal float32 numbers are slow


def content_box(volume: np.ndarray, level: float) -> tuple[int, int, int, int]:
    """Smallest box (row, col, height, width) around all bright voxels of all slices.

    A voxel is bright if in some channel it exceeds `level`, 0 to 1, times that channel's maximum over the volume.
    Constant channels (fillers for missing sequences) are ignored. The box is the whole frame if the background or
    nothing is bright. ValueError if the array is not a volume.
    """
    intensity.require_volume(volume)
    brightest, darkest = volume.max(axis=0), volume.min(axis=0)  # (H, W, C)
    peak = brightest.max(axis=(0, 1))
    varies = peak > darkest.min(axis=(0, 1))
    content = ((brightest > level * peak.astype(float)) & varies).any(axis=-1)  # (H, W)
    left, top, width, height = cv2.boundingRect(content.view(np.uint8))
    return (top, left, height, width) if width else (0, 0, *content.shape)


def kept_slices(depth: int, end_slices_dropped: int) -> slice:
    """Slices that remain after dropping some at each end; ValueError if none would."""
    most = (depth - 1) // 2
    if not 0 <= end_slices_dropped <= most:
        setting = f"end_slices_dropped = {end_slices_dropped}   not allowed with {depth} slices"
        raise ValueError(f"{setting}: at least one must remain; 0 to {most}")
    return slice(end_slices_dropped, depth - end_slices_dropped)


@lru_cache(maxsize=64)  # at most 32 MiB at 256 pixels
def spline_matrix(n_in: int, n_out: int) -> np.ndarray:
    """Matrix that resizes one axis by splines of order 2: (n_out, n_in) float64, read-only.

    Equals `skimage.transform.resize(order=2, mode="edge", anti_aliasing=False)` along one axis. A spline is linear in
    its samples, so the zoomed unit vectors are the matrix, and one product resizes all slices and channels at once.
    """
    zoom = (n_out / n_in, 1)  # of the columns alone
    matrix = ndimage.zoom(np.eye(n_in), zoom, order=SPLINE_ORDER, mode="nearest", grid_mode=True)
    matrix[np.abs(matrix) < VANISHING] = 0
    matrix.flags.writeable = False  # one array for all callers
    return matrix


def resize(volume: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Resizes each slice by splines of order 2 and clips it to its original range over all channels.

    (D, h, w, C) -> (D, rows, cols, C) float32. Equal to `skimage.transform.resize(slice, (rows, cols), order=2,
    mode="edge", anti_aliasing=False)` within float32 precision.
    """
    channels = np.moveaxis(volume, -1, 0)  # (C, D, h, w)
    low, high = (bound(axis=(0, 2, 3))[:, None, None] for bound in (channels.min, channels.max))  # (D, 1, 1)
    turned = _resize_last(channels, cols).swapaxes(2, 3)  # (C, D, cols, h)
    resized = _resize_last(turned, rows).swapaxes(2, 3)  # (C, D, rows, cols)
    return np.moveaxis(np.clip(resized, low, high, out=resized), 0, -1)


def _resize_last(values: np.ndarray, size: int) -> np.ndarray:
    """Resizes the last axis into a new array: (..., n) -> (..., size) float32."""
    n = values.shape[-1]
    if n == size:
        return values.astype(np.float32)
    flat = np.ascontiguousarray(values, np.float32).reshape(-1, n)  # a product per slice took five times as long
    return (flat @ spline_matrix(n, size).T.astype(np.float32)).reshape(*values.shape[:-1], size)


def to_network(volume: np.ndarray, mapping: Geometry, statistics: Statistics) -> np.ndarray:
    """Network input of the kept slices, (D, C, h, w) float32: cropped, normalised, resized, padded, in this order.

    Normalisation comes before resizing so that the percentiles clip measured values, not spline overshoot. Padding
    comes last, with the background's value, and so affects neither the statistics nor the splines. ValueError if the
    slices do not have the mapping's native size or the statistics' number of channels.
    """
    intensity.require_volume(volume)
    native = (mapping.native_height, mapping.native_width)
    if volume.shape[1:3] != native:
        raise ValueError(f"slices have size {volume.shape[1:3]}, the geometry {native}; expected equal sizes")
    inner = resize(intensity.normalise(volume[(slice(None), *mapping.crop)], statistics), *mapping.inner_shape)
    network = (mapping.network_height, mapping.network_width)
    slices = np.empty((len(volume), volume.shape[-1], *network), np.float32)
    if mapping.inner_shape != network:
        slices[:] = intensity.background(statistics)[:, None, None]
    slices[(..., *mapping.inner)] = np.moveaxis(inner, -1, 1)
    return slices


def fullest_slice(mask: np.ndarray) -> int:
    """Index of the slice of a mask (D, H, W) with most foreground, the first of ties; the middle if all are empty."""
    counts = np.count_nonzero(mask, axis=(1, 2))
    return int(counts.argmax()) if counts.any() else len(mask) // 2
