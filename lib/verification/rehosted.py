"""Search for images of a data set that were taken from other published data sets, possibly under new names."""

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
from lib.verification.image_hash import ImageHashes

ReadMask = Callable[[tuple[Path, ...]], np.ndarray]
MAX_DIFFERING_BITS = 4  # of perceptual hashes; between HC18 examinations at least 8 differ
MAX_COMPARED = 40  # references compared, evenly spread over the cases; each is read twice
KNOWN_COLUMNS = ["dataset", "case", "subject", "image", "mask", *cases.PIXEL_SIZE, "hc_mm", "pixel_hash", "perceptual"]
DUPLICATE_COLUMNS = ["case", "split", "dataset", "twin", "twin_subject", "equal_pixels", "differing_bits"]
IDENTITY_COLUMNS = ["dataset", "title", "cases", "twins", "equal_pixels", "twin_classes"]
IDENTITY_COLUMNS += ["references_compared", "reference_dice_median", "subjects", "subjects_in_several_splits"]

DATA_SET_NOT_SEARCHED = Check("data set not searched")
CITE = "cite the other data set, and never train on one and test on the other"
IMAGES_OF_ANOTHER_DATA_SET = Check("images of another data set", CITE)
OWN_FOLDS = "use the folds of this project instead of the published split"
SUBJECT_IN_SEVERAL_SPLITS = Check("subject in several published splits", OWN_FOLDS)
NEAR_DUPLICATE = Check("near-duplicate in another data set")


def known_images(excluded: str) -> tuple[pd.DataFrame, list[Finding]]:
    """Hashes of all images of the published data sets in data/raw but `excluded`; a note for each unreadable set."""
    tables, findings = [pd.DataFrame(columns=KNOWN_COLUMNS)], []
    for name, folder in datasets.available(excluded).items():
        try:
            tables.append(_hashes_of(name, folder))
        except ValueError as error:
            found = str(error).splitlines()[0]
            findings.append(Finding("note", DATA_SET_NOT_SEARCHED, name, found, "the published folder layout"))
    return pd.concat([t for t in tables if len(t)] or tables, ignore_index=True), findings


def _hashes_of(name: str, folder: Path) -> pd.DataFrame:
    """One row per image of a data set; cached in data/processed/ by data set, file list and code."""
    code = provenance.module_hashes({"lib.verification.image_hash", "lib.datasets"})
    key = {"data": steps.data_digest(name), "code": code, "columns": KNOWN_COLUMNS}
    path = files.processed_folder(f"hashes-{name}-{files.digest(key)[:16]}").with_suffix(".csv")
    if not path.is_file():
        dataset = datasets.DATASETS[name]
        listed, _ = dataset.find_cases(folder, dataset.groups)
        hashed = zip(listed, parallel.in_parallel(_hash, listed))
        readable = [(case, hashes) for case, hashes in hashed if hashes is not None]
        table = cases.cases_table(case for case, _ in readable).assign(
            dataset=name,
            pixel_hash=[hashes.pixels for _, hashes in readable],
            perceptual=[f"{hashes.perceptual:016x}" for _, hashes in readable],
        )
        files.write_csv(path, table[KNOWN_COLUMNS])
    return files.read_csv(path, KNOWN_COLUMNS)


def _hash(case: Case) -> ImageHashes | None:
    """Hashes of an image; None if it cannot be read, which is reported when its own data set is verified."""
    try:
        return image_hash.describe(image_files.read_grey(case.image))
    except ValueError:
        return None


def find_duplicates(usable: list[Case], hashed: list[ImageHashes], known: pd.DataFrame) -> pd.DataFrame:
    """Cases whose image is among the known ones, with equal pixels or else as a near-duplicate; one row per case."""
    if known.empty:
        return pd.DataFrame(columns=DUPLICATE_COLUMNS)
    row_of = {value: row for row, value in reversed(list(enumerate(known["pixel_hash"])))}
    known_bits = np.array([int(text, 16) for text in known["perceptual"]], np.uint64)
    rows = []
    for case, hashes in zip(usable, hashed):
        bits = image_hash.distances(np.array([hashes.perceptual], np.uint64), known_bits)[0]
        is_equal = hashes.pixels in row_of
        row = row_of.get(hashes.pixels, int(bits.argmin()))
        if is_equal or bits[row] <= MAX_DIFFERING_BITS:
            original = known.iloc[row][["dataset", "case", "subject"]]
            rows.append((case.name, case.split, *original, is_equal, int(bits[row])))
    return pd.DataFrame(rows, columns=DUPLICATE_COLUMNS)


