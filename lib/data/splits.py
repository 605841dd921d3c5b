"""Folds: who is tested when, who validates meanwhile; no subject is ever in two parts."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

FOLD_COLUMNS = ["case", "subject", "fold_group", "fold", "validates"]


def assign_folds(
    table: pd.DataFrame, fold_count: int, seed: int, validation_subjects: int | None = None
) -> pd.DataFrame:
    """Deals whole fold groups to folds, each stratum evenly: FOLD_COLUMNS, rows as in `table`.

    Groups of a stratum are shuffled, large ones dealt first, each to the fold with the fewest cases of that
    stratum (then the fewest in all), so folds differ little in size and mixture. The order of rows does not matter; a
    group of several strata counts as that of its first case by name. Of each fold,
    `validation_subjects` fold groups (None for all), spread evenly over its strata, validate while the fold before it
    is tested. ValueError for fewer fold groups than folds, or where case, subject, fold_group or stratum is missing.
    """
    for column in ("case", "subject", "fold_group", "stratum"):
        lacking = table.loc[table[column].isna(), "case"].tolist()
        if lacking:
            raise ValueError(f"{len(lacking)} cases have no {column}: {lacking[:5]}; expected one each")
    groups = table.sort_values("case").groupby("fold_group", sort=True)["stratum"].agg(["first", "size"])
    if len(groups) < fold_count:
        raise ValueError(f"{len(groups)} fold groups cannot fill {fold_count} folds")
    draw = np.random.default_rng(seed)
    fold_of: dict[str, int] = {}
    total = np.zeros(fold_count, dtype=int)
    for _, stratum in groups.groupby("first", sort=True):
        shuffled = stratum.iloc[draw.permutation(len(stratum))].sort_values("size", ascending=False, kind="stable")
        own = np.zeros(fold_count, dtype=int)
        for group, size in shuffled["size"].items():
            fold = int(np.lexsort((total, own))[0])
            fold_of[group] = fold
            own[fold] += size
            total[fold] += size
    folds = table[["case", "subject", "fold_group"]].copy()
    folds["fold"] = folds["fold_group"].map(fold_of)
    folds["validates"] = folds["fold_group"].isin(_validating(fold_of, fold_count, validation_subjects))
    return folds[FOLD_COLUMNS]


def _validating(fold_of: dict[str, int], fold_count: int, count: int | None) -> set[str]:
    """Fold groups that validate; `fold_of` holds them by stratum, so even steps through a fold meet every stratum."""
    validating: set[str] = set()
    for fold in range(fold_count):
        groups = [group for group, of in fold_of.items() if of == fold]
        wanted = len(groups) if count is None else min(count, len(groups))
        validating |= {groups[int((place + 0.5) * len(groups) / wanted)] for place in range(wanted)}
    return validating


def check_disjoint(folds: pd.DataFrame) -> None:
    """Raises ValueError for a subject or a fold group that is in two folds, with its name and its cases."""
    for column in ("subject", "fold_group"):
        shared = folds.groupby(column)["fold"].nunique()
        for name in shared[shared > 1].index:
            rows = folds[folds[column] == name]
            placed = ", ".join(f"{case} in fold {fold}" for case, fold in zip(rows["case"], rows["fold"]))
            raise ValueError(f"{column} {name} is in two folds: {placed}; expected all its cases in one")


def are_apart(folds: pd.DataFrame, column: str) -> bool:
    """Whether no subject (or fold group) is in two folds."""
    return bool(folds.groupby(column)["fold"].nunique().max() == 1)


def parts_are_apart(folds: pd.DataFrame, divided: dict[str, list[str]]) -> bool:
    """Whether training, validation and test cases share no subject."""
    subject = folds.set_index("case")["subject"]
    sets = [set(subject.loc[names]) for names in divided.values()]
    return sum(map(len, sets)) == len(set().union(*sets))


def parts(folds: pd.DataFrame, fold: int) -> dict[str, list[str]]:
    """Cases of `train`, `validation` (of the next fold) and `test` when one fold is tested.

    ValueError if there is no such fold, or folds share a subject or a fold group.
    """
    check_disjoint(folds)
    count = int(folds["fold"].max()) + 1
    if not 0 <= fold < count:
        raise ValueError(f"fold {fold} does not exist; expected 0 to {count - 1}")
    tested = folds["fold"] == fold
    validates = folds["validates"] & (folds["fold"] == (fold + 1) % count) & ~tested
    which = {"train": ~tested & ~validates, "validation": validates, "test": tested}
    return {name: folds["case"][rows].tolist() for name, rows in which.items()}


def join_groups(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Connected components: each name's group is called by its first member in sorted order."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return {name: root(name) for name in parent}
