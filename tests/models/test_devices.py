import pytest
import torch

from lib.models import devices

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "cuda", "mps", "chosen"),
    [
        ("auto", True, True, "cuda"),
        ("auto", False, True, "mps"),
        ("auto", False, False, "cpu"),
        ("cpu", True, True, "cpu"),
        ("mps", True, True, "mps"),
    ],
)
def test_a_device_is_chosen_by_name_and_auto_prefers_cuda_then_mps_then_the_cpu(monkeypatch, name, cuda, mps, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert devices.choose(name).type == chosen


@pytest.mark.parametrize(
    ("name", "device", "capable", "chosen"),
    [
        ("float32", "cpu", {"avx512_bf16": True}, torch.float32),
        ("bfloat16", "cpu", {}, torch.bfloat16),
        ("float16", "cuda", True, torch.float16),
        ("auto", "cpu", {"avx512_bf16": True}, torch.bfloat16),
        ("auto", "cpu", {"amx_bf16": True}, torch.bfloat16),
        ("auto", "cpu", {"avx2": True}, torch.float32),
        ("auto", "cpu", {}, torch.float32),
        ("auto", "mps", {"avx512_bf16": True}, torch.float32),
        ("auto", "cuda", True, torch.bfloat16),
        ("auto", "cuda", False, torch.float16),  # before Ampere
    ],
)
def test_a_precision_is_chosen_by_name_and_auto_fits_the_device(monkeypatch, name, device, capable, chosen):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capable)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: capable)
    assert devices.choose_precision(name, torch.device(device)) == chosen


def test_an_unavailable_device_and_float16_without_cuda_are_refused_with_alternatives(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cuda", "mps", "abacus"):
        with pytest.raises(ValueError, match=rf"^device = '{device}'   not available .*; available: \['cpu'\]"):
            devices.choose(device)
    with pytest.raises(ValueError, match="precision = 'float16'   requires CUDA; the device is cpu; nearest: bfloat16"):
        devices.choose_precision("float16", CPU)


def test_the_cpu_is_described_with_its_threads_and_needs_no_synchronisation():
    assert f"{torch.get_num_threads()} threads" in devices.describe("cpu")
    devices.synchronise(CPU)
