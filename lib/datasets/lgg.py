"""LGG brain MRI as published (`kaggle_3m`): one folder per patient, one TIFF of three sequences and a mask per slice.

Source: Buda, Saha and Mazurowski 2019, Comput Biol Med 109:218-225, doi:10.1016/j.compbiomed.2019.05.002.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from lib.data.cases import Case
from lib.data.findings import NO_PIXEL_SIZE, UNKNOWN_FILE, Check, Finding
from lib.datasets import layouts, strict_table, table_files
from lib.imaging import image_files
from lib.study import system_files

CHANNELS = ("pre-contrast", "FLAIR", "post-contrast")
FLAIR = 1
FOLDER = "kaggle_3m"
PATIENT = re.compile(r"(TCGA_([A-Z0-9]{2})_[A-Z0-9]+)_[0-9]{8}")
SLICE = re.compile(r"_([0-9]+)(_mask)?\.tiff?", re.IGNORECASE)
LAYOUT = f"{FOLDER}/ with folders such as TCGA_CS_4941_19960909"
MIN_SLICES = 3  # the first and the last slice may be dropped
TISSUE_ABOVE = 25  # FLAIR grey value; air and bone are below it
SPACING_TABLE = "spacing.csv"  # not published: users can derive it from the DICOM headers
SPACING_RANGES_MM = {"row_mm": (0.1, 5.0), "col_mm": (0.1, 5.0), "slice_mm": (0.1, 20.0)}  # by column

NOT_A_PATIENT = "remove it if it does not belong to the data set, or rename it as the publisher names patients"
UNKNOWN_FOLDER = Check("unknown folder", NOT_A_PATIENT)
TWO_FILES_FOR_ONE_SLICE = Check("two files for one slice", "keep the correct file")
MISSING_SLICE_NUMBER = Check("missing slice number", "restore the missing slices, or exclude the patient")
SLICE_WITHOUT_MASK = Check("slice without mask", "add the mask (black if there is no lesion), or exclude the patient")
MASK_WITHOUT_SLICE = Check("mask without slice", "add the slice, or remove the mask if its number is the last")
TOO_FEW_SLICES = Check("too few slices", "exclude the patient")
ROW_WITHOUT_PATIENT = Check("row without a patient", "add the patient's folder, or correct the name in the row")
TWO_ROWS_FOR_ONE_PATIENT = Check("two rows for one patient", "keep the correct row")
REPLACED_BY_FLAIR = Check("sequence replaced by FLAIR")
CONSTANT_CHANNEL = Check("constant channel")
DROPPED = "set end_slices_dropped: 0 if this matters; voxels in dropped slices count as missed"
LESION_IN_END_SLICE = Check("lesion in an end slice", DROPPED)
LESION_TOUCHES_FRAME = Check("lesion touches the frame")
DARK_LESION = Check("dark lesion")
NO_LESION = Check("no lesion")


@dataclass(frozen=True)
class Listing:
    """Files of a patient's folder."""

    images: dict[int, Path]  # by slice number
    masks: dict[int, Path]
    duplicates: list[str]  # "<name> and <name>" for two files of one slice
    unknown: list[str]  # names that do not follow the pattern


