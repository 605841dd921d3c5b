from dataclasses import astuple

import numpy as np
import pytest

from lib import metrics
from tests import builders

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


def region(text):
    return builders.typed(text) > 0


def all_distances(reference, predicted, spacing=(1, 1), tolerance=1.0):
    return list(astuple(metrics.distances(reference, predicted, spacing, tolerance)))


@pytest.mark.parametrize(
    ("mask", "edge"),
    [
        ("..... .111. .111. .111. .....", "..... .111. .1.1. .111. ....."),
        ("111 111 111", "111 1.1 111"),  # the frame counts as outside
        ("..... ..1.. .111. ..1.. .....", "..... ..1.. .1.1. ..1.. ....."),  # diagonal neighbours do not count
        ("11111 11111 11.11 11111 11111", "11111 1.1.1 11.11 1.1.1 11111"),  # a hole has a boundary of its own
        ("...", "..."),
    ],
)
def test_the_boundary_of_typed_masks(mask, edge):
    assert np.array_equal(metrics.boundary(region(mask)), region(edge))
    volume = np.stack([region(mask)] * 3)  # the first and last slice have no neighbour beyond the frame
    assert np.array_equal(metrics.boundary(volume), np.stack([region(mask), region(edge), region(mask)]))


FIRST, LAST = (np.arange(3)[:, None, None] == at * np.ones((1, 2, 2)) for at in (0, 2))  # slices of 2 x 2 voxels
BAR, SHORTER = region("....... .11111. ......."), region("....... .111... .......")


@pytest.mark.parametrize(
    ("reference", "predicted", "spacing", "tolerance", "expected"),
    [
        # reference to prediction 0 0 0 1 2, back 0 0 0: the 95th percentile of five is 1 + 0.8
        (BAR, SHORTER, (1, 1), 1, [2, 1.8, 3 / 8, 7 / 8]),
        (BAR, SHORTER, (1, 0.5), 0.4, [1, 0.9, 1.5 / 8, 6 / 8]),
        (BAR, BAR, (1, 1), 0, [0, 0, 0, 1]),
        (region("1... ...."), region(".... ...1"), (4, 1), 5, [5, 5, 5, 1]),  # 3 columns and a row of 4
        (region("1..."), region("...1"), (1, 0.1), 0.3, [0.3, 0.3, 0.3, 1]),  # 3 x 0.1 is a little above 0.3
        (BAR, BAR & False, (1, 1), 1, [np.nan, np.nan, np.nan, 0]),  # missed
        (BAR & False, BAR, (1, 1), 1, [np.nan, np.nan, np.nan, 0]),  # only predicted
        (BAR & False, BAR & False, (1, 1), 1, [np.nan] * 4),  # absent
        (BAR, SHORTER, (1, 1), np.nan, [2, 1.8, 3 / 8, np.nan]),  # no tolerance, no NSD
        (FIRST, LAST, (3, 1, 1), 6, [6, 6, 6, 1]),
    ],
)
def test_distances_measured_by_hand(reference, predicted, spacing, tolerance, expected):
    assert all_distances(reference, predicted, spacing, tolerance) == pytest.approx(expected, nan_ok=True)


def brute_force(reference, predicted, spacing, tolerance):
    """All distances from all pairs of boundary points, found pixel by pixel."""
    edges = []
    for mask in (reference, predicted):
        inside = {tuple(point) for point in np.argwhere(mask)}
        steps = [step for axis in np.eye(mask.ndim, dtype=int) for step in (axis, -axis)]
        edges.append([p for p in inside if any(tuple(np.add(p, step)) not in inside for step in steps)])
    a, b = (np.array(points, float) * spacing for points in edges)
    pairs = np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    both = np.concatenate([there, back])
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return [both.max(), hd95, both.mean(), (both <= tolerance).mean()]


@pytest.mark.parametrize("seed", range(24))
def test_distances_of_random_regions_equal_brute_force_and_follow_their_properties(seed):
    draw = np.random.default_rng(seed)
    shape = (11, 17) if seed % 2 else (5, 9, 8)
    spacing, tolerance = draw.uniform(0.2, 3, len(shape)), draw.uniform(0.5, 3)
    reference, predicted = (draw.random((2, *shape)) < draw.choice([0.02, 0.3, 0.9])) | (
        draw.random((2, *shape)) < 0.02
    )
    expected = brute_force(reference, predicted, spacing, tolerance)
    measured = all_distances(reference, predicted, spacing, tolerance)
    assert measured == pytest.approx(expected, abs=1e-9)
    assert all_distances(predicted, reference, spacing, tolerance) == pytest.approx(measured)  # symmetry
    assert all_distances(reference, reference, spacing, tolerance) == [0, 0, 0, 1]
    moved = (np.pad(mask, [(2, 3)] * len(shape)) for mask in (reference, predicted))
    assert all_distances(*moved, spacing, tolerance) == pytest.approx(measured)  # translation, and a wider frame
    scaled = all_distances(reference, predicted, 4 * spacing, 4 * tolerance)
    assert scaled == pytest.approx([*(4 * length for length in measured[:3]), measured[3]])
    assert max(measured[1], measured[2]) <= measured[0]


@pytest.mark.parametrize("spacing", [(1,), (1, 0), (1, -1), (np.nan, 1), (1, np.inf), (1, 1, 1)])
def test_a_spacing_that_is_no_positive_number_per_axis_is_refused(spacing):
    with pytest.raises(ValueError, match=r"spacing = .*; expected 2 positive numbers, one per axis"):
        metrics.distances(BAR, SHORTER, spacing)
    with pytest.raises(ValueError, match=r"shape \(3, 7\), predicted \(3, 6\)"):
        metrics.distances(BAR, SHORTER[:, 1:], (1, 1))


def test_a_size_error_is_in_percent_of_the_reference():
    counts = [(8, 4, 2), (8, 0, 2), (0, 0, 5), (0, 5, 0), (0, 0, 0)]
    errors = [metrics.Overlap(*each, 9).size_error_percent for each in counts]
    assert errors == pytest.approx([20, -20, -100, np.nan, np.nan], nan_ok=True)
