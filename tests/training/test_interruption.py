"""Trainings that are interrupted, run out of memory or disk space, or meet values that are not finite."""

import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from lib.models import inference
from lib.study import files
from lib.training import batches, loop, memory, saving
from lib.training.state import TrainingState
from tests import builders, builders_tasks
from tests.builders import one_thread, training_params  # noqa: F401
from tests.builders_tasks import contents, fit, of_network, parts_of

WHOLE_GROUP = """
import os, signal, sys
from pathlib import Path
from tests.training import test_interruption
test_interruption.torch.set_num_threads(1)
test_interruption.raise_at(3, lambda: [os.killpg(os.getpid(), signal.SIGTERM) for _ in range(2)])
test_interruption.train(Path(sys.argv[1]), workers={workers})
"""
FAILS = """
import sys
from pathlib import Path
from tests.training import test_interruption
test_interruption.raise_at(3, lambda: sys.not_a_name)
test_interruption.train(Path(sys.argv[1]), workers=2)
"""
WITHOUT_STATISTICS = of_network(normalisation="none")
KEYS = {"epochs": 3, "batch_size": 2, "learning_rate": 0.003}  # of 8 training images


def train(folder, **keys):
    """A training that saves by time, that is, only when it is interrupted."""
    lines, arrays = [], builders.discs(12)
    loop.fit(training_params(**(KEYS | keys)), builders.NETWORK, arrays, parts_of(arrays), folder, lines.append)
    return lines


@pytest.mark.parametrize("workers", [0, 2])
def test_a_process_group_that_is_told_twice_to_end_saves_its_state(tmp_path, unbroken, workers):
    code = WHOLE_GROUP.format(workers=workers)
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=files.ROOT, start_new_session=True)
    assert child.wait(120) == -signal.SIGTERM
    assert train(tmp_path)[0] == "resuming after epoch 0 and 3 batches of the next"
    assert contents(tmp_path) == unbroken


