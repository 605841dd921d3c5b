"""Speed of the training loop (loading, augmentation, metrics) relative to the bare training step."""

import time

import numpy as np
import torch

from benchmarks.data import prepared
from lib import models
from lib.data import arrays
from lib.models import devices, inference
from lib.study import params
from lib.training import batches, loop, objectives
from lib.training.augmentation import Augmentation
from lib.training.objectives import Objective
from lib.training.state import Epoch, TrainingState

ROUNDS = 5
IMAGES = 160  # per round: long enough to time, short enough that both variants meet the same machine load


def rows(study: params.Study) -> list[dict[str, object]]:
    """Images per second of the bare step and of the loop, timed alternately, and their ratio."""
    _, data = prepared(study)
    config = params.step_params(study, "04_training", fold=study.folds[0], seed=study.seeds[0])
    network = models.describe(params.step_params(study, "03_model"), data.images.shape[1])
    steps = (ROUNDS + 1) * -(-IMAGES // config.batch_size)  # the schedule must not end before the last round
    objective = loop.objective_of(config, network, data)
    state = loop.initial_state(config, network, steps, objective.threshold_mode)
    order = np.resize(np.arange(len(data.names)), IMAGES)
    cases = batches.AugmentedCases(data, params.pick(config, Augmentation), config.seed, objective)
    sampler = batches.EpochSampler(order, np.ones(len(order)), config.seed)
    loaded = batches.loader(cases, sampler, config.batch_size, config.workers, state.device)
    bare, ours = [], []
    for epoch in range(ROUNDS + 1):  # the first round is warm-up
        bare.append(_bare_seconds(state, objective, data, config.batch_size))
        started = time.perf_counter()
        sampler.begin(epoch)
        loop.train_epoch(state, objective, loaded, config.gradient_clip, by_step=config.schedule != "plateau")
        state.epoch = Epoch()
        ours.append(time.perf_counter() - started)
    ratios = np.array(bare[1:]) / np.array(ours[1:])
    return [
        {
            "what": f"training loop / bare step, {study.study}",
            "bare": f"{IMAGES / np.median(bare[1:]):.1f} images/s",
            "ours": f"{IMAGES / np.median(ours[1:]):.1f} images/s",
            "ratio": float(np.median(ratios)),
            "spread": f"{ratios.min():.3f} to {ratios.max():.3f}",
            "goal": ">= 0.90",
        }
    ]


def _bare_seconds(state: TrainingState, objective: Objective, data: arrays.Arrays, batch_size: int) -> float:
    """Seconds of forward pass, loss, backward pass and optimiser step on one batch in memory."""
    network = state.network.train()
    rows = np.arange(min(batch_size, len(data.names)))
    inputs = inference.to_input(data.images[rows], state.device)
    reference = torch.as_tensor(objectives.targets(objective, data, rows)).to(state.device)
    started = time.perf_counter()
    for _ in range(IMAGES // batch_size):
        loss = objective.loss(inference.forward(network, inputs, state.precision), reference)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()
    devices.synchronise(state.device)
    return time.perf_counter() - started
