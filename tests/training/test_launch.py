"""Processes that `launch` starts for one training: their files, their errors and their end."""

import locale
import os
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch

from lib.data.arrays import open_arrays
from lib.models import devices
from lib.study import environment, files
from lib.training import launch
from tests import builders, builders_tasks
from tests.builders import NETWORK, one_thread, training_params  # noqa: F401
from tests.builders_tasks import STABLE, contents, parts_of
from tests.training.test_interruption import ctrl_c  # noqa: F401

KEYS = {"epochs": 4, "batch_size": 3, "learning_rate": 0.003, "processes": 2}  # of 8 training images
START_AND_WAIT = """
import sys
from pathlib import Path
from lib.data.arrays import open_arrays
from tests.training import test_launch
test_launch.train(Path(sys.argv[1]), open_arrays(sys.argv[2]), lambda line: print(line, flush=True), epochs=5000)
"""


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processed") / "arrays"
    builders_tasks.write_arrays(folder, builders.discs(12))
    return open_arrays(str(folder))


def train(folder, arrays, log, network=NETWORK, live=None, **keys):
    folder.mkdir(exist_ok=True)
    return launch.fit(training_params(**KEYS | keys), network, arrays, parts_of(arrays), folder, log, live)


def of_training(parent):
    """The processes of a training below a process, by rank."""
    below = [each for each in psutil.Process(parent).children(recursive=True) if each.status() != "zombie"]
    return {int(e.environ()["LOCAL_RANK"]): e for e in below if "LOCAL_RANK" in e.environ()}


@pytest.fixture(scope="module")
def unbroken(arrays, tmp_path_factory):
    """The folder, run, log and live lines of a training that begins beside a broken state, read in the locale of C."""
    folder, lines, shown = tmp_path_factory.mktemp("unbroken") / "Schädel", [], []
    folder.mkdir()
    (folder / "state.pt").write_bytes(b"broken")
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(environment.THREADS_VARIABLE, "3")
            run = train(folder, arrays, lines.append, live=shown.append)
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return folder, run, lines, shown


def test_two_processes_write_the_files_of_one_and_the_first_logs_their_epochs(unbroken, arrays, tmp_path):
    folder, run, lines, shown = unbroken
    alone = train(tmp_path, arrays, lambda _: None, processes=1)
    assert {each.name for each in folder.iterdir()} == {each.name for each in tmp_path.iterdir()} >= {*STABLE}
    columns = [each.history.drop(columns="best").to_numpy(float) for each in (run, alone)]
    assert columns[0] == pytest.approx(columns[1], rel=1e-2)
    assert lines[0].startswith("state.pt cannot be read: moved the rest of the run to Schädel/.set_aside/")
    assert [line[:11] for line in lines[1:]] == [f"epoch   {n}/4" for n in (1, 2, 3, 4)]
    assert shown[-1] == ""
    about = files.read_json(folder / "run.json")
    assert (about["processes"], about["threads"]) == (2, 1)  # of three cores one each
    finished = []
    assert train(folder, arrays, finished.append).best_value == run.best_value
    assert finished[0].startswith("already trained")


def test_ctrl_c_and_a_killed_rank_end_all_processes_and_the_run_resumes_to_the_same_bytes(
    unbroken,
    arrays,
    tmp_path,
    ctrl_c,  # noqa: F811
):
    started = {}

    def end_at(epoch, call):
        def log(line):
            if line.startswith(f"epoch   {epoch}/"):
                started.update(of_training(os.getpid()))
                call()

        return log

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, arrays, end_at(1, lambda: signal.raise_signal(signal.SIGINT)))
    assert len(started) == 2
    assert not any(process.is_running() for process in started.values())
    assert (tmp_path / "state.pt").is_file()

    kill = end_at(2, lambda: started[1].kill())
    with pytest.raises(
        ValueError, match=r"^rank 1 of the 2 processes that share this training was killed by SIGKILL; "
    ) as caught:
        train(tmp_path, arrays, kill)
    assert f"the log of all is {tmp_path / 'processes.log'}; run it again to resume" in str(caught.value)
    assert (tmp_path / "processes.log").stat().st_size
    assert not of_training(os.getpid())

    lines = []
    train(tmp_path, arrays, lines.append)
    assert lines[0].startswith("resuming after epoch ")
    assert contents(tmp_path) == contents(unbroken[0])


