"""Paths of a study's files, atomic writes, and reading of tables and JSON."""

import csv
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.study import system_files

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
# Text columns: "007" is a name and not the number 7, "NA" a name and not a missing value. Names are never empty.
NAME_COLUMNS = (
    *("case", "subject", "fold_group", "class", "stage", "route", "quantity", "line", "source", "seeds", "measure"),
    *("training_precision", "component", "outcome", "flag", "role"),
    *("reference", "predicted", "study_a", "study_b", "route_a", "route_b", "method", "group", "fact", "colour"),
    *("dataset", "title", "twin", "twin_subject", "filename", "severity", "check"),
)
TEXT_COLUMNS = (
    *NAME_COLUMNS,
    *("stratum", "split", "image", "mask", "sha256", "flags", "found", "expected", "advice"),
    *("twin_classes", "pixel_hash", "perceptual", "published_split", "fit", "layer", "calibration", "notes"),
    *("item", "metric", "kind", "result", "lacking", "findings", "property"),
    *("proportional", "mean_within_margin", "single_within_margin"),
)
MAX_BYTES = 1 << 30  # of a file read as a whole; an image of image_files.MAX_PIXELS has a quarter, uncompressed
HASH_THREADS = 4  # files hashed at the same time
NUMBER = re.compile(r"[+-]?((\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|inf)", re.ASCII | re.IGNORECASE)
DIGITS = r"(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"
FORMULA = re.compile(  # after apostrophes too, so that escaped text differs from text that looks so
    rf"'*(?!-\Z|-{DIGITS}\Z|[+-]{DIGITS} [\w %,.]+\Z)[=+@\t\r\n＝＋－＠-]", re.ASCII | re.IGNORECASE
)
if not (ROOT / "pyproject.toml").is_file():
    raise ImportError(f"{ROOT} contains no pyproject.toml; install the project with 'pip install --editable .'")


def reports_root() -> Path:
    """`reports/`, or the folder in REPORTS_ROOT relative to the project root (tests set it to a temporary folder)."""
    return (ROOT / (os.environ.get("REPORTS_ROOT") or "reports")).resolve()


def study_file(study: str) -> Path:
    """Path of the study file."""
    return ROOT / "params" / f"{study}.yaml"


def study_folder(study: str) -> Path:
    """Folder of everything that a study generates."""
    return reports_root() / study


def run_name(fold: int, seed: int) -> str:
    """Name of one training run."""
    return f"fold{fold}-seed{seed}"


def read_bytes(path: Path) -> bytes:
    """Content of a regular file of up to MAX_BYTES; OSError for any other, of which a pipe would wait for ever."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if status.st_size > MAX_BYTES:
        raise OSError(errno.EFBIG, f"{status.st_size} bytes; expected at most {MAX_BYTES}", str(path))
    return path.read_bytes()


def reason(error: OSError) -> str:
    """Why the system refused a file or folder, with advice where a permission is missing."""
    advice = " (ask its owner, or chmod)" if isinstance(error, PermissionError) else ""
    return f"{error.strerror or error}{advice}"


def raw_folder(dataset: str) -> Path:
    """Folder of a data set as published; notebooks never write to it."""
    return ROOT / "data" / "raw" / dataset


def processed_folder(fingerprint: str) -> Path:
    """Folder of preprocessed arrays, which may be deleted."""
    return ROOT / "data" / "processed" / fingerprint


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Temporary path that replaces `path` if the block succeeds; a killed process never leaves a partial file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing-{secrets.token_hex(8)}{path.suffix}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL, 0o666))  # permissions follow the user's umask
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):
            error.filename = str(path)  # the error of a full disk names no file or the temporary one
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Empty folder that replaces `folder` as a whole if the block succeeds; the caller must hold a lock on it."""
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
    """Writes bytes atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes text atomically as UTF-8; newlines are not translated."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON with sorted keys, so that equal values give equal bytes; ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON; ValueError with the path if the file is not valid."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # the latter for brackets nested thousands deep
        raise ValueError(f"{path}: not valid JSON: {error}") from error


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Writes a table without its index; floats keep all digits and are read back exactly, text is `inert`."""
    import pandas as pd  # see read_csv

    safe, quoting = table.copy(deep=False), csv.QUOTE_MINIMAL
    for name in table.select_dtypes(exclude=("number", "bool")):
        cells = [inert(cell) if isinstance(cell, str) else cell for cell in table[name]]
        safe[name] = pd.Series(cells, table.index, dtype=object)  # without inferring another type
        if any(isinstance(cell, str) and "\r" in cell for cell in cells):
            quoting = csv.QUOTE_ALL  # else it would be read as the end of a row
    write_text(path, safe.to_csv(index=False, lineterminator="\n", quoting=quoting))


