"""Every case measured once, at native size, by a network that never saw its subject."""

import os
from collections.abc import Callable
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
CONFUSION_COLUMNS = ["fold", "seed", "stage", "reference", "predicted", "pixels"]
STAGES = ("raw", "post")
LEVELS = np.arange(0.05, 1.0, 0.05)  # of the average reference, for the guess that looks at no image


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
    parts = cases.parts(bench.folds, fold)
    choice = choose_threshold(chosen, bench, network, parts["validation"], device, precision)
    shown = _predict(network, bench.arrays, parts["test"], chosen.flip_average, device, precision)
    rows = bench.table.set_index("case").loc[parts["test"]].reset_index()

    def measure(place: int) -> dict[str, np.ndarray]:
        row = rows.iloc[place]
        reference = read_reference(bench, row["case"], row["mask"])
        stages = predicted_stages(chosen, bench, row, shown[place], choice["threshold"])
        for stage, mask in stages.items():
            write_mask(prediction_file(bench.folder, stage, fold, seed, row["case"]), mask)
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
    """Masks of one case at native size, (H, W) uint8 each: raw, and after post-processing."""
    probability = prediction.to_native(shown, bench.arrays.geometry_of(row["case"]))
    raw = prediction.decide(probability, threshold)
    return {"raw": raw, "post": postprocessing.apply(_on_its_way(raw, probability, row), chosen)}


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
    reference = bench.dataset.read_mask(cases.split_paths(mask))
    mapping = bench.arrays.geometry_of(case)
    if reference.shape != (mapping.native_height, mapping.native_width):
        expected = (mapping.native_height, mapping.native_width)
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
    shown = _predict(network, bench.arrays, names, chosen.flip_average, device, precision)
    rows = bench.table.set_index("case").loc[names].reset_index()

    def measure(place: int) -> list[float]:
        row = rows.iloc[place]
        reference = read_reference(bench, row["case"], row["mask"])
        masks = [
            predicted_stages(chosen, bench, row, shown[place], threshold)["post"]
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


def prediction_file(folder: Path, stage: str, fold: int, seed: int, case: str) -> Path:
    """Where a predicted mask lies: class indices as grey values, native size."""
    return folder / "predictions" / stage / files.run_name(fold, seed) / f"{case}.png"


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Writes class indices as an 8-bit PNG."""
    with files.replacing(path) as temporary:
        Image.fromarray(mask).save(temporary, format="PNG")


def baselines(chosen: EvaluationParams, bench: Bench) -> pd.DataFrame:
    """What methods that learn nothing from images reach on the test cases that show a class.

    Two: the average of the training references above the level that fits these best, a guess that looks at no image;
    and for the first class Otsu's threshold with an ellipse.

    Returns:
        method, class, n, dice with its interval.
    """
    rows = []
    for index, name in enumerate(chosen.classes[1:], start=1):
        guessed = [_guess(bench, fold, index) for fold in chosen.folds]
        rows.append(_baseline_row("average of the training references", name, pd.concat(guessed)))
    ellipses = pd.concat([_otsu(bench, fold) for fold in chosen.folds])
    rows.append(_baseline_row("Otsu's threshold, holes filled, ellipse", chosen.classes[1], ellipses))
    return pd.DataFrame(rows)


def _baseline_row(method: str, class_name: str, dice: pd.DataFrame) -> dict[str, Any]:
    estimate = statistics.bootstrap(dice["dice"].to_numpy(float), dice["subject"].to_numpy())
    found = {"dice": estimate.value, "dice_low": estimate.low, "dice_high": estimate.high}
    return {"method": method, "class": class_name, "n": estimate.count} | found


def _guess(bench: Bench, fold: int, index: int) -> pd.DataFrame:
    """Dice of the average training reference on the test cases of a fold that show the class: subject, dice."""
    parts = cases.parts(bench.folds, fold)
    average = np.zeros(bench.arrays.masks.shape[1:], np.float32)
    train = bench.arrays.rows(parts["train"])
    for row in train:
        average += (bench.arrays.masks[row] == index) / np.float32(len(train))
    level = best_level(average, bench.arrays.masks, train, index)

    def guess(row: pd.Series) -> np.ndarray:
        back = geometry.to_native(average[None], bench.arrays.geometry_of(row["case"]))[0]
        return (back >= level) & (back > 0)

    return _dice_of(bench, parts["test"], index, guess)


def best_level(average: np.ndarray, masks: np.ndarray, rows: np.ndarray, index: int) -> float:
    """The level of an average reference whose region has the best mean Dice with the references themselves.

    Args:
        average: (H, W) share of references that show the class.
        masks: (N, H, W) class indices.
        rows: of the references.
        index: of the class.
    """
    shown = np.stack([masks[row] == index for row in rows]).reshape(len(rows), -1)
    shown = shown[shown.any(axis=1)].astype(np.float32)
    if not len(shown):
        return 1.0
    levels = LEVELS * float(average.max())
    regions = np.stack([(average >= level).ravel() for level in levels]).astype(np.float32)
    both = shown @ regions.T  # (references, levels) pixels
    dice = 2 * both / (shown.sum(axis=1)[:, None] + regions.sum(axis=1)[None])
    return float(levels[np.argmax(dice.mean(axis=0))])


def _otsu(bench: Bench, fold: int) -> pd.DataFrame:
    """Dice of Otsu's ellipse on the test cases of a fold that show the first class: subject, dice."""
    names = cases.parts(bench.folds, fold)["test"]
    return _dice_of(bench, names, 1, lambda row: prediction.otsu_ellipse(cases.read_grey(files.ROOT / row["image"])))


def _dice_of(bench: Bench, names: list[str], index: int, predict: Callable[[pd.Series], np.ndarray]) -> pd.DataFrame:
    rows = bench.table.set_index("case").loc[names].reset_index()

    def measure(place: int) -> float:
        row = rows.iloc[place]
        reference = read_reference(bench, row["case"], row["mask"]) == index
        return metrics.overlap(reference, predict(row), 1).dice if reference.any() else float("nan")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return pd.DataFrame({"subject": rows["subject"], "dice": list(pool.map(measure, range(len(rows))))})


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
    """The middle rows of a ranked table, of those whose reference shows the class."""
    rows = rows[rows["tp"] + rows["fn"] > 0]
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
