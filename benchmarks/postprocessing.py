"""Post-processing and shape properties of one large four-class case, on one core."""

import time

import cv2
import numpy as np

from lib.evaluation import postprocessing
from lib.imaging import ellipse, shapes
from lib.study import files, params

ROUNDS, REPEATS = 5, 10
SHAPE, SPACING_MM = (540, 800), (0.15, 0.15)
ELLIPSES = {1: ((270, 400), 640, 470, 10), 2: ((265, 540), 90, 40, 5), 3: ((360, 330), 120, 50, 20)}
SPECKS = 20


def rows() -> list[dict[str, object]]:
    """Milliseconds of all steps of params/brain_structures.yaml plus the shape properties of three structures."""
    study = params.read_study(files.study_file("brain_structures"))
    # The study does not use confident_parts, so its file does not set these keys.
    keys = params.values_of(study) | {"minimum_probability": 0.5, "minimum_margin": 0.0}
    steps = postprocessing.describe(["confident_parts", *study.postprocessing], keys)
    mask, probability = _case()
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        milliseconds = [_milliseconds(mask, probability, steps) for _ in range(ROUNDS)]
    finally:
        cv2.setNumThreads(before)
    return [
        {
            "what": "post-processing (7 steps) and shapes of a 540x800 four-class case, one core",
            "bare": "",
            "ours": f"{np.median(milliseconds):.1f} ms",
            "ratio": float("nan"),
            "spread": f"{min(milliseconds):.1f} to {max(milliseconds):.1f} ms",
            "goal": "< 15 ms",
        }
    ]


def _case() -> tuple[np.ndarray, np.ndarray]:
    """Mask and probabilities of a head with CSP and ventricle, with specks of every class in and around it."""
    mask = np.zeros(SHAPE, np.uint8)
    for index, (centre, major, minor, angle_deg) in ELLIPSES.items():
        mask[ellipse.fill_ellipse(ellipse.Ellipse(centre, major, minor, angle_deg), SHAPE)] = index
    draw = np.random.default_rng(0)
    for row, col, index in zip(
        draw.integers(0, 534, SPECKS), draw.integers(0, 794, SPECKS), draw.integers(0, 4, SPECKS)
    ):
        mask[row : row + 6, col : col + 6] = index
    one_hot = np.stack([mask == index for index in range(4)]).astype(np.float32)
    return mask, 0.8 * one_hot + 0.05


def _milliseconds(mask: np.ndarray, probability: np.ndarray, steps: list[dict[str, object]]) -> float:
    started = time.perf_counter()
    for _ in range(REPEATS):
        post = postprocessing.apply(mask, probability, SPACING_MM[0] * SPACING_MM[1], steps)
        for index in ELLIPSES:
            shapes.describe(post == index, SPACING_MM)
    return (time.perf_counter() - started) / REPEATS * 1e3
