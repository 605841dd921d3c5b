"""Hashes and thumbnails that reveal equal images and near-duplicates, also after a change of size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations

import cv2
import numpy as np

SIDE = 64  # pixels of a thumbnail
BLUR = 3.0  # standard deviation in thumbnail pixels; coarser structure is that of the sector, not of the anatomy
HASH_BITS = 64
ROWS = 256  # compared with all others at once: (ROWS, N) correlations are in memory, not (N, N)


def pixel_hash(image: np.ndarray) -> str:
    """SHA-256 of an image's shape and pixels, in hex, independent of the lossless file format."""
    return sha256(str(image.shape).encode() + np.ascontiguousarray(image).data).hexdigest()


@dataclass(frozen=True)
class ImageHashes:
    """Hashes and thumbnail of an image."""

    pixels: str  # hash of all pixels
    perceptual: int  # 64 bits, robust to changes of size, format and brightness
    thumbnail: np.ndarray  # (SIDE^2,) float32, standardised, so that the dot product of two is their correlation


def describe(image: np.ndarray) -> ImageHashes:
    """Hashes and thumbnail of an image (H, W) uint8."""
    even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
    smaller = image
    if min(even.shape) >= 4 * SIDE:  # exact halving is fast, and reduces the cost of the next step to a quarter
        smaller = cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(smaller, (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_AREA)
    return ImageHashes(pixel_hash(image), perceptual_hash(coarse), thumbnail(coarse))


def thumbnail(coarse: np.ndarray) -> np.ndarray:
    """Fine structure of a small copy: (2 SIDE, 2 SIDE) uint8 -> (SIDE^2,) of norm 1, or 0 for a uniform image.

    High-pass filtered, because all frames of a probe share their sector. Measured correlations: below 0.64 between
    HC18 examinations; in BUSI above 0.29 for pairs of the same scene, some of them cropped, and below 0.29 for others.
    """
    small = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    fine = (small - cv2.GaussianBlur(small, (0, 0), BLUR)).ravel()
    fine -= fine.mean()
    return fine / max(float(np.linalg.norm(fine)), 1e-3)


def perceptual_hash(coarse: np.ndarray) -> int:
    """64-bit "pHash" (Zauner 2010): low frequencies of the cosine transform of a 32x32 copy, against their median."""
    small = cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    bits = low > np.median(low[1:])
    bits[0] = False  # the mean
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Number of differing bits between perceptual hashes: (N,) and (M,) uint64 -> (N, M) uint8."""
    return np.bitwise_count(one[:, None] ^ other[None])


def equal_pairs(hashes: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of indices (i < j) with equal hashes."""
    indices_of: dict[str, list[int]] = {}
    for index, value in enumerate(hashes):
        indices_of.setdefault(value, []).append(index)
    return [pair for indices in indices_of.values() for pair in combinations(indices, 2)]


def similar_pairs(thumbnails: np.ndarray, correlation: float) -> Iterator[tuple[int, int, float]]:
    """Pairs of rows (i < j) of (N, SIDE^2) thumbnails with at least this correlation, and their correlation."""
    for first in range(0, len(thumbnails), ROWS):
        block = thumbnails[first : first + ROWS] @ thumbnails[first:].T  # (ROWS, N - first)
        for i, j in np.argwhere(np.triu(block >= correlation, k=1)).tolist():
            yield first + i, first + j, float(block[i, j])
