import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from lib import losses
from lib.imaging import head_points
from tests.builders_tasks import HEAD, heatmap_batch

# Foreground probabilities 3/4, 1/2, 1/2, 1/4.
FOUR = torch.log(torch.tensor([[[[3.0, 1.0], [1.0, 1 / 3]]]]))
one_and_many_logits = pytest.mark.parametrize(("channels", "classes"), [(1, 2), (4, 4)])
ONES, NONE, UP = torch.ones(1, 2, 2).long(), torch.zeros(1, 8, 8).long(), torch.tensor([[[1, 1], [0, 0]]])
THREE = torch.log(torch.tensor([0.7, 0.2, 0.1])).reshape(1, 3, 1, 1)


def draw(channels, classes, size=(2, 8, 9)):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((size[0], channels, *size[1:]), generator=generator)
    return logits, torch.randint(0, classes, size, generator=generator)


def near(expected, rel=1e-5):
    return pytest.approx(float(expected), rel=rel)


def weighted(values, reference, weights):
    """Mean over pixels, each with the weight of its reference class."""
    each = torch.tensor(weights)[reference]
    return (each * values).sum() / each.sum()


def test_probabilities_of_one_and_of_four_logits_are_float32():
    pair = losses.probabilities(torch.tensor([[[[0.0, np.log(3)]]]]).bfloat16())
    assert pair.dtype == torch.float32
    assert pair.numpy()[0, :, 0] == pytest.approx(np.array([[0.5, 0.25], [0.5, 0.75]]), abs=1e-3)
    exponential = np.exp(draw(4, 4)[0].numpy())
    expected = exponential / exponential.sum(axis=1, keepdims=True)
    assert losses.probabilities(draw(4, 4)[0]).numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 2.0, 0.5], [0.0, 1.0, 3.0]], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.05, 0.3])
def test_cross_entropy_is_that_of_torch_and_a_smoothed_pixel_weighs_as_its_reference_class(weights, smoothing):
    logits, reference = draw(3, 3)
    values = functional.cross_entropy(logits, reference, label_smoothing=smoothing, reduction="none")
    cost = losses.cross_entropy(logits, reference, weights, smoothing)
    assert float(cost) == near(weighted(values, reference, weights))
    one_logit, foreground = draw(1, 2)
    expected = functional.binary_cross_entropy(torch.sigmoid(one_logit[:, 0]), foreground.float())
    assert float(losses.cross_entropy(one_logit, foreground, [1.0, 1.0])) == near(expected)


@pytest.mark.parametrize(
    ("loss", "given", "expected"),
    [
        (losses.cross_entropy, (torch.zeros(1, 1, 2, 2), ONES, [1.0] * 2), np.log(2)),
        (losses.cross_entropy, (torch.zeros(1, 5, 2, 2), ONES, [1.0] * 5), np.log(5)),
        # weight 3 on the foreground, weight 1 on the background, whose probabilities are 3/4, 1/2; 1/2, 3/4
        (losses.cross_entropy, (FOUR, UP, [1.0, 3.0]), -(4 * np.log(3 / 4) + 4 * np.log(1 / 2)) / 8),
        # smoothed targets 0.7 + 0.1, 0.1, 0.1
        (losses.cross_entropy, (THREE, NONE[:, :1, :1], [1.0] * 3, 0.3), -(0.8 * np.log(0.7) + 0.1 * np.log(0.02))),
        # 1 - p is 1/4, 1/2, 1/2, 3/4
        (losses.focal, (FOUR, ONES, [1.0, 1.0], 2.0), (np.log(4 / 3) / 16 + np.log(2) / 2 + 9 / 16 * np.log(4)) / 4),
        # a pixel of probability 0.9: 0.1^2 * -ln 0.9, a hundredth of its cross-entropy (Lin et al. 2017, section 3.2)
        (losses.focal, (torch.log(torch.tensor([[[[9.0]]]])), ONES[:, :1, :1], [1.0, 1.0], 2.0), 0.00105360),
        (losses.soft_dice, (FOUR, UP, [0.0, 1.0]), 1 - (2 * (3 / 4 + 1 / 2) + 1) / (2 + 2 + 1)),
        (losses.soft_dice, (torch.full((1, 1, 8, 8), 20.0), NONE, [0.0, 1.0]), 1 - 1 / 65),  # class only predicted
    ],
)
def test_losses_counted_by_hand(loss, given, expected):
    assert float(loss(*given)) == near(expected)


