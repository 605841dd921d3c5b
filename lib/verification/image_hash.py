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
ROWS, COLUMNS = 256, 8192  # compared at once: (ROWS, COLUMNS) correlations are in memory, not (N, N)
SAMPLE, COMPONENTS = 512, 128  # rows that give the main directions of all thumbnails, and their number
ROUNDING = 1e-5  # no less than the rounding errors of a bound
DENSE = 100  # one pair in as many: from there, all products of a block are faster than those of the pairs alone


def pixel_hash(image: np.ndarray) -> str:
    """SHA-256 of an image's shape and pixels, in hex, independent of the lossless file format."""
    return sha256(str(image.shape).encode() + np.ascontiguousarray(image).data).hexdigest()


Rows = Sequence[np.ndarray]  # of one length; all of them are never copied into one array, which would double the memory


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


def similar_pairs(thumbnails: Rows, correlation: float) -> Iterator[tuple[int, int, float]]:
    """Pairs (i < j) of N thumbnails (SIDE^2,) with at least this correlation, and their correlation.

    An upper bound is computed first, in a thirtieth of the time, and the correlation only where the bound allows it. No
    pair is lost: with P an orthonormal projection and r what it leaves, a.b = Pa.Pb + ra.rb <= Pa.Pb + |ra| |rb|.
    """
    small = with_rest(thumbnails)
    for first in range(0, len(thumbnails), ROWS):
        found = []
        for start in range(first, len(thumbnails), COLUMNS):
            bounds = small[first : first + ROWS] @ small[start : start + COLUMNS].T
            possible = np.triu(bounds >= correlation - ROUNDING, k=first - start + 1)
            i, j = np.nonzero(possible)
            values = dot_products(thumbnails[first : first + ROWS], thumbnails[start : start + COLUMNS], i, j)
            kept = values >= correlation
            found += zip((first + i[kept]).tolist(), (start + j[kept]).tolist(), values[kept].tolist())
        yield from sorted(found)


def with_rest(rows: Rows) -> np.ndarray:
    """N rows (D,) float32 in the main directions of SAMPLE of them, and the norm of the rest: (N, COMPONENTS + 1)."""
    sample = _chosen(rows, np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)).astype(float)
    values, vectors = np.linalg.eigh(sample @ sample.T)
    main = np.flatnonzero(values > 1e-6 * max(values.max(initial=0), 1))[-COMPONENTS:]
    directions = ((vectors[:, main] / np.sqrt(values[main])).T @ sample).astype(np.float32)  # orthonormal rows
    small = np.empty((len(rows), len(main) + 1), np.float32)
    for first in range(0, len(rows), ROWS):
        block = np.stack(rows[first : first + ROWS])
        projected = block @ directions.T
        rest = np.einsum("nd,nd->n", block, block) - np.einsum("nk,nk->n", projected, projected)
        small[first : first + ROWS] = np.column_stack([projected, np.sqrt(np.maximum(rest, 0) + ROUNDING)])
    return small


def dot_products(one: Rows, other: Rows, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Products of rows i of one and rows j of the other, by whichever way is faster: -> (len(i),)."""
    if len(i) > len(one) * len(other) // DENSE:
        return (np.stack(one) @ np.stack(other).T)[i, j]
    starts = range(0, len(i), ROWS)
    parts = [np.einsum("nd,nd->n", _chosen(one, i[k : k + ROWS]), _chosen(other, j[k : k + ROWS])) for k in starts]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _chosen(rows: Rows, indices: np.ndarray) -> np.ndarray:
    return np.stack([rows[index] for index in indices])
