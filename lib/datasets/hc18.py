"""HC18 as published: `training_set/NNN_kHC.png`, outlines beside them, pixel sizes and HC in one CSV.

Source: van den Heuvel et al. 2018, PLoS ONE 13(8):e0200412; doi:10.5281/zenodo.1327317.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.data.cases import Case
from lib.data.findings import (
    MISSING_IMAGE,
    MISSING_PIXEL_SIZE,
    ROW_WITHOUT_FILE,
    TWO_ROWS_FOR_ONE_IMAGE,
    UNKNOWN_FILE,
    UNREADABLE_NUMBER,
    Check,
    Finding,
)
from lib.imaging.ellipse import fill_ellipse, fit_ellipse
from lib.imaging.image_files import Reader, by_stem, read_binary, read_pixels

TABLE = "training_set_pixel_size_and_HC.csv"
COLUMNS = ["filename", "pixel size(mm)", "head circumference (mm)"]
NAME = re.compile(r"(\d{3})_(\d?)HC")
NAMES = re.compile(r"(\d{3})_(\d?)HC(_Annotation)?")
SPACING_RANGE_MM = (0.02, 1.0)
HC_RANGE_MM = (20.0, 450.0)
HC_BINS_MM = (100, 150, 200, 250, 300)

MISSING_ANNOTATION = Check("missing annotation", "add the annotation, or name the case in `exclude`")


def find_cases(folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:  # noqa: ARG001 every reader has this form
    """Cases of HC18's training set; the examination is the name's number.

    Args:
        folder: holds `training_set/` and the CSV.
        groups: HC18 has none.

    Returns:
        Cases in order of examination and image, and what is wrong with the others.

    Raises:
        ValueError: the folder or the CSV is missing or of another layout.
    """
    present = by_stem(folder / "training_set")
    images = {stem: path for stem, path in present.items() if NAME.fullmatch(stem)}
    if not images:
        raise ValueError(f"{folder}: no images such as training_set/000_HC.png; expected HC18's layout")
    rows, findings = _read_table(folder / TABLE)
    findings += [
        Finding("warn", ROW_WITHOUT_FILE, name, f"{TABLE} names {name}.png", "an image of that name")
        for name in rows
        if name not in images
    ]
    unreadable = {finding.case for finding in findings if finding.check == UNREADABLE_NUMBER}
    cases = []
    for name in sorted(images, key=_place):
        annotation = present.get(f"{name}_Annotation")
        if annotation is None:
            findings.append(Finding("stop", MISSING_ANNOTATION, name, "no file", f"{name}_Annotation.png"))
            continue
        spacing, hc = rows.get(name, (None, None))
        if spacing is None and name not in unreadable:
            findings.append(
                Finding("warn", MISSING_PIXEL_SIZE, name, f"no row in {TABLE}", "a row; no millimetres without")
            )
        cases.append(
            Case(
                name=name,
                subject=name[:3],
                image=images[name],
                mask=(annotation,),
                spacing_mm=None if spacing is None else (spacing, spacing),
                stratum="" if hc is None else f"hc{np.searchsorted(HC_BINS_MM, hc)}",
                reference_mm={} if hc is None else {"hc": hc},
            )
        )
    foreign = sorted(p.name for p in (folder / "training_set").iterdir() if not NAMES.fullmatch(p.stem))
    findings += [Finding("warn", UNKNOWN_FILE, name, "left out", "such as 000_HC.png") for name in foreign]
    stems = {stem.removesuffix("_Annotation") for stem in present if stem.endswith("_Annotation")}
    findings += [
        Finding("stop", MISSING_IMAGE, name, f"{name}_Annotation.png alone", f"{name}.png")
        for name in sorted(stems - set(images))
    ]
    return cases, findings


def read_mask(paths: Sequence[Path], read: Reader = read_pixels) -> np.ndarray:
    """The head inside an outline: (H, W) uint8, 0 or 1.

    The outline is a drawn ellipse about 2.5 px thick and its centre-line is the truth. Five touch the frame and
    four are open, so it is not filled: an ellipse is fitted to its pixels and all centres inside count. Measured
    over the 640 images at hand, HC from the axes agrees with the publisher's within 0.05 mm.

    Raises:
        ValueError: unreadable, more than two values, empty, or no ellipse; the message names the file.
    """
    (path,) = paths
    outline = read_binary(path, read)
    try:
        ellipse = fit_ellipse(pixel_places(outline))
    except ValueError as error:
        raise ValueError(f"{path}: no head outline: {error}") from error
    return fill_ellipse(ellipse, outline.shape).astype(np.uint8)


def pixel_places(region: np.ndarray) -> np.ndarray:
    """(N, 2) of (row, col) of the pixels of a (H, W) bool region."""
    found = cv2.findNonZero(region.view(np.uint8))  # four times as fast as np.argwhere; (x, y), None for none
    return np.zeros((0, 2)) if found is None else found[:, 0, ::-1]


def _place(name: str) -> tuple[int, int]:
    number, repeat = NAME.fullmatch(name).groups()  # type: ignore[union-attr]
    return int(number), int(repeat or 1)


def _read_table(path: Path) -> tuple[dict[str, tuple[float, float | None]], list[Finding]]:
    """(pixel size, HC or None) in mm for each image name, and what is wrong with the rows."""
    if not path.is_file():
        raise ValueError(f"{path}: missing; it holds HC18's pixel sizes")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read as a table: {error}") from error
    if list(table.columns)[:3] != COLUMNS:
        raise ValueError(f"{path}: columns {list(table.columns)}; expected {COLUMNS}")
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError(f"{path}: rows hold more fields than the header; expected {len(COLUMNS)} (a decimal point?)")
    rows: dict[str, tuple[float, float | None]] = {}
    findings = []
    for line, (file, *texts) in enumerate(table[COLUMNS].itertuples(index=False), start=2):
        name = Path(file).stem
        where = f"{path.name}, row {line}"
        if name in rows:
            findings.append(Finding("stop", TWO_ROWS_FOR_ONE_IMAGE, name, where, "one row an image"))
            continue
        numbers = [
            _number(text, column, bounds, name, where, findings)
            for text, column, bounds in zip(texts, COLUMNS[1:], (SPACING_RANGE_MM, HC_RANGE_MM))
        ]
        if numbers[0] is not None:
            rows[name] = (numbers[0], numbers[1])
    return rows, findings


def _number(
    text: str, column: str, bounds: tuple[float, float], name: str, where: str, findings: list[Finding]
) -> float | None:
    """A number within bounds, or None and a finding."""
    hint = " (a decimal point?)" if "," in text else ""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if bounds[0] <= value <= bounds[1]:
        return value
    expected = f"mm, {bounds[0]:g} to {bounds[1]:g}{hint}"
    findings.append(Finding("stop", UNREADABLE_NUMBER, name, f'{where}, column "{column}": "{text}"', expected))
    return None
