import numpy as np
import pytest

from lib.training import sampling
from tests import builders, builders_tasks

ROWS = np.arange(100, 130)


def test_the_order_is_a_function_of_seed_and_epoch_and_shows_each_case_once_where_weights_are_equal():
    orders = {
        (seed, epoch): sampling.epoch_rows(ROWS, np.full(30, 2.5), seed, epoch).tolist()
        for seed, epoch in [(1, 2), (1, 3), (2, 2), (2, 1)]
    }
    assert all(sorted(order) == ROWS.tolist() for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 4
    assert sampling.epoch_rows(ROWS, np.ones(30), 1, 2).tolist() == orders[1, 2]


@pytest.mark.parametrize("factor", [0.0, 2.0, 5.0])
def test_a_weighted_case_is_drawn_so_much_more_often(factor):
    weights = np.where(np.arange(30) < 6, factor, 1.0)
    epochs = [sampling.epoch_rows(ROWS, weights, 0, epoch) for epoch in range(400)]
    assert {len(epoch) for epoch in epochs} == {30}
    assert np.array_equal(epochs[4], sampling.epoch_rows(ROWS, weights, 0, 4))
    drawn = np.concatenate(epochs)
    ratio = (drawn < 106).sum() / 6 / ((drawn >= 106).sum() / 24)
    assert ratio == pytest.approx(factor, rel=0.1)  # 12,000 draws: about 3 % at one standard deviation


@pytest.mark.parametrize(("classes", "weights"), [([2, 3], [1, 1, 5, 5]), ([], [1, 1, 1, 1])])
def test_cases_that_show_a_class_weigh_more(classes, weights):
    masks = np.zeros((4, 3, 3), np.uint8)
    masks[1, 0, 0], masks[2, 1, 1], masks[3, 2, 2] = 1, 2, 3
    assert sampling.case_weights(masks, classes, 5.0).tolist() == weights


def test_exposure_counted_by_hand():
    masks = np.zeros((6, 2, 2), np.uint8)
    masks[:, 0, 0] = 1
    masks[1, 1, 1], masks[3, 1, 1], masks[4, 1, 1] = 2, 2, 3
    masks[0] = 0
    # training cases 0, 1, 3, 5: all but 0 show the head, 1 and 3 show the CSP, none the LV
    names, rows, order = ["background", "head", "csp", "lv"], np.array([0, 1, 3, 5]), np.array([1, 1, 3, 5, 1])
    table = sampling.exposure(masks, rows, order, names)
    assert table.columns.tolist() == ["class", "cases", "cases_percent", "draws", "draws_percent"]
    assert table.to_numpy().tolist() == [["head", 3, 75, 5, 100], ["csp", 2, 50, 4, 80], ["lv", 0, 0, 0, 0]]


def test_the_richest_mask_is_the_first_that_shows_most_classes_and_a_row_that_comes_again_is_counted():
    masks = np.array([[[0, 1]], [[1, 2]], [[0, 0]]], np.uint8).repeat(2, axis=1)
    masks[1, 0, 0] = 0
    assert sampling.richest(masks) == 1
    assert sampling.repeats(np.array([4, 7, 4, 4, 7])) == [0, 0, 1, 2, 1]


# Slices by area


def slices_of(*areas):
    """A mask a slice with so many foreground pixels, of classes 1 and 2 in turn."""
    masks = np.zeros((len(areas), 4, 5), np.uint8)
    for place, (mask, area) in enumerate(zip(masks, areas)):
        mask.ravel()[:area] = 1 + place % 2
    return masks


AREAS = np.array([0, 3, 10, 7, 0])
PUBLISHED = (AREAS + AREAS.sum() * 0.1 / len(AREAS)) / (AREAS.sum() * 1.1)  # as its data set's loader has it


@pytest.mark.parametrize(
    ("areas", "names", "floor", "weights"),
    [
        ([0, 2, 6, 4, 4], "aaabb", 0.3, [0.1, 0.1 + 0.7 / 4, 0.1 + 0.7 * 3 / 4, 0.5, 0.5]),
        ([0, 2, 6], "aaa", 0.0, [0, 0.25, 0.75]),  # without a floor, slices without foreground are not drawn
        ([0, 2, 6, 5], "aaab", 1.0, [1 / 3, 1 / 3, 1 / 3, 1]),
        ([0, 0, 0, 8], "aaab", 0.1, [1 / 3, 1 / 3, 1 / 3, 1]),  # a patient without foreground, evenly
        (AREAS, "aaaaa", 0.1 / 1.1, PUBLISHED),
    ],
)
def test_area_weights_counted_by_hand_and_those_of_the_publisher(areas, names, floor, weights):
    assert sampling.area_weights(slices_of(*areas), list(names), floor) == pytest.approx(weights)


def test_every_patient_has_the_same_total_and_an_image_that_is_a_case_of_its_own_is_shown_once_each_epoch():
    draw = np.random.default_rng(0)
    names = [f"p{n}" for n in draw.integers(0, 6, 60)]
    found = sampling.area_weights(slices_of(*draw.integers(0, 20, 60)), names, floor=0.1)
    totals = [sum(weight for weight, name in zip(found, names) if name == patient) for patient in set(names)]
    assert totals == pytest.approx([1.0] * 6)
    weights = sampling.area_weights(slices_of(1, 5, 0, 9), list("abcd"), floor=0.1)
    assert sorted(sampling.epoch_rows(np.arange(4), weights, seed=0, epoch=1).tolist()) == [0, 1, 2, 3]


# Rows to look at


@pytest.mark.parametrize(
    ("areas", "rows", "count", "picked"),
    [
        ([0, 1, 1, 0, 1, 1, 1, 0], range(8), 3, [1, 4, 6]),
        ([0, 1, 1, 0, 1, 1, 1, 0], [7, 6, 0, 2], 3, [6, 2]),
        ([0, 0, 0], [2, 1, 0], 2, [2, 0]),  # where no row shows anything, any will do
    ],
)
def test_rows_to_look_at_are_spread_over_those_that_show_something(areas, rows, count, picked):
    assert sampling.spread(slices_of(*areas), np.array(rows), count).tolist() == picked


# What no case shows


TWO = {
    **{"learns_landmarks": False, "classes": ["background", "head"], "cross_entropy_weight": 1.0, "dice_weight": 1.0},
    **{"cross_entropy_class_weights": [1.0, 1.0], "dice_class_weights": [0.0, 1.0]},
    "selection_class_weights": [0.0, 1.0],
}
THREE = {"classes": ["background", "a", "b"], "cross_entropy_class_weights": [1.0, 1.0, 0.0]}
THREE |= {"dice_class_weights": [0.0, 1.0, 0.0], "selection_class_weights": [1.0, 1.0, 0.0]}
WHERE = "fold 1: none of its {} {} cases shows {}; give another split_seed, fold_count or validation_subjects"


def weighed(**keys):
    return sampling.Weighed(**(TWO | keys))


def test_a_class_that_no_case_of_a_part_shows_is_named_with_fold_part_and_advice():
    arrays = builders.discs(6)
    parts = builders.disc_parts(arrays)
    assert sampling.unshown(weighed(), arrays, parts, 1) == []
    advice = ", or weight 0 for head in loss and selection"
    arrays.masks[4:] = 0
    assert sampling.unshown(weighed(), arrays, parts, 1) == [WHERE.format(2, "validation", "head") + advice]
    arrays.masks[:] = 0
    assert sampling.unshown(weighed(), arrays, parts, 1)[0] == WHERE.format(4, "training", "head") + advice


@pytest.mark.parametrize(
    ("keys", "faults"),
    [
        ({}, 0),
        ({"cross_entropy_class_weights": [1.0, 1.0, 0.1]}, 2),
        ({"cross_entropy_class_weights": [1.0, 1.0, 0.1], "cross_entropy_weight": 0.0, "focal_weight": 1.0}, 2),
        ({"dice_class_weights": [0.0, 1.0, 2.0]}, 2),
        ({"dice_class_weights": [0.0, 1.0, 2.0], "dice_weight": 0.0}, 0),  # in a part of the loss that is not used
        ({"selection_class_weights": [0.0, 1.0, 0.5]}, 2),
    ],
    ids=str,
)
def test_a_class_that_loss_or_selection_weighs_must_be_shown(keys, faults):
    arrays = builders.discs(6)
    assert len(sampling.unshown(weighed(**(THREE | keys)), arrays, builders.disc_parts(arrays), 1)) == faults


def test_of_volumes_patients_count_and_not_slices():
    arrays = builders_tasks.volumes(6, slices=5)
    parts = builders_tasks.parts_of(arrays)
    assert not arrays.masks[0].any()  # the outer slices show nothing
    assert sampling.unshown(weighed(), arrays, parts, 0) == []
    arrays.masks[arrays.rows(parts["validation"][:1])] = 0
    assert sampling.unshown(weighed(), arrays, parts, 0) == []
    arrays.masks[arrays.rows(parts["validation"])] = 0
    (said,) = sampling.unshown(weighed(), arrays, parts, 0)
    assert said.startswith("fold 0: none of its 2 validation cases shows head; ")


@pytest.mark.parametrize("place", [np.nan, -3.0, 31.5])
def test_landmarks_must_lie_in_the_image_of_one_case_at_least(place):
    arrays = builders_tasks.landmarked(6)
    arrays.masks[:] = 0  # not what is learnt
    parts, points = builders_tasks.parts_of(arrays), weighed(learns_landmarks=True)
    arrays.points[4, 2, 1] = place
    assert sampling.unshown(points, arrays, parts, 1) == []
    arrays.points[5, 0, 0] = place
    assert sampling.unshown(points, arrays, parts, 1) == [WHERE.format(2, "validation", "all four landmarks")]
