"""This study beside others on the same cases: errors in millimetres and Dice, case by case."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.cases import GUESSES
from lib.study import files

COLUMNS = [
    *("quantity", "study_a", "route_a", "study_b", "route_b", "case", "subject"),
    *("reference_a_mm", "reference_b_mm", "error_a_mm", "error_b_mm", "difference_mm"),
    *("not_measured_a", "not_measured_b"),
]
OVERLAP_COLUMNS = ["class", "study_a", "study_b", "case", "subject", "dice_a", "dice_b", "difference"]
MEASURED = ["case", "subject", "seed", "stage", "route", "quantity", "predicted_mm", "reference_mm"]
OVERLAPS = ["case", "subject", "seed", "stage", "class", "dice", "tp", "fn"]
BASELINE = "baseline"


@dataclass(frozen=True)
class Measured:
    """What a study has measured.

    Attributes:
        study: its name.
        tested: the cases that its test folds hold.
        measurements: measurements.csv of its 06_biometry, after post-processing.
        overlaps: cases.csv of its 05_evaluation after post-processing; None where landmarks are learnt.
    """

    study: str
    tested: frozenset[str]
    measurements: pd.DataFrame
    overlaps: pd.DataFrame | None


def read(study: str, folder: Path) -> Measured:
    """What a study has measured, from its folder.

    Raises:
        ValueError: a table is missing or lacks a column.
    """
    measurements = files.read_csv(folder / "06_biometry" / "measurements.csv", MEASURED)
    evaluated = files.read_csv(folder / "05_evaluation" / "cases.csv", ["case"])
    overlaps = None
    if "line" not in evaluated:  # a row a line: of landmarks
        overlaps = files.read_csv(folder / "05_evaluation" / "cases.csv", OVERLAPS)
        overlaps = overlaps[overlaps["stage"] == "post"]
    return Measured(study, frozenset(evaluated["case"]), measurements[measurements["stage"] == "post"], overlaps)


def check_same_cases(one: Measured, other: Measured) -> None:
    """Refuses two studies that did not test the same cases: their means would not be of the same thing.

    Raises:
        ValueError: a case is tested by one of them only; the message counts such cases and names some.
    """
    apart = {each.study: sorted(each.tested - rest.tested) for each, rest in ((one, other), (other, one))}
    if any(apart.values()):
        counted = f"{one.study} tested {len(one.tested)} cases, {other.study} {len(other.tested)}"
        only = "; ".join(f"{len(names)} only in {study} {names[:3]}" for study, names in apart.items() if names)
        raise ValueError(
            f"compare_with = {other.study!r}   {counted}: {only}; expected the same cases: equal fold_count, "
            "split_seed, folds, groups and exclude, and a reference for every case in both"
        )


def compare_all(own: Measured, others: list[Measured]) -> pd.DataFrame:
    """Errors in mm of this study (A) and others (B) in the same cases, and those of the mean of A's training cases.

    Args:
        own: this study.
        others: those that are compared with it.

    Returns:
        A row a pair x quantity x case (COLUMNS). A case's error is the mean of the absolute errors of its seeds, each
        study by its own reference; NaN where no seed could be measured. `not_measured_<a or b>` counts the seeds that
        could not. The last pair of each quantity is that with A's baseline; without others there are no rows.

    Raises:
        ValueError: a study did not test the same cases.
    """
    for other in others:
        check_same_cases(own, other)
    if not others:
        return pd.DataFrame(columns=COLUMNS)
    routes = routes_of(own)
    pairs = [(a, other, b) for other in others for b in routes_of(other) for a in routes]
    pairs += [(a, own, BASELINE) for a in routes]
    compared = [_pair(own, a, other, b) for a, other, b in pairs]
    long = pd.concat(compared, ignore_index=True) if compared else pd.DataFrame(columns=COLUMNS)
    order = {name: place for place, name in enumerate(dict.fromkeys(long["quantity"]))}
    return long.sort_values("quantity", key=lambda names: names.map(order), kind="stable", ignore_index=True)[COLUMNS]


def routes_of(measured: Measured) -> list[str]:
    """The routes of a study that look at images."""
    return [name for name in dict.fromkeys(measured.measurements["route"]) if name not in GUESSES]


def _pair(own: Measured, route_a: str, other: Measured, route_b: str) -> pd.DataFrame:
    """Rows of one pair of routes, of the cases and quantities that both studies know the reference of."""
    one, two = by_case(own.measurements, route_a), by_case(other.measurements, route_b)
    both = one.join(two.drop(columns="subject"), how="inner", lsuffix="_a", rsuffix="_b").reset_index()
    sides = {f"{name}_{side}": f"{name}_{side}_mm" for name in ("error", "reference") for side in "ab"}
    both = both.rename(columns=sides)
    both["difference_mm"] = both["error_a_mm"] - both["error_b_mm"]
    return both.assign(study_a=own.study, route_a=route_a, study_b=other.study, route_b=route_b)


def by_case(measurements: pd.DataFrame, route: str) -> pd.DataFrame:
    """A case's mean absolute error over its seeds, by quantity and case: subject, reference, error, not_measured."""
    rows = measurements[(measurements["route"] == route) & measurements["reference_mm"].notna()]
    off = (rows["predicted_mm"] - rows["reference_mm"]).abs()
    grouped = rows.assign(error=off, missing=off.isna()).groupby(["quantity", "case"], sort=False)
    return grouped.agg(
        subject=("subject", "first"),
        reference=("reference_mm", "first"),
        error=("error", "mean"),
        not_measured=("missing", "sum"),
    )


