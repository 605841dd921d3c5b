"""Custom data sets: images and masks paired by name, with an optional table of subjects and pixel sizes."""

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lib.data import findings as checks
from lib.data.cases import SEPARATOR, Case
from lib.data.findings import Check, Finding
from lib.datasets import layouts, strict_table, table_files
from lib.datasets.strict_table import Row
from lib.imaging import image_files
from lib.study import system_files

IMAGES, MASKS = ("images", "imgs", "train"), ("masks", "train_masks", "labels")
LAYOUT = f"one folder of images ({', '.join(IMAGES)}) and one of masks ({', '.join(MASKS)})"
SUFFIX = re.compile(r"(_mask|-mask|_seg|_label|_annotation)$", re.IGNORECASE)  # of a mask file's stem
TABLE = "cases.csv"
SPACINGS = ("spacing_mm", "spacing_row_mm", "spacing_col_mm")
COLUMNS = ("name", "subject", *SPACINGS, "stratum")
SUBJECT_WORDS = ("id", "pid", "patient", "patientid", "patientname", "person", "participant", "subjectid")
SPACING_RANGE_MM = (0.001, 10.0)

TWO_MASKS_FOR_ONE_IMAGE = Check("two masks for one image", "keep the correct file")
UNUSABLE_NAME = Check("unusable name", "rename the file")
OTHER_LETTER_CASE = Check("names in other letter case")
ROWS_WITHOUT_FILE = Check(
    "most rows without a file", "correct the column name, or remove the table; else subjects are unknown"
)
IMAGE_WITHOUT_ROW = Check("image without a row", "add a row; otherwise the subject is unknown")
SUBJECT_UNKNOWN = Check("subject unknown", checks.LEAK)


