"""torch.hub entry: U-Net for the segmentation of lower-grade glioma in brain MRI; outputs probabilities.

    model = torch.hub.load(<address or folder of this repository>, "unet_segmentation", weights_path=<file>)
    probability = model.segment(volume)  # (D, H, W, 3) uint8 of one patient -> (D, H, W)

For research and teaching, not for diagnosis.
"""

import pathlib
import sys
import typing

_HERE = pathlib.Path(__file__).resolve().parent


def _refuse_another_lib() -> None:
    """ImportError if another package called `lib` is imported or would hide this project's."""
    own = _HERE / "lib"
    loaded = sys.modules.get("lib")
    if loaded is not None:
        other = _folder_of(getattr(loaded, "__spec__", None))
        if other == own:
            return
        raise ImportError(
            f"this model requires the package {own}, but another package called lib has already been imported from "
            f"{other or loaded}; load the model in a separate Python process, or rename the other package"
        )
    for entry in sys.path:
        other = pathlib.Path(entry or ".").resolve() / "lib"
        is_package = (other / "__init__.py").is_file() or other.with_suffix(".py").is_file()
        if is_package and other != own and not (other.parent / "hubconf.py").is_file():  # else a copy of this project
            raise ImportError(
                f"this model requires the package {own}, but another package called lib is in {other.parent}, which is "
                "on Python's search path, and only one of them can be imported; load the model in a separate Python "
                "process without that folder on its search path, or rename the other package"
            )


def _folder_of(spec: typing.Any) -> pathlib.Path | None:
    """Folder of a package, or file of a module."""
    path = next(iter(spec.submodule_search_locations or [spec.origin])) if spec else None
    return pathlib.Path(path).resolve() if path else None


_refuse_another_lib()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from lib import models  # noqa: E402
from lib.imaging import geometry, intensity, preparation, volumes  # noqa: E402
from lib.models import trained_model, unet  # noqa: E402

dependencies = ["torch", "numpy", "scipy", "cv2", "pandas", "pydantic", "yaml", "safetensors"]

_ARGUMENTS = {"in_channels": 3, "out_channels": 1, "base_channels": 32, "depth": 4, "normalisation": "batch"}
_UNTRAINED = {  # values of params/lgg.yaml
    "flip_average": True,
    "preparation": {
        **{"image_size": [256, 256], "volumes": True, "channels": 3, "end_slices_dropped": 1, "crop_level": 0.1},
        "intensity_percentiles": [10.0, 99.0],
    },
}
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")  # torch.save since 1.6, and before
_EXPECTED = (
    "expected a U-Net (model: unet) with 3 input and 1 output channels in a file of 05_evaluation/models of this "
    "project; 'make study STUDY=lgg DATA=<folder kaggle_3m>' trains one and writes "
    "reports/lgg/05_evaluation/models/fold0-seed0.safetensors"
)


class _Segmentation(torch.nn.Module):
    """A U-Net that outputs probabilities, with the preprocessing of volumes."""

    def __init__(self, network: unet.UNet, about: dict[str, typing.Any]) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # as in evaluation
        self.about = about

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """Lesion probability of each pixel, (N, 1, H, W), from normalised slices (N, 3, H, W) float32."""
        return torch.sigmoid(self.network(slices))

    def segment(self, volume: np.ndarray) -> np.ndarray:
        """Lesion probability of each voxel of a patient, (D, H, W) float32 at native size, as in 05_evaluation.

        The volume is (D, H, W, 3) uint8: pre-contrast, FLAIR and post-contrast of all slices, skull base first. The
        probability is 0 in dropped end slices and outside the head, and averaged with the mirrored volume's if
        evaluation did so. Lesion: probability >= `about["threshold"]`. ValueError: no such volume, or too few slices.
        """
        stack = _require_slices(volume)
        device = next(self.network.parameters()).device
        model = trained_model.Model(self.network, self.about, self.about["flip_average"], device)
        return trained_model.probability(model, stack)[1]

    def measure(self, volume: np.ndarray) -> tuple[intensity.Statistics, preparation.Box]:
        """Intensity statistics and head box (row, col, height, width) of a volume, required to prepare a single slice.

        The volume is (D, H, W, 3) uint8, all slices of one patient. ValueError: no such volume, or a single slice.
        """
        return preparation.measure(_require_slices(volume), self.about["preparation"])

    def preprocess(
        self, volume: np.ndarray, statistics: intensity.Statistics | None = None, box: preparation.Box | None = None
    ) -> torch.Tensor:
        """Network input (N, 3, h, w) float32: cropped to the head, normalised over the volume, at network size.

        Takes a volume as in `segment`, whose end slices are dropped as in training, or one slice (H, W, 3) with the
        statistics and box that `measure` returns for its volume. Without a box a slice is not cropped, since its own
        box would magnify a small section (up to 2.5 times in 28 patients). ValueError: no such volume, or a single
        slice without statistics.
        """
        if statistics is None:
            return torch.from_numpy(preparation.prepare(_require_slices(volume), self.about["preparation"]).images)
        stack = _stack(volume)
        size = tuple(self.about["preparation"]["image_size"])
        mapping = geometry.fit(stack.shape[1:3], size, box or (0, 0, *stack.shape[1:3]))
        return torch.from_numpy(volumes.to_network(stack, mapping, statistics))