def test_an_error_ends_a_training_and_its_loader_processes(tmp_path):
    command = [sys.executable, "-c", FAILS, str(tmp_path)]
    ended = subprocess.run(command, cwd=files.ROOT, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert (ended.returncode, "AttributeError" in ended.stderr) == (1, True)


def test_a_loader_process_that_dies_during_a_validation_is_reported(tmp_path, monkeypatch):
    real = loop.validate

    def validate(*given):
        for process in multiprocessing.active_children():
            process.kill()
        time.sleep(5)  # ended by the error
        return real(*given)

    monkeypatch.setattr(loop, "validate", validate)
    with pytest.raises(ValueError, match=r"a data loader process died \(DataLoader worker \(pid.*: set fewer workers"):
        train(tmp_path, workers=1)


def in_child(folder, prepare=lambda: None, **keys):
    """Exit code of a training in a child process; negative for a signal."""
    child = os.fork()
    if not child:
        try:
            prepare()
            train(folder, **keys)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def raise_at(number, call):
    """Calls a function when the n-th batch of the training is loaded, counted from 1."""
    real, left = batches.timed, iter(range(1, number))

    def timed(loaded):
        for batch in real(loaded):
            call() if next(left, None) is None else None
            yield batch

    batches.timed = timed


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    train(folder)
    return contents(folder)


@pytest.mark.parametrize(
    ("batch", "resumed"), [(2, "epoch 0 and 2 batches"), (4, "epoch 0 and 4"), (6, "epoch 1 and 2")]
)
def test_a_training_that_is_told_to_end_saves_its_state_within_the_epoch_and_resumes_to_the_same_bytes(
    tmp_path, unbroken, batch, resumed
):
    stop = lambda: raise_at(batch, lambda: os.kill(os.getpid(), signal.SIGTERM))  # noqa: E731
    assert in_child(tmp_path, stop) == -signal.SIGTERM
    assert train(tmp_path)[0].startswith(f"resuming after {resumed}")
    assert contents(tmp_path) == unbroken


@pytest.fixture
def ctrl_c():
    """SIGINT as in a terminal; it is ignored in the background jobs of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_during_the_last_save_takes_effect_after_it(tmp_path, unbroken, monkeypatch, ctrl_c):
    real = TrainingState.save
    monkeypatch.setattr(TrainingState, "save", lambda *given: (real(*given), signal.raise_signal(signal.SIGINT)))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    monkeypatch.undo()
    assert train(tmp_path)[0] == "resuming after epoch 3"
    assert contents(tmp_path) == unbroken


def test_ctrl_c_saves_the_state_and_a_second_one_acts_at_once(tmp_path, unbroken, monkeypatch, ctrl_c):
    handlers = [signal.getsignal(number) for number in saving.SIGNALS]
    monkeypatch.setattr(batches, "timed", batches.timed)
    raise_at(3, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    assert [signal.getsignal(number) for number in saving.SIGNALS] == handlers
    monkeypatch.undo()
    state = (tmp_path / "state.pt").read_bytes()
    monkeypatch.setattr(batches, "timed", batches.timed)
    raise_at(2, lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)])
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    assert (tmp_path / "state.pt").read_bytes() == state
    monkeypatch.undo()
    assert train(tmp_path)[0] == "resuming after epoch 0 and 3 batches of the next"
    assert contents(tmp_path) == unbroken


@pytest.mark.slow
def test_twenty_kills_at_random_moments_end_in_the_same_bytes(tmp_path, unbroken):
    draw, started = np.random.default_rng(0), time.monotonic()
    train(tmp_path / "whole")
    seconds = time.monotonic() - started

    def kill_later():
        saving.SECONDS = 0.0
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.02, seconds))

    ends = []
    for number in range(20):
        draw.random()  # the child's draws are lost
        ends.append(in_child(tmp_path / f"run{number // 4}", kill_later))
    assert set(ends) <= {0, -signal.SIGKILL}
    assert ends.count(-signal.SIGKILL) >= 10
    for number in range(5):
        train(tmp_path / f"run{number}")
        assert contents(tmp_path / f"run{number}") == unbroken


def test_a_full_disk_is_reported_by_the_file_s_name_and_the_earlier_state_remains(tmp_path, monkeypatch):
    fit(tmp_path, stop_after=1)
    before = (tmp_path / "state.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match=r"state\.pt") as caught:
            fit(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert (tmp_path / "state.pt").read_bytes() == before
    assert not list(tmp_path.glob(".writing*"))


def run_out_of_memory(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore")


def limit_memory(monkeypatch, images, in_training=(True, False)):
    """A device on which a forward pass of more images, in training or in evaluation mode, runs out of memory."""
    real = inference.forward

    def forward(network, inputs, precision):
        if len(inputs) > images and network.training in in_training:
            run_out_of_memory()
        return real(network, inputs, precision)

    monkeypatch.setattr(inference, "forward", forward)


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.5, 2.0]])
def test_without_memory_for_a_batch_its_gradient_is_accumulated_over_portions(tmp_path, monkeypatch, weights):
    keys = {"batch_size": 8, "deterministic": False, "cross_entropy_class_weights": weights, "focal_weight": 0.5}
    keys |= {"optimizer": "adamw", "epochs": 2}
    whole, _ = fit(tmp_path / "whole", builders.discs(12), network=WITHOUT_STATISTICS, **keys)
    limit_memory(monkeypatch, 3)
    parts, lines = fit(tmp_path / "parts", builders.discs(12), network=WITHOUT_STATISTICS, **keys)
    assert parts.history.to_numpy(float) == pytest.approx(whole.history.to_numpy(float), rel=1e-3)
    assert [files.read_json(tmp_path / name / "run.json")["portion"] for name in ("whole", "parts")] == [None, 2]
    assert any(
        line.startswith("out of memory: each batch of 8 images is now processed in portions of 2") for line in lines
    )


def test_a_validation_without_memory_for_a_batch_leaves_the_steps_of_training_whole(tmp_path, monkeypatch):
    keys = {"batch_size": 8, "deterministic": False, "epochs": 3}
    whole, _ = fit(tmp_path / "whole", builders.discs(24), **keys)
    limit_memory(monkeypatch, 3, in_training=[False])
    parts, lines = fit(tmp_path / "parts", builders.discs(24), **keys)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]
    assert parts.history.to_numpy(float) == pytest.approx(whole.history.to_numpy(float), rel=1e-5)
    assert files.read_json(tmp_path / "parts" / "run.json")["portion"] is None
    assert [line[:10] for line in lines] == ["epoch   1/", "epoch   2/", "epoch   3/"]


@pytest.mark.parametrize(("owner", "name"), [(torch.nn.utils, "clip_grad_norm_"), (loop, "validate")])
def test_too_little_memory_beside_the_passes_of_the_network_is_refused_with_advice(tmp_path, monkeypatch, owner, name):
    monkeypatch.setattr(owner, name, run_out_of_memory)
    with pytest.raises(
        ValueError,
        match=r"^cpu: too little memory \(CUDA out of memory. Tried to allocate 2.00 GiB\); set a smaller batch_size, ",
    ):
        fit(tmp_path, gradient_clip=1.0, deterministic=False)


def test_too_little_memory_for_a_deterministic_batch_or_for_one_image_is_refused(tmp_path, monkeypatch):
    limit_memory(monkeypatch, 3)
    with pytest.raises(ValueError, match="cpu: too little memory for a batch of 4 images; set a smaller batch_size"):
        fit(tmp_path)
    limit_memory(monkeypatch, 0)
    with pytest.raises(ValueError, match="cpu: too little memory for one image; set a smaller image_size"):
        fit(tmp_path, deterministic=False)


@pytest.mark.parametrize(
    ("message", "exhausted"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB", True),
        ("CUDA error: out of memory", True),
        ("MPS backend out of memory (MPS allocated: 9 GB)", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("GET was unable to find an engine to execute this computation", True),
        ("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory", True),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_a_lack_of_memory_is_recognised_by_what_the_libraries_say(message, exhausted):
    assert memory.is_exhausted(RuntimeError(message)) == exhausted


def test_portions_are_about_equal_and_other_errors_are_raised():
    state = loop.initial_state(training_params(deterministic=False), builders.NETWORK, 1, "rel")
    state.portion = 4
    assert memory.in_portions(state, 9, lambda parts: [len(each) for each in torch.zeros(9).chunk(parts)]) == [3, 3, 3]
    with pytest.raises(RuntimeError, match="mat1"):
        memory.in_portions(state, 9, lambda _: torch.zeros(2, 3) @ torch.zeros(2, 3))
    with pytest.raises(RuntimeError, match="mat1"), memory.advising(state.device):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


@pytest.mark.parametrize(("name", "part"), [("patient2", "train"), ("patient5", "validation")])
def test_a_value_that_is_not_finite_stops_the_training_by_the_name_of_its_case(tmp_path, name, part):
    arrays = builders_tasks.volumes(6)
    assert name in parts_of(arrays)[part]
    arrays.images[arrays.rows([name])[3], 1, 5, 5] = np.nan
    with pytest.raises(
        ValueError, match=rf"^the image of {name} slice 4 contains values that are not finite; rerun 02"
    ):
        fit(tmp_path, arrays, network=of_network(in_channels=3))


@pytest.mark.parametrize(("losses", "is_written"), [([0.5, 0.5], True), ([np.nan, 0.5], False), ([0.5, np.inf], False)])
def test_no_state_of_an_epoch_with_a_loss_that_is_not_finite_is_written(tmp_path, monkeypatch, losses, is_written):
    monkeypatch.setattr(saving, "SECONDS", 0.0)
    state = loop.initial_state(training_params(), builders.NETWORK, 1, "rel")
    for loss in losses:
        state.epoch.add(4, torch.tensor(loss), torch.zeros(4, dtype=torch.int64), 0.0, 1.0)
    with saving.periodic(tmp_path / "state.pt", {}) as save_if_due:
        save_if_due(state)
    assert (tmp_path / "state.pt").is_file() == is_written


def test_a_batch_larger_than_the_training_cases_is_logged(tmp_path):
    assert fit(tmp_path, epochs=1, batch_size=9)[1][0] == (
        "batch_size = 9, but only 8 training images: one batch per epoch"
    )
