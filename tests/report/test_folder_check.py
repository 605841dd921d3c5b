import re
import shutil

import numpy as np
import pytest
from PIL import Image

from lib import datasets
from lib.__main__ import main
from lib.data.findings import MISSING_MASK, UNKNOWN_FILE, Finding, to_table
from lib.datasets import hc18, landmark_tables, lgg
from lib.datasets.phantoms import cache
from lib.imaging import image_files
from lib.report import folder_check
from lib.verification import case_checks, plausibility
from tests import builders, builders_brain

HEADS = builders.heads(6)
COMMAND, HC18 = "python -m lib verify", datasets.DATASETS["hc18"].title


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
    assert lines[-1] == "no findings"
    assert "Severity" not in text
    assert lines[-3].startswith(f"Start with: make study STUDY=hc18_quick DATA='{folder}'   # one of ")


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
    assert "  training_set/001_HC.png: cannot be read as an image" in text
    absent = HEADS[-1].name
    last = f"3 of 4 findings stop a study: missing annotation ({absent}), unreadable (001_HC, 002_HC)"
    assert text.splitlines()[-1] == last
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
    assert lines[-1] == f"0 of {folder_check.MAX_LISTED_FINDINGS + 2} findings stop a study"


@pytest.mark.parametrize(
    ("severities", "last"),
    [
        ("", "no findings"),
        ("w", "0 of 1 finding stops a study"),
        ("s", "1 of 1 finding stops a study: unreadable (c0)"),
        ("sww", "1 of 3 findings stops a study: unreadable (c0)"),
        ("sssss", "5 of 5 findings stop a study: unreadable (c0, c1, c2 and 2 more)"),
    ],
)
def test_the_last_line_counts_and_names_the_findings_that_stop(severities, last):
    names = {"s": "stop", "w": "warn"}
    listed = [Finding(names[s], case_checks.UNREADABLE, f"c{n}", "", "") for n, s in enumerate(severities)]
    assert folder_check.verdict(to_table(listed)) == last
    same = [Finding("stop", case_checks.UNREADABLE, "c", str(n), "") for n in range(5)]
    assert folder_check.verdict(to_table(same)) == "5 of 5 findings stop a study: unreadable (c)"


