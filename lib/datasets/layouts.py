"""Shared by the readers of published layouts: listing folders and selecting groups."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lib.data.cases import Case
from lib.data.findings import GROUP_NOT_USED, MISSING_GROUP, SYSTEM_FILES, Finding
from lib.study import system_files

EMPTY_FOLDER = "its folder is empty", "images and masks, or a study without this group"
MAX_NAMED = 3  # system files in a finding


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
    """One note on all system files in a folder, at every depth; [] without any."""
    names = [path.relative_to(folder).as_posix() for path in system_files.walk(folder)[1]]
    first = [repr(name)[1:-1] for name in names[:MAX_NAMED]] + ["…"] * (len(names) > MAX_NAMED)  # "Icon\r" has a break
    found = f"{len(names)} passed over: {', '.join(first)}"
    return [Finding("note", SYSTEM_FILES, folder.name, found, "none; they are never read")] if names else []


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
            more, faults = read(group, paths) if paths else ([], [Finding("stop", MISSING_GROUP, group, *EMPTY_FOLDER)])
            cases += more
            findings += faults
        else:
            findings.append(Finding("note", GROUP_NOT_USED, group, f"{len(paths)} files", "listed in groups"))
    return cases, findings
