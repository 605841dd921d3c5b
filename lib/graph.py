"""A study as a graph of steps: what must run and why, and running it.

Records decide what still holds; Snakemake then runs what has none, in order.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lib import datasets, environment, files, params, records


def reasons(study: params.Study) -> dict[records.Step, list[str]]:
    """Every step of a study and why it must run; an empty list where its record holds."""
    found: dict[records.Step, list[str]] = {}
    for step in records.study_steps(study):
        rerun = [s.label for s in records.step_inputs(step, study) if found[s]]
        own = records.stale_reasons(step, study)
        found[step] = own + [f"input {label} is to be made again" for label in rerun if own == []]
    return found


def explain(study: params.Study) -> str:
    """What would run and why, a line a step."""
    lines = []
    for step, why in reasons(study).items():
        lines.append(f"{step.label:28} {'runs' if why else 'done'}" + "".join(f"\n    {reason}" for reason in why))
    return "\n".join(lines)


def link_data(name: str, folder: Path) -> None:
    """Makes data/raw/<name> a link to a folder, once.

    Raises:
        ValueError: the folder is absent, or data/raw/<name> is already something else.
    """
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
    """Runs what a study needs, and nothing else.

    Args:
        study: to be run.
        cores: that its steps may use.
        data: raw folder to be linked first; None where it is there.
        landmarks: folder of landmarks to be linked first.

    Returns:
        0 when every step has a record that holds, else Snakemake's exit status.

    Raises:
        ValueError: data or a compared study are missing, another process runs this study, or this is Windows.
    """
    if sys.platform == "win32":
        raise ValueError("the graph needs Linux, macOS or WSL; on Windows run notebooks in turn: docs/howto-windows.md")
    folder = files.study_folder(study.study)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            for name, source in ((study.dataset, data), ("landmarks", landmarks)):
                if source is not None:
                    link_data(name, source)
            datasets.of(study)
            datasets.prepare(study.dataset)
            if study.landmarks != "none":
                datasets.landmarks_folder(study.dataset)
            records.compared_digests(study)  # now, not after hours of training
            return _run_locked(study, folder, cores)
    except Timeout as error:
        raise ValueError(f"study {study.study} is being run by another process; wait for it, or end it") from error


def _run_locked(study: params.Study, folder: Path, cores: int) -> int:
    with _steps_ended(study, folder) as held:
        for left in folder.rglob(".writing-*"):  # by a process that was killed while it wrote
            left.unlink()
        for step, why in reasons(study).items():
            if why:
                step.record_file(study.study).unlink(missing_ok=True)
        # A killed run leaves Snakemake's own lock behind; ours is held, so nobody else needs it.
        _snakemake(study, folder, cores, held, "--unlock")
        return _snakemake(study, folder, cores, held, "--rerun-incomplete", "--rerun-triggers", "mtime").returncode


@contextmanager
def _steps_ended(study: params.Study, folder: Path) -> Iterator[int]:
    """Waits until no Snakemake of an earlier run is at work, and holds what a later run waits for.

    Where only the parent was killed, its Snakemake goes on. It has inherited this lock, which is free when all who
    have it have ended.
    """
    import fcntl  # not on Windows, where Snakemake's shell commands would not run either

    with (folder / ".working").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say = f"steps of a killed run of study {study.study} are still at work; waiting for their end\n"
            sys.stderr.write(say)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _snakemake(
    study: params.Study, folder: Path, cores: int, held: int, *options: str
) -> subprocess.CompletedProcess[bytes]:
    command = [
        *(sys.executable, "-m", "snakemake", "study", "--snakefile", str(files.ROOT / "Snakefile")),
        *("--directory", str(folder), "--cores", str(cores), "--quiet", "all", *options),
        *("--config", f"study={study.study}"),
    ]
    # The kernel's settings silence a warning about a debugger port that every notebook would print.
    settings = {"IPYTHONDIR": str(files.ROOT / "notebooks" / ".ipython"), "NO_ALBUMENTATIONS_UPDATE": "1"}
    return subprocess.run(command, env=environment.for_children() | settings, pass_fds=[held], check=False)
