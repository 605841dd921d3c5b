import numpy as np
import pytest

from lib.imaging import robust_ellipse
from lib.imaging.ellipse import Ellipse, outline
from lib.imaging.robust_ellipse import fit_robust

# The ellipse x^2 / 25 + y^2 / 9 = 1 (Pythagorean points) about row 10, col 20, and as many points elsewhere.
ON = [(y + 10, x + 20) for x, y in [(5, 0), (-5, 0), (0, 3), (0, -3), (4, 1.8), (-4, 1.8), (4, -1.8), (-3, -2.4)]]
OFF = [(2, 3), (30, 31), (11, 20), (25, 4), (9.5, 21), (1, 28), (18, 12), (28, 19)]


def test_typed_points_of_an_ellipse_are_recovered_exactly_among_as_many_others():
    found = fit_robust(np.array(ON + OFF, float), tolerance=0.05, shortest=3, largest_ratio=2)
    assert found.centre == pytest.approx((10, 20), abs=1e-9)
    assert (found.major, found.minor) == pytest.approx((10, 6), abs=1e-9)
    assert np.sin(np.deg2rad(found.angle_deg)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("angle_deg", [0.0, 33.0, 90.0, 147.0])
@pytest.mark.parametrize("outliers", [100, 400])
def test_a_blurred_ellipse_is_found_at_any_angle_among_uniform_points_and_a_bright_block(angle_deg, outliers):
    drawn, draw = Ellipse((50.0, 80.0), 110.0, 80.0, angle_deg), np.random.default_rng(int(angle_deg))
    blurred = outline(drawn, 400) + draw.normal(0, 0.5, (400, 2))
    block = draw.uniform((10, 20), (20, 60), (outliers // 2, 2))
    points = np.concatenate([blurred, draw.uniform(0, (100, 160), (outliers // 2, 2)), block])
    found = fit_robust(points, tolerance=1.5, shortest=25, largest_ratio=1.7)
    assert (*found.centre, found.major, found.minor) == pytest.approx((50, 80, 110, 80), abs=0.5)
    assert found == fit_robust(points, tolerance=1.5, shortest=25, largest_ratio=1.7)
    moved = fit_robust(np.add(points, (7, -9)), tolerance=1.5, shortest=25, largest_ratio=1.7)
    assert (*moved.centre, moved.major) == pytest.approx((found.centre[0] + 7, found.centre[1] - 9, found.major))


@pytest.mark.parametrize("axes", [(8.0, 7.0), (90.0, 30.0)], ids=["small", "long"])
def test_an_implausible_ellipse_loses_against_a_plausible_one_with_fewer_points(axes):
    other = outline(Ellipse((20.0, 20.0), *axes, 0.0), 140)
    head = outline(Ellipse((55.0, 75.0), 60.0, 50.0, 20.0), 130)
    found = fit_robust(np.concatenate([other, head]), tolerance=0.3, shortest=25, largest_ratio=1.7)
    assert (found.major, found.minor) == pytest.approx((60, 50), abs=0.5)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (ON[:5], "5 points; an ellipse needs at least 6"),
        ([(row, 2.0 * row) for row in range(20)], "20 points define no ellipse: they lie on a line"),
        ([(3.0, 3.0)] * 20, "no plausible ellipse through 5 of 20 points"),
    ],
)
def test_points_without_an_ellipse_are_refused_with_their_number(points, message):
    with pytest.raises(ValueError, match=message):
        fit_robust(np.array(points, float), tolerance=1.0, shortest=2, largest_ratio=2)


@pytest.mark.parametrize("seed", range(3))
def test_conics_are_those_ellipses_and_distances_those_to_a_dense_outline(seed):
    draw = np.random.default_rng(seed)
    drawn = Ellipse((30.0, 40.0), draw.uniform(30, 50), draw.uniform(15, 30), draw.uniform(0, 180))
    five = outline(drawn, 64)[draw.permutation(64)[:5]]
    (row,) = robust_ellipse._ellipses(robust_ellipse._conics(five[None]))
    assert row[:4] == pytest.approx((30, 40, drawn.major, drawn.minor), rel=1e-6)
    near = outline(drawn, 40) + draw.normal(0, 0.3, (40, 2))
    away = np.linalg.norm(near[:, None] - outline(drawn, 20_000), axis=2).min(axis=1)
    assert robust_ellipse.distances(near, *row) == pytest.approx(away, abs=0.06)  # to first order: up to 1 away here
