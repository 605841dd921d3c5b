"""Processes that share one training ("ranks", as in MPI, from 0): what they add up and where they wait for each other.

In a training of one process nothing is added and nothing waits. The sums of all ranks are equal to the bit on every
rank, so that weights, schedules and decisions stay equal without being sent. Numbers and decisions go through gloo on
the CPU, which does not wait for a GPU.
"""

import datetime
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

Item, Value = TypeVar("Item"), TypeVar("Value")
PATIENCE = datetime.timedelta(days=7)  # a rank may wait for another training's lock; dead ranks are found otherwise


@contextmanager
def joined(is_cuda: bool) -> Iterator[None]:
    """This process as one of those that `torch.distributed.run` has started, within the block."""
    dist.init_process_group("cpu:gloo,cuda:nccl" if is_cuda else "gloo", timeout=PATIENCE)
    yield
    dist.destroy_process_group()  # not after an error: it would wait for the other ranks


def count() -> int:
    """Number of processes that share this training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def index() -> int:
    """Rank of this process."""
    return dist.get_rank() if count() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes files and logs."""
    return index() == 0


def total(values: torch.Tensor) -> torch.Tensor:
    """The sum of the tensors of all ranks, of one shape and type."""
    if count() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def total_number(number: int) -> int:
    """The sum of the numbers of all ranks."""
    return int(total(torch.tensor(number))) if count() > 1 else number


def gathered(value: Value) -> list[Value]:
    """The values of all ranks, in their order."""
    if count() == 1:
        return [value]
    values: list[Value] = [value] * count()
    dist.all_gather_object(values, value)
    return values


def sum_gradients(model: nn.Module) -> None:
    """Replaces each gradient by its sum over all ranks, sent as one message."""
    if count() == 1:
        return
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    sums = total(torch.cat([each.reshape(-1) for each in gradients]))
    for gradient, part in zip(gradients, sums.split([each.numel() for each in gradients])):
        gradient.copy_(part.view(gradient.shape))


def own_share(batch: Sequence[Item]) -> Sequence[Item]:
    """This rank's part of a batch; the parts differ by at most one item, so that the last batch may leave it none."""
    first, end = (len(batch) * number // count() for number in (index(), index() + 1))
    return batch[first:end]


def own_batches(rows: np.ndarray, size: int) -> np.ndarray:
    """The rows of every batch of `size` that is this rank's turn; batches stay whole."""
    batches = [rows[first : first + size] for first in range(index() * size, len(rows), count() * size)]
    return np.concatenate([rows[:0], *batches])


def wait() -> None:
    """Waits until all ranks are here."""
    total_number(0)


@contextmanager
def first_alone() -> Iterator[None]:
    """The first rank runs the block before the others do, and nobody goes on before the last has run it."""
    if not is_first():
        wait()
    yield
    if is_first():
        wait()
    wait()


def from_first(compute: Callable[[], Value]) -> Value:
    """What the first rank computes, on every rank; the others wait for it."""
    values = [compute() if is_first() else None]
    if count() > 1:
        dist.broadcast_object_list(values)
    return values[0]  # type: ignore[return-value]
