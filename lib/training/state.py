"""Training state: everything that the next epoch depends on, in one object and one file."""

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
STATEFUL = ("model", "optimizer", "schedule", "scaler")  # attributes with a state_dict
Rows = list[dict[str, Any]]  # one per epoch


@dataclass
class TrainingState:
    """A network in training."""

    model: nn.Module  # uncompiled; its weights are saved
    network: nn.Module  # the model, compiled if configured; shares the model's weights
    optimizer: torch.optim.Optimizer
    schedule: Any
    scaler: torch.amp.GradScaler
    device: torch.device
    precision: torch.dtype
    history: Rows = field(default_factory=list)
    timing: Rows = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)  # of the best epoch so far; empty before the first

    def keep_weights(self) -> None:
        """Keeps a copy of the current weights as those of the best epoch."""
        self.weights = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def save(self, path: Path, dependencies: dict[str, Any]) -> None:
        """Atomically writes the state; of random states only torch's, as draws depend on (seed, epoch, case) alone."""
        saved = {name: getattr(self, name).state_dict() for name in STATEFUL}
        saved |= {"history": self.history, "timing": self.timing, "weights": self.weights}
        with files.replacing(path) as temporary:
            torch.save(saved | {"mark": dependencies, "random": torch.get_rng_state()}, temporary)

    def load(self, saved: dict[str, Any]) -> None:
        """Restores a state returned by `read`; ValueError if it does not fit, leaving this state unchanged."""
        before = copy.deepcopy({name: getattr(self, name).state_dict() for name in STATEFUL})
        random = torch.get_rng_state()
        try:
            self._check(saved)
            for name in STATEFUL:
                getattr(self, name).load_state_dict(saved[name])
            for parameter, moments in self.optimizer.state.items():
                if any(isinstance(v, torch.Tensor) and v.ndim and v.shape != parameter.shape for v in moments.values()):
                    raise ValueError("its optimizer belongs to another network")
            torch.set_rng_state(saved["random"])
        except BROKEN as error:
            for name in STATEFUL:
                getattr(self, name).load_state_dict(before[name])
            torch.set_rng_state(random)
            first_line = str(error).strip().split("\n")[0]
            raise ValueError(f"{type(error).__name__}: {first_line}") from error
        self.history, self.timing, self.weights = saved["history"], saved["timing"], saved["weights"]

    def _check(self, saved: dict[str, Any]) -> None:
        """ValueError for inconsistencies that torch would accept here and fail on later."""
        epochs = list(range(1, len(saved["history"]) + 1))
        if not epochs or any([row["epoch"] for row in saved[name]] != epochs for name in ("history", "timing")):
            raise ValueError("its history does not cover epochs 1, 2, …")
        if not any(row["best"] and math.isfinite(row["selection"]) for row in saved["history"]):
            raise ValueError("its history has no best epoch")
        shapes = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        if {name: tensor.shape for name, tensor in saved["weights"].items()} != shapes:
            raise ValueError("its best weights belong to another network")
        groups = [list(group) for group in self.optimizer.state_dict()["param_groups"]]
        if [list(group) for group in saved["optimizer"]["param_groups"]] != groups:
            raise ValueError("its optimizer differs")
        if saved["schedule"].keys() != self.schedule.state_dict().keys():
            raise ValueError("its schedule differs")


def fresh_state(
    network: dict[str, Any],
    seed: int,
    device_name: str,
    precision_name: str,
    optimizer: Callable[..., torch.optim.Optimizer],
    schedule: Callable[[torch.optim.Optimizer], Any],
    compiled: bool = False,
) -> TrainingState:
    """The initial state of a `models.describe` record; ValueError if device or precision is not available."""
    device = devices.choose(device_name)
    precision = devices.choose_precision(precision_name, device)
    torch.manual_seed(seed)
    model = models.start(network).to(device, memory_format=torch.channels_last)
    initialised = optimizer(model.parameters())
    return TrainingState(
        model=model,
        network=torch.compile(model) if compiled else model,  # shares the weights under other names
        optimizer=initialised,
        schedule=schedule(initialised),
        scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
        device=device,
        precision=precision,
    )


def read(path: Path) -> dict[str, Any]:
    """The content of a `TrainingState.save` file; empty if it is missing or unreadable."""
    if not path.is_file():
        return {}
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN:  # a corrupt archive may raise any of these
        return {}
    return saved if isinstance(saved, dict) and isinstance(saved.get("mark"), dict) else {}
