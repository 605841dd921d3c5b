"""Training speed by precision and memory layout."""

import time

import numpy as np
import torch

from benchmarks.data import prepared
from lib import losses, models
from lib.data import arrays
from lib.models import devices
from lib.study import params
from lib.training import loop

ROUNDS = 3
STEPS = 4


def rows(study: params.Study) -> list[dict[str, object]]:
    """Images per second of each choice, timed alternately, relative to float32 without channels last."""
    _, data = prepared(study)
    device = devices.choose(study.device)
    arguments = models.describe(params.step_params(study, "03_model"), data.images.shape[1])["arguments"]
    choices = [(t, f) for t in (torch.float32, torch.bfloat16) for f in (torch.contiguous_format, torch.channels_last)]
    seconds: dict[tuple, list[float]] = {choice: [] for choice in choices}
    for _ in range(ROUNDS):
        for choice in choices:
            seconds[choice].append(_seconds(study, arguments, data, device, *choice))
    plain = np.array(seconds[choices[0]])
    rate = STEPS * study.batch_size
    return [
        {
            "what": f"{str(kind).removeprefix('torch.')}, {str(layout).removeprefix('torch.')}, {study.study}",
            "bare": f"{rate / np.median(plain):.1f} images/s",
            "ours": f"{rate / np.median(seconds[kind, layout]):.1f} images/s",
            "ratio": float(np.median(plain / np.array(seconds[kind, layout]))),
            "spread": "",
            "goal": "",
        }
        for kind, layout in choices[1:]
    ]


def _seconds(
    study: params.Study,
    arguments: dict,
    data: arrays.Arrays,
    device: torch.device,
    kind: torch.dtype,
    layout: torch.memory_format,
) -> float:
    torch.manual_seed(0)
    network = models.build(study.model, arguments).to(device, memory_format=layout).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    images = torch.as_tensor(np.array(data.images[: study.batch_size])).to(device)
    inputs = ((images.float() - 127.5) / 63.75).contiguous(memory_format=layout)
    reference = torch.as_tensor(np.array(data.masks[: study.batch_size])).to(device).long()
    started = 0.0
    for step in range(STEPS + 1):
        if step == 1:  # the first step is warm-up
            devices.synchronise(device)
            started = time.perf_counter()
        with torch.autocast(device.type, dtype=kind, enabled=kind != torch.float32):
            logits = network(inputs)
        loss = losses.combined(logits, reference, loop.mixture_of(study))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    devices.synchronise(device)
    return time.perf_counter() - started
