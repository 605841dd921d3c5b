import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from lib.training import sampling
from tests import builders, builders_tasks

ROWS = np.arange(100, 130)


def test_the_order_depends_on_seed_and_epoch_and_contains_each_case_once_for_equal_weights():
    orders = {
        (seed, epoch): sampling.epoch_rows(ROWS, np.full(30, 2.5), seed, epoch).tolist()
        for seed, epoch in [(1, 2), (1, 3), (2, 2), (2, 1)]
    }
    assert all(sorted(order) == ROWS.tolist() for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 4
    assert sampling.epoch_rows(ROWS, np.ones(30), 1, 2).tolist() == orders[1, 2]


@pytest.mark.parametrize("factor", [0.0, 2.0, 5.0])
def test_a_case_is_drawn_in_proportion_to_its_weight(factor):
    weights = np.where(np.arange(30) < 6, factor, 1.0)
    epochs = [sampling.epoch_rows(ROWS, weights, 0, epoch) for epoch in range(400)]
    assert {len(epoch) for epoch in epochs} == {30}
    assert np.array_equal(epochs[4], sampling.epoch_rows(ROWS, weights, 0, 4))
    drawn = np.concatenate(epochs)
    ratio = (drawn < 106).sum() / 6 / ((drawn >= 106).sum() / 24)
    assert ratio == pytest.approx(factor, rel=0.1)  # 12,000 draws: about 3 % at one standard deviation


@pytest.mark.parametrize(("classes", "weights"), [([2, 3], [5, 1, 5, 1]), ([1], [1, 1, 1, 5])])
def test_cases_with_a_rare_class_get_a_larger_weight(classes, weights):
    masks = np.zeros((4, 3, 3), np.uint8)
    masks[1, 0, 0], masks[2, 1, 1], masks[3, 2, 2] = 1, 2, 3
    assert sampling.case_weights(masks, np.array([3, 0, 2, 1]), classes, 5.0).tolist() == weights
    assert sampling.case_weights(None, np.array([3, 0, 2, 1]), [], 5.0).tolist() == [1, 1, 1, 1]  # masks are not read


def test_exposure_counted_by_hand():
    masks = np.zeros((6, 2, 2), np.uint8)
    masks[:, 0, 0] = 1
    masks[1, 1, 1], masks[3, 1, 1], masks[4, 1, 1] = 2, 2, 3
    masks[0] = 0
    # training cases 0, 1, 3, 5: all but 0 contain the head, 1 and 3 the CSP, none the LV
    names, rows, order = ["background", "head", "csp", "lv"], np.array([0, 1, 3, 5]), np.array([1, 1, 3, 5, 1])
    table = sampling.exposure(masks, rows, order, names)
    assert table.columns.tolist() == ["class", "cases", "cases_percent", "draws", "draws_percent"]
    assert table.to_numpy().tolist() == [["head", 3, 75, 5, 100], ["csp", 2, 50, 4, 80], ["lv", 0, 0, 0, 0]]


def test_the_first_mask_with_most_classes_and_the_number_of_earlier_draws():
    masks = np.array([[[0, 1]], [[1, 2]], [[0, 0]]], np.uint8).repeat(2, axis=1)
    masks[1, 0, 0] = 0
    assert sampling.most_classes(masks, np.array([2, 0, 1])) == sampling.most_classes(masks, np.array([1, 0])) == 1
    assert sampling.repeats(np.array([4, 7, 4, 4, 7])) == [0, 0, 1, 2, 1]


def slices_of(*areas):
    """Masks with these foreground areas, of classes 1 and 2 in turn."""
    masks = np.zeros((len(areas), 4, 5), np.uint8)
    for index, (mask, area) in enumerate(zip(masks, areas)):
        mask.ravel()[:area] = 1 + index % 2
    return masks


AREAS = np.array([0, 3, 10, 7, 0])
PUBLISHED = (AREAS + AREAS.sum() * 0.1 / len(AREAS)) / (AREAS.sum() * 1.1)  # as in the data set's loader


@pytest.mark.parametrize(
    ("areas", "names", "floor", "weights"),
    [
        ([0, 2, 6, 4, 4], "aaabb", 0.3, [0.1, 0.1 + 0.7 / 4, 0.1 + 0.7 * 3 / 4, 0.5, 0.5]),
        ([0, 2, 6], "aaa", 0.0, [0, 0.25, 0.75]),  # without a floor, slices without foreground are not drawn
        ([0, 2, 6, 5], "aaab", 1.0, [1 / 3, 1 / 3, 1 / 3, 1]),
        ([0, 0, 0, 8], "aaab", 0.1, [1 / 3, 1 / 3, 1 / 3, 1]),  # a patient without foreground, uniformly
        (AREAS, "aaaaa", 0.1 / 1.1, PUBLISHED),
    ],
)
def test_area_weights_computed_by_hand_and_published_ones(areas, names, floor, weights):
    masks, rows = slices_of(9, *areas), np.arange(len(areas), 0, -1)  # without the first, in reverse
    assert sampling.area_weights(masks, rows, list(names)[::-1], floor) == pytest.approx(weights[::-1])


def test_every_patient_has_the_same_total_weight_and_single_images_are_drawn_once_per_epoch():
    draw = np.random.default_rng(0)
    patients = draw.integers(0, 6, 60)
    weights = sampling.area_weights(slices_of(*draw.integers(0, 20, 60)), np.arange(60), patients.tolist(), floor=0.1)
    assert np.bincount(patients, weights) == pytest.approx([1.0] * 6)
    weights = sampling.area_weights(slices_of(1, 5, 0, 9), np.arange(4), list("abcd"), floor=0.1)
    assert sorted(sampling.epoch_rows(np.arange(4), weights, seed=0, epoch=1).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("areas", "rows", "count", "selected"),
    [
        ([0, 1, 1, 0, 1, 1, 1, 0], range(8), 3, [1, 4, 6]),
        ([0, 1, 1, 0, 1, 1, 1, 0], [7, 6, 0, 2], 3, [6, 2]),
        ([0, 0, 0], [2, 1, 0], 2, [2, 0]),  # without foreground
    ],
)
def test_displayed_rows_are_spread_over_those_with_foreground(areas, rows, count, selected):
    assert sampling.spread(slices_of(*areas), np.array(rows), count).tolist() == selected


TWO = {
    **{"learns_landmarks": False, "classes": ["background", "head"], "cross_entropy_weight": 1.0, "dice_weight": 1.0},
    **{"cross_entropy_class_weights": [1.0, 1.0], "dice_class_weights": [0.0, 1.0]},
    "selection_class_weights": [0.0, 1.0],
}
THREE = {"classes": ["background", "a", "b"], "cross_entropy_class_weights": [1.0, 1.0, 0.0]}
THREE |= {"dice_class_weights": [0.0, 1.0, 0.0], "selection_class_weights": [1.0, 1.0, 0.0]}
MESSAGE = "fold 1: none of its {} {} cases contains {}; set another split_seed, fold_count or validation_subjects "
MESSAGE += "(in a quick pass a larger case_limit)"


def missing(arrays, fold=1, **keys):
    weights = sampling.ClassWeights(**(TWO | keys))
    return sampling.missing_targets(weights, arrays, builders_tasks.parts_of(arrays), fold)


def test_a_class_missing_in_training_or_validation_is_named_with_fold_part_and_advice():
    arrays = builders.discs(6)
    assert missing(arrays) == []
    advice = ", or weight 0 for head in loss and selection"
    arrays.masks[4:] = 0
    assert missing(arrays) == [MESSAGE.format(2, "validation", "head") + advice]
    arrays.masks[:] = 0
    assert missing(arrays)[0] == MESSAGE.format(4, "training", "head") + advice


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        ({}, 0),
        ({"cross_entropy_class_weights": [1.0, 1.0, 0.1]}, 2),
        ({"cross_entropy_class_weights": [1.0, 1.0, 0.1], "cross_entropy_weight": 0.0, "focal_weight": 1.0}, 2),
        ({"dice_class_weights": [0.0, 1.0, 2.0]}, 2),
        ({"dice_class_weights": [0.0, 1.0, 2.0], "dice_weight": 0.0}, 0),  # in an unused part of the loss
        ({"selection_class_weights": [0.0, 1.0, 0.5]}, 2),
    ],
    ids=str,
)
def test_every_class_with_a_weight_in_loss_or_selection_must_be_present(keys, count):
    assert len(missing(builders.discs(6), **(THREE | keys))) == count


