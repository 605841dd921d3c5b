import cv2
import numpy as np
import pytest

from lib.imaging import ellipse, geometry
from tests.builders import ellipse_region

SHAPES = [
    ((540, 800), (128, 192)),  # HC18
    ((542, 800), (128, 192)),
    ((541, 738), (384, 576)),
    ((800, 540), (128, 192)),  # portrait
    ((97, 61), (64, 64)),  # odd
    ((33, 47), (128, 192)),  # upscaled
    ((128, 192), (128, 192)),
    ((129, 193), (128, 192)),
    ((1, 1), (32, 32)),
    ((32, 1000), (32, 32)),
]
shapes = pytest.mark.parametrize(("native", "network"), SHAPES, ids=str)


def disc(shape, centre, radius):
    return ellipse_region(shape, centre, 2 * radius, 2 * radius, 0)


def centroid(weights):
    rows, cols = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return np.array([(rows * weights).sum(), (cols * weights).sum()]) / weights.sum()


@shapes
def test_points_come_back_within_a_billionth_of_a_pixel(native, network):
    mapping = geometry.fit(native, network)
    points = np.random.default_rng(0).uniform(-0.5, np.array(native) - 0.5, (50, 2))
    back = geometry.points_to_native(geometry.points_to_network(points, mapping), mapping)
    assert np.abs(back - points).max() < 1e-9


@shapes
def test_the_image_s_outer_edges_map_to_the_edges_of_its_place(native, network):
    mapping = geometry.fit(native, network)
    edges = geometry.points_to_network(np.array([[-0.5, -0.5], np.array(native) - 0.5]), mapping)
    rows, cols = mapping.inner
    expected = [[rows.start - 0.5, cols.start - 0.5], [rows.stop - 0.5, cols.stop - 0.5]]
    assert edges == pytest.approx(np.array(expected), abs=1e-9)


@shapes
def test_the_image_lies_inside_the_network_s_input_and_touches_two_of_its_sides(native, network):
    mapping = geometry.fit(native, network)
    rows, cols = mapping.inner_shape
    assert rows <= network[0]
    assert cols <= network[1]
    assert rows == network[0] or cols == network[1]
    assert abs(network[0] - rows - 2 * mapping.pad_row) <= 1
    assert abs(network[1] - cols - 2 * mapping.pad_col) <= 1


@shapes
def test_aspect_is_kept_within_half_a_pixel_at_each_side(native, network):
    mapping = geometry.fit(native, network)
    scale = min(network[0] / native[0], network[1] / native[1])
    rows, cols = mapping.inner_shape
    assert abs(rows - native[0] * scale) <= 0.5
    assert abs(cols - native[1] * scale) <= 0.5


@shapes
def test_padding_is_zero_and_a_bright_image_fills_the_rest(native, network):
    mapping = geometry.fit(native, network)
    shown = geometry.image_to_network(np.full(native, 200, np.uint8), mapping)
    inside = np.zeros(network, bool)
    inside[mapping.inner] = True
    assert shown.shape == network
    assert shown.dtype == np.uint8
    assert (shown[inside] == 200).all()
    assert (shown[~inside] == 0).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_kept(channels):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, channels)).astype(np.uint8)
    mapping = geometry.fit((20, 30), (32, 32))
    shown = geometry.image_to_network(image, mapping)
    assert shown.shape == (32, 32, channels)
    assert np.array_equal(shown[..., 0], geometry.image_to_network(image[..., 0].copy(), mapping))


def test_an_image_of_the_network_s_size_is_not_changed():
    image = np.random.default_rng(0).integers(0, 256, (32, 48)).astype(np.uint8)
    mapping = geometry.fit((32, 48), (32, 48))
    assert np.array_equal(geometry.image_to_network(image, mapping), image)


def test_halving_averages_blocks_of_four_pixels():
    image = np.array([[0, 100, 8, 8], [100, 200, 8, 8]], np.uint8)
    shown = geometry.image_to_network(image, geometry.fit((2, 4), (2, 2)))
    assert shown.tolist() == [[100, 8], [0, 0]]


@pytest.mark.parametrize(("native", "network"), [s for s in SHAPES if min(s[0]) > 30 and s[0] != (32, 1000)], ids=str)
@pytest.mark.parametrize("place", [(0.4, 0.55), (0.5, 0.5), (0.62, 0.37)])
def test_a_disc_s_centroid_lies_where_the_point_mapping_says(native, network, place):
    mapping = geometry.fit(native, network)
    centre = np.array(native) * place + 0.3
    drawn = disc(native, centre, 0.25 * min(native))
    shown = geometry.image_to_network(drawn.astype(np.float32), mapping)
    expected = geometry.points_to_network(centroid(drawn), mapping)
    # Averaging keeps the centroid to float32's digits, linear enlarging to a hundredth of a pixel.
    assert centroid(shown) == pytest.approx(expected, abs=1e-3 if mapping.scale_row < 1 else 1e-2)


