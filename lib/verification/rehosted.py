"""Is a data set another one under new names: its images against those of every published data set at hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib import datasets, metrics
from lib.data import cases
from lib.data.cases import Case
from lib.data.dataset import Dataset
from lib.data.findings import Check, Finding
from lib.imaging import image_files
from lib.study import files, parallel, provenance, steps
from lib.verification import image_hash

FARTHEST = 4  # bits of a perceptual hash; on HC18 no two examinations are nearer than 8
COMPARED = 40  # references that are compared, evenly spread; each is read twice
KNOWN_COLUMNS = [
    "dataset",
    "case",
    "subject",
    "image",
    "mask",
    "spacing_row_mm",
    "spacing_col_mm",
    "hc_mm",
    "pixel_hash",
    "perceptual",
]
TWIN_COLUMNS = ["case", "split", "dataset", "twin", "twin_subject", "equal_pixels", "differing_bits"]
IDENTITY_COLUMNS = [
    "dataset",
    "title",
    "cases",
    "twins",
    "equal_pixels",
    "twin_classes",
    "references_compared",
    "reference_dice_median",
    "subjects",
    "subjects_in_several_splits",
]

DATA_SET_NOT_SEARCHED = Check("data set not searched")
IMAGES_OF_ANOTHER_DATA_SET = Check(
    "images of another data set", "cite that data set, and never train on one and test on the other"
)
SUBJECT_IN_SEVERAL_SPLITS = Check(
    "subject in several published splits", "use the folds of this project, not the published split"
)
NEARLY_OF_ANOTHER_DATA_SET = Check("nearly an image of another data set")


def known_images(besides: str) -> tuple[pd.DataFrame, list[Finding]]:
    """Hashes of every image of the published data sets in data/raw, but for one.

    Kept in data/processed/, by data set, listing and code.

    Returns:
        A row an image (KNOWN_COLUMNS), and a finding for each data set that cannot be searched.
    """
    tables, findings = [pd.DataFrame(columns=KNOWN_COLUMNS)], []
    for name, folder in datasets.at_hand(besides).items():
        try:
            tables.append(_hashes_of(name, folder))
        except ValueError as error:
            said = str(error).splitlines()[0]
            findings.append(Finding("note", DATA_SET_NOT_SEARCHED, name, said, "a folder of its layout"))
    return pd.concat([t for t in tables if len(t)] or tables, ignore_index=True), findings


def _hashes_of(name: str, folder: Path) -> pd.DataFrame:
    code = provenance.module_hashes({"lib.verification.image_hash", "lib.datasets"})
    key = {"data": steps.data_digest(name), "code": code, "columns": KNOWN_COLUMNS}
    path = files.processed_folder(f"hashes-{name}-{files.digest(key)[:16]}").with_suffix(".csv")
    if path.is_file():
        table = files.read_csv(path, KNOWN_COLUMNS)
    else:
        dataset = datasets.DATASETS[name]
        found, _ = dataset.find_cases(folder, dataset.groups)
        rows = parallel.in_parallel(lambda case: _hash_row(name, case), found)
        table = pd.DataFrame([row for row in rows if row], columns=KNOWN_COLUMNS)
        files.write_csv(path, table)
    return table


def _hash_row(dataset: str, case: Case) -> dict[str, object] | None:
    """One known image; None where it cannot be read, which is that data set's own finding."""
    try:
        image = image_files.read_grey(case.image)
    except ValueError:
        return None
    looks = image_hash.describe(image)
    return {
        "dataset": dataset,
        "case": case.name,
        "subject": case.subject,
        "image": cases.relative(case.image),
        "mask": cases.joined(case.mask),
        "spacing_row_mm": case.spacing_mm[0] if case.spacing_mm else np.nan,
        "spacing_col_mm": case.spacing_mm[1] if case.spacing_mm else np.nan,
        "hc_mm": case.reference_mm.get("hc", np.nan),
        "pixel_hash": looks.pixels,
        "perceptual": f"{looks.perceptual:016x}",
    }


def find_twins(found: list[Case], pixels: list[str], perceptual: list[int], known: pd.DataFrame) -> pd.DataFrame:
    """For each case the known image that shows the same picture: of equal pixels, else the nearest by hash.

    Args:
        found: cases of a data set.
        pixels, perceptual: their hashes.
        known: from `known_images`.

    Returns:
        A row a case that has a twin (TWIN_COLUMNS).
    """
    if known.empty or not found:
        return pd.DataFrame(columns=TWIN_COLUMNS)
    row_of = {value: row for row, value in reversed(list(enumerate(known["pixel_hash"])))}
    theirs = np.array([int(text, 16) for text in known["perceptual"]], np.uint64)
    rows = []
    for case, own, bits in zip(found, pixels, perceptual):
        apart = image_hash.distances(np.array([bits], np.uint64), theirs)[0]
        row = row_of.get(own, int(apart.argmin()))
        if own in row_of or apart[row] <= FARTHEST:
            twin = known.iloc[row]
            ids = (twin["dataset"], twin["case"], twin["subject"])
            rows.append((case.name, case.split, *ids, own in row_of, int(apart[row])))
    return pd.DataFrame(rows, columns=TWIN_COLUMNS)


