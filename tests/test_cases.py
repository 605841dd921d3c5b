import functools
import io
import operator

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib import cases, files
from lib.cases import Case, Finding
from tests.builders import save_png

GREY = np.array([[0, 10, 255], [7, 128, 3]], np.uint8)
PALETTE = {(255, 0, 0): 1, (0, 255, 0): 2}


def png_bytes(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def groups_table(sizes, strata=1, seed=0):
    """A manifest of groups: one subject each, so many cases each, strata at random."""
    stratum = np.random.default_rng(seed).integers(0, strata, len(sizes))
    rows = [
        {"case": f"{group:03d}_{image}", "subject": f"{group:03d}", "fold_group": f"{group:03d}", "stratum": f"s{s}"}
        for group, (size, s) in enumerate(zip(sizes, stratum))
        for image in range(size)
    ]
    return pd.DataFrame(rows)


def folds_table(fold_of):
    """A row a case from {case: (subject, fold)}."""
    rows = [{"case": c, "subject": s, "fold_group": s, "fold": f} for c, (s, f) in fold_of.items()]
    return pd.DataFrame(rows, columns=cases.FOLD_COLUMNS)


# Reading images


def test_pixels_come_back_as_stored(tmp_path):
    assert np.array_equal(cases.read_pixels(save_png(tmp_path / "a.png", GREY)), GREY)


def test_equal_channels_give_the_channel_itself(tmp_path):
    path = save_png(tmp_path / "a.png", np.repeat(GREY[..., None], 3, axis=2))
    assert np.array_equal(cases.read_grey(path), GREY)


def test_colour_is_turned_grey_by_the_luma_of_rec_601(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]]], np.uint8)
    expected = [[76, 150, 29, 226]]  # 0.299, 0.587, 0.114 and 0.886 of 255, rounded
    assert cases.read_grey(save_png(tmp_path / "a.png", colours)).tolist() == expected


def test_transparency_is_left_out(tmp_path):
    rgba = np.dstack([GREY, GREY, GREY, np.zeros_like(GREY)])
    assert np.array_equal(cases.read_grey(save_png(tmp_path / "rgba.png", rgba)), GREY)
    grey_alpha = np.dstack([GREY, np.zeros_like(GREY)])
    assert np.array_equal(cases.read_grey(save_png(tmp_path / "la.png", grey_alpha)), GREY)


def test_a_one_bit_image_reads_as_0_and_255(tmp_path):
    Image.fromarray(GREY > 100).save(tmp_path / "a.png")
    assert cases.read_grey(tmp_path / "a.png").tolist() == [[0, 0, 255], [0, 255, 0]]


def test_an_image_with_a_palette_reads_as_its_colours(tmp_path):
    Image.fromarray(np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8)).quantize(4).save(tmp_path / "a.png")
    assert cases.read_pixels(tmp_path / "a.png").tolist() == [[[255, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize("kind", ["<u2", "<i4", "<f4"])
def test_more_than_8_bits_are_refused_by_name(tmp_path, kind):
    path = tmp_path / "deep.tif"
    Image.fromarray(GREY.astype(kind)).save(path)
    with pytest.raises(ValueError, match=r"deep\.tif: mode .*; expected 8 bits a channel"):
        cases.read_pixels(path)


def test_a_16_bit_png_is_refused_by_name(tmp_path):
    path = save_png(tmp_path / "deep.png", GREY.astype(np.uint16) * 200)
    with pytest.raises(ValueError, match=r"deep\.png: mode I;16, uint16; expected 8 bits a channel"):
        cases.read_grey(path)


@pytest.mark.parametrize("content", [b"", b"this is text", b"\x89PNG\r\n\x1a\n", None])
def test_what_is_no_image_is_refused_by_name(tmp_path, content):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png: cannot be read as an image"):
        cases.read_pixels(path)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(ValueError, match="cannot be read as an image"):
        cases.read_pixels(tmp_path)


def refusal(path):
    """The message with which an image is refused, "" where it is read."""
    try:
        cases.read_pixels(path)
    except ValueError as error:
        return str(error)
    return ""


def test_a_png_cut_anywhere_is_refused_or_has_lost_no_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 15)).astype(np.uint8)
    whole, path = png_bytes(pixels), tmp_path / "cut.png"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        lost_nothing = length > len(whole) - 24  # what follows the last pixel: two checksums and the end mark
        assert str(path) in refusal(path) or (lost_nothing and np.array_equal(cases.read_pixels(path), pixels))


def test_a_png_with_any_byte_changed_raises_nothing_but_value_errors(tmp_path):
    whole, path = png_bytes(np.arange(200, dtype=np.uint8).reshape(10, 20)), tmp_path / "spoilt.png"
    for place in range(len(whole)):
        spoilt = bytearray(whole)
        spoilt[place] ^= 0xFF
        path.write_bytes(bytes(spoilt))
        message = refusal(path)
        assert not message or str(path) in message


# Colours to classes


def test_colours_become_the_classes_of_the_palette():
    pixels = np.array([[[0, 0, 0], [255, 0, 0]], [[0, 255, 0], [255, 0, 0]]], np.uint8)
    decoded = cases.decode_palette(pixels, PALETTE)
    assert decoded.tolist() == [[0, 1], [2, 1]]
    assert decoded.dtype == np.uint8


def test_transparency_does_not_change_a_colour_s_class():
    pixels = np.array([[[255, 0, 0, 0], [0, 255, 0, 255]]], np.uint8)
    assert cases.decode_palette(pixels, PALETTE).tolist() == [[1, 2]]


def test_a_palette_may_give_black_a_class_of_its_own():
    assert cases.decode_palette(np.zeros((1, 2, 3), np.uint8), {(0, 0, 0): 3}).tolist() == [[3, 3]]


def test_each_unknown_colour_is_counted():
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0] = (254, 0, 0)
    pixels[1, 0] = (1, 2, 3)
    with pytest.raises(ValueError, match="unknown colours") as caught:
        cases.decode_palette(pixels, PALETTE)
    assert "(1, 2, 3) in 1 pixels, (254, 0, 0) in 3 pixels" in str(caught.value)
    assert "expected [(0, 0, 0), (0, 255, 0), (255, 0, 0)]" in str(caught.value)


