from lib.data import findings
from lib.data.findings import Check, Finding


def test_findings_have_the_advice_of_their_checks_and_are_sorted_by_severity_check_and_case():
    missing = Check("missing mask", "add the mask")
    found = [
        Finding("note", Check("a fact"), "1", "", ""),
        Finding("stop", missing, "2", "no file", "2.png"),
        Finding("warn", Check("b"), "9", "", ""),
        Finding("stop", missing, "1", "no file", "1.png"),
        Finding("stop", Check("above"), "3", "", ""),
    ]
    table = findings.to_table(found)
    assert table.columns.tolist() == findings.to_table([]).columns.tolist() == findings.FINDING_COLUMNS
    assert table.values.tolist() == [
        ["stop", "above", "3", "", "", ""],
        ["stop", "missing mask", "1", "no file", "1.png", "add the mask"],
        ["stop", "missing mask", "2", "no file", "2.png", "add the mask"],
        ["warn", "b", "9", "", "", ""],
        ["note", "a fact", "1", "", "", ""],
    ]
