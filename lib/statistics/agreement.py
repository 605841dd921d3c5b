"""Agreement between two methods that measure the same quantity."""

import numpy as np


def limits_of_agreement(differences: np.ndarray) -> tuple[float, float, float]:
    """Bias and 95 % limits of agreement, (bias, lower, upper): mean and mean -+ 1.96 SD of the differences.

    Values that are not finite are ignored; ValueError if fewer than two remain. Source: Bland and Altman 1986.
    """
    finite = np.asarray(differences, float)[np.isfinite(differences)]
    if len(finite) < 2:
        raise ValueError(f"{len(finite)} differences; limits of agreement need at least 2")
    bias, spread = float(np.mean(finite)), float(np.std(finite, ddof=1))
    return bias, bias - 1.96 * spread, bias + 1.96 * spread
