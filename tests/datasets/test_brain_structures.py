import shutil
import unicodedata
from dataclasses import replace

import numpy as np
import pytest

from lib import datasets
from lib.datasets import brain_structures
from lib.imaging import image_files
from lib.verification import verify
from tests import builders_brain as brain
from tests.builders import save_png
from tests.builders_brain import CLASSES, DIVERSE_HEADS, LABELMAP, THALAMIC, VENTRICULAR

GROUPS = list(brain_structures.GROUPS)
ONE, DIVERSE = ["trans-thalamic"], ["diverse"]
FIRST = "Patient00020_Plane3_2_of_2"  # of Trans-thalamic in natural order
IMAGES, EXPORT = "Trans-thalamic", "Trans-thalamic-Segmentation"
MASKS = f"{EXPORT}/SegmentationClass"
OTHER = LABELMAP.replace("255,0,0", "9,8,7")
QUOTE = '"'
SIZE, HC, TWICE = "pixel size(mm)", "head circumference (mm)", f"{FIRST}.png,0.12\n"
OF_DIVERSE, OF_PASCAL = ("Test-Dataset-Segmentation", "010_2HC"), ("Trans-thalamic-PASCAL", FIRST)


@pytest.fixture
def root(tmp_path):
    """Four complete groups in folders whose names must be ignored."""
    return brain.write_all(tmp_path / "pascal" / "diverse segmentation" / "Trans-ventricular YOLO" / "raw")


@pytest.fixture
def thalamic(tmp_path):
    return brain.write_group(tmp_path / "raw", THALAMIC)


@pytest.fixture
def diverse(tmp_path):
    """The folder of the group `diverse` with HC18's table."""
    return brain.write_all(tmp_path / "raw") / DIVERSE_HEADS.name


def find(folder, groups=ONE):
    return brain_structures.find_cases(folder, groups)


def names(folder, groups=ONE):
    return [case.name for case in find(folder, groups)[0]]


def findings(folder, groups=ONE):
    """(severity, check, case) of each finding except the note that every `diverse` has."""
    found = find(folder, groups)[1]
    return [(f.severity, f.check.name, f.case) for f in found if f.check.name != "pixels are not square"]


def only(folder, check, groups=ONE):
    (finding,) = [each for each in find(folder, groups)[1] if each.check.name == check]
    return finding


def first(folder, groups=ONE):
    return find(folder, groups)[0][0]


def edit(path, old, new):
    text = path.read_text(encoding="utf-8-sig")
    assert old in text
    path.write_bytes(text.replace(old, new).encode())


def table(folder):
    return folder / THALAMIC.table


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target, target_is_directory=True)
    return path


def test_four_groups_give_cases_in_order_of_group_and_number(root):
    cases, found = find(root, GROUPS)
    assert [case.name for case in cases] == [
        *("Patient00020_Plane3_2_of_2", "Patient00168_Plane3_1_of_3", "Patient00168_Plane3_10_of_12"),
        *("Patient00007_Plane3_1_of_1", "Patient00168_Plane3_2_of_3"),
        "Patient00009_Plane3_1_of_1",
        *("002_HC", "010_HC", "010_2HC"),
    ]
    assert [finding.check.name for finding in found] == ["pixels are not square"]
    assert find(root, GROUPS[::-1])[0] == cases
    subjects = {case.name: case.subject for case in cases}
    assert subjects["Patient00168_Plane3_1_of_3"] == subjects["Patient00168_Plane3_2_of_3"] == "00168"
    assert subjects["010_HC"] == subjects["010_2HC"] == "hc18-010"
    for case in cases:
        assert case.image.stem == case.mask[0].stem == case.name
        assert case.mask[0].parent.name == "SegmentationClass"
        assert (case.foreground, case.split) == ("present", "")
        assert case.stratum in case.image.as_posix().lower()
    assert np.array_equal(image_files.read_grey(cases[0].image), brain.image_of(2))  # third in THALAMIC
    assert np.array_equal(brain_structures.read_mask(cases[0].mask), CLASSES)


