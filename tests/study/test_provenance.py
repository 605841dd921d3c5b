import ast
import os
import shutil
import subprocess

import pytest

from lib.study import files, provenance

CACHED = (provenance.module_file, provenance.parsed)
AREA = '''"""Areas."""

FACTOR = 2


def area(side):
    """Of a square."""
    return FACTOR * side  # the side
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small lib: work imports datasets.phantom, which imports files; nothing imports tables."""
    monkeypatch.setattr(files, "ROOT", tmp_path)
    for cached in CACHED:
        cached.cache_clear()
    sources = {
        "__init__.py": "",
        "files.py": AREA,
        "tables.py": "",
        "study/__init__.py": "",
        "study/params.py": "",
        "datasets/__init__.py": "",
        "datasets/phantom.py": "import lib.files\n",
        "work.py": "from lib.datasets import phantom\n",
    }
    for name, text in sources.items():
        path = tmp_path / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    yield tmp_path / "lib"
    for cached in CACHED:
        cached.cache_clear()


def rewrite(package, name, text):
    (package / name).write_text(text, encoding="utf-8")
    for cached in CACHED:
        cached.cache_clear()


UNCHANGED = [
    (AREA, AREA.replace("# the side", "# another word")),
    (AREA, AREA.replace("Areas.", "Sizes.").replace("Of a square.", "Of something square.")),
    (AREA, AREA.replace("FACTOR * side", "(\n        FACTOR * side\n    )")),
    ('class A:\n    """One."""\n\n    x = 1\n', 'class A:\n    """Two."""\n\n    x = 1\n'),
    ('async def f():\n    """One."""\n    return 1\n', "async def f():\n    return 1\n"),
]
CHANGED = [
    (AREA, AREA.replace("FACTOR = 2", "FACTOR = 3")),
    (AREA, AREA.replace("FACTOR * side", "side * FACTOR")),
    (AREA, AREA.replace("def area(side)", "def area(side=1)")),
    ("x = 'one'", "x = 'two'"),
    ('x = 1\n"""One."""', 'x = 1\n"""Two."""'),  # not a docstring
]


@pytest.mark.parametrize(
    ("before", "now", "equal"), [*((*pair, True) for pair in UNCHANGED), *((*pair, False) for pair in CHANGED)]
)
def test_code_but_no_comment_docstring_or_layout_changes_the_hash(before, now, equal):
    assert before != now
    assert (provenance.syntax(ast.parse(before)) == provenance.syntax(ast.parse(now))) == equal


@pytest.mark.parametrize(
    "source",
    [
        "import lib.datasets.phantom",
        "import lib.datasets.phantom as brain",
        "from lib.datasets import phantom",
        "from lib.datasets.phantom import write",
        "from lib import files\nfrom lib.datasets import phantom, other",
        "def f():\n    from lib.datasets import phantom\n",
    ],
)
def test_every_form_of_import_is_followed(package, source):
    rewrite(package, "work.py", source + "\n")
    reached = provenance.reachable({"lib.work"})
    assert reached >= {"lib.datasets.phantom", "lib.files"}
    assert "lib.tables" not in reached


def test_a_changed_module_changes_the_hashes_of_its_importers_only(package):
    before, unrelated = provenance.module_hashes({"lib.work"}), provenance.module_hashes({"lib.tables"})
    rewrite(package, "files.py", AREA.replace("FACTOR = 2", "FACTOR = 3"))
    now = provenance.module_hashes({"lib.work"})
    assert [name for name in before if before[name] != now[name]] == ["lib.files"]
    assert provenance.module_hashes({"lib.tables"}) == unrelated


def test_params_and_other_packages_are_not_hashed(package):
    rewrite(package, "work.py", "import numpy, library\nfrom lib import files\nfrom lib.study import params\n")
    assert set(provenance.module_hashes({"lib.work"})) == {"lib.files", "lib.work"}
    with pytest.raises(ValueError, match=r"lib\.nowhere: not a module of this project"):
        provenance.module_hash("lib.nowhere")


def test_a_notebook_s_code_excludes_the_parameters_cell():
    code = provenance.notebook_code(files.ROOT / "notebooks" / "05_evaluation.ipynb")
    assert not any("flip_average =" in cell for cell in code)
    assert any('start("05_evaluation", globals())' in cell for cell in code)


def test_a_notebook_s_hashes_are_of_itself_and_of_the_modules_that_it_reaches():
    hashes = provenance.notebook_hashes(files.ROOT / "notebooks" / "04_training.ipynb")
    reached = {"lib.training.loop", "lib.losses", "lib.datasets.phantoms.heads", "lib.models.layers"}
    assert {"04_training.ipynb", *reached} <= set(hashes)
    assert not {"lib.evaluation.segmentation", "lib.evaluation.biometry", "lib.pipeline"} & set(hashes)


def test_figures_parameter_messages_and_verification_checks_never_cause_retraining():
    reached, hashed = provenance.reachable({"lib.training.loop"}), provenance.module_hashes({"lib.training.loop"})
    assert not [name for name in reached if name.startswith(("lib.report", "lib.verification"))]
    assert {"lib.study.params", "lib.study.param_faults", "lib.study.param_rules"} <= reached - hashed.keys()


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("x = 1\ny: float = -2.5", {"x": 1, "y": -2.5}),
        ("x = y = [1, 'a', None]", {"x": [1, "a", None], "y": [1, "a", None]}),
        ("x = 1\nprint(x)", {}),
        ("x = table.head()", {}),
        ("x, y = 1, 2", {}),
        ("x[0] = 1", {}),
        ("x += 1", {}),
        ("x: int", {}),
        ("x =", {}),
        ("", {}),
    ],
)
def test_assigned_values_are_those_of_cells_of_literals_only(source, values):
    assert provenance.assigned_values(source) == values


def git(folder, *arguments):
    author = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", f"safe.directory={folder}"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", *author, "-C", str(folder), *arguments]
    return subprocess.run(command, env=kept, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A committed project inside another repository."""
    folder = tmp_path / "thesis" / "project"
    for name in ("lib/work.py", "params/demo.yaml", "README.md", ".gitignore"):
        files.write_text(folder / name, "*.log\n")
    monkeypatch.setattr(files, "ROOT", folder)
    for each in (folder, folder.parent):
        git(each, "init", "--quiet")
        git(each, "add", ".")
        git(each, "commit", "--quiet", "-m", each.name)
    return folder


@pytest.mark.parametrize("in_hook", [True, False])
def test_the_commit_is_that_of_the_project_and_never_of_an_enclosing_repository(repository, monkeypatch, in_hook):
    if in_hook:  # git sets these for a hook
        monkeypatch.setenv("GIT_DIR", str(repository.parent / ".git"))
        monkeypatch.setenv("GIT_WORK_TREE", str(repository.parent))
    assert provenance.commit() == git(repository, "rev-parse", "--short=12", "HEAD")
    shutil.rmtree(repository / ".git")
    assert provenance.commit() == ""


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        *(("lib/work.py", "+"), ("README.md", "+"), ("lib/new.py", "+"), ("lib/datasets/new.py", "+")),
        *(("params/mine.yaml", "+"), ("notebooks/09_mine.ipynb", "+"), ("notes.txt", ""), ("lib/run.log", "")),
    ],
)
def test_changed_files_and_new_code_or_studies_add_a_plus_to_the_commit(repository, name, mark):
    files.write_text(repository / name, "changed\n")
    assert provenance.commit() == git(repository, "rev-parse", "--short=12", "HEAD") + mark


def test_the_filter_of_notebooks_is_not_run_for_the_commit(repository):
    files.write_text(repository / ".gitattributes", "lib/work.py filter=fetal-thesis\n")
    git(repository, "config", "filter.fetal-thesis.clean", "touch was_run; cat")
    git(repository, "config", "filter.fetal-thesis.required", "true")
    git(repository, "add", ".gitattributes")
    git(repository, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "filter")
    marker, work = repository / "was_run", repository / "lib" / "work.py"
    os.utime(work, (1, 1))  # git looks at the content again
    marker.unlink(missing_ok=True)
    assert provenance.commit() == git(repository, "rev-parse", "--short=12", "HEAD")
    assert not marker.exists()
    git(repository, "status")
    assert marker.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give a folder away")
def test_the_commit_of_a_folder_of_another_owner_is_read(repository):
    for path in (repository, *repository.rglob("*")):
        os.chown(path, 65534, 65534)
    assert provenance.commit() == git(repository, "rev-parse", "--short=12", "HEAD")


def test_without_git_or_a_repository_there_is_no_commit(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    assert provenance.commit() == ""
    monkeypatch.setattr(files, "ROOT", repository)
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() == ""
