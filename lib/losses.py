"""Losses on logits and on heatmaps. Two classes share one logit (sigmoid), more have one each (softmax).

Logits are (N, 1 or C, H, W), targets (N, H, W) int64 class indices; class weights are one number per class.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

EPSILON = 1.0  # smoothing term: the soft Dice of an absent class is 1 if nothing is predicted


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Class probabilities: (N, 1 or C, H, W) logits -> (N, 2 or C, H, W) float32."""
    if logits.shape[1] == 1:
        foreground = torch.sigmoid(logits.float())
        return torch.cat([1 - foreground, foreground], dim=1)
    return torch.softmax(logits.float(), dim=1)


@dataclass(frozen=True)
class Mixture:
    """Weights and settings of the combined loss; a term of weight 0 is not computed."""

    cross_entropy: float  # weights of the three terms
    focal: float
    dice: float
    class_weights: list[float]  # for cross-entropy and focal loss
    dice_class_weights: list[float]  # for soft Dice
    label_smoothing: float  # of cross-entropy; 0 for none
    focal_gamma: float  # exponent of the focal loss


def negative_log_likelihood(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """-log p of each pixel's target class: (N, H, W) float32."""
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits[:, 0].float(), target.float(), reduction="none")
    return functional.cross_entropy(logits.float(), target, reduction="none")


def weighted_mean(values: torch.Tensor, target: torch.Tensor, class_weights: list[float]) -> torch.Tensor:
    """Mean of values (N, H, W), each pixel weighted by its target class: sum(w v) / sum(w)."""
    if len(set(class_weights)) == 1:
        return values.mean()
    weights = pixel_weights(target, class_weights)
    return (weights * values).sum() / weights.sum().clamp_min(1e-6)


def pixel_weights(target: torch.Tensor, class_weights: list[float]) -> torch.Tensor:
    """The weight of each pixel's target class: (N, H, W) float32; copies nothing from the host to the device."""
    weights = torch.zeros(target.shape, device=target.device)
    for index, weight in enumerate(class_weights):
        weights.masked_fill_(target == index, weight)
    return weights


def cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, class_weights: list[float], label_smoothing: float = 0.0
) -> torch.Tensor:
    """Class-weighted mean of -log p over all pixels.

    With label smoothing e, the target probability is 1 - e + e / C for the target class and e / C for the others
    (Szegedy et al. 2016); a pixel keeps the weight of its target class.
    """
    values = negative_log_likelihood(logits, target)
    if label_smoothing > 0:
        values = (1 - label_smoothing) * values + label_smoothing * _mean_over_classes(logits)
    return weighted_mean(values, target, class_weights)


def _mean_over_classes(logits: torch.Tensor) -> torch.Tensor:
    """-log p averaged over all classes: (N, 1 or C, H, W) -> (N, H, W) float32."""
    if logits.shape[1] == 1:
        return (functional.softplus(logits[:, 0].float()) + functional.softplus(-logits[:, 0].float())) / 2
    return -torch.log_softmax(logits.float(), dim=1).mean(dim=1)


def focal(logits: torch.Tensor, target: torch.Tensor, class_weights: list[float], gamma: float) -> torch.Tensor:
    """Class-weighted mean of the focal loss (1 - p)^gamma * -log p over all pixels.

    p is the unweighted probability of the target class; exp of a weighted cross-entropy would not be a probability.

    Source: Lin et al. 2017.
    """
    values = negative_log_likelihood(logits, target)
    complement = (-torch.expm1(-values)).clamp_min(1e-12)  # 1 - p; the slope of 0^gamma is infinite for gamma < 1
    return weighted_mean(complement**gamma * values, target, class_weights)


def soft_dice(logits: torch.Tensor, target: torch.Tensor, class_weights: list[float]) -> torch.Tensor:
    """1 - soft Dice per image and class, averaged with class weights; weight 0 excludes a class.

    Soft Dice is (2 sum(p t) + EPSILON) / (sum(p) + sum(t) + EPSILON), p the probability and t 1 in the class, else 0.

    Source: Milletari, Navab, Ahmadi 2016 (V-Net), here with plain sums in the denominator instead of squares.
    """
    probability = probabilities(logits)
    total = logits.new_zeros((), dtype=torch.float32)
    for index, weight in enumerate(class_weights):
        if weight > 0:
            p, t = probability[:, index], (target == index).float()
            intersection = (p * t).sum(dim=(1, 2))  # (N,)
            dice = (2 * intersection + EPSILON) / (p.sum(dim=(1, 2)) + t.sum(dim=(1, 2)) + EPSILON)
            total = total + weight * (1 - dice).mean()
    return total / sum(class_weights)


def combined(
    logits: torch.Tensor, target: torch.Tensor, mixture: Mixture, batch: torch.Tensor | None = None
) -> torch.Tensor:
    """Weighted sum of cross-entropy, focal loss and soft Dice loss.

    For a portion of a batch, `batch` is the `extent` of the whole batch; the losses of the portions then sum to the
    loss of the batch. Without it, the images are the batch.
    """
    of_images, of_pixels = (1.0, 1.0) if batch is None else share(extent(target, mixture.class_weights), batch)
    total = logits.new_zeros((), dtype=torch.float32)
    if mixture.cross_entropy > 0:
        value = cross_entropy(logits, target, mixture.class_weights, mixture.label_smoothing)
        total = total + mixture.cross_entropy * of_pixels * value
    if mixture.focal > 0:
        total = total + mixture.focal * of_pixels * focal(logits, target, mixture.class_weights, mixture.focal_gamma)
    if mixture.dice > 0:
        total = total + mixture.dice * of_images * soft_dice(logits, target, mixture.dice_class_weights)
    return total


def extent(target: torch.Tensor, class_weights: list[float]) -> torch.Tensor:
    """Number of images, and the summed weight of their pixels: (2,) float32, additive over the portions of a batch.

    With equal weights the second number is that of images too, which is proportional to it.
    """
    images = torch.full((), float(len(target)), device=target.device)
    return torch.stack([images, pixel_weights(target, class_weights).sum() if len(set(class_weights)) > 1 else images])


def share(portion: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """Each number of the `extent` of a portion as a fraction of that of its batch."""
    return portion / batch.clamp_min(1e-6)


def heatmap_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared error of heatmaps (N, C, h, w) relative to that of an all-zero output, averaged over images; float32.

    Nearly all of a heatmap is 0, so the plain mean squared error of an all-zero output is misleadingly small. Here an
    all-zero output scores 1 and a perfect one 0. The error is not scaled where the target is all zero.
    """
    target = target.float()
    error = ((predicted.float() - target) ** 2).sum(dim=(1, 2, 3))  # (N,)
    blank = (target**2).sum(dim=(1, 2, 3))
    return (error / torch.where(blank > 0, blank, 1.0)).mean()
