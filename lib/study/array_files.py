"""Integrity check of preprocessed arrays in data/processed/ against the hashes in their dataset.json."""

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from lib.study import files

FILES = ("images.npy", "masks.npy", "geometry.csv")  # and points.npy for landmark studies
HASH_CACHE = ".compared.json"  # cache of size, time and hash of each file; may be deleted


def describe(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each array file, as stored in `dataset.json`."""
    present = [name for name in (*FILES, "points.npy") if (folder / name).is_file()]
    return {n: {"bytes": (folder / n).stat().st_size, "sha256": files.sha256(folder / n)} for n in present}


def content(description: dict[str, Any]) -> str:
    """Hash of the bytes of all array files and of their preprocessing, from a `dataset.json`."""
    hashes = {name: each["sha256"] for name, each in description["files"].items()}
    return files.digest({"files": hashes, "preparation": description["preparation"]})


def fault(name: str) -> str | None:
    """Problem with the arrays of a fingerprint as a message, or None; rehashes only files with a new size or time."""
    folder = files.processed_folder(name)
    return _fault(folder, files.cached_hashes(folder, folder / HASH_CACHE))


def byte_fault(name: str) -> str | None:
    """As `fault`, but hashes every file once per process, whatever its time."""
    folder = files.processed_folder(name)
    status = {path: path.stat() for path in folder.glob("[!.]*") if path.is_file()}
    wrong = _fault(folder, {p.name: _hash_once(p, s.st_size, s.st_mtime_ns) for p, s in status.items()})
    if wrong is not None:
        with suppress(OSError):  # so that `fault` detects it too, though size and time are unchanged
            (folder / HASH_CACHE).unlink(missing_ok=True)
    return wrong


@cache
def _hash_once(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 (part of the cache key)
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
            return f"{name} has changed since preprocessing wrote it"
    return None


def _described(folder: Path) -> dict[str, dict[str, Any]] | str:
    """Entries of dataset.json by file, or the problem with it as a message."""
    if not folder.is_dir():
        return "no such arrays"
    if not (folder / "dataset.json").is_file():
        return "incomplete arrays (dataset.json is missing)"
    try:
        about = files.read_json(folder / "dataset.json")
    except ValueError:
        return "dataset.json is not valid JSON"
    described = about.get("files") if isinstance(about, dict) else None
    if not isinstance(described, dict) or described.keys() - {"points.npy"} != set(FILES):
        return "dataset.json does not list the array files"
    if about.get("fingerprint") != folder.name:
        return f"dataset.json belongs to other arrays: {about.get('fingerprint')!r}"
    if not all(isinstance(each, dict) and each.keys() >= {"bytes", "sha256"} for each in described.values()):
        return "dataset.json does not contain the size and SHA-256 of each file"
    return described
