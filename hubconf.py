"""torch.hub entry: the U-Net that finds lower-grade glioma in brain MRI, as probabilities.

    model = torch.hub.load(<address or folder of this repository>, "unet_segmentation", weights_path=<file>)
    probability = model.segment(volume)  # (D, H, W, 3) uint8 of one patient -> (D, H, W)

For research and teaching, not for diagnosis.
"""

import pathlib
import sys
import typing

_HERE = pathlib.Path(__file__).resolve().parent


def _refuse_another_lib() -> None:
    """Stops before code of others is taken for this project's, or hides it: both packages are called `lib`."""
    own = _HERE / "lib"
    loaded = sys.modules.get("lib")
    if loaded is not None:
        taken = _folder_of(getattr(loaded, "__spec__", None))
        if taken == own:
            return
        raise ImportError(
            f"this model is made of {own}, but another package called lib is already imported here, from "
            f"{taken or loaded}; load the model in a Python process of its own, or rename the other package"
        )
    for entry in sys.path:
        other = pathlib.Path(entry or ".").resolve() / "lib"
        is_theirs = (other / "__init__.py").is_file() or other.with_suffix(".py").is_file()
        if is_theirs and other != own and not (other.parent / "hubconf.py").is_file():  # else a copy of this project
            raise ImportError(
                f"this model is made of {own}, and another package called lib lies in {other.parent}, which Python "
                "searches too: only one of them could be imported; load the model in a Python process of its own that "
                "does not search there, or rename the other package"
            )


def _folder_of(spec: typing.Any) -> pathlib.Path | None:
    """The folder of a package, or of what else was imported under its name."""
    place = next(iter(spec.submodule_search_locations or [spec.origin])) if spec else None
    return pathlib.Path(place).resolve() if place else None


_refuse_another_lib()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from lib import models  # noqa: E402
from lib.imaging import geometry, intensity, preparation, volumes  # noqa: E402
from lib.models import trained_model, unet  # noqa: E402

dependencies = ["torch", "numpy", "scipy", "cv2", "pandas", "pydantic", "yaml", "safetensors"]

_ARGUMENTS = {"in_channels": 3, "out_channels": 1, "base_channels": 32, "depth": 4, "normalisation": "batch"}
_UNTRAINED = {  # as params/lgg.yaml
    "flip_average": True,
    "preparation": {
        **{"image_size": [256, 256], "volumes": True, "channels": 3, "end_slices_dropped": 1, "crop_level": 0.1},
        "intensity_percentiles": [10.0, 99.0],
    },
}
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")  # torch.save since 1.6, and before
_MADE = "05_evaluation/models/fold0-seed0.safetensors"
_EXPECTED = (
    "expected a file of 05_evaluation/models written by this project that holds a U-Net (model: unet) with 3 channels "
    f"in and 1 out; 'make study STUDY=lgg DATA=<folder kaggle_3m>' trains it and writes reports/lgg/{_MADE}"
)


