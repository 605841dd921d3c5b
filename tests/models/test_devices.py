import pytest
import torch

from lib.models import devices

CPU = torch.device("cpu")


def test_the_processor_is_always_there():
    assert devices.choose("cpu") == CPU


@pytest.mark.parametrize(("cuda", "mps", "taken"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_auto_takes_cuda_then_mps_then_the_processor(monkeypatch, cuda, mps, taken):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert devices.choose("auto").type == taken


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=rf"device = '{device}'   not on this machine; there is \['cpu'\]"):
        devices.choose(device)


def test_a_precision_that_is_named_is_taken():
    assert devices.choose_precision("float32", CPU) == torch.float32
    assert devices.choose_precision("bfloat16", CPU) == torch.bfloat16
    assert devices.choose_precision("float16", torch.device("cuda")) == torch.float16


def test_float16_without_cuda_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="precision = 'float16'   needs CUDA; the device is cpu; nearest: bfloat16"):
        devices.choose_precision("float16", CPU)


@pytest.mark.parametrize(
    ("capable", "taken"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx2": True}, torch.float32),
        ({}, torch.float32),
    ],
    ids=str,
)
def test_auto_precision_is_bfloat16_where_the_processor_computes_in_it(monkeypatch, capable, taken):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capable)
    assert devices.choose_precision("auto", CPU) == taken


@pytest.mark.parametrize(("supported", "taken"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_precision_on_cuda_is_float16_before_ampere(monkeypatch, supported, taken):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)
    assert devices.choose_precision("auto", torch.device("cuda")) == taken


def test_the_device_is_described_in_words():
    assert devices.describe("cpu").startswith("cpu (")
    assert f"{torch.get_num_threads()} threads" in devices.describe("cpu")


def test_waiting_for_the_processor_returns():
    devices.synchronise(CPU)
