"""Running out of memory: halving the portion of a batch that is processed at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from lib.models.synchronised_batch_norm import SynchronisedBatchNorm
from lib.training.state import TrainingState

Result = TypeVar("Result")
MESSAGES = ("out of memory", "can't allocate memory", "ALLOC_FAILED", "unable to find an engine to execute")


def is_exhausted(error: RuntimeError) -> bool:
    """Whether memory ran out, on the CPU or on a GPU; the libraries of CUDA say so in several ways."""
    return any(message in str(error) for message in MESSAGES)


@contextmanager
def advising(device: torch.device) -> Iterator[None]:
    """ValueError if memory runs out within the block where no portion helps, as in the optimizer's first step."""
    try:
        yield
    except RuntimeError as error:
        if not is_exhausted(error):
            raise
        raise ValueError(
            f"{device}: too little memory ({str(error).splitlines()[0]}); set a smaller batch_size, image_size or "
            "base_channels"
        ) from error


def in_portions(state: TrainingState, images: int, compute: Callable[[int], Result]) -> Result:
    """Calls `compute` with the number of portions of a batch of `images`, and with more while memory runs out.

    The smaller portion is kept for later batches if it was found in training: that of a validation, which leaves no
    trace in the statistics of batch normalisation, must not change them in the next epoch. ValueError: one image is
    too much, or the study is deterministic, whose result must not depend on the memory that happens to be free. The
    averages of batch normalisation keep what a failed pass has added.
    """
    portion = max(1, min(state.portion or images, images))  # a process may have no image of a batch
    while True:
        try:
            return compute(max(1, -(-images // portion)))
        except RuntimeError as error:
            if not is_exhausted(error):
                raise
        # Not in the handler: there the traceback would keep the tensors of the failed pass alive.
        _refuse(portion, state)
        portion //= 2
        if state.model.training:
            state.portion = portion
        if state.device.type == "cuda":
            torch.cuda.empty_cache()


def _refuse(portion: int, state: TrainingState) -> None:
    if portion == 1:
        raise ValueError(f"{state.device}: too little memory for one image; set a smaller image_size or base_channels")
    if state.deterministic:
        raise ValueError(
            f"{state.device}: too little memory for a batch of {portion} images; set a smaller batch_size, or "
            "deterministic: false to accumulate the gradient over portions of a batch"
        )
    if state.model.training and any(isinstance(module, SynchronisedBatchNorm) for module in state.model.modules()):
        raise ValueError(
            f"{state.device}: too little memory for a process's {portion} images of a batch; set a smaller batch_size "
            "or more processes: in batch normalisation the processes wait for each other, so none may use portions"
        )
