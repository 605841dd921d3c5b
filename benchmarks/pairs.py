"""Pairs of near-duplicates in blocks of rows, relative to all correlations at once: CPU time and peak memory."""

import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from lib.verification import image_hash

ROUNDS, IMAGES, CORRELATION = 3, 4096, 0.9

Pairs = list[tuple[int, int, float]]


def rows() -> list[dict[str, object]]:
    """Both variants alternately, after a check that they find the same pairs."""
    draw = np.random.default_rng(0)
    thumbnails = draw.normal(size=(IMAGES, image_hash.SIDE**2)).astype(np.float32)
    thumbnails[-IMAGES // 16 :] = thumbnails[: IMAGES // 16] + 0.3 * thumbnails[-IMAGES // 16 :]
    thumbnails /= np.linalg.norm(thumbnails, axis=1, keepdims=True)
    found = [[pair[:2] for pair in variant(thumbnails)] for variant in (_at_once, _in_blocks)]
    if found[0] != found[1]:
        raise ValueError(f"{len(found[0])} pairs at once and {len(found[1])} in blocks; expected the same")
    seconds = np.array([[_seconds(variant, thumbnails) for variant in (_at_once, _in_blocks)] for _ in range(ROUNDS)])
    ratios = seconds[:, 0] / seconds[:, 1]
    peaks = [_peak_mb(variant, thumbnails) for variant in (_at_once, _in_blocks)]
    bare, ours = (f"{each:.2f} s, {peak:.0f} MB" for each, peak in zip(np.median(seconds, axis=0), peaks))
    return [
        {
            "what": f"time of all correlations of {IMAGES} thumbnails at once / in blocks, CPU time and peak memory",
            "bare": bare,
            "ours": ours,
            "ratio": float(np.median(ratios)),
            "spread": f"{ratios.min():.2f} to {ratios.max():.2f}",
            "goal": ">= 1",
        }
    ]


def _in_blocks(thumbnails: np.ndarray) -> Pairs:
    return list(image_hash.similar_pairs(thumbnails, CORRELATION))


def _at_once(thumbnails: np.ndarray) -> Pairs:
    correlations = np.triu(thumbnails @ thumbnails.T, k=1)
    return [(int(i), int(j), float(correlations[i, j])) for i, j in np.argwhere(correlations >= CORRELATION)]


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
