import pytest
import torch

from lib.models import devices

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("asked", "cuda", "mps", "taken"),
    [
        ("auto", True, True, "cuda"),
        ("auto", False, True, "mps"),
        ("auto", False, False, "cpu"),
        ("cpu", True, True, "cpu"),
        ("mps", True, True, "mps"),
    ],
)
def test_a_device_is_taken_by_name_and_auto_takes_cuda_then_mps_then_the_processor(
    monkeypatch, asked, cuda, mps, taken
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert devices.choose(asked).type == taken


@pytest.mark.parametrize(
    ("asked", "device", "capable", "taken"),
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
def test_a_precision_is_taken_by_name_and_auto_takes_what_the_device_computes_in(
    monkeypatch, asked, device, capable, taken
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capable)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: capable)
    assert devices.choose_precision(asked, torch.device(device)) == taken


def test_a_device_that_is_not_there_and_float16_without_cuda_are_refused_with_those_that_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cuda", "mps", "abacus"):
        with pytest.raises(ValueError, match=rf"device = '{device}'   not on this machine; there is \['cpu'\]"):
            devices.choose(device)
    with pytest.raises(ValueError, match="precision = 'float16'   needs CUDA; the device is cpu; nearest: bfloat16"):
        devices.choose_precision("float16", CPU)


def test_the_processor_is_described_with_its_threads_and_is_never_waited_for():
    assert f"{torch.get_num_threads()} threads" in devices.describe("cpu")
    devices.synchronise(CPU)
