"""Fetal brain structures of Alzubaidi et al. 2023: three planes of FETAL_PLANES_DB, and HC18 as `diverse`.

Spelling and nesting vary between copies, so names are compared by letters and digits only, and a folder belongs to the
group named by itself or its nearest ancestor. Source: doi:10.1016/j.dib.2023.109708, zenodo 8265464.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from lib.data import findings as checks
from lib.data.cases import Case
from lib.data.findings import Check, Finding
from lib.datasets import hc18, layouts, strict_table, table_files
from lib.datasets.strict_table import letters
from lib.datasets.table_files import is_table
from lib.imaging import image_files
from lib.study import system_files

GROUPS = ("trans-thalamic", "trans-ventricular", "trans-cerebellum", "diverse")
FOLDERS = "Trans-thalamic, Trans-ventricular, Trans-cerebellum, Diverse Fetal Head Images"
GROUP_WORDS = {"transthalamic": GROUPS[0], "transventricular": GROUPS[1], "transcerebell": GROUPS[2]}
# Exports of `diverse` are called Test-Dataset-... but contain all cases; its images are "Orginal_train_images_...".
GROUP_WORDS |= dict.fromkeys(("diverse", "testdataset", "orginaltrain", "originaltrain"), GROUPS[3])
EXPORTS = ("segmentation", "pascal", "")  # in order of preference; "" is one unpacked without its folder
OTHER_EXPORT = re.compile("citys[cp]a|gtfine|coco|yolo|labelme|kitti|imagenet|tfrecord|datumaro|cvat|^annotations$")
OTHER_SIZE = re.compile("ori?ginal(size|image)")  # "Trans-thalamic-orginal-size": sizes differ from the masks
RESIZED, ROW_SCALE, COL_SCALE = "to959661", 540 / 661, 800 / 959  # from HC18's 540 x 800 pixels to 661 x 959
CLASSES = {"background": 0, "brain": 1, "csp": 2, "lv": 3}  # names in labelmap.txt
PLANES_PALETTE = {(255, 0, 0): 1, (0, 255, 0): 2, (0, 0, 255): 3}
DIVERSE_PALETTE = {(255, 0, 0): 1, (255, 255, 0): 2, (0, 0, 255): 3}
PASCAL_PALETTE = {(128, 0, 0): 1, (0, 128, 0): 2, (128, 128, 0): 3}
LABEL = re.compile(r"\s*([^:]*?)\s*:\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*(:.*)?")
PLANE_NAME = re.compile(r"Patient(\d{5})_Plane3_\d+_of_\d+", re.IGNORECASE)
HC18_NAME = re.compile(r"(\d{3})_\d?HC", re.IGNORECASE)
PLANE_RANGES_MM = {"Pixel in mm": (0.02, 1.0)}  # by column of a plane's table; `diverse` uses that of HC18

Colour = tuple[int, int, int]
Row = tuple[str, tuple[float, float] | None, float | None]  # image, (row, col) pixel size in mm, HC in mm

NAME_IN_TWO_GROUPS = Check("name in two groups", "remove or rename one of the two")
EXPORT_NOT_READ = Check("export not read")
MISSING_MASKS = Check("missing masks", "unpack the group's Segmentation or PASCAL export, or remove it from `groups`")
UNREADABLE_NAME = Check("unreadable name", "rename the file as published")
PIXELS_NOT_SQUARE = Check("pixels are not square")


@dataclass(frozen=True)
class Folder:
    """A folder of the data set."""

    path: Path
    group: str  # "" for none
    kind: str  # of its files, see `_kind`
    names: tuple[str, ...]  # of its files

    @property
    def keys(self) -> set[str]:
        """Keys of its image files."""
        return {_key(Path(name).stem) for name in self.names if Path(name).suffix.lower() in image_files.IMAGE_SUFFIXES}


def find_cases(folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:
    """Cases of the selected GROUPS in natural order; the subject is the patient (of all planes) or HC18's examination.

    The folder contains the groups' folders at any depth, or is one of them; links are followed. ValueError if none of
    the groups is present, a group has no images, or a table of pixel sizes cannot be read.
    """
    if not groups or not set(groups) <= set(GROUPS):
        raise ValueError(f"groups = {list(groups)}   not allowed; some of {', '.join(GROUPS)}")
    tree = list(_walk(folder)) if folder.is_dir() else []
    present = {part.group for part in tree} | {group for group in GROUPS if _files(tree, group, _is_zip)}
    absent = [group for group in GROUPS if group in groups and group not in present]
    if len(absent) == len(groups):
        found = f"found {layouts.first_names(folder)}; expected folders {FOLDERS}"
        raise ValueError(f"{folder}: no folder of {', '.join(absent)}; {found}")
    cases: dict[str, Case] = {}
    expected = "its folder, or a study without this group"
    findings = [Finding("stop", checks.MISSING_GROUP, group, "no such folder", expected) for group in absent]
    for group in (each for each in GROUPS if each in groups and each not in absent):
        group_cases, group_findings = _read_group(folder, tree, group)
        findings += group_findings
        for case in group_cases:
            first = cases.setdefault(_key(case.name), case)
            if first is not case:
                both = f"{first.stratum} and {group}"
                findings.append(Finding("stop", NAME_IN_TWO_GROUPS, first.name, both, "each name in one group"))
    return list(cases.values()), findings


def read_mask(paths: Sequence[Path], read: image_files.Reader = image_files.open_mask) -> np.ndarray:
    """Class indices (H, W) uint8 of a colour mask: 0 background, 1 parenchyma, 2 CSP, 3 lateral ventricles.

    The paths are the mask (in a JPEG each pixel takes the nearest colour) and, if present, its export's labelmap.txt,
    which maps colours to classes. ValueError, with the file, if one is unreadable or invalid.
    """
    mask, *labelmaps = paths
    palette, opened = _palette(mask, labelmaps), read(mask)
    try:
        return image_files.decode_palette(opened.pixels, palette, lossy=opened.is_lossy)
    except ValueError as error:
        raise ValueError(f"{mask}: {error}") from error


def _palette(mask: Path, labelmaps: Sequence[Path]) -> dict[Colour, int]:
    """Colours from the labelmap, else by export (.../<export>/SegmentationClass/<mask>) and group (from the name)."""
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
    """Colours and classes from CVAT lines such as `Brain:255,0,0::`; errors start with the line number."""
    palette: dict[Colour, int] = {(0, 0, 0): 0}
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LABEL.fullmatch(line)
        if match is None or match[1].casefold() not in CLASSES or max(map(int, match.group(2, 3, 4))) > 255:
            allowed = f"a label ({', '.join(CLASSES)}) and three numbers from 0 to 255"
            raise ValueError(f'line {number}: "{line}"; expected {allowed}, such as Brain:255,0,0::')
        colour, index = (int(match[2]), int(match[3]), int(match[4])), CLASSES[match[1].casefold()]
        if palette.setdefault(colour, index) != index:
            raise ValueError(f'line {number}: "{line}" has the colour of another label; expected one colour per label')
    absent = [label for label, index in CLASSES.items() if index not in palette.values()]
    if absent:
        raise ValueError(f"lines 1 to {len(lines)}: no label {', '.join(absent)}; expected {', '.join(CLASSES)}")
    return tuple(palette.items())


def _key(name: str) -> str:
    """Key that pairs image, mask and row: copies differ in letter case (Windows) and Unicode form (macOS)."""
    return unicodedata.normalize("NFC", name).casefold()


def _is_zip(name: str) -> bool:
    return name.lower().endswith(".zip")


def _group_of(names: Sequence[str]) -> str:
    """Group named by the last name that contains one, "" for none."""
    return next((group for n in reversed(names) for word, group in GROUP_WORDS.items() if word in letters(n)), "")


def _export(name: str) -> str:
    return next(export for export in EXPORTS if export in letters(name))


def _walk(top: Path) -> Iterator[Folder]:
    """Every folder, breadth first, links last in each level; visited once per group, so cyclic links end."""
    above = (top.resolve().name, top.name)  # the given folder may be a link to one group's folder
    visited: set[tuple[str, str]] = set()
    level = [top]
    while level:
        folders, level = sorted(level, key=lambda path: (path.is_symlink(), path)), []
        for folder in folders:
            parts = folder.relative_to(top).parts
            visit = (os.path.realpath(folder), _group_of((*above, *parts)))
            if visit not in visited:
                visited.add(visit)
                below, names = _entries(folder)
                level += below
                yield Folder(folder, visit[1], _kind(parts, visit[1]), names)


def _entries(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Subfolders and file names of a folder, without the system's."""
    try:
        paths = [(path, path.is_dir()) for path in system_files.visible(folder)]
    except PermissionError:
        raise
    except OSError as error:
        raise ValueError(f"{folder}: cannot be listed: {error}") from error
    return [path for path, is_folder in paths if is_folder], tuple(
        path.name for path, is_folder in paths if not is_folder
    )


