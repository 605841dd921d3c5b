"""BUSI's layout: on drawn lesions, and on the published files where they are at hand."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from lib.datasets import busi
from lib.imaging import image_files
from lib.study import files
from tests.builders import save_png

REAL = files.ROOT.parent / "shared" / "data" / "busi"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there: BUSI is not part of the project")
SHAPE = (6, 8)


def lesion(top, left):
    """A mask of 2 x 3 pixels."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[top : top + 2, left : left + 3] = 255
    return mask


def write(root):
    """Two images a group, numbered so that their names sort wrongly as text."""
    for group in busi.GROUPS:
        for number in (2, 10):
            save_png(root / group / f"{group} ({number}).png", np.full((*SHAPE, 3), number, np.uint8))
            mask = np.zeros(SHAPE, np.uint8) if group == "normal" else lesion(1, 1)
            save_png(root / group / f"{group} ({number})_mask.png", mask)
    return root


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "Dataset_BUSI_with_GT")


def checks(folder, groups=busi.GROUPS):
    """(severity, check, case) of all findings but the note that no pixel size is known."""
    return [
        (f.severity, f.check.name, f.case)
        for f in busi.find_cases(folder, groups)[1]
        if f.check.name != "no pixel size"
    ]


def one(folder, check):
    (found,) = [f for f in busi.find_cases(folder, busi.GROUPS)[1] if f.check.name == check]
    return found


def names(folder, groups=busi.GROUPS):
    return [case.name for case in busi.find_cases(folder, groups)[0]]


# A sound folder


def test_cases_stand_in_order_of_group_and_number(folder):
    expected = [f"{group} ({number})" for group in ("benign", "malignant", "normal") for number in (2, 10)]
    assert names(folder) == expected
    assert checks(folder) == []


def test_each_image_is_its_own_subject_without_a_pixel_size(folder):
    for case in busi.find_cases(folder, busi.GROUPS)[0]:
        assert (case.subject, case.spacing_mm, case.split) == (case.name, None, "")
    assert one(folder, "no pixel size").severity == "note"


def test_only_normal_images_show_nothing(folder):
    shows = {case.stratum: case.shows for case in busi.find_cases(folder, busi.GROUPS)[0]}
    assert shows == {"benign": "something", "malignant": "something", "normal": "nothing"}


def test_a_group_that_is_not_chosen_is_only_counted(folder):
    (folder / "normal" / "stray.txt").touch()
    assert names(folder, ["malignant"]) == ["malignant (2)", "malignant (10)"]
    found = [f for f in busi.find_cases(folder, ["malignant"])[1] if f.check.name == "group not used"]
    assert [(f.severity, f.case, f.found) for f in found] == [
        ("note", "benign", "4 files"),
        ("note", "normal", "5 files"),
    ]


def test_the_folder_around_it_is_read_and_letter_case_does_not_matter(folder):
    (folder / "benign").rename(folder / "Benign")
    folder.rename(folder.with_name("dataset_busi_WITH_gt"))
    assert len(names(folder.parent)) == 6


def test_upper_case_suffixes_and_a_blank_in_the_path_are_read(folder):
    path = folder / "benign" / "benign (2)"
    for end in ("", "_mask"):
        (folder / "benign" / f"benign (2){end}.png").rename(f"{path}{end}.PNG")
    moved = folder.rename(folder.with_name("meine Größe (1)"))
    assert names(moved)[0] == "benign (2)"
    assert busi.read_mask(busi.find_cases(moved, ["benign"])[0][0].mask).sum() == 6


def test_names_in_decomposed_unicode_are_no_hindrance(folder):
    moved = folder.rename(folder.with_name(unicodedata.normalize("NFD", "Größe")))
    assert len(names(moved)) == 6


# Several lesions


def test_masks_of_an_image_stand_in_order_of_their_numbers(folder):
    for number in range(1, 12):
        save_png(folder / "benign" / f"benign (2)_mask_{number}.png", lesion(0, 0))
    case = busi.find_cases(folder, ["benign"])[0][0]
    assert [path.stem.partition("_mask")[2] for path in case.mask] == ["", *(f"_{n}" for n in range(1, 12))]


def test_lesions_are_joined_where_they_are_apart_and_where_they_overlap(tmp_path):
    parts = [lesion(1, 1), lesion(2, 2), lesion(4, 5)]
    paths = [save_png(tmp_path / f"m{place}.png", part) for place, part in enumerate(parts)]
    mask = busi.read_mask(paths)
    assert mask.dtype == np.uint8
    assert mask.tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 1, 1, 1],
        [0, 0, 0, 0, 0, 1, 1, 1],
    ]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
def test_masks_of_every_published_mode_read_alike(tmp_path, mode):
    Image.fromarray(lesion(1, 1)).convert(mode).save(tmp_path / "m.png")
    assert np.array_equal(busi.read_mask([tmp_path / "m.png"]), lesion(1, 1) > 0)


def test_an_empty_mask_of_a_normal_image_is_all_background(tmp_path):
    assert not busi.read_mask([save_png(tmp_path / "m.png", np.zeros((*SHAPE, 3), np.uint8))]).any()


def test_masks_of_different_sizes_are_refused_with_both_names(tmp_path):
    paths = [save_png(tmp_path / "a_mask.png", lesion(0, 0)), save_png(tmp_path / "a_mask_1.png", lesion(0, 0)[:5])]
    with pytest.raises(ValueError, match=r"differ.*a_mask\.png \(6, 8\), a_mask_1\.png \(5, 8\); expected equal"):
        busi.read_mask(paths)