def test_an_error_of_the_training_is_raised_as_by_one_process(tmp_path):
    volumes = builders_tasks.volumes(6)
    volumes.images[volumes.rows(["patient2"])[3], 1, 5, 5] = np.nan
    builders_tasks.write_arrays(tmp_path / "arrays", volumes)
    whole = open_arrays(str(tmp_path / "arrays"))
    with pytest.raises(
        ValueError, match=r"^the image of patient2 slice 4 contains values that are not finite; rerun 02"
    ):
        train(tmp_path / "run", whole, lambda _: None, builders_tasks.of_network(in_channels=3))


@pytest.mark.slow
def test_processes_save_and_end_when_the_one_that_started_them_is_killed(arrays, tmp_path):
    command = [sys.executable, "-c", START_AND_WAIT, str(tmp_path), arrays.fingerprint]
    parent = subprocess.Popen(command, cwd=files.ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline().startswith("epoch   1/5000")
    started = of_training(parent.pid)
    parent.kill()
    parent.wait()
    assert len(started) == 2
    _, alive = psutil.wait_procs(started.values(), timeout=60)
    assert not alive
    assert (tmp_path / "state.pt").is_file()


def test_a_rank_that_raised_first_is_named_and_those_that_lost_their_connection_are_not(tmp_path):
    log, job = tmp_path / "processes.log", tmp_path / "job.json"
    log.write_text("no summary", encoding="utf-8")
    assert str(launch._failure(job, 2, log)).startswith("the 2 processes ended without an error message; ")
    for rank, at in ((0, 7.5), (1, 7.25)):
        about = {"rank": rank, "time": at, "of_user": False, "message": f"RuntimeError: of {rank}"}
        files.write_json(tmp_path / f"fault-{rank}.json", about)
    error = launch._failure(job, 2, log)
    assert isinstance(error, RuntimeError)
    assert str(error).startswith(f"rank 1 of 2 failed: RuntimeError: of 1; the log of all is {log}; ")


@pytest.mark.parametrize(
    ("device", "gpus", "visible", "expected"),
    [
        ("cpu", 4, None, ["", "", ""]),
        ("auto", 0, None, ["", "", ""]),
        ("auto", 4, None, ["0", "1", "2"]),
        ("cuda", 3, "5,GPU-1,7", ["5", "GPU-1", "7"]),
        ("cuda", 2, "0,1", "processes = 3   each needs a GPU, and 2 are available; nearest: 2"),
        ("cuda", 0, None, "processes = 3   each needs a GPU, and 0 are available; set device: cpu, or auto"),
        ("cuda:1", 4, None, "device = 'cuda:1'   cannot be shared by processes = 3; allowed: cuda"),
        ("mps", 0, None, "device = 'mps'   cannot be shared by processes = 3; allowed: cuda"),
    ],
)
def test_each_process_gets_a_gpu_of_its_own_and_too_few_are_refused(monkeypatch, device, gpus, visible, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if isinstance(expected, list):
        assert devices.for_processes(device, 3) == expected
        return
    with pytest.raises(ValueError, match="^" + expected):
        devices.for_processes(device, 3)


def on_two_gpus(test):
    skipped = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
    return pytest.mark.cuda(skipped(test))


@on_two_gpus
@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_two_gpus_train_as_one_does(arrays, tmp_path, normalisation):
    keys = {"device": "cuda", "network": builders_tasks.of_network(normalisation=normalisation)}
    histories = []
    for processes in (1, 2):
        run = train(tmp_path / str(processes), arrays, lambda _: None, processes=processes, **keys)
        histories.append(run.history["train_loss"].to_numpy())
    assert histories[1] == pytest.approx(histories[0], abs=1e-5 if normalisation == "none" else 1e-2)
