"""Building blocks shared by several networks."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

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


class UpConvolution(nn.ConvTranspose2d):
    """2x2 transposed convolution with stride 2, computed as one matrix product; doubles rows and columns.

    Its kernels do not overlap: each input pixel yields its own 2x2 output pixels. Weights as in the parent class, which
    is slower on a CPU: docs/performance.md.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 2, stride=2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """(N, in_channels, H, W) -> (N, out_channels, 2H, 2W), channels last."""
        count, channels, height, width = features.shape
        weight = self.weight.permute(2, 3, 1, 0).reshape(-1, channels)  # (2 * 2 * out_channels, in_channels)
        products = functional.linear(features.permute(0, 2, 3, 1), weight, self.bias.repeat(4))
        blocks = products.reshape(count, height, width, 2, 2, self.out_channels).transpose(2, 3)
        return blocks.reshape(count, 2 * height, 2 * width, self.out_channels).permute(0, 3, 1, 2)


def initialise(module: nn.Module) -> None:
    """He initialisation of a convolution (He et al. 2015), with zero bias."""
    # The meta device holds shapes alone, and drawing on it would import torch._dynamo, which takes two seconds.
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not module.weight.is_meta:
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
