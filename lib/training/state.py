"""The state of a training: all that the next epoch depends on, in one object and in one file."""

import copy
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib import models
from lib.models import devices
from lib.study import files

BROKEN = (RuntimeError, EOFError, OSError, ValueError, TypeError, KeyError, AttributeError, pickle.UnpicklingError)
MOVING = ("model", "optimizer", "schedule", "scaler")  # whose own state is saved
Rows = list[dict[str, Any]]  # one per epoch


@dataclass
class TrainingState:
    """A network that learns."""

    model: nn.Module  # the plain network, whose weights are saved
    network: nn.Module  # as it is called: the model, compiled perhaps; it shares the model's weights
    optimizer: torch.optim.Optimizer
    schedule: Any
    scaler: torch.amp.GradScaler
    device: torch.device
    precision: torch.dtype
    history: Rows = field(default_factory=list)
    timing: Rows = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)  # of the best epoch so far; empty before the first

    def keep_weights(self) -> None:
        """Takes the weights of now for those of the best epoch."""
        self.weights = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def save(self, path: Path, mark: dict[str, Any]) -> None:
        """Writes all that the next epoch depends on in one file, whole or not at all.

        Draws are functions of (seed, epoch, case), so the only random state is torch's.
        """
        saved = {name: getattr(self, name).state_dict() for name in MOVING}
        saved |= {"history": self.history, "timing": self.timing, "weights": self.weights}
        with files.replacing(path) as temporary:
            torch.save(saved | {"mark": mark, "random": torch.get_rng_state()}, temporary)

    def load(self, saved: dict[str, Any]) -> None:
        """Goes back to what `read` gives; ValueError if it does not fit, and all is then as it was."""
        fresh = copy.deepcopy({name: getattr(self, name).state_dict() for name in MOVING})
        random = torch.get_rng_state()
        try:
            self._check(saved)
            for name in MOVING:
                getattr(self, name).load_state_dict(saved[name])
            for parameter, moments in self.optimizer.state.items():
                if any(isinstance(v, torch.Tensor) and v.ndim and v.shape != parameter.shape for v in moments.values()):
                    raise ValueError("its optimizer is that of another network")
            torch.set_rng_state(saved["random"])
        except BROKEN as error:
            for name in MOVING:
                getattr(self, name).load_state_dict(fresh[name])
            torch.set_rng_state(random)
            first_line = str(error).strip().split("\n")[0]
            raise ValueError(f"{type(error).__name__}: {first_line}") from error
        self.history, self.timing, self.weights = saved["history"], saved["timing"], saved["weights"]

    def _check(self, saved: dict[str, Any]) -> None:
        """Refuses what torch would take without a word, and stumble over later."""
        epochs = list(range(1, len(saved["history"]) + 1))
        if not epochs or any([row["epoch"] for row in saved[name]] != epochs for name in ("history", "timing")):
            raise ValueError("its history is not that of epochs 1, 2, …")
        if not any(row["best"] and math.isfinite(row["selection"]) for row in saved["history"]):
            raise ValueError("its history has no best epoch")
        shapes = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        if {name: tensor.shape for name, tensor in saved["weights"].items()} != shapes:
            raise ValueError("its best weights are of another network")
        groups = [list(group) for group in self.optimizer.state_dict()["param_groups"]]
        if [list(group) for group in saved["optimizer"]["param_groups"]] != groups:
            raise ValueError("its optimizer is another")
        if saved["schedule"].keys() != self.schedule.state_dict().keys():
            raise ValueError("its schedule is another")


def fresh_state(
    network: dict[str, Any],
    seed: int,
    device_name: str,
    precision_name: str,
    optimizer: Callable[..., torch.optim.Optimizer],
    schedule: Callable[[torch.optim.Optimizer], Any],
    compiled: bool = False,
) -> TrainingState:
    """A network, as models.describe gives it, before its first step; ValueError if device or precision is not there.

    `optimizer` makes one of the network's parameters, `schedule` one of the optimizer.
    """
    device = devices.choose(device_name)
    precision = devices.choose_precision(precision_name, device)
    torch.manual_seed(seed)
    model = models.start(network).to(device, memory_format=torch.channels_last)
    moving = optimizer(model.parameters())
    return TrainingState(
        model=model,
        network=torch.compile(model) if compiled else model,  # shares its weights, but names them otherwise
        optimizer=moving,
        schedule=schedule(moving),
        scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
        device=device,
        precision=precision,
    )


def read(path: Path) -> dict[str, Any]:
    """What `TrainingState.save` wrote; empty where there is none, or a file that cannot be read as such."""
    if not path.is_file():
        return {}
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN:  # whatever a broken archive raises
        return {}
    return saved if isinstance(saved, dict) and isinstance(saved.get("mark"), dict) else {}
