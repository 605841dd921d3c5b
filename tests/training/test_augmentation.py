import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from lib.imaging.head_points import canonical
from lib.study import files
from lib.training import augmentation
from tests import builders, builders_tasks
from tests.builders import LIVELY, MOVING, STILL

CLAHE = STILL | {"clahe_probability": 1.0}
BASE = {
    "horizontal_flip": 0.5,
    "vertical_flip": 0.0,
    "affine_probability": 0.7,
    "shift_fraction": 0.06,
    "scale_fraction": 0.1,
    "rotation_deg": 20.0,
    "intensity_probability": 0.5,
    "brightness_contrast": 0.2,
    "clahe_probability": 0.0,
}


def pair(size=(32, 48)):
    image = np.random.default_rng(0).integers(20, 200, size).astype(np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[4:12, 6:20] = 1
    mask[20:24, 30:44] = 2
    return image, mask


def asked(**changes):
    return augmentation.Augmentation(**(BASE | changes))


def pipeline(dtype=np.uint8, **changes):
    return augmentation.pipeline(asked(**changes), np.dtype(dtype))


def changed(transform, image, mask, key):
    """One draw of a grey image (H, W) without points."""
    moved, region, points = augmentation.augment(image[None], mask, None, transform, key)
    assert points is None
    return moved[0], region


def drawn(key, **changes):
    return changed(pipeline(**changes), *pair(), key)


def test_nothing_changes_where_every_probability_is_0():
    image, mask = pair()
    for epoch in range(5):
        shown, moved = drawn((0, epoch, 0), **STILL)
        assert np.array_equal(shown, image)
        assert np.array_equal(moved, mask)


def test_both_flips_are_drawn_independently():
    image, _ = pair()
    outcomes = {
        "none": image,
        "horizontal": image[:, ::-1],
        "vertical": image[::-1],
        "both": image[::-1, ::-1],
    }
    flips = STILL | {"horizontal_flip": 0.5, "vertical_flip": 0.5}
    transform = pipeline(**flips)
    counts = Counter()
    for case in range(800):
        shown, _ = changed(transform, *pair(), (0, 1, case))
        counts[next(name for name, expected in outcomes.items() if np.array_equal(shown, expected))] += 1
    assert set(counts) == set(outcomes)
    assert all(150 <= count <= 250 for count in counts.values()), counts  # 200 +- 4 standard deviations of 12.2


def test_the_same_seed_epoch_and_case_give_the_same_pixels():
    one, again = drawn((3, 5, 7), **LIVELY), drawn((3, 5, 7), **LIVELY)
    assert np.array_equal(one[0], again[0])
    assert np.array_equal(one[1], again[1])


def test_a_draw_does_not_depend_on_those_before_it():
    transform = pipeline(**LIVELY)
    for case in range(5):
        changed(transform, *pair(), (0, 1, case))
    late, _ = changed(transform, *pair(), (3, 5, 7))
    assert np.array_equal(late, drawn((3, 5, 7), **LIVELY)[0])


@pytest.mark.parametrize("key", [(4, 5, 7), (3, 6, 7), (3, 5, 8)], ids=["seed", "epoch", "case"])
def test_another_seed_epoch_or_case_gives_other_pixels(key):
    always = LIVELY | {"affine_probability": 1.0}
    assert not np.array_equal(drawn(key, **always)[0], drawn((3, 5, 7), **always)[0])


def test_equal_seeds_and_cases_differ_from_epoch_to_epoch():
    always = LIVELY | {"affine_probability": 1.0}
    seen = {drawn((0, epoch, 0), **always)[0].tobytes() for epoch in range(20)}
    assert len(seen) == 20


def test_image_and_mask_move_together():
    arrays = builders.discs(8)
    moving = LIVELY | {"intensity_probability": 0.0, "clahe_probability": 0.0}
    transform = pipeline(**moving)
    for case in range(8):
        for epoch in range(10):
            image, mask = changed(transform, arrays.images[case, 0], arrays.masks[case], (0, epoch, case))
            bright = image > 115  # midway between noise (below 80) and disc (from 150): linear against nearest
            assert (bright & (mask == 1)).sum() * 2 / (bright.sum() + mask.sum()) > 0.93


def test_masks_keep_known_classes_shapes_and_types():
    for epoch in range(30):
        image, mask = drawn((0, epoch, 0), **LIVELY)
        assert image.shape == mask.shape == (32, 48)
        assert image.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 1, 2}


