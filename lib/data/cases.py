"""Cases: who is there, as the manifest holds them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from lib.study import files

QUANTITIES = ("bpd", "ofd", "hc")  # biparietal diameter, occipitofrontal diameter, head circumference
GUESSES = ("baseline", "mean shape", "blank map")  # routes that look at no image
REFERENCE_COLUMNS = tuple(f"{quantity}_mm" for quantity in QUANTITIES)
PIXEL_SIZE = ["spacing_row_mm", "spacing_col_mm"]
CASE_COLUMNS = ["case", "subject", "fold_group", "stratum", "split", "image", "mask", "slices", "height", "width"]
CASE_COLUMNS += ["spacing_slice_mm", *PIXEL_SIZE, *REFERENCE_COLUMNS, "sha256"]
SEPARATOR = "|"  # between the files of one reference in the manifest


@dataclass(frozen=True)
class Case:
    """One image with its reference, or one volume: a patient with all slices."""

    name: str  # unique within the data set
    subject: str  # person or examination; folds never split it
    image: Path  # file; of a volume the folder of its slices
    mask: tuple[Path, ...]  # files that make up the reference, in the data set's own encoding
    spacing_mm: tuple[float, float] | None  # (row, col) pixel size; None where it is not published
    stratum: str = ""  # what folds should share evenly: a group, then finer words, such as "malignant small"
    split: str = ""  # the publisher's; "" for none
    reference_mm: dict[str, float] = field(default_factory=dict)  # what the publisher measured, such as {"hc": 174.1}
    shows: Literal["something", "nothing", "either"] = "something"  # a normal image nothing, a screened one either
    slice_mm: float | None = None  # distance between a volume's slices; None where it is not published


def relative(path: Path) -> str:
    """A path as the manifest holds it: relative to the project where it lies inside, POSIX."""
    return path.relative_to(files.ROOT).as_posix() if path.is_relative_to(files.ROOT) else path.as_posix()


def joined(paths: Sequence[Path]) -> str:
    """The files of one reference as the manifest holds them; ValueError for a path with the separator in it."""
    for path in paths:
        if SEPARATOR in str(path):
            raise ValueError(f"{path}: a name with {SEPARATOR!r}, which parts the files of a reference; rename it")
    return SEPARATOR.join(relative(path) for path in paths)


def split_paths(text: str) -> list[Path]:
    """Undoes `joined`."""
    return [files.ROOT / each for each in text.split(SEPARATOR)]


def content_hash(image: Path, mask: Sequence[Path]) -> str:
    """SHA-256 of a case's bytes, image then mask, in hex; a folder stands for its files, in order of their names."""
    whole = sha256()
    for path in dict.fromkeys((image, *mask)):  # a volume's image and mask lie in one folder
        # Hidden files, which systems leave behind, do not count.
        parts = sorted(part for part in path.iterdir() if not part.name.startswith(".")) if path.is_dir() else [path]
        for file in parts:
            try:
                whole.update(file.read_bytes())
            except OSError as error:
                raise ValueError(f"{file}: cannot be read: {error.strerror}") from error
    return whole.hexdigest()


def unchanged(row: Mapping[str, Any]) -> tuple[Path, list[Path]]:
    """Image and mask files of a row of the manifest; ValueError if their bytes have changed since 01 or are unreadable.

    After 01 nothing opens a case's files but by this function, so what was verified is what is used.
    """
    image, mask = files.ROOT / row["image"], split_paths(row["mask"])
    if content_hash(image, mask) != row["sha256"]:
        raise ValueError(f"{row['image']} or its mask has changed since 01_data_verification; run that again")
    return image, mask


def spacing_mm(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """(row, col) pixel size of a row of the manifest; None where either is not known."""
    size = float(row["spacing_row_mm"]), float(row["spacing_col_mm"])
    return size if np.isfinite(size).all() else None


def has_pixel_size(table: pd.DataFrame) -> pd.Series:
    """Whether `spacing_mm` knows the pixel size, for each row of the manifest."""
    return np.isfinite(table[PIXEL_SIZE].astype(float)).all(axis=1)


def cases_table(cases: Iterable[Case]) -> pd.DataFrame:
    """The manifest's columns that need no file to be opened, one row per case."""
    rows = [
        {
            "case": case.name,
            "subject": case.subject,
            "stratum": case.stratum,
            "split": case.split,
            "image": relative(case.image),
            "mask": joined(case.mask),
            "spacing_slice_mm": case.slice_mm if case.slice_mm else np.nan,
            **dict(zip(PIXEL_SIZE, case.spacing_mm or (np.nan, np.nan))),
            **{f"{q}_mm": case.reference_mm.get(q, np.nan) for q in QUANTITIES},
        }
        for case in cases
    ]
    return pd.DataFrame(rows).reindex(columns=CASE_COLUMNS)


def group_of(stratum: pd.Series) -> pd.Series:
    """The group of each case: the first word of its stratum, "all" where there is none."""
    return stratum.str.partition(" ")[0].replace("", "all").rename("group")
