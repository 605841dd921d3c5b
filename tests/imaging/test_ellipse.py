import cv2
import numpy as np
import pytest
from scipy import special

from lib.imaging.ellipse import (
    Ellipse,
    edge_points,
    ellipse_perimeter_mm,
    fill_ellipse,
    fit_ellipse,
    fit_head,
    measure_head,
    measure_lines,
)
from tests.builders import ellipse_region, perimeter

ANGLES = range(0, 180, 5)


def ellipse_points(ellipse, count):
    """Points on an ellipse at even steps of its parameter: (count, 2) of (row, col)."""
    step = np.linspace(0, 2 * np.pi, count, endpoint=False)
    angle = np.deg2rad(ellipse.angle_deg)
    along, across = ellipse.major / 2 * np.cos(step), ellipse.minor / 2 * np.sin(step)
    rows = ellipse.centre[0] + along * np.sin(angle) + across * np.cos(angle)
    cols = ellipse.centre[1] + along * np.cos(angle) - across * np.sin(angle)
    return np.column_stack([rows, cols])


def region(shape=(300, 320), centre=(150.3, 160.7), major=200.0, minor=150.0, angle_deg=30.0):
    return ellipse_region(shape, centre, major, minor, angle_deg)


def angle_between(one, other):
    """Smallest turn between two undirected axes, degrees."""
    return abs((one - other + 90) % 180 - 90)


# Perimeter


@pytest.mark.parametrize(
    ("semi_axes", "exact"), [((60, 48), 340.340015), ((55, 42.9), 308.737614), ((50, 25), 242.211206)]
)
def test_perimeters_of_the_check_table(semi_axes, exact):
    major, minor = (2 * axis for axis in semi_axes)
    assert ellipse_perimeter_mm(major, minor) == pytest.approx(exact, abs=1e-6)


def test_circumference_of_a_head_of_90_by_120_mm():
    assert ellipse_perimeter_mm(120, 90) == pytest.approx(331.5524, abs=1e-3)


@pytest.mark.parametrize("ratio", np.linspace(0.5, 1, 11))
def test_the_perimeter_is_the_complete_elliptic_integral_up_to_an_axis_ratio_of_2(ratio):
    exact = 2 * 100 * special.ellipe(1 - ratio**2)
    assert ellipse_perimeter_mm(100, 100 * ratio) == pytest.approx(exact, rel=1e-9)


def test_the_perimeter_of_a_circle_is_pi_times_its_diameter():
    assert ellipse_perimeter_mm(7, 7) == pytest.approx(7 * np.pi, rel=1e-15)


def test_the_perimeter_scales_with_the_axes():
    assert ellipse_perimeter_mm(240, 180) == pytest.approx(2 * ellipse_perimeter_mm(120, 90))


@pytest.mark.parametrize(
    "axes", [(90, 120), (120, 0), (120, -90), (np.inf, 90), (np.nan, 90), (120, np.nan), (0, 0), (np.inf, np.inf)]
)
def test_axes_that_are_no_ellipse_s_are_refused(axes):
    with pytest.raises(ValueError, match="expected 0 < minor <= major"):
        ellipse_perimeter_mm(*axes)


# Fitting


@pytest.mark.parametrize("angle_deg", ANGLES)
def test_a_turned_ellipse_is_found_with_the_angle_of_its_long_axis(angle_deg):
    drawn = Ellipse((70.0, 90.0), 116.1, 69.9, float(angle_deg))
    found = fit_ellipse(ellipse_points(drawn, 200))
    assert found.centre == pytest.approx(drawn.centre, abs=1e-9)
    assert (found.major, found.minor) == pytest.approx((116.1, 69.9), abs=1e-9)
    assert angle_between(found.angle_deg, angle_deg) < 1e-9
    assert 0 <= found.angle_deg < 180


@pytest.mark.parametrize("count", [6, 7, 50, 100, 200, 1000])
def test_points_of_an_ellipse_give_it_back_twice_alike(count):
    points = ellipse_points(Ellipse((30.0, 80.0), 60.0, 40.0, 20.0), count)
    found = fit_ellipse(points)  # OpenCV's direct fit adds noise here: 59.94 and 60.02 in two calls
    assert (found.major, found.minor, found.angle_deg) == pytest.approx((60, 40, 20), abs=1e-9)
    assert fit_ellipse(points) == found


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_a_pixel_moves_the_axes_by_its_standard_error(seed):
    points = ellipse_points(Ellipse((0.0, 0.0), 200.0, 150.0, 50.0), 400)
    found = fit_ellipse(points + np.random.default_rng(seed).normal(0, 1, points.shape))
    assert (found.major, found.minor) == pytest.approx((200, 150), abs=0.6)  # 3 sqrt(16 / 400), and the fit's bias


