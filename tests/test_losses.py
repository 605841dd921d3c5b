from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from lib import losses
from tests.builders_tasks import HEAD, SHAPE, heatmap_batch


def draw(channels, classes, seed=0, size=(2, 8, 9)):
    made = torch.Generator().manual_seed(seed)
    logits = torch.randn((size[0], channels, *size[1:]), generator=made)
    return logits, torch.randint(0, classes, size, generator=made)


def dice_by_hand(predicted, reference):
    """1 - (2 sum(p r) + 1) / (sum(p) + sum(r) + 1), a mean over samples, in numpy."""
    both = (predicted * reference).sum(axis=(1, 2))
    return np.mean(1 - (2 * both + 1) / (predicted.sum(axis=(1, 2)) + reference.sum(axis=(1, 2)) + 1))


def probability_of_reference(logits, reference):
    """What each pixel's reference class has, (N, H, W): picked out of all probabilities."""
    return losses.probabilities(logits).gather(1, reference[:, None])[:, 0]


# Probabilities


def test_one_logit_gives_two_probabilities_that_add_up_to_1():
    shown = losses.probabilities(torch.tensor([[[[0.0, np.log(3)]]]]))
    assert shown.numpy()[0, :, 0] == pytest.approx(np.array([[0.5, 0.25], [0.5, 0.75]]))


def test_four_logits_give_their_softmax():
    logits, _ = draw(4, 4)
    exponential = np.exp(logits.numpy())
    expected = exponential / exponential.sum(axis=1, keepdims=True)
    assert losses.probabilities(logits).numpy() == pytest.approx(expected, rel=1e-5)


def test_probabilities_are_float32_whatever_the_logits_are():
    assert losses.probabilities(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16)).dtype == torch.float32


# Cross-entropy


def test_cross_entropy_of_one_logit_is_torch_s_binary_one():
    logits, reference = draw(1, 2)
    expected = functional.binary_cross_entropy(torch.sigmoid(logits[:, 0]), reference.float())
    assert float(losses.cross_entropy(logits, reference, [1.0, 1.0])) == pytest.approx(float(expected), rel=1e-5)


def test_cross_entropy_of_four_logits_is_the_mean_negative_log_probability_of_the_reference():
    logits, reference = draw(4, 4)
    expected = -probability_of_reference(logits, reference).log().mean()
    assert float(losses.cross_entropy(logits, reference, [1.0] * 4)) == pytest.approx(float(expected), rel=1e-5)


def test_even_logits_cost_the_logarithm_of_the_number_of_classes():
    ones = torch.ones(1, 2, 2).long()
    for channels, classes in ((1, 2), (5, 5)):
        found = losses.cross_entropy(torch.zeros(1, channels, 2, 2), ones, [1.0] * classes)
        assert float(found) == pytest.approx(np.log(classes))


def test_class_weights_of_cross_entropy_counted_by_hand():
    logits = torch.log(torch.tensor([[[[3.0, 1.0, 1 / 3]]]]))  # foreground probabilities 3/4, 1/2, 1/4
    reference = torch.tensor([[[1, 0, 0]]])
    # weight 3 on the first pixel, 1 on the others: -(3 ln 3/4 + ln 1/2 + ln 3/4) / 5
    expected = -(3 * np.log(3 / 4) + np.log(1 / 2) + np.log(3 / 4)) / 5
    assert float(losses.cross_entropy(logits, reference, [1.0, 3.0])) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weights", [[1.0, 2.0, 0.5], [0.0, 1.0, 3.0], [2.0, 2.0, 2.0]], ids=str)
def test_class_weights_of_cross_entropy_are_those_of_torch(weights):
    logits, reference = draw(3, 3)
    expected = functional.cross_entropy(logits, reference, weight=torch.tensor(weights))
    assert float(losses.cross_entropy(logits, reference, weights)) == pytest.approx(float(expected), rel=1e-5)


