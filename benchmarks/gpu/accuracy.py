"""Parts about accuracy: precisions against float32, and folds of the full protocol on HC18."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks import packed
from benchmarks.gpu.scale import Scale
from benchmarks.gpu.speed import Row
from benchmarks.packed import Heads
from lib import metrics, models
from lib.data import splits
from lib.evaluation import postprocessing, segmentation
from lib.imaging import ellipse
from lib.imaging.preparation import Prepared
from lib.models import devices, inference, trained_model
from lib.models.trained_model import Model
from lib.study import files, params
from lib.training import loop
from lib.training.checkpoint import Run

PRECISIONS = ("float32", "bfloat16", "float16")
PORTION = 64  # images predicted before they are mapped back, so that memory does not grow with the fold


def precisions(scale: Scale, folder: Path) -> Iterator[Row]:
    """Each precision of training, and of prediction by the network trained in float32, against float32."""
    short = {"epochs": scale.epochs * 2}
    study = scale.study("hc18_quick", **short)
    heads = packed.hc18(study, scale.images, folder)
    baseline: dict[str, np.ndarray] = {}
    for name in PRECISIONS:
        if name == "float16" and scale.device == "cpu":
            yield {"training": name, "error": "float16 is trained on CUDA alone"}
            continue
        model, parts, _ = _trained(scale.study("hc18_quick", precision=name, **short), heads, folder / name)
        predicted = masks_of(model, study, heads, parts["test"], 0.5)
        yield {"training": name, "prediction": "float32", "source": heads.source} | figures(heads, predicted)
        if name == "float32":
            baseline = predicted
            yield from _predicted_in_each(model, study, heads, parts["test"], baseline)


def _predicted_in_each(
    model: Model, study: params.Study, heads: Heads, names: list[str], baseline: dict[str, np.ndarray]
) -> Iterator[Row]:
    """The same network in lower precision: overlap with its masks in float32, and change of HC."""
    for name in PRECISIONS[1:]:
        predicted = masks_of(replace(model, precision=getattr(torch, name)), study, heads, names, 0.5)
        rows = heads.table.set_index("case").loc[names].to_dict("index")
        dice = [metrics.overlap(baseline[case], predicted[case], 1).dice for case in names]
        pairs = [[_hc_mm(each[case], rows[case]) for each in (baseline, predicted)] for case in names]
        changes = np.abs(np.diff(pairs, axis=1))
        change = {"lowest Dice to float32": float(np.nanmin(dice)), "largest HC change mm": float(np.nanmax(changes))}
        yield {"training": "float32", "prediction": name, "source": heads.source} | figures(heads, predicted) | change


def folds(scale: Scale, folder: Path) -> Iterator[Row]:
    """Folds of hc18_unet, one after the other until the time is over: training time, Dice and HC of the test cases."""
    changes = {} if scale.protocol_epochs is None else {"epochs": scale.protocol_epochs}
    study = scale.study("hc18_unet", **changes)
    heads = packed.hc18(study, scale.images, folder)
    for fold in study.folds:
        model, parts, run = _trained(study, heads, folder / f"fold{fold}", fold)
        threshold = choose_threshold(model, study, heads, parts["validation"])
        predicted = masks_of(model, study, heads, parts["test"], threshold)
        about = {"fold": fold, "source": heads.source, "size": "x".join(map(str, heads.arrays.masks.shape[1:]))}
        about |= {"epochs": len(run.history), "training s": float(run_seconds(folder / f"fold{fold}"))}
        yield about | {"threshold": threshold} | figures(heads, predicted)


def run_seconds(folder: Path) -> float:
    """Sum of the seconds of a run's epochs."""
    return files.read_csv(folder / "timing.csv", ["seconds"])["seconds"].sum()


def _trained(study: params.Study, heads: Heads, folder: Path, fold: int = 0) -> tuple[Model, dict[str, list[str]], Run]:
    """A network trained on one fold of the heads, the cases of its parts, and its run."""
    table = splits.assign_folds(heads.table, study.fold_count, study.split_seed, study.validation_subjects)
    parts = splits.parts(table, fold)
    config = params.step_params(study, "04_training", fold=fold, seed=study.seeds[0])
    network = models.describe(params.step_params(study, "03_model"), heads.arrays.images.shape[1])
    folder.mkdir()
    run = loop.fit(config, network, heads.arrays, parts, folder)
    device = devices.choose(study.device)
    return trained_model.load(folder / "model.safetensors", study.flip_average, device), parts, run


def masks_of(
    model: Model, study: params.Study, heads: Heads, names: list[str], threshold: float
) -> dict[str, np.ndarray]:
    """Post-processed masks at native size by case."""
    return masks_by_threshold(model, study, heads, names, [threshold])[threshold]


def masks_by_threshold(
    model: Model, study: params.Study, heads: Heads, names: list[str], thresholds: list[float]
) -> dict[float, dict[str, np.ndarray]]:
    """As `masks_of`, for several thresholds of one prediction."""
    steps = postprocessing.describe(study.postprocessing, params.values_of(study))
    found: dict[float, dict[str, np.ndarray]] = {threshold: {} for threshold in thresholds}

    def decide(item: tuple[str, np.ndarray]) -> None:
        case, probability = item
        for threshold in thresholds:
            found[threshold][case] = postprocessing.apply(
                inference.decide(probability, threshold), probability, None, steps
            )

    for first in range(0, len(names), PORTION):
        portion = names[first : first + PORTION]
        with ThreadPoolExecutor() as pool:
            list(pool.map(decide, zip(portion, probabilities(model, heads, portion))))
    return found


def probabilities(model: Model, heads: Heads, names: list[str]) -> Iterator[np.ndarray]:
    """Probabilities (2, H, W) of cases at native size."""
    rows = heads.arrays.rows(names)
    predicted = inference.predict(
        model.network, heads.arrays.images[rows], model.device, model.precision, model.flip_average
    )
    for row, each in zip(rows, predicted):
        prepared = Prepared(heads.arrays.images[row][None], heads.arrays.geometries[row], np.zeros(1, np.int64), 1)
        yield trained_model.to_native(each[None], prepared, is_volume=False)


def choose_threshold(model: Model, study: params.Study, heads: Heads, names: list[str]) -> float:
    """The candidate with the best mean Dice on the validation cases."""
    candidates = masks_by_threshold(model, study, heads, names, study.threshold_candidates or [0.5])
    scores = {candidate: figures(heads, masks)["Dice"] for candidate, masks in candidates.items()}
    return max(scores, key=lambda candidate: (scores[candidate], -abs(candidate - 0.5)))


def figures(heads: Heads, predicted: dict[str, np.ndarray]) -> Row:
    """Number of cases, mean Dice, mean absolute error of HC against the published one, and heads not measured."""
    row_of = heads.table.reset_index(drop=True).reset_index().set_index("case")
    scores, errors = [], []
    for case, mask in predicted.items():
        about = row_of.loc[case]
        scores.append(segmentation.score(heads.masks[int(about["index"])], mask))
        errors.append(abs(_hc_mm(mask, about) - about["hc_mm"]))
    missed = int(np.isnan(errors).sum())
    error = float(np.nanmean(errors)) if missed < len(errors) else float("nan")
    return {"cases": len(scores), "Dice": float(np.mean(scores)), "HC MAE mm": error, "not measured": missed}


def _hc_mm(mask: np.ndarray, about: dict | pd.Series) -> float:
    """HC of a mask in mm; NaN if no ellipse fits."""
    try:
        return ellipse.measure_head(mask > 0, (about["spacing_mm"], about["spacing_mm"]))["hc"]
    except ValueError:
        return float("nan")