def test_an_unused_group_is_not_read_and_verification_accepts_the_folder(root):
    assert {case.stratum for case in find(root, ["diverse", "trans-cerebellum"])[0]} == {"trans-cerebellum", "diverse"}
    verified = verify.check_dataset(datasets.DATASETS["brain_structures"], "brain_structures", root, ONE)
    assert list(verified.cases["case"]) == names(root)
    assert set(verified.findings["severity"]) <= {"note", "warn"}
    shutil.rmtree(root / "Trans-ventricular")
    assert findings(root, ["trans-cerebellum"]) == []


@pytest.mark.parametrize(
    ("above", "changes"),
    [
        *(("", {"name": name}) for name in ("trans_thalamic", "TRANS THALAMIC (1)", "Größe – Transthalamic")),
        ("", {"name": unicodedata.normalize("NFD", "Trans-thalamic übersetzt")}),
        ("", {"export": f"{EXPORT}/{EXPORT}", "images": f"{IMAGES}/{IMAGES}"}),
        *((above, {}) for above in (f"{IMAGES}/{IMAGES}", "Köpfe (neu)", "segmentation, COCO, original-size")),
    ],
)
def test_a_group_is_found_under_any_spelling_and_nesting_of_its_folders(tmp_path, above, changes):
    brain.write_group(tmp_path / "raw" / above, replace(THALAMIC, **changes))
    assert len(names(tmp_path / "raw")) == 3
    assert findings(tmp_path / "raw") == []


def side_by_side(thalamic):
    for path in list(thalamic.iterdir()):
        path.rename(thalamic.parent / (path.name if path.name != thalamic.name else "Trans-thalamic images"))
    thalamic.rmdir()
    return thalamic.parent


def without_its_name(thalamic):
    (thalamic / IMAGES).rename(thalamic / "images")
    (thalamic / EXPORT / "labelmap.txt").write_text(LABELMAP)
    table(thalamic).rename(thalamic / "pixel-size.csv")
    for path in (thalamic / EXPORT).iterdir():
        path.rename(thalamic / path.name)
    return link(thalamic.parent.parent / "link", thalamic)


def of_a_pool(thalamic):
    link(thalamic / IMAGES, (thalamic / IMAGES).rename(thalamic.parent / "a pool"))
    return thalamic.parent


def with_a_link_before(thalamic):
    link(thalamic.parent / "A Trans-thalamic", thalamic)
    return thalamic.parent


def with_hidden_files(thalamic):
    for part in (IMAGES, MASKS):
        hidden = (f"{part}/.DS_Store", f"{part}/._Patient00168_Plane3_1_of_3.png")
        for name in (*hidden, f"__MACOSX/{part}/Patient09999_Plane3_1_of_1.png"):
            (thalamic / name).parent.mkdir(parents=True, exist_ok=True)
            (thalamic / name).write_bytes(b"\0")
    return thalamic


def in_upper_case(thalamic):
    for path in [*(thalamic / IMAGES).iterdir(), *(thalamic / MASKS).iterdir()]:
        path.rename(path.with_suffix(".PNG") if path.parent.name == IMAGES else path.with_name(path.name.upper()))
    table(thalamic).write_text(table(thalamic).read_text(encoding="utf-8-sig").lower())
    return thalamic


def with_a_jpeg(thalamic):
    mask = thalamic / MASKS / f"{FIRST}.png"
    brain.save_jpeg(mask.with_suffix(".JPG"), np.array(brain.PLANES, np.uint8)[CLASSES])
    mask.unlink()
    return thalamic


def with_another_export(thalamic):
    brain.write_masks(thalamic / "A-PASCAL", THALAMIC, brain.PASCAL)
    save_png(thalamic / "Trans-thalamic-Cityscapes" / "gtFine" / "default" / f"{FIRST}.png", CLASSES)
    (thalamic / "annotations").mkdir()
    return thalamic


