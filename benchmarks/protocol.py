"""A study in training, for every benchmark of its speed: the bare step, and the loop over the same arrays.

The only module of the benchmarks that knows how the loop is called.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lib import models
from lib.data.arrays import Arrays
from lib.models import devices, inference
from lib.study import params
from lib.study.params import TrainingParams
from lib.training import batches, loop, objectives
from lib.training.augmentation import Augmentation
from lib.training.batches import AugmentedCases, Batches, EpochSampler
from lib.training.objectives import Objective
from lib.training.state import Epoch, TrainingState

EpochOf = Callable[[int], Batches]  # number of an epoch -> its batches


@dataclass(frozen=True)
class Protocol:
    """The first fold and seed of a study before its first step."""

    config: TrainingParams
    network: dict[str, Any]  # a `models.describe` record
    data: Arrays
    state: TrainingState
    objective: Objective


def start(study: params.Study, data: Arrays, steps: int) -> Protocol:
    """A study on these arrays; `steps` is the number of steps to come, beyond which a schedule may end."""
    config = params.step_params(study, "04_training", fold=study.folds[0], seed=study.seeds[0])
    network = models.describe(params.step_params(study, "03_model"), data.images.shape[1])
    objective = loop.objective_of(config, network, data)
    state = loop.initial_state(config, network, steps, objective.threshold_mode)
    return Protocol(config, network, data, state, objective)


def feed(protocol: Protocol, rows: np.ndarray, workers: int) -> EpochOf:
    """Augmented batches of the array rows, loaded by `workers` processes or by this one (0)."""
    config = protocol.config
    cases = AugmentedCases(protocol.data, params.pick(config, Augmentation), config.seed, protocol.objective)
    sampler = EpochSampler(rows, np.ones(len(rows)), config.seed)
    loader = batches.loader(cases, sampler, config.batch_size, workers, protocol.state.device)

    def epoch_of(epoch: int) -> Batches:
        sampler.begin(epoch)
        return loader

    return epoch_of


def train(protocol: Protocol, loaded: Batches) -> None:
    """One epoch of the loop: loading, augmentation, step, metrics."""
    state, config = protocol.state, protocol.config
    with devices.configured(state.device, config.deterministic):
        loop.train_epoch(state, protocol.objective, loaded, config.gradient_clip, by_step=config.schedule != "plateau")
    state.epoch = Epoch()


def bare(protocol: Protocol, steps: int) -> None:
    """Steps on one normalised batch in memory: forward, loss, backward, clipping, optimizer and schedule."""
    state, config, data = protocol.state, protocol.config, protocol.data
    rows = np.arange(min(config.batch_size, len(data.names)))
    network = state.network.train()
    inputs = inference.to_input(data.images[rows], state.device)
    reference = torch.as_tensor(objectives.targets(protocol.objective, data, rows)).to(state.device)
    with devices.configured(state.device, config.deterministic):
        for _ in range(steps):
            loss = protocol.objective.loss(inference.forward(network, inputs, state.precision), reference)
            state.optimizer.zero_grad(set_to_none=True)
            state.scaler.scale(loss).backward()
            if config.gradient_clip is not None:
                state.scaler.unscale_(state.optimizer)
                nn.utils.clip_grad_norm_(state.model.parameters(), config.gradient_clip)
            state.scaler.step(state.optimizer)
            state.scaler.update()
            if config.schedule != "plateau":
                state.schedule.step()


def epoch_seconds(protocol: Protocol, batches: EpochOf, epoch: int, workers: int) -> float:
    """Seconds of an epoch of the loop, as `seconds`."""
    return seconds(lambda: train(protocol, batches(epoch)), protocol.state.device, workers)


def seconds(work: Callable[[], None], device: torch.device, workers: int = 0) -> float:
    """Seconds that `work` takes: CPU time of this process if it does all the work itself, else by the clock.

    CPU time of one process is comparable also on a machine that others use.
    """
    clock = time.process_time if device.type == "cpu" and workers == 0 else time.perf_counter
    devices.synchronise(device)
    started = clock()
    work()
    devices.synchronise(device)
    return clock() - started
