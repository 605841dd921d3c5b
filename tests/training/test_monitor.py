import pytest
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
    assert lines == [f"epoch 3/4 {'█' * 15}{'░' * 5} 75 % · 8 images/s · 10 % waiting for data · 12 s left"]
    assert watched.line(state, 800.0).endswith(" · 0 images/s · 10 % waiting for data · 17 min left")
    watched.clear()
    assert lines[1:] == [""]


@pytest.mark.parametrize("found", [ModuleNotFoundError, RuntimeError])
def test_a_gpu_without_a_meter_shows_its_memory_only(monkeypatch, found):
    def utilization(_):
        raise found

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 3 * 2**29)
    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    assert monitor._device_use(torch.device("cuda")) == ["GPU memory 1.5 GB"]
    monkeypatch.setattr(torch.cuda, "utilization", lambda _: 87)
    assert monitor._device_use(torch.device("cuda"))[1:] == ["GPU 87 % busy"]
    assert monitor._device_use(torch.device("cpu")) == []


def test_a_training_updates_its_display(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "INTERVAL", 0.0)
    lines, arrays = [], builders.discs(6)
    parts = {"train": arrays.names[:4], "validation": arrays.names[4:], "test": []}
    loop.fit(training_params(epochs=2, batch_size=2), NETWORK, arrays, parts, tmp_path, print, lines.append)
    assert [line[:9] for line in lines] == ["epoch 1/2"] * 2 + ["epoch 2/2"] * 2 + [""]
