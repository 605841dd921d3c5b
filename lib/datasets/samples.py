"""Cases opened to be looked at: images, references, and predictions over them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lib.data import cases
from lib.data.dataset import Dataset
from lib.imaging import volumes


def read_case(dataset: Dataset, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Image and reference mask of a row of the manifest at native size; errors as of `cases.unchanged`."""
    image, mask = cases.unchanged(row)
    return dataset.read_image(image), dataset.read_mask(mask)


def read_mask(dataset: Dataset, row: Mapping[str, Any]) -> np.ndarray:
    """Reference mask of a row of the manifest at native size; errors as of `cases.unchanged`."""
    return dataset.read_mask(cases.unchanged(row)[1])


@dataclass(frozen=True)
class Samples:
    """Some cases as published, to look at; of a volume the slice that shows most of its reference."""

    names: list[str]
    images: list[np.ndarray]  # (H, W) uint8 each
    masks: list[np.ndarray]  # (H, W) uint8 class indices each
    spacings_mm: list[tuple[float, float] | None]  # (row, col) each, None where it is not known
    slices: list[int]  # which slice of a volume is shown, 0 for an image


def load(dataset: Dataset, table: pd.DataFrame, names: list[str]) -> Samples:
    """Images, reference masks and spacings of some cases of a manifest."""
    rows = table.set_index("case").loc[names].to_dict("records")
    spacings = [cases.spacing_mm(row) for row in rows]
    read = [read_case(dataset, row) for row in rows]
    images, masks = ([each[part] for each in read] for part in (0, 1))
    if not dataset.volumes:
        return Samples(list(names), images, masks, spacings, [0] * len(names))
    slices = [volumes.fullest_slice(mask) for mask in masks]
    images = [np.ascontiguousarray(image[at, ..., dataset.display_channel]) for image, at in zip(images, slices)]
    return Samples(list(names), images, [mask[at] for mask, at in zip(masks, slices)], spacings, slices)


def spread(table: pd.DataFrame, count: int) -> list[str]:
    """Names of some cases, evenly spaced through the manifest."""
    places = np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int)
    return table["case"].iloc[places].tolist()


@dataclass(frozen=True)
class Overlay:
    """One prediction over its image: masks (H, W) uint8 of class indices, or landmarks (4, 2) of (row, col).

    Landmarks are the ends of OFD and of BPD, NaN for an end that was missed.
    """

    name: str
    image: np.ndarray  # (H, W) uint8
    reference: np.ndarray
    predicted: np.ndarray
    spacing_mm: tuple[float, float] | None  # (row, col), None where it is not known
    note: str  # beside the name, such as "Dice 0.971" or "OFD 0.52 mm"
