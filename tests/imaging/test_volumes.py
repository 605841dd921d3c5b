import numpy as np
import pytest
from skimage import exposure, transform

from lib.imaging import geometry, image_files, intensity, volumes
from lib.imaging.intensity import Statistics
from lib.study import files
from tests.builders import noise

REAL = files.ROOT.parent / "shared" / "data" / "lgg" / "kaggle_3m"
PATIENTS = (
    "TCGA_CS_4943_20000902",
    "TCGA_DU_A5TW_19980228",
)  # cropped at both sides; post-contrast missing in 9 slices
here = pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there: LGG is not part of the project")


def head(depth=3, size=(40, 50), box=(8, 5, 20, 30), channels=3):
    """Dark noise of at most 5 around a bright box."""
    volume = np.random.default_rng(1).integers(0, 6, (depth, *size, channels)).astype(np.uint8)
    row, col, height, width = box
    volume[:, row : row + height, col : col + width] += 150
    volume[:, row, col] = 200
    return volume


def by_skimage(each, rows, cols):
    return transform.resize(each, (rows, cols), order=2, mode="edge", anti_aliasing=False)


# Content


def test_the_box_holds_what_is_bright_in_any_slice():
    volume = np.zeros((2, 5, 6, 1), np.uint8)
    volume[0, 1, 2] = 100
    volume[1, 3, 4] = 11
    assert volumes.content_box(volume, 0.1) == (1, 2, 3, 3)


def test_a_pixel_at_the_level_itself_is_not_bright():
    volume = np.zeros((1, 5, 6, 1), np.uint8)
    volume[0, 1, 2] = 100
    volume[0, 3, 4] = 10
    assert volumes.content_box(volume, 0.1) == (1, 2, 1, 1)


def test_each_channel_is_held_against_its_own_maximum():
    volume = np.zeros((1, 5, 6, 2), np.uint8)
    volume[0, 1, 2, 0] = 200
    volume[0, 3, 4, 1] = 12  # 6 % of the first channel's maximum, all of the second's
    assert volumes.content_box(volume, 0.1) == (1, 2, 3, 3)


@pytest.mark.parametrize("fill", [0, 7, 255])
def test_a_constant_channel_counts_for_nothing(fill):
    volume = head(channels=2)
    volume[..., 1] = fill
    assert volumes.content_box(volume, 0.1) == volumes.content_box(volume[..., :1], 0.1) == (8, 5, 20, 30)


@pytest.mark.parametrize("fill", [0, 90])
def test_a_volume_without_content_gives_the_whole_frame(fill):
    assert volumes.content_box(np.full((2, 5, 6, 3), fill, np.uint8), 0.1) == (0, 0, 5, 6)


def test_a_bright_background_gives_the_whole_frame():
    volume = head()
    volume[..., 0] = np.maximum(volume[..., 0], 80)
    assert volumes.content_box(volume, 0.1) == (0, 0, 40, 50)


def test_the_box_turns_with_the_volume():
    row, col, height, width = volumes.content_box(head(), 0.1)
    assert volumes.content_box(head().swapaxes(1, 2), 0.1) == (col, row, width, height)
    assert volumes.content_box(head()[:, ::-1], 0.1) == (40 - row - height, col, height, width)


# Slices


@pytest.mark.parametrize(
    ("depth", "dropped", "left"), [(5, 0, [0, 1, 2, 3, 4]), (5, 1, [1, 2, 3]), (5, 2, [2]), (1, 0, [0])]
)
def test_end_slices_are_dropped_at_both_ends(depth, dropped, left):
    assert list(range(depth))[volumes.kept_slices(depth, dropped)] == left


@pytest.mark.parametrize(("depth", "dropped", "most"), [(4, 2, 1), (5, 3, 2), (1, 1, 0), (5, -1, 2)])
def test_dropping_every_slice_is_refused_with_what_is_allowed(depth, dropped, most):
    message = f"end_slices_dropped = {dropped}   not allowed with {depth} slices.*; 0 to {most}$"
    with pytest.raises(ValueError, match=message):
        volumes.kept_slices(depth, dropped)


# Resizing


@pytest.mark.parametrize(
    ("n_in", "n_out"), [(7, 16), (16, 7), (1, 5), (5, 1), (2, 9), (3, 2), (13, 13), (197, 256), (256, 200)]
)
def test_the_matrix_is_scikit_image_s_resize_along_one_axis(n_in, n_out):
    values = np.random.default_rng(0).normal(size=(n_in, 6))
    expected = transform.resize(values, (n_out, 6), order=2, mode="edge", anti_aliasing=False, clip=False)
    assert volumes.spline_matrix(n_in, n_out) @ values == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n_in", "n_out"), [(7, 16), (16, 7), (1, 5), (197, 256)])
