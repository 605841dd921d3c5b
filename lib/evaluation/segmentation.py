"""Every case measured once, at native size, by a network that never saw its subject."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib import metrics, models
from lib.data import splits
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import samples
from lib.evaluation import postprocessing, training_precision
from lib.imaging import mask_files
from lib.models import devices, inference, trained_model
from lib.models.trained_model import Model
from lib.study import files
from lib.study.params import EvaluationParams

COLUMNS = ["case", "subject", "fold", "seed", "class", "stage", "tp", "fp", "fn", "tn", "dice", "iou"]
CONFUSION_COLUMNS = ["fold", "seed", "stage", "reference", "predicted", "pixels"]
STAGES = ("raw", "post")


@dataclass(frozen=True)
class Evaluation:
    """What runs were measured to.

    Attributes:
        table: the long table, a row a case x class x stage (COLUMNS).
        confusion: pixels by reference and predicted class, a row a run x stage x pair (CONFUSION_COLUMNS).
        choices: what validation chose, a row a run.
        precision: what the precision of training would change, a row a case x class (training_precision.MASK_COLUMNS).
    """

    table: pd.DataFrame
    confusion: pd.DataFrame
    choices: pd.DataFrame
    precision: pd.DataFrame


@dataclass(frozen=True)
class Protocol:
    """How every run is evaluated.

    Attributes:
        classes: names in index order, background first.
        threshold_candidates: foreground probabilities to choose from on validation; [] with over two classes.
        steps: of post-processing, as `postprocessing.describe` gives them.
        flip_average: whether the mirrored image is predicted too, and the mean taken.
        device: where networks compute.
    """

    classes: list[str]
    threshold_candidates: list[float]
    steps: list[dict[str, Any]]
    flip_average: bool
    device: torch.device


def evaluate_run(protocol: Protocol, test_set: EvaluationSet, weights: Path, fold: int, seed: int) -> Evaluation:
    """Measures one trained network on its test fold, in float32, and writes the model with what its use needs.

    Args:
        protocol: how.
        test_set: cases and where predictions go.
        weights: model.safetensors of this run.
        fold, seed: of this run.
    """
    model, classes = trained_model.load(weights, protocol.flip_average, protocol.device), protocol.classes
    parts, run = splits.parts(test_set.folds, fold), {"fold": fold, "seed": seed}
    candidates, steps = protocol.threshold_candidates, protocol.steps
    choice = choose_threshold(test_set, model, parts["validation"], candidates, steps)
    threshold = choice["threshold"]
    use = {"threshold": threshold, "flip_average": protocol.flip_average, "postprocessing": steps}
    models.complete(weights, test_set.folder / "models" / f"{files.run_name(fold, seed)}.safetensors", use)

    def measure(each: Predicted) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict[str, Any]]]:
        stages = predicted_stages(each.probability, threshold, steps, pixel_mm2(each.row))
        for stage, mask in stages.items():
            mask_files.write(test_set.predicted(stage, fold, seed, each.row["case"]), mask)
        found = {stage: metrics.confusion(each.reference, mask, len(classes)) for stage, mask in stages.items()}
        key = {"case": each.row["case"], "subject": each.row["subject"]} | run
        trained_in = {"training_precision": model.about["training_precision"]}
        changed = precision_changes(each, stages["post"], threshold, steps, classes)
        return key, found, [key | trained_in | row for row in changed]

    of_cases = list(trained_model.in_threads(measure, predicted(test_set, model, parts["test"], as_trained=True)))
    measured = [
        key | {"class": name, "stage": stage, **each}
        for key, found, _ in of_cases
        for stage in STAGES
        for name, each in class_rows(found[stage], classes).items()
    ]
    pooled = {stage: sum(found[stage] for _, found, _ in of_cases) for stage in STAGES}
    return Evaluation(
        pd.DataFrame(measured, columns=COLUMNS),
        confusion_rows(pooled, classes, fold, seed),
        pd.DataFrame([run | choice]),
        pd.DataFrame([row for *_, rows in of_cases for row in rows], columns=training_precision.MASK_COLUMNS),
    )


@dataclass(frozen=True)
class Predicted:
    """A case as published, and as a network sees it.

    Attributes:
        row: of the manifest.
        reference: (H, W) or (D, H, W) uint8 class indices.
        probability: (C, *reference.shape) float32, computed in float32.
        as_trained: the same in the precision of training; None where that is float32, or not asked for.
    """

    row: dict[str, Any]
    reference: np.ndarray
    probability: np.ndarray
    as_trained: np.ndarray | None


def predicted(test_set: EvaluationSet, model: Model, names: list[str], as_trained: bool = False) -> Iterator[Predicted]:
    """Cases one after the other, predicted from their files at native size; the next files are read meanwhile."""
    rows = test_set.cases.set_index("case", drop=False).loc[names].to_dict("records")
    rough = trained_model.as_trained(model) if as_trained else model

    def read(row: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
        return row, *samples.read_case(test_set.dataset, row)

    for row, image, reference in trained_model.in_threads(read, rows):
        other = None if rough.precision == model.precision else trained_model.probability(rough, image)
        yield Predicted(row, reference, trained_model.probability(model, image), other)


def precision_changes(
    each: Predicted, mask: np.ndarray, threshold: float | None, steps: list[dict[str, Any]], classes: list[str]
) -> list[dict[str, Any]]:
    """What the precision of training would change in the mask of a case, a row a class."""
    other, other_mask = each.as_trained, mask
    if other is not None:
        other_mask = predicted_stages(other, threshold, steps, pixel_mm2(each.row))["post"]
    rough = (other_mask, each.probability if other is None else other)
    return training_precision.compare_masks((mask, each.probability), rough, classes)


def predicted_stages(
    probability: np.ndarray, threshold: float | None, steps: list[dict[str, Any]], area_mm2: float | None
) -> dict[str, np.ndarray]:
    """Masks of one case at native size, uint8 each: raw, and after post-processing.

    Args:
        probability: (C, H, W), of a volume (C, D, H, W), at native size.
        threshold: as `choose_threshold` chose it.
        steps: of post-processing, as `postprocessing.describe` gives them.
        area_mm2: of a pixel; None where it is not known.
    """
    raw = inference.decide(probability, threshold)
    return {"raw": raw, "post": postprocessing.apply(raw, probability, area_mm2, steps)}


def pixel_mm2(row: Mapping[str, Any]) -> float | None:
    """Area of a pixel of a row of the manifest; None where it is not known."""
    area = float(row["spacing_row_mm"] * row["spacing_col_mm"])
    return area if np.isfinite(area) else None


def confusion_rows(pooled: dict[str, np.ndarray], classes: list[str], fold: int, seed: int) -> pd.DataFrame:
    """A run's summed confusion matrices as a long table."""
    rows = [
        (fold, seed, stage, of, to, int(counts[i, j]))
        for stage, counts in pooled.items()
        for i, of in enumerate(classes)
        for j, to in enumerate(classes)
    ]
    return pd.DataFrame(rows, columns=CONFUSION_COLUMNS)


