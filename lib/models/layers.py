"""What several networks are built of."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn


def convolutions(channels: Sequence[int], normalisation: Literal["batch", "none"], bias: bool) -> nn.Sequential:
    """3x3 convolutions in a row, each followed by batch normalisation (or none) and ReLU.

    Args:
        channels: of the input, then of what each convolution puts out: [1, 64, 64] are two convolutions.
        normalisation: "batch" or "none".
        bias: whether convolutions add a bias; batch normalisation takes it out again with the mean.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers.append(nn.Conv2d(before, after, 3, padding=1, bias=bias))
        if normalisation == "batch":
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def initialise(module: nn.Module) -> None:
    """He initialisation of convolutions (He et al. 2015)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def encode(encoder: nn.ModuleList, pool: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Features of each level of an encoder that pools between its levels, the finest first.

    Args:
        encoder: a module a level.
        pool: halves both sides.
        images: (N, C, H, W).

    Returns:
        (N, channels of the level, H / 2^level, W / 2^level) for each level.
    """
    found = [encoder[0](images)]
    for block in encoder[1:]:
        found.append(block(pool(found[-1])))
    return found


def require_multiple(images: torch.Tensor, depth: int) -> None:
    """Stops before images (N, C, H, W) that cannot be halved as often as a network does.

    Raises:
        ValueError: a side is no multiple of 2 ** depth.
    """
    sides, step = tuple(images.shape[2:]), 2**depth
    if any(side % step for side in sides):
        nearest = [max(step, round(side / step) * step) for side in sides]
        raise ValueError(
            f"images of {sides[0]} x {sides[1]} pixels   not allowed with {depth} poolings; multiples of {step}; "
            f"nearest: {nearest}"
        )