def test_a_constant_stays_what_it_is(n_in, n_out):
    assert volumes.spline_matrix(n_in, n_out).sum(axis=1) == pytest.approx(np.ones(n_out), abs=1e-12)


def test_a_parabola_is_reproduced_away_from_the_ends():
    places = (np.arange(80) + 0.5) / 2 - 0.5  # of 80 new pixels on 40 old ones
    found = volumes.spline_matrix(40, 80) @ (np.arange(40.0) ** 2)
    assert found[30:-30] == pytest.approx(places[30:-30] ** 2, abs=1e-6)  # repeated ends reach 15 pixels in: 0.17^15


def test_resizing_to_the_same_size_is_no_change():
    assert volumes.spline_matrix(9, 9) == pytest.approx(np.eye(9), abs=1e-12)


def test_a_matrix_is_made_once_and_cannot_be_written_to():
    assert volumes.spline_matrix(7, 16) is volumes.spline_matrix(7, 16)
    with pytest.raises(ValueError, match="read-only"):
        volumes.spline_matrix(7, 16)[0, 0] = 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(45, 33), (20, 64), (64, 20), (12, 9), (30, 33), (45, 20), (30, 20)])
def test_resized_slices_are_those_of_scikit_image(size, channels):
    volume = np.random.default_rng(0).normal(size=(4, 30, 20, channels)).astype(np.float32)
    found = volumes.resize(volume, *size)
    assert found.shape == (4, *size, channels)
    assert found.dtype == np.float32
    assert found == pytest.approx(np.stack([by_skimage(each, *size) for each in volume]), abs=1e-5)


def test_each_slice_is_clipped_to_its_own_range_over_all_channels():
    volume = np.zeros((2, 12, 12, 2), np.float32)
    volume[0, 6:, :, 0], volume[1, 6:, :, 0] = 1, 5  # an edge, at which splines overshoot
    volume[1, :, :, 1] = -1
    found = volumes.resize(volume, 30, 30)
    assert (found[0].min(), found[0].max()) == (0, 1)
    assert found[1, ..., 0].max() == 5
    assert found[1, ..., 0].min() < 0  # allowed by the other channel, as in scikit-image
    assert found == pytest.approx(np.stack([by_skimage(each, 30, 30) for each in volume]), abs=1e-5)


def test_resizing_leaves_the_volume_alone_and_shares_no_memory():
    volume = np.random.default_rng(0).normal(size=(2, 8, 9, 3)).astype(np.float32)
    before = volume.copy()
    for size in ((8, 9), (16, 9), (16, 18)):
        found = volumes.resize(volume, *size)
        found += 1
        assert np.array_equal(volume, before)


# To the network


def test_the_order_is_crop_normalise_resize_pad():
    volume = head()
    mapping = geometry.fit((40, 50), (64, 64), volumes.content_box(volume, 0.1))
    cropped = volume[:, 8:28, 5:35]
    given = intensity.statistics(cropped, [10.0, 99.0])
    found = volumes.to_network(volume, mapping, given)
    assert (found.shape, found.dtype) == ((3, 3, 64, 64), np.float32)
    inner = volumes.resize(intensity.normalise(cropped, given), 43, 64)  # 20 x 30 pixels to a width of 64
    assert mapping.inner == (slice(10, 53), slice(0, 64))
    assert np.array_equal(found[:, :, 10:53], np.moveaxis(inner, -1, 1))
    assert (found[:, :, :10] == intensity.background(given)[:, None, None]).all()
    assert (found[:, :, 53:] == intensity.background(given)[:, None, None]).all()


def test_padding_is_no_brighter_than_the_darkest_tissue():
    volume = noise((2, 30, 20, 3))
    given = intensity.statistics(volume, [10.0, 99.0])
    found = volumes.to_network(volume, geometry.fit((30, 20), (32, 32)), given)
    tissue = intensity.normalise(volume, given)
    assert (found[..., 0].max(axis=(0, 2)) <= tissue.min(axis=(0, 1, 2))).all()
    assert (found[..., 0] < -1).all()  # not 0, which is the mean of what is seen


def test_a_constant_channel_is_0_in_the_padding_too():
    volume = noise((2, 30, 20, 3))
    volume[..., 2] = 40
    found = volumes.to_network(volume, geometry.fit((30, 20), (32, 32)), intensity.statistics(volume, [10.0, 99.0]))
    assert np.isfinite(found).all()
    assert (found[:, 2] == 0).all()
    assert found[:, :2].std() > 0.5


def test_a_crop_of_the_network_s_shape_is_not_padded():
    volume = noise((2, 32, 32, 3))
    given = intensity.statistics(volume, [10.0, 99.0])
    found = volumes.to_network(volume, geometry.fit((32, 32), (32, 32)), given)
    assert np.array_equal(found, np.moveaxis(intensity.normalise(volume, given), -1, 1))


