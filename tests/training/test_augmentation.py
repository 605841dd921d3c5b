import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from lib.imaging.head_points import canonical
from lib.study import files
from lib.training import augmentation
from tests import builders
from tests.builders import LIVELY, MOVING, STILL

GEOMETRY = LIVELY | {"affine_probability": 1.0, "intensity_probability": 0.0, "clahe_probability": 0.0}
BASE = STILL | {"horizontal_flip": 0.5, "affine_probability": 0.7, "intensity_probability": 0.5}
BASE |= {"shift_fraction": 0.06, "scale_fraction": 0.1, "rotation_deg": 20.0, "brightness_contrast": 0.2}


def changes(**keys):
    return augmentation.Augmentation(**(BASE | keys))


def pair(size=(32, 48)):
    image = np.random.default_rng(0).integers(20, 200, size).astype(np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[4:12, 6:20] = 1
    mask[20:24, 30:44] = 2
    return image[None], mask


def slices(channels=3, size=(64, 96)):
    """A float32 image of noise around 0 on a background that differs by channel, and the mask of its tissue."""
    tissue = np.zeros(size, np.uint8)
    tissue[12:52, 20:76] = 1
    levels = np.linspace(-1.5, -0.5, channels, dtype=np.float32)[:, None, None]
    noise = np.random.default_rng(0).normal(0, 0.1, (channels, *size)).astype(np.float32)
    return np.where(tissue == 1, noise, levels), tissue


def draws(count, image, mask, points=None, **keys):
    """Draws of a case in successive epochs."""
    transform = augmentation.pipeline(changes(**keys), image.dtype)
    return [augmentation.augment(image, mask, points, transform, (0, epoch, 0, 0)) for epoch in range(count)]


both_kinds = pytest.mark.parametrize("case", [pair(), slices()], ids=["grey", "normalised"])


@both_kinds
def test_nothing_changes_if_every_probability_is_0_and_the_results_are_writable(case):
    for array in case:
        array.setflags(write=False)  # as arrays on disk
    for image, mask, points in draws(5, *case, **STILL):
        assert np.array_equal(image, case[0])
        assert np.array_equal(mask, case[1])
        assert points is None
        assert image.flags.writeable and mask.flags.writeable and image.flags.c_contiguous  # noqa: PT018


@both_kinds
def test_a_draw_depends_on_its_key_and_not_on_earlier_draws(case):
    lively = changes(**(LIVELY | {"affine_probability": 1.0}))
    transform = augmentation.pipeline(lively, case[0].dtype)
    keys = [(3, 5, 7, 0), (4, 5, 7, 0), (3, 6, 7, 0), (3, 5, 8, 0), (3, 5, 7, 1), *((3, n, 7, 0) for n in range(9, 20))]
    first, again = (
        {key: [part.tobytes() for part in augmentation.augment(*case, None, transform, key)[:2]] for key in order}
        for order in (keys, keys[::-1])
    )
    assert first == again
    assert len({image for image, _ in first.values()}) == len(keys)


def test_both_flips_are_drawn_independently():
    (image,), mask = pair()
    outcomes = {each.tobytes() for each in (image, image[:, ::-1], image[::-1], image[::-1, ::-1])}
    keys = STILL | {"horizontal_flip": 0.5, "vertical_flip": 0.5}
    counts = Counter(drawn.tobytes() for drawn, *_ in draws(800, image[None], mask, **keys))
    assert counts.keys() == outcomes
    assert all(150 <= count <= 250 for count in counts.values())  # 200 +- 4 standard deviations of 12.2


def test_image_and_mask_move_together():
    arrays = builders.discs(8)
    for image, mask in zip(arrays.images, arrays.masks):
        for moved, region, _ in draws(10, image, mask, **GEOMETRY):
            bright = moved[0] > 115  # midway between noise (below 80) and disc (from 150): linear against nearest
            assert (bright & (region == 1)).sum() * 2 / (bright.sum() + region.sum()) > 0.93


@pytest.mark.parametrize(
    ("case", "key"),
    [(pair(), "intensity_probability"), (pair(), "clahe_probability"), (slices(), "intensity_probability")],
    ids=["brightness", "clahe", "normalised"],
)
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_only_grey_values_change_with_the_probability_of_the_key(case, key, probability):
    drawn = draws(300, *case, **(STILL | {key: probability, "brightness_contrast": 0.3}))
    share = np.mean([np.abs(image.astype(float) - case[0]).max() > 1e-4 for image, *_ in drawn])
    assert share == pytest.approx(probability, abs=0.1)  # 2.6 % at one standard deviation
    assert all(np.array_equal(mask, case[1]) for _, mask, _ in drawn)


def test_clahe_raises_contrast_by_a_limit_that_differs_between_draws():
    # 256 x 384 pixels of low contrast, so that the tiles are large enough for the limits to differ.
    large = np.random.default_rng(0).normal(110, 4, (1, 256, 384)).astype(np.uint8)
    first, again = (
        [image for image, *_ in draws(8, large, large[0], **(STILL | {"clahe_probability": 1.0}))] for _ in range(2)
    )
    assert np.array_equal(first, again)
    assert len({image.tobytes() for image in first}) >= 3  # of seven: OpenCV rounds the limit to whole pixels of a tile
    assert all(1.1 < image.std() / large.std() < 4 for image in first)  # equalised without a limit: 74 / 4


def test_shifts_do_not_exceed_their_fraction_of_the_image():
    image, mask = builders.discs(1).images[0], builders.discs(1).masks[0]
    keys = STILL | {"affine_probability": 1.0, "shift_fraction": 0.1, "scale_fraction": 0.0, "rotation_deg": 0.0}
    centres = np.array([np.argwhere(moved).mean(axis=0) for _, moved, _ in draws(40, image, mask, **keys)])
    assert 1.5 < np.abs(centres - np.argwhere(mask).mean(axis=0)).max() <= 0.1 * 32 + 0.5  # masks: half a pixel


def test_scaling_keeps_a_circle_round():
    rows, cols = np.ogrid[:96, :96]
    disc = ((rows - 48) ** 2 + (cols - 48) ** 2 <= 20**2).astype(np.uint8)
    keys = {"affine_probability": 1.0, "scale_fraction": 0.3, "shift_fraction": 0.0, "rotation_deg": 0.0}
    masks = [mask for _, mask, _ in draws(20, disc[None] * 200, disc, **keys)]
    sizes = np.array([(mask.any(axis=1).sum(), mask.any(axis=0).sum()) for mask in masks], int)
    assert np.abs(np.diff(sizes)).max() <= 1  # a pixel of rounding
    assert np.ptp(sizes) > 10


def spots(points, size=(96, 128)):
    """A wide Gaussian spot at each point, one per channel: (P, H, W) uint8."""
    rows, cols = np.ogrid[: size[0], : size[1]]
    away = [(rows - row) ** 2 + (cols - col) ** 2 for row, col in points]
    return np.stack([np.round(250 * np.exp(-each / (2 * 3**2))) for each in away]).astype(np.uint8)


def test_points_move_with_the_image_to_a_tenth_of_a_pixel():
    points = np.array([[40.25, 50.5], [50.0, 80.75], [60.5, 55.0]])
    drawn = draws(40, spots(points), np.zeros((96, 128), np.uint8), points, **MOVING)
    for image, _, moved in drawn:
        assert moved.dtype == np.float32
        centres = np.array([center_of_mass(channel) for channel in image])
        assert moved == pytest.approx(centres, abs=0.1)  # a wrong convention would be off by half a pixel
    assert max(np.abs(moved - points).max() for *_, moved in drawn) > 20


def test_a_mirrored_point_has_its_distance_to_the_opposite_border():
    image, point = np.zeros((1, 32, 32), np.uint8), np.array([[10.25, 4.5]])
    for key, expected in (("horizontal_flip", [10.25, 31 - 4.5]), ("vertical_flip", [31 - 10.25, 4.5])):
        ((_, _, moved),) = draws(1, image, image[0], point, **(STILL | {key: 1.0}))
        assert moved.tolist() == [expected]


def test_points_that_leave_the_image_keep_their_order():
    points = np.array([[5.0, 5.0], [90.0, 5.0], [90.0, 120.0], [5.0, 120.0]])
    keys = MOVING | {"shift_fraction": 0.5}
    drawn = np.stack([d[2] for d in draws(20, spots([[48, 64]]), np.zeros((96, 128), np.uint8), points, **keys)])
    assert ((drawn < 0) | (drawn > [95, 127])).any(axis=(1, 2)).sum() > 10
    sides = np.linalg.norm(drawn - np.roll(drawn, 1, axis=1), axis=2) / np.array([115, 85, 115, 85])
    assert sides == pytest.approx(np.repeat(sides[:, :1], 4, axis=1), rel=1e-4)  # still the same rectangle


def test_masks_keep_known_classes_shapes_and_types_and_points_do_not_affect_a_draw():
    for one, other in zip(draws(30, *pair(), **LIVELY), draws(30, *pair(), np.array([[3.0, 4.0]]), **LIVELY)):
        for array, with_points in zip(one[:2], other):
            assert (array.shape[-2:], array.dtype) == ((32, 48), np.uint8)
            assert np.array_equal(array, with_points)
        assert set(np.unique(one[1])) <= {0, 1, 2}


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_all_channels_move_together_with_the_mask_and_corners_get_each_channel_s_background(channels):
    image, mask = slices(channels)
    levels = image.min(axis=(1, 2))
    for moved, region, _ in draws(10, image, mask, **(MOVING | {"rotation_deg": 45.0})):
        assert (moved.shape, moved.dtype) == ((channels, 64, 96), np.float32)
        assert moved.min(axis=(1, 2)) == pytest.approx(levels, abs=1e-6)  # not clipped to 0..1
        for corner in (moved[:, 0, 0], moved[:, 0, -1], moved[:, -1, 0], moved[:, -1, -1]):
            assert corner == pytest.approx(levels, abs=1e-6)  # not average tissue
        for channel, level in zip(moved, levels):
            bright = channel > level / 2
            assert 2 * (bright & (region == 1)).sum() / (bright.sum() + region.sum()) > 0.95


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_normalised_image_moves_as_if_its_background_were_subtracted_and_added_again(channels):
    image, mask = slices(channels)
    points, background = np.array([[10.0, 20.0]]), image.min(axis=(1, 2), keepdims=True)
    own = augmentation.pipeline(changes(**MOVING), image.dtype)
    plain = augmentation.pipeline(changes(**MOVING), np.uint8)  # fills corners with 0
    for epoch in range(10):
        moved, region, ends = augmentation.augment(image, mask, points, own, (0, epoch, 0, 0))
        expected = augmentation.augment(image - background, mask, points, plain, (0, epoch, 0, 0))
        assert moved == pytest.approx(expected[0] + background, abs=1e-5)
        assert np.array_equal(region, expected[1])
        assert np.array_equal(ends, expected[2])


def test_contrast_and_brightness_of_each_channel_change_independently_within_their_limits():
    image, fits = slices()[0].astype(np.float64), []
    for moved, *_ in draws(40, *slices(), **(STILL | {"intensity_probability": 1.0, "brightness_contrast": 0.3})):
        for before, after in zip(image, moved):
            slope, offset = np.polyfit(before.ravel(), after.ravel(), 1)
            assert np.abs(slope * before + offset - after).max() < 1e-5
            fits.append((slope - 1, offset))
    assert np.abs(fits).max() <= 0.3 + 1e-5
    assert np.ptp(fits, axis=0).min() > 0.5  # of 0.6: both limits are reached, of contrast and of brightness
    assert len({round(slope, 6) for slope, _ in fits}) == 120  # no two channels are equal
    assert abs(np.corrcoef(np.array(fits).T)[0, 1]) < 0.3


def test_a_channel_of_slices_is_scaled_to_grey_values_equally_in_all_draws():
    image, mask = slices()
    image[1, 20, 30] = 2.0
    keys = STILL | {"intensity_probability": 1.0, "brightness_contrast": 0.3}
    images, masks, points = augmentation.draws(changes(**keys), 0, image, mask, None, count=6, channel=1)
    assert (images.shape, images.dtype, masks.shape, points) == ((7, 64, 96), np.uint8, (7, 64, 96), None)
    assert (images[0].min(), images[0].max(), images[0, 20, 30]) == (0, 255, 255)
    assert np.array_equal(masks[0], mask)
    values = images[:, 30, 50].astype(int)
    assert abs(values[0] - 255 * (image[1, 30, 50] + 1) / 3) <= 1
    assert len(set(values)) > 3  # changes of brightness are visible


def test_displayed_points_are_in_canonical_order_in_each_draw():
    image, mask = pair()
    unordered = np.array([[14, 28], [14, 4], [22, 17], [6, 16]], np.float32)  # right and lower endpoints first
    images, _, points = augmentation.draws(changes(**MOVING), 0, image, mask, unordered, count=3)
    assert np.array_equal(images[0], image[0])
    assert points.shape == (4, 4, 2)
    assert np.array_equal(points[0], unordered[[1, 0, 3, 2]])
    assert np.array_equal(points, canonical(points))
    assert not np.allclose(points[1], points[0], atol=0.5)


def test_the_import_does_not_look_up_a_newer_version_online():
    code = "from lib.training import augmentation; import albumentations; print(albumentations.check_version.opener)"
    own = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run([sys.executable, "-c", code], env=own, cwd=files.ROOT, capture_output=True, text=True)
    assert done.stdout == "None\n", done.stderr
