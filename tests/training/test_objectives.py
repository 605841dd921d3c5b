import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from lib import losses
from lib.models import inference
from lib.training import loop, objectives
from tests import builders, builders_tasks
from tests.builders import one_thread, training_params  # noqa: F401
from tests.builders_tasks import of_network

COUNTS = [[5, 1, 0], [2, 3, 0], [0, 0, 0]]


def heatmap_objective(arrays, channels=2):
    return loop.objective_of(training_params(landmarks="multicentre"), of_network(out_channels=channels), arrays)


def target(objective, arrays, row=0):
    return objective.target(arrays, row, *objectives.reference_of(arrays, row))


def targets(objective, arrays):
    return torch.as_tensor(objectives.targets(objective, arrays, np.arange(len(arrays.names))))


def regions(*classes):
    equal = [1.0] * len(classes)
    weights = {f"{name}_class_weights": equal for name in ("cross_entropy", "dice", "selection")}
    return loop.objective_of(training_params(classes=list(classes), **weights), of_network(), builders.discs(1))


@pytest.mark.parametrize(
    ("logits", "reference", "counts"),
    [
        (torch.tensor([[[[2.0, -1.0], [0.5, -3.0]]]]), [[1, 1], [0, 0]], [[1, 1], [1, 1]]),
        (5 * torch.eye(3)[:, [0, 1, 2, 2]].reshape(1, 3, 1, 4), [[0, 1, 1, 2]], [[1, 0, 0], [0, 1, 1], [0, 0, 1]]),
    ],
)
def test_a_confusion_matrix_counted_by_hand(logits, reference, counts):
    objective = regions("background", "a", "b") if len(counts) == 3 else regions("background", "a")
    tally = objective.tally(logits, torch.tensor([reference], dtype=torch.uint8))
    assert tally.reshape(len(counts), -1).tolist() == counts


def test_the_maximum_number_of_classes_is_counted_without_overflow():
    reference = torch.full((1, 2, 2), 31, dtype=torch.uint8)
    objective = regions("background", *(f"class{n}" for n in range(1, 32)))
    counts = objective.tally(torch.eye(32)[31].reshape(1, 32, 1, 1).expand(1, 32, 2, 2), reference)
    assert (counts[31 * 32 + 31], counts.sum()) == (4, 4)


@pytest.mark.parametrize(
    ("counts", "dice", "iou"),
    [
        (COUNTS, [10 / 13, 6 / 9, 1.0], [5 / 8, 3 / 6, 1.0]),  # the last class is absent: 1
        ([[5, 2], [0, 0]], [10 / 12, 0], [5 / 7, 0]),  # predicted, but absent
        ([[0, 0], [10, 900]], [0, 1800 / 1810], [0, 900 / 910]),  # a missed small structure has little weight
    ],
)
def test_pooled_dice_and_iou_counted_by_hand(counts, dice, iou):
    for metric, expected in (("dice", dice), ("iou", iou)):
        assert objectives.pooled(torch.tensor(counts).flatten(), metric) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "weights", "expected"),
    [
        ("dice", [0.0, 1.0, 0.0], 6 / 9),
        ("dice", [1.0, 2.0, 1.0], (10 / 13 + 2 * 6 / 9 + 1) / 4),
        ("iou", [0.0, 1.0, 3.0], (1 / 2 + 3) / 4),
        ("iou", [0.0, 10.0, 30.0], (1 / 2 + 3) / 4),
    ],
    ids=str,
)
def test_the_selection_value_is_the_weighted_mean_over_classes(metric, weights, expected):
    objective = replace(regions("background", "a", "b"), overlap=metric, class_weights=weights)
    scores = objective.scores(torch.tensor(COUNTS).flatten())
    assert scores == pytest.approx({"dice_a": 6 / 9, "dice_b": 1.0, "selection": expected})
    assert list(scores) == ["dice_a", "dice_b", "selection"]


def test_the_loss_is_that_of_the_study_file():
    keys = {"cross_entropy_weight": 0.4, "focal_weight": 0.2, "dice_weight": 0.3, "label_smoothing": 0.05}
    keys |= {"cross_entropy_class_weights": [1.0, 2.0], "dice_class_weights": [0.0, 3.0], "focal_gamma": 1.5}
    expected = losses.Mixture(0.4, 0.2, 0.3, [1.0, 2.0], [0.0, 3.0], label_smoothing=0.05, focal_gamma=1.5)
    config, arrays = training_params(**keys), builders.discs(2)
    assert loop.mixture_of(config) == expected
    logits, reference = torch.randn(2, 1, 32, 32), torch.as_tensor(arrays.masks)
    loss = loop.objective_of(config, of_network(), arrays).loss(logits, reference)
    assert torch.equal(loss, losses.combined(logits, reference.long(), expected))


def test_the_target_of_regions_is_the_mask_and_areas_are_the_most_probable_classes():
    arrays, moved = builders.discs(2), np.ones((32, 32), np.uint8)
    objective = loop.objective_of(training_params(), of_network(), arrays)
    assert objective.target(arrays, 0, moved, None) is moved
    assert np.array_equal(objectives.targets(objective, arrays, np.array([1, 0])), arrays.masks[[1, 0]])
    assert objective.areas(torch.tensor([[[[2.0, -1.0]]]])).tolist() == [[[1, 0]]]
    assert objective.areas(torch.tensor([[[0.0, 2.0]], [[1.0, 1.0]], [[0.5, 3.0]]])[None]).tolist() == [[[1, 2]]]
    assert objective.areas(torch.tensor([[[3, 1]]], dtype=torch.uint8)).tolist() == [[[3, 1]]]