@pytest.mark.parametrize(
    "arrange",
    [
        *(side_by_side, without_its_name, of_a_pool, with_a_link_before, with_hidden_files, in_upper_case, with_a_jpeg),
        with_another_export,
    ],
)
def test_a_group_in_another_arrangement_is_read_alike(thalamic, arrange):
    folder = arrange(thalamic)
    cases, found = find(folder)
    assert [case.name for case in cases] == [FIRST, "Patient00168_Plane3_1_of_3", "Patient00168_Plane3_10_of_12"]
    assert [case.spacing_mm for case in cases] == [(0.12, 0.12), (0.1, 0.1), (0.11, 0.11)]
    assert [finding.check.name for finding in found] == ["form of a table"] * (arrange is in_upper_case)
    if arrange in (of_a_pool, with_a_link_before):
        assert {case.image.parent for case in cases} == {thalamic / IMAGES}
    assert [len(case.mask) for case in cases] == [1 + (arrange is without_its_name)] * 3  # labelmap.txt
    if arrange is without_its_name:
        assert cases[0].mask == (folder / f"SegmentationClass/{FIRST}.png", folder / "labelmap.txt")
    if arrange is with_another_export:
        assert {case.mask[0].parent.parent.name for case in cases} == {EXPORT}


@pytest.mark.parametrize("group", brain.ALL)
def test_the_given_folder_may_be_one_group_or_a_link_to_it(root, tmp_path, group):
    name = next(name for name in GROUPS if name.split("-")[-1] in group.name.lower())
    for folder in (root / group.name, link(tmp_path / "link", root / group.name)):
        assert sorted(names(folder, [name])) == sorted(group.cases)
        assert findings(folder, [name]) == []


def test_links_are_followed_and_cyclic_links_change_nothing(root, tmp_path):
    expected = find(root, GROUPS)[0]
    for group in (THALAMIC, VENTRICULAR):
        link(tmp_path / "parts" / group.name, root / group.name)
    assert len(names(tmp_path / "parts", GROUPS[:2])) == 5
    circle = {f"{IMAGES}/up": ".", f"{IMAGES}/a": "Trans-cerebellum", "Trans-cerebellum/b": IMAGES}
    for path, target in (circle | {"self": "self", "nowhere": "absent"}).items():
        link(root / path, root / target)
    assert find(root, GROUPS)[0] == expected
    assert [f for f in findings(root, GROUPS) if f[0] != "note"] == []


@pytest.mark.parametrize(
    ("name", "empty"),
    [("Trans-thalamic-PASCAL", True), ("Trans-thalamic-PASCAL", False), ("TRANS_pascal VOC (2)", False)],
)
def test_the_pascal_export_is_read_if_the_other_is_missing_or_empty(thalamic, name, empty):
    shutil.rmtree(thalamic / MASKS if empty else thalamic / EXPORT)
    (thalamic / MASKS).mkdir(parents=True) if empty else None
    brain.write_masks(thalamic / name, THALAMIC, brain.PASCAL)
    mask = first(thalamic).mask
    assert mask[0].parent.parent.name == name
    assert np.array_equal(brain_structures.read_mask(mask), CLASSES)


@pytest.mark.parametrize("other", ["Trans-thalamic-COCO", "Trans-thalamic-CityScapes", "trans thalamic yolo"])
def test_other_exports_alone_are_reported_and_stop(thalamic, other):
    shutil.rmtree(thalamic / EXPORT)
    save_png(thalamic / other / "gtFine" / "default" / f"{FIRST}.png", CLASSES)
    expected = [("note", "export not read", "trans-thalamic"), ("stop", "missing masks", "trans-thalamic")]
    assert findings(thalamic) == expected
    assert other in only(thalamic, "export not read").found


