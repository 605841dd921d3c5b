"""Paired comparison of this study with others on the same cases: errors in millimetres and Dice."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.cases import TRIVIAL_BASELINES
from lib.study import files

COLUMNS = [
    *("quantity", "study_a", "route_a", "study_b", "route_b", "case", "subject"),
    *("reference_a_mm", "reference_b_mm", "error_a_mm", "error_b_mm", "difference_mm"),
    *("not_measured_a", "not_measured_b"),
]
OVERLAP_COLUMNS = ["class", "study_a", "study_b", "case", "subject", "dice_a", "dice_b", "difference"]
MEASURED = ["case", "subject", "seed", "stage", "route", "quantity", "predicted_mm", "reference_mm"]
OVERLAPS = ["case", "subject", "seed", "stage", "class", "dice", "tp", "fn"]


@dataclass(frozen=True)
class Measured:
    """Results of a study."""

    study: str
    tested: frozenset[str]  # cases of its test folds
    measurements: pd.DataFrame  # measurements.csv of its 06_biometry, after post-processing
    overlaps: pd.DataFrame | None  # cases.csv of its 05_evaluation, after post-processing; None for landmarks

    @property
    def routes(self) -> list[str]:
        """Routes of the measurements, without the trivial baselines."""
        return [name for name in dict.fromkeys(self.measurements["route"]) if name not in TRIVIAL_BASELINES]


def read(study: str, folder: Path) -> Measured:
    """Reads the results of a study from its folder; ValueError if a table or a column is missing."""
    measurements = files.read_csv(folder / "06_biometry" / "measurements.csv", MEASURED)
    evaluated = files.read_csv(folder / "05_evaluation" / "cases.csv", ["case"])
    overlaps = None
    if "line" not in evaluated:  # a column of landmark studies
        overlaps = files.read_csv(folder / "05_evaluation" / "cases.csv", OVERLAPS)
        overlaps = overlaps[overlaps["stage"] == "post"]
    return Measured(study, frozenset(evaluated["case"]), measurements[measurements["stage"] == "post"], overlaps)


def check_same_cases(one: Measured, others: list[Measured]) -> None:
    """Raises ValueError if a case is tested in one study only, as the means would not be comparable."""
    for other in others:
        unshared = {a.study: sorted(a.tested - b.tested) for a, b in ((one, other), (other, one))}
        if any(unshared.values()):
            counts = f"{one.study} tested {len(one.tested)} cases, {other.study} {len(other.tested)}"
            only = "; ".join(f"{len(names)} only in {study} {names[:3]}" for study, names in unshared.items() if names)
            raise ValueError(
                f"compare_with = {other.study!r}   {counts}: {only}; expected the same cases: equal fold_count, "
                "split_seed, folds, groups and exclude, and a reference for every case in both"
            )


def compare_all(own: Measured, others: list[Measured]) -> pd.DataFrame:
    """Errors in mm of this study (A), the others and A's trivial baseline (B) on the same cases.

    One row per pair, quantity and case (COLUMNS); no rows without others. The error of a case is its mean absolute
    error over seeds, against the study's own reference, NaN if no seed could be measured; `not_measured_a` and
    `not_measured_b` count the seeds that could not. A's baseline is the last pair of each quantity.
    """
    check_same_cases(own, others)
    pairs = [(a, other, b) for other in others for b in other.routes for a in own.routes]
    pairs += [(a, own, "baseline") for a in own.routes if others]
    if not pairs:
        return pd.DataFrame(columns=COLUMNS)
    long = pd.concat([_pair(own, *pair) for pair in pairs], ignore_index=True)
    order = {name: position for position, name in enumerate(dict.fromkeys(long["quantity"]))}
    return long.sort_values("quantity", key=lambda names: names.map(order), kind="stable", ignore_index=True)[COLUMNS]


def _pair(own: Measured, route_a: str, other: Measured, route_b: str) -> pd.DataFrame:
    """Rows of one pair of routes, for the cases and quantities with a reference in both studies."""
    both = _join(by_case(own.measurements, route_a), by_case(other.measurements, route_b))
    sides = {f"{name}_{side}": f"{name}_{side}_mm" for name in ("error", "reference") for side in "ab"}
    both = both.rename(columns=sides)
    both["difference_mm"] = both["error_a_mm"] - both["error_b_mm"]
    return both.assign(study_a=own.study, route_a=route_a, study_b=other.study, route_b=route_b)


def _join(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Inner join on the index; columns of `one` end in _a, those of `other` in _b."""
    return one.join(other.drop(columns="subject"), how="inner", lsuffix="_a", rsuffix="_b").reset_index()


