"""What another precision of arithmetic would change in predictions: measured, because training may use a rough one."""

from typing import Any

import numpy as np
import pandas as pd

from lib import metrics
from lib.imaging.head_points import LINES, POINT_COLUMNS

RUN_COLUMNS = ["case", "subject", "fold", "seed", "training_precision"]
MASK_COLUMNS = [*RUN_COLUMNS, "class", "dice", "area_change_percent", "probability_change"]
POINT_CHANGE_COLUMNS = [*RUN_COLUMNS, "line", "shift_px", "shift_mm"]


def compare_masks(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], classes: list[str]
) -> list[dict[str, Any]]:
    """Two predictions of one case, class by class.

    Args:
        one: mask (H, W) or (D, H, W) and probability (C, *mask.shape) in float32.
        other: the same in another precision.
        classes: names in index order.

    Returns:
        A row a class but the background: class, dice of the two masks (NaN where both are empty), area_change_percent
        of `other` against `one` (NaN where `one` is empty), probability_change (the largest of a pixel).
    """
    rows, counts = [], metrics.confusion(one[0], other[0], len(classes))
    for index, name in enumerate(classes[1:], start=1):
        overlap = metrics.overlap_of(counts, index)
        before, after = overlap.tp + overlap.fn, overlap.tp + overlap.fp
        moved = 0.0 if one[1] is other[1] else float(np.abs(one[1][index] - other[1][index]).max())
        rows.append(
            {
                "class": name,
                "dice": overlap.dice,
                "area_change_percent": 100 * (after - before) / before if before else float("nan"),
                "probability_change": moved,
            }
        )
    return rows


def compare_points(one: pd.DataFrame, other: pd.DataFrame, spacing_mm: dict[str, tuple[float, float] | None]) -> list:
    """How far the ends of each line move from one table of predicted points to another, row by row.

    Args:
        one, other: rows of equal cases with POINT_COLUMNS, native pixels.
        spacing_mm: (row, col) pixel size of each case, None where it is not known.

    Returns:
        A list for each row and line: [line, shift_px, shift_mm]; the mean shift of both ends, NaN where one is missing
        in either, or without a pixel size.
    """
    rows = []
    moved = (other[POINT_COLUMNS].to_numpy(float) - one[POINT_COLUMNS].to_numpy(float)).reshape(-1, 2, 2, 2)
    for case, of_case in zip(one["case"], moved):
        size = np.asarray(spacing_mm[case] or (np.nan, np.nan))
        for line, ends in zip(LINES, of_case):
            px, mm = (float(np.linalg.norm(ends * unit, axis=1).mean()) for unit in (1.0, size))
            rows.append([line, px, mm])
    return rows


def summary(long: pd.DataFrame) -> pd.DataFrame:
    """What the precision of training would change: of masks a row a class, of points a row a line.

    Args:
        long: rows with MASK_COLUMNS or POINT_CHANGE_COLUMNS.

    Returns:
        class, training_precision, n (masks that are not both empty), dice_mean, dice_least, area_change_percent (mean),
        largest_area_change_percent (without sign), largest_probability_change; or line, training_precision, n, and mean
        and largest shift in pixels and mm.
    """
    of_points = "line" in long
    kind, first = ("line", "shift_px") if of_points else ("class", "dice")
    rows = []
    for (name, kept_in), group in long.groupby([kind, "training_precision"], sort=False):
        row = {kind: name, "training_precision": kept_in, "n": int(group[first].notna().sum())}
        rows.append(row | (_shifts(group) if of_points else _changes(group)))
    return pd.DataFrame(rows)


def _changes(group: pd.DataFrame) -> dict[str, float]:
    return {
        "dice_mean": group["dice"].mean(),
        "dice_least": group["dice"].min(),
        "area_change_percent": group["area_change_percent"].mean(),
        "largest_area_change_percent": group["area_change_percent"].abs().max(),
        "largest_probability_change": group["probability_change"].max(),
    }


def _shifts(group: pd.DataFrame) -> dict[str, float]:
    return {
        f"{kind}_shift_{unit}": getattr(group[f"shift_{unit}"], how)()
        for unit in ("px", "mm")
        for kind, how in (("mean", "mean"), ("largest", "max"))
    }