def _kind(parts: Sequence[str], group: str) -> str:
    """Kind of files in a folder, from its name and its ancestors' up to the one that names its group."""
    start = next((index for index, part in enumerate(parts) if _group_of([part]) == group), 0)
    names = ["", *map(letters, parts[start:])]
    if names[-1] == "segmentationclass" and (_export(names[-2]) or not OTHER_EXPORT.search(names[-2])):
        return "masks"
    if any(OTHER_SIZE.search(name) for name in names):
        return "other size"
    if any(_export(name) for name in names):
        return "part of an export"
    return "other export" if any(OTHER_EXPORT.search(name) for name in names) else "images"


def _files(tree: Iterable[Folder], group: str, is_wanted: Callable[[str], bool]) -> list[Path]:
    """Files of a group, which is named by the file or its folder."""
    named = [(part, name) for part in tree for name in part.names if is_wanted(name)]
    return [part.path / name for part, name in named if (_group_of([name]) or part.group) == group]


def _read_group(folder: Path, tree: Sequence[Folder], group: str) -> tuple[list[Case], list[Finding]]:
    of_group = [part for part in tree if part.group == group]
    zips = [path.name for path in _files(tree, group, _is_zip)][:8]
    packed = f"zip files that are not unpacked: {zips}" if zips else ""
    masks, images = ([part for part in of_group if part.kind == kind and part.keys] for kind in ("masks", "images"))
    if not images:
        found = packed or [part.path.name for part in of_group][:8]
        raise ValueError(f"{folder}: {group} has no images; found {found}; expected images of 959x661, and masks")
    export = min(masks, key=lambda part: EXPORTS.index(_export(part.path.parent.name)), default=None)
    best = max(images, key=lambda part: _match_count(part, export.keys if export else part.keys))
    others = [p.path for p in of_group if p.keys and p.kind in ("images", "other size") and p is not best]
    names, read = [path.relative_to(folder).as_posix() for path in others], f"used instead: {best.path.name}"
    findings = [Finding("note", checks.FOLDER_IGNORED, group, name, read) for name in names]
    if export:
        cases, faults = _pair(best, export, *_read_sizes(folder, tree, best))
        return cases, findings + faults
    expected = "SegmentationClass/ of its Segmentation or PASCAL export"
    exports = sorted({part.path.name for part in of_group if OTHER_EXPORT.search(letters(part.path.name))})
    findings += [Finding("note", EXPORT_NOT_READ, group, ", ".join(exports), expected)] if exports else []
    return [], [*findings, Finding("stop", MISSING_MASKS, group, packed or "no such folder", expected)]


