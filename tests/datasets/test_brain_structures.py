"""The data set of Alzubaidi et al.: its layouts, palettes, pixel sizes and faults, on small drawn copies."""

import shutil
import unicodedata

import numpy as np
import pytest

from lib import datasets
from lib.datasets import brain_structures, strict_table
from lib.imaging import image_files
from lib.verification import verify
from tests import builders_brain as brain
from tests.builders import save_png
from tests.builders_brain import CEREBELLUM, CLASSES, DIVERSE_HEADS, LABELMAP, THALAMIC, VENTRICULAR

GROUPS = list(brain_structures.GROUPS)
ONE = ["trans-thalamic"]
FIRST = "Patient00020_Plane3_2_of_2"  # of Trans-thalamic in natural order


@pytest.fixture
def root(tmp_path):
    """Four sound groups."""
    return brain.write_all(tmp_path / "raw")


@pytest.fixture
def thalamic(tmp_path):
    """A raw folder with the group Trans-thalamic alone, and that group's folder."""
    return brain.write_group(tmp_path / "raw", THALAMIC)


@pytest.fixture
def diverse(tmp_path):
    """The folder of the group Diverse, alone, with HC18's table."""
    return brain.write_all(tmp_path / "raw") / DIVERSE_HEADS.name


def find(folder, groups=ONE):
    return brain_structures.find_cases(folder, groups)


def names(folder, groups=ONE):
    return [case.name for case in find(folder, groups)[0]]


def findings(folder, groups=ONE):
    """Severity, check and case of each finding, but for the note that every Diverse has."""
    return [
        (f.severity, f.check.name, f.case) for f in find(folder, groups)[1] if f.check.name != "pixels are not square"
    ]


def only(folder, check, groups=ONE):
    (found,) = [finding for finding in find(folder, groups)[1] if finding.check.name == check]
    return found


def edit(path, change):
    path.write_bytes(change(path.read_text(encoding="utf-8-sig")).encode())


def table(folder):
    return folder / THALAMIC.table


# A sound folder


def test_four_groups_give_cases_in_order_of_group_and_number(root):
    assert names(root, GROUPS) == [
        *("Patient00020_Plane3_2_of_2", "Patient00168_Plane3_1_of_3", "Patient00168_Plane3_10_of_12"),
        *("Patient00007_Plane3_1_of_1", "Patient00168_Plane3_2_of_3"),
        "Patient00009_Plane3_1_of_1",
        *("002_HC", "010_HC", "010_2HC"),
    ]
    assert findings(root, GROUPS) == []


def test_the_order_in_which_groups_are_named_does_not_matter(root):
    assert find(root, GROUPS[::-1])[0] == find(root, GROUPS)[0]


def test_a_group_that_is_not_chosen_is_not_read(root):
    assert {case.stratum for case in find(root, ["diverse", "trans-cerebellum"])[0]} == {"trans-cerebellum", "diverse"}
    shutil.rmtree(root / "Trans-ventricular")
    assert findings(root, ["trans-cerebellum"]) == []


def test_a_patient_is_one_subject_in_all_planes_and_an_examination_of_hc18_another(root):
    subjects = {case.name: case.subject for case in find(root, GROUPS)[0]}
    assert subjects["Patient00168_Plane3_1_of_3"] == subjects["Patient00168_Plane3_2_of_3"] == "00168"
    assert subjects["010_HC"] == subjects["010_2HC"] == "hc18-010"


def test_group_is_the_stratum_and_a_mask_goes_with_its_image(root):
    for case in find(root, GROUPS)[0]:
        assert case.image.stem == case.mask[0].stem == case.name
        assert case.mask[0].parent.name == "SegmentationClass"
        assert (case.stratum, case.shows, case.split) == (case.stratum, "something", "")
        assert case.stratum in case.image.as_posix().lower()


def test_images_and_masks_are_those_that_the_files_hold(root):
    case = find(root)[0][0]
    assert case.name == FIRST
    assert np.array_equal(image_files.read_grey(case.image), np.full((40, 60), 22))  # third in THALAMIC
    assert np.array_equal(brain_structures.read_mask(case.mask), CLASSES)


def test_verification_accepts_a_sound_folder(root):
    found = verify.check_dataset(datasets.DATASETS["brain_structures"], "brain_structures", root, ["trans-thalamic"])
    assert list(found.cases["case"]) == names(root)
    assert set(found.findings["severity"]) <= {"note", "warn"}


# Layouts


@pytest.mark.parametrize(
    "name",
    [
        "Trans thalamic",
        "trans_thalamic",
        "TRANS-THALAMIC",
        "Trans-thalamic (1)",
        "Größe – Trans-Thalamic",
        "Transthalamic",
    ],
)
def test_a_group_is_found_however_its_folder_is_spelled(tmp_path, name):
    brain.write_group(tmp_path / "raw", brain.renamed(THALAMIC, name=name))
    assert len(names(tmp_path / "raw")) == 3
    assert findings(tmp_path / "raw") == []


