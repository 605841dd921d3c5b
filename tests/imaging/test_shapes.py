"""Regions whose area, place and form are known: rectangles exactly, ellipses within a pixel's rounding."""

import numpy as np
import pytest
from scipy import ndimage

from lib.imaging import shapes
from tests.builders import ellipse_region


def rectangle(top, left, height, width, shape=(40, 60)):
    region = np.zeros(shape, bool)
    region[top : top + height, left : left + width] = True
    return region


def test_a_rectangle_is_described_by_hand():
    found = shapes.describe(rectangle(3, 10, 6, 8), (0.5, 0.25))
    assert found == pytest.approx(
        {
            "area_mm2": 48 * 0.125,
            "parts": 1,
            "top_mm": 1.5,
            "left_mm": 2.5,
            "height_mm": 3.0,
            "width_mm": 2.0,
            "centroid_row_mm": 3.0,  # the middle between 1.5 and 4.5
            "centroid_col_mm": 3.5,
            "eccentricity": np.sqrt(1 - (2 / 3) ** 2),
        }
    )
    assert list(found) == shapes.COLUMNS


@pytest.mark.parametrize(
    ("size", "spacing_mm", "expected"),
    [
        ((5, 5), (1.0, 1.0), 0.0),
        ((1, 1), (0.3, 0.3), 0.0),
        ((10, 20), (1.0, 1.0), np.sqrt(1 - 0.25)),
        ((20, 10), (1.0, 1.0), np.sqrt(1 - 0.25)),
        ((10, 20), (2.0, 1.0), 0.0),  # a square in millimetres
        ((1, 40), (1.0, 1.0), np.sqrt(1 - 1 / 1600)),
        ((1, 1), (0.1, 0.2), np.sqrt(1 - 0.25)),  # a pixel is a rectangle
    ],
    ids=str,
)
def test_the_eccentricity_of_a_rectangle_is_that_of_its_sides(size, spacing_mm, expected):
    found = shapes.describe(rectangle(4, 7, *size), spacing_mm)
    assert found["eccentricity"] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("angle_deg", [0, 17, 45, 90, 130])
@pytest.mark.parametrize("spacing_mm", [(0.1, 0.1), (0.1, 0.15), (0.2, 0.1)])
def test_an_ellipse_has_its_area_centroid_and_eccentricity_whatever_the_shape_of_a_pixel(angle_deg, spacing_mm):
    centre_mm, major_mm, minor_mm = (12.2, 13.1), 20.0, 12.0
    shape = tuple(int(25 / spacing) for spacing in spacing_mm)
    found = shapes.describe(ellipse_region(shape, centre_mm, major_mm, minor_mm, angle_deg, spacing_mm), spacing_mm)
    assert found["area_mm2"] == pytest.approx(np.pi / 4 * major_mm * minor_mm, rel=5e-3)
    assert found["eccentricity"] == pytest.approx(np.sqrt(1 - (minor_mm / major_mm) ** 2), abs=3e-3)
    # the drawing counts from the centre of the first pixel, the description from its corner
    expected = np.array(centre_mm) + np.array(spacing_mm) / 2
    assert (found["centroid_row_mm"], found["centroid_col_mm"]) == pytest.approx(tuple(expected), abs=0.02)
    angle = np.deg2rad(angle_deg)
    height = np.hypot(major_mm * np.sin(angle), minor_mm * np.cos(angle))
    width = np.hypot(major_mm * np.cos(angle), minor_mm * np.sin(angle))
    assert found["height_mm"] == pytest.approx(height, abs=2 * spacing_mm[0])
    assert found["width_mm"] == pytest.approx(width, abs=2 * spacing_mm[1])


@pytest.mark.parametrize("seed", range(5))
def test_a_random_region_is_what_numpy_and_scipy_say(seed):
    draw = np.random.default_rng(seed)
    region = np.zeros((30, 50), bool)
    region[5:25, 8:40] = draw.random((20, 32)) < 0.3
    spacing_mm = (0.3, 0.7)
    rows, cols = np.nonzero(region)
    found = shapes.describe(region, spacing_mm)
    assert found["area_mm2"] == pytest.approx(region.sum() * 0.21)
    assert found["parts"] == ndimage.label(region, np.ones((3, 3)))[1]
    assert (found["top_mm"], found["left_mm"]) == pytest.approx((rows.min() * 0.3, cols.min() * 0.7))
    assert found["height_mm"] == pytest.approx((rows.max() - rows.min() + 1) * 0.3)
    assert found["width_mm"] == pytest.approx((cols.max() - cols.min() + 1) * 0.7)
    assert found["centroid_row_mm"] == pytest.approx((rows.mean() + 0.5) * 0.3)
    assert found["centroid_col_mm"] == pytest.approx((cols.mean() + 0.5) * 0.7)
    spread = np.cov(np.stack([rows * 0.3, cols * 0.7]), bias=True) + np.diag([0.09, 0.49]) / 12
    short, long = np.linalg.eigvalsh(spread)
    assert found["eccentricity"] == pytest.approx(np.sqrt(1 - short / long), abs=1e-9)


def test_parts_that_meet_at_a_corner_are_one():
    region = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], bool)
    assert shapes.describe(region, None)["parts"] == 3


def test_without_a_pixel_size_there_are_no_millimetres_but_parts_and_form():
    found = shapes.describe(rectangle(3, 10, 5, 10), None)
    assert found["parts"] == 1
    assert found["eccentricity"] == pytest.approx(np.sqrt(0.75))
    assert all(np.isnan(value) for name, value in found.items() if name not in ("parts", "eccentricity"))
    assert list(found) == shapes.COLUMNS


@pytest.mark.parametrize("spacing_mm", [(0.2, 0.2), None], ids=["size", "no size"])
def test_an_empty_region_has_no_parts_and_nothing_else(spacing_mm):
    found = shapes.describe(np.zeros((5, 6), bool), spacing_mm)
    assert found.pop("parts") == 0
    assert list(found) == [name for name in shapes.COLUMNS if name != "parts"]
    assert np.isnan(list(found.values())).all()


def test_a_region_that_fills_the_frame_begins_at_its_corner():
    found = shapes.describe(np.ones((4, 6), bool), (1.0, 2.0))
    assert (found["top_mm"], found["left_mm"], found["height_mm"], found["width_mm"]) == (0, 0, 4, 12)
    assert (found["centroid_row_mm"], found["centroid_col_mm"]) == (2, 6)


def test_moving_a_region_moves_its_place_and_nothing_else():
    one, other = (shapes.describe(rectangle(*place, 6, 9), (0.5, 0.5)) for place in ((3, 4), (30, 50)))
    moved = {"top_mm": 13.5, "left_mm": 23.0, "centroid_row_mm": 13.5, "centroid_col_mm": 23.0}
    assert other == pytest.approx({name: value + moved.get(name, 0) for name, value in one.items()})


def test_a_transposed_region_has_rows_and_columns_swapped():
    region = ellipse_region((40, 60), (20.3, 25.1), 30, 12, 35)
    one, other = shapes.describe(region, (0.3, 0.3)), shapes.describe(region.T, (0.3, 0.3))
    pairs = [("top_mm", "left_mm"), ("height_mm", "width_mm"), ("centroid_row_mm", "centroid_col_mm")]
    assert all(one[a] == pytest.approx(other[b]) and one[b] == pytest.approx(other[a]) for a, b in pairs)
    assert one["eccentricity"] == pytest.approx(other["eccentricity"])
