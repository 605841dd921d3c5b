import numpy as np
import pytest
import torch
from torch.nn import functional

from lib import losses


def draw(channels, classes, seed=0, size=(2, 8, 9)):
    made = torch.Generator().manual_seed(seed)
    logits = torch.randn((size[0], channels, *size[1:]), generator=made)
    return logits, torch.randint(0, classes, size, generator=made)


def dice_by_hand(predicted, reference):
    """1 - (2 sum(p r) + 1) / (sum(p) + sum(r) + 1), a mean over samples, in numpy."""
    both = (predicted * reference).sum(axis=(1, 2))
    return np.mean(1 - (2 * both + 1) / (predicted.sum(axis=(1, 2)) + reference.sum(axis=(1, 2)) + 1))


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
    assert float(losses.cross_entropy(logits, reference)) == pytest.approx(float(expected), rel=1e-5)


def test_cross_entropy_of_four_logits_is_the_mean_negative_log_probability_of_the_reference():
    logits, reference = draw(4, 4)
    shown = losses.probabilities(logits).gather(1, reference[:, None])
    assert float(losses.cross_entropy(logits, reference)) == pytest.approx(float(-shown.log().mean()), rel=1e-5)


def test_two_logits_of_0_and_z_are_one_logit_z():
    z, reference = draw(1, 2)
    pair = torch.cat([torch.zeros_like(z), z], dim=1)
    assert losses.probabilities(pair).numpy() == pytest.approx(losses.probabilities(z).numpy(), abs=1e-6)
    for loss in (losses.cross_entropy, lambda a, b: losses.soft_dice(a, b, [0.3, 0.7])):
        assert float(loss(pair, reference)) == pytest.approx(float(loss(z, reference)), rel=1e-5)


def test_even_logits_cost_the_logarithm_of_the_number_of_classes():
    assert float(losses.cross_entropy(torch.zeros(1, 1, 2, 2), torch.ones(1, 2, 2).long())) == pytest.approx(np.log(2))
    assert float(losses.cross_entropy(torch.zeros(1, 5, 2, 2), torch.ones(1, 2, 2).long())) == pytest.approx(np.log(5))


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


def test_the_whole_loss_is_the_weighted_sum_of_its_parts():
    logits, reference = draw(3, 3)
    weights = [0.0, 1.0, 2.0]
    expected = 0.3 * losses.cross_entropy(logits, reference) + 0.7 * losses.soft_dice(logits, reference, weights)
    assert float(losses.combined(logits, reference, 0.3, 0.7, weights)) == pytest.approx(float(expected), rel=1e-6)


def test_a_part_of_weight_0_is_left_out():
    logits, reference = draw(1, 2)
    entropy, dice = losses.cross_entropy(logits, reference), losses.soft_dice(logits, reference, [0.0, 1.0])
    assert float(losses.combined(logits, reference, 1.0, 0.0, [0.0, 0.0])) == float(entropy)
    assert float(losses.combined(logits, reference, 0.0, 1.0, [0.0, 1.0])) == float(dice)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (4, 4)])
def test_gradients_are_finite_however_sure_the_network_is(channels, classes, scale):
    logits, reference = draw(channels, classes)
    logits = (logits * scale).requires_grad_()
    losses.combined(logits, reference, 1.0, 1.0, [1.0] * classes).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 3)])
def test_gradients_are_those_of_finite_differences(channels, classes):
    logits, reference = draw(channels, classes, size=(1, 2, 3))
    logits = logits.requires_grad_()
    losses.combined(logits, reference, 1.0, 1.0, [1.0] * classes).backward()
    step, place = 1e-2, (0, 0, 1, 1)
    moved = [logits.detach().clone() for _ in range(2)]
    moved[0][place] -= step
    moved[1][place] += step
    low, high = (float(losses.combined(m, reference, 1.0, 1.0, [1.0] * classes)) for m in moved)
    assert float(logits.grad[place]) == pytest.approx((high - low) / (2 * step), abs=1e-4)  # float32, step^2
