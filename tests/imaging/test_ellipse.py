import cv2
import numpy as np
import pytest
from scipy import special

from lib.imaging import ellipse
from lib.imaging.ellipse import Ellipse, edge_points, fill_ellipse, fit_ellipse, measure_head
from tests.builders import ellipse_region, perimeter


def ellipse_points(drawn, count):
    """Points on an ellipse at even steps of its parameter: (count, 2) of (row, col)."""
    step = np.linspace(0, 2 * np.pi, count, endpoint=False)
    angle = np.deg2rad(drawn.angle_deg)
    along, across = drawn.major / 2 * np.cos(step), drawn.minor / 2 * np.sin(step)
    rows = drawn.centre[0] + along * np.sin(angle) + across * np.cos(angle)
    cols = drawn.centre[1] + along * np.cos(angle) - across * np.sin(angle)
    return np.column_stack([rows, cols])


def region(shape=(300, 320), centre=(150.3, 160.7), major=200.0, minor=150.0, angle_deg=30.0):
    return ellipse_region(shape, centre, major, minor, angle_deg)


@pytest.mark.parametrize("ratio", np.linspace(0.5, 1, 11))
def test_the_perimeter_is_the_complete_elliptic_integral_up_to_an_axis_ratio_of_2(ratio):
    exact = 2 * 100 * special.ellipe(1 - ratio**2)
    assert ellipse.ellipse_perimeter_mm(100, 100 * ratio) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(
    "lines", [(90, 120), (120, 0), (120, -90), (np.inf, 90), (np.nan, 90), (120, np.nan), (0, 0), (np.inf, np.inf)]
)
def test_axes_of_no_ellipse_are_refused(lines):
    with pytest.raises(ValueError, match="expected 0 < minor <= major"):
        ellipse.ellipse_perimeter_mm(*lines)


@pytest.mark.parametrize("count", [6, 7, 50, 200, 1000])
@pytest.mark.parametrize("angle_deg", range(0, 180, 20))
def test_a_rotated_ellipse_is_fitted_with_the_angle_of_its_long_axis_reproducibly(angle_deg, count):
    points = ellipse_points(Ellipse((70.0, 90.0), 116.1, 69.9, float(angle_deg)), count)
    fitted = fit_ellipse(points)  # OpenCV's direct fit adds noise in each call
    assert fit_ellipse(points) == fitted
    assert (*fitted.centre, fitted.major, fitted.minor) == pytest.approx((70, 90, 116.1, 69.9), abs=1e-9)
    assert abs((fitted.angle_deg - angle_deg + 90) % 180 - 90) < 1e-9
    assert 0 <= fitted.angle_deg < 180


def test_the_fit_is_that_of_opencv_where_points_are_noisy():
    points = edge_points(region())
    (x, y), sizes, _ = cv2.fitEllipse(points[:, ::-1].astype(np.float32))
    fitted = fit_ellipse(points)
    assert (*fitted.centre, fitted.minor, fitted.major) == pytest.approx((y, x, *sizes), abs=0.02)


def test_points_on_a_hyperbola_give_a_closed_ellipse():
    x = np.linspace(0.2, 5, 40)
    fitted = fit_ellipse(np.concatenate([np.column_stack([1 / x, x]), np.column_stack([-1 / x, -x])]))
    assert 0 < fitted.minor <= fitted.major < np.inf


@pytest.mark.parametrize(("scale", "shift"), [(1e-3, 0.0), (1e3, 0.0), (1.0, 1e6)])
def test_axes_scale_with_the_points_and_are_exact_far_from_the_origin(scale, shift):
    fitted = fit_ellipse(scale * ellipse_points(Ellipse((5.0, 7.0), 60.0, 40.0, 20.0), 100) + shift)
    assert (fitted.major, fitted.minor) == pytest.approx((60 * scale, 40 * scale), rel=1e-8)
    assert fitted.centre == pytest.approx((5 * scale + shift, 7 * scale + shift), rel=1e-9)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((0, 2)), "0 points"),
        (np.zeros((5, 2)), "5 points; an ellipse needs at least 6"),
        (np.ones((8, 2)), "define no ellipse"),
        *[(np.column_stack([np.arange(9.0), slope * np.arange(9.0)]), "define no ellipse") for slope in (0, 2)],
        *[(np.full((8, 2), value), "not finite") for value in (np.nan, np.inf)],
    ],
)
def test_points_without_an_ellipse_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        fit_ellipse(points)


def drawn_ellipses():
    """Ellipses (centre, major, minor, angle_deg), fixed and random, inside a frame, cut by it or outside."""
    centres = [(20.3, 30.6), (-5.0, 30.0), (48.0, 58.0), (-40.0, 30.0), (90.0, 30.0), (20.0, -40.0), (-90.0, -90.0)]
    draw = np.random.default_rng(0)
    randomly = [
        (draw.uniform((-10, -10), (60, 70)), major := draw.uniform(5, 80), major * draw.uniform(0.2, 1), angle_deg)
        for angle_deg in draw.uniform(0, 180, 20)
    ]
    return [
        *[(centre, 40.0, 26.0, angle_deg) for centre in centres for angle_deg in (0.0, 30.0, 90.0)],
        ((25.0, 30.0), 200.0, 150.0, 20.0),  # the whole frame
        ((25.0, 30.0), 300.0, 30.0, 130.0),  # a band across
        ((20.5, 30.5), 3.0, 1.5, 70.0),
        ((20.0, 30.0), 0.5, 0.5, 0.0),  # one pixel
        *randomly,
    ]


