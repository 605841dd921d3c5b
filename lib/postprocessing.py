"""What is done to a predicted mask afterwards: each step takes and gives (H, W) uint8 class indices."""

from collections.abc import Callable

import numpy as np

from lib import biometry


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Keeps the largest connected part of the foreground; what lies apart from it becomes background.

    All classes together, because a structure such as the lateral ventricles may rightly show in two parts.
    """
    return np.where(biometry.largest_component(mask > 0), mask, 0).astype(np.uint8)


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Gives background that is enclosed by the foreground to the first class (the one around the others)."""
    filled = mask.copy()
    filled[biometry.fill_holes(mask > 0) & (mask == 0)] = 1
    return filled


STEPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "largest_component": largest_component,
    "fill_holes": fill_holes,
}


def apply(mask: np.ndarray, steps: list[str]) -> np.ndarray:
    """The named steps, in order."""
    for step in steps:
        mask = STEPS[step](mask)
    return mask
