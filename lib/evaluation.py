"""Every case measured once, at native size, by a network that never saw its subject."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from lib import (
    cases,
    datasets,
    devices,
    figures,
    files,
    geometry,
    masks,
    metrics,
    models,
    postprocessing,
    prediction,
    splits,
)
from lib.arrays import Arrays
from lib.params import EvaluationParams

COLUMNS = ["case", "subject", "fold", "seed", "class", "stage", "tp", "fp", "fn", "tn", "dice", "iou"]
CONFUSION_COLUMNS = ["fold", "seed", "stage", "reference", "predicted", "pixels"]
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

    def predicted(self, stage: str, fold: int, seed: int, case: str) -> Path:
        """Where the predicted mask of a case lies."""
        return masks.place(self.folder / "predictions", stage, fold, seed, case, self.dataset.volumes)


@dataclass(frozen=True)
class Evaluation:
    """What runs were measured to.

    Attributes:
        table: the long table, a row a case x class x stage (COLUMNS).
        confusion: pixels by reference and predicted class, a row a run x stage x pair (CONFUSION_COLUMNS).
        choices: what validation chose, a row a run.
    """

    table: pd.DataFrame
    confusion: pd.DataFrame
    choices: pd.DataFrame


def evaluate_run(chosen: EvaluationParams, bench: Bench, weights: Path, fold: int, seed: int) -> Evaluation:
    """Measures one trained network on its test fold.

    Args:
        chosen: the keys of 05_evaluation.
        bench: cases and where predictions go.
        weights: model.safetensors of this run.
        fold, seed: of this run.
    """
    device = devices.choose(chosen.device)
    precision = devices.choose_precision(chosen.precision, device)
    network = models.load(weights).to(device, memory_format=torch.channels_last)
    parts = splits.parts(bench.folds, fold)
    choice = choose_threshold(chosen, bench, network, parts["validation"], device, precision)
    shown = predict(network, bench.arrays, parts["test"], chosen.flip_average, device, precision)
    rows = bench.table.set_index("case").loc[parts["test"]].reset_index()

    def measure(place: int) -> dict[str, np.ndarray]:
        row = rows.iloc[place]
        reference = read_reference(bench, row["case"], row["mask"])
        stages = predicted_stages(chosen, bench, row, shown[row["case"]], choice["threshold"])
        for stage, mask in stages.items():
            masks.write(bench.predicted(stage, fold, seed, row["case"]), mask)
        return {stage: metrics.confusion(reference, mask, len(chosen.classes)) for stage, mask in stages.items()}

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = list(pool.map(measure, range(len(rows))))
    run = {"fold": fold, "seed": seed}
    measured = [
        {"case": row["case"], "subject": row["subject"]} | run | {"class": name, "stage": stage, **each}
        for row, of_case in zip(rows.to_dict("records"), counts)
        for stage in STAGES
        for name, each in class_rows(of_case[stage], chosen.classes).items()
    ]
    pooled = {stage: sum(of_case[stage] for of_case in counts) for stage in STAGES}
    return Evaluation(
        pd.DataFrame(measured, columns=COLUMNS),
        confusion_rows(pooled, chosen.classes, fold, seed),
        pd.DataFrame([run | choice]),
    )


def predicted_stages(
    chosen: EvaluationParams, bench: Bench, row: pd.Series, shown: np.ndarray, threshold: float | None
) -> dict[str, np.ndarray]:
    """Masks of one case at native size, uint8 each: raw, and after post-processing.

    Args:
        chosen: the keys of 05_evaluation.
        bench: cases and their arrays.
        row: of the manifest.
        shown: (N, C, h, w) predicted probabilities of the case, a row a slice.
        threshold: as `choose_threshold` chose it.
    """
    probability = native_probability(bench, row, shown)
    raw = prediction.decide(probability, threshold)
    return {"raw": raw, "post": postprocessing.apply(_on_its_way(raw, probability, row), chosen)}


def native_probability(bench: Bench, row: pd.Series, shown: np.ndarray) -> np.ndarray:
    """Class probabilities at native size: (N, C, h, w) -> (C, H, W), of a volume (C, D, H, W).

    Slices and borders that the network has not seen are background.
    """
    mapping, slices = bench.arrays.geometry_of(row["case"]), bench.arrays.slices[bench.arrays.rows([row["case"]])]
    others = geometry.slices_to_native(shown[:, 1:], mapping, slices, int(row["slices"]))
    whole = np.concatenate([1 - others.sum(axis=0, keepdims=True), others])
    return whole if bench.dataset.volumes else whole[:, 0]


def _on_its_way(mask: np.ndarray, probability: np.ndarray, row: pd.Series) -> postprocessing.Prediction:
    area = float(row["spacing_row_mm"] * row["spacing_col_mm"])
    return postprocessing.Prediction(mask, probability, area if np.isfinite(area) else None)


def confusion_rows(pooled: dict[str, np.ndarray], classes: list[str], fold: int, seed: int) -> pd.DataFrame:
    """A run's summed confusion matrices as a long table."""
    rows = [
        (fold, seed, stage, of, to, int(counts[i, j]))
        for stage, counts in pooled.items()
        for i, of in enumerate(classes)
        for j, to in enumerate(classes)
    ]
    return pd.DataFrame(rows, columns=CONFUSION_COLUMNS)


