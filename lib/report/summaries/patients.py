"""Views of the long table of 05_evaluation for volumes (of images empty): patients, their mean, what slices cost."""

import numpy as np
import pandas as pd

from lib.data.cases import group_of
from lib.report.summaries.dice import KEY, is_shown, outcomes
from lib.report.summaries.means import by_case, by_group, estimated, mean_over

PATIENT_COLUMNS = ["case", "group", "class", "slices", "reference_voxels", "predicted_voxels", "dice_raw", "dice"]
COST_COLUMNS = ["class", "n", "cut_patients", "lost_voxels", "lost_percent", "dice", "dice_without", "cost"]


def scored(rows: pd.DataFrame) -> pd.Series:
    """ "Dice per patient, absent = 1": the Dice of each row, and 1 where neither mask shows the class.

    What is called Dice elsewhere is a mean that leaves such cases out.
    """
    return rows["dice"].mask(rows[["tp", "fp", "fn"]].sum(axis=1) == 0, 1.0)


def listed(table: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Each volume, the worst first: voxels of reference and prediction (after post-processing), Dice of both stages.

    Dice is missing where the reference does not show the class; such a volume stands where its score puts it, 1 if
    nothing is predicted and 0 otherwise. With several seeds means over them. `manifest` is cases.csv of 01.
    """
    volumes = manifest[manifest["slices"] > 1].set_index("case")
    rows = table[table["case"].isin(volumes.index)].assign(scored=scored)
    rows["dice"] = rows["dice"].where(is_shown(rows))
    if rows.empty:
        return pd.DataFrame(columns=PATIENT_COLUMNS)
    voxels = ["reference_voxels", "predicted_voxels"]
    rows[voxels[0]], rows[voxels[1]] = rows["tp"] + rows["fn"], rows["tp"] + rows["fp"]
    of_stages = rows.groupby(["stage", "case", "class"], sort=False)[[*voxels, "dice", "scored"]].mean()
    patients = of_stages.loc["post"].assign(dice_raw=of_stages.loc["raw"]["dice"]).reset_index()
    patients["slices"] = volumes.loc[patients["case"], "slices"].to_numpy()
    patients["group"] = group_of(volumes.loc[patients["case"], "stratum"]).to_numpy()
    patients[voxels] = patients[voxels].round().astype(int)
    return patients.sort_values(["scored", "case"])[PATIENT_COLUMNS].reset_index(drop=True)


def summary(table: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """ "Dice per patient, absent = 1" by class and stage, over all n patients, seeds of a patient averaged first.

    Mean with its interval (95 %, resampling subjects), median, minimum, and `absent`: predictions that score 1 for it.
    """
    volumes = set(manifest.loc[manifest["slices"] > 1, "case"])
    return by_group(table[table["case"].isin(volumes)].assign(scored=scored), KEY, _summary)


def _summary(group: pd.DataFrame) -> dict[str, object]:
    of_patients = by_case(group, ["scored"])
    mean, values = mean_over(of_patients, "scored"), of_patients["scored"]
    row = {"n": mean.count} | estimated("dice_per_patient", mean)
    row |= {"median_per_patient": float(values.median()), "min_per_patient": float(values.min())}
    return row | {"absent": outcomes(group)["absent"]}


def end_slice_cost(table: pd.DataFrame, lost: pd.DataFrame) -> pd.DataFrame:
    """What leaving out end slices costs by class: mean Dice after post-processing, and without the voxels lost there.

    Nothing is predicted in a slice that is left out, so a lost voxel is a miss (FN) and no more. Both means are over
    the n patients whose reference shows the class; one of whom all is lost has, without, 1 if nothing is predicted.
    `cut_patients` lose something. `lost` is lost.csv of 02_preprocessing.
    """
    rows = table[(table["stage"] == "post") & table["case"].isin(lost["case"])]
    voxels = lost.set_index("case")["in_dropped_slices"]

    def describe(group: pd.DataFrame) -> dict[str, object]:
        shown = group[is_shown(group)]
        gone, both = voxels.loc[shown["case"]].to_numpy(), 2 * shown["tp"].to_numpy()
        rest = both + shown["fp"].to_numpy() + shown["fn"].to_numpy() - gone
        without = np.where(rest > 0, both / np.maximum(rest, 1), 1.0)
        of_cases = by_case(shown.assign(without=without), ["dice", "without"])
        once, whole = voxels.loc[of_cases.index], (shown["tp"] + shown["fn"]).sum()
        dice, dice_without = float(of_cases["dice"].mean()), float(of_cases["without"].mean())
        row = {"n": len(once), "cut_patients": int((once > 0).sum()), "lost_voxels": int(once.sum())}
        row["lost_percent"] = float(100 * gone.sum() / whole if whole else np.nan)
        return row | {"dice": dice, "dice_without": dice_without, "cost": dice_without - dice}

    return by_group(rows, ["class"], describe) if len(rows) else pd.DataFrame(columns=COST_COLUMNS)
