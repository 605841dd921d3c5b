"""The "Ultrasound Fetus Dataset": HC18's heads under other names, in classes that label no tumour.

Its 999 `malignant` images are HC18's training set with outlines, `benign` and `normal` (sampled) its test images.

Source: Anitha 2024, Mendeley Data, yrzzw9m6kk; the same on Kaggle, orvile/ultrasound-fetus-dataset.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from lib.data.cases import Case
from lib.data.findings import FOLDER_PASSED_OVER, MISSING_IMAGE, SUBJECTS_UNKNOWN, UNKNOWN_FILE, Check, Finding
from lib.datasets import layouts
from lib.imaging import connected_parts, image_files

GROUPS = ("benign", "malignant", "normal")
SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
WRAPPERS = ("ultrasound fetus dataset", "data", "datasets")  # in the order in which they are looked into
DEPTH = 6  # the publisher nests four; a bound, since a link may lead back
NAME = re.compile(r"(\d+)_(\d?)HC(_annotation|_mask)?", re.IGNORECASE)
LAYOUT = "train/, validation/, test/ with benign/, malignant/, normal/ and images such as 1_HC.png"
LITTLE = 0.25  # share that filling adds, up to which a shape was no closed line; HC18's lines: over 0.9
RAGGED = 4  # pixels of the frame between two places of a line that count as one
THIN = 0.2  # half thickness over the root of the area: a disc 0.56, a filled 1:4 ellipse 0.28, a 50:1 line 0.07

TWO_IMAGES_OF_ONE_NAME = Check("two images of one name", "keep the right file")
MISSING_OUTLINE = Check("missing outline", "add the outline, or name the case in `exclude`")
TWO_OUTLINES_FOR_ONE_IMAGE = Check("two outlines for one image", "keep the right file")
OUTLINE_IN_ANOTHER_SPLIT = Check("outline in another split", "nothing: paired by name over all splits")


def find_cases(folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:
    """Cases of some of GROUPS by class and number, each image its own subject, with a warning.

    An outline is paired with its image by name over all splits. The folder holds the splits, or folders around them as
    the publisher nests them, in any letter case; ValueError, with what it holds, for another layout or no group.
    """
    root = _find_root(folder, DEPTH) or folder
    files = {group: paths for group in GROUPS if (paths := _group_files(root, group))}
    if not any(group in files for group in groups):
        named = " or ".join(groups) or "any group"
        raise ValueError(f"{root}: no files of {named}; found {layouts.described(root)}; expected {LAYOUT}")
    absent = ("no file in any split", "train/{}/1_HC.png")
    cases, findings = layouts.read_groups(files, groups, partial(_group_cases, root), absent)
    hidden = "names hide the examination; the publisher's splits may share subjects"
    beside = "HC18 beside it as data/raw/hc18, so that verification can recover subjects"
    unknown = Finding("warn", SUBJECTS_UNKNOWN, folder.name, hidden, beside)
    return cases, [*_passed_over(folder, root), *findings, unknown]


def read_mask(paths: Sequence[Path], read: image_files.Reader = image_files.read_pixels) -> np.ndarray:
    """The head inside an outline: (H, W) uint8, 0 or 1; a region that is already filled is taken as it is.

    The line's middle is the truth: the region is what it encloses and those pixels of the line that are no farther
    from there than from outside. A line that the frame cuts is closed along the frame. ValueError, with the file, where
    it is unreadable, of more than two values, empty, or not closed.
    """
    path = paths[0]
    line = image_files.read_binary(path, read)
    if not line.any():
        raise ValueError(f"{path}: empty; expected an outline or a filled region")
    if _encloses(line):
        return _to_middle(np.pad(line, 1))[1:-1, 1:-1].astype(np.uint8)  # beyond the frame it is outside
    if not _is_thin(connected_parts.fill_holes(line)):
        return connected_parts.fill_holes(line).astype(np.uint8)
    line |= _cut_by_frame(line)
    if not _encloses(line):
        raise ValueError(f"{path}: the outline is not closed; expected a closed line, or one cut by the image's frame")
    return _to_middle(line).astype(np.uint8)


def _encloses(line: np.ndarray) -> bool:
    filled = connected_parts.fill_holes(line)
    return bool((filled & ~line).sum() > LITTLE * filled.sum())


def _is_thin(region: np.ndarray) -> bool:
    padded = np.pad(region, 1).astype(np.uint8)  # at the frame a region ends, too
    return bool(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max() < THIN * region.sum() ** 0.5)


def _to_middle(line: np.ndarray) -> np.ndarray:
    """What a closed line encloses, out to the line's middle: (H, W) bool."""
    filled = connected_parts.fill_holes(line)
    to_hole, to_outside = (
        cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        for part in (filled & ~line, ~filled)
    )
    return filled & (to_hole <= to_outside)


