"""Sanity check before training: overfits one batch and measures speed on this machine."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib import losses
from lib.data.arrays import Arrays
from lib.models import devices
from lib.study.params import ModelParams
from lib.study.progress import Live, follow
from lib.training import loop, objectives, sampling
from lib.training.batches import FixedBatches
from lib.training.objectives import Objective, RegionObjective
from lib.training.state import TrainingState, fresh_state

MIN_STEPS, MAX_STEPS = 30, 100
FALL = (
    3  # the loss must fall below a third of its initial value: the demo's does by step 20, that of hc18_quick by step 9
)
BATCH = 8
SEED = 0
CLIP = 1.0  # maximum gradient norm
# At four times this rate networks without normalisation diverge despite clipping.
ADAM = partial(torch.optim.Adam, lr=5.0e-3)
CONSTANT = partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0, total_iters=0)


def batch_rows(prepared: Arrays) -> np.ndarray:
    """Array rows of one batch, evenly spaced over the cases with foreground.

    A volume contributes the slice with most foreground: a lesion of a few pixels takes more than MAX_STEPS to learn.
    """
    areas = np.array([np.count_nonzero(mask) for mask in prepared.masks])
    rows_of_cases = [prepared.rows([name]) for name in dict.fromkeys(prepared.names)]
    return sampling.spread(prepared.masks, np.array([rows[np.argmax(areas[rows])] for rows in rows_of_cases]), BATCH)


def overfit(
    config: ModelParams, described: dict[str, Any], prepared: Arrays, rows: np.ndarray, live: Live | None = None
) -> tuple[list[float], pd.DataFrame]:
    """Trains a new network on array rows by `loop.step`, in MIN_STEPS to MAX_STEPS steps, until `is_overfit`.

    Returns the loss of each step, and one row of images per second. A batch for which memory runs out is processed in
    portions; ValueError: one image is too much.
    """
    how = config.device, config.precision, ADAM, CONSTANT
    state = fresh_state(described, SEED, *how, deterministic=False)
    objective = objective_of(config.landmarks, config.classes, described, prepared)
    images, targets = next(iter(FixedBatches(objective, prepared, rows, BATCH)))
    targets, values = targets.to(state.device), []
    state.network.train()
    with devices.configured(state.device, deterministic=True):
        started = time.perf_counter()
        for _ in follow(range(MAX_STEPS), MAX_STEPS, live, "step"):
            values.append(float(loop.step(state, objective, images, targets, CLIP)[0]))
            if len(values) >= MIN_STEPS and is_overfit(values):
                break
        trained = time.perf_counter() - started
    predicted = predict_seconds(state, images.numpy(), objective.predict)
    rates = {"training": len(values) * len(rows) / trained, "prediction": len(rows) / predicted}
    return values, pd.DataFrame([rates]).add_suffix("_images_per_second")


def is_overfit(values: list[float]) -> bool:
    """Whether the last five losses are below the first divided by FALL; False for NaN."""
    return all(value < values[0] / FALL for value in values[-5:])


def objective_of(landmarks: str, classes: list[str], network: dict[str, Any], arrays: Arrays) -> Objective:
    """Heatmaps, or for landmarks "none" class regions with cross-entropy plus soft Dice of the foreground."""
    if landmarks != "none":
        return objectives.heatmap_objective(network, arrays)
    equal = [1.0] * len(classes)
    foreground = [0.0, *equal[1:]]
    mixture = losses.Mixture(1.0, 0.0, 1.0, equal, foreground, label_smoothing=0.0, focal_gamma=0.0)
    return RegionObjective(classes, mixture, "dice", foreground)


def predict_seconds(trained: TrainingState, images: np.ndarray, predict: Callable[..., np.ndarray]) -> float:
    """Seconds to predict one batch after a warm-up; `predict` is the objective's."""
    trained.network.eval()
    for _ in range(2):
        started = time.perf_counter()
        predict(trained.network, images, trained.device, trained.precision, flip_average=False)
        devices.synchronise(trained.device)
    return time.perf_counter() - started
