"""Trainings side by side: the project's Snakefile with a small program in place of the notebooks, and real ones."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import torch

from lib import pipeline
from lib.models import devices as on_machine
from lib.study import environment, files, params, shares, steps
from tests.conftest import TERMINAL, copy_code, python, set_keys, write_phantom
from tests.conftest import environment as environment_of

PATIENCE_SECONDS = 300
FOLDS = [f"04_training/fold{fold}-seed0" for fold in range(5)]
# Stands for a notebook: takes its GPU as a step does, logs start and end, and writes a record. Trainings wait until as
# many as expected run at once, so that fewer at once end in an error and more are seen in the log.
PROGRAM = """
import os, sys, time
from pathlib import Path
from lib.study import environment, gpus
label, cores, count, root, at_once = sys.argv[1], *sys.argv[2:4], Path(sys.argv[4]), int(sys.argv[5])
def log(what):
    with (root / "log").open("a") as file:
        file.write(f"{what} {label} {cores} {os.environ.get('CUDA_VISIBLE_DEVICES')}\\n")
with gpus.reserved("auto", int(count)):
    log("start")
    end = time.monotonic() + 60
    while "training" in label and (root / "log").read_text().count("start 04_training") < at_once:
        if time.monotonic() > end:
            sys.exit("too few trainings at once")
        time.sleep(0.02)
    time.sleep(0.2 * ("training" in label))
    log("end")
Path(label, "record.json").touch()
"""


def run_rules(study: params.Study, folder: Path, cores: int, devices: int, at_once: int) -> list[list[str]]:
    """Runs every rule of the Snakefile with PROGRAM; words of the log: start or end, step, threads, GPUs."""
    share = shares.share(study, cores, devices, on_processor=not devices)
    assert share.at_once == at_once
    files.write_text(folder / "program.py", PROGRAM)
    text = (files.ROOT / "Snakefile").read_text(encoding="utf-8")
    text, count = re.subn(
        r'return f"\{PYTHON\} -m lib step \{study.study\} \{step\} --cores (\S+) --gpus (\S+)"',
        rf'return f"{{PYTHON}} {folder}/program.py {{step}} \1 \2 {folder} {at_once}"',
        text,
    )
    assert count == 1
    text, count = re.subn(
        r'f"\{PYTHON\} -m lib report \{study.study\}"',
        f'f"{{PYTHON}} {folder}/program.py report 1 0 {folder} 1"',
        text,
    )
    assert count == 1
    files.write_text(folder / "Snakefile", text)
    command = pipeline._command(study, folder, cores, share, pipeline._options(cores, devices))
    command[command.index("--snakefile") + 1] = str(folder / "Snakefile")
    with (folder / "lock").open("w") as lock:
        status, output = pipeline._snakemake(command, folder, environment.for_children(cores), lock.fileno())
    assert status == 0, output
    return [line.split() for line in (folder / "log").read_text().splitlines()]


def most_at_once(log: list[list[str]]) -> int:
    """Largest number of steps that had started and not ended."""
    running, most = 0, 0
    for what, *_ in log:
        running += 1 if what == "start" else -1
        most = max(most, running)
    return most


@pytest.fixture
def four_gpus(monkeypatch, tmp_path) -> None:
    """An nvidia-smi that lists four GPUs, and a folder of their locks."""
    listing = "".join(f"GPU {n}: NVIDIA H200 (UUID: GPU-{n})\n" for n in range(4))
    command = tmp_path / "bin" / "nvidia-smi"
    files.write_text(command, f"#!/bin/sh\ncat <<'END'\n{listing}END\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(environment, "free_memory_mb", lambda: 64_000)


def test_five_folds_on_four_gpus_train_four_at_once_each_on_its_own(four_gpus, tmp_path):
    study = params.read_study(files.study_file("busi_quick"))
    log = run_rules(study, tmp_path, cores=8, devices=4, at_once=4)
    trainings = [line for line in log if line[1] in FOLDS]
    assert most_at_once(trainings) == most_at_once(log) == 4
    assert Counter(line[1] for line in trainings) == dict.fromkeys(FOLDS, 2)
    held: set[str] = set()
    for what, _, threads, gpu in trainings:
        assert threads == "2"
        assert (gpu in held) == (what == "end")
        held ^= {gpu}
    assert {line[3] for line in trainings} == {f"GPU-{n}" for n in range(4)}
    order = [step.label for step in steps.study_steps(study)]
    others = [line for line in log if line[1] not in FOLDS and line[0] == "start"]
    assert [line[1] for line in others] == [label for label in order if label not in FOLDS]
    assert {line[1]: line[2] for line in others} == {line[1]: "1" if line[1] == "report" else "8" for line in others}
    assert [line[1] for line in others if line[3] != "None"] == ["03_model", "05_evaluation"]
    last = max(index for index, line in enumerate(log) if line[1] in FOLDS)
    assert log[last + 1][:2] == ["start", "05_evaluation"]  # never beside a training


def test_folds_share_the_cores_of_a_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "free_memory_mb", lambda: 64_000)
    study = params.read_study(files.study_file("busi_quick"))
    log = [line for line in run_rules(study, tmp_path, cores=16, devices=0, at_once=5) if line[1] in FOLDS]
    assert most_at_once(log) == 5
    assert {line[2] for line in log} == {"3"}


def test_little_memory_starts_fewer_at_once_with_the_same_threads(tmp_path, monkeypatch):
    study = params.read_study(files.study_file("busi_quick"))
    share = shares.Share(1, 3, 0)  # what the program waits for
    monkeypatch.setattr(environment, "free_memory_mb", lambda: shares.memory_mb(study, 0) * 2 - 1)
    monkeypatch.setattr(shares, "share", lambda *_, **__: share)
    log = [line for line in run_rules(study, tmp_path, 16, 0, 1) if line[1] in FOLDS]
    assert most_at_once(log) == 1
    assert {line[2] for line in log} == {"3"}


@pytest.mark.parametrize(
    ("device", "listed", "given", "chosen", "expected"),
    [
        ("auto", ["GPU-0"], None, "cuda", False),
        ("auto", ["GPU-0"], None, "cpu", True),  # torch was built without CUDA
        ("auto", [], None, "cpu", True),
        ("auto", [], None, "mps", False),
        ("auto", [], "0", "cuda", True),
        ("cpu", [], None, "cuda", True),
        ("cuda", ["GPU-0"], None, "cuda", False),
        ("cuda:1", ["GPU-1"], None, "cuda", False),
    ],
)
def test_trainings_share_the_cores_where_torch_computes_on_them(monkeypatch, device, listed, given, chosen, expected):
    study = params.read_study(files.study_file("busi_quick")).model_copy(update={"device": device})
    monkeypatch.setattr(on_machine, "choose", lambda name: torch.device(chosen))
    assert pipeline._computes_on_processor(study, listed, given) is expected


@pytest.fixture(scope="module")
def two_folds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a study of two folds that has not run."""
    folder = tmp_path_factory.mktemp("folds") / "a project"
    copy_code(folder)
    saving = folder / "lib" / "training" / "saving.py"
    saving.write_text(saving.read_text().replace("SECONDS = 60.0", "SECONDS = 0.0"))
    write_phantom(folder, "phantom_brain", 9)
    set_keys(folder, folds="[0, 1]", epochs="30", device="cpu")
    return folder


