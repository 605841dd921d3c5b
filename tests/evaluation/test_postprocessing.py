"""Post-processing steps on masks typed as text: a dot is background, 1 the outer class, 2 and 3 structures in it."""

import cv2
import numpy as np
import pytest
from scipy import ndimage
from skimage import measure

from lib.evaluation import postprocessing
from lib.imaging import connected_parts
from lib.study import param_faults, params
from tests.builders import typed

SPOTS = "111.1 121.. 211.2 ....2"
HEAD = "........... ..1111111.. .111111111. .122111331. .122111331. .111121111. .113111111. ..1111111.. ..........."
WITHOUT_SINGLES = HEAD.replace(".111121111.", ".111111111.").replace(".113111111.", ".111111111.")
HEAD_ALONE = HEAD.replace("2", "1").replace("3", "1")
BAY, GAP = "..... .1.1. .1.2. .111.", "....... 11...11 11...11 11...11 ......."
CORNERS, PIXEL = "11... 11... ..2.. ...1. .....", "....... ....... ....... ...1... ....... ....... ......."
CRACKED = "1111111 1112111 1122311 1111.11 1111111"
AT_FRAME = "..111 ..111 ..111 ....."  # two pixels from the left: a kernel of 5 reaches beyond the frame
ENCLOSED = "1111111 1222221 1222221 1222221 1111111"
IN_ANOTHER = "111111 133331 132331 133331 111111"
KEYS = {"closing_pixels": 9, "dilation_pixels": 5, "minimum_area_mm2": 1.0, "parts_kept": 2}
KEYS |= {"minimum_probability": 0.5, "minimum_margin": 0.05}
CLOSE, DILATE, AREA, COUNT = "closing_pixels", "dilation_pixels", "minimum_area_mm2", "parts_kept"
ALL_STEPS = sorted(postprocessing.KEYS)


def one_hot(mask, classes=4):
    return np.moveaxis(np.eye(classes, dtype=np.float32)[mask], -1, 0)


def applied(mask, *names, classes=4, probability=None, pixel_mm2=None, **keys):
    """The mask after several steps; its one-hot probabilities are the default."""
    probability = one_hot(mask, classes) if probability is None else probability
    return postprocessing.apply(mask, probability, pixel_mm2, postprocessing.describe(names, KEYS | keys))


def stepped(step, mask, classes=4, probability=None, pixel_mm2=None, **keys):
    """The mask after one step, computed on the whole frame."""
    probability = one_hot(mask, classes) if probability is None else probability
    (described,) = postprocessing.describe([step], KEYS | keys)
    return postprocessing.apply_step(mask, probability, pixel_mm2, described)


def assert_is(mask, text):
    assert mask.dtype == np.uint8
    assert mask.tolist() == typed(text).tolist()


def parts(kept):
    """Parts "a" to "d" of class 2 with 1, 2, 6 and 3 pixels in reading order; those not kept are 1."""
    text = "1111111111 1a11bb1111 1111111111 1ccc111111 1ccc11ddd1 1111111111"
    return text.translate({ord(part): "2" if part in kept else "1" for part in "abcd"})