def compare_overlaps(own: Measured, others: list[Measured]) -> pd.DataFrame:
    """Dice after post-processing of this study (A) and others (B), where both learn regions.

    Returns:
        A row a pair x class x case (OVERLAP_COLUMNS), over the classes of both and the cases whose reference shows the
        class in both; Dice is the mean of a case's seeds, 0 for a miss.

    Raises:
        ValueError: a study did not test the same cases.
    """
    for other in others:
        check_same_cases(own, other)
    pairs = [_overlap_pair(own, other) for other in others if own.overlaps is not None and other.overlaps is not None]
    return pd.concat(pairs, ignore_index=True) if pairs else pd.DataFrame(columns=OVERLAP_COLUMNS)


def _overlap_pair(own: Measured, other: Measured) -> pd.DataFrame:
    one, two = _dice_by_case(own.overlaps), _dice_by_case(other.overlaps)
    both = one.join(two.drop(columns="subject"), how="inner", lsuffix="_a", rsuffix="_b").reset_index()
    both["difference"] = both["dice_a"] - both["dice_b"]
    return both.assign(study_a=own.study, study_b=other.study)[OVERLAP_COLUMNS]


def _dice_by_case(overlaps: pd.DataFrame) -> pd.DataFrame:
    shown = overlaps[overlaps["tp"] + overlaps["fn"] > 0]
    return shown.groupby(["class", "case"], sort=False).agg(subject=("subject", "first"), dice=("dice", "mean"))


def notes(own: Measured, others: list[Measured], references: pd.DataFrame) -> list[str]:
    """What a reader of the tables must know, a sentence each.

    Args:
        own: this study.
        others: those that are compared with it.
        references: the view `paired.references`.
    """
    said = [f"{own.study} and {other.study} tested the same {len(own.tested)} cases" for other in others]
    for row in references[references["differ"]].to_dict("records") if len(references) else []:
        apart = f"by {row['amount_mm']:.2f} mm on average"
        said.append(f"{row['quantity'].upper()}: the references of {own.study} and {row['study_b']} differ {apart}")
    return said or ["compare_with names no study: nothing is compared"]


def is_complete(own: Measured, long: pd.DataFrame) -> bool:
    """Whether each pair of a quantity holds every case of which this study has a reference."""
    known = own.measurements[own.measurements["reference_mm"].notna()].groupby("quantity")["case"].agg(set)
    pairs = long.groupby(["quantity", "route_a", "study_b", "route_b"])["case"].agg(set)
    return all(cases == known[quantity] for (quantity, *_), cases in pairs.items())


def is_nothing_against_itself(own: Measured) -> bool:
    """Whether a study compared with itself differs in no case."""
    long = compare_all(own, [own])
    routes = long[long["route_b"] == long["route_a"]]
    dice = compare_overlaps(own, [own])
    return bool(np.all(routes["difference_mm"].dropna() == 0) and np.all(dice["difference"] == 0))
