"""Speed of the training loop (loading, augmentation, metrics) relative to the bare training step."""

from functools import partial

import numpy as np

from benchmarks import protocol
from benchmarks.data import prepared
from lib.study import params

ROUNDS = 5
IMAGES = 160  # per round: long enough to time, short enough that both variants meet the same machine load


def rows(study: params.Study) -> list[dict[str, object]]:
    """Images per second of the bare step and of the loop, timed alternately, and their ratio."""
    _, data = prepared(study)
    bare, ours = paired(study, data, IMAGES, ROUNDS, study.workers)
    ratios = bare / ours
    return [
        {
            "what": f"training loop / bare step, {study.study}",
            "bare": f"{IMAGES / np.median(bare):.1f} images/s",
            "ours": f"{IMAGES / np.median(ours):.1f} images/s",
            "ratio": float(np.median(ratios)),
            "spread": f"{ratios.min():.3f} to {ratios.max():.3f}",
            "goal": ">= 0.98",
        }
    ]


def paired(
    study: params.Study, data: protocol.Arrays, images: int, rounds: int, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of the bare step and of the loop for as many images (a multiple of the batch size), (rounds,) each."""
    steps = images // study.batch_size
    running = protocol.start(study, data, 2 * (rounds + 1) * steps)
    batches = protocol.feed(running, np.resize(np.arange(len(data.names)), images), workers)
    device, bare, ours = running.state.device, [], []
    for epoch in range(1, rounds + 2):  # the first is warm-up
        bare.append(protocol.seconds(partial(protocol.bare, running, steps), device, workers))
        ours.append(protocol.seconds(lambda: protocol.train(running, batches(epoch)), device, workers))  # noqa: B023
    return np.array(bare[1:]), np.array(ours[1:])
