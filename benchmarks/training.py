"""How much of the bare network's speed the training loop keeps: loading, augmentation and metrics included."""

import time

import numpy as np
import torch

from benchmarks.data import prepared
from lib import arrays, devices, losses, models, params, prediction, training

ROUNDS = 5
IMAGES = 160  # a round: long enough to be timed, short enough that both ways meet the same machine


def rows(study: params.Study) -> list[dict[str, object]]:
    """Images per second of the bare step and of the loop, timed in turn, and their ratio."""
    _, data = prepared(study)
    chosen = params.step_params(study, "04_training")
    moving, device, precision = _moving(study, chosen, data)
    order = np.resize(np.arange(len(data.names)), IMAGES)
    cases = training.AugmentedCases(data, chosen)
    bare, loop = [], []
    for epoch in range(ROUNDS + 1):  # the first round warms up
        bare.append(_bare_seconds(moving, data, chosen, device, precision))
        started = time.perf_counter()
        training.train_epoch(moving, training.batches(cases, order, epoch, chosen), chosen, device, precision)
        loop.append(time.perf_counter() - started)
    ratios = np.array(bare[1:]) / np.array(loop[1:])
    return [
        {
            "what": f"training loop against bare step, {study.study}",
            "bare": f"{IMAGES / np.median(bare[1:]):.1f} images/s",
            "ours": f"{IMAGES / np.median(loop[1:]):.1f} images/s",
            "ratio": float(np.median(ratios)),
            "spread": f"{ratios.min():.3f} to {ratios.max():.3f}",
            "goal": ">= 0.90",
        }
    ]


def _moving(study: params.Study, chosen: params.TrainingParams, data: arrays.Arrays) -> tuple:
    device = devices.choose(chosen.device)
    precision = devices.choose_precision(chosen.precision, device)
    network = models.start(models.describe(params.step_params(study, "03_model"), data.images.shape[1]))
    network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)
    scaler = torch.amp.GradScaler(device.type, enabled=False)
    return (
        {"model": network, "optimizer": optimizer, "schedule": schedule, "scaler": scaler},
        device,
        precision,
    )


def _bare_seconds(
    moving: dict, data: arrays.Arrays, chosen: params.TrainingParams, device: torch.device, precision: torch.dtype
) -> float:
    """Forward, loss, backward, step on one batch that lies in memory."""
    network, optimizer = moving["model"].train(), moving["optimizer"]
    inputs = prediction.to_input(data.images[: chosen.batch_size], device)
    reference = torch.as_tensor(np.array(data.masks[: chosen.batch_size])).to(device).long()
    started = time.perf_counter()
    for _ in range(IMAGES // chosen.batch_size):
        logits = prediction.forward(network, inputs, precision)
        loss = losses.combined(logits, reference, training.mixture_of(chosen))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    devices.synchronise(device)
    return time.perf_counter() - started
