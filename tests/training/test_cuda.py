"""What the training loop promises on a GPU; the same for the CPU as far as it can be checked there."""

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lib.models import devices
from lib.training import loop
from lib.training.batches import FixedBatches, resident
from lib.training.monitor import Monitor
from lib.training.state import Epoch
from tests import builders, builders_tasks
from tests.builders import training_params
from tests.builders_tasks import HEATMAPS, LANDMARKS, contents, fit, of_network


def on_cuda(test):
    skipped = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    return pytest.mark.cuda(skipped(test))


THREE = {"classes": ["background", "a", "b"], "focal_weight": 0.5, "label_smoothing": 0.05}
THREE |= {"cross_entropy_class_weights": [1.0, 1.0, 2.0], "dice_class_weights": [0.0, 1.0, 1.0]}
THREE |= {"selection_class_weights": [0.0, 1.0, 1.0]}
KINDS = [
    (builders.discs(8), of_network(out_channels=3), THREE),
    (builders.discs(8), builders.NETWORK, {}),
    (builders_tasks.landmarked(8), HEATMAPS, LANDMARKS),
    (builders.discs(8), builders.NETWORK | {"model": "segnet"}, {}),
    (builders.discs(8), builders.NETWORK | {"model": "attention_unet"}, {}),
]


def prepared_epoch(monkeypatch, arrays, network, keys, device):
    """Two steps of the loop as a function, up to the first value that it reads."""
    config = training_params(**keys | {"device": device})
    objective = loop.objective_of(config, network, arrays)
    state = loop.initial_state(config, network, 9, objective.threshold_mode)
    state.optimizer = torch.optim.AdamW(state.model.parameters(), fused=True)  # as on CUDA
    state.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(state.optimizer, 9)
    batch = next(iter(FixedBatches(objective, arrays, arrays.rows(arrays.names), 8)))
    batch = tuple(each.pin_memory() if device == "cuda" else each for each in batch)
    monkeypatch.setattr(Epoch, "sums", lambda _: (0.0, None))
    return lambda: loop.train_epoch(state, objective, [batch] * 2, 1.0, True, Monitor(None, 1, 8, state).show)


class HostMethods(TorchFunctionMode):
    """Records the methods that read a tensor, which on a CPU are no operation."""

    READING = ("tolist", "numpy", "cpu", "__array__")

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ in self.READING:
            self.found.add(func.__name__)
        return func(*args, **(kwargs or {}))


class HostReads(TorchDispatchMode):
    """Records the operations that wait for a GPU, or copy values to it that the host has made."""

    WAITING = ("_local_scalar_dense", "nonzero", "bincount", "masked_select", "equal", "is_nonzero", "lift_fresh")

    def __init__(self):
        super().__init__()
        self.found = set()
        self.methods = HostMethods(self.found)

    def __enter__(self):
        self.methods.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.methods.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name == "index" else []
        if name in self.WAITING or any(each is not None and each.dtype == torch.bool for each in indices):
            self.found.add(name)
        return func(*args, **(kwargs or {}))


def test_operations_that_wait_for_a_gpu_are_recognised():
    values = torch.arange(4.0)
    with HostReads() as reads:
        float(values[0]), values[values > 1], torch.bincount(values.long()), torch.tensor([1.0])
    assert reads.found == {"_local_scalar_dense", "index", "bincount", "lift_fresh"}
    with HostReads() as reads:
        values.tolist(), values.numpy(), values.cpu(), np.asarray(values)
    assert reads.found == {*HostMethods.READING}


every_kind = pytest.mark.parametrize(
    "kind", KINDS, ids=["three classes", "two classes", "landmarks", "segnet", "gates"]
)
precisions = ["float32", "bfloat16"]


@every_kind
@pytest.mark.parametrize("precision", precisions)
def test_an_epoch_does_not_wait_for_the_device(monkeypatch, kind, precision):
    arrays, network, keys = kind
    epoch = prepared_epoch(monkeypatch, arrays, network, keys | {"precision": precision}, "cpu")
    with HostReads() as reads:
        epoch()
    assert reads.found == set()


@on_cuda
@every_kind
@pytest.mark.parametrize("precision", [*precisions, "float16"])
def test_an_epoch_on_cuda_does_not_wait_for_the_device(monkeypatch, kind, precision):
    arrays, network, keys = kind
    epoch = prepared_epoch(monkeypatch, arrays, network, keys | {"precision": precision}, "cuda")
    epoch()  # the first one starts libraries
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        epoch()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@on_cuda
@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("model", ["unet", "attention_unet", "segnet"])
def test_a_deterministic_study_repeats_and_resumes_to_the_byte(tmp_path, precision, model):
    keys = {"device": "cuda", "precision": precision, "epochs": 3, "workers": 2}
    network = of_network() | {"model": model}
    for name in ("a", "b"):
        fit(tmp_path / name, network=network, **keys)
    assert fit(tmp_path / "c", stop_after=2, network=network, **keys)[0] is None
    fit(tmp_path / "c", network=network, **keys)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")


@on_cuda
def test_the_cpu_and_the_gpu_agree(tmp_path):
    keys = {"epochs": 3, "precision": "float32", "schedule": "constant"}
    one, other = (fit(tmp_path / device, device=device, **keys)[0].history["train_loss"] for device in ("cpu", "cuda"))
    assert one[2] < 0.9 * one[0]
    assert (other / one).to_numpy() == pytest.approx(1, abs=0.02)


@on_cuda
def test_validation_cases_stay_on_the_gpu_only_if_they_fit(monkeypatch):
    arrays, device = builders.discs(40), torch.device("cuda")
    objective = loop.objective_of(training_params(), builders.NETWORK, arrays)
    fixed = FixedBatches(objective, arrays, arrays.rows(arrays.names), 16)
    kept = resident(fixed, device)
    assert {tensor.device.type for batch in kept for tensor in batch} == {"cuda"}
    assert all(torch.equal(a.cpu(), b) for one, other in zip(kept, fixed) for a, b in zip(one, other))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 100))
    assert resident(fixed, device) is fixed


@on_cuda
def test_settings_of_cuda_are_restored():
    def settings():
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.allow_tf32,
        )

    before = settings()
    for deterministic in (True, False):
        with devices.configured(torch.device("cuda"), deterministic):
            assert settings() == (deterministic, not deterministic, False)
        assert settings() == before


ABSENT = r"^device = 'cuda:99'   not available on this machine; available: cuda, cuda:0(, cuda:\d+)*, cpu$"


@on_cuda
def test_an_index_that_does_not_exist_is_refused():
    assert devices.choose("cuda:0").type == "cuda"
    with pytest.raises(ValueError, match=ABSENT):
        devices.choose("cuda:99")


def test_an_index_that_does_not_exist_is_refused_as_with_two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=ABSENT):
        devices.choose("cuda:99")
