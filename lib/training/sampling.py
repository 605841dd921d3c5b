"""Which cases an epoch shows, in which order: a function of seed and epoch alone."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.data.arrays import Arrays


def case_weights(masks: np.ndarray, class_indices: list[int], factor: float) -> np.ndarray:
    """How often each case is drawn, relative to the others: `factor` where the mask shows one of some classes, else 1.

    Masks are (N, H, W) class indices, here and below.
    """
    shows = np.array([bool(np.isin(class_indices, np.unique(mask)).any()) for mask in masks])
    return np.where(shows, factor, 1.0)


def area_weights(masks: np.ndarray, names: list[str], floor: float) -> np.ndarray:
    """How often each slice is drawn, relative to the others: by its foreground, and every case alike.

    `names` are the case of each slice; the weights of each case add up to 1, even without foreground. `floor`, 0 to 1,
    is the share of a case's draws that goes evenly to all its slices.

    Source: the loader that the LGG data set's publisher gives with it, where a floor of 0.1 comes on top of the
    areas, here a share of 0.1 / 1.1, and a case without foreground is not drawn.
    """
    areas = np.array([np.count_nonzero(mask) for mask in masks], float)
    case = np.unique(names, return_inverse=True)[1]
    slices, total = np.bincount(case)[case], np.bincount(case, weights=areas)[case]  # of each slice's own case
    share = np.divide(areas, total, out=1 / slices, where=total > 0)
    return floor / slices + (1 - floor) * share


def epoch_rows(rows: np.ndarray, weights: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Array rows in the order in which an epoch shows them.

    Equal weights give every case once; otherwise as many draws with replacement, by weight.
    """
    draw = np.random.default_rng([seed, epoch])
    if np.all(weights == weights[0]):
        return rows[draw.permutation(len(rows))]
    return rows[draw.choice(len(rows), size=len(rows), p=weights / weights.sum())]


def exposure(masks: np.ndarray, rows: np.ndarray, order: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """How often an epoch shows each class: class, cases and percent of the cases, draws and percent of the draws.

    `rows` are those of the training cases, `order` those that an epoch draws; the first class is the background.
    """
    classes_of = {row: set(np.unique(masks[row]).tolist()) for row in rows.tolist()}
    table = []
    for index, name in enumerate(classes[1:], start=1):
        cases, draws = (sum(index in classes_of[row] for row in some.tolist()) for some in (rows, order))
        table.append((name, cases, 100 * cases / len(rows), draws, 100 * draws / len(order)))
    return pd.DataFrame(table, columns=["class", "cases", "cases_percent", "draws", "draws_percent"])


@dataclass(frozen=True)
class Weighed:
    """What loss and selection weigh, in the names of a study file's keys; a weight for each class, background first."""

    learns_landmarks: bool
    classes: list[str]
    cross_entropy_weight: float = 0.0
    focal_weight: float = 0.0
    dice_weight: float = 0.0
    cross_entropy_class_weights: list[float] | None = None  # not used where the weights of both its losses are 0
    dice_class_weights: list[float] | None = None
    selection_class_weights: list[float] | None = None

    @property
    def indices(self) -> list[int]:
        """Classes that loss or selection weighs, but for the background."""
        lists = [(self.cross_entropy_weight + self.focal_weight, self.cross_entropy_class_weights)]
        lists += [(self.dice_weight, self.dice_class_weights), (1.0, self.selection_class_weights)]
        return [
            index
            for index in range(1, len(self.classes))
            if any(weight * by_class[index] > 0 for weight, by_class in lists if by_class is not None)
        ]


def unshown(weighed: Weighed, arrays: Arrays, parts: dict[str, list[str]], fold: int) -> list[str]:
    """What training and validation cases must show and do not, a sentence each: weighed classes, or landmarks.

    A slice without foreground is normal, so a volume counts as a whole. `fold` is the tested one, to be named.
    """
    faults = []
    for part, cases in (("training", parts["train"]), ("validation", parts["validation"])):
        where = f"fold {fold}: none of its {len(cases)} {part} cases shows"
        advice = "give another split_seed, fold_count or validation_subjects"
        if weighed.learns_landmarks:
            faults += [] if _shows_landmarks(arrays, cases) else [f"{where} all four landmarks; {advice}"]
            continue
        present = set(np.unique(arrays.masks[arrays.rows(cases)]).tolist())
        faults += [
            f"{where} {name}; {advice}, or weight 0 for {name} in loss and selection"
            for name in (weighed.classes[index] for index in weighed.indices if index not in present)
        ]
    return faults


def _shows_landmarks(arrays: Arrays, cases: list[str]) -> bool:
    """Whether a case shows all four ends; where the arrays hold no landmarks, another sentence says so."""
    if arrays.points is None:
        return True
    points = arrays.points[arrays.rows(cases)]
    inside = (points >= 0) & (points <= np.array(arrays.masks.shape[1:]) - 1)  # not where an end is NaN
    return bool(inside.all(axis=(1, 2)).any())


def repeats(rows: np.ndarray) -> list[int]:
    """How often each row came before in the list: a case that is drawn twice is changed differently each time."""
    return pd.Series(rows).groupby(rows).cumcount().tolist()


def spread(masks: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of some rows, evenly over those whose mask shows something; over all where none does."""
    shows = np.array([bool(masks[row].any()) for row in rows.tolist()])
    candidates = rows[shows] if shows.any() else rows
    return candidates[np.linspace(0, len(candidates) - 1, min(count, len(candidates))).round().astype(int)]


def richest(masks: np.ndarray) -> int:
    """Index of the first mask that shows the most classes, to look at: (N, H, W) class indices."""
    return int(np.argmax([len(np.unique(mask)) for mask in masks]))