def _match_count(images: Folder, masks: set[str]) -> tuple[int, bool]:
    """Images with a mask, and whether the folder's name is as published, which counts double (HC18 may be nearby)."""
    name = letters(images.path.name)
    is_known = name == letters(images.group) or RESIZED in name
    return len(images.keys & masks) * (1 + is_known), is_known


def _by_key(folder: Path) -> dict[str, Path]:
    """Image files of a folder by key; ValueError if two names differ only in letter case."""
    files: dict[str, Path] = {}
    for path in image_files.by_stem(folder).values():
        first = files.setdefault(_key(path.stem), path)
        if first is not path:
            raise ValueError(f"{folder}: {first.name} and {path.name}; expected one file per name")
    return files


def _pair(
    images: Folder, masks: Folder, rows: dict[str, Row], of_table: list[Finding]
) -> tuple[list[Case], list[Finding]]:
    """Complete cases in natural order, and the findings of the others and of the table."""
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
    unused = [row[0] for key, row in rows.items() if key not in names] if images.group != "diverse" else []
    words = ("in the table", "an image with this name")
    return cases, [*findings, *(Finding("warn", checks.ROW_WITHOUT_FILE, name, *words) for name in unused)]


def _fault(group: str, name: str, has_image: bool, has_mask: bool, has_row: bool) -> Finding | None:
    """The most severe fault of a case, or None."""
    if not has_image:
        return Finding("stop", checks.MISSING_IMAGE, name, "only a mask", "an image with this name")
    if not has_mask:
        return Finding("stop", checks.MISSING_MASK, name, "no file", "a file with this name in SegmentationClass/")
    if not _subject(group, name):
        form = "010_2HC" if group == "diverse" else "Patient00001_Plane3_1_of_1"
        return Finding("stop", UNREADABLE_NAME, name, f"in {group}", f"a name such as {form}")
    return None if has_row else strict_table.missing_row(name, "the table")


