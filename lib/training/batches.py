"""Loading: batches of augmented training cases, epoch after epoch, and the fixed batches of validation cases."""

import atexit
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, default_collate

from lib.data.arrays import Arrays
from lib.models import inference
from lib.training import augmentation, objectives, ranks, sampling
from lib.training.augmentation import Augmentation
from lib.training.objectives import Objective

Batch = tuple[torch.Tensor, torch.Tensor]  # images (N, C, H, W) and the objective's targets
Batches = Iterable[Batch]
Draw = tuple[int, int, int]  # epoch, array row, number of earlier draws of the row in this epoch
PREFETCH = 2  # batches that each process prepares ahead
SHARED_MEMORY = Path("/dev/shm")  # through which processes pass batches on Linux
RESIDENT_SHARE = 0.25  # of a GPU's free memory that validation cases may occupy


class AugmentedCases(Dataset):
    """Augmented training cases, indexed by draw."""

    def __init__(self, arrays: Arrays, changes: Augmentation, seed: int, objective: Objective) -> None:
        self.arrays, self.seed, self.objective = arrays, seed, objective
        self.transform = augmentation.pipeline(changes, arrays.images.dtype)

    def __getitem__(self, draw: Draw) -> tuple[np.ndarray, np.ndarray]:
        epoch, row, repeated = draw
        key = (self.seed, epoch, row, repeated)
        mask, points = objectives.reference_of(self.arrays, row)
        image, mask, points = augmentation.augment(self.arrays.images[row], mask, points, self.transform, key)
        return image, self.objective.target(self.arrays, row, mask, points)

    def collate(self, cases: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
        """A batch of images and targets; an empty one has their shapes."""
        if cases:
            return tuple(default_collate(cases))
        return tuple(each[:0] for each in default_collate([self[1, 0, 0]]))


class EpochSampler(Sampler):
    """The draws of one epoch, set by `begin`; their order depends on seed and epoch only."""

    def __init__(self, rows: np.ndarray, weights: np.ndarray, seed: int) -> None:
        self.rows, self.weights, self.seed = rows, weights, seed
        self.begin(1)

    def begin(self, epoch: int, skipped: int = 0) -> None:
        """Sets the epoch, from 1, and how many of its draws were already used before a run was resumed."""
        self.epoch, self.skipped = epoch, skipped

    def order(self) -> np.ndarray:
        """All array rows of the epoch in their order."""
        return sampling.epoch_rows(self.rows, self.weights, self.seed, self.epoch)

    def __iter__(self) -> Iterator[Draw]:
        order = self.order()
        draws = list(zip(repeat(self.epoch), order.tolist(), sampling.repeats(order)))
        return iter(draws[self.skipped :])


class OwnShares(BatchSampler):
    """Batches of draws; of several processes that share a training, each gets its share of every batch."""

    def __iter__(self) -> Iterator[list[Draw]]:
        return map(ranks.own_share, super().__iter__())


def loader(
    cases: AugmentedCases, sampler: EpochSampler, batch_size: int, workers: int, device: torch.device
) -> DataLoader:
    """Batches of the sampler's epoch at each iteration, loaded by `workers` processes that live as long as the loader.

    With 0 workers, this process loads. On Linux the processes are forked and share its arrays; elsewhere (macOS), where
    forking is unsafe, each is sent a copy of all arrays. ValueError: too little shared memory for the processes.
    """
    if workers and SHARED_MEMORY.is_dir():
        _require_shared_memory(cases, sampler, batch_size, workers)
    ending = multiprocessing.RawValue("b")
    atexit.register(setattr, ending, "value", True)  # runs before that of multiprocessing, which sends SIGTERM
    return DataLoader(
        cases,
        batch_sampler=OwnShares(sampler, batch_size, drop_last=False),
        collate_fn=cases.collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
        # From Python 3.14 on the default of Linux starts new processes, to each of which all arrays would be sent.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        worker_init_fn=partial(_start_worker, ending),
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # otherwise each start of an epoch, also of a resumed one, advances torch's own
    )


def _start_worker(ending: Any, _: int) -> None:
    """Prepares a loader's process: one thread; SIGINT is ignored, and SIGTERM until the main process is `ending`.

    They may be sent to the whole process group, whose main process then finishes its step and saves the state; the
    death of a loader's process would interrupt it. The main process ends the processes of its loader itself.
    """
    cv2.setNumThreads(0)  # the processes share the cores already
    # A forked process would inherit the handler of `saving.deferred`, but one that is started anew raises on Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if ending.value else None)


def _require_shared_memory(cases: AugmentedCases, sampler: EpochSampler, batch_size: int, workers: int) -> None:
    image, target = cases[next(iter(sampler))]
    needed = workers * PREFETCH * batch_size * (image.nbytes + target.nbytes)
    free = shutil.disk_usage(SHARED_MEMORY).free
    if needed > free:
        raise ValueError(
            f"workers = {workers}   they need {needed / 2**20:.0f} MB of shared memory, but {SHARED_MEMORY} has "
            f"{free / 2**20:.0f} MB free; set fewer workers (0 needs none), or start the container with more "
            f"(docker run --shm-size={-(-needed // 2**30) + 1}g)"
        )


def timed(loaded: Batches) -> Iterator[tuple[Batch, float]]:
    """Batches, each with the seconds spent waiting for it."""
    source = iter(loaded)
    while True:
        started = time.perf_counter()
        batch = next(source, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - started


@contextmanager
def reporting_dead_workers() -> Iterator[None]:
    """ValueError if a loader's process dies within the block; torch raises it in whatever the main process is doing."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise ValueError(
            f"a data loader process died ({str(error).splitlines()[0]}); the usual cause is too little memory: set "
            "fewer workers (0 loads in the main process)"
        ) from error


class FixedBatches:
    """Batches of array rows without augmentation, read at each iteration; at most inference.BATCH images each."""

    def __init__(self, objective: Objective, arrays: Arrays, rows: np.ndarray, batch_size: int) -> None:
        self.objective, self.arrays, self.rows = objective, arrays, rows
        self.batch_size = min(batch_size, inference.BATCH)  # what fits in training fits in validation

    def __iter__(self) -> Iterator[Batch]:
        for first in range(0, len(self.rows), self.batch_size):
            rows = self.rows[first : first + self.batch_size]
            targets = objectives.targets(self.objective, self.arrays, rows)
            yield torch.from_numpy(self.arrays.images[rows]), torch.from_numpy(targets)


def validation_batches(objective: Objective, arrays: Arrays, rows: np.ndarray, batch_size: int) -> FixedBatches:
    """FixedBatches; of several processes that share a training, each gets some of them, whole."""
    whole = FixedBatches(objective, arrays, rows, batch_size)
    return FixedBatches(objective, arrays, ranks.own_batches(rows, whole.batch_size), batch_size)


def resident(fixed: FixedBatches, device: torch.device) -> Batches:
    """The same batches kept on a GPU if they fit into RESIDENT_SHARE of its free memory, else unchanged.

    To be called after an epoch of training, when its memory is reserved.
    """
    if device.type != "cuda" or not len(fixed.rows):
        return fixed
    images, targets = next(iter(fixed))
    needed = len(fixed.rows) * (images[:1].nbytes + targets[:1].nbytes)
    if needed > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return fixed
    return [(images.to(device), targets.to(device)) for images, targets in fixed]
