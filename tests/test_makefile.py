"""Set-up of .venv: choice of Python, rebuild if stale or incomplete, one make at a time."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib.study import files

# A fake Python that prints its version and logs its calls: venv and pip take minutes.
STUB = """#!/bin/sh
case "$*" in
  --version) echo "Python {version}";;
  "-c "*) exec {python} -c "import sys; sys.version_info = ({numbers}); exec(sys.argv[1])" "$2";;
  "-m venv --system-site-packages .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo "venv open" >> log
    echo "include-system-site-packages = true" > .venv/pyvenv.cfg;;
  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo "venv {version}" >> log; {venv};;
  "-m pip "*) echo pip >> log; {pip};;
  "-m lib "*) echo "lib PYTHONPATH=$PYTHONPATH PIP_USER=$PIP_USER PYTHONHOME=$PYTHONHOME" >> log;;
esac
"""


@pytest.fixture
def project(tmp_path):
    """A folder with the Makefile, and `python3` first in PATH."""
    folder = tmp_path / "Müller's {v2} $x project"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(files.ROOT / name, folder / name)
    write_python(folder, "python3", "3.11.4")
    return folder


def write_python(project: Path, name: str, version: str, venv: str = "true", pip: str = "true") -> None:
    numbers = ", ".join(version.split("."))
    path = project.parent / "tools" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(STUB.format(version=version, numbers=numbers, python=sys.executable, venv=venv, pip=pip))
    path.chmod(0o755)


def make(project: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    path = f"{project.parent / 'tools'}{os.pathsep}{os.environ['PATH']}"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))} | {"PATH": path}
    command = ["make", "-C", str(project), *(arguments or ["why"])]
    return subprocess.run(command, env=environment | settings, capture_output=True, text=True, check=False)


def log(project: Path) -> list[str]:
    """First words of the calls since the last `log`."""
    path = project / "log"
    lines = path.read_text().splitlines() if path.is_file() else []
    path.unlink(missing_ok=True)
    return [line if line.startswith("venv") else line.split()[0] for line in lines]


FRESH, AS_BEFORE = ["venv 3.11.4", "pip", "lib"], ["lib"]


def assert_made(project: Path, expected: list[str], *arguments: str) -> None:
    """`make` succeeds with these calls."""
    assert make(project, *arguments).returncode == 0
    assert log(project) == expected


def test_set_up_is_made_once_in_a_path_with_odd_letters_and_a_changed_list_of_packages_installs_into_it(project):
    assert_made(project, FRESH)
    assert_made(project, AS_BEFORE)
    later = (project / ".venv" / ".ready").stat().st_mtime + 10
    os.utime(project / "pyproject.toml", (later, later))
    assert_made(project, ["pip", "lib"])


@pytest.mark.parametrize("version", ["3.10.12", "2.7.18"])
def test_a_python_that_is_too_old_is_named_before_anything_is_made(project, version):
    write_python(project, "python3", version)
    done = make(project)
    assert done.stderr.startswith(f"Python 3.11 or newer is required; python3 is Python {version}. Use another one: ")
    assert done.returncode != 0
    assert not (project / ".venv").exists()
    write_python(project, "python3.12", "3.12.1")
    assert_made(project, ["venv 3.12.1", "pip", "lib"], "why", "PYTHON=python3.12")
    assert_made(project, AS_BEFORE)  # python3 is still too old, but .venv is up to date
    assert make(project, "why", "PYTHON=python9").stderr.startswith("Python 3.11 or newer is required; python9 is ")


def test_an_install_that_failed_is_begun_anew(project):
    write_python(project, "python3", "3.11.4", pip="exit 1")
    assert make(project).returncode != 0
    assert log(project) == ["venv 3.11.4", "pip"]
    (project / ".venv" / "left over").touch()
    write_python(project, "python3", "3.11.4")
    assert_made(project, FRESH)
    assert not (project / ".venv" / "left over").exists()


def test_a_missing_venv_module_is_one_sentence_and_does_not_stay(project):
    write_python(project, "python3", "3.11.4", venv="echo 'ensurepip is not available'; exit 1")
    done = make(project)
    assert done.stderr.startswith(
        "python3 cannot make .venv; on Debian and Ubuntu run 'apt install python3-venv' and repeat the command\n"
    )
    assert "ensurepip" not in done.stdout
    write_python(project, "python3", "3.11.4")
    assert make(project).returncode == 0


def test_a_copied_or_moved_project_sets_up_its_own_environment(project):
    make(project)
    copy = shutil.copytree(project, project.with_name("copy"), symlinks=True)
    log(copy)
    assert make(copy).returncode == 0
    assert log(copy) == ["venv 3.11.4", "pip", "lib"]
    log(project)
    assert_made(project, AS_BEFORE)


def test_a_linked_environment_of_another_project_is_left_as_it_is(project):
    make(project)
    other = project.with_name("other")
    other.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(project / name, other / name)
    (other / ".venv").symlink_to(project / ".venv")
    assert make(other).returncode == 0
    assert not (other / ".venv").is_symlink()
    assert (project / ".venv" / ".ready").read_text().startswith(str(project))


def test_another_python_or_one_that_is_gone_makes_the_environment_anew(project):
    assert_made(project, FRESH)
    write_python(project, "python3.13", "3.13.0")
    assert_made(project, ["venv 3.13.0", "pip", "lib"], "why", "PYTHON=python3.13")
    (project / ".venv" / "bin" / "python").unlink()
    assert_made(project, FRESH)


def test_a_second_make_does_not_touch_what_the_first_is_setting_up(project):
    first = subprocess.Popen([shutil.copy(shutil.which("sleep"), project.parent / "make"), "600"])
    (project / ".venv").mkdir()
    (project / ".venv" / ".making").write_text(f"{first.pid}\n")
    done = make(project)
    first.kill()
    first.wait()
    assert done.returncode != 0
    assert done.stderr.startswith("another make is setting up .venv; wait for it to finish\n")
    assert log(project) == []
    assert make(project).returncode == 0


def test_a_number_that_another_process_has_by_now_keeps_nobody_waiting(project):
    (project / ".venv").mkdir()
    (project / ".venv" / ".making").write_text(f"{os.getpid()}\n")
    assert_made(project, FRESH)


def test_an_environment_that_make_has_not_made_is_kept_under_another_name(project):
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "mine").touch()
    assert make(project).returncode == 0
    assert (project / ".venv.old" / "mine").is_file()
    assert log(project) == ["venv 3.11.4", "pip", "lib"]


def test_what_a_person_has_set_for_other_work_does_not_reach_python(project):
    make(project, "why", PYTHONPATH="/elsewhere", PIP_USER="1", PYTHONHOME="/nowhere")
    assert f"lib PYTHONPATH={project} PIP_USER=0 PYTHONHOME=" in (project / "log").read_text().splitlines()


def test_an_installed_torch_is_seen_and_pinned_and_later_commands_keep_it(project):
    assert make(project, "why", "TORCH=installed").returncode == 0
    assert log(project) == ["venv open", "pip", "lib"]
    asked, pinned = (
        (project / place).read_text().splitlines() for place in ("constraints.txt", ".venv/constraints.txt")
    )
    installed = {f"{name}=={importlib.metadata.version(name)}" for name in ("torch", "torchvision")}
    assert set(pinned) == {line for line in asked if not line.startswith("torch")} | installed
    assert make(project).returncode == 0
    assert make(project, "why", "TORCH=installed").returncode == 0
    assert log(project) == [*AS_BEFORE, *AS_BEFORE]


def test_an_environment_of_its_own_is_made_anew_for_an_installed_torch_and_keeps_to_the_constraints_else(project):
    make(project)
    assert (project / ".venv" / "constraints.txt").read_bytes() == (project / "constraints.txt").read_bytes()
    log(project)
    assert make(project, "why", "TORCH=installed").returncode == 0
    assert log(project) == ["venv open", "pip", "lib"]


def test_a_python_without_torch_and_another_value_are_refused_before_anything_is_made(project):
    without = project.parent / "tools" / "python3"
    without.write_text(
        without.read_text().replace("exec(sys.argv[1])", "sys.modules['torch'] = None; exec(sys.argv[1])")
    )
    done = make(project, "why", "TORCH=installed")
    assert "TORCH=installed: python3 cannot import torch; set PYTHON=<path> to a Python that can" in done.stderr
    assert not (project / ".venv").exists()
    done = make(project, "why", "TORCH=2.11")
    assert "TORCH=2.11 is not allowed; the only value is TORCH=installed, which uses the torch of" in done.stderr
    assert not (project / ".venv").exists()
