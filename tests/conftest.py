"""A complete small project in its own folder, run once; tests that modify it work on a copy."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from lib import datasets
from lib.study import files

# Options of a process that stands for a terminal's: SIGINT is ignored under nohup and "&", and inherited so.
TERMINAL = {"start_new_session": True, "preexec_fn": partial(signal.signal, signal.SIGINT, signal.default_int_handler)}
SKIPPED = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "security", "pid", "log", "db")
# 32 x 48 pixels and two epochs: the network learns nothing, but every step runs in seconds.
TINY = {"study": "tiny", "precision": "float32", "fold_count": "3", "depth": "2", "epochs": "2", "batch_size": "4"}
TINY |= {"image_size": "[32, 48]", "base_channels": "32"}  # enough channels for 03_model to overfit one batch
# Small studies of the two other kinds: landmarks and volumes.
TINY_POINTS = TINY | {"study": "tiny_points", "base_channels": "16", "folds": "[0]"}
TINY_VOLUMES = TINY_POINTS | {"study": "tiny_volumes", "image_size": "[32, 32]"}
TINY_VOLUMES |= {"validation_subjects": "1", "tensorboard_every": "1"}
WRITE_PHANTOM = """
import sys
from lib import datasets
from lib.study import files
datasets.make(sys.argv[1], subjects=int(sys.argv[2]), seed=3)
print(files.ROOT)
"""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Marks the tests of a study that has run."""
    if {"tiny_project", "kinds_project", "demo_reports"} & set(getattr(item, "fixturenames", ())):
        item.add_marker("study")


@pytest.fixture(autouse=True, scope="session")
def no_other_data_sets() -> Iterator[None]:
    """Hides data sets in data/raw from verification, so that results do not depend on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "available", lambda _: {})
        yield


@pytest.fixture
def processed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this test as the folder of preprocessed arrays."""
    monkeypatch.setattr(files, "processed_folder", lambda name: tmp_path / name)
    return tmp_path


def copy_code(folder: Path) -> None:
    """Copies the code of the project without data and reports, and adds params/tiny.yaml."""
    for name in ("lib", "notebooks", "params", "reports/template"):
        shutil.copytree(files.ROOT / name, folder / name, ignore=SKIPPED)
    for name in ("Snakefile", "pyproject.toml"):
        shutil.copy2(files.ROOT / name, folder / name)
    add_study(folder, "demo", TINY)


def add_study(project: Path, source: str, values: dict[str, str]) -> None:
    """Copies a study file with changed values; values["study"] is its new name."""
    path = project / "params" / f"{values['study']}.yaml"
    shutil.copy2(path.with_name(f"{source}.yaml"), path)
    change_keys(path, values)


def set_keys(project: Path, **values: str) -> None:
    """Changes keys of params/tiny.yaml in a project; values are YAML text."""
    change_keys(project / "params" / "tiny.yaml", values)


def change_keys(path: Path, values: dict[str, str]) -> None:
    """Changes keys of a study file; values are YAML text."""
    text = path.read_text(encoding="utf-8")
    for key, value in values.items():
        text, count = re.subn(rf"(?m)^{key}:.*$", f"{key}: {value}", text)
        assert count == 1, f"{path} contains {key} {count} times"
    path.write_text(text, encoding="utf-8")


def environment(project: Path, **settings: str) -> dict[str, str]:
    """Environment of a process that imports lib from a project, whichever version is installed."""
    # As many threads as Snakemake assigns with two cores: sums, and therefore bytes, depend on the number of threads.
    kept = {name: value for name, value in os.environ.items() if name != "REPORTS_ROOT"}
    own = {"PYTHONPATH": str(project), "IPYTHONDIR": str(project / "notebooks" / ".ipython")}
    return kept | own | {"FETAL_THESIS_THREADS": "2"} | settings


def python(project: Path, *arguments: str, cwd: Path | None = None, **settings: str) -> subprocess.CompletedProcess:
    """Runs Python with the lib of a project; returns output and exit status."""
    options = {"env": environment(project, **settings), "capture_output": True, "text": True, "check": False}
    return subprocess.run([sys.executable, *arguments], cwd=cwd or project, **options)


def run_study(project: Path, study: str = "tiny", **settings: str) -> subprocess.CompletedProcess:
    """Runs `python -m lib study <study>` in a project."""
    return python(project, "-m", "lib", "study", study, "--cores", "2", **settings)


@pytest.fixture(scope="session")
def bare_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project without data that has not been run; read or copy it, never modify it."""
    folder = tmp_path_factory.mktemp("bare") / "a project"  # paths may contain spaces
    copy_code(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the completed study `tiny`; read or copy it, never modify it."""
    folder = tmp_path_factory.mktemp("tiny") / "a project"
    copy_code(folder)
    saving = folder / "lib" / "training" / "saving.py"
    saving.write_text(saving.read_text().replace("SECONDS = 60.0", "SECONDS = 0.0"))  # a state to resume from
    write_phantom(folder, "phantom_brain", 9)
    done = run_study(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def kinds_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with completed studies of landmarks (`tiny_points`) and volumes (`tiny_volumes`); never modify it."""
    folder = tmp_path_factory.mktemp("kinds") / "a project"
    copy_code(folder)
    add_study(folder, "phantom_hc18_landmarks", TINY_POINTS)
    add_study(folder, "phantom_lgg", TINY_VOLUMES)
    write_phantom(folder, "phantom_landmarks", 9)
    write_phantom(folder, "phantom_lgg", 6)
    with ThreadPoolExecutor(2) as pool:  # starting a notebook keeps one core as busy as running it
        runs = list(pool.map(lambda study: run_study(folder, study), ("tiny_points", "tiny_volumes")))
    for done in runs:
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def write_phantom(project: Path, name: str, subjects: int) -> None:
    """Generates a phantom in data/raw of a project, with the lib of that project."""
    written = python(project, "-c", WRITE_PHANTOM, name, str(subjects))
    assert written.stdout.strip() == str(project), written.stdout + written.stderr


@pytest.fixture
def project(tiny_project: Path, tmp_path: Path) -> Path:
    """A modifiable copy of the completed project with its modification times."""
    return Path(shutil.copytree(tiny_project, tmp_path / "a project", symlinks=True))
