"""Preprocessed cases, as they lie on disk under data/processed/."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lib import files, geometry
from lib.geometry import Geometry

FILES = ("images.npy", "masks.npy", "geometry.csv")  # and points.npy where landmarks are learnt
COMPARED = ".compared.json"  # size and time of files whose bytes were as expected; may be deleted


@dataclass(frozen=True)
class Arrays:
    """Preprocessed cases; a row of each array is an image, or a slice of a volume.

    Attributes:
        names: case of each row; that of a volume stands at each of its slices, which lie together.
        images: (N, C, H, W) uint8, or of volumes float32, already normalised; memory-mapped.
        masks: (N, H, W) uint8 class indices, memory-mapped.
        geometries: native to network pixels, a row each.
        slices: (N,) which native slice each row is, 0 for an image.
        points: (N, P, 2) float32 landmarks, (row, col) in network pixels; None where none are learnt.
        sigmas: (N,) standard deviation of a landmark's heatmap in network pixels; None as points.
        fingerprint: of everything that these arrays depend on.
        preparation: what was done to every case, as of `lib.preparation`.
    """

    names: list[str]
    images: np.ndarray
    masks: np.ndarray
    geometries: list[Geometry]
    slices: np.ndarray
    points: np.ndarray | None
    sigmas: np.ndarray | None
    fingerprint: str
    preparation: dict[str, Any]

    def rows(self, names: list[str]) -> np.ndarray:
        """Array rows of some cases, those of a volume in the order of its slices.

        Raises:
            ValueError: a case is not in the arrays.
        """
        absent = [name for name in names if name not in self._rows_of]
        if absent:
            raise ValueError(f"{len(absent)} cases are not in the arrays ({absent[:3]} …); run 02_preprocessing again")
        return np.array([row for name in names for row in self._rows_of[name]], dtype=np.int64)

    def geometry_of(self, name: str) -> Geometry:
        """The geometry of one case; all slices of a volume share it."""
        return self.geometries[int(self.rows([name])[0])]

    @cached_property
    def _rows_of(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for row, name in enumerate(self.names):
            found.setdefault(name, []).append(row)
        return found


def describe(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each file of arrays, as `dataset.json` holds them."""
    present = [name for name in (*FILES, "points.npy") if (folder / name).is_file()]
    return {n: {"bytes": (folder / n).stat().st_size, "sha256": files.sha256(folder / n)} for n in present}


def fault(name: str) -> str | None:
    """What is wrong with the arrays of a fingerprint, in words; None where they are as they were made.

    Sizes are compared always, bytes where a file's size or time is another than when they were compared last.
    """
    return _fault(files.processed_folder(name), _had_bytes)


def byte_fault(name: str) -> str | None:
    """As `fault`, but every byte is compared, once in a process, whatever the times of the files say."""
    folder = files.processed_folder(name)
    wrong = _fault(folder, _has_bytes)
    if wrong is not None:
        with suppress(OSError):  # so that `fault` sees it too, where size and time were kept
            (folder / COMPARED).unlink(missing_ok=True)
    return wrong


def open_arrays(name: str) -> Arrays:
    """Preprocessed arrays by their fingerprint.

    Raises:
        ValueError: they are not there, or no longer as they were made.
    """
    folder = files.processed_folder(name)
    wrong = byte_fault(name)
    if wrong is not None:
        raise ValueError(f"{folder}: {wrong}; make study, or notebook 02_preprocessing, makes the arrays again")
    rows = files.read_csv(folder / "geometry.csv", ["case", "slice", "sigma", *geometry.GEOMETRY_COLUMNS])
    learnt = "points.npy" in files.read_json(folder / "dataset.json")["files"]
    return Arrays(
        names=rows["case"].tolist(),
        images=np.load(folder / "images.npy", mmap_mode="r"),
        masks=np.load(folder / "masks.npy", mmap_mode="r"),
        geometries=[Geometry(**row) for row in rows[geometry.GEOMETRY_COLUMNS].to_dict("records")],
        slices=rows["slice"].to_numpy(),
        points=np.load(folder / "points.npy") if learnt else None,
        sigmas=rows["sigma"].to_numpy(np.float32) if learnt else None,
        fingerprint=name,
        preparation=files.read_json(folder / "dataset.json")["preparation"],
    )


def read_arrays(folder: Path) -> Arrays:
    """The arrays that a study's 02_preprocessing named."""
    return open_arrays(files.read_json(folder / "dataset.json")["fingerprint"])


def _fault(folder: Path, is_same: Callable[[Path, str], bool]) -> str | None:
    described = _described(folder)
    if isinstance(described, str):
        return described
    for name, expected in described.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size} bytes; expected {expected['bytes']}"
        if not is_same(path, expected["sha256"]):
            return f"{name} has other bytes than when it was made"
    return None


def _described(folder: Path) -> dict[str, dict[str, Any]] | str:
    """What `dataset.json` says of each file, or what is wrong with it."""
    if not folder.is_dir():
        return "no arrays"
    if not (folder / "dataset.json").is_file():
        return "no arrays that are whole (dataset.json is missing)"
    try:
        held = files.read_json(folder / "dataset.json")
    except ValueError:
        return "dataset.json is no JSON"
    described = held.get("files") if isinstance(held, dict) else None
    if not isinstance(described, dict) or described.keys() - {"points.npy"} != set(FILES):
        return "dataset.json does not say which files there are"
    if held.get("fingerprint") != folder.name:
        return f"dataset.json belongs to the arrays {held.get('fingerprint')!r}"
    if not all(isinstance(each, dict) and each.keys() >= {"bytes", "sha256"} for each in described.values()):
        return "dataset.json does not say size and SHA-256 of each file"
    return described


def _has_bytes(path: Path, expected: str) -> bool:
    status = path.stat()
    return _hash_once(path, status.st_size, status.st_mtime_ns) == expected


@cache
def _hash_once(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 (they tell a file from its successor)
    return files.sha256(path)


def _had_bytes(path: Path, expected: str) -> bool:
    """As `_has_bytes`, without reading a file whose size and time are those of when its bytes were last as expected."""
    status, place = path.stat(), path.with_name(COMPARED)
    try:
        compared = files.read_json(place)
    except (OSError, ValueError):  # none yet, or spoilt: all is compared again
        compared = {}
    compared = compared if isinstance(compared, dict) else {}
    entry = [status.st_size, status.st_mtime_ns, expected]
    if compared.get(path.name) == entry:
        return True
    if not _has_bytes(path, expected):
        return False
    with suppress(OSError):  # a folder that cannot be written costs time only
        files.write_json(place, compared | {path.name: entry})
    return True
