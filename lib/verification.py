"""Is the data what it says it is: every file opened, every claim recomputed, who belongs to whom."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib import biometry, cases, datasets, identity, likeness
from lib.cases import Case, Finding

HC_TOLERANCE_MM = 0.5  # of HC recomputed from the annotation against the published one
QUICK_TOLERANCE_MM = 0.1  # within which moments are trusted; on whole HC18 heads they are 0.01 mm off
NEAR_BORDER = 0.02  # of the shorter side: a reference whose edge comes nearer may be cut
LOW_CONTRAST = 0.02  # of (inside - outside) / (inside + outside), without sign
LISTED_COLOURS = 40  # of the audit; a lossy mask has hundreds


@dataclass(frozen=True)
class Verification:
    """What 01_data_verification found.

    Attributes:
        cases: the manifest, without cases that are excluded or cannot be used.
        looks: one row a case: area, contrast, distance to the frame, HC recomputed.
        colours: one row a colour (or grey value) of the masks: how many pixels and cases have it.
        twins: cases that show an image of another data set at hand.
        identity: a row for each data set that they come from.
        findings: what a reader should know, the grave ones first.
    """

    cases: pd.DataFrame
    looks: pd.DataFrame
    colours: pd.DataFrame
    twins: pd.DataFrame
    identity: pd.DataFrame
    findings: pd.DataFrame


@dataclass(frozen=True)
class Look:
    """What one case's files hold; `row` lacks a size where they cannot be used."""

    row: dict[str, object]
    findings: list[Finding]
    colours: dict[tuple[int, ...], int]
    likeness: likeness.Likeness


def verify(
    dataset: datasets.Dataset,
    name: str,
    folder: Path,
    groups: Sequence[str] = (),
    exclude: Sequence[str] = (),
    correlation: float = 0.9,
) -> Verification:
    """Opens every case of a data set and reports what is there.

    Args:
        dataset: from the registry.
        name: of the data set; it is not searched for in itself.
        folder: its raw folder.
        groups: of the data set, that are used.
        exclude: names of cases to leave out; each becomes a note, with what is wrong with it.
        correlation: of thumbnails, from which two images are near-duplicates.

    Raises:
        ValueError: the folder is not that data set, or an excluded name is not in it.
    """
    found, findings = datasets.find_cases(dataset, folder, groups)
    refuse_unknown(exclude, found, findings, folder)
    kept = [case for case in found if case.name not in exclude]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding and hashing leave Python's lock
        looks = dict(zip((case.name for case in kept), pool.map(lambda case: look(case, dataset), kept)))
    findings += [finding for each in looks.values() for finding in each.findings]
    usable = [case for case in kept if "height" in looks[case.name].row]
    if not usable:
        raise ValueError(f"{folder}: no case can be used:\n{cases.findings_table(findings).head(20).to_string()}")
    usable, twins, origin, more = search(dataset, name, usable, looks)
    findings += more
    if len(twins) == len(usable):
        findings = [finding for finding in findings if finding.check != "subjects unknown"]  # no longer
    pairs = duplicate_pairs(usable, looks, correlation)
    findings += duplicate_findings(usable, pairs)
    table = complete_table(usable, looks, pairs)
    if not dataset.names_subjects:
        unnamed = table["subject"] == table["case"]
        table.loc[unnamed, "subject"] = table.loc[unnamed, "fold_group"]
    findings = [as_note(finding) if finding.case in exclude else finding for finding in findings]
    listed = {finding.case for finding in findings}
    findings += [Finding("note", "excluded", each, "named in exclude", "") for each in exclude if each not in listed]
    rows = pd.DataFrame([looks[case.name].row for case in usable])
    return Verification(table, rows, colour_table(looks), twins, origin, cases.findings_table(findings))


def refuse_unknown(exclude: Sequence[str], found: list[Case], findings: list[Finding], folder: Path) -> None:
    """Raises ValueError for an excluded name that is not in the data."""
    known = {case.name for case in found} | {finding.case for finding in findings}
    absent = sorted(set(exclude) - known)
    if absent:
        raise ValueError(f"exclude = {absent}   no such cases in {folder}")


def search(
    dataset: datasets.Dataset, name: str, usable: list[Case], looks: dict[str, Look]
) -> tuple[list[Case], pd.DataFrame, pd.DataFrame, list[Finding]]:
    """Looks for the images in every other data set at hand: cases with what was recovered, twins, origin, findings."""
    known, findings = identity.known_images(name) if dataset.made is None else (pd.DataFrame(), [])
    hashes = [[getattr(looks[case.name].likeness, kind) for case in usable] for kind in ("pixels", "perceptual")]
    twins = identity.find_twins(usable, *hashes, known)
    origin = identity.describe(usable, twins, known, dataset.read_mask)
    recovered = usable if dataset.names_subjects else identity.recover(usable, twins, known)
    return recovered, twins, origin, findings + identity.findings(origin, twins)


