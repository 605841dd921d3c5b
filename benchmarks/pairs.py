"""Pairs of near-duplicates by upper bounds, relative to all correlations in the same blocks: CPU time and peak memory.

`python -m benchmarks.pairs` prints how both grow up to 100,000 images (ten minutes, 3 GB).
"""

import time
import tracemalloc
from collections.abc import Callable

import cv2
import numpy as np

from benchmarks import table
from lib.datasets.phantoms import heads
from lib.verification import image_hash

ROUNDS, IMAGES, CORRELATION = 3, 4096, 0.9
GROWTH, MOST_BY_ALL = (1_000, 10_000, 30_000, 100_000), 30_000  # images; all correlations of 100,000 take too long
FRAMES, COPIES = 100, 100  # phantom frames of which the images are views; one image in COPIES is another one's copy

Pairs = list[tuple[int, int, float]]


def draw_thumbnails(count: int) -> np.ndarray:
    """Thumbnails (N, SIDE^2) of views of phantom heads: turned, scaled, shifted, with own noise; some twice."""
    draw, side = np.random.default_rng(0), 2 * image_hash.SIDE
    frames = [heads.draw_frame(0, subject, 1, (1.0, 1.0)).image for subject in range(1, FRAMES + 1)]
    small = [cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in frames]
    rows = np.empty((count, image_hash.SIDE**2), np.float32)
    for index in range(count):
        turn = cv2.getRotationMatrix2D((side / 2, side / 2), draw.uniform(-180, 180), draw.uniform(0.8, 1.3))
        turn[:, 2] += draw.uniform(-side / 8, side / 8, 2)
        view = cv2.warpAffine(small[draw.integers(FRAMES)], turn, (side, side)).astype(np.float32)
        speckle = cv2.GaussianBlur(draw.standard_normal((side, side), np.float32), (0, 0), 1.5)
        rows[index] = image_hash.thumbnail(np.clip(view * (1 + speckle), 0, 255).astype(np.uint8))
    copies = np.arange(count // COPIES)
    rows[-1 - copies] = rows[copies] + 0.005 * draw.standard_normal((len(copies), rows.shape[1]), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def rows() -> list[dict[str, object]]:
    """Both variants alternately, after a check that they find the same pairs."""
    thumbnails = draw_thumbnails(IMAGES)
    found = [[pair[:2] for pair in variant(thumbnails)] for variant in (_all, _bounded)]
    if found[0] != found[1] or not found[0]:
        raise ValueError(f"{len(found[0])} pairs by all correlations and {len(found[1])} by bounds; expected the same")
    seconds = np.array([[_seconds(variant, thumbnails) for variant in (_all, _bounded)] for _ in range(ROUNDS)])
    ratios = seconds[:, 0] / seconds[:, 1]
    peaks = [_peak_mb(variant, thumbnails) for variant in (_all, _bounded)]
    bare, ours = (f"{each:.2f} s, {peak:.0f} MB" for each, peak in zip(np.median(seconds, axis=0), peaks))
    return [
        table.row(
            f"time of all correlations of {IMAGES} thumbnails / by upper bounds first: CPU time and peak",
            bare,
            ours,
            ratios,
            ">= 1",
        )
    ]


def _bounded(thumbnails: np.ndarray) -> Pairs:
    return list(image_hash.similar_pairs(thumbnails, CORRELATION))


def _all(thumbnails: np.ndarray) -> Pairs:
    found = []
    for first in range(0, len(thumbnails), image_hash.ROWS):
        block = thumbnails[first : first + image_hash.ROWS] @ thumbnails[first:].T
        pairs = np.argwhere(np.triu(block >= CORRELATION, k=1))
        found += [(first + i, first + j, float(block[i, j])) for i, j in pairs.tolist()]
    return found


def _seconds(variant: Callable[[np.ndarray], Pairs], thumbnails: np.ndarray) -> float:
    started = time.process_time()
    variant(thumbnails)
    return time.process_time() - started


def _peak_mb(variant: Callable[[np.ndarray], Pairs], thumbnails: np.ndarray) -> float:
    tracemalloc.start()
    variant(thumbnails)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def main() -> None:
    """Prints CPU time, peak memory and number of pairs by number of images."""
    largest = draw_thumbnails(GROWTH[-1])
    for count in GROWTH:
        thumbnails = np.concatenate([largest[: count - count // COPIES], largest[len(largest) - count // COPIES :]])
        variants = {"by bounds": _bounded} | ({"all correlations": _all} if count <= MOST_BY_ALL else {})
        measured = [
            f"{name} {_seconds(variant, thumbnails):.1f} s, {_peak_mb(variant, thumbnails):.0f} MB"
            for name, variant in variants.items()
        ]
        print(f"{count:>7} images: {'; '.join(measured)}; {len(_bounded(thumbnails))} pairs", flush=True)


if __name__ == "__main__":
    main()
