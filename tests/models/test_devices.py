import platform

import pytest
import torch

from lib.models import devices

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "cuda", "mps", "chosen"),
    [
        ("auto", True, True, "cuda"),
        ("cuda:1", True, False, "cuda:1"),
        ("auto", False, True, "mps"),
        ("auto", False, False, "cpu"),
        ("cpu", True, True, "cpu"),
        ("mps", True, True, "mps"),
    ],
)
def test_a_device_is_chosen_by_name_and_auto_prefers_cuda_then_mps_then_the_cpu(monkeypatch, name, cuda, mps, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch, "zeros", lambda _, device: None)
    assert str(devices.choose(name)) == chosen


@pytest.mark.parametrize(
    ("name", "device", "capable", "chosen"),
    [
        ("float32", "cpu", {"avx512_bf16": True}, torch.float32),
        ("bfloat16", "cpu", {}, torch.bfloat16),
        ("float16", "cuda", True, torch.float16),
        ("auto", "cpu", {"avx512_bf16": True}, torch.bfloat16),
        ("auto", "cpu", {"avx512_bf16": True, "cpu_name": "AMD EPYC"}, torch.bfloat16),
        ("auto", "cpu", {"avx512_bf16": True, "cpu_name": "Intel Xeon"}, torch.float32),  # measured to be faster
        ("auto", "cpu", {"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, torch.bfloat16),
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
        with pytest.raises(ValueError, match=rf"^device = '{device}'   not available .*; available: cpu$"):
            devices.choose(device)
    with pytest.raises(ValueError, match="precision = 'float16'   requires CUDA; the device is cpu; nearest: bfloat16"):
        devices.choose_precision("float16", CPU)


def test_a_device_that_does_not_exist_or_is_in_use_is_refused_with_its_reason(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"^device = 'cuda:1'   not available .*; available: cuda, cuda:0, cpu$"):
        devices.choose("cuda:1")

    def zeros(*_, **__):
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nmore")

    monkeypatch.setattr(torch, "zeros", zeros)
    with pytest.raises(ValueError, match=r"^device = 'auto'   cuda cannot be used: .* busy or unavailable; available"):
        devices.choose("auto")


@pytest.mark.parametrize(("count", "words"), [(1, "1 thread"), (2, "2 threads")])
def test_the_cpu_is_described_with_its_threads_and_needs_no_synchronisation(monkeypatch, count, words):
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    assert devices.describe("cpu") == f"cpu ({platform.machine()}, {words})"
    devices.synchronise(CPU)
