"""Effect of arithmetic precision on predictions, measured because training may use less than float32."""

from typing import Any

import numpy as np
import pandas as pd

from lib import metrics
from lib.imaging.head_points import LINES

RUN_COLUMNS = ["case", "subject", "fold", "seed", "training_precision"]
MASK_COLUMNS = [*RUN_COLUMNS, "class", "dice", "area_change_percent", "probability_change"]
POINT_CHANGE_COLUMNS = [*RUN_COLUMNS, "line", "shift_px", "shift_mm"]
MASK_SUMMARY = {  # column of the summary: (column of the long table, aggregation)
    "dice_mean": ("dice", "mean"),
    "dice_least": ("dice", "min"),
    "area_change_percent": ("area_change_percent", "mean"),
    "largest_area_change_percent": ("size_change", "max"),
    "largest_probability_change": ("probability_change", "max"),
}
POINT_SUMMARY = {"mean_shift_px": ("shift_px", "mean"), "largest_shift_px": ("shift_px", "max")}
POINT_SUMMARY |= {"mean_shift_mm": ("shift_mm", "mean"), "largest_shift_mm": ("shift_mm", "max")}


def compare_masks(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], classes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Compares two predictions of a case, each a mask (H, W) or (D, H, W) and probabilities (C, *mask.shape).

    One row per foreground class: class, dice of the two masks (NaN if both are empty), area_change_percent from `one`
    to `other` (NaN if `one` is empty), probability_change (maximum).
    """
    rows, counts = [], metrics.confusion(one[0], other[0], len(classes))
    for index, name in enumerate(classes[1:], start=1):
        overlap = metrics.overlap_of(counts, index)
        before, after = overlap.tp + overlap.fn, overlap.tp + overlap.fp
        area_change = 100 * (after - before) / before if before else float("nan")
        probability_change = 0.0 if one[1] is other[1] else float(np.abs(one[1][index] - other[1][index]).max())
        rows.append(dict(zip(MASK_COLUMNS[-4:], (name, overlap.dice, area_change, probability_change))))
    return rows


def compare_points(
    one: np.ndarray, other: np.ndarray, spacing_mm: tuple[float, float] | None
) -> list[dict[str, str | float]]:
    """Shift of each line between two predictions of a case, (4, 2) endpoints in native pixels each.

    One row per line: line, shift_px, shift_mm, the mean shift of its two endpoints; NaN if an endpoint is missing, in
    mm also without a (row, col) pixel size.
    """
    steps = (np.asarray(other, float) - np.asarray(one, float)).reshape(2, 2, 2)
    units = np.ones(2), np.asarray(spacing_mm or (np.nan, np.nan))
    shifts = [[float(np.linalg.norm(ends * unit, axis=1).mean()) for unit in units] for ends in steps]
    return [{"line": line, "shift_px": px, "shift_mm": mm} for line, (px, mm) in zip(LINES, shifts)]


def summary(long: pd.DataFrame) -> pd.DataFrame:
    """Effect of the precision of training, by class (rows with MASK_COLUMNS) or line (POINT_CHANGE_COLUMNS).

    Columns: class or line, training_precision, n (pairs of masks not both empty, or lines), and those of MASK_SUMMARY
    (largest area change without sign) or POINT_SUMMARY.
    """
    if "line" in long:
        kind, columns = "line", {"n": ("shift_px", "count")} | POINT_SUMMARY
    else:
        long = long.assign(size_change=long["area_change_percent"].abs())
        kind, columns = "class", {"n": ("dice", "count")} | MASK_SUMMARY
    rows = []
    for key, group in long.groupby([kind, "training_precision"], sort=False):
        values = {name: getattr(group[column], how)() for name, (column, how) in columns.items()}
        rows.append(dict(zip((kind, "training_precision"), key)) | values)
    return pd.DataFrame(rows)
