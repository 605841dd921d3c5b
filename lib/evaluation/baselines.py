"""Baselines without a network on the test cases, which it must beat."""

from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import pandas as pd

from lib import metrics, statistics
from lib.data import cases
from lib.data.arrays import Arrays
from lib.data.evaluation_set import EvaluationSet
from lib.evaluation import bright_ellipse
from lib.evaluation.biometry import region_of
from lib.imaging import connected_parts, geometry, mask_files
from lib.imaging.ellipse import edge_points, fill_ellipse, fit_ellipse, measure_head
from lib.study import parallel

AVERAGE, OTSU = "average of the training references", "Otsu's threshold, holes filled, ellipse"
BRIGHT = "what is bright, largest part"
RIVAL = "brightest pixels, robust ellipse"
NETWORK, HEAD = "network", "head"  # its own row, and the class of the union of all classes of a head
GAIN = f"{NETWORK} minus {RIVAL}"  # paired by case
BRIGHT_LEVELS = np.arange(0.5, 4.1, 0.25)  # standard deviations above the mean of a volume's channel
LEVELS = np.arange(0.05, 1.0, 0.05)  # fractions of the maximum of the average reference

Predict = Callable[[dict[str, Any]], np.ndarray]  # manifest row -> bool region at native size
# Evaluation set, training cases of each fold, class indices -> prediction for each fold
Fit = Callable[[EvaluationSet, list[list[str]], list[int]], list[Predict]]


def baselines(test_set: EvaluationSet, folds: list[int], seeds: list[int], head_classes: list[str]) -> pd.DataFrame:
    """Mean Dice of methods without a network on the test cases of `folds` in which a class is present.

    For every class, the average training reference, thresholded to fit these references best; it ignores the image.
    For the head, the union of `head_classes`: an ellipse through the brightest pixels (`bright_ellipse`), and the
    network itself for comparison, its seeds averaged, and the mean of its differences from the ellipse, paired by case
    (a negative one of hc_error_mm is in favour of the network). Without a head, a threshold on intensity for the first
    class: Otsu's with a fitted ellipse, or in volumes the largest component above the level that fits the training
    volumes best. Columns: method, class, n, dice with its interval; with a head also hc_error_mm with its interval, the
    mean absolute error of HC over its cases with a pixel size, a head that is not found counting with its whole HC.
    """
    classes = test_set.dataset.classes
    head = [] if test_set.dataset.volumes else [classes.index(name) for name in head_classes]
    rows = [(AVERAGE, name, [index], _average) for index, name in enumerate(classes) if index > 0]
    if test_set.dataset.volumes:
        rows.append((BRIGHT, classes[1], [1], _bright_part))
    elif not head:
        rows.append((OTSU, classes[1], [1], _otsu))
    else:
        rows += [(AVERAGE, HEAD, head, _average)] if len(head) > 1 else []
        rows.append((RIVAL, HEAD, head, _brightest))
    table = []
    for method, name, indices, fit in rows:
        parts = [test_set.parts(fold) for fold in folds]
        predictors = fit(test_set, [each["train"] for each in parts], indices)
        measured = [
            _measured(test_set, each["test"], indices, predict, indices == head)
            for each, predict in zip(parts, predictors)
        ]
        by_case = pd.concat(measured)
        table.append(_row_of(method, name, by_case))
    if head:  # its last method is the rival
        network = _of_network(test_set, folds, seeds, head)
        table += [_row_of(NETWORK, HEAD, network), _row_of(GAIN, HEAD, _paired(network, by_case))]
    return pd.DataFrame(table)


def _paired(network: pd.DataFrame, rival: pd.DataFrame) -> pd.DataFrame:
    """Differences of two results of `_measured`, case by case."""
    values = ["dice", "hc_error_mm"]
    return network.assign(**(network[values] - rival[values].loc[network.index]))


def _row_of(method: str, name: str, measured: pd.DataFrame) -> dict[str, Any]:
    subjects, row = measured["subject"].to_numpy(), {"method": method, "class": name}
    for column in measured.columns.drop("subject"):
        mean = statistics.mean_interval(measured[column].to_numpy(float), subjects)
        row |= ({"n": mean.count} if column == "dice" else {}) | mean.columns(column)
    return row


def _measured(
    test_set: EvaluationSet, names: list[str], indices: list[int], predict: Predict, is_head: bool
) -> pd.DataFrame:
    """Subject and Dice by case, of heads also the error of HC; NaN where no class of `indices` is in the reference."""

    def measure(row: dict[str, Any]) -> dict[str, Any]:
        reference, predicted = region_of(test_set.read_reference(row), indices), predict(row)
        is_known = bool(reference.any())
        dice = metrics.overlap(reference, predicted, 1).dice if is_known else float("nan")
        measured = {"subject": row["subject"], "dice": dice}
        if is_head:
            measured["hc_error_mm"] = head_error_mm(row, reference, predicted) if is_known else float("nan")
        return measured

    rows = test_set.rows(names)
    return pd.DataFrame(parallel.in_parallel(measure, rows), index=[row["case"] for row in rows])


