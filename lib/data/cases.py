"""Cases and the manifest (cases.csv), one row per case."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from lib.study import files, system_files

QUANTITIES = ("bpd", "ofd", "hc")  # biparietal diameter, occipitofrontal diameter, head circumference
TRIVIAL_BASELINES = ("baseline", "mean shape", "blank map")  # routes that use no image
REFERENCE_COLUMNS = tuple(f"{quantity}_mm" for quantity in QUANTITIES)
PIXEL_SIZE = ["spacing_row_mm", "spacing_col_mm"]
CASE_COLUMNS = ["case", "subject", "fold_group", "stratum", "split", "image", "mask", "slices", "height", "width"]
CASE_COLUMNS += ["spacing_slice_mm", *PIXEL_SIZE, *REFERENCE_COLUMNS, "sha256"]
SEPARATOR = "|"  # between the mask files of one case in the manifest


@dataclass(frozen=True)
class Case:
    """One image with its reference, or one volume (a patient with all slices)."""

    name: str  # unique within the data set
    subject: str  # person or examination; folds never split it
    image: Path  # a file; for a volume the folder of its slices
    mask: tuple[Path, ...]  # reference files, as published
    spacing_mm: tuple[float, float] | None  # (row, col) pixel size; None if not published
    stratum: str = ""  # for stratified folds: a group, optionally refined, such as "malignant small"
    split: str = ""  # the publisher's; "" for none
    reference_mm: dict[str, float] = field(default_factory=dict)  # published measurements, such as {"hc": 174.1}
    foreground: Literal["present", "absent", "either"] = "present"  # "absent": a normal image has an empty mask
    slice_mm: float | None = None  # distance between slices; None if not published


def relative_path(path: Path) -> str:
    """A path as written in the manifest: POSIX, relative to the project if it is inside."""
    return path.relative_to(files.ROOT).as_posix() if path.is_relative_to(files.ROOT) else path.as_posix()


def join_paths(paths: Sequence[Path]) -> str:
    """The mask files of one case as written in the manifest; ValueError for a path that contains the separator."""
    for path in paths:
        if SEPARATOR in str(path):
            raise ValueError(f"{path}: the name contains {SEPARATOR!r}, the separator of mask files; rename the file")
    return SEPARATOR.join(relative_path(path) for path in paths)


def split_paths(text: str) -> list[Path]:
    """Inverse of `join_paths`."""
    return [files.ROOT / each for each in text.split(SEPARATOR)]


def content_hash(image: Path, mask: Sequence[Path]) -> str:
    """SHA-256 (hex) of a case's image and mask bytes; a folder stands for its files, sorted, without the system's."""
    whole = sha256()
    for path in dict.fromkeys((image, *mask)):  # a volume's image and mask share one folder
        parts = system_files.visible(path) if path.is_dir() else [path]
        for file in parts:
            try:
                whole.update(files.read_bytes(file))
            except OSError as error:
                raise ValueError(f"{file}: cannot be read: {files.reason(error)}") from error
    return whole.hexdigest()


def unchanged(row: Mapping[str, Any]) -> tuple[Path, list[Path]]:
    """Image and mask files of a manifest row, for all code after 01; ValueError if unreadable or changed since 01."""
    image, mask = files.ROOT / row["image"], split_paths(row["mask"])
    if content_hash(image, mask) != row["sha256"]:
        raise ValueError(f"{row['image']} or its mask has changed since 01_data_verification; rerun it")
    return image, mask


def spacing_mm(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """(row, col) pixel size in a manifest row; None if either is unknown, ValueError if one is not above 0."""
    return _known_mm(row, PIXEL_SIZE)  # type: ignore[return-value]


def sample_mm(row: Mapping[str, Any], is_volume: bool) -> tuple[float, ...] | None:
    """Distances between pixel centres along the axes of a native mask, (row, col) or, in volumes, (slice, row, col).

    None if any of them is unknown; ValueError if one is not above 0.
    """
    return _known_mm(row, ["spacing_slice_mm"] * is_volume + PIXEL_SIZE)


def _known_mm(row: Mapping[str, Any], columns: list[str]) -> tuple[float, ...] | None:
    sizes = {name: float(row[name]) for name in columns}
    for name, size in sizes.items():
        if size <= 0:
            raise ValueError(f"case {row['case']}: {name} = {size:g}; expected above 0 mm, or nothing if it is unknown")
    return tuple(sizes.values()) if np.isfinite(list(sizes.values())).all() else None


def has_pixel_size(table: pd.DataFrame) -> pd.Series:
    """Whether the pixel size is known, one bool per manifest row."""
    return np.isfinite(table[PIXEL_SIZE].astype(float)).all(axis=1)


def cases_table(cases: Iterable[Case]) -> pd.DataFrame:
    """The manifest (CASE_COLUMNS), one row per case; columns that need the pixels stay empty."""
    rows = [
        {
            "case": case.name,
            "subject": case.subject,
            "stratum": case.stratum,
            "split": case.split,
            "image": relative_path(case.image),
            "mask": join_paths(case.mask),
            "spacing_slice_mm": case.slice_mm if case.slice_mm else np.nan,
            **dict(zip(PIXEL_SIZE, case.spacing_mm or (np.nan, np.nan))),
            **{f"{q}_mm": case.reference_mm.get(q, np.nan) for q in QUANTITIES},
        }
        for case in cases
    ]
    return pd.DataFrame(rows).reindex(columns=CASE_COLUMNS)


def group_of(stratum: pd.Series) -> pd.Series:
    """Group of each case: the first word of its stratum, "all" if it is empty."""
    return stratum.str.partition(" ")[0].replace("", "all").rename("group")


def group_names(table: pd.DataFrame) -> dict[str, str]:
    """Name in print of each group of a whole manifest, so that it is one name in all tables, figures and sentences.

    A range of head sizes (hc0, hc1 …) is named by its limits, such as "HC 57–99 mm", any other group as it is.
    """
    names = {}
    for name, sizes in table["hc_mm"].groupby(group_of(table["stratum"])):
        known = sizes.dropna()
        is_range = re.fullmatch(r"hc\d+", name) and len(known)
        names[name] = f"HC {known.min():.0f}–{known.max():.0f} mm" if is_range else name
    return names
