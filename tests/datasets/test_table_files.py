import os
import re

import pytest

from lib.datasets import hc18, table_files
from tests.datasets import test_all_layouts

SAME = "another table"
IN_PLACE = "table under another name"


def find(folder, files):
    """Name of the table among files of a folder (name -> content), and (severity, check, case) of each finding."""
    findings = []
    for name, content in files.items():
        (folder / name).write_text(content)
    table = table_files.find(folder, "cases.csv", findings)
    return table and table.name, sorted((f.severity, f.check.name, f.case) for f in findings)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (None, [])),
        (
            {
                "cases.csv": "a",
                "near.csv": "b",
                "cases_old.csv": "c",
                "cases (final).csv": "d",
                "~$cases.xlsx": "",
                "._cases.csv": "",
            },
            ("cases.csv", []),
        ),
        *(({name: "a"}, (name, [("note", IN_PLACE, name)])) for name in ("Cases.CSV", "cases.txt", "cases.tsv")),
        *(
            ({name: "a"}, (name, [("note", IN_PLACE, name)]))
            for name in ("cases (1).csv", "cases.csv.txt", "cases-1.csv")
        ),
        *(
            ({"cases.csv": "a", name: "b"}, ("cases.csv", [("warn", SAME, name)]))
            for name in ("Cases.CSV", "cases (1).csv", "cases - Copy.csv", "cases - Kopie (2).csv", "Copy of cases.csv")
        ),
        *(
            ({"cases.csv": "a", name: "b"}, ("cases.csv", [("warn", SAME, name)]))
            for name in ("cases-1.csv", "cases 2.csv", "cases – Kopie.csv", "cases - cópia.csv", "cases (copy).csv")
        ),
        ({"cases.csv": "a", "cases (1).csv": "a"}, ("cases.csv", [("note", SAME, "cases (1).csv")])),
        (
            {"Cases.csv": "a", "cases.txt": "b"},
            ("Cases.csv", [("note", IN_PLACE, "Cases.csv"), ("warn", SAME, "cases.txt")]),
        ),
        ({"cases.csv": "a", "cases.xlsx": "b"}, ("cases.csv", [("note", SAME, "cases.xlsx")])),
        (
            {"Cases.csv": "a", "cases (1).csv": "a"},
            ("Cases.csv", [("note", SAME, "cases (1).csv"), ("note", IN_PLACE, "Cases.csv")]),
        ),
    ],
)
def test_the_documented_name_is_read_or_the_only_table_and_every_other_one_is_said(tmp_path, files, expected):
    assert find(tmp_path, files) == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["cases (1).csv", "cases (2).csv"],
            r"cases \(1\)\.csv and .*cases \(2\)\.csv differ; expected one table, cases",
        ),
        (["cases.xlsx"], r"cases\.xlsx: a workbook, which is not read; save it as CSV UTF-8 under the name cases\.csv"),
        (["Cases.ods"], r"Cases\.ods: a workbook"),
    ],
)
def test_tables_that_differ_under_other_names_and_a_workbook_alone_are_refused(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        find(tmp_path, {name: name for name in files})


def test_a_link_to_nothing_and_a_pipe_are_named_and_never_waited_for(tmp_path):
    path = tmp_path / "cases.csv"
    path.symlink_to(tmp_path / "missing")
    assert table_files.find(tmp_path, "cases.csv", []) == path  # a table, which reading refuses: not "no table"
    path.unlink()
    os.mkfifo(tmp_path / "pipe")
    path.symlink_to(tmp_path / "pipe")
    (tmp_path / "cases (1).csv").write_text("a")
    assert table_files.find(tmp_path, "cases.csv", []) == path


def test_another_table_that_cannot_be_read_is_a_warning_with_the_reason(tmp_path):
    for name in ("cases.txt", "cases (1).csv"):
        (tmp_path / name).symlink_to(tmp_path / "missing")
    (tmp_path / "cases.tsv").mkdir()
    findings = []
    (tmp_path / "Cases.csv").write_text("a")
    assert table_files.find(tmp_path, "cases.csv", findings).name == "Cases.csv"
    (tmp_path / "Cases.csv").rename(tmp_path / "cases.csv")
    assert table_files.find(tmp_path, "cases.csv", findings).name == "cases.csv"
    missing = "not read: cannot be read as a table: No such file or directory"
    found = {(f.severity, f.case, f.found) for f in findings if f.check == table_files.OTHER_TABLE}
    others = [(name, missing) for name in ("cases.txt", "cases (1).csv")]
    others.append(("cases.tsv", "not read: not a file; expected a table"))
    assert found == {("warn", *each) for each in others}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("own", "cases.csv"),
        ("hc18", hc18.TABLE),
        ("lgg", "kaggle_3m/spacing.csv"),
        ("brain_structures", "Trans-thalamic/Trans-Thalamic-Pixel-Size.csv"),
    ],
)
def test_a_pipe_or_folder_in_place_of_a_table_is_named_in_every_layout(tmp_path, name, table, make):
    folder = test_all_layouts.WRITERS[name](tmp_path)
    (folder / table).unlink()
    make(folder / table)
    with pytest.raises(ValueError, match=f"{re.escape(str(folder / table))}: not a file; expected a table"):
        test_all_layouts.find(name, folder)