def test_zip_files_that_are_not_unpacked_are_reported(thalamic, tmp_path):
    shutil.rmtree(thalamic / EXPORT)
    (thalamic / f"{EXPORT}.zip").touch()
    assert only(thalamic, "missing masks").found == f"zip files that are not unpacked: ['{EXPORT}.zip']"
    for path in (tmp_path / "a/Trans-thalamic/Trans-thalamic-PASCAL.zip", tmp_path / "b/Trans-thalamic.ZIP"):
        path.parent.mkdir(parents=True)
        path.touch()
        with pytest.raises(ValueError, match=rf"no images; found zip files.*\['{path.name}'\]"):
            find(path.parent)


@pytest.mark.parametrize("name", ["Trans-thalamic-orginal-size", "original size", "Trans thalamic orginal image"])
def test_images_of_original_size_are_ignored_with_a_note_and_refused_alone(thalamic, name):
    for case in (*THALAMIC.cases, "Patient00555_Plane3_1_of_1"):
        save_png(thalamic / name / name / f"{case}.png", np.zeros((50, 70, 4), np.uint8))
    assert {case.image.parent.name for case in find(thalamic)[0]} == {IMAGES}
    assert findings(thalamic) == [("note", "folder ignored", "trans-thalamic")]
    assert only(thalamic, "folder ignored").found == f"{name}/{name}"
    shutil.rmtree(thalamic / IMAGES)
    with pytest.raises(ValueError, match=rf"trans-thalamic has no images; found .*'{name}'"):
        find(thalamic)


def test_the_image_folder_that_matches_the_masks_is_read_and_the_published_name_before_hc18_s(thalamic, diverse):
    (thalamic / IMAGES).rename(thalamic / "pictures")
    save_png(thalamic / "aaa" / f"{FIRST}.png", np.zeros((4, 4), np.uint8))
    assert {case.image.parent.name for case in find(thalamic)[0]} == {"pictures"}
    assert only(thalamic, "folder ignored").found == "aaa"
    for name in (*DIVERSE_HEADS.cases, "555_HC"):
        save_png(diverse / "training_set" / f"{name}.png", np.zeros((54, 80), np.uint8))
    (diverse / DIVERSE_HEADS.images / "002_HC.png").unlink()
    assert {case.image.parent.name for case in find(diverse, DIVERSE)[0]} == {DIVERSE_HEADS.images}
    assert ("stop", "missing image", "002_HC") in findings(diverse, DIVERSE)
    assert only(diverse, "folder ignored", DIVERSE).found == "training_set"


def mask_file(folder, colours, export=EXPORT, name=FIRST):
    return save_png(folder / export / "SegmentationClass" / f"{name}.png", np.array(colours, np.uint8)[CLASSES])


@pytest.mark.parametrize(
    ("export", "name", "colours", "refused"),
    [
        (EXPORT, FIRST, brain.PLANES, ""),
        ("Trans-ventricular-segmentation-mask", FIRST, brain.PLANES, ""),
        (*OF_DIVERSE, brain.DIVERSE, ""),
        (*OF_PASCAL, brain.PASCAL, ""),
        ("Test-Dataset-PASCAL", "010_2HC", brain.PASCAL, ""),
        (EXPORT, FIRST, brain.DIVERSE, r"\(255, 255, 0\) in 24 pixels"),
        (*OF_DIVERSE, brain.PLANES, r"\(0, 255, 0\) in 24 pixels"),
        (*OF_PASCAL, brain.PLANES, r"\(0, 0, 255\) in 80 pixels, .*\(255, 0, 0\) in 1096 pixels"),
    ],
)
def test_a_published_palette_gives_classes_and_another_is_refused_with_counts(tmp_path, export, name, colours, refused):
    path = mask_file(tmp_path, colours, export, name)
    if refused:
        with pytest.raises(ValueError, match=rf"{name}\.png: unknown colours: {refused}; expected"):
            brain_structures.read_mask((path,))
    else:
        mask = brain_structures.read_mask((path,))
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, CLASSES)


