"""Preprocessed cases, as they lie on disk under data/processed/."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lib.imaging import geometry
from lib.imaging.geometry import Geometry
from lib.study import array_files, files


@dataclass(frozen=True)
class Arrays:
    """Preprocessed cases; a row of each array is an image, or a slice of a volume."""

    names: list[str]  # case of each row; the slices of a volume lie together
    images: np.ndarray  # (N, C, H, W) uint8, or of volumes float32, already normalised; memory-mapped
    masks: np.ndarray  # (N, H, W) uint8 class indices, memory-mapped
    geometries: list[Geometry]  # native to network pixels, one per row
    slices: np.ndarray  # (N,) which native slice each row is, 0 for an image
    points: np.ndarray | None  # (N, P, 2) float32 landmarks, (row, col) in network pixels; None where none are learnt
    sigmas: np.ndarray | None  # (N,) standard deviation of a landmark's heatmap in network pixels; None as points
    fingerprint: str  # of everything that these arrays depend on
    preparation: dict[str, Any]  # what was done to every case, as of `lib.imaging.preparation`

    def rows(self, names: list[str]) -> np.ndarray:
        """Array rows of some cases, those of a volume in the order of its slices; ValueError for an absent case."""
        absent = [name for name in names if name not in self._rows_of]
        if absent:
            raise ValueError(f"{len(absent)} cases are not in the arrays ({absent[:3]} …); run 02_preprocessing again")
        return np.array([row for name in names for row in self._rows_of[name]], dtype=np.int64)

    def geometry_of(self, name: str) -> Geometry:
        """The geometry of one case; all slices of a volume share it."""
        return self.geometries[int(self.rows([name])[0])]

    @cached_property
    def _rows_of(self) -> dict[str, list[int]]:
        rows_of: dict[str, list[int]] = {}
        for row, name in enumerate(self.names):
            rows_of.setdefault(name, []).append(row)
        return rows_of


def open_arrays(name: str) -> Arrays:
    """Preprocessed arrays by their fingerprint; ValueError if they are absent, or no longer as they were made."""
    folder = files.processed_folder(name)
    wrong = array_files.byte_fault(name)
    if wrong is not None:
        raise ValueError(f"{folder}: {wrong}; make study, or notebook 02_preprocessing, makes the arrays again")
    rows = files.read_csv(folder / "geometry.csv", ["case", "slice", "sigma", *geometry.GEOMETRY_COLUMNS])
    description = files.read_json(folder / "dataset.json")
    has_points = "points.npy" in description["files"]
    return Arrays(
        names=rows["case"].tolist(),
        images=np.load(folder / "images.npy", mmap_mode="r"),
        masks=np.load(folder / "masks.npy", mmap_mode="r"),
        geometries=[Geometry(**row) for row in rows[geometry.GEOMETRY_COLUMNS].to_dict("records")],
        slices=rows["slice"].to_numpy(),
        points=np.load(folder / "points.npy") if has_points else None,
        sigmas=rows["sigma"].to_numpy(np.float32) if has_points else None,
        fingerprint=name,
        preparation=description["preparation"],
    )
