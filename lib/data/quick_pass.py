"""A few cases of each part of a fold, for a quick pass: evenly spaced, with every class where possible."""

from dataclasses import replace

import numpy as np
import pandas as pd

from lib.data import splits
from lib.data.arrays import Arrays
from lib.data.evaluation_set import EvaluationSet
from lib.data.splits import Parts


def limit_set(whole: EvaluationSet, arrays: Arrays, tested_folds: list[int], count: int) -> EvaluationSet:
    """An evaluation set with at most `count` cases in each part of the tested folds, and no others in its manifest."""
    limited = {fold: limit_parts(splits.parts(whole.folds, fold), whole.folds, arrays, count) for fold in tested_folds}
    used = {name for parts in limited.values() for names in parts.values() for name in names}
    return replace(whole, cases=whole.cases[whole.cases["case"].isin(used)], limited=limited)


def limit_parts(parts: Parts, folds: pd.DataFrame, arrays: Arrays, count: int | None) -> Parts:
    """At most `count` cases of each part, chosen by `spread` in the order of subject and case; None for all."""
    if count is None:
        return parts
    subject = folds.set_index("case")["subject"]
    ordered = {name: sorted(cases, key=lambda case: (subject[case], case)) for name, cases in parts.items()}
    return {name: spread({case: targets(arrays, case) for case in cases}, count) for name, cases in ordered.items()}


def targets(arrays: Arrays, case: str) -> set[int]:
    """Foreground classes in the mask of a case; for landmarks {1} if all of them are in the image, else {}."""
    rows = arrays.rows([case])
    if arrays.points is not None:
        return {1} if arrays.in_frame(rows).all() else set()
    return set(np.unique(arrays.masks[rows]).tolist()) - {0}


def spread(targets_of: dict[str, set[int]], count: int) -> list[str]:
    """At most `count` cases in the order of `targets_of`, which names what each case contains.

    Evenly spaced cases, except that the last of them give way to cases that together contain every target (chosen
    greedily: the case with most of the missing targets first).
    """
    names, missing = list(targets_of), set().union(*targets_of.values())
    spaced = [names[at] for at in np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)]
    needed = []
    while missing:
        needed.append(max([*spaced, *names], key=lambda name: len(targets_of[name] & missing)))
        missing -= targets_of[needed[-1]]
    chosen = list(dict.fromkeys([*needed, *spaced]))[:count]
    return [name for name in names if name in chosen]