def test_a_jpeg_mask_takes_the_nearest_colours_and_a_grey_or_truncated_mask_is_refused(tmp_path):
    folder, coloured = tmp_path / "x" / "SegmentationClass", np.array(brain.PLANES, np.uint8)[CLASSES]
    mask = brain_structures.read_mask((brain.save_jpeg(folder / "a.jpg", coloured),))
    away = np.pad(CLASSES, 4, mode="edge")
    inner = np.all([np.roll(away, (r, c), (0, 1)) == away for r in (-4, 0, 4) for c in (-4, 0, 4)], axis=0)[4:-4, 4:-4]
    assert np.array_equal(mask[inner], CLASSES[inner])  # JPEG blurs colours at edges
    assert (mask != CLASSES).mean() < 0.1
    with pytest.raises(ValueError, match=r"grey\.png: mask has shape \(40, 60\); expected colours"):
        brain_structures.read_mask((save_png(folder / "grey.png", CLASSES),))
    path = mask_file(tmp_path, brain.PLANES)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=rf"{FIRST}\.png: cannot be read as an image"):
        brain_structures.read_mask((path,))


def labelmap(folder, text):
    path = folder / "labelmap.txt"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "background"),
    [
        (OTHER, (0, 0, 0)),
        ("\ufeff" + OTHER.replace("\n", "\r\n"), (0, 0, 0)),
        ("lv: 0, 0, 255\ncsp:0,255,0::: 7\n\n  BRAIN :9,8,7:hand,foot:running\n", (0, 0, 0)),
        (OTHER.replace("background:0,0,0", "Background:1,1,1"), (0, 0, 0)),
        (OTHER.replace("background:0,0,0", "background:1,2,3"), (1, 2, 3)),
    ],
)
def test_a_labelmap_overrides_the_published_colours(tmp_path, text, background):
    colours = [background, (9, 8, 7), (0, 255, 0), (0, 0, 255)]
    mask = brain_structures.read_mask((mask_file(tmp_path, colours, "A-PASCAL"), labelmap(tmp_path, text)))
    assert np.array_equal(mask, CLASSES)


def test_a_labelmap_next_to_the_masks_is_found_and_each_change_applies(thalamic):
    path = thalamic / EXPORT / "LabelMap.TXT"
    swapped = LABELMAP.replace("CSP:0,255,0", "CSP:0,0,255").replace("LV:0,0,255", "LV:0,255,0")
    for text, csp_pixels in ((LABELMAP, 24), (swapped, 80), (LABELMAP, 24)):
        path.write_text(text)
        assert [case.mask[1:] for case in find(thalamic)[0]] == [(path,)] * 3
        assert (brain_structures.read_mask(first(thalamic).mask) == 2).sum() == csp_pixels


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("LV:0,0,255::\n", "LV:0,0,255::\ntumour:1,2,3::\n", r'line 6: "tumour:1,2,3::"; expected a label \(backgr'),
        ("0,255,0", "255,0,0", 'line 4: "CSP:255,0,0::" has the colour of another'),
        ("255,0,0", "0,0,0", 'line 3: "Brain:0,0,0::" has the colour of another'),
        ("255,0,0", "256,0,0", 'line 3: "Brain:256,0,0::"'),
        ("255,0,0", "255,0", 'line 3: "Brain:255,0::"'),
        ("Brain:255,0,0::", "Brain", 'line 3: "Brain"'),
        ("255,0,0", "", 'line 3: "Brain:::"'),
        ("LV:0,0,255::\n", "", "lines 1 to 4: no label lv; expected background, brain"),
        (LABELMAP, "", "lines 1 to 0: no label brain, csp, lv"),
        (LABELMAP, None, ".*No such file"),
    ],
)
def test_an_invalid_labelmap_is_refused_by_file_and_line(tmp_path, old, new, message):
    path = labelmap(tmp_path, LABELMAP.replace(old, new or ""))
    if new is None:
        path.unlink()
    with pytest.raises(ValueError, match=rf"labelmap\.txt, {message}"):
        brain_structures.read_mask((mask_file(tmp_path, brain.PLANES), path))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Label,Pixel  in mm", "Label ,Pixel in mm"),
        ("Label,Pixel  in mm", "Label ,Pixel  in mm,"),
        ("Label,Pixel  in mm", '"Label","Pixel in mm"'),
        (f"{FIRST}.png", FIRST),
        (f"{FIRST}.png", f"images/{FIRST}.PNG"),
        (f"{FIRST}.png", rf" C:\images\{FIRST}.png "),
    ],
)
def test_the_table_is_read_under_any_spelling_of_headings_and_labels(thalamic, old, new):
    assert table(thalamic).read_bytes().startswith(b"\xef\xbb\xbfLabel,Pixel  in mm\n")
    edit(table(thalamic), old, new)
    assert first(thalamic).spacing_mm == (0.12, 0.12)
    assert findings(thalamic) == []