def inert(text: str) -> str:
    """Text that a spreadsheet does not run as a formula: an apostrophe before =, +, @, - and the like.

    `read_csv` removes it. A negative number stays as it is, and so does a signed one with words ("+0.02 inside").
    Source: OWASP, CSV injection.
    """
    return f"'{text}" if FORMULA.match(text) else text


def _as_written(cell: str) -> str:
    """Inverse of `inert`."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell[1:]) else cell


def read_csv(path: Path, columns: list[str]) -> "pd.DataFrame":
    """Reads a table with the required columns; ValueError with file, row and column if it is malformed.

    TEXT_COLUMNS are read as text and may have empty cells unless they are in NAME_COLUMNS. All other columns contain
    numbers, read exactly, or True and False; an empty cell is NaN.
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
        row = f"row {uneven} has {len(lines[uneven - 1])} cells, the header has {len(header)}" if uneven else ""
        cells = row or f"header {header}"
        raise ValueError(f"{path}: cannot be read as a table: {cells}; expected unique names and full rows")
    absent = [name for name in columns if name not in header]
    if absent:
        raise ValueError(f"{path}: columns {absent} are missing; found {header}")
    import pandas as pd  # takes a quarter of a second, which the process that starts a notebook saves

    table = {}
    for name, cells in zip(header, zip(*rows) if rows else [()] * len(header)):
        dtype = object if name in TEXT_COLUMNS else None if rows else float
        table[name] = pd.Series(_typed(cells, f"{path}, column {name}", name), dtype=dtype)
    return pd.DataFrame(table)


def _typed(cells: tuple[str, ...], where: str, name: str) -> list[str] | list[bool] | list[int] | list[float]:
    """Cells of a column as text, booleans or numbers."""
    if name in TEXT_COLUMNS:
        if name in NAME_COLUMNS and "" in cells:
            raise ValueError(f"{where}, row {cells.index('') + 2}: empty; expected a value for {name}")
        return list(map(_as_written, cells))
    if cells and set(cells) <= {"True", "False"}:
        return [cell == "True" for cell in cells]
    for row, cell in enumerate(cells, start=2):
        if cell and not NUMBER.fullmatch(cell):
            raise ValueError(f"{where}, row {row}: {cell!r}; expected a number (text columns: files.TEXT_COLUMNS)")
    if cells and all(cell.lstrip("+-").isdigit() for cell in cells):
        return [int(cell) for cell in cells]
    return [float(cell or "nan") for cell in cells]


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_hashes(folder: Path, cache: Path) -> dict[str, str]:
    """SHA-256 of a folder's files by relative path; `cache` (JSON) spares files of unchanged size and time.

    System files (`lib.study.system_files`) are not hashed.
    """
    status = {path.relative_to(folder).as_posix(): path.stat() for path in system_files.walk(folder)[0]}
    states = {name: [each.st_size, each.st_mtime_ns] for name, each in status.items()}
    before = _read_cache(cache)
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        changed = [name for name, state in states.items() if before.get(name, [])[:2] != state]
        fresh = dict(zip(changed, pool.map(lambda name: sha256(folder / name), changed)))
    known = {name: [*state, fresh.get(name) or before[name][2]] for name, state in states.items()}
    if known != before and folder.is_dir():
        with suppress(OSError):  # only a cache: if it cannot be written, files are hashed again
            write_json(cache, known)
    return {name: entry[2] for name, entry in known.items()}


def _read_cache(path: Path) -> dict[str, list]:
    """{name: [size, time, hash]} as written by `cached_hashes`; {} if the file is missing or invalid."""
    try:
        cached = read_json(path) if path.is_file() else {}
    except ValueError:
        return {}
    entries = cached.items() if isinstance(cached, dict) else ()
    return {name: each for name, each in entries if isinstance(each, list) and len(each) == 3}


def digest(value: Any) -> str:
    """SHA-256 of a JSON-serialisable value, in hex; independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
