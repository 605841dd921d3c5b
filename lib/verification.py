"""Is the data what it says it is: every file opened, every claim recomputed, who belongs to whom."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib import biometry, cases, datasets, environment, identity, landmarks, looks
from lib.cases import Case, Finding
from lib.points import POINT_COLUMNS

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
        points: native landmarks of each case (case, POINT_COLUMNS); no row where none are learnt.
        audit: what the landmarks' audit measured, a row a case.
        findings: what a reader should know, the grave ones first.
    """

    cases: pd.DataFrame
    looks: pd.DataFrame
    colours: pd.DataFrame
    twins: pd.DataFrame
    identity: pd.DataFrame
    points: pd.DataFrame
    audit: pd.DataFrame
    findings: pd.DataFrame


def verify(
    dataset: datasets.Dataset,
    name: str,
    folder: Path,
    groups: Sequence[str] = (),
    exclude: Sequence[str] = (),
    correlation: float = 0.9,
    layout: str = "none",
) -> Verification:
    """Opens every case of a data set and reports what is there.

    Args:
        dataset: from the registry.
        name: of the data set; it is not searched for in itself.
        folder: its raw folder.
        groups: of the data set, that are used.
        exclude: names of cases to leave out; each becomes a note, with what is wrong with it.
        correlation: of thumbnails, from which two images are near-duplicates.
        layout: of the landmarks that are learnt, "none" for none; cases without landmarks are left out.

    Raises:
        ValueError: the folder is not that data set, an excluded name is not in it, or it has no landmarks to be learnt.
    """
    found, findings = datasets.find_cases(dataset, folder, groups)
    refuse_unknown(exclude, found, findings, folder)
    kept = [case for case in found if case.name not in exclude]
    with ThreadPoolExecutor(environment.threads()) as pool:  # decoding and hashing leave Python's lock
        seen = dict(zip((case.name for case in kept), pool.map(lambda case: looks.look(case, dataset), kept)))
    findings += [finding for each in seen.values() for finding in each.findings]
    usable = [case for case in kept if "height" in seen[case.name].row]
    if not usable:
        raise ValueError(f"{folder}: no case can be used:\n{cases.findings_table(findings).head(20).to_string()}")
    usable, twins, origin, more = search(dataset, name, usable, seen)
    findings += more
    if len(twins) == len(usable):
        findings = [finding for finding in findings if finding.check != "subjects unknown"]  # no longer
    pairs = duplicate_pairs(usable, seen, correlation)
    findings += duplicate_findings(usable, pairs)
    table = complete_table(usable, seen, pairs)
    if not dataset.names_subjects:
        unnamed = table["subject"] == table["case"]
        table.loc[unnamed, "subject"] = table.loc[unnamed, "fold_group"]
    marks, audited, more = audit_landmarks(dataset, name, table, layout)
    findings += more
    if layout != "none":
        table = table[table["case"].isin(marks["case"])].reset_index(drop=True)
    findings = [as_note(finding) if finding.case in exclude else finding for finding in findings]
    listed = {finding.case for finding in findings}
    findings += [Finding("note", "excluded", each, "named in exclude", "") for each in exclude if each not in listed]
    rows = pd.DataFrame([seen[name].row for name in table["case"]])
    listed = cases.findings_table(findings)
    return Verification(table, rows, colour_table(seen), twins, origin, marks, audited, listed)


def refuse_unknown(exclude: Sequence[str], found: list[Case], findings: list[Finding], folder: Path) -> None:
    """Raises ValueError for an excluded name that is not in the data."""
    known = {case.name for case in found} | {finding.case for finding in findings}
    absent = sorted(set(exclude) - known)
    if absent:
        raise ValueError(f"exclude = {absent}   no such cases in {folder}")


def search(
    dataset: datasets.Dataset, name: str, usable: list[Case], seen: dict[str, looks.Look]
) -> tuple[list[Case], pd.DataFrame, pd.DataFrame, list[Finding]]:
    """Looks for the images in every other data set at hand: cases with what was recovered, twins, origin, findings."""
    known, findings = (
        identity.known_images(name) if dataset.made is None and not dataset.volumes else (pd.DataFrame(), [])
    )
    hashes = [[getattr(seen[case.name].likeness, kind) for case in usable] for kind in ("pixels", "perceptual")]
    twins = identity.find_twins(usable, *hashes, known)
    origin = identity.describe(usable, twins, known, dataset.read_mask)
    recovered = usable if dataset.names_subjects else identity.recover(usable, twins, known)
    return recovered, twins, origin, findings + identity.findings(origin, twins)


