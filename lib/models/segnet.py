"""SegNet: a VGG16 encoder, and a decoder that upsamples with the encoder's max-pooling indices.

Source: Badrinarayanan, Kendall, Cipolla 2017, IEEE TPAMI 39(12), arXiv:1511.00561.
"""

import torch
import torch.nn.functional as F
from torch import nn

from lib.models import layers

COUNTS = (2, 2, 3, 3, 3)  # convolutions per level, as in VGG16
MULTIPLES = (1, 2, 4, 8, 8)  # channels per level, relative to the first


class SegNet(nn.Module):
    """SegNet; outputs logits.

    Convolutions keep their bias although batch normalisation cancels it, so that the parameter count equals the
    published 29,443,585 (3 channels, 1 class, base 64, depth 5, no skips).

    Args:
        base_channels: channels of the first level; 64 in the paper.
        depth: number of poolings, 1 to 5 (5 in the paper), else ValueError; sides must be multiples of 2 ** depth.
        skips: concatenates the encoder's features before pooling to the unpooled ones. Concatenated as in U-Net rather
            than added, so that the decoder can tell the sparse unpooled values from the encoder's.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        base_channels: int,
        depth: int,
        normalisation: layers.Normalisation,
        skips: bool,
    ) -> None:
        super().__init__()
        if not 1 <= depth <= len(COUNTS):
            raise ValueError(f"depth = {depth}   not allowed with SegNet; allowed: 1 to {len(COUNTS)}")
        widths = [base_channels * multiple for multiple in MULTIPLES[:depth]]
        inputs = 2 if skips else 1  # feature maps of a level's width that its decoder receives
        self.depth, self.skips = depth, skips
        self.encoder = nn.ModuleList(
            layers.convolutions([before] + [width] * count, normalisation, bias=True)
            for before, width, count in zip([in_channels, *widths], widths, COUNTS)
        )
        self.pool = nn.MaxPool2d(2, return_indices=True)
        # The last decoder block has one convolution fewer: the head takes its place.
        levels = list(zip([base_channels, *widths], widths, (COUNTS[0] - 1, *COUNTS[1:])))
        self.decoder = nn.ModuleList(
            layers.convolutions([width * inputs] + [width] * (count - 1) + [after], normalisation, bias=True)
            for after, width, count in reversed(levels)
        )
        self.head = nn.Conv2d(base_channels, out_channels, 3, padding=1)
        self.apply(layers.initialise)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) -> logits (N, out_channels, H, W)."""
        layers.require_multiple(images, self.depth)
        levels, features = [], images
        for block in self.encoder:
            before = block(features)  # (N, width of the level, H / 2^level, W / 2^level)
            features, indices = self.pool(before)
            levels.append((before, indices))
        for block, (before, indices) in zip(self.decoder, reversed(levels)):
            features = unpool(features, indices)
            features = block(torch.cat([before, features], dim=1) if self.skips else features)
        return self.head(features)


def unpool(features: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Places each value at its 2x2 max-pooling index, zeros elsewhere: (N, C, H, W) -> (N, C, 2H, 2W).

    `indices` (N, C, H, W) are row * 2W + col in the larger map. In float32, as some CUDA releases lack bfloat16 here.
    """
    height, width = features.shape[2:]
    larger = F.max_unpool2d(features.float(), indices, 2, output_size=[2 * height, 2 * width])
    return larger.to(features.dtype)
