"""The "Ultrasound Fetus Dataset": HC18's heads under new names, in classes that do not denote tumours.

Its 999 `malignant` images are HC18's training set with outlines; sampled `benign` and `normal` images are its test set.

Source: Anitha 2024, Mendeley Data, yrzzw9m6kk; mirrored on Kaggle, orvile/ultrasound-fetus-dataset.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from lib.data.cases import Case
from lib.data.findings import FOLDER_IGNORED, MISSING_IMAGE, SUBJECTS_UNKNOWN, UNKNOWN_FILE, Check, Finding
from lib.datasets import layouts
from lib.imaging import connected_parts, image_files
from lib.study import system_files

GROUPS = ("benign", "malignant", "normal")
WITHOUT_OUTLINES = ("benign", "normal")  # as published
SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
WRAPPERS = ("ultrasound fetus dataset", "data", "datasets")  # in search order
DEPTH = 6  # the publisher nests four levels; bounded because links may form a cycle
NAME = re.compile(r"(\d+)_(\d?)HC(_annotation|_mask)?", re.IGNORECASE)
LAYOUT = "train/, validation/, test/ with benign/, malignant/, normal/ and images such as 1_HC.png"
MIN_ENCLOSED = 0.25  # enclosed share of the filled area of a closed line; HC18's lines: over 0.9
MAX_GAP_PX = 4  # along the border, between pixels of one crossing of the line
MAX_THICKNESS = 0.2  # of a line: half thickness / sqrt(area); disc 0.56, filled 1:4 ellipse 0.28, 50:1 line 0.07

TWO_IMAGES_WITH_ONE_NAME = Check("two images with one name", "keep the correct file")
MISSING_OUTLINE = Check("missing outline", "add the outline, or list the case in `exclude`")
TWO_OUTLINES_FOR_ONE_IMAGE = Check("two outlines for one image", "keep the correct file")
OUTLINE_IN_ANOTHER_SPLIT = Check("outline in another split", "no action needed: names are unique over all splits")


def find_cases(folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:
    """Cases of the selected GROUPS by class and number, one subject per image, and a warning about it.

    Outlines and images are paired by name over all splits. The folder contains the splits, directly or nested as
    published, in any letter case; ValueError, with the folder's names, for another layout or without any group.
    """
    root = _find_root(folder, DEPTH) or folder
    files = {group: paths for group in GROUPS if (paths := _group_files(root, group))}
    if not any(group in files for group in groups):
        wanted = " or ".join(groups) or "any group"
        raise ValueError(f"{root}: no files of {wanted}; found {layouts.first_names(root)}; expected {LAYOUT}")
    absent = ("no file in any split", "train/{}/1_HC.png")
    cases, findings = layouts.read_groups(files, groups, partial(_group_cases, root), absent)
    found = "file names do not identify the examination; the published splits may share subjects"
    expected = "HC18 in data/raw/hc18, so that verification can recover the subjects"
    unknown = Finding("warn", SUBJECTS_UNKNOWN, folder.name, found, expected)
    return cases, [*_ignored_folders(folder, root), *findings, unknown]


def read_mask(paths: Sequence[Path], read: image_files.Reader = image_files.open_mask) -> np.ndarray:
    """Head mask from its outline: (H, W) uint8, 0 or 1; an already filled region is returned as it is.

    The centre line is the reference: the mask is the enclosed area plus the line pixels that are no farther from it
    than from the outside. A line cut by the image border is closed along the border. ValueError, with the file, if it
    is unreadable, has more than two values, is empty, or is not closed.
    """
    path = paths[0]
    line = image_files.read_binary(path, read)
    if not line.any():
        raise ValueError(f"{path}: empty; expected an outline or a filled region")
    if _encloses(line):
        return _fill_to_centre_line(np.pad(line, 1))[1:-1, 1:-1].astype(np.uint8)
    if not _is_thin(connected_parts.fill_holes(line)):
        return connected_parts.fill_holes(line).astype(np.uint8)
    line |= _border_closure(line)
    if not _encloses(line):
        raise ValueError(f"{path}: the outline is not closed; expected a closed line, or one cut by the image border")
    return _fill_to_centre_line(line).astype(np.uint8)


def _encloses(line: np.ndarray) -> bool:
    filled = connected_parts.fill_holes(line)
    return bool((filled & ~line).sum() > MIN_ENCLOSED * filled.sum())


def _is_thin(region: np.ndarray) -> bool:
    padded = np.pad(region, 1).astype(np.uint8)  # the border bounds a region
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return bool(depth.max() < MAX_THICKNESS * region.sum() ** 0.5)


def _fill_to_centre_line(line: np.ndarray) -> np.ndarray:
    """Area inside the centre line of a closed line: (H, W) bool."""
    filled = connected_parts.fill_holes(line)
    to_hole, to_outside = (
        cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        for part in (filled & ~line, ~filled)
    )
    return filled & (to_hole <= to_outside)


def _border_closure(line: np.ndarray) -> np.ndarray:
    """Border pixels that close a line where it leaves the image: (H, W) bool.

    Along the border, gaps between line pixels are alternately outside and inside the head; the longest is outside. An
    odd number of gaps is not closed: an endpoint is missing, or the line only touches the border.
    """
    index = np.arange(line.size).reshape(line.shape)
    around = np.concatenate([index[0, :-1], index[:-1, -1], index[-1, :0:-1], index[:0:-1, 0]])
    crossings = np.flatnonzero(line.ravel()[around])
    steps = np.diff(crossings, append=crossings[:1] + len(around))
    gaps = np.flatnonzero(steps > MAX_GAP_PX)
    closing = np.zeros(line.size, dtype=bool)
    if len(gaps) and len(gaps) % 2 == 0:
        for inside in np.roll(gaps, -int(np.argmax(steps[gaps])))[1::2]:
            closing[around[(crossings[inside] + np.arange(steps[inside])) % len(around)]] = True
    return closing.reshape(line.shape)


def _find_root(folder: Path, depth: int) -> Path | None:
    """The folder with the splits: this one, or one nested in folders of WRAPPERS."""
    below = {path.name.casefold(): path for path in layouts.folders(folder)}
    if set(below) & set(SPLITS):
        return folder
    inner = [_find_root(below[name], depth - 1) for name in WRAPPERS if name in below and depth > 0]
    return next((root for root in inner if root is not None), None)


def _ignored_folders(folder: Path, root: Path) -> list[Finding]:
    """A note for each folder that is not part of the layout."""
    chain, splits = [path for path in (root, *root.parents) if path.is_relative_to(folder)], _split_folders(root)
    others = [path for level in chain for path in layouts.folders(level) if path not in (*chain, *splits)]
    others += [path for split in splits for path in layouts.folders(split) if path.name.casefold() not in GROUPS]
    names = [path.relative_to(folder).as_posix() for path in others]
    return [Finding("note", FOLDER_IGNORED, name, "not read", LAYOUT) for name in names]


def _split_folders(root: Path) -> list[Path]:
    return [path for path in layouts.folders(root) if path.name.casefold() in SPLITS]


def _group_files(root: Path, group: str) -> list[Path]:
    """Files of one class in all splits."""
    below = [path for split in _split_folders(root) for path in layouts.folders(split)]
    return [path for folder in below if folder.name.casefold() == group for path in system_files.visible(folder)]


def _split_of(path: Path) -> str:
    return SPLITS[path.parent.parent.name.casefold()]


def _group_cases(root: Path, group: str, paths: Sequence[Path]) -> tuple[list[Case], list[Finding]]:
    """Cases of one class by number, and its findings."""
    named: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    findings = []
    for path in paths:
        match = NAME.fullmatch(path.stem)
        if match is not None and path.suffix.lower() in image_files.IMAGE_SUFFIXES:
            named[f"{match[1]}_{match[2]}HC"][(match[3] or "").lower()].append(path)
        else:
            name, expected = path.relative_to(root).as_posix(), "a name such as 1_HC.png or 1_HC_Annotation.png"
            findings.append(Finding("warn", UNKNOWN_FILE, name, "ignored", expected))
    cases = []
    for stem in sorted(named, key=lambda stem: (int(stem.partition("_")[0]), stem)):
        images, outlines = named[stem][""], named[stem]["_annotation"] or named[stem]["_mask"]
        name = f"{group}-{stem}"
        fault = _fault(name, images, outlines, root)
        findings += [fault] if fault else []
        if fault is None or fault.severity != "stop":
            split = _split_of(images[0])
            cases.append(Case(name, name, images[0], (outlines[0],), None, stratum=group, split=split))
    return cases, findings


def _fault(name: str, images: list[Path], outlines: list[Path], root: Path) -> Finding | None:
    """The most severe fault in the files of one name, or None."""
    files, stem = ", ".join(path.relative_to(root).as_posix() for path in (*images, *outlines)), name.partition("-")[2]
    if not images:
        return Finding("stop", MISSING_IMAGE, name, f"only {files}", f"{stem}.png")
    if len(images) > 1:
        return Finding("stop", TWO_IMAGES_WITH_ONE_NAME, name, files, "one image with this name over all splits")
    if not outlines:
        return Finding("stop", MISSING_OUTLINE, name, files, f"{stem}_Annotation.png in any split")
    if len(outlines) > 1:
        return Finding("stop", TWO_OUTLINES_FOR_ONE_IMAGE, name, files, "one outline over all splits")
    if _split_of(outlines[0]) != _split_of(images[0]):
        return Finding("note", OUTLINE_IN_ANOTHER_SPLIT, name, files, "image and outline in one split")
    return None
