import numpy as np
import pytest
import torch
from torch import nn

from lib.imaging import geometry
from lib.models import inference
from tests import builders
from tests.builders import one_thread  # noqa: F401

CPU = torch.device("cpu")


class Linear(nn.Module):
    """A logit that is the input itself: symmetric under every flip."""

    def forward(self, images):
        return images


class Leftward(nn.Module):
    """A logit that grows from left to right whatever the image shows."""

    def forward(self, images):
        ramp = torch.linspace(-3, 3, images.shape[3])
        return ramp.expand(len(images), 1, images.shape[2], -1)


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
    assert predict(Linear(), images)[:, 1] == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-6)
    assert np.array_equal(predict(Linear(), images, True), predict(Linear(), images, False))  # symmetric
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
    plain, averaged = (predict(Leftward(), images, flip_average) for flip_average in (False, True))
    assert averaged == pytest.approx((plain + plain[..., ::-1]) / 2, abs=1e-7)
    assert averaged[0, 1] == pytest.approx(np.full((4, 8), 0.5), abs=1e-6)
    network, images = builders.network(), builders.discs(2).images
    mirrored = np.ascontiguousarray(images[..., ::-1])
    assert predict(network, mirrored, True)[..., ::-1] == pytest.approx(predict(network, images, True), abs=1e-6)


def test_bfloat16_gives_float32_probabilities_near_the_exact_ones():
    images, network = builders.discs(2).images, builders.network()
    rough = inference.predict(network, images, CPU, torch.bfloat16, False)
    assert rough.dtype == np.float32
    assert rough == pytest.approx(predict(network, images), abs=0.05)  # 8 bits of mantissa through 11 layers


# Heatmaps


class Ends(nn.Module):
    """A heatmap a point from images whose first channel shows OFD's ends and whose second BPD's: the left end first."""

    def forward(self, images):
        left = torch.arange(images.shape[3]) < images.shape[3] // 2
        return torch.stack([images[:, line] * half for line in (0, 1) for half in (left, ~left)], dim=1)


class Ramp(nn.Module):
    """Two heatmaps that rise from 0 at the left to 2 at the right, whatever it sees."""

    def forward(self, images):
        return torch.linspace(0, 2, images.shape[3]).expand(len(images), 2, images.shape[2], -1)


def test_heatmaps_of_points_are_added_up_to_those_of_lines_which_mirroring_does_not_mix_up():
    ends = np.random.default_rng(0).normal(0, 1, (2, 2, 6, 8)).astype(np.float32)  # normalised, of two channels
    plain, lines = (inference.predict_heatmaps(each(), ends, CPU, torch.float32, False) for each in (Ends, Linear))
    assert (plain.shape, plain.dtype) == ((2, 2, 6, 8), np.float32)
    assert np.array_equal(plain, ends)
    assert np.array_equal(lines, ends)
    averaged = inference.predict_heatmaps(Ends(), ends, CPU, torch.float32, True)
    assert averaged == pytest.approx(plain, abs=1e-6)
    many = np.zeros((inference.BATCH + 3, 2, 6, 8), np.float32)
    for flips, expected in ((False, np.linspace(0, 2, 8)), (True, np.ones(8))):
        predicted = inference.predict_heatmaps(Ramp(), many, CPU, torch.float32, flips)
        assert predicted == pytest.approx(np.broadcast_to(expected, many.shape), abs=1e-6)


# Masks


def test_a_head_at_network_size_comes_back_in_its_native_place():
    head = builders.Head("a", (30.4, 44.2), 50.0, 38.0, 30.0)
    region = builders.region_of(head)
    mapping = geometry.fit(head.shape, (128, 192))
    share = geometry.image_to_network(region.astype(np.float32), mapping)
    mask = inference.decide(geometry.to_native(np.stack([1 - share, share]), mapping), 0.5)
    assert mask.shape == head.shape
    assert (mask != region).mean() < 2e-3  # a tenth of the edge's pixels


def test_several_classes_come_back_in_their_native_places():
    truth = np.zeros((60, 90), np.uint8)
    ellipses = [((30, 45), 56, 44, 20), ((26, 40), 12, 8, 60), ((36, 55), 14, 9, 0)]
    for index, ellipse in enumerate(ellipses, start=1):
        truth[builders.ellipse_region(truth.shape, *ellipse)] = index
    mapping = geometry.fit(truth.shape, (128, 192))
    shares = np.stack([geometry.image_to_network((truth == index).astype(np.float32), mapping) for index in range(4)])
    assert (inference.decide(geometry.to_native(shares, mapping), None) != truth).mean() < 4e-3


def test_a_pixel_counts_from_the_threshold_on_or_without_one_the_most_probable_class_wins_of_equals_the_first():
    foreground = np.array([[0.1, 0.5], [0.49, 0.9]], np.float32)
    shown = np.stack([1 - foreground, foreground])
    masks = {0.5: [[0, 1], [0, 1]], 0.3: [[0, 1], [1, 1]], 0.95: [[0, 0], [0, 0]]}
    assert all(inference.decide(shown, threshold).tolist() == mask for threshold, mask in masks.items())
    several = np.array([[[0.5, 0.2, 0.3, 0.4]], [[0.3, 0.5, 0.3, 0.4]], [[0.2, 0.3, 0.4, 0.2]]], np.float32)
    assert inference.decide(several, None).tolist() == [[0, 1, 2, 0]]
    assert inference.decide(shown, 0.5).dtype == inference.decide(several, None).dtype == np.uint8
