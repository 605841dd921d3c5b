import numpy as np
import pytest
import torch

from lib.imaging import geometry
from lib.models import inference
from tests import builders
from tests.builders import one_thread  # noqa: F401

CPU = torch.device("cpu")


def identity(images):
    return images


def ramp(low, high, channels):
    """A network whose channels rise from left to right between two values, for any image."""
    return lambda images: torch.linspace(low, high, images.shape[3]).expand(len(images), channels, images.shape[2], -1)


def predict(network, images, flip_average=False):
    return inference.predict(network, images, CPU, torch.float32, flip_average)


def test_grey_values_become_about_minus_2_to_2_and_normalised_values_stay():
    grey = np.array([0, 255], np.uint8).reshape(1, 1, 1, 2)
    assert inference.to_input(grey, CPU).flatten().tolist() == [-2.0, 2.0]
    images = np.random.default_rng(0).normal(0, 3, (2, 3, 4, 5)).astype(np.float32)
    images.setflags(write=False)  # as arrays on disk
    inputs = inference.to_input(images, CPU)
    assert inputs.dtype == torch.float32
    assert np.array_equal(inputs.numpy(), images)
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_probabilities_are_the_sigmoid_of_the_logit_and_those_of_a_pixel_add_up_to_1():
    images = builders.discs(3).images
    logits = (images[:, 0].astype(float) - 127.5) / 63.75
    assert predict(identity, images)[:, 1] == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-6)
    assert np.array_equal(predict(identity, images, True), predict(identity, images, False))  # symmetric
    predicted = predict(builders.network(out_channels=4), images)
    assert predicted.shape == (3, 4, 32, 32)
    assert predicted.sum(axis=1) == pytest.approx(np.ones((3, 32, 32)), abs=1e-5)


def test_more_images_than_a_batch_are_predicted_like_single_ones():
    arrays, network = builders.discs(inference.BATCH + 3), builders.network()
    together = predict(network, arrays.images)
    alone = np.concatenate([predict(network, arrays.images[n : n + 1]) for n in range(len(arrays.names))])
    assert together == pytest.approx(alone, abs=1e-5)  # float32, other batch sizes take other kernels


def test_flip_averaging_takes_the_mean_with_the_mirrored_prediction_and_makes_any_network_symmetric():
    images = np.zeros((1, 1, 4, 8), np.uint8)
    plain, averaged = (predict(ramp(-3, 3, 1), images, flip_average) for flip_average in (False, True))
    assert averaged == pytest.approx((plain + plain[..., ::-1]) / 2, abs=1e-7)
    assert averaged[0, 1] == pytest.approx(np.full((4, 8), 0.5), abs=1e-6)
    network, images = builders.network(), builders.discs(2).images
    mirrored = np.ascontiguousarray(images[..., ::-1])
    assert predict(network, mirrored, True)[..., ::-1] == pytest.approx(predict(network, images, True), abs=1e-6)


def endpoints(images):
    """One heatmap per point, left endpoint first, from images with the OFD's endpoints in channel 0, the BPD's in 1."""
    left = torch.arange(images.shape[3]) < images.shape[3] // 2
    return torch.stack([images[:, line] * half for line in (0, 1) for half in (left, ~left)], dim=1)


def test_heatmaps_of_points_are_summed_to_those_of_lines_which_mirroring_does_not_mix():
    ends = np.random.default_rng(0).normal(0, 1, (2, 2, 6, 8)).astype(np.float32)  # normalised, of two channels
    plain, lines = (inference.predict_heatmaps(each, ends, CPU, torch.float32, False) for each in (endpoints, identity))
    assert (plain.shape, plain.dtype) == ((2, 2, 6, 8), np.float32)
    assert np.array_equal(plain, ends)
    assert np.array_equal(lines, ends)
    averaged = inference.predict_heatmaps(endpoints, ends, CPU, torch.float32, True)
    assert averaged == pytest.approx(plain, abs=1e-6)
    many = np.zeros((inference.BATCH + 3, 2, 6, 8), np.float32)
    for flips, expected in ((False, np.linspace(0, 2, 8)), (True, np.ones(8))):
        predicted = inference.predict_heatmaps(ramp(0, 2, 2), many, CPU, torch.float32, flips)
        assert predicted == pytest.approx(np.broadcast_to(expected, many.shape), abs=1e-6)


@pytest.mark.parametrize(
    ("ellipses", "threshold", "limit"),
    [
        ([((30.4, 44.2), 50, 38, 30)], 0.5, 2e-3),  # a tenth of the edge's pixels
        ([((30, 45), 56, 44, 20), ((26, 40), 12, 8, 60), ((36, 55), 14, 9, 0)], None, 4e-3),
    ],
    ids=["a head", "several classes"],
)
def test_a_mask_at_network_size_is_mapped_back_to_its_native_position(ellipses, threshold, limit):
    reference = np.zeros((60, 90), np.uint8)
    for index, ellipse in enumerate(ellipses, start=1):
        reference[builders.ellipse_region(reference.shape, *ellipse)] = index
    mapping, count = geometry.fit(reference.shape, (128, 192)), len(ellipses) + 1
    shares = [geometry.image_to_network((reference == index).astype(np.float32), mapping) for index in range(count)]
    mask = inference.decide(geometry.to_native(np.stack(shares), mapping), threshold)
    assert mask.shape == reference.shape
    assert (mask != reference).mean() < limit


def test_a_mask_is_the_foreground_from_the_threshold_on_or_the_first_most_probable_class():
    foreground = np.array([[0.1, 0.5], [0.49, 0.9]], np.float32)
    binary = np.stack([1 - foreground, foreground])
    masks = {0.5: [[0, 1], [0, 1]], 0.3: [[0, 1], [1, 1]], 0.95: [[0, 0], [0, 0]]}
    assert all(inference.decide(binary, threshold).tolist() == mask for threshold, mask in masks.items())
    several = np.array([[[0.5, 0.2, 0.3, 0.4]], [[0.3, 0.5, 0.3, 0.4]], [[0.2, 0.3, 0.4, 0.2]]], np.float32)
    assert inference.decide(several, None).tolist() == [[0, 1, 2, 0]]
    assert inference.decide(binary, 0.5).dtype == inference.decide(several, None).dtype == np.uint8
