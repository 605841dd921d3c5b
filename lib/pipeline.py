"""A study as a graph of steps: records decide what must run and why; Snakemake then runs it in order."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from lib import datasets
from lib.study import environment, files, locks, params, staleness, steps

FOR_READERS = ("ValueError", "OSError", "PermissionError", "FileNotFoundError")  # errors that are said without a class
START_SECONDS = 300  # for a kernel to start and to import lib; it takes 3 to 60
# All but the cache of sources, which would lie in a home that perhaps cannot be written.
SHARED = ("input-output", "persistence", "software-deployment", "sources", "storage-local-copies")
CHATTER = re.compile("Assuming unrestricted|Building DAG|Using shell|Select jobs|Execute [0-9]+ jobs|Elapsed|Shutting")


def reasons(study: params.Study) -> dict[steps.Step, list[str]]:
    """Every step of a study and why it must run; an empty list where its record holds."""
    stale: dict[steps.Step, list[str]] = {}
    for step in steps.study_steps(study):
        of_inputs = [f"input {source.label} must run" for source in steps.step_inputs(step, study) if stale[source]]
        stale[step] = staleness.stale_reasons(step, study) or of_inputs
    return stale


def explain(study: params.Study) -> str:
    """What would run and why, one line per step; then what a verification has not searched, which came later."""
    stale, first = reasons(study), steps.Step("01_data_verification")
    lines = ["\n    ".join([f"{step.label:28} {'runs' if why else 'done'}", *why]) for step, why in stale.items()]
    unsearched = [
        f"data/raw/{name} came after {first.label}, which has not searched it for this study's images; "
        f"to search it: rm '{first.record_file(study.study)}', then make study STUDY={study.study}"
        for name in ([] if stale[first] else staleness.unsearched(study))
    ]
    return "\n".join(lines + unsearched)


def link_data(name: str, folder: Path) -> None:
    """Makes data/raw/<name> a link to a folder, once; ValueError if the folder is absent, or the name is taken."""
    if not folder.is_dir():
        raise ValueError(f"{'LANDMARKS' if name == 'landmarks' else 'DATA'}={folder}: no such folder")
    link = files.raw_folder(name)
    if link.resolve() == folder.resolve():
        return
    if link.exists() or link.is_symlink():
        raise ValueError(f"{link}: is {link.resolve()}; remove it first to use {folder.resolve()}")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder.resolve(), target_is_directory=True)


def run(study: params.Study, cores: int, data: Path | None, landmarks: Path | None = None) -> int:
    """Runs what a study needs, and nothing else; given folders of data and landmarks are linked first.

    Returns 0 when every step has a record that holds, else 1, and the reason is printed on standard error.
    """
    if sys.platform == "win32":
        raise ValueError("the graph needs Linux, macOS or WSL; on Windows run notebooks in turn: docs/howto-windows.md")
    folder = files.study_folder(study.study)
    folder.mkdir(parents=True, exist_ok=True)
    with locks.locked(folder / ".lock", f"study {study.study}", wait=False):
        for name, source in ((study.dataset, data), ("landmarks", landmarks)):
            if source is not None:
                link_data(name, source)
        datasets.of(study)
        datasets.prepare(study.dataset)
        if study.learns_landmarks:
            datasets.landmarks_folder(study.dataset)
        steps.compared_digests(study)  # now, not after hours of training
        return _run_locked(study, folder, cores)


def _run_locked(study: params.Study, folder: Path, cores: int) -> int:
    with _steps_ended(study, folder) as lock:
        for step, why in reasons(study).items():
            if why:
                step.record_file(study.study).unlink(missing_ok=True)
        # A killed run leaves Snakemake's own lock behind; ours is held, so nobody else needs it.
        _snakemake(study, folder, cores, lock, "--unlock")
        status, output = _snakemake(study, folder, cores, lock, "--rerun-incomplete", "--rerun-triggers", "mtime")
    if status != 0:
        sys.stderr.write(_last_words(output))
        return 1
    left = [f"{step.label}: {'; '.join(why)}\n" for step, why in reasons(study).items() if why]
    sys.stderr.writelines(["these steps have no record that holds:\n", *left] if left else [])
    return int(bool(left))


def _last_words(output: str) -> str:
    """What a failed step has said, or else Snakemake's own words without its usual ones."""
    parts = output.split(environment.MARK)
    if len(parts) > 2:
        return parts[-2]
    lines = [line.rstrip() + "\n" for line in output.splitlines() if line.strip() and not CHATTER.match(line)]
    return "".join([*lines[-20:], "Snakemake stopped before the study's end; its words stand above\n"])


