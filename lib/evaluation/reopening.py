"""A case predicted again by the model of its fold, for a reader who wants to see more than the mask on disk."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib import metrics
from lib.imaging import geometry
from lib.models import devices, trained_model
from lib.models.trained_model import Model
from lib.study import files


def load(evaluation: Path, fold: int, seed: int, device: str) -> Model:
    """The completed model of a run in the folder of 05_evaluation, set as the study was evaluated."""
    path = evaluation / "models" / f"{files.run_name(fold, seed)}.safetensors"
    model = trained_model.load(path, False, devices.choose(device))
    return replace(model, flip_average=model.about["flip_average"])


def dice(reference: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Dice of each class but the background in two masks; NaN for one that is in neither."""
    return {name: metrics.overlap(reference, predicted, index).dice for index, name in enumerate(classes) if index}


def heatmap(model: Model, image: np.ndarray) -> np.ndarray:
    """The higher of the heatmaps of both lines at each pixel of a native image, (H, W) float32."""
    maps, mapping = trained_model.line_heatmaps(model, image)
    return geometry.to_native(maps, mapping).max(axis=0)
