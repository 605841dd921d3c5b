"""Landmark errors, from the long table of 05_evaluation, and heatmap losses, from the histories of 04_training."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.imaging.head_points import BLANK_LOSS
from lib.report.summaries.means import by_case, by_group, counts_all, mean_over, median_over, with_interval
from lib.study import files

LOSS_COLUMNS = ["fold", "seed", "kept_epoch", "heatmap_loss", "blank_map_loss", "validation_error_percent"]  # % of OFD


def landmarks(errors: pd.DataFrame) -> pd.DataFrame:
    """Endpoint errors by line and route (cases.csv of 05_evaluation), averaged over the seeds of a case first.

    Means in pixels and in percent of the reference OFD are over n cases, those in mm over the n_mm of them with a
    known pixel size. `missed` counts predictions of a line that lack an endpoint, which are in no mean.
    """
    return by_group(errors, ["line", "route"], _describe)


def _describe(group: pd.DataFrame) -> dict[str, object]:
    of_cases = by_case(group, ["error_mm", "error_px", "normalised_error_percent"])
    known = of_cases["error_mm"].dropna()
    mm, px = (mean_over(of_cases, name) for name in ("error_mm", "error_px"))
    row = {"n": px.count, "n_mm": mm.count} | with_interval("error_mm", mm) | with_interval("error_px", px)
    row |= with_interval("median_mm", median_over(of_cases, "error_mm"))
    shares = {"lower_quartile_mm": 25, "upper_quartile_mm": 75, "percentile_95_mm": 95}
    row |= {name: float(np.percentile(known, at)) if len(known) else float("nan") for name, at in shares.items()}
    row["normalised_error_percent"] = float(of_cases["normalised_error_percent"].mean())
    return row | {"missed": int(group["error_px"].isna().sum())}


def holds_all_lines(table: pd.DataFrame, errors: pd.DataFrame) -> bool:
    """Whether n and missed of `landmarks` account for every row of the long table."""
    return counts_all(table, errors, ["line", "route"], errors["error_px"].notna(), ["missed"])


def heatmap_losses(folds: list[int], seeds: list[int], trainings: Path) -> pd.DataFrame:
    """Validation loss and error of each run's best epoch, and the loss of a blank map (LOSS_COLUMNS)."""
    rows = []
    for fold, seed in ((fold, seed) for fold in folds for seed in seeds):
        path = trainings / files.run_name(fold, seed) / "history.csv"
        history = files.read_csv(path, ["epoch", "validation_loss", "validation_error_percent", "best"])
        best = history[history["best"].astype(bool)].iloc[-1]
        values = best["validation_loss"], BLANK_LOSS, best["validation_error_percent"]
        rows.append((fold, seed, int(best["epoch"]), *map(float, values)))
    return pd.DataFrame(rows, columns=LOSS_COLUMNS)