def test_heatmaps_have_the_width_of_their_case():
    arrays = builders_tasks.landmarked(2)
    arrays.points[:] = [[10, 10], [22, 22], [10, 22], [22, 10]]
    arrays.sigmas[:] = [1.0, 2.0]
    volumes = [target(heatmap_objective(arrays, 4), arrays, row)[0].sum() for row in (0, 1)]
    assert volumes == pytest.approx([2 * np.pi, 8 * np.pi], rel=0.01)  # of a Gaussian: 2 pi sigma^2


both_layouts = pytest.mark.parametrize("channels", [2, 4])


def cross():
    """One head whose OFD is 24 and whose BPD is 16 pixels long."""
    arrays = builders_tasks.landmarked(1)
    arrays.points[0] = [[14, 4], [14, 28], [6, 16], [22, 16]]
    return arrays


def moved_target(objective, arrays, rows):
    return torch.as_tensor(objective.target(arrays, 0, arrays.masks[0], arrays.points[0] + [rows, 0])[None])


@both_layouts
def test_heatmaps_have_peaks_at_the_points_in_any_order_of_endpoints(channels):
    arrays = builders_tasks.landmarked(3)
    objective = heatmap_objective(arrays, channels)
    maps = target(objective, arrays, 1)
    assert (maps.shape, maps.dtype) == ((channels, 32, 32), np.float32)
    for index, (row, col) in enumerate(arrays.points[1].round().astype(int)):
        line = maps.reshape(2, -1, 32, 32)[index // 2].max(axis=0)
        assert line[row, col] > 0.9
    assert np.array_equal(objective.target(arrays, 1, arrays.masks[1], arrays.points[1][[1, 0, 3, 2]]), maps)


@both_layouts
def test_perfect_heatmaps_have_loss_0_and_error_0_and_zeros_have_loss_1_and_no_areas(channels):
    arrays = builders_tasks.landmarked(5)
    objective = heatmap_objective(arrays, channels)
    maps = targets(objective, arrays)
    blank = torch.zeros_like(maps)
    assert objective.loss(maps, maps) == 0
    assert objective.loss(blank, maps) == pytest.approx(1.0)
    assert objective.tally(maps, maps).tolist() == [0, 5]
    assert objective.scores(objective.tally(blank, maps))["selection"] == objective.empty_score
    assert not objective.areas(blank).any()


def test_the_error_is_the_mean_distance_relative_to_the_ofd_over_all_images():
    arrays = cross()
    objective = heatmap_objective(arrays)
    maps = targets(objective, arrays)
    sums = objective.tally(moved_target(objective, arrays, 3), maps)
    assert sums.tolist() == pytest.approx([3 / 24, 1])
    assert objective.scores(sums) == pytest.approx({"error_percent": 12.5, "selection": -12.5})
    perfect = torch.cat([maps] * 3)  # the smaller error has the larger selection value
    assert objective.scores(sums + objective.tally(perfect, perfect))["selection"] == pytest.approx(-12.5 / 4)


def test_a_case_whose_target_left_the_frame_is_not_counted():
    arrays = cross()
    objective = heatmap_objective(arrays)
    whole, cut = targets(objective, arrays), moved_target(objective, arrays, 25)  # leaves the BPD's upper endpoint
    assert objective.tally(whole, cut).tolist() == [0, 0]
    assert np.isnan(objective.scores(objective.tally(whole, cut))["selection"])
    both = objective.tally(torch.cat([whole, whole]), torch.cat([cut, whole]))
    assert objective.scores(both)["error_percent"] == 0


@both_layouts
def test_the_areas_of_heatmaps_are_those_above_half_the_peak(channels):
    arrays = cross()
    objective = heatmap_objective(arrays, channels)
    areas = objective.areas(targets(objective, arrays))[0].numpy()
    assert objective.predict is inference.predict_heatmaps
    assert areas[[14, 14, 6, 22], [4, 28, 16, 16]].tolist() == [1, 1, 2, 2]
    # half the peak is at 1.18 standard deviations
    assert (areas > 0).sum() == pytest.approx(4 * np.pi * (1.177 * 2) ** 2, rel=0.25)


@pytest.mark.parametrize("landmarks", ["none", "multicentre"])
def test_an_objective_can_be_pickled_for_loader_processes(landmarks):
    arrays = builders_tasks.landmarked(1)
    objective = loop.objective_of(training_params(landmarks=landmarks), of_network(out_channels=2), arrays)
    assert pickle.loads(pickle.dumps(objective)) == objective


def test_a_wrong_number_of_outputs_and_missing_landmarks_are_refused():
    arrays = builders_tasks.landmarked(2)
    with pytest.raises(ValueError, match=r"out_channels = 1: heatmaps need 2 \(one per line\) or 4 \(one per point\)"):
        heatmap_objective(arrays, 1)
    with pytest.raises(ValueError, match="the arrays contain no landmarks; rerun 02_preprocessing"):
        heatmap_objective(builders.discs(1))
    with pytest.raises(ValueError, match="head1: no landmarks"):
        heatmap_objective(arrays).target(arrays, 1, arrays.masks[1], None)
