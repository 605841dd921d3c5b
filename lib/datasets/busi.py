"""BUSI as published: `benign/benign (1).png`, one mask a lesion beside it; no patient, no pixel size, no split.

Source: Al-Dhabyani et al. 2020, Data in Brief 28:104863, doi:10.1016/j.dib.2019.104863.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.data import findings
from lib.data.cases import Case
from lib.data.findings import GROUP_NOT_USED, MISSING_GROUP, NO_PIXEL_SIZE, UNKNOWN_FILE, Check, Finding
from lib.imaging import image_files

GROUPS = ("benign", "malignant", "normal")
FOLDER = "Dataset_BUSI_with_GT"
NAME = re.compile(r"(\w+) \((\d+)\)(_mask(?:_(\d+))?)?", re.IGNORECASE)
IMAGE = -1  # the place of an image among its lesions, which count from 0
LAYOUT = f'{FOLDER}/ with folders {", ".join(GROUPS)} and images such as "benign/benign (1).png"'

TWO_FILES_OF_ONE_NAME = Check("two files of one name", "keep the right file")


def find_cases(folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:
    """Cases of some lesion classes; each image is its own subject, since no patient is published.

    Many images show one lesion twice (246 near-duplicate pairs among the 780): verification has to join them.

    Args:
        folder: `Dataset_BUSI_with_GT`, or the folder that holds it; letter case does not matter.
        groups: of GROUPS.

    Returns:
        Cases by group and number, and what is wrong with the others. The masks of a case are in order of lesion.

    Raises:
        ValueError: the folder is of another layout, or lacks a group; the message says what it holds.
    """
    folders = _group_folders(folder)
    if not set(groups) & set(folders):
        raise ValueError(f"{folder}: no folder {' or '.join(groups)}; found {_listed(folder)}; expected {LAYOUT}")
    found: list[Case] = []
    findings: list[Finding] = []
    for group in GROUPS:
        if group in groups and group in folders:
            group_cases, group_findings = _group_cases(folders[group], group)
            found += group_cases
            findings += group_findings
        elif group in groups:
            findings.append(Finding("stop", MISSING_GROUP, group, f"no folder {group}", f"{group}/{group} (1).png"))
        elif group in folders:
            count = sum(not path.name.startswith(".") for path in folders[group].iterdir())
            findings.append(Finding("note", GROUP_NOT_USED, group, f"{count} files", "named in groups"))
    if not found and not any(finding.severity == "stop" for finding in findings):
        raise ValueError(f"{folder}: no images in {' or '.join(groups)}; expected {LAYOUT}")
    expected = "millimetres cannot be computed; sizes stay in pixels"
    findings.append(Finding("note", NO_PIXEL_SIZE, folder.name, "none is published", expected))
    return found, findings


def read_mask(paths: Sequence[Path], read: image_files.Reader = image_files.read_pixels) -> np.ndarray:
    """All lesions of an image: (H, W) uint8, 0 or 1; a pixel of any mask counts.

    Raises:
        ValueError: a mask is unreadable, has more than two values, or another size than the first.
    """
    first = image_files.read_binary(paths[0], read)
    lesions = first.copy()
    for path in paths[1:]:
        mask = image_files.read_binary(path, read)
        if mask.shape != first.shape:
            sizes = f"{paths[0].name} {first.shape}, {path.name} {mask.shape}"
            raise ValueError(f"{path}: masks of one image differ in (rows, columns): {sizes}; expected equal")
        lesions |= mask
    return lesions.astype(np.uint8)


def _group_folders(folder: Path) -> dict[str, Path]:
    """The folder of each group that is there, in order of GROUPS, from the layout's folder or the one around it."""
    inner = [path for path in _folders(folder) if path.name.casefold() == FOLDER.casefold()]
    for root in (folder, *inner):
        found: dict[str, Path] = {}
        for path in _folders(root):
            name = path.name.casefold()
            if name in found:
                raise ValueError(f"{root}: found {found[name].name} and {path.name}; expected one folder a group")
            if name in GROUPS:
                found[name] = path
        if found:
            return {group: found[group] for group in GROUPS if group in found}
    raise ValueError(f"{folder}: found {_listed(folder)}; expected {LAYOUT}")


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _listed(folder: Path) -> list[str] | str:
    return sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else "no such folder"


def _group_cases(folder: Path, group: str) -> tuple[list[Case], list[Finding]]:
    """Cases of one group by number, and what is wrong there."""
    numbers: dict[int, dict[int, Path]] = defaultdict(dict)
    findings = []
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        place = _place(path, group)
        if place is None:
            expected = f"such as {group} (1).png, {group} (1)_mask.png"
            findings.append(Finding("warn", UNKNOWN_FILE, path.name, "left out", expected))
            continue
        number, lesion = place
        if lesion in numbers[number]:
            both = f"{numbers[number][lesion].name} and {path.name}"
            findings.append(Finding("stop", TWO_FILES_OF_ONE_NAME, f"{group} ({number})", both, "one"))
        numbers[number].setdefault(lesion, path)
    found = []
    for number, files in sorted(numbers.items()):
        fault = _fault(f"{group} ({number})", files)
        if fault is None:
            found.append(_case(group, number, files))
        else:
            findings.append(fault)
    return found, findings


def _place(path: Path, group: str) -> tuple[int, int] | None:
    """(number, lesion or IMAGE) by a file's name; None for a file of another form."""
    match = NAME.fullmatch(unicodedata.normalize("NFC", path.stem))
    if match is None or match[1].casefold() != group or path.suffix.lower() not in image_files.IMAGE_SUFFIXES:
        return None
    return int(match[2]), int(match[4] or 0) if match[3] else IMAGE


def _fault(name: str, files: dict[int, Path]) -> Finding | None:
    """An image or a mask that is missing; a gap in the masks' numbers counts, or a lesion would be background."""
    listed = ", ".join(files[lesion].name for lesion in sorted(files))
    if IMAGE not in files:
        return Finding("stop", findings.MISSING_IMAGE, name, f"{listed} alone", f"{name}.png")
    lesions = set(files) - {IMAGE}
    lost = min(set(range(len(lesions) + 1)) - lesions)
    if lesions and lost == len(lesions):
        return None
    return Finding("stop", findings.MISSING_MASK, name, listed, f"{name}_mask{f'_{lost}' if lost else ''}.png")


def _case(group: str, number: int, files: dict[int, Path]) -> Case:
    name = f"{group} ({number})"
    return Case(
        name=name,
        subject=name,
        image=files[IMAGE],
        mask=tuple(files[lesion] for lesion in sorted(files) if lesion != IMAGE),
        spacing_mm=None,
        stratum=group,
        shows="nothing" if group == "normal" else "something",
    )
