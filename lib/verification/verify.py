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
from lib.verification import landmark_audit, overview, rehosted
from lib.verification.case_checks import Look, look

EXCLUDED = Check("excluded")
COUNT_ONCE = "nothing: both are kept in one fold; exclude one if a picture should count once"
DUPLICATE_ACROSS_SUBJECTS = Check("duplicate across subjects", COUNT_ONCE)
DUPLICATE_WITHIN_SUBJECT = Check("duplicate within a subject")


@dataclass(frozen=True)
class Verification:
    """What 01_data_verification found."""

    cases: pd.DataFrame  # the manifest, without cases that are excluded or cannot be used
    looks: pd.DataFrame  # one row per case: area, contrast, distance to the frame, HC recomputed
    colours: pd.DataFrame  # one row per colour (or grey value) of the masks: how many pixels and cases have it
    twins: pd.DataFrame  # cases that show an image of another data set at hand
    identity: pd.DataFrame  # one row for each data set that they come from
    points: pd.DataFrame  # native landmarks of each case (case, POINT_COLUMNS); no row where none are learnt
    audit: pd.DataFrame  # what the landmarks' audit measured, one row per case
    findings: pd.DataFrame  # what a reader should know, the grave ones first


def check_dataset(
    dataset: Dataset,
    name: str,
    folder: Path,
    groups: Sequence[str] = (),
    exclude: Sequence[str] = (),
    correlation: float = 0.9,
    layout: str = "none",
) -> Verification:
    """Opens every case of some groups of a data set and reports what is there.

    Args:
        name: of the data set, which is left out of the search for known images.
        exclude: names of cases to leave out; each becomes a note, with what is wrong with it.
        correlation: of thumbnails, from which two images are near-duplicates.
        layout: of the landmarks that are learnt, "none" for none; cases without landmarks are left out.

    ValueError if the folder is not that data set, lacks an excluded name, or has no landmarks to be learnt.
    """
    listed, findings = datasets.find_cases(dataset, folder, groups)
    refuse_unknown(exclude, listed, findings, folder)
    kept = [case for case in listed if case.name not in exclude]
    looks = dict(zip([case.name for case in kept], parallel.in_parallel(lambda case: look(case, dataset), kept)))
    findings += [finding for each in looks.values() for finding in each.findings]
    usable = [case for case in kept if looks[case.name].likeness is not None]
    if not usable:
        raise ValueError(f"{folder}: no case can be used:\n{to_table(findings).head(20).to_string()}")
    usable, twins, origin, more = search(dataset, name, usable, looks)
    findings += more
    if len(twins) == len(usable):
        findings = [finding for finding in findings if finding.check != SUBJECTS_UNKNOWN]  # no longer
    pairs = duplicate_pairs(usable, looks, correlation)
    findings += duplicate_findings(usable, pairs)
    table = complete_table(usable, looks, pairs)
    if not dataset.names_subjects:
        unnamed = table["subject"] == table["case"]
        table.loc[unnamed, "subject"] = table.loc[unnamed, "fold_group"]
    points, audited, more = audit_landmarks(dataset, name, table, layout)
    findings += more
    if layout != "none":
        table = table[table["case"].isin(points["case"])].reset_index(drop=True)
    rows = pd.DataFrame([looks[case].row for case in table["case"]])
    listing = to_table(excluded_as_notes(findings, exclude))
    return Verification(table, rows, overview.colour_table(looks), twins, origin, points, audited, listing)


def refuse_unknown(exclude: Sequence[str], listed: list[Case], findings: list[Finding], folder: Path) -> None:
    """Raises ValueError for an excluded name that is not in the data."""
    absent = sorted(set(exclude) - {case.name for case in listed} - {finding.case for finding in findings})
    if absent:
        raise ValueError(f"exclude = {absent}   no such cases in {folder}")


def excluded_as_notes(findings: list[Finding], exclude: Sequence[str]) -> list[Finding]:
    """Findings of which none on an excluded case stops the study, and a note for each such case without one."""
    notes = []
    for finding in findings:
        check = Check(f"{EXCLUDED.name}: {finding.check.name}")
        notes.append(replace(finding, severity="note", check=check) if finding.case in exclude else finding)
    listed = {finding.case for finding in findings}
    return notes + [Finding("note", EXCLUDED, name, "named in exclude", "") for name in exclude if name not in listed]


