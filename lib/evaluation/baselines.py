"""Trivial baselines on the test cases, which a network must beat."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pandas as pd

from lib import metrics, statistics
from lib.data import cases
from lib.data.arrays import Arrays
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import samples
from lib.imaging import connected_parts, geometry
from lib.imaging.ellipse import edge_points, fill_ellipse, fit_ellipse
from lib.study import parallel

AVERAGE, OTSU = "average of the training references", "Otsu's threshold, holes filled, ellipse"
BRIGHT = "what is bright, largest part"
BRIGHT_LEVELS = np.arange(0.5, 4.1, 0.25)  # standard deviations above the mean of a volume's channel
LEVELS = np.arange(0.05, 1.0, 0.05)  # fractions of the maximum of the average reference

Predict = Callable[[dict[str, Any]], np.ndarray]  # manifest row -> bool region at native size
Fit = Callable[[EvaluationSet, list[str], int], Predict]  # evaluation set, training cases, class index


def baselines(test_set: EvaluationSet, folds: list[int]) -> pd.DataFrame:
    """Mean Dice of two trivial methods on the test cases of `folds` in which a class is present.

    For every class, the average training reference, thresholded to fit these references best; it ignores the image.
    For the first class, a threshold on intensity: Otsu's with a fitted ellipse, or in volumes the largest component
    above the level that fits the training volumes best. Columns: method, class, n, dice with its interval.
    """
    bright = (BRIGHT, _bright_part) if test_set.dataset.volumes else (OTSU, _otsu)
    averages = [_row_of(test_set, folds, index, AVERAGE, _average) for index in range(1, len(test_set.dataset.classes))]
    return pd.DataFrame([*averages, _row_of(test_set, folds, 1, *bright)])


def _row_of(test_set: EvaluationSet, folds: list[int], index: int, method: str, fit: Fit) -> dict[str, Any]:
    dice = pd.concat([_dice_of(test_set, fold, index, fit) for fold in folds])
    estimate = statistics.mean_interval(dice["dice"].to_numpy(float), dice["subject"].to_numpy())
    row = {"method": method, "class": test_set.dataset.classes[index], "n": estimate.count}
    return row | estimate.columns("dice")


def _dice_of(test_set: EvaluationSet, fold: int, index: int, fit: Fit) -> pd.DataFrame:
    """Subject and Dice of the test cases of a fold; NaN where the class is absent from the reference."""
    parts = test_set.parts(fold)
    predict, rows = fit(test_set, parts["train"], index), test_set.rows(parts["test"])

    def measure(row: dict[str, Any]) -> float:
        reference = samples.read_mask(test_set.dataset, row) == index
        return metrics.overlap(reference, predict(row), 1).dice if reference.any() else float("nan")

    return pd.DataFrame({"subject": [row["subject"] for row in rows], "dice": parallel.in_parallel(measure, rows)})


def _average(test_set: EvaluationSet, training: list[str], index: int) -> Predict:
    masks, rows = test_set.arrays.masks, test_set.arrays.rows(training)
    average = np.zeros(masks.shape[1:], np.float32)
    for row in rows:
        average += (masks[row] == index) / np.float32(len(rows))
    level = best_level(average, masks, rows, index)

    def predict(row: dict[str, Any]) -> np.ndarray:
        native = geometry.to_native(average[None], test_set.arrays.geometry_of(row["case"]))[0]
        region = (native >= level) & (native > 0)
        return np.broadcast_to(region, (row["slices"], *region.shape)) if test_set.dataset.volumes else region

    return predict


def best_level(average: np.ndarray, masks: np.ndarray, rows: np.ndarray, index: int) -> float:
    """Threshold of an average mask (H, W) with the best mean Dice against masks[rows] == index; 1 if all are empty.

    Masks are read one at a time: as float32, those of 3,000 images of 512x512 would need 3 GB.
    """
    levels = LEVELS * float(average.max())
    reached = np.searchsorted(levels, average, side="right")  # number of levels that each pixel reaches

    def pixels_at(region: np.ndarray) -> np.ndarray:
        """Number of pixels of a region that reach each level: (levels,) float32."""
        counts = np.bincount(reached[region], minlength=len(levels) + 1)
        return counts[:0:-1].cumsum()[::-1].astype(np.float32)

    references = (masks[row] == index for row in rows)
    counted = [(np.float32(each.sum()), pixels_at(each)) for each in references if each.any()]
    if not counted:
        return 1.0
    sizes, intersections = map(np.array, zip(*counted))  # (references,), (references, levels) pixels, float32
    dice = 2 * intersections / (sizes[:, None] + pixels_at(np.ones(average.shape, bool)))
    return float(levels[np.argmax(dice.mean(axis=0))])


def _otsu(test_set: EvaluationSet, *_: Any) -> Predict:
    return lambda row: otsu_ellipse(test_set.dataset.read_image(cases.unchanged(row)[0]))


def _bright_part(test_set: EvaluationSet, training: list[str], _: int) -> Predict:
    arrays, channel = test_set.arrays, test_set.dataset.display_channel
    level = bright_level(arrays, channel, training)

    def predict(row: dict[str, Any]) -> np.ndarray:
        rows, mapping = arrays.rows([row["case"]]), arrays.geometry_of(row["case"])
        image = arrays.images[rows, channel : channel + 1]
        native = geometry.slices_to_native(image, mapping, arrays.slices[rows], row["slices"])[0]
        return connected_parts.largest_component(native >= level)

    return predict


def bright_level(arrays: Arrays, channel: int, names: list[str]) -> float:
    """Threshold of a channel with the best mean Dice for the first class, over the volumes in which it is present."""
    dice = []
    for name in names:
        rows = arrays.rows([name])
        image, mask = arrays.images[rows, channel], arrays.masks[rows] == 1
        if mask.any():
            dice.append([metrics.overlap(mask, image >= level, 1).dice for level in BRIGHT_LEVELS])
    return float(BRIGHT_LEVELS[np.argmax(np.mean(dice, axis=0))]) if dice else float(BRIGHT_LEVELS[-1])


def otsu_ellipse(image: np.ndarray) -> np.ndarray:
    """Ellipse fitted to the largest part above Otsu's threshold, holes filled: (H, W) bool; all False if none fits."""
    _, bright = cv2.threshold(cv2.GaussianBlur(image, (0, 0), 2), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    region = connected_parts.largest_component(connected_parts.fill_holes(bright > 0))
    try:
        ellipse = fit_ellipse(edge_points(region))
    except ValueError:
        return np.zeros(image.shape, bool)
    return fill_ellipse(ellipse, image.shape)
