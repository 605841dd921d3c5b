import numpy as np
import pytest
from scipy import stats

from lib.imaging import ellipse, head_quality
from tests.builders import ellipse_region


def describe(region, raw=None, spacing_mm=(0.2, 0.2)):
    """Indicators of a head of which the network is certain."""
    raw = region if raw is None else raw
    return head_quality.describe(region, raw, 0.0, spacing_mm)


def circle(shape, centre, diameter):
    return ellipse_region(shape, centre, diameter, diameter, 0)


def test_an_ellipse_inside_the_image_raises_no_doubt():
    found = describe(ellipse_region((400, 500), (200.3, 250.2), 300, 240, 25))
    assert list(found) == head_quality.OF_MASKS
    assert found["frame_share"] == found["second_part"] == found["uncertain_mm"] == 0
    assert found["arc_coverage"] == 1
    assert found["fit_residual"] < 0.002  # pixels round the edge by a third of a pixel, of 270
    assert found["axis_ratio"] == pytest.approx(300 / 240, abs=0.002)
    assert found["size_share"] == pytest.approx(270 / np.hypot(400, 500), abs=0.002)
    assert found["method_difference"] < 0.001


def test_a_circle_cut_by_the_frame_at_its_middle_shows_half_of_its_arc():
    found = describe(circle((300, 400), (0, 200), 200))
    assert found["arc_coverage"] == pytest.approx(0.5, abs=0.01)
    assert found["frame_share"] == pytest.approx(1 / 3, abs=0.005)  # 200 of 200 + 200 + 2 x 100 sides of pixels
    assert found["method_difference"] > 0.2
    assert found["fit_residual"] < 0.003


def test_a_circle_cut_on_both_sides_lacks_both_arcs():
    found = describe(circle((300, 100), (150, 49.5), 200))  # the frame cuts at 30 degrees from the vertical
    assert found["arc_coverage"] == pytest.approx(120 / 360, abs=0.02)


def test_sides_of_pixels_on_the_frame_are_counted_by_hand():
    region = np.zeros((4, 5), bool)
    region[:2, :3] = True  # 3 sides above and 2 on the left on the frame, 3 below and 2 on the right inside
    assert head_quality.frame_share(region, len(ellipse.edge_points(region))) == 0.5
    whole = np.ones((4, 5), bool)
    assert head_quality.frame_share(whole, len(ellipse.edge_points(whole))) == 1


def test_a_square_is_no_ellipse():
    square = np.zeros((300, 300), bool)
    square[50:250, 50:250] = True
    points = ellipse.edge_points(square)
    fitted = ellipse.fit_ellipse(points)
    radius = fitted.major / 2  # a circle, whose centre is that of the square
    away = np.hypot(*(points - 149.5).T) - radius
    assert head_quality.fit_residual(points, fitted) == pytest.approx(
        np.sqrt(np.mean(away**2)) / (2 * radius), rel=0.05
    )


def test_a_second_disc_is_compared_with_the_first():
    discs = circle((300, 400), (150, 110), 200) | circle((300, 400), (150, 310), 100)
    largest = circle((300, 400), (150, 110), 200)
    assert describe(largest, raw=discs)["second_part"] == pytest.approx(1 / 4, abs=0.005)
    assert np.isnan(head_quality.second_part(np.zeros((5, 5), bool)))


def test_entropy_is_counted_in_bits_per_side_of_the_edge():
    region = np.zeros((60, 60), bool)
    region[20:40, 10:50] = True  # 120 sides
    probability = np.where(region, 1, 0).astype(np.float32)
    probability[0, :30] = 0.5  # 30 bits
    probability[1, 0] = 0.25  # 0.8113 bits
    bits = head_quality.entropy(probability)
    assert bits == pytest.approx(30 + stats.entropy([0.25, 0.75], base=2))
    found = head_quality.describe(region, region, bits, (0.1, 0.4))
    assert found["uncertain_mm"] == pytest.approx(0.2 * bits / 120)


def test_a_blurred_edge_is_as_uncertain_as_its_band_is_wide():
    distance = np.hypot(*(np.mgrid[:300, :300] - 149.5)) - 100
    width = [
        head_quality.describe(
            *(distance < 0, distance < 0),
            head_quality.entropy((1 / (1 + np.exp(distance / s))).astype(np.float32)),
            (0.1, 0.1),
        )
        for s in (2.0, 4.0)
    ]
    assert width[1]["uncertain_mm"] == pytest.approx(2 * width[0]["uncertain_mm"], rel=0.02)


def test_ratios_do_not_depend_on_the_pixel_size_and_millimetres_need_one():
    region = circle((300, 400), (10, 200), 200) | ellipse_region((300, 400), (140, 200), 30, 60, 0)
    with_size, without = describe(region, spacing_mm=(0.3, 0.3)), describe(region, spacing_mm=None)
    assert np.isnan(without.pop("uncertain_mm"))
    assert with_size.pop("uncertain_mm") == 0
    assert with_size == pytest.approx(without)


def test_pixels_that_are_not_square_are_measured_in_millimetres():
    region = ellipse_region((400, 400), (20, 40), 30, 24, 25, (0.1, 0.2))
    found = describe(region, spacing_mm=(0.1, 0.2))
    assert found["axis_ratio"] == pytest.approx(30 / 24, abs=0.005)
    assert found["size_share"] == pytest.approx(27 / np.hypot(40, 80), abs=0.002)
    assert found["arc_coverage"] == 1


@pytest.mark.parametrize("side", [0, 1])
def test_no_head_and_a_single_pixel_have_no_ellipse(side):
    region = np.zeros((20, 20), bool)
    region[:side, :side] = True
    found = describe(region)
    assert np.isnan([value for name, value in found.items() if name != "second_part"]).all()
    assert np.isnan(found["second_part"]) == (side == 0)


def test_lines_have_a_ratio_a_size_and_the_lowest_peak():
    points = np.array([[150, 100], [150, 300], [100, 200], [260, 200.0]])  # an OFD of 200 and a BPD of 160 pixels
    found = head_quality.describe_lines(points, np.array([0.9, 0.4]), (300, 400), (0.2, 0.2))
    assert found == pytest.approx({"axis_ratio": 1.25, "size_share": 180 / 500, "peak_height": 0.4})
    assert found == pytest.approx(head_quality.describe_lines(points, np.array([0.4, 0.9]), (300, 400), None))
    points[3] = np.nan
    missing = head_quality.describe_lines(points, np.array([0.0, 0.4]), (300, 400), (0.2, 0.2))
    assert np.isnan([missing["axis_ratio"], missing["size_share"]]).all()
    assert missing["peak_height"] == 0


def test_grey_values_are_quantiles_of_the_image():
    image = np.repeat(np.arange(4, dtype=np.uint8) * 10, 16).reshape(8, 8)
    assert head_quality.grey_levels(image).tolist() == sorted(image.ravel().tolist())


def test_the_grey_distance_is_that_of_wasserstein():
    random = np.random.default_rng(3)
    images = [random.integers(0, top, (64, 64), dtype=np.uint8) for top in (60, 200)]
    usual = head_quality.grey_levels(images[0])
    assert head_quality.grey_distance(images[0], usual) == 0
    expected = stats.wasserstein_distance(images[0].ravel(), images[1].ravel())
    assert head_quality.grey_distance(images[1], usual) == pytest.approx(expected, rel=0.01)
    assert head_quality.grey_distance(np.full((9, 9), 255, np.uint8), np.zeros(64)) == 255
