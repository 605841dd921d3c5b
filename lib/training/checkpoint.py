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
from lib.training.state import Rows, TrainingState

WEIGHTS = "model.safetensors"
TABLES = ("history.csv", "timing.csv")
BESIDES = ("tensorboard", WEIGHTS, *TABLES)
NAMING = ("run.json", "state.pt")  # say which run a folder belongs to
ASIDE = ".set_aside"
Mark = dict[str, Any]  # what a run depends on, as loop.made_of gives it; of an unfinished run its machine, too
Log = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """A finished run."""

    history: pd.DataFrame  # one row per epoch: losses, Dice or error, learning rate, which were the best so far
    best_epoch: int  # whose weights are kept, from 1
    best_value: float  # its weighted validation Dice or IoU; of landmarks minus the error in percent of the OFD


# Finished runs


def load_finished(folder: Path, made_of: Mark, log: Log) -> Run | None:
    """The finished run that is made of this, from its folder or from what was set aside; None where there is none.

    What else lies in the folder is set aside first; `log` gets a line for each thing that is not as it was left.
    """
    _settle(folder)
    record = _finished(folder, made_of, log)
    aside = _place(folder, made_of)
    record_aside, fault = read_finished(aside)
    if record is None and fault is None:
        _set_state_aside(folder, made_of, log)
        _move(aside, folder, [*NAMING, *BESIDES])
        log(f"the run with these values lay in {_shown(aside)}")
        record = record_aside
    if record is None:
        return None
    _restore_history(folder, record, log)
    if not (folder / "timing.csv").is_file():
        log("timing.csv is missing: how long each epoch took is no longer known")
    return _run(record)


def _finished(folder: Path, made_of: Mark, log: Log) -> dict[str, Any] | None:
    """The record of a folder's run if it is whole and made of this; any other run is set aside."""
    if (folder / "state.pt").is_file():  # it holds all that the end of its run writes
        return None
    record, fault = read_finished(folder)
    if record is None:
        if any((folder / name).is_file() for name in ("run.json", *TABLES, WEIGHTS)):
            _set_aside(folder, str(fault), log)
        return None
    changed = differences(record["made_of"], made_of)
    if fault is None and not changed:
        return record
    what = "what is left of the run is" if fault else f"the finished run of {record['epochs']} epochs is"
    _set_aside(folder, fault or ", ".join(changed), log, what, record["made_of"])
    return None


def read_finished(folder: Path) -> tuple[dict[str, Any] | None, str | None]:
    """run.json of a folder, None if it is not as it was written; and what is wrong with it or its weights, in words."""
    path, weights = folder / "run.json", folder / WEIGHTS
    if not path.is_file():
        return None, "run.json is missing"
    try:
        record = files.read_json(path)
    except ValueError:
        return None, "run.json is no JSON"
    if not isinstance(record, dict) or record.get("digest") != _digest(record):
        return None, "run.json is not as it was written"
    if not weights.is_file():
        return record, f"{WEIGHTS} is missing"
    is_same = files.sha256(weights) == record["files"][WEIGHTS]
    return record, None if is_same else f"{WEIGHTS} has other bytes than when it was written"


def _digest(record: dict[str, Any]) -> str:
    return files.digest({name: value for name, value in record.items() if name != "digest"})


def _restore_history(folder: Path, record: dict[str, Any], log: Log) -> None:
    """Writes history.csv from run.json where it is another's: saved by a spreadsheet, cut, or gone."""
    path, fault = folder / "history.csv", "history.csv was missing"
    if path.is_file():
        if files.sha256(path) == record["files"]["history.csv"]:
            return
        place = _place(folder, None)
        _move(folder, place, ["history.csv"])
        fault = f"history.csv was not as it was written, and lies in {_shown(place)}"
    files.write_csv(path, _run(record).history)
    log(f"{fault}; it is written again from run.json")


