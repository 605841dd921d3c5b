"""What a network learns, in one place: class regions, or heatmaps of landmarks.

Training and the trial on one batch ask a `Task` and need not know which of the two it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from lib import losses
from lib.data.arrays import Arrays
from lib.imaging import heatmaps
from lib.models import inference
from lib.study.params import ModelParams, TrainingParams

HEATMAPS_PER: dict[int, Literal["line", "point"]] = {2: "line", 4: "point"}  # by number of output channels
AREA_LEVEL = 0.5  # of a heatmap whose peak is 1


@dataclass(frozen=True)
class Task:
    """What a network learns and how it is judged; N images, h x w pixels, K output channels.

    Attributes:
        metric: what chooses the checkpoint, in the words of a progress line.
        blank: "selection" of a network that finds nothing.
        threshold_mode: how ReduceLROnPlateau measures a gain: "rel" where the figure is positive, else "abs".
        target: (arrays, row, mask (h, w), points (4, 2) or None) -> what the case is to give: a mask (h, w) uint8, or
            heatmaps (K, h, w) float32.
        loss: (logits (N, K, h, w), targets) -> scalar.
        tally: (logits, targets) -> 1-D sums, to be added over batches.
        scores: tally -> columns of the history, and "selection", the larger the better.
        areas: logits or targets -> (N, h, w) uint8 class indices, to look at.
        predict: as `inference.predict`, what a trained network says.
    """

    metric: str
    blank: float
    threshold_mode: Literal["rel", "abs"]
    target: Callable[[Arrays, int, np.ndarray, np.ndarray | None], np.ndarray]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    tally: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    scores: Callable[[torch.Tensor], dict[str, float]]
    areas: Callable[[torch.Tensor], torch.Tensor]
    predict: Callable[..., np.ndarray]


def of_training(chosen: TrainingParams, network: dict[str, Any], arrays: Arrays) -> Task:
    """What 04_training trains.

    Args:
        chosen: the keys of 04_training.
        network: as models.describe gives it.
        arrays: preprocessed cases.

    Raises:
        ValueError: network or arrays are not those of a study of landmarks, where it is one.
    """
    if chosen.landmarks != "none":
        return heatmap_task(network, arrays)
    return region_task(chosen.classes, mixture_of(chosen), chosen.selection_metric, chosen.selection_class_weights)


def of_trial(chosen: ModelParams, network: dict[str, Any], arrays: Arrays) -> Task:
    """What 03_model shows one batch of: class regions with cross-entropy plus soft Dice of all but the background.

    Args:
        chosen: the keys of 03_model.
        network: as models.describe gives it.
        arrays: preprocessed cases.

    Raises:
        ValueError: network or arrays are not those of a study of landmarks, where it is one.
    """
    if chosen.landmarks != "none":
        return heatmap_task(network, arrays)
    equal = [1.0] * len(chosen.classes)
    foreground = [0.0, *equal[1:]]
    mixture = losses.Mixture(1.0, 0.0, 1.0, equal, foreground, label_smoothing=0.0, focal_gamma=0.0)
    return region_task(chosen.classes, mixture, "dice", foreground)


def targets(task: Task, arrays: Arrays, rows: np.ndarray) -> np.ndarray:
    """What some array rows, as they are, are to give: (rows, h, w) uint8 or (rows, K, h, w) float32."""
    return np.stack([task.target(arrays, row, *reference_of(arrays, row)) for row in rows.tolist()])


def reference_of(arrays: Arrays, row: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Mask (h, w) and points (4, 2), or None, of an array row."""
    return arrays.masks[row], None if arrays.points is None else arrays.points[row]


# Class regions


def region_task(
    classes: list[str], mixture: losses.Mixture, metric: Literal["dice", "iou"], class_weights: list[float]
) -> Task:
    """The task of giving each pixel its class; pooled Dice or IoU, averaged with class weights, chooses."""
    return Task(
        metric={"dice": "pooled Dice", "iou": "pooled IoU"}[metric],
        blank=0.0,
        threshold_mode="rel",
        target=_mask,
        loss=partial(_region_loss, mixture=mixture),
        tally=partial(confusion, class_count=len(classes)),
        scores=partial(_region_scores, classes=classes, metric=metric, class_weights=class_weights),
        areas=_region_areas,
        predict=inference.predict,
    )


def mixture_of(chosen: TrainingParams) -> losses.Mixture:
    """The loss that a study file names."""
    return losses.Mixture(
        cross_entropy=chosen.cross_entropy_weight,
        focal=chosen.focal_weight,
        dice=chosen.dice_weight,
        class_weights=chosen.cross_entropy_class_weights,
        dice_class_weights=chosen.dice_class_weights,
        label_smoothing=chosen.label_smoothing,
        focal_gamma=chosen.focal_gamma,
    )


