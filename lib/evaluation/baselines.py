"""What methods that learn nothing from images reach on the same cases: the rows that a network must beat."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pandas as pd

from lib import metrics, statistics
from lib.data import cases, splits
from lib.data.arrays import Arrays
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import samples
from lib.imaging import connected_parts, geometry
from lib.imaging.ellipse import edge_points, fill_ellipse, fit_ellipse
from lib.study import parallel

OTSU, BRIGHT = "Otsu's threshold, holes filled, ellipse", "what is bright, largest part"
BRIGHT_LEVELS = np.arange(0.5, 4.1, 0.25)  # standard deviations above the mean of a volume's channel
LEVELS = np.arange(0.05, 1.0, 0.05)  # of the average reference, for the guess that looks at no image


def baselines(test_set: EvaluationSet, classes: list[str], folds: list[int]) -> pd.DataFrame:
    """What methods that learn nothing from images reach on the test cases that show a class.

    Two: the average of the training references above the level that fits these best, a guess that looks at no image;
    and for the first class what is bright: Otsu's threshold with an ellipse, in volumes the largest part above the
    level that fits the training volumes best.

    Args:
        test_set: cases, their references, and their arrays, of which both learn what little they learn.
        classes: names, background first.
        folds: that are tested.

    Returns:
        method, class, n, dice with its interval.
    """
    rows = []
    for index, name in enumerate(classes[1:], start=1):
        guessed = [_guess(test_set, fold, index) for fold in folds]
        rows.append(_baseline_row("average of the training references", name, pd.concat(guessed)))
    bright, said = (_brightest, BRIGHT) if test_set.dataset.volumes else (_otsu, OTSU)
    rows.append(_baseline_row(said, classes[1], pd.concat([bright(test_set, fold) for fold in folds])))
    return pd.DataFrame(rows)


def _baseline_row(method: str, class_name: str, dice: pd.DataFrame) -> dict[str, Any]:
    estimate = statistics.bootstrap(dice["dice"].to_numpy(float), dice["subject"].to_numpy())
    found = {"dice": estimate.value, "dice_low": estimate.low, "dice_high": estimate.high}
    return {"method": method, "class": class_name, "n": estimate.count} | found


def _guess(test_set: EvaluationSet, fold: int, index: int) -> pd.DataFrame:
    """Dice of the average training reference on the test cases of a fold that show the class: subject, dice."""
    parts = splits.parts(test_set.folds, fold)
    average = np.zeros(test_set.arrays.masks.shape[1:], np.float32)
    train = test_set.arrays.rows(parts["train"])
    for row in train:
        average += (test_set.arrays.masks[row] == index) / np.float32(len(train))
    level = best_level(average, test_set.arrays.masks, train, index)

    def guess(row: pd.Series) -> np.ndarray:
        back = geometry.to_native(average[None], test_set.arrays.geometry_of(row["case"]))[0]
        region = (back >= level) & (back > 0)
        return np.broadcast_to(region, (row["slices"], *region.shape)) if test_set.dataset.volumes else region

    return _dice_of(test_set, parts["test"], index, guess)


def best_level(average: np.ndarray, masks: np.ndarray, rows: np.ndarray, index: int) -> float:
    """The level of an average reference whose region has the best mean Dice with the references themselves.

    Args:
        average: (H, W) share of references that show the class.
        masks: (N, H, W) class indices.
        rows: of the references.
        index: of the class.
    """
    shown = np.stack([masks[row] == index for row in rows]).reshape(len(rows), -1)
    shown = shown[shown.any(axis=1)].astype(np.float32)
    if not len(shown):
        return 1.0
    levels = LEVELS * float(average.max())
    regions = np.stack([(average >= level).ravel() for level in levels]).astype(np.float32)
    both = shown @ regions.T  # (references, levels) pixels
    dice = 2 * both / (shown.sum(axis=1)[:, None] + regions.sum(axis=1)[None])
    return float(levels[np.argmax(dice.mean(axis=0))])


def _otsu(test_set: EvaluationSet, fold: int) -> pd.DataFrame:
    """Dice of Otsu's ellipse on the test cases of a fold that show the first class: subject, dice."""
    names = splits.parts(test_set.folds, fold)["test"]

    def find(row: pd.Series) -> np.ndarray:
        return otsu_ellipse(test_set.dataset.read_image(cases.unchanged(row)[0]))

    return _dice_of(test_set, names, 1, find)


def _brightest(test_set: EvaluationSet, fold: int) -> pd.DataFrame:
    """Dice of what is bright on the shown channel of the test volumes that show the first class: subject, dice."""
    parts, channel = splits.parts(test_set.folds, fold), test_set.dataset.shown_channel
    level = bright_level(test_set.arrays, channel, parts["train"])

    def find(row: pd.Series) -> np.ndarray:
        rows, mapping = test_set.arrays.rows([row["case"]]), test_set.arrays.geometry_of(row["case"])
        seen = test_set.arrays.images[rows, channel : channel + 1]
        native = geometry.slices_to_native(seen, mapping, test_set.arrays.slices[rows], int(row["slices"]))[0]
        return connected_parts.largest_component(native >= level)

    return _dice_of(test_set, parts["test"], 1, find)


def bright_level(arrays: Arrays, channel: int, names: list[str]) -> float:
    """The level of the shown channel above which training volumes have the best mean Dice with their references.

    Volumes that do not show the first class do not count, as in `best_level`.
    """
    dice = []
    for name in names:
        rows = arrays.rows([name])
        image, mask = arrays.images[rows, channel], arrays.masks[rows] == 1
        if mask.any():
            dice.append([metrics.overlap(mask, image >= level, 1).dice for level in BRIGHT_LEVELS])
    return float(BRIGHT_LEVELS[np.argmax(np.mean(dice, axis=0))]) if dice else float(BRIGHT_LEVELS[-1])


def _dice_of(
    test_set: EvaluationSet, names: list[str], index: int, predict: Callable[[pd.Series], np.ndarray]
) -> pd.DataFrame:
    rows = test_set.cases.set_index("case").loc[names].reset_index()

    def measure(place: int) -> float:
        row = rows.iloc[place]
        reference = samples.read_mask(test_set.dataset, row) == index
        return metrics.overlap(reference, predict(row), 1).dice if reference.any() else float("nan")

    return pd.DataFrame({"subject": rows["subject"], "dice": parallel.in_parallel(measure, range(len(rows)))})


def otsu_ellipse(image: np.ndarray) -> np.ndarray:
    """The head without learning: Otsu's threshold, holes filled, largest part, its ellipse: (H, W) bool.

    All False where no ellipse can be fitted. It shows what the images give away for nothing.
    """
    _, bright = cv2.threshold(cv2.GaussianBlur(image, (0, 0), 2), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    region = connected_parts.largest_component(connected_parts.fill_holes(bright > 0))
    try:
        ellipse = fit_ellipse(edge_points(region))
    except ValueError:
        return np.zeros(image.shape, bool)
    return fill_ellipse(ellipse, image.shape)