def _run(record: dict[str, Any]) -> Run:
    history = pd.DataFrame(record["history"]["rows"], columns=record["history"]["columns"])
    return Run(history, record["best_epoch"], record["best_value"])


def finish(folder: Path, made_of: Mark, history: Rows, timing: Rows, epochs: int, about: dict[str, Any]) -> Run:
    """Writes tables, then run.json, then drops what only an unfinished run needs: its state, and what was set aside.

    The weights lie in the folder. timing.csv, which differs from run to run, has no hash in run.json. `epochs`: how
    many were wanted; `about`: what else run.json says.
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


def resume(folder: Path, mark: Mark, fresh: TrainingState, log: Log) -> None:
    """Brings a fresh state to where the unfinished run with this mark was left, in its folder or set aside."""
    _set_state_aside(folder, mark, log)
    aside = _place(folder, mark)
    if not (folder / "state.pt").is_file() and state.read(aside / "state.pt").get("mark") == mark:
        _move(aside, folder, [*NAMING, *BESIDES])
        log(f"the unfinished run with these values lay in {_shown(aside)}")
    saved = state.read(folder / "state.pt")
    if not saved:
        return
    try:
        fresh.load(saved)
    except ValueError as error:
        _set_aside(folder, f"state.pt does not fit this run ({error})", log)
        return
    log(f"goes on after epoch {len(fresh.history)}")


# Setting aside


def _set_state_aside(folder: Path, mark: Mark, log: Log) -> None:
    """Sets a state aside that has another mark, or none that can be read."""
    if not (folder / "state.pt").is_file():
        return
    saved = state.read(folder / "state.pt")
    if not saved:
        _set_aside(folder, "state.pt cannot be read", log)
    elif saved["mark"] != mark:
        count = len(saved.get("history", []))
        what = "1 epoch of the unfinished run is" if count == 1 else f"{count} epochs of the unfinished run are"
        why = ", ".join(differences(saved["mark"], mark)) or "the same run lies finished beside it"
        _set_aside(folder, why, log, what, saved["mark"])


def _set_aside(
    folder: Path, why: str, log: Log, what: str = "what was left of the run is", mark: Mark | None = None
) -> None:
    place = _place(folder, mark)
    _move(folder, place, [*BESIDES, *NAMING])
    log(f"set aside: {why}; {what} kept in {_shown(place)} until a training here has ended")


def _place(folder: Path, mark: Any) -> Path:
    """Where files of the run with this mark are set aside; of a run that is not known, a new folder."""
    count = len(list((folder / ASIDE).glob("unknown-*")))
    return folder / ASIDE / (f"unknown-{count + 1}" if mark is None else files.digest(mark)[:12])


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
    record, fault = read_finished(folder)
    if (folder / ASIDE).is_dir():
        mark = record["made_of"] if record else state.read(folder / "state.pt").get("mark")
        _move(_place(folder, mark), folder, [name for name in BESIDES if not (folder / name).exists()])
        fault = read_finished(folder)[1]
    if fault is None and (folder / "state.pt").is_file():
        _drop_leftovers(folder)


def _shown(place: Path) -> str:
    return "/".join(place.parts[-3:])


def differences(before: Mark, now: Mark) -> list[str]:
    """What two runs differ in, in words: "epochs 6 -> 4", "other training cases", "code of lib.losses changed"."""

    def changed(part: str) -> list[str]:
        old, new = before.get(part, {}), now.get(part, {})
        return [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]

    words = [
        f"{name} {json.dumps(before[part].get(name))} -> {json.dumps(now[part].get(name))}"
        for part in ("keys", "network", "machine")
        if part in before and part in now  # a finished run may be loaded on any machine
        for name in changed(part)
    ]
    words += ["other arrays"] if before.get("arrays") != now.get("arrays") else []
    words += [f"other {name} cases" for name in changed("cases")]
    modules = changed("code")
    if modules:
        words.append(f"code of {', '.join(modules[:3])}{' …' if len(modules) > 3 else ''} changed")
    return words
