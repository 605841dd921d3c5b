import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lib import models
from lib.imaging import preparation
from lib.models import inference, trained_model
from lib.study import environment
from tests import builders
from tests.builders import one_thread  # noqa: F401

CPU = torch.device("cpu")


def image(seed=0, size=(54, 80)):
    return np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)


def test_a_file_without_preparation_or_with_another_grey_scale_is_refused(tmp_path):
    arguments, weights = builders.NETWORK["arguments"], builders.network().state_dict()
    models.save(tmp_path / "old.safetensors", "unet", arguments, weights, {})
    with pytest.raises(ValueError, match=r"old\.safetensors: the metadata lack the preparation of images"):
        trained_model.load(tmp_path / "old.safetensors", True, CPU)
    path = builders.write_weights(tmp_path / "other.safetensors", builders.of_images(32, 48) | {"grey": [0.0, 255.0]})
    with pytest.raises(ValueError, match=r"other\.safetensors: grey values normalised by \[0\.0, 255\.0\]"):
        trained_model.load(path, True, CPU)


def test_the_probability_at_native_size_is_the_network_s_on_the_prepared_image_and_adds_up_to_1():
    predicted = trained_model.probability(builders.model(builders.of_images(32, 48), out_channels=4), image())
    assert (predicted.shape, predicted.dtype) == ((4, 54, 80), np.float32)
    assert predicted.sum(axis=0) == pytest.approx(np.ones((54, 80)), abs=1e-6)
    native, model = image(size=(56, 80)), builders.model(builders.of_images(56, 80))  # equal size: no resampling
    expected = inference.predict(model.network, native[None, None], CPU, torch.float32, False)[0]
    assert trained_model.probability(model, native) == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(preparation.prepare(native, model.preparation).images[0, 0], native)


def test_with_flip_averaging_the_prediction_of_the_mirrored_image_is_mirrored():
    model = builders.model(builders.of_images(32, 48), flip_average=True)
    native = image(size=(64, 96))
    mirrored = trained_model.probability(model, np.ascontiguousarray(native[:, ::-1]))
    assert mirrored[..., ::-1] == pytest.approx(trained_model.probability(model, native), abs=1e-5)


def test_a_model_is_used_in_float32_and_can_be_used_in_the_precision_of_its_training(tmp_path):
    path = builders.write_weights(tmp_path / "m.safetensors", builders.of_images(32, 48), "bfloat16")
    model = trained_model.load(path, False, CPU)
    rough = trained_model.as_trained(model)
    assert (model.precision, rough.precision) == (torch.float32, torch.bfloat16)
    exact, other = (trained_model.probability(each, image()) for each in (model, rough))
    assert (other.dtype, 0 < np.abs(exact - other).max() < 0.05) == (np.float32, True)  # 8 bits, 11 layers
    assert np.array_equal(exact, trained_model.probability(replace(rough, precision=torch.float32), image()))


def test_convolutions_in_float32_are_not_rounded_to_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with inference.without_tf32(torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32
    with inference.without_tf32(CPU):  # which threads share, so that one would restore what another has set
        assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32


class Watched(nn.Module):
    """A network that notes the number of torch's threads and how many calls of it run at once."""

    def __init__(self, network):
        super().__init__()
        self.network, self.threads, self.at_once, self.running = network, [], [], 0

    def forward(self, images):
        self.running += 1
        self.threads.append(torch.get_num_threads())
        predicted = self.network(images)
        time.sleep(0.02)  # so that other threads come in
        self.at_once.append(self.running)
        self.running -= 1
        return predicted


@pytest.mark.parametrize(
    ("prepared", "shape", "channels", "threads", "at_once"),
    [
        (builders.of_images(32, 48), (54, 80), 1, 1, 3),
        (builders.of_volumes(32, 32), (20, 40, 44, 3), 3, 2, 1),
    ],
    ids=["images", "volumes"],
)
def test_images_are_predicted_side_by_side_in_one_thread_each_and_volumes_one_by_one_in_all(
    prepared, shape, channels, threads, at_once, monkeypatch
):
    model = builders.model(prepared, in_channels=channels)
    cases = [image(seed, shape) for seed in range(6)]
    expected = [trained_model.probability(model, case) for case in cases]
    watched = Watched(model.network)
    monkeypatch.setattr(environment, "threads", lambda: 3)
    torch.set_num_threads(2)  # `one_thread` restores it
    predicted = trained_model.in_threads(
        lambda case: (trained_model.probability(replace(model, network=watched), case), torch.get_num_threads()), cases
    )
    for (probability, left), own in zip(predicted, expected, strict=True):
        assert probability == pytest.approx(own, abs=1e-6)
        assert left == 2
    assert (set(watched.threads), max(watched.at_once)) == ({threads}, at_once)


def test_no_digit_of_an_image_depends_on_the_number_of_threads():
    model, native = builders.model(builders.of_images(96, 144), base_channels=16, depth=4), image(size=(270, 400))
    digits = []
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        digits.append(trained_model.probability(model, native).tobytes())
    assert len(set(digits)) == 1


def test_results_are_in_order_computed_few_items_ahead_in_threads_and_errors_are_raised(monkeypatch):
    monkeypatch.setattr(environment, "threads", lambda: 2)
    produced, workers = [], []
    items = (produced.append(threading.get_ident()) or n for n in range(20))
    results = trained_model.in_threads(lambda n: workers.append(threading.get_ident()) or n * n, items)
    assert next(results) == 0
    assert len(produced) == 3
    assert list(results) == [n * n for n in range(1, 20)]
    assert set(produced) == {threading.get_ident()}
    assert threading.get_ident() not in workers
    with pytest.raises(ValueError, match="could not convert"):
        list(trained_model.in_threads(float, ["1", "2", "x", "4"]))
