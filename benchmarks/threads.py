"""Cost of the OpenMP wait policy: training steps on an idle and on a busy machine."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from benchmarks import table
from lib import losses, models
from lib.study import files, params
from lib.training import loop

ROUNDS = 3
STEPS = 6
SIZE, BATCH = (96, 144), 16  # the demo's
POLICIES = {"default": {}, "PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"}, "spin 20000": {"GOMP_SPINCOUNT": "20000"}}
CHOICES = [(2, policy) for policy in POLICIES] + [(1, "default"), (1, "PASSIVE")]
PRECISIONS = (torch.bfloat16, torch.float32)
CHILD = "import sys; from benchmarks import threads; threads.train(int(sys.argv[1]))"


def rows() -> list[dict[str, object]]:
    """Images per second of each policy, timed alternately in separate processes; ratios to the default policy.

    Raises:
        ValueError: the trained weights depend on the policy.
    """
    return _rows("idle machine") + _rows("two other busy processes")


def _rows(machine: str) -> list[dict[str, object]]:
    rates: dict[tuple, list[float]] = defaultdict(list)
    weights = defaultdict(set)
    with _busy(0 if machine == "idle machine" else 2):
        for _ in range(ROUNDS):
            for count, policy in CHOICES:
                for precision, (rate, digest) in _measure(count, POLICIES[policy]).items():
                    rates[count, precision, policy].append(rate)
                    weights[count, precision].add(digest)
    other = [key for key, digests in weights.items() if len(digests) > 1]
    if other:
        raise ValueError(f"trained weights depend on the wait policy: {other}")
    return [_row(machine, key, values, rates[(*key[:2], "default")]) for key, values in sorted(rates.items())]


def _row(machine: str, key: tuple[int, str, str], values: list[float], default: list[float]) -> dict[str, object]:
    ratios = np.array(values) / np.array(default)
    return table.row(
        f"training step, {key[1]}, {key[0]} threads, wait policy {key[2]}, {machine}",
        f"{np.median(default):.1f} images/s",
        f"{np.median(values):.1f} images/s",
        ratios,
    )


def _measure(count: int, settings: dict[str, str]) -> dict[str, tuple[float, str]]:
    """Images per second and digest of the weights, by precision, in a process with these environment variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    command = [sys.executable, "-c", CHILD, str(count)]
    done = subprocess.run(command, cwd=files.ROOT, env=kept | settings, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def train(count: int) -> None:
    """Trains a few steps with `count` threads and prints rate and digest by precision, as JSON."""
    torch.set_num_threads(count)
    print(json.dumps({str(kind).removeprefix("torch."): _steps(kind) for kind in PRECISIONS}))


def _steps(kind: torch.dtype) -> tuple[float, str]:
    study = params.read_study(files.study_file("demo"))
    torch.manual_seed(0)
    network = models.build(study.model, models.describe(params.step_params(study, "03_model"), 1)["arguments"])
    network = network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    inputs = torch.randn(BATCH, 1, *SIZE).contiguous(memory_format=torch.channels_last)
    reference = torch.randint(0, len(study.classes), (BATCH, *SIZE))
    started = 0.0
    for step in range(STEPS + 1):
        started = time.perf_counter() if step == 1 else started  # the first step is warm-up
        with torch.autocast("cpu", dtype=kind, enabled=kind != torch.float32):
            logits = network(inputs)
        loss = losses.combined(logits, reference, loop.mixture_of(study))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    rate = STEPS * BATCH / (time.perf_counter() - started)
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in network.state_dict().values()))
    return rate, digest.hexdigest()[:12]


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """Runs `count` busy processes during the block."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
