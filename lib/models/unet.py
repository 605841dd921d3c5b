"""U-Net: encoder and decoder of double convolutions with a skip connection at each level.

Source: Ronneberger, Fischer, Brox 2015, arXiv:1505.04597; here with padding, so that the output has the input's size.
"""

from collections.abc import Callable

import torch
from torch import nn

from lib.models import layers


class UNet(nn.Module):
    """U-Net of variable width and depth; outputs logits.

    Args:
        base_channels: channels of the first level; doubled at each pooling.
        depth: number of poolings; input sides must be multiples of 2 ** depth.
        normalisation: "batch", or "none" as in the paper.
        bias: bias of 3x3 convolutions; None: only without batch normalisation, which cancels it.
        gate: constructor, called with (channels, normalisation), of the module that weights a skip; None: no gates.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        base_channels: int,
        depth: int,
        normalisation: layers.Normalisation,
        bias: bool | None = None,
        gate: Callable[[int, layers.Normalisation], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        widths = [base_channels * 2**level for level in range(depth + 1)]
        upwards = widths[-2::-1]
        bias = normalisation == "none" if bias is None else bias
        self.depth = depth
        self.encoder = nn.ModuleList(
            layers.convolutions([before, width, width], normalisation, bias)
            for before, width in zip([in_channels, *widths], widths)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(layers.UpConvolution(2 * width, width) for width in upwards)
        self.gates = None if gate is None else nn.ModuleList(gate(width, normalisation) for width in upwards)
        self.decoder = nn.ModuleList(
            layers.convolutions([2 * width, width, width], normalisation, bias) for width in upwards
        )
        self.head = nn.Conv2d(base_channels, out_channels, 1)
        self.apply(layers.initialise)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) -> logits (N, out_channels, H, W)."""
        layers.require_multiple(images, self.depth)
        levels = [self.encoder[0](images)]
        for block in self.encoder[1:]:
            levels.append(block(self.pool(levels[-1])))
        *skips, features = levels  # (N, channels of the level, H / 2^level, W / 2^level)
        for level, (up, block, skip) in enumerate(zip(self.up, self.decoder, skips[::-1])):
            features = up(features)  # upsampled to the size of the skip
            passed = skip if self.gates is None else skip * self.gates[level](skip, features)
            features = block(torch.cat([passed, features], dim=1))
        return self.head(features)
