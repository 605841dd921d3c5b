import numpy as np
import pytest

from lib import metrics
from lib.metrics import Overlap

REFERENCE = np.array([[0, 1, 1], [0, 1, 0], [2, 2, 0]], np.uint8)
PREDICTED = np.array([[0, 1, 0], [0, 1, 1], [2, 1, 0]], np.uint8)


def random_masks(seed, classes, shape=(40, 50)):
    draw = np.random.default_rng(seed)
    return draw.integers(0, classes, (2, *shape)).astype(np.uint8)


def test_dice_and_iou_of_a_mask_counted_by_hand():
    row = metrics.overlap(REFERENCE, PREDICTED, class_index=1)
    assert (row.tp, row.fp, row.fn, row.tn) == (2, 2, 1, 4)
    assert row.dice == pytest.approx(4 / 7)
    assert row.iou == pytest.approx(2 / 5)


def test_the_confusion_of_three_classes_counted_by_hand():
    assert metrics.confusion(REFERENCE, PREDICTED, 3).tolist() == [[3, 1, 0], [1, 2, 0], [0, 1, 1]]


def test_one_class_out_of_a_confusion_is_its_overlap():
    counts = metrics.confusion(REFERENCE, PREDICTED, 3)
    assert [metrics.overlap_of(counts, i) for i in range(3)] == [
        metrics.overlap(REFERENCE, PREDICTED, i) for i in range(3)
    ]


@pytest.mark.parametrize("classes", [2, 4, 32, 200])
def test_confusion_equals_counting_pair_by_pair(classes):
    reference, predicted = random_masks(classes, classes, (20, 30))
    expected = np.zeros((classes, classes), int)
    for pair in zip(reference.ravel(), predicted.ravel()):
        expected[pair] += 1
    assert np.array_equal(metrics.confusion(reference, predicted, classes), expected)


@pytest.mark.parametrize("seed", range(5))
def test_overlap_equals_sets_of_pixels(seed):
    reference, predicted = random_masks(seed, 3)
    a, b = ({tuple(p) for p in np.argwhere(mask == 2)} for mask in (reference, predicted))
    row = metrics.overlap(reference, predicted, 2)
    assert row.dice == pytest.approx(2 * len(a & b) / (len(a) + len(b)))
    assert row.iou == pytest.approx(len(a & b) / len(a | b))


@pytest.mark.parametrize("seed", range(5))
def test_dice_follows_from_iou(seed):
    row = metrics.overlap(*random_masks(seed, 2), 1)
    assert row.dice == pytest.approx(2 * row.iou / (1 + row.iou), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_swapping_reference_and_prediction_keeps_dice_and_swaps_errors(seed):
    reference, predicted = random_masks(seed, 3)
    one, other = metrics.overlap(reference, predicted, 1), metrics.overlap(predicted, reference, 1)
    assert (one.dice, one.fp, one.fn) == (other.dice, other.fn, other.fp)


@pytest.mark.parametrize("turned", [np.transpose, np.flipud, np.rot90], ids=lambda f: f.__name__)
def test_turning_both_masks_changes_nothing(turned):
    reference, predicted = random_masks(0, 4)
    assert np.array_equal(
        metrics.confusion(turned(reference), turned(predicted), 4), metrics.confusion(reference, predicted, 4)
    )


def test_equal_masks_overlap_wholly_and_disjoint_ones_not_at_all():
    assert metrics.overlap(REFERENCE, REFERENCE, 1).dice == 1
    assert metrics.overlap(REFERENCE == 1, REFERENCE == 2, 1).dice == 0


def test_a_class_in_neither_mask_has_no_dice():
    row = metrics.overlap(REFERENCE, PREDICTED, 7)
    assert np.isnan(row.dice)
    assert np.isnan(row.iou)
    assert row.tn == 9


def test_a_missed_and_an_invented_class_have_a_dice_of_0():
    nothing = np.zeros_like(REFERENCE)
    assert metrics.overlap(REFERENCE, nothing, 1) == Overlap(tp=0, fp=0, fn=3, tn=6)
    assert metrics.overlap(REFERENCE, nothing, 1).dice == metrics.overlap(nothing, REFERENCE, 1).dice == 0


def test_counts_add_up_to_the_image():
    row = metrics.overlap(*random_masks(0, 4), 3)
    assert row.tp + row.fp + row.fn + row.tn == 2000


def test_masks_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"reference of shape \(3, 3\), predicted of \(3, 2\); expected the same"):
        metrics.confusion(REFERENCE, PREDICTED[:, :2], 3)


@pytest.mark.parametrize("masks", [(REFERENCE, PREDICTED), (PREDICTED * 0, PREDICTED), (REFERENCE, REFERENCE * 0)])
def test_a_class_index_beyond_the_classes_is_refused(masks):
    with pytest.raises(ValueError, match="class index 2; expected 0 to 1"):
        metrics.confusion(*masks, 2)


def test_overlap_refuses_masks_of_different_shape():
    with pytest.raises(ValueError, match="expected the same"):
        metrics.overlap(REFERENCE, PREDICTED.ravel(), 1)