def test_a_grey_mask_has_no_colours():
    with pytest.raises(ValueError, match=r"a mask of shape \(2, 3\); expected colours"):
        cases.decode_palette(GREY, PALETTE)


# The manifest


def test_the_manifest_holds_what_a_case_says():
    case = Case("007_HC", "007", files.ROOT / "data" / "a.png", files.ROOT / "m.png", (0.1, 0.2), "hc1", "", {"hc": 99})
    row = cases.cases_table([case]).iloc[0]
    assert (row["case"], row["subject"], row["image"], row["mask"]) == ("007_HC", "007", "data/a.png", "m.png")
    assert (row["spacing_row_mm"], row["spacing_col_mm"], row["hc_mm"]) == (0.1, 0.2, 99)
    assert np.isnan(row["bpd_mm"])


def test_a_case_without_pixel_size_has_no_spacing_in_the_manifest(tmp_path):
    table = cases.cases_table([Case("a", "a", tmp_path / "a.png", tmp_path / "b.png", None)])
    assert table[["spacing_row_mm", "spacing_col_mm", "hc_mm"]].isna().all(axis=None)


def test_a_file_outside_the_project_keeps_its_whole_path(tmp_path):
    assert cases.relative(tmp_path / "a.png") == (tmp_path / "a.png").as_posix()


def test_the_manifest_comes_back_from_disk_as_it_was_written(tmp_path):
    written = cases.cases_table(
        [Case(f"{n:03d}_HC", f"{n:03d}", tmp_path / "a.png", tmp_path / "b.png", (0.1 * n, 0.1)) for n in range(1, 4)]
    ).assign(fold_group=["001", "001", "003"], height=5, width=6, sha256="ab")
    files.write_csv(tmp_path / "cases.csv", written)
    read = cases.read_cases(tmp_path / "cases.csv")
    pd.testing.assert_frame_equal(read, written, check_exact=True)


def test_a_case_s_hash_changes_with_a_byte_of_image_or_mask(tmp_path):
    image, mask = tmp_path / "image", tmp_path / "mask"
    hashes = set()
    for contents in ((b"a", b"b"), (b"c", b"b"), (b"a", b"d")):
        image.write_bytes(contents[0])
        mask.write_bytes(contents[1])
        hashes.add(cases.content_hash(image, mask))
    assert len(hashes) == 3


def test_findings_are_ordered_by_gravity_then_check_then_case():
    found = [
        Finding("note", "a", "1", "", ""),
        Finding("stop", "z", "2", "", ""),
        Finding("warn", "b", "9", "", ""),
        Finding("stop", "z", "1", "", ""),
    ]
    assert cases.findings_table(found)[["severity", "case"]].values.tolist() == [
        ["stop", "1"],
        ["stop", "2"],
        ["warn", "9"],
        ["note", "1"],
    ]


def test_no_findings_are_an_empty_table_with_columns():
    assert cases.findings_table([]).columns.tolist() == cases.FINDING_COLUMNS


# Fold groups


def test_names_joined_by_pairs_share_the_first_name_of_their_group():
    joined = cases.join_groups("edcba", [("d", "e"), ("b", "d"), ("c", "c")])
    assert joined == {"a": "a", "b": "b", "c": "c", "d": "b", "e": "b"}


def test_groups_do_not_depend_on_the_order_of_pairs():
    pairs = [("a", "b"), ("c", "d"), ("b", "c"), ("e", "f")]
    expected = cases.join_groups("abcdef", pairs)
    assert all(
        cases.join_groups("fedcba", [pairs[i] for i in np.random.default_rng(seed).permutation(4)]) == expected
        for seed in range(10)
    )


