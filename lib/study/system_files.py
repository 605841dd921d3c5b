"""Files and folders that operating systems, storage devices and programs leave among data; nothing reads them."""

import os
from pathlib import Path

# In lower case. Hidden ones (.DS_Store, ._twins of macOS, .Trash-1000, .ipynb_checkpoints) are known by their dot.
NAMES = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "recycler"),  # Windows
        *("system volume information", "found.000", "indexervolumeguid", "wpsettings.dat"),
        *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS
        *("@eadir", "#recycle", "#snapshot", "@tmp", "@recycle", "@recently-snapshot"),  # Synology, QNAP
        *("lost+found", "~snapshot", "__pycache__"),
    )
)
PREFIXES = (".", "~$")  # hidden; the lock of a document open in an office program
SUFFIXES = (":zone.identifier", ":com.apple.quarantine")  # where a copy made files of NTFS streams


def is_system(name: str) -> bool:
    """Whether a file or folder of this name belongs to a system or program, in any letter case."""
    name = name.casefold()
    return name in NAMES or name.startswith(PREFIXES) or name.endswith(SUFFIXES)


def visible(folder: Path) -> list[Path]:
    """Files and subfolders of a folder, sorted, without those of the system; OSError if it cannot be listed."""
    return sorted(path for path in folder.iterdir() if not is_system(path.name))


def walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files at every depth of a folder, and the system's files and folders, of which the content is not listed.

    Both are sorted; links to folders are not followed; [] for a missing folder. OSError if one cannot be listed.
    """
    own: list[Path] = []
    of_system: list[Path] = []
    for at, folders, names in os.walk(folder, onerror=_refuse) if folder.is_dir() else ():
        of_system += [Path(at, name) for name in (*folders, *names) if is_system(name)]
        folders[:] = [name for name in folders if not is_system(name)]
        own += [path for name in names if not is_system(name) and (path := Path(at, name)).is_file()]
    return sorted(own), sorted(of_system)


def _refuse(error: OSError) -> None:
    raise error
