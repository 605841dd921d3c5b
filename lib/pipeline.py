"""Runs a study as a graph of steps: records decide which steps are stale, Snakemake runs them in order."""

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil

from lib.study import (
    cluster,
    environment,
    files,
    gpus,
    locks,
    own_files,
    params,
    progress,
    raw_folders,
    shares,
    staleness,
    steps,
    study_files,
)

PLAIN_ERRORS = ("ValueError", "OSError", "PermissionError", "FileNotFoundError")  # printed without the class name
MOST_CORES = 1024
START_SECONDS = 300  # limit for a kernel to start and import lib, which takes 3 to 60 s
SAVE_SECONDS = 20  # for an interrupted training to end its step and to write its state
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


# --- one step


def execute(study: params.Study, label: str, cores: int, gpu_count: int) -> None:
    """Runs the notebook of a step headless with `cores` threads, within Snakemake only.

    It sees `gpu_count` GPUs that no other step uses; waits until they are free. Its output goes to standard output,
    with the run before each line if the study has several trainings.
    """
    if not environment.in_workflow():  # would overwrite the executed notebook of the study
        raise ValueError(
            f"'step' is called by 'make study' only; to run a notebook manually: papermill "
            f"notebooks/{label.partition('/')[0]}.ipynb out.ipynb -f params/{study.study}.yaml"
        )
    known = {step.label: step for step in steps.study_steps(study) if step.name != "report"}
    if label not in known:
        raise ValueError(f"{label}: not a step of study {study.study}; its steps are: {', '.join(known)}")
    step = known[label]
    executed = step.folder(study.study) / steps.EXECUTED
    executed.parent.mkdir(parents=True, exist_ok=True)
    several = step.run and len(steps.training_steps(study)) > 1
    output = progress.Prefixed(sys.stdout, f"{files.run_name(*step.run)}: " if several else "")
    os.environ.update(environment.counts(cores))  # before papermill starts the kernel
    try:
        with gpus.reserved(study.device, gpu_count, output.line):
            _execute(step, study, executed, output)
    except ValueError:
        if several:  # Snakemake shows the error only when the others have ended
            output.line("failed; trainings that are running go on to their end, and no other one starts")
        raise
    finally:
        output.end()


def _execute(step: steps.Step, study: params.Study, executed: Path, output: progress.Prefixed) -> None:
    """Runs the notebook of a step; ValueError with the error's own message if it fails."""
    # jsonschema imports this package, if it can, to check IRIs, which notebooks do not have: 1.5 s per step.
    sys.modules["rfc3987_syntax"] = None
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook
    from traitlets.config import Config

    where = f"{step.label} of study {study.study} failed; see the executed notebook: {executed}\n"
    try:
        with _start_limit() as late:
            execute_notebook(
                _escape_braces(steps.notebook_file(step.name, study)),
                _escape_braces(executed),
                steps.own_values(step, study),
                kernel_name="python3",
                progress_bar=False,
                stdout_file=output,
                config=Config({"KernelManager": {"shutdown_wait_time": 2 * SAVE_SECONDS}}),
                start_timeout=START_SECONDS + 10,  # START_SECONDS ends the kernel first
            )
    except PapermillExecutionError as error:
        kind = f"{error.ename}: " if error.evalue and error.ename not in PLAIN_ERRORS else ""
        raise ValueError(where + kind + (error.evalue or _last_error_line(executed))) from error
    except OSError as error:  # the executed notebook cannot be written
        raise ValueError(f"{where}{error.filename or executed}: {files.reason(error)}") from error
    except RuntimeError as error:  # the kernel died or did not answer
        import resource  # not on Windows

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        causes = f"the usual causes are too little memory and too few open files (ulimit -n is {limit})"
        died = f"the kernel died before the notebook finished ({error}); {causes}"
        raise ValueError(where + (late[0] if late else died)) from error


def _escape_braces(path: Path) -> str:
    """A path with braces doubled, since papermill formats paths as templates."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _last_error_line(executed: Path) -> str:
    """Last line of a notebook's standard error, for errors without a message."""
    outputs = [output for cell in files.read_json(executed)["cells"] for output in cell.get("outputs", [])]
    printed = "".join("".join(output["text"]) for output in outputs if output.get("name") == "stderr")
    return next((line for line in reversed(printed.splitlines()) if line.strip()), "no error message")


@contextmanager
def _start_limit() -> Iterator[list[str]]:
    """Ends a kernel whose notebook has not called `start` within START_SECONDS; the list then holds the error."""
    late: list[str] = []
    handle, name = tempfile.mkstemp(prefix="waiting-")
    os.close(handle)

    def end() -> None:
        if Path(name).exists():
            late.append(
                f"the kernel did not import lib within {START_SECONDS} s and was stopped; likely causes are a memory "
                "limit that is too low (ulimit -v) and a very busy machine"
            )
            _end_kernels()

    timer = threading.Timer(START_SECONDS, end)
    timer.daemon = True
    os.environ[environment.WAITING_VARIABLE] = name
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        Path(name).unlink(missing_ok=True)
        _end_kernels()


def _end_kernels() -> None:
    """Ends the remaining child processes: a training may save its state; then kills their groups (one per kernel)."""
    children = psutil.Process().children()
    leaders = []
    for child in children:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            leaders += [child.pid] if os.getpgid(child.pid) == child.pid else []
            child.terminate()
    psutil.wait_procs(children, timeout=SAVE_SECONDS)
    for leader in leaders:  # its group also if it has ended
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