def as_note(finding: Finding) -> Finding:
    """A finding on an excluded case stops nothing."""
    return Finding("note", f"excluded: {finding.check}", finding.case, finding.found, finding.expected)


def look(case: Case, dataset: datasets.Dataset) -> Look:
    """Opens one case; what cannot be used is a finding, and its row then lacks a size."""
    held: dict[Path, np.ndarray] = {}

    def read(path: Path) -> np.ndarray:
        """Reads a mask file once for its classes and for the audit of its colours."""
        return held.setdefault(path, cases.read_pixels(path))

    try:
        image = cases.read_grey(case.image)
        mask = dataset.read_mask(case.mask, read=read)
    except ValueError as error:
        return unusable(case, "unreadable", str(error), "a readable image and mask", audit(case, held)[0])
    colours, findings = audit(case, held)
    if image.shape != mask.shape:
        found = f"image {image.shape}, mask {mask.shape}"
        return unusable(case, "size mismatch", found, "equal (rows, columns)", colours)
    if case.shows == "something" and not mask.any():
        return unusable(case, "empty mask", "no pixel of any class", "at least one class", colours)
    if case.shows == "nothing" and mask.any():
        found = f"{int((mask > 0).sum())} pixels of a class"
        return unusable(case, "mask of a normal image", found, "an empty mask", colours)
    try:
        row = describe(case, image, mask)
    except ValueError as error:
        return unusable(case, "unmeasurable mask", str(error), "a mask that an ellipse fits", colours)
    return Look(row, findings + judge(case, row), colours, likeness.describe(image))


def unusable(case: Case, check: str, found: str, expected: str, colours: dict[tuple[int, ...], int]) -> Look:
    """The look at a case that stops the study."""
    finding = Finding("stop", check, case.name, found, expected)
    return Look({"case": case.name}, [finding], colours, likeness.Likeness("", 0, np.zeros(0)))


def audit(case: Case, held: dict[Path, np.ndarray]) -> tuple[dict[tuple[int, ...], int], list[Finding]]:
    """Colours of a case's mask files, as read, with their counts; and what is odd about them."""
    counted: Counter[tuple[int, ...]] = Counter()
    findings = []
    for path, pixels in held.items():
        own = cases.colour_counts(pixels)
        counted.update(own)
        if cases.is_lossy(path):
            found = f"{path.name}: {len(own)} colours"
            findings.append(Finding("warn", "lossy mask", case.name, found, "a lossless file; nearest colour taken"))
        elif set(own) == {(0,), (1,)}:
            check = "0 and 1 instead of 0 and 255"
            findings.append(Finding("note", check, case.name, path.name, "0 and 255; taken as the same"))
    return dict(counted), findings


def describe(case: Case, image: np.ndarray, mask: np.ndarray) -> dict[str, object]:
    """Figures of one case: size, hash, area, contrast, border, HC from the reference mask."""
    region = mask > 0
    area = int(np.count_nonzero(region))
    inside = cv2.mean(image, region.view(np.uint8))[0] if area else np.nan
    outside = (cv2.sumElems(image)[0] - (inside * area if area else 0.0)) / max(region.size - area, 1)
    published = case.reference_mm.get("hc", np.nan)
    return {
        "case": case.name,
        "height": image.shape[0],
        "width": image.shape[1],
        "sha256": cases.content_hash(case.image, case.mask),
        "area_fraction": area / region.size,
        "border_gap": border_gap(region),
        "mean_inside": inside,
        "mean_outside": outside,
        "contrast": (inside - outside) / max(inside + outside, 1e-6),
        "mask_hc_mm": recompute_hc_mm(region, case.spacing_mm, published),
        "published_hc_mm": published,
    }


def recompute_hc_mm(region: np.ndarray, spacing_mm: tuple[float, float] | None, published_mm: float) -> float:
    """HC of a reference mask where it can be compared, else NaN: by moments, and by its edge where these disagree.

    Moments are quick, and right for a whole ellipse; a head that the frame cuts needs its edge.
    """
    if spacing_mm is None or not np.isfinite(published_mm):
        return float("nan")
    major, minor = biometry.ellipse_of_moments(region, spacing_mm)
    if minor > 0:
        hc_mm = biometry.ellipse_perimeter_mm(major, minor)
        if abs(hc_mm - published_mm) <= QUICK_TOLERANCE_MM:
            return hc_mm
    return biometry.measure_head(region, spacing_mm)["hc"]