def test_pixels_of_a_class_of_weight_0_cost_nothing():
    logits, reference = draw(3, 3)
    changed = torch.where(reference[:, None] == 2, 50.0, logits)
    for loss in (losses.cross_entropy, lambda *given: losses.focal(*given, 2.0)):
        one, other = (float(loss(each, reference, [1.0, 1.0, 0.0])) for each in (logits, changed))
        assert one == other
        assert float(loss(logits, torch.full_like(reference, 2), [1.0, 1.0, 0.0])) == 0


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("smoothing", [0.0, 0.05, 0.3])
def test_label_smoothing_is_that_of_torch(classes, smoothing):
    logits, reference = draw(classes, classes)
    expected = functional.cross_entropy(logits, reference, label_smoothing=smoothing)
    found = losses.cross_entropy(logits, reference, [1.0] * classes, smoothing)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_label_smoothing_of_one_pixel_counted_by_hand():
    logits = torch.log(torch.tensor([0.7, 0.2, 0.1])).reshape(1, 3, 1, 1)
    found = losses.cross_entropy(logits, torch.zeros(1, 1, 1).long(), [1.0] * 3, 0.3)
    # targets 0.7 + 0.1, 0.1, 0.1
    expected = -(0.8 * np.log(0.7) + 0.1 * np.log(0.2) + 0.1 * np.log(0.1))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_a_smoothed_pixel_weighs_as_its_reference_class():
    logits, reference = draw(3, 3)
    one_by_one = functional.cross_entropy(logits, reference, label_smoothing=0.2, reduction="none")
    weights = torch.tensor([1.0, 2.0, 4.0])[reference]
    expected = (weights * one_by_one).sum() / weights.sum()
    found = losses.cross_entropy(logits, reference, [1.0, 2.0, 4.0], 0.2)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b: losses.cross_entropy(a, b, [1.0, 1.0]),
        lambda a, b: losses.cross_entropy(a, b, [0.5, 3.0]),
        lambda a, b: losses.cross_entropy(a, b, [0.5, 3.0], 0.1),
        lambda a, b: losses.focal(a, b, [0.5, 3.0], 2.0),
        lambda a, b: losses.soft_dice(a, b, [0.3, 0.7]),
    ],
    ids=["cross-entropy", "weighted", "smoothed", "focal", "Dice"],
)
def test_two_logits_of_0_and_z_are_one_logit_z(loss):
    z, reference = draw(1, 2)
    pair = torch.cat([torch.zeros_like(z), z], dim=1)
    assert losses.probabilities(pair).numpy() == pytest.approx(losses.probabilities(z).numpy(), abs=1e-6)
    assert float(loss(pair, reference)) == pytest.approx(float(loss(z, reference)), rel=1e-5)


# Focal loss


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.5, 1.0, 2.0]], ids=str)
def test_focal_loss_of_gamma_0_is_cross_entropy(weights):
    logits, reference = draw(3, 3)
    expected = float(losses.cross_entropy(logits, reference, weights))
    assert float(losses.focal(logits, reference, weights, 0.0)) == pytest.approx(expected, rel=1e-6)


def test_focal_loss_of_four_pixels_counted_by_hand():
    logits = torch.log(torch.tensor([[[[3.0, 1.0], [1.0, 1 / 3]]]]))  # foreground probabilities 3/4, 1/2, 1/2, 1/4
    reference = torch.tensor([[[1, 1], [0, 1]]])  # whose probabilities are 3/4, 1/2, 1/2, 1/4
    costs = [(1 / 4) ** 2 * np.log(4 / 3), (1 / 2) ** 2 * np.log(2), (1 / 2) ** 2 * np.log(2), (3 / 4) ** 2 * np.log(4)]
    assert float(losses.focal(logits, reference, [1.0, 1.0], 2.0)) == pytest.approx(np.mean(costs), rel=1e-6)


def test_a_value_of_focal_loss_typed_out():
    # a pixel of probability 0.9: 0.1^2 * -ln 0.9, a hundredth of its cross-entropy (Lin et al. 2017, section 3.2)
    logits = torch.log(torch.tensor([[[[9.0]]]]))
    assert float(losses.focal(logits, torch.ones(1, 1, 1).long(), [1.0, 1.0], 2.0)) == pytest.approx(
        0.00105360, abs=1e-8
    )


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (4, 4)])
def test_focal_loss_forgets_by_the_plain_probability_whatever_a_class_weighs(channels, classes, gamma):
    logits, reference = draw(channels, classes)
    weights = torch.arange(1.0, classes + 1)
    p = probability_of_reference(logits, reference)
    each = (1 - p) ** gamma * -p.log()
    expected = (weights[reference] * each).sum() / weights[reference].sum()
    found = float(losses.focal(logits, reference, weights.tolist(), gamma))
    assert found == pytest.approx(float(expected), rel=1e-5)
    from_weighted = torch.exp(-weights[reference] * -p.log())  # of a weighted cross-entropy: no probability
    other = (weights[reference] * (1 - from_weighted) ** gamma * -p.log()).sum() / weights[reference].sum()
    assert abs(found / float(other) - 1) > 0.05


