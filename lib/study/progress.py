"""Progress of a long cell as a line of text for a live display; nothing in headless runs."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Live = Callable[[str], None]  # shows a line instead of the one before (`Page.live`)
Item = TypeVar("Item")
INTERVAL = 0.5  # seconds between two updates


def follow(items: Iterable[Item], total: int, live: Live | None, what: str) -> Iterator[Item]:
    """Yields items; shows their number and the time left, from the mean time of an item, and clears it at the end."""
    started = shown = time.perf_counter()
    try:
        for done, item in enumerate(items, start=1):
            now = time.perf_counter()
            if live is not None and now - shown >= INTERVAL:
                live(f"{what} {done}/{total} · {duration((now - started) / done * (total - done))} left")
                shown = now
            yield item
    finally:  # also if the caller breaks off
        if live is not None:
            live("")


def duration(seconds: float) -> str:
    """Seconds below one and a half minutes, else minutes."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def has_user() -> bool:
    """Whether a user sees this kernel's outputs as they come, as in JupyterLab and not under papermill or nbval."""
    from IPython import get_ipython  # takes long to import, and only notebooks have a user

    kernel = getattr(get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))  # what a front end says that can ask its user