@pytest.mark.parametrize("name", ["{}/pixel size.CSV", "{}/Trans-thalamic-Pixel-Size (1).csv", THALAMIC.table])
def test_the_table_is_found_by_pattern_in_the_group_or_next_to_it(root, name):
    table(root / IMAGES).rename(root / name.format(IMAGES))
    assert first(root).spacing_mm == (0.12, 0.12)
    assert findings(root, GROUPS) == []


@pytest.mark.parametrize(
    ("separator", "old", "new", "rows"),
    [(";", "0.12", "0,12", 1), (";", "0.", "0,", 3), (",", "0.12", '"0,12"', 1)],
)
def test_decimal_commas_are_read_and_counted_in_one_note_and_unquoted_ones_stop(thalamic, separator, old, new, rows):
    edit(table(thalamic), ",", separator)
    edit(table(thalamic), old, new)
    assert first(thalamic).spacing_mm == (0.12, 0.12)
    form = [("note", "form of a table", THALAMIC.table)] * (separator == ";")
    assert findings(thalamic) == [*form, ("note", "decimal comma", THALAMIC.table)]
    line, text = (4, "0,12") if rows == 1 else (2, "0,1")
    found = f'cells: {rows}, the first is {THALAMIC.table}, row {line}, column "Pixel in mm": "{text}"'
    assert only(thalamic, "decimal comma").found == found
    if separator == ",":
        edit(table(thalamic), new, "0,12")
        with pytest.raises(ValueError, match=r"Size\.csv, row 4: 3 fields; expected 2 \(a decimal comma without quot"):
            find(thalamic)


@pytest.mark.parametrize(
    ("groups", "old", "new", "cells"),
    [
        *((ONE, "0.12", t, {"Pixel in mm": t}) for t in ("", "0.019", "1.01", '"0,019"')),
        *((DIVERSE, "172.5", text, {HC: text}) for text in ("", "x", "19.9", "450.1", "1.725")),
        (DIVERSE, "0.3,172.5", '"0,01","1,725"', {SIZE: "0,01", HC: "1,725"}),
        *((ONE, TWICE, f"{TWICE}{row}\n", {}) for row in (f"{FIRST}.png,0.2", f"{FIRST},1", f"{FIRST.lower()}.PNG,1")),
    ],
)
def test_an_implausible_number_and_a_second_row_stop_with_file_row_column_and_text(diverse, groups, old, new, cells):
    folder, path, name = (diverse, diverse / brain.HC18_TABLE, "002_HC")
    if groups is ONE:
        folder, path, name = (diverse.parent / IMAGES, table(diverse.parent / IMAGES), FIRST)
    edit(path, old, new)
    found = [f for f in find(folder, groups)[1] if f.check.name not in ("pixels are not square", "decimal comma")]
    assert {(f.severity, f.case) for f in found} == {("stop", name)}
    locations = [f'{path.name}, row 4, column "{column}": "{text.strip(QUOTE)}"' for column, text in cells.items()]
    assert [f.found for f in found] == (locations or [f"{path.name}, row 4 and row 5"])
    ranges = {"Pixel in mm": "0.02 to 1", SIZE: "0.02 to 1", HC: "20 to 450"}
    expected = [f"mm, {ranges[column]}" for column in cells]
    assert [f.expected for f in found] == (expected or ["one row"])
    assert name not in names(folder, groups)