def test_a_mask_of_more_values_is_refused_by_name(tmp_path):
    grey = lesion(0, 0)
    grey[5, 5] = 7
    with pytest.raises(ValueError, match=r"m\.png: values \[0, 7, 255\]"):
        busi.read_mask([save_png(tmp_path / "m.png", grey)])


# What is wrong


def test_a_missing_mask_stops(folder):
    (folder / "benign" / "benign (2)_mask.png").unlink()
    assert checks(folder) == [("stop", "missing mask", "benign (2)")]
    assert one(folder, "missing mask").expected == "benign (2)_mask.png"


def test_a_gap_in_the_masks_stops_because_a_lesion_would_count_as_background(folder):
    save_png(folder / "benign" / "benign (2)_mask_2.png", lesion(0, 0))
    found = one(folder, "missing mask")
    assert (found.severity, found.case, found.expected) == ("stop", "benign (2)", "benign (2)_mask_1.png")
    assert found.found == "benign (2).png, benign (2)_mask.png, benign (2)_mask_2.png"


def test_a_mask_without_image_stops(folder):
    (folder / "malignant" / "malignant (10).png").unlink()
    assert checks(folder) == [("stop", "missing image", "malignant (10)")]
    assert one(folder, "missing image").found == "malignant (10)_mask.png alone"


def test_two_files_of_one_name_stop(folder):
    save_png(folder / "benign" / "benign (2).bmp", np.zeros(SHAPE, np.uint8))
    assert checks(folder) == [("stop", "two files of one name", "benign (2)")]
    assert one(folder, "two files of one name").found == "benign (2).bmp and benign (2).png"


@pytest.mark.parametrize("name", ["malignant (3).png", "benign 3.png", "benign (3).txt", "benign (3)_mask_a.png"])
def test_a_file_of_another_form_is_left_out_with_a_warning(folder, name):
    (folder / "benign" / name).touch()
    assert checks(folder) == [("warn", "unknown file", name)]
    assert len(names(folder)) == 6


def test_hidden_files_are_passed_over(folder):
    for name in (".DS_Store", "._benign (2).png"):
        (folder / "benign" / name).touch()
    assert checks(folder) == []


def test_a_chosen_group_that_is_absent_stops(folder):
    for path in (folder / "normal").iterdir():
        path.unlink()
    (folder / "normal").rmdir()
    assert checks(folder) == [("stop", "missing group", "normal")]


def test_a_link_to_itself_is_an_unreadable_image_and_no_hang(folder):
    path = folder / "benign" / "benign (2).png"
    path.unlink()
    path.symlink_to(path)
    case = busi.find_cases(folder, ["benign"])[0][0]
    with pytest.raises(ValueError, match=r"benign \(2\)\.png: cannot be read as an image"):
        image_files.read_grey(case.image)


def test_a_folder_of_another_layout_is_refused_with_what_it_holds(tmp_path):
    save_png(tmp_path / "training_set" / "000_HC.png", np.zeros(SHAPE, np.uint8))
    with pytest.raises(ValueError, match=r"found \['training_set'\]; expected Dataset_BUSI_with_GT/ with folders"):
        busi.find_cases(tmp_path, busi.GROUPS)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="none: found no such folder; expected Dataset_BUSI_with_GT/"):
        busi.find_cases(tmp_path / "none", busi.GROUPS)


def test_empty_groups_are_refused(tmp_path):
    (tmp_path / "benign").mkdir()
    with pytest.raises(ValueError, match="no images in benign; expected Dataset_BUSI_with_GT/"):
        busi.find_cases(tmp_path, ["benign"])


def test_one_group_in_two_folders_is_refused(folder):
    (folder / "BENIGN").mkdir(exist_ok=True)
    if len(list(folder.iterdir())) == 3:
        pytest.skip("this disk takes upper and lower case for one name")
    with pytest.raises(ValueError, match="found BENIGN and benign; expected one folder a group"):
        busi.find_cases(folder, busi.GROUPS)


# The published files


@real
def test_the_published_files_are_found_whole():
    found, findings = busi.find_cases(REAL, busi.GROUPS)
    counts = {group: sum(case.stratum == group for case in found) for group in busi.GROUPS}
    assert counts == {"benign": 35, "malignant": 50, "normal": 50}
    assert sum(len(case.mask) for case in found) == 136
    assert [finding.check.name for finding in findings] == ["no pixel size"]
    assert [case.name for case in found[:2]] == ["benign (15)", "benign (16)"]


@real
def test_published_masks_hold_what_their_group_says_and_fit_their_images():
    for case in busi.find_cases(REAL, busi.GROUPS)[0][::9]:
        mask = busi.read_mask(case.mask)
        assert mask.shape == image_files.read_grey(case.image).shape, case.name
        assert mask.any() == (case.shows == "something"), case.name


@real
def test_both_lesions_of_benign_25_are_joined():
    (case,) = [case for case in busi.find_cases(REAL, ["benign"])[0] if case.name == "benign (25)"]
    areas = [np.asarray(Image.open(path).convert("L")) > 0 for path in case.mask]
    assert len(areas) == 2
    assert not (areas[0] & areas[1]).any()
    assert busi.read_mask(case.mask).sum() == areas[0].sum() + areas[1].sum()
