"""Prediction at network size: probabilities and masks, or heatmaps."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn

from lib import losses
from lib.imaging import preparation

BATCH = 16


def to_input(images: np.ndarray | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Images (N, C, H, W) as float32 on the device, channels last; scales uint8 to -2..2, keeps float32 as it is."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.require(images, requirements=["C", "W"]))  # arrays on disk are read-only
    tensor = to_device(images, device)
    centre, scale = preparation.GREY
    values = (tensor.float() - centre) / scale if tensor.dtype == torch.uint8 else tensor.float()
    return values.contiguous(memory_format=torch.channels_last)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on the device; the copy of a pinned one to CUDA does not wait.

    Elsewhere a copy that does not wait could read memory that is freed.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def forward(network: nn.Module, inputs: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """Logits in mixed precision."""
    with torch.autocast(inputs.device.type, dtype=precision, enabled=precision != torch.float32):
        return network(inputs)


def without_tf32(device: torch.device) -> AbstractContextManager[None]:
    """A block in which CUDA convolutions do not round float32 to TF32 (10 bits of mantissa); elsewhere none do.

    The setting is one for all threads, of which only one at a time may therefore be in such a block on CUDA.
    """
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def to_line_heatmaps(maps: torch.Tensor) -> torch.Tensor:
    """Heatmaps (N, 2, H, W) float32, one per line: sums the two heatmaps of each line if there is one per point."""
    return maps.float() if maps.shape[1] == 2 else maps.float().unflatten(1, (2, 2)).sum(dim=2)


def predict(
    network: nn.Module,
    images: np.ndarray,
    device: torch.device,
    precision: torch.dtype,
    flip_average: bool,
    activation: Callable[[torch.Tensor], torch.Tensor] = losses.probabilities,
) -> np.ndarray:
    """Class probabilities, or another activation of the logits, at network size: (N, C, H, W) float32.

    The network is on the device and in evaluation mode; images are (N, channels, H, W) uint8 or float32.
    """
    batches = []
    with torch.inference_mode(), without_tf32(device):
        step = BATCH // 2 if flip_average else BATCH
        for first in range(0, len(images), step):
            inputs = to_input(images[first : first + step], device)
            both = torch.cat([inputs, inputs.flip(3)]) if flip_average else inputs
            predicted = activation(forward(network, both, precision))
            if flip_average:
                plain, mirrored = predicted.chunk(2)
                predicted = (plain + mirrored.flip(3)) / 2
            batches.append(predicted.cpu().numpy())
    return np.concatenate(batches)


def predict_heatmaps(
    network: nn.Module, images: np.ndarray, device: torch.device, precision: torch.dtype, flip_average: bool
) -> np.ndarray:
    """Heatmaps of the OFD and BPD at network size, (N, 2, H, W) float32; arguments as in `predict`.

    Both endpoints of a line share a heatmap: mirroring swaps left and right, and flip averaging would mix them.
    """
    return predict(network, images, device, precision, flip_average, to_line_heatmaps)


def decide(probability: np.ndarray, threshold: float | None) -> np.ndarray:
    """Mask (H, W) uint8 of probabilities (C, H, W): foreground >= threshold, or without one the most probable class."""
    if threshold is not None:
        return (probability[1] >= threshold).astype(np.uint8)
    return np.argmax(probability, axis=0).astype(np.uint8)
