import numpy as np
import pytest
from PIL import Image

from lib.datasets import hc18, ultrasound_fetus
from lib.study import files
from tests.builders import Head, ellipse_region, image_of, outline_of, perimeter, region_of, save_png

HC18 = files.ROOT.parent / "shared" / "data" / "hc18" / "training_set"
real = pytest.mark.skipif(not HC18.is_dir(), reason=f"{HC18} is missing: HC18 is not part of the project")
MALIGNANT = ["malignant"]
ALL = ["malignant-2_HC", "malignant-10_2HC", "malignant-10_HC"]
IMAGE, OUTLINE = "train/malignant/2_HC.png", "train/malignant/2_HC_Annotation.png"
HEAD = Head("head")


def add(root, *paths):
    """Images and outlines of one drawn head at paths such as train/malignant/1_HC."""
    for path in paths:
        is_image = path.endswith("HC")
        save_png(root / f"{path}.png", image_of(HEAD, 0) if is_image else outline_of(HEAD))


@pytest.fixture
def root(tmp_path):
    """Three malignant cases, and two images of the other classes, which have no outlines."""
    folder = tmp_path / "raw"
    add(folder, "train/malignant/2_HC", "train/malignant/2_HC_Annotation")
    add(folder, "validation/malignant/10_2HC", "validation/malignant/10_2HC_Annotation")
    add(folder, "test/malignant/10_HC", "test/malignant/10_HC_Annotation")
    add(folder, "train/benign/1_HC", "test/normal/1_HC")
    return folder


def find(folder, groups=MALIGNANT):
    return ultrasound_fetus.find_cases(folder, groups)


def names(folder, groups=MALIGNANT):
    return [case.name for case in find(folder, groups)[0]]


def findings(folder, groups=MALIGNANT):
    """(severity, check, case, found) of the findings that not every copy has."""
    usual = ("subjects unknown", "group not used")
    found = [f for f in find(folder, groups)[1] if f.check.name not in usual]
    return [(f.severity, f.check.name, f.case, f.found) for f in found]


def checks(folder, groups=MALIGNANT):
    return [found[:3] for found in findings(folder, groups)]


def test_cases_are_named_by_class_and_image_in_order_of_their_numbers(root):
    cases, notes = find(root)
    assert [case.name for case in cases] == ALL
    assert [case.split for case in cases] == ["train", "validation", "test"]
    for case in cases:
        assert (case.subject, case.stratum, case.spacing_mm) == (case.name, "malignant", None)
        assert case.foreground == "present"
    (unknown,) = [f for f in notes if f.check.name == "subjects unknown"]
    assert unknown.severity == "warn"
    assert "data/raw/hc18" in unknown.expected
    assert findings(root) == []
    for name in ("stray.txt", ".DS_Store"):  # unused groups are counted and not checked
        (root / "train" / "benign" / name).touch()
    found = [(f.severity, f.case, f.found) for f in find(root)[1] if f.check.name == "group not used"]
    assert found == [("note", "benign", "2 files"), ("note", "normal", "1 files")]
    assert findings(root) == []


@pytest.mark.parametrize(
    "wrapper",
    ["Ultrasound Fetus Dataset/Ultrasound Fetus Dataset/Data/Data", "Datasets/Datasets", "DATA", "datasets/data"],
)
def test_the_publisher_s_nested_folders_are_searched(root, tmp_path, wrapper):
    inner = tmp_path / "copy" / wrapper
    inner.parent.mkdir(parents=True)
    root.rename(inner)
    assert names(tmp_path / "copy") == ALL
    assert findings(tmp_path / "copy") == []


@pytest.mark.parametrize("validation", ["valid", "val", "VAL"])
def test_other_names_of_splits_and_letter_case_do_not_matter(root, validation):
    (root / "validation").rename(root / validation)
    (root / "train" / "malignant" / "2_HC_Annotation.png").rename(root / "train" / "malignant" / "2_HC_annotation.PNG")
    (root / "train" / "malignant").rename(root / "train" / "Malignant")
    (root / "train").rename(root / "Train")
    assert [(case.name, case.split) for case in find(root)[0]] == list(zip(ALL, ("train", "validation", "test")))
    assert findings(root) == []


def test_other_folders_and_a_second_copy_are_ignored_with_a_note_each(root, tmp_path):
    outer = tmp_path / "copy"
    outer.mkdir()
    add(root, "OverlayedImages/malignant/1_HC", "Datasets/malignant/1_HC", "train/unsorted/3_HC")
    inner = root.rename(outer / "Datasets")
    (outer / "Größe (alt)").mkdir()
    ignored = ["Datasets/Datasets", "Datasets/OverlayedImages", "Größe (alt)", "Datasets/train/unsorted"]
    assert checks(outer) == [("note", "folder ignored", name) for name in ignored]
    assert names(outer) == ALL
    inner.rename(outer / "Data")
    add(outer, "Datasets/train/malignant/7_HC")
    assert names(outer) == ALL
    assert ("note", "folder ignored", "Datasets") in checks(outer)


