"""A row of the printed table: two variants that were timed in turn, and the ratio of each round."""

import numpy as np


def row(what: str, bare: str, ours: str, ratios: np.ndarray, goal: str = "") -> dict[str, object]:
    """The median ratio with its range; `bare` and `ours` are what was measured, with units."""
    return {
        "what": what,
        "bare": bare,
        "ours": ours,
        "ratio": float(np.median(ratios)),
        "spread": f"{ratios.min():.3f} to {ratios.max():.3f}",
        "goal": goal,
    }
