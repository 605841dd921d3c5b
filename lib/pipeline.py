"""Runs a study as a graph of steps: records decide which steps are stale, Snakemake runs them in order."""

import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from lib.study import (
    cluster,
    environment,
    files,
    gpus,
    locks,
    own_files,
    params,
    raw_folders,
    shares,
    staleness,
    steps,
    study_files,
)

MOST_CORES = 1024
# All but the source cache, which would be in a home folder that may not be writable.
SHARED_FS_USAGE = ("input-output", "persistence", "software-deployment", "sources", "storage-local-copies")
ROUTINE_OUTPUT = "Assuming unrestricted|Building DAG|Using shell|Select jobs|Execute [0-9]+ jobs|Elapsed|Shutting"


def reasons(study: params.Study) -> dict[steps.Step, list[str]]:
    """Reasons why each step of a study must run; an empty list if its record is up to date."""
    stale: dict[steps.Step, list[str]] = {}
    for step in steps.study_steps(study):
        stale_inputs = [f"input {source.label} must run" for source in steps.step_inputs(step, study) if stale[source]]
        stale[step] = own_files.stale_reasons(step, study) or stale_inputs
    return stale


def explain(study: params.Study) -> str:
    """Missing raw data, one line per step (stale or up to date) with reasons, data sets added since verification."""
    stale, first = reasons(study), steps.Step("01_data_verification")
    times = training_times(study, stale)
    lines = [
        "\n    ".join(
            [
                f"{step.label:28} {'stale' if why else 'up to date'}",
                *(*why, *times.get(step, []), *(cluster.last_log(step, study.study) if why else [])),
            ]
        )
        for step, why in stale.items()
    ]
    unsearched = [
        f"data/raw/{name} was added after {first.label} ran and has not been searched for images of this study; "
        f"to search it, run: rm '{first.record_file(study.study)}' && make study STUDY={study.study}"
        for name in ([] if stale[first] else staleness.unsearched(study))
    ]
    return "\n".join(raw_folders.missing(study) + lines + unsearched)


def training_times(study: params.Study, stale: dict[steps.Step, list[str]]) -> dict[steps.Step, list[str]]:
    """A line for each training run that must run: how long it takes, if the measured speed is up to date."""
    runs = [step for step in steps.training_steps(study) if stale[step]]
    if not runs or stale[steps.Step("03_model")]:
        return {}
    from lib.data import duration  # takes half a second

    times = duration.of_trainings(study)
    return {
        step: [f"takes about {times[step]} for all {study.epochs} epochs, at the speed that 03_model measured"]
        for step in runs
        if step in times
    }


def link_data(name: str, folder: Path, read: Callable[[Path], object]) -> None:
    """Links data/raw/<name> to a folder that `read` can read.

    ValueError if the folder is missing or has another layout (no link is left then), or the name is linked elsewhere.
    """
    given = f"{'LANDMARKS' if name == 'landmarks' else 'DATA'}={folder}"
    if not folder.is_dir():
        raise ValueError(f"{given}: no such folder")
    link = files.raw_folder(name)
    if link.resolve() == folder.resolve():
        return
    if link.is_symlink():
        advice = f"to use {folder.resolve()}, remove the link (not the data) first: rm {shlex.quote(str(link))}"
        raise ValueError(f"{link}: already refers to {link.resolve()}; {advice}")
    if link.exists():
        raise ValueError(f"{link}: already exists; to use {folder.resolve()}, move it to another place first")
    try:
        read(folder)
    except ValueError as error:
        which = f"to see which data they are: python -m lib verify {shlex.quote(str(folder))}"
        raise ValueError(f"{given}: not the data of this study (data/raw/{name}): {error}; {which}") from error
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder.resolve(), target_is_directory=True)