def find_cases(folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:  # noqa: ARG001
    """Cases in natural order of names; subject, pixel size and stratum from `cases.csv` next to the two folders.

    A reference may be empty; no groups. ValueError if the folder does not match LAYOUT (in any letter case), two files
    of a folder share a stem, or `cases.csv` cannot be read.
    """
    images_folder, masks_folder = _subfolder(folder, IMAGES), _subfolder(folder, MASKS)
    images, mask_files = image_files.by_stem(images_folder), image_files.by_stem(masks_folder)
    if not images:
        raise ValueError(f"{images_folder}: no images; expected files {', '.join(sorted(image_files.IMAGE_SUFFIXES))}")
    masks: dict[str, list[Path]] = defaultdict(list)
    for stem, path in mask_files.items():
        masks[stem if stem in images else SUFFIX.sub("", stem)].append(path)
    rows, findings = _read_rows(folder, images)
    spacings = _spacings(rows, findings)
    cases = []
    for name in sorted({*images, *masks}, key=_natural):
        fault = _fault(name, images.get(name), masks.get(name, []))
        if fault is not None:
            findings.append(fault)
            continue
        cells = rows[name].cells if name in rows else {}
        subject, stratum, files = cells.get("subject") or name, cells.get("stratum", ""), tuple(masks[name])
        cases.append(Case(name, subject, images[name], files, spacings.get(name), stratum, foreground="either"))
    known = {*images.values(), *mask_files.values()}
    for path in (*system_files.visible(images_folder), *system_files.visible(masks_folder)):
        if path not in known:
            name = f"{path.parent.name}/{path.name}"
            findings.append(Finding("warn", checks.UNKNOWN_FILE, name, "ignored", "an image file"))
    return cases, findings


def read_mask(
    paths: Sequence[Path],
    palette: list[list[int]],
    class_count: int,
    read: image_files.Reader = image_files.open_mask,
) -> np.ndarray:
    """Class indices of a mask, the only path: (H, W) uint8.

    The palette is [red, green, blue] of each class in index order; if it is [], grey values are the indices, or 0 and
    255 for two classes. JPEG changes values: each pixel takes the nearest colour, or for two classes is cut at 128.
    ValueError, with the file and the count of each value, for a value of no class.
    """
    opened = read(paths[0])
    path, pixels, grey = opened.path, opened.pixels, image_files.to_grey(opened.pixels)
    if palette:
        rgb = pixels if pixels.ndim == 3 else np.dstack([grey] * 3)
        indices = {(red, green, blue): index for index, (red, green, blue) in enumerate(palette)}
        if not opened.is_lossy:
            _check_values(path, rgb, set(indices), f"the palette's {list(indices)}")
        return image_files.nearest_class(rgb, indices)
    if opened.is_lossy:
        return image_files.by_brightness(path, grey, class_count).astype(np.uint8)
    two_tone = class_count == 2 and set(np.unique(grey)) <= {0, 255}
    allowed = {0, 255} if two_tone else set(range(class_count))
    words = f"0 to {class_count - 1}{', or 0 and 255' * (class_count == 2)}, or a palette"
    _check_values(path, pixels, {(v,) for v in allowed} | {(v, v, v) for v in allowed}, words)
    return (grey > 0).astype(np.uint8) if two_tone else grey


def _check_values(path: Path, pixels: np.ndarray, allowed: set[tuple[int, ...]], expected: str) -> None:
    counts = image_files.colour_counts(pixels)
    if not set(counts) <= allowed:
        words = [f"{colour[0] if len(colour) == 1 else colour} in {count} pixels" for colour, count in counts.items()]
        more = f" and {len(words) - 8} more" if len(words) > 8 else ""
        hint = image_files.smoothed(counts)
        raise ValueError(f"{path}: values {', '.join(words[:8])}{more}; expected {expected}{hint}")


def _subfolder(folder: Path, names: Sequence[str]) -> Path:
    """The only subfolder with one of these names."""
    matches = [path for path in layouts.folders(folder) if path.name.casefold() in names]
    if len(matches) != 1:
        names = [path.name for path in matches] or layouts.first_names(folder)
        raise ValueError(f"{folder}: found {names}; expected {LAYOUT}")
    return matches[0]


def _natural(name: str) -> list[tuple[str, int]]:
    return [(text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", name)]


def _fault(name: str, image: Path | None, masks: list[Path]) -> Finding | None:
    mask_names = ", ".join(path.name for path in masks)
    if image is None:
        return Finding("stop", checks.MISSING_IMAGE, name, f"only {mask_names}", f"an image {name}")
    if len(masks) != 1:
        check = TWO_MASKS_FOR_ONE_IMAGE if masks else checks.MISSING_MASK
        return Finding("stop", check, name, mask_names or "no file", f"one mask, {name} or {name}_mask")
    if SEPARATOR in name:
        return Finding("stop", UNUSABLE_NAME, name, f'contains "{SEPARATOR}"', "a name without it")
    return None


def _read_rows(folder: Path, images: dict[str, Path]) -> tuple[dict[str, Row], list[Finding]]:
    """Rows of `cases.csv` by image, and the findings for bad and missing rows."""
    findings: list[Finding] = []
    table = table_files.find(folder, TABLE, findings)
    read = strict_table.read(table, COLUMNS[:1], findings, COLUMNS) if table else []
    if table:
        _check_columns(table, list(read[0].cells))
    findings += table_files.others(folder, TABLE, findings)
    named = strict_table.named_rows(read, lambda row: row.cells["name"], findings)
    named = _with_stems(named, images, findings)
    rows = strict_table.unique_rows((each for each in named if each[0] in images), findings)
    absent = strict_table.rows_without_file(named, images)
    findings += absent
    if 2 * len(absent) > len(named) and len(rows) < len(images):
        found = f'{len(absent)} of {len(named)} rows, such as {absent[0].found}: "{absent[0].case}"'
        findings.append(Finding("stop", ROWS_WITHOUT_FILE, table.name, found, f"names such as {min(images)}"))
    if not any("subject" in row.cells for row in rows.values()):
        expected = f"a column subject in {TABLE}; otherwise images of one person may be in two folds"
        findings.append(Finding("warn", checks.SUBJECTS_UNKNOWN, folder.name, "one subject per image", expected))
    missing = sorted(set(images) - set(rows)) if table else []
    findings += [Finding("warn", IMAGE_WITHOUT_ROW, name, f"not in {TABLE}", "a row") for name in missing]
    blank = [(name, row.at) for name, row in rows.items() if row.cells.get("subject") == ""]
    return rows, findings + [Finding("warn", SUBJECT_UNKNOWN, name, at, "a subject") for name, at in blank]


def _with_stems(
    named: list[tuple[str, Row]], images: Mapping[str, Path], findings: list[Finding]
) -> list[tuple[str, Row]]:
    """Rows with the stem of the image that they name, with or without suffix; unchanged if they name none.

    Other letter case has one meaning if one image alone has the name; one note counts such rows.
    """
    exact = {unicodedata.normalize("NFC", path.name): stem for stem, path in images.items()} | {s: s for s in images}
    stems: dict[str, set[str]] = defaultdict(set)
    for name, stem in exact.items():
        stems[name.casefold()].add(stem)
    folded = {name: next(iter(of_name)) for name, of_name in stems.items() if len(of_name) == 1}
    renamed = [(name, row) for name, row in named if name not in exact and name.casefold() in folded]
    if renamed:
        name, row = renamed[0]
        found = f'{len(renamed)} rows, the first is {row.at}: "{name}" for {images[folded[name.casefold()]].name}'
        findings.append(Finding("note", OTHER_LETTER_CASE, row.file, found, "the name of the file; read as meant"))
    return [(exact.get(name) or folded.get(name.casefold(), name), row) for name, row in named]


def _check_columns(path: Path, columns: list[str]) -> None:
    wrong = [name for name in columns if name not in COLUMNS]
    if wrong:
        hinted = [f"{name!r}{_nearest_column(name)}" for name in wrong]
        raise ValueError(f"{path}: columns {', '.join(hinted)}; expected some of {list(COLUMNS)}")
    if {*SPACINGS} & {*columns} not in (set(), {SPACINGS[0]}, {*SPACINGS[1:]}):
        raise ValueError(f"{path}: columns {columns}; expected none of {SPACINGS}, only the first, or the other two")


def _nearest_column(name: str) -> str:
    """A hint at the column that a name is similar to, or means; "" for none."""
    near = ["subject"] if strict_table.letters(name) in SUBJECT_WORDS else difflib.get_close_matches(name, COLUMNS, 1)
    return f" (nearest: {near[0]})" if near else ""


def _spacings(rows: Mapping[str, Row], findings: list[Finding]) -> dict[str, tuple[float, float]]:
    """(row, col) in mm by image, without those missing, unreadable or out of range, each of which is a finding."""
    columns = [column for column in SPACINGS if any(column in row.cells for row in rows.values())]
    blank = {name: column for name, row in rows.items() for column in columns if not row.cells[column]}
    low, high = SPACING_RANGE_MM
    for name, column in blank.items():
        expected = f"mm, {low:g} to {high:g}"
        findings.append(Finding("warn", checks.MISSING_PIXEL_SIZE, name, rows[name].cell(column), expected))
    complete = {name: row for name, row in rows.items() if columns and name not in blank}
    sizes = strict_table.numbers(complete, dict.fromkeys(columns, SPACING_RANGE_MM), findings)
    return {name: (each[0], each[-1]) for name, each in sizes.items() if None not in each}
