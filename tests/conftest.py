"""A whole small project in a folder of its own, run once; tests that change something copy it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lib import datasets
from lib.study import files

SKIPPED = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "security", "pid", "log", "db")
# 32 x 48 pixels and two epochs: nothing is learned, but every step runs in seconds.
TINY = {
    "study": "tiny",
    "precision": "float32",
    "fold_count": "3",
    "image_size": "[32, 48]",
    "base_channels": "32",  # enough for 03_model to learn its batch by heart at this size
    "depth": "2",
    "epochs": "2",
    "batch_size": "4",
}
# The two other kinds of study, as small: landmarks and volumes.
TINY_POINTS = TINY | {"study": "tiny_points", "base_channels": "16", "folds": "[0]"}
TINY_VOLUMES = TINY_POINTS | {
    "study": "tiny_volumes",
    "image_size": "[32, 32]",
    "validation_subjects": "1",
    "tensorboard_every": "1",
}
WRITE_PHANTOM = """
import sys
from lib import datasets
from lib.study import files
datasets.make(sys.argv[1], subjects=int(sys.argv[2]), seed=3)
print(files.ROOT)
"""


@pytest.fixture(autouse=True, scope="session")
def no_other_data_sets() -> Iterator[None]:
    """Verification searches none of the data sets that lie in this copy's data/raw: results do not depend on them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "available", lambda _: {})
        yield


@pytest.fixture
def processed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which preprocessed arrays are looked for: this test's own."""
    monkeypatch.setattr(files, "processed_folder", lambda name: tmp_path / name)
    return tmp_path


def copy_code(folder: Path) -> None:
    """Copies what a project runs on, without data and reports, and adds params/tiny.yaml."""
    for name in ("lib", "notebooks", "params", "reports/template"):
        shutil.copytree(files.ROOT / name, folder / name, ignore=SKIPPED)
    for name in ("Snakefile", "pyproject.toml"):
        shutil.copy2(files.ROOT / name, folder / name)
    add_study(folder, "demo", TINY)


def add_study(project: Path, source: str, values: dict[str, str]) -> None:
    """Copies a study file under the name among some values, which are changed in it."""
    path = project / "params" / f"{values['study']}.yaml"
    shutil.copy2(path.with_name(f"{source}.yaml"), path)
    change_keys(path, values)


def set_keys(project: Path, **values: str) -> None:
    """Changes keys of a project's params/tiny.yaml; values as YAML text."""
    change_keys(project / "params" / "tiny.yaml", values)


def change_keys(path: Path, values: dict[str, str]) -> None:
    """Changes keys of a study file; values as YAML text."""
    text = path.read_text(encoding="utf-8")
    for key, value in values.items():
        text, count = re.subn(rf"(?m)^{key}:.*$", f"{key}: {value}", text)
        assert count == 1, f"{key} stands {count} times in {path}"
    path.write_text(text, encoding="utf-8")


def environment(project: Path, **settings: str) -> dict[str, str]:
    """Of a process that uses a project's own lib, whichever one is installed."""
    # As many threads as the graph gives with two cores: sums, and so bytes, depend on their number.
    kept = {name: value for name, value in os.environ.items() if name != "REPORTS_ROOT"}
    own = {"PYTHONPATH": str(project), "IPYTHONDIR": str(project / "notebooks" / ".ipython")}
    return kept | own | {"FETAL_THESIS_THREADS": "2"} | settings


def python(project: Path, *arguments: str, cwd: Path | None = None, **settings: str) -> subprocess.CompletedProcess:
    """Runs Python on a project's own lib and returns what it printed, and its status."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd or project,
        env=environment(project, **settings),
        capture_output=True,
        text=True,
        check=False,
    )


def run_study(project: Path, study: str = "tiny", **settings: str) -> subprocess.CompletedProcess:
    """`python -m lib study <study>` in a project."""
    return python(project, "-m", "lib", "study", study, "--cores", "2", **settings)


@pytest.fixture(scope="session")
def bare_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has not run and has no data; read it, copy it, leave it as it is."""
    folder = tmp_path_factory.mktemp("bare") / "a project"  # a blank in the path must not matter
    copy_code(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose study `tiny` has run to its end; read it, copy it, leave it as it is."""
    folder = tmp_path_factory.mktemp("tiny") / "a project"
    copy_code(folder)
    write_phantom(folder, "phantom_brain", 9)
    done = run_study(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def kinds_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has learnt landmarks (`tiny_points`) and lesions in volumes (`tiny_volumes`); leave it as it is.

    Both at once: a notebook's start keeps one core busy for as long as its work.
    """
    folder = tmp_path_factory.mktemp("kinds") / "a project"
    copy_code(folder)
    add_study(folder, "phantom_hc18_landmarks", TINY_POINTS)
    add_study(folder, "phantom_lgg", TINY_VOLUMES)
    write_phantom(folder, "phantom_landmarks", 9)
    write_phantom(folder, "phantom_lgg", 6)
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda study: run_study(folder, study), ("tiny_points", "tiny_volumes")))
    for done in runs:
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def write_phantom(project: Path, name: str, subjects: int) -> None:
    """Draws a phantom by the project's own lib, into its own data/raw."""
    written = python(project, "-c", WRITE_PHANTOM, name, str(subjects))
    assert written.stdout.strip() == str(project), written.stdout + written.stderr


@pytest.fixture
def project(tiny_project: Path, tmp_path: Path) -> Path:
    """A copy of the finished project to change; times are kept."""
    return Path(shutil.copytree(tiny_project, tmp_path / "a project", symlinks=True))
