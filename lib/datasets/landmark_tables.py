"""Published landmarks of the head, both layouts read as tables.

Sources: Di Vece et al. 2025, doi:10.5522/04/30819911 ("multicentre"; the points of its set HC18 are ends of fitted
ellipses, those of FP and UCL were set by hand); the table of an intern's task that circulates with HC18's images
("role_challenge"; unusable, as the audit shows).
"""

import unicodedata
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from lib.data.findings import TWO_ROWS_FOR_ONE_IMAGE, UNREADABLE_NUMBER, Check, Finding
from lib.imaging.head_points import POINT_COLUMNS, POINTS

SET_FILE, CHALLENGE_FILE = "Head.csv", "role_challenge_dataset_ground_truth.csv"
NAME, PIXEL_SIZE, SPLIT = "image_name", "px_to_mm_rate", "Split"
XY_COLUMNS = [f"{point}_{axis}" for point in POINTS for axis in ("y", "x")]  # in the order of POINT_COLUMNS
TABLE_COLUMNS = ["case", *POINT_COLUMNS, "px_to_mm", "published_split"]
PIXEL_SIZE_RANGE_MM = (0.02, 1.0)

ROW_WITHOUT_NAME = Check("row without a name", "write the image's name in the row, or remove the row")
UNKNOWN_SPLIT = Check("unknown split", "mend the cell; until then the row has no split")


def read(
    folder: Path, layout: Literal["multicentre", "role_challenge"], set_name: str = "HC18"
) -> tuple[pd.DataFrame, list[Finding]]:
    """The points of a published table, as published but for the names of columns.

    Args:
        folder: holds `multicentre/<set>/Head.csv` or `role_challenge_dataset_ground_truth.csv`.
        layout: which of the two.
        set_name: of multicentre: HC18, FP or UCL.

    Returns:
        Columns case (the file's stem), ofd_1_row, ofd_1_col, … bpd_2_col in native pixels, px_to_mm (NaN where there
        is none), published_split ("", "train", "test"); and what is wrong with rows, which are then left out.

    Raises:
        ValueError: no such layout, the file is missing, is no table, or lacks a column.
    """
    path = _file(folder, layout, set_name)
    table = _read_text(path)
    rows, findings = {}, []
    for line, row in enumerate(table.to_dict("records"), start=2):
        name = unicodedata.normalize("NFC", Path(row[NAME]).stem)
        where = f"{path.name}, row {line}"
        if not name or name in rows:
            check = TWO_ROWS_FOR_ONE_IMAGE if name else ROW_WITHOUT_NAME
            findings.append(Finding("stop", check, name or path.name, where, "one row an image, with its file's name"))
            continue
        wrong = len(findings)
        places = [_number(row, column, name, where, findings) for column in XY_COLUMNS]
        if len(findings) == wrong:
            rows[name] = [name, *places, *_about(row, name, where, findings)]
    return pd.DataFrame(list(rows.values()), columns=TABLE_COLUMNS), findings


def _file(folder: Path, layout: str, set_name: str) -> Path:
    """The table of a layout."""
    if layout == "role_challenge":
        path, allowed = folder / CHALLENGE_FILE, CHALLENGE_FILE
    elif layout == "multicentre":
        path = folder / layout / set_name / SET_FILE
        held = sorted(each.parent.name for each in folder.glob(f"{layout}/*/{SET_FILE}"))
        allowed = f"{layout}/<set>/{SET_FILE}; sets there: {held}"
    else:
        raise ValueError(f"landmarks = {layout!r}   not known; allowed: multicentre, role_challenge")
    if not path.is_file():
        raise ValueError(f"{path}: missing; the {layout} landmarks are {allowed}")
    return path


def _read_text(path: Path) -> pd.DataFrame:
    """A table of landmarks, every cell as text."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read as a table: {error}") from error
    absent = [column for column in (NAME, *XY_COLUMNS) if column not in table.columns]
    if absent:
        expected = [NAME, *(f"{point}_{axis}" for point in POINTS for axis in "xy")]
        raise ValueError(f"{path}: columns {absent} are missing; found {list(table.columns)}, expected {expected}")
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError(f"{path}: rows hold more fields than the header's {len(table.columns)} (a decimal point?)")
    return table


def _about(row: dict[str, str], name: str, where: str, findings: list[Finding]) -> tuple[float, str]:
    """Pixel size in mm (NaN for none) and split of a row; the role challenge has neither."""
    size = float("nan")
    if row.get(PIXEL_SIZE, ""):
        size = _number(row, PIXEL_SIZE, name, where, findings, PIXEL_SIZE_RANGE_MM)
    split = row.get(SPLIT, "").lower()
    if split not in ("", "train", "test"):
        findings.append(Finding("warn", UNKNOWN_SPLIT, name, f'{where}: "{row[SPLIT]}"', "Train, Test or nothing"))
        split = ""
    return size, split


def _number(
    row: dict[str, str],
    column: str,
    name: str,
    where: str,
    findings: list[Finding],
    bounds: tuple[float, float] | None = None,
) -> float:
    """A finite number, within bounds if there are any; else NaN and a finding."""
    try:
        value = float(row[column])
    except ValueError:
        value = float("nan")
    low, high = bounds or (-np.inf, np.inf)
    if np.isfinite(value) and low <= value <= high:
        return value
    hint = " (a decimal point?)" if "," in row[column] else ""
    expected = f"mm, {low:g} to {high:g}{hint}" if bounds else f"a number of pixels{hint}"
    found = f'{where}, column "{column}": "{row[column]}"'
    findings.append(Finding("stop", UNREADABLE_NUMBER, name, found, expected))
    return float("nan")
