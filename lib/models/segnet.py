"""SegNet: an encoder of VGG16's form whose decoder puts each value back where its maximum was found.

Source: Badrinarayanan, Kendall, Cipolla 2017, IEEE TPAMI 39(12), arXiv:1511.00561.
"""

import torch
import torch.nn.functional as F
from torch import nn

from lib.models import layers

COUNTS = (2, 2, 3, 3, 3)  # convolutions a level, as in VGG16
MULTIPLES = (1, 2, 4, 8, 8)  # of the first level's channels


class SegNet(nn.Module):
    """SegNet; outputs logits.

    The decoder mirrors the encoder; its last convolution gives logits, with neither normalisation nor ReLU.
    Convolutions keep their bias under batch normalisation, where it has no effect: only so does it have the
    29,443,585 parameters (3 channels, 1 class, base 64, depth 5, no skips) that others count.

    Args:
        base_channels: of the first level; 64 in the paper.
        depth: number of poolings, 1 to 5 (the paper's), else ValueError; sides must be multiples of 2 ** depth.
        skips: whether the decoder also sees what the encoder had at each level before pooling. It is concatenated,
            not added: the decoder can then tell the few unpooled values from the encoder's everywhere, as in U-Net.
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
            raise ValueError(f"depth = {depth}   not allowed with SegNet; 1 to {len(COUNTS)}")
        widths = [base_channels * multiple for multiple in MULTIPLES[:depth]]
        seen = 2 if skips else 1  # maps of a level's width that its decoder sees
        self.depth, self.skips = depth, skips
        self.encoder = nn.ModuleList(
            layers.convolutions([before] + [width] * count, normalisation, bias=True)
            for before, width, count in zip([in_channels, *widths], widths, COUNTS)
        )
        self.pool = nn.MaxPool2d(2, return_indices=True)
        # The lowest decoder has one convolution fewer: the head is its last.
        levels = list(zip([base_channels, *widths], widths, (COUNTS[0] - 1, *COUNTS[1:])))
        self.decoder = nn.ModuleList(
            layers.convolutions([width * seen] + [width] * (count - 1) + [after], normalisation, bias=True)
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
    """Puts each value where a 2x2 max-pooling found its maximum, zeros elsewhere: (N, C, H, W) -> (N, C, 2H, 2W).

    `indices` (N, C, H, W) are row * 2W + col in the larger map. Values move in float32, which changes none of them:
    bfloat16 has kernels for this on the CPU, but not in every release on CUDA.
    """
    height, width = features.shape[2:]
    larger = F.max_unpool2d(features.float(), indices, 2, output_size=[2 * height, 2 * width])
    return larger.to(features.dtype)
