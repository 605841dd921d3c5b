"""A function over rows, in several threads."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lib.study import environment

Row, Result = TypeVar("Row"), TypeVar("Result")


def in_parallel(function: Callable[[Row], Result], rows: Iterable[Row]) -> list[Result]:
    """Results of a function over rows, in their order, from `threads()` threads; the first row's error is raised here.

    It is for functions that leave Python's lock: reading, decoding, hashing, numpy.
    """
    with ThreadPoolExecutor(environment.threads()) as pool:
        return list(pool.map(function, rows))