def run(
    study: params.Study,
    cores: int,
    data: Path | None,
    landmarks: Path | None = None,
    gpu_count: str | None = None,
    profile: Path | None = None,
) -> int:
    """Links the raw folders, if set, and runs the stale steps; 0 if all records are then up to date, else 1.

    `gpu_count` limits the GPUs, as text; None: all that are visible. ValueError for a number of GPUs that this machine
    lacks, and for a number of cores that Snakemake would wait for without a word, such as 0.
    With a Snakemake profile each step is a job of a cluster, with `cores` cores, and a training has `gpu_count` GPUs.
    """
    if not 1 <= cores <= MOST_CORES:
        raise ValueError(f"cores = {cores}   not allowed; a whole number from 1 to {MOST_CORES}")
    if sys.platform == "win32":
        raise ValueError("'study' needs Linux, macOS or WSL; on Windows run each notebook: docs/howto-windows.md")
    from lib import datasets  # takes half a second, which `why` and the process of a step save
    from lib.datasets import landmark_tables

    folder = files.study_folder(study.study)
    folder.mkdir(parents=True, exist_ok=True)
    with locks.locked(folder / ".lock", f"study {study.study}", wait=False):
        cluster.check_alone(folder)
        dataset = datasets.of(study)
        if data is not None:
            link_data(study.dataset, data, lambda path: datasets.find_cases(dataset, path, study.groups or []))
        if landmarks is not None:
            link_data("landmarks", landmarks, lambda path: landmark_tables.read(path, study.landmarks))
        _warn_of_copied_text(study, datasets.acronyms())
        datasets.prepare(study.dataset)
        if study.learns_landmarks:
            datasets.landmarks_folder(study.dataset)
        steps.compared_digests(study)  # fail now, not after hours of training
        return _run_locked(study, folder, cores, gpu_count, profile)


def _warn_of_copied_text(study: params.Study, names: list[str]) -> None:
    """Warns if the file of a study of own data names a published data set, as a copy does: the report prints it."""
    lines = study_files.lines_with(study.study, names) if study.dataset.startswith(raw_folders.OWN) else []
    if lines:
        numbers = ", ".join(map(str, lines))
        sys.stderr.write(
            f"params/{study.study}.yaml: lines {numbers} name a published data set ({', '.join(names)}), but the data "
            "are your own; the report prints title and comments, so change them\n"
        )


def _run_locked(study: params.Study, folder: Path, cores: int, gpu_count: str | None, profile: Path | None) -> int:
    with _exclusive(study, folder) as lock:
        stale = [step for step, why in reasons(study).items() if why]
        if not stale:  # Snakemake would take seconds to find nothing to do
            return 0
        seen, job_mb, wait = None, 0, subprocess.Popen.wait
        if profile is None:
            devices = gpus.usable(study.device, gpu_count)
            if any(step.name in steps.ON_DEVICE for step in stale):
                _check_device(study)
            on_processor = _computes_on_processor(study, devices, gpu_count)
            devices = [] if on_processor else devices
            if any(step.run for step in stale):
                shares.refuse_fewer_gpus(study, len(devices))
            share = shares.share(study, cores, len(devices), on_processor)
            said, options = shares.describe(study, share), _options(cores, len(devices))
            seen = devices if gpu_count is not None or (devices and ":" not in study.device) else None
        else:  # the node of a job, not this computer, has the device
            share = cluster.share(study, cores, gpu_count)
            said, options = cluster.describe(study, share), cluster.options(profile, study.study)
            job_mb, wait = cluster.JOB_MB, partial(cluster.wait, folder=folder)
            cluster.check_queue(folder)
        if any(step.run for step in stale):
            sys.stdout.write(said)
            sys.stdout.flush()
        for step in stale:
            step.record_file(study.study).unlink(missing_ok=True)
        started, command = time.time(), _command(study, folder, cores, share, options, job_mb)
        status, output = _snakemake(command, folder, environment.for_children(cores, seen), lock, wait)
    if status != 0:
        sys.stderr.write(_failure_message(output + ("" if profile is None else cluster.logs(output, folder, started))))
        return 1
    left = [f"{step.label}: {'; '.join(why)}\n" for step, why in reasons(study).items() if why]
    sys.stderr.writelines(["these steps have no up-to-date record:\n", *left] if left else [])
    return int(bool(left))


