"""Views of the long table of 05_evaluation for volumes: a row a patient, their mean, and what dropped slices cost."""

import numpy as np
import pandas as pd

from lib import statistics
from lib.cases import group_of

PATIENT_COLUMNS = ["case", "group", "class", "slices", "reference_voxels", "predicted_voxels", "dice_raw", "dice"]
COST_COLUMNS = ["class", "patients", "cut_patients", "lost_voxels", "lost_percent", "dice", "dice_without", "cost"]


def scored(rows: pd.DataFrame) -> pd.Series:
    """Dice of each row of the long table; 1 where neither reference nor prediction shows the class."""
    return rows["dice"].fillna(1.0)


def listed(table: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Each volume, the worst first: voxels of reference and prediction (after post-processing), Dice of both stages.

    Args:
        table: cases.csv of 05_evaluation.
        manifest: cases.csv of 01_data_verification.

    Returns:
        PATIENT_COLUMNS; no row for images. With several seeds means over them.
    """
    volumes = manifest[manifest["slices"] > 1].set_index("case")
    rows = table[table["case"].isin(volumes.index)].assign(scored=scored)
    if rows.empty:
        return pd.DataFrame(columns=PATIENT_COLUMNS)
    rows["reference_voxels"], rows["predicted_voxels"] = rows["tp"] + rows["fn"], rows["tp"] + rows["fp"]
    key, values = ["case", "class"], ["reference_voxels", "predicted_voxels", "scored"]
    of_stage = {
        stage: rows[rows["stage"] == stage].groupby(key, sort=False)[values].mean() for stage in ("raw", "post")
    }
    found = of_stage["post"].rename(columns={"scored": "dice"}).assign(dice_raw=of_stage["raw"]["scored"]).reset_index()
    found["slices"] = volumes.loc[found["case"], "slices"].to_numpy()
    found["group"] = group_of(volumes.loc[found["case"], "stratum"]).to_numpy()
    counted = ["reference_voxels", "predicted_voxels"]
    found[counted] = found[counted].round().astype(int)
    return found.sort_values(["dice", "case"])[PATIENT_COLUMNS].reset_index(drop=True)


def summary(table: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Dice per patient by class and stage: a patient without lesion of whom nothing is predicted scores 1.

    Returns:
        class, stage, n, dice with its interval (95 %, resampling subjects), dice_median, dice_min, absent; no row for
        images.
    """
    volumes = set(manifest.loc[manifest["slices"] > 1, "case"])
    rows = []
    for (name, stage), group in table[table["case"].isin(volumes)].groupby(["class", "stage"], sort=False):
        values = scored(group)
        found = statistics.bootstrap(values.to_numpy(float), group["subject"].to_numpy())
        row = {"class": name, "stage": stage, "n": int(group["case"].nunique())}
        row |= {"dice": found.value, "dice_low": found.low, "dice_high": found.high}
        row |= {"dice_median": float(values.median()), "dice_min": float(values.min())}
        rows.append(row | {"absent": int(group["dice"].isna().sum())})
    return pd.DataFrame(rows)


def end_slice_cost(table: pd.DataFrame, lost: pd.DataFrame) -> pd.DataFrame:
    """What leaving out end slices costs: mean Dice after post-processing as it is, and without the voxels lost there.

    Nothing is predicted in a slice that is left out, so a lost voxel is a miss (FN) and no more.

    Args:
        table: cases.csv of 05_evaluation.
        lost: lost.csv of 02_preprocessing.

    Returns:
        COST_COLUMNS, a row a class; no row for images. `cut_patients` lose something.
    """
    rows = table[(table["stage"] == "post") & table["case"].isin(lost["case"])]
    if rows.empty:
        return pd.DataFrame(columns=COST_COLUMNS)
    voxels = lost.set_index("case")["in_dropped_slices"]
    found = []
    for name, group in rows.groupby("class", sort=False):
        gone = voxels.loc[group["case"]].to_numpy()
        both = 2 * group["tp"].to_numpy()
        total = both + group["fp"].to_numpy() + group["fn"].to_numpy() - gone
        without = np.where(total > 0, both / np.maximum(total, 1), 1.0).mean()
        dice, whole = scored(group).mean(), (group["tp"] + group["fn"]).sum()
        once = voxels.loc[group["case"].unique()]  # a case has a row a seed
        counts = [len(once), int((once > 0).sum()), int(once.sum())]
        share = 100 * gone.sum() / whole if whole else np.nan
        found.append([name, *counts, float(share), float(dice), float(without), float(without - dice)])
    return pd.DataFrame(found, columns=COST_COLUMNS)
