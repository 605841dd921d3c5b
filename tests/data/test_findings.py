import importlib
import pkgutil

import lib
from lib.data import findings
from lib.data.findings import Check, Finding

# Checks that only note a fact, after which nothing needs to be done; every other one has advice.
FACTS = {
    "constant channel",
    "dark lesion",
    "data set not searched",
    "decimal comma",
    "duplicate within a subject",
    "excluded",
    "export not read",
    "folder passed over",
    "group not used",
    "lesion touches the frame",
    "low contrast",
    "near the frame",
    "nearly an image of another data set",
    "no lesion",
    "no pixel size",
    "pixels are not square",
    "rows without an image",
    "sequence replaced by FLAIR",
    "touches the frame",
}


def every_check():
    """The checks of all modules of lib."""
    modules = [importlib.import_module(each.name) for each in pkgutil.walk_packages(lib.__path__, "lib.")]
    return {value for module in modules for value in vars(module).values() if isinstance(value, Check)}


def test_every_check_that_stops_or_warns_has_advice():
    assert len(every_check()) > 60
    assert {check.name for check in every_check() if not check.advice} == FACTS


def test_a_check_is_defined_once():
    names = sorted(check.name for check in every_check())
    assert names == sorted(set(names))


def test_a_finding_stands_in_the_table_with_the_name_and_the_advice_of_its_check():
    check = Check("missing mask", "add the mask")
    found = [Finding("stop", check, "001", "no file", "001.png"), Finding("note", Check("a fact"), "002", "", "")]
    assert findings.to_table(found).to_dict("records") == [
        {
            "severity": "stop",
            "check": "missing mask",
            "case": "001",
            "found": "no file",
            "expected": "001.png",
            "advice": "add the mask",
        },
        {"severity": "note", "check": "a fact", "case": "002", "found": "", "expected": "", "advice": ""},
    ]
