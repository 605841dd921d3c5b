"""The cases that a study is judged on, and what is needed to judge predictions of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lib.data.arrays import Arrays
from lib.data.dataset import Dataset
from lib.imaging import mask_files


@dataclass(frozen=True)
class EvaluationSet:
    """What every run of a study is judged on."""

    cases: pd.DataFrame  # the manifest of 01_data_verification
    folds: pd.DataFrame  # which case is tested when
    arrays: Arrays | None  # preprocessed cases, of which baselines are made; None where nothing is predicted
    dataset: Dataset
    folder: Path  # of 05_evaluation; predictions and models lie below it
    points: pd.DataFrame | None = None  # landmarks in native pixels (case, POINT_COLUMNS); None of regions

    def predicted(self, stage: str, fold: int, seed: int, case: str) -> Path:
        """Where the predicted mask of a case lies."""
        return mask_files.mask_path(self.folder / "predictions", stage, fold, seed, case, self.dataset.volumes)

    def rows(self, names: list[str]) -> list[dict[str, Any]]:
        """Rows of the manifest of some cases, in the order of the names."""
        return self.cases.set_index("case", drop=False).loc[names].to_dict("records")
