import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lib.study import files, gpus

FOUR = "".join(f"GPU {n}: NVIDIA H200 (UUID: GPU-{n}aaa-0)\n" for n in range(4))
MIXED = "GPU 0: NVIDIA A100 (UUID: GPU-a)\nGPU 1: NVIDIA T4 (UUID: GPU-b)\n"
DIVIDED = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef)
  MIG 1g.5gb      Device  1: (UUID: MIG-cba663e8)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-7e8a)
"""
WAITING = """
import os, sys
from lib.study import gpus
with gpus.reserved("auto", int(sys.argv[1])):
    print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def listing(monkeypatch, tmp_path):
    """Writes an nvidia-smi that lists these GPUs, first in PATH; locks are in a folder of their own."""

    def write(text: str, status: int = 0) -> Path:
        command = tmp_path / "bin" / "nvidia-smi"
        files.write_text(command, f"#!/bin/sh\ntest \"$1\" = -L && cat <<'END'\n{text}END\nexit {status}\n")
        command.chmod(0o755)
        return command

    (tmp_path / "locks").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(gpus.tempfile, "gettempdir", lambda: str(tmp_path / "locks"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "locks"))  # of child processes
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return write


def test_all_gpus_are_visible_and_of_a_divided_one_its_instances(listing):
    listing(DIVIDED)
    assert gpus.visible() == ["MIG-c6d4f1ef", "MIG-cba663e8", "GPU-7e8a"]


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("1", ["GPU-7e8a"]),
        ("GPU-7e, MIG-cba663e8", ["GPU-7e8a", "MIG-cba663e8"]),
        ("0", ["MIG-c6d4f1ef"]),  # CUDA takes the first instance
        ("", []),
        ("-1", []),
    ],
)
def test_cuda_visible_devices_limits_them_by_index_uuid_its_beginning_or_instance(
    listing, monkeypatch, named, expected
):
    listing(DIVIDED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert gpus.visible() == expected


@pytest.mark.parametrize(
    ("text", "named", "message"),
    [
        (
            FOUR,
            "0,7",
            r"CUDA_VISIBLE_DEVICES: '7' is no GPU of this machine; found: 0 NVIDIA H200 GPU-0aaa-0; 1 NVIDIA",
        ),
        (FOUR, "GPU-", r"CUDA_VISIBLE_DEVICES: 'GPU-' names several GPUs; found: "),
        (FOUR, "x", r"CUDA_VISIBLE_DEVICES: 'x' is no GPU of this machine"),
        (MIXED, "1", r"index 1, but CUDA counts GPUs of different models in another order .* CUDA_DEVICE_ORDER=PCI"),
    ],
)
def test_an_entry_that_names_no_single_gpu_is_refused_with_those_found(listing, monkeypatch, text, named, message):
    listing(text)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    with pytest.raises(ValueError, match=message):
        gpus.visible()


def test_indices_of_different_models_are_those_of_nvidia_smi_if_cuda_counts_by_bus(listing, monkeypatch):
    listing(MIXED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert gpus.visible() == ["GPU-b", "GPU-a"]


def test_without_a_working_driver_there_are_no_gpus(listing, monkeypatch):
    listing(FOUR, status=9)
    assert gpus.visible() == []
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpus.visible() == []


def test_a_driver_that_does_not_answer_is_named(listing, monkeypatch):
    command = listing(FOUR)
    command.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(gpus, "ANSWER_SECONDS", 0.2)
    with pytest.raises(ValueError, match=r"nvidia-smi -L did not answer within 0.2 s; is the driver in order"):
        gpus.visible()


@pytest.mark.parametrize(
    ("device", "given", "expected"),
    [("auto", None, 4), ("cuda", "3", 3), ("auto", "0", 0), ("cpu", None, 0), ("cpu", "0", 0), ("mps", None, 0)],
)
def test_a_study_uses_all_gpus_or_as_many_as_are_given(listing, device, given, expected):
    listing(FOUR)
    assert gpus.usable(device, given) == [f"GPU-{n}aaa-0" for n in range(expected)]


def test_a_study_that_names_its_gpu_uses_that_one(listing):
    listing(FOUR)
    assert gpus.usable("cuda:2", None) == ["GPU-2aaa-0"]


@pytest.mark.parametrize(
    ("text", "device", "given", "allowed"),
    [
        (FOUR, "auto", "5", r"a whole number from 0 to 4 \(4 found\)"),
        (FOUR, "cuda", "0", r"a whole number from 1 to 4 \(4 found\)"),
        (FOUR, "auto", "-1", r"a whole number from 0 to 4"),
        (FOUR, "auto", "two", r"a whole number from 0 to 4"),
        (FOUR, "auto", "", r"a whole number from 0 to 4"),
        (FOUR, "auto", "1.5", r"a whole number from 0 to 4"),
        ("", "auto", "1", r"only 0, or leave it out \(nvidia-smi lists no GPU\)"),
        (FOUR, "cpu", "1", r"only 0, or leave it out \(the study's key device is 'cpu'"),
        (FOUR, "cuda:1", "2", r"leave it out \(the study's key device is 'cuda:1'"),
        (FOUR, "cuda:1", "0", r"leave it out \(the study's key device is 'cuda:1'"),
        ("", "mps", "0", r"leave it out \(the study's key device is 'mps'"),
        ("", "cuda", "0", r"leave it out \(nvidia-smi lists no GPU\)"),
    ],
)
def test_a_number_of_gpus_that_machine_or_study_does_not_allow_is_refused(listing, text, device, given, allowed):
    listing(text)
    with pytest.raises(ValueError, match=rf"gpus = {given}   not allowed; {allowed}"):
        gpus.usable(device, given)


def test_hidden_gpus_are_said_to_be_hidden(listing, monkeypatch):
    listing(FOUR)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ValueError, match="none found; CUDA_VISIBLE_DEVICES is ''"):
        gpus.usable("auto", "1")


def start(count: int = 1) -> subprocess.Popen:
    """A process that reserves GPUs, prints them and holds them until it gets a line."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", WAITING, str(count)], cwd=files.ROOT, **pipes)


def test_each_process_gets_its_own_gpu_and_a_killed_one_frees_it(listing):
    listing(FOUR)
    holding = [start() for _ in range(4)]
    try:
        own = [process.stdout.readline().strip() for process in holding]
        assert sorted(own) == [f"GPU-{n}aaa-0" for n in range(4)]
        holding.append(fifth := start())
        assert fifth.stdout.readline().startswith("waiting for 1 free GPU of 4: GPU-0aaa-0, ")
        holding[2].send_signal(signal.SIGKILL)
        assert fifth.stdout.readline().strip() == own[2]
        holding.append(pair := start(2))  # takes none while only one is free, so that it does not block others
        assert pair.stdout.readline().startswith("waiting for 2 free GPUs of 4: ")
        holding[0].communicate("\n")
        holding.append(single := start())
        assert single.stdout.readline().strip() == own[0]
        for process in (single, holding[1]):
            process.communicate("\n")
        assert pair.stdout.readline().strip() == ",".join(sorted([own[0], own[1]]))
    finally:
        for process in holding:
            process.kill()
            process.communicate()


def test_a_named_gpu_is_locked_and_all_stay_visible_and_what_was_visible_is_so_again_afterwards(listing, monkeypatch):
    listing(FOUR)
    with gpus.reserved("cuda:1", 1):
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
        assert gpus._try_one(gpus.lock_file("GPU-1aaa-0")) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,2")
    with gpus.reserved("auto", 1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-3aaa-0"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,2"


def test_the_lock_of_another_user_can_be_held_and_a_link_in_its_place_is_not_followed(listing, tmp_path):
    listing(FOUR)
    path = gpus.lock_file("GPU-0aaa-0")
    path.touch(mode=0o444)
    with gpus.reserved("auto", 1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-0aaa-0"
    gpus.lock_file("GPU-1aaa-0").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        gpus._try_one(gpus.lock_file("GPU-1aaa-0"))
    assert not (tmp_path / "victim").exists()


def test_a_step_without_a_gpu_waits_for_none(listing, monkeypatch):
    listing(FOUR)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with gpus.reserved("auto", 0):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
