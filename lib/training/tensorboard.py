"""TensorBoard, for those who watch a training: curves each epoch, pictures now and then. It changes no result."""

import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lib.data.arrays import Arrays
from lib.imaging import display

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

NOT_DRAWN = {"epoch", "best"}
REFERENCE, PREDICTED = (0, 255, 0), (255, 0, 0)  # red, green, blue; where both run there is yellow


def writer(every: int | None, folder: Path, first_epoch: int) -> AbstractContextManager["SummaryWriter | None"]:
    """What the functions below write to; None where a study wants no TensorBoard.

    Args:
        every: epochs between pictures; None for no TensorBoard.
        folder: of TensorBoard's files; those of a training that has begun anew are removed.
        first_epoch: from which this process trains; what a killed one wrote from there on no longer counts.
    """
    if every is None:
        return nullcontext()
    from torch.utils.tensorboard import SummaryWriter  # seconds to import, and few want it

    if first_epoch == 1 and folder.is_dir():
        shutil.rmtree(folder)
    return SummaryWriter(log_dir=str(folder), purge_step=first_epoch)


def is_due(every: int | None, epoch: int) -> bool:
    """Whether an epoch's predictions are drawn: the first, and then every so many; none where that is None."""
    return every is not None and (epoch - 1) % every == 0


def add_scalars(board: "SummaryWriter | None", row: dict[str, Any]) -> None:
    """Writes an epoch's row of the history, a curve a column.

    It is on disk before the epoch counts as done: one killed in between writes it again, and `writer` drops the first.
    """
    if board is None:
        return
    for name, value in row.items():
        if name not in NOT_DRAWN:
            board.add_scalar(name, value, row["epoch"])
    board.flush()


def add_pictures(
    board: "SummaryWriter | None",
    epoch: int,
    arrays: Arrays,
    rows: np.ndarray,
    reference: np.ndarray,
    predicted: np.ndarray,
) -> None:
    """Writes pictures of some array rows with the outlines of reference and prediction.

    Args:
        board: from `writer`.
        epoch: from 1.
        arrays: preprocessed cases.
        rows: array rows, n of them.
        reference, predicted: (n, H, W) class indices.
    """
    if board is None:
        return
    channel = arrays.images.shape[1] // 2  # of the three MRI channels FLAIR, which people look at
    for row, there, found in zip(rows.tolist(), reference, predicted):
        image = arrays.images[row, channel]
        drawn = overlay(display.displayable(image, image), there, found)
        board.add_image(f"validation/{arrays.names[row]}_{arrays.slices[row]}", drawn, epoch, dataformats="HWC")


def overlay(image: np.ndarray, reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """A grey image with outlines, the reference's green, the predicted red, both yellow.

    Args:
        image: (H, W) uint8.
        reference, predicted: (H, W) class indices.

    Returns:
        (H, W, 3) uint8, red, green, blue.
    """
    drawn = np.repeat(image[..., None], 3, axis=2)
    lines = [(outline(reference), REFERENCE), (outline(predicted), PREDICTED)]
    drawn[np.any([line for line, _ in lines], axis=0)] = 0
    for line, colour in lines:
        drawn[line] |= np.array(colour, np.uint8)
    return drawn


def outline(areas: np.ndarray) -> np.ndarray:
    """Outermost pixels of each class but the background: (H, W) class indices -> (H, W) bool."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    line = np.zeros(areas.shape, bool)
    for index in np.unique(areas[areas > 0]):
        area = (areas == index).astype(np.uint8)
        line |= (area > 0) & (cv2.erode(area, cross, borderType=cv2.BORDER_CONSTANT, borderValue=0) == 0)
    return line


def progress(row: dict[str, Any], timing: dict[str, Any], epochs: int, metric: str) -> str:
    """One line an epoch; of an error the amount, whose minus is the selection value."""
    return (
        f"epoch {row['epoch']:3d}/{epochs}   loss {row['train_loss']:.4f} / {row['validation_loss']:.4f}   "
        f"{metric} {abs(row['train_selection']):.4f} / {abs(row['selection']):.4f}{' *' if row['best'] else '  '}   "
        f"{timing['images_per_second']:.0f} images/s"
    )
