"""Verification of a data set: reads every file, recomputes published values, groups cases that belong together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from lib import datasets
from lib.data import cases, splits
from lib.data.cases import Case
from lib.data.dataset import Dataset
from lib.data.findings import SUBJECTS_UNKNOWN, Check, Finding, to_table
from lib.datasets import landmark_tables
from lib.imaging import ellipse
from lib.imaging.head_points import POINT_COLUMNS
from lib.study import parallel, raw_folders
from lib.study.progress import Live
from lib.verification import image_hash, landmark_audit, overview, plausibility, rehosted
from lib.verification.case_checks import CheckedCase, check_case

EXCLUDED = Check("excluded")
COUNT_ONCE = "no action needed: both are in the same fold; exclude one if each image should count once"
DUPLICATE_ACROSS_SUBJECTS = Check("duplicate across subjects", COUNT_ONCE)
DUPLICATE_WITHIN_SUBJECT = Check("duplicate within a subject")

Checked = dict[str, CheckedCase]  # by case name


@dataclass(frozen=True)
class Verification:
    """Tables of 01_data_verification."""

    cases: pd.DataFrame  # the manifest, without excluded and unusable cases
    measured: pd.DataFrame  # one row per case: area, contrast, distance to the frame, recomputed HC
    colours: pd.DataFrame  # one row per colour (or grey value) of the masks: number of pixels and cases
    near_duplicates: pd.DataFrame  # cases whose image is in another available data set (rehosted.DUPLICATE_COLUMNS)
    identity: pd.DataFrame  # one row per such data set (rehosted.IDENTITY_COLUMNS)
    points: pd.DataFrame  # native landmarks, one row per case (case, POINT_COLUMNS); no rows without landmarks
    audit: pd.DataFrame  # landmark audit, one row per case
    findings: pd.DataFrame  # FINDING_COLUMNS, the most severe first


def check_dataset(
    dataset: Dataset,
    name: str,
    folder: Path,
    groups: Sequence[str] = (),
    exclude: Sequence[str] = (),
    correlation: float = 0.9,
    layout: str = "none",
    live: Live | None = None,
) -> Verification:
    """Reads and checks every case of some groups of a data set.

    Cases in `exclude` are left out, and with a landmark `layout` other than "none" those without landmarks.
    Near-duplicates are images whose thumbnails have at least the given `correlation`. `name` is that of the data set,
    `live` shows the progress.
    Raises ValueError if the folder is not of that data set, an excluded case is unknown or no case can be used.
    """
    listed, findings = datasets.find_cases(dataset, folder, groups)
    refuse_unknown(exclude, listed, findings, folder)
    excluded = set(exclude)
    kept = [case for case in listed if case.name not in excluded]
    has_name = name in datasets.DATASETS or name.startswith(raw_folders.OWN)
    label = name if has_name else folder.absolute().name  # the case of findings about the whole set
    results = parallel.in_parallel(lambda case: check_case(case, dataset), kept, live, "checked case")
    checked = dict(zip([case.name for case in kept], results))
    findings += [finding for each in results for finding in each.findings]
    usable = [case for case in kept if checked[case.name].hashes is not None]
    if not usable:
        reasons = plausibility.if_all_empty(label, checked, findings)
        raise ValueError(f"{folder}: no case can be used\n{overview.describe_findings(to_table(reasons))}")
    usable, near_duplicates, identity, more = search(dataset, name, usable, checked)
    findings += more
    if len(near_duplicates) == len(usable):
        findings = [finding for finding in findings if finding.check != SUBJECTS_UNKNOWN]  # all were recovered
    pairs = duplicate_pairs(usable, checked, correlation)
    findings += duplicate_findings(usable, pairs) + plausibility.check_all(dataset, label, usable, checked)
    table = complete_table(usable, checked, pairs)
    if not dataset.names_subjects:
        unnamed = table["subject"] == table["case"]
        table.loc[unnamed, "subject"] = table.loc[unnamed, "fold_group"]
    points, audited, more = audit_landmarks(dataset, name, table, layout)
    findings += more
    if layout != "none":
        table = table[table["case"].isin(points["case"])].reset_index(drop=True)
    rows = pd.DataFrame([checked[case].row for case in table["case"]])
    found, colours = to_table(excluded_as_notes(findings, exclude)), overview.colour_table(checked)
    return Verification(table, rows, colours, near_duplicates, identity, points, audited, found)


def refuse_unknown(exclude: Sequence[str], listed: list[Case], findings: list[Finding], folder: Path) -> None:
    """Raises ValueError for an excluded case that is not in the data set."""
    unknown = sorted(set(exclude) - {case.name for case in listed} - {finding.case for finding in findings})
    if unknown:
        raise ValueError(f"exclude = {unknown}   no such cases in {folder}")


def excluded_as_notes(findings: list[Finding], exclude: Sequence[str]) -> list[Finding]:
    """Findings with those of excluded cases reduced to notes, and a note for each excluded case without one."""
    notes, excluded = [], set(exclude)
    for finding in findings:
        check = Check(f"{EXCLUDED.name}: {finding.check.name}")
        notes.append(replace(finding, severity="note", check=check) if finding.case in excluded else finding)
    listed = {finding.case for finding in findings}
    return notes + [Finding("note", EXCLUDED, name, "listed in exclude", "") for name in exclude if name not in listed]


def search(
    dataset: Dataset, name: str, usable: list[Case], checked: Checked
) -> tuple[list[Case], pd.DataFrame, pd.DataFrame, list[Finding]]:
    """Cases with data recovered from other available data sets, their near-duplicates there, identity, findings."""
    known, findings = pd.DataFrame(columns=rehosted.KNOWN_COLUMNS), []
    if dataset.is_searchable:
        known, findings = rehosted.known_images(name)
    duplicates = rehosted.find_duplicates(usable, [checked[case.name].hashes for case in usable], known)
    identity = rehosted.describe(usable, duplicates, known, dataset.read_mask)
    recovered = usable if dataset.names_subjects else rehosted.recover(usable, duplicates, known)
    return recovered, duplicates, identity, findings + rehosted.findings(identity, duplicates)


def audit_landmarks(
    dataset: Dataset, name: str, table: pd.DataFrame, layout: str
) -> tuple[pd.DataFrame, pd.DataFrame, list[Finding]]:
    """Landmarks, audit table and findings for the cases with landmarks; ValueError if there are none."""
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
        raise ValueError(f"{name}: no case has landmarks\n{overview.describe_findings(to_table(findings))}")
    return points.set_index("case").loc[audited["case"], POINT_COLUMNS].reset_index(), audited, findings


def duplicate_pairs(usable: list[Case], checked: Checked, correlation: float) -> list[tuple[int, int, str]]:
    """Pairs of cases (i < j) that are duplicates or near-duplicates, with the reason as text."""
    hashed = [checked[case.name].hashes for case in usable]
    similar = image_hash.similar_pairs([each.thumbnail for each in hashed], correlation)
    reasons = {(i, j): f"correlation {value:.3f}" for i, j, value in similar}
    # A uniform image does not even correlate with itself.
    reasons |= dict.fromkeys(image_hash.equal_pairs([each.pixels for each in hashed]), "equal pixels")
    return [(*pair, reason) for pair, reason in sorted(reasons.items())]


def duplicate_findings(usable: list[Case], pairs: list[tuple[int, int, str]]) -> list[Finding]:
    """A warning for each pair across subjects, which are assigned to one fold; a note for each within a subject."""
    within = "note", DUPLICATE_WITHIN_SUBJECT, "different frames"
    across = "warn", DUPLICATE_ACROSS_SUBJECTS, "different images; both subjects are assigned to the same fold"
    findings = []
    for i, j, how in pairs:
        severity, check, expected = within if usable[i].subject == usable[j].subject else across
        findings.append(Finding(severity, check, usable[i].name, f"{usable[j].name}: {how}", expected))
    return findings


def complete_table(usable: list[Case], checked: Checked, pairs: list[tuple[int, int, str]]) -> pd.DataFrame:
    """The manifest with sizes, hashes and fold groups (subjects joined by duplicates, or with several spellings)."""
    table = cases.cases_table(usable)
    joined = [(usable[i].subject, usable[j].subject) for i, j, _ in pairs]
    joined += [(each[0], other) for each in plausibility.spellings(usable) for other in each[1:]]
    group_of = splits.join_groups({case.subject for case in usable}, joined)
    table["fold_group"] = table["subject"].map(group_of)
    for column in ("slices", "height", "width", "sha256"):
        table[column] = [checked[case.name].row[column] for case in usable]
    return table
