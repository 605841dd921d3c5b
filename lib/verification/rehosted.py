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
from lib.verification.image_hash import Likeness

ReadMask = Callable[[tuple[Path, ...]], np.ndarray]
FARTHEST = 4  # bits of a perceptual hash; on HC18 no two examinations are nearer than 8
COMPARED = 40  # references that are compared, evenly spread; each is read twice
KNOWN_COLUMNS = ["dataset", "case", "subject", "image", "mask", *cases.PIXEL_SIZE, "hc_mm", "pixel_hash", "perceptual"]
TWIN_COLUMNS = ["case", "split", "dataset", "twin", "twin_subject", "equal_pixels", "differing_bits"]
IDENTITY_COLUMNS = ["dataset", "title", "cases", "twins", "equal_pixels", "twin_classes"]
IDENTITY_COLUMNS += ["references_compared", "reference_dice_median", "subjects", "subjects_in_several_splits"]

DATA_SET_NOT_SEARCHED = Check("data set not searched")
CITE = "cite that data set, and never train on one and test on the other"
IMAGES_OF_ANOTHER_DATA_SET = Check("images of another data set", CITE)
OWN_FOLDS = "use the folds of this project, not the published split"
SUBJECT_IN_SEVERAL_SPLITS = Check("subject in several published splits", OWN_FOLDS)
NEARLY_OF_ANOTHER_DATA_SET = Check("nearly an image of another data set")


def known_images(besides: str) -> tuple[pd.DataFrame, list[Finding]]:
    """Hashes of every image of the published data sets in data/raw but one, and a finding for each unsearchable set."""
    tables, findings = [pd.DataFrame(columns=KNOWN_COLUMNS)], []
    for name, folder in datasets.available(besides).items():
        try:
            tables.append(_hashes_of(name, folder))
        except ValueError as error:
            found = str(error).splitlines()[0]
            findings.append(Finding("note", DATA_SET_NOT_SEARCHED, name, found, "a folder of its layout"))
    return pd.concat([t for t in tables if len(t)] or tables, ignore_index=True), findings


def _hashes_of(name: str, folder: Path) -> pd.DataFrame:
    """One row per image of a data set; kept in data/processed/, by data set, listing and code."""
    code = provenance.module_hashes({"lib.verification.image_hash", "lib.datasets"})
    key = {"data": steps.data_digest(name), "code": code, "columns": KNOWN_COLUMNS}
    path = files.processed_folder(f"hashes-{name}-{files.digest(key)[:16]}").with_suffix(".csv")
    if not path.is_file():
        dataset = datasets.DATASETS[name]
        listed, _ = dataset.find_cases(folder, dataset.groups)
        likenesses = parallel.in_parallel(_likeness, listed)
        readable = [(case, likeness) for case, likeness in zip(listed, likenesses) if likeness is not None]
        table = cases.cases_table(case for case, _ in readable).assign(
            dataset=name,
            pixel_hash=[likeness.pixels for _, likeness in readable],
            perceptual=[f"{likeness.perceptual:016x}" for _, likeness in readable],
        )
        files.write_csv(path, table[KNOWN_COLUMNS])
    return files.read_csv(path, KNOWN_COLUMNS)


def _likeness(case: Case) -> Likeness | None:
    """What an image is compared by; None where it cannot be read, which is its data set's own finding."""
    try:
        return image_hash.describe(image_files.read_grey(case.image))
    except ValueError:
        return None


