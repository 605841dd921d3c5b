"""Description of a data set: published, custom, or a phantom."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lib.data.cases import Case
from lib.data.findings import Finding
from lib.imaging.image_files import read_grey


@dataclass(frozen=True)
class Phantom:
    """How the project generates a phantom data set."""

    write: Callable[[Path, int, int], None]  # (empty folder, number of subjects, seed)
    subjects: int  # default, as is the seed
    seed: int
    short_name: str  # in sentences: "trained on the fetal-head phantom"
    drawn: str  # what its images show, in words that the report prints


@dataclass(frozen=True)
class Dataset:
    """Names, classes and readers of a data set; the readers raise ValueError for unreadable files."""

    title: str  # used in the report
    citation: str  # key in the bibliography
    licence: str
    subject: str  # noun for a subject in the report: "examination", "patient"
    classes: tuple[str, ...]  # names in index order
    # (folder, groups) -> (cases, findings); ValueError for a folder with another layout.
    find_cases: Callable[[Path, Sequence[str]], tuple[list[Case], list[Finding]]]
    # (mask files, read=image_files.open_mask) -> (H, W) uint8 class indices, (D, H, W) for a volume.
    read_mask: Callable[..., np.ndarray]
    groups: tuple[str, ...] = ()  # subsets that a study can select; () for none
    groups_without_references: tuple[str, ...] = ()  # those of `groups` whose images the publisher did not annotate
    # (file, read=image_files.open_image) -> (H, W) uint8; folder of a volume -> (D, H, W, C) uint8.
    read_image: Callable[..., np.ndarray] = read_grey
    channels: int = 1  # of the network input
    display_channel: int = 0  # the channel shown in figures
    pixel_sizes: Literal["all", "some", "none"] = "all"  # which cases have a pixel size (and slice distance)
    volumes: bool = False  # whether a case is a volume of slices
    outlines: bool = False  # whether masks are drawn as lines only, to which an ellipse is fitted
    inspect: Callable[[Case, np.ndarray, np.ndarray], list[Finding]] | None = None  # (case, image, mask) -> findings
    names_subjects: bool = True  # False: subjects come from the source data set or from near-duplicates
    phantom: Phantom | None = None  # None for real data

    @property
    def described(self) -> dict[str, Any]:
        """What the file of a model trained on it says about it."""
        return {"licence": self.licence, "display_channel": self.display_channel}

    @property
    def is_searchable(self) -> bool:
        """Whether images are compared with those of other data sets: real images, no volumes."""
        return self.phantom is None and not self.volumes
