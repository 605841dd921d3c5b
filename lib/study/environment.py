"""Process environment of a step: project root, variables passed to child processes, number of threads."""

import ctypes
import os
import platform
import sys
from pathlib import Path

from lib.study import files, gpus

ROOT_VARIABLE = "FETAL_THESIS_ROOT"  # set by the workflow for its notebooks: root of their project
THREADS_VARIABLE = "FETAL_THESIS_THREADS"  # and their number of threads
WAITING_VARIABLE = "FETAL_THESIS_WAITING"  # a file that the notebook removes once it has started
MESSAGE_MARK = "\x1e"  # delimits the error message of a failed step in Snakemake's log
# User settings that would change imports, kernels, figures, Snakemake or floating-point sums.
FOREIGN = ("PYTHON", "IPYTHON", "JUPYTER", "SNAKEMAKE_", "MATPLOTLIBRC", "MPLBACKEND", "BASH_ENV")
FOREIGN += ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "NUMEXPR_", "VECLIB_", "BLIS_", "DNNL_", "ONEDNN_")
FOREIGN += ("ATEN_", "NPY_", "OPENCV_")
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt, from malloc.h


def for_children(cores: int, devices: list[str] | None = None) -> dict[str, str]:
    """Environment of a child process of the workflow: this project's `lib`, kernels and number of threads.

    It sees the GPUs in `devices` only; None: those that this process sees.
    """
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
        # Threads that spin for long slow down a busy machine, those that never do an idle one: docs/performance.md.
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "20000",  # GNU's runtime follows this one
    }
    own |= {} if devices is None else {gpus.VISIBLE_VARIABLE: ",".join(devices)}
    return kept | own | counts(cores)


def counts(cores: int) -> dict[str, str]:
    """Variables that set the number of threads of this package and of the libraries that it uses."""
    return {THREADS_VARIABLE: str(cores)} | dict.fromkeys(COUNTS, str(cores))


def in_workflow() -> bool:
    """Whether the workflow started this process, rather than a user."""
    return ROOT_VARIABLE in os.environ


def confirm_start() -> None:
    """Signals to the workflow that the notebook has started, then runs `check_project`."""
    waiting = os.environ.get(WAITING_VARIABLE)
    if waiting:
        Path(waiting).unlink(missing_ok=True)
    check_project()


def check_project() -> None:
    """Raises ValueError if `lib` is from another project (a copy, a moved folder, another kernel)."""
    named = os.environ.get(ROOT_VARIABLE)
    project = Path(named) if named else _project_around(Path.cwd())
    if project is not None and project.resolve() != files.ROOT:
        raise ValueError(
            f"the project is {project}, but Python imports the package lib from {files.ROOT}; run 'make lab' or 'make "
            f"study' in {project} (they set up its .venv), or select the kernel of that project"
        )


def _project_around(folder: Path) -> Path | None:
    """Nearest folder, among one and its parents, with the lib/ and notebooks/ of such a project."""
    marks = ("lib/notebook.py", "notebooks/01_data_verification.ipynb")
    return next((f for f in (folder, *folder.parents) if all((f / mark).is_file() for mark in marks)), None)


def threads() -> int:
    """Number of threads, which affects last digits: the cores of the workflow, else all processors of this process."""
    named = os.environ.get(THREADS_VARIABLE, "")
    return int(named) if named.isdecimal() and int(named) > 0 else processors()


def use_threads() -> None:
    """Sets OpenCV and torch to `threads()` threads, whatever OMP_NUM_THREADS is; later imports to at most as many."""
    import cv2

    cv2.setNumThreads(threads())
    os.environ.update(dict.fromkeys(COUNTS, str(threads())))  # for torch, if it is imported later
    if "torch" in sys.modules:  # importing it takes a second, which notebooks without a network do not need
        sys.modules["torch"].set_num_threads(threads())


def describe_processor() -> str:
    """Kind of processor and number of threads, for the record of a step that uses no other device."""
    return in_threads("cpu", threads())


def in_threads(kind: str, count: int) -> str:
    """A kind of device that computes in `count` threads, as it is named in a record: "cpu (x86_64, 2 threads)"."""
    return f"{kind} ({platform.machine()}, {count} thread{'s' * (count != 1)})"


def keep_freed_memory() -> None:
    """Keeps large blocks that are freed, where the C library is glibc: it would return them to the system each step."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        if not library.mallopt(M_MMAP_THRESHOLD, 2**30):
            library.mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest value that glibc before 2.35 accepts
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def free_memory_mb() -> int:
    """Main memory that can be used without swapping, MB; at most what a container's limit leaves."""
    import psutil  # not among the packages that torch.hub needs for hubconf.py

    names = (
        "memory.max",
        "memory.current",
        "memory.stat",
    )  # the topmost group has the last alone, which zip leaves out
    left = [
        int(limit) - int(used) + int(dict(line.split() for line in counts.splitlines()).get("inactive_file", 0))
        for limit, used, counts in zip(*map(_control_groups, names))
        if limit != "max"
    ]
    return max(0, min([psutil.virtual_memory().available, *left])) // 10**6


def processors() -> int:
    """Processors available to this process: its CPU affinity, limited by a container's CPU quota rounded up."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, *(-(-quota // period) for quota, period in _quotas()), count))


def _quotas() -> list[tuple[int, int]]:
    """(quota, period) in microseconds of every control group that limits this process."""
    found = [text.split() for text in _control_groups("cpu.max")]
    return [(int(quota), int(period)) for quota, period in found if quota != "max"]


def _control_groups(name: str) -> list[str]:
    """Text of a file of every control group of this process that has it (Linux, cgroup v2)."""
    membership, top = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
    lines = membership.read_text(encoding="utf-8").splitlines() if membership.is_file() else []
    own = next((top / line.removeprefix("0::/") for line in lines if line.startswith("0::/")), top)
    folders = [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return [(f / name).read_text(encoding="utf-8").strip() for f in folders if (f / name).is_file()]
