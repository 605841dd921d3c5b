"""Connected parts of masks, their holes, and the frame around what is shown."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage


def largest_component(region: np.ndarray) -> np.ndarray:
    """The largest connected part of a bool region, (H, W) or (D, H, W); all False where it is empty.

    Pixels touch by a side or a corner (8 neighbours), voxels by a face, an edge or a corner (26). Of volumes' parts of
    one size it is the first in the order of voxels, of images' the one that OpenCV counts first (nearly from the top).
    """
    if region.ndim == 3:
        labels, count = ndimage.label(region, structure=np.ones((3, 3, 3), bool))
        return labels == 1 + np.bincount(labels.ravel())[1:].argmax() if count else np.zeros(region.shape, bool)
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=8)
    if count <= 2:
        return region.astype(bool)
    return parts == 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))


def fill_holes(region: np.ndarray) -> np.ndarray:
    """A (H, W) bool region with everything that it encloses."""
    outside = np.pad(region.astype(np.uint8, order="C"), 1)  # OpenCV fills in place and refuses transposed arrays
    cv2.floodFill(outside, None, (0, 0), 2)
    return outside[1:-1, 1:-1] != 2


def solid_component(region: np.ndarray) -> np.ndarray:
    """The largest part of a (H, W) bool region with its holes filled."""
    outlines, _ = cv2.findContours(
        np.ascontiguousarray(region).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    if len(outlines) != 1:
        return fill_holes(largest_component(region))
    solid = np.zeros(region.shape, np.uint8)  # one part: its outline filled is the same, in a third of the time
    return cv2.drawContours(solid, outlines, 0, 1, cv2.FILLED).view(bool)


@dataclass(frozen=True)
class Parts:
    """Connected parts of one class, by its N pixels.

    Attributes:
        index: of the class.
        rows, cols: (N,) where its pixels lie.
        labels: (N,) which part each belongs to, from 0.
        areas: (parts,) in pixels.
    """

    index: int
    rows: np.ndarray
    cols: np.ndarray
    labels: np.ndarray
    areas: np.ndarray

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean of (N,) values over each part: (parts,)."""
        return np.bincount(self.labels, values, len(self.areas)) / self.areas


def parts_of(mask: np.ndarray, index: int) -> Parts | None:
    """Connected parts of a class in a (H, W) mask; None where it is not shown."""
    own = (mask == index).view(np.uint8)
    window = foreground_frame(own)
    if window is None:
        return None
    inner = np.ascontiguousarray(own[window])
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(inner, connectivity=8)
    rows, cols = np.nonzero(inner)
    places = rows + window[0].start, cols + window[1].start
    return Parts(index, *places, labels[rows, cols] - 1, statistics[1:, cv2.CC_STAT_AREA])


def foreground_frame(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Rows and columns (and before them slices) that hold everything but background; None for an empty mask."""
    left, top, width, height = cv2.boundingRect(mask if mask.ndim == 2 else mask.max(axis=0))
    if width == 0:
        return None
    rows_and_cols = slice(top, top + height), slice(left, left + width)
    if mask.ndim == 2:
        return rows_and_cols
    shown = np.flatnonzero(mask.any(axis=(1, 2)))
    return slice(shown[0], shown[-1] + 1), *rows_and_cols
