"""Losses on logits (two classes share one logit, more have one each), and that of heatmaps.

Logits are (N, 1 or C, H, W), references (N, H, W) int64 class indices, class weights one per class.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

EPSILON = 1.0  # keeps the soft Dice of an absent class defined: 1 where nothing is predicted either
BLANK_LOSS = 1.0  # heatmap loss of a blank output: only what scores less has learnt something


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Class probabilities of logits: (N, 1 or C, H, W) -> (N, 2 or C, H, W) float32."""
    if logits.shape[1] == 1:
        foreground = torch.sigmoid(logits.float())
        return torch.cat([1 - foreground, foreground], dim=1)
    return torch.softmax(logits.float(), dim=1)


@dataclass(frozen=True)
class Mixture:
    """What a loss is made of; a part of weight 0 is not computed."""

    cross_entropy: float  # weights of the three parts
    focal: float
    dice: float
    class_weights: list[float]  # of cross-entropy and focal loss
    dice_class_weights: list[float]  # of soft Dice
    label_smoothing: float  # of cross-entropy, 0 for none
    focal_gamma: float  # exponent of focal loss


def negative_log_likelihood(logits: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """-log of the probability of each pixel's reference class: (N, H, W) float32."""
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits[:, 0].float(), reference.float(), reduction="none")
    return functional.cross_entropy(logits.float(), reference, reduction="none")


def weighted_mean(values: torch.Tensor, reference: torch.Tensor, class_weights: list[float]) -> torch.Tensor:
    """Mean over pixels, each weighing as its reference class."""
    if len(set(class_weights)) == 1:
        return values.mean()
    weights = torch.tensor(class_weights, device=values.device)[reference]
    return (weights * values).sum() / weights.sum().clamp_min(1e-6)


def cross_entropy(
    logits: torch.Tensor, reference: torch.Tensor, class_weights: list[float], label_smoothing: float = 0.0
) -> torch.Tensor:
    """Mean cross-entropy over pixels, weighted by class.

    With label smoothing e the target is 1 - e + e / C for the reference class and e / C for the others, as in
    Szegedy et al. 2016; a pixel then still weighs as its reference class.
    """
    values = negative_log_likelihood(logits, reference)
    if label_smoothing > 0:
        values = (1 - label_smoothing) * values + label_smoothing * _mean_over_classes(logits)
    return weighted_mean(values, reference, class_weights)


def _mean_over_classes(logits: torch.Tensor) -> torch.Tensor:
    """-log probability, averaged over all classes: (N, 1 or C, H, W) -> (N, H, W) float32."""
    if logits.shape[1] == 1:
        return (functional.softplus(logits[:, 0].float()) + functional.softplus(-logits[:, 0].float())) / 2
    return -torch.log_softmax(logits.float(), dim=1).mean(dim=1)


def focal(logits: torch.Tensor, reference: torch.Tensor, class_weights: list[float], gamma: float) -> torch.Tensor:
    """Mean focal loss over pixels: (1 - p)^gamma * -log p, weighted by class.

    p is the plain probability of the reference class: taken from a weighted cross-entropy it would be no probability.

    Source: Lin et al. 2017.
    """
    values = negative_log_likelihood(logits, reference)
    unsure = (-torch.expm1(-values)).clamp_min(1e-12)  # 1 - p; the slope of 0^gamma is infinite for gamma below 1
    return weighted_mean(unsure**gamma * values, reference, class_weights)


def soft_dice(logits: torch.Tensor, reference: torch.Tensor, class_weights: list[float]) -> torch.Tensor:
    """1 - soft Dice, for each sample and class, then averaged with class weights; weight 0 leaves a class out.

    Source: Milletari, Navab, Ahmadi 2016 (V-Net), here with plain sums in the denominator.
    """
    probability = probabilities(logits)
    total = logits.new_zeros((), dtype=torch.float32)
    for index, weight in enumerate(class_weights):
        if weight > 0:
            predicted, target = probability[:, index], (reference == index).float()
            both = (predicted * target).sum(dim=(1, 2))  # (N,)
            dice = (2 * both + EPSILON) / (predicted.sum(dim=(1, 2)) + target.sum(dim=(1, 2)) + EPSILON)
            total = total + weight * (1 - dice).mean()
    return total / sum(class_weights)


def combined(logits: torch.Tensor, reference: torch.Tensor, mixture: Mixture) -> torch.Tensor:
    """Weighted sum of cross-entropy, focal loss and soft Dice."""
    total = logits.new_zeros((), dtype=torch.float32)
    if mixture.cross_entropy > 0:
        value = cross_entropy(logits, reference, mixture.class_weights, mixture.label_smoothing)
        total = total + mixture.cross_entropy * value
    if mixture.focal > 0:
        total = total + mixture.focal * focal(logits, reference, mixture.class_weights, mixture.focal_gamma)
    if mixture.dice > 0:
        total = total + mixture.dice * soft_dice(logits, reference, mixture.dice_class_weights)
    return total


def heatmap_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared error of heatmaps (N, C, h, w) over that of a blank output, mean over images, float32.

    Nearly all of a heatmap is 0, so the plain mean of squares is tiny for a blank output, and a small number looks
    like success. Here a blank output scores BLANK_LOSS, and perfect maps 0. A target without any height counts as if
    its squares summed to 1.
    """
    target = target.float()
    missed = ((predicted.float() - target) ** 2).sum(dim=(1, 2, 3))  # (N,)
    blank = (target**2).sum(dim=(1, 2, 3))
    return (missed / torch.where(blank > 0, blank, 1.0)).mean()
