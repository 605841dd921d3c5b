"""TensorBoard, for those who watch a training: curves each epoch, pictures now and then. It changes no result."""

import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib.data.arrays import Arrays
from lib.imaging import display

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

REFERENCE, PREDICTED = (0, 255, 0), (255, 0, 0)  # red, green, blue; where both run there is yellow


def writer(every: int | None, folder: Path, first_epoch: int) -> AbstractContextManager["SummaryWriter | None"]:
    """What the functions below write to; None where a study wants no TensorBoard (`every` is None).

    What lies there from this run's first epoch on no longer counts: another training or a killed process wrote it.
    """
    if every is None:
        return nullcontext()
    from torch.utils.tensorboard import SummaryWriter  # seconds to import, and few want it

    if first_epoch == 1 and folder.is_dir():
        shutil.rmtree(folder)
    return SummaryWriter(log_dir=str(folder), purge_step=first_epoch)


def add_scalars(board: "SummaryWriter", row: dict[str, Any]) -> None:
    """Writes an epoch's row of the history, one curve per column, to the disk before the epoch counts as done."""
    for name, value in row.items():
        if name not in ("epoch", "best"):
            board.add_scalar(name, value, row["epoch"])
    board.flush()


def add_pictures(
    board: "SummaryWriter", epoch: int, arrays: Arrays, rows: np.ndarray, reference: np.ndarray, predicted: np.ndarray
) -> None:
    """Writes pictures of some array rows with outlines of their masks (n, H, W), reference and predicted."""
    channel = arrays.images.shape[1] // 2  # of the three MRI channels FLAIR, which people look at
    for row, *masks in zip(rows.tolist(), reference, predicted):
        image = arrays.images[row, channel]
        drawn = overlay(display.displayable(image, image), *masks)
        board.add_image(f"validation/{arrays.names[row]}_{arrays.slices[row]}", drawn, epoch, dataformats="HWC")


def overlay(image: np.ndarray, reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """A grey image (H, W) uint8 with outlines of masks (H, W), in red, green, blue: (H, W, 3) uint8."""
    drawn = np.repeat(image[..., None], 3, axis=2)
    lines = {REFERENCE: outline(reference), PREDICTED: outline(predicted)}
    drawn[np.any(list(lines.values()), axis=0)] = 0
    for colour, line in lines.items():
        drawn[line] |= np.array(colour, np.uint8)
    return drawn


def outline(areas: np.ndarray) -> np.ndarray:
    """Outermost pixels of each class but the background: (H, W) class indices -> (H, W) bool."""
    padded = np.pad(areas, 1)
    neighbours = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    return (areas > 0) & np.any([areas != each for each in neighbours], axis=0)