def evaluate_all(chosen: EvaluationParams, test_set: EvaluationSet, trainings: Path) -> Evaluation:
    """Measures every run of a study.

    Args:
        chosen: the keys of 05_evaluation; its folds and seeds name the runs.
        test_set: cases and where predictions go.
        trainings: folder of 04_training.
    """
    protocol = Protocol(
        classes=chosen.classes,
        threshold_candidates=chosen.threshold_candidates,
        steps=postprocessing.describe(chosen.postprocessing, chosen.model_dump()),
        flip_average=chosen.flip_average,
        device=devices.choose(chosen.device),
    )
    runs = [
        evaluate_run(protocol, test_set, trainings / files.run_name(fold, seed) / "model.safetensors", fold, seed)
        for fold in chosen.folds
        for seed in chosen.seeds
    ]
    kinds = ("table", "confusion", "choices", "precision")
    return Evaluation(*(pd.concat([getattr(run, kind) for run in runs], ignore_index=True) for kind in kinds))


def class_rows(counts: np.ndarray, classes: list[str]) -> dict[str, dict[str, Any]]:
    """Counts, Dice and IoU of each class but background, of one case's confusion matrix."""
    overlaps = {name: metrics.overlap_of(counts, index) for index, name in enumerate(classes) if index > 0}
    return {name: {**vars(each), "dice": each.dice, "iou": each.iou} for name, each in overlaps.items()}


