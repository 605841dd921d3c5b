"""What the surroundings may decide, and what they may not: the graph's word to the processes that it starts."""

import os

from lib import files

ROOT_VARIABLE = "FETAL_THESIS_ROOT"  # set by the graph for its notebooks: the project that they belong to


def for_children() -> dict[str, str]:
    """The environment of a process that the graph starts: this project's `lib` first, and its root named."""
    return os.environ | {"PYTHONPATH": str(files.ROOT), ROOT_VARIABLE: str(files.ROOT)}


def by_graph() -> bool:
    """Whether the graph has started this process, not a person."""
    return ROOT_VARIABLE in os.environ