@pytest.mark.parametrize("above", ["Trans-thalamic", "Trans-thalamic/Trans-thalamic", "Datensätze (neu)/Köpfe"])
def test_a_group_may_be_nested(tmp_path, above):
    brain.write_group(tmp_path / "raw" / above, THALAMIC)
    assert len(names(tmp_path / "raw")) == 3
    assert findings(tmp_path / "raw") == []


def test_exports_may_be_nested_in_a_folder_of_their_own_name(tmp_path):
    nested = "Trans-thalamic-Segmentation/Trans-thalamic-Segmentation"
    brain.write_group(tmp_path / "raw", brain.renamed(THALAMIC, export=nested))
    assert len(names(tmp_path / "raw")) == 3
    assert findings(tmp_path / "raw") == []


def test_images_may_be_nested_in_a_folder_of_their_own_name(tmp_path):
    twice = f"{DIVERSE_HEADS.images}/{DIVERSE_HEADS.images}"
    brain.write_group(tmp_path / "raw", brain.renamed(DIVERSE_HEADS, images=twice))
    brain.write_all(tmp_path / "other")
    shutil.copy(tmp_path / "other" / DIVERSE_HEADS.name / brain.HC18_TABLE, tmp_path / "raw")
    assert find(tmp_path / "raw", ["diverse"])[0][0].spacing_mm == pytest.approx((0.3 * 540 / 661, 0.3 * 800 / 959))


def test_parts_of_a_group_may_lie_side_by_side(thalamic):
    for path in list(thalamic.iterdir()):
        path.rename(thalamic.parent / (path.name if path.name != thalamic.name else "Trans-thalamic images"))
    thalamic.rmdir()
    assert len(names(thalamic.parent)) == 3
    assert findings(thalamic.parent) == []


@pytest.mark.parametrize("group", [THALAMIC, VENTRICULAR, CEREBELLUM, DIVERSE_HEADS])
def test_the_given_folder_may_be_one_group(root, group):
    name = next(name for name in GROUPS if name.split("-")[-1] in group.name.lower())
    assert sorted(names(root / group.name, [name])) == sorted(group.cases)
    assert findings(root / group.name, [name]) == []


def test_the_given_folder_may_be_a_link_of_another_name_to_one_group(root, tmp_path):
    (tmp_path / "link").symlink_to(root / DIVERSE_HEADS.name, target_is_directory=True)
    assert len(names(tmp_path / "link", ["diverse"])) == 3
    assert findings(tmp_path / "link", ["diverse"]) == []


def test_names_around_the_given_folder_do_not_matter(tmp_path):
    folder = brain.write_all(tmp_path / "pascal" / "diverse segmentation" / "Trans-ventricular YOLO" / "raw")
    found = find(folder, GROUPS)[0]
    assert len(found) == 9
    assert np.array_equal(brain_structures.read_mask(found[0].mask), CLASSES)


def test_a_folder_above_that_speaks_of_exports_does_not_hide_a_group(tmp_path):
    brain.write_group(tmp_path / "raw" / "segmentation data, COCO and original-size", THALAMIC)
    assert len(names(tmp_path / "raw")) == 3
    assert findings(tmp_path / "raw") == []


def test_linked_folders_are_followed(root, tmp_path):
    parts = tmp_path / "parts"
    parts.mkdir()
    for group in (THALAMIC, VENTRICULAR):
        (parts / group.name).symlink_to(root / group.name, target_is_directory=True)
    assert len(names(parts, GROUPS[:2])) == 5


def test_a_link_to_one_group_needs_no_names_in_it_that_speak_of_the_group(thalamic, tmp_path):
    (thalamic / "Trans-thalamic").rename(thalamic / "images")
    table(thalamic).rename(thalamic / "pixel-size.csv")
    for path in (thalamic / "Trans-thalamic-Segmentation").iterdir():
        path.rename(thalamic / path.name)
    (tmp_path / "link").symlink_to(thalamic, target_is_directory=True)
    assert len(names(tmp_path / "link")) == 3
    assert findings(tmp_path / "link") == []


def test_a_folder_of_no_group_may_be_linked_into_one(thalamic):
    pool = (thalamic / "Trans-thalamic").rename(thalamic.parent / "a pool")
    (thalamic / "Trans-thalamic").symlink_to(pool, target_is_directory=True)
    assert {case.image.parent for case in find(thalamic.parent)[0]} == {thalamic / "Trans-thalamic"}
    assert findings(thalamic.parent) == []


def test_a_folder_is_preferred_to_a_link_to_it(thalamic):
    (thalamic.parent / "A Trans-thalamic").symlink_to(thalamic, target_is_directory=True)
    assert {case.image.parent for case in find(thalamic.parent)[0]} == {thalamic / "Trans-thalamic"}
    assert findings(thalamic.parent) == []


def test_links_in_a_circle_neither_hang_nor_change_what_is_found(root):
    expected = find(root, GROUPS)[0]
    (root / "Trans-thalamic" / "up").symlink_to(root, target_is_directory=True)
    (root / "Trans-thalamic" / "a").symlink_to(root / "Trans-cerebellum", target_is_directory=True)
    (root / "Trans-cerebellum" / "b").symlink_to(root / "Trans-thalamic", target_is_directory=True)
    (root / "self").symlink_to(root / "self")
    (root / "nowhere").symlink_to(root / "nothing")
    assert find(root, GROUPS)[0] == expected
    assert [f for f in findings(root, GROUPS) if f[0] != "note"] == []