def choose_threshold(
    test_set: EvaluationSet, model: Model, names: list[str], candidates: list[float], steps: list[dict[str, Any]]
) -> dict[str, Any]:
    """The foreground probability with the best mean score over validation cases, after post-processing.

    A case scores its Dice at native size; one whose reference is empty scores 1 if nothing is predicted and 0
    otherwise, so misses and false alarms both count. With more than two classes the most probable class wins and
    there is nothing to choose. Among equals the threshold nearest to 0.5 is taken.

    Args:
        test_set: cases.
        model: whose threshold it is.
        names: of the validation cases.
        candidates: to choose from; [] with more than two classes.
        steps: of post-processing.

    Returns:
        {"threshold": value or None, "validation_score": its mean or None, "validation_cases": count}.
    """
    if not candidates:
        return {"threshold": None, "validation_score": None, "validation_cases": len(names)}

    def measure(each: Predicted) -> list[float]:
        area_mm2 = pixel_mm2(each.row)
        cut = [predicted_stages(each.probability, threshold, steps, area_mm2)["post"] for threshold in candidates]
        return [score(each.reference, mask) for mask in cut]

    means = np.mean(list(trained_model.in_threads(measure, predicted(test_set, model, names))), axis=0)
    best = max(range(len(means)), key=lambda i: (means[i], -abs(candidates[i] - 0.5)))
    return {
        "threshold": candidates[best],
        "validation_score": float(means[best]),
        "validation_cases": len(names),
    }


def score(reference: np.ndarray, predicted: np.ndarray) -> float:
    """Dice of the foreground; of an empty reference 1 if nothing is predicted, else 0."""
    dice = metrics.overlap(reference > 0, predicted > 0, 1).dice
    return 1.0 if np.isnan(dice) else dice


def probability_map(
    test_set: EvaluationSet, trainings: Path, case: pd.Series, flip_average: bool, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W) uint8 and its probability of any foreground at native size, (H, W) float32.

    Args:
        test_set: cases and their arrays.
        trainings: folder of 04_training.
        case: a row of the long table.
        flip_average: whether the mirrored image is predicted too, and the mean taken.
        device: as a study file names it.
    """
    weights = trainings / files.run_name(case["fold"], case["seed"]) / "model.safetensors"
    model = trained_model.load(weights, flip_average, devices.choose(device))
    (found,) = predicted(test_set, model, [case["case"]])
    foreground = 1 - found.probability[0]
    seen = samples.load(test_set.dataset, test_set.cases, [case["case"]])
    return seen.images[0], foreground[seen.slices[0]] if test_set.dataset.volumes else foreground


def counts_add_up(table: pd.DataFrame, manifest: pd.DataFrame) -> bool:
    """Whether TP + FP + FN + TN is the number of pixels (voxels) of the native image (volume), in each row."""
    pixels = manifest.set_index("case").eval("slices * height * width")
    return bool((table[["tp", "fp", "fn", "tn"]].sum(axis=1).to_numpy() == pixels.loc[table["case"]].to_numpy()).all())


def dice_and_iou_agree(table: pd.DataFrame) -> bool:
    """Whether Dice = 2 IoU / (1 + IoU) in each row that has them."""
    rows = table[table["dice"].notna()]
    return bool(np.allclose(rows["dice"], 2 * rows["iou"] / (1 + rows["iou"]), rtol=0, atol=1e-12))