@pytest.mark.parametrize(("native", "network"), SHAPES[:7], ids=str)
def test_a_disc_mapped_to_network_and_back_stays_in_place(native, network):
    mapping = geometry.fit(native, network)
    drawn = disc(native, np.array(native) / 2 + [3.3, -2.6], 0.25 * min(native))
    back = geometry.to_native(geometry.image_to_network(drawn.astype(np.float32), mapping)[None], mapping)[0]
    assert back.shape == native
    # A hundredth of the larger pixel, and a little more for two interpolations of one image.
    assert centroid(back) == pytest.approx(centroid(drawn), abs=max(1e-2 / mapping.scale_row, 1.5e-2))


@pytest.mark.parametrize(("native", "network"), SHAPES[:7], ids=str)
def test_a_linear_ramp_comes_back_at_native_size(native, network):
    mapping = geometry.fit(native, network)
    rows, cols = np.mgrid[: network[0], : network[1]].astype(np.float32)
    back = geometry.to_native(np.stack([rows, cols]), mapping)
    grid = np.stack(np.mgrid[: native[0], : native[1]], axis=-1)
    expected = geometry.points_to_network(grid, mapping)
    edge = int(np.ceil(1 / mapping.scale_row))  # beyond the last pixel centres the outermost value is repeated
    inner = (slice(edge, -edge), slice(edge, -edge))
    found = np.moveaxis(back, 0, -1)
    # OpenCV interpolates with weights in float32 (about 1e-3 of a pixel at these widths)
    assert np.abs(found[inner] - expected[inner]).max() < 2e-3


# Masks: no direction is preferred


def bias(native, network, count=40):
    """Mean of (BPD, OFD) of ellipses at network size minus those at native size, native pixels, of two nested classes.

    Of the outer one its area with the inner one in it.
    """
    draw, mapping, off = np.random.default_rng(0), geometry.fit(native, network), []
    pixel = (1 / mapping.scale_row, 1 / mapping.scale_col)
    for _ in range(count):
        major = draw.uniform(0.45, 0.8) * min(native)
        axes = np.array([major, major * draw.uniform(0.7, 0.95)])
        place = np.array(native) / 2 + draw.uniform(-5, 5, 2), draw.uniform(0, 180)
        outer, inner = (ellipse_region(native, place[0], *(axes * share), place[1]) for share in (1, 0.5))
        found = geometry.mask_to_network(outer.astype(np.uint8) + inner, mapping, 3)
        for before, after in ((outer, found > 0), (inner, found == 2)):
            heads = ellipse.fit_head(before, (1.0, 1.0)), ellipse.fit_head(after, pixel)
            off.append([heads[1].minor - heads[0].minor, heads[1].major - heads[0].major])
    return np.reshape(off, (count, 2, 2)).mean(axis=0)


# Standard errors of 40 ellipses are 0.02 px at half the size; were all ties background, bias would be -0.50 px there.
@pytest.mark.parametrize(
    ("native", "network", "largest"),
    [
        ((256, 384), (128, 192), 0.08),
        ((270, 400), (135, 200), 0.08),
        ((256, 384), (64, 96), 0.2),  # quarters; all ties to the background: -0.33
        ((270, 402), (90, 134), 0.15),  # thirds have no ties of two classes
        ((270, 400), (128, 192), 0.1),
        ((128, 192), (256, 384), 0.02),
    ],
    ids=["half", "half, padded", "quarter", "third", "odd", "twice"],
)
def test_masks_at_network_size_are_as_large_as_native_ones(native, network, largest):
    assert np.abs(bias(native, network)).max() < largest


def test_classes_that_cover_equal_parts_take_turns_along_edges_of_every_direction():
    rows, cols = np.mgrid[:80, :80]
    for first, second in ((0, 1), (1, 2), (0, 2)):
        for edge in (rows < 41, cols < 41, rows + 2 * cols < 122, 2 * rows + cols < 122, rows - 2 * cols < -40):
            mask = np.where(edge, first, second).astype(np.uint8)
            shown = geometry.mask_to_network(mask, geometry.fit((80, 80), (40, 40)), 3)
            share = geometry.image_to_network(edge.astype(np.float32), geometry.fit((80, 80), (40, 40)))
            taken = (shown == first)[share == 0.5]
            assert len(taken) >= 15
            assert 0.4 <= taken.mean() <= 0.6
            assert np.isin(shown, (first, second)).all()


