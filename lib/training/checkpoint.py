"""The folder of a training run: its state after every epoch, what it leaves at its end, and what was set aside.

A folder belongs to the run that its `run.json` or, before its end, its `state.pt` names. Another run's files are moved
to `.set_aside/<mark>/` and back by renames; that one file leaves last and comes back first, so after a kill it says
where the others belong.
"""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lib.study import files
from lib.training import state
from lib.training.state import TrainingState

WEIGHTS = "model.safetensors"
TABLES = ("history.csv", "timing.csv")
BESIDES = ("tensorboard", WEIGHTS, *TABLES)
NAMING = ("run.json", "state.pt")  # say which run a folder belongs to
ASIDE = ".set_aside"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        history: a row an epoch: losses, Dice or error, learning rate, which epochs were the best so far.
        best_epoch: whose weights are kept, from 1.
        best_value: its weighted validation Dice or IoU; of landmarks minus the error in percent of the OFD.
    """

    history: pd.DataFrame
    best_epoch: int
    best_value: float


# Finished runs


def load_finished(folder: Path, made_of: dict[str, Any], say: Say) -> Run | None:
    """The finished run that is made of this, from its folder or from what was set aside; None where there is none.

    What else lies in the folder is set aside first. A history.csv that is not the run's own is written again.

    Args:
        folder: of the run.
        made_of: what the run depends on, as loop.made_of gives it.
        say: gets a line for each thing that is not as it was left.
    """
    _settle(folder)
    about = _finished(folder, made_of, say)
    aside = folder / ASIDE / _short(made_of)
    if about is None and record_fault(aside) is None and _weights_fault(aside) is None:
        _set_state_aside(folder, made_of, say)
        _move(aside, folder, [*NAMING, *BESIDES])
        say(f"the run with these values lay in {_shown(aside)}")
        about = read_record(folder)
    if about is None:
        return None
    _restore_history(folder, about, say)
    if not (folder / "timing.csv").is_file():
        say("timing.csv is missing: how long each epoch took is no longer known")
    return _run(about)


def _finished(folder: Path, made_of: dict[str, Any], say: Say) -> dict[str, Any] | None:
    """The record of a folder's run if it is whole and made of this; any other run is set aside."""
    if (folder / "state.pt").is_file():  # it holds all that the end of its run writes
        return None
    wrong = record_fault(folder)
    if wrong is not None:
        if any((folder / name).is_file() for name in ("run.json", *TABLES, WEIGHTS)):
            _set_unknown_aside(folder, ["run.json", *BESIDES], wrong, say)
        return None
    about, wrong = read_record(folder), _weights_fault(folder)
    changed = differences(about["made_of"], made_of)
    if wrong is None and not changed:
        return about
    what = "what is left of the run is" if wrong else f"the finished run of {about['epochs']} epochs is"
    _set_aside(folder, about["made_of"], wrong or ", ".join(changed), what, say)
    return None


def read_record(folder: Path) -> dict[str, Any]:
    """run.json of a folder.

    Raises:
        ValueError: it is missing, or not as it was written.
    """
    if not (folder / "run.json").is_file():
        raise ValueError("run.json is missing")
    about = files.read_json(folder / "run.json")
    if not isinstance(about, dict) or about.get("digest") != _digest(about):
        raise ValueError("run.json is not as it was written")
    return about


def record_fault(folder: Path) -> str | None:
    """What is wrong with run.json of a folder, in words."""
    try:
        read_record(folder)
    except ValueError as error:
        return "run.json is no JSON" if "no JSON" in str(error) else str(error)
    return None


def _digest(about: dict[str, Any]) -> str:
    return files.digest({name: value for name, value in about.items() if name != "digest"})


def _weights_fault(folder: Path) -> str | None:
    path, expected = folder / WEIGHTS, read_record(folder)["files"][WEIGHTS]
    if not path.is_file():
        return f"{WEIGHTS} is missing"
    return None if files.sha256(path) == expected else f"{WEIGHTS} has other bytes than when it was written"


def _restore_history(folder: Path, about: dict[str, Any], say: Say) -> None:
    """Writes history.csv from run.json where it is another's: saved by a spreadsheet, cut, or gone."""
    path = folder / "history.csv"
    if path.is_file() and files.sha256(path) == about["files"]["history.csv"]:
        return
    said = "history.csv was missing"
    if path.is_file():
        place = _free_place(folder)
        _move(folder, place, ["history.csv"])
        said = f"history.csv was not as it was written, and lies in {_shown(place)}"
    files.write_csv(path, _run(about).history)
    say(f"{said}; it is written again from run.json")


def _run(about: dict[str, Any]) -> Run:
    history = pd.DataFrame(about["history"]["rows"], columns=about["history"]["columns"])
    return Run(history, about["best_epoch"], about["best_value"])


