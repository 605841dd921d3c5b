"""Findings of data verification, and the checks that report them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

FINDING_COLUMNS = ["severity", "check", "case", "found", "expected", "advice"]


@dataclass(frozen=True)
class Check:
    """A named check of the data, with its advice."""

    name: str
    advice: str = ""  # what to do about a finding; "" where no action is needed


@dataclass(frozen=True)
class Finding:
    """One result of a check for one case."""

    # stop: the study ends until the data are fixed or the case is excluded; warn: in the report; note: in the log
    severity: Literal["stop", "warn", "note"]
    check: Check
    case: str
    found: str
    expected: str


def to_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Findings with the advice of their checks (FINDING_COLUMNS), sorted by severity, check and case."""
    order = {"stop": 0, "warn": 1, "note": 2}
    rows = sorted(findings, key=lambda f: (order[f.severity], f.check.name, f.case))
    cells = [(f.severity, f.check.name, f.case, f.found, f.expected, f.check.advice) for f in rows]
    return pd.DataFrame(cells, columns=FINDING_COLUMNS)


DECIMAL_COMMA = Check("decimal comma")
FOLDER_IGNORED = Check("folder ignored")
GROUP_NOT_USED = Check("group not used")
MISSING_GROUP = Check("missing group", "add the folder of the group, or remove the group from `groups`")
MISSING_IMAGE = Check("missing image", "add the image, or remove the files that belong to it")
MISSING_MASK = Check("missing mask", "add the mask, or list the case in `exclude`")
MISSING_PIXEL_SIZE = Check("missing pixel size", "add a row to the table of pixel sizes; measurements in mm need it")
NO_PIXEL_SIZE = Check("no pixel size")
ROW_WITHOUT_FILE = Check("row without a file", "add the image or remove the row")
ROW_WITHOUT_NAME = Check("row without a name", "write the image's name in the row, or remove the row")
LEAK = "add subjects if they are known; images of one person in two folds leak information"
SUBJECTS_UNKNOWN = Check("subjects unknown", LEAK)
SYSTEM_FILES = Check("system files")
TABLE_FORM = Check("form of a table")
TWO_ROWS_FOR_ONE_IMAGE = Check("two rows for one image", "keep the correct row")
UNKNOWN_FILE = Check("unknown file", "remove it if it does not belong to the data set")
UNREADABLE_NUMBER = Check("unreadable number", "write a number with a decimal point, within the expected range")


def fact_table(facts: dict[str, float]) -> pd.DataFrame:
    """One row (fact, value) per fact; facts whose value is NaN are dropped."""
    rows = pd.DataFrame({"fact": list(facts), "value": list(facts.values())})
    return rows[rows["value"].notna()].reset_index(drop=True)
