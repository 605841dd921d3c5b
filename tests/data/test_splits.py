from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from lib.data import splits
from lib.study import files


def groups_table(sizes, strata=1, seed=0):
    """A manifest with one subject per group of the given sizes, and random strata."""
    stratum = np.random.default_rng(seed).integers(0, strata, len(sizes))
    group = np.repeat([f"{number:03d}" for number in range(len(sizes))], sizes)
    case = [f"{number:03d}_{image}" for number, size in enumerate(sizes) for image in range(size)]
    strata = [f"s{number}" for number in np.repeat(stratum, sizes)]
    return pd.DataFrame({"case": case, "subject": group, "fold_group": group, "stratum": strata})


def folds_table(fold_of):
    """One row per case from {case: (subject, fold)}."""
    rows = [{"case": c, "subject": s, "fold_group": s, "fold": f, "validates": True} for c, (s, f) in fold_of.items()]
    return pd.DataFrame(rows, columns=splits.FOLD_COLUMNS)


@pytest.mark.parametrize("seed", range(5))
def test_strata_are_balanced_up_to_their_largest_group_and_no_group_is_in_two_folds(seed):
    table = groups_table(np.random.default_rng(seed).integers(1, 5, 60), strata=3, seed=seed)
    folds = splits.assign_folds(table, 5, seed)
    splits.check_disjoint(folds)
    assert folds.columns.tolist() == splits.FOLD_COLUMNS
    assert folds["case"].tolist() == table["case"].tolist()
    assert folds["validates"].all()
    counts = folds.merge(table).groupby(["stratum", "fold"]).size().unstack(fill_value=0)
    largest = table.groupby(["stratum", "fold_group"]).size().groupby("stratum").max()
    assert counts.columns.tolist() == [0, 1, 2, 3, 4]
    assert (counts.max(axis=1) - counts.min(axis=1) <= largest).all()


def test_folds_depend_on_the_seed_and_not_on_the_order_of_rows():
    table = groups_table(np.random.default_rng(0).integers(1, 4, 40), strata=3)
    table["stratum"] = np.random.default_rng(1).permutation(table["stratum"])  # groups of several strata too
    expected = splits.assign_folds(table, 5, 3, 2).set_index("case")
    for seed in range(5):
        shuffled = table.sample(frac=1, random_state=seed)
        folds = splits.assign_folds(shuffled, 5, 3, 2)
        assert folds["case"].tolist() == shuffled["case"].tolist()
        pd.testing.assert_frame_equal(folds.set_index("case").loc[expected.index], expected)
    assert splits.assign_folds(table, 5, 4, 2)["fold"].tolist() != expected["fold"].tolist()


def test_single_cases_fill_folds_equally_and_a_small_fold_validates_completely():
    folds = splits.assign_folds(groups_table([1] * 20), 5, seed=1, validation_subjects=50)
    assert folds["fold"].value_counts().tolist() == [4] * 5
    assert folds["validates"].all()


@pytest.mark.parametrize("column", ["subject", "fold_group", "stratum"])
def test_missing_values_and_fewer_groups_than_folds_are_refused(column):
    table = groups_table([1] * 6)
    table.loc[4, column] = None
    with pytest.raises(ValueError, match=rf"1 cases have no {column}: \['004_0'\]"):
        splits.assign_folds(table, 3, 0)
    with pytest.raises(ValueError, match="2 fold groups cannot fill 3 folds"):
        splits.assign_folds(groups_table([3, 3]), 3, seed=0)


@pytest.mark.parametrize("column", ["subject", "fold_group"])
def test_a_subject_or_group_in_two_folds_is_detected_and_named_with_its_cases(column):
    folds = folds_table({"a": ("1", 0), "b": ("2", 1), "c": ("3", 2)})
    assert splits.folds_are_disjoint(folds, column)
    folds.loc[2, column] = "1"
    assert not splits.folds_are_disjoint(folds, column)
    for check in (splits.check_disjoint, lambda folds: splits.parts(folds, 0)):
        with pytest.raises(ValueError, match=f"{column} 1 is in two folds: a in fold 0, c in fold 2; expected"):
            check(folds)


