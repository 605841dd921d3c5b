import multiprocessing
import os
import signal
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lib.models import inference
from lib.study import params
from lib.training import batches, loop
from lib.training.augmentation import Augmentation
from tests import builders, builders_tasks
from tests.builders import LIVELY, MOVING, NETWORK, training_params
from tests.training.test_interruption import ctrl_c  # noqa: F401

CPU = torch.device("cpu")


def cases_of(arrays, network=NETWORK, **keys):
    config = training_params(**keys)
    objective = loop.objective_of(config, network, arrays)
    return batches.AugmentedCases(arrays, params.pick(config, Augmentation), 0, objective)


def sampler(rows, *weights):
    return batches.EpochSampler(np.array(rows), np.array(weights or [1.0] * len(rows)), 0)


def epochs(cases, order, workers=0, begin=((1, 0),), batch_size=4):
    """Images and targets of some epochs, each with a number of draws that are skipped, from one loader."""
    loaded = batches.loader(cases, order, batch_size, workers, CPU)
    return [[torch.cat(part) for part in zip(*loaded)] for each in begin if order.begin(*each) is None]


def test_batches_are_the_same_for_0_1_and_2_loader_processes_that_stay_alive_and_leave_torch_s_random_state():
    cases, random = cases_of(builders.discs(10), **LIVELY), torch.get_rng_state()
    loaded = [epochs(cases, sampler(range(10)), workers, [(3, 0), (4, 0), (4, 8)]) for workers in (0, 1, 2)]
    assert [len(images) for images, _ in loaded[0]] == [10, 10, 2]
    for others in loaded[1:]:
        assert all(torch.equal(*pair) for each in zip(loaded[0], others) for pair in zip(*each))
    assert all(torch.equal(rest, whole[8:]) for rest, whole in zip(loaded[0][2], loaded[0][1]))  # resumed
    assert torch.equal(torch.get_rng_state(), random)


def test_a_case_drawn_twice_in_an_epoch_is_augmented_differently():
    ((images, _),) = epochs(cases_of(builders.discs(4), **LIVELY), sampler([2, 2], 1.0, 1e-300))
    assert not np.array_equal(images[0].numpy(), images[1].numpy())


class Alone(batches.AugmentedCases):
    """Cannot be sent to another process; while a process loads a case, Ctrl-C is pressed."""

    def __reduce__(self):
        raise AssertionError("the cases are copied")

    def __getitem__(self, draw):
        if torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGINT)
        return super().__getitem__(draw)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone")
@pytest.mark.parametrize("default", ["forkserver", "fork"])
def test_loader_processes_share_the_arrays_and_survive_a_ctrl_c_whatever_python_s_default(default, ctrl_c):  # noqa: F811
    cases, before = cases_of(builders.discs(4)), multiprocessing.get_start_method(allow_none=True)
    expected = epochs(cases, sampler(range(4)))
    cases.__class__ = Alone
    multiprocessing.set_start_method(default, force=True)
    try:
        loaded = epochs(cases, sampler(range(4)), workers=1)
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert all(torch.equal(*pair) for pair in zip(loaded[0], expected[0]))


class Broken(batches.AugmentedCases):
    """Fails, or kills the process that loads a case."""

    def __getitem__(self, draw):
        if self.seed == 0:
            raise RuntimeError("albumentations said no")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("during_a_step", [False, True])
def test_a_dead_loader_process_is_reported_whatever_the_main_process_is_doing(during_a_step):
    cases = cases_of(builders.discs(8))
    loaded = batches.loader(cases, sampler(range(8)), 2, 1, CPU)
    cases.seed, cases.__class__ = 1, cases.__class__ if during_a_step else Broken

    def load():
        with batches.reporting_dead_workers():
            for _ in batches.timed(loaded):
                for process in multiprocessing.active_children():
                    process.kill()
                time.sleep(5)

    with pytest.raises(ValueError, match=r"a data loader process died \(DataLoader worker \(pid.*: set fewer workers"):
        load()


def test_an_error_in_a_loader_process_is_not_taken_for_its_death():
    cases = cases_of(builders.discs(4))
    cases.__class__ = Broken
    with pytest.raises(RuntimeError, match="albumentations said no"), batches.reporting_dead_workers():
        next(batches.timed(batches.loader(cases, sampler(range(4)), 2, 1, CPU)))


def test_too_little_shared_memory_is_reported(monkeypatch):
    order, cases = sampler(range(4)), cases_of(builders.discs(4))
    monkeypatch.setattr(batches.shutil, "disk_usage", lambda _: SimpleNamespace(free=8191))
    with pytest.raises(ValueError, match=r"workers = 1   they need 0 MB of shared memory, but /dev/shm has 0 MB free"):
        batches.loader(cases, order, 2, 1, CPU)  # 2 images of 32 x 32 and masks, 2 batches
    monkeypatch.setattr(batches.shutil, "disk_usage", lambda _: SimpleNamespace(free=8192))
    batches.loader(cases, order, 2, 1, CPU)


def test_fixed_batches_are_the_cases_without_augmentation():
    arrays = builders.discs(inference.BATCH + 3)
    rows = np.arange(len(arrays.names))[::-1]
    objective = loop.objective_of(training_params(), NETWORK, arrays)
    fixed = batches.resident(batches.FixedBatches(objective, arrays, rows, 8), CPU)
    for _ in range(2):
        images, masks = (torch.cat(part).numpy() for part in zip(*fixed))
        assert np.array_equal(images, arrays.images[::-1])
        assert np.array_equal(masks, arrays.masks[::-1])
    assert [len(images) for images, _ in fixed] == [8, 8, 3]


def test_heatmaps_are_those_of_the_augmented_points():
    arrays = builders_tasks.landmarked(1)
    keys = MOVING | {"landmarks": "multicentre", "scale_fraction": 0.0}
    cases = cases_of(arrays, builders_tasks.of_network(out_channels=2), **keys)
    for image, maps in (cases[epoch, 0, 0] for epoch in range(10)):
        assert image[0][maps.max(axis=0) > 0.9].min() > 60  # noise is below 30, the paler spots reach 100


def test_a_batch_contains_all_slices_of_a_patient():
    arrays = builders_tasks.volumes(2)
    ((images, masks),) = epochs(cases_of(arrays), sampler(arrays.rows(["patient1"])), batch_size=8)
    assert (images.shape, images.dtype) == ((5, 3, 32, 32), torch.float32)
    assert (masks.shape, masks.dtype) == ((5, 32, 32), torch.uint8)
