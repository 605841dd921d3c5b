"""Files of a study as rows, read once; names are relative to its folder, without .csv."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lib import datasets
from lib.data.dataset import Dataset
from lib.study import files, params, steps

Row = dict[str, Any]
COUNTED = "01_data_verification/tables/finding-counts"  # its `findings` are numbers, those of failures.csv are text
HASHED = object()  # a cell that follows from no table of the study; its file is held to the hash in its step's record


@dataclass
class Results:
    """The results of one study."""

    study: params.Study
    other: str = ""  # another study in whose folder the files are
    _tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    _others: dict[str, "Results"] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Folder of the files."""
        return files.study_folder(self.other or self.study.study)

    def of(self, name: str) -> "Results":
        """The results of this study, or of one that it is compared with."""
        if name == self.study.study:
            return self
        return self._others.setdefault(name, Results(self.study, name))

    @cached_property
    def dataset(self) -> Dataset:
        """The registered data set of the study."""
        return datasets.of(self.study)

    def table(self, name: str) -> pd.DataFrame:
        """<name>.csv, without columns if it is empty; ValueError if it is missing or malformed."""
        if name not in self._tables:
            path = self.folder / f"{name}.csv"
            is_empty = path.is_file() and path.stat().st_size <= 1  # a newline
            self._tables[name] = pd.DataFrame() if is_empty else files.read_csv(path, [])
            if name == COUNTED:
                self._tables[name] = self._tables[name].astype({"findings": int})
        return self._tables[name]

    def rows(self, name: str) -> list[Row]:
        """The rows of <name>.csv."""
        return self.table(name).to_dict("records")

    def json(self, name: str) -> Any:
        """Content of a JSON file."""
        path = self.folder / name
        if not path.is_file():
            raise ValueError(f"{name}: missing")
        return files.read_json(path)

    @cached_property
    def runs(self) -> list[steps.Step]:
        """Its training runs."""
        return steps.training_steps(self.study)

    @cached_property
    def measures_heads(self) -> bool:
        """Whether 06_biometry has any measurement."""
        return (self.folder / "06_biometry/measurements.csv").is_file() and bool(self.rows("06_biometry/measurements"))


def grouped(rows: Iterable[Row], *keys: str) -> dict[tuple, list[Row]]:
    """Rows by the values of some columns, in order of appearance."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def summarised(rows: Iterable[Row], keys: tuple[str, ...], describe: Callable[[list[Row]], Row]) -> list[Row]:
    """One row per group: its key and what `describe` computes from its rows."""
    return [dict(zip(keys, key)) | describe(group) for key, group in grouped(rows, *keys).items()]


def present(row: Row) -> bool:
    """Whether the reference of a row of 05's cases.csv contains the class."""
    return row["tp"] + row["fn"] > 0


def drawn(row: Row) -> bool:
    """Whether the prediction of such a row contains the class."""
    return row["tp"] + row["fp"] > 0
