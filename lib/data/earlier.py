"""Files that a notebook reads from earlier steps, and the evaluation set built from them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.data import arrays
from lib.data.arrays import Arrays
from lib.data.cases import CASE_COLUMNS
from lib.data.dataset import Dataset
from lib.data.evaluation_set import EvaluationSet
from lib.data.findings import FINDING_COLUMNS
from lib.data.splits import FOLD_COLUMNS
from lib.imaging.head_points import POINT_COLUMNS
from lib.study import files

FILES = {  # file: (step that writes it, required columns)
    "cases.csv": ("01_data_verification", CASE_COLUMNS),
    "findings.csv": ("01_data_verification", FINDING_COLUMNS),
    "folds.csv": ("01_data_verification", FOLD_COLUMNS),
    "points.csv": ("01_data_verification", ["case", *POINT_COLUMNS]),
    "dataset.json": ("02_preprocessing", []),
    "lost.csv": ("02_preprocessing", ["case", "in_dropped_slices", "outside_crop"]),
    "model.json": ("03_model", []),
    "structures.csv": ("05_evaluation", ["case", "class"]),
    "indicators.csv": ("05_evaluation", ["case", "fold", "seed", "role", "route"]),
    "limits.csv": ("05_evaluation", ["fold", "seed", "flag", "limit"]),
    "intervals.csv": ("05_evaluation", ["fold", "seed", "quantity", "error_per_root"]),
}
FolderOf = Callable[[str], Path]  # folder of a step by name; raises ValueError if the step has not finished


def read(name: str, folder_of: FolderOf) -> Any:
    """A file of FILES: a table, or the content of a JSON file; ValueError if its step has not finished."""
    step, columns = FILES[name]
    path = folder_of(step) / name
    return files.read_json(path) if path.suffix == ".json" else files.read_csv(path, columns)


def read_arrays(folder_of: FolderOf) -> Arrays:
    """The preprocessed cases; raises as `read` and `arrays.open_arrays` do."""
    return arrays.open_arrays(read("dataset.json", folder_of)["fingerprint"])


def evaluation_set(folder_of: FolderOf, dataset: Dataset, learns_points: bool, writes_to: Path | None) -> EvaluationSet:
    """The evaluation set of a study; `writes_to` is the folder of a running 05_evaluation, None in later steps."""
    return EvaluationSet(
        cases=read("cases.csv", folder_of),
        folds=read("folds.csv", folder_of),
        arrays=read_arrays(folder_of) if writes_to else None,
        dataset=dataset,
        folder=writes_to or folder_of("05_evaluation"),
        points=read("points.csv", folder_of) if learns_points else None,
    )
