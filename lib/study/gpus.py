"""NVIDIA GPUs of this machine: which may be used, and a lock on each, so that two steps never share one.

A lock holds between processes of this project, of every user of the machine; other programs do not know of it.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
ANSWER_SECONDS = 60  # limit for nvidia-smi, which takes up to a few seconds
POLL_SECONDS = 1.0
GPU_LINE = re.compile(r"GPU (\d+): (.+) \(UUID: (GPU-[^)]+)\)")
PART_LINE = re.compile(r"\s+MIG (.+?)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)")


@dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi lists it."""

    index: int
    name: str
    uuid: str
    parts: tuple[str, ...]  # UUIDs of its MIG instances, if it is divided into them; a process can use only one

    @property
    def devices(self) -> list[str]:
        """UUIDs of what a process can use: its instances or, undivided, the GPU."""
        return list(self.parts) or [self.uuid]


def parse(listing: str) -> list[Gpu]:
    """The GPUs in the output of `nvidia-smi -L`."""
    found: list[Gpu] = []
    for line in listing.splitlines():
        if gpu := GPU_LINE.match(line):
            found.append(Gpu(int(gpu[1]), gpu[2], gpu[3], ()))
        elif part := PART_LINE.match(line):
            last = found.pop()
            found.append(Gpu(last.index, last.name, last.uuid, (*last.parts, part[2])))
    return found


def installed() -> list[Gpu]:
    """All GPUs of this machine; none without nvidia-smi, or where it fails. ValueError if it does not answer."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        done = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{command} -L did not answer within {ANSWER_SECONDS} s; is the driver in order?") from error
    return parse(done.stdout) if done.returncode == 0 else []


def visible() -> list[str]:
    """UUIDs of the devices that this process may use: those in CUDA_VISIBLE_DEVICES, in its order, or else all.

    Entries are indices, UUIDs or their beginnings, and names of MIG instances. ValueError for one that is none.
    """
    gpus, named = installed(), os.environ.get(VISIBLE_VARIABLE)
    if named is None or not gpus:
        return [device for gpu in gpus for device in gpu.devices]
    entries = [entry.strip() for entry in named.split(",")]
    return [] if entries[0] in ("", "-1", "NoDevFiles") else [_uuid(entry, gpus) for entry in entries]


def _uuid(entry: str, gpus: list[Gpu]) -> str:
    """UUID of the device that an entry of CUDA_VISIBLE_DEVICES names."""
    if entry.isdecimal():
        if len({gpu.name for gpu in gpus}) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
            raise ValueError(
                f"{VISIBLE_VARIABLE} has the index {entry}, but CUDA counts GPUs of different models in another order "
                f"than nvidia-smi; set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name UUIDs; found: {describe(gpus)}"
            )
        named = [gpu.devices[0] for gpu in gpus if gpu.index == int(entry)]
    else:
        named = [device for gpu in gpus for device in {gpu.uuid, *gpu.parts} if device.startswith(entry)]
    if len(named) != 1:
        fault = "names several GPUs" if named else "is no GPU of this machine"
        raise ValueError(f"{VISIBLE_VARIABLE}: {entry!r} {fault}; found: {describe(gpus)}")
    return named[0]


def describe(gpus: list[Gpu]) -> str:
    """GPUs in words, with their instances."""
    return "; ".join(f"{gpu.index} {gpu.name} {', '.join((gpu.uuid, *gpu.parts))}" for gpu in gpus) or "none"


def usable(device: str, given: str | None) -> list[str]:
    """UUIDs of the devices for a study's key `device`; at most `given` of them, if it is given (GPUS= of make).

    With `cuda:<index>` the study itself names one. ValueError for a number that this machine or study does not allow.
    """
    devices = visible() if device == "auto" or device.startswith("cuda") else []
    if given is None:
        return devices[_index(device) :][:1] if ":" in device else devices
    if device not in ("auto", "cuda", "cpu"):
        raise ValueError(
            f"gpus = {given}   not allowed; leave it out (the study's key device is {device!r}, which leaves nothing "
            "to choose)"
        )
    least, most, found = int(device == "cuda"), len(devices), f"{len(devices)} found"
    if device == "cpu":
        found = "the study's key device is 'cpu'"
    elif not devices:
        hidden = os.environ.get(VISIBLE_VARIABLE)
        found = "nvidia-smi lists no GPU" if hidden is None else f"none found; {VISIBLE_VARIABLE} is {hidden!r}"
    if not re.fullmatch(r"[0-9]{1,4}", given) or not least <= int(given) <= most:
        none = "leave it out" if least else "only 0, or leave it out"
        allowed = f"a whole number from {least} to {most}" if most else none
        raise ValueError(f"gpus = {given}   not allowed; {allowed} ({found})")
    return devices[: int(given)]


def _index(device: str) -> int:
    return int(device.partition(":")[2])


# --- locks


@contextmanager
def reserved(device: str, count: int, log: Callable[[str], None] = print) -> Iterator[None]:
    """Waits for `count` free devices of those visible, and makes them the only visible ones within the block.

    The operating system frees them when this process ends, however it ends. With `cuda:<index>` the device of the
    study is locked and all stay visible, since the index counts them.
    """
    candidates = usable(device, None) if count else []
    before = os.environ.get(VISIBLE_VARIABLE)
    with _locked(candidates, min(count, len(candidates)), log) as own:
        if own and ":" not in device:
            os.environ[VISIBLE_VARIABLE] = ",".join(own)
        try:
            yield
        finally:
            os.environ.pop(VISIBLE_VARIABLE, None)
            os.environ.update({} if before is None else {VISIBLE_VARIABLE: before})


@contextmanager
def _locked(candidates: list[str], count: int, log: Callable[[str], None]) -> Iterator[list[str]]:
    """Locks `count` of the candidates, all or none at a time: two that each held a part would wait for ever."""
    held: dict[str, int] = {}
    try:
        while len(held := _try_all(candidates, count)) < count:
            if log is not None:
                log(f"waiting for {count} free GPU{'s' * (count > 1)} of {len(candidates)}: {', '.join(candidates)}")
                log = None
            time.sleep(POLL_SECONDS)
        yield list(held)
    finally:
        _release(held)


def _try_all(candidates: list[str], count: int) -> dict[str, int]:
    """Locked file descriptors of the first `count` free candidates, by UUID; none if fewer are free."""
    held: dict[str, int] = {}
    for uuid in candidates:
        if len(held) == count:
            break
        descriptor = _try_one(lock_file(uuid))
        if descriptor is not None:
            held[uuid] = descriptor
    if len(held) < count:
        _release(held)
        return {}
    return held


def _release(held: dict[str, int]) -> None:
    for descriptor in held.values():
        os.close(descriptor)


def _try_one(path: Path) -> int | None:
    """Locked descriptor of a file, or None if another process holds its lock. Reading suffices to lock it."""
    import fcntl  # not on Windows, where no study runs

    flags = os.O_RDONLY | os.O_NOFOLLOW  # anybody may write to the folder
    with suppress(FileExistsError):
        created = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
        os.fchmod(created, 0o644)  # whatever the user's umask: others lock it too
        os.close(created)
    descriptor = os.open(path, flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def lock_file(uuid: str) -> Path:
    """The lock of a device: on this machine's own disk, for all of its users; never removed."""
    return Path(tempfile.gettempdir()) / f"fetal-thesis-{uuid.replace('/', '-')}.lock"