def search(
    dataset: Dataset, name: str, usable: list[Case], looks: dict[str, Look]
) -> tuple[list[Case], pd.DataFrame, pd.DataFrame, list[Finding]]:
    """Looks for the images in every other data set at hand: cases with what was recovered, twins, origin, findings."""
    known, findings = pd.DataFrame(columns=rehosted.KNOWN_COLUMNS), []
    if dataset.phantom is None and not dataset.volumes:
        known, findings = rehosted.known_images(name)
    twins = rehosted.find_twins(usable, [looks[case.name].likeness for case in usable], known)
    origin = rehosted.describe(usable, twins, known, dataset.read_mask)
    recovered = usable if dataset.names_subjects else rehosted.recover(usable, twins, known)
    return recovered, twins, origin, findings + rehosted.findings(origin, twins)


def audit_landmarks(
    dataset: Dataset, name: str, table: pd.DataFrame, layout: str
) -> tuple[pd.DataFrame, pd.DataFrame, list[Finding]]:
    """Landmarks of the cases that have some, what their audit measured and found; ValueError if no case has any."""
    if layout == "none":
        return pd.DataFrame(columns=["case", *POINT_COLUMNS]), pd.DataFrame(), []
    points, findings = landmark_tables.read(datasets.landmarks_folder(name), layout)

    def outline(row: dict) -> ellipse.Ellipse:
        region = dataset.read_mask(cases.split_paths(row["mask"])) > 0
        return ellipse.fit_head(region, cases.spacing_mm(row) or (1.0, 1.0))

    ellipses = dict(zip(table["case"], parallel.in_parallel(outline, table.to_dict("records"))))
    audited, more = landmark_audit.audit(points, table, ellipses)
    findings += more
    if audited.empty:
        raise ValueError(f"{name}: no case has landmarks:\n{to_table(findings).to_string()}")
    return points.set_index("case").loc[audited["case"], POINT_COLUMNS].reset_index(), audited, findings


def duplicate_pairs(usable: list[Case], looks: dict[str, Look], correlation: float) -> list[tuple[int, int, str]]:
    """Pairs of cases (i < j) that show the same picture, exactly or nearly, with how much."""
    thumbnails = np.stack([looks[case.name].likeness.thumbnail for case in usable])
    correlations = np.triu(thumbnails @ thumbnails.T, k=1)
    pixels = np.array([looks[case.name].likeness.pixels for case in usable])
    equal = np.triu(pixels[:, None] == pixels[None], k=1)  # an even grey correlates with nothing, not even itself
    return [
        (int(i), int(j), "equal pixels" if equal[i, j] else f"correlation {correlations[i, j]:.3f}")
        for i, j in np.argwhere(equal | (correlations >= correlation))
    ]


def duplicate_findings(usable: list[Case], pairs: list[tuple[int, int, str]]) -> list[Finding]:
    """A pair across subjects is a warning and joins them; within one subject it is a note."""
    within = "note", DUPLICATE_WITHIN_SUBJECT, "different frames"
    across = "warn", DUPLICATE_ACROSS_SUBJECTS, "one subject; joined in one fold"
    findings = []
    for i, j, how in pairs:
        severity, check, expected = within if usable[i].subject == usable[j].subject else across
        findings.append(Finding(severity, check, usable[i].name, f"{usable[j].name}: {how}", expected))
    return findings


def complete_table(usable: list[Case], looks: dict[str, Look], pairs: list[tuple[int, int, str]]) -> pd.DataFrame:
    """The manifest with sizes, hashes and fold groups (subjects joined by duplicates)."""
    table = cases.cases_table(usable)
    joined = [(usable[i].subject, usable[j].subject) for i, j, _ in pairs]
    group_of = splits.join_groups({case.subject for case in usable}, joined)
    table["fold_group"] = table["subject"].map(group_of)
    for column in ("slices", "height", "width", "sha256"):
        table[column] = [looks[case.name].row[column] for case in usable]
    return table
