"""The folder of a training run: its state after every epoch, and what it leaves at its end."""

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lib import files

FINISHED_FILES = ("run.json", "model.safetensors", "history.csv", "timing.csv")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        history: a row an epoch: losses, Dice or error, learning rate, which epochs were the best so far.
        timing: a row an epoch: seconds, images per second.
        best_epoch: whose weights are kept, from 1.
        best_value: its weighted validation Dice or IoU; of landmarks minus the error in percent of the OFD.
    """

    history: pd.DataFrame
    timing: pd.DataFrame
    best_epoch: int
    best_value: float


def load_finished(folder: Path, mark: str) -> Run | None:
    """The run in a folder if it is finished, whole, and of this fingerprint."""
    if not all((folder / name).is_file() for name in FINISHED_FILES):
        return None
    about = files.read_json(folder / "run.json")
    if about.get("fingerprint") != mark or files.sha256(folder / "model.safetensors") != about["weights_sha256"]:
        return None
    history = files.read_csv(folder / "history.csv", ["epoch", "selection"])
    timing = files.read_csv(folder / "timing.csv", ["epoch", "seconds"])
    return Run(history, timing, about["best_epoch"], about["best_value"])


def save_state(path: Path, mark: str, moving: dict[str, Any], so_far: dict[str, Any]) -> None:
    """Writes all that the next epoch depends on in one file, whole or not at all.

    Draws are functions of (seed, epoch, case), so the only random state is torch's. The best weights so far lie in
    the same file as the history that calls them the best.
    """
    state = {name: part.state_dict() for name, part in moving.items()}
    with files.replacing(path) as temporary:
        torch.save(state | so_far | {"mark": mark, "random": torch.get_rng_state()}, temporary)


def read_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote; empty where there is none, or a file that cannot be read as such."""
    if not path.is_file():
        return {}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError):  # whatever a broken archive raises
        return {}
    return state if isinstance(state, dict) else {}


def resume(folder: Path, mark: str, moving: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Takes up the state of an unfinished run with this mark: history, timing, best weights; empty for a new run."""
    state = read_state(folder / "state.pt")
    if state.get("mark") != mark:
        for name in (*FINISHED_FILES, "state.pt"):
            (folder / name).unlink(missing_ok=True)
        return {"history": [], "timing": [], "weights": {}}
    for name, part in moving.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["random"])
    say(f"goes on after epoch {len(state['history'])}")
    return {name: state[name] for name in ("history", "timing", "weights")}


def finish(
    folder: Path,
    mark: str,
    history: list[dict[str, Any]],
    timing: list[dict[str, Any]],
    epochs: int,
    about: dict[str, Any],
) -> Run:
    """Writes tables, then run.json, then drops the state that only an unfinished run needs.

    Args:
        folder: of the run, with the weights in it.
        mark: the run's fingerprint.
        history, timing: a row an epoch.
        epochs: how many were wanted.
        about: what else run.json says.
    """
    best = [row for row in history if row["best"]][-1]
    files.write_csv(folder / "history.csv", pd.DataFrame(history))
    files.write_csv(folder / "timing.csv", pd.DataFrame(timing))
    files.write_json(
        folder / "run.json",
        {
            "fingerprint": mark,
            "best_epoch": best["epoch"],
            "best_value": best["selection"],
            "epochs": len(history),
            "stopped_early": len(history) < epochs,
            **about,
            "weights_sha256": files.sha256(folder / "model.safetensors"),
        },
    )
    os.unlink(folder / "state.pt")
    return Run(pd.DataFrame(history), pd.DataFrame(timing), best["epoch"], best["selection"])
