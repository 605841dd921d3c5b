"""From images to probabilities to masks at native size; and the one rival that learns nothing."""

import cv2
import numpy as np
import torch
from torch import nn

from lib import biometry, geometry, losses

BATCH = 16


def to_input(images: np.ndarray | torch.Tensor, device: torch.device) -> torch.Tensor:
    """(N, 1, H, W) uint8 -> float32 about -2 to 2 on the device, channels last."""
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.require(images, requirements=["C", "W"]))  # arrays on disk are read-only
    tensor = images.to(device, non_blocking=True)
    return ((tensor.float() - 127.5) / 63.75).contiguous(memory_format=torch.channels_last)


def forward(network: nn.Module, inputs: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """Logits in mixed precision."""
    with torch.autocast(inputs.device.type, dtype=precision, enabled=precision != torch.float32):
        return network(inputs)


def predict(
    network: nn.Module, images: np.ndarray, device: torch.device, precision: torch.dtype, flip_average: bool
) -> np.ndarray:
    """Class probabilities at network size.

    Args:
        network: on the device, in evaluation mode.
        images: (N, 1, H, W) uint8.
        device, precision: as chosen by lib.devices.
        flip_average: mean of the prediction and that of the mirrored image, mirrored back.

    Returns:
        (N, C, H, W) float32.
    """
    batches = []
    with torch.inference_mode():
        for first in range(0, len(images), BATCH):
            inputs = to_input(images[first : first + BATCH], device)
            shown = losses.probabilities(forward(network, inputs, precision))
            if flip_average:
                mirrored = losses.probabilities(forward(network, inputs.flip(3), precision))
                shown = (shown + mirrored.flip(3)) / 2
            batches.append(shown.cpu().numpy())
    return np.concatenate(batches)


def to_native(probability: np.ndarray, mapping: geometry.Geometry) -> np.ndarray:
    """Class probabilities at native size: (C, h, w) float32 -> (C, H, W) float32."""
    if len(probability) > 2:
        return geometry.to_native(probability, mapping)
    foreground = geometry.to_native(probability[1:2], mapping)
    return np.concatenate([1 - foreground, foreground])


def decide(probability: np.ndarray, threshold: float | None) -> np.ndarray:
    """A mask of class probabilities: (C, H, W) -> (H, W) uint8.

    Args:
        probability: of each class.
        threshold: foreground probability from which a pixel counts, with two classes; None: the most probable class.
    """
    if threshold is not None:
        return (probability[1] >= threshold).astype(np.uint8)
    return np.argmax(probability, axis=0).astype(np.uint8)


def otsu_ellipse(image: np.ndarray) -> np.ndarray:
    """The head without learning: Otsu's threshold, holes filled, largest part, its ellipse: (H, W) bool.

    All False where no ellipse can be fitted. It shows what the images give away for nothing.
    """
    _, bright = cv2.threshold(cv2.GaussianBlur(image, (0, 0), 2), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    region = biometry.largest_component(biometry.fill_holes(bright > 0))
    try:
        ellipse = biometry.fit_ellipse(biometry.edge_points(region))
    except ValueError:
        return np.zeros(image.shape, bool)
    return biometry.fill_ellipse(ellipse, image.shape)