def test_a_row_without_a_file_and_an_image_without_a_row_or_a_table_warn(thalamic, diverse):
    edit(table(thalamic), FIRST, "Patient00777_Plane3_1_of_1")
    expected = [("warn", "missing pixel size", FIRST), ("warn", "row without a file", "Patient00777_Plane3_1_of_1")]
    assert findings(thalamic) == expected
    assert first(thalamic).spacing_mm is None
    table(thalamic).unlink()
    assert findings(thalamic) == [("warn", "missing pixel size", "trans-thalamic")]
    assert {case.spacing_mm for case in find(thalamic)[0]} == {None}
    edit(diverse / brain.HC18_TABLE, "010_2HC", "805_HC")  # HC18 has more images than `diverse`
    assert findings(diverse, DIVERSE) == [("warn", "missing pixel size", "010_2HC")]
    for name in ("test_set_pixel_size.csv", ".hidden"):
        next(diverse.glob("*.csv")).rename(diverse / name)
        cases, found = find(diverse, DIVERSE)
        assert [(f.severity, f.check.name, f.case) for f in found] == [("warn", "missing pixel size", "diverse")]
        assert [(case.spacing_mm, case.reference_mm) for case in cases] == [(None, {})] * 3


def test_two_tables_that_differ_and_one_without_its_column_are_refused(thalamic):
    copy = shutil.copy(table(thalamic), thalamic / "Trans-Thalamic-Pixel-Size (1).csv")
    assert findings(thalamic) == [("note", "another table", THALAMIC.table)]  # an equal copy is harmless
    edit(copy, "0.12", "0.13")
    with pytest.raises(ValueError, match=r"Pixel-Size \(1\)\.csv and .*Pixel-Size\.csv differ"):
        find(thalamic)
    copy.unlink()
    table(thalamic).write_text("Label,mm\na.png,0.1\n")
    with pytest.raises(ValueError, match=r"Pixel-Size\.csv: columns \['Pixel in mm'\] are missing"):
        find(thalamic)


def test_pixels_of_resized_images_are_not_square_and_hc_is_as_published(diverse):
    case = first(diverse, DIVERSE)
    assert (case.name, case.reference_mm) == ("002_HC", {"hc": 172.5})
    assert case.spacing_mm == pytest.approx((0.3 * 0.816943, 0.3 * 0.834202), abs=1e-6)  # 540/661, 800/959
    images = diverse / DIVERSE_HEADS.images
    images.rename(diverse / "new")
    images.mkdir()
    nested = (diverse / "new").rename(images / images.name)
    assert first(diverse, DIVERSE).spacing_mm == case.spacing_mm
    note = only(diverse, "pixels are not square", DIVERSE)
    assert (note.severity, note.case, note.expected) == ("note", "diverse", "a native size of 800x540 for all images")
    nested.rename(diverse / "Diverse images")  # without the size in its name
    assert first(diverse, DIVERSE).spacing_mm == (0.3, 0.3)
    assert find(diverse, DIVERSE)[1] == []


