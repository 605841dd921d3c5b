import numpy as np
import pytest
from skimage import exposure, transform

from lib.imaging import geometry, image_files, intensity, volumes
from lib.imaging.intensity import Statistics
from lib.study import files
from tests.builders import noise

REAL = files.ROOT.parent / "shared" / "data" / "lgg" / "kaggle_3m"
PATIENTS = ("TCGA_CS_4943_20000902", "TCGA_DU_A5TW_19980228")  # with margins; post-contrast missing in 9 slices
needs_lgg = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is missing: LGG is not part of the project")
PERCENTILES = [10.0, 99.0]


def head():
    """Dark noise of at most 5 around a bright box (8, 5, 20, 30): (3, 40, 50, 3)."""
    volume = np.random.default_rng(1).integers(0, 6, (3, 40, 50, 3)).astype(np.uint8)
    volume[:, 8:28, 5:35] += 150
    volume[:, 8, 5] = 200
    return volume


def spots(*values):
    """A dark volume of 5 x 6 pixels and two channels with some voxels (slice, row, col, channel, value)."""
    volume = np.zeros((2, 5, 6, 2), np.uint8)
    for *voxel, value in values:
        volume[tuple(voxel)] = value
    return volume


def by_skimage(volume, rows, cols):
    size = (rows, cols)
    return np.stack([transform.resize(each, size, order=2, mode="edge", anti_aliasing=False) for each in volume])


def padding(values, mapping):
    """Values (N, C, h, w) outside the image: (N, C, pixels)."""
    outside = np.ones(values.shape[2:], bool)
    outside[mapping.inner] = False
    return values[:, :, outside]


@pytest.mark.parametrize(
    ("volume", "box"),
    [
        (spots((0, 1, 2, 0, 100), (1, 3, 4, 0, 11)), (1, 2, 3, 3)),  # bright in any slice
        (spots((0, 1, 2, 0, 100), (0, 3, 4, 0, 10)), (1, 2, 1, 1)),  # at the level is not bright
        (spots((0, 1, 2, 0, 200), (0, 3, 4, 1, 12)), (1, 2, 3, 3)),  # the second channel's maximum
        (np.full((2, 5, 6, 3), 0, np.uint8), (0, 0, 5, 6)),  # without content: the whole frame
        (np.full((2, 5, 6, 3), 90, np.uint8), (0, 0, 5, 6)),
        (np.maximum(head(), np.array([80, 0, 0], np.uint8)), (0, 0, 40, 50)),  # a bright background
        (head(), (8, 5, 20, 30)),
        (head().swapaxes(1, 2), (5, 8, 30, 20)),
        (head()[:, ::-1], (12, 5, 20, 30)),
        *[(np.maximum(head() * [1, 0, 1], [0, fill, 0]).astype(np.uint8), (8, 5, 20, 30)) for fill in (0, 7, 255)],
    ],
)
def test_the_box_holds_what_is_bright_in_a_channel_that_varies(volume, box):
    assert volumes.content_box(volume, 0.1) == box


def test_end_slices_are_dropped_at_both_ends_and_never_all():
    for depth, dropped, kept in ((5, 0, [0, 1, 2, 3, 4]), (5, 1, [1, 2, 3]), (5, 2, [2]), (1, 0, [0])):
        assert list(range(depth))[volumes.kept_slices(depth, dropped)] == kept
    for depth, dropped, most in ((4, 2, 1), (5, 3, 2), (1, 1, 0), (5, -1, 2)):
        with pytest.raises(ValueError, match=f"end_slices_dropped = {dropped} .*{depth} slices.*; 0 to {most}$"):
            volumes.kept_slices(depth, dropped)


@pytest.mark.parametrize(("counts", "fullest"), [([0, 2, 3, 3], 2), ([0], 0), ([0] * 4, 2), ([0] * 5, 2)])
def test_the_fullest_slice_has_most_foreground_and_is_the_middle_of_an_empty_mask(counts, fullest):
    mask = np.stack([np.arange(9) < count for count in counts]).reshape(-1, 3, 3)
    assert volumes.fullest_slice(2 * mask.astype(np.uint8)) == fullest


@pytest.mark.parametrize(
    ("n_in", "n_out"), [(7, 16), (16, 7), (1, 5), (5, 1), (2, 9), (3, 2), (13, 13), (197, 256), (256, 200)]
)
def test_the_matrix_is_scikit_image_s_resize_along_one_axis(n_in, n_out):
    values = np.random.default_rng(0).normal(size=(n_in, 6))
    expected = transform.resize(values, (n_out, 6), order=2, mode="edge", anti_aliasing=False, clip=False)
    matrix = volumes.spline_matrix(n_in, n_out)
    assert matrix @ values == pytest.approx(expected, abs=1e-9)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(n_out), abs=1e-12)  # a constant stays what it is
    with pytest.raises(ValueError, match="read-only"):  # one array for all callers
        matrix[0, 0] = 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(45, 33), (20, 64), (64, 20), (12, 9), (30, 33), (45, 20), (30, 20)])
def test_resized_slices_are_those_of_scikit_image_and_share_no_memory(size, channels):
    volume = np.random.default_rng(0).normal(size=(4, 30, 20, channels)).astype(np.float32)
    before = volume.copy()
    resized = volumes.resize(volume, *size)
    assert (resized.shape, resized.dtype) == ((4, *size, channels), np.float32)
    assert resized == pytest.approx(by_skimage(volume, *size), abs=1e-5)
    resized += 1
    assert np.array_equal(volume, before)


