"""What the project must know of a data set, published, one's own or made here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.data.cases import Case
from lib.data.findings import Finding
from lib.imaging.image_files import read_grey


@dataclass(frozen=True)
class Making:
    """How the project makes a data set itself."""

    write: Callable[[Path, int, int], None]  # (empty folder, number of subjects, seed)
    subjects: int  # of the data set that studies use, as the seed
    seed: int


@dataclass(frozen=True)
class Dataset:
    """What the project must know of a data set; its readers raise ValueError for what they cannot read."""

    title: str  # as the report names it
    citation: str  # key in the bibliography
    licence: str
    subject: str  # what a subject is here, for the report: "examination", "patient"
    classes: tuple[str, ...]  # names in index order
    # (folder, groups) -> (cases, findings); ValueError where the folder is not of this layout.
    find_cases: Callable[[Path, Sequence[str]], tuple[list[Case], list[Finding]]]
    # (files of a reference, read=image_files.read_pixels) -> (H, W) uint8 class indices, of a volume (D, H, W).
    read_mask: Callable[..., np.ndarray]
    groups: tuple[str, ...] = ()  # parts that a study may choose from; () for a data set without
    read_image: Callable[[Path], np.ndarray] = read_grey  # file -> (H, W), folder of a volume -> (D, H, W, C); uint8
    channels: int = 1  # of an image as the network sees it
    display_channel: int = 0  # which of them people look at
    volumes: bool = False  # whether a case is a volume of slices
    inspect: Callable[[Case, np.ndarray, np.ndarray], list[Finding]] | None = None  # of (case, image, mask)
    names_subjects: bool = True  # False: subjects are those of the data set that images come from, or look-alikes
    made: Making | None = None  # for data that the project makes itself