def test_brightness_changes_the_image_and_not_the_mask():
    keys = STILL | {"intensity_probability": 0.5, "brightness_contrast": 0.4}
    shown = [drawn((0, epoch, 0), **keys) for epoch in range(20)]
    image, mask = pair()
    assert any(not np.array_equal(each, image) for each, _ in shown)
    assert all(np.array_equal(moved, mask) for _, moved in shown)


def share_changed(**keys):
    """How many of 300 draws change the image."""
    image, mask = pair()
    transform = pipeline(**(STILL | keys))
    draws = [changed(transform, image, mask, (0, 1, case, 0))[0] for case in range(300)]
    return np.mean([not np.array_equal(each, image) for each in draws])


@pytest.mark.parametrize("key", ["intensity_probability", "clahe_probability"])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_a_change_of_grey_values_is_drawn_as_often_as_its_key_says(key, probability):
    found = share_changed(**{key: probability, "brightness_contrast": 0.3})
    assert found == pytest.approx(probability, abs=0.1)  # 2.6 % at one standard deviation


def large():
    """A grey image of low contrast: on 256 x 384 pixels CLAHE's tiles are large enough for its limits to differ."""
    return np.random.default_rng(0).normal(110, 4, (256, 384)).astype(np.uint8)


def test_clahe_repeats_with_its_key_and_its_limit_differs_from_draw_to_draw():
    transform = pipeline(**CLAHE)
    keys = [(3, 5, case, 0) for case in range(8)]
    first, again = ([changed(transform, large(), large(), key)[0].tobytes() for key in keys] for _ in range(2))
    assert first == again
    assert len(set(first)) >= 3  # of seven: OpenCV takes whole pixels of a tile as its limit


def test_clahe_leaves_the_mask_and_the_type_alone():
    for epoch in range(10):
        image, mask = drawn((0, epoch, 0, 0), **CLAHE)
        assert np.array_equal(mask, pair()[1])
        assert (image.dtype, image.shape) == (np.uint8, (32, 48))


def test_clahe_raises_contrast_but_not_without_limit():
    transform = pipeline(**CLAHE)
    for epoch in range(5):
        shown, _ = changed(transform, large(), large(), (0, epoch, 0, 0))
        assert 1.1 < shown.std() / large().std() < 4  # equalised without a limit: 74 / 4


def test_shifts_stay_within_their_share_of_the_image():
    arrays = builders.discs(1)
    keys = STILL | {"affine_probability": 1.0, "shift_fraction": 0.1, "scale_fraction": 0.0, "rotation_deg": 0.0}
    transform = pipeline(**keys)
    start = np.argwhere(arrays.masks[0]).mean(axis=0)
    pairs = [changed(transform, arrays.images[0, 0], arrays.masks[0], (0, epoch, 0)) for epoch in range(40)]
    moves = [np.argwhere(mask).mean(axis=0) for _, mask in pairs]
    largest = np.abs(np.array(moves) - start).max()
    assert 1.5 < largest <= 0.1 * 32 + 0.5  # nearest-neighbour masks: half a pixel


def test_results_can_be_written_even_where_the_arrays_cannot():
    image, mask = pair()
    image.setflags(write=False)
    mask.setflags(write=False)
    transform = pipeline(**STILL)
    shown, moved = changed(transform, image, mask, (0, 0, 0))
    assert shown.flags.writeable
    assert moved.flags.writeable


def test_samples_to_look_at_begin_with_the_case_itself():
    image, mask = pair()
    images, masks, points = augmentation.draws(asked(**LIVELY), 0, image[None], mask, None, count=3)
    assert images.shape == masks.shape == (4, 32, 48)
    assert points is None
    assert np.array_equal(images[0], pair()[0])
    assert np.array_equal(masks[0], pair()[1])


def test_scaling_keeps_a_circle_round():
    rows, cols = np.ogrid[:96, :96]
    disc = ((rows - 48) ** 2 + (cols - 48) ** 2 <= 20**2).astype(np.uint8)
    transform = pipeline(affine_probability=1.0, scale_fraction=0.3, shift_fraction=0.0, rotation_deg=0.0)
    for epoch in range(20):
        _, mask = changed(transform, disc * 200, disc, (0, epoch, 0, 0))
        height, width = mask.any(axis=1).sum(), mask.any(axis=0).sum()
        assert abs(int(height) - int(width)) <= 1  # a pixel of rounding


# Points


