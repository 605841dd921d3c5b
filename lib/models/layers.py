"""Building blocks shared by several networks."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

Normalisation = Literal["batch", "none"]


def convolutions(channels: Sequence[int], normalisation: Normalisation, bias: bool) -> nn.Sequential:
    """3x3 convolutions, each followed by optional batch normalisation and ReLU; [1, 64, 64] gives two."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers.append(nn.Conv2d(before, after, 3, padding=1, bias=bias))
        if normalisation == "batch":
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def initialise(module: nn.Module) -> None:
    """He initialisation of a convolution (He et al. 2015), with zero bias."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def require_multiple(images: torch.Tensor, depth: int) -> None:
    """ValueError for images (N, C, H, W) whose sides are no multiples of 2 ** depth."""
    sides, step = tuple(images.shape[2:]), 2**depth
    if any(side % step for side in sides):
        nearest = [max(step, round(side / step) * step) for side in sides]
        size = f"images of {sides[0]} x {sides[1]} pixels"
        raise ValueError(f"{size}   not allowed with {depth} poolings; multiples of {step}; nearest: {nearest}")
