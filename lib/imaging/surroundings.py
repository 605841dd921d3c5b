"""A structure in its image: contrast with its surroundings, distance from the frame, and the place of an error."""

import cv2
import numpy as np

RING_RADII = 0.25  # width of the surroundings in radii of the disc of equal area, so that it grows with the structure
RING_LEAST_PX = 2.0


def contrast(image: np.ndarray, region: np.ndarray) -> float:
    """(inside - ring) / (inside + ring) of mean grey values, -1 to 1: of a structure and a ring around it.

    `image` is uint8, `region` bool, both (H, W) or (D, H, W). The ring lies in the plane, outside the region, and is
    a quarter of the radius of the disc of equal area wide, at least 2 pixels; in a volume, each slice has its own.
    NaN if the region is empty or fills its image.
    """
    inside, ring = np.zeros(2), np.zeros(2)  # sum of grey values, number of pixels
    for plane, part in zip(*((image, region) if region.ndim == 3 else (image[None], region[None]))):
        if part.any():
            around = ring_around(part)
            inside += plane[part].sum(dtype=np.int64), np.count_nonzero(part)
            ring += plane[around].sum(dtype=np.int64), np.count_nonzero(around)
    if not (inside[1] and ring[1]):
        return float("nan")
    inner, outer = inside[0] / inside[1], ring[0] / ring[1]
    return float((inner - outer) / max(inner + outer, 1e-6))


def ring_around(region: np.ndarray) -> np.ndarray:
    """The surroundings of a (H, W) bool region that is not empty, as in `contrast`."""
    width = max(RING_LEAST_PX, RING_RADII * np.sqrt(np.count_nonzero(region) / np.pi))
    left, top, wide, high = cv2.boundingRect(region.view(np.uint8))
    margin = int(np.ceil(width))
    rows, cols = (slice(max(start - margin, 0), start + size + margin) for start, size in ((top, high), (left, wide)))
    distance = cv2.distanceTransform((~region[rows, cols]).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ring = np.zeros(region.shape, bool)
    ring[rows, cols] = (distance > 0) & (distance <= width)
    return ring


def border_gap(region: np.ndarray) -> float:
    """Distance from a (H, W) bool region to the frame as a fraction of the shorter side; NaN for an empty region."""
    left, top, width, height = cv2.boundingRect(region.view(np.uint8))
    if width == 0:
        return float("nan")
    below, right = region.shape[0] - top - height, region.shape[1] - left - width
    return min(left, top, right, below) / min(region.shape)


def thickest_place(region: np.ndarray) -> tuple[int, int, float]:
    """(row, col) of the pixel of a (H, W) bool region that is farthest from its outside, and twice that distance."""
    inside = cv2.distanceTransform(np.pad(region, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, col = np.unravel_index(np.argmax(inside), inside.shape)
    return int(row), int(col), 2 * float(inside[row, col])


def window(shape: tuple[int, int], centre: tuple[float, float], side: float) -> tuple[slice, slice]:
    """A square of about `side` pixels around a (row, col), moved into the image and no larger than its shorter side."""
    length = min(*shape, max(1, round(side)))
    starts = [min(max(round(at - length / 2), 0), size - length) for at, size in zip(centre, shape)]
    return slice(starts[0], starts[0] + length), slice(starts[1], starts[1] + length)
