"""Cases, findings, folds: who is there, what is wrong, who is tested when."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from lib import files

QUANTITIES = ("bpd", "ofd", "hc")  # biparietal diameter, occipitofrontal diameter, head circumference
REFERENCE_COLUMNS = tuple(f"{quantity}_mm" for quantity in QUANTITIES)
CASE_COLUMNS = [
    "case",
    "subject",
    "fold_group",
    "stratum",
    "split",
    "image",
    "mask",
    "height",
    "width",
    "spacing_row_mm",
    "spacing_col_mm",
    *REFERENCE_COLUMNS,
    "sha256",
]
FINDING_COLUMNS = ["severity", "check", "case", "found", "expected"]
FOLD_COLUMNS = ["case", "subject", "fold_group", "fold"]


@dataclass(frozen=True)
class Case:
    """One image with its reference.

    Attributes:
        name: unique within the data set.
        subject: person or examination; folds never split it.
        image: file of the image.
        mask: file of the reference mask, in the data set's own encoding.
        spacing_mm: (row, col) pixel size in mm; None where it is not published.
        stratum: group that folds should share evenly ("" for none).
        split: the publisher's split ("" for none).
        reference_mm: quantities that the publisher measured, such as {"hc": 174.1}.
    """

    name: str
    subject: str
    image: Path
    mask: Path
    spacing_mm: tuple[float, float] | None
    stratum: str = ""
    split: str = ""
    reference_mm: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """Something that a reader of the data should know.

    `stop` ends the study until it is mended or the case is excluded, `warn` stands in the report with its
    case, `note` is a fact worth printing.
    """

    severity: Literal["stop", "warn", "note"]
    check: str
    case: str
    found: str
    expected: str


def read_pixels(path: Path) -> np.ndarray:
    """Pixels of an image file as stored: (H, W) or (H, W, channels) uint8.

    Raises:
        ValueError: missing, unreadable, truncated, or not 8 bits a channel; the message names the file.
    """
    try:
        with Image.open(path) as image:
            image.load()
            mode = image.mode
            if mode in ("P", "1"):
                image = image.convert("RGB" if mode == "P" else "L")
            pixels = np.asarray(image)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as an image: {error}") from error
    if pixels.dtype != np.uint8:
        raise ValueError(f"{path}: mode {mode}, {pixels.dtype}; expected 8 bits a channel")
    return pixels


def read_grey(path: Path) -> np.ndarray:
    """An image as (H, W) uint8; colour images by the luma of Rec. 601, transparency left out."""
    pixels = read_pixels(path)
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] <= 2:
        return np.ascontiguousarray(pixels[..., 0])
    rgb = pixels[..., :3]
    if np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 0], rgb[..., 2]):
        return np.ascontiguousarray(rgb[..., 0])
    return np.rint(rgb @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


def decode_palette(pixels: np.ndarray, palette: dict[tuple[int, int, int], int]) -> np.ndarray:
    """Class indices of a colour mask, every pixel by exact colour.

    Args:
        pixels: (H, W, 3) or (H, W, 4) uint8.
        palette: class index for each (red, green, blue); black is 0 unless it says otherwise.

    Returns:
        (H, W) uint8.

    Raises:
        ValueError: a colour is not in the palette; the message counts each unknown one.
    """
    if pixels.ndim != 3:
        raise ValueError(f"a mask of shape {pixels.shape}; expected colours, (H, W, 3)")
    code = pixels[..., 0].astype(np.uint32) << 16 | pixels[..., 1].astype(np.uint32) << 8 | pixels[..., 2]
    known = {(0, 0, 0): 0} | palette
    colours, inverse, counts = np.unique(code, return_inverse=True, return_counts=True)
    indices = {r << 16 | g << 8 | b: index for (r, g, b), index in known.items()}
    unknown = [(int(c), int(n)) for c, n in zip(colours, counts) if int(c) not in indices]
    if unknown:
        listed = ", ".join(f"({c >> 16}, {c >> 8 & 255}, {c & 255}) in {n} pixels" for c, n in unknown[:5])
        raise ValueError(f"unknown colours: {listed}; expected {sorted(known)}")
    table = np.array([indices[int(c)] for c in colours], dtype=np.uint8)
    return table[inverse].reshape(code.shape)


def relative(path: Path) -> str:
    """A path as the manifest holds it: relative to the project where it lies inside, POSIX."""
    return path.relative_to(files.ROOT).as_posix() if path.is_relative_to(files.ROOT) else path.as_posix()


def content_hash(image: Path, mask: Path) -> str:
    """SHA-256 of a case's bytes, image then mask, in hex."""
    return sha256(image.read_bytes() + mask.read_bytes()).hexdigest()