def find_twins(usable: list[Case], likenesses: list[Likeness], known: pd.DataFrame) -> pd.DataFrame:
    """One row per case of which a known image shows the same picture: of equal pixels, else the nearest by hash."""
    if known.empty:
        return pd.DataFrame(columns=TWIN_COLUMNS)
    row_of = {value: row for row, value in reversed(list(enumerate(known["pixel_hash"])))}
    known_bits = np.array([int(text, 16) for text in known["perceptual"]], np.uint64)
    rows = []
    for case, likeness in zip(usable, likenesses):
        bits = image_hash.distances(np.array([likeness.perceptual], np.uint64), known_bits)[0]
        is_equal = likeness.pixels in row_of
        row = row_of.get(likeness.pixels, int(bits.argmin()))
        if is_equal or bits[row] <= FARTHEST:
            twin = known.iloc[row]
            ids = (twin["dataset"], twin["case"], twin["subject"])
            rows.append((case.name, case.split, *ids, is_equal, int(bits[row])))
    return pd.DataFrame(rows, columns=TWIN_COLUMNS)


def recover(usable: list[Case], twins: pd.DataFrame, known: pd.DataFrame) -> list[Case]:
    """Cases with the subject of their twin; with its pixel size and HC too, where pixels are equal."""
    twin_of, about = twins.set_index("case").to_dict("index"), known.set_index(["dataset", "case"])
    return [_recovered(case, twin_of[case.name], about) if case.name in twin_of else case for case in usable]


def _recovered(case: Case, twin: dict, about: pd.DataFrame) -> Case:
    named = replace(case, subject=f"{twin['dataset']}-{twin['twin_subject']}")
    if not twin["equal_pixels"]:
        return named
    original = about.loc[(twin["dataset"], twin["twin"])]
    hc = float(original["hc_mm"])
    return replace(
        named,
        spacing_mm=case.spacing_mm or cases.spacing_mm(original),
        reference_mm=case.reference_mm or ({"hc": hc} if np.isfinite(hc) else {}),
    )


def describe(usable: list[Case], twins: pd.DataFrame, known: pd.DataFrame, read_mask: ReadMask) -> pd.DataFrame:
    """One row per data set that images come from: counts, and how far references agree, whatever their names."""
    rows = []
    for name, own in twins.groupby("dataset", sort=True):
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
    """Dice of any class here against any class there, over some cases of equal pixels that both can read."""
    case_of = {case.name: case for case in usable}
    mask_of = known.set_index(["dataset", "case"])["mask"]
    compared = equal.iloc[np.unique(np.linspace(0, len(equal) - 1, min(COMPARED, len(equal))).round().astype(int))]
    dice = []
    for row in compared.to_dict("records"):
        try:
            own = read_mask(case_of[row["case"]].mask) > 0
            original = other.read_mask(cases.split_paths(mask_of[(row["dataset"], row["twin"])])) > 0
        except ValueError:  # an unreadable reference is a finding of its own
            continue
        if own.shape == original.shape:
            dice.append(metrics.overlap(original, own, 1).dice)
    return [value for value in dice if np.isfinite(value)]


def findings(identity: pd.DataFrame, twins: pd.DataFrame) -> list[Finding]:
    """What a reader must know of images that come from elsewhere."""
    result = []
    for row in identity.to_dict("records"):
        name = row["dataset"]
        counts = f"{row['twins']} of {row['cases']} images are those of {name} ({row['title']}), "
        found = counts + f"{row['equal_pixels']} of them pixel by pixel"
        expected = "images of its own; where subjects are not named, they are taken from there, and pixel sizes"
        result.append(Finding("warn", IMAGES_OF_ANOTHER_DATA_SET, name, found, expected))
        if row["subjects_in_several_splits"]:
            found = f"{row['subjects_in_several_splits']} of {row['subjects']} subjects, as {name} names them"
            expected = "none; folds are made of the recovered subjects instead"
            result.append(Finding("warn", SUBJECT_IN_SEVERAL_SPLITS, name, found, expected))
    for row in twins[~twins["equal_pixels"].astype(bool)].to_dict("records"):
        bits = f"{row['differing_bits']} of {image_hash.HASH_BITS} bits differ"
        found = f"{row['dataset']} {row['twin']}, {bits}"
        result.append(Finding("note", NEARLY_OF_ANOTHER_DATA_SET, row["case"], found, "an image of its own"))
    return result
