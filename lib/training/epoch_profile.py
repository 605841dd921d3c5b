"""Where the time of an epoch goes on this machine: one epoch of the training loop, timed by its parts."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch

from lib.data.arrays import Arrays
from lib.data.splits import Parts
from lib.models import devices
from lib.study.params import TrainingParams
from lib.training import batches, loop, memory
from lib.training.batches import Batch, Batches, FixedBatches
from lib.training.objectives import Objective
from lib.training.state import Epoch, TrainingState

WAITING, COPY, FORWARD, LOSS = "waiting for data", "copy to the device", "forward", "loss"
BACKWARD, OPTIMIZER, REST, VALIDATION = "backward", "optimizer", "rest of the loop", "validation"
PARTS = (WAITING, COPY, FORWARD, LOSS, BACKWARD, OPTIMIZER, REST, VALIDATION)
COLUMNS = ["part", "seconds", "percent"]
WARM_UP = 2  # training steps, at most, before the measurement


@dataclass
class Stopwatch:
    """Marks on the time line of a device; the time between two marks belongs to the part named by the second.

    On CUDA a mark is an event in the queue of the device, so nothing waits for a mark and the loop keeps its speed.
    """

    device: torch.device
    marks: list[tuple[str, Any]] = field(default_factory=list)  # (part, event or seconds)

    def mark(self, part: str) -> None:
        """Ends a part."""
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append((part, event))
        else:
            devices.synchronise(self.device)
            self.marks.append((part, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        """Seconds of every part; the first mark only starts the watch."""
        devices.synchronise(self.device)
        total = dict.fromkeys(PARTS, 0.0)
        for (_, start), (part, end) in zip(self.marks, self.marks[1:]):
            total[part] += start.elapsed_time(end) / 1000 if self.device.type == "cuda" else end - start
        return total


@dataclass(frozen=True)
class TimedObjective:
    """An objective with marks around its loss and its tally, which the loop computes after the backward pass."""

    objective: Objective
    watch: Stopwatch

    def loss(self, *arguments: torch.Tensor) -> torch.Tensor:
        """The objective's loss."""
        value = self.objective.loss(*arguments)
        self.watch.mark(LOSS)
        return value

    def extent(self, reference: torch.Tensor) -> torch.Tensor:
        """The objective's extent."""
        return self.objective.extent(reference)

    def tally(self, *arguments: torch.Tensor) -> torch.Tensor:
        """The objective's tally."""
        self.watch.mark(BACKWARD)
        value = self.objective.tally(*arguments)
        self.watch.mark(REST)
        return value


def profile_epoch(config: TrainingParams, network: dict[str, Any], arrays: Arrays, parts: Parts) -> pd.DataFrame:
    """Trains a new network for one epoch and validates it: seconds and percent of each of PARTS (COLUMNS).

    `network` is a `models.describe` record. ValueError as in `loop.fit`.
    """
    loop.check_trainable(config, network, arrays, parts)
    device = devices.choose(config.device)
    with devices.configured(device, config.deterministic), memory.advising(device), batches.reporting_dead_workers():
        rows, validation_rows = arrays.rows(parts["train"]), arrays.rows(parts["validation"])
        objective = loop.objective_of(config, network, arrays)
        steps = -(-len(rows) // config.batch_size)
        state = loop.initial_state(config, network, steps + WARM_UP, objective.threshold_mode)
        sampler, loaded = loop.training_batches(config, arrays, rows, objective, state.device)
        how = (config.gradient_clip, config.schedule != "plateau")

        sampler.begin(1, skipped=len(rows) - warm_up_images(len(rows), config.batch_size))
        loop.train_epoch(state, objective, loaded, *how)
        fixed = FixedBatches(objective, arrays, validation_rows, config.batch_size)
        validation = batches.resident(fixed, state.device)
        last = validation_rows[: warm_up_images(len(validation_rows), fixed.batch_size)]
        loop.validate(state, objective, FixedBatches(objective, arrays, last, config.batch_size))

        sampler.begin(1)
        state.epoch, watch = Epoch(), Stopwatch(state.device)
        timed_epoch(state, objective, loaded, *how, watch)
        loop.validate(state, objective, validation)
        watch.mark(VALIDATION)
        return shares(watch.seconds())


def warm_up_images(count: int, batch_size: int) -> int:
    """Images of a full and a last batch: the first call of each size allocates, compiles or selects algorithms."""
    return min(count, batch_size + count % batch_size)


def timed_epoch(
    state: TrainingState,
    objective: Objective,
    loaded: Batches,
    gradient_clip: float | None,
    by_step: bool,
    watch: Stopwatch,
) -> None:
    """`loop.train_epoch` with marks between its parts."""
    hooks = [
        state.network.register_forward_pre_hook(lambda *_: watch.mark(COPY)),
        state.network.register_forward_hook(lambda *_: watch.mark(FORWARD)),
        state.optimizer.register_step_post_hook(lambda *_: watch.mark(OPTIMIZER)),
    ]
    watch.mark(REST)
    try:
        loop.train_epoch(state, TimedObjective(objective, watch), marked(loaded, watch), gradient_clip, by_step)
    finally:
        for hook in hooks:
            hook.remove()
    watch.mark(REST)


def marked(loaded: Batches, watch: Stopwatch) -> Iterator[Batch]:
    """The batches, with marks before and after each is loaded."""
    watch.mark(REST)
    for batch in loaded:
        watch.mark(WAITING)
        yield batch
        watch.mark(REST)
    watch.mark(WAITING)


def shares(seconds: dict[str, float]) -> pd.DataFrame:
    """Seconds and percent of the total by part (COLUMNS)."""
    total = sum(seconds.values())
    return pd.DataFrame([(part, each, 100 * each / total) for part, each in seconds.items()], columns=COLUMNS)
