"""The history of a training, and what it decides: is an epoch the best, is it time to stop, did training diverge."""

from typing import Any

import numpy as np

from lib.training.state import Rows

Scored = tuple[float, dict[str, float]]  # mean loss, and the objective's scores, "selection" among them


def check_finite(epoch: int, values: dict[str, float]) -> None:
    """ValueError for a named figure that is not finite."""
    for name, value in values.items():
        if not np.isfinite(value):
            raise ValueError(
                f"the {name} became {value} in epoch {epoch}: training diverged; try a lower learning_rate, or "
                "float32 as precision"
            )


def is_better(selection: float, validation_loss: float, than: dict[str, Any], blank: float) -> bool:
    """Whether an epoch is better than another; of two that found nothing at all, the one of the smaller loss."""
    if selection == than["selection"] == blank:
        return validation_loss < than["validation_loss"]
    return selection > than["selection"]


def is_exhausted(history: Rows, patience: int | None) -> bool:
    """Whether the last `patience` epochs brought nothing better."""
    best = max((row["epoch"] for row in history if row["best"]), default=0)
    return patience is not None and len(history) - best >= patience


def row(epoch: int, learning_rate: float, train: Scored, validation: Scored, best: bool) -> dict[str, Any]:
    """One epoch of history.csv; `best` so far."""
    (train_loss, train_scores), (validation_loss, scores) = train, validation
    return {
        "epoch": epoch,
        "train_loss": train_loss,
        "train_selection": train_scores["selection"],
        "validation_loss": validation_loss,
        **{f"validation_{name}": value for name, value in scores.items() if name != "selection"},
        "selection": scores["selection"],
        "learning_rate": learning_rate,
        "best": best,
    }


def progress(row: dict[str, Any], timing: dict[str, Any], epochs: int, metric: str) -> str:
    """One line per epoch; of an error the amount, whose minus is the selection value."""
    return (
        f"epoch {row['epoch']:3d}/{epochs}   loss {row['train_loss']:.4f} / {row['validation_loss']:.4f}   "
        f"{metric} {abs(row['train_selection']):.4f} / {abs(row['selection']):.4f}{' *' if row['best'] else '  '}   "
        f"{timing['images_per_second']:.0f} images/s"
    )