@pytest.mark.slow
def test_ctrl_c_stops_two_trainings_and_both_resume_side_by_side(two_folds):
    command = [sys.executable, "-m", "lib", "study", "tiny", "--cores", "2"]
    runs = [two_folds / "reports/tiny" / label for label in FOLDS[:2]]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | TERMINAL
    running = subprocess.Popen(command, cwd=two_folds, env=environment_of(two_folds), **options)
    end = time.monotonic() + PATIENCE_SECONDS
    while not all((run / "state.pt").exists() for run in runs):
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < end, "the trainings did not run side by side"
        time.sleep(0.02)
    children = psutil.Process(running.pid).children(recursive=True)
    os.killpg(running.pid, signal.SIGINT)
    printed = running.communicate(timeout=PATIENCE_SECONDS)[0]
    assert running.returncode == 130
    assert "2 trainings, at most 2 at once, if memory allows, each with 1 thread\n" in printed
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert not any((run / "record.json").exists() for run in runs)
    done = python(two_folds, *command[1:])
    assert done.returncode == 0, done.stdout + done.stderr
    for run in runs:
        assert f"{run.name}: resuming after epoch " in done.stdout
        assert re.search(rf"^{run.name}: .*30/30", done.stdout, flags=re.MULTILINE)
        assert files.read_json(run / "run.json")["threads"] == 1


@pytest.mark.slow
def test_a_training_that_fails_is_said_at_once_and_the_other_ends_whole(two_folds, tmp_path):
    set_keys(two_folds, epochs="6")
    notebook = two_folds / "notebooks" / "04_training.ipynb"
    text = notebook.read_text(encoding="utf-8")
    failing = text.replace(
        '"run = loop.fit(', '"if page.params.fold == 1: raise ValueError(\'planted\')\\n",\n    "run = loop.fit('
    )
    assert failing != text
    notebook.write_text(failing, encoding="utf-8")
    done = python(two_folds, "-m", "lib", "study", "tiny", "--cores", "2")
    notebook.write_text(text, encoding="utf-8")
    assert done.returncode == 1
    assert (
        "fold1-seed0: failed; trainings that are running go on to their end, and no other one starts\n" in done.stdout
    )
    assert done.stderr.startswith("04_training/fold1-seed0 of study tiny failed; see the executed notebook: ")
    assert done.stderr.endswith("planted\n")
    assert (two_folds / "reports/tiny" / FOLDS[0] / "record.json").exists()
    assert not (two_folds / "reports/tiny" / FOLDS[1] / "record.json").exists()
