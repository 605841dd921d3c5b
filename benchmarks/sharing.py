"""Two trainings on two cores: side by side with one thread each, or in turn with two; run on a quiet machine."""

import json
import subprocess
import sys
import time

import numpy as np
import torch

from benchmarks import protocol, table
from benchmarks.data import prepared
from lib.study import environment, files, params

ROUNDS = 5
IMAGES = 160  # of each training, per round
CHILD = "import sys; from benchmarks import sharing; sharing.train(int(sys.argv[1]), sys.argv[2])"


def rows(study: params.Study) -> list[dict[str, object]]:
    """Wall-clock and CPU time of two trainings in turn and side by side, timed alternately, and their ratios."""
    children = {threads: [_start(study.study, threads) for _ in range(2)] for threads in (1, 2)}
    try:
        _measure(children)  # warm-up
        times = np.array([_measure(children) for _ in range(ROUNDS)])  # (rounds, kind, way)
    finally:
        for child in (*children[1], *children[2]):
            child.stdin.close()
            child.wait()
    return [_row(study, kind, times[:, index]) for index, kind in enumerate(("wall-clock", "CPU"))]


def _row(study: params.Study, kind: str, seconds: np.ndarray) -> dict[str, object]:
    ratios = seconds[:, 0] / seconds[:, 1]
    return table.row(
        f"two trainings of {study.study}: in turn with 2 threads / side by side with 1, {kind} time",
        f"{np.median(seconds[:, 0]):.1f} s",
        f"{np.median(seconds[:, 1]):.1f} s",
        ratios,
        ">= 1" if kind == "wall-clock" else "",
    )


def _measure(children: dict[int, list[subprocess.Popen]]) -> list[list[float]]:
    """Seconds (wall-clock, CPU) of both ways (in turn, side by side)."""
    started = time.perf_counter()
    used = [_end(_begin(child)) for child in children[2]]
    middle = time.perf_counter()
    shared = [_end(child) for child in [_begin(child) for child in children[1]]]
    return [[middle - started, time.perf_counter() - middle], [sum(used), sum(shared)]]


def _start(study: str, threads: int) -> subprocess.Popen:
    """A process that is ready to train."""
    variables = environment.for_children(threads)
    command = [sys.executable, "-c", CHILD, str(threads), study]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    child = subprocess.Popen(command, cwd=files.ROOT, env=variables, **pipes)
    _end(child)
    return child


def _begin(child: subprocess.Popen) -> subprocess.Popen:
    child.stdin.write("\n")
    child.stdin.flush()
    return child


def _end(child: subprocess.Popen) -> float:
    """Waits for the end of an epoch; its CPU seconds."""
    return json.loads(child.stdout.readline())


def train(threads: int, name: str) -> None:
    """Trains an epoch for each line of standard input, and prints its CPU seconds."""
    environment.use_threads()
    torch.set_num_threads(threads)
    environment.keep_freed_memory()
    study = params.read_study(files.study_file(name))
    _, data = prepared(study)
    running = protocol.start(study, data, (ROUNDS + 1) * (IMAGES // study.batch_size))
    batches = protocol.feed(running, np.resize(np.arange(len(data.names)), IMAGES), 0)
    print(0.0, flush=True)  # ready
    for epoch, _ in enumerate(sys.stdin, start=1):
        before = time.process_time()
        protocol.epoch_seconds(running, batches, epoch, 0)
        print(time.process_time() - before, flush=True)
