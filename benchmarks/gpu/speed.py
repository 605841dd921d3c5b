"""Parts about speed: the loop against the bare step, loader processes, compilation, a student's loop, growth."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks import packed, protocol, student, training
from benchmarks.gpu.scale import Scale
from lib.data.arrays import Arrays
from lib.study import params

Row = dict[str, object]
STUDIES = ("hc18_unet", "brain_structures", "lgg", "hc18_quick")
WORKERS = (0, 1, 2, 4, 8)
GOAL, STUDENT_GOAL, GROWTH_GOAL = ">= 0.95 (CPU 0.98)", ">= 3", "within 10 %, flat memory"


def loop_against_step(scale: Scale, folder: Path) -> Iterator[Row]:
    """Images per second of the bare step and of the loop for each protocol, timed alternately."""
    return each(partial(_loop_row, scale, folder), STUDIES)


def _loop_row(scale: Scale, folder: Path, name: str) -> Row:
    study = scale.study(name)
    data = arrays_of(study, scale, folder)
    images = images_in(scale.round_seconds, study, data)
    bare, ours = training.paired(study, data, images, scale.rounds, study.workers)
    ratios = bare / ours
    return {
        "study": name,
        "network": f"{study.model}, base {study.base_channels}",
        "size": size_of(study),
        "batch": study.batch_size,
        "workers": study.workers,
        "bare images/s": images / np.median(bare),
        "loop images/s": images / np.median(ours),
        "ratio": float(np.median(ratios)),
        "range": f"{ratios.min():.3f} to {ratios.max():.3f}",
        "goal": GOAL,
        **memory(),
    }


def worker_counts(scale: Scale, folder: Path) -> Iterator[Row]:
    """Images per second of the loop by number of loader processes; the clock counts, not CPU time."""
    for name in ("hc18_unet", "lgg"):
        study = scale.study(name)
        data = arrays_of(study, scale, folder)
        images = images_in(scale.round_seconds / 3, study, data)
        yield from each(partial(_worker_row, scale, study, data, images), WORKERS)


def _worker_row(scale: Scale, study: params.Study, data: Arrays, images: int, workers: int) -> Row:
    steps = (scale.rounds + 1) * (images // study.batch_size)
    running = protocol.start(study, data, steps)
    batches = protocol.feed(running, np.resize(np.arange(len(data.names)), images), workers)
    seconds = [protocol.epoch_seconds(running, batches, epoch, workers=1) for epoch in range(1, scale.rounds + 2)]
    return {"study": study.study, "workers": workers, "images/s": images / np.median(seconds[1:])}


def compiled(scale: Scale, folder: Path) -> Iterator[Row]:
    """Bare step and loop with and without determinism and torch.compile, and the seconds of the first step."""
    for name in ("hc18_unet", "hc18_quick"):
        data = arrays_of(scale.study(name), scale, folder)
        images = images_in(scale.round_seconds, scale.study(name), data)
        yield from each(
            partial(_compile_row, scale, name, data, images), ((True, False), (False, False), (False, True))
        )


def _compile_row(scale: Scale, name: str, data: Arrays, images: int, keys: tuple[bool, bool]) -> Row:
    choices = dict(zip(("deterministic", "compile"), keys))
    study = scale.study(name, **choices)
    running = protocol.start(study, data, 2 * (scale.rounds + 1) * (images // study.batch_size))
    first = protocol.seconds(partial(protocol.bare, running, 1), running.state.device, workers=1)
    bare, ours = training.alternately(running, images, scale.rounds, study.workers)
    rates = {"bare images/s": images / np.median(bare), "loop images/s": images / np.median(ours)}
    return {"study": name, **choices, "first step s": first, **rates, **memory()}


def against_student(scale: Scale, folder: Path) -> Iterator[Row]:
    """Images per second of a plain student's loop and of this one, by the clock, timed alternately."""
    return each(partial(_student_row, scale, folder), ("hc18_unet", "hc18_quick"))


def _student_row(scale: Scale, folder: Path, name: str) -> Row:
    study = scale.study(name)
    data = arrays_of(study, scale, folder)
    images = images_in(scale.round_seconds / 2, study, data)
    running = protocol.start(study, data, (scale.rounds + 1) * (images // study.batch_size))
    batches = protocol.feed(running, np.resize(np.arange(len(data.names)), images), study.workers)
    plain, device = student.epoch_of(running, images, folder), running.state.device
    theirs, ours = [], []
    for epoch in range(1, scale.rounds + 2):
        theirs.append(protocol.seconds(plain, device, study.workers))
        ours.append(protocol.epoch_seconds(running, batches, epoch, study.workers))
    ratios = np.array(theirs[1:]) / np.array(ours[1:])
    rates = {"student images/s": images / np.median(theirs[1:]), "loop images/s": images / np.median(ours[1:])}
    spread = f"{ratios.min():.2f} to {ratios.max():.2f}"
    return {"study": name, **rates, "ratio": float(np.median(ratios)), "range": spread, "goal": STUDENT_GOAL}


def growth(scale: Scale, folder: Path) -> Iterator[Row]:
    """Images per second and memory of the loop by number of phantom images; each epoch reads all of them."""
    study = scale.study("hc18_quick")
    base = None
    for count in scale.growth:
        data = packed.phantoms(study, count, folder)
        epochs = 1 + -(-scale.growth[-1] // count) // 2
        running = protocol.start(study, data, (epochs + 1) * -(-count // study.batch_size))
        batches = protocol.feed(running, np.arange(count), study.workers)
        protocol.epoch_seconds(running, batches, 1, study.workers)  # warm-up
        taken = sum(protocol.epoch_seconds(running, batches, epoch, study.workers) for epoch in range(2, epochs + 2))
        rate = count * epochs / taken
        base = base or rate
        yield {"images": count, "images/s": rate, "ratio": rate / base, "goal": GROWTH_GOAL, **memory()}


def each(row_of: Callable[..., Row], items: tuple) -> Iterator[Row]:
    """One row per item; where an item fails, its error, so that the others are still measured."""
    for item in items:
        try:
            yield row_of(item)
        except (RuntimeError, ValueError) as error:  # too little memory, no compiler, an unavailable precision
            yield {"item": str(item), "error": (str(error).strip() or type(error).__name__).splitlines()[0]}


def arrays_of(study: params.Study, scale: Scale, folder: Path) -> Arrays:
    """Packed slices for LGG, else phantoms."""
    return (packed.lgg if study.dataset == "lgg" else packed.phantoms)(study, scale.images, folder)


def images_in(seconds: float, study: params.Study, data: Arrays) -> int:
    """Number of images, in whole batches, that the bare step processes in about this time."""
    running = protocol.start(study, data, 1000)
    device, steps = running.state.device, 3
    protocol.seconds(partial(protocol.bare, running, steps), device)  # warm-up
    taken = protocol.seconds(partial(protocol.bare, running, steps), device)
    return study.batch_size * max(2, round(seconds * steps / taken))


def size_of(study: params.Study) -> str:
    """Image size as text."""
    return "x".join(map(str, study.image_size))


def memory() -> Row:
    """Peak GPU memory since the last call, and memory of this process without mapped files, in GiB."""
    used, gpu = psutil.Process().memory_info(), float("nan")
    if torch.cuda.is_available():
        gpu = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
    return {"GPU GiB": gpu, "process GiB": (used.rss - used.shared) / 2**30}
