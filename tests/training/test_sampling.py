import numpy as np
import pytest

from lib.training import sampling
from tests import builders, builders_tasks

ROWS = np.arange(100, 130)


def test_equal_weights_show_each_case_once():
    for epoch in range(5):
        order = sampling.epoch_rows(ROWS, np.full(30, 2.5), seed=0, epoch=epoch)
        assert sorted(order) == ROWS.tolist()


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return sampling.epoch_rows(ROWS, np.ones(30), seed, epoch).tolist()

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    assert order(1, 2) != order(2, 1)


@pytest.mark.parametrize("factor", [2.0, 5.0])
def test_a_weighted_case_is_drawn_so_much_more_often(factor):
    weights = np.where(np.arange(30) < 6, factor, 1.0)
    drawn = np.concatenate([sampling.epoch_rows(ROWS, weights, 0, epoch) for epoch in range(400)])
    ratio = (drawn < 106).sum() / 6 / ((drawn >= 106).sum() / 24)
    assert ratio == pytest.approx(factor, rel=0.1)  # 12,000 draws: about 3 % at one standard deviation


def test_weighted_epochs_are_as_long_as_the_others():
    assert len(sampling.epoch_rows(ROWS, np.arange(1, 31), 0, 0)) == 30


def test_weighted_draws_repeat_with_seed_and_epoch():
    one, again = (sampling.epoch_rows(ROWS, np.arange(1, 31), 3, 4).tolist() for _ in range(2))
    assert one == again


def test_a_case_of_weight_0_is_never_drawn():
    weights = np.ones(30)
    weights[3] = 0
    drawn = np.concatenate([sampling.epoch_rows(ROWS, weights, 0, epoch) for epoch in range(50)])
    assert 103 not in drawn


def test_cases_that_show_a_class_weigh_more():
    masks = np.zeros((4, 3, 3), np.uint8)
    masks[1, 0, 0], masks[2, 1, 1], masks[3, 2, 2] = 1, 2, 3
    assert sampling.case_weights(masks, [2, 3], 5.0).tolist() == [1, 1, 5, 5]


def test_without_classes_to_oversample_all_weigh_the_same():
    assert sampling.case_weights(np.ones((3, 2, 2), np.uint8), [], 5.0).tolist() == [1, 1, 1]


def exposed(masks, rows, order, classes):
    """The table of exposure as {class: (cases, percent, draws, percent)}."""
    table = sampling.exposure(masks, np.array(rows), np.array(order), classes)
    assert table.columns.tolist() == ["class", "cases", "cases_percent", "draws", "draws_percent"]
    return {name: tuple(row) for name, *row in table.itertuples(index=False)}


def test_exposure_counted_by_hand():
    masks = np.zeros((6, 2, 2), np.uint8)
    masks[:, 0, 0] = 1
    masks[1, 1, 1], masks[3, 1, 1], masks[4, 1, 1] = 2, 2, 3
    masks[0] = 0
    # training cases 0, 1, 3, 5: all but 0 show the head, 1 and 3 show the CSP, none the LV
    found = exposed(masks, [0, 1, 3, 5], [1, 1, 3, 5, 1], ["background", "head", "csp", "lv"])
    assert found == {"head": (3, 75.0, 5, 100.0), "csp": (2, 50.0, 4, 80.0), "lv": (0, 0.0, 0, 0.0)}


def test_without_oversampling_an_epoch_shows_each_class_as_often_as_cases_do():
    masks = np.random.default_rng(0).integers(0, 3, (30, 1, 2)).astype(np.uint8)
    rows = np.arange(30)
    order = sampling.epoch_rows(rows, np.ones(30), seed=0, epoch=1)
    table = sampling.exposure(masks, rows, order, ["background", "a", "b"])
    assert table["draws"].tolist() == table["cases"].tolist()


