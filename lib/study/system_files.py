"""Files and folders that operating systems, storage devices and programs leave among data; nothing reads them."""

import os
from collections.abc import Iterable
from pathlib import Path

# In lower case. Hidden ones (.DS_Store, ._twins of macOS, .Trash-1000, .ipynb_checkpoints) are known by their dot.
NAMES = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "photothumb.db", "desktop.ini", "$recycle.bin", "recycler"),
        *("system volume information", "found.000", "indexervolumeguid", "wpsettings.dat"),
        *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS
        *("@eadir", "#recycle", "#snapshot", "@tmp", "@recycle", "@recently-snapshot", "@__thumb"),  # Synology, QNAP
        *("lost+found", "~snapshot", "__pycache__"),
    )
)
PREFIXES = (".", "~$")  # hidden; the lock of a document open in an office program
# Streams that a copy turned into files: of NTFS, of a Mac's volumes on a server, of Synology.
SUFFIXES = (":zone.identifier", ":com.apple.quarantine", ":afp_afpinfo", "@synoeastream", "@synoresource")


def is_system(name: str) -> bool:
    """Whether a file or folder of this name belongs to a system or program, in any letter case."""
    name = name.casefold()
    return name in NAMES or name.startswith(PREFIXES) or name.endswith(SUFFIXES)


def visible(folder: Path) -> list[Path]:
    """Files and subfolders of a folder, sorted, without those of the system; OSError if it cannot be listed."""
    return _sorted(path for path in folder.iterdir() if not is_system(path.name))


def walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files at every depth of a folder, and the system's files and folders, of which the content is not listed.

    Both are sorted; [] for a missing folder. Links to folders are followed, as the readers of data do, but not to a
    folder that contains the link, and to each folder once behind one link. OSError if a folder cannot be listed.
    """
    own: list[Path] = []
    of_system: list[Path] = []
    folders: list[tuple[Path, Path | None]] = [(folder, None)] if folder.is_dir() else []  # and the first link to it
    visited: set[tuple[Path | None, str]] = set()
    for at, link in folders:  # grows, breadth first
        place = os.path.realpath(at)
        if (link, place) in visited:
            continue
        visited.add((link, place))
        for path in _sorted(at.iterdir()):
            if is_system(path.name):
                of_system.append(path)
            elif not path.is_dir():
                own += [path] * path.is_file()
            elif not path.is_symlink():
                folders.append((path, link))
            elif not Path(place).is_relative_to(os.path.realpath(path)):
                folders.append((path, link or path))
    return sorted(own), sorted(of_system)


def _sorted(paths: Iterable[Path]) -> list[Path]:
    """Paths of one folder by name, which is several times as fast as comparing paths."""
    return sorted(paths, key=lambda path: path.name)
