"""Presence of structures and of their parts, from the long table of 05_evaluation: one row per case x class x stage."""

import pandas as pd

from lib.report.summaries.dice import KEY, in_reference, outcomes
from lib.report.summaries.means import by_case, by_group, mean_over, share_over, with_interval

HALF = 0.5  # Dice from which a structure counts as detected in its place
OUTCOMES = ["detected", "missed", "invented", "absent"]
PART_COLUMNS = [*KEY, "n", "part_f1", "part_f1_low", "part_f1_high", "reference_parts", "found_parts", "false_parts"]


def per_class(cases: pd.DataFrame) -> pd.DataFrame:
    """Whether structures are predicted in the cases that show them, by class and stage, and by each of several seeds.

    The n cases are detected (both masks contain the class, wherever), missed (only the reference), invented (only the
    prediction) or absent (neither); of the detected ones, `dice_from_half` have a Dice of at least HALF. Sensitivity is
    detected / (detected + missed), specificity absent / (absent + invented), and false alarms are the rest of the
    latter; with 95 % Wilson intervals over the effective number of cases.
    """
    return by_group(cases, _key(cases), _describe)


def _key(cases: pd.DataFrame) -> list[str]:
    """Predictions of several seeds for one case are not independent: each seed has its own rows then."""
    return [*KEY, "seed"] if cases["seed"].nunique() > 1 else KEY


def _describe(group: pd.DataFrame) -> dict[str, object]:
    positive, predicted = in_reference(group), group["tp"] + group["fp"] > 0
    counts = outcomes(group) | {"detected": int((positive & predicted).sum())}
    row: dict[str, object] = {"n": len(group), "detected": counts["detected"]}
    row["dice_from_half"] = int((positive & (group["dice"] >= HALF)).sum())
    row |= {name: counts[name] for name in OUTCOMES}
    shares = group.assign(sensitivity=predicted, specificity=~predicted, false_alarms=predicted)
    for name, rows in (("sensitivity", positive), ("specificity", ~positive), ("false_alarms", ~positive)):
        row |= share_over(shares[rows], name)
    return row


def holds_all_predictions(table: pd.DataFrame, cases: pd.DataFrame) -> bool:
    """Whether detected, missed, invented and absent of `per_class` account for every row of the long table."""
    return table[OUTCOMES].to_numpy().sum() == len(cases) and bool((table[OUTCOMES].sum(axis=1) == table["n"]).all())


def parts(cases: pd.DataFrame) -> pd.DataFrame:
    """Connected parts that were found, by class and stage, for classes of which some reference has several parts.

    A reference part is found if it shares a pixel with the prediction; a predicted part is false if it shares none with
    the reference. F1 of a case is 2 found / (2 found + reference parts not found + false parts); its mean is over the n
    cases whose reference contains the class, seeds averaged first. Counts are of all predictions.
    """
    several = cases.loc[cases["reference_parts"] > 1, "class"].unique()
    rows = cases[cases["class"].isin(several)]
    return by_group(rows, KEY, _describe_parts) if len(rows) else pd.DataFrame(columns=PART_COLUMNS)


def _describe_parts(group: pd.DataFrame) -> dict[str, object]:
    found, false = group["found_parts"], group["predicted_parts"] - group["matched_parts"]
    f1 = 2 * found / (found + group["reference_parts"] + false)
    mean = mean_over(by_case(group[in_reference(group)].assign(f1=f1), ["f1"]), "f1")
    counts = {"reference_parts": group["reference_parts"], "found_parts": found, "false_parts": false}
    return {"n": mean.count} | with_interval("part_f1", mean) | {name: int(each.sum()) for name, each in counts.items()}