@pytest.mark.parametrize(("centre", "major", "minor", "angle_deg"), drawn_ellipses())
def test_a_filled_ellipse_has_the_pixels_whose_centre_is_inside(centre, major, minor, angle_deg):
    filled = fill_ellipse(Ellipse(tuple(centre), major, minor, angle_deg), (50, 60))
    expected = ellipse_region((50, 60), centre, major, minor, angle_deg)
    assert filled.shape == (50, 60)
    assert filled.any() == expected.any()
    assert (filled != expected).sum() <= 2  # centres on the edge, in float32


@pytest.mark.parametrize("angle_deg", [*range(0, 180, 15), 7, 88, 133])
@pytest.mark.parametrize("size", [(600.0, 480.0), (400.0, 280.0), (300.0, 240.0), (250.0, 249.0), (240.0, 160.0)])
def test_a_drawn_head_is_measured_within_a_tenth_of_a_pixel(size, angle_deg):
    draw = np.random.default_rng(round(size[0]) + angle_deg)
    centre = (310 + draw.uniform(-0.5, 0.5), 320 + draw.uniform(-0.5, 0.5))
    measured = measure_head(region((620, 640), centre, *size, angle_deg), (1.0, 1.0))
    assert (measured["ofd"], measured["bpd"]) == pytest.approx(size, abs=0.1)
    assert measured["hc"] == pytest.approx(perimeter(*size), abs=0.2)  # pi / 2 times the error of both axes


def test_the_error_of_heads_at_random_places_has_no_bias():
    draw = np.random.default_rng(0)
    errors = []
    for _ in range(60):
        major, centre = draw.uniform(80, 140), 100 + draw.uniform(-1, 1, 2)
        minor, angle = major * draw.uniform(0.7, 0.95), draw.uniform(0, 180)
        measured = measure_head(region((200, 200), centre, major, minor, angle), (1.0, 1.0))
        errors.append(measured["hc"] - perimeter(major, minor))
    # A contour through pixel centres would be low by pi (half a pixel of radius all round).
    assert abs(np.mean(errors)) < 0.04
    assert np.max(np.abs(errors)) < 0.3


@pytest.mark.parametrize("angle_deg", [0, 25, 60, 90, 155])
@pytest.mark.parametrize("spacing_mm", [(0.2, 0.2), (0.2, 0.3), (0.35, 0.15)])
def test_millimetres_do_not_depend_on_the_shape_of_a_pixel(angle_deg, spacing_mm):
    centre_mm, size_mm, largest = (25.1, 26.3), (40.0, 30.0), max(spacing_mm)
    shape = tuple(int(52 / spacing) for spacing in spacing_mm)
    drawn = ellipse_region(shape, centre_mm, *size_mm, angle_deg, spacing_mm)
    measured, fitted = measure_head(drawn, spacing_mm), ellipse.fit_head(drawn, spacing_mm)
    assert (measured["ofd"], measured["bpd"]) == (fitted.major, fitted.minor)
    assert (fitted.major, fitted.minor) == pytest.approx(size_mm, abs=0.2 * largest)
    assert fitted.centre == pytest.approx(centre_mm, abs=0.1 * largest)
    assert measured["hc"] == pytest.approx(perimeter(*size_mm), abs=0.3 * largest)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.15])
@pytest.mark.parametrize("angle_deg", [0, 40, 90])
def test_a_head_cut_by_the_frame_is_measured_within_one_percent(share, angle_deg):
    whole = region((400, 400), (200.2, 199.6), 240.0, 190.0, angle_deg)
    cut = whole[np.flatnonzero(whole.any(axis=1))[0] + int(share * 190) :]
    assert cut[0].any()
    assert measure_head(cut, (1.0, 1.0))["hc"] == pytest.approx(perimeter(240, 190), rel=0.01)


def test_holes_smaller_components_flips_and_rotations_do_not_matter():
    expected = measure_head(region(), (1.0, 1.0))
    for turned in (np.transpose, np.flipud, np.fliplr, np.rot90):
        assert measure_head(turned(region()), (1.0, 1.0)) == pytest.approx(expected, abs=1e-3)
    changed = region()
    changed[140:160, 150:170], changed[:8, :8] = False, True
    assert measure_head(changed, (1.0, 1.0)) == expected


@pytest.mark.parametrize(
    ("mask", "spacing_mm", "message"),
    [
        *[(np.full((40, 40), fill), (1.0, 1.0), "0 points; an ellipse needs at least 6") for fill in (False, True)],
        (np.pad([[True]], 5), (1.0, 1.0), "4 points; an ellipse needs at least 6"),
        *[(region(), spacing, "spacing .* mm") for spacing in ((0.0, 1.0), (1.0, -1.0), (np.nan, 1.0), (1.0, np.nan))],
    ],
)
def test_a_mask_without_an_edge_and_a_spacing_that_is_not_positive_are_refused(mask, spacing_mm, message):
    with pytest.raises(ValueError, match=message):
        measure_head(mask, spacing_mm)


@pytest.mark.parametrize(
    ("ofd", "bpd", "hc"),
    [
        (120, 90, 331.5524),
        (90, 120, 331.5524),  # whichever is longer
        (np.nan, 90, np.nan),
        (90, np.nan, np.nan),
        (100, 0, 200),  # a line, back and forth
        (0, 0, 0),
    ],
)
def test_hc_of_two_lines_is_the_perimeter_and_nan_without_one(ofd, bpd, hc):
    expected = {"bpd": bpd, "ofd": ofd, "hc": hc}
    assert ellipse.measure_lines(ofd, bpd) == pytest.approx(expected, abs=1e-3, nan_ok=True)