def test_hidden_files_and_what_macos_adds_are_passed_over(thalamic):
    for place in ("Trans-thalamic", "Trans-thalamic-Segmentation/SegmentationClass"):
        (thalamic / place / "._Patient00168_Plane3_1_of_3.png").write_bytes(b"\0")
        (thalamic / place / ".DS_Store").write_bytes(b"\0")
        (thalamic / "__MACOSX" / place).mkdir(parents=True)
        (thalamic / "__MACOSX" / place / "Patient09999_Plane3_1_of_1.png").write_bytes(b"\0")
    assert len(names(thalamic)) == 3
    assert findings(thalamic) == []


def test_upper_case_extensions_pair(thalamic):
    for path in [*(thalamic / "Trans-thalamic").iterdir()]:
        path.rename(path.with_suffix(".PNG"))
    assert names(thalamic)[0] == FIRST
    assert findings(thalamic) == []


def test_names_that_differ_in_letter_case_pair_and_the_case_is_called_as_its_image(thalamic):
    for path in [*(thalamic / "Trans-thalamic-Segmentation" / "SegmentationClass").iterdir()]:
        path.rename(path.with_name(path.name.upper()))
    edit(table(thalamic), str.lower)
    assert names(thalamic)[0] == FIRST
    assert find(thalamic)[0][0].spacing_mm == (0.12, 0.12)
    assert findings(thalamic) == []


def test_a_jpeg_mask_pairs_with_a_png_image(thalamic):
    mask = thalamic / "Trans-thalamic-Segmentation" / "SegmentationClass" / f"{FIRST}.png"
    brain.save_jpeg(mask.with_suffix(".JPG"), np.array(brain.PLANES, np.uint8)[CLASSES])
    mask.unlink()
    assert find(thalamic)[0][0].mask[0].suffix == ".JPG"
    assert findings(thalamic) == []


def test_a_folder_with_accents_in_either_form_is_found(tmp_path):
    name = unicodedata.normalize("NFD", "Trans-thalamic übersetzt")
    brain.write_group(tmp_path / "raw", brain.renamed(THALAMIC, name=name))
    assert len(names(tmp_path / "raw")) == 3


# Exports and image folders


def test_the_segmentation_export_is_preferred(thalamic):
    brain.write_masks(thalamic / "A-PASCAL", THALAMIC, brain.PASCAL)
    assert {case.mask[0].parent.parent.name for case in find(thalamic)[0]} == {"Trans-thalamic-Segmentation"}
    assert findings(thalamic) == []


@pytest.mark.parametrize("name", ["Trans-thalamic-PASCAL", "Trans-thalamic pascal VOC", "TRANS_THALAMIC_Pascal (2)"])
def test_the_pascal_export_is_read_where_there_is_no_other(thalamic, name):
    shutil.rmtree(thalamic / "Trans-thalamic-Segmentation")
    brain.write_masks(thalamic / name, THALAMIC, brain.PASCAL)
    case = find(thalamic)[0][0]
    assert case.mask[0].parent.parent.name == name
    assert np.array_equal(brain_structures.read_mask(case.mask), CLASSES)


def test_an_export_without_images_is_passed_over_for_one_with(thalamic):
    shutil.rmtree(thalamic / "Trans-thalamic-Segmentation" / "SegmentationClass")
    (thalamic / "Trans-thalamic-Segmentation" / "SegmentationClass").mkdir()
    brain.write_masks(thalamic / "Trans-thalamic-PASCAL", THALAMIC, brain.PASCAL)
    assert find(thalamic)[0][0].mask[0].parent.parent.name == "Trans-thalamic-PASCAL"


def test_an_export_unpacked_without_a_folder_of_its_own_is_read(thalamic):
    for path in (thalamic / "Trans-thalamic-Segmentation").iterdir():
        path.rename(thalamic / path.name)
    (thalamic / "labelmap.txt").write_text(LABELMAP)
    case = find(thalamic)[0][0]
    assert case.mask == (thalamic / "SegmentationClass" / f"{FIRST}.png", thalamic / "labelmap.txt")
    assert findings(thalamic) == []


@pytest.mark.parametrize(
    "other", ["Trans-thalamic-COCO", "Trans-thalamic-CityScapes", "T-CitySpaces", "trans thalamic yolo"]
)
def test_other_exports_alone_are_named_and_stop(thalamic, other):
    shutil.rmtree(thalamic / "Trans-thalamic-Segmentation")
    save_png(thalamic / other / "gtFine" / "default" / f"{FIRST}.png", CLASSES)
    assert findings(thalamic) == [
        ("note", "export not read", "trans-thalamic"),
        ("stop", "missing masks", "trans-thalamic"),
    ]
    assert other in only(thalamic, "export not read").found
    assert "Segmentation or PASCAL" in only(thalamic, "missing masks").expected


def test_other_exports_beside_a_preferred_one_are_not_mentioned(thalamic):
    save_png(thalamic / "Trans-thalamic-Cityscapes" / "gtFine" / "default" / f"{FIRST}.png", CLASSES)
    (thalamic / "annotations").mkdir()
    assert findings(thalamic) == []


