import numpy as np
import torch

from lib.study import params
from lib.training import batches, loop
from lib.training.augmentation import Augmentation
from tests import builders, builders_tasks
from tests.builders import LIVELY, MOVING, NETWORK, training_params


def cases_of(arrays, network=NETWORK, **keys):
    config = training_params(**keys)
    objective = loop.objective_of(config, network, arrays)
    return batches.AugmentedCases(arrays, params.pick(config, Augmentation), 0, objective)


def test_batches_are_the_same_for_0_1_and_2_loader_processes():
    arrays = builders.discs(10)
    order = np.random.default_rng(0).permutation(10)
    cases = cases_of(arrays, **LIVELY)
    images, targets = zip(
        *(map(torch.cat, zip(*batches.load(cases, order, 3, batch_size=4, workers=workers))) for workers in (0, 1, 2))
    )
    assert len(images[0]) == 10
    for parts in (images, targets):
        assert torch.equal(parts[0], parts[1])
        assert torch.equal(parts[0], parts[2])


def test_a_case_that_is_drawn_twice_in_an_epoch_is_changed_differently():
    cases = cases_of(builders.discs(4), **LIVELY)
    (images, _), *_ = batches.load(cases, np.array([2, 2]), 1, batch_size=4, workers=0)
    assert not np.array_equal(images[0].numpy(), images[1].numpy())


def test_heatmaps_are_those_of_the_moved_points():
    arrays = builders_tasks.landmarked(1)
    cases = cases_of(
        arrays,
        builders_tasks.of_network(out_channels=2),
        **(MOVING | {"landmarks": "multicentre", "scale_fraction": 0.0}),
    )
    for epoch in range(10):
        image, maps = cases[epoch, 0, 0]
        assert image[0][maps.max(axis=0) > 0.9].min() > 60  # noise ends at 30, the paler spots reach 100


def test_patients_train_with_all_their_slices():
    arrays = builders_tasks.volumes(2)
    (images, masks), *_ = batches.load(cases_of(arrays), arrays.rows(["patient1"]), 1, batch_size=8, workers=0)
    assert (images.shape, images.dtype) == ((5, 3, 32, 32), torch.float32)
    assert (masks.shape, masks.dtype) == ((5, 32, 32), torch.uint8)