def test_each_case_is_tested_once_the_next_fold_validates_and_other_folds_are_refused():
    folds = folds_table({f"c{n}": (f"s{n}", n) for n in range(4)})
    for fold, validation in ((0, 1), (1, 2), (2, 3), (3, 0)):
        others = [f"c{n}" for n in range(4) if n not in (fold, validation)]
        assert splits.parts(folds, fold) == {"train": others, "validation": [f"c{validation}"], "test": [f"c{fold}"]}
    for fold in (-1, 4):
        with pytest.raises(ValueError, match=f"fold {fold} does not exist; expected 0 to 3"):
            splits.parts(folds, fold)
    folds = folds_table({f"c{n}": (f"s{n}", n // 3) for n in range(9)})  # the rest of the next fold trains
    folds["validates"] = folds["case"].isin(["c0", "c4", "c5", "c8"])
    expected = {"train": ["c3", "c6", "c7", "c8"], "validation": ["c4", "c5"], "test": ["c0", "c1", "c2"]}
    assert splits.parts(folds, 0) == expected
    assert splits.parts(folds, 2)["validation"] == ["c0"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_set_number_of_subjects_per_fold_validates_over_all_strata_and_folds_do_not_change(count):
    table = groups_table([1, 2, 3, 1, 2] * 5)
    folds = splits.assign_folds(table, 5, 0, validation_subjects=count)
    assert folds[folds["validates"]].groupby("fold")["fold_group"].nunique().tolist() == [count] * 5
    assert folds.groupby("fold_group")["validates"].nunique().eq(1).all()
    pd.testing.assert_series_equal(folds["fold"], splits.assign_folds(table, 5, 0)["fold"])
    # Each fold gets four subjects of each of three strata; three of these twelve validate.
    table = groups_table([1] * 36).assign(stratum=[f"s{n % 3}" for n in range(36)])
    folds = splits.assign_folds(table, 3, count, validation_subjects=3).merge(table)
    assert folds[folds["validates"]].groupby(["fold", "stratum"]).size().tolist() == [1] * 9


@pytest.mark.parametrize("name", ["003", "NA", "None", "nan", "null", "N/A", "n/a", "NULL", "#N/A"])
def test_a_group_and_a_stratum_of_any_name_are_assigned_and_read_from_disk(tmp_path, name):
    table = groups_table([2] * 6, strata=2).replace({"subject": {"003": name}, "fold_group": {"003": name}})
    written = splits.assign_folds(table.replace({"stratum": {"s1": name}}), 3, 0, 1)
    assert written["fold"].value_counts().tolist() == [4, 4, 4]
    files.write_csv(tmp_path / "folds.csv", written)
    read = files.read_csv(tmp_path / "folds.csv", splits.FOLD_COLUMNS)
    pd.testing.assert_frame_equal(read, written)
    assert splits.parts(read, 1) == splits.parts(written, 1)


@pytest.mark.parametrize(("moved", "to"), [("train", "test"), ("validation", "train"), ("test", "validation")])
def test_a_subject_in_two_parts_is_detected(moved, to):
    folds = folds_table({f"c{n}": (f"s{n // 2}", n // 2) for n in range(6)})
    parts = splits.parts(folds, 0)
    assert splits.parts_are_disjoint(folds, parts)
    parts[to] = [*parts[to], parts[moved].pop()]
    assert not splits.parts_are_disjoint(folds, parts)


def test_connected_names_share_the_first_name_of_their_group_in_any_order_of_pairs():
    pairs = [("a", "b"), ("c", "d"), ("b", "c"), ("e", "f"), ("g", "g")]
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(5)
        groups = splits.join_groups("hgfedcba", [pairs[i] for i in order])
        assert groups == dict.fromkeys("abcd", "a") | dict.fromkeys("ef", "e") | {"g": "g", "h": "h"}


def test_a_chain_of_100_000_names_is_one_group_from_whichever_end_it_is_joined():
    names = [f"{number:06d}" for number in range(100_000)]
    links = list(pairwise(names))
    for pairs in (links, links[::-1]):  # without shortened paths, the second takes five billion steps
        assert splits.join_groups(names, pairs) == dict.fromkeys(names, names[0])
