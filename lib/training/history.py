"""Training history: best epoch, early stopping and divergence."""

from typing import Any

import numpy as np
import torch

from lib.data.arrays import Arrays
from lib.training.state import Epoch, Rows

DIVERGED = "training diverged; try a lower learning_rate or precision: float32"
Results = tuple[float, dict[str, float]]  # mean loss, and the objective's scores, including "selection"


def check_batches(epoch: int, finished: Epoch, order: np.ndarray, arrays: Arrays) -> None:
    """ValueError, naming the cases of the first batch whose loss is not finite; `order` are the epoch's array rows."""
    values = torch.stack(finished.losses).cpu().numpy()
    if np.isfinite(values).all():
        return
    bad = int(np.argmin(np.isfinite(values)))
    rows = np.split(order, np.cumsum(finished.images)[:-1])[bad]
    refuse_invalid_images(rows, arrays)
    names = ", ".join(_name(row, arrays) for row in rows)
    raise ValueError(f"the loss became {values[bad]} in epoch {epoch}, batch {bad + 1} ({names}): {DIVERGED}")


def check_finite(epoch: int, values: dict[str, float], rows: np.ndarray, arrays: Arrays) -> None:
    """ValueError, naming the value, or the cases that it is due to, if one is not finite; `rows` were validated."""
    for name, value in values.items():
        if not np.isfinite(value):
            refuse_invalid_images(rows, arrays)
            raise ValueError(f"the {name} became {value} in epoch {epoch}: {DIVERGED}")


def refuse_invalid_images(rows: np.ndarray, arrays: Arrays) -> None:
    """ValueError, naming the cases, if images of array rows contain values that are not finite."""
    invalid = [_name(row, arrays) for row in rows if not np.isfinite(arrays.images[row]).all()]
    if invalid:
        raise ValueError(
            f"the image of {', '.join(invalid)} contains values that are not finite; rerun 02_preprocessing"
        )


def _name(row: int, arrays: Arrays) -> str:
    return f"{arrays.names[row]}{f' slice {arrays.slices[row]}' if arrays.slices[row] else ''}"


def is_better(selection: float, validation_loss: float, than: dict[str, Any], empty_score: float) -> bool:
    """Whether an epoch is better than another; if both predict nothing at all, the smaller loss is better."""
    if selection == than["selection"] == empty_score:
        return validation_loss < than["validation_loss"]
    return selection > than["selection"]


def should_stop(history: Rows, patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no improvement."""
    best = max((row["epoch"] for row in history if row["best"]), default=0)
    return patience is not None and len(history) - best >= patience


def row(
    epoch: int, learning_rate: float, train: Results, validation: Results, before: Rows, empty_score: float
) -> dict[str, Any]:
    """One row of history.csv after the rows `before`; its "best" says whether it is the best epoch so far."""
    (train_loss, train_scores), (validation_loss, scores) = train, validation
    return {
        "epoch": epoch,
        "train_loss": train_loss,
        "train_selection": train_scores["selection"],
        "validation_loss": validation_loss,
        **{f"validation_{name}": value for name, value in scores.items() if name != "selection"},
        "selection": scores["selection"],
        "learning_rate": learning_rate,
        "best": all(is_better(scores["selection"], validation_loss, each, empty_score) for each in before),
    }


def timing(epoch: int, trained: Epoch, validation_seconds: float) -> dict[str, Any]:
    """One row of timing.csv: seconds with validation, speed of training and its share spent waiting for data."""
    return {
        "epoch": epoch,
        "seconds": trained.seconds + validation_seconds,
        "images_per_second": sum(trained.images) / trained.seconds,
        "waiting_percent": 100 * trained.waiting / trained.seconds,
    }


def progress(row: dict[str, Any], timing: dict[str, Any], epochs: int, metric: str) -> str:
    """Log line of an epoch: training / validation values; an error is printed as a positive number."""
    return (
        f"epoch {row['epoch']:3d}/{epochs}   loss {row['train_loss']:.4f} / {row['validation_loss']:.4f}   "
        f"{metric} {abs(row['train_selection']):.4f} / {abs(row['selection']):.4f}{' *' if row['best'] else '  '}   "
        f"{timing['images_per_second']:.0f} images/s, {timing['waiting_percent']:.0f} % waiting for data"
    )
