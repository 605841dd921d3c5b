"""The rooms of lib: few, and each imports only from those below it, so that imports are never circular."""

import subprocess
import sys
from pathlib import Path

import grimp

from lib.study import files

COMMAND = Path(sys.executable).with_name("lint-imports")


def test_imports_follow_the_layers_and_are_never_circular():
    done = subprocess.run([COMMAND, "--no-cache"], cwd=files.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout


def test_lib_has_few_rooms_and_few_imports_between_them():
    """A room is an entry of lib; before the modules were grouped there were 64 entries and 228 imports between them."""
    entries = [path.name for path in (files.ROOT / "lib").iterdir() if path.name != "__pycache__"]
    graph = grimp.build_graph("lib", cache_dir=None)
    rooms = graph.find_children("lib")
    for room in rooms:
        graph.squash_module(room)
    imports = sum(len(graph.find_modules_directly_imported_by(room)) for room in rooms)
    assert len(rooms) == len(entries) - 1 <= 17
    assert imports <= 60