def cases_table(cases: Iterable[Case]) -> pd.DataFrame:
    """The manifest's columns that need no file to be opened, one row a case, in natural order of names."""
    rows = [
        {
            "case": case.name,
            "subject": case.subject,
            "stratum": case.stratum,
            "split": case.split,
            "image": relative(case.image),
            "mask": relative(case.mask),
            "spacing_row_mm": case.spacing_mm[0] if case.spacing_mm else np.nan,
            "spacing_col_mm": case.spacing_mm[1] if case.spacing_mm else np.nan,
            **{f"{q}_mm": case.reference_mm.get(q, np.nan) for q in QUANTITIES},
        }
        for case in cases
    ]
    return pd.DataFrame(rows).reindex(columns=CASE_COLUMNS)


def read_cases(path: Path) -> pd.DataFrame:
    """The manifest as 01_data_verification wrote it; `split` and `stratum` are text."""
    table = files.read_csv(path, CASE_COLUMNS)
    return table.fillna({"split": "", "stratum": ""})


def findings_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Findings, the grave ones first, then by check and case."""
    order = {"stop": 0, "warn": 1, "note": 2}
    rows = sorted(findings, key=lambda f: (order[f.severity], f.check, f.case))
    return pd.DataFrame([vars(finding) for finding in rows], columns=FINDING_COLUMNS)


def join_groups(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Connected components: each name's group is called by its first member in sorted order."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return {name: root(name) for name in parent}


def assign_folds(table: pd.DataFrame, fold_count: int, seed: int) -> pd.DataFrame:
    """Deals whole fold groups to folds, each stratum evenly.

    Groups of a stratum are shuffled, large ones dealt first, each to the fold with the fewest cases of that
    stratum (then the fewest in all), so folds differ little in size and mixture. The order of rows does not matter; a
    group of several strata counts as that of its first case by name.

    Args:
        table: columns case, subject, fold_group, stratum; one row a case.
        fold_count: number of folds, at most the number of groups.
        seed: of the shuffle.

    Returns:
        Columns case, subject, fold_group, fold; rows as in `table`.
    """
    groups = table.sort_values("case").groupby("fold_group", sort=True)["stratum"].agg(["first", "size"])
    if len(groups) < fold_count:
        raise ValueError(f"{len(groups)} fold groups cannot fill {fold_count} folds")
    draw = np.random.default_rng(seed)
    fold_of: dict[str, int] = {}
    total = np.zeros(fold_count, dtype=int)
    for _, stratum in groups.groupby("first", sort=True):
        shuffled = stratum.iloc[draw.permutation(len(stratum))].sort_values("size", ascending=False, kind="stable")
        own = np.zeros(fold_count, dtype=int)
        for group, size in shuffled["size"].items():
            fold = int(np.lexsort((total, own))[0])
            fold_of[str(group)] = fold
            own[fold] += size
            total[fold] += size
    folds = table[["case", "subject", "fold_group"]].copy()
    folds["fold"] = folds["fold_group"].map(fold_of)
    return folds[FOLD_COLUMNS]


def check_disjoint(folds: pd.DataFrame) -> None:
    """Refuses folds that share a subject or a fold group.

    Raises:
        ValueError: a subject (or group) is in two folds; the message names it and its cases.
    """
    for column in ("subject", "fold_group"):
        shared = folds.groupby(column)["fold"].nunique()
        for name in shared[shared > 1].index:
            rows = folds[folds[column] == name]
            placed = ", ".join(f"{case} in fold {fold}" for case, fold in zip(rows["case"], rows["fold"]))
            raise ValueError(f"{column} {name} is in two folds: {placed}; expected all its cases in one")


def are_apart(folds: pd.DataFrame, column: str) -> bool:
    """Whether no subject (or fold group) is in two folds."""
    return bool(folds.groupby(column)["fold"].nunique().max() == 1)


def parts_are_apart(folds: pd.DataFrame, divided: dict[str, list[str]]) -> bool:
    """Whether training, validation and test cases share no subject."""
    subject = folds.set_index("case")["subject"]
    sets = [set(subject.loc[names]) for names in divided.values()]
    return sum(map(len, sets)) == len(set().union(*sets))


def parts(folds: pd.DataFrame, fold: int) -> dict[str, list[str]]:
    """Cases of the three parts when one fold is tested: `train`, `validation` (the next fold), `test`.

    Raises:
        ValueError: the fold does not exist, or folds share a subject.
    """
    check_disjoint(folds)
    count = int(folds["fold"].max()) + 1
    if not 0 <= fold < count:
        raise ValueError(f"fold {fold} does not exist; expected 0 to {count - 1}")
    part_of: Callable[[int], str] = {fold: "test", (fold + 1) % count: "validation"}.get  # type: ignore[assignment]
    result: dict[str, list[str]] = defaultdict(list)
    for case, of in zip(folds["case"], folds["fold"]):
        result[part_of(int(of)) or "train"].append(case)
    return {name: result[name] for name in ("train", "validation", "test")}
