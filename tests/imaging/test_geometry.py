import numpy as np
import pytest

from lib.imaging import ellipse, geometry
from tests.builders import ellipse_region, typed

SHAPES = [
    ((540, 800), (128, 192), None),  # HC18
    ((542, 800), (128, 192), None),
    ((541, 738), (384, 576), None),
    ((800, 540), (128, 192), None),  # portrait
    ((97, 61), (64, 64), None),  # odd
    ((33, 47), (128, 192), None),  # upscaled
    ((128, 192), (128, 192), None),
    ((129, 193), (128, 192), None),
    ((1, 1), (32, 32), None),
    ((32, 1000), (32, 32), None),
]
CROPS = [
    ((256, 256), (128, 192), (20, 31, 180, 201)),
    ((256, 256), (256, 256), (0, 0, 256, 256)),
    ((97, 61), (64, 64), (13, 7, 50, 41)),  # enlarged
    ((32, 32), (32, 32), (8, 10, 16, 12)),  # doubled
    ((40, 40), (32, 64), (39, 0, 1, 40)),  # one row
]
all_shapes = pytest.mark.parametrize(("native", "network", "crop"), SHAPES + CROPS, ids=str)
DOUBLED = geometry.fit((32, 32), (32, 32), (8, 10, 16, 12))


def centroid(weights):
    rows, cols = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return np.array([(rows * weights).sum(), (cols * weights).sum()]) / weights.sum()


def test_a_crop_doubled_and_padded_by_hand():
    assert geometry.Geometry(32, 32, 8, 10, 16, 12, 2.0, 2.0, 0, 4, 32, 32) == DOUBLED
    assert DOUBLED.inner_shape == (32, 24)
    assert DOUBLED.crop == (slice(8, 24), slice(10, 22))
    assert DOUBLED.inner == (slice(0, 32), slice(4, 28))
    # The pixel (8, 10) becomes rows 0-1 and columns 4-5, with the centre (0.5, 4.5).
    assert geometry.points_to_network([[8, 10], [23, 21]], DOUBLED).tolist() == [[0.5, 4.5], [30.5, 26.5]]


@all_shapes
def test_the_image_s_outer_edges_map_to_the_edges_of_its_place_and_points_come_back(native, network, crop):
    mapping = geometry.fit(native, network, crop)
    top, left, height, width = crop or (0, 0, *native)
    start = np.array([top, left]) - 0.5
    edges = geometry.points_to_network(np.stack([start, start + np.array([height, width])]), mapping)
    rows, cols = mapping.inner
    expected = [[rows.start - 0.5, cols.start - 0.5], [rows.stop - 0.5, cols.stop - 0.5]]
    assert edges == pytest.approx(np.array(expected), abs=1e-9)
    points = np.random.default_rng(0).uniform(-0.5, np.array(native) - 0.5, (50, 2))  # some lie outside the crop
    back = geometry.points_to_native(geometry.points_to_network(points, mapping), mapping)
    assert np.abs(back - points).max() < 1e-9


@all_shapes
def test_the_image_keeps_its_aspect_lies_in_the_middle_and_touches_two_sides(native, network, crop):
    mapping = geometry.fit(native, network, crop)
    height, width = native if crop is None else crop[2:]
    scale = min(network[0] / height, network[1] / width)
    for own, whole, pad, size in zip(mapping.inner_shape, network, (mapping.pad_row, mapping.pad_col), (height, width)):
        assert abs(own - size * scale) <= 0.5
        assert own <= whole
        assert abs(whole - own - 2 * pad) <= 1
    assert any(own == whole for own, whole in zip(mapping.inner_shape, network))


