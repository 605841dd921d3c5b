"""Subject-disjoint folds: which cases are for training, validation and test."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

FOLD_COLUMNS = ["case", "subject", "fold_group", "fold", "validates"]
Parts = dict[str, list[str]]  # case names of "train", "validation" and "test"


def assign_folds(
    table: pd.DataFrame, fold_count: int, seed: int, validation_subjects: int | None = None
) -> pd.DataFrame:
    """Assigns whole fold groups to stratified folds; returns FOLD_COLUMNS, one row per row of `table`.

    Within a stratum, fold groups are shuffled and assigned by decreasing size, each to the fold with the fewest cases
    of that stratum, then the fewest cases overall. The row order of `table` has no effect; a group takes the stratum
    of its first case by name. While fold k is tested, `validation_subjects` fold groups of fold k + 1 (None for all),
    spread over its strata, validate. ValueError for fewer fold groups than folds, or a missing value in case, subject,
    fold_group or stratum.
    """
    for column in ("case", "subject", "fold_group", "stratum"):
        lacking = table.loc[table[column].isna(), "case"].tolist()
        if lacking:
            raise ValueError(f"{len(lacking)} cases have no {column}: {lacking[:5]}; expected a value for every case")
    groups = table.sort_values("case").groupby("fold_group", sort=True)["stratum"].agg(["first", "size"])
    if len(groups) < fold_count:
        raise ValueError(f"{len(groups)} fold groups cannot fill {fold_count} folds")
    draw = np.random.default_rng(seed)
    fold_of: dict[str, int] = {}
    total = np.zeros(fold_count, dtype=int)
    for _, stratum in groups.groupby("first", sort=True):
        shuffled = stratum.iloc[draw.permutation(len(stratum))].sort_values("size", ascending=False, kind="stable")
        in_stratum = np.zeros(fold_count, dtype=int)
        for group, size in shuffled["size"].items():
            fold = int(np.lexsort((total, in_stratum))[0])
            fold_of[group] = fold
            in_stratum[fold] += size
            total[fold] += size
    folds = table[["case", "subject", "fold_group"]].copy()
    folds["fold"] = folds["fold_group"].map(fold_of)
    folds["validates"] = folds["fold_group"].isin(_validating(fold_of, fold_count, validation_subjects))
    return folds[FOLD_COLUMNS]


def _validating(fold_of: dict[str, int], fold_count: int, count: int | None) -> set[str]:
    """Fold groups that validate; `fold_of` is ordered by stratum, so even steps cover every stratum."""
    validating: set[str] = set()
    for fold in range(fold_count):
        groups = [group for group, of in fold_of.items() if of == fold]
        wanted = len(groups) if count is None else min(count, len(groups))
        validating |= {groups[int((index + 0.5) * len(groups) / wanted)] for index in range(wanted)}
    return validating


def check_disjoint(folds: pd.DataFrame) -> None:
    """Raises ValueError, with its cases, for a subject or fold group that is in two folds."""
    for column in ("subject", "fold_group"):
        shared = folds.groupby(column)["fold"].nunique()
        for name in shared[shared > 1].index:
            rows = folds[folds[column] == name]
            listing = ", ".join(f"{case} in fold {fold}" for case, fold in zip(rows["case"], rows["fold"]))
            raise ValueError(f"{column} {name} is in two folds: {listing}; expected all its cases in one fold")


def folds_are_disjoint(folds: pd.DataFrame, column: str) -> bool:
    """Whether no subject (or fold group, by `column`) is in two folds."""
    return bool(folds.groupby(column)["fold"].nunique().max() == 1)


def parts_are_disjoint(folds: pd.DataFrame, cases_of: Parts) -> bool:
    """Whether training, validation and test cases, as of `parts`, share no subject."""
    subject = folds.set_index("case")["subject"]
    sets = [set(subject.loc[names]) for names in cases_of.values()]
    return sum(map(len, sets)) == len(set().union(*sets))


def parts(folds: pd.DataFrame, fold: int) -> Parts:
    """Cases of `train`, `validation` (next fold) and `test`; ValueError for an unknown fold or folds that overlap."""
    check_disjoint(folds)
    count = int(folds["fold"].max()) + 1
    if not 0 <= fold < count:
        raise ValueError(f"fold {fold} does not exist; expected 0 to {count - 1}")
    tested = folds["fold"] == fold
    validates = folds["validates"] & (folds["fold"] == (fold + 1) % count) & ~tested
    masks = {"train": ~tested & ~validates, "validation": validates, "test": tested}
    return {name: folds["case"][rows].tolist() for name, rows in masks.items()}


def join_groups(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Connected components of `pairs`: for each name the first member of its group in sorted order."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]  # halves the path, else long chains take quadratic time
            name = parent[name]
        return name

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return {name: root(name) for name in parent}