def confusion(logits: torch.Tensor, reference: torch.Tensor, class_count: int) -> torch.Tensor:
    """Pixels by reference and predicted class: (class_count ** 2,) int64, on the logits' device."""
    predicted = _region_areas(logits).long()
    return torch.bincount((reference.long() * class_count + predicted).flatten(), minlength=class_count**2)


def pooled(counts: torch.Tensor, metric: Literal["dice", "iou"]) -> list[float]:
    """Dice or IoU of each class from summed counts; 1 for a class that is in neither."""
    table = counts.cpu().numpy().astype(float).reshape(int(len(counts) ** 0.5), -1)
    both, total = np.diag(table), table.sum(axis=0) + table.sum(axis=1)
    top, bottom = (2 * both, total) if metric == "dice" else (both, total - both)
    return [float(t / b) if b else 1.0 for t, b in zip(top, bottom)]


def _mask(arrays: Arrays, row: int, mask: np.ndarray, points: np.ndarray | None) -> np.ndarray:  # noqa: ARG001
    return mask


def _region_loss(logits: torch.Tensor, reference: torch.Tensor, mixture: losses.Mixture) -> torch.Tensor:
    return losses.combined(logits, reference.long(), mixture)


def _region_scores(
    counts: torch.Tensor, classes: list[str], metric: Literal["dice", "iou"], class_weights: list[float]
) -> dict[str, float]:
    """Dice of each class, and their weighted mean, or that of IoU.

    Pooled over cases, because the mean over cases ignores what is invented where a class is absent.
    """
    dice = pooled(counts, "dice")
    selection = float(np.average(pooled(counts, metric), weights=class_weights))
    return {f"dice_{name}": dice[i] for i, name in enumerate(classes) if i > 0} | {"selection": selection}


def _region_areas(values: torch.Tensor) -> torch.Tensor:
    """The most probable class of logits (N, K, h, w); masks (N, h, w) as they are."""
    if values.ndim == 3:
        return values
    return (values[:, 0] > 0).byte() if values.shape[1] == 1 else values.argmax(dim=1).byte()


# Heatmaps of landmarks


def heatmap_task(network: dict[str, Any], arrays: Arrays) -> Task:
    """The task of marking the ends of OFD and BPD; the mean error as a share of the OFD chooses.

    Args:
        network: as models.describe gives it; a heatmap a line or a point, as it has output channels.
        arrays: preprocessed cases with landmarks.

    Raises:
        ValueError: a network with other outputs, or arrays without landmarks.
    """
    channels = network["arguments"]["out_channels"]
    if channels not in HEATMAPS_PER:
        raise ValueError(
            f"out_channels = {channels}: heatmaps need 2 (a line each) or 4 (a point each); run 03_model again"
        )
    if arrays.points is None or arrays.sigmas is None:
        raise ValueError("the arrays hold no landmarks; run 02_preprocessing again")
    # In mm the width differs from case to case, and a batch mixes them; peaks need it only roughly.
    sigma = float(np.median(arrays.sigmas))
    return Task(
        metric="error (% of OFD)",
        blank=-100.0,
        threshold_mode="abs",
        target=partial(_heatmaps, per=HEATMAPS_PER[channels]),
        loss=losses.heatmap_loss,
        tally=partial(error_sums, sigma=sigma),
        scores=_error_scores,
        areas=_heatmap_areas,
        predict=inference.predict_heatmaps,
    )


def error_sums(maps: torch.Tensor, reference: torch.Tensor, sigma: float) -> torch.Tensor:
    """Sum of the errors as shares of the OFD, and number of images: (2,) float32, on the device of the heatmaps.

    Both sides are read off as peaks in whole pixels, so that a perfect output has no error. An image whose target does
    not show all four ends, because one was moved out of the frame, does not count.
    """
    wanted = heatmaps.peaks(reference, sigma)  # (N, 4, 2)
    known = ~wanted.isnan().any(dim=2).any(dim=1)
    shares = heatmaps.distance(heatmaps.peaks(maps, sigma)[known], wanted[known])
    return torch.stack([shares.sum(), known.sum()]).float()


def _heatmaps(
    arrays: Arrays, row: int, mask: np.ndarray, points: np.ndarray | None, per: Literal["line", "point"]
) -> np.ndarray:
    if points is None or arrays.sigmas is None:
        raise ValueError(f"{arrays.names[row]}: no landmarks; run 02_preprocessing again")
    return heatmaps.encode(points, float(arrays.sigmas[row]), mask.shape, per)


def _error_scores(sums: torch.Tensor) -> dict[str, float]:
    percent = 100 * float(sums[0] / sums[1])
    return {"error_percent": percent, "selection": -percent}


def _heatmap_areas(maps: torch.Tensor) -> torch.Tensor:
    """Where a heatmap reaches half its height: 1 the ends of the OFD, 2 those of the BPD."""
    lines = inference.per_line(maps) > AREA_LEVEL
    return torch.where(lines[:, 1], 2, lines[:, 0].long()).byte()