def test_masks_that_are_still_in_a_zip_file_stop_and_it_says_to_unpack_it(thalamic):
    shutil.rmtree(thalamic / "Trans-thalamic-Segmentation")
    (thalamic / "Trans-thalamic-Segmentation.zip").touch()
    assert only(thalamic, "missing masks").found == "zip files, to be unpacked: ['Trans-thalamic-Segmentation.zip']"


@pytest.mark.parametrize("place", ["Trans-thalamic/Trans-thalamic-PASCAL.zip", "Trans-thalamic.ZIP"])
def test_a_group_of_zip_files_alone_is_refused_and_the_error_says_to_unpack_them(tmp_path, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).touch()
    name = place.split("/")[-1]
    with pytest.raises(
        ValueError, match=rf"trans-thalamic has no images; found zip files, to be unpacked: \['{name}'\]"
    ):
        find(tmp_path)


@pytest.mark.parametrize("name", ["Trans-thalamic-orginal-size", "original size", "Trans thalamic orginal image"])
def test_images_of_original_size_are_passed_over_with_a_note(thalamic, name):
    for case in (*THALAMIC.cases, "Patient00555_Plane3_1_of_1"):
        save_png(thalamic / name / name / f"{case}.png", np.zeros((50, 70, 4), np.uint8))
    assert {case.image.parent.name for case in find(thalamic)[0]} == {"Trans-thalamic"}
    assert findings(thalamic) == [("note", "folder passed over", "trans-thalamic")]
    assert only(thalamic, "folder passed over").found == f"Trans-thalamic/{name}/{name}".removeprefix("Trans-thalamic/")


def test_images_of_original_size_alone_are_refused(thalamic):
    (thalamic / "Trans-thalamic").rename(thalamic / "Trans-thalamic-orginal-size")
    with pytest.raises(ValueError, match=r"trans-thalamic has no images; found .*'Trans-thalamic-orginal-size'"):
        find(thalamic)


def test_of_other_image_folders_the_one_that_fits_the_masks_is_read(thalamic):
    (thalamic / "Trans-thalamic").rename(thalamic / "pictures")
    save_png(thalamic / "aaa" / f"{FIRST}.png", np.zeros((4, 4), np.uint8))
    assert {case.image.parent.name for case in find(thalamic)[0]} == {"pictures"}
    assert only(thalamic, "folder passed over").found == "aaa"


def test_a_name_as_published_is_preferred_to_hc18_itself_beside_it(diverse):
    for name in (*DIVERSE_HEADS.cases, "555_HC"):
        save_png(diverse / "training_set" / f"{name}.png", np.zeros((54, 80), np.uint8))
    (diverse / DIVERSE_HEADS.images / "002_HC.png").unlink()
    assert {case.image.parent.name for case in find(diverse, ["diverse"])[0]} == {DIVERSE_HEADS.images}
    assert ("stop", "missing image", "002_HC") in findings(diverse, ["diverse"])
    assert only(diverse, "folder passed over", ["diverse"]).found == "training_set"


# Colours


def mask_file(folder, colours, export="Trans-thalamic-Segmentation", name=FIRST):
    return save_png(folder / export / "SegmentationClass" / f"{name}.png", np.array(colours, np.uint8)[CLASSES])


@pytest.mark.parametrize(
    ("export", "name", "colours"),
    [
        ("Trans-thalamic-Segmentation", FIRST, brain.PLANES),
        ("Trans-ventricular-segmentation-mask", FIRST, brain.PLANES),
        ("Test-Dataset-Segmentation", "010_2HC", brain.DIVERSE),
        ("Trans-thalamic-PASCAL", FIRST, brain.PASCAL),
        ("Test-Dataset-PASCAL", "010_2HC", brain.PASCAL),
    ],
)
def test_every_published_palette_gives_the_classes(tmp_path, export, name, colours):
    mask = brain_structures.read_mask((mask_file(tmp_path, colours, export, name),))
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, CLASSES)


@pytest.mark.parametrize(
    ("export", "name", "colours", "count"),
    [
        ("Trans-thalamic-Segmentation", FIRST, brain.DIVERSE, r"\(255, 255, 0\) in 24 pixels"),
        ("Test-Dataset-Segmentation", "010_2HC", brain.PLANES, r"\(0, 255, 0\) in 24 pixels"),
        (
            "Trans-thalamic-PASCAL",
            FIRST,
            brain.PLANES,
            r"\(0, 0, 255\) in 80 pixels, \(0, 255, 0\) in 24 pixels, \(255, 0, 0\) in 1096 pixels",
        ),
    ],
)
def test_colours_of_another_palette_are_refused_by_file_with_their_counts(tmp_path, export, name, colours, count):
    path = mask_file(tmp_path, colours, export, name)
    with pytest.raises(ValueError, match=rf"{name}\.png: unknown colours: {count}; expected"):
        brain_structures.read_mask((path,))


