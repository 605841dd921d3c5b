import numpy as np
import pytest

from lib.imaging import surroundings

SQUARE = np.zeros((20, 30), bool)
SQUARE[8:12, 10:14] = True  # equivalent radius 2.26, so the ring is the least, 2 pixels


def test_contrast_is_that_of_a_structure_and_its_ring_whatever_lies_farther():
    image = np.full(SQUARE.shape, 255, np.uint8)
    image[6:14, 8:16] = 40  # contains the ring
    image[SQUARE] = 120
    assert surroundings.contrast(image, SQUARE) == pytest.approx((120 - 40) / (120 + 40))
    assert surroundings.contrast(np.full_like(image, 9), SQUARE) == 0
    assert surroundings.contrast(np.zeros_like(image), SQUARE) == 0


def test_the_ring_grows_with_the_structure_and_surrounds_it():
    rows, cols = np.mgrid[:101, :101]
    distance = np.hypot(rows - 50, cols - 50)
    ring = surroundings.ring_around(distance <= 24)
    assert not (ring & (distance <= 24)).any()
    assert distance[ring].max() == pytest.approx(24 * 1.25, abs=1)
    corner = np.zeros((20, 30), bool)
    corner[:4, :4] = True  # at the frame, only what lies in the image
    assert np.argwhere(surroundings.ring_around(corner)).max() == 5


def test_contrast_of_a_volume_weights_its_voxels_and_ignores_slices_without_the_structure():
    image = np.zeros((3, *SQUARE.shape), np.uint8)
    image[0, SQUARE], image[1] = 100, 255
    region = np.stack([SQUARE, np.zeros_like(SQUARE), SQUARE])
    image[2] = 50
    ring = np.count_nonzero(surroundings.ring_around(SQUARE))
    inner, outer = (100 + 50) / 2, 50 * ring / (2 * ring)
    assert surroundings.contrast(image, region) == pytest.approx((inner - outer) / (inner + outer))


@pytest.mark.parametrize("region", [np.zeros((20, 30), bool), np.ones((20, 30), bool)])
def test_an_empty_and_a_full_region_have_no_contrast(region):
    assert np.isnan(surroundings.contrast(np.full(region.shape, 7, np.uint8), region))


def test_the_gap_to_the_frame_is_the_smallest_of_the_four():
    assert surroundings.border_gap(SQUARE) == 8 / 20
    assert surroundings.border_gap(SQUARE[8:]) == 0
    assert np.isnan(surroundings.border_gap(np.zeros((4, 4), bool)))


def test_the_thickest_place_is_in_the_thickest_part_and_the_frame_is_outside():
    region = np.zeros((20, 30), bool)
    region[2, 2:28] = region[9:14, 20:25] = True
    assert surroundings.thickest_place(region) == (11, 22, 6.0)
    assert surroundings.thickest_place(np.ones((5, 9), bool))[2] == 6.0


@pytest.mark.parametrize(
    ("centre", "side", "start", "length"),
    [((10, 15), 4, (8, 13), 4), ((0, 29), 6, (0, 24), 6), ((10, 15), 90, (0, 5), 20), ((3, 3), 0.1, (2, 2), 1)],
)
def test_a_window_is_a_square_inside_the_image(centre, side, start, length):
    rows, cols = surroundings.window((20, 30), centre, side)
    assert (rows.start, cols.start) == start
    assert (rows.stop - rows.start, cols.stop - cols.start) == (length, length)
