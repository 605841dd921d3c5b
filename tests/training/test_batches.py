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
    order, cases = np.random.default_rng(0).permutation(10), cases_of(arrays, **LIVELY)
    loaded = [zip(*batches.load(cases, order, 3, batch_size=4, workers=workers)) for workers in (0, 1, 2)]
    for part in zip(*([torch.cat(tensors) for tensors in each] for each in loaded)):  # images, targets
        assert len(part[0]) == 10
        assert torch.equal(part[0], part[1])
        assert torch.equal(part[0], part[2])


def test_a_case_drawn_twice_in_an_epoch_is_augmented_differently():
    cases = cases_of(builders.discs(4), **LIVELY)
    (images, _), *_ = batches.load(cases, np.array([2, 2]), 1, batch_size=4, workers=0)
    assert not np.array_equal(images[0].numpy(), images[1].numpy())


def test_heatmaps_are_those_of_the_augmented_points():
    arrays = builders_tasks.landmarked(1)
    keys = MOVING | {"landmarks": "multicentre", "scale_fraction": 0.0}
    cases = cases_of(arrays, builders_tasks.of_network(out_channels=2), **keys)
    for image, maps in (cases[epoch, 0, 0] for epoch in range(10)):
        assert image[0][maps.max(axis=0) > 0.9].min() > 60  # noise is below 30, the paler spots reach 100


def test_a_batch_contains_all_slices_of_a_patient():
    arrays = builders_tasks.volumes(2)
    (images, masks), *_ = batches.load(cases_of(arrays), arrays.rows(["patient1"]), 1, batch_size=8, workers=0)
    assert (images.shape, images.dtype) == ((5, 3, 32, 32), torch.float32)
    assert (masks.shape, masks.dtype) == ((5, 32, 32), torch.uint8)
