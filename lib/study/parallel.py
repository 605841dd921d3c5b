"""Threaded map over rows."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lib.study import environment
from lib.study.progress import Live, follow

Row, Result = TypeVar("Row"), TypeVar("Result")


def in_parallel(
    function: Callable[[Row], Result], rows: Iterable[Row], live: Live | None = None, what: str = ""
) -> list[Result]:
    """Maps a function that releases the GIL over rows with `threads()` threads; order kept, first error raised."""
    rows = list(rows)
    with ThreadPoolExecutor(environment.threads()) as pool:
        return list(follow(pool.map(function, rows), len(rows), live, what))