def test_an_outline_in_another_split_is_paired_by_name_and_noted(root):
    outline = (root / OUTLINE).rename(root / "test" / "malignant" / "2_HC_Annotation.png")
    case = find(root)[0][0]
    assert (case.split, case.mask) == ("train", (outline,))
    found = "train/malignant/2_HC.png, test/malignant/2_HC_Annotation.png"
    assert findings(root) == [("note", "outline in another split", "malignant-2_HC", found)]


def test_outlines_are_paired_within_a_class_only_and_groups_without_them_stop(root):
    (root / OUTLINE).rename(root / "train" / "benign" / "2_HC_Annotation.png")
    assert checks(root, ["benign", "malignant"]) == [
        ("stop", "missing outline", "benign-1_HC"),
        ("stop", "missing image", "benign-2_HC"),
        ("stop", "missing outline", "malignant-2_HC"),
    ]


def test_a_filled_mask_is_used_only_without_an_outline(root):
    folder = root / "train" / "malignant"
    save_png(folder / "2_HC_mask.png", region_of(HEAD))
    assert find(root)[0][0].mask == (folder / "2_HC_Annotation.png",)
    (folder / "2_HC_Annotation.png").unlink()
    assert np.array_equal(ultrasound_fetus.read_mask(find(root)[0][0].mask), region_of(HEAD))
    assert findings(root) == []


@pytest.mark.parametrize(
    ("added", "check", "found"),
    [
        ("2_HC", "two images with one name", f"test/malignant/2_HC.png, {IMAGE}, {OUTLINE}"),
        ("2_HC_Annotation", "two outlines for one image", f"{IMAGE}, test/malignant/2_HC_Annotation.png, {OUTLINE}"),
        (None, "missing image", f"only {OUTLINE}"),
    ],
)
def test_a_name_in_two_splits_and_an_outline_without_image_stop(root, added, check, found):
    if added:
        add(root, f"test/malignant/{added}")
    else:
        (root / IMAGE).unlink()
    assert findings(root) == [("stop", check, "malignant-2_HC", found)]
    assert names(root) == ALL[1:]


@pytest.mark.parametrize("name", ["benign (50)_mask.png", "2_HC_Annotation_old.png", "3_HC.txt", "x_HC.png"])
def test_an_unknown_file_is_ignored_with_a_warning(root, name):
    (root / "train" / "malignant" / name).touch()
    assert checks(root) == [("warn", "unknown file", f"train/malignant/{name}")]
    assert names(root) == ALL


def test_a_folder_of_another_layout_is_refused_and_an_absent_group_stops(root, tmp_path):
    add(tmp_path / "other", "training_set/000_HC")
    (tmp_path / "circle").mkdir()
    for name in ("Data", "Datasets", "Ultrasound Fetus Dataset"):
        (tmp_path / "circle" / name).symlink_to(tmp_path / "circle")
    found = {"other": r"\['training_set'\]; expected train/, valid", "none": "no such folder", "circle": r"\['Data', "}
    for name, message in found.items():
        with pytest.raises(ValueError, match=rf"{name}: no files of malignant; found {message}"):
            find(tmp_path / name)
    (root / "test" / "normal" / "1_HC.png").unlink()
    assert checks(root, ["malignant", "normal"]) == [("stop", "missing group", "normal")]


def filled(tmp_path, line):
    """The mask that read_mask returns for a drawn line."""
    mask = ultrasound_fetus.read_mask([save_png(tmp_path / "line.png", np.where(line, 255, 0).astype(np.uint8))])
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}
    return mask


def block(shape, *window):
    """A bool array that is True in a window of slices."""
    array = np.zeros(shape, bool)
    array[window] = True
    return array


def ring(shape, top, left, height, width, thickness):
    """The line of a rectangle, of a thickness inside its outer size."""
    line = block(shape, slice(top, top + height), slice(left, left + width))
    line[top + thickness : top + height - thickness, left + thickness : left + width - thickness] = False
    return line


@pytest.mark.parametrize("thickness", [2, 4])
def test_the_area_is_that_inside_the_centre_line_and_specks_do_not_count(tmp_path, thickness):
    line = ring((60, 70), 5, 8, 40 + thickness, 50 + thickness, thickness)  # centre line: 40 x 50
    half = thickness // 2
    inside = block((60, 70), slice(5 + half, 45 + half), slice(8 + half, 58 + half))
    assert np.array_equal(filled(tmp_path, line), inside)
    line[52:54, 66:68] = line[20, 30] = True
    assert filled(tmp_path, line).sum() == 40 * 50


@pytest.mark.parametrize("thickness", [1.5, 2.5, 3.5, 5.0])
@pytest.mark.parametrize("angle_deg", [0, 30, 75])
def test_an_ellipse_is_filled_to_its_centre_line_within_a_quarter_of_a_pixel(tmp_path, angle_deg, thickness):
    wide, narrow = (
        ellipse_region((200, 260), (99.3, 130.6), 180 + d, 140 + d, angle_deg) for d in (thickness, -thickness)
    )
    area = np.pi / 4 * 180 * 140
    # Pixels midway between inside and outside count as inside, so the edge is up to 0.22 px too far out.
    assert abs(filled(tmp_path, wide & ~narrow).sum() - area) < 0.25 * perimeter(180, 140)


