"""Verification of a data folder on the command line."""

from pathlib import Path

import pandas as pd

from lib import datasets
from lib.data.dataset import Dataset
from lib.report import tables
from lib.verification import overview, verify

MAX_LISTED_FINDINGS = 40  # a notebook writes all of them


def report_on(folder: Path) -> tuple[str, bool]:
    """Output of `python -m lib verify`, and whether the folder is usable; ValueError if its layout is unknown."""
    name = datasets.recognise(folder)
    dataset = datasets.DATASETS[name]
    groups = groups_with_cases(dataset, folder)
    result = verify.check_dataset(dataset, name, folder, groups)
    findings, stops = result.findings, result.findings["severity"].eq("stop")
    of_groups = f", groups {', '.join(groups)}" if groups else ""
    facts = plain(overview.facts(result.cases, result.measured))
    blocks = [f"{folder}: {dataset.title}, read as {name}{of_groups}", facts]
    if len(findings):
        single = findings.drop(columns="advice").head(MAX_LISTED_FINDINGS)  # advice is printed once per check
        rest = f"\n... and {len(findings) - MAX_LISTED_FINDINGS} more" if len(findings) > MAX_LISTED_FINDINGS else ""
        blocks += [plain(overview.count_findings(findings)), plain(single) + rest]
    blocks.append(f"{int(stops.sum())} of {len(findings)} findings stop a study")
    return "\n\n".join(blocks), not stops.any()


def groups_with_cases(dataset: Dataset, folder: Path) -> list[str]:
    """Groups of a data set that contain a case with a reference; all groups if none does."""
    usable = []
    for group in dataset.groups:
        try:
            if dataset.find_cases(folder, [group])[0]:
                usable.append(group)
        except ValueError:  # missing; another group may be present
            continue
    return usable or list(dataset.groups)


def plain(table: pd.DataFrame) -> str:
    """A table as formatted text, one line per row, columns left-aligned."""
    printed = tables.readable(table).astype(str)
    rows = [list(printed.columns), *printed.to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
