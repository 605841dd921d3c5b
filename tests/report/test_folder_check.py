import re

import numpy as np
import pytest

from lib import datasets
from lib.__main__ import main
from lib.data.findings import UNKNOWN_FILE
from lib.datasets import hc18, lgg
from lib.report import folder_check
from lib.verification import case_checks
from tests import builders

HEADS = builders.heads(6)


@pytest.fixture
def folder(tmp_path):
    return builders.write_hc18(tmp_path / "a copy", HEADS)


def image(folder, name):
    return folder / "training_set" / f"{name}.png"


def row_of(text, word):
    """Cells of the first line with a word in its first or second cell; counts come before single findings."""
    rows = (re.split(r"\s{2,}", line) for line in text.splitlines())
    return next(row for row in rows if word in row[:2])


def test_a_sound_folder_is_recognised_and_counted_with_status_0(folder, capsys):
    assert main(["verify", str(folder)]) == 0
    text = capsys.readouterr().out.rstrip()
    lines = text.splitlines()
    assert lines[0] == f"{folder}: HC18, fetal head circumference, read as hc18"
    assert [row_of(text, word)[1] for word in ("cases", "subjects", "with pixel size")] == ["6", "5", "6"]
    assert lines[-1].startswith("0 of ")
    assert "Severity" not in text  # no findings


def test_checks_have_counts_and_advice_and_findings_their_file_with_status_1(folder, capsys):
    for name in ("001_HC", "002_HC"):
        image(folder, name).write_text("no image")
    image(folder, "copy of 003_HC").write_text("")
    image(folder, f"{HEADS[-1].name}_Annotation").unlink()
    assert main(["verify", str(folder)]) == 1
    text = capsys.readouterr().out.rstrip()
    assert row_of(text, "unreadable") == ["stop", "unreadable", "2", case_checks.UNREADABLE.advice]
    assert row_of(text, "unknown file") == ["warn", "unknown file", "1", UNKNOWN_FILE.advice]
    assert row_of(text, "missing annotation")[2:] == ["1", hc18.MISSING_ANNOTATION.advice]
    assert f"{image(folder, '001_HC')}: cannot be read as an image" in text
    assert text.splitlines()[-1] == "3 of 4 findings stop a study"
    header, *rows = text.split("\n\n")[2].splitlines()  # counts by check
    assert {row.index(row_of(row, row.split()[0])[1]) for row in rows} == {header.index("Check")}


def test_warnings_leave_a_folder_sound_and_only_the_first_of_many_are_listed(folder):
    for number in range(folder_check.MAX_LISTED_FINDINGS + 2):
        image(folder, f"other {number:02d}").write_text("")
    text, sound = folder_check.report_on(folder)
    lines = text.splitlines()
    assert sound
    assert row_of(text, "unknown file")[0] == "warn"
    assert sum(re.search(r"other \d\d\.png", line) is not None for line in lines) == folder_check.MAX_LISTED_FINDINGS
    assert "... and 2 more" in lines
    assert lines[-1].startswith("0 of ")


def test_a_folder_without_a_usable_case_or_of_unknown_layout_is_an_error(folder, tmp_path, capsys):
    for head in HEADS:
        image(folder, head.name).write_text("no image")
    with pytest.raises(ValueError, match=r"no case can be used(.|\n)*unreadable"):
        folder_check.report_on(folder)
    assert main(["verify", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"{tmp_path}: unknown layout\n")


@pytest.mark.parametrize("groups", [["benign", "malignant", "normal"], ["malignant"]])
def test_all_groups_of_a_data_set_that_contain_cases_are_opened(tmp_path, groups):
    for seed, group in enumerate(groups):
        builders.save_png(tmp_path / group / f"{group} (1).png", builders.image_of(HEADS[1], seed))
        mask = np.zeros(HEADS[1].shape, np.uint8) if group == "normal" else builders.outline_of(HEADS[1])
        builders.save_png(tmp_path / group / f"{group} (1)_mask.png", mask)
    text, _ = folder_check.report_on(tmp_path)
    in_order = [group for group in datasets.DATASETS["busi"].groups if group in groups]
    assert text.splitlines()[0].endswith(f"groups {', '.join(in_order)}")
    assert row_of(text, "cases")[1] == str(len(groups))


def test_findings_about_a_patient_s_folder_have_advice(tmp_path):
    folder = builders.write_lgg(tmp_path)
    patients = folder / "kaggle_3m"
    (patients / "notes").mkdir()
    text, sound = folder_check.report_on(folder)
    assert text.splitlines()[0].endswith("read as lgg")
    for check in (lgg.UNKNOWN_FOLDER, lgg.LESION_IN_END_SLICE):
        assert row_of(text, check.name) == ["warn", check.name, "1", check.advice]
    assert sound
    name = builders.PATIENTS[0].name
    (patients / name / f"{name}_5_mask.tif").unlink()
    text, sound = folder_check.report_on(folder)
    check = lgg.SLICE_WITHOUT_MASK
    assert row_of(text, check.name) == ["stop", check.name, "1", check.advice]
    assert not sound
