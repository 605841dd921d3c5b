"""A folder verified on the command line: what it is, what is wrong with it, what to do."""

from pathlib import Path

import pandas as pd

from lib import datasets
from lib.report import tables
from lib.verification import overview, verify

LISTED_FINDINGS = 40  # a notebook writes all

# What to do about a finding, by its check; "" where nothing needs to be done.
ADVICE = {
    "unreadable": "get the file again, or name the case in `exclude`",
    "size mismatch": "image and mask belong to different pictures, or one was resized: get both again, or exclude",
    "empty mask": "exclude the case, or mend the mask",
    "mask of a normal image": "move the image to the group that it shows, or empty the mask",
    "unmeasurable mask": "look at the mask; exclude the case if it shows no whole head",
    "missing mask": "add the mask, or name the case in `exclude`",
    "missing masks": "unpack the Segmentation or PASCAL export of this group, or leave the group out",
    "missing annotation": "add the annotation, or name the case in `exclude`",
    "missing outline": "add the outline, or name the case in `exclude`",
    "missing group": "add its folder, or leave the group out of `groups`",
    "missing truth": "remove the phantom's folder; it is written again",
    "missing image": "add the image, or remove what belongs to it",
    "missing pixel size": "add a row to the table of pixel sizes; millimetres need it",
    "two rows for one image": "keep the right row",
    "unreadable number": "write a number with a decimal point in the range that is named",
    "name in two groups": "remove one of the two, or rename it",
    "two files of one name": "keep the right file",
    "two images of one name": "keep the right file",
    "two outlines for one image": "keep the right file",
    "unusable name": "rename the file",
    "unreadable name": "rename the file as the publisher names files",
    "unknown file": "remove it if it does not belong to the data set",
    "unknown folder": "remove it if it does not belong to the data set, or rename it as the publisher names patients",
    "two files of one slice": "keep the right file",
    "missing slice number": "get the missing slices again, or exclude the patient",
    "slice without mask": "add the mask (black where nothing is), or exclude the patient",
    "mask without slice": "add the slice, or remove the mask if its number is the last",
    "too few slices": "exclude the patient",
    "lesion in an end slice": "nothing, or end_slices_dropped: 0; dropped slices count as missed",
    "row without a patient": "add the patient's folder, or mend the name in the row",
    "two rows for one patient": "keep the right row",
    "row without a file": "add the image or remove the row",
    "row without an image": "add the image or remove the row",
    "image without a row": "add a row, or the subject counts as unknown",
    "subject unknown": "give the subject; images of one person in two folds leak",
    "lossy mask": "save masks as PNG; borders are blurred, and each pixel was given the nearest colour",
    "0 and 1 instead of 0 and 255": "nothing: taken as the same",
    "duplicate across subjects": "nothing: both are kept in one fold; exclude one if a picture should count once",
    "images of another data set": "cite that data set, and never train on one and test on the other",
    "subject in several published splits": "use the folds of this project, not the published split",
    "subjects unknown": "give subjects where they are known; images of one person in two folds leak",
    "HC differs from its annotation": "look at both; pixel size or annotation is wrong",
    "outline in another split": "nothing: paired by name over all splits",
}


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
        lines += ["", plain(advise(found.findings)), "", plain(found.findings.head(LISTED_FINDINGS))]
        rest = len(found.findings) - LISTED_FINDINGS
        lines += [f"... and {rest} more"] if rest > 0 else []
    lines += ["", f"{int(stops.sum())} of {len(found.findings)} findings stop a study" if stops.any() else "sound"]
    return "\n".join(lines), not stops.any()


def groups_with_cases(dataset: datasets.Dataset, folder: Path) -> list[str]:
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


def advise(findings: pd.DataFrame) -> pd.DataFrame:
    """What each check counted, and what to do about it: severity, check, findings, what_to_do."""
    counted = overview.count_findings(findings)
    counted["what_to_do"] = [ADVICE.get(check, "") for check in counted["check"]]
    return counted
