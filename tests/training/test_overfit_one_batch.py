import numpy as np
import pytest
import torch

from lib import losses, models
from lib.models import inference
from lib.study import progress
from lib.training import objectives, overfit_one_batch
from tests import builders, builders_tasks
from tests.builders import one_thread  # noqa: F401
from tests.training.test_interruption import limit_memory

CPU = {"device": "cpu", "precision": "float32"}
POINTS = {"landmarks": "multicentre", "base_channels": 16, "depth": 3}


def overfit(arrays, live=None, **keys):
    """Losses and speed of a small network on one batch of the arrays."""
    config = builders.step_params("03_model", **(CPU | {"base_channels": 8, "depth": 2} | keys))
    network = models.describe(config, arrays.images.shape[1])
    return overfit_one_batch.overfit(config, network, arrays, overfit_one_batch.batch_rows(arrays), live)


def with_two_classes(arrays):
    arrays.masks[:, :3, :3] = 2
    return arrays


@pytest.mark.parametrize(
    ("arrays", "keys", "falls_below"),
    [
        (builders.discs(8), {}, 1 / 3),
        (builders_tasks.volumes(2), {}, 0.5),
        (with_two_classes(builders.discs(2)), {"model": "attention_unet", "classes": ["background", "a", "b"]}, 0.7),
        (builders_tasks.landmarked(2), POINTS | {"heatmap_per": "line"}, 0.5),
        (builders_tasks.landmarked(2), POINTS | {"heatmap_per": "point"}, 0.5),
    ],
    ids=["discs", "volumes", "two classes", "lines", "points"],
)
def test_a_network_overfits_one_batch_at_a_positive_speed(arrays, keys, falls_below):
    values, speed = overfit(arrays, **keys)
    fallen = [step for step in range(30, len(values) + 1) if max(values[step - 5 : step]) < values[0] / 3]
    assert fallen == [len(values)] or (fallen, len(values)) == ([], 100)
    assert np.isfinite(values).all()
    assert values[-1] < falls_below * values[0]
    assert list(speed) == ["training_images_per_second", "prediction_images_per_second"]
    assert (len(speed), (speed > 0).all(axis=None)) == (1, True)


def test_overfitting_is_reproducible_also_if_its_progress_is_shown(monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    first, lines = overfit(builders.discs(2, size=16), depth=1)[0], []
    assert overfit(builders.discs(2, size=16), lines.append, depth=1)[0] == first
    assert lines[0].startswith("step 1/100 · ")
    assert len(lines) == len(first) + 1  # cleared at the end


def test_a_batch_without_memory_is_processed_in_portions_and_the_advice_names_no_key_of_training(monkeypatch):
    arrays, keys = builders.discs(8), {"normalisation": "none", "depth": 1}
    whole = overfit(arrays, **keys)[0]
    limit_memory(monkeypatch, 3, in_training=[True])
    parts = overfit(arrays, **keys)[0]
    assert parts[:5] == pytest.approx(whole[:5], rel=1e-4)
    limit_memory(monkeypatch, 0, in_training=[True])
    with pytest.raises(
        ValueError, match=r"^cpu: too little memory for one image; set a smaller image_size or base_cha"
    ):
        overfit(arrays, **keys)


def test_the_first_loss_is_cross_entropy_plus_dice_or_the_heatmap_loss_of_the_initial_network():
    for arrays, landmarks in ((builders.discs(2, size=16), "none"), (builders_tasks.landmarked(2), "multicentre")):
        config = builders.step_params("03_model", **CPU, base_channels=4, depth=1, landmarks=landmarks)
        network = models.describe(config, 1)
        torch.manual_seed(overfit_one_batch.SEED)
        logits = models.start(network).train()(inference.to_input(arrays.images, torch.device("cpu")))
        objective = overfit_one_batch.objective_of(landmarks, config.classes, network, arrays)
        target = torch.as_tensor(objectives.targets(objective, arrays, np.arange(2)))
        if landmarks == "none":
            dice = losses.soft_dice(logits, target.long(), [0.0, 1.0])
            expected = losses.cross_entropy(logits, target.long(), [1.0, 1.0]) + dice
        else:
            expected = (((logits - target) ** 2).sum(dim=(1, 2, 3)) / (target**2).sum(dim=(1, 2, 3))).mean()
        first = overfit_one_batch.overfit(config, network, arrays, np.arange(2))[0][0]
        assert first == pytest.approx(expected.item(), rel=1e-5)


def test_the_batch_has_the_slice_with_most_foreground_of_each_volume_and_no_volume_without():
    arrays = builders_tasks.volumes(4)
    areas = np.count_nonzero(arrays.masks, axis=(1, 2)).reshape(4, 5)
    assert overfit_one_batch.batch_rows(arrays).tolist() == (5 * np.arange(4) + areas.argmax(axis=1)).tolist()
    many = builders_tasks.volumes(12, slices=3, size=16)
    many.masks[3:9] = 0  # patients 1 and 2
    names = {many.names[row] for row in overfit_one_batch.batch_rows(many)}
    assert len(names) == overfit_one_batch.BATCH
    assert not names & {"patient1", "patient2"}
