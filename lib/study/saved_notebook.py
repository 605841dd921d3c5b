"""Hook of JupyterLab: shows git that a notebook was saved with other outputs only."""

import subprocess
from contextlib import suppress
from pathlib import Path


def refresh(os_path: str, **_: object) -> None:
    """Updates git's record of the size of a saved file whose content, without outputs, is the one that git has.

    Git calls a file modified as soon as its size differs, before it looks at what the filter of `make` leaves of it.
    Nothing is staged: a file with other changes, or one that git does not know, stays as it is. Without git, or while
    another git command works, `git status` lists the notebook until it is saved again.
    """
    folder, name = Path(os_path).parent, Path(os_path).name
    with suppress(OSError):  # git is not installed
        same = subprocess.run(["git", "-C", folder, "diff", "--quiet", "--", name], capture_output=True, check=False)
        if same.returncode == 0:
            subprocess.run(["git", "-C", folder, "update-index", "--", name], capture_output=True, check=False)