def _cut_by_frame(line: np.ndarray) -> np.ndarray:
    """Pixels of the frame between the places where a line leaves the image: (H, W) bool.

    Around the frame, stretches without the line lie outside and inside the head by turns, and the largest outside.
    Nothing is drawn where their number is odd: then an end of the line is missing, or it only grazes the frame.
    """
    index = np.arange(line.size).reshape(line.shape)
    around = np.concatenate([index[0, :-1], index[:-1, -1], index[-1, :0:-1], index[:0:-1, 0]])
    places = np.flatnonzero(line.ravel()[around])
    steps = np.diff(places, append=places[:1] + len(around))
    stretches = np.flatnonzero(steps > RAGGED)
    closing = np.zeros(line.size, dtype=bool)
    if len(stretches) and len(stretches) % 2 == 0:
        for inside in np.roll(stretches, -int(np.argmax(steps[stretches])))[1::2]:
            closing[around[(places[inside] + np.arange(steps[inside])) % len(around)]] = True
    return closing.reshape(line.shape)


def _find_root(folder: Path, depth: int) -> Path | None:
    """The folder that holds the splits: this one, or one below folders with the publisher's names."""
    below = {path.name.casefold(): path for path in layouts.folders(folder)}
    if set(below) & set(SPLITS):
        return folder
    inner = [_find_root(below[name], depth - 1) for name in WRAPPERS if name in below and depth > 0]
    return next((root for root in inner if root is not None), None)


def _passed_over(folder: Path, root: Path) -> list[Finding]:
    """A note for each folder that is not part of the layout."""
    way, splits = [path for path in (root, *root.parents) if path.is_relative_to(folder)], _split_folders(root)
    others = [path for level in way for path in layouts.folders(level) if path not in way and path not in splits]
    others += [path for split in splits for path in layouts.folders(split) if path.name.casefold() not in GROUPS]
    names = [path.relative_to(folder).as_posix() for path in others]
    return [Finding("note", FOLDER_PASSED_OVER, name, "not read", LAYOUT) for name in names]


def _split_folders(root: Path) -> list[Path]:
    return [path for path in layouts.folders(root) if path.name.casefold() in SPLITS]


def _group_files(root: Path, group: str) -> list[Path]:
    """Files of one class in all splits; hidden ones left out."""
    below = [path for split in _split_folders(root) for path in layouts.folders(split)]
    return [path for folder in below if folder.name.casefold() == group for path in layouts.visible(folder)]


def _split_of(path: Path) -> str:
    return SPLITS[path.parent.parent.name.casefold()]


def _group_cases(root: Path, group: str, paths: Sequence[Path]) -> tuple[list[Case], list[Finding]]:
    """Cases of one class by number, and what is wrong there."""
    named: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    findings = []
    for path in paths:
        match = NAME.fullmatch(path.stem)
        if match is not None and path.suffix.lower() in image_files.IMAGE_SUFFIXES:
            named[f"{match[1]}_{match[2]}HC"][(match[3] or "").lower()].append(path)
        else:
            place = path.relative_to(root).as_posix()
            findings.append(Finding("warn", UNKNOWN_FILE, place, "left out", "such as 1_HC.png, 1_HC_Annotation.png"))
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
    """What is wrong with the files of one name; of several faults the gravest."""
    files, stem = ", ".join(path.relative_to(root).as_posix() for path in (*images, *outlines)), name.partition("-")[2]
    if not images:
        return Finding("stop", MISSING_IMAGE, name, f"{files} alone", f"{stem}.png")
    if len(images) > 1:
        return Finding("stop", TWO_IMAGES_OF_ONE_NAME, name, files, "one image of a name over all splits")
    if not outlines:
        return Finding("stop", MISSING_OUTLINE, name, files, f"{stem}_Annotation.png in any split")
    if len(outlines) > 1:
        return Finding("stop", TWO_OUTLINES_FOR_ONE_IMAGE, name, files, "one outline over all splits")
    if _split_of(outlines[0]) != _split_of(images[0]):
        return Finding("note", OUTLINE_IN_ANOTHER_SPLIT, name, files, "image and outline in one split")
    return None
