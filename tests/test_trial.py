import numpy as np
import pytest
import torch

from lib import devices, losses, models, prediction, trial
from tests import builders
from tests.builders import one_thread  # noqa: F401


@pytest.fixture(scope="module")
def learned():
    chosen = builders.step_params("03_model", device="cpu", precision="float32", base_channels=8, depth=2)
    arrays = builders.discs(8)
    return trial.overfit(chosen, models.describe(chosen, 1), arrays, np.arange(8))


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
    one, again = (trial.overfit(chosen, models.describe(chosen, 1), arrays, np.arange(2))[0] for _ in range(2))
    assert one == again


def test_the_first_loss_is_cross_entropy_and_dice_of_the_fresh_network():
    chosen = builders.step_params("03_model", device="cpu", precision="float32", base_channels=4, depth=1)
    arrays, described = builders.discs(2, size=16), models.describe(chosen, 1)
    torch.manual_seed(trial.SEED)
    network = models.start(described).train()
    logits, reference = network(prediction.to_input(arrays.images, torch.device("cpu"))), torch.tensor(arrays.masks)
    dice = losses.soft_dice(logits, reference.long(), [0.0, 1.0])
    expected = losses.cross_entropy(logits, reference.long(), [1.0, 1.0]) + dice
    assert trial.overfit(chosen, described, arrays, np.arange(2))[0][0] == pytest.approx(expected.item(), rel=1e-5)


def test_several_classes_are_learned_by_any_network():
    classes = ["background", "a", "b"]
    keys = {"device": "cpu", "precision": "float32", "base_channels": 4, "depth": 1, "classes": classes}
    chosen = builders.step_params("03_model", model="attention_unet", **keys)
    arrays = builders.discs(2, size=16)
    arrays.masks[:, :3, :3] = 2
    values, _ = trial.overfit(chosen, models.describe(chosen, 1), arrays, np.arange(2))
    assert values[-1] < 0.7 * values[0]


def test_a_start_that_a_network_does_not_know_is_refused():
    chosen = builders.step_params("03_model", device="cpu", precision="float32", base_channels=4, depth=1)
    described = models.describe(chosen, 1) | {"encoder_weights": "imagenet"}
    with pytest.raises(ValueError, match="encoder_weights = 'imagenet'   not allowed with unet"):
        trial.overfit(chosen, described, builders.discs(2, size=16), np.arange(2))


def test_predicting_takes_time_and_leaves_the_network_in_evaluation_mode():
    network = builders.network().train()
    assert trial.predict_seconds(network, builders.discs(2).images, devices.choose("cpu"), torch.float32) > 0
    assert not network.training
