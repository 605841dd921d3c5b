"""Shared by the readers of published layouts: listing folders and selecting groups."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lib.data.cases import Case
from lib.data.findings import GROUP_NOT_USED, MISSING_GROUP, SYSTEM_FILES, Check, Finding
from lib.imaging import image_files
from lib.study import system_files

EMPTY_FOLDER = "no files in its folder", "images and masks, or no such folder"
MAX_NAMED = 3  # system files in a finding

EMPTY_GROUP = Check("empty group", "add the files of the group, or remove the group from `groups`")
HIDDEN_IMAGES = Check("hidden images", "remove them, or rename them without the dot if they belong to the data set")


def folders(folder: Path) -> list[Path]:
    """Subfolders of a folder, sorted, without the system's; [] if it is not a folder."""
    return [path for path in system_files.visible(folder) if path.is_dir()] if folder.is_dir() else []


def subfolder(folder: Path, name: str) -> Path:
    """The subfolder with a name in any letter case, else the path that it would have; ValueError for two."""
    named = [path for path in folders(folder) if path.name.casefold() == name.casefold()]
    if len(named) > 1:
        raise ValueError(f"{folder}: found {' and '.join(path.name for path in named)}; expected one folder {name}")
    return named[0] if named else folder / name


def first_names(folder: Path) -> list[str] | str:
    """First eight names in a folder, or "no such folder", for error messages."""
    return [path.name for path in system_files.visible(folder)][:8] if folder.is_dir() else "no such folder"


def passed_over(folder: Path) -> list[Finding]:
    """One note on all system files in a folder, at every depth, and one warning on images hidden among images."""
    own, of_system = system_files.walk(folder)
    folders_of_images = {path.parent for path in own if path.suffix.lower() in image_files.IMAGE_SUFFIXES}
    hidden = [path for path in of_system if path.parent in folders_of_images and _is_hidden_image(path)]
    expected = "none; they are never read"
    findings = [Finding("note", SYSTEM_FILES, folder.name, _listed(folder, of_system), expected)] if of_system else []
    return findings + ([Finding("warn", HIDDEN_IMAGES, folder.name, _listed(folder, hidden), "none")] if hidden else [])


def _is_hidden_image(path: Path) -> bool:
    """Whether a hidden file is an image by suffix and first bytes, which `._` twins of a Mac are not."""
    if not path.name.startswith(".") or path.suffix.lower() not in image_files.IMAGE_SUFFIXES:
        return False
    if not path.is_file() or not os.access(path, os.R_OK):
        return False
    with path.open("rb") as file:
        return file.read(len(image_files.PNG_SIGNATURE)).startswith(tuple(prefix for prefix, _ in image_files.PLUGINS))


def _listed(folder: Path, paths: Sequence[Path]) -> str:
    """Number and first names of files that are passed over; "Icon\\r" has a line break."""
    names = [path.relative_to(folder).as_posix() for path in paths]
    first = [repr(name)[1:-1] for name in names[:MAX_NAMED]] + ["…"] * (len(names) > MAX_NAMED)
    return f"{len(names)} passed over: {', '.join(first)}"


def read_groups(
    files: Mapping[str, Sequence[Path]],  # by group, of the groups that are present
    groups: Sequence[str],
    read: Callable[[str, Sequence[Path]], tuple[list[Case], list[Finding]]],  # (group, its files) -> cases and findings
    absent: tuple[str, str],  # `found` and `expected` of an absent group; {} is replaced by its name
) -> tuple[list[Case], list[Finding]]:
    """Cases and findings of the selected groups; a stop for each absent one, a note for each unused one."""
    cases: list[Case] = []
    lacking = [group for group in groups if group not in files]
    findings = [Finding("stop", MISSING_GROUP, name, *(text.format(name) for text in absent)) for name in lacking]
    for group, paths in files.items():
        if group in groups:
            more, faults = read(group, paths) if paths else ([], [Finding("stop", EMPTY_GROUP, group, *EMPTY_FOLDER)])
            cases += more
            findings += faults
        else:
            findings.append(Finding("note", GROUP_NOT_USED, group, f"{len(paths)} files", "listed in groups"))
    return cases, findings
