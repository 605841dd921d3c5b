"""Losses on logits; two classes share one logit, more have one each."""

import torch
from torch.nn import functional

EPSILON = 1.0  # keeps the soft Dice of an absent class defined: 1 where nothing is predicted either


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Class probabilities of logits: (N, 1 or C, H, W) -> (N, 2 or C, H, W) float32."""
    if logits.shape[1] == 1:
        foreground = torch.sigmoid(logits.float())
        return torch.cat([1 - foreground, foreground], dim=1)
    return torch.softmax(logits.float(), dim=1)


def cross_entropy(logits: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over pixels.

    Args:
        logits: (N, 1 or C, H, W).
        reference: (N, H, W) int64 class indices.
    """
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits[:, 0].float(), reference.float())
    return functional.cross_entropy(logits.float(), reference)


def soft_dice(logits: torch.Tensor, reference: torch.Tensor, class_weights: list[float]) -> torch.Tensor:
    """1 - soft Dice, for each sample and class, then averaged with class weights.

    Args:
        logits: (N, 1 or C, H, W).
        reference: (N, H, W) int64 class indices.
        class_weights: one a class, background included; a class of weight 0 does not count.

    Source: Milletari, Navab, Ahmadi 2016 (V-Net), here with plain sums in the denominator.
    """
    predicted = probabilities(logits)
    total = logits.new_zeros((), dtype=torch.float32)
    for index, weight in enumerate(class_weights):
        if weight > 0:
            shown, there = predicted[:, index], (reference == index).float()
            both = (shown * there).sum(dim=(1, 2))  # (N,)
            dice = (2 * both + EPSILON) / (shown.sum(dim=(1, 2)) + there.sum(dim=(1, 2)) + EPSILON)
            total = total + weight * (1 - dice).mean()
    return total / sum(class_weights)


def combined(
    logits: torch.Tensor,
    reference: torch.Tensor,
    cross_entropy_weight: float,
    dice_weight: float,
    dice_class_weights: list[float],
) -> torch.Tensor:
    """Weighted sum of cross-entropy and soft Dice; a part of weight 0 is not computed."""
    total = logits.new_zeros((), dtype=torch.float32)
    if cross_entropy_weight > 0:
        total = total + cross_entropy_weight * cross_entropy(logits, reference)
    if dice_weight > 0:
        total = total + dice_weight * soft_dice(logits, reference, dice_class_weights)
    return total
