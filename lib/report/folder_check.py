"""Verification of a data folder on the command line."""

import shlex
from dataclasses import replace
from pathlib import Path

import pandas as pd

from lib import datasets
from lib.data.cases import PIXEL_SIZE, Case
from lib.data.dataset import Dataset
from lib.data.findings import MISSING_GROUP, SYSTEM_FILES, Check, Finding, to_table
from lib.datasets import landmark_tables, layouts, own, proposal, recognition
from lib.report import tables
from lib.study import printable, steps, study_files
from lib.verification import landmark_audit, overview, verify

MAX_LISTED_FINDINGS = 40  # a notebook writes all of them
MAX_WIDTH = 48  # of a column; a longer cell shifts its own row only
MAX_LISTED_CASES = 3  # of a check that stops, in the last line
WITHOUT_REFERENCES = Check("group without references", "use the other groups; add references if the group has some")
LANDMARK_FACTS = ("BPD longer than OFD", "BPD/OFD, median", "least angle between the lines (°)")


def report_on(folder: Path) -> tuple[str, bool]:
    """Output of `python -m lib verify`, and whether the folder is usable; ValueError if no data set is recognised."""
    name = recognition.recognise(folder)
    if name == recognition.LANDMARKS:
        return _report_on_landmarks(folder)
    listed = own.find_cases(folder, ()) if name == recognition.CUSTOM else None
    dataset, more = _custom(folder, *listed) if listed else (datasets.DATASETS[name], [])
    cases, found = listed or dataset.find_cases(folder, dataset.groups)
    groups, left_out = groups_to_check(dataset, folder, cases, found)
    if groups != list(dataset.groups):
        cases, found = dataset.find_cases(folder, groups)
    dataset = replace(dataset, find_cases=lambda *_: (list(cases), found + left_out))  # listed once: many take long
    result = verify.check_dataset(dataset, name, folder, groups)
    findings = result.findings  # paths are relative to the folder, which is named above
    findings = findings.assign(found=findings["found"].str.replace(f"{folder}/", "", regex=False))
    of_groups = f", groups {', '.join(groups)}" if groups else ""
    blocks = [f"{folder}: {dataset.title}, read as {name}{of_groups}"]
    blocks += [plain(overview.facts(result.cases, result.measured)), *more, *_findings(findings)]
    sound = not findings["severity"].eq("stop").any()
    blocks += [_next_step(name, folder, sound), verdict(findings)]
    return "\n\n".join(blocks), sound


def _custom(folder: Path, cases: list[Case], findings: list[Finding]) -> tuple[Dataset, list[str]]:
    """Custom data with the classes of its masks, and the block that says how they were inferred."""
    classes = proposal.classes_of(folder, cases, findings)
    palette = f"; palette: {classes.palette}" if classes.palette else ""
    source = f"Classes inferred from {classes.source}{palette}"
    return datasets.custom(folder.absolute().name, classes.names, classes.palette), [source, plain(classes.table())]


def _report_on_landmarks(folder: Path) -> tuple[str, bool]:
    """The report on tables of landmarks, and whether one of them can be used; without images, so lines only."""
    rows, findings, usable = [], [], []
    for layout, set_name in landmark_tables.tables(folder):
        points, found = landmark_tables.read(folder, layout, set_name)
        table = f"{layout}/{set_name}".rstrip("/")
        unknown = dict.fromkeys((*PIXEL_SIZE, "height", "width"), float("nan"))  # no images are at hand
        audited, more = landmark_audit.audit(points, points[["case"]].assign(**unknown), {})
        lines = dict(landmark_audit.summary(audited).itertuples(index=False))
        facts = {key: f"{lines[key]:.3g}" if key in lines else "-" for key in LANDMARK_FACTS}
        rows.append({"table": table, "rows": len(points), **facts})
        usable += [table] * all(finding.severity != "stop" for finding in found + more)
        findings += [_of_table(finding, table) for finding in found + more]
    listed = to_table(dict.fromkeys(findings))  # each table's reader lists the system files of the folder
    head = f"{folder}: {recognition.title(recognition.LANDMARKS)}, read as {recognition.LANDMARKS}"
    start = _next_step(recognition.LANDMARKS, folder, bool(usable))
    blocks = [head, plain(pd.DataFrame(rows)), *_findings(listed), start]
    return "\n\n".join([*blocks, f"{verdict(listed)}; usable tables: {', '.join(usable) or 'none'}"]), bool(usable)