def test_a_jpeg_mask_takes_the_nearest_colours(tmp_path):
    coloured = np.array(brain.PLANES, np.uint8)[CLASSES]
    mask = brain_structures.read_mask((brain.save_jpeg(tmp_path / "x" / "SegmentationClass" / "a.jpg", coloured),))
    away = np.pad(CLASSES, 4, mode="edge")
    inner = np.all([np.roll(away, (r, c), (0, 1)) == away for r in (-4, 0, 4) for c in (-4, 0, 4)], axis=0)[4:-4, 4:-4]
    assert np.array_equal(mask[inner], CLASSES[inner])  # JPEG blurs colours over some pixels at edges
    assert (mask != CLASSES).mean() < 0.1


def test_a_mask_without_colours_is_refused_by_name(tmp_path):
    path = save_png(tmp_path / "x" / "SegmentationClass" / "grey.png", CLASSES)
    with pytest.raises(ValueError, match=r"grey\.png: a mask of shape \(40, 60\); expected colours"):
        brain_structures.read_mask((path,))


def test_a_mask_cut_short_is_refused_by_name(tmp_path):
    path = mask_file(tmp_path, brain.PLANES)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=rf"{FIRST}\.png: cannot be read as an image"):
        brain_structures.read_mask((path,))


# labelmap.txt


def labelmap(folder, text):
    path = folder / "labelmap.txt"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("name", ["labelmap.txt", "LabelMap.TXT"])
def test_a_labelmap_beside_the_masks_is_part_of_the_reference(thalamic, name):
    path = thalamic / "Trans-thalamic-Segmentation" / name
    path.write_text(LABELMAP)
    assert [case.mask[1:] for case in find(thalamic)[0]] == [(path,)] * 3


@pytest.mark.parametrize(
    "text",
    [
        LABELMAP.replace("255,0,0", "9,8,7"),
        "\ufeff" + LABELMAP.replace("255,0,0", "9,8,7").replace("\n", "\r\n"),
        "lv: 0, 0, 255\ncsp:0,255,0::: 7\n\n  BRAIN :9,8,7:hand,foot:running\n",
        LABELMAP.replace("255,0,0", "9,8,7").replace("background:0,0,0", "Background:1,1,1"),
    ],
)
def test_a_labelmap_wins_over_the_published_colours(tmp_path, text):
    colours = [(0, 0, 0), (9, 8, 7), (0, 255, 0), (0, 0, 255)]
    mask = brain_structures.read_mask((mask_file(tmp_path, colours, "A-PASCAL"), labelmap(tmp_path, text)))
    assert np.array_equal(mask, CLASSES)


def test_a_labelmap_may_give_the_background_a_colour(tmp_path):
    colours = [(1, 2, 3), *brain.PLANES[1:]]
    text = LABELMAP.replace("background:0,0,0", "background:1,2,3")
    assert np.array_equal(brain_structures.read_mask((mask_file(tmp_path, colours), labelmap(tmp_path, text))), CLASSES)


def test_two_labelmaps_in_turn_do_not_mix(tmp_path):
    swapped = LABELMAP.replace("CSP:0,255,0", "CSP:0,0,255").replace("LV:0,0,255", "LV:0,255,0")
    mask = mask_file(tmp_path, brain.PLANES)
    for text, csp_pixels in ((LABELMAP, 24), (swapped, 80), (LABELMAP, 24)):
        assert (brain_structures.read_mask((mask, labelmap(tmp_path, text))) == 2).sum() == csp_pixels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            LABELMAP + "tumour:1,2,3::\n",
            r'labelmap\.txt, line 6: "tumour:1,2,3::"; expected a label of background, brain',
        ),
        (LABELMAP.replace("0,255,0", "255,0,0"), r'labelmap\.txt, line 4: "CSP:255,0,0::" has the colour of another'),
        (LABELMAP.replace("255,0,0", "0,0,0"), r'labelmap\.txt, line 3: "Brain:0,0,0::" has the colour of another'),
        (
            LABELMAP.replace("255,0,0", "256,0,0"),
            r'labelmap\.txt, line 3: "Brain:256,0,0::"; expected .*Brain:255,0,0::',
        ),
        (LABELMAP.replace("255,0,0", "255,0"), r'labelmap\.txt, line 3: "Brain:255,0::"'),
        (LABELMAP.replace("255,0,0", ""), r'labelmap\.txt, line 3: "Brain:::"'),
        (LABELMAP.replace("Brain:255,0,0::", "Brain"), r'labelmap\.txt, line 3: "Brain"'),
        (
            LABELMAP.replace("LV:0,0,255::\n", ""),
            r"labelmap\.txt, lines 1 to 4: no label lv; expected background, brain",
        ),
        ("", r"labelmap\.txt, lines 1 to 0: no label brain, csp, lv"),
    ],
)
def test_a_labelmap_that_cannot_be_followed_is_refused_by_file_and_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        brain_structures.read_mask((mask_file(tmp_path, brain.PLANES), labelmap(tmp_path, text)))


def test_a_labelmap_that_is_gone_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"labelmap\.txt, .*No such file"):
        brain_structures.read_mask((mask_file(tmp_path, brain.PLANES), tmp_path / "labelmap.txt"))


# Pixel sizes of the planes