def test_the_fit_is_that_of_opencv_where_points_are_noisy():
    points = edge_points(region())
    (x, y), axes, _ = cv2.fitEllipse(points[:, ::-1].astype(np.float32))
    found = fit_ellipse(points)
    assert (*found.centre, found.minor, found.major) == pytest.approx((y, x, *axes), abs=0.02)


def test_points_on_a_hyperbola_give_no_ellipse_that_opens():
    x = np.linspace(0.2, 5, 40)
    found = fit_ellipse(np.concatenate([np.column_stack([1 / x, x]), np.column_stack([-1 / x, -x])]))
    assert 0 < found.minor <= found.major < np.inf


def test_a_long_axis_down_the_rows_has_an_angle_of_90_degrees():
    rows, cols = 50 * np.sin(np.arange(40)), 20 * np.cos(np.arange(40))
    assert fit_ellipse(np.column_stack([rows, cols])).angle_deg == pytest.approx(90, abs=1e-9)


def test_transposing_points_swaps_the_centre_and_mirrors_the_angle():
    points = ellipse_points(Ellipse((30.0, 80.0), 60.0, 40.0, 20.0), 100)
    turned = fit_ellipse(points[:, ::-1])
    assert turned.centre == pytest.approx((80, 30), abs=1e-9)
    assert turned.angle_deg == pytest.approx(70, abs=1e-9)


