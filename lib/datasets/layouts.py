"""What readers of publishers' layouts do alike: list folders, say what is there, tell which groups are read."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lib.data.cases import Case
from lib.data.findings import GROUP_NOT_USED, MISSING_GROUP, Finding


def folders(folder: Path) -> list[Path]:
    """Folders directly in a folder, sorted; none if it is no folder."""
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def visible(folder: Path) -> list[Path]:
    """Files and folders directly in a folder, sorted; hidden ones, which systems leave behind, left out."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def described(folder: Path) -> list[str] | str:
    """What a message says that a folder holds: its first eight names."""
    return sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else "no such folder"


def read_groups(
    files: Mapping[str, Sequence[Path]],  # of each group of the data set that is there
    groups: Sequence[str],
    read: Callable[[str, Sequence[Path]], tuple[list[Case], list[Finding]]],  # of a group and its files
    absent: tuple[str, str],  # what is found and expected of an absent group; {} stands for its name
) -> tuple[list[Case], list[Finding]]:
    """Cases and findings of the chosen groups; a stop for each that is absent, a note for each other one."""
    cases: list[Case] = []
    lacking = [group for group in groups if group not in files]
    findings = [Finding("stop", MISSING_GROUP, name, *(text.format(name) for text in absent)) for name in lacking]
    for group, paths in files.items():
        if group in groups:
            more, faults = read(group, paths)
            cases += more
            findings += faults
        else:
            findings.append(Finding("note", GROUP_NOT_USED, group, f"{len(paths)} files", "named in groups"))
    return cases, findings
