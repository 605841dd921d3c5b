"""Generated data folders, written atomically and never over a user's own files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.study import files, locks

RECORD = "phantom.json"


def write_atomically(folder: Path, record: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Writes a folder unless it is up to date, i.e. `phantom.json` in it equals the record.

    `write` fills an empty folder that replaces the old one at the end, so that a kill, an error or a full disk leaves
    the old folder, or none. Other processes wait meanwhile. The record determines the content and holds what JSON
    returns (no tuples). ValueError if the path exists without `phantom.json`: its content would be lost.
    """
    if folder.is_symlink():
        raise ValueError(f"{folder}: is a link; a phantom is written only to a real folder, so remove the link first")
    if folder.exists() and not (folder / RECORD).is_file():
        raise ValueError(f"{folder}: has no {RECORD}, so it is not a phantom and is not replaced; move it away")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locks.locked(folder.with_name(f".{folder.name}.lock"), f"writing {folder.name}"):
        if read_record(folder) != record:
            with files.replacing_folder(folder) as new:
                write(new)
                files.write_json(new / RECORD, record)


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a folder written by `write_atomically`; empty without one, ValueError if it is not JSON."""
    return files.read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
