"""Published head landmarks in two table layouts.

Sources: Di Vece et al. 2025, doi:10.5522/04/30819911 ("multicentre"; the points of its set HC18 are endpoints of
fitted ellipses, those of FP and UCL were annotated manually); a table that circulates with HC18's images
("role_challenge"; unusable, as the audit shows).
"""

from pathlib import Path
from typing import Literal

import pandas as pd

from lib.data.findings import Check, Finding
from lib.datasets import layouts, strict_table, table_files
from lib.imaging.head_points import POINT_COLUMNS, POINTS

SET_FILE, CHALLENGE_FILE = "Head.csv", "role_challenge_dataset_ground_truth.csv"
NAME, PIXEL_SIZE, SPLIT = "image_name", "px_to_mm_rate", "Split"  # role_challenge has neither size nor split
XY_COLUMNS = [f"{point}_{axis}" for point in POINTS for axis in ("y", "x")]  # in the order of POINT_COLUMNS
TABLE_COLUMNS = ["case", *POINT_COLUMNS, "px_to_mm", "published_split"]
PIXEL_SIZE_RANGE_MM = {PIXEL_SIZE: (0.02, 1.0)}
RANGES_PX = dict.fromkeys(XY_COLUMNS, (-10_000, 10_000))  # the audit reports points outside the image

UNKNOWN_SPLIT = Check("unknown split", "correct the cell; until then the row has no split")


def read(
    folder: Path, layout: Literal["multicentre", "role_challenge"], set_name: str = "HC18"
) -> tuple[pd.DataFrame, list[Finding]]:
    """Landmarks as published (TABLE_COLUMNS), without unreadable rows, and the findings.

    Columns: case (the file's stem), ofd_1_row, ofd_1_col, … bpd_2_col in native pixels, px_to_mm (NaN if missing),
    published_split ("", "train", "test"). The folder contains `multicentre/<set>/Head.csv`, with the set HC18, FP or
    UCL, or `role_challenge_dataset_ground_truth.csv`; ValueError otherwise.
    """
    findings = layouts.passed_over(folder)
    path = _file(folder, layout, set_name, findings)
    read = strict_table.read(path, [NAME, *XY_COLUMNS], findings, [PIXEL_SIZE, SPLIT])
    named = strict_table.named_rows(read, lambda row: Path(row.cells[NAME]).stem, findings)
    unique = strict_table.unique_rows(named, findings)
    points = strict_table.numbers(unique, RANGES_PX, findings, "pixels")
    usable = {name: row for name, row in unique.items() if None not in points[name]}
    sized = {name: row for name, row in usable.items() if row.cells.get(PIXEL_SIZE)}
    sizes = strict_table.numbers(sized, PIXEL_SIZE_RANGE_MM, findings)
    rows = []
    for name, row in usable.items():
        (size,) = sizes.get(name, (None,))
        split = row.cells.get(SPLIT, "").lower()
        if split not in ("", "train", "test"):
            found = f'{row.at}: "{row.cells[SPLIT]}"'
            findings.append(Finding("warn", UNKNOWN_SPLIT, name, found, "Train, Test or an empty cell"))
            split = ""
        rows.append([name, *points[name], float("nan") if size is None else size, split])
    return pd.DataFrame(rows, columns=TABLE_COLUMNS), findings


def tables(folder: Path) -> list[tuple[str, str]]:
    """(layout, set) of each table in a folder, as for `read`; ValueError for none, or two that differ in one place."""
    found = [("multicentre", name) for name in _available(folder)]
    found += [("role_challenge", "")] * (table_files.find(folder, CHALLENGE_FILE, []) is not None)
    if not found:
        raise ValueError(f"{folder}: no table of landmarks; expected multicentre/<set>/{SET_FILE} or {CHALLENGE_FILE}")
    return found


def _set_folders(folder: Path) -> dict[str, Path]:
    """Folder of each set of the layout "multicentre", by name."""
    tops = [path for path in layouts.folders(folder) if path.name.casefold() == "multicentre"]
    return {path.name: path for top in tops for path in layouts.folders(top)}


def _available(folder: Path) -> list[str]:
    """Sets that have a table."""
    return [name for name, path in _set_folders(folder).items() if table_files.find(path, SET_FILE, [])]


def _file(folder: Path, layout: str, set_name: str, findings: list[Finding]) -> Path:
    if layout == "role_challenge":
        at, name, allowed = folder, CHALLENGE_FILE, CHALLENGE_FILE
    elif layout == "multicentre":
        at, name = _set_folders(folder).get(set_name, folder / layout / set_name), SET_FILE
        allowed = f"{layout}/<set>/{SET_FILE}; available sets: {_available(folder)}"
    else:
        raise ValueError(f"landmarks = {layout!r}   unknown; allowed: multicentre, role_challenge")
    table = table_files.find(at, name, findings) if at.is_dir() else None
    if table is None:
        raise ValueError(f"{at / name}: missing; expected {allowed}")
    return table
