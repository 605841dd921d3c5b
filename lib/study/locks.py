"""Locks on study and step folders: one process at a time; a waiting process logs who holds the lock."""

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

STEP = ".step.lock"  # in the folder of a step or of a manual run
UNSUPPORTED = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}


def acquire(path: Path, what: str, log: Callable[[str], None] = print, wait: bool = True) -> BaseFileLock:
    """Acquires a lock until it is released or this process ends; reentrant within a process.

    The holder is described in <path>.json, and logged before waiting. ValueError if another process holds the lock and
    `wait` is false, or if the file system does not support locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _require_locks(path)
    lock = FileLock(path, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        if not wait:
            raise ValueError(f"{what} is already being run by {holder(path)}; wait for it or stop it") from error
        log(f"{what}: waiting for {holder(path)}; a notebook holds its folder until its last cell or kernel shutdown")
        lock.acquire()
    since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    origin = "make study" if environment.in_workflow() or not wait else "manual run"  # a study never waits
    who = {"process": os.getpid(), "host": platform.node(), "since": since, "origin": origin}
    files.write_json(holder_file(path), who)
    return lock


@contextmanager
def locked(path: Path, what: str, log: Callable[[str], None] = print, wait: bool = True) -> Iterator[None]:
    """Holds a lock (see `acquire`) within a block."""
    lock = acquire(path, what, log, wait)
    try:
        yield
    finally:
        release(lock)


def release(lock: BaseFileLock) -> None:
    """Releases a lock, however often this process has acquired it."""
    holder_file(Path(lock.lock_file)).unlink(missing_ok=True)
    lock.release(force=True)


def holder(path: Path) -> str:
    """Holder of a lock in words: "process 4711 on laptop (make study, since 2026-11-27 10:00 UTC)"."""
    try:
        return "process {process} on {host} ({origin}, since {since})".format_map(files.read_json(holder_file(path)))
    except (OSError, ValueError, KeyError, TypeError):  # it has only just started, or the file was edited
        return "another process"


def holder_file(path: Path) -> Path:
    """Path of the JSON file that describes the holder of a lock."""
    return path.with_name(f"{path.name}.json")


def _require_locks(path: Path) -> None:
    """Rejects a file system without locks, where filelock would mistake a leftover file for a held lock."""
    if sys.platform == "win32":
        return
    import fcntl  # not on Windows

    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_UN)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            raise ValueError(
                f"{path.parent}: the file system does not support locks ({error.strerror}), so two runs could "
                "overwrite each other; set REPORTS_ROOT to a folder on a local disk, or move the project to one"
            ) from error
