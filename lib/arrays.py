"""Preprocessed cases, as they lie on disk under data/processed/."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lib import files, geometry
from lib.geometry import Geometry


@dataclass(frozen=True)
class Arrays:
    """Preprocessed cases; row i of each array is case i.

    Attributes:
        names: of the cases.
        images: (N, 1, H, W) uint8, memory-mapped.
        masks: (N, H, W) uint8 class indices, memory-mapped.
        geometries: native to network pixels, a case each.
        fingerprint: of everything that these arrays depend on.
    """

    names: list[str]
    images: np.ndarray
    masks: np.ndarray
    geometries: list[Geometry]
    fingerprint: str

    def rows(self, names: list[str]) -> np.ndarray:
        """Array rows of some cases.

        Raises:
            ValueError: a case is not in the arrays.
        """
        absent = [name for name in names if name not in self._row_of]
        if absent:
            raise ValueError(f"{len(absent)} cases are not in the arrays ({absent[:3]} …); run 02_preprocessing again")
        return np.array([self._row_of[name] for name in names], dtype=np.int64)

    def geometry_of(self, name: str) -> Geometry:
        """The geometry of one case."""
        return self.geometries[int(self.rows([name])[0])]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.names)}


def open_arrays(name: str) -> Arrays:
    """Preprocessed arrays by their fingerprint.

    Raises:
        ValueError: they are not there.
    """
    folder = files.processed_folder(name)
    if not (folder / "dataset.json").is_file():
        raise ValueError(f"{folder}: no arrays; run 02_preprocessing")
    rows = files.read_csv(folder / "geometry.csv", ["case", *geometry.GEOMETRY_COLUMNS])
    return Arrays(
        names=rows["case"].tolist(),
        images=np.load(folder / "images.npy", mmap_mode="r"),
        masks=np.load(folder / "masks.npy", mmap_mode="r"),
        geometries=[Geometry(**row) for row in rows[geometry.GEOMETRY_COLUMNS].to_dict("records")],
        fingerprint=name,
    )


def read_arrays(folder: Path) -> Arrays:
    """The arrays that a study's 02_preprocessing named."""
    return open_arrays(files.read_json(folder / "dataset.json")["fingerprint"])
