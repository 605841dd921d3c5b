"""Where a study's files lie, and how they are written: whole or not at all."""

import csv
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
# Columns of text: "007" is a name and not the number 7, "NA" a name and not a missing value. Names are never empty.
NAME_COLUMNS = (
    *("case", "subject", "fold_group", "class", "stage", "route", "quantity", "line", "source", "seeds", "measure"),
    "training_precision",
    *("reference", "predicted", "study_a", "study_b", "route_a", "route_b", "method", "group", "fact", "colour"),
    *("dataset", "title", "twin", "twin_subject", "filename", "severity", "check"),
)
TEXT_COLUMNS = (
    *NAME_COLUMNS,
    *("stratum", "split", "image", "mask", "sha256", "flags", "found", "expected", "advice"),
    *("twin_classes", "pixel_hash", "perceptual", "published_split"),
)
READERS = 4  # files that are hashed at a time
NUMBER = re.compile(r"[+-]?((\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|inf)", re.ASCII | re.IGNORECASE)
if not (ROOT / "pyproject.toml").is_file():
    raise ImportError(f"{ROOT} holds no pyproject.toml: install the project with 'pip install --editable .'")


def reports_root() -> Path:
    """`reports/`, or the folder that REPORTS_ROOT names, seen from the project (tests write to one of their own)."""
    return (ROOT / (os.environ.get("REPORTS_ROOT") or "reports")).resolve()


def study_file(study: str) -> Path:
    """The parameter file of a study."""
    return ROOT / "params" / f"{study}.yaml"


def study_folder(study: str) -> Path:
    """Where everything that a study generates lies."""
    return reports_root() / study


def run_name(fold: int, seed: int) -> str:
    """Name of one training run."""
    return f"fold{fold}-seed{seed}"


def raw_folder(dataset: str) -> Path:
    """Where a data set lies as published; never written by a notebook."""
    return ROOT / "data" / "raw" / dataset


def processed_folder(fingerprint: str) -> Path:
    """Arrays made by preprocessing; can be deleted."""
    return ROOT / "data" / "processed" / fingerprint


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends well; a kill never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing-{secrets.token_hex(8)}{path.suffix}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL, 0o666))  # with the permissions that the user's umask leaves
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):
            error.filename = str(path)  # a full disk names no file, and nobody knows the temporary one
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` when the block ends well; a kill never leaves half of it.

    What a killed process left is removed first, so whoever calls this holds a lock on the folder.
    """
    working, replaced = (folder.with_name(f".{what}-{folder.name}") for what in ("writing", "replaced"))
    for left in (working, replaced):
        shutil.rmtree(left, ignore_errors=True)
    try:
        working.mkdir(parents=True)
        yield working
        if folder.is_dir():
            folder.rename(replaced)
        working.rename(folder)
    finally:
        shutil.rmtree(working, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes text as UTF-8 with Unix line ends, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON with sorted keys, so that equal values are equal bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON; the error of a broken file names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # the latter: brackets in brackets, thousands deep
        raise ValueError(f"{path}: no JSON: {error}") from error


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Writes a table without its index; floats with the digits that give them back exactly."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """Reads a table that must have some columns; a ValueError names file, row and column.

    TEXT_COLUMNS are text, whatever they hold, and may be empty where they are not in NAME_COLUMNS. All other columns
    hold numbers, kept to the last digit, or True and False; an empty cell is a missing number.
    """
    if not path.is_file():
        raise ValueError(f"{path}: missing; run the notebook that writes it first")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a table: {error}") from error
    header, *rows = lines or [[]]
    uneven = next((number for number, row in enumerate(rows, start=2) if len(row) != len(header)), None)
    if uneven or not header or len(set(header)) < len(header):
        row = f"row {uneven} has {len(lines[uneven - 1])} cells, the header {len(header)}" if uneven else ""
        cells = row or f"header {header}"
        raise ValueError(f"{path}: cannot be read as a table: {cells}; expected columns once each, and as many cells")
    absent = [name for name in columns if name not in header]
    if absent:
        raise ValueError(f"{path}: columns {absent} are missing; found {header}")
    columns_of_cells = zip(*rows) if rows else [()] * len(header)
    return pd.DataFrame({n: _typed(cells, f"{path}, column {n}", n) for n, cells in zip(header, columns_of_cells)})


def _typed(cells: tuple[str, ...], where: str, name: str) -> pd.Series:
    """A column's cells as text, True and False, or numbers."""
    if name in TEXT_COLUMNS:
        if name in NAME_COLUMNS and "" in cells:
            raise ValueError(f"{where}, row {cells.index('') + 2}: empty; expected a name, such as a {name}'s")
        return pd.Series(cells, dtype=object)
    if cells and set(cells) <= {"True", "False"}:
        return pd.Series([cell == "True" for cell in cells])
    for row, cell in enumerate(cells, start=2):
        if cell and not NUMBER.fullmatch(cell):
            raise ValueError(f"{where}, row {row}: {cell!r}; expected a number (files.TEXT_COLUMNS lists text)")
    if cells and all(cell.lstrip("+-").isdigit() for cell in cells):
        return pd.Series([int(cell) for cell in cells])
    return pd.Series([float(cell or "nan") for cell in cells], dtype=float)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_hashes(folder: Path, kept: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder by its path in it, without hidden files and folders; {} if it is absent.

    `kept` is a file that remembers hashes: a file is read again only where its size or time has changed.
    """
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    status = {name: (folder / name).stat() for name in names if "/." not in f"/{name}"}
    states = {name: [each.st_size, each.st_mtime_ns] for name, each in status.items()}
    before = _read_kept(kept)
    with ThreadPoolExecutor(READERS) as pool:
        changed = [name for name, state in states.items() if before.get(name, [])[:2] != state]
        fresh = dict(zip(changed, pool.map(lambda name: sha256(folder / name), changed)))
    known = {name: [*state, fresh.get(name) or before[name][2]] for name, state in states.items()}
    if known != before and folder.is_dir():
        with suppress(OSError):  # only a memory: where it cannot be kept, files are read again
            write_json(kept, known)
    return {name: entry[2] for name, entry in known.items()}


def _read_kept(path: Path) -> dict[str, list]:
    """{name: [size, time, hash]} as `known_hashes` keeps them; nothing where the file is absent or not its own."""
    try:
        kept = read_json(path) if path.is_file() else {}
    except ValueError:
        return {}
    entries = kept.items() if isinstance(kept, dict) else ()
    return {name: each for name, each in entries if isinstance(each, list) and len(each) == 3}


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value, in hex; key order does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
