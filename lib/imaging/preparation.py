"""Preprocessing of a native image or volume to the network's input, shared by notebook 02 and every use of a model.

Its settings, the preparation, are a dict stored with the arrays and in every weights file: `image_size`, `volumes`,
`channels`; for images `grey`, like GREY; for volumes and landmarks the keys below.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.imaging import geometry, intensity, volumes
from lib.imaging.geometry import Geometry

GREY = [127.5, 63.75]  # grey level mapped to 0, and grey levels per unit: uint8 -> -2 to 2
VOLUME_KEYS = ("end_slices_dropped", "crop_level", "intensity_percentiles")
LANDMARK_KEYS = ("heatmap_sigma", "heatmap_sigma_unit")
Box = tuple[int, int, int, int]  # row, col, height, width


@dataclass(frozen=True)
class Prepared:
    """Network input of one case."""

    images: np.ndarray  # (N, C, h, w), one row per slice: uint8, for volumes normalised float32
    mapping: Geometry  # native to network pixels, for all slices
    slices: np.ndarray  # (N,) native slice of each row, 0 for an image
    depth: int  # number of native slices, 1 for an image


def prepare(native: np.ndarray, preparation: dict[str, Any]) -> Prepared:
    """Network input of a native image (H, W) or volume (D, H, W, C), uint8; ValueError for other arrays."""
    size = tuple(preparation["image_size"])
    if preparation["volumes"]:
        statistics, box = measure(native, preparation)
        kept = volumes.kept_slices(len(native), preparation["end_slices_dropped"])
        mapping = geometry.fit(native.shape[1:3], size, box)
        images = volumes.to_network(native[kept], mapping, statistics)
        return Prepared(images, mapping, np.arange(kept.start, kept.stop), len(native))
    if native.dtype != np.uint8 or native.ndim != 2 or 0 in native.shape:
        raise ValueError(f"array {native.shape} of {native.dtype} is not an image; expected (rows, columns) of uint8")
    mapping = geometry.fit(native.shape, size)
    return Prepared(geometry.image_to_network(native, mapping)[None, None], mapping, np.zeros(1, np.int64), 1)


def measure(volume: np.ndarray, preparation: dict[str, Any]) -> tuple[intensity.Statistics, Box]:
    """Intensity statistics and content box of a volume's kept slices; ValueError for other arrays or channels."""
    if volume.dtype != np.uint8 or volume.ndim != 4 or volume.shape[-1] != preparation["channels"]:
        expected = f"expected (slices, rows, columns, {preparation['channels']}) of uint8"
        raise ValueError(f"array {volume.shape} of {volume.dtype} is not a volume for this network; {expected}")
    kept = volume[volumes.kept_slices(len(volume), preparation["end_slices_dropped"])]
    box = volumes.content_box(kept, preparation["crop_level"])
    row, col, height, width = box
    inner = kept[:, row : row + height, col : col + width]
    return intensity.statistics(inner, preparation["intensity_percentiles"]), box


def heatmap_sigma(preparation: dict[str, Any], mapping: Geometry, spacing_mm: tuple[float, float] | None) -> float:
    """Standard deviation of heatmaps in network pixels; ValueError if set in mm without a (row, col) pixel size."""
    sigma = preparation["heatmap_sigma"]
    if preparation["heatmap_sigma_unit"] == "pixels":
        return float(sigma)
    if spacing_mm is None:
        raise ValueError(f"heatmap_sigma = {sigma} mm   requires the pixel size of every case in mm; one is unknown")
    return float(sigma * np.sqrt(mapping.scale_row * mapping.scale_col) / np.sqrt(spacing_mm[0] * spacing_mm[1]))
