"""The data sets that the project reads: one module a layout, one line here each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib import files
from lib.cases import Case, Finding, read_grey
from lib.datasets import hc18, phantom


@dataclass(frozen=True)
class Dataset:
    """What the project must know of a data set.

    Attributes:
        title: as the report names it.
        citation: key in the bibliography.
        licence: short name.
        subject: what a subject is here, for the report ("examination", "patient").
        classes: names that a study lists, in index order.
        find_cases: folder -> (cases, findings); raises ValueError when the folder is not this layout.
        read_mask: mask file -> (H, W) uint8 class indices; raises ValueError.
        write: folder -> None, for data that the project makes itself.
    """

    title: str
    citation: str
    licence: str
    subject: str
    classes: tuple[str, ...]
    find_cases: Callable[[Path], tuple[list[Case], list[Finding]]]
    read_mask: Callable[[Path], np.ndarray]
    write: Callable[[Path], None] | None = None


DATASETS: dict[str, Dataset] = {
    "hc18": Dataset(
        "HC18, fetal head circumference",
        "hc18",
        "CC BY 4.0",
        "examination",
        ("background", "head"),
        hc18.find_cases,
        hc18.read_mask,
    ),
    "phantom_brain": Dataset(
        "Phantom of fetal brain structures",
        "phantom",
        "made by this project",
        "examination",
        ("background", "parenchyma", "csp", "lv"),
        phantom.find_cases,
        phantom.read_mask,
        phantom.write_demo,
    ),
}


def get(name: str, classes: list[str]) -> Dataset:
    """A registered data set.

    Raises:
        ValueError: no such name, or classes that it does not have.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset = {name!r}   not known; allowed: {', '.join(DATASETS)}")
    dataset = DATASETS[name]
    if tuple(classes) != dataset.classes:
        raise ValueError(f"classes = {classes}   not those of {name}; allowed: {list(dataset.classes)}")
    return dataset


def prepare(name: str) -> Path:
    """The raw folder of a data set, made first if the project makes this data itself.

    Raises:
        ValueError: the folder is absent; the message says how to get it.
    """
    folder, write = files.raw_folder(name), DATASETS[name].write
    if write is not None:
        write(folder)
    elif not folder.is_dir():
        raise ValueError(
            f"data/raw/{name}: no such folder; link your copy with 'make study STUDY=<name> DATA=<folder>'"
        )
    return folder


@dataclass(frozen=True)
class Samples:
    """Some cases as published, to look at.

    Attributes:
        names: of the cases.
        images: (H, W) uint8 each.
        masks: (H, W) uint8 class indices each.
        spacings_mm: (row, col) each, None where it is not known.
    """

    names: list[str]
    images: list[np.ndarray]
    masks: list[np.ndarray]
    spacings_mm: list[tuple[float, float] | None]


def load(dataset: Dataset, table: pd.DataFrame, names: list[str]) -> Samples:
    """Images, reference masks and spacings of some cases of a manifest."""
    rows = table.set_index("case").loc[names]
    spacings = [
        (row, col) if np.isfinite(row) else None for row, col in zip(rows["spacing_row_mm"], rows["spacing_col_mm"])
    ]
    images = [read_grey(files.ROOT / path) for path in rows["image"]]
    masks = [dataset.read_mask(files.ROOT / path) for path in rows["mask"]]
    return Samples(list(names), images, masks, spacings)


def spread(table: pd.DataFrame, count: int) -> list[str]:
    """Names of some cases, evenly spaced through the manifest."""
    places = np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int)
    return table["case"].iloc[places].tolist()