def test_a_volume_counts_once_with_all_its_slices():
    arrays = builders_tasks.volumes(6, slices=5)
    assert not arrays.masks[0].any()  # the outer slices have no foreground
    for patients, messages in (([], 0), (["patient4"], 0), (["patient4", "patient5"], 1)):  # of validation
        arrays.masks[arrays.rows(patients)] = 0
        assert len(missing(arrays, fold=0)) == messages
    assert missing(arrays, fold=0)[0].startswith("fold 0: none of its 2 validation cases contains head; ")


def test_masks_on_disk_are_read_one_at_a_time(tmp_path):
    arrays, rows = builders.discs(30), np.arange(30)
    masks = np.memmap(tmp_path / "masks", np.uint8, "w+", shape=(30, 256, 256))
    masks[:, :32, :32] = arrays.masks
    for read in (
        lambda: sampling.case_weights(masks, rows, [1], 2.0),
        lambda: sampling.area_weights(masks, rows, arrays.names, 0.1),
        lambda: sampling.most_classes(masks, rows),
        lambda: missing(replace(arrays, masks=masks), **THREE),
    ):
        tracemalloc.start()
        read()
        assert tracemalloc.get_traced_memory()[1] < 8 * masks[0].nbytes  # all: 30 times
        tracemalloc.stop()


@pytest.mark.parametrize("position", [np.nan, -3.0, 31.5])
def test_landmarks_must_be_in_the_image_of_at_least_one_case(position):
    arrays = builders_tasks.landmarked(6)
    arrays.masks[:] = 0  # not the target
    arrays.points[4, 2, 1] = position
    assert missing(arrays, learns_landmarks=True) == []
    arrays.points[5, 0, 0] = position
    assert missing(arrays, learns_landmarks=True) == [MESSAGE.format(2, "validation", "all four landmarks")]