def audit_landmarks(
    dataset: datasets.Dataset, name: str, table: pd.DataFrame, layout: str
) -> tuple[pd.DataFrame, pd.DataFrame, list[Finding]]:
    """Landmarks of the cases that have some, what their audit measured, what it found; nothing where none are learnt.

    Args:
        dataset: reads the reference outlines.
        name: of the data set.
        table: the manifest.
        layout: of the landmarks, "none" for none.

    Raises:
        ValueError: the landmarks are missing, of another layout, or of none of the cases.
    """
    if layout == "none":
        return pd.DataFrame(columns=["case", *POINT_COLUMNS]), pd.DataFrame(), []
    marks, findings = landmarks.read(datasets.landmarks_folder(name), layout)

    def outline(row: dict) -> biometry.Ellipse:
        spacing = (row["spacing_row_mm"], row["spacing_col_mm"])
        region = dataset.read_mask(cases.split_paths(row["mask"])) > 0
        return landmarks.reference_ellipse(region, spacing if np.isfinite(spacing).all() else None)

    with ThreadPoolExecutor(environment.threads()) as pool:
        ellipses = dict(zip(table["case"], pool.map(outline, table.to_dict("records"))))
    audited, found = landmarks.audit(marks, table, ellipses)
    if audited.empty:
        raise ValueError(f"{name}: no case has landmarks:\n{cases.findings_table(findings + found).to_string()}")
    kept = marks.set_index("case").loc[audited["case"], POINT_COLUMNS].reset_index()
    return kept, audited, findings + found


def audit_summary(audited: pd.DataFrame) -> pd.DataFrame:
    """The audit of landmarks in one row a fact (fact, value); empty where none are learnt."""
    return landmarks.summary(audited) if len(audited) else pd.DataFrame(columns=["fact", "value"])


def as_note(finding: Finding) -> Finding:
    """A finding on an excluded case stops nothing."""
    return Finding("note", f"excluded: {finding.check}", finding.case, finding.found, finding.expected)


def duplicate_pairs(usable: list[Case], seen: dict[str, looks.Look], correlation: float) -> list[tuple[int, int, str]]:
    """Pairs of cases (i < j) that show the same picture, exactly or nearly, with how much."""
    small = np.stack([seen[case.name].likeness.thumbnail for case in usable])
    alike = np.triu(small @ small.T, k=1)
    pixels = np.array([seen[case.name].likeness.pixels for case in usable])
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


def complete_table(usable: list[Case], seen: dict[str, looks.Look], pairs: list[tuple[int, int, str]]) -> pd.DataFrame:
    """The manifest with sizes, hashes and fold groups (subjects joined by duplicates)."""
    table = cases.cases_table(usable)
    joined = [(usable[i].subject, usable[j].subject) for i, j, _ in pairs]
    group_of = cases.join_groups({case.subject for case in usable}, joined)
    table["fold_group"] = table["subject"].map(group_of)
    for column in ("slices", "height", "width", "sha256"):
        table[column] = [seen[case.name].row[column] for case in usable]
    return table


def summary(table: pd.DataFrame, folds: pd.DataFrame) -> pd.DataFrame:
    """How many cases, subjects and fold groups each fold holds."""
    counts = folds.groupby("fold").agg(cases=("case", "size"), subjects=("subject", "nunique"))
    counts["fold_groups"] = folds.groupby("fold")["fold_group"].nunique()
    counts["with_pixel_size"] = (
        table.set_index("case")["spacing_row_mm"].notna().groupby(folds.set_index("case")["fold"]).sum()
    )
    return counts.reset_index()


def overview(table: pd.DataFrame, seen: pd.DataFrame) -> pd.DataFrame:
    """The data set in one row a fact: fact, value."""
    spacing = table["spacing_row_mm"]
    facts = {
        "cases": len(table),
        "subjects": table["subject"].nunique(),
        "fold groups": table["fold_group"].nunique(),
        "most cases of one subject": int(table["subject"].value_counts().max()),
        "slices": int(table["slices"].sum()) if (table["slices"] > 1).any() else np.nan,
        "image sizes": table.groupby(["height", "width"]).ngroups,
        "with pixel size": int(spacing.notna().sum()),
        "least pixel size (mm)": spacing.min(),
        "largest pixel size (mm)": spacing.max(),
        "with published HC": int(table["hc_mm"].notna().sum()),
        "least HC (mm)": table["hc_mm"].min(),
        "largest HC (mm)": table["hc_mm"].max(),
        "with an empty mask": int((seen["area_fraction"] == 0).sum()),
        "cut by the frame": int((seen["border_gap"] == 0).sum()),
    }
    rows = pd.DataFrame({"fact": list(facts), "value": list(facts.values())})
    return rows[rows["value"].notna()].reset_index(drop=True)


def by_group(table: pd.DataFrame, seen: pd.DataFrame) -> pd.DataFrame:
    """Cases, references and how they lie, a row for each published split and group: what differs between them."""
    joined = table[["case", "split"]].assign(group=cases.group_of(table["stratum"])).merge(seen, on="case")
    grouped = joined.assign(
        empty=joined["area_fraction"] == 0,
        cut=joined["border_gap"] == 0,
        near=(joined["border_gap"] > 0) & (joined["border_gap"] < looks.NEAR_BORDER),
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


def colour_table(seen: dict[str, looks.Look]) -> pd.DataFrame:
    """The audit of all masks: colour, pixels, cases; the most frequent first, the rest in one row."""
    pixels: Counter[tuple[int, ...]] = Counter()
    holders: Counter[tuple[int, ...]] = Counter()
    for each in seen.values():
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
