"""Folders of data that the project makes itself: written whole or not at all, and never over somebody's own files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.study import files, locks

RECORD = "phantom.json"


def write_whole(folder: Path, record: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Makes a folder, or makes a stale one again that this function made before.

    `write` fills an empty folder beside it that takes its place at the end, so a kill, an error or a full disk leaves
    the old folder, or none. A second process that asks for the same folder meanwhile waits, and then leaves it alone.
    The record is what decides the content, as JSON gives it back (no tuples). ValueError if something without
    `phantom.json` lies there, which would be lost.
    """
    if folder.is_symlink():
        raise ValueError(f"{folder}: is a link; a phantom replaces only its own folders, so remove the link first")
    if folder.exists() and not (folder / RECORD).is_file():
        raise ValueError(f"{folder}: found without {RECORD}, so no phantom is replaced there; move it away")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locks.locked(folder.with_name(f".{folder.name}.lock"), f"making {folder.name}"):
        if read_record(folder) != record:
            with files.replacing_folder(folder) as new:
                write(new)
                files.write_json(new / RECORD, record)


def read_record(folder: Path) -> dict[str, Any]:
    """The record that `write_whole` left in a folder; empty without one, ValueError if it is no JSON."""
    return files.read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
