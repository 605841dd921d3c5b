"""LGG brain MRI as published (`kaggle_3m`): a folder a patient, a TIFF of three sequences a slice, masks beside them.

Source: Buda, Saha and Mazurowski 2019, Comput Biol Med 109:218-225, doi:10.1016/j.compbiomed.2019.05.002.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lib.data import findings
from lib.data.cases import Case
from lib.data.findings import NO_PIXEL_SIZE, Check, Finding
from lib.datasets import strict_table
from lib.imaging import image_files

CHANNELS = ("pre-contrast", "FLAIR", "post-contrast")
FLAIR = 1
FOLDER = "kaggle_3m"
PATIENT = re.compile(r"(TCGA_([A-Z0-9]{2})_[A-Z0-9]+)_[0-9]{8}")
SLICE = re.compile(r"_([0-9]+)(_mask)?\.tiff?", re.IGNORECASE)
LAYOUT = f"{FOLDER}/ with folders such as TCGA_CS_4941_19960909"
FEWEST_SLICES = 3  # the first and the last slice may be dropped
TISSUE_ABOVE = 25  # FLAIR grey value; below it lie air and bone
SPACING_TABLE = "spacing.csv"  # not the publisher's: for who has the DICOM headers
SPACING_COLUMNS = ("patient", "row_mm", "col_mm", "slice_mm")
SPACING_RANGES_MM = ((0.1, 5.0), (0.1, 5.0), (0.1, 20.0))
Spacings = dict[str, tuple[float, float, float]]  # (row, col, slice) in mm by patient's folder

UNKNOWN_FOLDER = Check(
    "unknown folder", "remove it if it does not belong to the data set, or rename it as the publisher names patients"
)
TWO_FILES_OF_ONE_SLICE = Check("two files of one slice", "keep the right file")
MISSING_SLICE_NUMBER = Check("missing slice number", "get the missing slices again, or exclude the patient")
SLICE_WITHOUT_MASK = Check("slice without mask", "add the mask (black where nothing is), or exclude the patient")
MASK_WITHOUT_SLICE = Check("mask without slice", "add the slice, or remove the mask if its number is the last")
TOO_FEW_SLICES = Check("too few slices", "exclude the patient")
ROW_WITHOUT_PATIENT = Check("row without a patient", "add the patient's folder, or mend the name in the row")
TWO_ROWS_FOR_ONE_PATIENT = Check("two rows for one patient", "keep the right row")
REPLACED_BY_FLAIR = Check("sequence replaced by FLAIR")
CONSTANT_CHANNEL = Check("constant channel")
LESION_IN_END_SLICE = Check(
    "lesion in an end slice", "nothing, or end_slices_dropped: 0; dropped slices count as missed"
)
LESION_TOUCHES_FRAME = Check("lesion touches the frame")
DARK_LESION = Check("dark lesion")
NO_LESION = Check("no lesion")


@dataclass(frozen=True)
class Listing:
    """What a patient's folder holds.

    Attributes:
        images, masks: file of each slice by its number.
        doubles: two names of one slice, in words.
        foreign: names of another form; hidden files are passed over.
    """

    images: dict[int, Path]
    masks: dict[int, Path]
    doubles: list[str]
    foreign: list[str]


def find_cases(folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:  # noqa: ARG001
    """Patients, each a volume: image and reference are both the patient's folder.

    Two scans of one patient are two cases of one subject. Pixel sizes are not published; they come from a file
    `spacing.csv` beside the patients' folders where there is one (columns patient, row_mm, col_mm, slice_mm; patient
    is the folder's name).

    Args:
        folder: `kaggle_3m`, or the folder that holds it.
        groups: there are none.

    Returns:
        Cases by name, those in order that can be read, and what is wrong with the others.

    Raises:
        ValueError: the folder is of another layout, or `spacing.csv` is no such table.
    """
    root = _root(folder)
    findings: list[Finding] = []
    listings: dict[Path, Listing] = {}
    for path in _folders(root):
        if PATIENT.fullmatch(path.name):
            listings[path] = list_slices(path)
            findings += _listing_findings(path.name, listings[path])
        elif not path.name.startswith("."):
            expected = "such as TCGA_CS_4941_19960909"
            findings.append(Finding("warn", UNKNOWN_FOLDER, path.name, "left out", expected))
    spacings, more = _read_spacings(root, [path.name for path in listings])
    found = [_case(path, spacings) for path, listing in listings.items() if not _faults(path.name, listing)]
    return found, findings + more


def read_image(folder: Path) -> np.ndarray:
    """All slices of a patient in order: (slices, H, W, 3) uint8, channels as in CHANNELS.

    Raises:
        ValueError: slices are missing, or one is unreadable, not of 8 bits in three channels, of several pages, or of
            another size than the first; the message names the file.
    """
    slices: list[np.ndarray] = []
    for path in _ordered(folder)[0]:
        pixels = image_files.read_pixels(path)
        _refuse_form(path, "RGB", "three channels of 8 bits (RGB), one page")
        _refuse_size(path, pixels.shape[:2], slices)
        slices.append(pixels)
    return np.stack(slices)


def read_mask(paths: Sequence[Path], read: image_files.Reader = image_files.read_pixels) -> np.ndarray:
    """All masks of a patient in order: (slices, H, W) uint8, 0 or 1.

    Args:
        paths: the patient's folder alone.
        read: reader of one mask file.

    Raises:
        ValueError: masks are missing, or one is unreadable, of other values than 0 and 255 (or 0 and 1), of several
            pages, or of another size than the first; the message names the file.
    """
    masks: list[np.ndarray] = []
    for path in _ordered(paths[0])[1]:
        mask = image_files.read_binary(path, read)
        _refuse_form(path, "", "one page")
        _refuse_size(path, mask.shape, masks)
        masks.append(mask)
    return np.stack(masks).astype(np.uint8)


def inspect(case: Case, image: np.ndarray, mask: np.ndarray) -> list[Finding]:
    """What only pixels tell of a patient.

    Args:
        case: of the patient.
        image: (slices, H, W, 3) uint8.
        mask: (slices, H, W) uint8.
    """
    said = [("note", REPLACED_BY_FLAIR, *_replaced(image)), ("note", CONSTANT_CHANNEL, *_constant(image))]
    if mask.any():
        said += [
            ("warn", LESION_IN_END_SLICE, *_at_ends(mask)),
            ("note", LESION_TOUCHES_FRAME, *_at_frame(mask)),
            ("note", DARK_LESION, *_dark(image[..., FLAIR], mask > 0)),
        ]
    else:
        said.append(("note", NO_LESION, f"none in {len(mask)} slices", "a lesion; Dice has no meaning without"))
    return [Finding(severity, check, case.name, found, expected) for severity, check, found, expected in said if found]


def list_slices(folder: Path) -> Listing:
    """Slices and masks of a patient's folder by their number, whatever their order on disk."""
    listing = Listing({}, {}, [], [])
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        match = SLICE.fullmatch(path.name.removeprefix(folder.name))
        if match is None or not path.name.startswith(folder.name):
            listing.foreign.append(path.name)
            continue
        numbered, number = listing.masks if match[2] else listing.images, int(match[1])
        if number in numbered:
            listing.doubles.append(f"{numbered[number].name} and {path.name}")
        numbered.setdefault(number, path)
    return listing


