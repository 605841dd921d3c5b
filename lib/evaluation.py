"""Every case measured once, at native size, by a network that never saw its subject."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from lib import (
    cases,
    datasets,
    devices,
    figures,
    files,
    geometry,
    metrics,
    models,
    postprocessing,
    prediction,
    statistics,
)
from lib.arrays import Arrays
from lib.params import EvaluationParams

COLUMNS = ["case", "subject", "fold", "seed", "class", "stage", "tp", "fp", "fn", "tn", "dice", "iou"]
STAGES = ("raw", "post")


@dataclass(frozen=True)
class Bench:
    """What every run of a study is measured on.

    Attributes:
        table: the manifest.
        folds: which case is tested when.
        arrays: preprocessed cases.
        dataset: reads the reference masks.
        folder: of 05_evaluation; predictions go below it.
    """

    table: pd.DataFrame
    folds: pd.DataFrame
    arrays: Arrays
    dataset: datasets.Dataset
    folder: Path


def evaluate_run(
    chosen: EvaluationParams, bench: Bench, weights: Path, fold: int, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Measures one trained network on its test fold.

    Args:
        chosen: the keys of 05_evaluation.
        bench: cases and where predictions go.
        weights: model.safetensors of this run.
        fold, seed: of this run.

    Returns:
        The long table (case x class x stage), and what was chosen on validation.
    """
    device = devices.choose(chosen.device)
    precision = devices.choose_precision(chosen.precision, device)
    network = models.load(weights).to(device, memory_format=torch.channels_last)
    parts = cases.parts(bench.folds, fold)
    choice = choose_threshold(chosen, bench, network, parts["validation"], device, precision)
    shown = _predict(network, bench.arrays, parts["test"], chosen.flip_average, device, precision)
    rows = bench.table.set_index("case").loc[parts["test"]].reset_index()

    def measure(place: int) -> list[dict[str, Any]]:
        row = rows.iloc[place]
        mapping = bench.arrays.geometry_of(row["case"])
        reference = read_reference(bench, row["case"], row["mask"])
        raw = prediction.native_mask(shown[place], mapping, choice["threshold"])
        stages = dict(zip(STAGES, (raw, postprocessing.apply(raw, chosen.postprocessing))))
        for stage, mask in stages.items():
            write_mask(prediction_file(bench.folder, stage, fold, seed, row["case"]), mask)
        key = {"case": row["case"], "subject": row["subject"], "fold": fold, "seed": seed}
        return [
            key | {"class": name, "stage": stage, **each}
            for stage, mask in stages.items()
            for name, each in class_rows(reference, mask, chosen.classes).items()
        ]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        measured = [row for rows_of_case in pool.map(measure, range(len(rows))) for row in rows_of_case]
    return pd.DataFrame(measured, columns=COLUMNS), {"fold": fold, "seed": seed, **choice}


