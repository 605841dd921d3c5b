import numpy as np
import pytest
import torch

from lib import losses, models
from lib.models import inference
from lib.training import objectives, overfit_one_batch
from lib.training.state import fresh_state
from tests import builders, builders_tasks
from tests.builders import one_thread  # noqa: F401


@pytest.fixture(scope="module")
def learned():
    chosen = builders.step_params("03_model", device="cpu", precision="float32", base_channels=8, depth=2)
    arrays = builders.discs(8)
    return overfit_one_batch.overfit(chosen, models.describe(chosen, 1), arrays, np.arange(8))


def test_a_network_learns_one_batch_by_heart(learned):
    values, _ = learned
    assert values[-1] < values[0] / 4


def test_there_is_a_loss_for_every_step(learned):
    values, _ = learned
    assert len(values) == overfit_one_batch.STEPS
    assert np.isfinite(values).all()


def test_speed_is_one_row_of_positive_rates(learned):
    _, speed = learned
    assert list(speed) == ["training_images_per_second", "prediction_images_per_second"]
    assert (speed > 0).all(axis=None)
    assert len(speed) == 1


def test_the_same_batch_is_learned_the_same_way_twice():
    chosen = builders.step_params("03_model", device="cpu", precision="float32", base_channels=4, depth=1)
    arrays = builders.discs(2, size=16)
    one, again = (
        overfit_one_batch.overfit(chosen, models.describe(chosen, 1), arrays, np.arange(2))[0] for _ in range(2)
    )
    assert one == again


def test_the_first_loss_is_cross_entropy_and_dice_of_the_fresh_network():
    chosen = builders.step_params("03_model", device="cpu", precision="float32", base_channels=4, depth=1)
    arrays, described = builders.discs(2, size=16), models.describe(chosen, 1)
    torch.manual_seed(overfit_one_batch.SEED)
    network = models.start(described).train()
    logits, reference = network(inference.to_input(arrays.images, torch.device("cpu"))), torch.tensor(arrays.masks)
    dice = losses.soft_dice(logits, reference.long(), [0.0, 1.0])
    expected = losses.cross_entropy(logits, reference.long(), [1.0, 1.0]) + dice
    assert overfit_one_batch.overfit(chosen, described, arrays, np.arange(2))[0][0] == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_several_classes_are_learned_by_any_network():
    classes = ["background", "a", "b"]
    keys = {"device": "cpu", "precision": "float32", "base_channels": 4, "depth": 1, "classes": classes}
    chosen = builders.step_params("03_model", model="attention_unet", **keys)
    arrays = builders.discs(2, size=16)
    arrays.masks[:, :3, :3] = 2
    values, _ = overfit_one_batch.overfit(chosen, models.describe(chosen, 1), arrays, np.arange(2))
    assert values[-1] < 0.7 * values[0]


def test_a_start_that_a_network_does_not_know_is_refused():
    chosen = builders.step_params("03_model", device="cpu", precision="float32", base_channels=4, depth=1)
    described = models.describe(chosen, 1) | {"encoder_weights": "imagenet"}
    with pytest.raises(ValueError, match="encoder_weights = 'imagenet'   not allowed with unet"):
        overfit_one_batch.overfit(chosen, described, builders.discs(2, size=16), np.arange(2))


def test_predicting_takes_time_and_leaves_the_network_in_evaluation_mode():
    chosen = builders.step_params("03_model", device="cpu", precision="float32", base_channels=4, depth=1)
    state = fresh_state(
        models.describe(chosen, 1), 0, "cpu", "float32", overfit_one_batch.ADAM, overfit_one_batch.CONSTANT
    )
    assert overfit_one_batch.predict_seconds(state, builders.discs(2, size=16).images, inference.predict) > 0
    assert not state.network.training


# Slices and landmarks


def test_of_each_volume_the_slice_that_shows_most_is_taken():
    arrays = builders_tasks.volumes(4)
    rows = overfit_one_batch.batch_rows(arrays)
    assert [arrays.names[row] for row in rows] == [f"patient{n}" for n in range(4)]
    areas = np.count_nonzero(arrays.masks, axis=(1, 2)).reshape(4, 5)
    assert rows.tolist() == [5 * patient + int(place) for patient, place in enumerate(areas.argmax(axis=1))]


def test_volumes_without_foreground_are_left_out_and_there_are_no_more_rows_than_a_batch():
    arrays = builders_tasks.volumes(12, slices=3, size=16)
    arrays.masks[3:9] = 0  # patients 1 and 2
    shown = {arrays.names[row] for row in overfit_one_batch.batch_rows(arrays)}
    assert len(shown) == overfit_one_batch.BATCH
    assert not shown & {"patient1", "patient2"}


def small(**changes):
    keys = {"device": "cpu", "precision": "float32", "base_channels": 16, "depth": 3}
    return builders.step_params("03_model", **(keys | changes))


def test_slices_of_several_channels_are_learned_by_heart():
    chosen, arrays = small(base_channels=8, depth=2), builders_tasks.volumes(2)
    values, _ = overfit_one_batch.overfit(
        chosen, models.describe(chosen, 3), arrays, overfit_one_batch.batch_rows(arrays)
    )
    assert values[-1] < values[0] / 2


@pytest.mark.parametrize("per", ["line", "point"])
def test_landmarks_are_learned_by_heart_below_the_loss_of_a_blank_output(per):
    chosen, arrays = small(landmarks="multicentre", heatmap_per=per), builders_tasks.landmarked(2)
    rows = overfit_one_batch.batch_rows(arrays)
    assert rows.tolist() == [0, 1]
    values, speed = overfit_one_batch.overfit(chosen, models.describe(chosen, 1), arrays, rows)
    assert values[-1] < 0.5 * losses.BLANK_LOSS
    assert (speed > 0).all(axis=None)


def test_the_first_loss_of_landmarks_is_that_of_the_fresh_network_s_heatmaps():
    chosen, arrays = small(landmarks="multicentre", base_channels=4, depth=1), builders_tasks.landmarked(2)
    described = models.describe(chosen, 1)
    torch.manual_seed(overfit_one_batch.SEED)
    logits = models.start(described).train()(inference.to_input(arrays.images, torch.device("cpu")))
    wanted = torch.as_tensor(
        objectives.targets(
            overfit_one_batch.objective_of(chosen.landmarks, chosen.classes, described, arrays), arrays, np.arange(2)
        )
    )
    expected = ((logits - wanted) ** 2).sum(dim=(1, 2, 3)) / (wanted**2).sum(dim=(1, 2, 3))
    found = overfit_one_batch.overfit(chosen, described, arrays, np.arange(2))[0][0]
    assert found == pytest.approx(expected.mean().item(), rel=1e-5)
