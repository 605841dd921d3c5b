"""Runs the notebook of one step in a kernel of its own: called by Snakemake for each step of a study."""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from lib.study import environment, files, gpus, params, progress, steps

PLAIN_ERRORS = ("ValueError", "OSError", "PermissionError", "FileNotFoundError")  # printed without the class name
START_SECONDS = 300  # limit for a kernel to start and import lib, which takes 3 to 60 s
SAVE_SECONDS = 20  # for an interrupted training to end its step and to write its state


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
