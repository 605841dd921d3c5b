"""A study as a graph of steps: what must run and why, and running it.

Records decide what still holds; Snakemake then runs what has none, in order and as far as possible side by side.
"""

import os
import subprocess
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from lib import datasets, files, params, records


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


def link_data(dataset: str, folder: Path) -> None:
    """Makes data/raw/<dataset> a link to a folder, once.

    Raises:
        ValueError: the folder is absent, or data/raw/<dataset> is already something else.
    """
    if not folder.is_dir():
        raise ValueError(f"DATA={folder}: no such folder")
    link = files.raw_folder(dataset)
    if link.resolve() == folder.resolve():
        return
    if link.exists() or link.is_symlink():
        raise ValueError(f"{link}: is {link.resolve()}; remove it first to use {folder.resolve()}")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder.resolve(), target_is_directory=True)


def run(study: params.Study, cores: int, data: Path | None) -> int:
    """Runs what a study needs, and nothing else.

    Returns:
        0 when every step has a record that holds, else Snakemake's exit status.

    Raises:
        ValueError: the data are missing, or another process runs this study.
    """
    folder = files.study_folder(study.study)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            if data is not None:
                link_data(study.dataset, data)
            datasets.get(study.dataset, study.classes)
            datasets.prepare(study.dataset)
            return _run_locked(study, folder, cores)
    except Timeout as error:
        raise ValueError(f"study {study.study} is being run by another process; wait for it, or end it") from error


def _run_locked(study: params.Study, folder: Path, cores: int) -> int:
    for step, why in reasons(study).items():
        if why:
            step.record_file(study.study).unlink(missing_ok=True)
    # A killed run leaves Snakemake's own lock behind; ours is held, so nobody else needs it.
    _snakemake(study, folder, cores, "--unlock")
    return _snakemake(study, folder, cores, "--rerun-incomplete", "--rerun-triggers", "mtime").returncode


def _snakemake(study: params.Study, folder: Path, cores: int, *options: str) -> subprocess.CompletedProcess:
    command = [
        *(sys.executable, "-m", "snakemake", "study", "--snakefile", str(files.ROOT / "Snakefile")),
        *("--directory", str(folder), "--cores", str(cores), "--quiet", "all", *options),
        *("--config", f"study={study.study}"),
    ]
    # The kernel's settings silence a warning about a debugger port that every notebook would print.
    settings = {"IPYTHONDIR": str(files.ROOT / "notebooks" / ".ipython"), "NO_ALBUMENTATIONS_UPDATE": "1"}
    return subprocess.run(command, env=os.environ | settings, check=False)
