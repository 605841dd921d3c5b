"""Attention U-Net: gates weight each skip connection pixel by pixel.

Source: Oktay et al. 2018, arXiv:1804.03999. There the gate compares a skip with the coarser level and upsamples the
result; here, as in most later code, the decoder's features are upsampled first.
"""

import torch
from torch import nn

from lib.models import layers, unet


def projection(before: int, after: int, normalisation: layers.Normalisation) -> nn.Sequential:
    """A 1x1 convolution, optionally followed by batch normalisation."""
    convolution = nn.Conv2d(before, after, 1)
    return nn.Sequential(convolution, nn.BatchNorm2d(after)) if normalisation == "batch" else nn.Sequential(convolution)


class Gate(nn.Module):
    """Additive attention in half the channels: sigmoid(psi(relu(W_skip skip + W_signal signal)))."""

    def __init__(self, channels: int, normalisation: layers.Normalisation) -> None:
        super().__init__()
        inner = channels // 2
        self.of_skip = projection(channels, inner, normalisation)
        self.of_signal = projection(channels, inner, normalisation)
        self.psi = projection(inner, 1, normalisation)

    def forward(self, skip: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
        """Attention coefficients, (N, 1, H, W) in 0..1, from two maps (N, channels, H, W)."""
        return torch.sigmoid(self.psi(torch.relu(self.of_skip(skip) + self.of_signal(signal))))


class AttentionUNet(unet.UNet):
    """U-Net with attention gates; arguments as in `UNet`.

    Convolutions keep their bias although batch normalisation cancels it, so that the parameter count equals the
    31,394,096 (1 channel, 4 classes, base 64, depth 4) of the thesis code that it is compared with.
    """

    def __init__(
        self, in_channels: int, out_channels: int, base_channels: int, depth: int, normalisation: layers.Normalisation
    ) -> None:
        super().__init__(in_channels, out_channels, base_channels, depth, normalisation, bias=True, gate=Gate)
