"""Networks: built by name, saved together with the arguments that rebuild them."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import nn

from lib.models import attention_unet, resnet_unet, segnet, unet
from lib.study import files, param_faults, params

MODELS: dict[str, Callable[..., nn.Module]] = {
    "unet": unet.UNet,
    "attention_unet": attention_unet.AttentionUNet,
    "segnet": partial(segnet.SegNet, skips=False),
    "segnet_skips": partial(segnet.SegNet, skips=True),
    "resnet_unet": resnet_unet.ResNetUNet,
}
MOST_CHANNELS = 4096  # of any argument of a network
NETWORK_KEYS = ("model", "arguments")  # required in the metadata of a weights file
FORMAT = 1  # of a completed file's metadata; to be raised when older code would misread a new file


def describe(config: params.ModelParams, in_channels: int) -> dict[str, Any]:
    """Content of model.json: network name, constructor arguments and initial weights."""
    is_resnet = config.model == "resnet_unet"  # its encoder fixes width, depth and normalisation
    keys = ("encoder",) if is_resnet else ("base_channels", "depth", "normalisation")
    per = config.heatmap_per
    channels = {"in_channels": in_channels, "out_channels": out_channels(len(config.classes), per)}
    described = {
        "model": config.model,
        "arguments": channels | {key: getattr(config, key) for key in keys},
        "encoder_weights": config.encoder_weights if is_resnet else "none",
    }
    # Heatmaps are 0 nearly everywhere: from random weights the first epochs would only learn to output zeros.
    return described if per is None else described | {"starts_blank": True}


def out_channels(class_count: int, heatmap_per: Literal["line", "point"] | None) -> int:
    """One logit for two classes, else one per class; for landmarks one heatmap per line (2) or per point (4)."""
    if heatmap_per is not None:
        return {"line": 2, "point": 4}[heatmap_per]
    return 1 if class_count == 2 else class_count


def start(network: dict[str, Any]) -> nn.Module:
    """The untrained network of a `describe` record, with random weights and, if set, ImageNet weights in its encoder.

    ValueError: unknown network or initial weights, or a missing or mismatched file of ImageNet weights.
    """
    built, encoder_weights = build(network["model"], network["arguments"]), network["encoder_weights"]
    if network.get("starts_blank", False):
        for parameter in built.head.parameters():
            nn.init.zeros_(parameter)
    if encoder_weights == "imagenet" and isinstance(built, resnet_unet.ResNetUNet):
        resnet_unet.load_imagenet(built, network["arguments"]["encoder"])
    elif encoder_weights != "none":
        raise ValueError(f"encoder_weights = {encoder_weights!r}   not allowed with {network['model']}; nearest: none")
    return built


def build(model: str, arguments: dict[str, Any]) -> nn.Module:
    """A network with weights drawn from torch's random state; ValueError for an unknown name."""
    if model not in MODELS:
        raise ValueError(f"model = {model!r}   not known; allowed: {', '.join(MODELS)}")
    return MODELS[model](**arguments)


def parameter_count(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def layer_table(network: nn.Module, image_shape: tuple[int, int, int]) -> list[dict[str, Any]]:
    """One row per convolution, in the order of execution: layer, channels, rows, cols, parameters."""
    rows: list[dict[str, Any]] = []
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    names = {module: name for name, module in network.named_modules() if isinstance(module, kinds)}

    def add_row(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        sizes = dict(zip(("channels", "rows", "cols"), output.shape[1:]))
        rows.append({"layer": names[module], **sizes, "parameters": parameter_count(module)})

    hooks = [module.register_forward_hook(add_row) for module in names]
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        network(torch.zeros(1, *image_shape))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return rows


def save(
    path: Path, model: str, arguments: dict[str, Any], weights: dict[str, torch.Tensor], about: dict[str, Any]
) -> None:
    """Atomically writes a state dict with the network's name, its arguments and further metadata (`about`)."""
    files.write_bytes(path, _content({"model": model, "arguments": arguments} | about, weights))


def complete(source: Path, target: Path, added: dict[str, Any]) -> None:
    """Copies a weights file and adds metadata, its format and a checksum of all; raises as `load_described`."""
    described, weights = _read(source)
    described |= added | {"format": FORMAT}
    files.write_bytes(target, _content(described | {"checksum": _checksum(described, weights)}, weights))


def _content(described: dict[str, Any], weights: dict[str, torch.Tensor]) -> bytes:
    """Bytes of a weights file, the same for the same values."""
    # One JSON string: safetensors orders several metadata entries at random, so files would differ.
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    return safetensors.torch.save(whole, {"network": json.dumps(described, sort_keys=True)})


def _checksum(described: dict[str, Any], weights: dict[str, torch.Tensor]) -> str:
    """SHA-256 of the weights and all metadata but the checksum itself; of no use against who can compute it too."""
    content = _content({name: value for name, value in described.items() if name != "checksum"}, weights)
    return hashlib.sha256(content).hexdigest()


def load(path: Path) -> nn.Module:
    """A saved network in evaluation mode on the CPU; raises as `load_described`."""
    return load_described(path)[0]


def load_described(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A saved network (CPU, evaluation mode) and its metadata.

    ValueError for a missing, corrupt or mismatched file, one that has changed, or of a newer version.
    """
    described, weights = _read(path)
    try:
        _require_shapes(described, weights)
        network = build(described["model"], described["arguments"])
        network.load_state_dict(weights)
    except (AttributeError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        named = {name: described[name] for name in NETWORK_KEYS}
        raise ValueError(f"{path}: weights do not fit {param_faults.shown(named)}: {error}") from error
    return network.eval(), described


def _require_shapes(described: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    """ValueError unless the arguments of a file give its tensors, found out without memory for those of the network."""
    large = [name for name, value in described["arguments"].items() if isinstance(value, int) and value > MOST_CHANNELS]
    if large:
        raise ValueError(f"{', '.join(large)} above {MOST_CHANNELS}")
    with torch.device("meta"):
        expected = {
            name: tensor.shape
            for name, tensor in build(described["model"], described["arguments"]).state_dict().items()
        }
    if expected != {name: tensor.shape for name, tensor in weights.items()}:
        raise ValueError("names or shapes of tensors differ")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {}).get("network", "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, RecursionError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path}: not a readable weights file: {error}") from error
    if not isinstance(described, dict) or not described.keys() >= set(NETWORK_KEYS):
        raise ValueError(f"{path}: the metadata name no network; expected weights saved by this project")
    _require_own_format(path, described, weights)
    return described, weights


def _require_own_format(path: Path, described: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    """ValueError for a completed file of a newer version, or one that has changed since it was written."""
    written = described.get("format", 0)  # 0: of 04_training, or of before 2026-11-28
    if isinstance(written, int) and written > FORMAT:
        raise ValueError(
            f"{path}: written by a newer version of this project (format {written}; this one reads up to {FORMAT}); "
            "update the project"
        )
    if "checksum" in described and described["checksum"] != _checksum(described, weights):
        raise ValueError(
            f"{path}: weights or metadata have changed since the file was written (its checksum differs); copy the "
            "file again, or let 05_evaluation write it again"
        )
