"""When an unfinished run writes its state: by time, and when the process is asked to end."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lib.training import ranks
from lib.training.state import TrainingState

SECONDS = 60.0  # between two writes: at most this much work is lost when a process is killed
SIGNALS = (signal.SIGTERM, signal.SIGINT)  # end of a cluster job; Ctrl-C and the stop button of JupyterLab


@contextmanager
def periodic(path: Path, depends_on: dict[str, Any]) -> Iterator[Callable[[TrainingState], None]]:
    """Yields a function to be called after every step, which writes the state to `path` when that is due.

    It is due SECONDS after the last time, and on SIGTERM or SIGINT, which take effect after the state is written: at
    the next call, so not during a validation. The same signal again takes effect at once. Of several processes that
    share a training, all end at the same step if one is asked to.
    """
    due = time.monotonic() + SECONDS

    def save_if_due(state: TrainingState) -> None:
        nonlocal due
        is_ending = ranks.total_number(len(received)) > 0
        if is_ending or time.monotonic() >= due:
            if _is_finite(state):
                state.save(path, depends_on)
            due = time.monotonic() + SECONDS
        if is_ending:
            ranks.wait()  # if one left at once, the first could lose its connection before it has saved
            if not received:  # another process was asked to end
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(received.pop() if received else signal.SIGTERM)

    with deferred() as received:
        yield save_if_due
    if received:  # during the last save
        signal.raise_signal(received.pop())


def _is_finite(state: TrainingState) -> bool:
    """Whether the last loss is finite: a diverged state would fail again whenever it is resumed."""
    return not state.epoch.losses or bool(torch.isfinite(state.epoch.losses[-1]))


@contextmanager
def deferred(call: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Collects the first signal of SIGNALS within the block; in other threads than the main one this is impossible.

    `call` is called when one arrives.
    """
    received: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in SIGNALS if is_main}
    # None: not set from Python; ignored signals, as in background jobs of a shell, stay ignored
    before = {number: handler for number, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}

    def receive(number: int, _: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])
        call()

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
