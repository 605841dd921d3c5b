"""Which part of an epoch takes the time, shown by parts that are made slow."""

import importlib
import time

import pytest
import torch

from lib.models import inference
from lib.training import epoch_profile, loop
from lib.training.batches import AugmentedCases
from lib.training.epoch_profile import BACKWARD, COPY, FORWARD, LOSS, OPTIMIZER, PARTS, REST, VALIDATION, WAITING
from lib.training.objectives import RegionObjective
from tests import builders, builders_tasks
from tests.builders import NETWORK, one_thread, training_params  # noqa: F401
from tests.builders_tasks import HEATMAPS, LANDMARKS, of_network, parts_of

DELAY = 0.02  # seconds
HAS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def profile(arrays=None, network=NETWORK, **keys):
    """Seconds of each part of an epoch, which must sum to 100 %."""
    arrays = builders.discs(9, size=16) if arrays is None else arrays
    table = epoch_profile.profile_epoch(training_params(**keys), network, arrays, parts_of(arrays))
    assert table["part"].tolist() == list(PARTS)
    assert table["percent"].sum() == pytest.approx(100)
    assert table["percent"].to_numpy() == pytest.approx(100 * table["seconds"] / table["seconds"].sum())
    assert (table["seconds"] > 0).all()
    return table.set_index("part")["seconds"]


@pytest.mark.parametrize(
    ("owner", "name", "part", "calls"),
    [
        (AugmentedCases, "__getitem__", WAITING, 6),  # two thirds of nine cases
        (inference, "to_input", COPY, 2),  # two batches
        (torch.nn.MaxPool2d, "forward", FORWARD, 2),
        (RegionObjective, "loss", LOSS, 2),
        (torch.Tensor, "backward", BACKWARD, 2),
        (torch.nn.utils, "clip_grad_norm_", OPTIMIZER, 2),
        (importlib.import_module("torch.optim.adam"), "adam", OPTIMIZER, 2),  # called by AdamW.step
        (RegionObjective, "tally", REST, 2),
        (loop, "validate", VALIDATION, 1),
    ],
    ids=lambda value: value if value in PARTS else "",
)
def test_a_delay_in_one_part_appears_in_its_seconds(monkeypatch, owner, name, part, calls):
    real = getattr(owner, name)

    def slowed(*arguments, **named):
        time.sleep(DELAY)
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, slowed)
    assert profile(optimizer="adamw", gradient_clip=1.0)[part] >= calls * DELAY


@pytest.mark.parametrize(
    ("arrays", "network", "keys"),
    [
        (builders_tasks.landmarked(9), HEATMAPS, LANDMARKS | {"epochs": 1}),
        (builders_tasks.volumes(3), of_network(in_channels=3), {"schedule": "plateau", "area_weight_floor": 0.1}),
        (None, NETWORK, {"workers": 1, "precision": "bfloat16"}),
        pytest.param(None, NETWORK, {"device": "cuda"}, marks=[HAS_CUDA, pytest.mark.cuda]),
    ],
    ids=["landmarks", "volumes", "worker", "cuda"],
)
def test_the_parts_of_an_epoch_of_every_kind_sum_to_100_percent(arrays, network, keys):
    profile(arrays, network, **keys)


def test_every_size_of_a_validation_batch_is_met_before_the_measurement(monkeypatch):
    monkeypatch.setattr(inference, "BATCH", 4)
    sizes, real = [], loop.validate

    def validate(state, objective, loaded):
        sizes.append({len(images) for images, _ in loaded})
        return real(state, objective, loaded)

    monkeypatch.setattr(loop, "validate", validate)
    profile(builders.discs(30, size=16), batch_size=3)  # ten images to validate: 3, 3, 3 and 1
    assert sizes == [{3, 1}, {3, 1}]


def test_the_time_between_two_marks_belongs_to_the_part_of_the_second():
    marks = [(REST, 7.0), (WAITING, 10.0), (FORWARD, 10.5), (REST, 11.0), (WAITING, 11.0), (VALIDATION, 12.0)]
    seconds = epoch_profile.Stopwatch(torch.device("cpu"), marks).seconds()
    assert {part: each for part, each in seconds.items() if each} == {
        WAITING: 3,
        FORWARD: 0.5,
        REST: 0.5,
        VALIDATION: 1,
    }
    assert epoch_profile.shares(seconds)["percent"].tolist() == [60, 0, 10, 0, 0, 0, 10, 20]


def test_an_array_without_a_class_is_refused_as_in_training():
    arrays = builders.discs(9, size=16)
    arrays.masks[:] = 0
    with pytest.raises(ValueError, match="none of its 6 training cases contains head"):
        profile(arrays)
