"""Fetal brain structures of Alzubaidi et al. 2023: three planes of FETAL_PLANES_DB, and HC18 as `diverse`.

Spelling and nesting differ, so all is found by pattern: of a name, letters and digits count, and a folder belongs to
the group that its own name, or the nearest above it, speaks of. Source: doi:10.1016/j.dib.2023.109708, zenodo 8265464.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from lib.data import findings as checks
from lib.data.cases import Case
from lib.data.findings import Check, Finding
from lib.datasets import hc18, layouts, strict_table
from lib.imaging import image_files

GROUPS = ("trans-thalamic", "trans-ventricular", "trans-cerebellum", "diverse")
FOLDERS = "Trans-thalamic, Trans-ventricular, Trans-cerebellum, Diverse Fetal Head Images"
GROUP_WORDS = {"transthalamic": GROUPS[0], "transventricular": GROUPS[1], "transcerebell": GROUPS[2]}
# Diverse's exports are called Test-Dataset-..., though they hold all of it, its images "Orginal_train_images_...".
GROUP_WORDS |= dict.fromkeys(("diverse", "testdataset", "orginaltrain", "originaltrain"), GROUPS[3])
EXPORTS = ("segmentation", "pascal", "")  # that are read, the preferred first; "" is one unpacked without its folder
OTHER_EXPORT = re.compile("citys[cp]a|gtfine|coco|yolo|labelme|kitti|imagenet|tfrecord|datumaro|cvat|^annotations$")
OTHER_SIZE = re.compile("ori?ginal(size|image)")  # "Trans-thalamic-orginal-size": variable, unlike their masks
RESIZED, DOWN, ACROSS = "to959661", 540 / 661, 800 / 959  # HC18's 540 rows and 800 columns in the publisher's size
CLASSES = {"background": 0, "brain": 1, "csp": 2, "lv": 3}  # as labelmaps name them
PLANES_PALETTE = {(255, 0, 0): 1, (0, 255, 0): 2, (0, 0, 255): 3}
DIVERSE_PALETTE = {(255, 0, 0): 1, (255, 255, 0): 2, (0, 0, 255): 3}
PASCAL_PALETTE = {(128, 0, 0): 1, (0, 128, 0): 2, (128, 128, 0): 3}
LABEL = re.compile(r"\s*([^:]*?)\s*:\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*(:.*)?")
PLANE_NAME = re.compile(r"Patient(\d{5})_Plane3_\d+_of_\d+", re.IGNORECASE)
HC18_NAME = re.compile(r"(\d{3})_\d?HC", re.IGNORECASE)
PLANE_RANGES_MM = {"Pixel in mm": (0.02, 1.0)}  # by column of a plane's table; Diverse has that of HC18

Colour = tuple[int, int, int]
Row = tuple[str, tuple[float, float] | None, float | None]  # of a table: image, (row, col) pixel size and HC in mm

NAME_IN_TWO_GROUPS = Check("name in two groups", "remove one of the two, or rename it")
EXPORT_NOT_READ = Check("export not read")
MISSING_MASKS = Check("missing masks", "unpack the Segmentation or PASCAL export of this group, or leave the group out")
UNREADABLE_NAME = Check("unreadable name", "rename the file as the publisher names files")
PIXELS_NOT_SQUARE = Check("pixels are not square")
DECIMAL_COMMA = Check("decimal comma")


@dataclass(frozen=True)
class Place:
    """A folder of the tree."""

    path: Path
    group: str  # "" for none
    kind: str  # of files that it holds
    names: tuple[str, ...]  # of its files

    @property
    def keys(self) -> set[str]:
        """Of its image files."""
        return {_key(Path(name).stem) for name in self.names if Path(name).suffix.lower() in image_files.IMAGE_SUFFIXES}


def find_cases(folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:
    """Cases of some of GROUPS in natural order; the subject is the patient, over all planes, or HC18's examination.

    The folder holds the groups' folders at any depth, or is one of them; links are followed. ValueError, with what was
    found, where none of the groups is there, a group has no images, or a table of pixel sizes cannot be read.
    """
    if not groups or not set(groups) <= set(GROUPS):
        raise ValueError(f"groups = {list(groups)}   not allowed; some of {', '.join(GROUPS)}")
    places = list(_places(folder)) if folder.is_dir() else []
    present = {place.group for place in places} | {group for group in GROUPS if _files(places, group, ".zip")}
    absent = [group for group in GROUPS if group in groups and group not in present]
    if len(absent) == len(groups):
        found = f"found {layouts.described(folder)}; expected folders {FOLDERS}"
        raise ValueError(f"{folder}: nothing of {', '.join(absent)}; {found}")
    cases: dict[str, Case] = {}
    expected = "its folder, or a study without it"
    findings = [Finding("stop", checks.MISSING_GROUP, group, "no such folder", expected) for group in absent]
    for group in (each for each in GROUPS if each in groups and each not in absent):
        group_cases, group_findings = _read_group(folder, places, group)
        findings += group_findings
        for case in group_cases:
            first = cases.setdefault(_key(case.name), case)
            if first is not case:
                both = f"{first.stratum} and {group}"
                findings.append(Finding("stop", NAME_IN_TWO_GROUPS, first.name, both, "a name in one group"))
    return list(cases.values()), findings


def read_mask(paths: Sequence[Path], read: image_files.Reader = image_files.read_pixels) -> np.ndarray:
    """Class indices (H, W) uint8 of a colour mask: 0 background, 1 parenchyma, 2 CSP, 3 lateral ventricles.

    The paths are the mask (in a JPEG each pixel takes the nearest colour), and the labelmap.txt of its export where
    there is one, which then says what a colour means. ValueError, with the file, where they cannot be read or followed.
    """
    mask, *labelmaps = paths
    palette, pixels = _palette(mask, labelmaps), read(mask)
    try:
        return image_files.decode_palette(pixels, palette, lossy=image_files.is_lossy(mask))
    except ValueError as error:
        raise ValueError(f"{mask}: {error}") from error


def _palette(mask: Path, labelmaps: Sequence[Path]) -> dict[Colour, int]:
    """By labelmap, else by export (.../<export>/SegmentationClass/<mask>) and group, which names of images tell."""
    for path in labelmaps:
        try:
            return dict(_parse_labelmap(path.read_text(encoding="utf-8-sig", errors="replace")))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}, {error}") from error
    if _export(mask.parent.parent.name) == "pascal":
        return PASCAL_PALETTE
    return DIVERSE_PALETTE if HC18_NAME.fullmatch(mask.stem) else PLANES_PALETTE


@lru_cache(maxsize=64)
def _parse_labelmap(text: str) -> tuple[tuple[Colour, int], ...]:
    """Colours and classes of CVAT's lines such as `Brain:255,0,0::`; an error begins with the line."""
    palette: dict[Colour, int] = {(0, 0, 0): 0}
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LABEL.fullmatch(line)
        if match is None or match[1].casefold() not in CLASSES or max(map(int, match.group(2, 3, 4))) > 255:
            allowed = f"a label of {', '.join(CLASSES)} and three numbers to 255"
            raise ValueError(f'line {number}: "{line}"; expected {allowed}, such as Brain:255,0,0::')
        colour, index = (int(match[2]), int(match[3]), int(match[4])), CLASSES[match[1].casefold()]
        if palette.setdefault(colour, index) != index:
            raise ValueError(f'line {number}: "{line}" has the colour of another label; expected one for each')
    absent = [label for label, index in CLASSES.items() if index not in palette.values()]
    if absent:
        raise ValueError(f"lines 1 to {len(lines)}: no label {', '.join(absent)}; expected {', '.join(CLASSES)}")
    return tuple(palette.items())


