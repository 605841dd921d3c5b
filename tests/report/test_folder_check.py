"""`python -m lib verify <folder>`: what it is, how much there is, what is wrong, what to do, whether it is sound."""

import re
import shutil

import numpy as np
import pytest

from lib import datasets
from lib.__main__ import main
from lib.data.findings import UNKNOWN_FILE, Check, Finding, to_table
from lib.datasets import hc18, lgg
from lib.report import folder_check
from lib.verification import case_checks, overview
from tests import builders
from tests.builders import save_png

HEADS = builders.heads(6)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return builders.write_hc18(tmp_path_factory.mktemp("raw") / "a copy", HEADS)


@pytest.fixture
def folder(written, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(written, tmp_path / "hc18")


def image(folder, name):
    return folder / "training_set" / f"{name}.png"


def row_of(text, word):
    """Cells of the first line with a word in its first or second cell; single findings come after their counts."""
    rows = (re.split(r"\s{2,}", line) for line in text.splitlines())
    return next(row for row in rows if word in row[:2])


# The text


def test_it_names_folder_and_data_set_and_counts_what_is_there(written):
    text, sound = folder_check.report_on(written)
    assert sound
    lines = text.splitlines()
    assert lines[0] == f"{written}: HC18, fetal head circumference, read as hc18"
    assert row_of(text, "cases") == ["cases", "6"]
    assert row_of(text, "subjects") == ["subjects", "5"]
    assert row_of(text, "with pixel size")[1] == "6"
    assert lines[-1] == "sound"


def test_without_findings_there_is_no_list_of_them(written):
    assert "Severity" not in folder_check.report_on(written)[0]


def test_each_check_stands_with_its_count_and_what_to_do(folder):
    for name in ("001_HC", "002_HC"):
        image(folder, name).write_text("no image")
    image(folder, "copy of 003_HC").write_text("")
    text, sound = folder_check.report_on(folder)
    assert not sound
    assert row_of(text, "unreadable") == ["stop", "unreadable", "2", case_checks.UNREADABLE.advice]
    assert row_of(text, "unknown file") == ["warn", "unknown file", "1", UNKNOWN_FILE.advice]
    assert text.splitlines()[-1] == "2 of 3 findings stop a study"


def test_each_finding_stands_with_its_file(folder):
    image(folder, "001_HC").write_text("no image")
    text = folder_check.report_on(folder)[0]
    assert f"{image(folder, '001_HC')}: cannot be read as an image" in text


def test_a_warning_alone_leaves_a_folder_sound_for_a_study(folder):
    image(folder, "notes").write_text("")
    text, sound = folder_check.report_on(folder)
    assert sound
    assert row_of(text, "unknown file")[0] == "warn"
    assert text.splitlines()[-1] == "sound"


def test_of_many_findings_the_first_are_listed_and_the_others_counted(folder):
    for number in range(folder_check.LISTED_FINDINGS + 2):
        image(folder, f"other {number:02d}").write_text("")
    lines = folder_check.report_on(folder)[0].splitlines()
    assert sum(re.search(r"other \d\d\.png", line) is not None for line in lines) == folder_check.LISTED_FINDINGS
    assert "... and 2 more" in lines


def test_a_folder_without_one_usable_case_is_refused_with_what_was_found(folder):
    for head in HEADS:
        image(folder, head.name).write_text("no image")
    with pytest.raises(ValueError, match="no case can be used") as caught:
        folder_check.report_on(folder)
    assert "unreadable" in str(caught.value)


def test_all_groups_of_a_data_set_are_opened(tmp_path):
    for seed, group in enumerate(datasets.DATASETS["busi"].groups):
        save_png(tmp_path / group / f"{group} (1).png", builders.image_of(HEADS[1], seed))
        mask = np.zeros(HEADS[1].shape, np.uint8) if group == "normal" else builders.outline_of(HEADS[1])
        save_png(tmp_path / group / f"{group} (1)_mask.png", mask)
    text, sound = folder_check.report_on(tmp_path)
    assert sound
    assert row_of(text, "cases")[1] == "3"
    assert row_of(text, "with an empty mask")[1] == "1"


def test_columns_stand_one_below_the_other():
    found = [Finding("note", Check("a"), "x", "f", "e"), Finding("warn", Check("bcd"), "x", "", "")]
    findings = to_table(found)
    lines = folder_check.plain(overview.count_findings(findings)).splitlines()
    assert [line.split() for line in lines[1:]] == [["warn", "bcd", "1"], ["note", "a", "1"]]
    assert len({line.index(word) for line, word in zip(lines[1:], ("bcd", "a"))}) == 1
    assert not any(line.endswith(" ") for line in lines)


# What to do


def test_a_check_that_needs_nothing_done_has_no_advice():
    findings = to_table([Finding("note", case_checks.TOUCHES_FRAME, "x", "", "")])
    assert overview.count_findings(findings).values.tolist() == [["note", "touches the frame", 1, ""]]


def spoil_patient(folder, how):
    """Makes one fault in a patient of five slices."""
    slice_, mask = (folder / f"{folder.name}_{ending}" for ending in ("5.tif", "5_mask.tif"))
    match how:
        case "two files of one slice":
            shutil.copy(slice_, slice_.with_name(f"{folder.name}_05.tif"))
        case "missing slice number":
            for path in (slice_, mask):
                path.rename(path.with_name(path.name.replace("_5", "_7")))
        case "slice without mask":
            mask.unlink()
        case "mask without slice":
            slice_.unlink()
        case "too few slices":
            for path in [path for number in (3, 4, 5) for path in folder.glob(f"{folder.name}_{number}*")]:
                path.unlink()
        case "unknown folder":
            (folder.parent / "notes").mkdir()
        case "row without a patient" | "two rows for one patient":
            name = folder.name if how.startswith("two") else "TCGA_XX_0009_20000101"
            rows = [f"{folder.name},1,1,5", f"{name},1,1,5"]
            (folder.parent / "spacing.csv").write_text("\n".join(["patient,row_mm,col_mm,slice_mm", *rows]))


@pytest.mark.parametrize(
    "check",
    [
        lgg.TWO_FILES_OF_ONE_SLICE,
        lgg.MISSING_SLICE_NUMBER,
        lgg.SLICE_WITHOUT_MASK,
        lgg.MASK_WITHOUT_SLICE,
        lgg.TOO_FEW_SLICES,
        lgg.UNKNOWN_FOLDER,
        lgg.ROW_WITHOUT_PATIENT,
        lgg.TWO_ROWS_FOR_ONE_PATIENT,
    ],
    ids=lambda check: check.name,
)
def test_a_fault_of_a_patient_s_folder_stands_with_what_to_do(tmp_path, check):
    folder = builders.write_lgg(tmp_path)
    spoil_patient(folder / "kaggle_3m" / builders.PATIENTS[0].name, check.name)
    text, sound = folder_check.report_on(folder)
    assert text.splitlines()[0].endswith("read as lgg")
    severity = "warn" if check in (lgg.UNKNOWN_FOLDER, lgg.ROW_WITHOUT_PATIENT) else "stop"
    assert row_of(text, check.name) == [severity, check.name, "1", check.advice]
    assert sound == (severity == "warn")


def test_patients_are_recognised_counted_and_their_oddities_told(tmp_path):
    text, sound = folder_check.report_on(builders.write_lgg(tmp_path))
    assert sound
    assert (row_of(text, "cases"), row_of(text, "slices")) == (["cases", "4"], ["slices", "20"])
    expected = ["warn", "lesion in an end slice", "1", lgg.LESION_IN_END_SLICE.advice]
    assert row_of(text, "lesion in an end slice") == expected


# The command


def test_a_sound_folder_ends_with_status_0(written, capsys):
    assert main(["verify", str(written)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("\nsound")


def test_a_folder_that_stops_a_study_ends_with_status_1(folder, capsys):
    image(folder, "001_HC_Annotation").unlink()
    assert main(["verify", str(folder)]) == 1
    printed = capsys.readouterr().out
    assert row_of(printed, "missing annotation")[2:] == ["1", hc18.MISSING_ANNOTATION.advice]
    assert printed.rstrip().endswith("1 of 1 findings stop a study")


def test_a_folder_of_no_known_layout_ends_with_status_2_and_says_why(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"{tmp_path}: of no known layout\n")