def evaluate_all(chosen: EvaluationParams, bench: Bench, trainings: Path) -> Evaluation:
    """Measures every run of a study.

    Args:
        chosen: the keys of 05_evaluation; its folds and seeds name the runs.
        bench: cases and where predictions go.
        trainings: folder of 04_training.
    """
    runs = [
        evaluate_run(chosen, bench, trainings / files.run_name(fold, seed) / "model.safetensors", fold, seed)
        for fold in chosen.folds
        for seed in chosen.seeds
    ]
    kinds = ("table", "confusion", "choices")
    return Evaluation(*(pd.concat([getattr(run, kind) for run in runs], ignore_index=True) for kind in kinds))


def predict(
    network: nn.Module,
    arrays: Arrays,
    names: list[str],
    flip_average: bool,
    device: torch.device,
    precision: torch.dtype,
) -> dict[str, np.ndarray]:
    """Probabilities (N, C, h, w) of each case, a row a slice."""
    rows = [arrays.rows([name]) for name in names]
    shown = prediction.predict(network, arrays.images[np.concatenate(rows)], device, precision, flip_average)
    return dict(zip(names, np.split(shown, np.cumsum([len(each) for each in rows])[:-1])))


def read_reference(bench: Bench, case: str, mask: str) -> np.ndarray:
    """A reference mask at native size, (H, W) uint8, of a volume (D, H, W)."""
    reference = bench.dataset.read_mask(cases.split_paths(mask))
    mapping = bench.arrays.geometry_of(case)
    expected = (mapping.native_height, mapping.native_width)
    if reference.shape[-2:] != expected:
        raise ValueError(f"{mask}: {reference.shape} now, {expected} when preprocessed; run the study again")
    return reference


def class_rows(counts: np.ndarray, classes: list[str]) -> dict[str, dict[str, Any]]:
    """Counts, Dice and IoU of each class but background, of one case's confusion matrix."""
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
    """The foreground probability with the best mean score over validation cases, after post-processing.

    A case scores its Dice at native size; one whose reference is empty scores 1 if nothing is predicted and 0
    otherwise, so misses and false alarms both count. With more than two classes the most probable class wins and
    there is nothing to choose. Among equals the threshold nearest to 0.5 is taken.

    Returns:
        {"threshold": value or None, "validation_score": its mean or None, "validation_cases": count}.
    """
    if not chosen.threshold_candidates:
        return {"threshold": None, "validation_score": None, "validation_cases": len(names)}
    shown = predict(network, bench.arrays, names, chosen.flip_average, device, precision)
    rows = bench.table.set_index("case").loc[names].reset_index()

    def measure(place: int) -> list[float]:
        row = rows.iloc[place]
        reference = read_reference(bench, row["case"], row["mask"])
        masks = [
            predicted_stages(chosen, bench, row, shown[row["case"]], threshold)["post"]
            for threshold in chosen.threshold_candidates
        ]
        return [score(reference, mask) for mask in masks]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        means = np.mean(list(pool.map(measure, range(len(names)))), axis=0)
    best = max(range(len(means)), key=lambda i: (means[i], -abs(chosen.threshold_candidates[i] - 0.5)))
    return {
        "threshold": chosen.threshold_candidates[best],
        "validation_score": float(means[best]),
        "validation_cases": len(names),
    }