def _of_table(finding: Finding, table: str) -> Finding:
    """A finding whose case names the table too, unless it is of the whole folder."""
    if finding.check in (SYSTEM_FILES, layouts.HIDDEN_IMAGES):
        return finding
    return replace(finding, case=table if finding.case == "landmarks" else f"{table}: {finding.case}")


def _findings(findings: pd.DataFrame) -> list[str]:
    """Findings as two blocks, counts by check with the advice and single findings; none without findings."""
    if findings.empty:
        return []
    single = findings.drop(columns="advice").head(MAX_LISTED_FINDINGS)  # advice is printed once per check
    rest = f"\n... and {len(findings) - MAX_LISTED_FINDINGS} more" if len(findings) > MAX_LISTED_FINDINGS else ""
    return [plain(overview.count_findings(findings)), plain(single) + rest]


def _next_step(name: str, folder: Path, sound: bool) -> str:
    """The command that makes or runs a study of a recognised data set."""
    given, start = shlex.quote(str(folder)), "Start with" if sound else "When nothing stops a study, start with"
    if name == recognition.CUSTOM:
        return f"{start}: python -m lib new {study_files.name_from(folder.absolute().name)} --data {given}"
    if name == recognition.LANDMARKS:
        studies, option = study_files.with_value("landmarks", "multicentre"), f" LANDMARKS={given}"
        studies = [study for study in studies if not study.startswith(steps.MADE_HERE)]
    else:
        is_phantom = datasets.DATASETS[name].phantom is not None  # generated by the study itself
        studies, option = study_files.with_value("dataset", name), "" if is_phantom else f" DATA={given}"
    if not studies:
        return f"No study file in params/ uses these data (dataset: {name})"
    copied = f"python -m lib new <name> --like {studies[0]}"
    return f"{start}: make study STUDY={studies[0]}{option}   # one of {len(studies)} in params/; a copy: {copied}"


def verdict(findings: pd.DataFrame) -> str:
    """How many findings stop a study, and which."""
    stops = findings[findings["severity"] == "stop"]
    if findings.empty:
        return "no findings"
    named = []
    for check, cases in stops.groupby("check", sort=False)["case"]:
        names = cases.unique()
        more = f" and {len(names) - MAX_LISTED_CASES} more" if len(names) > MAX_LISTED_CASES else ""
        named.append(f"{check} ({printable.printable(', '.join(names[:MAX_LISTED_CASES]))}{more})")
    verb = "stops" if 1 in (len(stops), len(findings)) else "stop"
    of = "finding" if len(findings) == 1 else "findings"
    return f"{len(stops)} of {len(findings)} {of} {verb} a study{': ' * bool(named)}{', '.join(named)}"


def groups_to_check(
    dataset: Dataset, folder: Path, cases: list[Case], findings: list[Finding]
) -> tuple[list[str], list[Finding]]:
    """Groups of a data set whose folder is present, by the cases and findings of all, and warnings about others.

    Those published without references are left out while none has one, unless there are no others. ValueError if no
    case is complete, with the reasons.
    """
    if not cases:
        raise ValueError(
            f"{folder}: {dataset.title}, but no case is complete\n{overview.describe_findings(to_table(findings))}"
        )
    absent = {finding.case for finding in findings if finding.check == MISSING_GROUP}
    without = set(dataset.groups_without_references) - absent - {case.stratum for case in cases}
    expected = "none, as published; a study cannot use this group"
    warned = [Finding("warn", WITHOUT_REFERENCES, group, "no reference", expected) for group in sorted(without)]
    return [group for group in dataset.groups if group not in absent | without], warned


def plain(table: pd.DataFrame) -> str:
    """A table as formatted text, one line per row, columns left-aligned."""
    printed = tables.readable(table).astype(str).map(printable.printable)
    rows = [list(printed.columns), *printed.to_numpy().tolist()]
    widths = [min(max(map(len, column)), MAX_WIDTH) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
