"""The rooms of lib: few, one floor each, imports only downwards, so never in a circle."""

import subprocess
import sys
from pathlib import Path

import grimp

from lib.study import files

COMMAND = Path(sys.executable).with_name("lint-imports")


def test_every_import_goes_down_so_there_is_no_circle():
    done = subprocess.run([COMMAND, "--no-cache"], cwd=files.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout


def test_whoever_lists_lib_sees_few_rooms_and_few_arrows_between_them():
    """A room is an entry of lib; it had been 64 rooms and 228 arrows before they were put into folders."""
    entries = [path.name for path in (files.ROOT / "lib").iterdir() if path.name != "__pycache__"]
    graph = grimp.build_graph("lib", cache_dir=None)
    rooms = graph.find_children("lib")
    for room in rooms:
        graph.squash_module(room)
    arrows = sum(len(graph.find_modules_directly_imported_by(room)) for room in rooms)
    assert len(rooms) == len(entries) - 1 <= 17
    assert arrows <= 60
