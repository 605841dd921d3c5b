"""Summaries by patient from the long table of 05_evaluation; empty for images."""

import numpy as np
import pandas as pd

from lib.data.cases import group_of
from lib.report.summaries.dice import KEY, in_reference, outcomes
from lib.report.summaries.means import by_case, by_group, mean_over, median_over, with_interval

PATIENT_COLUMNS = ["case", "group", "class", "slices", "reference_voxels", "predicted_voxels", "dice_raw", "dice"]
COST_COLUMNS = ["class", "n", "cut_patients", "lost_voxels", "lost_percent", "dice", "dice_without", "cost"]


def score(rows: pd.DataFrame) -> pd.Series:
    """The Dice of each row, or 1 if neither mask contains the class: "Dice per patient, absent = 1"."""
    return rows["dice"].mask(rows[["tp", "fp", "fn"]].sum(axis=1) == 0, 1.0)


def per_patient(table: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Reference and predicted voxels (after post-processing) and Dice of both stages of each volume, worst first.

    Dice is missing if the reference does not contain the class; such a volume is sorted by its score: 1 if nothing is
    predicted, otherwise 0. Values are means over seeds. `manifest` is cases.csv of 01.
    """
    volumes = manifest[manifest["slices"] > 1].set_index("case")
    rows = table[table["case"].isin(volumes.index)].assign(score=score)
    rows["dice"] = rows["dice"].where(in_reference(rows))
    if rows.empty:
        return pd.DataFrame(columns=PATIENT_COLUMNS)
    voxels = ["reference_voxels", "predicted_voxels"]
    rows[voxels[0]], rows[voxels[1]] = rows["tp"] + rows["fn"], rows["tp"] + rows["fp"]
    of_stages = rows.groupby(["stage", "case", "class"], sort=False)[[*voxels, "dice", "score"]].mean()
    first = "raw" if "raw" in set(rows["stage"]) else "post"  # without post-processing there is one prediction
    patients = of_stages.loc["post"].assign(dice_raw=of_stages.loc[first]["dice"]).reset_index()
    patients["slices"] = volumes.loc[patients["case"], "slices"].to_numpy()
    patients["group"] = group_of(volumes.loc[patients["case"], "stratum"]).to_numpy()
    patients[voxels] = patients[voxels].round().astype(int)
    return patients.sort_values(["score", "case"])[PATIENT_COLUMNS].reset_index(drop=True)


def summary(table: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Mean, median and minimum of `score` by class and stage over all n patients, seeds averaged first."""
    volumes = set(manifest.loc[manifest["slices"] > 1, "case"])
    return by_group(table[table["case"].isin(volumes)].assign(score=score), KEY, _summary)


def _summary(group: pd.DataFrame) -> dict[str, object]:
    of_patients = by_case(group, ["score"])
    mean, median = mean_over(of_patients, "score"), median_over(of_patients, "score")
    row = {"n": mean.count} | with_interval("dice_per_patient", mean)
    row |= with_interval("median_per_patient", median) | {"min_per_patient": mean.least}
    return row | {"absent": outcomes(group)["absent"]}


def end_slice_cost(table: pd.DataFrame, lost: pd.DataFrame) -> pd.DataFrame:
    """Cost of excluding end slices by class: mean Dice after post-processing, with and without the voxels lost there.

    Nothing is predicted in an excluded slice, so every lost voxel is an FN. Both means are over the n patients whose
    reference contains the class; if all its voxels are lost, Dice without them is 1 if nothing is predicted.
    `cut_patients` lose voxels. `lost` is lost.csv of 02_preprocessing.
    """
    rows = table[(table["stage"] == "post") & table["case"].isin(lost["case"])]
    voxels = lost.set_index("case")["in_dropped_slices"]

    def describe(group: pd.DataFrame) -> dict[str, object]:
        positive = group[in_reference(group)]
        dropped, both = voxels.loc[positive["case"]].to_numpy(), 2 * positive["tp"].to_numpy()
        rest = both + positive["fp"].to_numpy() + positive["fn"].to_numpy() - dropped
        without = np.where(rest > 0, both / np.maximum(rest, 1), 1.0)
        of_cases = by_case(positive.assign(without=without), ["dice", "without"])
        once, whole = voxels.loc[of_cases.index], (positive["tp"] + positive["fn"]).sum()
        dice, dice_without = float(of_cases["dice"].mean()), float(of_cases["without"].mean())
        row = {"n": len(once), "cut_patients": int((once > 0).sum()), "lost_voxels": int(once.sum())}
        row["lost_percent"] = float(100 * dropped.sum() / whole if whole else np.nan)
        return row | {"dice": dice, "dice_without": dice_without, "cost": dice_without - dice}

    return by_group(rows, ["class"], describe) if len(rows) else pd.DataFrame(columns=COST_COLUMNS)
