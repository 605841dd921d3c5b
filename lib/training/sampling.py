"""Which cases an epoch shows, in which order: a function of seed and epoch alone."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.data.arrays import Arrays


def case_weights(masks: np.ndarray, class_indices: list[int], factor: float) -> np.ndarray:
    """How often each case is drawn, relative to the others.

    Args:
        masks: (N, H, W) class indices.
        class_indices: cases that show one of these weigh `factor`, the others 1.
        factor: at least 1.
    """
    shows = np.array([bool(np.isin(class_indices, np.unique(mask)).any()) for mask in masks])
    return np.where(shows, factor, 1.0)


def area_weights(masks: np.ndarray, names: list[str], floor: float) -> np.ndarray:
    """How often each slice is drawn, relative to the others: by its foreground, and every case alike.

    Args:
        masks: (N, H, W) class indices.
        names: case of each slice.
        floor: share of a case's draws that goes evenly to all its slices, 0 to 1.

    Returns:
        (N,), adding up to 1 in each case; even in a case without foreground.

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

    Args:
        masks: (N, H, W) class indices.
        rows: array rows of the training cases.
        order: array rows as an epoch draws them.
        classes: names, background first.
    """
    held = {row: set(np.unique(masks[row]).tolist()) for row in rows.tolist()}
    table = []
    for index, name in enumerate(classes[1:], start=1):
        cases, draws = (sum(index in held[row] for row in some.tolist()) for some in (rows, order))
        shares = {"cases_percent": 100 * cases / len(rows), "draws_percent": 100 * draws / len(order)}
        table.append({"class": name, "cases": cases, "draws": draws} | shares)
    return pd.DataFrame(table)[["class", "cases", "cases_percent", "draws", "draws_percent"]]


@dataclass(frozen=True)
class Weighed:
    """What loss and selection weigh, in the names of a study file's keys; a weight for each class, background first."""

    landmarks: str
    classes: list[str]
    cross_entropy_weight: float
    focal_weight: float
    dice_weight: float
    cross_entropy_class_weights: list[float]
    dice_class_weights: list[float]
    selection_class_weights: list[float]

    @property
    def indices(self) -> list[int]:
        """Classes that loss or selection weighs, but for the background."""
        pixels = self.cross_entropy_weight + self.focal_weight
        by_class = zip(self.cross_entropy_class_weights, self.dice_class_weights, self.selection_class_weights)
        most = [max(pixels * each, self.dice_weight * dice, selection) for each, dice, selection in by_class]
        return [index for index, weight in enumerate(most) if index > 0 and weight > 0]


def unshown(weighed: Weighed, arrays: Arrays, parts: dict[str, list[str]], fold: int) -> list[str]:
    """What training and validation cases must show and do not, a sentence each: weighed classes, or landmarks.

    A slice without foreground is normal, so a volume counts as a whole.

    Args:
        weighed: what must be shown.
        arrays: preprocessed cases.
        parts: names of the cases that train and validate.
        fold: the fold that is tested, to be named.
    """
    found = []
    for part, cases in (("training", parts["train"]), ("validation", parts["validation"])):
        where = f"fold {fold}: none of its {len(cases)} {part} cases shows"
        advice = "give another split_seed, fold_count or validation_subjects"
        if weighed.landmarks != "none":
            found += [] if _shows_landmarks(arrays, cases) else [f"{where} all four landmarks; {advice}"]
            continue
        held = set(np.unique(arrays.masks[arrays.rows(cases)]).tolist())
        found += [
            f"{where} {name}; {advice}, or weight 0 for {name} in loss and selection"
            for index, name in enumerate(weighed.classes)
            if index in weighed.indices and index not in held
        ]
    return found


def _shows_landmarks(arrays: Arrays, cases: list[str]) -> bool:
    """Whether a case shows all four ends; where the arrays hold no landmarks, another sentence says so."""
    if arrays.points is None:
        return True
    places = arrays.points[arrays.rows(cases)]
    inside = (places >= 0) & (places <= np.array(arrays.masks.shape[1:]) - 1)  # not where an end is NaN
    return bool(inside.all(axis=(1, 2)).any())


def repeats(rows: np.ndarray) -> list[int]:
    """How often each row came before in the list: a case that is drawn twice is changed differently each time."""
    seen: Counter[int] = Counter()
    before = []
    for row in rows.tolist():
        before.append(seen[row])
        seen[row] += 1
    return before


def spread(masks: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """At most so many of some rows, evenly over those whose mask shows something; over all where none does.

    Args:
        masks: (N, H, W) class indices.
        rows: array rows to choose from, at least one.
        count: at least 1.
    """
    shown = rows[[bool(masks[row].any()) for row in rows.tolist()]]
    found = shown if len(shown) else rows
    return found[np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)]


def richest(masks: np.ndarray) -> int:
    """Index of the first mask that shows the most classes, to look at: (N, H, W) class indices."""
    return int(np.argmax([len(np.unique(mask)) for mask in masks]))