@contextmanager
def _steps_ended(study: params.Study, folder: Path) -> Iterator[int]:
    """Waits until no Snakemake of an earlier run is at work, and holds what a later run waits for.

    Where only the parent was killed, its Snakemake goes on, and still has this lock, which it has inherited.
    """
    import fcntl  # not on Windows, where Snakemake's shell commands would not run either

    with (folder / ".working").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"steps of a killed run of study {study.study} are still at work; waiting for their end\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _snakemake(study: params.Study, folder: Path, cores: int, lock: int, *options: str) -> tuple[int, str]:
    """Runs Snakemake; notebooks print as they go, its own words are returned with its status."""
    command = [
        *(sys.executable, "-m", "snakemake", "study", "--snakefile", str(files.ROOT / "Snakefile")),
        *("--directory", str(folder), "--cores", str(cores), "--quiet", "rules", "progress", "host", "reason"),
        *("--profile", "none", "--workflow-profile", "none", "--shared-fs-usage", *SHARED, "--latency-wait", "1"),
        *options,
        *("--config", f"study={study.study}"),
    ]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        running = subprocess.Popen(command, env=environment.for_children(cores), pass_fds=[lock], stderr=log)
        try:
            status = running.wait()
        except KeyboardInterrupt:
            running.wait()  # it had the signal too, and ends its steps
            raise
        log.seek(0)
        return status, log.read()


# --- one step


def execute(study: params.Study, label: str) -> None:
    """Runs the notebook of a step headless, for the graph alone; what it prints goes to standard output."""
    if not environment.by_graph():  # its executed notebook would take the place of the study's
        raise ValueError(
            f"step is a command of the graph; by hand: papermill notebooks/{label.partition('/')[0]}.ipynb out.ipynb "
            f"-f params/{study.study}.yaml"
        )
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook

    known = {step.label: step for step in steps.study_steps(study) if step.name != "report"}
    if label not in known:
        raise ValueError(f"{label}: no notebook of study {study.study}; there are: {', '.join(known)}")
    step = known[label]
    executed = step.folder(study.study) / steps.EXECUTED
    executed.parent.mkdir(parents=True, exist_ok=True)
    where = f"{step.label} of study {study.study} stopped; its executed notebook: {executed}\n"
    try:
        with _begins_in_time() as late:
            execute_notebook(
                _escaped(steps.notebook_file(step.name, study)),
                _escaped(executed),
                steps.own_values(step, study),
                kernel_name="python3",
                progress_bar=False,
                stdout_file=sys.stdout,
                start_timeout=START_SECONDS + 10,  # the other limit, which ends it, comes first
            )
    except PapermillExecutionError as error:
        kind = f"{error.ename}: " if error.evalue and error.ename not in FOR_READERS else ""
        raise ValueError(where + kind + (error.evalue or _last_printed(executed))) from error
    except OSError as error:  # the executed notebook cannot be written
        raise ValueError(f"{where}{error.filename or executed}: {error.strerror}") from error
    except RuntimeError as error:  # of a kernel: died, or did not answer
        died = f"the kernel ended before the notebook did ({error}); most often the memory was not enough"
        raise ValueError(where + (late[0] if late else died)) from error


def _escaped(path: Path) -> str:
    """A path as papermill wants it, which fills in what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _last_printed(executed: Path) -> str:
    """The last line on a notebook's error stream, where the kernel could not put its error into words."""
    outputs = [output for cell in files.read_json(executed)["cells"] for output in cell.get("outputs", [])]
    printed = "".join("".join(output["text"]) for output in outputs if output.get("name") == "stderr")
    return next((line for line in reversed(printed.splitlines()) if line.strip()), "it failed without a word")


@contextmanager
def _begins_in_time() -> Iterator[list[str]]:
    """Ends the kernel of a notebook that has not come to `start` within START_SECONDS, and says so in the list."""
    late: list[str] = []
    handle, name = tempfile.mkstemp(prefix="waiting-")
    os.close(handle)

    def end() -> None:
        if Path(name).exists():
            late.append(
                f"the kernel did not import lib within {START_SECONDS} s and was ended; memory that is too small "
                "(ulimit -v) makes it wait for ever, a machine that is very busy makes it slow"
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
    """Ends what this process has started and what has not ended by itself; each kernel leads a group of its own."""
    for child in psutil.Process().children():
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(child.pid) == child.pid:
                os.killpg(child.pid, signal.SIGKILL)