def score(reference: np.ndarray, predicted: np.ndarray) -> float:
    """Dice of the foreground; of an empty reference 1 if nothing is predicted, else 0."""
    dice = metrics.overlap(reference > 0, predicted > 0, 1).dice
    return 1.0 if np.isnan(dice) else dice


def ranked(table: pd.DataFrame, stage: str = "post") -> pd.DataFrame:
    """One row a test case and seed, that of its lowest class Dice, the worst first; true absences do not count."""
    rows = table[(table["stage"] == stage) & table["dice"].notna()]
    ordered = rows.sort_values(["dice", "case", "class"], kind="stable")
    return ordered.drop_duplicates(["case", "seed"]).reset_index(drop=True)


def overlays(bench: Bench, rows: pd.DataFrame, stage: str = "post") -> list[figures.Overlay]:
    """Pictures of some rows of the long table: image, reference, prediction, the row's class and its Dice."""
    shown = datasets.load(bench.dataset, bench.table, rows["case"].tolist())
    predicted = [
        masks.read(bench.predicted(stage, row["fold"], row["seed"], row["case"])) for row in rows.to_dict("records")
    ]
    if bench.dataset.volumes:
        predicted = [mask[at] for mask, at in zip(predicted, shown.slices)]
    notes = [f"{name} {dice:.3f}" for name, dice in zip(rows["class"], rows["dice"])]
    return [
        figures.Overlay(*each)
        for each in zip(shown.names, shown.images, shown.masks, predicted, shown.spacings_mm, notes)
    ]


def around_median(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The middle rows of a ranked table, of those whose reference shows the class."""
    rows = rows[rows["tp"] + rows["fn"] > 0]
    first = max(0, (len(rows) - count) // 2)
    return rows.iloc[first : first + count]


def probability_map(
    chosen: EvaluationParams, bench: Bench, trainings: Path, case: pd.Series
) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W) uint8 and its probability of any foreground at native size, (H, W) float32.

    Args:
        chosen: the keys of 05_evaluation.
        bench: cases and their arrays.
        trainings: folder of 04_training.
        case: a row of the long table.
    """
    device = devices.choose(chosen.device)
    network = models.load(trainings / files.run_name(case["fold"], case["seed"]) / "model.safetensors").to(device)
    precision = devices.choose_precision(chosen.precision, device)
    shown = predict(network, bench.arrays, [case["case"]], chosen.flip_average, device, precision)[case["case"]]
    row = bench.table[bench.table["case"] == case["case"]].iloc[0]
    foreground = 1 - native_probability(bench, row, shown)[0]
    seen = datasets.load(bench.dataset, bench.table, [case["case"]])
    return seen.images[0], foreground[seen.slices[0]] if bench.dataset.volumes else foreground


def is_complete(table: pd.DataFrame, folds: pd.DataFrame, tested_folds: list[int]) -> bool:
    """Whether each case of the tested folds, and no other, has rows, under its own fold."""
    expected = folds[folds["fold"].isin(tested_folds)][["case", "fold"]]
    measured = table[["case", "fold"]].drop_duplicates()
    return sorted(map(tuple, expected.values)) == sorted(map(tuple, measured.values))


def counts_add_up(table: pd.DataFrame, manifest: pd.DataFrame) -> bool:
    """Whether TP + FP + FN + TN is the number of pixels (voxels) of the native image (volume), in each row."""
    pixels = manifest.set_index("case").eval("slices * height * width")
    return bool((table[["tp", "fp", "fn", "tn"]].sum(axis=1).to_numpy() == pixels.loc[table["case"]].to_numpy()).all())


def dice_and_iou_agree(table: pd.DataFrame) -> bool:
    """Whether Dice = 2 IoU / (1 + IoU) in each row that has them."""
    rows = table[table["dice"].notna()]
    return bool(np.allclose(rows["dice"], 2 * rows["iou"] / (1 + rows["iou"]), rtol=0, atol=1e-12))
