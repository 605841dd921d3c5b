"""What the training loop promises on a GPU; the same for the CPU as far as it can be checked there."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lib.models import devices
from lib.training import loop
from lib.training.batches import FixedBatches, resident
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
]


def prepared_step(arrays, network, keys, device):
    """A state, and a step and a validation of all cases as functions, with everything on the device."""
    config = training_params(**keys | {"device": device})
    objective = loop.objective_of(config, network, arrays)
    state = loop.initial_state(config, network, 4, objective.threshold_mode)
    state.optimizer = torch.optim.AdamW(state.model.parameters(), fused=True)  # as on CUDA
    images, targets = (
        each.to(state.device) for each in next(iter(FixedBatches(objective, arrays, arrays.rows(arrays.names))))
    )
    state.network.train()
    return lambda: loop.step(state, objective, images, targets, gradient_clip=1.0)


class HostReads(TorchDispatchMode):
    """Records the operations that wait for a GPU, or copy values to it that the host has made."""

    WAITING = ("_local_scalar_dense", "nonzero", "bincount", "masked_select", "equal", "is_nonzero", "lift_fresh")

    def __init__(self):
        super().__init__()
        self.found = set()

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


@pytest.mark.parametrize("kind", KINDS, ids=["three classes", "two classes", "landmarks"])
def test_a_step_does_not_wait_for_the_device(kind):
    step = prepared_step(*kind, "cpu")
    with HostReads() as reads:
        step()
    assert reads.found == set()


@on_cuda
@pytest.mark.parametrize("kind", KINDS, ids=["three classes", "two classes", "landmarks"])
def test_a_step_on_cuda_does_not_wait_for_the_device(kind):
    step = prepared_step(*kind, "cuda")
    step()  # the first one starts libraries
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
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
    keys = {"epochs": 2, "precision": "float32", "learning_rate": 1e-4}
    one, other = (fit(tmp_path / device, device=device, **keys)[0].history for device in ("cpu", "cuda"))
    assert other["train_loss"].to_numpy() == pytest.approx(one["train_loss"].to_numpy(), rel=1e-2)


@on_cuda
def test_validation_cases_stay_on_the_gpu_only_if_they_fit(monkeypatch):
    arrays, device = builders.discs(40), torch.device("cuda")
    objective = loop.objective_of(training_params(), builders.NETWORK, arrays)
    fixed = FixedBatches(objective, arrays, arrays.rows(arrays.names))
    kept = resident(fixed, device)
    assert {tensor.device.type for batch in kept for tensor in batch} == {"cuda"}
    assert all(torch.equal(a.cpu(), b) for one, other in zip(kept, fixed) for a, b in zip(one, other))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 100))
    assert resident(fixed, device) is fixed


@on_cuda
def test_settings_of_cuda_are_restored():
    with devices.configured(torch.device("cuda"), deterministic=True):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()


@on_cuda
def test_an_index_that_does_not_exist_is_refused():
    assert devices.choose("cuda:0").type == "cuda"
    with pytest.raises(
        ValueError, match=r"device = 'cuda:99'   not available on this machine; available: \['cuda', 'cuda:0'"
    ):
        devices.choose("cuda:99")
