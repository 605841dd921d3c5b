"""Progress of a long cell as a line of text for a live display; nothing in headless runs."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

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


class Prefixed:
    """A stream of text that writes whole lines, each after a prefix, so that those of several processes stay apart."""

    def __init__(self, stream: TextIO, prefix: str) -> None:
        self.stream, self.prefix, self.rest = stream, prefix, ""

    def write(self, text: str) -> int:
        """Adds text; the last line waits for its end, if there is a prefix."""
        lines = (self.rest + text).splitlines(keepends=True) if self.prefix else []
        self.rest = lines.pop() if lines and not lines[-1].endswith("\n") else ""
        self.stream.write("".join(self.prefix + line for line in lines) if self.prefix else text)
        return len(text)

    def flush(self) -> None:
        """Shows what has been written."""
        self.stream.flush()

    def end(self) -> None:
        """Writes a last line that has no end."""
        if self.rest:
            self.write("\n")
            self.flush()

    def line(self, text: str) -> None:
        """Writes a line and shows it at once."""
        self.end()
        self.write(text + "\n")
        self.flush()


def has_user() -> bool:
    """Whether a user sees this kernel's outputs as they come, as in JupyterLab and not under papermill or nbval."""
    from IPython import get_ipython  # takes long to import, and only notebooks have a user

    kernel = getattr(get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))  # what a front end says that can ask its user
