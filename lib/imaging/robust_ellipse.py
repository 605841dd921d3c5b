"""An ellipse through most of some points, however far away the others are."""

import numpy as np

from lib.imaging.ellipse import Ellipse, fit_ellipse

DRAWS = 400  # with 45 % of the points on the ellipse, 7 draws are of such points alone; 1,000 draws fit no better
SCORED = 500  # points by which draws are compared; 1,500 choose no better
REFITS = 3
SEED = 20181


def fit_robust(points: np.ndarray, tolerance: float, shortest: float, largest_ratio: float) -> Ellipse:
    """Ellipse with the most of (N, 2) points (row, col) within a tolerance, refitted to these; reproducible.

    Ellipses through 5 random points (RANSAC) compete, as far as their short axis is at least `shortest` and the long
    one at most `largest_ratio` times as long. ValueError if there is none, or fewer than 6 points lie on the best.

    Source: Fischler and Bolles 1981, Communications of the ACM 24:381-395, doi:10.1145/358669.358692.
    """
    if len(points) < 6:
        raise ValueError(f"{len(points)} points; an ellipse needs at least 6")
    points = np.asarray(points, np.float64)
    random, mean = np.random.default_rng(SEED), points.mean(axis=0)
    drawn = points[random.integers(0, len(points), (DRAWS, 5))] - mean
    scored = points[random.permutation(len(points))[:SCORED]] - mean
    candidates = _ellipses(_conics(drawn))
    plausible = (candidates[:, 3] >= shortest) & (candidates[:, 2] <= largest_ratio * candidates[:, 3])
    if not plausible.any():
        raise ValueError(f"no plausible ellipse through 5 of {len(points)} points")
    candidates = candidates[plausible]
    counts = (distances(scored, *candidates.T[:, :, None]) <= tolerance).sum(axis=1)
    row, col, *axes = candidates[np.argmax(counts)]
    best = Ellipse((row + mean[0], col + mean[1]), *axes)
    for _ in range(REFITS):
        away = distances(points, *best.centre, best.major, best.minor, best.angle_deg)
        best = fit_ellipse(points[away <= tolerance])
    return best


def _conics(points: np.ndarray) -> np.ndarray:
    """Conics a x^2 + b xy + c y^2 + d x + e y + f = 0 through 5 points each: (D, 5, 2) -> (D, 6)."""
    y, x = points[..., 0], points[..., 1]
    terms = np.stack([x * x, x * y, y * y, x, y, np.ones_like(x)], axis=-1)  # (D, 5, 6)
    return np.linalg.svd(terms)[2][:, -1]


def _ellipses(conics: np.ndarray) -> np.ndarray:
    """Centre row and col, long and short axis and angle (as in `Ellipse`) of those conics (D, 6) that are ellipses."""
    conics = conics[4 * conics[:, 0] * conics[:, 2] > conics[:, 1] ** 2]
    a, b, c, d, e, f = (conics * np.sign(conics[:, :1])).T  # a and c are positive
    x, y = np.array([b * e - 2 * c * d, b * d - 2 * a * e]) / (4 * a * c - b * b)
    level = -(f + (d * x + e * y) / 2)  # of the centred quadratic form
    mean, half = (a + c) / 2, np.hypot(a - c, b) / 2
    real = (level > 0) & (mean > half)
    long, short = (2 * np.sqrt(level[real] / weight[real]) for weight in (mean - half, mean + half))
    angle_deg = np.degrees(np.arctan2(b, a - c)[real]) / 2 + 90
    return np.column_stack([y[real], x[real], long, short, angle_deg])


def distances(points: np.ndarray, *ellipse: np.ndarray | float) -> np.ndarray:
    """Distances of (N, 2) points from ellipses, correct to first order (Sampson): (N,), or (D, N) of (D, 1) values."""
    row, col, major, minor, angle_deg = ellipse
    down, right = points[:, 0] - row, points[:, 1] - col
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    along, across = 2 * (right * cos + down * sin) / major, 2 * (down * cos - right * sin) / minor
    slope = 4 * np.hypot(along / major, across / minor)
    return np.abs(along**2 + across**2 - 1) / np.maximum(slope, 1e-12)