# Folds


@pytest.mark.parametrize("seed", range(5))
def test_no_subject_is_in_two_folds_and_every_case_is_in_one(seed):
    table = groups_table(np.random.default_rng(seed).integers(1, 5, 40), strata=4, seed=seed)
    folds = cases.assign_folds(table, 5, seed)
    cases.check_disjoint(folds)
    assert folds["case"].tolist() == table["case"].tolist()
    assert sorted(folds["fold"].unique()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_each_stratum_is_spread_evenly_up_to_its_largest_group(seed):
    table = groups_table(np.random.default_rng(seed).integers(1, 4, 60), strata=3, seed=seed)
    folds = cases.assign_folds(table, 5, seed).merge(table)
    counts = folds.groupby(["stratum", "fold"]).size().unstack(fill_value=0)
    largest = table.groupby(["stratum", "fold_group"]).size().groupby("stratum").max()
    assert (counts.max(axis=1) - counts.min(axis=1) <= largest).all()


def test_groups_of_one_case_and_one_stratum_fill_folds_equally():
    folds = cases.assign_folds(groups_table([1] * 20), 5, seed=1)
    assert folds["fold"].value_counts().tolist() == [4] * 5


def test_folds_are_the_same_for_the_same_seed_and_others_for_another():
    table = groups_table([1, 2] * 20, strata=3)
    same, again, other = (cases.assign_folds(table, 5, seed)["fold"].tolist() for seed in (1, 1, 2))
    assert same == again
    assert same != other


def test_folds_do_not_depend_on_the_order_of_rows():
    table = groups_table(np.random.default_rng(0).integers(1, 4, 40), strata=3)
    table["stratum"] = np.random.default_rng(1).permutation(table["stratum"])  # groups of several strata too
    expected = cases.assign_folds(table, 5, seed=3).set_index("case")["fold"]
    for seed in range(5):
        shuffled = table.sample(frac=1, random_state=seed)
        folds = cases.assign_folds(shuffled, 5, seed=3)
        assert folds["case"].tolist() == shuffled["case"].tolist()
        assert folds.set_index("case")["fold"].loc[expected.index].equals(expected)


def test_subjects_of_one_group_stay_in_one_fold():
    table = groups_table([1] * 12).assign(fold_group=[f"{n // 2:03d}" for n in range(12)])
    assert cases.assign_folds(table, 3, seed=0).groupby("fold_group")["fold"].nunique().eq(1).all()


def test_fewer_groups_than_folds_are_refused():
    with pytest.raises(ValueError, match="2 fold groups cannot fill 3 folds"):
        cases.assign_folds(groups_table([3, 3]), 3, seed=0)


def test_a_subject_in_two_folds_is_named_with_its_cases():
    folds = folds_table({"010_HC": ("010", 0), "010_2HC": ("010", 2), "011_HC": ("011", 1)})
    with pytest.raises(ValueError, match="subject 010 is in two folds: 010_HC in fold 0, 010_2HC in fold 2; expected"):
        cases.check_disjoint(folds)


def test_a_fold_group_in_two_folds_is_named_with_its_cases():
    folds = folds_table({"a": ("1", 0), "b": ("2", 1)}).assign(fold_group="1")
    with pytest.raises(ValueError, match="fold_group 1 is in two folds: a in fold 0, b in fold 1"):
        cases.check_disjoint(folds)


# Parts


@pytest.mark.parametrize(("fold", "validation"), [(0, 1), (1, 2), (3, 0)])
def test_the_next_fold_validates(fold, validation):
    folds = folds_table({f"c{n}": (f"s{n}", n) for n in range(4)})
    parts = cases.parts(folds, fold)
    assert parts["test"] == [f"c{fold}"]
    assert parts["validation"] == [f"c{validation}"]
    assert sorted(functools.reduce(operator.iadd, parts.values(), [])) == ["c0", "c1", "c2", "c3"]


def test_each_case_is_tested_once_over_all_folds():
    folds = cases.assign_folds(groups_table([1, 2, 3] * 5), 5, seed=0)
    tested = [case for fold in range(5) for case in cases.parts(folds, fold)["test"]]
    assert sorted(tested) == sorted(folds["case"])


@pytest.mark.parametrize("fold", [-1, 4])
def test_a_fold_that_does_not_exist_is_refused(fold):
    folds = folds_table({f"c{n}": (f"s{n}", n) for n in range(4)})
    with pytest.raises(ValueError, match=f"fold {fold} does not exist; expected 0 to 3"):
        cases.parts(folds, fold)


def test_parts_refuse_folds_that_share_a_subject():
    folds = folds_table({"a": ("1", 0), "b": ("1", 1), "c": ("2", 2)})
    with pytest.raises(ValueError, match="subject 1 is in two folds"):
        cases.parts(folds, 0)
