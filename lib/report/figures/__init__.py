"""The one place with plotting style: a function a figure, data in, Figure out."""

from lib.report.figures.bars import dice_bars
from lib.report.figures.charts import (
    agreement_scatter,
    bland_altman,
    confusion,
    dice_distribution,
    feature_sizes,
    folds,
    landmark_errors,
    overfit,
    paired_differences,
    sizes,
    training_curves,
)
from lib.report.figures.sheets import (
    augmentations,
    heatmaps,
    landmark_overlays,
    overlays,
    preprocessing,
    probability,
    samples,
)
from lib.report.figures.style import class_colour, jitter, save

__all__ = [
    "agreement_scatter",
    "augmentations",
    "bland_altman",
    "class_colour",
    "confusion",
    "dice_bars",
    "dice_distribution",
    "feature_sizes",
    "folds",
    "heatmaps",
    "jitter",
    "landmark_errors",
    "landmark_overlays",
    "overfit",
    "overlays",
    "paired_differences",
    "preprocessing",
    "probability",
    "samples",
    "save",
    "sizes",
    "training_curves",
]
