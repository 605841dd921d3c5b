"""Selection and order of the cases of an epoch, from seed and epoch only.

`masks` are the (N, H, W) class indices of all cases, on disk; those of the given `rows` are read one at a time.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.data.arrays import Arrays
from lib.data.splits import Parts


def case_weights(masks: np.ndarray, rows: np.ndarray, class_indices: list[int], factor: float) -> np.ndarray:
    """Relative sampling weight of each row: `factor` if its mask contains one of the classes, else 1.

    Without classes no mask is read.
    """
    contains = [any((masks[row] == index).any() for index in class_indices) for row in rows.tolist()]
    return np.where(contains, factor, 1.0)


def area_weights(masks: np.ndarray, rows: np.ndarray, names: list[str], floor: float) -> np.ndarray:
    """Relative sampling weight of each slice, by its foreground area; the weights of every case sum to 1.

    `names` holds the case of each row; `floor`, 0 to 1, is the fraction of draws uniform over a case's slices.

    Source: the data loader published with LGG, which adds 0.1 to areas that sum to 1 (here `floor` = 0.1 / 1.1) and
    never draws a case without foreground.
    """
    areas = np.array([np.count_nonzero(masks[row]) for row in rows.tolist()], float)
    case = np.unique(names, return_inverse=True)[1]
    slices, total = np.bincount(case)[case], np.bincount(case, weights=areas)[case]  # of the case of each slice
    share = np.divide(areas, total, out=1 / slices, where=total > 0)
    return floor / slices + (1 - floor) * share


def epoch_rows(rows: np.ndarray, weights: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Array rows in the order of an epoch: a permutation for equal weights, else weighted draws with replacement."""
    draw = np.random.default_rng([seed, epoch])
    if np.all(weights == weights[0]):
        return rows[draw.permutation(len(rows))]
    return rows[draw.choice(len(rows), size=len(rows), p=weights / weights.sum())]


def exposure(masks: np.ndarray, rows: np.ndarray, order: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """Number and percentage of cases (`rows`) and of draws (`order`) that contain each foreground class."""
    classes_of = {row: set(np.unique(masks[row]).tolist()) for row in rows.tolist()}
    table = []
    for index, name in enumerate(classes[1:], start=1):
        cases, draws = (sum(index in classes_of[row] for row in group.tolist()) for group in (rows, order))
        table.append((name, cases, 100 * cases / len(rows), draws, 100 * draws / len(order)))
    return pd.DataFrame(table, columns=["class", "cases", "cases_percent", "draws", "draws_percent"])


@dataclass(frozen=True)
class ClassWeights:
    """Class weights of loss and checkpoint selection, named as the study file's keys; background first."""

    learns_landmarks: bool
    classes: list[str]
    cross_entropy_weight: float = 0.0
    focal_weight: float = 0.0
    dice_weight: float = 0.0
    cross_entropy_class_weights: list[float] | None = None  # unused if cross-entropy and focal weight are 0
    dice_class_weights: list[float] | None = None
    selection_class_weights: list[float] | None = None

    @property
    def indices(self) -> list[int]:
        """Foreground classes with a positive weight in loss or selection."""
        lists = [(self.cross_entropy_weight + self.focal_weight, self.cross_entropy_class_weights)]
        lists += [(self.dice_weight, self.dice_class_weights), (1.0, self.selection_class_weights)]
        used = [[weight * value for value in by_class] for weight, by_class in lists if by_class is not None]
        return [index for index in range(1, len(self.classes)) if any(weights[index] > 0 for weights in used)]


def missing_targets(weights: ClassWeights, arrays: Arrays, parts: Parts, fold: int) -> list[str]:
    """One message per class with a weight, or set of landmarks, in none of the training or the validation cases.

    A volume counts as a whole, since slices without foreground are normal. `fold`, the test fold, is only named.
    """
    messages = []
    for part, cases in (("training", parts["train"]), ("validation", parts["validation"])):
        where = f"fold {fold}: none of its {len(cases)} {part} cases contains"
        advice = "set another split_seed, fold_count or validation_subjects (in a quick pass a larger case_limit)"
        if weights.learns_landmarks:
            known = arrays.points is None or arrays.in_frame(arrays.rows(cases)).any()  # without any: refused elsewhere
            messages += [] if known else [f"{where} all four landmarks; {advice}"]
            continue
        rows = arrays.rows(cases).tolist()
        absent = [index for index in weights.indices if not any((arrays.masks[row] == index).any() for row in rows)]
        messages += [
            f"{where} {name}; {advice}, or weight 0 for {name} in loss and selection"
            for name in (weights.classes[index] for index in absent)
        ]
    return messages


def repeats(rows: np.ndarray) -> list[int]:
    """Number of earlier occurrences of each row, so that a case drawn twice is augmented differently."""
    return pd.Series(rows).groupby(rows).cumcount().tolist()


def spread(masks: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` rows, evenly spaced among those with foreground, or among all if none has any."""
    has_foreground = np.array([bool(masks[row].any()) for row in rows.tolist()])
    candidates = rows[has_foreground] if has_foreground.any() else rows
    return candidates[np.linspace(0, len(candidates) - 1, min(count, len(candidates))).round().astype(int)]


def most_classes(masks: np.ndarray, rows: np.ndarray) -> int:
    """The first row whose mask has the most classes."""
    return int(rows[np.argmax([len(np.unique(masks[row])) for row in rows.tolist()])])
