"""Is the data what it says it is: every file opened, every claim recomputed, who belongs to whom."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib import biometry, cases, datasets
from lib.cases import Case, Finding

THUMBNAIL = 32  # pixels a side; on HC18 no two examinations correlate above 0.89 at this size
HC_TOLERANCE_MM = 0.5  # of HC recomputed from the annotation against the published one


@dataclass(frozen=True)
class Verification:
    """What 01_data_verification found.

    Attributes:
        cases: the manifest, without cases that are excluded or cannot be used.
        looks: one row a case: area, contrast, whether the reference touches the frame, HC recomputed.
        findings: what a reader should know, the grave ones first.
    """

    cases: pd.DataFrame
    looks: pd.DataFrame
    findings: pd.DataFrame


@dataclass(frozen=True)
class Look:
    """What one case's files hold."""

    row: dict[str, object]
    thumbnail: np.ndarray
    pixels: str
    findings: list[Finding]


def verify(dataset: datasets.Dataset, folder: Path, exclude: list[str], correlation: float) -> Verification:
    """Opens every case of a data set and reports what is there.

    Args:
        dataset: from the registry.
        folder: its raw folder.
        exclude: names of cases to leave out; each becomes a note, with what is wrong with it.
        correlation: of thumbnails, from which two images are near-duplicates.

    Raises:
        ValueError: the folder is not that data set, or an excluded name is not in it.
    """
    found, findings = dataset.find_cases(folder)
    known = {case.name for case in found} | {finding.case for finding in findings}
    absent = sorted(set(exclude) - known)
    if absent:
        raise ValueError(f"exclude = {absent}   no such cases in {folder}")
    kept = [case for case in found if case.name not in exclude]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding and hashing leave Python's lock
        looks = dict(zip((case.name for case in kept), pool.map(lambda case: look(case, dataset), kept)))
    findings += [finding for each in looks.values() for finding in each.findings]
    usable = [case for case in kept if "height" in looks[case.name].row]
    pairs = duplicate_pairs(usable, looks, correlation)
    findings += duplicate_findings(usable, pairs)
    if not usable:
        raise ValueError(f"{folder}: no case can be used:\n{cases.findings_table(findings).head(20).to_string()}")
    table = complete_table(usable, looks, pairs)
    findings = [as_note(finding) if finding.case in exclude else finding for finding in findings]
    listed = {finding.case for finding in findings}
    findings += [Finding("note", "excluded", name, "named in exclude", "") for name in exclude if name not in listed]
    rows = pd.DataFrame([looks[case.name].row for case in usable])
    return Verification(table, rows, cases.findings_table(findings))


def as_note(finding: Finding) -> Finding:
    """A finding on an excluded case stops nothing."""
    return Finding("note", f"excluded: {finding.check}", finding.case, finding.found, finding.expected)


def look(case: Case, dataset: datasets.Dataset) -> Look:
    """Opens one case; what cannot be used is a finding, and its row then lacks a size."""
    nothing = np.zeros(THUMBNAIL**2, np.float32)
    try:
        image = cases.read_grey(case.image)
        mask = dataset.read_mask(case.mask)
    except ValueError as error:
        finding = Finding("stop", "unreadable", case.name, str(error), "a readable image and mask")
        return Look({"case": case.name}, nothing, "", [finding])
    if image.shape != mask.shape:
        found = f"image {image.shape}, mask {mask.shape}"
        finding = Finding("stop", "size mismatch", case.name, found, "equal (rows, columns)")
        return Look({"case": case.name}, nothing, "", [finding])
    if not mask.any():
        finding = Finding("stop", "empty mask", case.name, "no pixel of any class", "at least one class")
        return Look({"case": case.name}, nothing, "", [finding])
    try:
        row = describe(case, image, mask)
    except ValueError as error:
        finding = Finding("stop", "unmeasurable mask", case.name, str(error), "a mask that an ellipse fits")
        return Look({"case": case.name}, nothing, "", [finding])
    return Look(
        row, thumbnail(image), sha256(image.tobytes() + str(image.shape).encode()).hexdigest(), judge(case, row)
    )


def describe(case: Case, image: np.ndarray, mask: np.ndarray) -> dict[str, object]:
    """Figures of one case: size, hash, area, contrast, border, HC from the reference mask."""
    region = mask > 0
    frame = np.concatenate([region[0], region[-1], region[:, 0], region[:, -1]])
    inside, outside = cv2.mean(image, region.astype(np.uint8))[0], cv2.mean(image, (~region).astype(np.uint8))[0]
    measured = biometry.measure_head(region, case.spacing_mm)["hc"] if case.spacing_mm else np.nan
    return {
        "case": case.name,
        "height": image.shape[0],
        "width": image.shape[1],
        "sha256": cases.content_hash(case.image, case.mask),
        "area_fraction": float(region.mean()),
        "touches_border": bool(frame.any()),
        "mean_inside": inside,
        "mean_outside": outside,
        "mask_hc_mm": measured,
        "published_hc_mm": case.reference_mm.get("hc", np.nan),
    }


