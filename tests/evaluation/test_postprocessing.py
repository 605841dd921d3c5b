"""Each step on masks typed out, as text: a dot is background, 1 the outer class, 2 and 3 structures in it."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from lib.evaluation import postprocessing
from lib.imaging import connected_parts
from lib.study import params
from tests.builders import typed

SPOTS = """
    111.1
    121..
    211.2
    ....2
"""
HEAD = """
    ...........
    ..1111111..
    .111111111.
    .122111331.
    .122111331.
    .111121111.
    .113111111.
    ..1111111..
    ...........
"""


KEYS = {
    "closing_pixels": 9,
    "dilation_pixels": 5,
    "minimum_area_mm2": 1.0,
    "parts_kept": 2,
    "minimum_probability": 0.5,
    "minimum_margin": 0.05,
}


def certain(mask, classes=4):
    """Probabilities that are all or nothing."""
    return np.moveaxis(np.eye(classes, dtype=np.float32)[mask], -1, 0)


def applied(mask, *names, classes=4, shown=None, pixel_mm2=None, **keys):
    """What steps make of a mask, of probabilities that are all or nothing where none are given."""
    shown = certain(mask, classes) if shown is None else shown
    return postprocessing.apply(mask, shown, pixel_mm2, postprocessing.describe(names, KEYS | keys))


def stepped(step, mask, classes=4, shown=None, pixel_mm2=None, **keys):
    """What one step makes of a mask, in the whole frame."""
    shown = certain(mask, classes) if shown is None else shown
    (described,) = postprocessing.describe([step], KEYS | keys)
    return postprocessing.apply_step(mask, shown, pixel_mm2, described)


def after(step, text, classes=4, pixel_mm2=None, **keys):
    """What one step makes of a mask of text."""
    return stepped(step, typed(text), classes, pixel_mm2=pixel_mm2, **keys)


def assert_is(found, text):
    assert found.dtype == np.uint8
    assert found.tolist() == typed(text).tolist()


# The largest component, holes


def test_what_lies_apart_from_the_head_goes_and_both_parts_of_a_structure_in_it_stay():
    found = after("largest_component", SPOTS)
    assert_is(found, "111.. 121.. 211.. .....")


def test_parts_that_meet_at_a_corner_are_one():
    text = "11... 11... ..2.. ...1. ....."
    assert_is(after("largest_component", text), text)


def test_an_enclosed_hole_becomes_the_first_class():
    assert_is(after("fill_holes", "..... .111. .1.2. .111."), "..... .111. .112. .111.")


def test_a_bay_is_no_hole():
    bay = "..... .1.1. .1.2. .111."
    assert_is(after("fill_holes", bay), bay)


def test_a_hole_in_a_structure_becomes_the_first_class_too():
    assert_is(after("fill_holes", "11111 12221 12.21 12221 11111"), "11111 12221 12121 12221 11111")


# Closing cracks


def test_a_crack_in_the_outer_class_is_closed():
    assert_is(after("close_outer", "1111 1.11 1111 1111", closing_pixels=3), "1111 1111 1111 1111")


def test_closing_never_takes_a_structure_s_pixels():
    text = "1111111 1112111 1122311 1111.11 1111111"
    assert_is(after("close_outer", text, closing_pixels=7), text.replace(".", "1"))


@pytest.mark.parametrize("seed", range(5))
def test_closing_changes_nothing_but_background_and_into_nothing_but_the_outer_class(seed):
    mask = np.random.default_rng(seed).integers(0, 4, (40, 50)).astype(np.uint8)
    found = postprocessing.close_outer(mask, side_px=5)
    assert np.array_equal(found[mask > 0], mask[mask > 0])
    assert set(np.unique(found[mask == 0])) == {0, 1}


def test_a_wide_gap_is_not_closed_by_a_small_kernel():
    text = "....... 11...11 11...11 11...11 ......."
    assert_is(after("close_outer", text, closing_pixels=3), text)
    assert_is(after("close_outer", text, closing_pixels=5), "....... 1111111 1111111 1111111 .......")


@pytest.mark.parametrize("side", [1, 3, 5, 7])
def test_closing_leaves_a_single_pixel_where_it_is(side):
    text = "....... ....... ....... ...1... ....... ....... ......."
    assert_is(after("close_outer", text, closing_pixels=side), text)


def test_closing_at_the_frame_does_not_grow_into_it():
    text = "..111 ..111 ..111 ....."  # two pixels from the left: a kernel of 5 reaches over the frame
    assert_is(after("close_outer", text, closing_pixels=5), text)
    assert_is(after("close_outer", "..1.1 ..111 ..1.1", closing_pixels=3), "..111 ..111 ..111")


# Structures outside the head


def test_a_structure_outside_the_head_is_dropped_and_one_inside_stays():
    found = after("inside_outer", "......3 .111... .121... .111..2 .....2.", dilation_pixels=1)
    assert_is(found, "....... .111... .121... .111... .......")


@pytest.mark.parametrize(("side", "row"), [(1, "..11...."), (3, ".2112..."), (5, "221122..")], ids=str)
def test_the_head_is_dilated_by_half_the_kernel_on_every_side(side, row):
    assert_is(after("inside_outer", "22112222", dilation_pixels=side), row)


def test_a_structure_that_the_head_encloses_is_inside_however_large():
    text = "1111111 1222221 1222221 1222221 1111111"
    assert_is(after("inside_outer", text, dilation_pixels=1), text)


def test_without_a_head_no_structure_is_inside():
    assert_is(after("inside_outer", "..2.. .333.", dilation_pixels=99), "..... .....")


# Small parts


def test_parts_below_an_area_in_mm2_are_dropped_by_the_size_of_a_pixel():
    # parts: 4 pixels and 1 of class 2, 4 and 1 of class 3
    assert_is(after("minimum_area", HEAD, pixel_mm2=0.5, minimum_area_mm2=0.5), HEAD)
    without_singles = HEAD.replace(".111121111.", ".111111111.").replace(".113111111.", ".111111111.")
    assert_is(after("minimum_area", HEAD, pixel_mm2=0.5, minimum_area_mm2=0.6), without_singles)
    assert_is(after("minimum_area", HEAD, pixel_mm2=0.5, minimum_area_mm2=2.0), without_singles)
    assert_is(
        after("minimum_area", HEAD, pixel_mm2=0.5, minimum_area_mm2=2.1), HEAD.replace("2", "1").replace("3", "1")
    )


def test_without_a_pixel_size_no_part_is_too_small():
    assert_is(after("minimum_area", HEAD, pixel_mm2=None, minimum_area_mm2=1e6), HEAD)


def test_the_outer_class_has_no_least_area():
    text = "11... ....1"
    assert_is(after("minimum_area", text, pixel_mm2=1.0, minimum_area_mm2=100.0), text)


def test_of_one_class_alone_small_parts_become_background():
    found = after("minimum_area", "111.. 111.1 ..... 1....", classes=2, pixel_mm2=1.0, minimum_area_mm2=2.0)
    assert_is(found, "111.. 111.. ..... .....")


# Too many parts


@pytest.mark.parametrize(
    ("count", "dropped"), [(1, "abd"), (2, "ab"), (3, "a"), (4, "")], ids=["one", "two", "three", "four"]
)
def test_the_largest_parts_are_kept_not_the_first(count, dropped):
    # in reading order parts of 1, 2, 6 and 3 pixels
    text = "1111111111 1a11bb1111 1111111111 1ccc111111 1ccc11ddd1 1111111111"
    given, expected = text, text
    for part in "abcd":
        given = given.replace(part, "2")
        expected = expected.replace(part, "1" if part in dropped else "2")
    assert_is(after("largest_parts", given, parts_kept=count), expected)


def test_each_class_keeps_its_own_parts():
    found = after("largest_parts", HEAD, parts_kept=1)
    assert_is(found, HEAD.replace(".111121111.", ".111111111.").replace(".113111111.", ".111111111."))


def test_parts_that_meet_at_a_corner_count_as_one():
    text = "111111 121111 112111 111121 111111"
    assert_is(after("largest_parts", text, parts_kept=1), "111111 121111 112111 111111 111111")


def test_of_one_class_alone_its_own_parts_are_counted():
    assert_is(after("largest_parts", "1.11.111", classes=2, parts_kept=2), "..11.111")


@pytest.mark.parametrize("seed", range(10))
def test_the_parts_that_are_kept_are_the_largest_of_scipy_s(seed):
    mask = np.where(np.random.default_rng(seed).random((30, 40)) < 0.3, 2, 1).astype(np.uint8)
    parts, count = ndimage.label(mask == 2, np.ones((3, 3)))
    sizes = ndimage.sum_labels(mask == 2, parts, np.arange(1, count + 1))
    found = postprocessing.largest_parts(mask, count=3, class_count=4) == 2
    kept, left = ndimage.label(found, np.ones((3, 3)))
    assert left == 3
    assert sorted(ndimage.sum_labels(found, kept, [1, 2, 3])) == sorted(sizes)[-3:]


# Doubtful parts


def doubtful():
    """A head with two parts of class 2: the left of mean probability 0.6, lead 0.3; the right of 0.5, lead 0.15."""
    mask = typed("1111111 1221221 1111111")
    shown = np.zeros((4, *mask.shape), np.float32)
    shown[1] = 1
    left, right = (slice(1, 2), slice(1, 3)), (slice(1, 2), slice(4, 6))
    shown[(slice(None), *left)] = np.array([[0.05, 0.05], [0.35, 0.25], [0.5, 0.7], [0.1, 0.0]])[:, None]
    shown[(slice(None), *right)] = np.array([[0.0, 0.0], [0.3, 0.1], [0.5, 0.5], [0.2, 0.4]])[:, None]
    return mask, shown


@pytest.mark.parametrize(
    ("probability", "margin", "kept"),
    [
        (0.0, 0.0, "1221221"),
        (0.49, 0.0, "1221221"),
        (0.55, 0.0, "1221111"),
        (0.65, 0.0, "1111111"),
        (0.0, 0.14, "1221221"),
        (0.0, 0.2, "1221111"),
        (0.0, 0.35, "1111111"),
        (0.55, 0.35, "1111111"),
    ],
)
def test_parts_of_low_mean_probability_or_lead_are_dropped(probability, margin, kept):
    assert_is(postprocessing.confident_parts(*doubtful(), probability, margin), f"1111111 {kept} 1111111")


def test_with_two_classes_the_lead_is_that_over_background():
    mask = typed("11..1")
    foreground = np.array([[0.9, 0.7, 0.1, 0.2, 0.55]], np.float32)  # leads of the parts: 0.6 and 0.1
    shown = np.stack([1 - foreground, foreground])
    assert_is(postprocessing.confident_parts(mask, shown, 0.5, 0.05), "11..1")
    assert_is(postprocessing.confident_parts(mask, shown, 0.5, 0.2), "11...")
    assert_is(postprocessing.confident_parts(mask, shown, 0.6, 0.0), "11...")


# What a dropped part becomes


DROPPING = {
    "minimum_area": {"minimum_area_mm2": 100.0},
    "largest_parts": {"parts_kept": 1},
    "confident_parts": {"minimum_probability": 1.0},
}


def test_a_part_dropped_in_the_head_becomes_the_outer_class_and_one_outside_it_background():
    text = "1111..2 1211... 1111... .....2."
    assert_is(after("minimum_area", text, pixel_mm2=1.0, minimum_area_mm2=2.0), "1111... 1111... 1111... .......")


def test_a_part_that_lies_open_to_the_outside_becomes_background():
    assert_is(after("minimum_area", "11111 11111 11.22", pixel_mm2=1.0, minimum_area_mm2=3.0), "11111 11111 11...")


def test_a_part_dropped_inside_another_structure_becomes_the_outer_class():
    text = "111111 133331 132331 133331 111111"
    found = after("minimum_area", text, pixel_mm2=1.0, minimum_area_mm2=2.0)
    assert_is(found, text.replace("2", "1"))


@pytest.mark.parametrize("step", sorted(DROPPING))
@pytest.mark.parametrize("seed", range(3))
def test_dropping_makes_no_hole_and_adds_no_structure(step, seed):
    mask = typed(HEAD).repeat(4, axis=0).repeat(4, axis=1)
    draw = np.random.default_rng(seed)
    spots = draw.random(mask.shape) < 0.1
    mask[spots & (mask > 0)] = draw.integers(1, 4, (spots & (mask > 0)).sum())
    shown = draw.dirichlet(np.ones(4), mask.shape).transpose(2, 0, 1).astype(np.float32)
    found = stepped(step, mask, shown=shown, pixel_mm2=1.0, **DROPPING[step])
    changed = found != mask
    assert changed.any()
    enclosed = connected_parts.fill_holes(mask == 1)
    assert (found[changed] == enclosed[changed]).all()


# All together


def test_steps_are_done_in_order():
    mask = np.zeros((9, 9), np.uint8)
    mask[1:8, 1:8] = 1
    mask[2:7, 2:7] = 0
    mask[4, 4] = 1
    first_filled = applied(mask, "fill_holes", "largest_component", classes=2)
    assert first_filled.sum() == 49
    assert np.array_equal(applied(mask, "largest_component", "fill_holes", classes=2), first_filled)
    assert applied(mask, "largest_component", classes=2).sum() == 24


def test_the_order_of_two_steps_matters_where_it_must():
    # parts of 3 and 2 pixels, the larger outside the head: counted first, it takes the place of the one inside
    mask, keys = typed("11111.222 12211.... 11111...."), {"parts_kept": 1, "dilation_pixels": 1}
    assert_is(applied(mask, "inside_outer", "largest_parts", **keys), "11111.... 12211.... 11111....")
    assert_is(applied(mask, "largest_parts", "inside_outer", **keys), "11111.... 11111.... 11111....")


def test_a_step_named_twice_is_done_twice():
    mask = typed("1111111 11.1121 1111111 ......2")
    found = applied(mask, "largest_component", "fill_holes", "largest_component")
    assert_is(found, "1111111 1111121 1111111 ......2")


def test_no_steps_leave_the_mask_as_it_is():
    assert_is(applied(typed(SPOTS)), SPOTS)


def blobs(seed, shape=(60, 80)):
    """A random mask of smooth blobs of four classes with its probabilities; blobs may touch the frame."""
    noise = np.random.default_rng(seed).normal(size=(4, *shape)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(channel, (0, 0), 3) for channel in noise]) * 20
    smooth[0] += 0.5
    shown = np.exp(smooth) / np.exp(smooth).sum(axis=0)
    return shown.astype(np.float32)


ALL_STEPS = sorted(postprocessing.KEYS)


@pytest.mark.parametrize("margin", [0, 3, 25], ids=lambda pixels: f"{pixels} px around")
@pytest.mark.parametrize("seed", range(8))
def test_working_in_a_window_gives_what_the_whole_frame_gives(seed, margin):
    shown = np.pad(blobs(seed), ((0, 0), (margin, margin), (margin, margin)))
    shown[0] += shown.sum(axis=0) == 0
    draw = np.random.default_rng(seed)
    steps = [ALL_STEPS[place] for place in draw.permutation(len(ALL_STEPS))]
    keys = {"closing_pixels": int(draw.choice([1, 3, 9, 21])), "dilation_pixels": int(draw.choice([1, 5, 15]))}
    keys |= {"minimum_area_mm2": 12.0, "parts_kept": 3, "minimum_probability": 0.4, "minimum_margin": 0.05}
    given = np.argmax(shown, axis=0).astype(np.uint8)
    mask = given
    for step in steps:
        mask = stepped(step, mask, shown=shown, pixel_mm2=0.25, **keys)
    assert not np.array_equal(mask, given)
    assert np.array_equal(applied(given, *steps, shown=shown, pixel_mm2=0.25, **keys), mask)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("step", ALL_STEPS)
def test_a_step_keeps_its_input_and_the_type(step, classes):
    mask = np.minimum(typed(SPOTS), classes - 1)
    shown = certain(mask, classes)
    before = mask.copy(), shown.copy()
    found = stepped(step, mask, shown=shown, pixel_mm2=0.5, parts_kept=1)
    assert found.dtype == np.uint8
    assert found.shape == mask.shape
    assert np.array_equal(mask, before[0])
    assert np.array_equal(shown, before[1])


@pytest.mark.parametrize("step", ALL_STEPS)
@pytest.mark.parametrize("seed", range(3))
def test_a_step_done_twice_changes_nothing_more(step, seed):
    shown = blobs(seed)
    how = {"shown": shown, "pixel_mm2": 0.25, "closing_pixels": 5, "parts_kept": 1, "minimum_area_mm2": 10.0}
    once = stepped(step, np.argmax(shown, axis=0).astype(np.uint8), **how)
    assert np.array_equal(stepped(step, once, **how), once)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("step", ALL_STEPS)
def test_an_empty_mask_stays_empty(step, classes):
    mask = np.zeros((5, 6), np.uint8)
    assert not stepped(step, mask, classes, pixel_mm2=1.0).any()
    assert applied(mask, step, classes=classes, pixel_mm2=1.0).shape == (5, 6)


# Volumes


def stacked(*slices):
    """A volume of slices of text."""
    return np.stack([typed(text) for text in slices])


BESIDE = stacked("11.... ...... ......", "...... ..1... ......", "...... ...1.. 1....1", "...... ...... 1....1")


def test_parts_of_a_volume_that_meet_at_an_edge_or_a_corner_are_one():
    found = applied(BESIDE, "largest_component", classes=2)
    # The two pixels of the first slice meet that of the second at a corner, this one that of the third likewise;
    # the two columns below are parts of two voxels each.
    expected = stacked("11.... ...... ......", "...... ..1... ......", "...... ...1.. ......", "...... ...... ......")
    assert np.array_equal(found, expected)
    assert found.dtype == np.uint8


def test_slice_by_slice_another_part_would_be_kept():
    volume = stacked("111.. ..... .....", "1.... ..... ...11", "1.... ..... ...11", "1.... ..... .....")
    found = applied(volume, "largest_component", classes=2)
    assert np.array_equal(found, np.where(np.arange(5) < 3, volume, 0))  # 6 voxels against 4
    assert found[1].sum() == 1  # of this slice alone the other part is the larger


def test_the_largest_part_of_a_volume_keeps_all_its_classes():
    volume = stacked("12... ....1", "1.... ....1", "3.... .....")
    found = postprocessing.largest_component(volume)
    assert np.array_equal(found, stacked("12... .....", "1.... .....", "3.... ....."))


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_part_of_a_volume_is_the_one_that_counting_neighbours_finds(seed):
    mask = (np.random.default_rng(seed).random((8, 12, 14)) < 0.07).astype(np.uint8)
    found = applied(mask, "largest_component", classes=2)
    sizes, largest = [], set()
    left = set(map(tuple, np.argwhere(mask)))
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            voxel = edge.pop()
            part.add(voxel)
            near = [other for other in left if max(abs(a - b) for a, b in zip(voxel, other)) <= 1]
            left -= set(near)
            edge += near
        largest = max(largest, part, key=len)
        sizes.append(len(part))
    assert found.sum() == max(sizes)
    if sizes.count(max(sizes)) == 1:
        assert set(map(tuple, np.argwhere(found))) == largest


def test_a_volume_is_left_as_it_is_without_steps_and_without_foreground():
    assert np.array_equal(applied(BESIDE, classes=2), BESIDE)
    empty = np.zeros((3, 4, 5), np.uint8)
    assert np.array_equal(applied(empty, "largest_component", classes=2), empty)


def test_the_steps_are_those_that_a_study_file_may_name():
    key = params.Study.model_fields["postprocessing"]
    assert all(step in key.description for step in postprocessing.KEYS)
    assert params.innermost(key.annotation) == set(postprocessing.KEYS)
    assert {key for keys in postprocessing.KEYS.values() for key in keys} == set(KEYS)
    assert set(KEYS) <= set(params.EvaluationParams.model_fields)


def test_steps_are_described_in_order_each_with_the_keys_that_it_uses():
    assert postprocessing.describe(["fill_holes", "confident_parts"], KEYS | {"minimum_margin": 0.1}) == [
        {"step": "fill_holes"},
        {"step": "confident_parts", "minimum_probability": 0.5, "minimum_margin": 0.1},
    ]


def test_a_step_that_there_is_not_is_refused_with_those_there_are():
    said = r"step = 'largest_components'   not known; allowed: largest_component, fill_holes, close_outer"
    with pytest.raises(ValueError, match=said):
        postprocessing.apply(BESIDE, certain(BESIDE, 2), None, [{"step": "largest_components"}])