def test_a_folder_without_a_usable_case_or_of_unknown_layout_is_an_error(folder, tmp_path, capsys):
    for head in HEADS:
        image(folder, head.name).write_text("no image")
    with pytest.raises(
        ValueError, match=r"no case can be used\n    6 x unreadable: .*\n(.*cannot.*\n){3} +… and 3 more"
    ):
        folder_check.report_on(folder)
    assert main(["verify", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"{tmp_path}: not a data set itself; below it:\n    {COMMAND} '{folder}'   # {HC18}\n"
    assert main(["verify", " "]) == 2
    assert capsys.readouterr().err == "no folder is given; expected make verify DATA=<folder>\n"


@pytest.mark.parametrize("groups", [["benign", "malignant", "normal"], ["malignant"]])
def test_all_groups_of_a_data_set_that_contain_cases_are_opened(tmp_path, groups):
    for seed, group in enumerate(groups):
        builders.save_png(tmp_path / group / f"{group} (1).png", builders.image_of(HEADS[1], seed))
        mask = np.zeros(HEADS[1].shape, np.uint8) if group == "normal" else builders.outline_of(HEADS[1])
        builders.save_png(tmp_path / group / f"{group} (1)_mask.png", mask)
    (tmp_path / "benign").mkdir(exist_ok=True)
    text, sound = folder_check.report_on(tmp_path)
    assert sound == ("benign" in groups)
    assert text.endswith("1 of 2 findings stops a study: empty group (benign)") != sound
    groups = {*groups, "benign"}
    in_order = [group for group in datasets.DATASETS["busi"].groups if group in groups]
    assert text.splitlines()[0].endswith(f"groups {', '.join(in_order)}")
    assert row_of(text, "cases")[1] == str(len(groups) - (not sound))


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


@pytest.fixture
def own(tmp_path):
    """Custom data of six heads with pixel sizes; the mask of the last has a value of no class."""
    folder = builders.write_own(tmp_path / "Ovaries 2", HEADS)
    stray = np.where(builders.region_of(HEADS[-1]), 255, 0).astype(np.uint8)
    stray[0, 0] = 9
    builders.save_png(folder / "masks" / f"{HEADS[-1].name}.png", stray)
    return folder


def test_own_data_are_checked_with_the_classes_of_their_masks_and_the_next_command_is_given(own, capsys):
    assert main(["verify", str(own)]) == 1
    text = capsys.readouterr().out.rstrip()
    assert text.splitlines()[0] == f"{own}: Own data (Ovaries 2), read as own"
    assert [row_of(text, fact)[1] for fact in ("cases", "with pixel size")] == ["5", "5"]
    assert "Classes inferred from 6 masks: grey values 0 and 255" in text
    assert [row_of(text, name) for name in ("background", "structure")] == [
        [*row, "6"] for row in (["background", "0"], ["structure", "255"])
    ]
    *_, command, _, last = text.splitlines()
    assert command == f"When nothing stops a study, start with: python -m lib new ovaries_2 --data '{own}'"
    assert last.startswith("1 of ")
    assert last.endswith(f" stops a study: unreadable ({HEADS[-1].name})")
    assert "9 in 1 pixels" in text
    for path in (own / "masks").iterdir():
        path.unlink()
    builders.save_png(own / "masks" / "other.png", np.zeros((4, 4), np.uint8))
    assert main(["verify", str(own)]) == 2
    assert f"{own}: no image has a mask; the first: {HEADS[1].name}: missing mask (no file)" in capsys.readouterr().err


def test_a_phantom_is_called_one_and_runs_without_a_folder(folder, capsys):
    (folder / cache.RECORD).write_text("{}")
    (folder / datasets.TRUTH).write_text("case\n" + "".join(f"{head.name}\n" for head in HEADS))
    assert main(["verify", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{folder}: Phantom of HC18, read as phantom_hc18"
    assert lines[-3].startswith("Start with: make study STUDY=phantom_hc18_segnet   # one of 1 ")


def test_published_data_without_a_complete_case_are_refused_with_the_reasons_and_first_cases(folder):
    for head in HEADS:
        image(folder, f"{head.name}_Annotation").unlink()
    reasons = f"    6 x missing annotation: {hc18.MISSING_ANNOTATION.advice}\n        {HEADS[1].name}: no file\n"
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the text is compared)
        folder_check.report_on(folder)
    assert str(error.value).startswith(f"{folder}: {HC18}, but no case is complete\n{reasons}")
    assert str(error.value).endswith("\n        … and 3 more")


def no_case(folder):
    with pytest.raises(ValueError, match="no case can be used") as error:
        folder_check.report_on(folder)
    return str(error.value).splitlines()


@pytest.mark.parametrize("name", ["hc18", "brain_structures"])
def test_masks_that_are_all_empty_are_one_stop_also_where_an_empty_mask_cannot_be_used(tmp_path, name):
    folder = builders.write_hc18(tmp_path / "raw", HEADS) if name == "hc18" else builders_brain.write_all(tmp_path)
    pattern = "*/*_Annotation.png" if name == "hc18" else "*/*/SegmentationClass/*.png"
    masks = list(folder.glob(pattern))
    for path in masks:
        builders.save_png(path, image_files.open_mask(path).pixels * 0)
    _, stop, case, *others = no_case(folder)
    assert stop == f"    1 x all masks are empty: {plausibility.ALL_MASKS_EMPTY.advice}"
    assert case == f"        {name}: no foreground in {len(masks)} masks"
    assert not [line for line in others if "unreadable" in line or "empty mask" in line]


def test_a_group_whose_cases_all_stop_is_reported_and_an_absent_one_left_out(tmp_path):
    folder = builders_brain.write_all(tmp_path)
    table = folder / "Trans-ventricular" / "Trans-ventricular-Pixel-Size.csv"
    table.write_text(table.read_text(encoding="utf-8-sig").replace(",0.", ",10."))
    shutil.rmtree(folder / "Trans-cerebellum")
    text, sound = folder_check.report_on(folder)
    assert text.splitlines()[0].endswith("groups trans-thalamic, trans-ventricular, diverse")
    assert row_of(text, "unreadable number")[:3] == ["stop", "unreadable number", "2"]
    assert not sound


def test_a_published_group_without_outlines_is_a_warning_and_another_a_stop(tmp_path):
    for group, outlined in (("benign", False), ("malignant", True), ("normal", False)):
        builders.save_png(tmp_path / "train" / group / "1_HC.png", builders.image_of(HEADS[1], 0))
        if outlined:
            builders.save_png(tmp_path / "train" / group / "1_HC_Annotation.png", builders.outline_of(HEADS[1]))
    text, sound = folder_check.report_on(tmp_path)
    assert sound
    assert text.splitlines()[0].endswith("groups malignant")
    assert row_of(text, "group without references")[:3] == ["warn", "group without references", "2"]
    (tmp_path / "train" / "malignant" / "1_HC_Annotation.png").rename(
        tmp_path / "train" / "normal" / "1_HC_Annotation.png"
    )
    text, sound = folder_check.report_on(tmp_path)
    assert text.splitlines()[-1].endswith("stops a study: missing outline (malignant-1_HC)")


def test_names_and_cells_with_control_characters_are_printed_as_python_writes_them(own, capsys):
    shutil.copy(own / "images" / f"{HEADS[1].name}.png", own / "images" / "a\nb\x1b[31m.png")
    (own / "masks" / "\u202ex.txt").write_text("")
    assert main(["verify", str(own)]) == 1
    text = capsys.readouterr().out
    assert row_of(text, "missing mask") == ["stop", "missing mask", "1", MISSING_MASK.advice]
    assert r"a\nb\x1b[31m" in text
    assert r"masks/\u202ex.txt" in text
    assert main(["verify", str(own / "\x1b[2J")]) == 2
    assert capsys.readouterr().err == f"{own}/\\x1b[2J: no such folder; check the path\n"


def test_masks_of_which_none_can_be_read_are_refused_with_the_reason_of_the_first(own, capsys):
    for path in (own / "masks").iterdir():
        path.unlink()
        page = Image.new("L", (90, 60))
        page.save(path.with_suffix(".tif"), save_all=True, append_images=[page])
    assert main(["verify", str(own)]) == 2
    reason = "cannot be read as an image: 2 pages or frames; expected one (save each as a file of its own)"
    first = f"none of 6 masks can be read; the first: {HEADS[1].name}.tif: {reason}\n"
    assert capsys.readouterr().err == f"{own}/masks: {first}"


POINTS = ("image_name", *landmark_tables.XY_COLUMNS)


def write_points(path, rows):
    """A table of landmarks: OFD from (row, column) to (row, column), then BPD, per image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [",".join(map(str, (f"{n}.png", *points))) for n, points in enumerate(rows)]
    path.write_text("\n".join([",".join(POINTS), *cells]))


def test_tables_of_landmarks_are_checked_one_by_one_and_one_sound_table_is_enough(tmp_path, capsys):
    sound, swapped = (50, 10, 50, 90, 20, 50, 80, 50), (20, 50, 80, 50, 50, 10, 50, 90)
    tmp_path = tmp_path / "landmarks"  # as findings of a whole table are called
    write_points(tmp_path / "multicentre" / "HC18" / "Head.csv", [sound] * 3)
    write_points(tmp_path / landmark_tables.CHALLENGE_FILE, [swapped] * 3)
    assert main(["verify", str(tmp_path)]) == 0
    text = capsys.readouterr().out.rstrip()
    assert row_of(text, "multicentre/HC18") == ["multicentre/HC18", "3", "0", "0.75", "90"]
    assert row_of(text, "role_challenge") == ["role_challenge", "3", "3", "1.33", "90"]
    stops = "1 of 1 finding stops a study: BPD longer than OFD (role_challenge)"
    assert text.splitlines()[-1] == f"{stops}; usable tables: multicentre/HC18"
    assert f"make study STUDY=hc18_landmarks_quick LANDMARKS={tmp_path}" in text
    (tmp_path / ".DS_Store").touch()
    main(["verify", str(tmp_path)])
    assert capsys.readouterr().out.count(".DS_Store") == 1
    (tmp_path / "multicentre" / "HC18" / "Head.csv").write_text(",".join(POINTS) + "\nx.png,1,2,3,4,5,6,7,eight\n")
    assert main(["verify", str(tmp_path)]) == 1
    text = capsys.readouterr().out.rstrip()
    assert "multicentre/HC18: x" in text
    assert text.endswith("usable tables: none")
