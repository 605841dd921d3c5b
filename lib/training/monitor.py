"""Progress of a training within its epochs, as a line of text for a live display."""

import time

import torch

from lib.study.progress import INTERVAL, Live, duration
from lib.training.state import TrainingState

BAR = 20  # characters


class Monitor:
    """Calls `live`, if there is one, with the progress; rate and time left are averages since the start."""

    def __init__(self, live: Live | None, epochs: int, images_per_epoch: int, state: TrainingState) -> None:
        self.live, self.epochs, self.images_per_epoch = live, epochs, images_per_epoch
        self.first = self.done(state)
        self.started = self.shown = time.perf_counter()

    def done(self, state: TrainingState) -> int:
        """Number of images that the run has trained on."""
        return len(state.history) * self.images_per_epoch + sum(state.epoch.images)

    def show(self, state: TrainingState) -> None:
        """Updates the display if INTERVAL has passed."""
        now = time.perf_counter()
        if self.live is None or now - self.shown < INTERVAL:
            return
        self.shown = now
        self.live(self.line(state, now - self.started))

    def clear(self) -> None:
        """Empties the display at the end."""
        if self.live is not None:
            self.live("")

    def line(self, state: TrainingState, seconds: float) -> str:
        """Progress after `seconds`; memory and use of the device on CUDA only."""
        done, total = self.done(state), self.epochs * self.images_per_epoch
        rate = (done - self.first) / seconds
        filled = BAR * done // total
        of_epoch = sum(state.epoch.images)
        parts = [
            f"epoch {len(state.history) + 1}/{self.epochs}, image {of_epoch}/{self.images_per_epoch}",
            f"{'█' * filled:░<{BAR}} {100 * done // total} %",
            f"{rate:.0f} images/s",
            f"{100 * state.epoch.waiting / state.epoch.seconds:.0f} % waiting for data",
            *_device_use(state.device),
            f"epoch {duration((self.images_per_epoch - of_epoch) / rate)} left",
            f"training {duration((total - done) / rate)} left",
        ]
        return " · ".join(parts)


def _device_use(device: torch.device) -> list[str]:
    if device.type != "cuda":
        return []
    memory = f"GPU memory {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GB"
    try:
        import pynvml  # of the package nvidia-ml-py, which may be installed
    except ModuleNotFoundError:
        return [memory]
    try:
        return [memory, f"GPU {torch.cuda.utilization(device)} % busy"]
    except (pynvml.NVMLError, RuntimeError):  # not reported by this driver, or by a part of a GPU
        return [memory]
