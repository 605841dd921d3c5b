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

SECONDS = 60.0  # between two writes: a killed process loses at most this much work, and one validation
SIGNALS = (signal.SIGTERM, signal.SIGINT)  # end of a cluster job; Ctrl-C and the stop button of JupyterLab


@contextmanager
def periodic(path: Path, depends_on: dict[str, Any]) -> Iterator[Callable[[TrainingState], None]]:
    """Yields a function to be called after every step, which writes the state to `path` when that is due.

    It is due SECONDS after the last time, and on SIGTERM or SIGINT, which take effect after the state is written: at
    the next call, so not during a validation. A second SIGINT takes effect at once. Of several processes that share a
    training, all end at the same step if one is asked to.
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
            number = received.pop() if received else signal.SIGTERM  # or another process was asked to end
            if number == signal.SIGTERM:  # which is ignored or, if another process received it, deferred
                signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    with deferred() as received:
        yield save_if_due
    if received:  # during the last save
        signal.raise_signal(received.pop())


def _is_finite(state: TrainingState) -> bool:
    """Whether all losses of the epoch are finite: a diverged state would fail again whenever it is resumed."""
    return not state.epoch.losses or bool(torch.isfinite(torch.stack(state.epoch.losses)).all())


@contextmanager
def deferred(call: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Collects the first signal of SIGNALS within the block; in other threads than the main one this is impossible.

    `call` is called when one arrives. A second SIGINT takes effect at once. A second SIGTERM is ignored: at the end of
    a job Slurm may send it to all processes, and torch.distributed.run then sends it to its own once more.
    """
    received: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in SIGNALS if is_main}
    # None: not set from Python; ignored signals, as in background jobs of a shell, stay ignored
    before = {number: handler for number, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}

    def receive(number: int, _: Any) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_IGN if number == signal.SIGTERM else before[number])
        call()

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
