import numpy as np
import pytest
import torch

from lib import devices, models, trial
from tests import builders
from tests.builders import one_thread  # noqa: F401


@pytest.fixture(scope="module")
def learned():
    chosen = builders.step_params("03_model", device="cpu", precision="float32", base_channels=8, depth=2)
    arrays = builders.discs(8)
    return trial.overfit(chosen, models.arguments(chosen, 1), arrays, np.arange(8))


def test_a_network_learns_one_batch_by_heart(learned):
    values, _ = learned
    assert values[-1] < values[0] / 4


def test_there_is_a_loss_for_every_step(learned):
    values, _ = learned
    assert len(values) == trial.STEPS
    assert np.isfinite(values).all()


def test_speed_is_one_row_of_positive_rates(learned):
    _, speed = learned
    assert list(speed) == ["training_images_per_second", "prediction_images_per_second"]
    assert (speed > 0).all(axis=None)
    assert len(speed) == 1


def test_the_same_batch_is_learned_the_same_way_twice():
    chosen = builders.step_params("03_model", device="cpu", precision="float32", base_channels=4, depth=1)
    arrays = builders.discs(2, size=16)
    one, again = (trial.overfit(chosen, models.arguments(chosen, 1), arrays, np.arange(2))[0] for _ in range(2))
    assert one == again


def test_predicting_takes_time_and_leaves_the_network_in_evaluation_mode():
    network = builders.network().train()
    assert trial.predict_seconds(network, builders.discs(2).images, devices.choose("cpu"), torch.float32) > 0
    assert not network.training
