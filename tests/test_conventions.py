"""Differences from MONAI 1.6.1 and segmentation_models.pytorch (smp) 0.6.0 in docs/conventions.md, shown on numbers.

Neither is a dependency: their computations are restated from the published code in a few lines.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from lib import losses, metrics
from lib.evaluation import segmentation
from lib.report.summaries import dice, patients

LOGITS = torch.tensor([[[[2.0, -1.0, 0.5, -3.0]]], [[[1.0, 0.0, -2.0, 3.0]]]])  # (2, 1, 1, 4): two images, one logit
REFERENCE = torch.tensor([[[1, 0, 1, 0]], [[1, 1, 0, 1]]])
SEVERAL = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))  # of three classes
CLASSES = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
FULL, EMPTY = np.array([[True, True, False, False]]), np.zeros((1, 4), bool)
PAIRS = ((FULL, FULL), (FULL, FULL[:, ::-1]), (FULL, EMPTY), (EMPTY, FULL), (EMPTY, EMPTY))


def one_hot(reference, count):
    return functional.one_hot(reference, count).movedim(-1, 1).float()  # (N, C, H, W)


def soft_dice_terms(logits, reference, smooth):
    """1 - soft Dice of each image and class, (N, C): MONAI's `DiceLoss` with reduction none, batch False."""
    p, y = losses.probabilities(logits), one_hot(reference, max(2, logits.shape[1]))
    both, total = (p * y).sum(dim=(2, 3)), p.sum(dim=(2, 3)) + y.sum(dim=(2, 3))
    return 1 - (2 * both + smooth) / (total + smooth)


@pytest.mark.parametrize("weights", [[0.0, 1.0, 3.0], [1.0, 2.0, 2.0]])
def test_monai_s_weighted_dice_loss_is_ours_times_the_sum_of_weights_over_the_classes(weights):
    theirs = (soft_dice_terms(SEVERAL, CLASSES, losses.EPSILON) * torch.tensor(weights)).mean()  # over N and C
    ours = losses.soft_dice(SEVERAL, CLASSES, weights)
    assert theirs == pytest.approx(float(ours) * sum(weights) / 3, rel=1e-5)


def test_monai_s_dice_loss_of_an_absent_class_is_nearly_1_and_ours_falls_with_what_is_predicted():
    logits, nothing = torch.full((1, 1, 1, 4), -2.0), torch.zeros(1, 1, 4, dtype=torch.long)
    predicted = 4 / (1 + np.exp(2))  # 0.477 pixels
    theirs = soft_dice_terms(logits, nothing, 1e-5)[0, 1]
    ours = losses.soft_dice(logits, nothing, [0.0, 1.0])
    assert theirs == pytest.approx(1 - 1e-5 / (predicted + 1e-5), abs=1e-6) == pytest.approx(0.99998, abs=1e-5)
    assert ours == pytest.approx(1 - 1 / (predicted + 1), abs=1e-6) == pytest.approx(0.3229, abs=1e-4)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_monai_s_focal_loss_of_several_classes_is_ours_divided_by_the_number_of_classes(gamma):
    p, y = torch.softmax(SEVERAL, dim=1), one_hot(CLASSES, 3)
    theirs = (-y * (1 - p) ** gamma * p.log()).mean()  # over N x C x H x W
    assert theirs == pytest.approx(float(losses.focal(SEVERAL, CLASSES, [1.0] * 3, gamma)) / 3, rel=1e-5)


def monai_dice(reference, predicted, ignore_empty):
    """`compute_dice` of one image and class."""
    total = reference.sum() + predicted.sum()
    if reference.any():
        return 2 * (reference & predicted).sum() / total
    return float("nan") if ignore_empty else 1.0 if total == 0 else 0.0


def long_table(*pairs):
    """Rows of the cases.csv of 05, for images of one class."""
    rows = []
    for number, (reference, predicted) in enumerate(pairs):
        counts = metrics.confusion(reference.astype(np.uint8), predicted.astype(np.uint8), 2)
        key = {"case": f"c{number}", "subject": f"s{number}", "fold": 0, "seed": 0, "class": "lesion", "stage": "post"}
        rows.append(key | segmentation.class_rows(counts, ["background", "lesion"])["lesion"])
    return pd.DataFrame(rows, columns=segmentation.COLUMNS)


def test_means_agree_with_monai_s_that_ignore_empty_references_and_inventions_are_counted_beside():
    theirs = np.nanmean([monai_dice(*pair, ignore_empty=True) for pair in PAIRS])
    row = dice.per_class(long_table(*PAIRS)).iloc[0]
    assert row["dice"] == pytest.approx(theirs) == pytest.approx(1 / 3)
    assert (row["n"], row["missed"], row["invented"], row["absent"]) == (3, 1, 1, 1)


