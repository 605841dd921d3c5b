import numpy as np
import pytest
from scipy import ndimage

from lib.imaging import shapes
from tests.builders import ellipse_region, typed


def rectangle(top, left, height, width, shape=(40, 60)):
    region = np.zeros(shape, bool)
    region[top : top + height, left : left + width] = True
    return region


@pytest.mark.parametrize(
    ("region", "spacing_mm", "expected"),
    [
        (rectangle(3, 10, 6, 8), (0.5, 0.25), [6.0, 1, 1.5, 2.5, 3.0, 2.0, 3.0, 3.5, np.sqrt(1 - (2 / 3) ** 2)]),
        (np.ones((4, 6), bool), (1.0, 2.0), [48.0, 1, 0, 0, 4, 12, 2, 6, np.sqrt(1 - (1 / 3) ** 2)]),  # the whole frame
        (rectangle(4, 7, 5, 5), (1.0, 1.0), [25, 1, 4, 7, 5, 5, 6.5, 9.5, 0]),
        (rectangle(4, 7, 1, 1), (0.1, 0.2), [0.02, 1, 0.4, 1.4, 0.1, 0.2, 0.45, 1.5, np.sqrt(0.75)]),  # a pixel
        (rectangle(3, 10, 5, 10), None, [np.nan, 1, *[np.nan] * 6, np.sqrt(0.75)]),  # no millimetres
        *[(np.zeros((5, 6), bool), spacing_mm, [np.nan, 0, *[np.nan] * 7]) for spacing_mm in ((0.2, 0.2), None)],
        (typed("1. .1") > 0, None, [np.nan, 1, *[np.nan] * 6, np.sqrt(6 / 7)]),  # joined by a corner
    ],
)
def test_regions_described_by_hand(region, spacing_mm, expected):
    described = shapes.describe(region, spacing_mm)
    assert list(described) == shapes.COLUMNS
    assert list(described.values()) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("angle_deg", [0, 17, 45, 90, 130])
@pytest.mark.parametrize("spacing_mm", [(0.1, 0.1), (0.1, 0.15), (0.2, 0.1)])
def test_an_ellipse_has_its_area_centroid_and_eccentricity_whatever_the_shape_of_a_pixel(angle_deg, spacing_mm):
    centre_mm, major_mm, minor_mm = (12.2, 13.1), 20.0, 12.0
    shape = tuple(int(25 / spacing) for spacing in spacing_mm)
    region = ellipse_region(shape, centre_mm, major_mm, minor_mm, angle_deg, spacing_mm)
    described = shapes.describe(region, spacing_mm)
    assert described["area_mm2"] == pytest.approx(np.pi / 4 * major_mm * minor_mm, rel=5e-3)
    assert described["eccentricity"] == pytest.approx(np.sqrt(1 - (minor_mm / major_mm) ** 2), abs=3e-3)
    # the drawing counts from the centre of the first pixel, the description from its corner
    expected = np.array(centre_mm) + np.array(spacing_mm) / 2
    assert (described["centroid_row_mm"], described["centroid_col_mm"]) == pytest.approx(tuple(expected), abs=0.02)
    sin, cos = np.sin(np.deg2rad(angle_deg)), np.cos(np.deg2rad(angle_deg))
    assert described["height_mm"] == pytest.approx(np.hypot(major_mm * sin, minor_mm * cos), abs=2 * spacing_mm[0])
    assert described["width_mm"] == pytest.approx(np.hypot(major_mm * cos, minor_mm * sin), abs=2 * spacing_mm[1])


@pytest.mark.parametrize("seed", range(5))
def test_a_random_region_is_what_numpy_and_scipy_say_and_so_is_its_transpose(seed):
    region = np.zeros((30, 50), bool)
    region[5:25, 8:40] = np.random.default_rng(seed).random((20, 32)) < 0.3
    (row_mm, col_mm), (rows, cols) = (0.3, 0.7), np.nonzero(region)
    moments = np.cov(np.stack([rows * row_mm, cols * col_mm]), bias=True) + np.diag([row_mm**2, col_mm**2]) / 12
    short, long = np.linalg.eigvalsh(moments)
    positions = {
        ("top_mm", "left_mm"): (rows.min() * row_mm, cols.min() * col_mm),
        ("height_mm", "width_mm"): (np.ptp(rows) * row_mm + row_mm, np.ptp(cols) * col_mm + col_mm),
        ("centroid_row_mm", "centroid_col_mm"): ((rows.mean() + 0.5) * row_mm, (cols.mean() + 0.5) * col_mm),
    }
    for turned, spacing_mm, step in ((region, (row_mm, col_mm), 1), (region.T, (col_mm, row_mm), -1)):
        described = shapes.describe(turned, spacing_mm)
        assert described["area_mm2"] == pytest.approx(region.sum() * row_mm * col_mm)
        assert described["parts"] == ndimage.label(region, np.ones((3, 3)))[1]
        assert described["eccentricity"] == pytest.approx(np.sqrt(1 - short / long), abs=1e-9)
        for names, expected in positions.items():
            assert [described[name] for name in names[::step]] == pytest.approx(expected)
