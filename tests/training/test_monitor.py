import sys
from types import SimpleNamespace

import torch

from lib.training import loop, monitor
from lib.training.monitor import Monitor
from tests import builders
from tests.builders import NETWORK, training_params


def test_the_line_tells_epoch_rate_waiting_and_time_left(monkeypatch):
    state = loop.initial_state(training_params(), NETWORK, 1, "rel")
    state.history = [{}] * 2  # resumed after two epochs of 100 images and 20 images of the third
    state.epoch.add(20, torch.zeros(()), torch.zeros(4), waited=1.0, seconds=4.0)
    clock, lines = iter([0.0, 0.4, 10.0]), []
    monkeypatch.setattr(monitor.time, "perf_counter", lambda: next(clock))
    watched = Monitor(lines.append, 4, 100, state)
    watched.show(state)  # too early
    state.epoch.add(80, torch.zeros(()), torch.zeros(4), waited=0.0, seconds=10.0)
    watched.show(state)
    expected = f"epoch 3/4, image 100/100 · {'█' * 15}{'░' * 5} 75 % · 8 images/s · 10 % waiting for data · "
    assert lines == [expected + "epoch 0 s left · training 12 s left"]
    state.epoch.images[:] = [20, 40]
    assert watched.line(state, 800.0).endswith(
        " · 0 images/s · 10 % waiting for data · epoch 13 min left · training 47 min left"
    )
    watched.clear()
    assert lines[1:] == [""]


class NotSupported(Exception):
    """As NVML's error for a part of a GPU."""


def test_a_gpu_shows_its_memory_and_if_a_package_and_the_driver_tell_its_use(monkeypatch):
    def fails(_):
        raise NotSupported

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 3 * 2**29)
    for package, utilization, shown in (
        (None, fails, []),
        (SimpleNamespace(NVMLError=NotSupported), fails, []),
        (SimpleNamespace(NVMLError=NotSupported), lambda _: 87, ["GPU 87 % busy"]),
    ):
        monkeypatch.setitem(sys.modules, "pynvml", package)
        monkeypatch.setattr(torch.cuda, "utilization", utilization)
        assert monitor._device_use(torch.device("cuda")) == ["GPU memory 1.5 GB", *shown]
    assert monitor._device_use(torch.device("cpu")) == []


def test_a_training_updates_its_display(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "INTERVAL", 0.0)
    lines, arrays = [], builders.discs(6)
    parts = {"train": arrays.names[:4], "validation": arrays.names[4:], "test": []}
    loop.fit(training_params(epochs=2, batch_size=2), NETWORK, arrays, parts, tmp_path, print, lines.append)
    assert [line[:9] for line in lines] == ["epoch 1/2"] * 2 + ["epoch 2/2"] * 2 + [""]
