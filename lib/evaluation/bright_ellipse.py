"""Heads without learning: an ellipse through the brightest pixels, mostly skull, grown to its outer border."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from lib import metrics
from lib.data.arrays import Arrays
from lib.imaging import geometry
from lib.imaging.ellipse import Ellipse, fill_ellipse, fit_ellipse, outline
from lib.imaging.geometry import Geometry
from lib.imaging.robust_ellipse import fit_robust
from lib.study import parallel

SHARES = (0.01, 0.015, 0.02, 0.03)  # of the pixels that count as bright
GROWTHS = (1.0, 1.02, 1.04, 1.06, 1.08)  # factors on both axes: bright pixels are in the middle of the skull
TRAINING_CASES = 100  # at most, evenly spaced: two constants need no more
TOLERANCE, SHORTEST = 0.015, 0.25  # of the height of the image: of a bright pixel from the ellipse; of a BPD
LONGEST = 1.7  # times the BPD; heads of HC18 lie between 1.04 and 1.52


@dataclass(frozen=True)
class Constants:
    """The two constants that the training cases of a fold choose."""

    share: float  # one of SHARES
    growth: float  # one of GROWTHS


def find_head(image: np.ndarray, share: float) -> Ellipse | None:
    """Ellipse through the brightest share of the pixels of an image (H, W), not grown; None if none is plausible."""
    bright = np.argwhere(image >= max(np.quantile(image, 1 - share), 1))
    height = len(image)
    try:
        return fit_robust(bright, TOLERANCE * height, SHORTEST * height, LONGEST)
    except ValueError:  # a dark image, or nothing round in it
        return None


def choose(arrays: Arrays, trainings: list[list[str]], head: list[int]) -> list[Constants]:
    """For the training cases of each fold, the constants with the best mean Dice on them at network size.

    `head` are the indices of its classes. Cases without a head do not count, and one in which no ellipse is found has a
    Dice of 0. A case in which several folds train is measured once.
    """
    rows = [arrays.rows(training[:: -(-len(training) // TRAINING_CASES)]).tolist() for training in trainings]
    every = sorted(set().union(*rows))
    dice = dict(zip(every, parallel.in_parallel(lambda row: _dice_by_constants(arrays, row, head), every)))
    return [_best_constants([dice[row] for row in of_fold]) for of_fold in rows]


def _best_constants(dice: list[np.ndarray]) -> Constants:
    means = np.nanmean([np.zeros(len(SHARES) * len(GROWTHS)), *dice], axis=0)
    return Constants(*list(product(SHARES, GROWTHS))[int(np.argmax(means))])


def _dice_by_constants(arrays: Arrays, row: int, head: list[int]) -> np.ndarray:
    """Dice of one case for each pair of SHARES and GROWTHS, (pairs,); NaN if the reference has no head."""
    inner = arrays.geometries[row].inner
    image, reference = arrays.images[row, 0][inner], np.isin(arrays.masks[row][inner], head)
    found = [find_head(image, share) for share in SHARES] if reference.any() else [None] * len(SHARES)
    filled = (grown(ellipse, growth, reference.shape) for ellipse, growth in product(found, GROWTHS))
    return np.array([metrics.overlap(reference, region, 1).dice for region in filled])


def grown(ellipse: Ellipse | None, growth: float, shape: tuple[int, int]) -> np.ndarray:
    """Pixels inside an ellipse whose axes are multiplied by `growth`: (H, W) bool; all False without an ellipse."""
    if ellipse is None:
        return np.zeros(shape, bool)
    return fill_ellipse(replace(ellipse, major=ellipse.major * growth, minor=ellipse.minor * growth), shape)


def native_head(image: np.ndarray, mapping: Geometry, constants: Constants) -> Ellipse | None:
    """The grown ellipse in native pixels, from an image (h, w) at network size; None if none is plausible."""
    ellipse = find_head(image[mapping.inner], constants.share)
    if ellipse is None:
        return None
    points = np.add(outline(ellipse), (mapping.pad_row, mapping.pad_col))
    native = fit_ellipse(geometry.points_to_native(points, mapping))
    return replace(native, major=native.major * constants.growth, minor=native.minor * constants.growth)
