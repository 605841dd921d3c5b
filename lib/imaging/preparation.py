"""From a native image or volume to the network's input: what 02 does to every case, and whoever uses a model repeats.

A preparation is a plain dict, kept beside the arrays and in every file of weights: `image_size`, `volumes`, `channels`;
of images `grey`, what stands for 0 and how many grey levels for 1; of volumes and landmarks the keys below.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.imaging import geometry, intensity, volumes
from lib.imaging.geometry import Geometry

GREY = [127.5, 63.75]  # the grey level that becomes 0, and the levels per unit: uint8 -> -2 to 2
VOLUME_KEYS = ("end_slices_dropped", "crop_level", "intensity_percentiles")
LANDMARK_KEYS = ("heatmap_sigma", "heatmap_sigma_unit")
Box = tuple[int, int, int, int]  # row, col, height, width


@dataclass(frozen=True)
class Prepared:
    """One case as the network gets it."""

    images: np.ndarray  # (N, C, h, w), one row per slice: uint8, of volumes float32 and normalised
    mapping: Geometry  # native to network pixels, the same for all slices
    slices: np.ndarray  # (N,) which native slice each row is, 0 for an image
    depth: int  # number of native slices, 1 for an image


def prepare(native: np.ndarray, preparation: dict[str, Any]) -> Prepared:
    """A native image (H, W) or volume (D, H, W, C), uint8, as the network gets it; ValueError if it is neither."""
    size = tuple(preparation["image_size"])
    if preparation["volumes"]:
        statistics, box = measure(native, preparation)
        kept = volumes.kept_slices(len(native), preparation["end_slices_dropped"])
        mapping = geometry.fit(native.shape[1:3], size, box)
        images = volumes.to_network(native[kept], mapping, statistics)
        return Prepared(images, mapping, np.arange(kept.start, kept.stop), len(native))
    if native.dtype != np.uint8 or native.ndim != 2 or 0 in native.shape:
        raise ValueError(f"an array {native.shape} of {native.dtype}   is no image; expected (rows, columns) of uint8")
    mapping = geometry.fit(native.shape, size)
    return Prepared(geometry.image_to_network(native, mapping)[None, None], mapping, np.zeros(1, np.int64), 1)


def measure(volume: np.ndarray, preparation: dict[str, Any]) -> tuple[intensity.Statistics, Box]:
    """What a slice's preparation needs of its whole volume: intensity statistics, and where the content lies.

    Both are those of the kept slices alone; ValueError for no volume, or one of another number of channels.
    """
    if volume.dtype != np.uint8 or volume.ndim != 4 or volume.shape[-1] != preparation["channels"]:
        expected = f"expected (slices, rows, columns, {preparation['channels']}) of uint8"
        raise ValueError(f"an array {volume.shape} of {volume.dtype}   is no volume for this network; {expected}")
    kept = volume[volumes.kept_slices(len(volume), preparation["end_slices_dropped"])]
    box = volumes.content_box(kept, preparation["crop_level"])
    row, col, height, width = box
    inner = kept[:, row : row + height, col : col + width]
    return intensity.statistics(inner, preparation["intensity_percentiles"]), box


def heatmap_sigma(preparation: dict[str, Any], mapping: Geometry, spacing_mm: tuple[float, float] | None) -> float:
    """Standard deviation of a case's heatmaps in network pixels.

    If the preparation has it in mm, the (row, col) native pixel size is used; ValueError if that is not known.
    """
    sigma = preparation["heatmap_sigma"]
    if preparation["heatmap_sigma_unit"] == "pixels":
        return float(sigma)
    if spacing_mm is None:
        raise ValueError(f"heatmap_sigma = {sigma} mm   needs the pixel size of every case; expected one in mm")
    return float(sigma * np.sqrt(mapping.scale_row * mapping.scale_col) / np.sqrt(spacing_mm[0] * spacing_mm[1]))