def spacings(folder, groups=ONE):
    return {case.name: case.spacing_mm for case in find(folder, groups)[0]}


def test_pixel_sizes_come_from_the_table_with_its_byte_order_mark(thalamic):
    assert table(thalamic).read_bytes().startswith(b"\xef\xbb\xbfLabel,Pixel  in mm\n")
    assert spacings(thalamic)[FIRST] == (0.12, 0.12)
    assert spacings(thalamic)["Patient00168_Plane3_1_of_3"] == (0.1, 0.1)


@pytest.mark.parametrize(
    "header", ["Label,Pixel in mm", "label,PIXEL   IN MM", "Label ,Pixel  in mm,", '"Label","Pixel in mm"']
)
def test_blanks_and_case_of_headings_do_not_matter(thalamic, header):
    edit(table(thalamic), lambda text: text.replace("Label,Pixel  in mm", header))
    assert spacings(thalamic)[FIRST] == (0.12, 0.12)
    assert findings(thalamic) == []


@pytest.mark.parametrize(
    "label", [FIRST, f"{FIRST}.PNG", f"images/{FIRST}.png", rf"C:\images\{FIRST}.png", f" {FIRST}.png "]
)
def test_labels_may_have_folders_and_extensions_or_not(thalamic, label):
    edit(table(thalamic), lambda text: text.replace(f"{FIRST}.png", label))
    assert spacings(thalamic)[FIRST] == (0.12, 0.12)
    assert findings(thalamic) == []


@pytest.mark.parametrize(
    "name", ["pixel size.CSV", "Trans_Thalamic_Pixel_Size.csv", "Trans-thalamic-Pixel-Size (1).csv"]
)
def test_the_table_is_found_by_pattern(thalamic, name):
    table(thalamic).rename(thalamic / name)
    assert spacings(thalamic)[FIRST] == (0.12, 0.12)


def test_the_table_may_lie_beside_the_group_if_it_names_it(root):
    table(root / "Trans-thalamic").rename(root / THALAMIC.table)
    assert spacings(root)[FIRST] == (0.12, 0.12)
    assert findings(root, GROUPS) == []


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        (lambda text: text.replace(",", ";").replace("0.12", "0,12"), 1),
        (lambda text: text.replace(",", ";").replace("0.", "0,"), 3),
        (lambda text: text.replace("0.12", '"0,12"'), 1),
        (lambda text: text.replace("0.12", "0,12"), 1),
    ],
    ids=["semicolons, one", "semicolons, all", "in quotes", "without quotes"],
)
def test_decimal_commas_are_read_and_counted_in_one_note(thalamic, change, rows):
    edit(table(thalamic), change)
    assert spacings(thalamic)[FIRST] == (0.12, 0.12)
    assert findings(thalamic) == [("note", "decimal comma", THALAMIC.table)]
    assert only(thalamic, "decimal comma").found == f"in {rows} rows"


@pytest.mark.parametrize("text", ["", "0.019", "1.01", "0.12 mm", "1,2", "0.1,2", "0.12,0.2"])
def test_a_pixel_size_that_is_no_plausible_number_stops_with_file_row_column_and_text(thalamic, text):
    edit(table(thalamic), lambda whole: whole.replace("0.12", text))
    found = only(thalamic, "unreadable number")
    assert (found.severity, found.case) == ("stop", FIRST)
    assert found.found == f'{THALAMIC.table}, row 4, column "Pixel in mm": "{text}"'
    assert found.expected == "mm, 0.02 to 1" + strict_table.HINT * ("," in text)
    assert FIRST not in names(thalamic)


@pytest.mark.parametrize("text", ["0.02", "1", "1.0", "2e-2"])
def test_the_ends_of_the_range_are_plausible(thalamic, text):
    edit(table(thalamic), lambda whole: whole.replace("0.12", text))
    assert spacings(thalamic)[FIRST] == (float(text), float(text))


@pytest.mark.parametrize("again", [f"{FIRST}.png,0.2", f"{FIRST},0.12", f"{FIRST.lower()}.PNG,0.12"])
def test_two_rows_for_one_image_stop_and_it_is_no_case(thalamic, again):
    edit(table(thalamic), lambda text: f"{text}{again}\n")
    assert findings(thalamic) == [("stop", "two rows for one image", FIRST)]
    assert only(thalamic, "two rows for one image").found == f"{THALAMIC.table}, row 4 and row 5"
    assert FIRST not in names(thalamic)


def test_a_row_without_a_file_is_a_warning(thalamic):
    edit(table(thalamic), lambda text: text + "Patient00777_Plane3_1_of_1.png,0.2\n")
    assert findings(thalamic) == [("warn", "row without a file", "Patient00777_Plane3_1_of_1")]
    assert len(names(thalamic)) == 3


def test_an_image_without_a_row_is_a_warning_and_has_no_millimetres(thalamic):
    edit(table(thalamic), lambda text: "".join(line for line in text.splitlines(True) if FIRST not in line))
    assert findings(thalamic) == [("warn", "missing pixel size", FIRST)]
    assert spacings(thalamic)[FIRST] is None


