import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

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
    allowed = []

    def network(images):
        allowed.append(torch.backends.cudnn.allow_tf32)
        return images[:, :1]

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    inference.predict(network, image()[None, None], CPU, torch.float32, False)
    assert allowed == [False]
    assert torch.backends.cudnn.allow_tf32


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
