"""References, images, pixel sizes and subjects that can be read but cannot be right."""

import unicodedata
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import datasets
from lib.__main__ import main
from lib.data.cases import Case
from lib.data.splits import assign_folds
from lib.imaging import image_files
from lib.study import params
from lib.verification import plausibility
from lib.verification.verify import check_dataset
from tests import builders
from tests import builders_brain as brain
from tests.builders import save_png
from tests.builders_busi import SHAPE, lesion, texture, verify_busi, write_busi

HEADS = builders.heads(6)
CONSTANT_RATIO = "HC differs in a constant ratio: pixel size or resize"
MASKS = [lesion(left=10 + 6 * index) for index in range(6)]
EMPTY, FULL = np.zeros(SHAPE, np.uint8), np.full(SHAPE, 255, np.uint8)


def listed(findings):
    """(severity, check, case, found) of findings or of their table."""
    if isinstance(findings, pd.DataFrame):
        return list(findings[["severity", "check", "case", "found"]].itertuples(index=False, name=None))
    return [(each.severity, each.check.name, each.case, each.found) for each in findings]


def serious(result):
    """The stops and warnings of a verification but for unknown subjects, without what was found."""
    return [row[:3] for row in listed(result.findings) if row[0] != "note" and row[1] != "subjects unknown"]


def verify_own(folder, pairs, subjects=(), classes=("background", "organ"), spacings_mm=(), name="own_x"):
    """Verifies custom data of pairs (image, mask) named c0, c1, …"""
    for index, pair in enumerate(pairs):
        for part, pixels in zip(("images", "masks"), pair):
            save_png(folder / part / f"c{index}.png", pixels)
    rows = [f"c{index},{subject}" for index, subject in enumerate(subjects)]
    if rows:
        (folder / "cases.csv").write_text("\n".join(["name,subject", *rows]) + "\n", encoding="utf-8")
    if spacings_mm:
        rows = [f"c{index},{spacing}" for index, spacing in enumerate(spacings_mm)]
        (folder / "cases.csv").write_text("\n".join(["name,spacing_mm", *rows]) + "\n")
    keys = builders.values(dataset="own_x", classes=list(classes), palette=[])
    return check_dataset(datasets.of(params.Study.model_construct(**keys)), name, folder)


def with_images(masks):
    return [(texture(index), mask) for index, mask in enumerate(masks)]


def write_heads(folder, spacing=lambda head: head.spacing_mm, hc=lambda head: head.hc_mm, drawn=builders.outline_of):
    """Heads in HC18's layout with other pixel sizes, published HC or annotations."""
    builders.write_hc18(folder, HEADS)
    builders.write_hc18_table(folder, [f"{head.name}.png,{spacing(head)},{hc(head):.2f}" for head in HEADS])
    for head in HEADS:
        save_png(folder / "training_set" / f"{head.name}_Annotation.png", drawn(head))
    return folder


def filled(head):
    return builders.region_of(head) * np.uint8(255)


def first_filled(head):
    return filled(head) if head is HEADS[0] else builders.outline_of(head)


def shifted(head):
    """The HC in the next row of the table."""
    return HEADS[(HEADS.index(head) + 1) % len(HEADS)].hc_mm


@pytest.mark.parametrize(
    ("changes", "check", "case", "found"),
    [
        ({"drawn": filled}, "outline is filled", "hc18", r"6 of 6 cases, such as 000_HC: \d+ pixels drawn, \d+ in"),
        ({"drawn": lambda head: np.full(head.shape, 255, np.uint8)}, "outline is filled", "hc18", "6 of 6 cases"),
        ({"drawn": first_filled}, "outline is filled", "000_HC", r"^\d+ pixels drawn, \d+ in the fitted ellipse"),
        ({"spacing": lambda head: head.spacing_mm / 10}, CONSTANT_RATIO, "hc18", r"common ratio 0\.100"),
        ({"spacing": lambda head: head.spacing_mm / 2}, CONSTANT_RATIO, "hc18", r"common ratio 0\.50"),
        ({"hc": shifted}, "HC differs in most cases", "hc18", r"6 of 6 cases, such as 000_HC: 131\.\d+ mm from the"),
    ],
)
def test_annotations_that_disagree_with_most_published_hc_are_one_stop_with_the_likely_reason(
    tmp_path, capsys, changes, check, case, found
):
    folder = write_heads(tmp_path, **changes)
    result = check_dataset(datasets.DATASETS["hc18"], "hc18", folder)
    assert serious(result) == [("stop", check, case)]
    assert result.findings["found"].str.contains(found).any()
    assert main(["verify", str(folder)]) == 1
    assert check in capsys.readouterr().out


