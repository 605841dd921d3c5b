"""Training objectives, class regions or landmark heatmaps, with a common interface for the loop.

N images have h x w pixels and K output channels. `metric` names the metric that selects the checkpoint, `empty_score`
is its selection value for an empty prediction, and `threshold_mode` is that of ReduceLROnPlateau: "rel" for positive
selection values, else "abs".
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from lib import losses
from lib.data.arrays import Arrays
from lib.imaging import heatmaps
from lib.models import inference

HEATMAPS_PER: dict[int, Literal["line", "point"]] = {2: "line", 4: "point"}  # by number of output channels
AREA_LEVEL = 0.5  # half of a heatmap's peak


@dataclass(frozen=True)
class RegionObjective:
    """Classification of each pixel; the weighted mean over classes of pooled Dice or IoU selects the checkpoint."""

    classes: list[str]
    mixture: losses.Mixture
    overlap: Literal["dice", "iou"]  # metric that selects the checkpoint
    class_weights: list[float]  # weights of its mean

    empty_score: ClassVar[float] = 0.0
    threshold_mode: ClassVar[Literal["rel", "abs"]] = "rel"
    predict = staticmethod(inference.predict)

    @property
    def metric(self) -> str:
        """Name in log lines."""
        return {"dice": "pooled Dice", "iou": "pooled IoU"}[self.overlap]

    def target(self, arrays: Arrays, row: int, mask: np.ndarray, points: np.ndarray | None) -> np.ndarray:  # noqa: ARG002
        """The target of a case with this mask (h, w) and points (4, 2) or None: the mask itself."""
        return mask

    def loss(self, logits: torch.Tensor, reference: torch.Tensor, batch: torch.Tensor | None = None) -> torch.Tensor:
        """Scalar loss of logits (N, K, h, w) and masks (N, h, w); `batch` as in `losses.combined`."""
        return losses.combined(logits, reference.long(), self.mixture, batch)

    def extent(self, reference: torch.Tensor) -> torch.Tensor:
        """What the loss of a batch is a mean over, see `losses.extent`: (2,) float32."""
        return losses.extent(reference, self.mixture.class_weights)

    def tally(self, logits: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Flattened confusion matrix (reference x predicted class), (classes ** 2,) int64, additive over batches.

        A product of indicators, exact in float32 up to 2 ** 24 pixels per image: `torch.bincount` waits for the device.
        """
        indices = torch.arange(len(self.classes), device=logits.device).reshape(-1, 1, 1)
        masks = reference, most_probable(logits)
        target, predicted = ((each[:, None] == indices).flatten(2).float() for each in masks)  # (N, classes, h w)
        return torch.bmm(target, predicted.transpose(1, 2)).long().sum(dim=0).flatten()

    def scores(self, counts: torch.Tensor) -> dict[str, float]:
        """Columns of the history: Dice of each class, and "selection", the weighted mean of Dice or IoU.

        Pooled over cases, because a mean over cases ignores false positives where a class is absent.
        """
        dice = pooled(counts, "dice")
        selection = float(np.average(pooled(counts, self.overlap), weights=self.class_weights))
        return {f"dice_{name}": dice[i] for i, name in enumerate(self.classes) if i > 0} | {"selection": selection}

    def areas(self, values: torch.Tensor) -> torch.Tensor:
        """Masks for display, (N, h, w) uint8: the most probable class of logits; masks unchanged."""
        return most_probable(values)


