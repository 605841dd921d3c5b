"""The state of a training: all that the next epoch depends on, in one object and in one file."""

import copy
import math
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib.study import files

BROKEN = (RuntimeError, EOFError, OSError, ValueError, TypeError, KeyError, AttributeError, pickle.UnpicklingError)
MOVING = ("model", "optimizer", "schedule", "scaler")  # whose own state is saved


@dataclass
class TrainingState:
    """A network that learns.

    Attributes:
        model: the plain network, whose weights are saved.
        network: as it is called: the model, compiled perhaps; it shares the model's weights.
        optimizer, schedule, scaler: of its steps.
        device, precision: where and how it computes.
        history, timing: a row an epoch.
        weights: those of the best epoch so far; empty before the first.
    """

    model: nn.Module
    network: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Any
    scaler: torch.amp.GradScaler
    device: torch.device
    precision: torch.dtype
    history: list[dict[str, Any]] = field(default_factory=list)
    timing: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def keep_weights(self) -> None:
        """Takes the weights of now for those of the best epoch."""
        self.weights = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def save(self, path: Path, mark: dict[str, Any]) -> None:
        """Writes all that the next epoch depends on in one file, whole or not at all.

        Draws are functions of (seed, epoch, case), so the only random state is torch's. The best weights so far lie in
        the same file as the history that calls them the best.
        """
        held = {name: getattr(self, name).state_dict() for name in MOVING}
        held |= {"history": self.history, "timing": self.timing, "weights": self.weights}
        with files.replacing(path) as temporary:
            torch.save(held | {"mark": mark, "random": torch.get_rng_state()}, temporary)

    def load(self, held: dict[str, Any]) -> None:
        """Brings everything to where a state was saved.

        Args:
            held: from `read`.

        Raises:
            ValueError: the state does not fit; all is then as it was.
        """
        fresh = copy.deepcopy({name: getattr(self, name).state_dict() for name in MOVING})
        random = torch.get_rng_state()
        try:
            self._check(held)
            for name in MOVING:
                getattr(self, name).load_state_dict(held[name])
            for parameter, moments in self.optimizer.state.items():
                if any(isinstance(v, torch.Tensor) and v.ndim and v.shape != parameter.shape for v in moments.values()):
                    raise ValueError("its optimizer is that of another network")
            torch.set_rng_state(held["random"])
        except BROKEN as error:
            for name in MOVING:
                getattr(self, name).load_state_dict(fresh[name])
            torch.set_rng_state(random)
            said = str(error).strip().split("\n")[0]
            raise ValueError(f"{type(error).__name__}: {said}") from error
        self.history, self.timing, self.weights = held["history"], held["timing"], held["weights"]

    def _check(self, held: dict[str, Any]) -> None:
        """Refuses what torch would take without a word, and stumble over later."""
        epochs = list(range(1, len(held["history"]) + 1))
        if not epochs or any([row["epoch"] for row in held[name]] != epochs for name in ("history", "timing")):
            raise ValueError("its history is not that of epochs 1, 2, …")
        if not any(row["best"] and math.isfinite(row["selection"]) for row in held["history"]):
            raise ValueError("its history has no best epoch")
        shapes = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        if {name: tensor.shape for name, tensor in held["weights"].items()} != shapes:
            raise ValueError("its best weights are of another network")
        groups = [list(group) for group in self.optimizer.state_dict()["param_groups"]]
        if [list(group) for group in held["optimizer"]["param_groups"]] != groups:
            raise ValueError("its optimizer is another")
        if held["schedule"].keys() != self.schedule.state_dict().keys():
            raise ValueError("its schedule is another")


def read(path: Path) -> dict[str, Any]:
    """What `TrainingState.save` wrote; empty where there is none, or a file that cannot be read as such."""
    if not path.is_file():
        return {}
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN:  # whatever a broken archive raises
        return {}
    return held if isinstance(held, dict) and isinstance(held.get("mark"), dict) else {}
