"""Regions of several classes."""

from collections.abc import Sequence

import numpy as np


def region_of(masks: np.ndarray, indices: Sequence[int]) -> np.ndarray:
    """Pixels of any of some classes, bool; of one class ten times as fast as np.isin."""
    return masks == indices[0] if len(indices) == 1 else np.isin(masks, indices)
