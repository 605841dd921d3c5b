"""Images as grey values to look at; a module of its own, because arrays are made again when `intensity` changes."""

import numpy as np


def displayable(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    """A channel as grey values: (H, W) -> (H, W) uint8; float32 is stretched, black and white as in `like`."""
    if image.dtype == np.uint8:
        return image
    low, high = float(like.min()), float(like.max())
    return np.clip(255 * (image - low) / max(high - low, 1e-6), 0, 255).round().astype(np.uint8)
