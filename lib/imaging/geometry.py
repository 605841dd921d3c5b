"""Native and network pixels of one image, mapped exactly both ways.

Pixel centres are integers: the pixel (0, 0) covers -0.5 to 0.5. The native image, or a crop of it, is scaled to fit
the network's size with its aspect kept, and padded evenly.
"""

from dataclasses import dataclass

import cv2
import numpy as np

GEOMETRY_COLUMNS = [
    "native_height",
    "native_width",
    "crop_row",
    "crop_col",
    "crop_height",
    "crop_width",
    "scale_row",
    "scale_col",
    "pad_row",
    "pad_col",
    "network_height",
    "network_width",
]
TIE = 1e-5  # shares of a pixel that differ by less are equal; float32 sums of up to 10,000 native pixels differ by less
SPREAD = (0.7548776662466927, 0.5698402909980532)  # 1/p and 1/p^2 of the plastic number p = 1.3247…


@dataclass(frozen=True)
class Geometry:
    """How one native image lies in the network's input.

    Attributes:
        native_height, native_width: size as published, in pixels.
        crop_row, crop_col, crop_height, crop_width: what of it the network sees, in native pixels.
        scale_row, scale_col: network pixels a native pixel; they differ by rounding to whole pixels only.
        pad_row, pad_col: pixels above and left of the image, without content.
        network_height, network_width: size of the network's input, in pixels.
    """

    native_height: int
    native_width: int
    crop_row: int
    crop_col: int
    crop_height: int
    crop_width: int
    scale_row: float
    scale_col: float
    pad_row: int
    pad_col: int
    network_height: int
    network_width: int

    @property
    def inner_shape(self) -> tuple[int, int]:
        """(rows, cols) that the image takes up in the network's input."""
        return round(self.crop_height * self.scale_row), round(self.crop_width * self.scale_col)

    @property
    def inner(self) -> tuple[slice, slice]:
        """Where the image lies in the network's input."""
        rows, cols = self.inner_shape
        return slice(self.pad_row, self.pad_row + rows), slice(self.pad_col, self.pad_col + cols)

    @property
    def crop(self) -> tuple[slice, slice]:
        """What of the native image the network sees."""
        return (
            slice(self.crop_row, self.crop_row + self.crop_height),
            slice(self.crop_col, self.crop_col + self.crop_width),
        )


def fit(
    native_shape: tuple[int, int], network_shape: tuple[int, int], crop: tuple[int, int, int, int] | None = None
) -> Geometry:
    """The geometry that shows a native image as large as possible.

    Args:
        native_shape, network_shape: (rows, cols).
        crop: (row, col, height, width) of the part to be shown; None for all of it.
    """
    top, left, height, width = crop or (0, 0, *native_shape)
    scale = min(network_shape[0] / height, network_shape[1] / width)
    rows, cols = max(1, round(height * scale)), max(1, round(width * scale))
    pad_row, pad_col = (network_shape[0] - rows) // 2, (network_shape[1] - cols) // 2
    cropped = (top, left, height, width)
    return Geometry(*native_shape, *cropped, rows / height, cols / width, pad_row, pad_col, *network_shape)


def image_to_network(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Scales and pads an image: (H, W) or (H, W, C) of any type -> the same in network size."""
    rows, cols = geometry.inner_shape
    how = cv2.INTER_AREA if geometry.scale_row < 1 else cv2.INTER_LINEAR
    inner = cv2.resize(image[geometry.crop], (cols, rows), interpolation=how)
    padded = np.zeros((geometry.network_height, geometry.network_width, *image.shape[2:]), image.dtype)
    padded[geometry.inner] = inner.reshape(rows, cols, *image.shape[2:])  # OpenCV drops a single channel's axis
    return padded


def mask_to_network(mask: np.ndarray, geometry: Geometry, class_count: int) -> np.ndarray:
    """Scales and pads a mask: each network pixel gets the class that covers most of it.

    Nearest-neighbour scaling would lose thin structures and shift edges by up to half a native pixel. Where classes
    cover equal parts, as along every other edge at half the size, they take turns (`_turns`): one that always won
    would grow by half a native pixel (measured: BPD and OFD of the other -0.50 px).

    Args:
        mask: (H, W) uint8 class indices.
        geometry: of this image.
        class_count: number of classes, background included.

    Returns:
        (network_height, network_width) uint8.
    """
    shares = np.stack([image_to_network((mask == index).astype(np.float32), geometry) for index in range(class_count)])
    shares[0][_outside(geometry)] = 1
    most = np.argmax(shares, axis=0).astype(np.uint8)
    leading = shares >= shares.max(axis=0) - TIE  # (C, h, w)
    rows, cols = np.nonzero(leading.sum(axis=0) > 1)
    if len(rows):
        tied = leading[:, rows, cols]  # (C, N)
        turn = np.floor(_turns(rows, cols) * tied.sum(axis=0)) + 1  # the first, second … of those that lead
        most[rows, cols] = np.argmax(np.cumsum(tied, axis=0) == turn, axis=0)
    return most


def _turns(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """A number from 0 to 1 for each pixel, evenly spread along edges of every direction, and the same every time.

    A chequerboard would be constant along diagonals. Source: the R2 sequence (Roberts 2018), here as a pattern.
    """
    return (rows * SPREAD[0] + cols * SPREAD[1]) % 1.0


def _outside(geometry: Geometry) -> np.ndarray:
    outside = np.ones((geometry.network_height, geometry.network_width), bool)
    outside[geometry.inner] = False
    return outside


def to_native(values: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Maps probabilities back by linear interpolation, 0 outside the crop: (C, h, w) float32 -> (C, H, W) float32."""
    size = (geometry.crop_width, geometry.crop_height)
    inner = np.ascontiguousarray(values[(slice(None), *geometry.inner)], dtype=np.float32)
    native = np.zeros((len(values), geometry.native_height, geometry.native_width), np.float32)
    for channel, scaled in zip(inner, native):
        scaled[geometry.crop] = cv2.resize(channel, size, interpolation=cv2.INTER_LINEAR)
    return native


def slices_to_native(values: np.ndarray, geometry: Geometry, slices: np.ndarray, depth: int) -> np.ndarray:
    """Maps the slices that a network has seen back into a volume, 0 in the others.

    Args:
        values: (N, C, h, w) float32.
        geometry: of the volume.
        slices: (N,) which native slice each is.
        depth: number of native slices.

    Returns:
        (C, depth, H, W) float32.
    """
    volume = np.zeros((values.shape[1], depth, geometry.native_height, geometry.native_width), np.float32)
    for each, place in zip(values, slices):
        volume[:, place] = to_native(each, geometry)
    return volume


def points_to_network(points: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Maps native points (..., 2) of (row, col) to network pixels."""
    inside = np.asarray(points, float) - np.array([geometry.crop_row, geometry.crop_col])
    return (inside + 0.5) * _scale(geometry) - 0.5 + np.array([geometry.pad_row, geometry.pad_col])


def points_to_native(points: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Maps network points (..., 2) of (row, col) to native pixels; undoes `points_to_network`."""
    inside = np.asarray(points, float) - np.array([geometry.pad_row, geometry.pad_col]) + 0.5
    return inside / _scale(geometry) - 0.5 + np.array([geometry.crop_row, geometry.crop_col])


def _scale(geometry: Geometry) -> np.ndarray:
    return np.array([geometry.scale_row, geometry.scale_col])
