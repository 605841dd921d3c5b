"""The folder of a training run: the state of an unfinished run, the files of a finished run, and stale runs.

A folder belongs to the run that `run.json` or, while unfinished, `state.pt` identifies. Another run's files are moved
to `.set_aside/<fingerprint>/` and back by renames. The identifying file moves out last and back first, so that after
a kill it tells to which run the others belong.
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
IDENTIFYING = ("run.json", "state.pt")  # contain the dependencies of a folder's run
OTHERS = ("tensorboard", WEIGHTS, *TABLES)
ASIDE = ".set_aside"
Dependencies = dict[str, Any]  # of a run, from `loop.dependencies`; for an unfinished run including its machine
Log = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """A finished run."""

    history: pd.DataFrame  # one row per epoch, as in history.csv
    best_epoch: int  # from 1; its weights are saved
    best_value: float  # its validation Dice or IoU, weighted; for landmarks minus the error in percent of the OFD
    reloaded_value: float  # the same of the saved weights, read back from their file


# Finished runs


def load_finished(folder: Path, depends_on: Dependencies, log: Log) -> Run | None:
    """The finished run with these dependencies, from its folder or .set_aside, where any other run moves; else None."""
    _recover(folder)
    record = _matching_record(folder, depends_on, log)
    aside = _aside_folder(folder, depends_on)
    record_aside, fault = read_finished(aside)
    if record is None and fault is None:
        _set_aside_stale_state(folder, depends_on, log)
        _move(aside, folder, [*IDENTIFYING, *OTHERS])
        log(f"restored the finished run with these values from {_short(aside)}")
        record = record_aside
    if record is None:
        return None
    _restore_history(folder, record, log)
    if not (folder / "timing.csv").is_file():
        log("timing.csv is missing; the seconds per epoch are lost")
    return _run(record)


def _matching_record(folder: Path, depends_on: Dependencies, log: Log) -> dict[str, Any] | None:
    """run.json of a complete run with these dependencies; any other finished run is moved to .set_aside."""
    if (folder / "state.pt").is_file():  # a run that was killed at its end is completed from it
        return None
    record, fault = read_finished(folder)
    if record is None:
        if any((folder / name).is_file() for name in ("run.json", *TABLES, WEIGHTS)):
            _set_aside(folder, str(fault), log)
        return None
    changes = differences(record["made_of"], depends_on)
    if fault is None and not changes:
        return record
    run = "the rest of the run" if fault else f"the finished run of {record['epochs']} epochs"
    _set_aside(folder, fault or ", ".join(changes), log, run, record["made_of"])
    return None


def read_finished(folder: Path) -> tuple[dict[str, Any] | None, str | None]:
    """run.json, or None if it is missing or has changed; and the problem with it or the weights, or None."""
    path, weights = folder / "run.json", folder / WEIGHTS
    if not path.is_file():
        return None, "run.json is missing"
    try:
        record = files.read_json(path)
    except ValueError:
        return None, "run.json is not valid JSON"
    if not isinstance(record, dict) or record.get("digest") != _digest(record):
        return None, "run.json has changed since it was written"
    if not weights.is_file():
        return record, f"{WEIGHTS} is missing"
    is_same = files.sha256(weights) == record["files"][WEIGHTS]
    return record, None if is_same else f"{WEIGHTS} has changed since it was written"


def _digest(record: dict[str, Any]) -> str:
    return files.digest({name: value for name, value in record.items() if name != "digest"})


def _restore_history(folder: Path, record: dict[str, Any], log: Log) -> None:
    """Rewrites history.csv from run.json if it is missing or has changed, for example saved by a spreadsheet."""
    path, fault = folder / "history.csv", "history.csv was missing"
    if path.is_file():
        if files.sha256(path) == record["files"]["history.csv"]:
            return
        aside = _aside_folder(folder, None)
        _move(folder, aside, ["history.csv"])
        fault = f"history.csv had changed since it was written and was moved to {_short(aside)}"
    files.write_csv(path, _run(record).history)
    log(f"{fault}; restored it from run.json")


def _run(record: dict[str, Any]) -> Run:
    history = pd.DataFrame(record["history"]["rows"], columns=record["history"]["columns"])
    return Run(history, record["best_epoch"], record["best_value"], record["reloaded_value"])


def finish(
    folder: Path, depends_on: Dependencies, history: Rows, timing: Rows, epochs: int, about: dict[str, Any]
) -> Run:
    """Writes tables, run.json with `about`, then deletes state.pt and .set_aside; the weights are already saved."""
    best = [row for row in history if row["best"]][-1]
    rows = [[None if isinstance(v, float) and math.isnan(v) else v for v in row.values()] for row in history]
    record = {
        "fingerprint": files.digest(depends_on),
        "made_of": depends_on,
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
    record["files"] = {name: files.sha256(folder / name) for name in (WEIGHTS, "history.csv")}  # times vary
    files.write_json(folder / "run.json", record | {"digest": _digest(record)})
    _drop_leftovers(folder)
    return run


def _drop_leftovers(folder: Path) -> None:
    shutil.rmtree(folder / ASIDE, ignore_errors=True)
    (folder / "state.pt").unlink(missing_ok=True)


# States of unfinished runs


def resume(folder: Path, depends_on: Dependencies, fresh: TrainingState, log: Log) -> None:
    """Loads the unfinished run with these dependencies, from its folder or .set_aside, into a fresh state."""
    saved = _set_aside_stale_state(folder, depends_on, log)
    if not saved:
        aside = _aside_folder(folder, depends_on)
        saved = state.read(aside / "state.pt")
        if saved.get("mark") != depends_on:
            return
        _move(aside, folder, [*IDENTIFYING, *OTHERS])
        log(f"restored the unfinished run with these values from {_short(aside)}")
    try:
        fresh.load(saved)
    except ValueError as error:
        _set_aside(folder, f"state.pt does not fit this run ({error})", log)
        return
    done = len(fresh.epoch.losses)
    log(f"resuming after epoch {len(fresh.history)}" + (f" and {done} batches of the next" if done else ""))


# Stale runs


def _set_aside_stale_state(folder: Path, depends_on: Dependencies, log: Log) -> dict[str, Any]:
    """The state of the unfinished run with these dependencies, or empty; any other run moves to .set_aside."""
    if not (folder / "state.pt").is_file():
        return {}
    saved = state.read(folder / "state.pt")
    if saved and saved["mark"] == depends_on:
        return saved
    if not saved:
        _set_aside(folder, "state.pt cannot be read", log)
    else:
        count = len(saved.get("history", []))
        reason = ", ".join(differences(saved["mark"], depends_on)) or "the same run has finished"
        run = f"the unfinished run of {count} epoch{'' if count == 1 else 's'}"
        _set_aside(folder, reason, log, run, saved["mark"])
    return {}


def _set_aside(
    folder: Path, reason: str, log: Log, run: str = "the rest of the run", depends_on: Dependencies | None = None
) -> None:
    aside = _aside_folder(folder, depends_on)
    _move(folder, aside, [*OTHERS, *IDENTIFYING])
    log(f"{reason}: moved {run} to {_short(aside)}, which is deleted when a training in this folder finishes")


def _aside_folder(folder: Path, depends_on: Dependencies | None) -> Path:
    """The folder in .set_aside for the run with these dependencies; a new one for an unknown run."""
    count = len(list((folder / ASIDE).glob("unknown-*")))
    return folder / ASIDE / (f"unknown-{count + 1}" if depends_on is None else files.digest(depends_on)[:12])


def _move(source: Path, target: Path, names: list[str]) -> None:
    """Moves those of the files that exist, one rename each, in this order."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).exists():
            if (target / name).is_dir():
                shutil.rmtree(target / name)
            (source / name).rename(target / name)


