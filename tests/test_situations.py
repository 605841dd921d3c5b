import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.conftest import TERMINAL

STUDY = [sys.executable, "-m", "lib", "study", "tiny", "--cores", "2"]
WHY = [sys.executable, "-m", "lib", "why", "tiny"]
ROOT = os.geteuid() == 0 if hasattr(os, "geteuid") else False
PATIENCE_SECONDS = 600
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
NO_FLOCK = """
#include <errno.h>
int flock(int handle, int operation) { (void)handle; (void)operation; errno = ENOSYS; return -1; }
"""
LOW_MEMORY = """
import resource, sys
from lib import __main__
from lib.study import execution
resource.setrlimit(resource.RLIMIT_AS, (900 * 2**20,) * 2)
execution.START_SECONDS = 20  # a kernel that cannot import numpy never answers
sys.exit(__main__.main(["step", "tiny", "06_biometry", "--cores=2", "--gpus=0"]))
"""


def environment(**settings: str | None) -> dict[str, str]:
    """Environment of a subprocess; None removes a variable."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "REPORTS_ROOT", "OMP_WAIT_POLICY")}
    return {name: value for name, value in (kept | settings).items() if value is not None}


def run(command: list[str], project: Path, before: str = "", **settings: str | None) -> tuple[list[str], int]:
    """Output lines and exit status of a command; `before` is shell code to run first, such as a limit."""
    if before:
        command = ["bash", "-c", f'{before}; exec "$@"', "bash", *command]
    limits = {"timeout": PATIENCE_SECONDS, "check": False, "errors": "replace"}
    done = subprocess.run(command, cwd=project, env=environment(**settings), **PIPES, **limits)
    return [line for line in done.stdout.splitlines() if line.strip()], done.returncode


def reports(project: Path) -> Path:
    return project / "reports" / "tiny"


def make_stale(project: Path, step: str = "06_biometry") -> None:
    """Removes the record of one step, so that this step and the report are rerun."""
    (reports(project) / step / "record.json").unlink()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_reproduced(project: Path, original: Path, before: str = "", **settings: str | None) -> None:
    """Reruns 06 and the report, and compares every figure and table byte by byte with the original."""
    make_stale(project)
    lines, status = run(STUDY, project, before, **settings)
    assert (status, lines[-1]) == (0, str(reports(project) / "report.pdf")), lines
    for part in ("06_biometry/figures", "06_biometry/tables"):
        assert contents(reports(project) / part) == contents(reports(original) / part)


def assert_refused(lines: list[str], status: int, expected: int, words: str) -> None:
    assert status == expected, lines
    assert words in lines[-1]
    assert "Traceback" not in "\n".join(lines)


def assert_done(project: Path) -> None:
    lines, status = run(WHY, project)
    assert status == 0
    assert lines
    assert all(line.endswith(" up to date") for line in lines), lines


@pytest.mark.slow
def test_a_copy_in_an_unusual_path_runs_and_leaves_the_original_unchanged(tiny_project, tmp_path):
    before = contents(reports(tiny_project))
    copy = shutil.copytree(tiny_project, tmp_path / 'Müller\'s {v2} $HOME "x" 100% #1 [y]', symlinks=True)
    assert_reproduced(Path(copy), tiny_project)
    assert contents(reports(tiny_project)) == before


@pytest.mark.slow
def test_a_project_unzipped_without_modification_times_is_up_to_date(tiny_project, tmp_path):
    zipfile.ZipFile(shutil.make_archive(str(tmp_path / "project"), "zip", tiny_project)).extractall(tmp_path / "copy")
    assert_done(tmp_path / "copy")


@pytest.mark.slow
def test_written_files_respect_the_umask(tiny_project, project):
    assert_reproduced(project, tiny_project, "umask 077")
    # The hidden lock file existed before.
    written = [path for path in (reports(project) / "06_biometry").rglob("*") if path.name[0] != "."]
    assert {path.stat().st_mode & 0o077 for path in written} == {0}


@pytest.mark.slow
@pytest.mark.parametrize("has_git", [True, False])
def test_no_commit_is_recorded_without_git_or_from_another_repository(project, tmp_path, has_git):
    if has_git:
        author = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        for words in (["init", "--quiet"], [*author, "commit", "--quiet", "--allow-empty", "-m", "thesis"]):
            subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
        settings = {"GIT_DIR": str(tmp_path / ".git")}
    else:
        tools = tmp_path / "tools"
        tools.mkdir()
        for name in ("bash", "sh", "env"):
            (tools / name).symlink_to(str(shutil.which(name)))
        settings = {"PATH": str(tools)}
    make_stale(project)
    assert run(STUDY, project, **settings)[1] == 0
    assert json.loads((reports(project) / "06_biometry" / "record.json").read_text())["commit"] == ""


@pytest.mark.slow
def test_a_moved_project_resumes_with_a_relative_reports_folder(tiny_project, project, tmp_path):
    assert_reproduced(project.rename(tmp_path / "moved"), tiny_project)
    project = tmp_path / "moved"
    make_stale(project)
    (project / "reports").rename(project / "elsewhere")
    shutil.copytree(project / "elsewhere" / "template", project / "reports" / "template")
    lines, _ = run(STUDY, project, REPORTS_ROOT="elsewhere")
    assert lines[-1] == str(project / "elsewhere" / "tiny" / "report.pdf")


LOCALE = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "TZ": "Asia/Kabul"}
PYTHON_2 = "#!/bin/sh\necho 'Python 2.7.18'; exit 3\n"
KERNEL_JSON = '{"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}'
KERNEL = {"kernels/python3/kernel.json": KERNEL_JSON}
MATPLOTLIBRC = "text.usetex: True\naxes.grid: True\nfont.size: 20\nsavefig.dpi: 30\nsvg.fonttype: none\n"
PATH = "FOLDER:" + os.environ["PATH"]
FAILS = "raise RuntimeError('foreign')\n"
SETTINGS = {  # files of other projects, and environment variables; FOLDER is the folder of the files
    "another python": (dict.fromkeys(("python", "python3", "jupyter"), PYTHON_2), {"PATH": PATH}),
    "HOME cannot be written": ({}, {"HOME": "/proc/nohome", "XDG_CACHE_HOME": None}),
    "HOME unset": ({}, {"HOME": None}),
    "another kernel": (KERNEL, {"JUPYTER_PATH": "FOLDER", "JUPYTER_PREFER_ENV_PATH": "0"}),
    "matplotlibrc": ({"rc": MATPLOTLIBRC}, {"MATPLOTLIBRC": "FOLDER/rc"}),
    "profile of Snakemake": ({"config.yaml": "dry-run: true\n"}, {"SNAKEMAKE_PROFILE": "FOLDER"}),
    "start-up files": (
        {"foreign/lib/__init__.py": FAILS, "startup.py": FAILS},
        {"PYTHONPATH": "FOLDER/foreign", "PYTHONSTARTUP": "FOLDER/startup.py", "BASH_ENV": "FOLDER/startup.py"},
    ),
    "warnings, threads, locale": ({}, LOCALE | {"PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "7"}),
}


@pytest.mark.slow
@pytest.mark.parametrize(("texts", "settings"), SETTINGS.values(), ids=SETTINGS)
def test_foreign_settings_do_not_change_results(tiny_project, project, tmp_path, texts, settings):
    folder = tmp_path / "other work"
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    settings = {name: value and value.replace("FOLDER", str(folder)) for name, value in settings.items()}
    assert_reproduced(project, tiny_project, **settings)


@contextmanager
def mounted(arguments: list[str], folder: Path) -> Iterator[None]:
    if not ROOT or subprocess.run(["mount", *arguments, str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_read_only_reports_folder_is_reported_in_one_line(project):
    make_stale(project)
    folder = project / "reports"
    if ROOT:
        with mounted(["--bind", str(folder)], folder):
            subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
            assert_refused(*run(STUDY, project), 2, "Read-only file system")
        return
    paths = [reports(project), *reports(project).rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    lines, status = run(STUDY, project)
    for path in paths:
        path.chmod(path.stat().st_mode | 0o200)
    assert_refused(lines, status, 2, "Permission denied")


@pytest.mark.slow
def test_a_full_disk_is_reported_in_one_line_and_leaves_no_partial_file(project, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    with mounted(["-t", "tmpfs", "-o", "size=40m", "tmpfs"], folder):
        shutil.copytree(reports(project), folder / "tiny")
        (folder / "tiny" / "06_biometry" / "record.json").unlink()
        (folder / "filler").write_bytes(bytes(shutil.disk_usage(folder).free - 150_000))
        assert_refused(*run(STUDY, project, REPORTS_ROOT=str(folder)), 1, "No space left on device")
        assert list(folder.rglob(".writing-*")) == []


@pytest.mark.slow
def test_a_shortage_of_file_descriptors_is_reported_in_one_line(project):
    make_stale(project)
    lines, status = run(STUDY, project, "ulimit -n 40")
    assert status in (1, 2)
    assert_refused(lines, status, status, "too few open files (ulimit -n is 40)")


@pytest.mark.slow
def test_a_kernel_without_enough_memory_is_stopped(project):
    before = {process.pid for process in psutil.process_iter()}
    settings = {"OPENBLAS_NUM_THREADS": "16", "FETAL_THESIS_ROOT": str(project)}  # as within the workflow
    lines, status = run([sys.executable, "-c", LOW_MEMORY], project, **settings)
    left = [p for p in psutil.process_iter(["cmdline", "cwd"]) if p.pid not in before and str(project) in str(p.info)]
    assert status == 2
    assert any("06_biometry of study tiny failed" in line for line in lines)
    assert left == []


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_a_file_system_without_locks_is_refused(project, tmp_path):
    (tmp_path / "flock.c").write_text(NO_FLOCK)
    library = str(tmp_path / "flock.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, str(tmp_path / "flock.c")], check=True)
    assert_refused(*run(STUDY, project, LD_PRELOAD=library), 2, "the file system does not support locks")


@pytest.fixture
def running(project: Path) -> subprocess.Popen:
    """The study while it runs 03, in its own process group."""
    make_stale(project, "03_model")
    process = subprocess.Popen(STUDY, cwd=project, env=environment(), **PIPES, **TERMINAL)
    end = time.monotonic() + PATIENCE_SECONDS
    while not any("ipykernel" in str(child.cmdline()) for child in psutil.Process(process.pid).children(True)):
        assert process.poll() is None, "the study ended before it started a kernel"
        assert time.monotonic() < end, "the study did not start a kernel"
        time.sleep(0.05)
    return process


@pytest.mark.slow
def test_ctrl_c_stops_every_process_and_the_same_command_resumes(project, running):
    children = psutil.Process(running.pid).children(recursive=True)
    os.killpg(running.pid, signal.SIGINT)
    lines = running.communicate(timeout=PATIENCE_SECONDS)[0].splitlines()
    assert_refused(lines, running.returncode, 130, "run the same command again to resume")
    assert psutil.wait_procs(children, timeout=10)[1] == []
    lines, status = run(STUDY, project)
    assert (status, lines[-1]) == (0, str(reports(project) / "report.pdf"))


@pytest.mark.slow
def test_a_second_run_is_refused_and_the_first_finishes(project, running):
    assert_refused(*run(STUDY, project), 2, "study tiny is already being run by process ")
    running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 0
    assert_done(project)


@pytest.mark.slow
def test_after_snakemake_is_killed_the_next_run_does_not_overlap_with_its_notebook(project, running):
    children = psutil.Process(running.pid).children()
    next(child for child in children if "snakemake" in child.cmdline()).kill()
    running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 1
    assert run(STUDY, project)[1] == 0
    assert_done(project)