def recover(found: list[Case], twins: pd.DataFrame, known: pd.DataFrame) -> list[Case]:
    """Cases with the subject of their twin; with its pixel size and HC too, where pixels are equal."""
    if twins.empty:
        return found
    twin_of = {row["case"]: row for row in twins.to_dict("records")}
    about = known.set_index(["dataset", "case"])
    return [_recovered(case, twin_of[case.name], about) if case.name in twin_of else case for case in found]


def _recovered(case: Case, twin: dict, about: pd.DataFrame) -> Case:
    original = about.loc[(twin["dataset"], twin["twin"])]
    named = replace(case, subject=f"{twin['dataset']}-{twin['twin_subject']}")
    if not twin["equal_pixels"]:
        return named
    hc = float(original["hc_mm"])
    return replace(
        named,
        spacing_mm=case.spacing_mm or cases.spacing_mm(original),
        reference_mm=case.reference_mm or ({"hc": hc} if np.isfinite(hc) else {}),
    )


def describe(
    found: list[Case], twins: pd.DataFrame, known: pd.DataFrame, read_mask: Callable[[tuple[Path, ...]], np.ndarray]
) -> pd.DataFrame:
    """A row for each other data set that images come from (IDENTITY_COLUMNS).

    Besides counts it says how far references agree: what is outlined here may have another name there.
    """
    rows = []
    for name, own in twins.groupby("dataset", sort=True):
        other = datasets.DATASETS[str(name)]
        dice = reference_agreement(found, own[own["equal_pixels"]], known, other, read_mask)
        splits = own[own["split"] != ""].groupby("twin_subject")["split"].nunique()
        rows.append(
            (
                *(
                    name,
                    other.title,
                    len(found),
                    len(own),
                    int(own["equal_pixels"].sum()),
                    ", ".join(other.classes[1:]),
                ),
                *(len(dice), float(np.median(dice)) if dice else np.nan),
                *(own["twin_subject"].nunique(), int((splits > 1).sum())),
            )
        )
    return pd.DataFrame(rows, columns=IDENTITY_COLUMNS)


def reference_agreement(
    found: list[Case],
    equal: pd.DataFrame,
    known: pd.DataFrame,
    other: Dataset,
    read_mask: Callable[[tuple[Path, ...]], np.ndarray],
) -> list[float]:
    """Dice of any class here against any class there, over some cases of equal pixels that both can read."""
    case_of = {case.name: case for case in found}
    mask_of = known.set_index(["dataset", "case"])["mask"]
    chosen = equal.iloc[np.unique(np.linspace(0, len(equal) - 1, min(COMPARED, len(equal))).round().astype(int))]
    dice = []
    for row in chosen.to_dict("records"):
        try:
            here = read_mask(case_of[row["case"]].mask) > 0
            there = other.read_mask(cases.split_paths(mask_of[(row["dataset"], row["twin"])])) > 0
        except ValueError:  # an unreadable reference is a finding of its own
            continue
        if here.shape == there.shape:
            dice.append(metrics.overlap(there, here, 1).dice)
    return [value for value in dice if np.isfinite(value)]


def findings(identity: pd.DataFrame, twins: pd.DataFrame) -> list[Finding]:
    """What a reader must know of images that come from elsewhere."""
    found = []
    for row in identity.to_dict("records"):
        of = f"{row['twins']} of {row['cases']} images are those of {row['dataset']} ({row['title']}), "
        said = of + f"{row['equal_pixels']} of them pixel by pixel"
        expected = "images of its own; where subjects are not named, they are taken from there, and pixel sizes"
        found.append(Finding("warn", IMAGES_OF_ANOTHER_DATA_SET, row["dataset"], said, expected))
        if row["subjects_in_several_splits"]:
            said = f"{row['subjects_in_several_splits']} of {row['subjects']} subjects, as {row['dataset']} names them"
            expected = "none; folds are made of the recovered subjects instead"
            found.append(Finding("warn", SUBJECT_IN_SEVERAL_SPLITS, row["dataset"], said, expected))
    near = twins[~twins["equal_pixels"].astype(bool)]
    return found + [
        Finding(
            "note",
            NEARLY_OF_ANOTHER_DATA_SET,
            row["case"],
            f"{row['dataset']} {row['twin']}, {row['differing_bits']} of {image_hash.HASH_BITS} bits differ",
            "an image of its own",
        )
        for row in near.to_dict("records")
    ]
