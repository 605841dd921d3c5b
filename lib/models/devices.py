"""Device and numerical precision."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def choose(device: str) -> torch.device:
    """The device of a study file; `auto` prefers CUDA, then MPS, then the CPU. ValueError: it is not available."""
    available = _available()
    listed = ", ".join(available)
    if device not in [*available, "auto"]:
        raise ValueError(f"device = {device!r}   not available on this machine; available: {listed}")
    chosen = torch.device(available[0] if device == "auto" else device)
    try:
        torch.zeros(1, device=chosen)
    except RuntimeError as error:  # in exclusive use by another process, no memory left, a driver that is too old
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"device = {device!r}   {chosen} cannot be used: {reason}; available: {listed}") from error
    return chosen


def _available() -> list[str]:
    """Names of the devices of this machine, the one that `auto` prefers first."""
    available = ["cuda"] if torch.cuda.is_available() else []
    available += [f"cuda:{index}" for index in range(torch.cuda.device_count() if available else 0)]
    available += ["mps"] if torch.backends.mps.is_available() else []
    return [*available, "cpu"]


def for_processes(device: str, processes: int) -> list[str]:
    """The GPU of each of the processes that share a training, for CUDA_VISIBLE_DEVICES; "" on a CPU.

    ValueError: fewer GPUs, or a device that cannot be shared. No GPU is used here: each is left to its process.
    """
    name = _available()[0] if device == "auto" else device
    if name == "cpu":
        return [""] * processes
    if name != "cuda":
        raise ValueError(
            f"device = {device!r}   cannot be shared by processes = {processes}; allowed: cuda (one GPU for each "
            "process), cpu; or set processes: 1"
        )
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if processes > found:
        raise ValueError(
            f"processes = {processes}   each needs a GPU, and {found} are available; "
            + (f"nearest: {found}" if found else "set device: cpu, or auto")
        )
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return (listed.split(",") if listed else [str(index) for index in range(found)])[:processes]


@contextmanager
def configured(device: torch.device, deterministic: bool) -> Iterator[None]:
    """On CUDA, within the block: deterministic algorithms, or else the fastest convolution for each shape.

    float32 is not rounded to TF32 (10 bits of mantissa), and the device is the current one. An operation without a
    deterministic variant only warns: max-unpooling is one because indices could repeat, which those of 2x2 pooling
    do not.
    """
    if device.type != "cuda":
        yield
        return
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required; read when cuBLAS starts
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    settings = torch.utils.deterministic
    fills = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = False  # costs time, and no value depends on it
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    cudnn = {"benchmark": not deterministic, "deterministic": deterministic, "allow_tf32": False}
    try:
        with torch.cuda.device(device), torch.backends.cudnn.flags(enabled=True, **cudnn):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        settings.fill_uninitialized_memory = fills


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """Data type of the convolutions; weights and losses stay float32.

    `auto`: bfloat16 where it is faster (CPUs with AMX, CPUs other than Intel's with AVX-512 BF16, CUDA from Ampere
    on), float16 on older CUDA devices, else float32. Intel's AVX-512 BF16 is slower than float32: docs/performance.md.
    """
    if precision == "float16" and device.type != "cuda":
        raise ValueError(f"precision = 'float16'   requires CUDA; the device is {device.type}; nearest: bfloat16")
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    capable = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    is_intel = "Intel" in capable.get("cpu_name", "")
    is_faster = capable.get("amx_bf16") or (capable.get("avx512_bf16") and not is_intel)
    return torch.bfloat16 if is_faster else torch.float32


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
