"""Images as displayable grey values; not in `intensity`, because its changes make preprocessed arrays stale."""

import numpy as np


def displayable(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A channel as grey values: (H, W) -> (H, W) uint8; float32 is stretched from the range of `like`."""
    if image.dtype == np.uint8:
        return image
    low, high = float(like.min()), float(like.max())
    return np.clip(255 * (image - low) / max(high - low, 1e-6), 0, 255).round().astype(np.uint8)