def runs(numbers: Iterable[int]) -> str:
    """Numbers in words: {1, 2, 3, 7} -> "1-3, 7"."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def _root(folder: Path) -> Path:
    """The folder of the patients: this one, or `kaggle_3m` in it."""
    below = _folders(folder)
    for root in (folder, *(path for path in below if path.name.casefold() == FOLDER)):
        if any(PATIENT.fullmatch(path.name) for path in _folders(root)):
            return root
    held = [path.name for path in sorted(folder.iterdir())][:8] if folder.is_dir() else "no such folder"
    raise ValueError(f"{folder}: found {held}; expected {LAYOUT}")


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _case(folder: Path, spacings: Spacings) -> Case:
    match = PATIENT.fullmatch(folder.name)
    row, col, apart = spacings.get(folder.name, (None, None, None))
    return Case(
        name=folder.name,
        subject=match[1],  # type: ignore[index]
        image=folder,
        mask=(folder,),
        spacing_mm=None if row is None or col is None else (row, col),
        slice_mm=apart,
        stratum=match[2],  # type: ignore[index]
        shows="either",
    )


def _listing_findings(name: str, listing: Listing) -> list[Finding]:
    expected = f"{name}_<number>.tif and {name}_<number>_mask.tif"
    foreign = [Finding("warn", findings.UNKNOWN_FILE, name, f"{file}: left out", expected) for file in listing.foreign]
    return _faults(name, listing) + foreign


def _faults(name: str, listing: Listing) -> list[Finding]:
    """What keeps a patient from being read in order; every one stops the study."""
    images, masks = set(listing.images), set(listing.masks)
    numbers = images | masks
    said = [(TWO_FILES_OF_ONE_SLICE, both, "one") for both in listing.doubles]
    if numbers and (0 in numbers or max(numbers) != len(numbers)):
        said.append((MISSING_SLICE_NUMBER, f"slices {runs(numbers)}", f"1 to {max(numbers)} without a gap"))
    if images - masks:
        said.append((SLICE_WITHOUT_MASK, f"slices {runs(images - masks)}", f"{name}_{min(images - masks)}_mask.tif"))
    if masks - images:
        said.append((MASK_WITHOUT_SLICE, f"masks {runs(masks - images)}", f"{name}_{min(masks - images)}.tif"))
    if len(numbers) < FEWEST_SLICES:
        expected = f"needs at least {FEWEST_SLICES} slices: without the end slices nothing is left"
        said.append((TOO_FEW_SLICES, f"{len(numbers)} slices", expected))
    return [Finding("stop", check, name, found, expected) for check, found, expected in said]


def _ordered(folder: Path) -> tuple[list[Path], list[Path]]:
    """Slices and masks of a patient in order of their numbers.

    Raises:
        ValueError: something is missing; all faults at once.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; expected a patient's")
    listing = list_slices(folder)
    faults = [
        f"{each.check.name}: found {each.found}; expected {each.expected}" for each in _faults(folder.name, listing)
    ]
    if faults:
        raise ValueError(f"{folder}: " + "; ".join(faults))
    return [listing.images[n] for n in sorted(listing.images)], [listing.masks[n] for n in sorted(listing.masks)]