def unet_segmentation(pretrained: bool = False, weights_path: str | None = None) -> torch.nn.Module:
    """U-Net for lesions in brain MRI, in evaluation mode: `model.segment(volume)` returns probabilities at native size.

    Without weights it has 32 base channels, four poolings and batch normalisation (7,763,041 parameters), initialised
    from torch's random state. With weights, architecture and preprocessing are those in their file. As a module it maps
    (N, 3, H, W) from `model.preprocess(volume)` to probabilities (N, 1, H, W); H and W are multiples of 2 to the power
    of the number of poolings (16).

    `weights_path` is a file of 05_evaluation/models of a study of this project; `pretrained` requires one, as the
    project ships none for LGG. ValueError: weights are required but not set, missing, not of this project, of another
    network, or without the metadata for their use.
    """
    if weights_path is not None:
        return _Segmentation(*_trained(pathlib.Path(weights_path))).eval()
    if pretrained:
        raise ValueError(
            "pretrained = True without weights_path: this project ships no weights for LGG, because the data "
            f"are CC BY-NC-SA 4.0 (no commercial use); {_EXPECTED}"
        )
    return _Segmentation(models.build("unet", _ARGUMENTS), _UNTRAINED).eval()


def _trained(path: pathlib.Path) -> tuple[unet.UNet, dict[str, typing.Any]]:
    """The U-Net in a weights file of this project, and its metadata."""
    if not path.is_file():
        raise ValueError(f"weights_path = {path}: no such file; {_EXPECTED}")
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(_PICKLE_STARTS):
        raise ValueError(f"{path}: appears to be a pickle, which can run arbitrary code when it is read; {_EXPECTED}")
    try:
        network, about = models.load_described(path)
    except ValueError as error:
        raise ValueError(f"{error}; {_EXPECTED}") from error
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    channels = (convolutions[0].in_channels, convolutions[-1].out_channels)
    # Not isinstance, which would accept an attention U-Net.
    if type(network) is not unet.UNet or channels != (3, 1):
        content = f"{type(network).__name__} with {channels[0]} input and {channels[1]} output channels"
        raise ValueError(f"{path}: contains {content}; {_EXPECTED}")
    _require_metadata(path, about)
    return network, about


def _require_metadata(path: pathlib.Path, about: dict[str, typing.Any]) -> None:
    """ValueError for weights without preparation, flip averaging and threshold; only files of 05 contain the latter."""
    if "preparation" not in about:
        raise ValueError(f"{path}: the metadata lack the preparation of volumes (older weights); {_EXPECTED}")
    if "flip_average" not in about:
        evaluated = f"reports/{about['study']}/05_evaluation/models/{path.parent.name}.safetensors"
        raise ValueError(
            f"{path}: weights of 04_training, without the threshold and flip averaging selected by 05_evaluation; use "
            f"the file that 05_evaluation wrote, {evaluated}; {_EXPECTED}"
        )
    if not about["preparation"]["volumes"]:
        raise ValueError(f"{path}: trained on single images, not on volumes; {_EXPECTED}")


def _stack(volume: np.ndarray) -> np.ndarray:
    """A volume, or one slice of it, as (D, H, W, 3) uint8."""
    if volume.dtype != np.uint8 or volume.ndim not in (3, 4) or volume.shape[-1] != 3:
        raise ValueError(
            f"an array {tuple(volume.shape)} of {volume.dtype}   cannot be segmented; expected (slices, rows, columns, "
            "3) of uint8: pre-contrast, FLAIR, post-contrast"
        )
    return volume[None] if volume.ndim == 3 else volume


def _require_slices(volume: np.ndarray) -> np.ndarray:
    """A volume of several slices; ValueError for a single one."""
    stack = _stack(volume)
    if len(stack) == 1:
        raise ValueError(
            "a single slice without statistics is segmented badly, because it would be normalised by its own "
            "intensities; pass the whole volume (slices, rows, columns, 3) and take the slice from the result, or call "
            "'statistics, box = model.measure(volume)' and preprocess(slice, statistics, box)"
        )
    return stack
