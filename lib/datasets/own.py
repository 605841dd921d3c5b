"""One's own data: a folder of images, a folder of masks, pairs by name, and a table of subjects if there is one."""

import csv
import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.data import cases, findings
from lib.data.cases import Case
from lib.data.findings import (
    MISSING_PIXEL_SIZE,
    SUBJECTS_UNKNOWN,
    TWO_ROWS_FOR_ONE_IMAGE,
    UNREADABLE_NUMBER,
    Check,
    Finding,
)
from lib.imaging import image_files

IMAGES, MASKS = ("images", "imgs", "train"), ("masks", "train_masks", "labels")
LAYOUT = f"one folder of images ({', '.join(IMAGES)}) and one of masks ({', '.join(MASKS)})"
SUFFIX = re.compile(r"(_mask|-mask|_seg|_label|_annotation)$", re.IGNORECASE)  # of a mask's name
TABLE = "cases.csv"
SPACINGS = ("spacing_mm", "spacing_row_mm", "spacing_col_mm")
COLUMNS = ("name", "subject", *SPACINGS, "stratum")
SPACING_RANGE_MM = (0.001, 10.0)

TWO_MASKS_FOR_ONE_IMAGE = Check("two masks for one image", "keep the right file")
UNUSABLE_NAME = Check("unusable name", "rename the file")
ROW_WITHOUT_IMAGE = Check("row without an image", "add the image or remove the row")
IMAGE_WITHOUT_ROW = Check("image without a row", "add a row, or the subject counts as unknown")
SUBJECT_UNKNOWN = Check("subject unknown", "give the subject; images of one person in two folds leak")


def find_cases(folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:  # noqa: ARG001
    """Cases of one's own data; subject, pixel size and stratum by `cases.csv` beside the two folders.

    Args:
        folder: holds the folders of LAYOUT, in any letter case.
        groups: own data has none.

    Returns:
        Cases in natural order of names, and what is wrong with the others. A reference may be empty.

    Raises:
        ValueError: the folder is of another layout, two files of a folder share a stem, or `cases.csv` is no table.
    """
    images_folder, masks_folder = _only(folder, IMAGES), _only(folder, MASKS)
    images, mask_files = image_files.by_stem(images_folder), image_files.by_stem(masks_folder)
    if not images:
        raise ValueError(f"{images_folder}: no images; expected files {', '.join(sorted(image_files.IMAGE_SUFFIXES))}")
    masks: dict[str, list[Path]] = defaultdict(list)
    for stem, path in mask_files.items():
        masks[stem if stem in images else SUFFIX.sub("", stem)].append(path)
    rows, findings = _read_rows(folder, images)
    found = []
    for name in sorted({*images, *masks}, key=_natural):
        fault = _fault(name, images.get(name), masks.get(name, []))
        if fault is not None:
            findings.append(fault)
            continue
        row = rows.get(name, {})
        spacing = _spacing(name, row, findings)
        subject, stratum = row.get("subject") or name, row.get("stratum", "")
        found.append(Case(name, subject, images[name], tuple(masks[name]), spacing, stratum, shows="either"))
    return found, findings + _unknown_files(images_folder, images) + _unknown_files(masks_folder, mask_files)


def read_mask(
    paths: Sequence[Path],
    palette: list[list[int]],
    class_count: int,
    read: image_files.Reader = image_files.read_pixels,
) -> np.ndarray:
    """Class indices of a mask: (H, W) uint8.

    Args:
        paths: the one file.
        palette: [red, green, blue] of each class in index order; [] where grey values are the indices, or with two
            classes 0 and 255. A JPEG file changes values: the nearest colour counts, or with two classes 128 and more.
        class_count: of the study, background included.

    Raises:
        ValueError: unreadable, or a value that is of no class; the message names the file and counts each value.
    """
    path, pixels = paths[0], read(paths[0])
    grey = pixels if pixels.ndim == 2 else image_files.read_grey(path)
    if palette:
        rgb = pixels if pixels.ndim == 3 and pixels.shape[2] >= 3 else np.dstack([grey] * 3)
        indices = {(red, green, blue): index for index, (red, green, blue) in enumerate(palette)}
        if not image_files.is_lossy(path):
            _check_values(path, rgb, set(indices), f"the palette's {list(indices)}")
        return image_files.nearest_class(rgb, indices)
    if image_files.is_lossy(path):
        return _by_brightness(path, grey, class_count)
    two_tone = class_count == 2 and set(np.unique(grey)) <= {0, 255}
    allowed = {0, 255} if two_tone else set(range(class_count))
    words = f"0 to {class_count - 1}{', or 0 and 255' * (class_count == 2)}, or a palette"
    _check_values(path, pixels, {(v,) for v in allowed} | {(v, v, v) for v in allowed}, words)
    return (grey > 0).astype(np.uint8) if two_tone else grey


def _by_brightness(path: Path, grey: np.ndarray, class_count: int) -> np.ndarray:
    if class_count > 2 or grey.min() < grey.max() < 128:  # indices 0 and 1 would all be background
        expected = "black and white, PNG with over two classes, or a palette: JPEG changes values"
        raise ValueError(f"{path}: JPEG with values up to {grey.max()}; expected {expected}")
    return (grey >= 128).astype(np.uint8)


def _check_values(path: Path, pixels: np.ndarray, allowed: set[tuple[int, ...]], expected: str) -> None:
    counts = image_files.colour_counts(pixels)
    if not set(counts) <= allowed:
        words = [f"{colour[0] if len(colour) == 1 else colour} in {count} pixels" for colour, count in counts.items()]
        more = f" and {len(words) - 8} more" if len(words) > 8 else ""
        raise ValueError(f"{path}: values {', '.join(words[:8])}{more}; expected {expected}")


def _only(folder: Path, names: Sequence[str]) -> Path:
    """The one folder with one of some names."""
    below = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in below if path.name.casefold() in names and path.is_dir()]
    if len(found) != 1:
        held = [path.name for path in found or below][:8] if folder.is_dir() else "no such folder"
        raise ValueError(f"{folder}: found {held}; expected {LAYOUT}")
    return found[0]


