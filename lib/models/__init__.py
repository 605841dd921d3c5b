"""The networks: built by name, saved with the arguments that rebuild them."""

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
from lib.study import files, params

MODELS: dict[str, Callable[..., nn.Module]] = {
    "unet": unet.UNet,
    "attention_unet": attention_unet.AttentionUNet,
    "segnet": partial(segnet.SegNet, skips=False),
    "segnet_skips": partial(segnet.SegNet, skips=True),
    "resnet_unet": resnet_unet.ResNetUNet,
}
NETWORK_PARTS = ("model", "arguments")  # of what a file says about its weights


def describe(chosen: params.ModelParams, in_channels: int) -> dict[str, Any]:
    """A network as model.json holds it: name, constructor arguments, and what its weights start from."""
    is_resnet = chosen.model == "resnet_unet"  # whose width, depth and normalisation are its encoder's
    own = ("encoder",) if is_resnet else ("base_channels", "depth", "normalisation")
    per = None if chosen.landmarks == "none" else chosen.heatmap_per
    channels = {"in_channels": in_channels, "out_channels": out_channels(len(chosen.classes), per)}
    described = {
        "model": chosen.model,
        "arguments": channels | {key: getattr(chosen, key) for key in own},
        "encoder_weights": chosen.encoder_weights if is_resnet else "none",
    }
    # Heatmaps are 0 nearly everywhere: from random weights the first epochs would only learn to show nothing.
    return described | ({} if chosen.landmarks == "none" else {"starts_blank": True})


def out_channels(class_count: int, heatmap_per: Literal["line", "point"] | None) -> int:
    """Two classes share one logit, more have one each; of landmarks a heatmap a line (2) or a point (4)."""
    if heatmap_per is not None:
        return {"line": 2, "point": 4}[heatmap_per]
    return 1 if class_count == 2 else class_count


def start(network: dict[str, Any]) -> nn.Module:
    """A network as `describe` gives it, ready to be trained: fresh weights, in the encoder ImageNet's if wanted.

    One that learns heatmaps puts out 0 at first.

    Trained weights are read by `load`, which needs no file of ImageNet weights.

    Raises:
        ValueError: no such network or start, or the file of ImageNet weights is missing or does not fit.
    """
    built = build(network["model"], network["arguments"])
    if network.get("starts_blank", False):
        for parameter in built.head.parameters():
            nn.init.zeros_(parameter)
    match network["encoder_weights"]:
        case "none":
            return built
        case "imagenet" if isinstance(built, resnet_unet.ResNetUNet):
            resnet_unet.load_imagenet(built, network["arguments"]["encoder"])
            return built
    raise ValueError(
        f"encoder_weights = {network['encoder_weights']!r}   not allowed with {network['model']}; "
        "none, or with resnet_unet imagenet"
    )


def build(model: str, given: dict[str, Any]) -> nn.Module:
    """A network with fresh weights, drawn from torch's random state.

    Raises:
        ValueError: no such network.
    """
    if model not in MODELS:
        raise ValueError(f"model = {model!r}   not known; allowed: {', '.join(MODELS)}")
    return MODELS[model](**given)


def parameter_count(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def layer_table(network: nn.Module, image_shape: tuple[int, int, int]) -> list[dict[str, Any]]:
    """Each convolution in the order it runs: layer, channels, rows, cols, parameters."""
    rows: list[dict[str, Any]] = []

    def hook(name: str) -> Any:
        def note(module: nn.Module, _: Any, output: torch.Tensor) -> None:
            _, channels, height, width = output.shape
            rows.append(
                {
                    "layer": name,
                    "channels": channels,
                    "rows": height,
                    "cols": width,
                    "parameters": parameter_count(module),
                }
            )

        return note

    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    hooks = [m.register_forward_hook(hook(name)) for name, m in network.named_modules() if isinstance(m, kinds)]
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        network(torch.zeros(1, *image_shape))
    network.train(was_training)
    for each in hooks:
        each.remove()
    return rows


def save(
    path: Path,
    model: str,
    given: dict[str, Any],
    weights: dict[str, torch.Tensor],
    about: dict[str, Any] | None = None,
) -> None:
    """Writes weights with the name and arguments of their network, whole or not at all.

    Args:
        path: of the file.
        model, given: as `build` takes them.
        weights: the network's state.
        about: what else a user of the network must know, JSON-able.
    """
    _write(path, {"model": model, "arguments": given} | (about or {}), weights)


def _write(path: Path, described: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    """The metadata is one JSON string: safetensors orders several entries at random, and files would differ."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    files.write_bytes(path, safetensors.torch.save(whole, {"network": json.dumps(described, sort_keys=True)}))


def complete(source: Path, target: Path, added: dict[str, Any]) -> None:
    """Writes the weights of a file to another, with more said about them; errors as of `load_described`."""
    described, weights = _read(source)
    _write(target, described | added, weights)


def load(path: Path) -> nn.Module:
    """A network as saved, in evaluation mode on the CPU; errors as of `load_described`."""
    return load_described(path)[0]


def load_described(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A network as saved, in evaluation mode on the CPU, and what its file says about it.

    Raises:
        ValueError: the file is missing, broken, or its weights do not fit the network that it names.
    """
    described, weights = _read(path)
    try:
        network = build(described["model"], described["arguments"])
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError) as error:
        named = {name: described[name] for name in NETWORK_PARTS}
        raise ValueError(f"{path}: weights do not fit {named}: {error}") from error
    return network.eval(), described


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {}).get("network", "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read as weights: {error}") from error
    if not isinstance(described, dict) or not described.keys() >= set(NETWORK_PARTS):
        raise ValueError(f"{path}: names no network; expected weights saved by this project")
    return described, weights