def test_a_shifted_ellipse_keeps_its_axes_even_far_from_the_origin():
    points = ellipse_points(Ellipse((0.0, 0.0), 60.0, 40.0, 20.0), 100)
    moved = fit_ellipse(points + 1e6)
    assert (moved.major, moved.minor) == pytest.approx((60, 40), abs=1e-6)
    assert moved.centre == pytest.approx((1e6, 1e6), abs=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_axes_scale_with_the_points(scale):
    points = scale * ellipse_points(Ellipse((5.0, 7.0), 60.0, 40.0, 20.0), 100)
    found = fit_ellipse(points)
    assert (found.major, found.minor) == pytest.approx((60 * scale, 40 * scale), rel=1e-9)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_fewer_than_six_points_are_refused(count):
    with pytest.raises(ValueError, match=f"{count} points; an ellipse needs at least 6"):
        fit_ellipse(np.zeros((count, 2)))


@pytest.mark.parametrize(
    "points",
    [
        np.ones((8, 2)),
        np.column_stack([np.arange(9.0), 2 * np.arange(9.0)]),
        np.column_stack([np.arange(9.0), np.zeros(9)]),
        np.full((8, 2), np.nan),
        np.full((8, 2), np.inf),
    ],
    ids=["one point", "slanted line", "row", "nan", "infinite"],
)
def test_points_without_an_ellipse_are_refused(points):
    with pytest.raises(ValueError, match="points lie on no ellipse"):
        fit_ellipse(points)


# Drawing


@pytest.mark.parametrize("angle_deg", [0, 30, 90, 145])
def test_a_filled_ellipse_holds_the_pixels_whose_centre_is_inside(angle_deg):
    filled = fill_ellipse(Ellipse((20.3, 30.6), 40.0, 26.0, float(angle_deg)), (50, 60))
    expected = ellipse_region((50, 60), (20.3, 30.6), 40.0, 26.0, angle_deg)
    assert (filled != expected).sum() <= 2  # a centre on the edge may fall to either side in float32


def test_points_of_an_ellipse_satisfy_its_equation():
    points = ellipse_points(Ellipse((3.0, 4.0), 10.0, 6.0, 0.0), 50)
    assert ((points[:, 1] - 4) / 5) ** 2 + ((points[:, 0] - 3) / 3) ** 2 == pytest.approx(np.ones(50))


@pytest.mark.parametrize(
    ("centre", "axes", "angle_deg"),
    [
        ((-5.0, 30.0), (40.0, 26.0), 10.0),
        ((48.0, 58.0), (30.0, 24.0), 45.0),
        ((25.0, 30.0), (200.0, 150.0), 20.0),
        ((25.0, 30.0), (300.0, 30.0), 130.0),
        ((20.5, 30.5), (3.0, 1.5), 70.0),
        ((20.0, 30.0), (0.5, 0.5), 0.0),
    ],
    ids=["above", "corner", "all", "band", "small", "one pixel"],
)
def test_an_ellipse_that_the_frame_cuts_is_filled_as_far_as_it_is_seen(centre, axes, angle_deg):
    filled = fill_ellipse(Ellipse(centre, *axes, angle_deg), (50, 60))
    expected = ellipse_region((50, 60), centre, *axes, angle_deg)
    assert filled.shape == (50, 60)
    assert expected.any()
    assert (filled != expected).sum() <= 2


@pytest.mark.parametrize("centre", [(-40.0, 30.0), (90.0, 30.0), (20.0, -40.0), (20.0, 120.0), (-90.0, -90.0)], ids=str)
def test_an_ellipse_outside_the_frame_fills_nothing(centre):
    filled = fill_ellipse(Ellipse(centre, 40.0, 26.0, 30.0), (50, 60))
    assert filled.shape == (50, 60)
    assert not filled.any()


@pytest.mark.parametrize("seed", range(20))
def test_filling_within_the_ellipse_s_rectangle_leaves_nothing_out(seed):
    draw = np.random.default_rng(seed)
    centre, major, angle_deg = draw.uniform((-10, -10), (60, 70)), draw.uniform(5, 80), draw.uniform(0, 180)
    minor = major * draw.uniform(0.2, 1)
    filled = fill_ellipse(Ellipse(tuple(centre), major, minor, angle_deg), (50, 60))
    assert (filled != ellipse_region((50, 60), centre, major, minor, angle_deg)).sum() <= 2


# Heads


@pytest.mark.parametrize("angle_deg", [*range(0, 180, 15), 7, 88, 133])
@pytest.mark.parametrize("axes", [(600.0, 480.0), (400.0, 280.0), (300.0, 240.0), (250.0, 249.0), (240.0, 160.0)])
def test_a_drawn_head_is_measured_within_a_tenth_of_a_pixel(axes, angle_deg):
    draw = np.random.default_rng(round(axes[0]) + angle_deg)
    centre = (310 + draw.uniform(-0.5, 0.5), 320 + draw.uniform(-0.5, 0.5))
    found = measure_head(region((620, 640), centre, *axes, angle_deg), (1.0, 1.0))
    assert (found["ofd"], found["bpd"]) == pytest.approx(axes, abs=0.1)
    assert found["hc"] == pytest.approx(perimeter(*axes), abs=0.2)  # pi / 2 times the error of both axes


@pytest.mark.parametrize("angle_deg", [0, 40, 75, 120])
@pytest.mark.parametrize("axes", [(140.0, 100.0), (90.0, 89.0), (60.0, 40.0)])
def test_a_small_head_is_measured_within_a_quarter_of_a_pixel(axes, angle_deg):
    # A standard deviation of 0.07 px at 60 px: fewer pixels of edge, so less of their rounding averages out.
    found = measure_head(region((160, 160), (80.2, 79.6), *axes, angle_deg), (1.0, 1.0))
    assert (found["ofd"], found["bpd"]) == pytest.approx(axes, abs=0.25)


def test_the_error_of_heads_at_random_places_has_no_bias():
    draw = np.random.default_rng(0)
    errors = []
    for _ in range(60):
        major, centre = draw.uniform(80, 140), 100 + draw.uniform(-1, 1, 2)
        minor, angle = major * draw.uniform(0.7, 0.95), draw.uniform(0, 180)
        found = measure_head(region((200, 200), centre, major, minor, angle), (1.0, 1.0))
        errors.append(found["hc"] - perimeter(major, minor))
    # A contour through pixel centres would be low by pi (half a pixel of radius all round).
    assert abs(np.mean(errors)) < 0.04
    assert np.max(np.abs(errors)) < 0.3


def test_a_contour_through_pixel_centres_would_be_a_pixel_too_small():
    drawn = region()
    (contour,), _ = cv2.findContours(drawn.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    naive = fit_ellipse(contour[:, 0, ::-1])
    assert naive.major == pytest.approx(199, abs=0.15)
    assert measure_head(drawn, (1.0, 1.0))["ofd"] == pytest.approx(200, abs=0.1)


@pytest.mark.parametrize("angle_deg", [0, 25, 60, 90, 155])
@pytest.mark.parametrize("spacing_mm", [(0.2, 0.2), (0.2, 0.3), (0.35, 0.15)])
def test_millimetres_do_not_depend_on_the_shape_of_a_pixel(angle_deg, spacing_mm):
    centre_mm, axes_mm = (25.1, 26.3), (40.0, 30.0)
    shape = tuple(int(52 / spacing) for spacing in spacing_mm)
    drawn = ellipse_region(shape, centre_mm, *axes_mm, angle_deg, spacing_mm)
    found = measure_head(drawn, spacing_mm)
    largest = max(spacing_mm)
    assert (found["ofd"], found["bpd"]) == pytest.approx(axes_mm, abs=0.2 * largest)
    assert found["hc"] == pytest.approx(perimeter(*axes_mm), abs=0.3 * largest)


@pytest.mark.parametrize("factor", [0.1, 2.5])
def test_millimetres_are_proportional_to_the_spacing(factor):
    one, other = (measure_head(region(), (s, s)) for s in (1.0, factor))
    assert other["hc"] == pytest.approx(factor * one["hc"], rel=1e-5)


@pytest.mark.parametrize("turned", [np.transpose, np.flipud, np.fliplr, np.rot90], ids=lambda f: f.__name__)
def test_a_turned_image_shows_the_same_head(turned):
    expected = measure_head(region(), (1.0, 1.0))
    assert measure_head(turned(region()), (1.0, 1.0)) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.15])
