"""What the surroundings may decide, and what they may not: where a step runs, and with how many threads."""

import os
from pathlib import Path

from lib.study import files

ROOT_VARIABLE = "FETAL_THESIS_ROOT"  # set by the graph for its notebooks: the project that they belong to
THREADS_VARIABLE = "FETAL_THESIS_THREADS"  # and how many threads they compute with
WAITING_VARIABLE = "FETAL_THESIS_WAITING"  # a file that a notebook removes when it has begun
MARK = "\x1e"  # around what a failed step says, in the midst of Snakemake's words
# Settings of a person's other work that would decide about imports, kernels, figures, Snakemake or sums.
FOREIGN = ("PYTHON", "IPYTHON", "JUPYTER", "SNAKEMAKE_", "MATPLOTLIBRC", "MPLBACKEND", "BASH_ENV")
FOREIGN += ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "NUMEXPR_", "VECLIB_", "BLIS_", "DNNL_", "ONEDNN_")
FOREIGN += ("ATEN_", "NPY_", "OPENCV_")
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def for_children(cores: int) -> dict[str, str]:
    """The environment of a process that the graph starts: this project's `lib`, kernels and number of threads."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    own = {
        "PYTHONPATH": str(files.ROOT),
        "PYTHONNOUSERSITE": "1",
        "PYTHONUTF8": "1",
        "IPYTHONDIR": str(files.ROOT / "notebooks" / ".ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "REPORTS_ROOT": str(files.reports_root()),
        ROOT_VARIABLE: str(files.ROOT),
        THREADS_VARIABLE: str(cores),
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin slow a busy machine: docs/performance.md
    }
    return kept | own | dict.fromkeys(COUNTS, str(cores))


def by_graph() -> bool:
    """Whether the graph has started this process, not a person."""
    return ROOT_VARIABLE in os.environ


def begin() -> None:
    """Says to the graph that the notebook has begun, then `check`s."""
    waiting = os.environ.get(WAITING_VARIABLE)
    if waiting:
        Path(waiting).unlink(missing_ok=True)
    check()


def check() -> None:
    """ValueError where one project is worked in with the `lib` of another: a copy, a moved folder, another kernel."""
    named = os.environ.get(ROOT_VARIABLE)
    project = Path(named) if named else _project_around(Path.cwd())
    if project is not None and project.resolve() != files.ROOT:
        raise ValueError(
            f"here is the project {project}, but Python has the package lib of {files.ROOT}; in {project} give 'make "
            "lab' or 'make study' (they set up .venv for this place), or choose that project's kernel"
        )


def _project_around(folder: Path) -> Path | None:
    """The nearest folder, at or above one, that holds lib/ and notebooks/ as this project does."""
    marks = ("lib/notebook.py", "notebooks/01_data_verification.ipynb")
    return next((f for f in (folder, *folder.parents) if all((f / mark).is_file() for mark in marks)), None)


def threads() -> int:
    """How many threads a step computes with (last digits depend on it): the graph's cores, else all of this process."""
    named = os.environ.get(THREADS_VARIABLE, "")
    return int(named) if named.isdecimal() and int(named) > 0 else processors()


def use_threads() -> None:
    """Lets torch and OpenCV compute with `threads()`, whatever OMP_NUM_THREADS says."""
    import cv2
    import torch

    torch.set_num_threads(threads())
    cv2.setNumThreads(threads())


def processors() -> int:
    """Processors that this process may use: its affinity, and a container's share of time rounded up."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, *(-(-quota // period) for quota, period in _quotas()), count))


def _quotas() -> list[tuple[int, int]]:
    """(quota, period) in microseconds of every control group that limits this process; Linux, version 2."""
    membership, top = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
    lines = membership.read_text(encoding="utf-8").splitlines() if membership.is_file() else []
    own = next((top / line.removeprefix("0::/") for line in lines if line.startswith("0::/")), top)
    folders = [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
    found = [(f / "cpu.max").read_text(encoding="utf-8").split() for f in folders if (f / "cpu.max").is_file()]
    return [(int(quota), int(period)) for quota, period in found if quota != "max"]
