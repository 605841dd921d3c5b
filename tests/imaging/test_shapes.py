import numpy as np
import pytest
from scipy import ndimage

from lib.datasets.phantoms import heads
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


def turned(kind, angle_deg, spacing_mm, length, width, shift=0.0):
    """A rectangle or ellipse of some length and width in mm at some angle, in a frame of 40 by 40 mm."""
    shape = tuple(int(40 / mm) for mm in spacing_mm)
    if kind == "ellipse":
        return ellipse_region(shape, (20 + shift, 20 + 2.7 * shift), length, width, angle_deg, spacing_mm)
    rows, cols = (axis * mm - 20 for axis, mm in zip(np.ogrid[: shape[0], : shape[1]], spacing_mm))
    rows, cols = rows - shift, cols - 2.7 * shift
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    along, across = cols * cos + rows * sin, rows * cos - cols * sin
    return (abs(along) <= length / 2) & (abs(across) <= width / 2)


@pytest.mark.parametrize(
    ("region", "spacing_mm", "width"),
    [
        (rectangle(3, 10, 6, 20), (0.5, 0.25), 3.0),
        (rectangle(3, 10, 6, 20), (0.5, 0.1), 2.0),  # higher than wide once pixels are not square
        (rectangle(3, 10, 20, 5), (1.0, 1.0), 5.0),
        (typed("1111 1..1 1111") > 0, (1.0, 1.0), 3.0),  # a hole is filled
        (typed("1") > 0, (0.2, 0.1), 0.1),
        (typed("111111..1111 111111111111 111111111111") > 0, (1.0, 1.0), 3.0),  # a notch elsewhere
        (np.zeros((4, 5), bool), (1.0, 1.0), np.nan),
    ],
)
def test_widths_measured_by_hand_between_the_outer_edges_of_pixels(region, spacing_mm, width):
    assert shapes.width_mm(region, spacing_mm) == pytest.approx(width, nan_ok=True, abs=1e-3)


def test_a_spike_of_a_pixel_widens_a_structure_by_its_share_of_a_tenth_of_the_length():
    spiked = typed("....1......." + " 111111111111" * 2) > 0
    assert shapes.width_mm(spiked, (1.0, 1.0)) == pytest.approx(2 + 1 / 1.2, abs=0.05)


SHIFTS = (0.011, 0.037, 0.063, 0.089)


@pytest.mark.parametrize("kind", ["rectangle", "ellipse"])
@pytest.mark.parametrize("spacing_mm", [(0.1, 0.1), (0.08, 0.15), (0.16, 0.1)])
@pytest.mark.parametrize("angle_deg", [0, 15, 30, 45, 80, 90, 130])
def test_the_width_does_not_depend_on_the_angle_or_the_shape_of_a_pixel(kind, spacing_mm, angle_deg):
    # A drawn edge is anywhere within a pixel; several positions average that out where edges follow the rows.
    widths = [shapes.width_mm(turned(kind, angle_deg, spacing_mm, 24, 10.03, at), spacing_mm) for at in SHIFTS]
    assert np.mean(widths) == pytest.approx(10.03, abs=0.06)  # half a pixel or less


@pytest.mark.parametrize("index", [2, 3], ids=["csp", "lv"])
def test_the_width_of_a_phantom_s_structures_is_that_of_a_drawing_four_times_as_fine(index):
    frame = heads.draw_frame(12, 1, 1, (1.0, 1.0))
    fine = heads.resize(frame, (frame.image.shape[0] * 4, frame.image.shape[1] * 4))
    coarse, exact = (shapes.match_parts(*[each.mask == index] * 2, each.spacing_mm) for each in (frame, fine))
    assert len(coarse) == len(exact) >= 1
    for one, other in zip(coarse, exact):
        assert one.reference_mm == pytest.approx(other.reference_mm, abs=0.5 * frame.spacing_mm[0])


def test_parts_are_matched_by_overlap_and_those_without_are_missed_or_invented():
    reference = typed("111...22..44 111...22..44 111...22....") > 0
    predicted = typed("1111........ 11....2222.. ......222...") > 0
    matched = shapes.match_parts(reference, predicted, (1.0, 1.0))
    assert [part.outcome for part in matched] == ["both", "both", "missed"]
    assert [part.reference_mm for part in matched] == pytest.approx([3, 2, 2], abs=0.01)
    swapped = shapes.match_parts(predicted, reference, (1.0, 1.0))
    assert [part.outcome for part in swapped] == ["both", "both", "invented"]
    assert [(part.predicted_mm, part.reference_mm) for part in matched[:2]] == [
        (part.reference_mm, part.predicted_mm) for part in swapped[:2]
    ]
    assert np.isnan(matched[2].predicted_mm)
    assert shapes.match_parts(*[np.zeros((3, 3), bool)] * 2, (1.0, 1.0)) == []


def test_one_predicted_part_over_two_reference_parts_is_matched_to_the_one_it_shares_more_with():
    reference, predicted = typed("111..1111 111..1111") > 0, typed("111111111 ......11.") > 0
    first, second = shapes.match_parts(reference, predicted, (1.0, 1.0))
    assert (first.outcome, second.outcome) == ("missed", "both")
