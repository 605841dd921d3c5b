"""Training state: everything that the next epoch depends on, in one object and one file."""

import copy
import math
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib import models
from lib.models import devices, synchronised_batch_norm
from lib.study import files
from lib.training import ranks

BROKEN = (RuntimeError, EOFError, OSError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
BROKEN += (pickle.UnpicklingError, struct.error)
STATEFUL = ("model", "optimizer", "schedule", "scaler")  # attributes with a state_dict
Rows = list[dict[str, Any]]  # one per epoch


@dataclass
class Epoch:
    """The batches of the epoch in progress; tensors stay on the device, so that adding a batch does not wait for it."""

    learning_rate: float = 0.0  # of its first step
    images: list[int] = field(default_factory=list)  # number in each batch
    losses: list[torch.Tensor] = field(default_factory=list)  # mean of each batch
    tally: torch.Tensor | int = 0  # sum of the objective's tallies
    seconds: float = 0.0  # spent training
    waiting: float = 0.0  # of these, waiting for data

    def add(self, images: int, loss: torch.Tensor, tally: torch.Tensor, waited: float, seconds: float) -> None:
        """Adds a batch; `seconds` since the start of the epoch."""
        self.images.append(images)
        self.losses.append(loss)
        self.tally = self.tally + tally
        self.waiting += waited
        self.seconds = seconds

    def sums(self) -> tuple[float, torch.Tensor]:
        """Mean loss over images, and summed tally; waits for the device."""
        losses = torch.stack(self.losses) * torch.tensor(self.images, device=self.losses[0].device)
        return float(losses.sum()) / sum(self.images), self.tally


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
    deterministic: bool  # equal bytes on one device; running out of memory is then an error
    portion: int | None = None  # images per forward pass after running out of memory; None: whole batches
    epoch: Epoch = field(default_factory=Epoch)
    history: Rows = field(default_factory=list)
    timing: Rows = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)  # of the best epoch so far; empty before the first

    def end_epoch(self, row: dict[str, Any], timing: dict[str, Any]) -> None:
        """Adds an epoch's rows and, if it is the best so far, keeps a copy of the current weights."""
        self.history.append(row)
        self.timing.append(timing)
        self.epoch = Epoch()
        if row["best"]:
            self.weights = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def save(self, path: Path, depends_on: dict[str, Any]) -> None:
        """Atomically writes the state, also within an epoch; the draws of cases depend on (seed, epoch, case) alone.

        Of several processes that share the training, only the first writes: their states are equal.
        """
        if not ranks.is_first():
            return
        saved = {name: getattr(self, name).state_dict() for name in STATEFUL}
        saved |= {"history": self.history, "timing": self.timing, "weights": self.weights}
        losses = torch.stack(self.epoch.losses) if self.epoch.losses else torch.zeros(0)  # read faster than a list
        saved |= {"epoch": vars(self.epoch) | {"losses": losses}, "portion": self.portion}
        saved |= {"mark": depends_on, "random": _random_states(self.device)}
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            try:
                torch.save(saved, file)
            except RuntimeError as error:  # torch's own, raised while it handles that of a full disk
                raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None

    def load(self, saved: dict[str, Any]) -> None:
        """Restores a state returned by `read`; ValueError if it does not fit, leaving this state unchanged."""
        before = copy.deepcopy({name: getattr(self, name).state_dict() for name in STATEFUL})
        random = _random_states(self.device)
        try:
            self._check(saved)
            for name in STATEFUL:
                getattr(self, name).load_state_dict(saved[name])
            for parameter, moments in self.optimizer.state.items():
                if any(isinstance(v, torch.Tensor) and v.ndim and v.shape != parameter.shape for v in moments.values()):
                    raise ValueError("its optimizer belongs to another network")
            epoch = Epoch(**saved["epoch"])
            epoch.losses = list(epoch.losses.to(self.device).unbind())
            epoch.tally = epoch.tally.to(self.device) if epoch.images else 0
            _set_random_states(saved["random"], self.device)
        except BROKEN as error:
            for name in STATEFUL:
                getattr(self, name).load_state_dict(before[name])
            _set_random_states(random, self.device)
            first_line = str(error).strip().split("\n")[0]
            raise ValueError(f"{type(error).__name__}: {first_line}") from error
        self.history, self.timing, self.weights = saved["history"], saved["timing"], saved["weights"]
        self.epoch, self.portion = epoch, saved["portion"]

    def _check(self, saved: dict[str, Any]) -> None:
        """ValueError for inconsistencies that torch would accept here and fail on later."""
        epochs = list(range(1, len(saved["history"]) + 1))
        if any([row["epoch"] for row in saved[name]] != epochs for name in ("history", "timing")):
            raise ValueError("its history does not cover epochs 1, 2, …")
        if epochs and not any(row["best"] and math.isfinite(row["selection"]) for row in saved["history"]):
            raise ValueError("its history has no best epoch")
        shapes = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        if epochs and {name: tensor.shape for name, tensor in saved["weights"].items()} != shapes:
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
    deterministic: bool = True,
) -> TrainingState:
    """The initial state of a `models.describe` record; ValueError if device or precision is not available.

    `optimizer` is called with the weights and with `fused`, which on CUDA updates them in one kernel.
    """
    device = devices.choose(device_name)
    precision = devices.choose_precision(precision_name, device)
    torch.manual_seed(seed)
    model = models.start(network).to(device, memory_format=torch.channels_last)
    if ranks.count() > 1:
        synchronised_batch_norm.synchronise(model)
    initialised = optimizer(model.parameters(), fused=device.type == "cuda" or None)
    return TrainingState(
        model=model,
        network=torch.compile(model, dynamic=False)
        if compiled
        else model,  # shares the weights under other names; one graph per batch size
        optimizer=initialised,
        schedule=schedule(initialised),
        scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
        device=device,
        precision=precision,
        deterministic=deterministic,
    )


def _random_states(device: torch.device) -> list[torch.Tensor]:
    """Random states of torch, on the CPU and on a CUDA device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _set_random_states(states: list[torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def read(path: Path) -> dict[str, Any]:
    """The content of a `TrainingState.save` file; empty if it is missing or unreadable."""
    if not path.is_file():
        return {}
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN:  # a corrupt archive may raise any of these
        return {}
    return saved if isinstance(saved, dict) and isinstance(saved.get("mark"), dict) else {}
