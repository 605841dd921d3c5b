"""Speed of the training loop (loading, augmentation, metrics) relative to the bare training step."""

from functools import partial

import numpy as np

from benchmarks import protocol, table
from benchmarks.data import prepared
from benchmarks.protocol import Protocol
from lib.data.arrays import Arrays
from lib.study import params

ROUNDS = 5
IMAGES = 160  # per round: long enough to time, short enough that both variants meet the same machine load


def rows(study: params.Study) -> list[dict[str, object]]:
    """Images per second of the bare step and of the loop, timed alternately, and their ratio."""
    _, data = prepared(study)
    bare, ours = paired(study, data, IMAGES, ROUNDS, study.workers)
    ratios = bare / ours
    return [
        table.row(
            f"training loop / bare step, {study.study}",
            f"{IMAGES / np.median(bare):.1f} images/s",
            f"{IMAGES / np.median(ours):.1f} images/s",
            ratios,
            ">= 0.98",
        )
    ]


def paired(study: params.Study, data: Arrays, images: int, rounds: int, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of the bare step and of the loop for as many images (a multiple of the batch size), (rounds,) each."""
    running = protocol.start(study, data, 2 * (rounds + 1) * (images // study.batch_size))
    return alternately(running, images, rounds, workers)


def alternately(running: Protocol, images: int, rounds: int, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """As `paired`, of a protocol with enough steps left."""
    batches = protocol.feed(running, np.resize(np.arange(len(running.data.names)), images), workers)
    device, steps, bare, ours = running.state.device, images // running.config.batch_size, [], []
    for epoch in range(1, rounds + 2):  # the first is warm-up
        bare.append(protocol.seconds(partial(protocol.bare, running, steps), device, workers))
        ours.append(protocol.epoch_seconds(running, batches, epoch, workers))
    return np.array(bare[1:]), np.array(ours[1:])