def test_a_plane_without_a_table_is_one_warning(thalamic):
    table(thalamic).unlink()
    assert findings(thalamic) == [("warn", "missing pixel size", "trans-thalamic")]
    assert set(spacings(thalamic).values()) == {None}


def test_a_file_that_is_no_such_table_is_refused_by_name(thalamic):
    table(thalamic).write_text("Label,mm\na.png,0.1\n")
    with pytest.raises(
        ValueError, match=r"Pixel-Size\.csv: columns \['Pixel in mm'\] are missing; found \['Label', 'mm'"
    ):
        find(thalamic)


def test_a_copy_of_the_table_is_harmless_and_another_table_is_refused(thalamic):
    copy = shutil.copy(table(thalamic), thalamic / "Trans-Thalamic-Pixel-Size (1).csv")
    assert findings(thalamic) == []
    edit(copy, lambda text: text.replace("0.12", "0.13"))
    with pytest.raises(ValueError, match=r"Pixel-Size \(1\)\.csv and .*Pixel-Size\.csv differ; expected one table"):
        find(thalamic)


# HC18's table


def test_pixels_of_resized_images_are_not_square_and_hc_is_the_publisher_s(diverse):
    case = find(diverse, ["diverse"])[0][0]
    assert (case.name, case.reference_mm) == ("002_HC", {"hc": 172.5})
    assert case.spacing_mm == pytest.approx((0.3 * 0.816943, 0.3 * 0.834202), abs=1e-6)  # 540/661 and 800/959 by hand
    note = only(diverse, "pixels are not square", ["diverse"])
    assert (note.severity, note.case, note.expected) == ("note", "diverse", "native 800x540 is assumed for all")


def test_images_that_are_not_said_to_be_resized_keep_the_pixel_size(diverse):
    (diverse / DIVERSE_HEADS.images).rename(diverse / "Diverse images")
    assert find(diverse, ["diverse"])[0][0].spacing_mm == (0.3, 0.3)
    assert [f.check.name for f in find(diverse, ["diverse"])[1]] == []


@pytest.mark.parametrize(
    "place", ["{diverse}/HC18/training_set", "", "HC18 (copy)", "Trans-thalamic", "{diverse}", "{diverse}/../.."]
)
def test_hc18_s_table_is_found_anywhere_in_the_folder(root, place):
    folder = root / place.format(diverse=DIVERSE_HEADS.name)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.move(root / DIVERSE_HEADS.name / brain.HC18_TABLE, folder / brain.HC18_TABLE.upper())
    expected = "missing pixel size" if place.endswith("..") else "pixels are not square"
    assert [f.check.name for f in find(root, ["diverse"])[1]] == [expected]


def test_hc18_s_table_is_found_beside_the_group_that_is_given(root):
    (root / DIVERSE_HEADS.name / brain.HC18_TABLE).rename(root / brain.HC18_TABLE)
    assert find(root / DIVERSE_HEADS.name, ["diverse"])[0][0].reference_mm == {"hc": 172.5}


def test_hc18_s_table_of_test_images_is_not_taken_for_it(diverse):
    (diverse / brain.HC18_TABLE).rename(diverse / "test_set_pixel_size.csv")
    assert findings(diverse, ["diverse"]) == [("warn", "missing pixel size", "diverse")]


def test_diverse_without_hc18_s_table_is_one_warning(diverse):
    (diverse / brain.HC18_TABLE).unlink()
    found = find(diverse, ["diverse"])
    assert [(f.severity, f.check.name, f.case) for f in found[1]] == [("warn", "missing pixel size", "diverse")]
    assert "training_set_pixel_size_and_HC.csv" in found[1][0].expected
    assert [(case.spacing_mm, case.reference_mm) for case in found[0]] == [(None, {})] * 3


def test_hc18_s_other_rows_are_not_mentioned_but_an_image_without_a_row_is(diverse):
    edit(diverse / brain.HC18_TABLE, lambda text: text.replace("010_2HC", "805_HC"))
    assert findings(diverse, ["diverse"]) == [("warn", "missing pixel size", "010_2HC")]


@pytest.mark.parametrize("text", ["", "x", "19.9", "450.1", "1.725"])
def test_an_hc_that_is_no_plausible_number_stops(diverse, text):
    edit(diverse / brain.HC18_TABLE, lambda whole: whole.replace("172.5", text))
    found = only(diverse, "unreadable number", ["diverse"])
    assert (found.severity, found.case, found.expected) == ("stop", "002_HC", "mm, 20 to 450")
    assert found.found == f'{brain.HC18_TABLE}, row 4, column "head circumference (mm)": "{text}"'
    assert "002_HC" not in names(diverse, ["diverse"])


def test_decimal_commas_without_quotes_in_both_columns_stop(diverse):
    edit(diverse / brain.HC18_TABLE, lambda text: text.replace("0.3,172.5", "0,3,172,5"))
    checks = [f.found for f in find(diverse, ["diverse"])[1] if f.check.name == "unreadable number"]
    assert checks == [
        f'{brain.HC18_TABLE}, row 4, column "pixel size(mm)": "0"',
        f'{brain.HC18_TABLE}, row 4, column "head circumference (mm)": "3,172,5"',
    ]