def finish(
    folder: Path,
    made_of: dict[str, Any],
    history: list[dict[str, Any]],
    timing: list[dict[str, Any]],
    epochs: int,
    about: dict[str, Any],
) -> Run:
    """Writes tables, then run.json, then drops what only an unfinished run needs: its state, and what was set aside.

    Seconds differ from run to run, so timing.csv, which nothing reads, is the one file without a hash in run.json.

    Args:
        folder: of the run, with the weights in it.
        made_of: what the run depends on.
        history, timing: a row an epoch.
        epochs: how many were wanted.
        about: what else run.json says.
    """
    best = [row for row in history if row["best"]][-1]
    rows = [[None if isinstance(v, float) and math.isnan(v) else v for v in row.values()] for row in history]
    record = {
        "fingerprint": files.digest(made_of),
        "made_of": made_of,
        "best_epoch": best["epoch"],
        "best_value": best["selection"],
        "epochs": len(history),
        "stopped_early": len(history) < epochs,
        "history": {"columns": list(history[0]), "rows": rows},
        **about,
    }
    run = _run(record)
    files.write_csv(folder / "history.csv", run.history)
    files.write_csv(folder / "timing.csv", pd.DataFrame(timing))
    record["files"] = {name: files.sha256(folder / name) for name in (WEIGHTS, "history.csv")}
    files.write_json(folder / "run.json", record | {"digest": _digest(record)})
    _drop_leftovers(folder)
    return run


def _drop_leftovers(folder: Path) -> None:
    shutil.rmtree(folder / ASIDE, ignore_errors=True)
    (folder / "state.pt").unlink(missing_ok=True)


# States of unfinished runs


def resume(folder: Path, mark: dict[str, Any], fresh: TrainingState, say: Say) -> None:
    """Takes up an unfinished run with this mark, from its folder or from what was set aside.

    Args:
        folder: of the run.
        mark: what the run depends on, and the machine's part: device, precision, threads.
        fresh: a network before its first step; it is brought to where the run was left.
        say: gets a line for each thing that is not as it was left.
    """
    _set_state_aside(folder, mark, say)
    aside = folder / ASIDE / _short(mark)
    if not (folder / "state.pt").is_file() and state.read(aside / "state.pt").get("mark") == mark:
        _move(aside, folder, [*NAMING, *BESIDES])
        say(f"the unfinished run with these values lay in {_shown(aside)}")
    held = state.read(folder / "state.pt")
    if not held:
        return
    try:
        fresh.load(held)
    except ValueError as error:
        _set_unknown_aside(folder, ["tensorboard", "state.pt"], f"state.pt does not fit this run ({error})", say)
        return
    say(f"goes on after epoch {len(fresh.history)}")


# Setting aside


def _set_state_aside(folder: Path, mark: dict[str, Any], say: Say) -> None:
    """Sets a state aside that has another mark, or none that can be read."""
    if not (folder / "state.pt").is_file():
        return
    held = state.read(folder / "state.pt")
    if not held:
        _set_unknown_aside(folder, ["tensorboard", "state.pt"], "state.pt cannot be read", say)
    elif held["mark"] != mark:
        count = len(held.get("history", []))
        what = "1 epoch of the unfinished run is" if count == 1 else f"{count} epochs of the unfinished run are"
        why = ", ".join(differences(held["mark"], mark)) or "the same run lies finished beside it"
        _set_aside(folder, held["mark"], why, what, say)


def _set_aside(folder: Path, mark: dict[str, Any], why: str, what: str, say: Say) -> None:
    place = folder / ASIDE / _short(mark)
    _move(folder, place, [*BESIDES, *NAMING])
    say(f"set aside: {why}; {what} kept in {_shown(place)} until a training here has ended")


def _set_unknown_aside(folder: Path, names: list[str], why: str, say: Say) -> None:
    place = _free_place(folder)
    _move(folder, place, names)
    say(f"set aside: {why}; what was left of the run is kept in {_shown(place)} until a training here has ended")


def _free_place(folder: Path) -> Path:
    count = len(list((folder / ASIDE).glob("unknown-*")))
    return folder / ASIDE / f"unknown-{count + 1}"


def _move(source: Path, target: Path, names: list[str]) -> None:
    """Moves what there is of some files, one rename each, in this order."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).exists():
            if (target / name).is_dir():
                shutil.rmtree(target / name)
            (source / name).rename(target / name)


def _settle(folder: Path) -> None:
    """Ends what a kill interrupted: a move, of which this folder's files lie in two places, or the end of a run."""
    whole = record_fault(folder) is None
    if (folder / ASIDE).is_dir():
        mark = read_record(folder)["made_of"] if whole else state.read(folder / "state.pt").get("mark")
        aside = folder / ASIDE / _short(mark)
        _move(aside, folder, [name for name in BESIDES if not (folder / name).exists()])
    if whole and _weights_fault(folder) is None and (folder / "state.pt").is_file():
        _drop_leftovers(folder)


def _short(mark: Any) -> str:
    return files.digest(mark)[:12]


def _shown(place: Path) -> str:
    return "/".join(place.parts[-3:])


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What two runs differ in, in words: "epochs 6 -> 4", "other training cases", "code of lib.losses changed"."""
    said = []
    for part in ("keys", "network", "machine"):
        if part not in before or part not in now:  # a finished run may be loaded on any machine
            continue
        old, new = before[part], now[part]
        changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
        said += [f"{name} {json.dumps(old.get(name))} -> {json.dumps(new.get(name))}" for name in changed]
    if before.get("arrays") != now.get("arrays"):
        said.append("other arrays")
    cases = [before.get("cases", {}), now.get("cases", {})]
    said += [f"other {name} cases" for name in ("train", "validation") if cases[0].get(name) != cases[1].get(name)]
    old, new = before.get("code", {}), now.get("code", {})
    modules = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    if modules:
        said.append(f"code of {', '.join(modules[:3])}{' …' if len(modules) > 3 else ''} changed")
    return said
