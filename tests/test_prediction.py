import numpy as np
import pytest
import torch
from torch import nn

from lib import geometry, prediction
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
    return prediction.predict(network, images, CPU, torch.float32, flip_average)


def test_grey_values_become_about_minus_2_to_2():
    images = np.array([0, 255], np.uint8).reshape(1, 1, 1, 2)
    assert prediction.to_input(images, CPU).flatten().tolist() == [-2.0, 2.0]


def test_probabilities_are_the_sigmoid_of_the_logit():
    images = builders.discs(3).images
    logits = (images[:, 0].astype(float) - 127.5) / 63.75
    assert predict(Linear(), images)[:, 1] == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-6)


def test_probabilities_of_a_pixel_add_up_to_1():
    shown = predict(builders.network(out_channels=4), builders.discs(2).images)
    assert shown.shape == (2, 4, 32, 32)
    assert shown.sum(axis=1) == pytest.approx(np.ones((2, 32, 32)), abs=1e-5)


def test_more_images_than_a_batch_are_predicted_like_single_ones():
    arrays, network = builders.discs(prediction.BATCH + 3), builders.network()
    together = predict(network, arrays.images)
    alone = np.concatenate([predict(network, arrays.images[n : n + 1]) for n in range(len(arrays.names))])
    assert together == pytest.approx(alone, abs=1e-5)  # float32, other batch sizes take other kernels


def test_flip_averaging_changes_nothing_for_a_symmetric_predictor():
    images = builders.discs(3).images
    assert np.array_equal(predict(Linear(), images, True), predict(Linear(), images, False))


def test_flip_averaging_takes_the_mean_with_the_mirrored_prediction():
    images = np.zeros((1, 1, 4, 8), np.uint8)
    plain = predict(Leftward(), images)
    averaged = predict(Leftward(), images, True)
    assert averaged == pytest.approx((plain + plain[..., ::-1]) / 2, abs=1e-7)
    assert averaged[0, 1] == pytest.approx(np.full((4, 8), 0.5), abs=1e-6)


def test_flip_averaging_makes_any_network_symmetric():
    network, images = builders.network(), builders.discs(2).images
    mirrored = np.ascontiguousarray(images[..., ::-1])
    assert predict(network, mirrored, True)[..., ::-1] == pytest.approx(predict(network, images, True), abs=1e-6)


def test_bfloat16_gives_float32_probabilities_near_the_exact_ones():
    images, network = builders.discs(2).images, builders.network()
    rough = prediction.predict(network, images, CPU, torch.bfloat16, False)
    assert rough.dtype == np.float32
    assert rough == pytest.approx(predict(network, images), abs=0.05)  # 8 bits of mantissa through 11 layers


# Masks


def native_mask(shown, mapping, threshold):
    """From probabilities at network size to a mask at native size."""
    return prediction.decide(prediction.to_native(shown, mapping), threshold)


def test_a_pixel_counts_from_the_threshold_on():
    foreground = np.array([[0.1, 0.5], [0.49, 0.9]], np.float32)
    shown = np.stack([1 - foreground, foreground])
    assert prediction.decide(shown, 0.5).tolist() == [[0, 1], [0, 1]]
    assert prediction.decide(shown, 0.3).tolist() == [[0, 1], [1, 1]]
    assert prediction.decide(shown, 0.95).tolist() == [[0, 0], [0, 0]]
    assert prediction.decide(shown, 0.5).dtype == np.uint8


def test_without_a_threshold_the_most_probable_class_wins_of_equals_the_first():
    shown = np.array([[[0.5, 0.2, 0.3, 0.4]], [[0.3, 0.5, 0.3, 0.4]], [[0.2, 0.3, 0.4, 0.2]]], np.float32)
    mask = prediction.decide(shown, None)
    assert mask.tolist() == [[0, 1, 2, 0]]
    assert mask.dtype == np.uint8


def test_at_the_same_size_probabilities_stay_as_they_are():
    same = geometry.fit((5, 6), (5, 6))
    for classes in (2, 4):
        shown = np.random.default_rng(0).dirichlet(np.ones(classes), (5, 6)).transpose(2, 0, 1).astype(np.float32)
        assert prediction.to_native(shown, same) == pytest.approx(shown, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_probabilities_at_native_size_add_up_to_1_and_are_those_of_the_geometry(classes):
    mapping = geometry.fit((54, 80), (32, 48))
    shown = np.random.default_rng(1).dirichlet(np.ones(classes), (32, 48)).transpose(2, 0, 1).astype(np.float32)
    native = prediction.to_native(shown, mapping)
    assert native.shape == (classes, 54, 80)
    assert native.dtype == np.float32
    assert native.sum(axis=0) == pytest.approx(np.ones((54, 80)), abs=1e-5)
    assert native == pytest.approx(geometry.to_native(shown, mapping), abs=1e-6)


def test_two_classes_without_a_threshold_are_cut_at_one_half():
    mapping = geometry.fit((54, 80), (32, 48))
    foreground = np.random.default_rng(0).random((32, 48)).astype(np.float32)
    shown = np.stack([1 - foreground, foreground])
    differ = native_mask(shown, mapping, None) != native_mask(shown, mapping, 0.5)
    assert differ.mean() < 1e-3  # ties only


def test_a_head_at_network_size_comes_back_in_its_native_place():
    head = builders.Head("a", (30.4, 44.2), 50.0, 38.0, 30.0)
    region = builders.region_of(head)
    mapping = geometry.fit(head.shape, (128, 192))
    share = geometry.image_to_network(region.astype(np.float32), mapping)
    mask = native_mask(np.stack([1 - share, share]), mapping, 0.5)
    assert mask.shape == head.shape
    assert (mask != region).mean() < 2e-3  # a tenth of the edge's pixels


def test_several_classes_come_back_in_their_native_places():
    truth = np.zeros((60, 90), np.uint8)
    truth[builders.ellipse_region(truth.shape, (30, 45), 56, 44, 20)] = 1
    truth[builders.ellipse_region(truth.shape, (26, 40), 12, 8, 60)] = 2
    truth[builders.ellipse_region(truth.shape, (36, 55), 14, 9, 0)] = 3
    mapping = geometry.fit(truth.shape, (128, 192))
    shares = np.stack([geometry.image_to_network((truth == index).astype(np.float32), mapping) for index in range(4)])
    assert (native_mask(shares, mapping, None) != truth).mean() < 4e-3


# The rival that learns nothing


def test_otsu_finds_a_bright_disc():
    rows, cols = np.mgrid[:100, :140]
    disc = (rows - 48) ** 2 + (cols - 75) ** 2 <= 30**2
    image = (np.random.default_rng(0).integers(0, 40, disc.shape) + 150 * disc).astype(np.uint8)
    found = prediction.otsu_ellipse(image)
    assert 2 * (found & disc).sum() / (found.sum() + disc.sum()) > 0.98  # blurred by 2 px: less than 1 px outwards


def test_otsu_fills_a_bright_ring():
    rows, cols = np.mgrid[:100, :140]
    distance = np.hypot(rows - 50, cols - 70)
    image = np.where(abs(distance - 30) < 4, 220, 10).astype(np.uint8)
    assert prediction.otsu_ellipse(image)[50, 70]


@pytest.mark.parametrize("image", [np.zeros((40, 50), np.uint8), np.full((40, 50), 9, np.uint8)], ids=["black", "even"])
def test_otsu_finds_nothing_where_there_is_nothing(image):
    found = prediction.otsu_ellipse(image)
    assert found.shape == (40, 50)
    assert not found.any()