def spots(points, size=(96, 128)):
    """A wide Gaussian spot about each point, a channel each: (P, H, W) uint8."""
    rows, cols = np.ogrid[: size[0], : size[1]]
    away = [(rows - row) ** 2 + (cols - col) ** 2 for row, col in points]
    return np.stack([np.round(250 * np.exp(-each / (2 * 3**2))) for each in away]).astype(np.uint8)


def centroids(shown):
    """Centre of brightness of each channel: (P, H, W) -> (P, 2)."""
    rows, cols = np.mgrid[: shown.shape[1], : shown.shape[2]]
    weights = shown.astype(float)
    return np.stack([(axis * weights).sum(axis=(1, 2)) / weights.sum(axis=(1, 2)) for axis in (rows, cols)], axis=1)


def test_points_move_with_what_they_mark_to_a_tenth_of_a_pixel():
    points = np.array([[40.25, 50.5], [50.0, 80.75], [60.5, 55.0]])
    image, mask = spots(points), np.zeros((96, 128), np.uint8)
    transform, farthest = pipeline(**MOVING), 0.0
    assert centroids(image) == pytest.approx(points, abs=0.01)
    for epoch in range(40):
        shown, _, moved = augmentation.augment(image, mask, points, transform, (0, epoch, 0, 0))
        assert moved.dtype == np.float32
        assert moved == pytest.approx(centroids(shown), abs=0.1)  # half a pixel would be a wrong convention
        farthest = max(farthest, np.abs(moved - points).max())
    assert farthest > 20


def test_a_mirrored_point_keeps_its_distance_to_the_other_border():
    for key, expected in (("horizontal_flip", [10.25, 31 - 4.5]), ("vertical_flip", [31 - 10.25, 4.5])):
        image, point = np.zeros((1, 32, 32), np.uint8), np.array([[10.25, 4.5]])
        transform = pipeline(**(STILL | {key: 1.0}))
        _, _, moved = augmentation.augment(image, image[0], point, transform, (0, 0, 0, 0))
        assert moved.tolist() == [expected]


def test_points_that_leave_the_image_stay_in_their_order():
    image, mask = spots([[48, 64]]), np.zeros((96, 128), np.uint8)
    points = np.array([[5.0, 5.0], [90.0, 5.0], [90.0, 120.0], [5.0, 120.0]])
    transform, outside = pipeline(**(MOVING | {"shift_fraction": 0.5})), 0
    for epoch in range(20):
        _, _, moved = augmentation.augment(image, mask, points, transform, (0, epoch, 0, 0))
        assert moved.shape == (4, 2)
        outside += int(((moved < 0) | (moved > [95, 127])).any())
        sides = np.linalg.norm(moved - np.roll(moved, 1, axis=0), axis=1) / np.array([115, 85, 115, 85])
        assert sides == pytest.approx(np.full(4, sides[0]), rel=1e-4)  # still the same rectangle
    assert outside > 10


def test_points_do_not_change_what_is_drawn():
    image, mask = pair()
    transform = pipeline(**LIVELY)
    for epoch in range(10):
        key = (0, epoch, 0, 0)
        one = augmentation.augment(image[None], mask, None, transform, key)
        other = augmentation.augment(image[None], mask, np.array([[3.0, 4.0]]), transform, key)
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])


# Normalised slices


def slices(channels=3, size=(64, 96)):
    """A float32 image of noise about 0 on a background of another value in each channel, and the mask of its tissue."""
    tissue = np.zeros(size, np.uint8)
    tissue[12:52, 20:76] = 1
    levels = np.linspace(-1.5, -0.5, channels, dtype=np.float32)[:, None, None]
    noise = np.random.default_rng(0).normal(0, 0.1, (channels, *size)).astype(np.float32)
    return np.where(tissue == 1, noise, levels), tissue


def moved_slices(epoch=0, channels=3, **changes):
    image, mask = slices(channels)
    transform = pipeline(np.float32, **(STILL | changes))
    return augmentation.augment(image, mask, None, transform, (0, epoch, 0, 0))


def test_normalised_slices_stay_as_they_are_where_every_probability_is_0():
    shown, mask, _ = moved_slices()
    assert shown == pytest.approx(slices()[0], abs=1e-6)  # one rounding of float32, when the background goes and comes
    assert np.array_equal(mask, slices()[1])
    assert shown.flags.c_contiguous
    assert shown.flags.writeable


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_all_channels_of_a_slice_move_together_and_with_the_mask(channels):
    for epoch in range(5):
        shown, mask, _ = moved_slices(epoch, channels, **(MOVING | {"intensity_probability": 0.0}))
        assert (shown.shape, shown.dtype) == ((channels, 64, 96), np.float32)
        levels = slices(channels)[0].min(axis=(1, 2))
        for channel, level in zip(shown, levels):
            bright = channel > level / 2
            assert 2 * (bright & (mask == 1)).sum() / (bright.sum() + mask.sum()) > 0.95


