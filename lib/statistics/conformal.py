"""Prediction intervals by split-conformal calibration, whose unit is the subject; measured in docs/statistics.md."""

import numpy as np

LEVEL = 0.9  # nine subjects suffice for it; 95 % would take nineteen, more than many validation folds have
ROUNDING = 1e-9  # far below the weight of one image; sums of weights are not exact


def fewest_subjects(level: float = LEVEL) -> int:
    """Number of subjects from which there can be an interval: below, even the largest score is exceeded too often."""
    return int(np.ceil(level / (1 - level) - ROUNDING))


def quantile(scores: np.ndarray, subjects: np.ndarray, level: float = LEVEL) -> float:
    """The bound that the score of an image of a new subject keeps with a probability of at least `level`.

    Each of the G subjects has the weight 1 / (G + 1), which its images share; the same weight lies at infinity. The
    bound is the smallest score up to which the weights sum to `level`: with one image per subject, number
    ceil((G + 1) level) of the sorted scores. It holds if subjects are exchangeable, whatever the distribution and
    however alike the images of a subject are.

    Args:
        scores: (N,) at least 0; NaN or infinite if the image has no measurement, which no bound covers.
        subjects: (N,) names; ValueError if one is missing or the lengths differ.

    Returns:
        The bound; infinity if there are too few subjects (`fewest_subjects`), or too many scores are infinite.

    Sources: Lei et al. 2018, JASA 113:1094 (split conformal); Lee, Barber, Willett 2023, arXiv 2306.06342 (weights of
    hierarchical data).
    """
    scores, subjects = np.asarray(scores, float), np.asarray(subjects, object)
    if scores.shape != subjects.shape or scores.ndim != 1:
        raise ValueError(f"{scores.shape} scores of {subjects.shape} subjects; expected a name for each score")
    if any(name is None or name != name for name in subjects):
        raise ValueError("a score has no subject; expected a name for each score")
    if not 0 < level < 1:
        raise ValueError(f"level = {level}   not allowed; expected above 0 and below 1")
    names, place, sizes = np.unique(subjects.astype(str), return_inverse=True, return_counts=True)
    ordered = np.argsort(np.where(np.isnan(scores), np.inf, scores), kind="stable")
    reached = np.cumsum(1 / sizes[place][ordered]) >= level * (len(names) + 1) - ROUNDING
    bound = scores[ordered][np.argmax(reached)] if reached.any() else np.inf
    return float(bound) if np.isfinite(bound) else float("inf")
