"""Before the long run: can the network overfit one batch, and how fast is it here."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib import losses, models
from lib.data.arrays import Arrays
from lib.models import devices
from lib.study.params import ModelParams
from lib.training import loop, objectives, sampling
from lib.training.objectives import Objective, RegionObjective
from lib.training.state import TrainingState

STEPS = 100
BATCH = 8
SEED = 0
CLIP = 1.0  # largest norm of the gradients
RATE = 5.0e-3  # of Adam, with clipped gradients; four times as much makes networks without normalisation diverge


def batch_rows(prepared: Arrays) -> np.ndarray:
    """Array rows of a batch, evenly spread over the cases whose reference shows something: an empty one teaches little.

    Of a volume the slice that shows most: a lesion of a few pixels takes longer to learn than these steps last.
    """
    areas = np.array([np.count_nonzero(mask) for mask in prepared.masks])
    fullest = [
        rows[np.argmax(areas[rows])] for rows in map(prepared.rows, [[n] for n in dict.fromkeys(prepared.names)])
    ]
    return sampling.spread(prepared.masks, np.array(fullest), BATCH)


def overfit(
    chosen: ModelParams, described: dict[str, Any], prepared: Arrays, rows: np.ndarray
) -> tuple[list[float], pd.DataFrame]:
    """Trains a fresh network on one batch, by the steps of the training loop, without any change of the images.

    A network, loss and data that fit together bring the loss far down; if they do not, no long run will.

    Args:
        chosen: the keys of 03_model.
        described: the network, as models.describe gives it.
        prepared: preprocessed cases.
        rows: of the batch.

    Returns:
        The loss at each step (cross-entropy plus soft Dice, or that of heatmaps), and images per second of training and
        of prediction (one row).
    """
    state = begin(described, chosen.device, chosen.precision)
    objective = objective_of(chosen.landmarks, chosen.classes, described, prepared)
    images = prepared.images[rows]
    targets = torch.as_tensor(objectives.targets(objective, prepared, rows)).to(state.device)
    state.network.train()
    started = time.perf_counter()
    values = [float(loop.step(state, objective, images, targets, CLIP)[0]) for _ in range(STEPS)]
    trained = time.perf_counter() - started
    predicted = predict_seconds(state, images, objective.predict)
    speed = {
        "training_images_per_second": STEPS * len(rows) / trained,
        "prediction_images_per_second": len(rows) / predicted,
    }
    return values, pd.DataFrame([speed])


def objective_of(landmarks: str, classes: list[str], network: dict[str, Any], arrays: Arrays) -> Objective:
    """What one batch is shown for: class regions with cross-entropy plus soft Dice of all but the background.

    Args:
        landmarks: layout of those that are learnt, "none" for class regions.
        classes: names in index order.
        network: as models.describe gives it.
        arrays: preprocessed cases.

    Raises:
        ValueError: network or arrays are not those of a study of landmarks, where it is one.
    """
    if landmarks != "none":
        return objectives.heatmap_objective(network, arrays)
    equal = [1.0] * len(classes)
    foreground = [0.0, *equal[1:]]
    mixture = losses.Mixture(1.0, 0.0, 1.0, equal, foreground, label_smoothing=0.0, focal_gamma=0.0)
    return RegionObjective(classes, mixture, "dice", foreground)


def begin(described: dict[str, Any], device_name: str, precision_name: str) -> TrainingState:
    """A fresh network with Adam at one rate; device and precision as a study file names them."""
    device = devices.choose(device_name)
    precision = devices.choose_precision(precision_name, device)
    torch.manual_seed(SEED)
    network = models.start(described).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    return TrainingState(network, network, optimizer, schedule, scaler, device, precision)


def predict_seconds(state: TrainingState, images: np.ndarray, predict: Callable[..., np.ndarray]) -> float:
    """Seconds to predict one batch, after one to warm up; `predict` is the objective's."""
    state.network.eval()
    predict(state.network, images, state.device, state.precision, flip_average=False)
    devices.synchronise(state.device)
    started = time.perf_counter()
    predict(state.network, images, state.device, state.precision, flip_average=False)
    devices.synchronise(state.device)
    return time.perf_counter() - started