def _check_device(study: params.Study) -> None:
    """Fails now, not after verification and preprocessing, if this machine lacks the device or precision of a study."""
    if study.device in ("auto", "cpu") and study.precision != "float16":
        return
    from lib.models import devices  # imports torch, which takes seconds

    devices.choose_precision(study.precision, devices.choose(study.device))


def _computes_on_processor(study: params.Study, devices: list[str], gpu_count: str | None) -> bool:
    """Whether the trainings of a study compute on the processor, whose cores they can share."""
    if study.device == "cpu" or (gpu_count is not None and not devices):
        return True
    if study.device != "auto" or (not devices and len(steps.training_steps(study)) == 1):
        return False
    # Imports torch, which takes seconds. It knows GPUs of other makers, and whether it was built to use NVIDIA's.
    from lib.models import devices as on_machine

    return on_machine.choose("auto").type == "cpu"


def _failure_message(output: str) -> str:
    """Error messages of the failed steps, or else the last lines of Snakemake's log without routine lines."""
    parts = output.split(environment.MESSAGE_MARK)
    if len(parts) > 2:
        return "".join(dict.fromkeys(parts[1::2]))  # in their order, each once
    lines = [line.rstrip() for line in output.splitlines() if line.strip() and not re.match(ROUTINE_OUTPUT, line)]
    return "\n".join([*lines[-20:], "Snakemake stopped before the study was complete; its log is above\n"])


@contextmanager
def _exclusive(study: params.Study, folder: Path) -> Iterator[int]:
    """Waits for the Snakemake of an earlier, killed run, which still holds this lock; yields the lock's descriptor."""
    import fcntl  # not on Windows, where Snakemake's shell commands would not run either

    with (folder / ".working").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"steps of a killed run of study {study.study} are still running; waiting\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _options(cores: int, gpu_count: int) -> list[str]:
    """Options of Snakemake for a run on this machine."""
    return [
        *("--cores", str(cores), "--resources", f"gpu={gpu_count}", f"mem_mb={environment.free_memory_mb()}"),
        *("--profile", "none", "--latency-wait", "1", "--quiet", "rules", "progress", "host", "reason"),
    ]


def _command(
    study: params.Study, folder: Path, cores: int, share: shares.Share, options: list[str], job_mb: int = 0
) -> list[str]:
    """Snakemake's command line. Its own lock is off: a killed run would leave it, and the study's lock is held."""
    return [
        *(sys.executable, "-m", "snakemake", "study", "--snakefile", str(files.ROOT / "Snakefile")),
        *("--directory", str(folder), *options, "--workflow-profile", "none"),
        *("--shared-fs-usage", *SHARED_FS_USAGE),
        *("--rerun-incomplete", "--rerun-triggers", "mtime", "--nolock"),
        # Snakemake reads the name of a study such as 2026_11 as a number.
        *("--config", f"file=params/{study.study}.yaml", f"threads={cores}"),
        *(f"training_threads={share.threads}", f"gpus={share.gpus}", f"job_mb={job_mb}"),
    ]


def _snakemake(
    command: list[str],
    folder: Path,
    variables: dict[str, str],
    lock: int,
    wait: Callable[[subprocess.Popen], int] = subprocess.Popen.wait,
) -> tuple[int, str]:
    """Runs Snakemake in a folder, with notebook output on standard output; returns its exit status and log."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        running = subprocess.Popen(command, cwd=folder, env=variables, pass_fds=[lock], stderr=log)
        try:
            status = wait(running)
        except KeyboardInterrupt:
            running.wait()  # it received the signal too and ends its steps
            raise
        log.seek(0)
        return status, log.read()
