"""BUSI as published: `benign/benign (1).png` with one mask per lesion; no patients, pixel sizes or split.

Source: Al-Dhabyani et al. 2020, Data in Brief 28:104863, doi:10.1016/j.dib.2019.104863.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.data.cases import Case
from lib.data.findings import MISSING_GROUP, MISSING_IMAGE, MISSING_MASK, NO_PIXEL_SIZE, UNKNOWN_FILE, Check, Finding
from lib.datasets import layouts
from lib.imaging import image_files
from lib.study import system_files

GROUPS = ("benign", "malignant", "normal")
FOLDER = "Dataset_BUSI_with_GT"
NAME = re.compile(r"(\w+) \((\d+)\)(_mask(?:_(\d+))?)?", re.IGNORECASE)
IMAGE = -1  # key of the image itself; lesions are numbered from 0
LAYOUT = f'{FOLDER}/ with folders {", ".join(GROUPS)} and images such as "benign/benign (1).png"'

TWO_FILES_WITH_ONE_NAME = Check("two files with one name", "keep the correct file")


def find_cases(folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:
    """Cases of the selected GROUPS by group and number, one subject per image; masks sorted by lesion number.

    Many lesions appear in several images (246 near-duplicate pairs among the 780 images), which verification groups.
    The folder is `Dataset_BUSI_with_GT`, in any letter case, or its parent; ValueError for another layout.
    """
    files = {group: system_files.visible(path) for group, path in _group_folders(folder).items()}
    if not set(groups) & set(files):
        names = layouts.first_names(folder)
        raise ValueError(f"{folder}: no folder {' or '.join(groups)}; found {names}; expected {LAYOUT}")
    cases, findings = layouts.read_groups(files, groups, _group_cases, ("no folder {}", "{0}/{0} (1).png"))
    without_files = (MISSING_GROUP, layouts.EMPTY_GROUP)
    if not cases and not any(each.severity == "stop" and each.check not in without_files for each in findings):
        raise ValueError(f"{folder}: no images in {' or '.join(groups)}; expected {LAYOUT}")
    expected = "none; sizes are reported in pixels"
    return cases, [*findings, Finding("note", NO_PIXEL_SIZE, folder.name, "not published", expected)]


def read_mask(paths: Sequence[Path], read: image_files.Reader = image_files.open_mask) -> np.ndarray:
    """Union of all lesion masks of an image: (H, W) uint8, 0 or 1; ValueError for an unreadable or unequal mask."""
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
    """Folder by group, in the order of GROUPS, for the groups that are present."""
    inner = [path for path in layouts.folders(folder) if path.name.casefold() == FOLDER.casefold()]
    for root in (folder, *inner):
        named: dict[str, Path] = {}
        for path in layouts.folders(root):
            first = named.setdefault(path.name.casefold(), path)
            if first is not path and path.name.casefold() in GROUPS:
                raise ValueError(f"{root}: found {first.name} and {path.name}; expected one folder per group")
        if not named.keys().isdisjoint(GROUPS):
            return {group: named[group] for group in GROUPS if group in named}
    raise ValueError(f"{folder}: found {layouts.first_names(folder)}; expected {LAYOUT}")


def _group_cases(group: str, paths: Sequence[Path]) -> tuple[list[Case], list[Finding]]:
    """Cases of one group by number, and its findings."""
    numbers: dict[int, dict[int, Path]] = defaultdict(dict)  # number -> lesion or IMAGE -> file
    findings = []
    for path in paths:
        match = NAME.fullmatch(unicodedata.normalize("NFC", path.stem))
        if match is None or match[1].casefold() != group or path.suffix.lower() not in image_files.IMAGE_SUFFIXES:
            expected = f"a name such as {group} (1).png or {group} (1)_mask.png"
            findings.append(Finding("warn", UNKNOWN_FILE, path.name, "ignored", expected))
            continue
        number, lesion = int(match[2]), int(match[4] or 0) if match[3] else IMAGE
        first = numbers[number].setdefault(lesion, path)
        if first is not path:
            both = f"{first.name} and {path.name}"
            findings.append(Finding("stop", TWO_FILES_WITH_ONE_NAME, f"{group} ({number})", both, "one file"))
    cases = []
    foreground = "absent" if group == "normal" else "present"
    for number, files in sorted(numbers.items()):
        name = f"{group} ({number})"
        fault = _fault(name, files)
        if fault is not None:
            findings.append(fault)
        else:
            masks = tuple(files[lesion] for lesion in sorted(files) if lesion != IMAGE)
            cases.append(Case(name, name, files[IMAGE], masks, None, stratum=group, foreground=foreground))
    return cases, findings


def _fault(name: str, files: dict[int, Path]) -> Finding | None:
    """A missing image or mask; a gap in the mask numbers counts, since a lesion would become background."""
    names = ", ".join(files[lesion].name for lesion in sorted(files))
    if IMAGE not in files:
        return Finding("stop", MISSING_IMAGE, name, f"only {names}", f"{name}.png")
    lesions = set(files) - {IMAGE}
    missing = min(set(range(len(lesions) + 1)) - lesions)
    if lesions and missing == len(lesions):
        return None
    return Finding("stop", MISSING_MASK, name, names, f"{name}_mask{f'_{missing}' if missing else ''}.png")
