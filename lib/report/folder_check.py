"""A folder verified on the command line: what it is, what is wrong with it, what to do."""

from pathlib import Path

import pandas as pd

from lib import datasets
from lib.data.dataset import Dataset
from lib.report import tables
from lib.verification import overview, verify

LISTED_FINDINGS = 40  # a notebook writes all


def report_on(folder: Path) -> tuple[str, bool]:
    """What `python -m lib verify` prints of a folder, and whether nothing stops a study on it.

    Raises:
        ValueError: the folder is of no known layout.
    """
    name = datasets.recognise(folder)
    dataset = datasets.DATASETS[name]
    groups = groups_with_cases(dataset, folder)
    found = verify.check_dataset(dataset, name, folder, groups)
    stops = found.findings["severity"].eq("stop")
    of_groups = f", groups {', '.join(groups)}" if groups else ""
    lines = [
        f"{folder}: {dataset.title}, read as {name}{of_groups}",
        "",
        plain(overview.facts(found.cases, found.looks)),
    ]
    if len(found.findings):
        single = found.findings.drop(columns="advice").head(LISTED_FINDINGS)  # it stands with the counts
        lines += ["", plain(overview.count_findings(found.findings)), "", plain(single)]
        rest = len(found.findings) - LISTED_FINDINGS
        lines += [f"... and {rest} more"] if rest > 0 else []
    lines += ["", f"{int(stops.sum())} of {len(found.findings)} findings stop a study" if stops.any() else "sound"]
    return "\n".join(lines), not stops.any()


def groups_with_cases(dataset: Dataset, folder: Path) -> list[str]:
    """Groups of a data set that hold a case with a reference; all of them where none does."""
    held = []
    for group in dataset.groups:
        try:
            if dataset.find_cases(folder, [group])[0]:
                held.append(group)
        except ValueError:  # not there: another group may be
            continue
    return held or list(dataset.groups)


def plain(table: pd.DataFrame) -> str:
    """A table as text for reading, one line a row, columns left-aligned."""
    shown = tables.readable(table).astype(str)
    rows = [list(shown.columns), *shown.to_numpy().tolist()]
    widths = [max(len(row[place]) for row in rows) for place in range(len(shown.columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
