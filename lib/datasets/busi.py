"""BUSI as published: `benign/benign (1).png`, one mask a lesion beside it; no patient, no pixel size, no split.

Source: Al-Dhabyani et al. 2020, Data in Brief 28:104863, doi:10.1016/j.dib.2019.104863.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.data.cases import Case
from lib.data.findings import MISSING_IMAGE, MISSING_MASK, NO_PIXEL_SIZE, UNKNOWN_FILE, Check, Finding
from lib.datasets import layouts
from lib.imaging import image_files

GROUPS = ("benign", "malignant", "normal")
FOLDER = "Dataset_BUSI_with_GT"
NAME = re.compile(r"(\w+) \((\d+)\)(_mask(?:_(\d+))?)?", re.IGNORECASE)
IMAGE = -1  # the place of an image among its lesions, which count from 0
LAYOUT = f'{FOLDER}/ with folders {", ".join(GROUPS)} and images such as "benign/benign (1).png"'

TWO_FILES_OF_ONE_NAME = Check("two files of one name", "keep the right file")


def find_cases(folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:
    """Cases of some of GROUPS by group and number, each image its own subject; masks in order of lesion.

    Many images show one lesion twice (246 near-duplicate pairs among the 780): verification has to join them. The
    folder is `Dataset_BUSI_with_GT`, or the one around it, in any letter case; ValueError for one of another layout.
    """
    files = {group: layouts.visible(path) for group, path in _group_folders(folder).items()}
    if not set(groups) & set(files):
        held = layouts.described(folder)
        raise ValueError(f"{folder}: no folder {' or '.join(groups)}; found {held}; expected {LAYOUT}")
    cases, findings = layouts.read_groups(files, groups, _group_cases, ("no folder {}", "{0}/{0} (1).png"))
    if not cases and not any(finding.severity == "stop" for finding in findings):
        raise ValueError(f"{folder}: no images in {' or '.join(groups)}; expected {LAYOUT}")
    expected = "millimetres cannot be computed; sizes stay in pixels"
    return cases, [*findings, Finding("note", NO_PIXEL_SIZE, folder.name, "none is published", expected)]


def read_mask(paths: Sequence[Path], read: image_files.Reader = image_files.read_pixels) -> np.ndarray:
    """All lesions of an image: (H, W) uint8, 0 or 1; a pixel of any mask counts.

    ValueError for a mask that is unreadable, has more than two values, or another size than the first.
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
    inner = [path for path in layouts.folders(folder) if path.name.casefold() == FOLDER.casefold()]
    for root in (folder, *inner):
        named: dict[str, Path] = {}
        for path in layouts.folders(root):
            first = named.setdefault(path.name.casefold(), path)
            if first is not path and path.name.casefold() in GROUPS:
                raise ValueError(f"{root}: found {first.name} and {path.name}; expected one folder a group")
        if not named.keys().isdisjoint(GROUPS):
            return {group: named[group] for group in GROUPS if group in named}
    raise ValueError(f"{folder}: found {layouts.described(folder)}; expected {LAYOUT}")


def _group_cases(group: str, paths: Sequence[Path]) -> tuple[list[Case], list[Finding]]:
    """Cases of one group by number, and what is wrong there."""
    numbers: dict[int, dict[int, Path]] = defaultdict(dict)  # number: lesion or IMAGE: file
    findings = []
    for path in paths:
        match = NAME.fullmatch(unicodedata.normalize("NFC", path.stem))
        if match is None or match[1].casefold() != group or path.suffix.lower() not in image_files.IMAGE_SUFFIXES:
            expected = f"such as {group} (1).png, {group} (1)_mask.png"
            findings.append(Finding("warn", UNKNOWN_FILE, path.name, "left out", expected))
            continue
        number, lesion = int(match[2]), int(match[4] or 0) if match[3] else IMAGE
        first = numbers[number].setdefault(lesion, path)
        if first is not path:
            both = f"{first.name} and {path.name}"
            findings.append(Finding("stop", TWO_FILES_OF_ONE_NAME, f"{group} ({number})", both, "one"))
    cases = []
    shows = "nothing" if group == "normal" else "something"
    for number, files in sorted(numbers.items()):
        name = f"{group} ({number})"
        fault = _fault(name, files)
        if fault is not None:
            findings.append(fault)
        else:
            masks = tuple(files[lesion] for lesion in sorted(files) if lesion != IMAGE)
            cases.append(Case(name, name, files[IMAGE], masks, spacing_mm=None, stratum=group, shows=shows))
    return cases, findings


def _fault(name: str, files: dict[int, Path]) -> Finding | None:
    """An image or a mask that is missing; a gap in the masks' numbers counts, or a lesion would be background."""
    listed = ", ".join(files[lesion].name for lesion in sorted(files))
    if IMAGE not in files:
        return Finding("stop", MISSING_IMAGE, name, f"{listed} alone", f"{name}.png")
    lesions = set(files) - {IMAGE}
    lost = min(set(range(len(lesions) + 1)) - lesions)
    if lesions and lost == len(lesions):
        return None
    return Finding("stop", MISSING_MASK, name, listed, f"{name}_mask{f'_{lost}' if lost else ''}.png")
