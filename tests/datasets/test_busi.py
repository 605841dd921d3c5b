import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from lib.datasets import busi
from tests.builders import save_png

SHAPE = (6, 8)
ALL = [f"{group} ({number})" for group in busi.GROUPS for number in (2, 10)]  # numeric, not text order
THREE, MASK = "benign (2).png, benign (2)_mask.png, benign (2)_mask_2.png", "malignant (10)_mask.png"
TWO = "two files with one name"


def lesion(top, left):
    """A mask of 2 x 3 pixels."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[top : top + 2, left : left + 3] = 255
    return mask


@pytest.fixture
def folder(tmp_path):
    """Two images per group."""
    root = tmp_path / "Dataset_BUSI_with_GT"
    for name in ALL:
        stem = root / name.split()[0] / name
        save_png(stem.with_name(f"{name}.png"), np.full((*SHAPE, 3), 7, np.uint8))
        save_png(stem.with_name(f"{name}_mask.png"), lesion(1, 1) * ("normal" not in name))
    return root


def findings(folder, groups=busi.GROUPS):
    """(severity, check, case, found) of all findings except the last, "no pixel size"."""
    *found, last = busi.find_cases(folder, groups)[1]
    assert (last.severity, last.check.name) == ("note", "no pixel size")
    return [(f.severity, f.check.name, f.case, f.found) for f in found]


def names(folder, groups=busi.GROUPS):
    return [case.name for case in busi.find_cases(folder, groups)[0]]


def test_a_sound_folder_gives_cases_in_order_of_group_and_number(folder):
    cases, _ = busi.find_cases(folder, busi.GROUPS)
    assert [case.name for case in cases] == ALL
    assert findings(folder) == []
    assert all((case.subject, case.spacing_mm, case.split) == (case.name, None, "") for case in cases)
    foreground = {case.stratum: case.foreground for case in cases}
    assert foreground == {"benign": "present", "malignant": "present", "normal": "absent"}
    for number in range(1, 12):  # masks in order of their numbers
        save_png(folder / "benign" / f"benign (2)_mask_{number}.png", lesion(0, 0))
    case = busi.find_cases(folder, ["benign"])[0][0]
    assert [path.stem.partition("_mask")[2] for path in case.mask] == ["", *(f"_{n}" for n in range(1, 12))]


def test_an_unused_group_is_only_counted_and_an_absent_one_stops(folder):
    (folder / "normal" / "stray.txt").touch()
    assert names(folder, ["malignant"]) == ["malignant (2)", "malignant (10)"]
    counts = {case: found for _, check, case, found in findings(folder, ["malignant"]) if check == "group not used"}
    assert counts == {"benign": "4 files", "normal": "5 files"}
    shutil.rmtree(folder / "normal")
    assert findings(folder) == [("stop", "missing group", "normal", "no folder normal")]


@pytest.mark.parametrize("name", ["dataset_busi_WITH_gt", "meine Größe (1)", unicodedata.normalize("NFD", "Größe")])
def test_letter_case_suffixes_and_folder_names_do_not_matter(folder, name):
    for end in ("", "_mask"):
        (folder / "benign" / f"benign (2){end}.png").rename(folder / "benign" / f"benign (2){end}.PNG")
    (folder / "benign").rename(folder / "Benign")
    moved = folder.rename(folder.with_name(name))
    assert names(moved) == ALL
    assert busi.read_mask(busi.find_cases(moved, ["benign"])[0][0].mask).sum() == 6
    if "busi" in name:
        assert names(moved.parent) == ALL


def test_separate_and_overlapping_lesions_are_merged(tmp_path):
    parts = [lesion(1, 1), lesion(2, 2), lesion(4, 5)]
    mask = busi.read_mask([save_png(tmp_path / f"m{n}.png", part) for n, part in enumerate(parts)])
    assert mask.dtype == np.uint8
    rows = ["".join(map(str, row)) for row in mask.tolist()]
    assert rows == ["00000000", "01110000", "01111000", "00111000", "00000111", "00000111"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
def test_masks_of_every_published_mode_are_read_alike(tmp_path, mode):
    for pixels in (lesion(1, 1), np.zeros(SHAPE, np.uint8)):
        Image.fromarray(pixels).convert(mode).save(tmp_path / "m.png")
        assert np.array_equal(busi.read_mask([tmp_path / "m.png"]), pixels > 0)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (lesion(0, 0)[:5], r"differ.*a_mask\.png \(6, 8\), a_mask_1\.png \(5, 8\); expected equal"),
        (lesion(0, 0) // 36 * 36 + lesion(3, 3), r"a_mask_1\.png: values \[0, 252, 255\]"),
    ],
)
def test_masks_of_different_sizes_and_grey_values_are_refused(tmp_path, second, message):
    masks = {"a_mask": lesion(0, 0), "a_mask_1": second}
    with pytest.raises(ValueError, match=message):
        busi.read_mask([save_png(tmp_path / f"{name}.png", mask) for name, mask in masks.items()])


@pytest.mark.parametrize(
    ("removed", "added", "check", "case", "found", "expected"),
    [
        ("benign (2)_mask", None, "missing mask", "benign (2)", "benign (2).png", "benign (2)_mask.png"),
        # the gap counts, since a lesion would become background
        (None, "benign (2)_mask_2.png", "missing mask", "benign (2)", THREE, "benign (2)_mask_1.png"),
        ("malignant (10)", None, "missing image", "malignant (10)", f"only {MASK}", "malignant (10).png"),
        (None, "benign (2).bmp", TWO, "benign (2)", "benign (2).bmp and benign (2).png", "one file"),
    ],
)
def test_a_missing_file_and_two_with_one_name_stop(folder, removed, added, check, case, found, expected):
    if removed:
        (folder / removed.split()[0] / f"{removed}.png").unlink()
    if added:
        save_png(folder / "benign" / added, lesion(0, 0))
    assert findings(folder) == [("stop", check, case, found)]
    assert [f.expected for f in busi.find_cases(folder, busi.GROUPS)[1] if f.severity == "stop"] == [expected]


@pytest.mark.parametrize("name", ["malignant (3).png", "benign 3.png", "benign (3).txt", "benign (3)_mask_a.png"])
def test_an_unknown_file_is_ignored_with_a_warning_and_a_hidden_one_without(folder, name):
    for each in (name, ".DS_Store", "._benign (2).png"):
        (folder / "benign" / each).touch()
    assert findings(folder) == [("warn", "unknown file", name, "ignored")]
    assert names(folder) == ALL


@pytest.mark.parametrize(
    ("folders", "groups", "message"),
    [
        (["training_set"], busi.GROUPS, r"found \['training_set'\]; expected Dataset_BUSI_with_GT/"),
        ([], busi.GROUPS, "new: found no such folder; expected Dataset_BUSI_with_GT/"),
        (["benign"], ["benign"], "no images in benign"),
        (["benign"], ["normal"], r"no folder normal; found \['benign'\]"),
        (["BENIGN", "benign"], busi.GROUPS, "found BENIGN and benign; expected one folder per group"),
    ],
)
def test_a_folder_of_another_layout_is_refused_with_its_names(tmp_path, folders, groups, message):
    for name in folders:
        (tmp_path / "new" / name).mkdir(parents=True)
    with pytest.raises(ValueError, match=message):
        busi.find_cases(tmp_path / "new", groups)
