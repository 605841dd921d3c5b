"""Connected components of masks, hole filling, and the bounding frame of the foreground."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage


def largest_component(region: np.ndarray) -> np.ndarray:
    """Largest connected component of a bool region, (H, W) or (D, H, W); all False if it is empty.

    Pixels have 8 neighbours, voxels 26. Of ties it is the first in voxel order, in images the first OpenCV label.
    """
    if region.ndim == 3:
        labels, count = ndimage.label(region, structure=np.ones((3, 3, 3), bool))
        return labels == 1 + np.bincount(labels.ravel())[1:].argmax() if count else np.zeros(region.shape, bool)
    count, labels = cv2.connectedComponents(region.astype(np.uint8), connectivity=8)  # five times as fast as WithStats
    if count <= 2:
        return region.astype(bool)
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


def fill_holes(region: np.ndarray) -> np.ndarray:
    """A (H, W) bool region with its holes filled."""
    outside = np.pad(region.astype(np.uint8, order="C"), 1)  # OpenCV fills in place and refuses transposed arrays
    cv2.floodFill(outside, None, (0, 0), 2)
    return outside[1:-1, 1:-1] != 2


def solid_component(region: np.ndarray) -> np.ndarray:
    """Largest component of a (H, W) bool region, with its holes filled."""
    binary = np.ascontiguousarray(region).view(np.uint8)
    outlines, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if len(outlines) != 1:
        return fill_holes(largest_component(region))
    solid = np.zeros(region.shape, np.uint8)  # of one component: filling its outline is equal, in a third of the time
    return cv2.drawContours(solid, outlines, 0, 1, cv2.FILLED).view(bool)


@dataclass(frozen=True)
class Parts:
    """Connected components of one class with N pixels."""

    index: int  # of the class
    rows: np.ndarray  # (N,)
    cols: np.ndarray  # (N,)
    labels: np.ndarray  # (N,) component of each pixel, from 0
    areas: np.ndarray  # (components,) in pixels

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean of (N,) values over each component: (components,)."""
        return np.bincount(self.labels, values, len(self.areas)) / self.areas


def parts_of(mask: np.ndarray, index: int) -> Parts | None:
    """Connected components of a class in a (H, W) mask; None if it is absent."""
    region = mask == index
    frame = foreground_frame(region)
    if frame is None:
        return None
    inner = np.ascontiguousarray(region[frame]).view(np.uint8)
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(inner, connectivity=8)
    rows, cols = np.nonzero(inner)
    rows_and_cols = rows + frame[0].start, cols + frame[1].start
    return Parts(index, *rows_and_cols, labels[rows, cols] - 1, statistics[1:, cv2.CC_STAT_AREA])


def match_parts(reference: np.ndarray, predicted: np.ndarray) -> tuple[int, int, int, int]:
    """Connected components of two bool regions, (H, W) or (D, H, W), and how many of each overlap the other region.

    (reference components, those of them that overlap the prediction, predicted components, those of them that overlap
    the reference). Pixels have 8 neighbours, voxels 26; one shared pixel is an overlap.
    """
    counts: list[int] = []
    for region, other in ((reference, predicted), (predicted, reference)):
        frame = foreground_frame(region)
        if frame is None:
            counts += [0, 0]
            continue
        inner = np.ascontiguousarray(region[frame])
        if inner.ndim == 2:
            labels = cv2.connectedComponents(inner.view(np.uint8), connectivity=8)[1]
        else:
            labels = ndimage.label(inner, structure=np.ones((3, 3, 3), bool))[0]
        is_touched = np.zeros(int(labels.max()) + 1, bool)
        is_touched[labels[inner & other[frame]]] = True  # a fifth of the time of np.unique
        counts += [len(is_touched) - 1, int(np.count_nonzero(is_touched))]
    return counts[0], counts[1], counts[2], counts[3]


def foreground_frame(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Bounding slices of a bool or uint8 mask's foreground, (rows, cols) or (slices, rows, cols); None if empty."""
    flat = mask if mask.ndim == 2 else mask.max(axis=0)
    left, top, width, height = cv2.boundingRect(flat.view(np.uint8))
    if width == 0:
        return None
    rows_and_cols = slice(top, top + height), slice(left, left + width)
    if mask.ndim == 2:
        return rows_and_cols
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    return slice(slices[0], slices[-1] + 1), *rows_and_cols
