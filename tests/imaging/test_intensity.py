import numpy as np
import pytest
from skimage import exposure

from lib.imaging import intensity
from lib.imaging.intensity import Statistics
from tests.builders import noise


def one_channel(*slices):
    return np.array(slices, np.uint8)[..., None]


# Statistics


def test_statistics_of_a_volume_counted_by_hand():
    found = intensity.statistics(one_channel([[0, 10], [20, 30]], [[40, 40], [40, 100]]), [0.0, 100.0])
    assert (found.low, found.high) == ((0.0,), (100.0,))
    assert found.mean == pytest.approx((0.35,))
    assert found.std == pytest.approx((np.sqrt(0.08),))  # squares of 0.35 0.25 0.15, four of 0.05, 0.65: 0.64


def test_values_are_clipped_before_mean_and_spread():
    found = intensity.statistics(one_channel([[0, 0, 10, 20, 20]]), [25.0, 75.0])
    assert (found.low, found.high) == ((0.0,), (20.0,))
    clipped = intensity.statistics(one_channel([[0, 10, 10, 20, 250]]), [25.0, 75.0])
    assert (clipped.low, clipped.high, clipped.mean) == ((10.0,), (20.0,), (0.4,))
    assert clipped.std == pytest.approx((np.sqrt(0.24),))


@pytest.mark.parametrize("count", [1, 2, 3, 10, 101, 4096])
@pytest.mark.parametrize("percentiles", [(10.0, 99.0), (0.0, 100.0), (37.5, 62.5), (1.0, 99.9)])
def test_percentiles_are_those_of_numpy(count, percentiles):
    draw = np.random.default_rng(count)
    volume = (draw.integers(0, 256, (count, 1, 1, 3)) * draw.integers(0, 2, (count, 1, 1, 3))).astype(np.uint8)
    found = intensity.statistics(volume, percentiles)
    expected = np.percentile(volume.reshape(-1, 3), percentiles, axis=0)
    assert np.array([found.low, found.high]) == pytest.approx(expected, abs=1e-10)


def test_mean_and_spread_are_those_of_scikit_image_s_rescaled_values():
    volume = noise()
    found = intensity.statistics(volume, [10.0, 99.0])
    for channel, (low, high) in enumerate(zip(found.low, found.high)):
        values = volume[..., channel].astype(float)
        scaled = exposure.rescale_intensity(values, in_range=(low, high), out_range=(0.0, 1.0))
        assert found.mean[channel] == pytest.approx(scaled.mean(), abs=1e-12)
        assert found.std[channel] == pytest.approx(scaled.std(), abs=1e-12)


def test_a_channel_is_measured_by_itself():
    volume = noise()
    whole = intensity.statistics(volume, [10.0, 99.0])
    alone = [intensity.statistics(volume[..., channel : channel + 1], [10.0, 99.0]) for channel in range(3)]
    assert whole == Statistics(*(tuple(getattr(each, n)[0] for each in alone) for n in ("low", "high", "mean", "std")))


@pytest.mark.parametrize("values", [[[7, 7, 7]], [[0, 0, 0]], [[0] * 300 + [255]]])
def test_a_channel_without_spread_has_none_and_no_nan(values):
    found = intensity.statistics(one_channel(values), [10.0, 99.0])
    assert found.low == found.high
    assert (found.mean, found.std) == ((0.0,), (0.0,))


# Normalising


def test_a_normalised_volume_typed_out():
    given = Statistics((10.0,), (30.0,), (0.5,), (0.25,))
    found = intensity.normalise(one_channel([[0, 10, 15], [20, 30, 255]]), given)
    assert found.dtype == np.float32
    assert found[..., 0].tolist() == [[[-2.0, -2.0, -1.0], [0.0, 2.0, 2.0]]]