def _natural(name: str) -> list[tuple[str, int]]:
    return [(text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", name)]


def _fault(name: str, image: Path | None, masks: list[Path]) -> Finding | None:
    held = ", ".join(path.name for path in masks)
    if image is None:
        return Finding("stop", findings.MISSING_IMAGE, name, f"{held} alone", f"an image {name}")
    if len(masks) != 1:
        check = TWO_MASKS_FOR_ONE_IMAGE if masks else findings.MISSING_MASK
        return Finding("stop", check, name, held or "no file", f"one mask, {name} or {name}_mask")
    if cases.SEPARATOR in name:
        return Finding("stop", UNUSABLE_NAME, name, f'holds "{cases.SEPARATOR}"', "a name without it")
    return None


def _unknown_files(folder: Path, known: dict[str, Path]) -> list[Finding]:
    names = {path.name for path in folder.iterdir() if path.name[0] != "."} - {path.name for path in known.values()}
    return [
        Finding("warn", findings.UNKNOWN_FILE, f"{folder.name}/{n}", "left out", "an image file") for n in sorted(names)
    ]


def _read_rows(folder: Path, images: dict[str, Path]) -> tuple[dict[str, dict[str, str]], list[Finding]]:
    """Rows of `cases.csv` by image, and what is wrong with them and with what is missing."""
    table = next((path for path in sorted(folder.iterdir()) if path.name.casefold() == TABLE), None)
    by_file = {unicodedata.normalize("NFC", path.name): stem for stem, path in images.items()}
    rows: dict[str, dict[str, str]] = {}
    findings = []
    for row in _read_table(table) if table else []:
        name = row["name"] if row["name"] in images else by_file.get(row["name"])
        if name is None:
            findings.append(Finding("warn", ROW_WITHOUT_IMAGE, row["name"], row["at"], "an image of that name"))
        elif name in rows:
            findings.append(Finding("stop", TWO_ROWS_FOR_ONE_IMAGE, name, f"{rows[name]['at']}, {row['at']}", "one"))
        else:
            rows[name] = row
    if not any("subject" in row for row in rows.values()):
        expected = f"a column subject in {TABLE}; images of one person may now be in two folds"
        findings.append(Finding("warn", SUBJECTS_UNKNOWN, folder.name, "each image counts as its own", expected))
    lost, blank = set(images) - set(rows), [name for name, row in rows.items() if row.get("subject") == ""]
    findings += [Finding("warn", IMAGE_WITHOUT_ROW, n, f"not in {TABLE}", "a row") for n in sorted(lost) if table]
    findings += [Finding("warn", SUBJECT_UNKNOWN, name, rows[name]["at"], "its subject") for name in blank]
    return rows, findings


def _read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a table with commas or semicolons, by column; where each stands is under "at"."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        separator = ";" if ";" in text.partition("\n")[0] else ","
        lines = list(csv.reader(text.splitlines(), delimiter=separator, strict=True)) or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a table in UTF-8: {error}") from error
    columns = [name.strip() for name in lines[0]]
    _check_columns(path, columns)
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        values = [unicodedata.normalize("NFC", cell.strip()) for cell in line]
        if any(values) and len(values) != len(columns):
            raise ValueError(f"{path}, row {number}: {len(line)} fields; expected {len(columns)} (a decimal point?)")
        if any(values):  # a spreadsheet may leave blank rows
            rows.append(dict(zip(columns, values)) | {"at": f"{path.name}, row {number}"})
    return rows


def _check_columns(path: Path, columns: list[str]) -> None:
    wrong = [name for name in columns if name not in COLUMNS or columns.count(name) > 1]
    near = [f"{name!r} (nearest: {difflib.get_close_matches(name, COLUMNS, 1, 0)[0]})" for name in wrong]
    if wrong:
        raise ValueError(f"{path}: columns {', '.join(near)}; expected each once of {list(COLUMNS)}")
    if "name" not in columns or {*SPACINGS} & {*columns} not in (set(), {SPACINGS[0]}, {*SPACINGS[1:]}):
        raise ValueError(f"{path}: columns {columns}; expected name, and of {SPACINGS} none, the first or the others")


def _spacing(name: str, row: dict[str, str], findings: list[Finding]) -> tuple[float, float] | None:
    """(row, col) in mm; None where it is not given, or with a finding where it is no number within bounds."""
    numbers = []
    for column, text in ((column, row[column]) for column in SPACINGS if column in row):
        try:
            numbers.append(float(text))
        except ValueError:
            numbers.append(float("nan"))
        if not SPACING_RANGE_MM[0] <= numbers[-1] <= SPACING_RANGE_MM[1]:
            check, severity = (UNREADABLE_NUMBER, "stop") if text else (MISSING_PIXEL_SIZE, "warn")
            expected = f"mm, {SPACING_RANGE_MM[0]:g} to {SPACING_RANGE_MM[1]:g}{' (a decimal point?)' * (',' in text)}"
            findings.append(Finding(severity, check, name, f'{row["at"]}, column "{column}": "{text}"', expected))
            return None
    return (numbers[0], numbers[-1]) if numbers else None
