"""The four landmarks of a head: order of endpoints, lengths, errors, mean shape.

Arrays end in (4, 2): points in the order of POINTS, each (row, col) with pixel centres at integers. A spacing is the
(row, col) pixel size in mm; ValueError unless both are positive.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

LINES = ("ofd", "bpd")  # occipitofrontal and biparietal diameter: rows 0-1 and 2-3
POINTS = ("ofd_1", "ofd_2", "bpd_1", "bpd_2")
POINT_COLUMNS = [f"{point}_{axis}" for point in POINTS for axis in ("row", "col")]
# Of heatmaps, which need torch; the report prints these constants without it.
PEAK_LEVEL = 0.02  # lower peaks do not count; at PEAK_REACH, where a peak is masked, a Gaussian still has 0.011
PEAK_REACH = 3.0  # radius of a peak in standard deviations
BLANK_LOSS = 1.0  # loss of an all-zero heatmap: a network that scores less has learnt something


def as_arrays(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Landmarks of the named cases in a table with POINT_COLUMNS: (N, 4, 2) float64; ValueError unless one row each."""
    counts = table["case"].value_counts()
    faulty = [name for name in dict.fromkeys(names) if counts.get(name, 0) != 1]
    if faulty:
        raise ValueError(f"{len(faulty)} cases without one row of landmarks: {faulty[:5]}; expected one row per case")
    rows = table.set_index("case").loc[list(names), POINT_COLUMNS]
    return rows.to_numpy(np.float64).reshape(-1, 4, 2)


def canonical(points: np.ndarray) -> np.ndarray:
    """Points with the left endpoint of OFD and the upper endpoint of BPD first (of ties the upper, and the left).

    Files order endpoints arbitrarily, and flips and rotations exchange them; a network with one map per endpoint needs
    a rule that depends on the image alone. For BPD it is the upper one because most BPD lines are nearly vertical: on
    HC18 66 % are within 10 degrees, where "left" would depend on one pixel, and 1.7 % are as close to horizontal.
    Columns after (row, col), such as a confidence, move with their point.
    """
    ends = np.asarray(points).reshape(*np.shape(points)[:-2], 2, 2, -1)  # (..., line, end, axis)
    key = np.stack([ends[..., 0, :, 1], ends[..., 1, :, 0]], axis=-2)  # (..., line, end): col of OFD, row of BPD
    tie = np.stack([ends[..., 0, :, 0], ends[..., 1, :, 1]], axis=-2)
    swapped = (key[..., 0] > key[..., 1]) | ((key[..., 0] == key[..., 1]) & (tie[..., 0] > tie[..., 1]))
    return np.where(swapped[..., None, None], ends[..., ::-1, :], ends).reshape(np.shape(points))


def line_lengths(points: np.ndarray) -> np.ndarray:
    """Lengths of OFD and BPD in the unit of the points: (..., 4, 2) -> (..., 2)."""
    points = np.asarray(points, np.float64)
    return np.linalg.norm(points[..., 1::2, :] - points[..., 0::2, :], axis=-1)


def line_lengths_mm(points: np.ndarray, spacing_mm: Sequence[float]) -> dict[str, float]:
    """OFD and BPD in mm of one head in native pixels (4, 2); NaN where an endpoint is NaN."""
    return dict(zip(LINES, line_lengths(np.asarray(points) * _checked(spacing_mm)).tolist()))


def point_errors(
    predicted: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float] | None = None
) -> dict[str, float]:
    """Distances between predicted and reference endpoints of one head, both (4, 2) in native pixels.

    Per line <line>_px and <line>_mm: mean distance of its two endpoints under the better of the two pairings.
    normalised_mean_error_percent: mean of all four over the reference's OFD, both in mm if the pixel size is known.
    NaN if an endpoint is missing, and in mm without a pixel size.
    """
    errors = {f"{line}_px": float(error) for line, error in zip(LINES, _paired(predicted, reference))}
    spacing = np.array([1.0, 1.0]) if spacing_mm is None else _checked(spacing_mm)
    predicted, reference = np.asarray(predicted) * spacing, np.asarray(reference) * spacing
    scaled = _paired(predicted, reference)
    unknown = np.nan if spacing_mm is None else 1.0
    errors |= {f"{line}_mm": float(error * unknown) for line, error in zip(LINES, scaled)}
    return errors | {"normalised_mean_error_percent": float(100 * scaled.mean() / line_lengths(reference)[0])}


def mean_shape(points: np.ndarray) -> np.ndarray:
    """Mean of at least one head, canonical order: (N, 4, 2) -> (4, 2)."""
    if not len(points):
        raise ValueError("mean shape of 0 cases; expected at least one")
    return canonical(np.asarray(points, np.float64)).mean(axis=0)


def axis_endpoints(centre: Sequence[float], major: float, minor: float, angle_deg: float) -> np.ndarray:
    """Endpoints of an ellipse's long axis (OFD) and short axis (BPD), canonical order: (4, 2) in the ellipse's unit.

    Axes are full lengths; the angle is that of the long one, from the column axis towards the row axis.
    """
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    along, across = np.array([sin, cos]) * (major / 2), np.array([cos, -sin]) * (minor / 2)
    return canonical(np.asarray(centre) + np.stack([-along, along, -across, across]))


def _paired(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean distance of each line's endpoints under the better pairing: (2,)."""
    predicted, reference = (np.asarray(points, np.float64).reshape(2, 2, 2) for points in (predicted, reference))
    pairings = (reference, reference[:, ::-1])
    return np.min([np.linalg.norm(predicted - ends, axis=2).mean(axis=1) for ends in pairings], axis=0)


def _checked(spacing_mm: Sequence[float]) -> np.ndarray:
    if not (spacing_mm[0] > 0 and spacing_mm[1] > 0):
        raise ValueError(f"spacing {tuple(spacing_mm)} mm; expected two positive numbers")
    return np.asarray(spacing_mm, np.float64)