def test_pixels_of_a_class_of_weight_0_cost_nothing():
    logits, reference = draw(3, 3)
    changed = torch.where(reference[:, None] == 2, 50.0, logits)
    for loss in (losses.cross_entropy, lambda *given: losses.focal(*given, 2.0)):
        one, other = (float(loss(each, reference, [1.0, 1.0, 0.0])) for each in (logits, changed))
        assert one == other
        assert float(loss(logits, torch.full_like(reference, 2), [1.0, 1.0, 0.0])) == 0
    others = [float(losses.soft_dice(logits, torch.where(reference == 1, 1, c), [0.0, 1.0, 0.0])) for c in (0, 2)]
    assert others[0] == others[1]


def test_two_logits_of_0_and_z_are_one_logit_z():
    z, reference = draw(1, 2)
    pair = torch.cat([torch.zeros_like(z), z], dim=1)
    assert losses.probabilities(pair).numpy() == pytest.approx(losses.probabilities(z).numpy(), abs=1e-6)
    for loss, given in (
        *((losses.cross_entropy, given) for given in ([[1.0, 1.0]], [[0.5, 3.0], 0.1])),
        *((losses.focal, [[0.5, 3.0], 2.0]), (losses.soft_dice, [[0.3, 0.7]])),
    ):
        assert float(loss(pair, reference, *given)) == near(loss(z, reference, *given))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@one_and_many_logits
def test_focal_loss_forgets_by_the_plain_probability_whatever_a_class_weighs(channels, classes, gamma):
    logits, reference = draw(channels, classes)
    weights = [1.0 + index for index in range(classes)]
    p = losses.probabilities(logits).gather(1, reference[:, None])[:, 0]  # of each pixel's reference class
    cost = float(losses.focal(logits, reference, weights, gamma))
    assert cost == near(weighted((1 - p) ** gamma * -p.log(), reference, weights))
    from_weighted = p ** torch.tensor(weights)[reference]  # exp of a weighted cross-entropy: no probability
    other = weighted((1 - from_weighted) ** gamma * -p.log(), reference, weights)
    assert gamma == 0 or abs(cost / float(other) - 1) > 0.05


def test_soft_dice_is_the_mean_over_samples_and_the_weighted_one_over_classes_and_0_where_all_is_right():
    logits, reference = draw(3, 3)
    predicted, target = losses.probabilities(logits).numpy(), np.moveaxis(np.eye(3)[reference.numpy()], -1, 1)
    both, total = (predicted * target).sum(axis=(2, 3)), (predicted + target).sum(axis=(2, 3))
    per_class = (1 - (2 * both + 1) / (total + 1)).mean(axis=0)
    for scale in (1.0, 10.0):
        cost = losses.soft_dice(logits, reference, [scale, 2 * scale, 5 * scale])
        assert float(cost) == near((1 * per_class[0] + 2 * per_class[1] + 5 * per_class[2]) / 8)
    for right in (draw(1, 2)[1], torch.zeros(2, 8, 9).long()):  # the second without a class
        assert float(losses.soft_dice(40 * (right[:, None].float() - 0.5), right, [1.0, 1.0])) < 1e-6


def mixture(cross_entropy=1.0, focal=1.0, dice=1.0, classes=2, **changes):
    """A loss with equal class weights and some changes."""
    equal = [1.0] * classes
    return replace(losses.Mixture(cross_entropy, focal, dice, equal, equal, 0.0, 2.0), **changes)


