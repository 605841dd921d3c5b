"""Optional TensorBoard logs: curves of every epoch, images of some; they do not change results."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lib.data.arrays import Arrays
from lib.imaging import display
from lib.training import ranks, sampling
from lib.training.batches import Batch, FixedBatches

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

REFERENCE, PREDICTED = (0, 255, 0), (255, 0, 0)  # RGB; yellow where they coincide


def writer(every: int | None, folder: Path, first_epoch: int) -> AbstractContextManager["SummaryWriter | None"]:
    """Writer, or None if `every` is; discards entries of other or killed trainings from `first_epoch` on.

    Of several processes that share the training, only the first has one.
    """
    if every is None or not ranks.is_first():
        return nullcontext()
    from torch.utils.tensorboard import SummaryWriter  # takes seconds to import

    if first_epoch == 1 and folder.is_dir():
        shutil.rmtree(folder)
    return SummaryWriter(log_dir=str(folder), purge_step=first_epoch)


def add_epoch(
    board: "SummaryWriter",
    row: dict[str, Any],
    validation: FixedBatches,
    every: int,
    images: int,
    predict: Callable[[torch.Tensor, torch.Tensor], Batch],
) -> None:
    """Adds an epoch's row of the history and, in every `every`-th epoch, so many validation images with predictions.

    `predict` gives logits and targets of a batch, as `loop.predict`.
    """
    if (row["epoch"] - 1) % every == 0:
        arrays, objective = validation.arrays, validation.objective
        selected = sampling.spread(arrays.masks, validation.rows, images)
        outputs = zip(*(predict(*batch) for batch in FixedBatches(objective, arrays, selected, validation.batch_size)))
        predicted, reference = (torch.cat([objective.areas(b) for b in each]).cpu().numpy() for each in outputs)
        add_images(board, row["epoch"], arrays, selected, reference, predicted)
    add_scalars(board, row)


def add_scalars(board: "SummaryWriter", row: dict[str, Any]) -> None:
    """Adds an epoch's row of the history, one curve per column; flushed, so that no completed epoch is lost."""
    for name, value in row.items():
        if name not in ("epoch", "best"):
            board.add_scalar(name, value, row["epoch"])
    board.flush()


def add_images(
    board: "SummaryWriter", epoch: int, arrays: Arrays, rows: np.ndarray, reference: np.ndarray, predicted: np.ndarray
) -> None:
    """Adds images of array rows with the outlines of their reference and predicted masks (n, H, W)."""
    channel = arrays.images.shape[1] // 2  # FLAIR of the three MRI channels
    for row, *masks in zip(rows.tolist(), reference, predicted):
        image = arrays.images[row, channel]
        drawn = overlay(display.displayable(image, image), *masks)
        board.add_image(f"validation/{arrays.names[row]}_{arrays.slices[row]}", drawn, epoch, dataformats="HWC")


def overlay(image: np.ndarray, reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """RGB image (H, W, 3) uint8: a grey image (H, W) uint8 with the outlines of two masks (H, W)."""
    drawn = np.repeat(image[..., None], 3, axis=2)
    lines = {REFERENCE: outline(reference), PREDICTED: outline(predicted)}
    drawn[np.any(list(lines.values()), axis=0)] = 0
    for colour, line in lines.items():
        drawn[line] |= np.array(colour, np.uint8)
    return drawn


def outline(areas: np.ndarray) -> np.ndarray:
    """Boundary pixels of each foreground class: (H, W) class indices -> (H, W) bool."""
    padded = np.pad(areas, 1)
    neighbours = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    return (areas > 0) & np.any([areas != each for each in neighbours], axis=0)
