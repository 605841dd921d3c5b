"""What the history of a training decides: whether an epoch is the best, whether to stop, whether it diverged."""

from typing import Any

import numpy as np


def check_finite(epoch: int, values: dict[str, float]) -> None:
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


def is_exhausted(history: list[dict[str, Any]], patience: int | None) -> bool:
    """Whether the last `patience` epochs brought nothing better."""
    best = max((row["epoch"] for row in history if row["best"]), default=0)
    return patience is not None and len(history) - best >= patience


def row(
    epoch: int,
    learning_rate: float,
    train: tuple[float, dict[str, float]],
    validation: tuple[float, dict[str, float]],
    best: bool,
) -> dict[str, Any]:
    """One epoch of history.csv.

    Args:
        epoch: from 1.
        learning_rate: of its first step.
        train, validation: mean loss, and the objective's scores, "selection" among them.
        best: whether it is the best epoch so far.
    """
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
