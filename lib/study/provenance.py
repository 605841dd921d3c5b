"""What a result was made by: code reachable from a notebook, versions, commit, device."""

import ast
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from lib.study import files

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "opencv-python-headless", "albumentations")
PACKAGES += ("matplotlib", "typst")
# Reached by every notebook; what they decide is in the record.
NOT_HASHED = {
    "lib.study.params",
    "lib.study.param_faults",
    "lib.study.param_rules",
    "lib.notebook",
    "lib.study.environment",
}

WORKING_PARTS = ("lib", "notebooks", "params", "reports/template", "Snakefile")  # files that results are made by


@cache
def module_file(module: str) -> Path | None:
    """File of a module of this project, None for anything else."""
    path = files.ROOT.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py") if module.startswith("lib") else ()
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _text(module: str) -> str:
    path = module_file(module)
    if path is None:
        raise ValueError(f"{module}: no module of this project")
    return path.read_text(encoding="utf-8")


def imported_modules(tree: ast.AST) -> set[str]:
    """Modules of this project that some code imports, by name."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if module_file(name)}
            names |= modules if modules and len(modules) == len(inner) else modules | {node.module}
    return {name for name in names if module_file(name) and name != "lib"}


@cache
def direct_imports(module: str) -> frozenset[str]:
    """Modules of this project that a module imports itself."""
    return frozenset(imported_modules(ast.parse(_text(module))))


def reachable(modules: set[str]) -> set[str]:
    """Modules of this project that some modules can reach, themselves included."""
    reached: set[str] = set()
    while modules:
        reached |= modules
        modules = set().union(*(direct_imports(module) for module in modules)) - reached
    return reached


def syntax(text: str) -> str:
    """The syntax tree of some code without docstrings: comments and layout leave it unchanged."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        is_documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if is_documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def module_hashes(modules: set[str]) -> dict[str, str]:
    """Hash of each module that some modules can reach, themselves included, without NOT_HASHED."""
    return {module: module_hash(module) for module in sorted(reachable(modules) - NOT_HASHED)}


@cache
def module_hash(module: str) -> str:
    """Hash of one module's syntax tree; comments, layout and docstrings leave it unchanged."""
    return hashlib.sha256(syntax(_text(module)).encode()).hexdigest()


def notebook_code(path: Path) -> list[str]:
    """Sources of a notebook's code cells, without the cell of parameters."""
    return [  # read as plain JSON: importing nbformat takes a second, in every kernel
        "".join(cell["source"])  # a list of lines, or one text
        for cell in files.read_json(path)["cells"]
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])
    ]


def notebook_hashes(path: Path) -> dict[str, str]:
    """Hash of a notebook's own code, and of each module that it can reach."""
    sources = notebook_code(path)
    modules = set().union(*(imported_modules(ast.parse(source)) for source in sources))
    own = hashlib.sha256("\n".join(syntax(source) for source in sources).encode()).hexdigest()
    return {path.name: own} | module_hashes(modules)


def commit() -> str:
    """The commit that is checked out, '+' where tracked files, code or studies differ; '' if ROOT is no repository."""
    try:
        top = Path(_git("rev-parse", "--show-toplevel"))
        if top.resolve() != files.ROOT.resolve():  # a repository around it is another project's
            return ""
        named = _git("rev-parse", "--short=12", "HEAD")
        untracked = ("ls-files", "--others", "--exclude-standard", "--", *WORKING_PARTS)
        changed = _git("status", "--porcelain", "--untracked-files=no") or _git(*untracked)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return named + ("+" if changed else "")


def _git(*arguments: str) -> str:
    """What git says of the project, whatever the environment points at and whoever owns the folder."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    options = ["--no-optional-locks", "-c", f"safe.directory={files.ROOT}", "-c", "core.fsmonitor=false"]
    command = ["git", *options, "-C", str(files.ROOT)]
    return subprocess.run([*command, *arguments], env=own, capture_output=True, text=True, check=True).stdout.strip()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def assigned_values(source: str) -> dict[str, Any]:
    """What a cell assigns, by name, if it holds nothing but plain assignments of written-out values; else nothing."""
    values: dict[str, Any] = {}
    try:
        for node in ast.parse(source).body:
            if not isinstance(node, ast.Assign | ast.AnnAssign):
                return {}
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                values[target.id] = ast.literal_eval(node.value)
    except (SyntaxError, ValueError, AttributeError):  # no Python; a value that is computed; an entry or several names
        return {}
    return values
