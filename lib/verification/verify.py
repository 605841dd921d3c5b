"""Is the data what it says it is: every file opened, every claim recomputed, who belongs to whom."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib import datasets
from lib.data import cases, splits
from lib.data.cases import Case
from lib.data.dataset import Dataset
from lib.data.findings import SUBJECTS_UNKNOWN, Check, Finding, to_table
from lib.datasets import landmark_tables
from lib.imaging import ellipse
from lib.imaging.head_points import POINT_COLUMNS
from lib.study import parallel
from lib.verification import case_checks, landmark_audit, overview, rehosted

EXCLUDED = Check("excluded")
DUPLICATE_ACROSS_SUBJECTS = Check(
    "duplicate across subjects", "nothing: both are kept in one fold; exclude one if a picture should count once"
)
DUPLICATE_WITHIN_SUBJECT = Check("duplicate within a subject")


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


def check_dataset(
    dataset: Dataset,
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
    looks = parallel.in_parallel(lambda case: case_checks.look(case, dataset), kept)
    seen = {case.name: look for case, look in zip(kept, looks)}
    findings += [finding for each in seen.values() for finding in each.findings]
    usable = [case for case in kept if "height" in seen[case.name].row]
    if not usable:
        raise ValueError(f"{folder}: no case can be used:\n{to_table(findings).head(20).to_string()}")
    usable, twins, origin, more = search(dataset, name, usable, seen)
    findings += more
    if len(twins) == len(usable):
        findings = [finding for finding in findings if finding.check != SUBJECTS_UNKNOWN]  # no longer
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
    findings += [Finding("note", EXCLUDED, each, "named in exclude", "") for each in exclude if each not in listed]
    rows = pd.DataFrame([seen[name].row for name in table["case"]])
    listed = to_table(findings)
    return Verification(table, rows, overview.colour_table(seen), twins, origin, marks, audited, listed)


def refuse_unknown(exclude: Sequence[str], found: list[Case], findings: list[Finding], folder: Path) -> None:
    """Raises ValueError for an excluded name that is not in the data."""
    known = {case.name for case in found} | {finding.case for finding in findings}
    absent = sorted(set(exclude) - known)
    if absent:
        raise ValueError(f"exclude = {absent}   no such cases in {folder}")


def search(
    dataset: Dataset, name: str, usable: list[Case], seen: dict[str, case_checks.Look]
) -> tuple[list[Case], pd.DataFrame, pd.DataFrame, list[Finding]]:
    """Looks for the images in every other data set at hand: cases with what was recovered, twins, origin, findings."""
    known, findings = (
        rehosted.known_images(name) if dataset.made is None and not dataset.volumes else (pd.DataFrame(), [])
    )
    hashes = [[getattr(seen[case.name].likeness, kind) for case in usable] for kind in ("pixels", "perceptual")]
    twins = rehosted.find_twins(usable, *hashes, known)
    origin = rehosted.describe(usable, twins, known, dataset.read_mask)
    recovered = usable if dataset.names_subjects else rehosted.recover(usable, twins, known)
    return recovered, twins, origin, findings + rehosted.findings(origin, twins)


def audit_landmarks(
    dataset: Dataset, name: str, table: pd.DataFrame, layout: str
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
    marks, findings = landmark_tables.read(datasets.landmarks_folder(name), layout)

    def outline(row: dict) -> ellipse.Ellipse:
        region = dataset.read_mask(cases.split_paths(row["mask"])) > 0
        return ellipse.fit_head(region, cases.spacing_mm(row) or (1.0, 1.0))

    ellipses = dict(zip(table["case"], parallel.in_parallel(outline, table.to_dict("records"))))
    audited, found = landmark_audit.audit(marks, table, ellipses)
    if audited.empty:
        raise ValueError(f"{name}: no case has landmarks:\n{to_table(findings + found).to_string()}")
    kept = marks.set_index("case").loc[audited["case"], POINT_COLUMNS].reset_index()
    return kept, audited, findings + found


def as_note(finding: Finding) -> Finding:
    """A finding on an excluded case stops nothing."""
    return replace(finding, severity="note", check=Check(f"{EXCLUDED.name}: {finding.check.name}"))


def duplicate_pairs(
    usable: list[Case], seen: dict[str, case_checks.Look], correlation: float
) -> list[tuple[int, int, str]]:
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
        check = DUPLICATE_ACROSS_SUBJECTS if across else DUPLICATE_WITHIN_SUBJECT
        expected = "one subject; joined in one fold" if across else "different frames"
        found.append(Finding("warn" if across else "note", check, one.name, f"{other.name}: {how}", expected))
    return found


def complete_table(
    usable: list[Case], seen: dict[str, case_checks.Look], pairs: list[tuple[int, int, str]]
) -> pd.DataFrame:
    """The manifest with sizes, hashes and fold groups (subjects joined by duplicates)."""
    table = cases.cases_table(usable)
    joined = [(usable[i].subject, usable[j].subject) for i, j, _ in pairs]
    group_of = splits.join_groups({case.subject for case in usable}, joined)
    table["fold_group"] = table["subject"].map(group_of)
    for column in ("slices", "height", "width", "sha256"):
        table[column] = [seen[case.name].row[column] for case in usable]
    return table