def test_oversampling_shows_in_the_exposure():
    masks = np.zeros((40, 2, 2), np.uint8)
    masks[:, 0, 0] = 1
    masks[:8, 1, 1] = 2
    rows = np.arange(40)
    weights = sampling.case_weights(masks, [2], 5.0)
    order = np.concatenate([sampling.epoch_rows(rows, weights, 0, epoch) for epoch in range(100)])
    found = sampling.exposure(masks, rows, order, ["background", "head", "rare"]).set_index("class")
    assert found.loc["rare", "cases_percent"] == 20
    # 8 x 5 of 8 x 5 + 32 draws; 4000 draws: 0.8 % at one standard deviation
    assert found.loc["rare", "draws_percent"] == pytest.approx(100 * 40 / 72, abs=3)
    assert found.loc["head", "draws_percent"] == 100


def test_the_richest_mask_is_the_first_that_shows_most_classes():
    masks = np.array([[[0, 1]], [[1, 2]], [[0, 0]]], np.uint8).repeat(2, axis=1)
    masks[1, 0, 0] = 0
    assert sampling.richest(masks) == 1


def test_a_row_that_comes_again_is_counted():
    assert sampling.repeats(np.array([4, 7, 4, 4, 7])) == [0, 0, 1, 2, 1]


# Slices by area


def slices_of(*areas):
    """A mask a slice with so many foreground pixels, of classes 1 and 2 in turn."""
    masks = np.zeros((len(areas), 4, 5), np.uint8)
    for place, (mask, area) in enumerate(zip(masks, areas)):
        mask.ravel()[:area] = 1 + place % 2
    return masks


def test_area_weights_of_two_patients_counted_by_hand():
    found = sampling.area_weights(slices_of(0, 2, 6, 4, 4), ["a", "a", "a", "b", "b"], floor=0.3)
    # a: 0.1 for each slice, and 0.7 by area; b: 0.15 for each, and 0.7 halved
    assert found == pytest.approx([0.1, 0.1 + 0.7 / 4, 0.1 + 0.7 * 3 / 4, 0.5, 0.5])


def test_without_a_floor_slices_without_foreground_are_not_drawn():
    assert sampling.area_weights(slices_of(0, 2, 6), ["a"] * 3, floor=0.0).tolist() == [0, 0.25, 0.75]


def test_a_floor_of_1_draws_every_slice_of_a_patient_alike():
    found = sampling.area_weights(slices_of(0, 2, 6, 5), ["a", "a", "a", "b"], floor=1.0)
    assert found == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])


def test_a_patient_without_foreground_is_drawn_as_often_as_the_others_and_evenly():
    found = sampling.area_weights(slices_of(0, 0, 0, 8), ["a", "a", "a", "b"], floor=0.1)
    assert found == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])


def test_every_patient_has_the_same_total_whatever_its_slices_and_their_order():
    draw = np.random.default_rng(0)
    names = [f"p{n}" for n in draw.integers(0, 6, 60)]
    found = sampling.area_weights(slices_of(*draw.integers(0, 20, 60)), names, floor=0.1)
    totals = [sum(weight for weight, name in zip(found, names) if name == patient) for patient in set(names)]
    assert totals == pytest.approx([1.0] * 6)


def test_the_weights_are_those_of_the_publisher_s_loader_at_its_share():
    areas = np.array([0, 3, 10, 7, 0])
    published = (areas + areas.sum() * 0.1 / len(areas)) / (areas.sum() * 1.1)
    assert sampling.area_weights(slices_of(*areas), ["a"] * 5, floor=0.1 / 1.1) == pytest.approx(published)


def test_images_that_are_cases_of_their_own_are_shown_once_each_epoch():
    weights = sampling.area_weights(slices_of(1, 5, 0, 9), list("abcd"), floor=0.1)
    order = sampling.epoch_rows(np.arange(4), weights, seed=0, epoch=1)
    assert sorted(order.tolist()) == [0, 1, 2, 3]


