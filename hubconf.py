"""torch.hub entry: the U-Net that finds lower-grade glioma in brain MRI, as probabilities.

    model = torch.hub.load(<address or folder of this repository>, "unet_segmentation", weights_path=<file>)
    probabilities = model(model.preprocess(volume))  # volume: (D, H, W, 3) uint8 of one patient

For research and teaching, not for diagnosis.
"""

import pathlib

import numpy as np
import torch

from lib import geometry, models, volumes
from lib.models import unet

dependencies = ["torch", "numpy", "scipy", "cv2", "pandas", "pydantic", "yaml", "safetensors"]

_ARGUMENTS = {"in_channels": 3, "out_channels": 1, "base_channels": 32, "depth": 4, "normalisation": "batch"}
_SIZE = (256, 256)
_CONTENT_LEVEL = 0.1
_PERCENTILES = (10.0, 99.0)
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")  # torch.save since 1.6, and before
_EXPECTED = (
    "expected a model.safetensors written by this project that holds a U-Net (model: unet) with 3 channels in and "
    "1 out; 'make study STUDY=lgg DATA=<folder kaggle_3m>' trains it and writes "
    "reports/lgg/04_training/fold0-seed0/model.safetensors"
)
_Box = tuple[int, int, int, int]


class _Segmentation(torch.nn.Module):
    """A U-Net whose output is probabilities, and the way from a volume to its input."""

    def __init__(self, network: unet.UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) float32, normalised -> (N, 1, H, W), the probability of lesion of each pixel."""
        return torch.sigmoid(self.network(slices))

    def measure(self, volume: np.ndarray) -> tuple[volumes.Statistics, _Box]:
        """Intensity statistics and (row, col, height, width) of the head: what one slice needs of its volume.

        Args:
            volume: (D, H, W, 3) uint8, all slices of one patient.

        Raises:
            ValueError: no such volume, or a lone slice.
        """
        stack = _stack(volume)
        _require_several(stack)
        box = volumes.content_box(stack, _CONTENT_LEVEL)
        return _statistics(stack, box), box

    def preprocess(
        self, volume: np.ndarray, statistics: volumes.Statistics | None = None, box: _Box | None = None
    ) -> torch.Tensor:
        """Slices as the network wants them: cropped to the head, normalised over the volume, 256 x 256 pixels.

        Args:
            volume: (D, H, W, 3) uint8: pre-contrast, FLAIR, post-contrast of all slices of one patient, skull base
                first; or, with `statistics`, one slice (H, W, 3).
            statistics: of the volume, as `measure` gives them; None: of these slices, which must then be a volume.
            box: of the volume, as `measure` gives it; None: of these slices, and the whole frame for a lone slice,
                whose own box would magnify a small section (up to 2.5 times in 28 patients).

        Returns:
            (D, 3, 256, 256) float32.

        Raises:
            ValueError: no such volume, or a lone slice without statistics.
        """
        stack = _stack(volume)
        if statistics is None:
            _require_several(stack)
        if box is None:
            box = volumes.content_box(stack, _CONTENT_LEVEL) if len(stack) > 1 else (0, 0, *stack.shape[1:3])
        mapping = geometry.fit(stack.shape[1:3], _SIZE, box)
        return torch.from_numpy(volumes.to_network(stack, mapping, statistics or _statistics(stack, box)))


def unet_segmentation(pretrained: bool = False, weights_path: str | None = None) -> torch.nn.Module:
    """U-Net for lesions in brain MRI, in evaluation mode: (N, 3, H, W) -> probabilities (N, 1, H, W).

    Without weights it has base 32, four poolings and batch normalisation (7,763,041 parameters), drawn from torch's
    random state; with weights, the width, depth and normalisation that their file names. H and W are multiples of
    2 to the power of the number of poolings (16). `model.preprocess(volume)` makes its input.

    Args:
        pretrained: insists on trained weights; as the project ships none, `weights_path` must then be given.
        weights_path: model.safetensors of a study of this project; read whenever it is given.

    Raises:
        ValueError: weights are wanted and not given, missing, not this project's, or of another network.
    """
    if weights_path is not None:
        return _Segmentation(_trained(pathlib.Path(weights_path))).eval()
    if pretrained:
        raise ValueError(
            "pretrained = True without weights_path: this project ships no weights, because the LGG data are "
            f"CC BY-NC-SA 4.0 (no commercial use); {_EXPECTED}"
        )
    return _Segmentation(models.build("unet", _ARGUMENTS)).eval()


def _trained(path: pathlib.Path) -> unet.UNet:
    """The U-Net in a file of this project."""
    if not path.is_file():
        raise ValueError(f"weights_path = {path}: no such file; {_EXPECTED}")
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(_PICKLE_STARTS):
        raise ValueError(f"{path}: looks like a pickle, which may run code of others when it is read; {_EXPECTED}")
    try:
        network = models.load(path)
    except ValueError as error:
        raise ValueError(f"{error}; {_EXPECTED}") from error
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    channels = (convolutions[0].in_channels, convolutions[-1].out_channels)
    if not isinstance(network, unet.UNet) or channels != (3, 1):
        found = f"{type(network).__name__} with {channels[0]} channels in and {channels[1]} out"
        raise ValueError(f"{path}: holds {found}; {_EXPECTED}")
    return network


def _statistics(stack: np.ndarray, box: _Box) -> volumes.Statistics:
    row, col, height, width = box
    return volumes.statistics(stack[:, row : row + height, col : col + width], _PERCENTILES)


def _stack(volume: np.ndarray) -> np.ndarray:
    """A volume, or one slice of it, as (D, H, W, 3) uint8."""
    if volume.dtype != np.uint8 or volume.ndim not in (3, 4) or volume.shape[-1] != 3:
        raise ValueError(
            f"an array {tuple(volume.shape)} of {volume.dtype}   cannot be segmented; expected (slices, rows, columns, "
            "3) of uint8: pre-contrast, FLAIR, post-contrast"
        )
    return volume[None] if volume.ndim == 3 else volume


def _require_several(stack: np.ndarray) -> None:
    if len(stack) == 1:
        raise ValueError(
            "a lone slice without statistics: normalised by its own intensities its values shift against those of its "
            "volume, and the network segments it badly; give the whole volume (slices, rows, columns, 3) and take the "
            "slice from the result, or 'statistics, box = model.measure(volume)' and preprocess(slice, statistics, box)"
        )
