"""Before the long run: can the network learn one batch by heart, and how fast is it here."""

import time
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib import devices, losses, models, prediction
from lib.arrays import Arrays
from lib.params import ModelParams

STEPS = 100
BATCH = 8
SEED = 0
RATE = 2.0e-3  # of Adam; ten times as much makes networks without normalisation diverge


def batch_rows(prepared: Arrays) -> np.ndarray:
    """Array rows of a batch, evenly spread over cases whose reference shows something: an empty one teaches little."""
    shown = np.array([row for row, mask in enumerate(prepared.masks) if mask.any()])
    return shown[np.linspace(0, len(shown) - 1, min(BATCH, len(shown))).round().astype(int)]


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
        Cross-entropy plus soft Dice at each step, and images per second of training and of prediction (one row).
    """
    device = devices.choose(chosen.device)
    precision = devices.choose_precision(chosen.precision, device)
    torch.manual_seed(SEED)
    network = models.start(described).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    inputs = prediction.to_input(prepared.images[rows], device)
    reference = torch.as_tensor(prepared.masks[rows]).to(device).long()
    weights = [0.0] + [1.0] * (len(chosen.classes) - 1)
    values, started = [], time.perf_counter()
    for _ in range(STEPS):
        logits = prediction.forward(network, inputs, precision)
        equal = [1.0] * len(chosen.classes)
        loss = losses.cross_entropy(logits, reference, equal) + losses.soft_dice(logits, reference, weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    trained = time.perf_counter() - started
    predicted = predict_seconds(network, prepared.images[rows], device, precision)
    speed = {
        "training_images_per_second": STEPS * len(rows) / trained,
        "prediction_images_per_second": len(rows) / predicted,
    }
    return values, pd.DataFrame([speed])


def predict_seconds(
    network: torch.nn.Module, images: np.ndarray, device: torch.device, precision: torch.dtype
) -> float:
    """Seconds to predict one batch, after one to warm up."""
    network.eval()
    prediction.predict(network, images, device, precision, flip_average=False)
    devices.synchronise(device)
    started = time.perf_counter()
    prediction.predict(network, images, device, precision, flip_average=False)
    devices.synchronise(device)
    return time.perf_counter() - started