class _Segmentation(torch.nn.Module):
    """A U-Net whose output is probabilities, and the way from a volume to them."""

    def __init__(self, network: unet.UNet, about: dict[str, typing.Any]) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # as evaluation runs it
        self.about = about

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) float32, normalised -> (N, 1, H, W), the probability of lesion of each pixel."""
        return torch.sigmoid(self.network(slices))

    def segment(self, volume: np.ndarray) -> np.ndarray:
        """Probability of lesion of each voxel of a patient, as 05_evaluation computes it.

        The volume is (D, H, W, 3) uint8: pre-contrast, FLAIR, post-contrast of all slices, skull base first; ValueError
        if it is none, or has too few slices. The result is (D, H, W) float32 at the volume's own size, averaged with
        that of the mirrored volume where evaluation did; 0 in the end slices that the network is not shown, and outside
        the head. From `about["threshold"]` on a voxel is lesion.
        """
        stack = _several(volume)
        device = next(self.network.parameters()).device
        model = trained_model.Model(self.network, self.about, self.about["flip_average"], device)
        return trained_model.probability(model, stack)[1]

    def measure(self, volume: np.ndarray) -> tuple[intensity.Statistics, preparation.Box]:
        """Intensity statistics and (row, col, height, width) of the head: what one slice needs of its volume.

        The volume is (D, H, W, 3) uint8, all slices of one patient. ValueError: no such volume, or a lone slice.
        """
        return preparation.measure(_several(volume), self.about["preparation"])

    def preprocess(
        self, volume: np.ndarray, statistics: intensity.Statistics | None = None, box: preparation.Box | None = None
    ) -> torch.Tensor:
        """Slices as the network wants them: cropped to the head, normalised over the volume, of the trained size.

        The volume is that of `segment`, and gives (N, 3, h, w) float32, all slices but those at the ends that training
        left out; or it is one slice (H, W, 3), with statistics and box of its volume as `measure` gives them. A box of
        None is the whole frame, since a slice's own box would magnify a small section (up to 2.5 times in 28 patients).
        ValueError: no such volume, or a lone slice without statistics.
        """
        if statistics is None:
            return torch.from_numpy(preparation.prepare(_several(volume), self.about["preparation"]).images)
        stack = _stack(volume)
        size = tuple(self.about["preparation"]["image_size"])
        mapping = geometry.fit(stack.shape[1:3], size, box or (0, 0, *stack.shape[1:3]))
        return torch.from_numpy(volumes.to_network(stack, mapping, statistics))


def unet_segmentation(pretrained: bool = False, weights_path: str | None = None) -> torch.nn.Module:
    """U-Net for lesions in brain MRI, in evaluation mode: `model.segment(volume)` gives probabilities at native size.

    Without weights it has base 32, four poolings and batch normalisation (7,763,041 parameters), drawn from torch's
    random state; with weights, the width, depth and normalisation that their file names, and the size, crop, slices
    and intensities that it was trained with. As a module it takes (N, 3, H, W), made by `model.preprocess(volume)`,
    and gives probabilities (N, 1, H, W); H and W are multiples of 2 to the power of the number of poolings (16).

    `weights_path` is a file of 05_evaluation/models of a study of this project. `pretrained` insists on one, as the
    project ships no weights. ValueError: weights are wanted and not given, missing, not this project's, of another
    network, or without what their use needs.
    """
    if weights_path is not None:
        return _Segmentation(*_trained(pathlib.Path(weights_path))).eval()
    if pretrained:
        raise ValueError(
            "pretrained = True without weights_path: this project ships no weights, because the LGG data are "
            f"CC BY-NC-SA 4.0 (no commercial use); {_EXPECTED}"
        )
    return _Segmentation(models.build("unet", _ARGUMENTS), _UNTRAINED).eval()


def _trained(path: pathlib.Path) -> tuple[unet.UNet, dict[str, typing.Any]]:
    """The U-Net in a file of this project, and what the file says about it."""
    if not path.is_file():
        raise ValueError(f"weights_path = {path}: no such file; {_EXPECTED}")
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(_PICKLE_STARTS):
        raise ValueError(f"{path}: looks like a pickle, which may run code of others when it is read; {_EXPECTED}")
    try:
        network, about = models.load_described(path)
    except ValueError as error:
        raise ValueError(f"{error}; {_EXPECTED}") from error
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    channels = (convolutions[0].in_channels, convolutions[-1].out_channels)
    # Not isinstance: an attention U-Net is a U-Net too, and is refused.
    if type(network) is not unet.UNet or channels != (3, 1):
        found = f"{type(network).__name__} with {channels[0]} channels in and {channels[1]} out"
        raise ValueError(f"{path}: holds {found}; {_EXPECTED}")
    _require_use(path, about)
    return network, about


def _require_use(path: pathlib.Path, about: dict[str, typing.Any]) -> None:
    """Refuses weights without what their use needs: 05 writes it into a file of its own, 04's never changes."""
    if "preparation" not in about:
        raise ValueError(f"{path}: does not say how volumes are prepared (older weights); {_EXPECTED}")
    if "flip_average" not in about:
        made = f"reports/{about['study']}/05_evaluation/models/{path.parent.name}.safetensors"
        raise ValueError(
            f"{path}: weights as 04_training wrote them, without what 05_evaluation chose for their use (threshold, "
            f"flip averaging); give the file that 05_evaluation made of them, {made}; {_EXPECTED}"
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


def _several(volume: np.ndarray) -> np.ndarray:
    """A volume of several slices; ValueError for a lone one."""
    stack = _stack(volume)
    if len(stack) == 1:
        raise ValueError(
            "a lone slice without statistics: normalised by its own intensities its values shift against those of its "
            "volume, and the network segments it badly; give the whole volume (slices, rows, columns, 3) and take the "
            "slice from the result, or 'statistics, box = model.measure(volume)' and preprocess(slice, statistics, box)"
        )
    return stack
