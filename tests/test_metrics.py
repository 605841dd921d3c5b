import numpy as np
import pytest

from lib import metrics

REFERENCE = np.array([[0, 1, 1], [0, 1, 0], [2, 2, 0]], np.uint8)
PREDICTED = np.array([[0, 1, 0], [0, 1, 1], [2, 1, 0]], np.uint8)
NOTHING = np.zeros_like(REFERENCE)


@pytest.mark.parametrize(
    ("reference", "predicted", "class_index", "counts", "dice", "iou"),
    [
        (REFERENCE, PREDICTED, 1, (2, 2, 1, 4), 4 / 7, 2 / 5),
        (REFERENCE, PREDICTED, 7, (0, 0, 0, 9), np.nan, np.nan),  # absent
        (REFERENCE, NOTHING, 1, (0, 0, 3, 6), 0, 0),  # missed
        (NOTHING, REFERENCE, 1, (0, 3, 0, 6), 0, 0),  # only predicted
        (REFERENCE, REFERENCE, 1, (3, 0, 0, 6), 1, 1),
        (REFERENCE == 1, REFERENCE == 2, 1, (0, 2, 3, 4), 0, 0),  # disjoint
    ],
)
def test_overlaps_counted_by_hand(reference, predicted, class_index, counts, dice, iou):
    row = metrics.overlap(reference, predicted, class_index)
    assert row == metrics.Overlap(*counts)
    assert [row.dice, row.iou] == pytest.approx([dice, iou], nan_ok=True)


@pytest.mark.parametrize("classes", [2, 3, 4, 32, 200])
def test_confusion_and_overlap_equal_counting_pair_by_pair_and_sets_of_pixels(classes):
    reference, predicted = np.random.default_rng(classes).integers(0, classes, (2, 20, 30)).astype(np.uint8)
    expected = np.zeros((classes, classes), int)
    for pair in zip(reference.ravel(), predicted.ravel()):
        expected[pair] += 1
    counts = metrics.confusion(reference, predicted, classes)
    assert np.array_equal(counts, expected)
    assert np.array_equal(metrics.confusion(reference.T, predicted.T, classes), expected)
    row = metrics.overlap(reference, predicted, 1)
    assert row == metrics.overlap_of(counts, 1)
    a, b = ({tuple(p) for p in np.argwhere(mask == 1)} for mask in (reference, predicted))
    assert row.dice == pytest.approx(2 * len(a & b) / (len(a) + len(b)))
    assert row.iou == pytest.approx(len(a & b) / len(a | b))
    assert row.tp + row.fp + row.fn + row.tn == reference.size


def test_masks_of_different_shape_and_a_class_beyond_the_classes_are_refused():
    for masks in ((NOTHING, PREDICTED), (REFERENCE, NOTHING)):
        with pytest.raises(ValueError, match="class index 2; expected 0 to 1"):
            metrics.confusion(*masks, 2)
    with pytest.raises(ValueError, match=r"shape \(3, 3\), predicted \(3, 2\)"):
        metrics.confusion(REFERENCE, PREDICTED[:, :2], 3)
    with pytest.raises(ValueError, match="expected equal shapes"):
        metrics.overlap(REFERENCE, PREDICTED.ravel(), 1)
