"""What a reader of the data should know: findings, and the checks that find them with their advice."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

FINDING_COLUMNS = ["severity", "check", "case", "found", "expected", "advice"]


@dataclass(frozen=True)
class Check:
    """What is looked for in the data."""

    name: str
    advice: str = ""  # what to do about a finding; "" where nothing needs to be done


@dataclass(frozen=True)
class Finding:
    """Something that a reader of the data should know."""

    # stop: ends the study until it is mended or the case excluded; warn: stands in the report; note: worth printing
    severity: Literal["stop", "warn", "note"]
    check: Check
    case: str
    found: str
    expected: str


def to_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Findings with the advice of their checks, the grave ones first, then by check and case."""
    order = {"stop": 0, "warn": 1, "note": 2}
    rows = sorted(findings, key=lambda f: (order[f.severity], f.check.name, f.case))
    cells = [(f.severity, f.check.name, f.case, f.found, f.expected, f.check.advice) for f in rows]
    return pd.DataFrame(cells, columns=FINDING_COLUMNS)


FOLDER_PASSED_OVER = Check("folder passed over")
GROUP_NOT_USED = Check("group not used")
MISSING_GROUP = Check("missing group", "add its folder, or leave the group out of `groups`")
MISSING_IMAGE = Check("missing image", "add the image, or remove what belongs to it")
MISSING_MASK = Check("missing mask", "add the mask, or name the case in `exclude`")
MISSING_PIXEL_SIZE = Check("missing pixel size", "add a row to the table of pixel sizes; millimetres need it")
NO_PIXEL_SIZE = Check("no pixel size")
ROW_WITHOUT_FILE = Check("row without a file", "add the image or remove the row")
LEAK = "give subjects where they are known; images of one person in two folds leak"
SUBJECTS_UNKNOWN = Check("subjects unknown", LEAK)
TWO_ROWS_FOR_ONE_IMAGE = Check("two rows for one image", "keep the right row")
UNKNOWN_FILE = Check("unknown file", "remove it if it does not belong to the data set")
UNREADABLE_NUMBER = Check("unreadable number", "write a number with a decimal point in the range that is named")


def fact_table(facts: dict[str, float]) -> pd.DataFrame:
    """Facts with a value, in one row each: fact, value."""
    rows = pd.DataFrame({"fact": list(facts), "value": list(facts.values())})
    return rows[rows["value"].notna()].reset_index(drop=True)
