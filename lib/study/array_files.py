"""Whether preprocessed arrays are as they were made: what lies under data/processed/, against its dataset.json."""

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from lib.study import files

FILES = ("images.npy", "masks.npy", "geometry.csv")  # and points.npy where landmarks are learnt
COMPARED = ".compared.json"  # size, time and hash of files as they were read last; may be deleted


def describe(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each file of arrays, as `dataset.json` holds them."""
    present = [name for name in (*FILES, "points.npy") if (folder / name).is_file()]
    return {n: {"bytes": (folder / n).stat().st_size, "sha256": files.sha256(folder / n)} for n in present}


def fault(name: str) -> str | None:
    """What is wrong with the arrays of a fingerprint, in words, or None.

    Bytes are read only where a file's size or time has changed since they were read last.
    """
    folder = files.processed_folder(name)
    return _fault(folder, files.known_hashes(folder, folder / COMPARED))


def byte_fault(name: str) -> str | None:
    """As `fault`, but every byte is read, once in a process, whatever the times of the files."""
    folder = files.processed_folder(name)
    status = {path: path.stat() for path in folder.glob("[!.]*") if path.is_file()}
    wrong = _fault(folder, {p.name: _hash_once(p, s.st_size, s.st_mtime_ns) for p, s in status.items()})
    if wrong is not None:
        with suppress(OSError):  # so that `fault` sees it too, where size and time were kept
            (folder / COMPARED).unlink(missing_ok=True)
    return wrong


@cache
def _hash_once(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 (they tell a file from its successor)
    return files.sha256(path)


def _fault(folder: Path, hashes: dict[str, str]) -> str | None:
    described = _described(folder)
    if isinstance(described, str):
        return described
    for name, expected in described.items():
        if name not in hashes:
            return f"{name} is missing"
        size = (folder / name).stat().st_size
        if size != expected["bytes"]:
            return f"{name} has {size} bytes; expected {expected['bytes']}"
        if hashes[name] != expected["sha256"]:
            return f"{name} has other bytes than when it was made"
    return None


def _described(folder: Path) -> dict[str, dict[str, Any]] | str:
    """What dataset.json says of each file, or what is wrong with it."""
    if not folder.is_dir():
        return "no arrays"
    if not (folder / "dataset.json").is_file():
        return "no arrays that are whole (dataset.json is missing)"
    try:
        about = files.read_json(folder / "dataset.json")
    except ValueError:
        return "dataset.json is no JSON"
    described = about.get("files") if isinstance(about, dict) else None
    if not isinstance(described, dict) or described.keys() - {"points.npy"} != set(FILES):
        return "dataset.json does not say which files there are"
    if about.get("fingerprint") != folder.name:
        return f"dataset.json belongs to the arrays {about.get('fingerprint')!r}"
    if not all(isinstance(each, dict) and each.keys() >= {"bytes", "sha256"} for each in described.values()):
        return "dataset.json does not say size and SHA-256 of each file"
    return described
