from collections import Counter

import numpy as np
import pytest

from lib import augmentation, training
from tests import builders

STILL = {
    "horizontal_flip": 0.0,
    "vertical_flip": 0.0,
    "affine_probability": 0.0,
    "intensity_probability": 0.0,
    "clahe_probability": 0.0,
}
LIVELY = {
    "horizontal_flip": 0.5,
    "vertical_flip": 0.5,
    "affine_probability": 0.7,
    "intensity_probability": 0.5,
    "brightness_contrast": 0.3,
    "clahe_probability": 0.5,
}
CLAHE = STILL | {"clahe_probability": 1.0}


def pair(size=(32, 48)):
    image = np.random.default_rng(0).integers(20, 200, size).astype(np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[4:12, 6:20] = 1
    mask[20:24, 30:44] = 2
    return image, mask


def drawn(key, **changes):
    return augmentation.augment(augmentation.pipeline(builders.training_params(**changes)), *pair(), key)


def test_nothing_changes_where_every_probability_is_0():
    image, mask = pair()
    for epoch in range(5):
        changed, moved = drawn((0, epoch, 0), **STILL)
        assert np.array_equal(changed, image)
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
    transform = augmentation.pipeline(builders.training_params(**flips))
    counts = Counter()
    for case in range(800):
        changed, _ = augmentation.augment(transform, *pair(), (0, 1, case))
        counts[next(name for name, expected in outcomes.items() if np.array_equal(changed, expected))] += 1
    assert set(counts) == set(outcomes)
    assert all(150 <= count <= 250 for count in counts.values()), counts  # 200 +- 4 standard deviations of 12.2


def test_the_same_seed_epoch_and_case_give_the_same_pixels():
    one, again = drawn((3, 5, 7), **LIVELY), drawn((3, 5, 7), **LIVELY)
    assert np.array_equal(one[0], again[0])
    assert np.array_equal(one[1], again[1])


def test_a_draw_does_not_depend_on_those_before_it():
    transform = augmentation.pipeline(builders.training_params(**LIVELY))
    for case in range(5):
        augmentation.augment(transform, *pair(), (0, 1, case))
    late, _ = augmentation.augment(transform, *pair(), (3, 5, 7))
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
    transform = augmentation.pipeline(builders.training_params(**moving))
    for case in range(8):
        for epoch in range(10):
            image, mask = augmentation.augment(transform, arrays.images[case, 0], arrays.masks[case], (0, epoch, case))
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
    changed = [drawn((0, epoch, 0), **keys) for epoch in range(20)]
    image, mask = pair()
    assert any(not np.array_equal(each, image) for each, _ in changed)
    assert all(np.array_equal(moved, mask) for _, moved in changed)


def share_changed(**keys):
    """How many of 300 draws change the image."""
    image, mask = pair()
    transform = augmentation.pipeline(builders.training_params(**(STILL | keys)))
    draws = [augmentation.augment(transform, image, mask, (0, 1, case, 0))[0] for case in range(300)]
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
    transform = augmentation.pipeline(builders.training_params(**CLAHE))
    keys = [(3, 5, case, 0) for case in range(8)]
    first, again = (
        [augmentation.augment(transform, large(), large(), key)[0].tobytes() for key in keys] for _ in range(2)
    )
    assert first == again
    assert len(set(first)) >= 3  # of seven: OpenCV takes whole pixels of a tile as its limit


def test_clahe_leaves_the_mask_and_the_type_alone():
    for epoch in range(10):
        image, mask = drawn((0, epoch, 0, 0), **CLAHE)
        assert np.array_equal(mask, pair()[1])
        assert (image.dtype, image.shape) == (np.uint8, (32, 48))


def test_clahe_raises_contrast_but_not_without_limit():
    transform = augmentation.pipeline(builders.training_params(**CLAHE))
    for epoch in range(5):
        changed, _ = augmentation.augment(transform, large(), large(), (0, epoch, 0, 0))
        assert 1.1 < changed.std() / large().std() < 4  # equalised without a limit: 74 / 4


def test_shifts_stay_within_their_share_of_the_image():
    arrays = builders.discs(1)
    keys = STILL | {"affine_probability": 1.0, "shift_fraction": 0.1, "scale_fraction": 0.0, "rotation_deg": 0.0}
    transform = augmentation.pipeline(builders.training_params(**keys))
    start = np.argwhere(arrays.masks[0]).mean(axis=0)
    pairs = [
        augmentation.augment(transform, arrays.images[0, 0], arrays.masks[0], (0, epoch, 0)) for epoch in range(40)
    ]
    moves = [np.argwhere(mask).mean(axis=0) for _, mask in pairs]
    largest = np.abs(np.array(moves) - start).max()
    assert 1.5 < largest <= 0.1 * 32 + 0.5  # nearest-neighbour masks: half a pixel


def test_results_can_be_written_even_where_the_arrays_cannot():
    image, mask = pair()
    image.setflags(write=False)
    mask.setflags(write=False)
    transform = augmentation.pipeline(builders.training_params(**STILL))
    changed, moved = augmentation.augment(transform, image, mask, (0, 0, 0))
    assert changed.flags.writeable
    assert moved.flags.writeable


def test_batches_are_the_same_for_0_1_and_2_loader_processes():
    arrays = builders.discs(10)
    order = np.random.default_rng(0).permutation(10)
    batches = []
    for workers in (0, 1, 2):
        chosen = builders.training_params(workers=workers, **LIVELY)
        cases = training.AugmentedCases(arrays, chosen)
        loaded = list(training.batches(cases, order, 3, chosen))
        batches.append([np.concatenate([part.numpy() for part in parts]) for parts in zip(*loaded)])
    assert len(batches[0][0]) == 10
    for other in batches[1:]:
        assert np.array_equal(batches[0][0], other[0])
        assert np.array_equal(batches[0][1], other[1])


def test_samples_to_look_at_begin_with_the_case_itself():
    images, masks = augmentation.draws(builders.training_params(**LIVELY), *pair(), count=3)
    assert images.shape == masks.shape == (4, 32, 48)
    assert np.array_equal(images[0], pair()[0])
    assert np.array_equal(masks[0], pair()[1])


def test_a_case_that_is_drawn_twice_in_an_epoch_is_changed_differently():
    chosen = builders.training_params(**LIVELY)
    cases = training.AugmentedCases(builders.discs(4), chosen)
    (images, _), *_ = training.batches(cases, np.array([2, 2]), 1, chosen)
    assert not np.array_equal(images[0].numpy(), images[1].numpy())


def test_scaling_keeps_a_circle_round():
    chosen = builders.training_params(affine_probability=1.0, scale_fraction=0.3, shift_fraction=0.0, rotation_deg=0.0)
    rows, cols = np.ogrid[:96, :96]
    disc = ((rows - 48) ** 2 + (cols - 48) ** 2 <= 20**2).astype(np.uint8)
    transform = augmentation.pipeline(chosen)
    for epoch in range(20):
        _, mask = augmentation.augment(transform, disc * 200, disc, (0, epoch, 0, 0))
        height, width = mask.any(axis=1).sum(), mask.any(axis=0).sum()
        assert abs(int(height) - int(width)) <= 1  # a pixel of rounding
