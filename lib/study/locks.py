"""One process at a time; who must wait is told at once for whom."""

import datetime
import errno
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from lib.study import environment, files

STEP = ".step.lock"  # in the folder of a step, or of a run by hand
NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}


def acquire(path: Path, what: str, log: Callable[[str], None] = print, wait: bool = True) -> BaseFileLock:
    """Takes a lock until it is released or this process ends; a process that has it already keeps it.

    Who holds it stands beside it, in <path>.json; whoever waits is told first, by `log`, for whom. ValueError where
    another process has it and this one is not to wait, or the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _require_locks(path)
    lock = FileLock(path, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        if not wait:
            raise ValueError(f"{what} is being run by {holder(path)}; wait for it, or end it") from error
        log(f"{what} waits for {holder(path)}; a notebook ends at its last cell, or when its kernel is shut down")
        lock.acquire()
    since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    origin = "make study" if environment.by_graph() or not wait else "a run by hand"  # that of a study never waits
    who = {"process": os.getpid(), "host": platform.node(), "since": since, "origin": origin}
    files.write_json(note_of(path), who)
    return lock


@contextmanager
def locked(path: Path, what: str, log: Callable[[str], None] = print, wait: bool = True) -> Iterator[None]:
    """Holds a lock (`acquire`) for a block."""
    lock = acquire(path, what, log, wait)
    try:
        yield
    finally:
        release(lock)


def release(lock: BaseFileLock) -> None:
    """Gives a lock back, however often this process has taken it."""
    note_of(Path(lock.lock_file)).unlink(missing_ok=True)
    lock.release(force=True)


def holder(path: Path) -> str:
    """Who has a lock, in words: "process 4711 on laptop (make study, since 2026-11-27 10:00 UTC)"."""
    try:
        return "process {process} on {host} ({origin}, since {since})".format_map(files.read_json(note_of(path)))
    except (OSError, ValueError, KeyError, TypeError):  # it has only just begun, or the note was edited
        return "another process"


def note_of(path: Path) -> Path:
    """Where it stands who has a lock."""
    return path.with_name(f"{path.name}.json")


def _require_locks(path: Path) -> None:
    """Refuses a file system without locks, on which filelock would take a file that was left over for a lock."""
    if sys.platform == "win32":
        return
    import fcntl  # not on Windows

    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_UN)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            raise ValueError(
                f"{path.parent}: its file system has no locks ({error.strerror}), so two runs could spoil each other; "
                "let REPORTS_ROOT name a folder on a local disk, or keep the project on one"
            ) from error
