"""Training cases as the loop gets them: augmented, in an epoch's order, in batches."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lib.data.arrays import Arrays
from lib.study.params import TrainingParams
from lib.training import augmentation, objectives, sampling
from lib.training.objectives import Objective


class AugmentedCases(Dataset):
    """Training cases, changed anew for each (epoch, row, how often the row came before in this epoch)."""

    def __init__(self, arrays: Arrays, chosen: TrainingParams, objective: Objective) -> None:
        self.arrays, self.chosen, self.objective = arrays, chosen, objective
        self.transform = augmentation.pipeline(chosen, arrays.images.dtype)

    def __getitem__(self, place: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        epoch, row, repeat = place
        key = (self.chosen.seed, epoch, row, repeat)
        mask, points = objectives.reference_of(self.arrays, row)
        image, mask, points = augmentation.augment(
            self.transform, self.chosen, self.arrays.images[row], mask, points, key
        )
        return image, self.objective.target(self.arrays, row, mask, points)


def load(
    cases: AugmentedCases, order: np.ndarray, epoch: int, chosen: TrainingParams
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of images (N, C, H, W) and the task's targets."""
    places = [(epoch, int(row), repeat) for row, repeat in zip(order, sampling.repeats(order))]
    return iter(
        DataLoader(
            cases,  # type: ignore[arg-type]
            batch_size=chosen.batch_size,
            sampler=places,  # type: ignore[arg-type]
            num_workers=chosen.workers,
            pin_memory=torch.cuda.is_available(),
        )
    )
