"""Device and numerical precision."""

import platform

import torch


def choose(device: str) -> torch.device:
    """The device of a study file; `auto` prefers CUDA, then MPS, then the CPU. ValueError: it is not available."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    devices = [name for name, is_present in present.items() if is_present]
    if device not in [*devices, "auto"]:
        raise ValueError(f"device = {device!r}   not available on this machine; available: {devices}")
    return torch.device(devices[0] if device == "auto" else device)


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """Data type of the convolutions; weights and losses stay float32.

    `auto`: bfloat16 where the hardware supports it (CPU with AVX-512 BF16 or AMX, CUDA from Ampere on), float16 on
    older CUDA devices, else float32. On such a CPU bfloat16 was about twice as fast, and reproducible to the byte.
    """
    if precision == "float16" and device.type != "cuda":
        raise ValueError(f"precision = 'float16'   requires CUDA; the device is {device.type}; nearest: bfloat16")
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    capable = device.type == "cpu" and torch.cpu.get_capabilities()
    if capable and (capable.get("avx512_bf16") or capable.get("amx_bf16")):
        return torch.bfloat16
    return torch.float32


def describe(device: str) -> str:
    """Name of the device for a step's record."""
    chosen = choose(device)
    if chosen.type == "cuda":
        return torch.cuda.get_device_name(chosen)
    return f"{chosen.type} ({platform.machine()}, {torch.get_num_threads()} threads)"


def synchronise(device: torch.device) -> None:
    """Waits for queued work, so that timings are correct."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