@pytest.mark.parametrize("angle_deg", [0, 40, 90])
def test_a_head_cut_by_the_frame_is_measured_within_one_percent(share, angle_deg):
    cut = region((400, 400), (200.2, 199.6), 240.0, 190.0, angle_deg)
    first = np.flatnonzero(cut.any(axis=1))[0]
    cut = cut[first + int(share * 190) :]
    assert cut[0].any()
    assert measure_head(cut, (1.0, 1.0))["hc"] == pytest.approx(perimeter(240, 190), rel=0.01)


def test_holes_and_smaller_components_do_not_count():
    spoilt = region()
    spoilt[140:160, 150:170] = False
    spoilt[:8, :8] = True
    assert measure_head(spoilt, (1.0, 1.0)) == measure_head(region(), (1.0, 1.0))


def test_bpd_is_the_short_axis_and_ofd_the_long_one():
    found = measure_head(region(angle_deg=90), (0.5, 0.5))
    assert list(found) == ["bpd", "ofd", "hc"]
    assert found["bpd"] < found["ofd"] < found["hc"]


@pytest.mark.parametrize("empty", [np.zeros((40, 40), bool), np.ones((40, 40), bool)], ids=["nothing", "everything"])
def test_a_mask_without_an_edge_is_refused(empty):
    with pytest.raises(ValueError, match="0 points; an ellipse needs at least 6"):
        measure_head(empty, (1.0, 1.0))


def test_a_head_of_one_pixel_is_refused():
    with pytest.raises(ValueError, match="4 points; an ellipse needs at least 6"):
        measure_head(np.pad([[True]], 5), (1.0, 1.0))


@pytest.mark.parametrize("spacing_mm", [(0.0, 1.0), (1.0, -1.0), (np.nan, 1.0), (1.0, np.nan)])
def test_there_are_no_millimetres_without_a_pixel_size(spacing_mm):
    with pytest.raises(ValueError, match="no millimetres without a pixel size"):
        measure_head(region(), spacing_mm)


# Lines


def test_hc_of_two_lines_is_the_perimeter_whichever_is_the_longer():
    found = measure_lines(120, 90)
    assert found == {"bpd": 90, "ofd": 120, "hc": pytest.approx(331.5524, abs=1e-3)}
    assert measure_lines(90, 120)["hc"] == found["hc"]


@pytest.mark.parametrize("lines", [(np.nan, 90.0), (90.0, np.nan), (np.nan, np.nan)], ids=str)
def test_without_a_line_there_is_no_hc_and_the_other_line_stays(lines):
    found = measure_lines(*lines)
    assert np.isnan(found["hc"])
    assert [found["ofd"], found["bpd"]] == pytest.approx(lines, nan_ok=True)


def test_an_ellipse_without_width_is_its_long_axis_there_and_back():
    assert measure_lines(100, 0)["hc"] == 200
    assert measure_lines(0, 0) == {"bpd": 0, "ofd": 0, "hc": 0}
    exact = 2 * 100 * special.ellipe(1 - 1e-6**2)
    assert measure_lines(100, 0)["hc"] == pytest.approx(exact, rel=1e-9)


def test_a_head_mask_is_measured_by_the_axes_of_its_ellipse_in_mm():
    drawn = region()
    ellipse = fit_head(drawn, (0.2, 0.2))
    assert measure_head(drawn, (0.2, 0.2)) == measure_lines(ellipse.major, ellipse.minor)
    assert ellipse.centre == pytest.approx((150.3 * 0.2, 160.7 * 0.2), abs=0.02)