def test_drawn_slices_follow_their_areas():
    weights = sampling.area_weights(slices_of(0, 2, 6), ["a"] * 3, floor=0.3)
    drawn = np.concatenate([sampling.epoch_rows(np.arange(3), weights, 0, epoch) for epoch in range(2000)])
    shares = np.bincount(drawn, minlength=3) / len(drawn)
    assert shares == pytest.approx([0.1, 0.275, 0.625], abs=0.03)  # 0.6 % at one standard deviation


# Rows to look at


def test_rows_to_look_at_are_spread_over_those_that_show_something():
    masks = slices_of(0, 1, 1, 0, 1, 1, 1, 0)
    assert sampling.spread(masks, np.arange(8), 3).tolist() == [1, 4, 6]
    assert sampling.spread(masks, np.array([7, 6, 0, 2]), 3).tolist() == [6, 2]


def test_where_no_row_shows_anything_any_will_do():
    assert sampling.spread(slices_of(0, 0, 0), np.array([2, 1, 0]), 2).tolist() == [2, 0]


# What no case shows


TWO = {
    "landmarks": "none",
    "classes": ["background", "head"],
    "cross_entropy_weight": 1.0,
    "focal_weight": 0.0,
    "dice_weight": 1.0,
    "cross_entropy_class_weights": [1.0, 1.0],
    "dice_class_weights": [0.0, 1.0],
    "selection_class_weights": [0.0, 1.0],
}
THREE = {
    "classes": ["background", "a", "b"],
    "cross_entropy_class_weights": [1.0, 1.0, 0.0],
    "dice_class_weights": [0.0, 1.0, 0.0],
    "selection_class_weights": [1.0, 1.0, 0.0],
}
WHERE = "fold 1: none of its {} {} cases shows {}; give another split_seed, fold_count or validation_subjects"
OR_NO_WEIGHT = ", or weight 0 for {} in loss and selection"


def weighed(**keys):
    return sampling.Weighed(**(TWO | keys))


def test_a_class_that_no_case_of_a_part_shows_is_named_with_fold_part_and_advice():
    arrays = builders.discs(6)
    parts = builders.disc_parts(arrays)
    assert sampling.unshown(weighed(), arrays, parts, 1) == []
    arrays.masks[4:] = 0
    expected = WHERE.format(2, "validation", "head") + OR_NO_WEIGHT.format("head")
    assert sampling.unshown(weighed(), arrays, parts, 1) == [expected]
    arrays.masks[:] = 0
    assert sampling.unshown(weighed(), arrays, parts, 1)[0].startswith(
        "fold 1: none of its 4 training cases shows head; "
    )


@pytest.mark.parametrize(
    "keys",
    [
        {"cross_entropy_class_weights": [1.0, 1.0, 0.1]},
        {"cross_entropy_class_weights": [1.0, 1.0, 0.1], "cross_entropy_weight": 0.0, "focal_weight": 1.0},
        {"dice_class_weights": [0.0, 1.0, 2.0]},
        {"selection_class_weights": [0.0, 1.0, 0.5]},
    ],
    ids=str,
)
def test_a_class_that_loss_or_selection_weighs_must_be_shown(keys):
    arrays = builders.discs(6)
    parts = builders.disc_parts(arrays)
    assert sampling.unshown(weighed(**THREE), arrays, parts, 1) == []
    assert len(sampling.unshown(weighed(**(THREE | keys)), arrays, parts, 1)) == 2


def test_a_weight_in_a_part_of_the_loss_that_is_not_used_asks_for_nothing():
    arrays = builders.discs(6)
    keys = {"dice_class_weights": [0.0, 1.0, 2.0], "dice_weight": 0.0}
    assert sampling.unshown(weighed(**(THREE | keys)), arrays, builders.disc_parts(arrays), 1) == []


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
    parts, points = builders_tasks.parts_of(arrays), weighed(landmarks="multicentre")
    arrays.points[4, 2, 1] = place
    assert sampling.unshown(points, arrays, parts, 1) == []
    arrays.points[5, 0, 0] = place
    assert sampling.unshown(points, arrays, parts, 1) == [WHERE.format(2, "validation", "all four landmarks")]
