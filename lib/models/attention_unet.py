"""Attention U-Net: a U-Net in which the decoder decides, pixel by pixel, how much of each skip passes.

Source: Oktay et al. 2018, arXiv:1804.03999. There the gate compares a skip with the coarser level and is itself
enlarged; here, as in most later code, with the decoder's features already enlarged to the skip's size.
"""

from typing import Literal

import torch
from torch import nn

from lib.models import layers


def projection(before: int, after: int, normalisation: Literal["batch", "none"]) -> nn.Sequential:
    """A 1x1 convolution, batch normalisation if wanted."""
    convolution = nn.Conv2d(before, after, 1)
    return nn.Sequential(convolution, nn.BatchNorm2d(after)) if normalisation == "batch" else nn.Sequential(convolution)


class Gate(nn.Module):
    """Additive attention: sigmoid(psi(relu(skip's projection + signal's projection))).

    Args:
        channels: of the skip and of the signal; half as many are compared.
        normalisation: "batch" or "none".
    """

    def __init__(self, channels: int, normalisation: Literal["batch", "none"]) -> None:
        super().__init__()
        inner = channels // 2
        self.of_skip = projection(channels, inner, normalisation)
        self.of_signal = projection(channels, inner, normalisation)
        self.psi = projection(inner, 1, normalisation)

    def forward(self, skip: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
        """Attention coefficients in 0..1: twice (N, channels, H, W) -> (N, 1, H, W)."""
        return torch.sigmoid(self.psi(torch.relu(self.of_skip(skip) + self.of_signal(signal))))


class AttentionUNet(nn.Module):
    """Attention U-Net; outputs logits.

    Unlike this project's U-Net its convolutions keep their bias under batch normalisation, where it has no effect:
    only so does it have the 31,394,096 parameters (1 channel, 4 classes, base 64, depth 4) of the thesis code that it
    is compared with.

    Args:
        in_channels: of the image.
        out_channels: logits a pixel.
        base_channels: channels of the first level; doubled at each pooling.
        depth: number of poolings; input sides must be multiples of 2 ** depth.
        normalisation: "batch" or "none", of gates too.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        base_channels: int,
        depth: int,
        normalisation: Literal["batch", "none"],
    ) -> None:
        super().__init__()
        widths = [base_channels * 2**level for level in range(depth + 1)]
        upwards = widths[-2::-1]
        self.depth = depth
        self.encoder = nn.ModuleList(
            layers.convolutions([before, width, width], normalisation, bias=True)
            for before, width in zip([in_channels, *widths], widths)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in upwards)
        self.gates = nn.ModuleList(Gate(width, normalisation) for width in upwards)
        self.decoder = nn.ModuleList(
            layers.convolutions([2 * width, width, width], normalisation, bias=True) for width in upwards
        )
        self.head = nn.Conv2d(base_channels, out_channels, 1)
        self.apply(layers.initialise)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) -> logits (N, out_channels, H, W)."""
        layers.require_multiple(images, self.depth)
        *skips, features = layers.encode(self.encoder, self.pool, images)
        for up, gate, block, skip in zip(self.up, self.gates, self.decoder, skips[::-1]):
            signal = up(features)  # as large as the skip
            features = block(torch.cat([skip * gate(skip, signal), signal], dim=1))
        return self.head(features)
