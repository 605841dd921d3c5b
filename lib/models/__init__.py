"""The networks: built by name, saved with the arguments that rebuild them."""

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from lib import files, params
from lib.models import unet

MODELS: dict[str, type[nn.Module]] = {"unet": unet.UNet}


def arguments(chosen: params.ModelParams, in_channels: int) -> dict[str, Any]:
    """Constructor arguments of the network that a study file names; two classes share one logit."""
    classes = len(chosen.classes)
    return {
        "in_channels": in_channels,
        "out_channels": 1 if classes == 2 else classes,
        "base_channels": chosen.base_channels,
        "depth": chosen.depth,
        "normalisation": chosen.normalisation,
    }


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


def save(path: Path, model: str, given: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    """Writes weights with the name and arguments of their network, whole or not at all.

    The metadata is one JSON string: safetensors orders several entries at random, and files would differ.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    described = {"network": json.dumps({"model": model, "arguments": given}, sort_keys=True)}
    files.write_bytes(path, safetensors.torch.save(whole, described))


def load(path: Path) -> nn.Module:
    """A network as saved, in evaluation mode on the CPU.

    Raises:
        ValueError: the file is missing, broken, or its weights do not fit the network that it names.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {}).get("network", "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read as weights: {error}") from error
    if not isinstance(described, dict) or described.keys() != {"model", "arguments"}:
        raise ValueError(f"{path}: names no network; expected weights saved by this project")
    try:
        network = build(described["model"], described["arguments"])
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: weights do not fit {described}: {error}") from error
    return network.eval()
