import numpy as np
import pytest
from skimage import exposure

from lib.imaging import display, intensity
from tests.builders import noise

PERCENTILES = [10.0, 99.0]


def normalised(volume):
    return intensity.normalise(volume, intensity.statistics(volume, PERCENTILES))


@pytest.mark.parametrize(
    ("slices", "percentiles", "low", "high", "mean", "variance"),
    [
        # squares about 0.35: of 0.35 0.25 0.15, four of 0.05, 0.65: 0.64 / 8
        ([[[0, 10], [20, 30]], [[40, 40], [40, 100]]], [0.0, 100.0], 0, 100, 0.35, 0.08),
        ([[[0, 10, 10, 20, 250]]], [25.0, 75.0], 10, 20, 0.4, 0.24),  # clipped before mean and spread
        ([[[7, 7, 7]]], PERCENTILES, 7, 7, 0, 0),
        ([[[0] * 300 + [255]]], PERCENTILES, 0, 0, 0, 0),  # constant between its percentiles
    ],
)
def test_statistics_of_a_volume_counted_by_hand(slices, percentiles, low, high, mean, variance):
    volume = np.array(slices, np.uint8)[..., None]
    counted = intensity.statistics(volume, percentiles)
    assert (counted.low, counted.high) == ((low,), (high,))
    assert counted.mean == pytest.approx((mean,))
    assert counted.std == pytest.approx((np.sqrt(variance),))
    assert intensity.normalise(volume, counted).any() == (variance > 0)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 101, 4096])
@pytest.mark.parametrize("percentiles", [(10.0, 99.0), (0.0, 100.0), (37.5, 62.5), (1.0, 99.9)])
def test_percentiles_are_those_of_numpy(count, percentiles):
    draw = np.random.default_rng(count)
    volume = (draw.integers(0, 256, (count, 1, 1, 3)) * draw.integers(0, 2, (count, 1, 1, 3))).astype(np.uint8)
    counted = intensity.statistics(volume, percentiles)
    expected = np.percentile(volume.reshape(-1, 3), percentiles, axis=0)
    assert np.array([counted.low, counted.high]) == pytest.approx(expected, abs=1e-10)


def test_each_channel_is_normalised_by_itself_as_by_scikit_image_and_numpy():
    volume = np.concatenate([noise(), np.full_like(noise()[..., :1], 80)], axis=-1)
    counted = intensity.statistics(volume, PERCENTILES)
    assert (normalised(volume)[..., 3] == 0).all()  # constant channel
    for channel, (low, high) in enumerate(zip(counted.low[:3], counted.high)):
        values = volume[..., channel].astype(float)
        scaled = exposure.rescale_intensity(values, in_range=(low, high), out_range=(0.0, 1.0))
        assert (counted.mean[channel], counted.std[channel]) == pytest.approx((scaled.mean(), scaled.std()), abs=1e-12)
        expected = (scaled - scaled.mean()) / scaled.std()
        assert normalised(volume)[..., channel] == pytest.approx(expected, abs=1e-6)


def test_a_normalised_volume_and_its_background_typed_out():
    typed = intensity.Statistics((10.0,), (30.0,), (0.5,), (0.25,))
    values = intensity.normalise(np.array([[[[0], [10], [15]], [[20], [30], [255]]]], np.uint8), typed)
    assert values.dtype == np.float32
    assert values[..., 0].tolist() == [[[-2.0, -2.0, -1.0], [0.0, 2.0, 2.0]]]
    without_spread = intensity.Statistics((10.0, 5.0, 1.0), (30.0, 5.0, 9.0), (0.5, 0.0, 0.5), (0.25, 0.0, 0.0))
    assert intensity.background(without_spread).tolist() == [-2.0, 0.0, 0.0]


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 1), (0, 3, 4, 1)])
def test_other_arrays_and_statistics_of_other_channels_are_refused(shape):
    array = np.zeros(shape, np.float32 if shape == (2, 3, 4, 1) else np.uint8)
    message = rf"\({', '.join(map(str, shape))}\) of {array.dtype} .*not a volume"
    with pytest.raises(ValueError, match=message):
        intensity.statistics(array, PERCENTILES)
    with pytest.raises(ValueError, match=message):
        intensity.normalise(array, intensity.Statistics((0.0,), (1.0,), (0.0,), (1.0,)))
    with pytest.raises(ValueError, match="volume has 3 channels, its statistics 1"):
        intensity.normalise(noise(), intensity.Statistics((0.0,), (1.0,), (0.0,), (1.0,)))


def test_a_constant_channel_is_shown_black():
    flat = np.full((4, 4), 0.7, np.float32)
    assert not display.displayable(flat, flat).any()
