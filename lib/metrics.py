"""Agreement of a predicted mask with its reference: functions on arrays."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Overlap:
    """Pixel counts of one class in one case; Dice and IoU are NaN where the class is absent from both masks."""

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
    """Confusion matrix in pixels: (class_count, class_count) int64, reference in rows, predicted in columns.

    ValueError if the masks (uint8, background 0) differ in shape or a class index is not below class_count.
    """
    if reference.shape != predicted.shape:
        raise ValueError(f"reference has shape {reference.shape}, predicted {predicted.shape}; expected equal shapes")
    largest = max(int(reference.max(initial=0)), int(predicted.max(initial=0)))
    if largest >= class_count:
        raise ValueError(f"class index {largest}; expected 0 to {class_count - 1}")
    code = reference.ravel() * np.uint16(class_count) + predicted.ravel()
    return np.bincount(code, minlength=class_count**2).reshape(class_count, class_count)


def overlap_of(counts: np.ndarray, class_index: int) -> Overlap:
    """Overlap of one class, from a confusion matrix."""
    tp = int(counts[class_index, class_index])
    fp = int(counts[:, class_index].sum()) - tp
    fn = int(counts[class_index].sum()) - tp
    return Overlap(tp, fp, fn, int(counts.sum()) - tp - fp - fn)


def overlap(reference: np.ndarray, predicted: np.ndarray, class_index: int) -> Overlap:
    """Overlap of one class in two masks; ValueError if their shapes differ."""
    return overlap_of(confusion(reference == class_index, predicted == class_index, 2), 1)
