import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from lib.study import environment, files

NUMBERS = "import cv2; from lib.study import environment; environment.use_threads(); import torch; "
NUMBERS += "print(torch.get_num_threads(), cv2.getNumThreads(), environment.threads())"
ONE_PROCESSOR = "import os; os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1]); "
FOREIGN = ("PYTHONSTARTUP", "PYTHONHOME", "PYTHONWARNINGS", "JUPYTER_PATH", "JUPYTER_CONFIG_DIR", "SNAKEMAKE_PROFILE")
FOREIGN += ("MATPLOTLIBRC", "MPLBACKEND", "BASH_ENV", "GOMP_STACKSIZE", "OMP_SCHEDULE", "DNNL_MAX_CPU_ISA")
OWN = ("PYTHONPATH", "IPYTHONDIR", "JUPYTER_PREFER_ENV_PATH", "OMP_NUM_THREADS")


def numbers(before: str = "", **settings: str) -> list[int]:
    """Threads of torch, OpenCV and `environment.threads()` in a separate process."""
    own = {"PYTHONPATH": str(files.ROOT), "OMP_NUM_THREADS": "7", environment.THREADS_VARIABLE: ""} | settings
    command = [sys.executable, "-c", before + NUMBERS]
    done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


def test_a_child_inherits_system_variables_and_the_project_s_values_but_no_user_settings(monkeypatch, tmp_path):
    for name in (*FOREIGN, *OWN, "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "foreign")
    monkeypatch.setattr(files, "ROOT", tmp_path)
    monkeypatch.setenv("REPORTS_ROOT", "elsewhere")
    given = environment.for_children(3)
    assert not set(FOREIGN) & given.keys()
    assert [given[name] for name in OWN] == [str(tmp_path), str(tmp_path / "notebooks" / ".ipython"), "1", "3"]
    assert given[environment.THREADS_VARIABLE] == "3"
    assert given["LD_LIBRARY_PATH"] == given["CUDA_VISIBLE_DEVICES"] == "foreign"
    assert given["REPORTS_ROOT"] == str(tmp_path / "elsewhere")


def test_a_child_sees_the_given_gpus_only(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert environment.for_children(3)["CUDA_VISIBLE_DEVICES"] == "5"
    assert environment.for_children(3, ["GPU-a", "GPU-b"])["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert environment.for_children(3, [])["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ([], 8000),
        (["max"], 8000),
        (["max", "3000000000"], 2200),  # 3,000 - 1,000 used, of which 200 are pages of files that can be dropped
        (["90000000000", "500000000"], 0),
    ],
)
def test_free_memory_is_at_most_what_a_container_s_limit_leaves(monkeypatch, limits, expected):
    groups = {"memory.max": limits, "memory.current": ["1000000000"] * len(limits)}
    groups["memory.stat"] = ["anon 800000000\ninactive_file 200000000"] * (len(limits) + 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * 10**9))
    monkeypatch.setattr(environment, "_control_groups", groups.__getitem__)
    assert environment.free_memory_mb() == expected


FAULTS = """
import resource
from lib.study import environment
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        b"x" * 2**26  # above the size from which glibc always returns a freed block to the system
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
environment.keep_freed_memory()
print(before, faults(), faults())
"""


@pytest.mark.skipif(platform.libc_ver() < ("glibc", "2.35"), reason="other libraries do not keep blocks of this size")
def test_freed_memory_is_used_again_without_page_faults():
    before, _, after = map(int, subprocess.check_output([sys.executable, "-c", FAULTS], cwd=files.ROOT).split())
    assert after < before / 5


@pytest.mark.parametrize("before", ["", "import torch; "])
def test_the_workflow_s_number_of_threads_overrides_openmp_s_whenever_torch_is_imported(before):
    assert numbers(before, **{environment.THREADS_VARIABLE: "1"}) == [1, 1, 1]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to a processor")
def test_a_manual_run_uses_the_processors_of_its_process():
    assert numbers(ONE_PROCESSOR) == [1, 1, 1]


@pytest.mark.parametrize(("count", "words"), [("1", "1 thread"), ("3", "3 threads")])
def test_a_step_without_another_device_is_recorded_with_the_processor_and_its_threads(monkeypatch, count, words):
    monkeypatch.setenv(environment.THREADS_VARIABLE, count)
    assert environment.describe_processor() == f"cpu ({platform.machine()}, {words})"


@pytest.mark.parametrize("word", ["", "0", "-1", "many", "1.5"])
def test_an_invalid_number_of_threads_is_ignored(monkeypatch, word):
    monkeypatch.setenv(environment.THREADS_VARIABLE, word)
    assert environment.threads() == environment.processors() >= 1


@pytest.mark.parametrize(
    ("quotas", "expected"), [([], 8), ([(150_000, 100_000)], 2), ([(50_000, 100_000)], 1), ([(10**7, 10**5)], 8)]
)
def test_a_container_s_cpu_quota_limits_processors_rounded_up(monkeypatch, quotas, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(environment, "_quotas", lambda: quotas)
    assert environment.processors() == expected


def test_a_notebook_of_the_workflow_refuses_another_project_s_lib(monkeypatch, tmp_path):
    monkeypatch.setenv(environment.ROOT_VARIABLE, str(tmp_path))
    with pytest.raises(ValueError, match=rf"project is {tmp_path}, but Python imports .* from {files.ROOT}; .*lab"):
        environment.check_project()
    monkeypatch.setenv(environment.ROOT_VARIABLE, str(files.ROOT))
    environment.check_project()


def test_a_manual_run_refuses_the_lib_of_another_project(monkeypatch, tmp_path):
    monkeypatch.delenv(environment.ROOT_VARIABLE, raising=False)
    for folder in (files.ROOT / "notebooks", tmp_path):  # its own project, and none
        monkeypatch.chdir(folder)
        environment.check_project()
    for name in ("lib/notebook.py", "notebooks/01_data_verification.ipynb"):
        files.write_text(tmp_path / "copy" / name, "")
    monkeypatch.chdir(tmp_path / "copy" / "notebooks")
    with pytest.raises(ValueError, match=rf"project is {tmp_path / 'copy'}, but Python imports the package"):
        environment.check_project()


def test_a_started_notebook_removes_the_file_of_the_workflow(monkeypatch, tmp_path):
    waiting = tmp_path / "waiting"
    waiting.touch()
    monkeypatch.setenv(environment.WAITING_VARIABLE, str(waiting))
    environment.confirm_start()
    assert not waiting.exists()
