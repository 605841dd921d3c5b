"""Heads in millimetres: predicted masks against what the publisher measured, and against knowing nothing."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import biometry, cases, datasets, files, shapes
from lib.cases import QUANTITIES
from lib.params import BiometryParams

COLUMNS = ["case", "subject", "fold", "seed", "stage", "route", "quantity", "predicted_mm", "reference_mm", "flags"]
SHAPE_COLUMNS = ["case", "subject", "fold", "seed", "class", "source", *shapes.COLUMNS]


def measure_all(
    chosen: BiometryParams,
    table: pd.DataFrame,
    folds: pd.DataFrame,
    tested: pd.DataFrame,
    dataset: datasets.Dataset,
    predictions: Path,
) -> pd.DataFrame:
    """BPD, OFD and HC of every predicted head, beside reference and baseline.

    Args:
        chosen: the keys of 06_biometry.
        table: the manifest.
        folds: which case is in which fold.
        tested: one row a predicted mask: case, fold, seed, stage.
        dataset: reads the reference masks.
        predictions: folder of the predicted masks, <stage>/<run>/<case>.png.

    Returns:
        The long table; a case without a pixel size has no row, a head that cannot be measured has NaN and a flag. Where
        the study names no head it is empty.
    """
    if not chosen.head_classes:
        return pd.DataFrame(columns=COLUMNS)
    heads = [chosen.classes.index(name) for name in chosen.head_classes]
    known = table[table["spacing_row_mm"].notna()].set_index("case")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        references = dict(zip(known.index, pool.map(lambda n: reference_mm(known.loc[n], dataset, heads), known.index)))
        rows = tested[tested["case"].isin(known.index)].to_dict("records")
        measured = pool.map(lambda row: _measure(chosen, row, known, heads, predictions), rows)
        long = [row for each in measured for row in each]
    ellipse = pd.DataFrame(long, columns=[c for c in COLUMNS if c != "reference_mm"])
    both = pd.concat([ellipse, baseline(ellipse, folds, references)], ignore_index=True)
    both["reference_mm"] = [references[case][q] for case, q in zip(both["case"], both["quantity"])]
    return both[COLUMNS]


def reference_mm(row: pd.Series, dataset: datasets.Dataset, heads: list[int]) -> dict[str, float]:
    """Published quantities of a case; what is not published is measured on the reference mask."""
    published = {q: float(row[f"{q}_mm"]) for q in QUANTITIES}
    if all(np.isfinite(value) for value in published.values()):
        return published
    region = np.isin(dataset.read_mask(cases.split_paths(row["mask"])), heads)
    measured = biometry.measure_head(region, (row["spacing_row_mm"], row["spacing_col_mm"]))
    return {q: published[q] if np.isfinite(published[q]) else measured[q] for q in QUANTITIES}


def _measure(
    chosen: BiometryParams, row: dict[str, Any], known: pd.DataFrame, heads: list[int], predictions: Path
) -> list[dict[str, Any]]:
    case = known.loc[row["case"]]
    region = np.isin(cases.read_pixels(predicted_file(predictions, row)), heads)
    try:
        found = biometry.measure_head(region, (case["spacing_row_mm"], case["spacing_col_mm"]))
        flags = flags_of(found, chosen.max_axis_ratio, chosen.hc_range_mm)
    except ValueError:
        found, flags = dict.fromkeys(QUANTITIES, np.nan), "no ellipse"
    key = {name: row[name] for name in ("case", "fold", "seed", "stage")} | {"subject": case["subject"]}
    return [key | {"route": "ellipse", "quantity": q, "predicted_mm": found[q], "flags": flags} for q in QUANTITIES]


def flags_of(found: dict[str, float], max_axis_ratio: float, hc_range_mm: list[float]) -> str:
    """What is odd about a measured head, '' for nothing; it is kept all the same."""
    flags = []
    if found["ofd"] / found["bpd"] > max_axis_ratio:
        flags.append("long")
    if not hc_range_mm[0] <= found["hc"] <= hc_range_mm[1]:
        flags.append("HC out of range")
    return "; ".join(flags)


def baseline(ellipse: pd.DataFrame, folds: pd.DataFrame, references: dict[str, dict[str, float]]) -> pd.DataFrame:
    """The guess that looks at no image: the mean reference of each fold's training cases."""
    means = {fold: training_mean(folds, fold, references) for fold in sorted(set(ellipse["fold"]))}
    rows = ellipse.copy()
    rows["route"], rows["flags"] = "baseline", ""
    rows["predicted_mm"] = [means[fold][q] for fold, q in zip(rows["fold"], rows["quantity"])]
    return rows


