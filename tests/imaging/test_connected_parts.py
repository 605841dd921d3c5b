import numpy as np
import pytest
from scipy import ndimage

from lib.imaging import connected_parts, ellipse, volumes
from tests.builders import typed


def test_the_largest_component_of_three_is_kept_diagonals_joined():
    small = np.array([[1, 0, 0, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [1, 0, 0, 0, 0]], bool)
    expected = np.array([[0, 0, 0, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
    assert np.array_equal(connected_parts.largest_component(small), expected)


def test_the_largest_component_of_nothing_is_nothing():
    assert not connected_parts.largest_component(np.zeros((4, 5), bool)).any()


def test_the_largest_component_is_that_of_scipy_on_random_regions():
    for seed in range(20):
        noise = np.random.default_rng(seed).random((30, 40)) < 0.35
        parts, count = ndimage.label(noise, np.ones((3, 3)))
        sizes = ndimage.sum_labels(noise, parts, np.arange(1, count + 1))
        found = connected_parts.largest_component(noise)
        assert found.sum() == sizes.max()
        assert len(np.unique(parts[found])) == 1


def test_filling_holes_is_that_of_scipy_on_random_regions():
    for seed in range(20):
        noise = np.random.default_rng(seed).random((30, 40)) < 0.6
        assert np.array_equal(connected_parts.fill_holes(noise), ndimage.binary_fill_holes(noise))


def test_a_notch_at_the_frame_is_no_hole():
    notch = np.array([[1, 0, 1], [1, 0, 1], [1, 1, 1]], bool)
    assert np.array_equal(connected_parts.fill_holes(notch), notch)


def test_edge_points_of_two_pixels_lie_midway_to_their_neighbours():
    small = np.zeros((3, 4), bool)
    small[1, 1:3] = True
    expected = {(0.5, 1), (0.5, 2), (1.5, 1), (1.5, 2), (1, 0.5), (1, 2.5)}
    found = ellipse.edge_points(small)
    assert set(map(tuple, found)) == expected
    assert len(found) == 6


def test_the_frame_is_no_edge():
    corner = np.zeros((3, 3), bool)
    corner[:2, :2] = True
    expected = {(1.5, 0), (1.5, 1), (0, 1.5), (1, 1.5)}
    assert set(map(tuple, ellipse.edge_points(corner))) == expected


def test_edge_points_do_not_depend_on_how_much_lies_around_a_region():
    small = np.random.default_rng(0).random((12, 15)) < 0.5
    alone = ellipse.edge_points(np.pad(small, 1))
    for above, left in ((1, 1), (2, 1), (9, 30)):
        wide = np.pad(small, ((above, 7), (left, 3)))
        moved = np.add(alone, (above - 1, left - 1))
        assert set(map(tuple, ellipse.edge_points(wide))) == set(map(tuple, moved))


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
def test_a_region_one_pixel_off_the_frame_has_its_edge_and_one_at_the_frame_has_none(side):
    turns = {"top": 0, "left": 1, "bottom": 2, "right": 3}[side]
    for gap, count in ((1, 14), (0, 10)):  # four columns, three rows: 2 (4 + 3) crossings, less the four at the frame
        region = np.zeros((9, 10), bool)
        region[gap : gap + 3, 3:7] = True
        assert len(ellipse.edge_points(np.rot90(region, turns))) == count


# Volumes


def test_the_fullest_slice_has_most_foreground():
    mask = np.zeros((4, 3, 3), np.uint8)
    mask[1, 0, :2], mask[2, 0], mask[3, 1] = 1, 2, 1
    assert volumes.fullest_slice(mask) == 2


@pytest.mark.parametrize(("depth", "middle"), [(1, 0), (4, 2), (5, 2)])
def test_of_an_empty_mask_the_middle_slice_is_taken(depth, middle):
    assert volumes.fullest_slice(np.zeros((depth, 3, 3), np.uint8)) == middle


def test_the_largest_of_two_parts_is_kept():
    mask = np.zeros((3, 4, 6), bool)
    mask[0, 0, :2] = True
    mask[0:2, 2, 4:6] = True
    expected = mask.copy()
    expected[0, 0] = False
    found = connected_parts.largest_component(mask)
    assert found.dtype == bool
    assert np.array_equal(found, expected)


def test_voxels_that_touch_at_a_corner_in_the_next_slice_are_one_part():
    mask = np.zeros((2, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    mask[0, 3, 3] = True
    found = connected_parts.largest_component(mask)
    assert np.argwhere(found).tolist() == [[0, 0, 0], [1, 1, 1]]


def test_a_part_goes_through_slices_though_it_is_in_two_pieces_in_one():
    mask = np.zeros((2, 3, 7), bool)
    mask[0, 1, :2] = mask[0, 1, 5:] = True
    mask[1, 1] = True
    assert np.array_equal(connected_parts.largest_component(mask), mask)


def test_of_equal_parts_the_first_is_kept():
    mask = np.zeros((1, 1, 5), bool)
    mask[0, 0, [1, 3]] = True
    assert np.flatnonzero(connected_parts.largest_component(mask)).tolist() == [1]


def test_an_empty_mask_stays_empty():
    found = connected_parts.largest_component(np.zeros((2, 3, 4), bool))
    assert found.shape == (2, 3, 4)
    assert not found.any()


# The frame of the foreground


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        (".... .... ..1. ....", (2, 3, 2, 3)),
        ("2... .... ..1. ....", (0, 3, 0, 3)),
        ("1111 1111", (0, 2, 0, 4)),
    ],
)
def test_the_window_holds_the_foreground_and_nothing_more(text, frame):
    rows, cols = connected_parts.foreground_frame(typed(text))
    assert (rows.start, rows.stop, cols.start, cols.stop) == frame


def test_an_empty_mask_has_no_window():
    assert connected_parts.foreground_frame(np.zeros((3, 4), np.uint8)) is None


def test_the_box_of_a_volume_holds_its_foreground_and_nothing_more():
    volume = np.zeros((6, 7, 8), np.uint8)
    volume[2, 3, 1] = volume[4, 5, 6] = 1
    assert connected_parts.foreground_frame(volume) == (slice(2, 5), slice(3, 6), slice(1, 7))
    assert connected_parts.foreground_frame(np.zeros((6, 7, 8), np.uint8)) is None
