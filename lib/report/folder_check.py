"""A folder verified on the command line: what it is, what is wrong with it, what to do."""

from pathlib import Path

import pandas as pd

from lib import datasets
from lib.data.dataset import Dataset
from lib.report import tables
from lib.verification import overview, verify

LISTED_FINDINGS = 40  # a notebook writes all


def report_on(folder: Path) -> tuple[str, bool]:
    """What `python -m lib verify` prints, and whether nothing stops a study; ValueError if the layout is not known."""
    name = datasets.recognise(folder)
    dataset = datasets.DATASETS[name]
    groups = groups_with_cases(dataset, folder)
    seen = verify.check_dataset(dataset, name, folder, groups)
    findings, stops = seen.findings, seen.findings["severity"].eq("stop")
    of_groups = f", groups {', '.join(groups)}" if groups else ""
    blocks = [f"{folder}: {dataset.title}, read as {name}{of_groups}", plain(overview.facts(seen.cases, seen.measured))]
    if len(findings):
        single = findings.drop(columns="advice").head(LISTED_FINDINGS)  # it stands with the counts
        rest = f"\n... and {len(findings) - LISTED_FINDINGS} more" if len(findings) > LISTED_FINDINGS else ""
        blocks += [plain(overview.count_findings(findings)), plain(single) + rest]
    blocks.append(f"{int(stops.sum())} of {len(findings)} findings stop a study" if stops.any() else "sound")
    return "\n\n".join(blocks), not stops.any()


def groups_with_cases(dataset: Dataset, folder: Path) -> list[str]:
    """Groups of a data set that hold a case with a reference; all of them where none does."""
    usable = []
    for group in dataset.groups:
        try:
            if dataset.find_cases(folder, [group])[0]:
                usable.append(group)
        except ValueError:  # not there: another group may be
            continue
    return usable or list(dataset.groups)


def plain(table: pd.DataFrame) -> str:
    """A table as text for reading, one line a row, columns left-aligned."""
    printed = tables.readable(table).astype(str)
    rows = [list(printed.columns), *printed.to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
