"""The rooms of lib: few, and each imports only from those below it, so that imports are never circular."""

import ast
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from lib.study import files, provenance

COMMAND = Path(sys.executable).with_name("lint-imports")


def test_imports_follow_the_layers_and_are_never_circular():
    done = subprocess.run([COMMAND, "--no-cache"], cwd=files.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 kept, 0 broken" in done.stdout


def test_lib_has_few_rooms_and_few_imports_between_them():
    """A room is an entry of lib; before the modules were grouped there were 64 entries and 228 imports between them."""
    entries = [path.name for path in (files.ROOT / "lib").iterdir() if path.name != "__pycache__"]
    graph = grimp.build_graph("lib", cache_dir=None)
    rooms = graph.find_children("lib")
    for room in rooms:
        graph.squash_module(room)
    imports = sum(len(graph.find_modules_directly_imported_by(room)) for room in rooms)
    assert len(rooms) == len(entries) - 1 <= 18
    assert imports <= 70


NO_NETWORK = ("01_data_verification", "02_preprocessing", "06_biometry", "07_comparison")


@pytest.mark.parametrize(
    ("notebooks", "modules", "heavy"),
    [
        (NO_NETWORK, {"lib.report.build"}, {"torch", "albumentations"}),
        (
            (),
            {"lib.__main__", "lib.study.execution", "lib.pipeline"},
            {"pandas", "cv2", "scipy", "matplotlib", "papermill"},
        ),
    ],
    ids=["steps without a network", "command line"],
)
def test_what_takes_long_to_import_is_imported_only_where_it_is_used(notebooks, modules, heavy):
    sources = [code for name in notebooks for code in provenance.notebook_code(files.ROOT / f"notebooks/{name}.ipynb")]
    used = modules.union(*(provenance.imported_modules(ast.parse(code)) for code in sources))
    start = "lib.study.environment.use_threads()\n" if notebooks else ""
    program = f"import sys, {', '.join(sorted(used))}\n{start}print(*{heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], cwd=files.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_modules_that_windows_lacks_are_imported_only_where_they_are_used():
    for path in (files.ROOT / "lib").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in top for alias in node.names} | {getattr(node, "module", None) for node in top}
        assert not names & {"fcntl", "grp", "pwd", "resource", "termios"}, path


def test_a_submodule_is_used_only_where_it_is_imported():
    """`from lib import datasets; datasets.landmark_tables` works only if another module has imported it."""
    folders = ("lib", "benchmarks", "tests")
    modules = [path for name in folders for path in (files.ROOT / name).rglob("*.py")]
    sources = {path: path.read_text(encoding="utf-8") for path in modules}
    for path in (files.ROOT / "notebooks").glob("*.ipynb"):
        sources[path] = "\n".join(provenance.notebook_code(path))
    used = [(path, *use) for path, source in sources.items() for use in _submodules_used(source)]
    assert ("lib.report", "figures") in _submodules_used("from lib import report\nreport.figures.bars()")
    assert [str(path) for path, package, name in used if name not in _bound_by(package)] == []


def _submodules_used(source: str) -> list[tuple[str, str]]:
    """(package of lib, submodule) of each use of a submodule as an attribute of an imported package."""
    tree = ast.parse(source)
    packages = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lib"
        for alias in node.names
        if _folder(f"{node.module}.{alias.name}").is_dir()
    }
    attributes = [
        node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    ]
    uses = [(packages[node.value.id], node.attr) for node in attributes if node.value.id in packages]
    return [use for use in uses if (_folder(use[0]) / f"{use[1]}.py").is_file() or (_folder(use[0]) / use[1]).is_dir()]


def _bound_by(package: str) -> set[str]:
    """Names that a package imports or defines itself."""
    tree = ast.parse((_folder(package) / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    own = {f"{package}.{alias.name}" for node in imports if node.module == package for alias in node.names}
    within = {node.module for node in imports if (node.module or "").startswith(f"{package}.")}
    return {name.removeprefix(f"{package}.").split(".")[0] for name in own | within} | {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef)
    }


def _folder(module: str) -> Path:
    return files.ROOT.joinpath(*module.split("."))
