"""Preprocessed cases on disk, under data/processed/."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lib.imaging import geometry
from lib.imaging.geometry import Geometry
from lib.study import array_files, files


@dataclass(frozen=True)
class Arrays:
    """Preprocessed cases; N counts images, or the slices of all volumes."""

    names: list[str]  # case of each row; the slices of a volume are adjacent
    images: np.ndarray  # (N, C, H, W) uint8, for volumes float32 and normalised; memory-mapped
    masks: np.ndarray  # (N, H, W) uint8 class indices, memory-mapped
    geometries: list[Geometry]  # native to network pixels, one per row
    slices: np.ndarray  # (N,) index of the native slice of each row, 0 for an image
    points: np.ndarray | None  # (N, P, 2) float32 landmarks (row, col) in network pixels; None for regions
    sigmas: np.ndarray | None  # (N,) standard deviation of a landmark's heatmap in network pixels; None for regions
    fingerprint: str  # hash of everything that these arrays were made from; the name of their folder
    content: str  # hash of the bytes of their files and of `preparation`: what a training depends on
    preparation: dict[str, Any]  # preprocessing of every case, see `lib.imaging.preparation`

    def rows(self, names: list[str]) -> np.ndarray:
        """Array rows of the named cases, in slice order for volumes; ValueError for an unknown case."""
        absent = [name for name in names if name not in self._rows_of]
        if absent:
            raise ValueError(f"{len(absent)} cases are not in the arrays ({absent[:3]} …); rerun 02_preprocessing")
        return np.array([row for name in names for row in self._rows_of[name]], dtype=np.int64)

    def in_frame(self, rows: np.ndarray) -> np.ndarray:
        """Whether all landmarks of each array row are in its image: (rows,) bool; False if one is missing."""
        points = self.points[rows]
        inside = (points >= 0) & (points <= np.array(self.masks.shape[1:]) - 1)  # False for NaN
        return inside.all(axis=(1, 2))

    def geometry_of(self, name: str) -> Geometry:
        """Geometry of one case, shared by all slices of a volume."""
        return self.geometries[int(self.rows([name])[0])]

    @cached_property
    def _rows_of(self) -> dict[str, list[int]]:
        rows_of: dict[str, list[int]] = {}
        for row, name in enumerate(self.names):
            rows_of.setdefault(name, []).append(row)
        return rows_of


def open_arrays(name: str) -> Arrays:
    """Opens preprocessed arrays by their fingerprint; ValueError if they are missing or their bytes have changed."""
    folder = files.processed_folder(name)
    fault = array_files.byte_fault(name)
    if fault is not None:
        raise ValueError(f"{folder}: {fault}; rerun 'make study' or notebook 02_preprocessing")
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
        content=array_files.content(description),
        preparation=description["preparation"],
    )
