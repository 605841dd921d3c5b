"""The four landmarks of a head as arrays: order of ends, lengths, errors, mean shape.

Arrays end in (4, 2): the points in the order of POINTS, each as (row, col); pixel centres are integers. A spacing is
the (row, col) pixel size, whose axes may differ; ValueError if it is not positive.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

LINES = ("ofd", "bpd")  # occipitofrontal and biparietal diameter: rows 0-1 and 2-3
POINTS = ("ofd_1", "ofd_2", "bpd_1", "bpd_2")
POINT_COLUMNS = [f"{point}_{axis}" for point in POINTS for axis in ("row", "col")]


def as_arrays(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Landmarks of cases in a table with POINT_COLUMNS: (N, 4, 2) float64; ValueError unless one row per case."""
    counts = table["case"].value_counts()
    faulty = [name for name in dict.fromkeys(names) if counts.get(name, 0) != 1]
    if faulty:
        raise ValueError(f"{len(faulty)} cases without one row of landmarks: {faulty[:5]}; expected one row a case")
    rows = table.set_index("case").loc[list(names), POINT_COLUMNS]
    return rows.to_numpy(np.float64).reshape(-1, 4, 2)


def canonical(points: np.ndarray) -> np.ndarray:
    """The same points with the left end of OFD and the upper end of BPD first (of equals the upper, and the left).

    Which end a file calls the first is chance, and flips and turns exchange the ends; a network that learns a map
    for each end needs one rule that depends on the picture alone. Of BPD the upper one, because most BPD lines stand
    nearly upright: within 10 degrees are 66 % on HC18, where "left" would turn on a pixel, and 1.7 % lie as flat.
    Columns after (row, col), such as a confidence, go with their point.
    """
    ends = np.asarray(points).reshape(*np.shape(points)[:-2], 2, 2, -1)  # (..., line, end, axis)
    first = np.stack([ends[..., 0, :, 1], ends[..., 1, :, 0]], axis=-2)  # (..., line, end): col of OFD, row of BPD
    then = np.stack([ends[..., 0, :, 0], ends[..., 1, :, 1]], axis=-2)
    turned = (first[..., 0] > first[..., 1]) | ((first[..., 0] == first[..., 1]) & (then[..., 0] > then[..., 1]))
    return np.where(turned[..., None, None], ends[..., ::-1, :], ends).reshape(np.shape(points))


def line_lengths(points: np.ndarray) -> np.ndarray:
    """Lengths of OFD and BPD in the unit of the points: (..., 4, 2) -> (..., 2)."""
    points = np.asarray(points, np.float64)
    return np.linalg.norm(points[..., 1::2, :] - points[..., 0::2, :], axis=-1)


def line_lengths_mm(points: np.ndarray, spacing_mm: Sequence[float]) -> dict[str, float]:
    """OFD and BPD in mm of one head in native pixels (4, 2); NaN where an end is NaN."""
    return dict(zip(LINES, line_lengths(np.asarray(points) * _checked(spacing_mm)).tolist()))


def point_errors(
    predicted: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float] | None = None
) -> dict[str, float]:
    """How far the predicted ends of one head lie from the reference's, both (4, 2) in native pixels.

    For each line <line>_px and <line>_mm, the mean distance of its two ends under the better of the two pairings;
    normalised_mean_error_percent: the mean of all four over the reference's OFD. NaN where an end is missing, and in mm
    without a pixel size. With one, the normalised error is that of the millimetres.
    """
    errors = {f"{line}_px": float(error) for line, error in zip(LINES, _paired(predicted, reference))}
    spacing = np.array([1.0, 1.0]) if spacing_mm is None else _checked(spacing_mm)
    predicted, reference = np.asarray(predicted) * spacing, np.asarray(reference) * spacing
    scaled = _paired(predicted, reference)
    unknown = np.nan if spacing_mm is None else 1.0
    errors |= {f"{line}_mm": float(error * unknown) for line, error in zip(LINES, scaled)}
    return errors | {"normalised_mean_error_percent": float(100 * scaled.mean() / line_lengths(reference)[0])}


def mean_shape(points: np.ndarray) -> np.ndarray:
    """The mean head of at least one case, canonical order: (N, 4, 2) -> (4, 2). As a prediction it sees no image."""
    if not len(points):
        raise ValueError("the mean shape of no cases; expected at least one")
    return canonical(np.asarray(points, np.float64)).mean(axis=0)


def axis_ends(centre: Sequence[float], major: float, minor: float, angle_deg: float) -> np.ndarray:
    """Ends of an ellipse's long axis (OFD) and short axis (BPD), canonical order: (4, 2) in its unit.

    The axes are full; the angle is that of the long one against the column axis, from column towards row.
    """
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    along, across = np.array([sin, cos]) * (major / 2), np.array([cos, -sin]) * (minor / 2)
    return canonical(np.asarray(centre) + np.stack([-along, along, -across, across]))


def _paired(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean distance of each line's two ends under the better pairing: (2,)."""
    one, other = (np.asarray(points, np.float64).reshape(2, 2, 2) for points in (predicted, reference))
    straight, crossed = (np.linalg.norm(one - ends, axis=2).mean(axis=1) for ends in (other, other[:, ::-1]))
    return np.minimum(straight, crossed)


def _checked(spacing_mm: Sequence[float]) -> np.ndarray:
    if not (spacing_mm[0] > 0 and spacing_mm[1] > 0):
        raise ValueError(f"spacing {tuple(spacing_mm)} mm; expected two positive numbers")
    return np.asarray(spacing_mm, np.float64)
