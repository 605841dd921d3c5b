"""Attention U-Net: a U-Net in which the decoder decides, pixel by pixel, how much of each skip passes.

Source: Oktay et al. 2018, arXiv:1804.03999. There the gate compares a skip with the coarser level and is itself
enlarged; here, as in most later code, with the decoder's features already enlarged to the skip's size.
"""

import torch
from torch import nn

from lib.models import layers, unet


def projection(before: int, after: int, normalisation: layers.Normalisation) -> nn.Sequential:
    """A 1x1 convolution, batch normalisation if wanted."""
    convolution = nn.Conv2d(before, after, 1)
    return nn.Sequential(convolution, nn.BatchNorm2d(after)) if normalisation == "batch" else nn.Sequential(convolution)


class Gate(nn.Module):
    """Additive attention, sigmoid(psi(relu(skip's projection + signal's projection))), in half the channels."""

    def __init__(self, channels: int, normalisation: layers.Normalisation) -> None:
        super().__init__()
        inner = channels // 2
        self.of_skip = projection(channels, inner, normalisation)
        self.of_signal = projection(channels, inner, normalisation)
        self.psi = projection(inner, 1, normalisation)

    def forward(self, skip: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
        """Attention coefficients in 0..1: twice (N, channels, H, W) -> (N, 1, H, W)."""
        return torch.sigmoid(self.psi(torch.relu(self.of_skip(skip) + self.of_signal(signal))))


class AttentionUNet(unet.UNet):
    """A U-Net with gates; arguments as there.

    Its convolutions keep their bias under batch normalisation, where it has no effect: only so does it have the
    31,394,096 parameters (1 channel, 4 classes, base 64, depth 4) of the thesis code that it is compared with.
    """

    def __init__(
        self, in_channels: int, out_channels: int, base_channels: int, depth: int, normalisation: layers.Normalisation
    ) -> None:
        super().__init__(in_channels, out_channels, base_channels, depth, normalisation, bias=True, gate=Gate)