def test_where_one_class_covers_most_nothing_depends_on_the_place():
    mask = np.zeros((40, 60), np.uint8)
    mask[3:30, 5:41] = 1
    mask[9:14, 9:16] = 2
    shares = np.stack([(mask == index).reshape(20, 2, 30, 2).sum(axis=(1, 3)) for index in range(3)])
    found = geometry.mask_to_network(mask, geometry.fit((40, 60), (20, 30)), 3)
    clear = np.sort(shares, axis=0)[-1] > np.sort(shares, axis=0)[-2]
    assert 0 < clear.sum() < clear.size
    assert np.array_equal(found[clear], shares.argmax(axis=0)[clear])
    assert np.array_equal(found, geometry.mask_to_network(mask, geometry.fit((40, 60), (20, 30)), 3))


def test_opencv_s_half_pixel_convention_is_that_of_the_point_mapping():
    native, network = (40, 60), (100, 150)
    mapping = geometry.fit(native, network)
    ramp = np.tile(np.arange(60, dtype=np.float32), (40, 1))
    by_opencv = cv2.resize(ramp, (150, 100), interpolation=cv2.INTER_LINEAR)[50, 5:-5]
    places = np.column_stack([np.full(150, 50.0), np.arange(150.0)])
    assert by_opencv == pytest.approx(geometry.points_to_native(places, mapping)[5:-5, 1], abs=1e-3)


def test_what_lies_in_the_padding_does_not_reach_native_pixels():
    mapping = geometry.fit((20, 60), (32, 48))
    values = np.full((1, 32, 48), 9, np.float32)
    values[0][mapping.inner] = 1
    assert (geometry.to_native(values, mapping) == 1).all()


# Crops


CROPS = [
    ((256, 256), (128, 192), (20, 31, 180, 201)),
    ((256, 256), (256, 256), (0, 0, 256, 256)),
    ((97, 61), (64, 64), (13, 7, 50, 41)),  # enlarged
    ((32, 32), (32, 32), (8, 10, 16, 12)),  # doubled
    ((40, 40), (32, 64), (39, 0, 1, 40)),  # one row
]
crops = pytest.mark.parametrize(("native", "network", "crop"), CROPS, ids=str)


def test_a_crop_doubled_and_padded_by_hand():
    mapping = geometry.fit((32, 32), (32, 32), (8, 10, 16, 12))
    assert (mapping.native_height, mapping.native_width) == (32, 32)
    assert (mapping.scale_row, mapping.scale_col) == (2, 2)
    assert (mapping.pad_row, mapping.pad_col) == (0, 4)
    assert mapping.inner_shape == (32, 24)
    assert mapping.crop == (slice(8, 24), slice(10, 22))
    assert mapping.inner == (slice(0, 32), slice(4, 28))
    # The pixel (8, 10) becomes rows 0-1 and columns 4-5, whose middle is (0.5, 4.5).
    assert geometry.points_to_network([[8, 10], [23, 21]], mapping).tolist() == [[0.5, 4.5], [30.5, 26.5]]


@shapes
def test_no_crop_is_the_whole_image(native, network):
    assert geometry.fit(native, network) == geometry.fit(native, network, (0, 0, *native))


@crops
def test_points_of_a_crop_come_back_within_a_billionth_of_a_pixel(native, network, crop):
    mapping = geometry.fit(native, network, crop)
    points = np.random.default_rng(0).uniform(-0.5, np.array(native) - 0.5, (50, 2))  # some lie outside the crop
    back = geometry.points_to_native(geometry.points_to_network(points, mapping), mapping)
    assert np.abs(back - points).max() < 1e-9


@crops
def test_the_crop_s_outer_edges_map_to_the_edges_of_its_place(native, network, crop):
    mapping = geometry.fit(native, network, crop)
    start = np.array(crop[:2]) - 0.5
    edges = geometry.points_to_network(np.stack([start, start + crop[2:]]), mapping)
    rows, cols = mapping.inner
    expected = [[rows.start - 0.5, cols.start - 0.5], [rows.stop - 0.5, cols.stop - 0.5]]
    assert edges == pytest.approx(np.array(expected), abs=1e-9)


@crops
def test_a_crop_is_shown_as_it_would_be_cut_out_beforehand(native, network, crop):
    image = np.random.default_rng(0).integers(0, 256, native).astype(np.uint8)
    mask = np.random.default_rng(1).integers(0, 3, native).astype(np.uint8)
    mapping, alone = geometry.fit(native, network, crop), geometry.fit(crop[2:], network)
    cut = mapping.crop
    assert np.array_equal(
        geometry.image_to_network(image, mapping), geometry.image_to_network(np.ascontiguousarray(image[cut]), alone)
    )
    assert np.array_equal(
        geometry.mask_to_network(mask, mapping, 3), geometry.mask_to_network(np.ascontiguousarray(mask[cut]), alone, 3)
    )


