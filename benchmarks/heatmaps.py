"""Cost of encoding and decoding heatmaps, relative to a training step."""

import time

import numpy as np
import torch

from benchmarks import table
from lib import losses, models
from lib.imaging import heatmaps
from lib.models import devices, inference

ROUNDS = 5
BATCH, SHAPE, SIGMA = 16, (128, 192), 3.0
UNET = {"in_channels": 1, "out_channels": 2, "base_channels": 16, "depth": 4, "normalisation": "batch"}


def rows() -> list[dict[str, object]]:
    """Milliseconds per image of a training step and of encoding and decoding, timed alternately, and their ratio."""
    device = devices.choose("auto")
    precision = devices.choose_precision("auto", device)
    network = models.build("unet", UNET).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (BATCH, 1, *SHAPE)).astype(np.uint8)
    points = draw.uniform(0, 1, (BATCH, 4, 2)) * (np.array(SHAPE) - 1)
    bare, ours = [], []
    for _ in range(ROUNDS + 1):  # the first round is warm-up
        started = time.perf_counter()
        targets = np.stack([heatmaps.encode(each, SIGMA, SHAPE, "line") for each in points])
        for each in targets:
            heatmaps.decode(each, SIGMA)
        ours.append(time.perf_counter() - started)
        bare.append(_step_seconds(network, optimizer, images, targets, device, precision))
    step, heat = (np.array(seconds[1:]) / BATCH * 1e3 for seconds in (bare, ours))
    ratios = heat / step
    return [
        table.row(
            f"encoding and decoding heatmaps of {SHAPE[0]}x{SHAPE[1]} / training step, U-Net base 16",
            f"{np.median(step):.1f} ms/image",
            f"{np.median(heat):.2f} ms/image",
            ratios,
            "< 0.05",
        )
    ]


def _step_seconds(
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    images: np.ndarray,
    targets: np.ndarray,
    device: torch.device,
    precision: torch.dtype,
) -> float:
    """Seconds of forward pass, loss, backward pass and optimiser step on one batch in memory."""
    inputs, target = inference.to_input(images, device), torch.from_numpy(targets).to(device)
    started = time.perf_counter()
    loss = losses.heatmap_loss(inference.forward(network, inputs, precision), target)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    devices.synchronise(device)
    return time.perf_counter() - started