@pytest.mark.parametrize(
    ("step", "keys", "text", "expected"),
    [
        # separate parts are removed; both parts of a structure stay, parts that touch at a corner are one
        ("largest_component", {}, SPOTS, "111.. 121.. 211.. ....."),
        ("largest_component", {}, CORNERS, CORNERS),
        ("fill_holes", {}, "..... .111. .1.2. .111.", "..... .111. .112. .111."),
        ("fill_holes", {}, BAY, BAY),
        ("fill_holes", {}, "11111 12221 12.21 12221 11111", "11111 12221 12121 12221 11111"),
        # gaps up to the size of the kernel are closed, in the background only, and not towards the frame
        ("close_outer", {CLOSE: 3}, "1111 1.11 1111 1111", "1111 1111 1111 1111"),
        ("close_outer", {CLOSE: 7}, CRACKED, CRACKED.replace(".", "1")),
        ("close_outer", {CLOSE: 3}, GAP, GAP),
        ("close_outer", {CLOSE: 5}, GAP, "....... 1111111 1111111 1111111 ......."),
        ("close_outer", {CLOSE: 1}, PIXEL, PIXEL),
        ("close_outer", {CLOSE: 3}, PIXEL, PIXEL),
        ("close_outer", {CLOSE: 7}, PIXEL, PIXEL),
        ("close_outer", {CLOSE: 5}, AT_FRAME, AT_FRAME),
        ("close_outer", {CLOSE: 3}, "..1.1 ..111 ..1.1", "..111 ..111 ..111"),
        # the head is dilated by half the kernel on every side; enclosed structures of any size are inside
        ("inside_outer", {DILATE: 1}, "....3 111.. 121.. 111.2 ...2.", "..... 111.. 121.. 111.. ....."),
        ("inside_outer", {DILATE: 1}, "22112222", "..11...."),
        ("inside_outer", {DILATE: 3}, "22112222", ".2112..."),
        ("inside_outer", {DILATE: 5}, "22112222", "221122.."),
        ("inside_outer", {DILATE: 1}, ENCLOSED, ENCLOSED),
        ("inside_outer", {DILATE: 99}, "..2.. .333.", "..... ....."),
        # parts of 4 pixels and 1 of class 2, 4 and 1 of class 3; the outer class has no minimum area
        ("minimum_area", {"pixel_mm2": 0.5, AREA: 0.5}, HEAD, HEAD),
        ("minimum_area", {"pixel_mm2": 0.5, AREA: 0.6}, HEAD, WITHOUT_SINGLES),
        ("minimum_area", {"pixel_mm2": 0.5, AREA: 2.0}, HEAD, WITHOUT_SINGLES),
        ("minimum_area", {"pixel_mm2": 0.5, AREA: 2.1}, HEAD, HEAD_ALONE),
        ("minimum_area", {"pixel_mm2": None, AREA: 1e6}, HEAD, HEAD),
        ("minimum_area", {"pixel_mm2": 1.0, AREA: 100.0}, "11... ....1", "11... ....1"),
        ("minimum_area", {"classes": 3, "pixel_mm2": 1.0, AREA: 2.0}, "111 121 111 ... ..1", "111 111 111 ... ..1"),
        ("minimum_area", {"classes": 2, "pixel_mm2": 1.0, AREA: 2.0}, "11.1 .... 1...", "11.. .... ...."),
        ("minimum_area", {"pixel_mm2": 1.0, AREA: 2.0}, "111 1.1 111", "111 1.1 111"),
        # a removed part becomes the outer class where that encloses it, even inside another structure, else background
        ("minimum_area", {"pixel_mm2": 1.0, AREA: 2.0}, "111..2 121... 111... ....2.", "111... 111... 111... ......"),
        ("minimum_area", {"pixel_mm2": 1.0, AREA: 3.0}, "11111 11111 11.22", "11111 11111 11..."),
        ("minimum_area", {"pixel_mm2": 1.0, AREA: 2.0}, IN_ANOTHER, IN_ANOTHER.replace("2", "1")),
        # each class keeps its largest parts; parts that touch at a corner are one; also with a single class
        ("largest_parts", {COUNT: 1}, HEAD, WITHOUT_SINGLES),
        ("largest_parts", {COUNT: 1}, "111111 121111 112111 111121 111111", "111111 121111 112111 111111 111111"),
        ("largest_parts", {"classes": 2, COUNT: 2}, "1.11.111", "..11.111"),
        *(("largest_parts", {COUNT: len(kept)}, parts("abcd"), parts(kept)) for kept in ("c", "cd", "bcd", "abcd")),
    ],
)
def test_a_step_turns_a_typed_mask_into_the_typed_result(step, keys, text, expected):
    assert_is(stepped(step, typed(text), **keys), expected)


@pytest.mark.parametrize("seed", range(5))
def test_closing_changes_only_background_and_the_largest_parts_are_those_of_scipy(seed):
    mask = np.random.default_rng(seed).integers(0, 4, (40, 50)).astype(np.uint8)
    closed = postprocessing.close_outer(mask, side_px=5)
    assert np.array_equal(closed[mask > 0], mask[mask > 0])
    assert set(np.unique(closed[mask == 0])) == {0, 1}
    mask = np.where(np.random.default_rng(seed).random((30, 40)) < 0.3, 2, 1).astype(np.uint8)
    largest = postprocessing.largest_parts(mask, count=3, class_count=4)
    areas = [np.bincount(ndimage.label(each == 2, np.ones((3, 3)))[0].ravel())[1:] for each in (mask, largest)]
    assert sorted(areas[1]) == sorted(areas[0])[-3:]


