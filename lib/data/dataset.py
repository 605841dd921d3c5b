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
    """How the project makes a data set itself.

    Attributes:
        write: (empty folder, number of subjects, seed) -> None.
        subjects, seed: of the data set that studies use.
        modules: whose code decides what the files hold.
    """

    write: Callable[[Path, int, int], None]
    subjects: int
    seed: int
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """What the project must know of a data set.

    Attributes:
        title: as the report names it.
        citation: key in the bibliography.
        licence: short name.
        subject: what a subject is here, for the report ("examination", "patient").
        classes: names that a study lists, in index order.
        find_cases: (folder, groups) -> (cases, findings); raises ValueError when the folder is not this layout.
        read_mask: (files of a reference, read=image_files.read_pixels) -> (H, W) uint8 class indices; raises
            ValueError.
        groups: parts that a study may choose from; () for a data set without.
        read_image: file (or folder of a volume) -> (H, W) uint8, of a volume (D, H, W, channels); raises ValueError.
        channels: of an image as the network sees it.
        shown_channel: which of them people look at.
        volumes: whether a case is a volume of slices; its masks are then (D, H, W).
        inspect: (case, image, mask) -> findings that only pixels tell; None for none.
        names_subjects: whether it says who is who; if not, subjects are taken from the data set that the images come
            from, or images that look alike for one subject.
        made: for data that the project makes itself.
    """

    title: str
    citation: str
    licence: str
    subject: str
    classes: tuple[str, ...]
    find_cases: Callable[[Path, Sequence[str]], tuple[list[Case], list[Finding]]]
    read_mask: Callable[..., np.ndarray]
    groups: tuple[str, ...] = ()
    read_image: Callable[[Path], np.ndarray] = read_grey
    channels: int = 1
    shown_channel: int = 0
    volumes: bool = False
    inspect: Callable[[Case, np.ndarray, np.ndarray], list[Finding]] | None = None
    names_subjects: bool = True
    made: Making | None = None