TOP = block((20, 24), slice(0, 12), slice(6, 18)) & ~block((20, 24), slice(0, 10), slice(8, 16))
CORNER = block((60, 80), slice(0, 42), slice(0, 42)) & ~block((60, 80), slice(0, 40), slice(0, 40))


@pytest.mark.parametrize("turns", range(4), ids=["top", "left", "bottom", "right"])
@pytest.mark.parametrize(
    ("line", "region"),
    [
        (TOP, block((20, 24), slice(0, 11), slice(7, 17))),  # down to the centre line, up to the border
        (CORNER, block((60, 80), slice(0, 41), slice(0, 41))),  # around the corner
        (block((20, 40), slice(None), [8, 9, 20, 21]), block((20, 40), slice(None), slice(9, 21))),  # on opposite sides
    ],
    ids=["one side", "around a corner", "two sides"],
)
def test_a_line_cut_by_the_border_is_closed_along_it(tmp_path, line, region, turns):
    assert np.array_equal(filled(tmp_path, np.rot90(line, turns)), np.rot90(region, turns))


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_a_head_cut_on_two_adjacent_sides_leaves_the_corner_outside_and_a_line_may_touch_the_border(tmp_path):
    head = Head("a", (30, 34), 80.0, 76.0, 0.0, (100, 140))
    region, mask = region_of(head), filled(tmp_path, outline_of(head) > 0)
    assert not region[0, 0]
    assert not mask[0, 0]
    assert dice(mask > 0, region) > 0.995
    touching = filled(tmp_path, ring((20, 24), 0, 4, 12, 12, 2))
    assert np.array_equal(touching, block((20, 24), slice(1, 11), slice(5, 15)))


@pytest.mark.parametrize(("row", "minor"), [(100, 160.0), (100, 100.0), (100, 45.0), (10, 140.0)])
def test_a_filled_region_is_used_unchanged_except_for_pinholes(tmp_path, row, minor):
    region = ellipse_region((200, 260), (row, 130), 180, minor, 25)
    assert np.array_equal(filled(tmp_path, region), region)
    holed = region.copy()
    holed[row : row + 10 : 5, 110:140:5] = False
    assert np.array_equal(filled(tmp_path, holed), region)


RING = ring((60, 70), 5, 8, 42, 52, 2)
THREE_ENDS = block((60, 70), slice(0, 40), [10, 11, 30, 31]) | block((60, 70), slice(38, 40), slice(10, 32))
CUT = np.roll(RING, -20, axis=0) & ~block((60, 70), slice(40, 60)) & ~block((60, 70), slice(20, 23), slice(8, 10))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (RING & ~block((60, 70), slice(5, 7), slice(30, 33)), "the outline is not closed"),
        (block((60, 70), slice(0, 40), slice(20, 22)), "the outline is not closed"),
        (THREE_ENDS | block((60, 70), slice(0, 30), slice(50, 52)), "the outline is not closed"),
        (CUT, "the outline is not closed"),
        (np.zeros((20, 30), bool), "empty"),
    ],
    ids=["gap", "one end at the border", "three ends at the border", "gap, cut by the border", "empty"],
)
def test_an_open_or_empty_line_is_refused(tmp_path, line, message):
    with pytest.raises(ValueError, match=rf"line\.png: {message}"):
        filled(tmp_path, line)


def test_an_outline_of_other_values_is_refused_and_every_mode_is_read_alike(tmp_path):
    line = outline_of(HEAD)
    expected, path = filled(tmp_path, line > 0), tmp_path / "a.png"
    for mode in ("1", "L", "RGB", "RGBA", "P"):
        Image.fromarray(line).convert(mode).save(path)
        assert np.array_equal(ultrasound_fetus.read_mask([path]), expected)
    line[0, 0] = 9
    with pytest.raises(ValueError, match=r"a\.png: values \[0, 9, 255\]"):
        ultrasound_fetus.read_mask([save_png(path, line)])


@real
def test_hc18_outlines_fill_as_their_ellipse_without_bias():
    cut = ["186_HC", "346_HC", "628_2HC", "787_HC", "352_2HC"]  # by the border; the last one's line touches it
    names = [path.stem.removesuffix("_Annotation") for path in sorted(HC18.glob("*_Annotation.png"))[::40]]
    errors = []
    for name in (*names, *cut):
        path = HC18 / f"{name}_Annotation.png"
        mask, ellipse = ultrasound_fetus.read_mask([path]) > 0, hc18.read_mask([path]) > 0
        assert dice(mask, ellipse) > 0.999, name
        errors.append(mask.sum() / ellipse.sum() - 1)
    assert abs(np.mean(errors)) < 2e-4  # half a pixel of edge would be 5e-3
