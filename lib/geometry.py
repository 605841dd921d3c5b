"""Native and network pixels of one image, mapped exactly both ways.

Pixel centres are integers: the pixel (0, 0) covers -0.5 to 0.5. The native image is scaled to fit the network's
size with its aspect kept, and padded evenly with zeros; nothing is cropped.
"""

from dataclasses import dataclass

import cv2
import numpy as np

GEOMETRY_COLUMNS = [
    "native_height",
    "native_width",
    "scale_row",
    "scale_col",
    "pad_row",
    "pad_col",
    "network_height",
    "network_width",
]


@dataclass(frozen=True)
class Geometry:
    """How one native image lies in the network's input.

    Attributes:
        native_height, native_width: size as published, in pixels.
        scale_row, scale_col: network pixels a native pixel; they differ by rounding to whole pixels only.
        pad_row, pad_col: zero pixels above and left of the image.
        network_height, network_width: size of the network's input, in pixels.
    """

    native_height: int
    native_width: int
    scale_row: float
    scale_col: float
    pad_row: int
    pad_col: int
    network_height: int
    network_width: int

    @property
    def inner_shape(self) -> tuple[int, int]:
        """(rows, cols) that the image takes up in the network's input."""
        return round(self.native_height * self.scale_row), round(self.native_width * self.scale_col)

    @property
    def inner(self) -> tuple[slice, slice]:
        """Where the image lies in the network's input."""
        rows, cols = self.inner_shape
        return slice(self.pad_row, self.pad_row + rows), slice(self.pad_col, self.pad_col + cols)


def fit(native_shape: tuple[int, int], network_shape: tuple[int, int]) -> Geometry:
    """The geometry that shows a whole native image as large as possible."""
    height, width = native_shape
    scale = min(network_shape[0] / height, network_shape[1] / width)
    rows, cols = max(1, round(height * scale)), max(1, round(width * scale))
    pad_row, pad_col = (network_shape[0] - rows) // 2, (network_shape[1] - cols) // 2
    return Geometry(height, width, rows / height, cols / width, pad_row, pad_col, *network_shape)


def image_to_network(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Scales and pads an image: (H, W) or (H, W, C) of any type -> the same in network size."""
    rows, cols = geometry.inner_shape
    shrinks = geometry.scale_row < 1
    inner = cv2.resize(image, (cols, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    padded = np.zeros((geometry.network_height, geometry.network_width, *image.shape[2:]), image.dtype)
    padded[geometry.inner] = inner.reshape(rows, cols, *image.shape[2:])  # OpenCV drops a single channel's axis
    return padded


def mask_to_network(mask: np.ndarray, geometry: Geometry, class_count: int) -> np.ndarray:
    """Scales and pads a mask: each network pixel gets the class that covers most of it.

    Nearest-neighbour scaling would lose thin structures and shift edges by up to half a native pixel.

    Args:
        mask: (H, W) uint8 class indices.
        geometry: of this image.
        class_count: number of classes, background included.

    Returns:
        (network_height, network_width) uint8.
    """
    shares = [image_to_network((mask == index).astype(np.float32), geometry) for index in range(class_count)]
    shares[0][_outside(geometry)] = 1
    return np.argmax(np.stack(shares), axis=0).astype(np.uint8)


def _outside(geometry: Geometry) -> np.ndarray:
    outside = np.ones((geometry.network_height, geometry.network_width), bool)
    outside[geometry.inner] = False
    return outside


def to_native(values: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Maps probabilities back by linear interpolation: (C, h, w) float32 -> (C, H, W) float32."""
    size = (geometry.native_width, geometry.native_height)
    inner = np.ascontiguousarray(values[(slice(None), *geometry.inner)], dtype=np.float32)
    return np.stack([cv2.resize(channel, size, interpolation=cv2.INTER_LINEAR) for channel in inner])


def points_to_network(points: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Maps native points (..., 2) of (row, col) to network pixels."""
    scale = np.array([geometry.scale_row, geometry.scale_col])
    return (np.asarray(points, float) + 0.5) * scale - 0.5 + np.array([geometry.pad_row, geometry.pad_col])


def points_to_native(points: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Maps network points (..., 2) of (row, col) to native pixels; undoes `points_to_network`."""
    scale = np.array([geometry.scale_row, geometry.scale_col])
    return (np.asarray(points, float) - np.array([geometry.pad_row, geometry.pad_col]) + 0.5) / scale - 0.5