def evaluate_all(chosen: EvaluationParams, bench: Bench, trainings: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measures every run of a study.

    Args:
        chosen: the keys of 05_evaluation; its folds and seeds name the runs.
        bench: cases and where predictions go.
        trainings: folder of 04_training.

    Returns:
        The long table of all runs, and a row a run of what validation chose.
    """
    tables, choices = [], []
    for fold in chosen.folds:
        for seed in chosen.seeds:
            weights = trainings / files.run_name(fold, seed) / "model.safetensors"
            table, choice = evaluate_run(chosen, bench, weights, fold, seed)
            tables.append(table)
            choices.append(choice)
    return pd.concat(tables, ignore_index=True), pd.DataFrame(choices)


def _predict(
    network: nn.Module,
    arrays: Arrays,
    names: list[str],
    flip_average: bool,
    device: torch.device,
    precision: torch.dtype,
) -> np.ndarray:
    return prediction.predict(network, arrays.images[arrays.rows(names)], device, precision, flip_average)


def read_reference(bench: Bench, case: str, mask: str) -> np.ndarray:
    """A reference mask at native size, (H, W) uint8."""
    reference = bench.dataset.read_mask(files.ROOT / mask)
    mapping = bench.arrays.geometry_of(case)
    if reference.shape != (mapping.native_height, mapping.native_width):
        expected = (mapping.native_height, mapping.native_width)
        raise ValueError(f"{mask}: {reference.shape} now, {expected} when preprocessed; run the study again")
    return reference


def class_rows(reference: np.ndarray, predicted: np.ndarray, classes: list[str]) -> dict[str, dict[str, Any]]:
    """Counts, Dice and IoU of each class but background."""
    counts = metrics.confusion(reference, predicted, len(classes))
    overlaps = {name: metrics.overlap_of(counts, index) for index, name in enumerate(classes) if index > 0}
    return {name: {**vars(each), "dice": each.dice, "iou": each.iou} for name, each in overlaps.items()}


def choose_threshold(
    chosen: EvaluationParams,
    bench: Bench,
    network: nn.Module,
    names: list[str],
    device: torch.device,
    precision: torch.dtype,
) -> dict[str, Any]:
    """The foreground probability with the best mean Dice over validation cases at native size.

    With more than two classes the most probable class wins and there is nothing to choose. Among equals the
    threshold nearest to 0.5 is taken.

    Returns:
        {"threshold": value or None, "validation_dice": its mean Dice or None, "validation_cases": count}.
    """
    if not chosen.threshold_candidates:
        return {"threshold": None, "validation_dice": None, "validation_cases": len(names)}
    shown = _predict(network, bench.arrays, names, chosen.flip_average, device, precision)
    mask_of = bench.table.set_index("case")["mask"]

    def measure(place: int) -> list[float]:
        name = names[place]
        mapping = bench.arrays.geometry_of(name)
        reference = read_reference(bench, name, mask_of[name])
        foreground = geometry.to_native(shown[place, 1:2], mapping)[0]
        return [metrics.overlap(reference, foreground >= t, 1).dice for t in chosen.threshold_candidates]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        means = np.mean(list(pool.map(measure, range(len(names)))), axis=0)
    best = max(range(len(means)), key=lambda i: (means[i], -abs(chosen.threshold_candidates[i] - 0.5)))
    return {
        "threshold": chosen.threshold_candidates[best],
        "validation_dice": float(means[best]),
        "validation_cases": len(names),
    }


def prediction_file(folder: Path, stage: str, fold: int, seed: int, case: str) -> Path:
    """Where a predicted mask lies: class indices as grey values, native size."""
    return folder / "predictions" / stage / files.run_name(fold, seed) / f"{case}.png"


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Writes class indices as an 8-bit PNG."""
    with files.replacing(path) as temporary:
        Image.fromarray(mask).save(temporary, format="PNG")


def baselines(bench: Bench, names: list[str], classes: list[str]) -> pd.DataFrame:
    """What Otsu's threshold with an ellipse reaches for the head on test cases: method, class, n, Dice, interval."""
    rows = bench.table.set_index("case").loc[names].reset_index()

    def measure(place: int) -> float:
        row = rows.iloc[place]
        reference = read_reference(bench, row["case"], row["mask"])
        ellipse = prediction.otsu_ellipse(cases.read_grey(files.ROOT / row["image"]))
        return metrics.overlap(reference, ellipse, 1).dice

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        dice = np.array(list(pool.map(measure, range(len(rows)))))
    estimate = statistics.bootstrap(dice, rows["subject"].to_numpy())
    return pd.DataFrame(
        [
            {
                "method": "Otsu's threshold, holes filled, ellipse",
                "class": classes[1],
                "n": estimate.count,
                "dice": estimate.value,
                "dice_low": estimate.low,
                "dice_high": estimate.high,
            }
        ]
    )


def ranked(table: pd.DataFrame, stage: str = "post") -> pd.DataFrame:
    """One row a test case and seed, that of its lowest class Dice, the worst first; true absences do not count."""
    rows = table[(table["stage"] == stage) & table["dice"].notna()]
    ordered = rows.sort_values(["dice", "case", "class"], kind="stable")
    return ordered.drop_duplicates(["case", "seed"]).reset_index(drop=True)


def overlays(bench: Bench, rows: pd.DataFrame, stage: str = "post") -> list[figures.Overlay]:
    """Pictures of some rows of the long table: image, reference, prediction, the row's class and its Dice."""
    shown = datasets.load(bench.dataset, bench.table, rows["case"].tolist())
    masks = [
        cases.read_pixels(prediction_file(bench.folder, stage, row["fold"], row["seed"], row["case"]))
        for row in rows.to_dict("records")
    ]
    notes = [f"{name} {dice:.3f}" for name, dice in zip(rows["class"], rows["dice"])]
    return [
        figures.Overlay(*each) for each in zip(shown.names, shown.images, shown.masks, masks, shown.spacings_mm, notes)
    ]


def around_median(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The middle rows of a ranked table."""
    first = max(0, (len(rows) - count) // 2)
    return rows.iloc[first : first + count]


def probability_map(chosen: EvaluationParams, bench: Bench, trainings: Path, row: pd.Series) -> np.ndarray:
    """Probability of any foreground at native size: (H, W) float32."""
    device = devices.choose(chosen.device)
    network = models.load(trainings / files.run_name(row["fold"], row["seed"]) / "model.safetensors").to(device)
    precision = devices.choose_precision(chosen.precision, device)
    shown = _predict(network, bench.arrays, [row["case"]], chosen.flip_average, device, precision)[0]
    mapping = bench.arrays.geometry_of(row["case"])
    return 1 - geometry.to_native(shown[:1], mapping)[0]


def is_complete(table: pd.DataFrame, folds: pd.DataFrame, tested_folds: list[int]) -> bool:
    """Whether each case of the tested folds, and no other, has rows, under its own fold."""
    expected = folds[folds["fold"].isin(tested_folds)][["case", "fold"]]
    measured = table[["case", "fold"]].drop_duplicates()
    return sorted(map(tuple, expected.values)) == sorted(map(tuple, measured.values))


def counts_add_up(table: pd.DataFrame, manifest: pd.DataFrame) -> bool:
    """Whether TP + FP + FN + TN is the number of pixels of the native image, in each row."""
    pixels = manifest.set_index("case").eval("height * width")
    return bool((table[["tp", "fp", "fn", "tn"]].sum(axis=1).to_numpy() == pixels.loc[table["case"]].to_numpy()).all())


def dice_and_iou_agree(table: pd.DataFrame) -> bool:
    """Whether Dice = 2 IoU / (1 + IoU) in each row that has them."""
    rows = table[table["dice"].notna()]
    return bool(np.allclose(rows["dice"], 2 * rows["iou"] / (1 + rows["iou"]), rtol=0, atol=1e-12))