def border_gap(region: np.ndarray) -> float:
    """Pixels between a (H, W) bool region's edge and the image's frame, over the shorter side; NaN for no region."""
    left, top, width, height = cv2.boundingRect(region.view(np.uint8))
    if width == 0:
        return float("nan")
    below, right = region.shape[0] - top - height, region.shape[1] - left - width
    return min(left, top, right, below) / min(region.shape)


def judge(case: Case, row: dict[str, object]) -> list[Finding]:
    """Findings that follow from a case's figures."""
    gap, contrast, hc, published = (
        float(row[name])  # type: ignore[arg-type]
        for name in ("border_gap", "contrast", "mask_hc_mm", "published_hc_mm")
    )
    found = []
    if gap == 0:
        found.append(Finding("note", "touches the frame", case.name, "cut by the image's edge", "inside"))
    elif gap < NEAR_BORDER:
        said = f"{gap:.1%} of the shorter side away"
        found.append(Finding("note", "near the frame", case.name, said, f"{NEAR_BORDER:.0%} or more"))
    if abs(contrast) < LOW_CONTRAST:
        said = f"{contrast:+.3f} from inside to outside"
        found.append(Finding("note", "low contrast", case.name, said, f"{LOW_CONTRAST} or more, either way"))
    if abs(hc - published) > HC_TOLERANCE_MM:
        said = f"{hc:.2f} mm from the annotation, {published:.2f} mm published"
        check = "HC differs from its annotation"
        found.append(Finding("warn", check, case.name, said, f"within {HC_TOLERANCE_MM} mm"))
    return found


def duplicate_pairs(usable: list[Case], looks: dict[str, Look], correlation: float) -> list[tuple[int, int, str]]:
    """Pairs of cases (i < j) that show the same picture, exactly or nearly, with how much."""
    small = np.stack([looks[case.name].likeness.thumbnail for case in usable])
    alike = np.triu(small @ small.T, k=1)
    pixels = np.array([looks[case.name].likeness.pixels for case in usable])
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
        "with an empty mask": int((looks["area_fraction"] == 0).sum()),
        "cut by the frame": int((looks["border_gap"] == 0).sum()),
    }
    rows = pd.DataFrame({"fact": list(facts), "value": list(facts.values())})
    return rows[rows["value"].notna()].reset_index(drop=True)


def by_group(table: pd.DataFrame, looks: pd.DataFrame) -> pd.DataFrame:
    """Cases, references and how they lie, a row for each published split and group: what differs between them."""
    joined = table[["case", "split"]].assign(group=cases.group_of(table["stratum"])).merge(looks, on="case")
    grouped = joined.assign(
        empty=joined["area_fraction"] == 0,
        cut=joined["border_gap"] == 0,
        near=(joined["border_gap"] > 0) & (joined["border_gap"] < NEAR_BORDER),
        share=joined["area_fraction"].where(joined["area_fraction"] > 0) * 100,
    ).groupby(["split", "group"], sort=True)
    counts = grouped.agg(
        cases=("case", "size"),
        empty_masks=("empty", "sum"),
        cut_by_the_frame=("cut", "sum"),
        near_the_frame=("near", "sum"),
        mean_area_percent=("share", "mean"),
        mean_contrast=("contrast", "mean"),
    ).reset_index()
    return counts.drop(columns="split") if (counts["split"] == "").all() else counts


def colour_table(looks: dict[str, Look]) -> pd.DataFrame:
    """The audit of all masks: colour, pixels, cases; the most frequent first, the rest in one row."""
    pixels: Counter[tuple[int, ...]] = Counter()
    holders: Counter[tuple[int, ...]] = Counter()
    for each in looks.values():
        pixels.update(each.colours)
        holders.update(each.colours.keys())
    ordered = sorted(pixels, key=lambda colour: (-pixels[colour], colour))
    rows = [(" ".join(map(str, colour)), pixels[colour], holders[colour]) for colour in ordered[:LISTED_COLOURS]]
    rest = ordered[LISTED_COLOURS:]
    if rest:
        rows.append((f"{len(rest)} others", sum(pixels[c] for c in rest), max(holders[c] for c in rest)))
    return pd.DataFrame(rows, columns=["colour", "pixels", "cases"])


def stop_claim(findings: pd.DataFrame) -> str:
    """The claim that nothing stops the study, naming what does."""
    stops = findings[findings["severity"] == "stop"]
    named = [f"{case}: {check} (found {found})" for case, check, found in stops[["case", "check", "found"]].values]
    return "no finding stops the study" + "".join(f"\n    {line}" for line in named)


def count_findings(findings: pd.DataFrame) -> pd.DataFrame:
    """How often each check found something, the grave ones first: severity, check, findings."""
    counted = findings.groupby(["severity", "check"], sort=False)["case"].size().rename("findings")
    return counted.reset_index()
