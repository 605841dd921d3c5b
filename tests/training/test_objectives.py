import pickle

import numpy as np
import pytest
import torch

from lib import losses
from lib.models import inference
from lib.training import loop, objectives, overfit_one_batch
from tests import builders, builders_tasks
from tests.builders import NETWORK, one_thread, training_params  # noqa: F401


def described(channels):
    """A network with so many output channels, as models.describe gives it."""
    return NETWORK | {"arguments": NETWORK["arguments"] | {"out_channels": channels}}


def landmark_task(arrays, channels=2):
    return loop.objective_of(training_params(landmarks="multicentre"), described(channels), arrays)


def target(task, arrays, row=0):
    return task.target(arrays, row, *objectives.reference_of(arrays, row))


def random_logits(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


# Class regions: counting


def test_confusion_of_one_logit_counted_by_hand():
    logits = torch.tensor([[[[2.0, -1.0], [0.5, -3.0]]]])
    reference = torch.tensor([[[1, 1], [0, 0]]], dtype=torch.uint8)
    assert objectives.confusion(logits, reference, 2).tolist() == [1, 1, 1, 1]


def test_confusion_of_three_logits_counted_by_hand():
    logits = torch.zeros(1, 3, 1, 4)
    for place, winner in enumerate([0, 1, 2, 2]):
        logits[0, winner, 0, place] = 5
    reference = torch.tensor([[[0, 1, 1, 2]]], dtype=torch.uint8)
    assert objectives.confusion(logits, reference, 3).reshape(3, 3).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_confusion_of_the_most_classes_that_a_study_may_have_is_counted_without_overflow():
    reference = torch.full((1, 2, 2), 31, dtype=torch.uint8)
    counts = objectives.confusion(torch.eye(32)[31].reshape(1, 32, 1, 1).expand(1, 32, 2, 2), reference, 32)
    assert (counts[31 * 32 + 31], counts.sum()) == (4, 4)


COUNTS = torch.tensor([[5, 1, 0], [2, 3, 0], [0, 0, 0]]).flatten()  # the last class is in neither: 1


def test_pooled_dice_and_iou_of_a_confusion_counted_by_hand():
    assert objectives.pooled(COUNTS, "dice") == pytest.approx([10 / 13, 6 / 9, 1.0])
    assert objectives.pooled(COUNTS, "iou") == pytest.approx([5 / 8, 3 / 6, 1.0])


def test_what_is_invented_and_never_shown_has_a_pooled_dice_of_0():
    counts = torch.tensor([[5, 2], [0, 0]]).flatten()
    assert objectives.pooled(counts, "dice") == pytest.approx([10 / 12, 0])
    assert objectives.pooled(counts, "iou") == pytest.approx([5 / 7, 0])


def test_pooling_is_over_cases_so_small_ones_count_little():
    large, small = torch.tensor([0, 0, 0, 900]), torch.tensor([0, 0, 10, 0])
    assert objectives.pooled(large + small, "dice")[1] == pytest.approx(1800 / 1810)


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
def test_the_figure_that_chooses_is_the_weighted_mean_over_classes_beside_the_dice_of_each(metric, weights, expected):
    three = {name: [1.0, 1.0, 1.0] for name in ("cross_entropy_class_weights", "dice_class_weights")}
    keys = {"classes": ["background", "a", "b"], "selection_metric": metric, "selection_class_weights": weights}
    scores = loop.objective_of(training_params(**keys, **three), described(3), builders.discs(1)).scores(COUNTS)
    assert scores == pytest.approx({"dice_a": 6 / 9, "dice_b": 1.0, "selection": expected})
    assert list(scores) == ["dice_a", "dice_b", "selection"]


# Class regions: learning


def test_the_loss_is_the_one_that_the_study_file_names():
    chosen = training_params(
        cross_entropy_weight=0.4,
        focal_weight=0.2,
        dice_weight=0.3,
        cross_entropy_class_weights=[1.0, 2.0],
        dice_class_weights=[0.0, 3.0],
        label_smoothing=0.05,
        focal_gamma=1.5,
    )
    expected = losses.Mixture(0.4, 0.2, 0.3, [1.0, 2.0], [0.0, 3.0], label_smoothing=0.05, focal_gamma=1.5)
    assert loop.mixture_of(chosen) == expected
    arrays, logits = builders.discs(2), random_logits(2, 1, 32, 32)
    reference = torch.as_tensor(arrays.masks)
    found = loop.objective_of(chosen, NETWORK, arrays).loss(logits, reference)
    assert torch.equal(found, losses.combined(logits, reference.long(), expected))


def test_the_trial_s_loss_is_cross_entropy_plus_dice_of_all_but_the_background():
    chosen = builders.step_params("03_model", classes=["background", "a", "b"])
    arrays, logits = builders.discs(2), random_logits(2, 3, 32, 32)
    reference = torch.as_tensor(arrays.masks).long()
    dice = losses.soft_dice(logits, reference, [0.0, 1.0, 1.0])
    expected = losses.cross_entropy(logits, reference, [1.0, 1.0, 1.0]) + dice
    assert torch.equal(
        overfit_one_batch.objective_of(chosen.landmarks, chosen.classes, described(3), arrays).loss(logits, reference),
        expected,
    )


def test_the_target_of_regions_is_the_mask_as_augmentation_left_it():
    arrays, moved = builders.discs(2), np.ones((32, 32), np.uint8)
    task = loop.objective_of(training_params(), NETWORK, arrays)
    assert task.target(arrays, 0, moved, None) is moved
    assert np.array_equal(objectives.targets(task, arrays, np.array([1, 0])), arrays.masks[[1, 0]])


def test_the_areas_of_regions_are_the_most_probable_classes_and_the_masks():
    task = loop.objective_of(training_params(), NETWORK, builders.discs(2))
    assert task.areas(torch.tensor([[[[2.0, -1.0]]]])).tolist() == [[[1, 0]]]
    assert task.areas(torch.tensor([[[0.0, 2.0]], [[1.0, 1.0]], [[0.5, 3.0]]])[None]).tolist() == [[[1, 2]]]
    assert task.areas(torch.tensor([[[3, 1]]], dtype=torch.uint8)).tolist() == [[[3, 1]]]


# Heatmaps


@pytest.mark.parametrize("channels", [2, 4])
def test_there_is_a_heatmap_for_each_output_channel_with_its_peaks_at_the_points(channels):
    arrays = builders_tasks.landmarked(3)
    maps = target(landmark_task(arrays, channels), arrays, 1)
    assert (maps.shape, maps.dtype) == ((channels, 32, 32), np.float32)
    for index, (row, col) in enumerate(arrays.points[1].round().astype(int)):
        assert maps.max(axis=0)[row, col] > 0.9
        line = maps[index // 2] if channels == 2 else maps[2 * (index // 2) : 2 * (index // 2) + 2].max(axis=0)
        assert line[row, col] > 0.9


def test_which_end_of_a_line_a_table_calls_the_first_does_not_change_the_target():
    arrays = builders_tasks.landmarked(1)
    for channels in (2, 4):
        task = landmark_task(arrays, channels)
        mask, ends = objectives.reference_of(arrays, 0)
        assert np.array_equal(task.target(arrays, 0, mask, ends[[1, 0, 3, 2]]), task.target(arrays, 0, mask, ends))


def test_each_case_has_the_width_of_its_own_heatmaps():
    arrays = builders_tasks.landmarked(2)
    arrays.points[:] = [[10, 10], [22, 22], [10, 22], [22, 10]]
    arrays.sigmas[:] = [1.0, 2.0]
    volumes = [target(landmark_task(arrays, 4), arrays, row)[0].sum() for row in (0, 1)]
    assert volumes == pytest.approx([2 * np.pi, 8 * np.pi], rel=0.01)  # of a Gaussian: 2 pi sigma^2


@pytest.mark.parametrize("channels", [2, 4])
def test_perfect_heatmaps_have_no_loss_and_no_error_and_a_blank_output_a_loss_of_1(channels):
    arrays = builders_tasks.landmarked(5)
    task = landmark_task(arrays, channels)
    wanted = torch.as_tensor(objectives.targets(task, arrays, np.arange(5)))
    assert task.loss(wanted, wanted) == 0
    assert task.loss(torch.zeros_like(wanted), wanted) == pytest.approx(1.0)
    assert task.tally(wanted, wanted).tolist() == [0, 5]


def moved(arrays, rows):
    """Heatmaps of the points, and of the points moved down by so many rows."""
    task = landmark_task(arrays)
    wanted = target(task, arrays)[None]
    mask, ends = objectives.reference_of(arrays, 0)
    return (
        task,
        torch.as_tensor(task.target(arrays, 0, mask, ends + np.array([rows, 0]))[None]),
        torch.as_tensor(wanted),
    )


def test_the_error_is_the_mean_distance_as_a_share_of_the_ofd():
    arrays = builders_tasks.landmarked(1)
    arrays.points[0] = [[14, 4], [14, 28], [6, 16], [22, 16]]  # 24 and 16 pixels long
    task, found, wanted = moved(arrays, 3)
    sums = task.tally(found, wanted)
    assert sums.tolist() == pytest.approx([3 / 24, 1])
    assert task.scores(sums) == pytest.approx({"error_percent": 12.5, "selection": -12.5})


def test_tallies_of_batches_add_up_to_the_mean_over_images():
    arrays = builders_tasks.landmarked(1)
    arrays.points[0] = [[14, 4], [14, 28], [6, 16], [22, 16]]
    task, found, wanted = moved(arrays, 3)
    perfect = torch.cat([wanted] * 3)
    sums = task.tally(found, wanted) + task.tally(perfect, perfect)
    assert task.scores(sums)["error_percent"] == pytest.approx(12.5 / 4)


def test_a_case_whose_target_was_moved_out_of_the_frame_does_not_count():
    arrays = builders_tasks.landmarked(1)
    arrays.points[0] = [[14, 4], [14, 28], [6, 16], [22, 16]]
    task, cut, whole = moved(arrays, 25)  # of the upper end of the BPD alone something is left
    assert task.tally(whole, cut).tolist() == [0, 0]
    assert np.isnan(task.scores(task.tally(whole, cut))["selection"])
    assert task.scores(task.tally(torch.cat([whole, whole]), torch.cat([cut, whole])))["error_percent"] == 0


def test_a_smaller_error_has_a_larger_selection_value():
    task = landmark_task(builders_tasks.landmarked(1))
    better, worse = (task.scores(torch.tensor([share, 1.0]))["selection"] for share in (0.02, 0.3))
    assert better > worse


def test_the_areas_of_heatmaps_are_where_they_reach_half_their_height():
    arrays = builders_tasks.landmarked(1)
    arrays.points[0] = [[14, 4], [14, 28], [6, 16], [22, 16]]
    for channels in (2, 4):
        task = landmark_task(arrays, channels)
        areas = task.areas(torch.as_tensor(target(task, arrays)[None]))[0].numpy()
        assert areas[[14, 14], [4, 28]].tolist() == [1, 1]
        assert areas[[6, 22], [16, 16]].tolist() == [2, 2]
        # half height lies at 1.18 standard deviations
        assert (areas > 0).sum() == pytest.approx(4 * np.pi * (1.177 * 2) ** 2, rel=0.25)


def test_a_blank_output_has_no_areas():
    task = landmark_task(builders_tasks.landmarked(1))
    assert not task.areas(torch.zeros(1, 2, 8, 8)).any()


def test_heatmaps_are_learned_in_the_trial_as_in_training():
    arrays, network = builders_tasks.landmarked(2), described(2)
    chosen = builders.step_params("03_model", landmarks="multicentre")
    one, other = (
        overfit_one_batch.objective_of(chosen.landmarks, chosen.classes, network, arrays),
        landmark_task(arrays),
    )
    wanted = torch.as_tensor(objectives.targets(one, arrays, np.arange(2)))
    assert torch.equal(wanted, torch.as_tensor(objectives.targets(other, arrays, np.arange(2))))
    assert one == other
    assert one.predict is inference.predict_heatmaps


# Both


@pytest.mark.parametrize("landmarks", ["none", "multicentre"])
def test_a_task_reaches_loader_processes_that_start_afresh(landmarks):
    arrays = builders_tasks.landmarked(1)
    task = loop.objective_of(training_params(landmarks=landmarks), described(2), arrays)
    again = pickle.loads(pickle.dumps(task))
    assert np.array_equal(target(again, arrays), target(task, arrays))


def test_a_network_with_other_outputs_cannot_learn_heatmaps():
    with pytest.raises(ValueError, match=r"out_channels = 1: heatmaps need 2 \(a line each\) or 4 \(a point each\)"):
        landmark_task(builders_tasks.landmarked(1), channels=1)


def test_arrays_without_landmarks_are_refused():
    with pytest.raises(ValueError, match="the arrays hold no landmarks; run 02_preprocessing again"):
        landmark_task(builders.discs(1))


def test_a_case_without_landmarks_is_refused_by_name():
    arrays = builders_tasks.landmarked(2)
    with pytest.raises(ValueError, match="head1: no landmarks; run 02_preprocessing again"):
        landmark_task(arrays).target(arrays, 1, arrays.masks[1], None)
