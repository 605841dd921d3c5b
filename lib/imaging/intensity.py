"""Intensity normalisation of MRI volumes, (D, H, W, C) uint8 (else ValueError), by statistics of the whole volume.

Statistics of a single slice would shift its values where it contains little tissue, as near the vertex.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVELS = 256  # of uint8


@dataclass(frozen=True)
class Statistics:
    """Intensity statistics of one volume; one number per channel."""

    low: tuple[float, ...]  # percentiles at which values are clipped, in grey levels 0 to 255
    high: tuple[float, ...]
    mean: tuple[float, ...]  # of the clipped values, rescaled from low..high to 0..1
    std: tuple[float, ...]  # likewise; 0 for a constant channel


def statistics(volume: np.ndarray, percentiles: Sequence[float]) -> Statistics:
    """Intensity statistics per channel of a cropped volume; `percentiles` (lower, upper) as in `np.percentile`."""
    require_volume(volume)
    columns = [_channel_statistics(volume[..., channel], percentiles) for channel in range(volume.shape[-1])]
    return Statistics(*(tuple(row) for row in zip(*columns)))


def _channel_statistics(values: np.ndarray, percentiles: Sequence[float]) -> tuple[float, float, float, float]:
    """Low, high, mean and standard deviation, computed from the histogram."""
    counts = np.bincount(values.ravel(), minlength=LEVELS)
    up_to = np.cumsum(counts)
    ranks = np.asarray(percentiles, float) / 100 * (up_to[-1] - 1)  # among the sorted values
    below = np.floor(ranks).astype(np.int64)
    lower, upper = (np.searchsorted(up_to, rank, side="right") for rank in (below, np.ceil(ranks)))
    low, high = (lower + (upper - lower) * (ranks - below)).tolist()
    if high <= low:
        return low, high, 0.0, 0.0
    scaled = _rescale(low, high)
    mean = counts @ scaled / values.size
    return low, high, float(mean), float(np.sqrt(counts @ (scaled - mean) ** 2 / values.size))


def _rescale(low: float, high: float) -> np.ndarray:
    """Each grey level after clipping and rescaling to 0..1: (256,) float64."""
    return (np.clip(np.arange(LEVELS), low, high) - low) / (high - low)


def normalise(volume: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Clips to low..high, rescales to 0..1, subtracts the mean and divides by the standard deviation: float32.

    Channels with equal percentiles or no spread become 0. Channels come first in memory, as `volumes.resize` needs
    them. ValueError if volume and statistics differ in the number of channels.
    """
    require_volume(volume)
    table = _table(statistics)  # (C, 256)
    if len(table) != volume.shape[-1]:
        raise ValueError(f"volume has {volume.shape[-1]} channels, its statistics {len(table)}; expected equal numbers")
    normalised = np.empty((len(table), *volume.shape[:-1]), np.float32)
    for channel, values in enumerate(table):
        np.take(values, volume[..., channel], out=normalised[channel], mode="clip")  # "clip" avoids a copy of `out`
    return np.moveaxis(normalised, 0, -1)


def background(statistics: Statistics) -> np.ndarray:
    """Normalised value of `low` and below, with which padding and rotation must fill: (C,) float32."""
    return _table(statistics)[:, 0]


def _table(statistics: Statistics) -> np.ndarray:
    """The normalised value of each grey level: (C, 256) float32."""
    table = np.zeros((len(statistics.low), LEVELS), np.float32)
    channels = zip(table, statistics.low, statistics.high, statistics.mean, statistics.std)
    for row, low, high, mean, std in channels:
        if high > low and std > 0:
            row[:] = (_rescale(low, high) - mean) / std
    return table


def require_volume(volume: np.ndarray) -> None:
    """Raises ValueError unless an array is a volume."""
    if volume.dtype != np.uint8 or volume.ndim != 4 or 0 in volume.shape:
        expected = "expected (slices, rows, columns, channels) of uint8, none of them 0"
        raise ValueError(f"array {volume.shape} of {volume.dtype} is not a volume; {expected}")