def head_error_mm(row: dict[str, Any], reference: np.ndarray, predicted: np.ndarray) -> float:
    """Absolute error of the HC of a predicted (H, W) head, from the published HC or that of the reference.

    The whole HC if no ellipse can be fitted to the prediction; NaN without a pixel size.
    """
    spacing_mm = cases.spacing_mm(row)
    if spacing_mm is None:
        return float("nan")
    hc_mm = row["hc_mm"] if np.isfinite(row["hc_mm"]) else measure_head(reference, spacing_mm)["hc"]
    try:
        return abs(measure_head(predicted, spacing_mm)["hc"] - hc_mm)
    except ValueError:
        return hc_mm


def _of_network(test_set: EvaluationSet, folds: list[int], seeds: list[int], head: list[int]) -> pd.DataFrame:
    """`_measured` for the predicted heads (post) of all test cases, averaged over seeds."""

    def of_run(fold: int, seed: int) -> pd.DataFrame:
        def predict(row: dict[str, Any]) -> np.ndarray:
            return region_of(mask_files.read(test_set.predicted("post", fold, seed, row["case"])), head)

        return _measured(test_set, test_set.parts(fold)["test"], head, predict, is_head=True)

    of_seeds = [pd.concat([of_run(fold, seed) for fold in folds]) for seed in seeds]
    means = {name: np.mean([each[name] for each in of_seeds], axis=0) for name in ("dice", "hc_error_mm")}
    return of_seeds[0].assign(**means)


def _average(test_set: EvaluationSet, trainings: list[list[str]], indices: list[int]) -> list[Predict]:
    return [_average_of(test_set, training, indices) for training in trainings]


def _average_of(test_set: EvaluationSet, training: list[str], indices: list[int]) -> Predict:
    masks, rows = test_set.arrays.masks, test_set.arrays.rows(training)
    average = np.zeros(masks.shape[1:], np.float32)
    for row in rows:
        average += region_of(masks[row], indices) / np.float32(len(rows))
    level = best_level(average, masks, rows, indices)

    def predict(row: dict[str, Any]) -> np.ndarray:
        native = geometry.to_native(average[None], test_set.arrays.geometry_of(row["case"]))[0]
        region = (native >= level) & (native > 0)
        return np.broadcast_to(region, (row["slices"], *region.shape)) if test_set.dataset.volumes else region

    return predict


def _brightest(test_set: EvaluationSet, trainings: list[list[str]], head: list[int]) -> list[Predict]:
    arrays = test_set.arrays

    def predict(constants: bright_ellipse.Constants, row: dict[str, Any]) -> np.ndarray:
        (index,) = arrays.rows([row["case"]])
        mapping = arrays.geometries[index]
        ellipse = bright_ellipse.native_head(arrays.images[index, 0], mapping, constants)
        return bright_ellipse.grown(ellipse, 1.0, (row["height"], row["width"]))

    return [partial(predict, constants) for constants in bright_ellipse.choose(arrays, trainings, head)]


def best_level(average: np.ndarray, masks: np.ndarray, rows: np.ndarray, indices: list[int]) -> float:
    """Threshold of an average mask (H, W) with the best mean Dice against some classes of masks[rows]; 1 without them.

    Masks are read one at a time: as float32, those of 3,000 images of 512x512 would need 3 GB.
    """
    levels = LEVELS * float(average.max())
    reached = np.searchsorted(levels, average, side="right")  # number of levels that each pixel reaches

    def pixels_at(region: np.ndarray) -> np.ndarray:
        """Number of pixels of a region that reach each level: (levels,) float32."""
        counts = np.bincount(reached[region], minlength=len(levels) + 1)
        return counts[:0:-1].cumsum()[::-1].astype(np.float32)

    references = (region_of(masks[row], indices) for row in rows)
    counted = [(np.float32(each.sum()), pixels_at(each)) for each in references if each.any()]
    if not counted:
        return 1.0
    sizes, intersections = map(np.array, zip(*counted))  # (references,), (references, levels) pixels, float32
    dice = 2 * intersections / (sizes[:, None] + pixels_at(np.ones(average.shape, bool)))
    return float(levels[np.argmax(dice.mean(axis=0))])


def _otsu(test_set: EvaluationSet, trainings: list[list[str]], _: list[int]) -> list[Predict]:
    return [lambda row: otsu_ellipse(test_set.dataset.read_image(cases.unchanged(row)[0]))] * len(trainings)


def _bright_part(test_set: EvaluationSet, trainings: list[list[str]], _: list[int]) -> list[Predict]:
    return [_bright_part_of(test_set, training) for training in trainings]


def _bright_part_of(test_set: EvaluationSet, training: list[str]) -> Predict:
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
