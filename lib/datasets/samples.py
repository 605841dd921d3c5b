"""Cases loaded for display: images, references and predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lib.data import cases
from lib.data.dataset import Dataset
from lib.imaging import volumes


def read_case(dataset: Dataset, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Image and reference mask of a manifest row at native size; raises as `cases.unchanged` does."""
    image, mask = cases.unchanged(row)
    return dataset.read_image(image), dataset.read_mask(mask)


def read_mask(dataset: Dataset, row: Mapping[str, Any]) -> np.ndarray:
    """Reference mask of a manifest row at native size; raises as `cases.unchanged` does."""
    return dataset.read_mask(cases.unchanged(row)[1])


@dataclass(frozen=True)
class Samples:
    """Cases at native size; a volume is represented by the slice with the largest reference area."""

    names: list[str]
    images: list[np.ndarray]  # (H, W) uint8 each
    masks: list[np.ndarray]  # (H, W) uint8 class indices each
    spacings_mm: list[tuple[float, float] | None]  # (row, col) each, None if unknown
    slices: list[int]  # index of the slice of a volume, 0 for an image


def load(dataset: Dataset, table: pd.DataFrame, names: list[str]) -> Samples:
    """Images, reference masks and spacings of the named cases of a manifest."""
    rows = table.set_index("case").loc[names].to_dict("records")
    spacings = [cases.spacing_mm(row) for row in rows]
    read = [read_case(dataset, row) for row in rows]
    images, masks = ([each[part] for each in read] for part in (0, 1))
    if not dataset.volumes:
        return Samples(list(names), images, masks, spacings, [0] * len(names))
    slices = [volumes.fullest_slice(mask) for mask in masks]
    images = [np.ascontiguousarray(image[at, ..., dataset.display_channel]) for image, at in zip(images, slices)]
    return Samples(list(names), images, [mask[at] for mask, at in zip(masks, slices)], spacings, slices)


def evenly_spaced(table: pd.DataFrame, count: int) -> list[str]:
    """Names of `count` cases, evenly spaced through the manifest."""
    rows = np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int)
    return table["case"].iloc[rows].tolist()


@dataclass(frozen=True)
class Overlay:
    """Prediction and reference on their image: masks (H, W) uint8, or landmarks (4, 2), NaN where not predicted."""

    name: str
    image: np.ndarray  # (H, W) uint8
    reference: np.ndarray
    predicted: np.ndarray
    spacing_mm: tuple[float, float] | None  # (row, col), None if unknown
    note: str  # appended to the name, such as "Dice 0.971" or "OFD 0.52 mm"
