"""Views of the long table of 05_evaluation for volumes: a row a patient, their mean, and what dropped slices cost."""

import numpy as np
import pandas as pd

from lib.data.cases import group_of
from lib.report.summaries import dice, means
from lib.report.summaries.dice import is_shown
from lib.report.summaries.means import by_case

PATIENT_COLUMNS = ["case", "group", "class", "slices", "reference_voxels", "predicted_voxels", "dice_raw", "dice"]
COST_COLUMNS = ["class", "n", "cut_patients", "lost_voxels", "lost_percent", "dice", "dice_without", "cost"]


def scored(rows: pd.DataFrame) -> pd.Series:
    """ "Dice per patient, absent = 1": Dice of each row, and 1 where neither reference nor prediction shows the class.

    It is not what is called Dice elsewhere, a mean of which leaves out whoever does not have the class.
    """
    return rows["dice"].mask(rows[["tp", "fp", "fn"]].sum(axis=1) == 0, 1.0)


def listed(table: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Each volume, the worst first: voxels of reference and prediction (after post-processing), Dice of both stages.

    Dice is missing where the reference does not show the class; such a volume stands where its score puts it, 1 if
    nothing is predicted and 0 otherwise.

    Args:
        table: cases.csv of 05_evaluation.
        manifest: cases.csv of 01_data_verification.

    Returns:
        PATIENT_COLUMNS; no row for images. With several seeds means over them.
    """
    volumes = manifest[manifest["slices"] > 1].set_index("case")
    rows = table[table["case"].isin(volumes.index)].assign(scored=scored)
    rows["dice"] = rows["dice"].where(dice.is_shown(rows))
    if rows.empty:
        return pd.DataFrame(columns=PATIENT_COLUMNS)
    rows["reference_voxels"], rows["predicted_voxels"] = rows["tp"] + rows["fn"], rows["tp"] + rows["fp"]
    key, values = ["case", "class"], ["reference_voxels", "predicted_voxels", "dice", "scored"]
    of_stage = {
        stage: rows[rows["stage"] == stage].groupby(key, sort=False)[values].mean() for stage in ("raw", "post")
    }
    found = of_stage["post"].assign(dice_raw=of_stage["raw"]["dice"]).reset_index()
    found["slices"] = volumes.loc[found["case"], "slices"].to_numpy()
    found["group"] = group_of(volumes.loc[found["case"], "stratum"]).to_numpy()
    counted = ["reference_voxels", "predicted_voxels"]
    found[counted] = found[counted].round().astype(int)
    return found.sort_values(["scored", "case"])[PATIENT_COLUMNS].reset_index(drop=True)


def summary(table: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """ "Dice per patient, absent = 1" by class and stage, over all n patients, seeds of a patient averaged first.

    Returns:
        class, stage, n, dice_per_patient with its interval (95 %, resampling subjects), median_per_patient,
        min_per_patient, absent (predictions that score 1 for it); no row for images.
    """
    volumes = set(manifest.loc[manifest["slices"] > 1, "case"])
    rows = []
    for (name, stage), group in table[table["case"].isin(volumes)].groupby(["class", "stage"], sort=False):
        own = group.assign(scored=scored)
        found, values = means.mean_over_cases(own, "scored"), means.by_case(own, ["scored"])["scored"]
        row = {"class": name, "stage": stage, "n": found.count} | means.estimated("dice_per_patient", found)
        row |= {"median_per_patient": float(values.median()), "min_per_patient": float(values.min())}
        rows.append(row | {"absent": int((group[["tp", "fp", "fn"]].sum(axis=1) == 0).sum())})
    return pd.DataFrame(rows)


def end_slice_cost(table: pd.DataFrame, lost: pd.DataFrame) -> pd.DataFrame:
    """What leaving out end slices costs: mean Dice after post-processing as it is, and without the voxels lost there.

    Nothing is predicted in a slice that is left out, so a lost voxel is a miss (FN) and no more. Both means are over
    the n patients whose reference shows the class; one of whom all is lost has, without, 1 if nothing is predicted.

    Args:
        table: cases.csv of 05_evaluation.
        lost: lost.csv of 02_preprocessing.

    Returns:
        COST_COLUMNS, a row a class; no row for images. `cut_patients` lose something.
    """
    rows = table[(table["stage"] == "post") & table["case"].isin(lost["case"])]
    voxels = lost.set_index("case")["in_dropped_slices"]
    found = []
    for name, group in rows.groupby("class", sort=False):
        shown = group[is_shown(group)]
        gone, both = voxels.loc[shown["case"]].to_numpy(), 2 * shown["tp"].to_numpy()
        total = both + shown["fp"].to_numpy() + shown["fn"].to_numpy() - gone
        without = np.where(total > 0, both / np.maximum(total, 1), 1.0)
        means = by_case(shown.assign(without=without), ["dice", "without"])
        once, whole = voxels.loc[means.index], (shown["tp"] + shown["fn"]).sum()
        counts = [len(once), int((once > 0).sum()), int(once.sum())]
        share = 100 * gone.sum() / whole if whole else np.nan
        dice, dice_without = float(means["dice"].mean()), float(means["without"].mean())
        found.append([name, *counts, float(share), dice, dice_without, dice_without - dice])
    return pd.DataFrame(found, columns=COST_COLUMNS)