def training_mean(folds: pd.DataFrame, fold: int, references: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean of each quantity over the training cases of a fold whose size is known."""
    train = [references[case] for case in cases.parts(folds, fold)["train"] if case in references]
    return {q: float(np.mean([each[q] for each in train])) if train else float("nan") for q in QUANTITIES}


def shapes_of_all(
    chosen: BiometryParams, table: pd.DataFrame, tested: pd.DataFrame, dataset: datasets.Dataset, predictions: Path
) -> pd.DataFrame:
    """Area, bounding box, centroid and form of every structure, predicted (after post-processing) and in the reference.

    Args:
        chosen: the keys of 06_biometry.
        table: the manifest.
        tested: one row a predicted mask: case, fold, seed, stage.
        dataset: reads the reference masks.
        predictions: folder of the predicted masks.

    Returns:
        A row a case x seed x class x source (SHAPE_COLUMNS); a class that is not shown has 0 parts.
    """
    about = table.set_index("case")

    def measure(row: dict[str, Any]) -> list[dict[str, Any]]:
        case = about.loc[row["case"]]
        spacing = (float(case["spacing_row_mm"]), float(case["spacing_col_mm"]))
        masks = {
            "reference": dataset.read_mask(cases.split_paths(case["mask"])),
            "predicted": cases.read_pixels(predicted_file(predictions, row)),
        }
        key = {"case": row["case"], "subject": case["subject"], "fold": row["fold"], "seed": row["seed"]}
        return [
            key | {"class": name, "source": source} | shapes.describe(mask == index, known_spacing(spacing))
            for index, name in enumerate(chosen.classes[1:], start=1)
            for source, mask in masks.items()
        ]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        measured = pool.map(measure, tested[tested["stage"] == "post"].to_dict("records"))
        return pd.DataFrame([row for each in measured for row in each], columns=SHAPE_COLUMNS)


def known_spacing(spacing_mm: tuple[float, float]) -> tuple[float, float] | None:
    """A pixel size, or None for the NaN of a table."""
    return spacing_mm if np.isfinite(spacing_mm).all() else None


def predicted_file(predictions: Path, row: dict[str, Any]) -> Path:
    """The predicted mask of a row: <stage>/<run>/<case>.png."""
    return predictions / row["stage"] / files.run_name(row["fold"], row["seed"]) / f"{row['case']}.png"


def axes_in_order(table: pd.DataFrame) -> bool:
    """Whether BPD <= OFD wherever both were measured by an ellipse."""
    measured = table[(table["route"] == "ellipse") & table["predicted_mm"].notna()]
    axes = measured.pivot_table(index=["case", "seed", "stage"], columns="quantity", values="predicted_mm")
    return bool((axes["bpd"] <= axes["ofd"]).all()) if len(axes) else True


def flagged(table: pd.DataFrame) -> pd.DataFrame:
    """Heads with a flag, a row each, with their HC: case, stage, predicted_mm, reference_mm, flags."""
    rows = table[(table["flags"] != "") & (table["quantity"] == "hc")]
    return rows[["case", "stage", "predicted_mm", "reference_mm", "flags"]]