def by_case(measurements: pd.DataFrame, route: str) -> pd.DataFrame:
    """Mean absolute error over seeds, by quantity and case: subject, reference, error, not_measured."""
    rows = measurements[(measurements["route"] == route) & measurements["reference_mm"].notna()]
    error = (rows["predicted_mm"] - rows["reference_mm"]).abs()
    grouped = rows.assign(error=error, missing=error.isna()).groupby(["quantity", "case"], sort=False)
    return grouped.agg(
        subject=("subject", "first"),
        reference=("reference_mm", "first"),
        error=("error", "mean"),
        not_measured=("missing", "sum"),
    )


def compare_overlaps(own: Measured, others: list[Measured]) -> pd.DataFrame:
    """Dice after post-processing of this study (A) and others (B), where both predict masks.

    One row per pair, class and case (OVERLAP_COLUMNS), for the classes of both studies and the cases in which the class
    is present in both references; Dice is the mean over seeds, 0 for a missed structure.
    """
    check_same_cases(own, others)
    pairs = [_overlap_pair(own, other) for other in others if own.overlaps is not None and other.overlaps is not None]
    return pd.concat(pairs, ignore_index=True) if pairs else pd.DataFrame(columns=OVERLAP_COLUMNS)


def _overlap_pair(own: Measured, other: Measured) -> pd.DataFrame:
    both = _join(_dice_by_case(own.overlaps), _dice_by_case(other.overlaps))
    both["difference"] = both["dice_a"] - both["dice_b"]
    return both.assign(study_a=own.study, study_b=other.study)[OVERLAP_COLUMNS]


def _dice_by_case(overlaps: pd.DataFrame) -> pd.DataFrame:
    present = overlaps[overlaps["tp"] + overlaps["fn"] > 0]
    return present.groupby(["class", "case"], sort=False).agg(subject=("subject", "first"), dice=("dice", "mean"))


def notes(own: Measured, others: list[Measured], references: pd.DataFrame) -> list[str]:
    """Notes on the tables, one sentence each; `references` is the table of `paired.references`."""
    sentences = [f"{own.study} and {other.study} tested the same {len(own.tested)} cases" for other in others]
    for row in references[references["differ"]].to_dict("records") if len(references) else []:
        amount = f"by {row['amount_mm']:.2f} mm on average"
        names = f"{own.study} and {row['study_b']}"
        sentences.append(f"{row['quantity'].upper()}: the references of {names} differ {amount}")
    return sentences or ["compare_with is empty, so no studies are compared"]


def is_complete(own: Measured, long: pd.DataFrame) -> bool:
    """Whether every pair holds all cases for which this study has a reference."""
    known = own.measurements[own.measurements["reference_mm"].notna()].groupby("quantity")["case"].agg(set)
    pairs = long.groupby(["quantity", "route_a", "study_b", "route_b"])["case"].agg(set)
    return all(cases == known[quantity] for (quantity, *_), cases in pairs.items())


def is_zero_against_itself(own: Measured) -> bool:
    """Whether all differences are zero when a study is compared with itself."""
    long, dice = compare_all(own, [own]), compare_overlaps(own, [own])
    routes = long[long["route_b"] == long["route_a"]]
    return bool(np.all(routes["difference_mm"].dropna() == 0) and np.all(dice["difference"] == 0))