@pytest.mark.parametrize(
    ("minimum_probability", "minimum_margin", "kept"),
    [
        *((limit, 0.0, kept) for limit, kept in ((0.0, "1221221"), (0.5, "1221221"), (0.55, "1221111"))),
        *((0.0, limit, kept) for limit, kept in ((0.14, "1221221"), (0.2, "1221111"), (0.35, "1111111"))),
        (0.65, 0.0, "1111111"),
    ],
)
def test_parts_of_low_mean_probability_or_margin_are_removed(minimum_probability, minimum_margin, kept):
    # two parts of class 2: the left of mean probability 0.6, margin 0.3; the right of 0.5, margin 0.15
    mask = typed("1111111 1221221 1111111")
    probability = np.zeros((4, *mask.shape), np.float32)
    probability[1] = 1
    probability[:, 1, 1:3] = np.array([[0.05, 0.05], [0.35, 0.25], [0.5, 0.7], [0.1, 0.0]])
    probability[:, 1, 4:6] = np.array([[0.0, 0.0], [0.3, 0.1], [0.5, 0.5], [0.2, 0.4]])
    result = postprocessing.confident_parts(mask, probability, minimum_probability, minimum_margin)
    assert_is(result, f"1111111 {kept} 1111111")


def test_with_two_classes_the_margin_is_that_over_background_and_a_part_exactly_at_a_limit_stays():
    foreground = np.array([[0.875, 0.625, 0.125, 0.25, 0.5625]], np.float32)
    probability = np.stack([1 - foreground, foreground])  # of the parts 0.75 and 0.5625, their margins 0.5 and 0.125
    kept = {(0.5, 0.05): "11..1", (0.5, 0.125): "11..1", (0.5, 0.126): "11...", (0.6, 0.0): "11..."}
    for limits, text in (kept | {(0.75, 0.5): "11...", (0.76, 0.5): ".....", (0.75, 0.51): "....."}).items():
        assert_is(postprocessing.confident_parts(typed("11..1"), probability, *limits), text)


@pytest.mark.parametrize("step", ["minimum_area", "largest_parts", "confident_parts"])
@pytest.mark.parametrize("seed", range(3))
def test_removing_parts_leaves_no_hole_and_adds_no_structure(step, seed):
    keys = {"minimum_area_mm2": 100.0, "parts_kept": 1, "minimum_probability": 1.0}
    mask = typed(HEAD).repeat(4, axis=0).repeat(4, axis=1)
    draw = np.random.default_rng(seed)
    spots = draw.random(mask.shape) < 0.1
    mask[spots & (mask > 0)] = draw.integers(1, 4, (spots & (mask > 0)).sum())
    probability = draw.dirichlet(np.ones(4), mask.shape).transpose(2, 0, 1).astype(np.float32)
    result = stepped(step, mask, probability=probability, pixel_mm2=1.0, **keys)
    changed = result != mask
    assert changed.any()
    assert (result[changed] == connected_parts.fill_holes(mask == 1)[changed]).all()


@pytest.mark.parametrize(
    ("steps", "text", "expected"),
    [
        ([], SPOTS, SPOTS),
        # a step listed twice is applied twice
        (["largest_component", "fill_holes"] * 2, "1111 1.21 1111 .... ...2", "1111 1121 1111 .... ...."),
        (["largest_component"], "111111 1....1 1.11.1 1....1 111111", "111111 1....1 1....1 1....1 111111"),
        (["fill_holes", "largest_component"], "1111 1..1 1..1 1111", "1111 1111 1111 1111"),
        # parts of 3 and 2 pixels, the larger outside the head: if counted first, the one inside is removed
        (["inside_outer", "largest_parts"], "11111.222 12211.... 11111....", "11111.... 12211.... 11111...."),
        (["largest_parts", "inside_outer"], "11111.222 12211.... 11111....", "11111.... 11111.... 11111...."),
    ],
)
def test_steps_are_applied_in_order(steps, text, expected):
    assert_is(applied(typed(text), *steps, parts_kept=1, dilation_pixels=1), expected)


def blobs(seed, shape=(60, 80)):
    """Probabilities of smooth blobs of four classes; blobs may touch the frame."""
    noise = np.random.default_rng(seed).normal(size=(4, *shape)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(channel, (0, 0), 3) for channel in noise]) * 20
    smooth[0] += 0.5
    return (np.exp(smooth) / np.exp(smooth).sum(axis=0)).astype(np.float32)


