"""What a network learns: class regions, or heatmaps of landmarks, with the same attributes and methods for the loop.

N images have h x w pixels and K output channels. `metric` chooses the checkpoint, in the words of a progress line;
`blank` is its value of a network that finds nothing; `threshold_mode`: how ReduceLROnPlateau measures a gain, "rel"
where that value is positive, else "abs".
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
AREA_LEVEL = 0.5  # of a heatmap whose peak is 1


@dataclass(frozen=True)
class RegionObjective:
    """Giving each pixel its class; pooled Dice or IoU, averaged with class weights, chooses."""

    classes: list[str]
    mixture: losses.Mixture
    overlap: Literal["dice", "iou"]  # which measure chooses
    class_weights: list[float]  # of its average

    blank: ClassVar[float] = 0.0
    threshold_mode: ClassVar[Literal["rel", "abs"]] = "rel"
    predict = staticmethod(inference.predict)

    @property
    def metric(self) -> str:
        """In the words of a progress line."""
        return {"dice": "pooled Dice", "iou": "pooled IoU"}[self.overlap]

    def target(self, arrays: Arrays, row: int, mask: np.ndarray, points: np.ndarray | None) -> np.ndarray:  # noqa: ARG002
        """What a case must give, of its mask (h, w) and points (4, 2) or None: the mask as it is."""
        return mask

    def loss(self, logits: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """The mixture of losses, a scalar, of logits (N, K, h, w) and masks (N, h, w)."""
        return losses.combined(logits, reference.long(), self.mixture)

    def tally(self, logits: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Pixels by reference and predicted class, (classes ** 2,) int64, to be added over batches."""
        count = len(self.classes)
        pairs = reference.long() * count + most_probable(logits).long()
        return torch.bincount(pairs.flatten(), minlength=count**2)

    def scores(self, counts: torch.Tensor) -> dict[str, float]:
        """Columns of the history: Dice of each class, and "selection", the weighted mean of Dice or IoU.

        Pooled over cases, because the mean over cases ignores what is invented where a class is absent.
        """
        dice = pooled(counts, "dice")
        selection = float(np.average(pooled(counts, self.overlap), weights=self.class_weights))
        return {f"dice_{name}": dice[i] for i, name in enumerate(self.classes) if i > 0} | {"selection": selection}

    def areas(self, values: torch.Tensor) -> torch.Tensor:
        """To look at, (N, h, w) uint8: the most probable class of logits; masks as they are."""
        return most_probable(values)


@dataclass(frozen=True)
class HeatmapObjective:
    """Marking the ends of OFD and BPD; the mean error as a share of the OFD chooses."""

    per: Literal["line", "point"]  # one heatmap for each
    sigma: float  # standard deviation by which peaks are read off, network pixels

    metric: ClassVar[str] = "error (% of OFD)"
    blank: ClassVar[float] = -100.0
    threshold_mode: ClassVar[Literal["rel", "abs"]] = "abs"
    predict = staticmethod(inference.predict_heatmaps)

    def target(self, arrays: Arrays, row: int, mask: np.ndarray, points: np.ndarray | None) -> np.ndarray:
        """The heatmaps of a case, (K, h, w) float32; ValueError if the arrays hold no landmarks."""
        if points is None or arrays.sigmas is None:
            raise ValueError(f"{arrays.names[row]}: no landmarks; run 02_preprocessing again")
        return heatmaps.encode(points, float(arrays.sigmas[row]), mask.shape, self.per)

    def loss(self, maps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """1 for a blank output, 0 for a perfect one; of heatmaps (N, K, h, w)."""
        return losses.heatmap_loss(maps, reference)

    def tally(self, maps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Sum of the errors as shares of the OFD, and number of images: (2,) float32.

        Both sides are read off as peaks in whole pixels, so that a perfect output has no error. An image whose target
        does not show all four ends, because one was moved out of the frame, does not count.
        """
        target = heatmaps.peaks(reference, self.sigma)  # (N, 4, 2)
        known = ~target.isnan().any(dim=2).any(dim=1)
        shares = heatmaps.distance(heatmaps.peaks(maps, self.sigma)[known], target[known])
        return torch.stack([shares.sum(), known.sum()]).float()

    def scores(self, sums: torch.Tensor) -> dict[str, float]:
        """The mean error in percent of the OFD."""
        percent = 100 * float(sums[0] / sums[1])
        return {"error_percent": percent, "selection": -percent}

    def areas(self, maps: torch.Tensor) -> torch.Tensor:
        """Where a heatmap reaches half its height: 1 the ends of the OFD, 2 those of the BPD."""
        lines = inference.per_line(maps) > AREA_LEVEL
        return torch.where(lines[:, 1], 2, lines[:, 0].long()).byte()


Objective = RegionObjective | HeatmapObjective


def heatmap_objective(network: dict[str, Any], arrays: Arrays) -> HeatmapObjective:
    """The objective of a network, as models.describe gives it; ValueError if it or the arrays fit no landmarks."""
    channels = network["arguments"]["out_channels"]
    if channels not in HEATMAPS_PER:
        raise ValueError(
            f"out_channels = {channels}: heatmaps need 2 (a line each) or 4 (a point each); run 03_model again"
        )
    if arrays.points is None or arrays.sigmas is None:
        raise ValueError("the arrays hold no landmarks; run 02_preprocessing again")
    # In mm the width differs from case to case, and a batch mixes them; peaks need it only roughly.
    return HeatmapObjective(HEATMAPS_PER[channels], float(np.median(arrays.sigmas)))


def targets(objective: Objective, arrays: Arrays, rows: np.ndarray) -> np.ndarray:
    """What some array rows, as they are, must give: (rows, h, w) uint8 or (rows, K, h, w) float32."""
    return np.stack([objective.target(arrays, row, *reference_of(arrays, row)) for row in rows.tolist()])


def reference_of(arrays: Arrays, row: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Mask (h, w) and points (4, 2), or None, of an array row."""
    return arrays.masks[row], None if arrays.points is None else arrays.points[row]


def pooled(counts: torch.Tensor, metric: Literal["dice", "iou"]) -> list[float]:
    """Dice or IoU of each class from summed counts; 1 for a class that is in neither."""
    table = counts.cpu().numpy().astype(float).reshape(int(len(counts) ** 0.5), -1)
    both, total = np.diag(table), table.sum(axis=0) + table.sum(axis=1)
    top, bottom = (2 * both, total) if metric == "dice" else (both, total - both)
    return [float(t / b) if b else 1.0 for t, b in zip(top, bottom)]


def most_probable(values: torch.Tensor) -> torch.Tensor:
    """The most probable class of logits (N, K, h, w), as (N, h, w) uint8; masks (N, h, w) as they are."""
    if values.ndim == 3:
        return values
    return (values[:, 0] > 0).byte() if values.shape[1] == 1 else values.argmax(dim=1).byte()
