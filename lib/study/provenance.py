"""Provenance of results: hashes of the code that a notebook reaches, package versions, commit."""

import ast
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from lib.study import files

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "opencv-python-headless", "albumentations")
PACKAGES += ("matplotlib", "typst")
# Imported by every notebook; their effect on results is in the record.
NOT_HASHED = {
    "lib.study.params",
    "lib.study.param_faults",
    "lib.study.param_rules",
    "lib.notebook",
    "lib.study.environment",
    "lib.data.quick_pass",  # of manual runs only
    "lib.training.monitor",  # display only
    "lib.study.progress",  # display only
}

WORKING_PARTS = ("lib", "notebooks", "params", "reports/template", "Snakefile")  # files that results depend on


@cache
def module_file(module: str) -> Path | None:
    """Source file of a module of this project; None for any other module."""
    path = files.ROOT.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py") if module.startswith("lib") else ()
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _text(module: str) -> str:
    path = module_file(module)
    if path is None:
        raise ValueError(f"{module}: not a module of this project")
    return path.read_text(encoding="utf-8")


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """A syntax tree and all statements in it, which alone import and define; expressions are nine of ten nodes."""
    yield tree
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        parts = getattr(tree, field, None)
        if isinstance(parts, list):  # the body of a lambda is an expression
            for part in parts:
                yield from statements(part)


def imported_modules(tree: ast.AST) -> set[str]:
    """Names of the modules of this project that a syntax tree imports."""
    names: set[str] = set()
    for node in statements(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if module_file(name)}
            names |= modules if modules and len(modules) == len(inner) else modules | {node.module}
    return {name for name in names if module_file(name) and name != "lib"}


@cache
def parsed(module: str) -> tuple[frozenset[str], str]:
    """Modules of this project that a module imports directly, and the SHA-256 of its `syntax`; parsed once for both."""
    tree = ast.parse(_text(module))
    return frozenset(imported_modules(tree)), hashlib.sha256(syntax(tree).encode()).hexdigest()


def reachable(modules: set[str]) -> set[str]:
    """Modules of this project that the given modules import directly or indirectly, including themselves."""
    reached: set[str] = set()
    while modules:
        reached |= modules
        modules = set().union(*(parsed(module)[0] for module in modules)) - reached
    return reached


def syntax(tree: ast.AST) -> str:
    """Syntax tree of source code as text, independent of docstrings, comments and layout; docstrings are removed."""
    for node in statements(tree):
        is_documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if is_documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def module_hashes(modules: set[str]) -> dict[str, str]:
    """Hash of each `reachable` module except those in NOT_HASHED."""
    return {module: module_hash(module) for module in sorted(reachable(modules) - NOT_HASHED)}


def module_hash(module: str) -> str:
    """SHA-256 of a module's `syntax`."""
    return parsed(module)[1]


def notebook_code(path: Path) -> list[str]:
    """Sources of a notebook's code cells, without the parameters cell."""
    return [  # read as plain JSON: importing nbformat takes a second, in every kernel
        "".join(cell["source"])  # a list of lines or a string
        for cell in files.read_json(path)["cells"]
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])
    ]


def notebook_hashes(path: Path) -> dict[str, str]:
    """Hash of a notebook's own code and of each module that it imports directly or indirectly."""
    trees = [ast.parse(source) for source in notebook_code(path)]
    modules = set().union(*map(imported_modules, trees))
    own = hashlib.sha256("\n".join(map(syntax, trees)).encode()).hexdigest()
    return {path.name: own} | module_hashes(modules)


def commit() -> str:
    """Commit checked out, with '+' if tracked files changed or WORKING_PARTS has new files; '' outside a repository."""
    try:
        top = Path(_git("rev-parse", "--show-toplevel"))
        if top.resolve() != files.ROOT.resolve():  # the enclosing repository is another project's
            return ""
        named = _git("rev-parse", "--short=12", "HEAD")
        untracked = ("ls-files", "--others", "--exclude-standard", "--", *WORKING_PARTS)
        changed = _git("status", "--porcelain", "--untracked-files=no") or _git(*untracked)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return named + ("+" if changed else "")


def _git(*arguments: str) -> str:
    """Output of a git command in the project; ignores GIT_* variables and the owner of the folder.

    The filter of notebooks is off: in a fresh clone it would take seconds at each step. Saved notebooks whose outputs
    alone have changed are known to git by their size and time (`saved_notebook`).
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    options = ["--no-optional-locks", "-c", f"safe.directory={files.ROOT}", "-c", "core.fsmonitor=false"]
    options += ["-c", "filter.fetal-thesis.clean=", "-c", "filter.fetal-thesis.required=false"]
    command = ["git", *options, "-C", str(files.ROOT)]
    return subprocess.run([*command, *arguments], env=own, capture_output=True, text=True, check=True).stdout.strip()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages in PACKAGES."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def assigned_values(source: str) -> dict[str, Any]:
    """Values by name that a cell assigns if it consists of assignments of literals only; else an empty dict."""
    values: dict[str, Any] = {}
    try:
        for node in ast.parse(source).body:
            if not isinstance(node, ast.Assign | ast.AnnAssign):
                return {}
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                values[target.id] = ast.literal_eval(node.value)
    except (SyntaxError, ValueError, AttributeError):  # invalid, a computed value or no single name
        return {}
    return values
