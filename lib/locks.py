"""One process at a time in a folder; who must wait is told at once for whom."""

import datetime
import os
import platform
from collections.abc import Callable
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from lib import environment, files

LOCK, HOLDER = ".step.lock", ".step.holder.json"


def hold(folder: Path, what: str, say: Callable[[str], None] = print) -> BaseFileLock:
    """Takes a folder for this process, until it is released or the process ends.

    A process that has the folder already keeps it.

    Args:
        folder: made if it is not there.
        what: wants the folder, in words.
        say: is told whom this process waits for, before it waits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{what} waits for {holder(folder)}, which is at work in {folder}")
        lock.acquire()
    since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    origin = "make study" if environment.by_graph() else "a run by hand"
    files.write_json(
        folder / HOLDER, {"process": os.getpid(), "host": platform.node(), "since": since, "origin": origin}
    )
    return lock


def holder(folder: Path) -> str:
    """Who has a folder, in words: "process 4711 on laptop (make study, since 2026-11-27 10:00 UTC)"."""
    try:
        found = files.read_json(folder / HOLDER)
        return "process {process} on {host} ({origin}, since {since})".format_map(found)
    except (OSError, ValueError, KeyError, TypeError):  # it has only just begun, or the note was edited
        return "another process"