# Soft Dice


def test_soft_dice_of_four_pixels_counted_by_hand():
    logits = torch.log(torch.tensor([[[[3.0, 1.0], [1.0, 1 / 3]]]]))  # probabilities 3/4, 1/2, 1/2, 1/4
    reference = torch.tensor([[[1, 1], [0, 0]]])
    # 1 - (2 (3/4 + 1/2) + 1) / (2 + 2 + 1)
    assert float(losses.soft_dice(logits, reference, [0.0, 1.0])) == pytest.approx(1 - 3.5 / 5)


def test_soft_dice_is_the_weighted_mean_over_classes():
    logits, reference = draw(3, 3)
    shown, there = losses.probabilities(logits).numpy(), np.eye(3)[reference.numpy()]
    each = [dice_by_hand(shown[:, c], there[..., c]) for c in range(3)]
    expected = (1 * each[0] + 2 * each[1] + 5 * each[2]) / 8
    assert float(losses.soft_dice(logits, reference, [1.0, 2.0, 5.0])) == pytest.approx(expected, rel=1e-5)


def test_a_class_of_weight_0_does_not_count():
    logits, reference = draw(3, 2)
    changed = reference.clone()
    changed[reference == 0] = 2
    one, other = (float(losses.soft_dice(logits, r, [0.0, 1.0, 0.0])) for r in (reference, changed))
    assert one == other


def test_the_scale_of_class_weights_does_not_matter():
    logits, reference = draw(3, 3)
    one, other = (float(losses.soft_dice(logits, reference, w)) for w in ([1.0, 2.0, 1.0], [10.0, 20.0, 10.0]))
    assert one == pytest.approx(other, rel=1e-6)


def test_soft_dice_of_a_sure_and_right_prediction_is_0():
    _, reference = draw(1, 2)
    assert float(losses.soft_dice(40 * (reference[:, None].float() - 0.5), reference, [1.0, 1.0])) < 1e-6


def test_an_absent_class_that_is_not_predicted_costs_nothing():
    nothing = torch.zeros(1, 8, 8).long()
    assert float(losses.soft_dice(torch.full((1, 1, 8, 8), -20.0), nothing, [0.0, 1.0])) < 1e-6


def test_an_absent_class_that_is_predicted_costs_nearly_everything():
    nothing = torch.zeros(1, 8, 8).long()
    found = losses.soft_dice(torch.full((1, 1, 8, 8), 20.0), nothing, [0.0, 1.0])
    assert float(found) == pytest.approx(1 - 1 / 65)


def test_soft_dice_is_a_mean_over_samples_not_over_pixels():
    logits, reference = draw(1, 2, size=(3, 8, 8))
    each = [float(losses.soft_dice(logits[n : n + 1], reference[n : n + 1], [0.0, 1.0])) for n in range(3)]
    assert float(losses.soft_dice(logits, reference, [0.0, 1.0])) == pytest.approx(np.mean(each), rel=1e-5)


# Together


def mixture(cross_entropy=1.0, focal=1.0, dice=1.0, classes=2, **changes):
    """A loss with equal weights, some of it changed."""
    equal = [1.0] * classes
    return replace(losses.Mixture(cross_entropy, focal, dice, equal, equal, 0.0, 2.0), **changes)


def test_the_whole_loss_is_the_weighted_sum_of_its_parts():
    logits, reference = draw(3, 3)
    weights, dice_weights = [0.5, 1.0, 2.0], [0.0, 1.0, 2.0]
    parts = (
        losses.cross_entropy(logits, reference, weights, 0.05),
        losses.focal(logits, reference, weights, 3.0),
        losses.soft_dice(logits, reference, dice_weights),
    )
    chosen = losses.Mixture(0.3, 0.2, 0.7, weights, dice_weights, label_smoothing=0.05, focal_gamma=3.0)
    expected = 0.3 * parts[0] + 0.2 * parts[1] + 0.7 * parts[2]
    assert float(losses.combined(logits, reference, chosen)) == pytest.approx(float(expected), rel=1e-6)


