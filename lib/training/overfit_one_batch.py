"""Before the long run: can the network learn one batch by heart, and how fast is it here."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from lib import models
from lib.data.arrays import Arrays
from lib.models import devices, inference
from lib.study.params import ModelParams
from lib.training import objectives, sampling

STEPS = 100
BATCH = 8
SEED = 0
RATE = 5.0e-3  # of Adam, with clipped gradients; four times as much makes networks without normalisation diverge


def batch_rows(prepared: Arrays) -> np.ndarray:
    """Array rows of a batch, evenly spread over the cases whose reference shows something: an empty one teaches little.

    Of a volume the slice that shows most: a lesion of a few pixels takes longer to learn than a trial lasts.
    """
    areas = np.array([np.count_nonzero(mask) for mask in prepared.masks])
    fullest = [
        rows[np.argmax(areas[rows])] for rows in map(prepared.rows, [[n] for n in dict.fromkeys(prepared.names)])
    ]
    return sampling.spread(prepared.masks, np.array(fullest), BATCH)


def overfit(
    chosen: ModelParams, described: dict[str, Any], prepared: Arrays, rows: np.ndarray
) -> tuple[list[float], pd.DataFrame]:
    """Trains a fresh network on one batch without any change of the images.

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
    device = devices.choose(chosen.device)
    precision = devices.choose_precision(chosen.precision, device)
    torch.manual_seed(SEED)
    network = models.start(described).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    inputs = inference.to_input(prepared.images[rows], device)
    task = objectives.of_trial(chosen, described, prepared)
    reference = torch.as_tensor(objectives.targets(task, prepared, rows)).to(device)
    values, started = [], time.perf_counter()
    for _ in range(STEPS):
        logits = inference.forward(network, inputs, precision)
        loss = task.loss(logits, reference)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        values.append(float(loss.detach()))
    trained = time.perf_counter() - started
    predicted = predict_seconds(network, prepared.images[rows], device, precision, task.predict)
    speed = {
        "training_images_per_second": STEPS * len(rows) / trained,
        "prediction_images_per_second": len(rows) / predicted,
    }
    return values, pd.DataFrame([speed])


def predict_seconds(
    network: torch.nn.Module,
    images: np.ndarray,
    device: torch.device,
    precision: torch.dtype,
    predict: Callable[..., np.ndarray],
) -> float:
    """Seconds to predict one batch, after one to warm up; `predict` is the task's."""
    network.eval()
    predict(network, images, device, precision, flip_average=False)
    devices.synchronise(device)
    started = time.perf_counter()
    predict(network, images, device, precision, flip_average=False)
    devices.synchronise(device)
    return time.perf_counter() - started
