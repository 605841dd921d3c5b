"""U-Net with torchvision's ResNet as encoder, so that ImageNet weights fit; the only module that needs torchvision.

Sources: He et al. 2016, arXiv:1512.03385 (encoder); the decoder follows segmentation_models_pytorch's Unet.
"""

import importlib
import pickle
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from lib.models import layers

WIDTHS = (256, 128, 64, 32, 16)  # decoder channels, coarsest level first
DEPTH = 5  # halvings: the first convolution, the pooling, three of the four stages


@cache
def torchvision_resnet() -> ModuleType:
    """torchvision.models.resnet, imported on first use because the import takes more than a second.

    torchvision's published wheel is built for CUDA. With a CPU build of torch its library does not load, and the import
    fails on two unknown operators; no network uses them, so declaring them suffices.
    """
    try:
        return importlib.import_module("torchvision.models.resnet")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # partially imported
    declare_operators()
    return importlib.import_module("torchvision.models.resnet")


@cache
def declare_operators() -> torch.library.Library:
    """Declares the operators that torchvision's import requires; cached, because they live as long as this object."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


class ResNetUNet(nn.Module):
    """ResNet encoder and U-Net decoder with batch normalisation; outputs logits. ValueError: unknown encoder."""

    def __init__(self, in_channels: int, out_channels: int, encoder: Literal["resnet18", "resnet34"]) -> None:
        super().__init__()
        if encoder not in ("resnet18", "resnet34"):
            raise ValueError(f"encoder = {encoder!r}   not known; allowed: resnet18, resnet34")
        self.encoder = getattr(torchvision_resnet(), encoder)(weights=None)
        del self.encoder.fc, self.encoder.avgpool  # only for classification
        self.encoder.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.decoder = nn.ModuleList(
            layers.convolutions([before + skip, width, width], "batch", bias=False)
            for before, skip, width in zip((512, *WIDTHS), (256, 128, 64, 64, 0), WIDTHS)
        )
        self.head = nn.Conv2d(WIDTHS[-1], out_channels, 3, padding=1)
        self.apply(layers.initialise)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) -> logits (N, out_channels, H, W)."""
        layers.require_multiple(images, DEPTH)
        *skips, features = self.encode(images)
        for block, skip in zip(self.decoder, [*reversed(skips), None]):
            enlarged = F.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(enlarged if skip is None else torch.cat([enlarged, skip], dim=1))
        return self.head(features)

    def encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of 64, 64, 128, 256 and 512 channels at 1/2 to 1/32 of the image's size."""
        net = self.encoder
        levels = [net.relu(net.bn1(net.conv1(images)))]
        features = net.maxpool(levels[0])
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            features = stage(features)
            levels.append(features)
        return levels


def imagenet_file(encoder: str) -> Path:
    """Path in torchvision's download cache of an encoder's ImageNet weights."""
    resnet = torchvision_resnet()
    weights = {"resnet18": resnet.ResNet18_Weights, "resnet34": resnet.ResNet34_Weights}[encoder]
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.IMAGENET1K_V1.url.rpartition("/")[2]


def load_imagenet(network: ResNetUNet, encoder: str) -> None:
    """Loads ImageNet weights into a network's encoder from torchvision's file; never downloads.

    For one channel the first kernels are summed over red, green and blue, which equals repeating the grey image three
    times. The sum, not the mean, because grey values here span about -2 to 2, like the normalised ImageNet images.
    ValueError: the file is missing, corrupt or of another network, or the images have neither 1 nor 3 channels.
    """
    path = imagenet_file(encoder)
    channels = network.encoder.conv1.in_channels
    if channels not in (1, 3):
        raise ValueError(f"encoder_weights = 'imagenet'   requires 1 or 3 channels, not {channels}; nearest: none")
    if not path.is_file():
        raise ValueError(
            f"encoder_weights = 'imagenet'   requires the file {path.name}, which does not exist in {path.parent}; on "
            f'a machine with internet access run: python -c "from torchvision.models import {encoder}; '
            f"{encoder}(weights='IMAGENET1K_V1')\", and copy the file to this folder; or set encoder_weights: none"
        )
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)  # never executes code from the file
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: not a readable weights file: {error}") from error
    if not isinstance(weights, dict):
        raise ValueError(f"{path}: contains {type(weights).__name__}; expected a dict of tensors")
    try:
        if channels == 1:
            weights["conv1.weight"] = weights["conv1.weight"].sum(dim=1, keepdim=True)
        network.encoder.load_state_dict({name: value for name, value in weights.items() if not name.startswith("fc.")})
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path}: weights do not fit {encoder}: {error}") from error