def gradient(logits, reference, config):
    logits = logits.clone().requires_grad_()
    losses.combined(logits, reference, config).backward()
    return logits.grad


def test_the_whole_loss_is_the_weighted_sum_of_its_parts_in_float32():
    logits, reference = draw(3, 3)
    weights, dice_weights = [0.5, 1.0, 2.0], [0.0, 1.0, 2.0]
    config = losses.Mixture(0.3, 0.2, 0.7, weights, dice_weights, label_smoothing=0.05, focal_gamma=3.0)
    expected = 0.3 * losses.cross_entropy(logits, reference, weights, 0.05)
    expected += 0.2 * losses.focal(logits, reference, weights, 3.0)
    expected += 0.7 * losses.soft_dice(logits, reference, dice_weights)
    assert float(losses.combined(logits, reference, config)) == near(expected)
    assert losses.combined(logits.bfloat16(), reference, config).dtype == torch.float32


@pytest.mark.parametrize("part", ["cross_entropy", "focal", "dice"])
def test_a_part_of_weight_0_is_not_computed_and_one_of_some_weight_is(monkeypatch, part):
    functions = {"cross_entropy": "cross_entropy", "focal": "focal", "dice": "soft_dice"}
    alone = mixture(**(dict.fromkeys(functions, 0.0) | {part: 0.1}), dice_class_weights=[float(part == "dice")] * 2)
    for weight, function in functions.items():
        if weight != part:
            monkeypatch.setattr(losses, function, None)  # None cannot be called
    once, twice = (float(losses.combined(*draw(1, 2), replace(alone, **{part: w}))) for w in (0.1, 0.2))
    assert twice == near(2 * once)
    assert once > 0
    monkeypatch.setattr(losses, functions[part], None)
    with pytest.raises(TypeError, match="not callable"):
        losses.combined(*draw(1, 2), alone)


@one_and_many_logits
def test_gradients_are_those_of_finite_differences_and_finite_for_any_confidence(channels, classes):
    logits, reference = draw(channels, classes, size=(1, 2, 3))
    config = mixture(classes=classes, class_weights=[1.0, 2.0, 3.0, 1.0][:classes], label_smoothing=0.1)
    step, pixel = torch.zeros_like(logits), (0, 0, 1, 1)
    step[pixel] = 1e-2
    low, high = (float(losses.combined(logits + way * step, reference, config)) for way in (-1, 1))
    assert float(gradient(logits, reference, config)[pixel]) == pytest.approx((high - low) / 2e-2, abs=1e-4)  # step^2
    for scale, gamma in itertools.product([0.0, 1.0, 20.0, 1e4], [0.0, 0.5, 1.0, 2.0]):
        sure = scale * draw(channels, classes)[0], draw(channels, classes)[1]
        assert torch.isfinite(gradient(*sure, replace(config, focal_gamma=gamma))).all()


@pytest.mark.parametrize("per", ["line", "point"])
def test_a_blank_output_scores_exactly_1_and_a_perfect_one_0_in_float32_and_others_as_counted_by_hand(per):
    target = heatmap_batch([HEAD, HEAD + 3.3, HEAD - 5], per=per)
    blank = losses.heatmap_loss(torch.zeros_like(target).bfloat16(), target)
    assert (blank.item(), blank.dtype) == (head_points.BLANK_LOSS, torch.float32) == (1, torch.float32)
    assert losses.heatmap_loss(target, target).item() == 0
    target, predicted = torch.tensor([[[[1.0, 0.0]]], [[[2.0, 0.0]]]]), torch.tensor([[[[0.5, 0.5]]], [[[2.0, 1.0]]]])
    assert losses.heatmap_loss(predicted, target).item() == near((0.5 / 1 + 1 / 4) / 2)
    assert losses.heatmap_loss(torch.full((1, 2, 2, 2), 0.5), torch.zeros(1, 2, 2, 2)).item() == 2  # without any height