def find_cases(folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:  # noqa: ARG001
    """Patients by name, each a volume whose image and reference are both the patient's folder; no groups.

    Two scans of one patient are two cases of one subject. Pixel sizes are not published; they are read from an
    optional `spacing.csv` next to the patients' folders (columns patient, row_mm, col_mm, slice_mm; patient is the
    folder's name). The folder is `kaggle_3m` or its parent; ValueError for another layout or table.
    """
    root = _root(folder)
    findings: list[Finding] = []
    patients: dict[Path, bool] = {}  # whether all slices are complete
    for path in layouts.folders(root):
        name = path.name
        if PATIENT.fullmatch(name):
            listing = list_slices(path)
            faults, form = _faults(name, listing), f"{name}_<number>.tif and {name}_<number>_mask.tif"
            patients[path] = not faults
            findings += faults + [Finding("warn", UNKNOWN_FILE, name, f"{n}: ignored", form) for n in listing.unknown]
        else:
            findings.append(Finding("warn", UNKNOWN_FOLDER, name, "ignored", "a name such as TCGA_CS_4941_19960909"))
    spacings, more = _read_spacings(root, [path.name for path in patients])
    return [_case(path, spacings.get(path.name)) for path, complete in patients.items() if complete], findings + more


def read_image(folder: Path, read: image_files.Reader = image_files.open_image) -> np.ndarray:
    """All slices of a patient: (slices, H, W, 3) uint8 as in CHANNELS; ValueError, with the file, if one is invalid."""

    def read_colours(path: Path) -> np.ndarray:
        opened = read(path)
        if opened.mode != "RGB":
            raise ValueError(f"{path}: mode {opened.mode}; expected three channels of 8 bits (RGB)")
        return opened.pixels

    return _stack(_ordered(folder).images, read_colours)


def read_mask(paths: Sequence[Path], read: image_files.Reader = image_files.open_mask) -> np.ndarray:
    """All masks of a patient's folder: (slices, H, W) uint8, 0 or 1; ValueError, with the file, if one is invalid."""
    return _stack(_ordered(paths[0]).masks, lambda path: image_files.read_binary(path, read)).astype(np.uint8)


def _stack(files: dict[int, Path], read: Callable[[Path], np.ndarray]) -> np.ndarray:
    """Slices sorted by number; ValueError unless each has the (rows, columns) of the first."""
    slices: list[np.ndarray] = []
    for _, path in sorted(files.items()):
        pixels = read(path)
        if slices and pixels.shape[:2] != slices[0].shape[:2]:
            sizes = f"{pixels.shape[:2]}; expected {slices[0].shape[:2]}"
            raise ValueError(f"{path}: (rows, columns) {sizes} as in the first slice")
        slices.append(pixels)
    return np.stack(slices)


def inspect(case: Case, image: np.ndarray, mask: np.ndarray) -> list[Finding]:
    """Findings from the pixels of a patient: image (slices, H, W, 3) uint8, mask (slices, H, W) uint8."""
    rows = [
        ("note", REPLACED_BY_FLAIR, _replaced(image), "a distinct sequence"),
        ("note", CONSTANT_CHANNEL, _constant(image), "more than one value"),
    ]
    if mask.any():
        brighter = f"brighter than other tissue (FLAIR over {TISSUE_ABOVE})"
        rows += [
            ("warn", LESION_IN_END_SLICE, _at_ends(mask), "none, since end slices may be dropped"),
            ("note", LESION_TOUCHES_FRAME, _at_border(mask), "inside the image"),
            ("note", DARK_LESION, _dark(image[..., FLAIR], mask > 0), brighter),
        ]
    else:
        rows.append(("note", NO_LESION, f"none in {len(mask)} slices", "a lesion; Dice is undefined without one"))
    return [Finding(severity, check, case.name, found, expected) for severity, check, found, expected in rows if found]


def list_slices(folder: Path) -> Listing:
    """Slices and masks of a patient's folder by number."""
    listing = Listing({}, {}, [], [])
    for path in system_files.visible(folder):
        match = SLICE.fullmatch(path.name.removeprefix(folder.name))
        if match is None or not path.name.startswith(folder.name):
            listing.unknown.append(path.name)
            continue
        first = (listing.masks if match[2] else listing.images).setdefault(int(match[1]), path)
        if first is not path:
            listing.duplicates.append(f"{first.name} and {path.name}")
    return listing


def format_ranges(numbers: Iterable[int]) -> str:
    """Numbers as ranges: {1, 2, 3, 7} -> "1-3, 7"."""
    ranked = enumerate(sorted(numbers))
    parts = [[number for _, number in part] for _, part in groupby(ranked, lambda each: each[1] - each[0])]
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _root(folder: Path) -> Path:
    """The folder with the patients: this one, or `kaggle_3m` in it."""
    for root in (folder, *(path for path in layouts.folders(folder) if path.name.casefold() == FOLDER)):
        if any(PATIENT.fullmatch(path.name) for path in layouts.folders(root)):
            return root
    raise ValueError(f"{folder}: found {layouts.first_names(folder)}; expected {LAYOUT}")


def _case(folder: Path, sizes_mm: tuple[float, ...] | None) -> Case:
    """The case of a patient; `sizes_mm` is (row, column, slice), None if unknown."""
    subject, institution = PATIENT.fullmatch(folder.name).groups()  # type: ignore[union-attr]
    spacing, slice_mm = ((sizes_mm[0], sizes_mm[1]), sizes_mm[2]) if sizes_mm else (None, None)
    return Case(folder.name, subject, folder, (folder,), spacing, institution, foreground="either", slice_mm=slice_mm)


def _faults(name: str, listing: Listing) -> list[Finding]:
    """Stops for incomplete or ambiguous slices of a patient."""
    images, masks = set(listing.images), set(listing.masks)
    numbers = images | masks
    faults = [(TWO_FILES_FOR_ONE_SLICE, both, "one file") for both in listing.duplicates]
    if numbers and (0 in numbers or max(numbers) != len(numbers)):
        faults.append((MISSING_SLICE_NUMBER, f"slices {format_ranges(numbers)}", f"1 to {max(numbers)} without a gap"))
    if images - masks:
        missing = f"{name}_{min(images - masks)}_mask.tif"
        faults.append((SLICE_WITHOUT_MASK, f"slices {format_ranges(images - masks)}", missing))
    if masks - images:
        missing = f"{name}_{min(masks - images)}.tif"
        faults.append((MASK_WITHOUT_SLICE, f"masks {format_ranges(masks - images)}", missing))
    if len(numbers) < MIN_SLICES:
        expected = f"at least {MIN_SLICES} slices, since the end slices may be dropped"
        faults.append((TOO_FEW_SLICES, f"{len(numbers)} slices", expected))
    return [Finding("stop", check, name, found, expected) for check, found, expected in faults]


def _ordered(folder: Path) -> Listing:
    """Files of a patient's folder; ValueError with all faults if slices are incomplete or ambiguous."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; expected a patient's folder")
    listing = list_slices(folder)
    faults = [f"{f.check.name}: found {f.found}; expected {f.expected}" for f in _faults(folder.name, listing)]
    if faults:
        raise ValueError(f"{folder}: " + "; ".join(faults))
    return listing


def _replaced(image: np.ndarray) -> str:
    """Sequences that equal FLAIR in every slice: the publisher's substitute for a missing one."""
    return " and ".join(CHANNELS[c] for c in (0, 2) if np.array_equal(image[..., c], image[..., FLAIR]))


def _constant(image: np.ndarray) -> str:
    """Channels that are constant in a slice, for example outside the registered volume."""
    flat = image.max(axis=(1, 2)) == image.min(axis=(1, 2))  # (slices, 3)
    slices = {name: np.flatnonzero(flat[:, c]) + 1 for c, name in enumerate(CHANNELS)}
    return "; ".join(f"{name} in slices {format_ranges(numbers)}" for name, numbers in slices.items() if len(numbers))


def _at_ends(mask: np.ndarray) -> str:
    """Lesion voxels in the first and last slice, which a study may drop."""
    total = np.count_nonzero(mask)
    counts = {number: np.count_nonzero(mask[number - 1]) for number in (1, len(mask))}
    return "; ".join(f"slice {n}: {count} of {total} lesion voxels" for n, count in counts.items() if count)


def _at_border(mask: np.ndarray) -> str:
    edge = mask[:, [0, -1]].any(axis=(1, 2)) | mask[:, :, [0, -1]].any(axis=(1, 2))
    return f"slices {format_ranges(np.flatnonzero(edge) + 1)}" if edge.any() else ""


def _dark(flair: np.ndarray, lesion: np.ndarray) -> str:
    """Mean grey values of a lesion that is not brighter than other tissue."""
    tissue = flair[(flair > TISSUE_ABOVE) & ~lesion]
    inside, outside = float(flair[lesion].mean()), float(tissue.mean()) if tissue.size else 0.0
    return f"mean FLAIR {inside:.1f} in the lesion, {outside:.1f} in other tissue" if inside <= outside else ""


def _read_spacings(root: Path, patients: list[str]) -> tuple[dict[str, tuple[float, ...]], list[Finding]]:
    """(row, col, slice) sizes in mm by patient's folder, without those of invalid rows, and the findings."""
    findings: list[Finding] = []
    path = table_files.find(root, SPACING_TABLE, findings)
    if path is None:
        expected = "none; areas are reported in pixels and volumes in voxels"
        return {}, [Finding("note", NO_PIXEL_SIZE, root.name, f"not published, no {SPACING_TABLE}", expected)]
    read = strict_table.read(path, ("patient", *SPACING_RANGES_MM), findings)
    named = strict_table.named_rows(read, lambda row: row.cells["patient"], findings)
    known = (each for each in named if each[0] in patients)
    rows = strict_table.unique_rows(known, findings, TWO_ROWS_FOR_ONE_PATIENT)
    sizes = strict_table.numbers(rows, SPACING_RANGES_MM, findings)
    for name, row in (each for each in named if each[0] not in patients):
        near = "".join(f" (nearest: {each})" for each in difflib.get_close_matches(name, patients, 1))
        findings.append(Finding("warn", ROW_WITHOUT_PATIENT, name, row.at, f"a patient's folder{near}"))
    findings += [strict_table.missing_row(name, path.name) for name in patients if name not in rows]
    return {name: each for name, each in sizes.items() if None not in each}, findings
