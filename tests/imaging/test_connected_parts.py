import numpy as np
import pytest
from scipy import ndimage

from lib.imaging import connected_parts, ellipse
from tests.builders import typed


def stacked(slices):
    """A volume of typed slices, or an image of one."""
    return np.stack([typed(text) for text in slices]) if len(slices) > 1 else typed(slices[0])


def points(region):
    return set(map(tuple, ellipse.edge_points(region)))


def test_components_and_holes_are_those_of_scipy_on_random_regions():
    for seed in range(20):
        noise = np.random.default_rng(seed).random((30, 40))
        parts, count = ndimage.label(noise < 0.35, np.ones((3, 3)))
        largest = connected_parts.largest_component(noise < 0.35)
        assert largest.sum() == ndimage.sum_labels(noise < 0.35, parts, np.arange(1, count + 1)).max()
        assert len(np.unique(parts[largest])) == 1
        assert np.array_equal(connected_parts.fill_holes(noise < 0.6), ndimage.binary_fill_holes(noise < 0.6))


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        (["11.... ...... ....11", "...... ...... ....11"], ["...... ...... ....11", "...... ...... ....11"]),
        (["1... .... ...1", ".... .1.. ...."], ["1... .... ....", ".... .1.. ...."]),  # a corner joins
        (["11...11", "1111111"], ["11...11", "1111111"]),  # two parts in one slice, joined by the next
        ([".1.1.", "....."], [".1...", "....."]),  # of ties the first
        (["...", "..."], ["...", "..."]),
        (["1..11 ..1.. ...1. 1...."], ["...11 ..1.. ...1. ....."]),  # an image: diagonals are joined
        ([".... ...."], [".... ...."]),
    ],
)
def test_the_largest_component_of_a_volume_and_of_an_image(slices, expected):
    region, kept = (stacked(texts) > 0 for texts in (slices, expected))
    largest = connected_parts.largest_component(region)
    assert largest.dtype == bool
    assert np.array_equal(largest, kept)


def test_edge_points_are_midpoints_of_neighbours_for_any_margin_and_the_frame_is_no_edge():
    assert points(typed(".... .11. ....") > 0) == {(0.5, 1), (0.5, 2), (1.5, 1), (1.5, 2), (1, 0.5), (1, 2.5)}
    assert points(typed("11. 11. ...") > 0) == {(1.5, 0), (1.5, 1), (0, 1.5), (1, 1.5)}
    small = np.random.default_rng(0).random((12, 15)) < 0.5
    expected = ellipse.edge_points(np.pad(small, 1)) - 1
    for above, left in ((1, 1), (2, 1), (9, 30)):
        assert points(np.pad(small, ((above, 7), (left, 3)))) == set(map(tuple, np.add(expected, (above, left))))


@pytest.mark.parametrize("turns", range(4))
def test_a_region_one_pixel_from_the_frame_has_an_edge_there_and_one_at_the_frame_has_none(turns):
    for gap, count in ((1, 14), (0, 10)):  # four columns, three rows: 2 (4 + 3) crossings, less the four at the frame
        region = np.zeros((9, 10), bool)
        region[gap : gap + 3, 3:7] = True
        assert len(ellipse.edge_points(np.rot90(region, turns))) == count


@pytest.mark.parametrize(
    ("slices", "frame"),
    [
        ([".... .... ..1. ...."], (slice(2, 3), slice(2, 3))),
        (["2... .... ..1. ...."], (slice(0, 3), slice(0, 3))),
        (["1111 1111"], (slice(0, 2), slice(0, 4))),
        ([".... ...."], None),
        (["....", ".1..", "....", "...1", "...."], (slice(1, 4), slice(0, 1), slice(1, 4))),
        (["....", "...."], None),
    ],
)
def test_the_frame_bounds_the_foreground_tightly(slices, frame):
    assert connected_parts.foreground_frame(stacked(slices)) == frame
