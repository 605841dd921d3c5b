"""What the project says in unusual places: `python -m tests.situations` tries each in a temporary folder.

Prints a line each: what was tried, the last line that a user saw, the status, and ok, FAULT or skipped.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests import conftest

STUDY = [sys.executable, "-m", "lib", "study", "tiny", "--cores", "2"]
WHY = [sys.executable, "-m", "lib", "why", "tiny"]
ROOT = os.geteuid() == 0 if hasattr(os, "geteuid") else False
PATIENCE_SECONDS = 600
FIGURES = ("06_biometry/figures", "06_biometry/tables")
NO_FLOCK = """
#include <errno.h>
int flock(int handle, int operation) { (void)handle; (void)operation; errno = ENOSYS; return -1; }
"""


@dataclass(frozen=True)
class Outcome:
    """What a user saw last, the status, and whether that is right; None where it could not be tried."""

    said: str
    status: int | None
    right: bool | None


class Untried(Exception):
    """This machine or user cannot make the situation; the text says why."""


def environment(**settings: str | None) -> dict[str, str]:
    """Of a user who has nothing set for this project; None removes a variable."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "REPORTS_ROOT", "OMP_WAIT_POLICY")}
    return {name: value for name, value in (kept | settings).items() if value is not None}


def run(command: list[str], project: Path, before: str = "", **settings: str | None) -> tuple[list[str], int]:
    """All lines that a user sees, and the status; `before` is shell text, such as a limit."""
    if before:
        command = ["bash", "-c", f'{before}; exec "$@"', "bash", *command]
    done = subprocess.run(
        command,
        cwd=project,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return done.stdout.splitlines(), done.returncode


def copied(whole: Path, folder: Path, name: str = "copy") -> Path:
    """A copy of the finished project, times kept."""
    return Path(shutil.copytree(whole, folder / name, symlinks=True))


def reports(project: Path) -> Path:
    return project / "reports" / "tiny"


def forget(project: Path, step: str = "06_biometry") -> None:
    """Lets one step, and the report, be made again."""
    (reports(project) / step / "record.json").unlink()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def last(lines: list[str]) -> str:
    return next((line for line in reversed(lines) if line.strip()), "")


def seen(lines: list[str], status: int, right: bool) -> Outcome:
    return Outcome(last(lines), status, right)


def as_before(whole: Path, folder: Path, before: str = "", name: str = "copy", **settings: str | None) -> Outcome:
    """06 and the report are made again with some settings; right where every figure and table has its bytes."""
    project = copied(whole, folder, name)
    forget(project)
    lines, status = run(STUDY, project, before, **settings)
    same = all(contents(reports(project) / part) == contents(reports(whole) / part) for part in FIGURES)
    return seen(lines, status, status == 0 and same and last(lines) == str(reports(project) / "report.pdf"))


def refusal(lines: list[str], status: int, wanted: int, words: str) -> Outcome:
    """Right where the last line holds some words, the status is the wanted one, and no traceback stands above."""
    return seen(lines, status, status == wanted and words in last(lines) and "Traceback" not in "\n".join(lines))


# --- places


def copied_beside(whole: Path, folder: Path) -> Outcome:
    before = contents(reports(whole))
    outcome = as_before(whole, folder)
    return Outcome(outcome.said, outcome.status, outcome.right and contents(reports(whole)) == before)


def moved(whole: Path, folder: Path) -> Outcome:
    (folder / "first").mkdir()
    copied(whole, folder / "first").rename(folder / "moved")
    forget(folder / "moved")
    lines, status = run(STUDY, folder / "moved")
    return seen(lines, status, last(lines) == str(reports(folder / "moved") / "report.pdf"))


def unzipped(whole: Path, folder: Path) -> Outcome:
    """A ZIP keeps no times when Python unpacks it."""
    archive = shutil.make_archive(str(folder / "project"), "zip", whole)
    zipfile.ZipFile(archive).extractall(folder / "copy")
    lines, status = run(WHY, folder / "copy")
    return seen(lines, status, status == 0 and all(line.endswith(" done") for line in lines))


def odd_path(whole: Path, folder: Path) -> Outcome:
    return as_before(whole, folder, name='Müller\'s {v2} $HOME "x" 100% #1 [y]')


def relative_reports(whole: Path, folder: Path) -> Outcome:
    project = copied(whole, folder)
    forget(project)
    (project / "reports").rename(project / "elsewhere")
    shutil.copytree(project / "elsewhere" / "template", project / "reports" / "template")
    lines, status = run(STUDY, project, REPORTS_ROOT="elsewhere")
    return seen(lines, status, last(lines) == str(project / "elsewhere" / "tiny" / "report.pdf"))


# --- a person's settings


def other_python(whole: Path, folder: Path) -> Outcome:
    tools = folder / "tools"
    tools.mkdir()
    for name in ("python", "python3", "jupyter"):
        (tools / name).write_text("#!/bin/sh\necho 'Python 2.7.18'; exit 3\n")
        (tools / name).chmod(0o755)
    return as_before(whole, folder, PATH=f"{tools}{os.pathsep}{os.environ['PATH']}")


def home_unwritable(whole: Path, folder: Path) -> Outcome:
    return as_before(whole, folder, HOME="/proc/nohome", XDG_CACHE_HOME=None)


def home_unset(whole: Path, folder: Path) -> Outcome:
    return as_before(whole, folder, HOME=None)


def foreign_kernel(whole: Path, folder: Path) -> Outcome:
    spec = folder / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(
        json.dumps({"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"})
    )
    return as_before(whole, folder, JUPYTER_PATH=str(folder / "jupyter"), JUPYTER_PREFER_ENV_PATH="0")


def foreign_matplotlibrc(whole: Path, folder: Path) -> Outcome:
    rc = folder / "matplotlibrc"
    rc.write_text("text.usetex: True\naxes.grid: True\nfont.size: 20\nsavefig.dpi: 30\nsvg.fonttype: none\n")
    return as_before(whole, folder, MATPLOTLIBRC=str(rc))


def foreign_python(whole: Path, folder: Path) -> Outcome:
    """Another package called lib, a start-up file that fails, warnings as errors, threads, a locale."""
    (folder / "foreign" / "lib").mkdir(parents=True)
    for name in ("foreign/lib/__init__.py", "startup.py"):
        (folder / name).write_text("raise RuntimeError('foreign')\n")
    values = {"PYTHONPATH": "foreign", "PYTHONSTARTUP": "startup.py", "BASH_ENV": "startup.py"}
    settings = {name: str(folder / value) for name, value in values.items()}
    settings |= {"PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "7", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    return as_before(whole, folder, TZ="Asia/Kathmandu", **settings)


def profile_of_snakemake(whole: Path, folder: Path) -> Outcome:
    (folder / "profile").mkdir()
    (folder / "profile" / "config.yaml").write_text("dry-run: true\n")
    return as_before(whole, folder, SNAKEMAKE_PROFILE=str(folder / "profile"))


def private_files(whole: Path, folder: Path) -> Outcome:
    outcome = as_before(whole, folder, before="umask 077")
    made = [p for p in (reports(folder / "copy") / "06_biometry").rglob("*") if p.name[0] != "."]  # its lock was there
    open_ones = [p for p in made if p.stat().st_mode & 0o077]
    return Outcome(outcome.said, outcome.status, outcome.right and not open_ones)


# --- git


def commit_in_record(project: Path, folder: Path, **settings: str) -> Outcome:
    forget(project)
    _, status = run(STUDY, project, **settings)
    commit = json.loads((reports(project) / "06_biometry" / "record.json").read_text())["commit"]
    return Outcome(f"commit {commit!r}", status, status == 0 and commit == "")


def no_git(whole: Path, folder: Path) -> Outcome:
    tools = folder / "tools"
    tools.mkdir()
    for name in ("bash", "sh", "env"):
        (tools / name).symlink_to(str(shutil.which(name)))
    return commit_in_record(copied(whole, folder), folder, PATH=str(tools))


def outer_repository(whole: Path, folder: Path) -> Outcome:
    if not shutil.which("git"):
        raise Untried("no git here")
    author = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    for arguments in (["init", "--quiet"], [*author, "commit", "--quiet", "--allow-empty", "-m", "thesis"]):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True)
    return commit_in_record(copied(whole, folder), folder, GIT_DIR=str(folder / ".git"))


# --- the machine's limits


@contextmanager
def mounted(arguments: list[str], place: Path) -> Iterator[None]:
    if not ROOT:
        raise Untried("only root may mount")
    if subprocess.run(["mount", *arguments, str(place)], capture_output=True, check=False).returncode:
        raise Untried("this container may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def read_only(whole: Path, folder: Path) -> Outcome:
    project = copied(whole, folder)
    forget(project)
    place = project / "reports"
    if not ROOT:
        for each in (place / "tiny", *(p for p in (place / "tiny").rglob("*"))):
            each.chmod(each.stat().st_mode & ~0o222)
        outcome = refusal(*run(STUDY, project), 2, "Permission denied")
        for each in (place / "tiny", *(p for p in (place / "tiny").rglob("*"))):
            each.chmod(each.stat().st_mode | 0o200)
        return outcome
    with mounted(["--bind", str(place)], place):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        return refusal(*run(STUDY, project), 2, "Read-only file system")


def full_disk(whole: Path, folder: Path) -> Outcome:
    place = folder / "small"
    place.mkdir()
    with mounted(["-t", "tmpfs", "-o", "size=40m", "tmpfs"], place):
        project = copied(whole, folder)
        shutil.copytree(reports(project), place / "tiny")
        (place / "tiny" / "06_biometry" / "record.json").unlink()
        with (place / "filler").open("wb") as file:
            left = shutil.disk_usage(place).free - 150_000
            file.write(bytes(left))
        lines, status = run(STUDY, project, REPORTS_ROOT=str(place))
        halves = list(place.rglob(".writing-*"))
        outcome = refusal(lines, status, 1, "No space left on device")
        return Outcome(outcome.said, status, outcome.right and not halves)


def few_files(whole: Path, folder: Path) -> Outcome:
    project = copied(whole, folder)
    forget(project)
    lines, status = run(STUDY, project, "ulimit -n 64")
    said = last(lines)
    return seen(lines, status, status in (1, 2) and "Too many open files" in said and "Traceback" not in str(lines))


def little_memory(whole: Path, folder: Path) -> Outcome:
    """A kernel that cannot import numpy spins for ever; the time limit is cut, so that this does not take minutes."""
    project = copied(whole, folder)
    script = (
        "import resource, sys\nfrom lib import pipeline\nfrom lib.study import environment, files, params\n"
        "resource.setrlimit(resource.RLIMIT_AS, (900 * 2**20,) * 2)\n"
        "pipeline.START_SECONDS = 20\n"
        "from lib import __main__\nsys.exit(__main__.main(['step', 'tiny', '06_biometry']))\n"
    )
    before = {process.pid for process in psutil.process_iter()}
    lines, status = run([sys.executable, "-c", script], project, OPENBLAS_NUM_THREADS="16")
    left = [p for p in psutil.process_iter(["cmdline", "cwd"]) if p.pid not in before and str(project) in str(p.info)]
    said = "\n".join(lines)
    return seen(lines, status, status == 2 and "06_biometry of study tiny stopped" in said and not left)


def no_locks(whole: Path, folder: Path) -> Outcome:
    if not shutil.which("cc"):
        raise Untried("no C compiler here")
    project, source = copied(whole, folder), folder / "flock.c"
    source.write_text(NO_FLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(folder / "flock.so"), str(source)], check=True)
    return refusal(*run(STUDY, project, LD_PRELOAD=str(folder / "flock.so")), 2, "its file system has no locks")


def closed_pipe(whole: Path, folder: Path) -> Outcome:
    command = f"set -o pipefail; {sys.executable} -m lib why tiny | head -n 1 | wc -l"
    lines, status = run(["bash", "-c", command], whole)
    return seen(lines, status, (lines, status) == (["1"], 0))


# --- stopped, and two at once


def begun(project: Path) -> subprocess.Popen:
    """The study at work in 03, in a process group of its own."""
    forget(project, "03_model")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(
        STUDY,
        cwd=project,
        env=environment(),
        start_new_session=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # ignored below nohup and "&"
        **pipes,
    )
    end = time.monotonic() + PATIENCE_SECONDS
    while not any("ipykernel" in str(child.cmdline()) for child in psutil.Process(process.pid).children(True)):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError("the study did not begin")
        time.sleep(0.05)
    return process


def stopped(whole: Path, folder: Path) -> Outcome:
    """Ctrl-C, then the same command again."""
    project = copied(whole, folder)
    process = begun(project)
    steps = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    lines = process.communicate(timeout=PATIENCE_SECONDS)[0].splitlines()
    _, alive = psutil.wait_procs(steps, timeout=10)
    again, status = run(STUDY, project)
    outcome = refusal(lines, process.returncode, 130, "the same command goes on from there")
    right = outcome.right and not alive and status == 0
    return Outcome(outcome.said, outcome.status, right and last(again) == str(reports(project) / "report.pdf"))


def two_at_once(whole: Path, folder: Path) -> Outcome:
    project = copied(whole, folder)
    process = begun(project)
    outcome = refusal(*run(STUDY, project), 2, "study tiny is being run by process ")
    process.communicate(timeout=PATIENCE_SECONDS)
    return Outcome(outcome.said, outcome.status, outcome.right and process.returncode == 0)


def snakemake_killed(whole: Path, folder: Path) -> Outcome:
    """SIGKILL of Snakemake alone; the next run must not work beside the notebook that goes on."""
    project = copied(whole, folder)
    process = begun(project)
    children = psutil.Process(process.pid).children()
    next(child for child in children if "snakemake" in child.cmdline()).kill()
    lines = process.communicate(timeout=PATIENCE_SECONDS)[0].splitlines()
    again, status = run(STUDY, project)
    said, code = run(WHY, project)
    right = process.returncode == 1 and status == 0 and code == 0 and all(line.endswith(" done") for line in said)
    return Outcome(f"{last(lines)}; then: {last(again)}", process.returncode, right)


FAST: dict[str, Callable[[Path, Path], Outcome]] = {
    "file system without locks": no_locks,
    "reports read-only": read_only,
    "a reader that closes its pipe": closed_pipe,
}
ALL = FAST | {
    "few file descriptors (ulimit -n 64)": few_files,
    "copied beside the original": copied_beside,
    "moved": moved,
    "ZIP unpacked without times": unzipped,
    "blank, umlaut, braces, dollar, quotes in the path": odd_path,
    "REPORTS_ROOT relative": relative_reports,
    "another python first in PATH": other_python,
    "HOME cannot be written": home_unwritable,
    "HOME unset": home_unset,
    "another python3 kernel in JUPYTER_PATH": foreign_kernel,
    "matplotlibrc with usetex, grid, font size": foreign_matplotlibrc,
    "foreign PYTHONPATH, PYTHONSTARTUP, PYTHONWARNINGS, OMP_NUM_THREADS, locale, TZ": foreign_python,
    "SNAKEMAKE_PROFILE with dry-run": profile_of_snakemake,
    "umask 077": private_files,
    "no git": no_git,
    "another project's repository around it, GIT_DIR set": outer_repository,
    "full disk": full_disk,
    "too little memory for the kernel (ulimit -v)": little_memory,
    "Ctrl-C in the middle": stopped,
    "two runs at once": two_at_once,
    "SIGKILL of Snakemake alone": snakemake_killed,
}


def attempt(what: str, whole: Path) -> Outcome:
    """One situation in a folder of its own; what cannot be made here has no verdict."""
    with tempfile.TemporaryDirectory(prefix="situation-") as folder:
        try:
            return ALL[what](whole, Path(folder).resolve())
        except Untried as reason:
            return Outcome(str(reason), None, None)


def main(chosen: list[str]) -> int:
    """Tries every situation, or those whose names hold one of some words."""
    faults = 0
    with tempfile.TemporaryDirectory(prefix="situations-") as folder:
        whole = Path(folder).resolve() / "a project"
        conftest.copy_code(whole)
        conftest.write_phantom(whole, "phantom_brain", 9)
        lines, status = run(STUDY, whole)
        if status:
            raise RuntimeError("\n".join(lines))
        for what in ALL:
            if not chosen or any(word in what for word in chosen):
                tried = attempt(what, whole)
                verdict = {True: "ok", False: "FAULT", None: "skipped"}[tried.right]
                said = tried.said.replace(folder, "…")
                print(f"{verdict:8}{what}: status {tried.status}: {said}", flush=True)
                faults += tried.right is False
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