PARTS = {"cross_entropy": "cross_entropy", "focal": "focal", "dice": "soft_dice"}  # weight -> function


@pytest.mark.parametrize("left", sorted(PARTS))
def test_a_part_of_weight_0_is_not_computed(monkeypatch, left):
    logits, reference = draw(1, 2)
    for weight, function in PARTS.items():
        if weight != left:
            monkeypatch.setattr(losses, function, None)  # None cannot be called
    alone = dict.fromkeys(PARTS, 0.0) | {left: 2.0}
    once, twice = (losses.combined(logits, reference, mixture(**(alone | {left: w}))) for w in (1.0, 2.0))
    assert float(twice) == pytest.approx(2 * float(once))
    assert float(once) > 0


def test_a_part_of_some_weight_is_computed(monkeypatch):
    monkeypatch.setattr(losses, "focal", None)
    with pytest.raises(TypeError, match="not callable"):
        losses.combined(*draw(1, 2), mixture(focal=0.1))


def test_all_zero_weights_of_dice_are_no_fault_where_dice_is_not_used():
    logits, reference = draw(1, 2)
    found = losses.combined(logits, reference, mixture(focal=0.0, dice=0.0, dice_class_weights=[0.0, 0.0]))
    assert float(found) == float(losses.cross_entropy(logits, reference, [1.0, 1.0]))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0, 1e4])
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (4, 4)])
def test_gradients_are_finite_however_sure_the_network_is(channels, classes, scale, gamma):
    logits, reference = draw(channels, classes)
    logits = (logits * scale).requires_grad_()
    chosen = mixture(classes=classes, focal_gamma=gamma, label_smoothing=0.1)
    losses.combined(logits, reference, chosen).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 3)])
def test_gradients_are_those_of_finite_differences(channels, classes):
    logits, reference = draw(channels, classes, size=(1, 2, 3))
    logits = logits.requires_grad_()
    chosen = mixture(classes=classes, class_weights=[1.0, 2.0, 3.0][:classes], label_smoothing=0.1)
    losses.combined(logits, reference, chosen).backward()
    step, place = 1e-2, (0, 0, 1, 1)
    moved = [logits.detach().clone() for _ in range(2)]
    moved[0][place] -= step
    moved[1][place] += step
    low, high = (float(losses.combined(m, reference, chosen)) for m in moved)
    assert float(logits.grad[place]) == pytest.approx((high - low) / (2 * step), abs=1e-4)  # float32, step^2


def test_the_loss_is_float32_whatever_the_logits_are():
    logits, reference = draw(3, 3)
    assert losses.combined(logits.bfloat16(), reference, mixture(classes=3)).dtype == torch.float32


# Heatmaps


@pytest.mark.parametrize("per", ["line", "point"])
def test_a_blank_output_scores_exactly_1_and_a_perfect_one_0(per):
    target = heatmap_batch([HEAD, HEAD + 3.3, HEAD - 5], per=per)
    assert losses.heatmap_loss(torch.zeros_like(target), target).item() == losses.BLANK_LOSS == 1
    assert losses.heatmap_loss(target, target).item() == 0


def test_the_loss_of_two_small_images_by_hand():
    target = torch.tensor([[[[1.0, 0.0]]], [[[2.0, 0.0]]]])
    predicted = torch.tensor([[[[0.5, 0.5]]], [[[2.0, 1.0]]]])
    assert losses.heatmap_loss(predicted, target).item() == pytest.approx((0.5 / 1 + 1 / 4) / 2)


def test_the_loss_of_half_precision_is_computed_in_float32():
    target = heatmap_batch([HEAD])
    found = losses.heatmap_loss(torch.zeros_like(target, dtype=torch.bfloat16), target)
    assert found.dtype == torch.float32
    assert found.item() == 1


def test_a_target_without_any_height_has_a_finite_loss():
    assert losses.heatmap_loss(torch.full((1, 2, 2, 2), 0.5), torch.zeros(1, 2, 2, 2)).item() == 2


def test_the_loss_leads_a_blank_output_towards_the_peaks():
    predicted, target = torch.zeros(1, 2, *SHAPE, requires_grad=True), heatmap_batch([HEAD])
    losses.heatmap_loss(predicted, target).backward()
    assert torch.argmin(predicted.grad[0, 1]) in (20 * 128 + 60, 80 * 128 + 70)