def test_where_neither_shows_anything_monai_without_ignore_empty_says_1_and_we_nothing_but_by_patient():
    assert monai_dice(EMPTY, EMPTY, ignore_empty=False) == 1
    assert np.isnan(metrics.overlap(EMPTY, EMPTY, 1).dice)
    theirs = np.mean([monai_dice(*pair, ignore_empty=False) for pair in PAIRS])
    manifest = pd.DataFrame({"case": [f"c{n}" for n in range(len(PAIRS))], "slices": 2})
    by_patient = patients.summary(long_table(*PAIRS), manifest).iloc[0]
    assert by_patient["dice_per_patient"] == pytest.approx(theirs) == pytest.approx(2 / 5)
    assert by_patient["n"] == 5


@pytest.mark.parametrize("smoothing", [0.05, 0.1, 0.2])
def test_label_smoothing_is_half_as_strong_as_smp_s(smoothing):
    y = REFERENCE.float()
    softened = (1 - y) * smoothing + y * (1 - smoothing)  # SoftBCEWithLogitsLoss
    theirs = functional.binary_cross_entropy_with_logits(LOGITS[:, 0], softened)
    assert theirs == pytest.approx(float(losses.cross_entropy(LOGITS, REFERENCE, [1.0, 1.0], 2 * smoothing)), rel=1e-6)
    assert theirs != pytest.approx(float(losses.cross_entropy(LOGITS, REFERENCE, [1.0, 1.0], smoothing)), rel=1e-3)


def smp_dice(logits, reference):
    """`DiceLoss` of two classes with smooth 0: counts of the whole batch together; 0 if the class is absent."""
    p, y = torch.sigmoid(logits[:, 0]), reference.float()
    return float((1 - 2 * (p * y).sum() / (p.sum() + y.sum()).clamp_min(1e-7)) * (y.sum() > 0))


def test_smp_s_dice_loss_is_0_where_the_class_is_absent_and_ours_punishes_what_is_predicted():
    nothing = torch.zeros_like(REFERENCE)
    assert smp_dice(LOGITS, nothing) == 0
    assert losses.soft_dice(LOGITS, nothing, [0.0, 1.0]) > 0.5
    confident = torch.full((1, 1, 32, 32), 10.0)
    assert losses.soft_dice(confident, torch.zeros(1, 32, 32, dtype=torch.long), [0.0, 1.0]) > 0.999


def test_smp_s_dice_loss_pools_the_batch_and_ours_takes_each_image_by_itself():
    logits = torch.full((2, 1, 1, 100), -20.0)
    logits[0, ..., :80], logits[1, ..., :1] = 20.0, 20.0  # a large region detected, of a small one 1 pixel
    reference = torch.zeros(2, 1, 100, dtype=torch.long)
    reference[0, ..., :80], reference[1, ..., :9] = 1, 1
    # Of the batch: 2 x 81 / (81 + 89). Of each: 1 and (2 x 1 + 1) / (1 + 9 + 1).
    assert smp_dice(logits, reference) == pytest.approx(1 - 162 / 170, abs=1e-6) == pytest.approx(0.0471, abs=1e-4)
    ours = losses.soft_dice(logits, reference, [0.0, 1.0])
    assert ours == pytest.approx((0 + 1 - 3 / 11) / 2, abs=1e-6) == pytest.approx(0.3636, abs=1e-4)


def test_smp_s_focal_loss_of_several_classes_adds_up_one_against_all_the_others():
    def one_against_all(logits, y):
        nll = functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
        return ((1 - torch.exp(-nll)) ** 2 * nll).mean()

    y = one_hot(CLASSES, 3)
    theirs = sum(float(one_against_all(SEVERAL[:, index], y[:, index])) for index in range(3))
    assert theirs != pytest.approx(float(losses.focal(SEVERAL, CLASSES, [1.0] * 3, 2.0)), rel=0.05)
    binary = one_against_all(LOGITS[:, 0], REFERENCE.float())  # of two it is ours
    assert binary == pytest.approx(float(losses.focal(LOGITS, REFERENCE, [1.0, 1.0], 2.0)), rel=1e-6)
    flat = torch.zeros(1, 4, 1, 1)  # four classes, equally likely: (1/2)^2 ln 2 for each of four, (3/4)^2 ln 4 here
    sure = sum(float(one_against_all(flat[:, i], torch.full((1, 1, 1), float(i == 0)))) for i in range(4))
    assert sure == pytest.approx(4 * 0.25 * np.log(2)) == pytest.approx(0.6931, abs=1e-4)
    ours = losses.focal(flat, torch.zeros(1, 1, 1, dtype=torch.long), [1.0] * 4, 2.0)
    assert ours == pytest.approx(0.5625 * np.log(4)) == pytest.approx(0.7798, abs=1e-4)
