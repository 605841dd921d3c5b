"""`python -m lib verify <folder>`: what it is, how much there is, what is wrong, what to do, whether it is sound."""

import re
import shutil

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


def test_a_sound_folder_is_named_counted_and_ends_with_status_0(written, capsys):
    assert main(["verify", str(written)]) == 0
    text = capsys.readouterr().out.rstrip()
    lines = text.splitlines()
    assert lines[0] == f"{written}: HC18, fetal head circumference, read as hc18"
    assert [row_of(text, word)[1] for word in ("cases", "subjects", "with pixel size")] == ["6", "5", "6"]
    assert lines[-1] == "sound"
    assert "Severity" not in text  # no findings
    assert len(
        {line.index(number) for line, number in zip(lines[2:6], [row[-1] for row in map(str.split, lines[2:6])])}
    )


def test_each_check_stands_with_its_count_and_what_to_do_each_finding_with_its_file_and_status_1(folder, capsys):
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
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_warnings_leave_a_folder_sound_and_of_many_the_first_are_listed(folder):
    for number in range(folder_check.LISTED_FINDINGS + 2):
        image(folder, f"other {number:02d}").write_text("")
    text, sound = folder_check.report_on(folder)
    lines = text.splitlines()
    assert sound
    assert row_of(text, "unknown file")[0] == "warn"
    assert sum(re.search(r"other \d\d\.png", line) is not None for line in lines) == folder_check.LISTED_FINDINGS
    assert "... and 2 more" in lines
    assert lines[-1] == "sound"


def test_a_folder_without_one_usable_case_or_of_no_known_layout_is_refused_with_what_was_found(
    folder, tmp_path, capsys
):
    for head in HEADS:
        image(folder, head.name).write_text("no image")
    with pytest.raises(ValueError, match=r"no case can be used(.|\n)*unreadable"):
        folder_check.report_on(folder)
    assert main(["verify", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"{tmp_path}: of no known layout\n")


@pytest.mark.parametrize("groups", [["benign", "malignant", "normal"], ["malignant"]])
def test_all_groups_of_a_data_set_that_hold_cases_are_opened(tmp_path, groups):
    for seed, group in enumerate(groups):
        builders.save_png(tmp_path / group / f"{group} (1).png", builders.image_of(HEADS[1], seed))
        mask = np.zeros(HEADS[1].shape, np.uint8) if group == "normal" else builders.outline_of(HEADS[1])
        builders.save_png(tmp_path / group / f"{group} (1)_mask.png", mask)
    assert set(groups) <= set(datasets.DATASETS["busi"].groups)
    text, _ = folder_check.report_on(tmp_path)
    assert text.splitlines()[0].endswith(
        f"groups {', '.join(g for g in datasets.DATASETS['busi'].groups if g in groups)}"
    )
    assert row_of(text, "cases")[1] == str(len(groups))


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
    ("check", "severity"),
    [
        (lgg.TWO_FILES_OF_ONE_SLICE, "stop"),
        (lgg.MISSING_SLICE_NUMBER, "stop"),
        (lgg.SLICE_WITHOUT_MASK, "stop"),
        (lgg.MASK_WITHOUT_SLICE, "stop"),
        (lgg.TOO_FEW_SLICES, "stop"),
        (lgg.UNKNOWN_FOLDER, "warn"),
        (lgg.ROW_WITHOUT_PATIENT, "warn"),
        (lgg.TWO_ROWS_FOR_ONE_PATIENT, "stop"),
        (lgg.LESION_IN_END_SLICE, "warn"),  # as it is
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_fault_of_a_patient_s_folder_stands_with_what_to_do(tmp_path, check, severity):
    folder = builders.write_lgg(tmp_path)
    spoil_patient(folder / "kaggle_3m" / builders.PATIENTS[0].name, check.name)
    text, sound = folder_check.report_on(folder)
    assert text.splitlines()[0].endswith("read as lgg")
    assert row_of(text, check.name) == [severity, check.name, "1", check.advice]
    assert sound == (severity == "warn")
