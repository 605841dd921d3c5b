"""How much of the bare network's speed the training loop keeps: loading, augmentation and metrics included."""

import time

import numpy as np
import torch

from benchmarks.data import prepared
from lib import models
from lib.data import arrays
from lib.models import devices, inference
from lib.study import params
from lib.training import batches, objectives
from lib.training.augmentation import Augmentation
from lib.training.loop import Learner, begin, train_epoch

ROUNDS = 5
IMAGES = 160  # a round: long enough to be timed, short enough that both ways meet the same machine


def rows(study: params.Study) -> list[dict[str, object]]:
    """Images per second of the bare step and of the loop, timed in turn, and their ratio."""
    _, data = prepared(study)
    chosen = params.step_params(study, "04_training")
    network = models.describe(params.step_params(study, "03_model"), data.images.shape[1])
    steps = (ROUNDS + 1) * -(-IMAGES // chosen.batch_size)  # a schedule must not end before the last round
    learner, moving = begin(chosen, network, data, steps)
    order = np.resize(np.arange(len(data.names)), IMAGES)
    cases = batches.AugmentedCases(data, chosen.pick(Augmentation), chosen.seed, learner.task)
    bare, loop = [], []
    for epoch in range(ROUNDS + 1):  # the first round warms up
        bare.append(_bare_seconds(learner, moving, data, chosen))
        started = time.perf_counter()
        loaded = batches.load(cases, order, epoch, chosen.batch_size, chosen.workers)
        train_epoch(learner, moving, loaded, chosen)
        loop.append(time.perf_counter() - started)
    ratios = np.array(bare[1:]) / np.array(loop[1:])
    return [
        {
            "what": f"training loop against bare step, {study.study}",
            "bare": f"{IMAGES / np.median(bare[1:]):.1f} images/s",
            "ours": f"{IMAGES / np.median(loop[1:]):.1f} images/s",
            "ratio": float(np.median(ratios)),
            "spread": f"{ratios.min():.3f} to {ratios.max():.3f}",
            "goal": ">= 0.90",
        }
    ]


def _bare_seconds(learner: Learner, moving: dict, data: arrays.Arrays, chosen: params.TrainingParams) -> float:
    """Forward, loss, backward, step on one batch that lies in memory."""
    network, optimizer = learner.network.train(), moving["optimizer"]
    rows = np.arange(min(chosen.batch_size, len(data.names)))
    inputs = inference.to_input(data.images[rows], learner.device)
    reference = torch.as_tensor(objectives.targets(learner.task, data, rows)).to(learner.device)
    started = time.perf_counter()
    for _ in range(IMAGES // chosen.batch_size):
        loss = learner.task.loss(inference.forward(network, inputs, learner.precision), reference)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    devices.synchronise(learner.device)
    return time.perf_counter() - started