def _subject(group: str, name: str) -> str:
    """The patient or HC18's examination; "" if the name has another form."""
    match = (HC18_NAME if group == "diverse" else PLANE_NAME).fullmatch(name)
    return "" if match is None else f"hc18-{match[1]}" if group == "diverse" else match[1]


def _tables(folder: Path, tree: Sequence[Folder], group: str) -> list[Path]:
    """Tables of pixel sizes; HC18's can be anywhere, even next to the given folder if that is the group's."""
    if group != "diverse":
        folders = [part.path for part in tree if part.group == group and is_table(part.path.name)]  # refused when read
        paths = [*_files(tree, group, is_table), *folders]
        return [path for path in paths if re.search("pixel.*size", letters(path.name))]
    parent = folder.resolve().parent
    siblings = [parent / name for name in _entries(parent)[1]] if tree[0].group == group else []
    paths = siblings + [part.path / name for part in tree for name in part.names]
    named = [path for path in paths if is_table(path.name)]
    return [path for path in named if re.fullmatch(r"trainingsetpixelsizeandhc\d*", letters(path.stem))]


def _read_sizes(folder: Path, tree: Sequence[Folder], images: Folder) -> tuple[dict[str, Row], list[Finding]]:
    """Rows of the group's table by key, and its findings."""
    group, findings = images.group, list[Finding]()
    table = table_files.choose(_tables(folder, tree, group), "", findings)
    label, ranges_mm = ("filename", hc18.RANGES_MM) if group == "diverse" else ("Label", PLANE_RANGES_MM)
    if table is None:
        expected = f"{hc18.TABLE if group == 'diverse' else 'a CSV with Pixel-Size in its name'}; needed for mm"
        return {}, [Finding("warn", checks.MISSING_PIXEL_SIZE, group, "no table", expected)]
    row_scale, col_scale = 1.0, 1.0
    if group == "diverse" and RESIZED in letters("".join(images.path.parts[-2:])):
        row_scale, col_scale = ROW_SCALE, COL_SCALE
        found = f"HC18 resized to 959x661: pixel sizes scaled by {ROW_SCALE:.4f} (rows), {COL_SCALE:.4f} (columns)"
        findings.append(Finding("note", PIXELS_NOT_SQUARE, group, found, "a native size of 800x540 for all images"))
    read = strict_table.read(table, (label, *ranges_mm), findings)
    named = strict_table.named_rows(read, lambda row: _key(_stem(row.cells[label])), findings)
    rows: dict[str, Row] = {}
    unique = strict_table.unique_rows(named, findings)
    for key, values in strict_table.numbers(unique, ranges_mm, findings).items():
        pixel, hc = (*values, None)[:2]
        spacing = None if pixel is None else (pixel * row_scale, pixel * col_scale)
        rows[key] = (_stem(unique[key].cells[label]), spacing, hc)
    return rows, findings


def _stem(label: str) -> str:
    """Name of an image from a label with or without folders and extension."""
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", label)[-1])
    return Path(name).stem if Path(name).suffix.lower() in image_files.IMAGE_SUFFIXES else name