def test_two_masks_of_one_lesion_are_no_filled_outline(tmp_path):
    folder = write_busi(tmp_path, benign=[(texture(0), lesion())])
    save_png(folder / "benign" / "benign (1)_mask_1.png", lesion())  # 800 pixels drawn, 400 in their union
    assert serious(verify_busi(folder)) == []


def rows_of(ratios, published_mm=200.0):
    """Measurements of cases whose HC from the annotation has these ratios to the published one."""
    names = [f"c{index}" for index in range(len(ratios))]
    return pd.DataFrame({"case": names, "mask_hc_mm": published_mm * np.array(ratios), "published_hc_mm": published_mm})


@pytest.mark.parametrize(
    ("ratios", "has_head", "expected"),
    [
        ([1.0, 1.002, 0.998, float("nan")], True, []),  # differences of 0.4 mm
        ([1.0, 1.0, 1.0, 1.004], True, [("warn", "HC differs from its annotation", "c3")]),
        ([1.0, 1.0, 0.91, 1.09], True, [("warn", "HC differs from its annotation", c) for c in ("c2", "c3")]),
        ([1.0, 1.0, 0.89, 1.11], True, [("stop", "HC differs from its annotation", c) for c in ("c2", "c3")]),
        ([1.0, 1.02, 1.03, 1.04, 1.05], True, [("stop", "HC differs in most cases", "x")]),
        ([1.0, *[1.03] * 4], True, [("stop", "HC differs in most cases", "x")]),  # four say nothing of a constant
        ([1.0, *[1.03] * 5], True, [("stop", CONSTANT_RATIO, "x")]),
        ([*[1.03] * 9, 1.3, 0.8], True, [("stop", CONSTANT_RATIO, "x")]),  # but for two others
        ([1.03] * 4, True, [("warn", "HC differs from its annotation", f"c{n}") for n in range(4)]),
        ([1.006], True, [("warn", "HC differs from its annotation", "c0")]),
        ([1.2], True, [("stop", "HC differs from its annotation", "c0")]),
        ([1.006] * 5, True, [("warn", "HC differs from its annotation", f"c{n}") for n in range(5)]),
        ([0.996, 0.95, 0.93, 0.96, 0.94], False, []),
        ([0.85, 0.95, 0.93, 0.96, 0.94], False, [("stop", "HC differs from its annotation", "c0")]),
        ([0.5, 0.7, 0.8, 0.94, 0.94], False, [("stop", "HC differs in most cases", "x")]),
        ([], True, []),
    ],
)
def test_a_difference_of_hc_is_a_warning_up_to_10_percent_and_one_stop_in_most_cases(ratios, has_head, expected):
    found = plausibility.check_published_hc("x", rows_of(ratios), has_head)
    assert [row[:3] for row in listed(found)] == expected


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ([EMPTY] * 6, [("stop", "all masks are empty", "own_x")]),
        ([FULL] * 6, [("stop", "mask covers the whole image", "own_x")]),
        ([FULL] * 5 + [EMPTY] * 6, [("stop", "mask covers the whole image", "own_x")]),  # no other one has foreground
        ([FULL] + [EMPTY] * 6, [("warn", "mask covers the whole image", "c0")]),  # one says nothing of the others
        ([FULL, *MASKS[1:]], [("warn", "mask covers the whole image", "c0")]),
        ([255 - mask for mask in MASKS], [("stop", "mask may be inverted", "own_x")]),
        ([255 - MASKS[0], *MASKS[1:]], [("warn", "mask may be inverted", "c0")]),
        ([255 - mask for mask in MASKS[:4]], [("warn", "mask may be inverted", f"c{n}") for n in range(4)]),
        (
            [255 - mask for mask in [*MASKS, *[EMPTY] * 6]],
            [("stop", "mask may be inverted", "own_x")]
            + [("warn", "mask covers the whole image", f"c{n}") for n in (10, 11, 6, 7, 8, 9)],
        ),
        ([255 - lesion(0, 0)] * 6, []),  # background in one corner: the structure is cut by the frame
        ([255 - lesion(5, 5, 50, 70)] * 6, []),  # all corners, but 27 % of the pixels
        ([EMPTY] * 5 + MASKS[:1], []),
    ],
)
def test_empty_and_full_masks_of_custom_data(tmp_path, masks, expected):
    assert serious(verify_own(tmp_path, with_images(masks))) == expected