@pytest.mark.parametrize("path", ["{diverse}/HC18/training_set", "", "HC18 (copy)", "{diverse}", "{diverse}/../.."])
def test_hc18_s_table_is_found_anywhere_in_the_folder(root, path):
    folder = root / path.format(diverse=DIVERSE_HEADS.name)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.move(root / DIVERSE_HEADS.name / brain.HC18_TABLE, folder / brain.HC18_TABLE.upper())
    expected = "missing pixel size" if path.endswith("..") else "pixels are not square"
    assert [f.check.name for f in find(root, DIVERSE)[1]] == [expected]
    if path == "":  # next to the given group
        assert first(root / DIVERSE_HEADS.name, DIVERSE).reference_mm == {"hc": 172.5}


@pytest.mark.parametrize(("part", "check"), [(MASKS, "missing mask"), (IMAGES, "missing image")])
def test_half_a_pair_stops_and_two_names_that_differ_only_in_letter_case_are_refused(thalamic, part, check):
    path = thalamic / part / f"{FIRST}.png"
    lower = shutil.copy(path, path.with_name(path.name.lower()))
    with pytest.raises(ValueError, match=rf"{FIRST}\.png and {FIRST.lower()}\.png; expected one file"):
        find(thalamic)
    for each in (path, lower):
        each.unlink()
    assert findings(thalamic) == [("stop", check, FIRST)]
    assert FIRST not in names(thalamic)


@pytest.mark.parametrize(
    ("group", "name"),
    [
        *((THALAMIC, name) for name in ("copy of Patient00020", "Patient20_Plane3_1_of_1", "010_HC")),
        (THALAMIC, f"{FIRST[:12]}_Plane2_1_of_1"),
        *((DIVERSE_HEADS, name) for name in ("10_HC", "010_HC_Annotation", FIRST)),
    ],
)
def test_a_name_of_another_form_stops(tmp_path, group, name):
    valid, groups = (FIRST, ONE) if group is THALAMIC else ("010_HC", DIVERSE)
    brain.write_group(tmp_path, replace(group, cases=(name, valid)))
    assert ("stop", "unreadable name", name) in findings(tmp_path, groups)
    assert names(tmp_path, groups) == [valid]


def test_a_name_in_two_groups_stops(tmp_path):
    brain.write_group(tmp_path, THALAMIC)
    brain.write_group(tmp_path, replace(VENTRICULAR, cases=(FIRST.lower(), "Patient00007_Plane3_1_of_1")))
    assert findings(tmp_path, GROUPS[:2]) == [("stop", "name in two groups", FIRST)]
    assert only(tmp_path, "name in two groups", GROUPS[:2]).found == "trans-thalamic and trans-ventricular"
    assert len(names(tmp_path, GROUPS[:2])) == len(set(names(tmp_path, GROUPS[:2]))) == 4


@pytest.mark.parametrize(
    ("folder", "groups", "message"),
    [
        ("missing", ONE, "missing: no folder of trans-thalamic; found no such.*Trans-ventricular"),
        ("a.png", ONE, "a.png: no folder of trans-thalamic; found no such"),
        ("empty", ONE, r"empty: no folder of trans-thalamic; found \[\]"),
        ("other", ONE, r"other: no folder of trans-thalamic; found \['training_set'\]"),
        ("part", ONE, r"trans-thalamic has no images; found \['Trans-thalamic'\]"),
        ("part", ["diverse", "trans-cerebellum"], r"no folder of trans-cerebellum, diverse; found \['Trans-th"),
        *(("part", groups, "not allowed; some of") for groups in ([], ["thalamic"], ["Trans-thalamic", "diverse"])),
    ],
)
def test_missing_folders_and_groups_are_refused_with_the_names_found(tmp_path, folder, groups, message):
    for name in ("empty", "other/training_set", f"part/{IMAGES}"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=message):
        find(tmp_path / folder, groups)


def test_a_missing_group_stops_and_the_others_are_read(thalamic):
    groups = ["diverse", "trans-cerebellum", "trans-thalamic"]
    assert len(names(thalamic.parent, groups)) == 3
    assert findings(thalamic.parent, groups) == [("stop", "missing group", name) for name in groups[1::-1]]