def recover(usable: list[Case], duplicates: pd.DataFrame, known: pd.DataFrame) -> list[Case]:
    """Cases with the subject of the known image; with its pixel size and HC too, if pixels are equal."""
    row_of, about = duplicates.set_index("case").to_dict("index"), known.set_index(["dataset", "case"])
    return [_recovered(case, row_of[case.name], about) if case.name in row_of else case for case in usable]


def _recovered(case: Case, duplicate: dict, about: pd.DataFrame) -> Case:
    named = replace(case, subject=f"{duplicate['dataset']}-{duplicate['twin_subject']}")
    if not duplicate["equal_pixels"]:
        return named
    original = about.loc[(duplicate["dataset"], duplicate["twin"])]
    hc = float(original["hc_mm"])
    return replace(
        named,
        spacing_mm=case.spacing_mm or cases.spacing_mm(original),
        reference_mm=case.reference_mm or ({"hc": hc} if np.isfinite(hc) else {}),
    )


def describe(usable: list[Case], duplicates: pd.DataFrame, known: pd.DataFrame, read_mask: ReadMask) -> pd.DataFrame:
    """Counts and agreement of the references, one row per data set that contains images of this one."""
    rows = []
    for name, own in duplicates.groupby("dataset", sort=True):
        other, equal = datasets.DATASETS[str(name)], own[own["equal_pixels"]]
        dice = reference_agreement(usable, equal, known, other, read_mask)
        splits = own[own["split"] != ""].groupby("twin_subject")["split"].nunique()
        counts = (len(usable), len(own), len(equal), ", ".join(other.classes[1:]))
        agreement = (len(dice), float(np.median(dice)) if dice else np.nan)
        rows.append((name, other.title, *counts, *agreement, own["twin_subject"].nunique(), int((splits > 1).sum())))
    return pd.DataFrame(rows, columns=IDENTITY_COLUMNS)


def reference_agreement(
    usable: list[Case], equal: pd.DataFrame, known: pd.DataFrame, other: Dataset, read_mask: ReadMask
) -> list[float]:
    """Foreground Dice of the two references of up to MAX_COMPARED images with equal pixels and readable references."""
    case_of = {case.name: case for case in usable}
    mask_of = known.set_index(["dataset", "case"])["mask"]
    compared = equal.iloc[np.unique(np.linspace(0, len(equal) - 1, min(MAX_COMPARED, len(equal))).round().astype(int))]
    dice = []
    for row in compared.to_dict("records"):
        try:
            own = read_mask(case_of[row["case"]].mask) > 0
            original = other.read_mask(cases.split_paths(mask_of[(row["dataset"], row["twin"])])) > 0
        except ValueError:  # an unreadable reference is reported as a finding when its data set is verified
            continue
        if own.shape == original.shape:
            dice.append(metrics.overlap(original, own, 1).dice)
    return [value for value in dice if np.isfinite(value)]


def findings(identity: pd.DataFrame, duplicates: pd.DataFrame) -> list[Finding]:
    """Findings about images that come from other data sets."""
    result = []
    for row in identity.to_dict("records"):
        name = row["dataset"]
        counts = f"{row['twins']} of {row['cases']} images are also in {name} ({row['title']}), "
        found = counts + f"{row['equal_pixels']} of them with equal pixels"
        expected = "new images; missing subjects and pixel sizes are taken from the other data set"
        result.append(Finding("warn", IMAGES_OF_ANOTHER_DATA_SET, name, found, expected))
        if row["subjects_in_several_splits"]:
            found = f"{row['subjects_in_several_splits']} of {row['subjects']} subjects identified in {name}"
            expected = "none; folds are assigned by the recovered subjects"
            result.append(Finding("warn", SUBJECT_IN_SEVERAL_SPLITS, name, found, expected))
    for row in duplicates[~duplicates["equal_pixels"].astype(bool)].to_dict("records"):
        found = f"{row['dataset']} {row['twin']}, {row['differing_bits']} of {image_hash.HASH_BITS} bits differ"
        result.append(Finding("note", NEAR_DUPLICATE, row["case"], found, "a new image"))
    return result