@pytest.mark.parametrize("margin", [0, 3, 25])
@pytest.mark.parametrize("seed", range(6))
def test_results_in_the_bounding_box_are_those_in_the_whole_frame(seed, margin):
    probability = np.pad(blobs(seed), ((0, 0), (margin, margin), (margin, margin)))
    probability[0] += probability.sum(axis=0) == 0
    draw = np.random.default_rng(seed)
    steps = [ALL_STEPS[place] for place in draw.permutation(len(ALL_STEPS))]
    keys = {"closing_pixels": int(draw.choice([1, 3, 9, 21])), "dilation_pixels": int(draw.choice([1, 5, 15]))}
    keys |= {"minimum_area_mm2": 12.0, "parts_kept": 3, "minimum_probability": 0.4, "minimum_margin": 0.05}
    mask = raw = np.argmax(probability, axis=0).astype(np.uint8)
    for step in steps:
        mask = stepped(step, mask, probability=probability, pixel_mm2=0.25, **keys)
    assert not np.array_equal(mask, raw)
    assert np.array_equal(applied(raw, *steps, probability=probability, pixel_mm2=0.25, **keys), mask)


@pytest.mark.parametrize("step", ALL_STEPS)
@pytest.mark.parametrize("seed", range(3))
def test_a_step_applied_again_changes_nothing(step, seed):
    keys = {"probability": blobs(seed), "pixel_mm2": 0.25, "closing_pixels": 5, "parts_kept": 1}
    keys |= {"minimum_area_mm2": 10.0}
    once = stepped(step, np.argmax(blobs(seed), axis=0).astype(np.uint8), **keys)
    assert np.array_equal(stepped(step, once, **keys), once)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("step", ALL_STEPS)
def test_a_step_leaves_its_input_the_type_and_an_empty_mask_unchanged(step, classes):
    mask = np.minimum(typed(SPOTS), classes - 1)
    probability = one_hot(mask, classes)
    before = mask.copy(), probability.copy()
    result = stepped(step, mask, probability=probability, pixel_mm2=0.5, parts_kept=1)
    assert (result.dtype, result.shape) == (np.uint8, mask.shape)
    assert all(map(np.array_equal, (mask, probability), before))
    empty = np.zeros((5, 6), np.uint8)
    assert not stepped(step, empty, classes, pixel_mm2=1.0).any()
    assert applied(empty, step, classes=classes, pixel_mm2=1.0).shape == (5, 6)


def test_the_largest_part_of_a_volume_is_that_of_all_classes_and_slices():
    # 6 voxels of two classes against 4; slice by slice, the other part would be kept
    slices = "112... ......", "1..... ....11", "3..... ....11", "1..... ......"
    kept = "112... ......", "1..... ......", "3..... ......", "1..... ......"
    volume, expected = (np.stack([typed(text) for text in texts]) for texts in (slices, kept))
    result = applied(volume, "largest_component")
    assert (result.dtype, result.tolist()) == (np.uint8, expected.tolist())
    assert np.array_equal(applied(volume), volume)
    assert not applied(np.zeros_like(volume), "largest_component").any()


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_part_of_a_volume_is_that_of_scikit_image(seed):
    mask = (np.random.default_rng(seed).random((8, 12, 14)) < 0.07).astype(np.uint8)
    labels = measure.label(mask, connectivity=3)
    largest = applied(mask, "largest_component", classes=2) == 1
    assert len(np.unique(labels[largest])) == 1
    assert largest.sum() == np.bincount(labels[mask > 0]).max()


def test_the_steps_are_those_allowed_in_a_study_file():
    steps = param_faults.innermost(params.Study.model_fields["postprocessing"].annotation)
    assert steps - {type(None)} == set(postprocessing.KEYS)


def test_steps_are_described_with_the_keys_that_they_use_and_an_unknown_one_is_refused():
    assert postprocessing.describe(["fill_holes", "confident_parts"], KEYS | {"minimum_margin": 0.1}) == [
        {"step": "fill_holes"},
        {"step": "confident_parts", "minimum_probability": 0.5, "minimum_margin": 0.1},
    ]
    with pytest.raises(ValueError, match="'largest_components'   not known; allowed: largest_component, fill_holes"):
        postprocessing.apply(typed("1"), one_hot(typed("1"), 2), None, [{"step": "largest_components"}])
