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
    """What every run of a study is judged on.

    Attributes:
        cases: the manifest of 01_data_verification.
        folds: which case is tested when.
        arrays: preprocessed cases, of which baselines are made; None where nothing is predicted (06_biometry).
        dataset: reads images and reference masks.
        folder: of 05_evaluation; predictions and models lie below it.
        points: published landmarks in native pixels (case, POINT_COLUMNS); None where class regions are learnt.
    """

    cases: pd.DataFrame
    folds: pd.DataFrame
    arrays: Arrays | None
    dataset: Dataset
    folder: Path
    points: pd.DataFrame | None = None

    def predicted(self, stage: str, fold: int, seed: int, case: str) -> Path:
        """Where the predicted mask of a case lies."""
        return mask_files.place(self.folder / "predictions", stage, fold, seed, case, self.dataset.volumes)

    def rows(self, names: list[str]) -> list[dict[str, Any]]:
        """Rows of the manifest of some cases, in the order of the names."""
        return self.cases.set_index("case", drop=False).loc[names].to_dict("records")
