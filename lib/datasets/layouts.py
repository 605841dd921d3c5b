"""Shared by the readers of published layouts: listing folders and selecting groups."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lib.data.cases import Case
from lib.data.findings import GROUP_NOT_USED, MISSING_GROUP, Finding


def folders(folder: Path) -> list[Path]:
    """Subfolders of a folder, sorted; [] if it is not a folder."""
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def visible(folder: Path) -> list[Path]:
    """Files and subfolders of a folder, sorted, without hidden ones."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def first_names(folder: Path) -> list[str] | str:
    """First eight names in a folder, or "no such folder", for error messages."""
    return sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else "no such folder"


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
            more, faults = read(group, paths)
            cases += more
            findings += faults
        else:
            findings.append(Finding("note", GROUP_NOT_USED, group, f"{len(paths)} files", "listed in groups"))
    return cases, findings