def test_corners_are_filled_with_each_channel_s_background_and_not_with_average_tissue():
    levels = slices()[0].min(axis=(1, 2))
    for epoch in range(10):
        shown, _, _ = moved_slices(epoch, **(MOVING | {"rotation_deg": 45.0}))
        for corner in (shown[:, 0, 0], shown[:, 0, -1], shown[:, -1, 0], shown[:, -1, -1]):
            assert corner == pytest.approx(levels, abs=1e-6)


def test_contrast_and_brightness_of_each_channel_change_by_themselves_and_within_their_limits():
    image, found = slices()[0].astype(np.float64), []
    for epoch in range(40):
        shown, _, _ = moved_slices(epoch, intensity_probability=1.0, brightness_contrast=0.3)
        for before, after in zip(image, shown):
            slope, offset = np.polyfit(before.ravel(), after.ravel(), 1)
            assert np.abs(slope * before + offset - after).max() < 1e-5
            found.append((slope - 1, offset))
    assert np.abs(found).max() <= 0.3 + 1e-5
    assert np.ptp(found, axis=0).min() > 0.5  # of 0.6: both ends are reached, of contrast and of brightness
    assert len({round(slope, 6) for slope, _ in found}) == 120  # no two channels alike
    assert abs(np.corrcoef(np.array(found).T)[0, 1]) < 0.3


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_slices_change_their_intensities_as_often_as_the_key_says(probability):
    image, mask = slices()
    keys = STILL | {"intensity_probability": probability, "brightness_contrast": 0.3}
    transform = pipeline(np.float32, **keys)
    shown = [augmentation.augment(image, mask, None, transform, (0, 1, case, 0))[0] for case in range(300)]
    changes = [np.abs(each - image).max() > 1e-4 for each in shown]
    assert np.mean(changes) == pytest.approx(probability, abs=0.1)  # 2.6 % at one standard deviation


def test_intensities_of_a_slice_repeat_with_their_key():
    keys = MOVING | {"intensity_probability": 0.5, "brightness_contrast": 0.3}
    draws = [[moved_slices(epoch, **keys)[0].tobytes() for epoch in range(8)] for _ in range(2)]
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 8


def test_slices_are_not_clipped_to_the_range_of_pictures():
    shown, _, _ = moved_slices(3, **(MOVING | {"horizontal_flip": 1.0}))
    assert shown.min() == pytest.approx(-1.5, abs=1e-6)


# To look at


def test_a_chosen_channel_of_slices_is_stretched_to_grey_values_alike_in_all_draws():
    image, mask = slices()
    image[1, 20, 30] = 2.0
    keys = STILL | {"intensity_probability": 1.0, "brightness_contrast": 0.3}
    images, masks, _ = augmentation.draws(asked(**keys), 0, image, mask, None, count=6, channel=1)
    assert (images.shape, images.dtype, masks.shape) == ((7, 64, 96), np.uint8, (7, 64, 96))
    assert (images[0].min(), images[0].max(), images[0, 20, 30]) == (0, 255, 255)
    middle = images[:, 30, 50].astype(int)
    assert abs(middle[0] - 255 * (image[1, 30, 50] + 1) / 3) <= 1
    assert len(set(middle)) > 3  # a change of brightness is to be seen


def test_points_to_look_at_come_with_each_draw_in_canonical_order():
    arrays = builders_tasks.landmarked(1)
    arrays.points[0] = [[14, 28], [14, 4], [22, 17], [6, 16]]  # right and lower ends first
    given = (arrays.images[0], arrays.masks[0], arrays.points[0])
    _, _, points = augmentation.draws(asked(**MOVING), 0, *given, count=3)
    assert points.shape == (4, 4, 2)
    assert np.array_equal(points[0], arrays.points[0][[1, 0, 3, 2]])
    assert np.array_equal(points, canonical(points))
    assert not np.allclose(points[1], points[0], atol=0.5)


def test_importing_it_asks_no_network_for_a_newer_version():
    code = (
        "from lib.training import augmentation; from albumentations import check_version; print(check_version.opener)"
    )
    own = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run([sys.executable, "-c", code], env=own, cwd=files.ROOT, capture_output=True, text=True)
    assert done.stdout == "None\n", done.stderr