@dataclass(frozen=True)
class HeatmapObjective:
    """Heatmaps of the OFD and BPD endpoints; the mean error relative to the OFD selects the checkpoint."""

    per: Literal["line", "point"]  # one heatmap per line or per point
    sigma: float  # standard deviation for peak detection, network pixels

    metric: ClassVar[str] = "error (% of OFD)"
    empty_score: ClassVar[float] = -100.0
    threshold_mode: ClassVar[Literal["rel", "abs"]] = "abs"
    predict = staticmethod(inference.predict_heatmaps)

    def target(self, arrays: Arrays, row: int, mask: np.ndarray, points: np.ndarray | None) -> np.ndarray:
        """Heatmaps of a case, (K, h, w) float32; ValueError without landmarks."""
        if points is None or arrays.sigmas is None:
            raise ValueError(f"{arrays.names[row]}: no landmarks; rerun 02_preprocessing")
        return heatmaps.encode(points, float(arrays.sigmas[row]), mask.shape, self.per)

    def loss(self, maps: torch.Tensor, reference: torch.Tensor, batch: torch.Tensor | None = None) -> torch.Tensor:
        """Loss of heatmaps (N, K, h, w): 0 for a perfect output, 1 for an all-zero one; `batch` as for regions."""
        loss = losses.heatmap_loss(maps, reference)
        return loss if batch is None else loss * losses.share(self.extent(reference), batch)[0]

    def extent(self, reference: torch.Tensor) -> torch.Tensor:
        """Number of images, over which the loss of a batch is a mean: (1,) float32."""
        return torch.full((1,), float(len(reference)), device=reference.device)

    def tally(self, maps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Sum of the errors relative to the OFD, and number of images: (2,) float32.

        Both sides are peaks in whole pixels. Images with an endpoint moved out of the frame are not counted.
        """
        target = heatmaps.peaks(reference, self.sigma)  # (N, 4, 2)
        known = ~target.isnan().any(dim=2).any(dim=1)
        errors = heatmaps.distance(heatmaps.peaks(maps, self.sigma), target)
        return torch.stack([errors.where(known, 0).sum(), known.sum()]).float()

    def scores(self, sums: torch.Tensor) -> dict[str, float]:
        """Columns of the history: the mean error in percent of the OFD, and "selection", its negative."""
        percent = 100 * float(sums[0] / sums[1])
        return {"error_percent": percent, "selection": -percent}

    def areas(self, maps: torch.Tensor) -> torch.Tensor:
        """Masks for display, (N, h, w) uint8: heatmaps above half their peak, 1 for the OFD, 2 for the BPD."""
        lines = inference.to_line_heatmaps(maps) > AREA_LEVEL
        return torch.where(lines[:, 1], 2, lines[:, 0].long()).byte()


Objective = RegionObjective | HeatmapObjective


def heatmap_objective(network: dict[str, Any], arrays: Arrays) -> HeatmapObjective:
    """The objective of a `models.describe` record; ValueError if the network or the arrays do not fit landmarks."""
    channels = network["arguments"]["out_channels"]
    if channels not in HEATMAPS_PER:
        raise ValueError(
            f"out_channels = {channels}: heatmaps need 2 (one per line) or 4 (one per point); rerun 03_model"
        )
    if arrays.points is None or arrays.sigmas is None:
        raise ValueError("the arrays contain no landmarks; rerun 02_preprocessing")
    # A width in mm differs between the cases of a batch; peak detection needs only an approximate value.
    return HeatmapObjective(HEATMAPS_PER[channels], float(np.median(arrays.sigmas)))


def targets(objective: Objective, arrays: Arrays, rows: np.ndarray) -> np.ndarray:
    """Targets of array rows without augmentation: (rows, h, w) uint8 or (rows, K, h, w) float32."""
    return np.stack([objective.target(arrays, row, *reference_of(arrays, row)) for row in rows.tolist()])


def reference_of(arrays: Arrays, row: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Mask (h, w) and points (4, 2) or None of an array row."""
    return arrays.masks[row], None if arrays.points is None else arrays.points[row]


def pooled(counts: torch.Tensor, metric: Literal["dice", "iou"]) -> list[float]:
    """Dice or IoU of each class from a summed `tally`; 1 for a class absent from both reference and prediction."""
    table = counts.cpu().numpy().astype(float).reshape(int(len(counts) ** 0.5), -1)
    both, total = np.diag(table), table.sum(axis=0) + table.sum(axis=1)
    top, bottom = (2 * both, total) if metric == "dice" else (both, total - both)
    return [float(t / b) if b else 1.0 for t, b in zip(top, bottom)]


def most_probable(values: torch.Tensor) -> torch.Tensor:
    """The most probable class of logits (N, K, h, w), as (N, h, w) uint8; masks (N, h, w) are returned unchanged."""
    if values.ndim == 3:
        return values
    return (values[:, 0] > 0).byte() if values.shape[1] == 1 else values.argmax(dim=1).byte()
