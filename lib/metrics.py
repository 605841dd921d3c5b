"""How well a predicted mask agrees with its reference: pure functions on arrays."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Overlap:
    """Pixel counts of one class in one case, and what follows from them.

    Where a class is in neither mask, Dice and IoU are undefined (NaN): a true absence, to be counted, not averaged.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else float("nan")

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN)."""
        total = self.tp + self.fp + self.fn
        return self.tp / total if total else float("nan")


def confusion(reference: np.ndarray, predicted: np.ndarray, class_count: int) -> np.ndarray:
    """Pixels by reference class (rows) and predicted class (columns): (class_count, class_count) int64.

    Masks are uint8 class indices of one shape, each below class_count (background included), else a ValueError.
    """
    if reference.shape != predicted.shape:
        raise ValueError(f"reference of shape {reference.shape}, predicted of {predicted.shape}; expected the same")
    largest = max(int(reference.max(initial=0)), int(predicted.max(initial=0)))
    if largest >= class_count:
        raise ValueError(f"class index {largest}; expected 0 to {class_count - 1}")
    code = reference.ravel() * np.uint16(class_count) + predicted.ravel()
    return np.bincount(code, minlength=class_count**2).reshape(class_count, class_count)


def overlap_of(counts: np.ndarray, class_index: int) -> Overlap:
    """One class's overlap out of a confusion matrix."""
    tp = int(counts[class_index, class_index])
    fp = int(counts[:, class_index].sum()) - tp
    fn = int(counts[class_index].sum()) - tp
    return Overlap(tp, fp, fn, int(counts.sum()) - tp - fp - fn)


def overlap(reference: np.ndarray, predicted: np.ndarray, class_index: int) -> Overlap:
    """One class's overlap in a pair of masks of one shape; ValueError if their shapes differ."""
    return overlap_of(confusion(reference == class_index, predicted == class_index, 2), 1)
