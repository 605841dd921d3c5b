"""Hook of JupyterLab: shows git that a notebook was saved with other outputs only."""

import subprocess
from contextlib import suppress
from pathlib import Path

SECONDS = 20  # limit for a git command: JupyterLab waits for it


def refresh(os_path: str, **_: object) -> None:
    """Updates git's record of the size of a saved file whose content, without outputs, is the one that git has.

    Git calls a file modified as soon as its size differs, before it looks at what the filter of `make` leaves of it.
    Nothing is staged: a file with other changes, or one that git does not know, stays as it is. Without git, or while
    another git command works, `git status` lists the notebook until it is saved again.
    """
    git = ["git", "--literal-pathspecs", "-C", Path(os_path).parent]
    with suppress(OSError, subprocess.TimeoutExpired):  # git is not installed, or waits
        for command in (["diff", "--quiet"], ["update-index"]):  # the second if the first finds no difference
            done = subprocess.run([*git, *command, "--", Path(os_path).name], capture_output=True, timeout=SECONDS)
            if done.returncode != 0:
                return
