"""The cases of a study with everything that evaluating predictions needs."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.data import cases as manifest
from lib.data import splits
from lib.data.arrays import Arrays
from lib.data.dataset import Dataset
from lib.data.splits import Parts
from lib.imaging import mask_files


@dataclass(frozen=True)
class EvaluationSet:
    """Shared by the evaluation of every run of a study."""

    cases: pd.DataFrame  # the manifest of 01_data_verification
    folds: pd.DataFrame  # which case is tested when
    arrays: Arrays | None  # preprocessed cases; None if nothing is predicted
    dataset: Dataset
    folder: Path  # of 05_evaluation, with predictions and models
    points: pd.DataFrame | None = None  # landmarks in native pixels (case, POINT_COLUMNS); None for regions
    limited: dict[int, Parts] | None = None  # a few cases by tested fold, in a quick pass (lib.data.quick_pass)
    _kept: dict[str, tuple[tuple[int, ...], bytes]] = field(default_factory=dict, init=False, repr=False)

    def parts(self, fold: int) -> Parts:
        """Cases of `train`, `validation` and `test` if a fold is tested; in a quick pass only those it uses."""
        return splits.parts(self.folds, fold) if self.limited is None else self.limited[fold]

    def read_case(self, row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Image and reference mask of a manifest row at native size; raises as `cases.unchanged` does."""
        image, mask = manifest.unchanged(row)
        return self.dataset.read_image(image), self._reference(row["case"], mask)

    def read_reference(self, row: Mapping[str, Any]) -> np.ndarray:
        """Reference mask of a manifest row at native size, read-only; raises as `cases.unchanged` does."""
        return self._reference(row["case"], manifest.unchanged(row)[1])

    def _reference(self, case: str, files: list[Path]) -> np.ndarray:
        """05 needs each mask up to six times, so it is decoded once and kept compressed: about 4 kB in HC18."""
        if case not in self._kept:
            mask = self.dataset.read_mask(files)
            self._kept[case] = mask.shape, zlib.compress(np.ascontiguousarray(mask), 1)
        shape, content = self._kept[case]
        return np.frombuffer(zlib.decompress(content), np.uint8).reshape(shape)

    def predicted(self, stage: str, fold: int, seed: int, case: str) -> Path:
        """Path of the predicted mask of a case."""
        return mask_files.mask_path(self.folder / "predictions", stage, fold, seed, case, self.dataset.volumes)

    def read_predicted(self, stage: str, fold: int, seed: int, case: str) -> np.ndarray:
        """Predicted mask of a case, (H, W) or (D, H, W) uint8; ValueError unless it has its size and classes."""
        path = self.predicted(stage, fold, seed, case)
        mask, (row,) = mask_files.read(path), self.rows([case])
        native = (int(row["slices"]),) * self.dataset.volumes + (int(row["height"]), int(row["width"]))
        if mask.shape != native:
            raise ValueError(
                f"{path}: size {mask.shape}; expected {native}, as the image of {case}; rerun 05_evaluation"
            )
        largest, count = int(mask.max()), len(self.dataset.classes)
        if largest >= count:
            raise ValueError(
                f"{path}: class index {largest}; expected 0 to {count - 1} ({', '.join(self.dataset.classes)})"
            )
        return mask

    def rows(self, names: list[str]) -> list[dict[str, Any]]:
        """Manifest rows of the named cases, in that order; KeyError for an unknown case."""
        return [self._row_of[name] for name in names]

    @cached_property
    def _row_of(self) -> dict[str, dict[str, Any]]:
        return {row["case"]: row for row in self.cases.to_dict("records")}