def _key(name: str) -> str:
    """What pairs image, mask and row: copies differ in letter case (Windows) and in how accents are kept (macOS)."""
    return unicodedata.normalize("NFC", name).casefold()


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", _key(name))


def _group_of(names: Sequence[str]) -> str:
    """The group that the last possible of some names speaks of, "" for none."""
    return next((group for n in reversed(names) for word, group in GROUP_WORDS.items() if word in _letters(n)), "")


def _export(name: str) -> str:
    return next(export for export in EXPORTS if export in _letters(name))


def _places(top: Path) -> Iterator[Place]:
    """Every folder, the upper ones first, links last.

    A folder is entered once for each group, so a link to a folder around itself ends where it has been before.
    """
    above = (top.resolve().name, top.name)  # the given folder may be a link to that of one group
    seen: set[tuple[str, str]] = set()
    level = [top]
    while level:
        folders, level = sorted(level, key=lambda path: (path.is_symlink(), path)), []
        for folder in folders:
            parts = folder.relative_to(top).parts
            visit = (os.path.realpath(folder), _group_of((*above, *parts)))
            if visit not in seen:
                seen.add(visit)
                below, names = _entries(folder)
                level += below
                yield Place(folder, visit[1], _kind(parts, visit[1]), names)


def _entries(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Folders and names of files in a folder; hidden ones and what macOS adds to zip files left out."""
    try:
        shown = sorted(name for name in os.listdir(folder) if not name.startswith((".", "__MACOSX")))
    except OSError as error:
        raise ValueError(f"{folder}: cannot be listed: {error}") from error
    is_folder = {name: os.path.isdir(folder / name) for name in shown}
    return [folder / name for name in shown if is_folder[name]], tuple(name for name in shown if not is_folder[name])


def _kind(parts: Sequence[str], group: str) -> str:
    """What a folder holds, by its name and those above it up to the first that speaks of its group."""
    start = next((place for place, part in enumerate(parts) if _group_of([part]) == group), 0)
    names = ["", *map(_letters, parts[start:])]
    if names[-1] == "segmentationclass" and (_export(names[-2]) or not OTHER_EXPORT.search(names[-2])):
        return "masks"
    if any(OTHER_SIZE.search(name) for name in names):
        return "other size"
    if any(_export(name) for name in names):
        return "part of an export"
    return "other export" if any(OTHER_EXPORT.search(name) for name in names) else "images"


def _files(places: Iterable[Place], group: str, suffix: str) -> list[Path]:
    """Files of a group, by their own name or that of their folder."""
    named = [(place, name) for place in places for name in place.names if name.lower().endswith(suffix)]
    return [place.path / name for place, name in named if (_group_of([name]) or place.group) == group]


def _read_group(folder: Path, places: Sequence[Place], group: str) -> tuple[list[Case], list[Finding]]:
    own = [place for place in places if place.group == group]
    zips = [path.name for path in _files(places, group, ".zip")][:8]
    packed = f"zip files, to be unpacked: {zips}" if zips else ""
    masks, images = ([place for place in own if place.kind == kind and place.keys] for kind in ("masks", "images"))
    if not images:
        found = packed or [place.path.name for place in own][:8]
        raise ValueError(f"{folder}: {group} has no images; found {found}; expected images of 959x661, and masks")
    export = min(masks, key=lambda place: EXPORTS.index(_export(place.path.parent.name)), default=None)
    best = max(images, key=lambda place: _fit(place, export.keys if export else place.keys))
    others = [p.path for p in own if p.keys and p.kind in ("images", "other size") and p is not best]
    names, read = [path.relative_to(folder).as_posix() for path in others], f"read: {best.path.name}"
    findings = [Finding("note", checks.FOLDER_PASSED_OVER, group, name, read) for name in names]
    if export:
        cases, faults = _pair(best, export, *_read_sizes(folder, places, best))
        return cases, findings + faults
    expected = "SegmentationClass/ of its Segmentation or PASCAL export"
    exports = sorted({place.path.name for place in own if OTHER_EXPORT.search(_letters(place.path.name))})
    findings += [Finding("note", EXPORT_NOT_READ, group, ", ".join(exports), expected)] if exports else []
    return [], [*findings, Finding("stop", MISSING_MASKS, group, packed or "no such folder", expected)]


def _fit(images: Place, masks: set[str]) -> tuple[int, bool]:
    """How well a folder fits the masks; HC18's own images may lie beside, so a name as published counts double."""
    name = _letters(images.path.name)
    is_known = name == _letters(images.group) or RESIZED in name
    return len(images.keys & masks) * (1 + is_known), is_known


def _by_key(folder: Path) -> dict[str, Path]:
    """Image files of a folder by key; ValueError where two names differ in nothing but letter case."""
    files: dict[str, Path] = {}
    for path in image_files.by_stem(folder).values():
        first = files.setdefault(_key(path.stem), path)
        if first is not path:
            raise ValueError(f"{folder}: {first.name} and {path.name}; expected one file of a name")
    return files


def _pair(
    images: Place, masks: Place, rows: dict[str, Row], of_table: list[Finding]
) -> tuple[list[Case], list[Finding]]:
    """Cases in order, and what is wrong with the others and with the table."""
    image_of, mask_of, export = _by_key(images.path), _by_key(masks.path), masks.path.parent
    labelmaps = [export / name for name in _entries(export)[1] if name.lower() == "labelmap.txt"][:1]
    names = {key: unicodedata.normalize("NFC", path.stem) for key, path in (mask_of | image_of).items()}
    findings = [replace(finding, case=names.get(_key(finding.case), finding.case)) for finding in of_table]
    stopped = {finding.case for finding in findings if finding.severity == "stop"}
    cases = []
    for key, name in sorted(names.items(), key=lambda item: ([*map(int, re.findall(r"\d+", item[1]))], item[1])):
        fault = _fault(images.group, name, key in image_of, key in mask_of, not rows or key in rows)
        findings += [fault] if fault else []
        if name not in stopped and (fault is None or fault.severity != "stop"):
            _, spacing, hc = rows.get(key, (name, None, None))
            known, mask = {} if hc is None else {"hc": hc}, (mask_of[key], *labelmaps)
            subject = _subject(images.group, name)
            cases.append(Case(name, subject, image_of[key], mask, spacing, images.group, reference_mm=known))
    idle = [row[0] for key, row in rows.items() if key not in names] if images.group != "diverse" else []
    told = ("in the table", "an image of that name")
    return cases, [*findings, *(Finding("warn", checks.ROW_WITHOUT_FILE, name, *told) for name in idle)]


def _fault(group: str, name: str, has_image: bool, has_mask: bool, has_row: bool) -> Finding | None:
    """The gravest of what is missing; None for a whole case."""
    if not has_image:
        return Finding("stop", checks.MISSING_IMAGE, name, "a mask alone", "an image of that name")
    if not has_mask:
        return Finding("stop", checks.MISSING_MASK, name, "no file", "a file of that name in SegmentationClass/")
    if not _subject(group, name):
        form = "010_2HC" if group == "diverse" else "Patient00001_Plane3_1_of_1"
        return Finding("stop", UNREADABLE_NAME, name, f"in {group}", f"such as {form}")
    return None if has_row else strict_table.no_row(name, "the table")


def _subject(group: str, name: str) -> str:
    """The patient or HC18's examination; "" for a name of another form."""
    match = (HC18_NAME if group == "diverse" else PLANE_NAME).fullmatch(name)
    return "" if match is None else f"hc18-{match[1]}" if group == "diverse" else match[1]


def _tables(folder: Path, places: Sequence[Place], group: str) -> list[Path]:
    """CSVs of pixel sizes; HC18's may lie anywhere, even beside the given folder if that is the group's."""
    if group != "diverse":
        return [path for path in _files(places, group, ".csv") if re.search("pixel.*size", _letters(path.name))]
    around = folder.resolve().parent
    beside = [around / name for name in _entries(around)[1]] if places[0].group == group else []
    paths = beside + [place.path / name for place in places for name in place.names]
    return [path for path in paths if re.fullmatch(r"trainingsetpixelsizeandhc\d*csv", _letters(path.name))]


def _read_sizes(folder: Path, places: Sequence[Place], images: Place) -> tuple[dict[str, Row], list[Finding]]:
    """Rows of the group's table by key, and what is wrong with it; a decimal comma is read as a point."""
    group, tables = images.group, _tables(folder, places, images.group)
    label, ranges_mm = ("filename", hc18.RANGES_MM) if group == "diverse" else ("Label", PLANE_RANGES_MM)
    if not tables:
        name = hc18.TABLE if group == "diverse" else "a CSV with Pixel-Size in its name"
        return {}, [Finding("warn", checks.MISSING_PIXEL_SIZE, group, "no table", f"{name}; no millimetres without")]
    if len({path.read_bytes() for path in tables}) > 1:
        raise ValueError(f"{' and '.join(map(str, tables))} differ; expected one table of pixel sizes")
    findings: list[Finding] = []
    down, across = 1.0, 1.0
    if group == "diverse" and RESIZED in _letters("".join(images.path.parts[-2:])):
        down, across = DOWN, ACROSS
        found = f"HC18 in 959x661: its pixel sizes times {DOWN:.4f} down, {ACROSS:.4f} across"
        findings.append(Finding("note", PIXELS_NOT_SQUARE, group, found, "native 800x540 is assumed for all"))
    read = strict_table.read(tables[0], (label, *ranges_mm), _letters, rest_in_last=True)
    rows: dict[str, Row] = {}
    commas = 0
    for key, row in strict_table.unique(((_key(_stem(row.cells[label])), row) for row in read), findings).items():
        name = _stem(row.cells[label])
        values = strict_table.numbers(row, ranges_mm, name, findings, comma=True)
        pixel, hc = (*values, None)[:2]
        rows[key] = (name, None if pixel is None else (pixel * down, pixel * across), hc)
        commas += None not in values and any("," in row.cells[column] for column in ranges_mm)
    if commas:
        findings.append(Finding("note", DECIMAL_COMMA, tables[0].name, f"in {commas} rows", "a point; read as one"))
    return rows, findings


def _stem(label: str) -> str:
    """An image's name of a label with or without folders and extension."""
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", label)[-1])
    return Path(name).stem if Path(name).suffix.lower() in image_files.IMAGE_SUFFIXES else name
