"""Threaded map over rows."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lib.study import environment

Row, Result = TypeVar("Row"), TypeVar("Result")


def in_parallel(function: Callable[[Row], Result], rows: Iterable[Row]) -> list[Result]:
    """Maps a function that releases the GIL over rows with `threads()` threads; order kept, first error raised."""
    with ThreadPoolExecutor(environment.threads()) as pool:
        return list(pool.map(function, rows))