def test_each_slice_is_clipped_to_its_own_range_over_all_channels():
    volume = np.zeros((2, 12, 12, 2), np.float32)
    volume[0, 6:, :, 0], volume[1, 6:, :, 0] = 1, 5  # an edge, at which splines overshoot
    volume[1, :, :, 1] = -1
    resized = volumes.resize(volume, 30, 30)
    assert (resized[0].min(), resized[0].max()) == (0, 1)
    assert resized[1, ..., 0].max() == 5
    assert resized[1, ..., 0].min() < 0  # allowed by the other channel, as in scikit-image
    assert resized == pytest.approx(by_skimage(volume, 30, 30), abs=1e-5)


def test_the_order_is_crop_normalise_resize_pad():
    volume = head()
    mapping = geometry.fit((40, 50), (64, 64), volumes.content_box(volume, 0.1))
    cropped = volume[:, 8:28, 5:35]
    counted = intensity.statistics(cropped, PERCENTILES)
    values = volumes.to_network(volume, mapping, counted)
    assert (values.shape, values.dtype) == ((3, 3, 64, 64), np.float32)
    assert mapping.inner == (slice(10, 53), slice(0, 64))
    inner = volumes.resize(intensity.normalise(cropped, counted), 43, 64)  # 20 x 30 pixels to a width of 64
    assert np.array_equal(values[:, :, 10:53], np.moveaxis(inner, -1, 1))
    assert (padding(values, mapping) == intensity.background(counted)[:, None]).all()


@pytest.mark.parametrize("shape", [(2, 30, 20, 3), (1, 20, 30, 1), (2, 32, 32, 3)])
def test_padding_is_no_brighter_than_the_darkest_tissue_and_0_in_a_constant_channel(shape):
    volume = noise(shape)
    volume[..., 2:] = 40
    counted, mapping = intensity.statistics(volume, PERCENTILES), geometry.fit(shape[1:3], (32, 32))
    values = volumes.to_network(volume, mapping, counted)
    around, tissue = padding(values, mapping), intensity.normalise(volume, counted)
    assert np.isfinite(values).all()
    assert (around[:, :2] < -1).all()  # not 0, the mean of the tissue
    assert (around <= tissue.min(axis=(0, 1, 2))[:, None]).all()
    assert not values[:, 2:].any()
    if shape[1:3] == (32, 32):  # not padded, not resized
        assert np.array_equal(values, np.moveaxis(tissue, -1, 1))


def test_a_bright_spot_is_at_the_position_given_by_the_geometry():
    volume = np.zeros((1, 40, 50, 1), np.uint8)
    volume[0, 19:22, 29:32] = 200
    mapping = geometry.fit((40, 50), (96, 96), (5, 10, 30, 40))
    values = volumes.to_network(volume, mapping, Statistics((0.0,), (200.0,), (0.0,), (1.0,)))[0, 0].astype(float)
    centroid = [(axis * values).sum() / values.sum() for axis in np.mgrid[:96, :96]]
    expected = geometry.points_to_network(np.array([20, 30]), mapping)
    assert centroid == pytest.approx(expected, abs=2e-2)  # clipping is not linear


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4, 1), np.float32), np.zeros((0, 3, 4, 1), np.uint8)]
)
def test_other_arrays_and_other_sizes_are_refused(array):
    counted = intensity.statistics(noise(), PERCENTILES)
    for refuse in (volumes.content_box, lambda *pair: volumes.to_network(*pair, counted)):
        with pytest.raises(ValueError, match=r"not a volume; expected \(slices, rows, columns, channels\)"):
            refuse(array, None)
    with pytest.raises(ValueError, match=r"slices have size \(30, 20\), the geometry \(31, 20\)"):
        volumes.to_network(noise(), geometry.fit((31, 20), (32, 32)), counted)


def read(patient):
    slices = [path for path in (REAL / patient).glob("*.tif") if not path.stem.endswith("_mask")]
    return np.stack([image_files.read_pixels(p) for p in sorted(slices, key=lambda p: int(p.stem.rpartition("_")[2]))])


@needs_lgg
@pytest.mark.parametrize("name", PATIENTS)
def test_a_patient_s_slices_are_those_of_scikit_image_and_nothing_bright_is_cropped_away(name):
    volume = read(name)
    mapping = geometry.fit(volume.shape[1:3], (256, 256), volumes.content_box(volume, 0.1))
    outside, inside = volume.copy(), volume[(slice(None), *mapping.crop)]
    outside[(slice(None), *mapping.crop)] = 0
    assert 0 < mapping.crop_width < 256
    assert (outside.max(axis=(0, 1, 2)) <= 0.1 * volume.max(axis=(0, 1, 2))).all()
    normalised = np.empty(inside.shape, np.float32)
    for channel in range(3):
        values = inside[..., channel].astype(np.float32)
        low, high = np.percentile(values, [10, 99])
        scaled = exposure.rescale_intensity(values, in_range=(low, high), out_range=(0.0, 1.0)).astype(float)
        normalised[..., channel] = (scaled - scaled.mean()) / scaled.std()
    chosen = [0, 8, len(volume) - 1]
    values = volumes.to_network(volume, mapping, intensity.statistics(inside, PERCENTILES))[chosen]
    expected = np.moveaxis(by_skimage(normalised[chosen], *mapping.inner_shape), -1, 1)
    assert values[(..., *mapping.inner)] == pytest.approx(expected, abs=1e-4)
