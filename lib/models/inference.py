"""From images at network size to probabilities and masks, or to heatmaps."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from lib import losses
from lib.imaging import preparation

BATCH = 16


def to_input(images: np.ndarray | torch.Tensor, device: torch.device) -> torch.Tensor:
    """(N, C, H, W) -> float32 on the device, channels last; uint8 -> about -2 to 2, float32 is normalised already."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.require(images, requirements=["C", "W"]))  # arrays on disk are read-only
    tensor = images.to(device, non_blocking=True)
    middle, unit = preparation.GREY
    values = (tensor.float() - middle) / unit if tensor.dtype == torch.uint8 else tensor.float()
    return values.contiguous(memory_format=torch.channels_last)


def forward(network: nn.Module, inputs: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """Logits in mixed precision."""
    with torch.autocast(inputs.device.type, dtype=precision, enabled=precision != torch.float32):
        return network(inputs)


def per_line(maps: torch.Tensor) -> torch.Tensor:
    """Heatmaps of lines, of heatmaps of lines or points: (N, 2 or 4, H, W) -> (N, 2, H, W) float32."""
    return maps.float() if maps.shape[1] == 2 else maps.float().unflatten(1, (2, 2)).sum(dim=2)


def predict(
    network: nn.Module,
    images: np.ndarray,
    device: torch.device,
    precision: torch.dtype,
    flip_average: bool,
    meaning: Callable[[torch.Tensor], torch.Tensor] = losses.probabilities,
) -> np.ndarray:
    """Class probabilities at network size, (N, C, H, W) float32, or what else logits mean.

    The network is on the device and in evaluation mode, images are (N, channels, H, W) uint8 or float32. Flip
    averaging takes the mean of the prediction and that of the mirrored image, mirrored back.
    """
    batches = []
    # Of float32 CUDA's convolutions would otherwise keep 10 bits (TF32).
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        step = BATCH // 2 if flip_average else BATCH
        for first in range(0, len(images), step):
            inputs = to_input(images[first : first + step], device)
            both = torch.cat([inputs, inputs.flip(3)]) if flip_average else inputs
            predicted = meaning(forward(network, both, precision))
            if flip_average:
                plain, mirrored = predicted.chunk(2)
                predicted = (plain + mirrored.flip(3)) / 2
            batches.append(predicted.cpu().numpy())
    return np.concatenate(batches)


def predict_heatmaps(
    network: nn.Module, images: np.ndarray, device: torch.device, precision: torch.dtype, flip_average: bool
) -> np.ndarray:
    """Heatmaps at network size of the ends of OFD and BPD, (N, 2, H, W) float32; arguments as of `predict`.

    Those of the two ends of a line are added up: in the mirrored image the left end is another one, and the mean of
    the two predictions would mix them.
    """
    return predict(network, images, device, precision, flip_average, per_line)


def decide(probability: np.ndarray, threshold: float | None) -> np.ndarray:
    """A mask of class probabilities, (C, H, W) -> (H, W) uint8; foreground from a threshold on, None: the likeliest."""
    if threshold is not None:
        return (probability[1] >= threshold).astype(np.uint8)
    return np.argmax(probability, axis=0).astype(np.uint8)