def _refuse_form(path: Path, mode: str, expected: str) -> None:
    """Raises ValueError for a readable file of several pages or of another mode than expected ("" for any)."""
    try:
        with Image.open(path) as image:
            held, channels, pages = image.mode, len(image.getbands()), getattr(image, "n_frames", 1)
    except (OSError, EOFError, SyntaxError, TypeError, ValueError) as error:  # a broken page after the first
        raise ValueError(f"{path}: cannot be read as an image: {error}") from error
    if pages != 1:
        raise ValueError(f"{path}: {pages} pages; expected {expected}")
    if mode and held != mode:
        raise ValueError(f"{path}: {channels} channels (mode {held}); expected {expected}")


def _refuse_size(path: Path, shape: tuple[int, ...], before: Sequence[np.ndarray]) -> None:
    if before and shape != before[0].shape[:2]:
        raise ValueError(f"{path}: (rows, columns) {shape}; expected {before[0].shape[:2]} as in the first slice")


def _replaced(image: np.ndarray) -> tuple[str, str]:
    """Sequences that equal FLAIR in every slice: the publisher put it where one was missing."""
    same = [CHANNELS[c] for c in (0, 2) if np.array_equal(image[..., c], image[..., FLAIR])]
    return " and ".join(same), "a sequence of its own"


def _constant(image: np.ndarray) -> tuple[str, str]:
    """Channels of one value throughout a slice, as where registration left nothing of it."""
    flat = image.max(axis=(1, 2)) == image.min(axis=(1, 2))  # (slices, 3)
    said = [f"{name} in slices {runs(np.flatnonzero(flat[:, c]) + 1)}" for c, name in enumerate(CHANNELS)]
    return "; ".join(each for c, each in enumerate(said) if flat[:, c].any()), "more than one value"


def _at_ends(mask: np.ndarray) -> tuple[str, str]:
    """Lesion in the first or the last slice, which a study may drop."""
    whole, numbers = np.count_nonzero(mask), dict.fromkeys((1, len(mask)))
    counts = {number: np.count_nonzero(mask[number - 1]) for number in numbers}
    said = [f"slice {number}: {count} of {whole} lesion voxels" for number, count in counts.items() if count]
    return "; ".join(said), "none, because end slices may be dropped"


def _at_frame(mask: np.ndarray) -> tuple[str, str]:
    edge = mask[:, [0, -1]].any(axis=(1, 2)) | mask[:, :, [0, -1]].any(axis=(1, 2))
    return f"slices {runs(np.flatnonzero(edge) + 1)}" if edge.any() else "", "inside"


def _dark(flair: np.ndarray, lesion: np.ndarray) -> tuple[str, str]:
    """A lesion that is on average not brighter than other tissue."""
    tissue = flair[(flair > TISSUE_ABOVE) & ~lesion]
    inside, outside = float(flair[lesion].mean()), float(tissue.mean()) if tissue.size else 0.0
    found = f"mean FLAIR {inside:.1f} in the lesion, {outside:.1f} in other tissue" if inside <= outside else ""
    return found, f"brighter than other tissue (FLAIR over {TISSUE_ABOVE})"


def _read_spacings(root: Path, patients: list[str]) -> tuple[Spacings, list[Finding]]:
    """Pixel sizes of `spacing.csv`, and what is wrong with its rows."""
    path = root / SPACING_TABLE
    if not path.is_file():
        expected = "areas in pixels and volumes in voxels only"
        return {}, [Finding("note", NO_PIXEL_SIZE, root.name, f"none is published, no {SPACING_TABLE}", expected)]
    spacings: Spacings = {}
    findings: list[Finding] = []
    named = [(row.cells["patient"], row) for row in strict_table.read(path, SPACING_COLUMNS)]
    rows = strict_table.unique((each for each in named if each[0] in patients), findings, TWO_ROWS_FOR_ONE_PATIENT)
    for patient, row in [*rows.items(), *(each for each in named if each[0] not in patients)]:
        if patient not in patients:
            near = "".join(f" (nearest: {name})" for name in difflib.get_close_matches(patient, patients, 1, 0))
            findings.append(Finding("warn", ROW_WITHOUT_PATIENT, patient, row.at, f"a patient's folder{near}"))
            continue
        columns = zip(SPACING_COLUMNS[1:], SPACING_RANGES_MM)
        numbers = [strict_table.number(row, column, bounds, patient, findings) for column, bounds in columns]
        if None not in numbers:
            spacings[patient] = tuple(numbers)  # type: ignore[assignment]
    return spacings, findings + [strict_table.no_row(name, path.name) for name in patients if name not in rows]