def judge(case: Case, row: dict[str, object]) -> list[Finding]:
    """Findings that follow from a case's figures."""
    found = []
    if row["touches_border"]:
        found.append(Finding("note", "touches the frame", case.name, "the head is cut by the image's edge", "inside"))
    measured, published = float(row["mask_hc_mm"]), float(row["published_hc_mm"])  # type: ignore[arg-type]
    if abs(measured - published) > HC_TOLERANCE_MM:
        found.append(
            Finding(
                "warn",
                "HC differs from its annotation",
                case.name,
                f"{measured:.2f} mm from the annotation, {published:.2f} mm published",
                f"within {HC_TOLERANCE_MM} mm",
            )
        )
    return found


def thumbnail(image: np.ndarray) -> np.ndarray:
    """A small standardised copy, so that a product of two is their correlation: (THUMBNAIL^2,) float32."""
    small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-6)


def duplicate_pairs(usable: list[Case], looks: dict[str, Look], correlation: float) -> list[tuple[int, int, str]]:
    """Pairs of cases (i < j) that show the same picture, exactly or nearly, with how much."""
    small = np.stack([looks[case.name].thumbnail for case in usable]) if usable else np.zeros((0, 1))
    alike = np.triu(small @ small.T, k=1)
    pixels = np.array([looks[case.name].pixels for case in usable])
    same = np.triu(pixels[:, None] == pixels[None], k=1)  # an even grey correlates with nothing, not even itself
    return [
        (int(i), int(j), "equal pixels" if same[i, j] else f"correlation {alike[i, j]:.3f}")
        for i, j in np.argwhere(same | (alike >= correlation))
    ]


def duplicate_findings(usable: list[Case], pairs: list[tuple[int, int, str]]) -> list[Finding]:
    """A pair across subjects is a warning and joins them; within one subject it is a note."""
    found = []
    for i, j, how in pairs:
        one, other = usable[i], usable[j]
        across = one.subject != other.subject
        check = "duplicate across subjects" if across else "duplicate within a subject"
        expected = "one subject; joined in one fold" if across else "different frames"
        found.append(Finding("warn" if across else "note", check, one.name, f"{other.name}: {how}", expected))
    return found


def complete_table(usable: list[Case], looks: dict[str, Look], pairs: list[tuple[int, int, str]]) -> pd.DataFrame:
    """The manifest with sizes, hashes and fold groups (subjects joined by duplicates)."""
    table = cases.cases_table(usable)
    joined = [(usable[i].subject, usable[j].subject) for i, j, _ in pairs]
    group_of = cases.join_groups({case.subject for case in usable}, joined)
    table["fold_group"] = table["subject"].map(group_of)
    for column in ("height", "width", "sha256"):
        table[column] = [looks[case.name].row[column] for case in usable]
    return table


def summary(table: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """How many cases, subjects and fold groups each fold holds."""
    counts = folds.groupby("fold").agg(cases=("case", "size"), subjects=("subject", "nunique"))
    counts["fold_groups"] = folds.groupby("fold")["fold_group"].nunique()
    counts["with_pixel_size"] = (
        table.set_index("case")["spacing_row_mm"].notna().groupby(folds.set_index("case")["fold"]).sum()
    )
    return counts.reset_index()


def overview(table: pd.DataFrame, looks: pd.DataFrame) -> pd.DataFrame:
    """The data set in one row a fact: fact, value."""
    spacing = table["spacing_row_mm"]
    facts = {
        "cases": len(table),
        "subjects": table["subject"].nunique(),
        "fold groups": table["fold_group"].nunique(),
        "most cases of one subject": int(table["subject"].value_counts().max()),
        "image sizes": table.groupby(["height", "width"]).ngroups,
        "with pixel size": int(spacing.notna().sum()),
        "least pixel size (mm)": spacing.min(),
        "largest pixel size (mm)": spacing.max(),
        "with published HC": int(table["hc_mm"].notna().sum()),
        "least HC (mm)": table["hc_mm"].min(),
        "largest HC (mm)": table["hc_mm"].max(),
        "cut by the frame": int(looks["touches_border"].sum()),
    }
    return pd.DataFrame({"fact": list(facts), "value": list(facts.values())})


def stop_claim(findings: pd.DataFrame) -> str:
    """The claim that nothing stops the study, naming what does."""
    stops = findings[findings["severity"] == "stop"]
    named = [f"{case}: {check} (found {found})" for case, check, found in stops[["case", "check", "found"]].values]
    return "no finding stops the study" + "".join(f"\n    {line}" for line in named)


def count_findings(findings: pd.DataFrame) -> pd.DataFrame:
    """How many cases each check found, the grave ones first: severity, check, cases."""
    counted = findings.groupby(["severity", "check"], sort=False)["case"].nunique().rename("cases")
    return counted.reset_index()