def test_a_volume_of_one_slice_of_one_channel_is_a_volume():
    volume = noise((1, 20, 30, 1))
    found = volumes.to_network(volume, geometry.fit((20, 30), (32, 48)), intensity.statistics(volume, [10.0, 99.0]))
    assert found.shape == (1, 1, 32, 48)
    assert np.isfinite(found).all()


def test_a_slice_alone_is_shown_as_it_is_within_its_volume():
    volume = noise((5, 30, 20, 3))
    given, mapping = intensity.statistics(volume, [10.0, 99.0]), geometry.fit((30, 20), (48, 48), (2, 3, 25, 15))
    whole = volumes.to_network(volume, mapping, given)
    # Products of other sizes may add in another order.
    assert volumes.to_network(volume[3:4], mapping, given) == pytest.approx(whole[3:4], abs=1e-5)


def test_a_bright_spot_lies_where_the_geometry_says():
    volume = np.zeros((1, 40, 50, 1), np.uint8)
    volume[0, 19:22, 29:32] = 200
    mapping = geometry.fit((40, 50), (96, 96), (5, 10, 30, 40))
    found = volumes.to_network(volume, mapping, Statistics((0.0,), (200.0,), (0.0,), (1.0,)))[0, 0].astype(float)
    rows, cols = np.mgrid[:96, :96]
    centroid = np.array([(rows * found).sum(), (cols * found).sum()]) / found.sum()
    assert centroid == pytest.approx(
        geometry.points_to_network(np.array([20, 30]), mapping), abs=2e-2
    )  # clipping is not linear


# Bad input


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4, 1), np.float32), np.zeros((0, 3, 4, 1), np.uint8)]
)
def test_what_is_no_volume_is_refused_with_what_was_found(array):
    with pytest.raises(ValueError, match=r"is no volume; expected \(slices, rows, columns, channels\)") as caught:
        volumes.content_box(array, 0.1)
    assert f"an array {array.shape} of {array.dtype}" in str(caught.value)


def test_a_geometry_of_another_size_is_refused():
    given = intensity.statistics(noise(), [10.0, 99.0])
    with pytest.raises(ValueError, match=r"slices of \(30, 20\) pixels with the geometry of \(31, 20\); expected"):
        volumes.to_network(noise(), geometry.fit((31, 20), (32, 32)), given)


# Real patients


def read(patient):
    slices = [path for path in (REAL / patient).glob("*.tif") if not path.stem.endswith("_mask")]
    return np.stack([image_files.read_pixels(p) for p in sorted(slices, key=lambda p: int(p.stem.rpartition("_")[2]))])


@pytest.fixture(scope="module", params=PATIENTS)
def patient(request):
    """(volume, geometry, statistics) of a patient."""
    volume = read(request.param)
    mapping = geometry.fit(volume.shape[1:3], (256, 256), volumes.content_box(volume, 0.1))
    return volume, mapping, intensity.statistics(volume[(slice(None), *mapping.crop)], [10.0, 99.0])


@here
def test_nothing_bright_of_a_patient_is_cropped_away(patient):
    volume, mapping, _ = patient
    outside = volume.copy()
    outside[(slice(None), *mapping.crop)] = 0
    assert 0 < mapping.crop_width < 256
    assert (outside.max(axis=(0, 1, 2)) <= 0.1 * volume.max(axis=(0, 1, 2))).all()


@here
def test_a_patient_s_slices_are_those_of_scikit_image(patient):
    volume, mapping, given = patient
    cropped = volume[(slice(None), *mapping.crop)].astype(np.float32)
    normalised = np.empty_like(cropped)
    for channel in range(3):
        values = cropped[..., channel]
        low, high = np.percentile(values, [10, 99])
        scaled = exposure.rescale_intensity(values, in_range=(low, high), out_range=(0.0, 1.0)).astype(float)
        normalised[..., channel] = (scaled - scaled.mean()) / scaled.std()
    shown = volumes.to_network(volume, mapping, given)
    for place in (0, 8, len(volume) - 1):
        expected = by_skimage(normalised[place], *mapping.inner_shape)
        assert shown[(place, slice(None), *mapping.inner)] == pytest.approx(np.moveaxis(expected, -1, 0), abs=1e-4)


@here
def test_a_slice_without_a_sequence_is_background_in_that_channel_alone():
    volume = read(PATIENTS[1])
    given = intensity.statistics(volume, [10.0, 99.0])
    shown = volumes.to_network(volume, geometry.fit((256, 256), (256, 256)), given)
    assert (volume[:9, ..., 2] == volume[0, 0, 0, 2]).all()
    assert np.isfinite(shown).all()
    assert shown[:9, 2] == pytest.approx(intensity.background(given)[2])
    assert (shown[:9, 1].std(axis=(1, 2)) > 0.1).all()
