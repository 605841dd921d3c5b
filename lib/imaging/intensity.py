"""Intensities of MRI volumes put on one scale by statistics of the whole volume, never of a slice.

A slice near the vertex holds little tissue, and its own statistics would shift every value in it. A volume is
(D, H, W, C) uint8, else a ValueError.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVELS = 256  # of uint8


@dataclass(frozen=True)
class Statistics:
    """What puts the intensities of one volume on a common scale; one number per channel."""

    low: tuple[float, ...]  # percentiles that values are clipped to, in grey levels 0 to 255
    high: tuple[float, ...]
    mean: tuple[float, ...]  # of the clipped values after `low` has become 0 and `high` 1
    std: tuple[float, ...]  # of the same; 0 for a constant channel


def statistics(volume: np.ndarray, percentiles: Sequence[float]) -> Statistics:
    """Intensity statistics of each channel over a volume that holds only the slices and the crop to be used.

    The lower and the upper of the percentiles, 0 to 100, are those of `np.percentile` (linear).
    """
    require_volume(volume)
    columns = [_channel_statistics(volume[..., channel], percentiles) for channel in range(volume.shape[-1])]
    return Statistics(*(tuple(row) for row in zip(*columns)))


def _channel_statistics(values: np.ndarray, percentiles: Sequence[float]) -> tuple[float, float, float, float]:
    """Low, high, mean and standard deviation, all from how often each grey level occurs."""
    counts = np.bincount(values.ravel(), minlength=LEVELS)
    up_to = np.cumsum(counts)
    places = np.asarray(percentiles, float) / 100 * (up_to[-1] - 1)  # among the sorted values
    before = np.floor(places).astype(np.int64)
    lower, upper = (np.searchsorted(up_to, place, side="right") for place in (before, np.ceil(places)))
    low, high = (lower + (upper - lower) * (places - before)).tolist()
    if high <= low:
        return low, high, 0.0, 0.0
    scaled = _rescale(low, high)
    mean = counts @ scaled / values.size
    return low, high, float(mean), float(np.sqrt(counts @ (scaled - mean) ** 2 / values.size))


def _rescale(low: float, high: float) -> np.ndarray:
    """Each grey level after clipping and rescaling to 0..1: (256,) float64."""
    return (np.clip(np.arange(LEVELS), low, high) - low) / (high - low)


def normalise(volume: np.ndarray, statistics: Statistics) -> np.ndarray:
    """Clips to low..high, rescales to 0..1, subtracts the mean, divides by the standard deviation: float32.

    A channel with equal percentiles or without spread becomes 0 everywhere. In memory the channels come first, as
    `volumes.resize` wants them. ValueError if the statistics are of another number of channels.
    """
    require_volume(volume)
    table = _table(statistics)  # (C, 256)
    if len(table) != volume.shape[-1]:
        raise ValueError(f"a volume of {volume.shape[-1]} channels with statistics of {len(table)}; expected as many")
    normalised = np.empty((len(table), *volume.shape[:-1]), np.float32)
    for channel, values in enumerate(table):
        np.take(values, volume[..., channel], out=normalised[channel], mode="clip")  # "clip" saves a copy of `out`
    return np.moveaxis(normalised, 0, -1)


def background(statistics: Statistics) -> np.ndarray:
    """(C,) float32: what `low` and all below it become, hence what padding and rotation must fill in."""
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
    """ValueError unless an array is a volume."""
    if volume.dtype != np.uint8 or volume.ndim != 4 or 0 in volume.shape:
        expected = "expected (slices, rows, columns, channels) of uint8, none of them 0"
        raise ValueError(f"an array {volume.shape} of {volume.dtype}   is no volume; {expected}")
