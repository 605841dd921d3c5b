"""Intensities of MRI volumes put on one scale by statistics of the whole volume, never of a slice.

A slice near the vertex holds little tissue, and its own statistics would shift every value in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVELS = 256  # of uint8


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


def statistics(volume: np.ndarray, percentiles: Sequence[float]) -> Statistics:
    """Intensity statistics of each channel over a volume that holds only the slices and the crop to be used.

    The percentiles are those of `np.percentile` (linear); 256 grey levels allow to take them from a histogram.

    Args:
        volume: (D, h, w, C) uint8.
        percentiles: the lower and the upper one, 0 to 100.

    Raises:
        ValueError: no such volume.
    """
    require_volume(volume)
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
    require_volume(volume)
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


def require_volume(volume: np.ndarray) -> None:
    if volume.dtype != np.uint8 or volume.ndim != 4 or 0 in volume.shape:
        raise ValueError(
            f"an array {volume.shape} of {volume.dtype}   is no volume; expected (slices, rows, columns, channels) of "
            "uint8, none of them 0"
        )
