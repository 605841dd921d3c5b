"""All boundary distances of a 540x800 case of three classes beside MONAI's: python -m benchmarks.distances.

One thread, in turn, after a check that both agree with each other and with all pairs of boundary points. Needs MONAI
(`pip install '.[peers]'`), best in an environment of its own. MONAI's three calls are its own measures: HD95, symmetric
average surface distance and surface Dice; ours also gives the Hausdorff distance.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice
from scipy.spatial.distance import cdist

from benchmarks.postprocessing import ELLIPSES, SHAPE
from lib import metrics
from lib.imaging import ellipse

ROUNDS, REPEATS = 7, 3
SPACING_MM, TOLERANCE_MM = (0.15, 0.17), 1.0
SHIFT_PX, GROWTH = (4, -3), 1.02  # of the prediction
CLASSES = tuple(ELLIPSES)


def main() -> None:
    """Prints milliseconds of a case and their ratio round by round."""
    torch.set_num_threads(1)
    masks = _mask((0, 0), 1.0), _mask(SHIFT_PX, GROWTH)
    ours, theirs = _ours(*masks), _monai(*masks)
    print(f"largest difference from all pairs of boundary points: {np.abs(ours - _brute_force(*masks)).max():.1e}")
    print(f"largest difference from MONAI (float32): {np.abs(ours - theirs).max():.1e}")
    taken = np.array([[_milliseconds(variant, *masks) for variant in (_ours, _monai)] for _ in range(ROUNDS)])
    ratios, medians = taken[:, 1] / taken[:, 0], np.median(taken, axis=0)
    print(f"ours {medians[0]:.1f} ms, MONAI {medians[1]:.1f} ms, time over ours {np.median(ratios):.1f}", end=" ")
    print(f"({ratios.min():.1f} to {ratios.max():.1f}; goal >= 5)")


def _mask(shift_px: tuple[float, float], growth: float) -> np.ndarray:
    """Class indices (H, W) uint8 of a head with two structures."""
    mask = np.zeros(SHAPE, np.uint8)
    for index, (centre, major, minor, angle_deg) in ELLIPSES.items():
        moved = centre[0] + shift_px[0], centre[1] + shift_px[1]
        drawn = ellipse.Ellipse(moved, growth * major, growth * minor, angle_deg)
        mask[ellipse.fill_ellipse(drawn, SHAPE)] = index
    return mask


def _ours(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """HD95, ASSD and NSD of each class, (classes, 3)."""
    each = [metrics.distances(reference == i, predicted == i, SPACING_MM, TOLERANCE_MM) for i in CLASSES]
    return np.array([(one.hd95, one.assd, one.nsd) for one in each])


def _monai(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    y, y_pred = (
        torch.from_numpy(np.stack([mask == i for i in (0, *CLASSES)])[None]) for mask in (reference, predicted)
    )
    spacing = list(SPACING_MM)
    hd95 = compute_hausdorff_distance(y_pred, y, percentile=95, spacing=spacing)
    assd = compute_average_surface_distance(y_pred, y, symmetric=True, spacing=spacing)
    nsd = compute_surface_dice(y_pred, y, [TOLERANCE_MM] * len(CLASSES), spacing=spacing)
    return torch.cat([hd95, assd, nsd]).numpy().T


def _brute_force(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    rows = []
    for index in CLASSES:
        points = [np.argwhere(metrics.boundary(mask == index)) * SPACING_MM for mask in (reference, predicted)]
        pairs = cdist(*points)
        both = np.concatenate(directed := [pairs.min(axis=1), pairs.min(axis=0)])
        rows.append((max(np.percentile(each, 95) for each in directed), both.mean(), (both <= TOLERANCE_MM).mean()))
    return np.array(rows)


def _milliseconds(variant: Callable[[np.ndarray, np.ndarray], np.ndarray], *masks: np.ndarray) -> float:
    started = time.process_time()
    for _ in range(REPEATS):
        variant(*masks)
    return (time.process_time() - started) / REPEATS * 1e3


if __name__ == "__main__":
    main()