@crops
def test_native_pixels_outside_the_crop_are_0(native, network, crop):
    mapping = geometry.fit(native, network, crop)
    back = geometry.to_native(np.ones((2, *network), np.float32), mapping)
    assert back.shape == (2, *native)
    assert (back[(slice(None), *mapping.crop)] == 1).all()
    assert back.sum() == 2 * crop[2] * crop[3]


def test_a_doubled_crop_comes_back_to_the_last_digit():
    mapping = geometry.fit((32, 32), (32, 32), (8, 10, 16, 12))
    drawn = np.random.default_rng(0).random((16, 12), np.float32)
    shown = np.zeros((1, 32, 32), np.float32)
    shown[0][mapping.inner] = np.repeat(np.repeat(drawn, 2, axis=0), 2, axis=1)
    assert np.array_equal(geometry.to_native(shown, mapping)[0][mapping.crop], drawn)


def test_slices_come_back_to_their_places_and_the_others_are_0():
    mapping = geometry.fit((32, 32), (32, 32), (8, 10, 16, 12))
    values = np.stack([np.full((2, 32, 32), value, np.float32) for value in (0.25, 0.5)])
    values[:, 1] += 0.125
    volume = geometry.slices_to_native(values, mapping, np.array([4, 1]), depth=6)
    assert volume.shape == (2, 6, 32, 32)
    inside = volume[(slice(None), slice(None), *mapping.crop)]
    assert inside[0, :, 0, 0].tolist() == [0, 0.5, 0, 0, 0.25, 0]
    assert inside[1, :, 0, 0].tolist() == [0, 0.625, 0, 0, 0.375, 0]
    assert volume.sum() == inside.sum()


def test_one_image_is_a_volume_of_one_slice():
    mapping = geometry.fit((20, 60), (32, 48))
    values = np.random.default_rng(0).random((1, 3, 32, 48)).astype(np.float32)
    found = geometry.slices_to_native(values, mapping, np.array([0]), 1)
    assert np.array_equal(found[:, 0], geometry.to_native(values[0], mapping))


# Masks


def test_a_mask_pixel_takes_the_class_that_covers_most_of_it():
    mask = np.array([[1, 1, 0, 2], [1, 0, 2, 2], [0, 0, 3, 3], [0, 1, 3, 0]], np.uint8)
    shown = geometry.mask_to_network(mask, geometry.fit((4, 4), (2, 2)), 4)
    assert shown.tolist() == [[1, 2], [0, 3]]


def test_a_mask_takes_the_majority_of_nine_pixels():
    mask = np.array([[2, 2, 1], [2, 1, 1], [1, 1, 2]], np.uint8)
    assert geometry.mask_to_network(mask, geometry.fit((3, 3), (1, 1)), 3).tolist() == [[1]]


def test_the_padding_of_a_mask_is_background():
    mapping = geometry.fit((10, 30), (32, 32))
    mask = geometry.mask_to_network(np.full((10, 30), 2, np.uint8), mapping, 3)
    outside = np.ones((32, 32), bool)
    outside[mapping.inner] = False
    assert (mask[outside] == 0).all()
    assert (mask[mapping.inner] == 2).all()


@shapes
def test_a_mask_keeps_known_classes_and_its_type(native, network):
    mask = np.random.default_rng(0).integers(0, 4, native).astype(np.uint8)
    shown = geometry.mask_to_network(mask, geometry.fit(native, network), 4)
    assert shown.shape == network
    assert shown.dtype == np.uint8
    assert shown.max() <= 3


def test_a_disc_s_area_scales_with_both_scales():
    native, network = (540, 800), (128, 192)
    mapping = geometry.fit(native, network)
    drawn = disc(native, (270.2, 400.7), 180)
    shown = geometry.mask_to_network(drawn.astype(np.uint8), mapping, 2)
    expected = drawn.sum() * mapping.scale_row * mapping.scale_col
    assert shown.sum() == pytest.approx(expected, rel=2e-3)  # about a tenth of the edge's pixels


def test_transposed_images_have_transposed_geometries():
    image = np.random.default_rng(0).integers(0, 256, (54, 80)).astype(np.uint8)
    one, other = geometry.fit((54, 80), (32, 48)), geometry.fit((80, 54), (48, 32))
    shown = geometry.image_to_network(np.ascontiguousarray(image.T), other)
    assert np.array_equal(shown.T, geometry.image_to_network(image, one))