@all_shapes
def test_padding_is_zero_and_a_bright_image_fills_the_rest(native, network, crop):
    mapping = geometry.fit(native, network, crop)
    expected = np.zeros(network, np.uint8)
    expected[mapping.inner] = 2
    image = geometry.image_to_network(np.full(native, 2, np.uint8), mapping)
    mask = geometry.mask_to_network(np.full(native, 2, np.uint8), mapping, 3)
    assert image.dtype == mask.dtype == np.uint8
    assert np.array_equal(image, expected)
    assert np.array_equal(mask, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_kept_and_rows_and_columns_are_alike(channels):
    image = np.random.default_rng(0).integers(0, 256, (54, 80, channels)).astype(np.uint8)
    mapping, turned = geometry.fit((54, 80), (32, 48)), geometry.fit((80, 54), (48, 32))
    scaled = geometry.image_to_network(image, mapping)
    assert scaled.shape == (32, 48, channels)
    first = image[..., 0].copy()
    assert np.array_equal(scaled[..., 0], geometry.image_to_network(first, mapping))
    assert np.array_equal(scaled[..., 0].T, geometry.image_to_network(np.ascontiguousarray(first.T), turned))


def test_halving_averages_blocks_of_four_pixels_and_the_same_size_changes_nothing():
    image = np.array([[0, 100, 8, 8], [100, 200, 8, 8]], np.uint8)
    assert geometry.image_to_network(image, geometry.fit((2, 4), (2, 2))).tolist() == [[100, 8], [0, 0]]
    assert np.array_equal(geometry.image_to_network(image, geometry.fit((2, 4), (2, 4))), image)


@pytest.mark.parametrize(("native", "network", "crop"), SHAPES[:8], ids=str)
@pytest.mark.parametrize("centre", [(0.4, 0.55), (0.5, 0.5), (0.62, 0.37)])
def test_a_disc_is_where_the_point_mapping_says_and_is_mapped_back_exactly(native, network, crop, centre):
    mapping = geometry.fit(native, network, crop)
    width = 0.5 * min(native)
    drawn = ellipse_region(native, np.array(native) * centre + 0.3, width, width, 0)
    scaled = geometry.image_to_network(drawn.astype(np.float32), mapping)
    # Averaging keeps the centroid to float32's digits, linear enlarging to a hundredth of a pixel.
    expected = geometry.points_to_network(centroid(drawn), mapping)
    assert centroid(scaled) == pytest.approx(expected, abs=1e-3 if mapping.scale_row < 1 else 1e-2)
    back = geometry.to_native(scaled[None], mapping)[0]
    # A hundredth of the larger pixel, and a little more for two interpolations of one image.
    assert centroid(back) == pytest.approx(centroid(drawn), abs=max(1e-2 / mapping.scale_row, 1.5e-2))


@pytest.mark.parametrize(("native", "network", "crop"), SHAPES[:8] + CROPS[:4], ids=str)
def test_a_linear_ramp_comes_back_at_native_size(native, network, crop):
    mapping = geometry.fit(native, network, crop)
    back = geometry.to_native(np.stack(np.mgrid[: network[0], : network[1]]).astype(np.float32), mapping)
    grid = np.stack(np.mgrid[: native[0], : native[1]], axis=-1)
    expected = np.moveaxis(geometry.points_to_network(grid, mapping), -1, 0)
    edge = int(np.ceil(1 / mapping.scale_row))  # beyond the last pixel centres the outermost value is repeated
    inner = (slice(None), *(slice(axis.start + edge, axis.stop - edge) for axis in mapping.crop))
    # OpenCV interpolates with weights in float32 (about 1e-3 of a pixel at these widths)
    assert np.abs(back[inner] - expected[inner]).max() < 2e-3


def test_a_mask_pixel_takes_the_class_that_covers_most_of_it_wherever_it_is():
    for text, size, expected in (
        ("11.2 1.22 ..33 .13.", (2, 2), "12 .3"),
        ("221 211 112", (1, 1), "1"),  # five of nine pixels
    ):
        mask = typed(text)
        assert np.array_equal(geometry.mask_to_network(mask, geometry.fit(mask.shape, size), 4), typed(expected))
    mask = np.zeros((40, 60), np.uint8)
    mask[3:30, 5:41] = 1
    mask[9:14, 9:16] = 2
    shares = np.stack([(mask == index).reshape(20, 2, 30, 2).sum(axis=(1, 3)) for index in range(3)])
    scaled = geometry.mask_to_network(mask, geometry.fit((40, 60), (20, 30)), 3)
    clear = np.sort(shares, axis=0)[-1] > np.sort(shares, axis=0)[-2]
    assert 0 < clear.sum() < clear.size
    assert np.array_equal(scaled[clear], shares.argmax(axis=0)[clear])


def bias(native, network, count=40):
    """Mean error in native pixels of (BPD, OFD) at network size, for an outer class and one inside it: (2, 2)."""
    draw, mapping, errors = np.random.default_rng(0), geometry.fit(native, network), []
    pixel = (1 / mapping.scale_row, 1 / mapping.scale_col)
    for _ in range(count):
        major = draw.uniform(0.45, 0.8) * min(native)
        axes = np.array([major, major * draw.uniform(0.7, 0.95)])
        centre, angle = np.array(native) / 2 + draw.uniform(-5, 5, 2), draw.uniform(0, 180)
        outer, inner = (ellipse_region(native, centre, *(axes * share), angle) for share in (1, 0.5))
        scaled = geometry.mask_to_network(outer.astype(np.uint8) + inner, mapping, 3)
        for before, after in ((outer, scaled > 0), (inner, scaled == 2)):
            heads = ellipse.fit_head(before, (1.0, 1.0)), ellipse.fit_head(after, pixel)
            errors.append([heads[1].minor - heads[0].minor, heads[1].major - heads[0].major])
    return np.reshape(errors, (count, 2, 2)).mean(axis=0)


# Standard errors of 40 ellipses are 0.02 px at half the size; were all ties background, bias would be -0.50 px there.
@pytest.mark.parametrize(
    ("native", "network", "largest"),
    [
        ((256, 384), (128, 192), 0.08),
        ((270, 400), (135, 200), 0.08),  # padded
        ((256, 384), (64, 96), 0.2),  # quarters; all ties to the background: -0.33
        ((270, 402), (90, 134), 0.15),  # thirds have no ties of two classes
        ((270, 400), (128, 192), 0.1),
        ((128, 192), (256, 384), 0.02),
    ],
)
def test_masks_at_network_size_are_as_large_as_native_ones(native, network, largest):
    assert np.abs(bias(native, network)).max() < largest


def test_tied_classes_alternate_along_edges_of_every_direction():
    rows, cols = np.mgrid[:80, :80]
    mapping = geometry.fit((80, 80), (40, 40))
    for first, second in ((0, 1), (1, 2), (0, 2)):
        for edge in (rows < 41, cols < 41, rows + 2 * cols < 122, 2 * rows + cols < 122, rows - 2 * cols < -40):
            scaled = geometry.mask_to_network(np.where(edge, first, second).astype(np.uint8), mapping, 3)
            share = geometry.image_to_network(edge.astype(np.float32), mapping)
            taken = (scaled == first)[share == 0.5]
            assert len(taken) >= 15
            assert 0.4 <= taken.mean() <= 0.6
            assert np.isin(scaled, (first, second)).all()


@all_shapes
def test_a_crop_equals_cropping_beforehand(native, network, crop):
    crop = crop or (0, 0, *native)
    mapping, alone = geometry.fit(native, network, crop), geometry.fit(crop[2:], network)
    draw = np.random.default_rng(1)
    image, mask = (draw.integers(0, count, native).astype(np.uint8) for count in (256, 4))
    inner_image, inner_mask = (np.ascontiguousarray(whole[mapping.crop]) for whole in (image, mask))
    assert np.array_equal(geometry.image_to_network(image, mapping), geometry.image_to_network(inner_image, alone))
    scaled = geometry.mask_to_network(mask, mapping, 4)
    assert np.array_equal(scaled, geometry.mask_to_network(inner_mask, alone, 4))
    assert scaled.max() <= 3


@all_shapes
def test_native_pixels_outside_the_crop_are_0_and_the_padding_does_not_reach_those_inside(native, network, crop):
    mapping = geometry.fit(native, network, crop)
    values = np.full((2, *network), 9, np.float32)
    values[(slice(None), *mapping.inner)] = 1
    back = geometry.to_native(values, mapping)
    expected = np.zeros((2, *native), np.float32)
    expected[(slice(None), *mapping.crop)] = 1
    assert np.array_equal(back, expected)


def test_slices_are_mapped_back_to_their_indices_and_the_others_are_0():
    values = np.random.default_rng(0).random((2, 3, 32, 32)).astype(np.float32)
    volume = geometry.slices_to_native(values, DOUBLED, np.array([4, 1]), depth=6)
    assert volume.shape == (3, 6, 32, 32)
    for index, network_slice in ((4, values[0]), (1, values[1])):
        assert np.array_equal(volume[:, index], geometry.to_native(network_slice, DOUBLED))
    assert not volume[:, [0, 2, 3, 5]].any()