# Faults of files


def test_an_image_without_a_mask_stops_and_is_no_case(thalamic):
    (thalamic / "Trans-thalamic-Segmentation" / "SegmentationClass" / f"{FIRST}.png").unlink()
    assert findings(thalamic) == [("stop", "missing mask", FIRST)]
    assert FIRST not in names(thalamic)


def test_a_mask_without_an_image_stops_and_is_no_case(thalamic):
    (thalamic / "Trans-thalamic" / f"{FIRST}.png").unlink()
    assert findings(thalamic) == [("stop", "missing image", FIRST)]
    assert FIRST not in names(thalamic)


@pytest.mark.parametrize(
    "name", ["copy of Patient00020", "Patient20_Plane3_1_of_1", "010_HC", "Patient00020_Plane2_1_of_1"]
)
def test_a_name_of_another_form_stops(tmp_path, name):
    brain.write_group(tmp_path, brain.renamed(THALAMIC, cases=(name, FIRST)))
    assert findings(tmp_path) == [("stop", "unreadable name", name)]
    assert only(tmp_path, "unreadable name").expected == "such as Patient00001_Plane3_1_of_1"
    assert names(tmp_path) == [FIRST]


@pytest.mark.parametrize("name", ["10_HC", "010_HC_Annotation", FIRST])
def test_a_name_that_is_not_of_hc18_stops_in_diverse(tmp_path, name):
    brain.write_group(tmp_path, brain.renamed(DIVERSE_HEADS, cases=(name, "010_HC")))
    assert ("stop", "unreadable name", name) in findings(tmp_path, ["diverse"])
    assert names(tmp_path, ["diverse"]) == ["010_HC"]


def test_a_name_in_two_groups_stops(tmp_path):
    brain.write_group(tmp_path, THALAMIC)
    brain.write_group(tmp_path, brain.renamed(VENTRICULAR, cases=(FIRST.lower(), "Patient00007_Plane3_1_of_1")))
    assert findings(tmp_path, GROUPS[:2]) == [("stop", "name in two groups", FIRST)]
    assert only(tmp_path, "name in two groups", GROUPS[:2]).found == "trans-thalamic and trans-ventricular"
    assert len(names(tmp_path, GROUPS[:2])) == len(set(names(tmp_path, GROUPS[:2]))) == 4


@pytest.mark.parametrize("place", ["Trans-thalamic", "Trans-thalamic-Segmentation/SegmentationClass"])
def test_two_files_whose_names_differ_in_nothing_but_letter_case_are_refused(thalamic, place):
    path = thalamic / place / f"{FIRST}.png"
    shutil.copy(path, path.with_name(path.name.lower()))
    with pytest.raises(
        ValueError, match=rf"{FIRST}\.png and patient00020_plane3_2_of_2\.png; expected one file of a name"
    ):
        find(thalamic)


# Other folders


def test_a_missing_an_empty_and_a_foreign_folder_are_refused_with_what_was_found(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "training_set").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name, held in (
        ("missing", "no such folder"),
        ("file", "no such folder"),
        ("empty", r"\[\]"),
        ("other", r"\['training_set'\]"),
    ):
        expected = "expected folders Trans-thalamic, Trans-ventricular, Trans-cerebellum, Diverse Fetal Head Images"
        with pytest.raises(ValueError, match=rf"{name}: nothing of trans-thalamic; found {held}; {expected}"):
            find(tmp_path / name)


def test_a_chosen_group_that_is_not_there_stops_by_name_and_the_others_are_read(thalamic):
    found, findings = find(thalamic.parent, ["diverse", "trans-cerebellum", "trans-thalamic"])
    missing = [
        finding.case for finding in findings if (finding.severity, finding.check.name) == ("stop", "missing group")
    ]
    assert found
    assert missing == ["trans-cerebellum", "diverse"]


def test_a_folder_with_none_of_the_chosen_groups_is_refused_by_name(thalamic):
    with pytest.raises(ValueError, match=r"nothing of trans-cerebellum, diverse; found \['Trans-thalamic'\]"):
        find(thalamic.parent, ["diverse", "trans-cerebellum"])


def test_an_empty_group_is_refused(tmp_path):
    (tmp_path / "Trans-thalamic").mkdir()
    with pytest.raises(ValueError, match=r"trans-thalamic has no images; found \['Trans-thalamic'\]"):
        find(tmp_path)


@pytest.mark.parametrize("groups", [[], ["thalamic"], ["Trans-thalamic", "diverse"]])
def test_groups_that_do_not_exist_are_refused(root, groups):
    with pytest.raises(ValueError, match=r"not allowed; some of trans-thalamic, trans-ventricular"):
        find(root, groups)


def test_a_folder_that_cannot_be_listed_is_refused_by_name(thalamic, monkeypatch):
    listdir = brain_structures.os.listdir

    def refuse(folder):
        if str(folder).endswith("SegmentationClass"):
            raise PermissionError("not for you")
        return listdir(folder)

    monkeypatch.setattr(brain_structures.os, "listdir", refuse)
    with pytest.raises(ValueError, match="SegmentationClass: cannot be listed: not for you"):
        find(thalamic)