def test_a_folder_of_normal_images_only_stops_and_empty_masks_of_lesions_stop_as_before(tmp_path):
    normal = [(texture(index), EMPTY) for index in range(3)]
    assert serious(verify_busi(write_busi(tmp_path, normal=normal))) == [("stop", "all masks are empty", "busi")]
    folder = write_busi(tmp_path / "both", normal=normal, benign=[(texture(8), lesion())])
    assert serious(verify_busi(folder)) == []


def test_a_volume_without_lesion_stops_only_if_no_other_has_one(tmp_path):
    lgg = datasets.DATASETS["lgg"]
    lone = builders.write_lgg(tmp_path / "one", builders.PATIENTS[1:2])
    assert serious(check_dataset(lgg, "lgg", lone)) == [("stop", "all masks are empty", "lgg")]
    two = builders.write_lgg(tmp_path / "two", builders.PATIENTS[:2])
    assert serious(check_dataset(lgg, "lgg", two)) == []


def test_a_finding_about_a_whole_folder_of_own_data_has_the_folder_s_name(tmp_path):
    assert serious(verify_own(tmp_path / "ovaries", with_images([EMPTY] * 6), name="own"))[0][2] == "ovaries"


def test_a_class_that_no_mask_contains_is_a_warning(tmp_path):
    result = verify_own(tmp_path, with_images([mask // 255 for mask in MASKS]), classes=("background", "organ", "cyst"))
    assert ("warn", "class without a pixel", "own_x", "cyst is in none of 6 masks") in listed(result.findings)
    assert len(serious(result)) == 1


def test_uniform_and_tiny_images_stop_and_a_uniform_one_with_an_empty_mask_warns(tmp_path):
    pairs = with_images([*MASKS, EMPTY, *MASKS])
    for index, grey in ((0, 0), (1, 255), (6, 128)):
        pairs[index] = (np.full(SHAPE, grey, np.uint8), pairs[index][1])
    pairs[2] = (np.full((1, 1), 128, np.uint8), np.full((1, 1), 255, np.uint8))
    pairs[3] = (texture(3, (3, 400)), lesion(1, 30, 1, 20, (3, 400)))
    pairs[4] = (pairs[4][0] // 128, pairs[4][1])  # grey values of 0 and 1
    pairs += [(texture(30 + n), EMPTY) for n in range(2)]
    result = verify_own(tmp_path, pairs)
    assert [row for row in listed(result.findings) if row[1] in ("uniform image", "too small for an image")] == [
        ("stop", "too small for an image", "c2", "1 x 1 pixels"),
        ("stop", "too small for an image", "c3", "3 x 400 pixels"),
        ("stop", "uniform image", "c0", "grey values 0 to 0"),
        ("stop", "uniform image", "c1", "grey values 255 to 255"),
        ("stop", "uniform image", "c4", "grey values 0 to 1"),
        ("warn", "uniform image", "c6", "grey values 128 to 128"),
    ]


@pytest.mark.parametrize(
    ("uniform", "uniform_empty", "empty", "expected"),
    [
        (0, 1, 1, [("warn", "e0", "grey values 5 to 9")]),
        (0, 6, 6, [("warn", f"e{n}", "grey values 5 to 9") for n in range(6)]),
        (3, 0, 20, [("stop", "x", "3 of 5 cases, such as c0: grey values 5 to 9")]),
        (2, 1, 1, [("stop", "c0", "grey values 5 to 9"), ("stop", "c1", "grey values 5 to 9"), ("warn", "e0", None)]),
    ],
)
def test_uniform_images_are_judged_among_those_with_foreground_and_never_stop_without_it(
    uniform, uniform_empty, empty, expected
):
    rows = [(f"c{n}", 0.2, 5.0, 9.0 if n < uniform else 200.0) for n in range(5)]
    rows += [(f"e{n}", 0.0, 5.0, 9.0 if n < uniform_empty else 200.0) for n in range(empty)]
    table = pd.DataFrame(rows, columns=["case", "area_fraction", "darkest", "brightest"])
    found = [(row[0], *row[2:]) for row in listed(plausibility.check_images("x", table))]
    assert found == [(*each[:2], each[2] or "grey values 5 to 9") for each in expected]


@pytest.mark.parametrize(("wrong", "stops"), [(5, True), (4, False)])
def test_exchanged_classes_are_judged_among_the_masks_that_contain_them(wrong, stops):
    classes, pixels = (
        ("background", "parenchyma", "csp", "lv"),
        np.array([[90, 3, 0, 7]] * wrong + [[100, 0, 0, 0]] * 9),
    )
    names = pd.Series([f"c{n}" for n in range(len(pixels))])
    text = "lv 7 pixels, parenchyma 3"
    expected = [("warn", "classes may be exchanged", name, text) for name in names[:wrong]]
    if stops:
        expected = [("stop", "classes may be exchanged", "x", f"5 of 5 cases, such as c0: {text}")]
    assert listed(plausibility.check_sizes_of_classes("x", names, pixels, classes)) == expected


def test_masks_of_several_classes_have_no_inverse():
    names, corners = pd.Series([f"c{n}" for n in range(6)]), np.ones(6, bool)
    for pixels, count in (([20, 80], 1), ([20, 70, 10], 0)):
        assert len(plausibility.check_inversion("x", names, np.array([pixels] * 6), corners)) == count


def exchanged(folder):
    """Severity, case and text of the findings about exchanged classes in trans-thalamic masks."""
    result = check_dataset(datasets.DATASETS["brain_structures"], "brain_structures", folder, ["trans-thalamic"])
    return [(row[0], *row[2:]) for row in listed(result.findings) if row[1] == "classes may be exchanged"]


@pytest.mark.parametrize(
    ("order", "larger"), [((2, 1, 0), "lv 1096 pixels, parenchyma 80"), ((1, 0, 2), "csp 1096 pixels, parenchyma 24")]
)
def test_classes_exchanged_by_the_order_of_colours_are_one_stop_and_in_one_mask_a_warning(tmp_path, order, larger):
    names = tuple(f"Patient0000{n}_Plane3_1_of_1" for n in range(6))
    brain.write_group(tmp_path, replace(brain.THALAMIC, cases=names))
    assert exchanged(tmp_path) == []
    first, *others = sorted(tmp_path.rglob("SegmentationClass/*.png"))
    for paths, expected in (
        ([first], ("warn", first.stem, larger)),
        (others, ("stop", "brain_structures", f"6 of 6 cases, such as {first.stem}: {larger}")),
    ):
        for path in paths:
            save_png(path, image_files.read_pixels(path)[..., list(order)])
        assert exchanged(tmp_path) == [expected]


def cases_with(sizes_mm, slices_mm=()):
    named = [(f"c{n}", size, of_slice) for n, (size, of_slice) in enumerate(zip_longest(sizes_mm, slices_mm))]
    return [Case(c, c, Path("a.png"), (), size and (size, size), slice_mm=of_slice) for c, size, of_slice in named]


@pytest.mark.parametrize(
    ("sizes_mm", "found"),
    [
        ([0.0494, 0.2, None, 0.393], None),  # the extremes of HC18
        ([0.1, 0.99], None),
        ([0.3, 0.03, None], "0.03 mm (c1) to 0.3 mm (c0)"),
        ([0.07, 0.07, 0.7], "0.07 mm (c0) to 0.7 mm (c2)"),
        ([None, None], None),
    ],
)
def test_pixel_sizes_that_differ_by_a_factor_of_ten_are_a_warning_with_the_extremes(sizes_mm, found):
    rows = listed(plausibility.check_pixel_sizes("x", cases_with(sizes_mm)))
    assert rows == ([("warn", "pixel sizes differ by a factor of ten", "x", found)] if found else [])


def test_slice_distances_in_two_units_are_a_warning_of_their_own():
    rows = listed(plausibility.check_pixel_sizes("x", cases_with([1.0, 1.0, 1.0], slices_mm=[8.3, 0.3, None])))
    assert rows == [("warn", "slice distances differ by a factor of ten", "x", "0.3 mm (c1) to 8.3 mm (c0)")]


def test_pixel_sizes_of_custom_data_and_of_volumes_in_two_units_are_a_warning(tmp_path):
    result = verify_own(tmp_path / "own", with_images(MASKS), spacings_mm=[0.5, 0.5, 0.05, 0.5, 0.5, 0.5])
    expected = ("warn", "pixel sizes differ by a factor of ten", "own_x", "0.05 mm (c2) to 0.5 mm (c5)")
    assert expected in listed(result.findings)
    folder = builders.write_lgg(tmp_path / "lgg")
    rows = [f"{patient.name},{size},{size},4" for patient, size in zip(builders.PATIENTS, (0.5, 0.6, 5.0, 0.5))]
    (folder / "kaggle_3m" / "spacing.csv").write_text("\n".join(["patient,row_mm,col_mm,slice_mm", *rows]) + "\n")
    result = check_dataset(datasets.DATASETS["lgg"], "lgg", folder)
    assert ("warn", expected[1], "lgg") in [row[:3] for row in listed(result.findings)]


@pytest.mark.parametrize(
    "spellings",
    [
        ("Anna", "anna", "ANNA", " Anna "),
        ("P-07", "p07", "P 7", "p_007", "P\u20117", "P\u22127"),
        ("Zoë", unicodedata.normalize("NFD", "Zoë"), "ZOË", "zoe\u0308"),
        ("Anna-Maria", "anna maria", "AnnaMaria"),
        ("1-12", "01_12", "1 12"),
        ("7", "007", "\uff17"),  # fullwidth digit
        ("0", "000"),
        ("Straße", "STRASSE"),
    ],
)
def test_spellings_of_one_subject_have_one_key(spellings):
    assert len(set(map(plausibility.spelling_key, spellings))) == 1


def test_subjects_that_differ_in_a_letter_or_number_have_different_keys():
    subjects = ("1-12", "11-2", "112", "P7", "P70", "7P", "P0", "Anna", "Ann", "Ana", "N/A", "NA", "100", "10", "1")
    assert len(set(map(plausibility.spelling_key, subjects))) == len(subjects)


def test_spellings_of_one_subject_are_a_warning_and_in_one_fold(tmp_path):
    subjects = ("Anna", "anna", "ANNA", "B-1", "b1", "7", "7", "Zoë", unicodedata.normalize("NFD", "Zoë"))
    result = verify_own(tmp_path, with_images([*MASKS, *MASKS[:3]]), subjects)
    found = [row for row in listed(result.findings) if row[0] == "warn"]
    assert found == [
        ("warn", "subject in several spellings", "c0", '"ANNA", "Anna", "anna"'),
        ("warn", "subject in several spellings", "c3", '"B-1", "b1"'),
    ]
    assert result.cases["fold_group"].tolist() == ["ANNA"] * 3 + ["B-1"] * 2 + ["7"] * 2 + ["Zoë"] * 2
    for seed in range(5):
        fold = assign_folds(result.cases, 4, seed)["fold"].tolist()
        assert len(set(fold[:3])) == len(set(fold[3:5])) == 1


@pytest.mark.parametrize("count", [20, 21])
def test_many_subjects_in_several_spellings_are_one_warning_for_the_data_set(tmp_path, count):
    subjects = [text for n in range(count) for text in (f"p{n}", f"P-{n}")]
    cases = [Case(f"c{n}", subject, tmp_path, (), None) for n, subject in enumerate(subjects)]
    rows = [row[2:] for row in listed(plausibility.check_subjects("x", cases))]
    if count == 20:
        assert rows == [(f"c{2 * n}", f'"P-{n}", "p{n}"') for n in range(20)]
    else:
        assert rows == [("x", '21 subjects, such as "P-0", "p0" (c0)')]


def test_names_of_images_are_not_spellings_of_subjects(tmp_path):
    cases = [Case(name, name, tmp_path, (), None) for name in ("img_1", "img-01")]
    assert plausibility.spellings(cases) == []
