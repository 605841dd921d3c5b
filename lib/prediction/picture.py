"""An image or volume as a model takes it, whatever file it came from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Spacing = tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """One case: the pixels, their size, and what is needed to write its mask like the input."""

    case: str  # name of its output files, relative to their folder, without suffix
    file: str  # name of the input as it is printed: below the given folder, never a whole path
    pixels: np.ndarray  # (H, W) uint8, or a volume (D, H, W, channels) uint8
    spacing_mm: Spacing | None = None  # (row, col)
    slice_mm: float | None = None  # distance between the slices of a volume
    calibration: str = ""  # where the pixel size comes from, or why there is none
    notes: list[str] = field(default_factory=list)  # what was changed or ignored in reading
    like: Any = None  # of volumes: names of the slices, or the NIfTI geometry

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel, NaN if unknown."""
        if self.spacing_mm is None or self.slice_mm is None:
            return float("nan")
        return float(np.prod([self.slice_mm, *self.spacing_mm]))  # in the order of 06, whose last digits it has


@dataclass(frozen=True)
class Source:
    """An input file, or the folder of a volume's slices, not yet read."""

    case: str
    path: Path
    file: str  # as in Picture
