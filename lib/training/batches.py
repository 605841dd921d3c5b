"""Batches of augmented training cases in the order of an epoch."""

from collections.abc import Iterable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lib.data.arrays import Arrays
from lib.training import augmentation, objectives, sampling
from lib.training.augmentation import Augmentation
from lib.training.objectives import Objective

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]  # images (N, C, H, W) and the objective's targets


class AugmentedCases(Dataset):
    """Augmented training cases, indexed by (epoch, row, number of earlier draws of the row in this epoch)."""

    def __init__(self, arrays: Arrays, changes: Augmentation, seed: int, objective: Objective) -> None:
        self.arrays, self.seed, self.objective = arrays, seed, objective
        self.transform = augmentation.pipeline(changes, arrays.images.dtype)

    def __getitem__(self, draw: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        epoch, row, repeat = draw
        key = (self.seed, epoch, row, repeat)
        mask, points = objectives.reference_of(self.arrays, row)
        image, mask, points = augmentation.augment(self.arrays.images[row], mask, points, self.transform, key)
        return image, self.objective.target(self.arrays, row, mask, points)


def load(cases: AugmentedCases, order: np.ndarray, epoch: int, batch_size: int, workers: int) -> Batches:
    """Batches of the rows in `order`, loaded by `workers` processes, or by this process for 0."""
    return DataLoader(
        cases,  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=[(epoch, int(row), repeat) for row, repeat in zip(order, sampling.repeats(order))],
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )
