"""Which few cases a quick pass uses."""

import numpy as np
import pandas as pd
import pytest

from lib.data import quick_pass, splits
from lib.data.evaluation_set import EvaluationSet
from tests import builders, builders_tasks

ONE, NONE = (dict.fromkeys("abcdefghi", targets) for targets in ({1}, set()))


@pytest.mark.parametrize(
    ("targets_of", "count", "chosen"),
    [
        (ONE, 3, "aei"),
        (NONE, 5, "acegi"),
        (ONE, 20, "abcdefghi"),
        ({}, 4, ""),
        (ONE | {"h": {2}}, 3, "aeh"),  # the last of the evenly spaced ones gives way
        (ONE | {"e": {2}}, 3, "aei"),  # which hold both classes already
        ({"a": {1}, "b": {2}, "c": {1, 2, 3}, "d": set()}, 2, "ac"),  # one case contains all
        ({"a": {1}, "b": {2}, "c": {3}, "d": set()}, 2, "ab"),  # three classes cannot be in two cases
    ],
)
def test_few_cases_are_evenly_spaced_and_contain_every_class_if_they_can(targets_of, count, chosen):
    assert quick_pass.spread(targets_of, count) == list(chosen)


def arrays_and_folds(made, subjects=None):
    """Arrays, and their cases in three folds in turn; subjects in the reverse order of cases."""
    names = list(dict.fromkeys(made.names))
    table = pd.DataFrame({"case": names, "subject": subjects or [f"s{99 - at}" for at in range(len(names))]})
    return made, table.assign(fold_group=table["subject"], fold=np.arange(len(names)) % 3, validates=True)


def test_the_limit_holds_for_each_part_by_subject_and_without_one_all_cases_are_used():
    arrays, folds = arrays_and_folds(builders.discs(15, size=8))
    parts = splits.parts(folds, 0)
    assert quick_pass.limit_parts(parts, folds, arrays, None) == parts
    limited = {"train": ["disc14", "disc8", "disc2"], "validation": ["disc13", "disc7", "disc1"]}
    assert quick_pass.limit_parts(parts, folds, arrays, 3) == limited | {"test": ["disc12", "disc6", "disc0"]}


@pytest.mark.parametrize("kind", ["volumes", "landmarks"])
def test_a_volume_is_one_case_and_one_case_in_which_all_landmarks_are_visible_stays(kind):
    made = builders_tasks.volumes(15, size=8) if kind == "volumes" else builders_tasks.landmarked(15, size=16)
    arrays, folds = arrays_and_folds(made)
    if kind == "volumes":
        arrays.masks[:] = 0
        arrays.masks[arrays.rows(["patient5"])[2]] = 1  # in one slice
    else:
        arrays.points[[n for n in range(15) if n != 5], 0] = (np.nan, -1)
    limited = quick_pass.limit_parts(splits.parts(folds, 0), folds, arrays, 2)
    assert {name: len(cases) for name, cases in limited.items()} == {"train": 2, "validation": 2, "test": 2}
    assert made.names[arrays.rows([limited["train"][1]])[0]].endswith("5")


def test_a_limited_evaluation_set_has_exactly_its_cases_in_the_manifest_and_in_the_parts_of_each_fold():
    arrays, folds = arrays_and_folds(builders.discs(15, size=8))
    whole = EvaluationSet(folds[["case"]], folds, arrays, None, None)
    limited = quick_pass.limit_set(whole, arrays, [0, 2], 2)
    assert whole.parts(0) == splits.parts(folds, 0)
    for fold in (0, 2):
        assert limited.parts(fold) == quick_pass.limit_parts(splits.parts(folds, fold), folds, arrays, 2)
    used = {name for fold in (0, 2) for names in limited.parts(fold).values() for name in names}
    assert set(limited.cases["case"]) == used
    assert len(used) < len(whole.cases)
