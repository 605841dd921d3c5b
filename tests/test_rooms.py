"""The rooms of lib: few, one floor each, imports only downwards, so never in a circle."""

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from lib.study import files

COMMAND = Path(sys.executable).with_name("lint-imports")


def check_contract(folder: Path) -> subprocess.CompletedProcess[str]:
    """The contract of pyproject.toml, checked for the `lib` that lies in a folder."""
    return subprocess.run([COMMAND, "--no-cache"], cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    """A copy of lib and its contract, to be spoilt."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(files.ROOT / "lib", folder / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(files.ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture
def planted(copied):
    """Adds a line to a module of the copy; it is taken back afterwards."""
    held = {}

    def plant(module: str, line: str) -> None:
        path = copied / module
        held[path] = path.read_text(encoding="utf-8") if path.exists() else None
        path.write_text((held[path] or "") + f"\n{line}\n", encoding="utf-8")

    yield plant
    for path, text in held.items():
        path.unlink() if text is None else path.write_text(text, encoding="utf-8")


def entries() -> list[str]:
    """What `ls lib` shows."""
    paths = [path for path in (files.ROOT / "lib").iterdir() if path.name != "__pycache__"]
    return sorted(path.name for path in paths)


def test_every_import_goes_down_so_there_is_no_circle():
    told = check_contract(files.ROOT)
    assert told.returncode == 0, told.stdout
    assert "1 kept, 0 broken" in told.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("lib/study/files.py", "from lib.training import loop"),
        ("lib/losses.py", "from lib import metrics"),
        ("lib/training/loop.py", "from lib.verification import verify"),
        ("lib/imaging/ellipse.py", "import lib.datasets.hc18"),
        ("lib/evaluation/biometry.py", "from lib.report.tables import title"),
        ("lib/another.py", "x = 1"),  # a room on no floor
    ],
)
def test_what_breaks_the_contract_is_found(copied, planted, module, line):
    planted(module, line)
    told = check_contract(copied)
    assert told.returncode == 1
    assert "0 kept, 1 broken" in told.stdout


def test_whoever_lists_lib_sees_few_rooms():
    assert len(entries()) <= 18


def test_between_rooms_there_are_few_arrows():
    """A room is an entry of lib; it had been 64 rooms and 228 arrows before they were put into folders."""
    graph = grimp.build_graph("lib", cache_dir=None)
    rooms = graph.find_children("lib")
    for room in rooms:
        graph.squash_module(room)
    arrows = sum(len(graph.find_modules_directly_imported_by(room)) for room in rooms)
    assert len(rooms) == len(entries()) - 1
    assert arrows <= 60