def test_normalising_is_that_of_scikit_image_and_numpy():
    volume = noise()
    given = intensity.statistics(volume, [10.0, 99.0])
    found = intensity.normalise(volume, given)
    for channel, (low, high) in enumerate(zip(given.low, given.high)):
        values = volume[..., channel].astype(float)
        scaled = exposure.rescale_intensity(values, in_range=(low, high), out_range=(0.0, 1.0))
        assert found[..., channel] == pytest.approx((scaled - scaled.mean()) / scaled.std(), abs=1e-6)


def test_a_normalised_volume_has_mean_0_and_spread_1_in_each_channel():
    volume = noise((5, 40, 40, 3))
    found = intensity.normalise(volume, intensity.statistics(volume, [10.0, 99.0])).astype(float)
    assert found.mean(axis=(0, 1, 2)) == pytest.approx(np.zeros(3), abs=1e-6)
    assert found.std(axis=(0, 1, 2)) == pytest.approx(np.ones(3), abs=1e-6)


def test_a_slice_is_normalised_by_its_volume_and_not_by_itself():
    volume = noise()
    volume[0] //= 8
    given = intensity.statistics(volume, [10.0, 99.0])
    assert np.array_equal(intensity.normalise(volume[:1], given), intensity.normalise(volume, given)[:1])
    own = intensity.normalise(volume[:1], intensity.statistics(volume[:1], [10.0, 99.0]))
    assert np.abs(own - intensity.normalise(volume[:1], given)).max() > 1


@pytest.mark.parametrize("fill", [0, 80, 255])
def test_a_constant_channel_becomes_0_and_leaves_the_others_alone(fill):
    volume = noise()
    whole = intensity.normalise(volume, intensity.statistics(volume, [10.0, 99.0]))
    volume[..., 1] = fill
    found = intensity.normalise(volume, intensity.statistics(volume, [10.0, 99.0]))
    assert (found[..., 1] == 0).all()
    assert np.array_equal(found[..., ::2], whole[..., ::2])


def test_a_channel_that_is_constant_between_its_percentiles_becomes_0():
    volume = one_channel([[0] * 300 + [255]])
    assert (intensity.normalise(volume, intensity.statistics(volume, [10.0, 99.0])) == 0).all()


def test_statistics_without_spread_make_zeros_and_no_nan():
    given = Statistics((10.0,), (30.0,), (0.5,), (0.0,))
    assert (intensity.normalise(one_channel([[0, 20, 40]]), given) == 0).all()
    assert intensity.background(given).tolist() == [0.0]


def test_the_background_is_what_the_darkest_pixel_becomes():
    volume = noise()
    volume[..., 2] = 9
    given = intensity.statistics(volume, [10.0, 99.0])
    found = intensity.background(given)
    assert found.dtype == np.float32
    assert found.tolist() == intensity.normalise(volume, given).min(axis=(0, 1, 2)).tolist()
    assert (found[:2] < -1).all()
    assert found[2] == 0


def test_the_background_typed_out():
    assert intensity.background(Statistics((10.0, 5.0), (30.0, 5.0), (0.5, 0.0), (0.25, 0.0))).tolist() == [-2.0, 0.0]


# To look at


# Bad input


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4, 1), np.float32), np.zeros((0, 3, 4, 1), np.uint8)]
)
@pytest.mark.parametrize(
    "use",
    [
        lambda array: intensity.statistics(array, [10.0, 99.0]),
        lambda array: intensity.normalise(array, Statistics((0.0,), (1.0,), (0.0,), (1.0,))),
    ],
    ids=["statistics", "normalise"],
)
def test_what_is_no_volume_is_refused_with_what_was_found(use, array):
    with pytest.raises(ValueError, match=r"is no volume; expected \(slices, rows, columns, channels\)") as caught:
        use(array)
    assert f"an array {array.shape} of {array.dtype}" in str(caught.value)


def test_statistics_of_other_channels_are_refused():
    given = Statistics((0.0,), (1.0,), (0.0,), (1.0,))
    with pytest.raises(ValueError, match="a volume of 3 channels with statistics of 1; expected as many"):
        intensity.normalise(noise(), given)