def _recover(folder: Path) -> None:
    """Completes what a kill interrupted: moving a run, whose files are then in two folders, or the end of a run."""
    record, fault = read_finished(folder)
    if (folder / ASIDE).is_dir():
        depends_on = record["made_of"] if record else state.read(folder / "state.pt").get("mark")
        _move(_aside_folder(folder, depends_on), folder, [name for name in OTHERS if not (folder / name).exists()])
        fault = read_finished(folder)[1]
    if fault is None and (folder / "state.pt").is_file():
        _drop_leftovers(folder)


def _short(path: Path) -> str:
    return "/".join(path.parts[-3:])


def differences(before: Dependencies, now: Dependencies) -> list[str]:
    """Descriptions of what has changed: "epochs 6 -> 4", "other training cases", "code of lib.losses changed"."""

    def changed(part: str) -> list[str]:
        old, new = before.get(part, {}), now.get(part, {})
        return [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]

    changes = [
        f"{name} {json.dumps(before[part].get(name))} -> {json.dumps(now[part].get(name))}"
        for part in ("keys", "network", "machine")
        if part in before and part in now  # a finished run may be loaded on any machine
        for name in changed(part)
    ]
    changes += ["other arrays"] if before.get("arrays") != now.get("arrays") else []
    changes += [f"other {name} cases" for name in changed("cases")]
    modules = changed("code")
    if modules:
        changes.append(f"code of {', '.join(modules[:3])}{' …' if len(modules) > 3 else ''} changed")
    return changes
