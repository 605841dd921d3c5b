"""What counts as a change of code, and how far it reaches."""

import os
import shutil
import subprocess

import pytest

from lib.study import files, provenance

CACHED = (provenance.module_file, provenance.direct_imports, provenance.module_hash)
AREA = '''"""Areas."""

FACTOR = 2


def area(side):
    """Of a square."""
    return FACTOR * side  # the side
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A lib of its own: work -> datasets.phantom -> files, and tables, which nobody imports."""
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


def test_a_comment_leaves_the_hash_unchanged():
    assert provenance.syntax(AREA) == provenance.syntax(AREA.replace("# the side", "# another word"))


def test_a_docstring_of_module_function_or_class_leaves_the_hash_unchanged():
    changed = AREA.replace("Areas.", "Sizes.").replace("Of a square.", "Of something square.")
    assert provenance.syntax(AREA) == provenance.syntax(changed)
    classes = [f'class A:\n    """{text}"""\n\n    x = 1\n' for text in ("One.", "Two.")]
    assert provenance.syntax(classes[0]) == provenance.syntax(classes[1])


def test_layout_leaves_the_hash_unchanged():
    assert provenance.syntax(AREA) == provenance.syntax(
        AREA.replace("FACTOR * side", "(\n        FACTOR * side\n    )")
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [("FACTOR = 2", "FACTOR = 3"), ("FACTOR * side", "side * FACTOR"), ("def area(side)", "def area(side=1)")],
)
def test_a_changed_constant_expression_or_default_changes_the_hash(old, new):
    assert old in AREA
    assert provenance.syntax(AREA) != provenance.syntax(AREA.replace(old, new))


def test_a_text_that_is_no_docstring_changes_the_hash():
    assert provenance.syntax("x = 'one'") != provenance.syntax("x = 'two'")


def test_a_docstring_of_a_coroutine_leaves_the_hash_unchanged():
    texts = [f'async def f():\n    """{word}"""\n    return 1\n' for word in ("One.", "Two.")]
    assert provenance.syntax(texts[0]) == provenance.syntax(texts[1])


def test_reachable_follows_a_module_imported_from_its_folder(package):
    assert "lib.datasets.phantom" in provenance.reachable({"lib.work"})


def test_reachable_follows_a_plain_import(package):
    assert provenance.reachable({"lib.datasets.phantom"}) >= {"lib.datasets.phantom", "lib.files"}


def test_reachable_leaves_out_what_nobody_imports(package):
    assert "lib.tables" not in provenance.reachable({"lib.work"})


@pytest.mark.parametrize(
    "source",
    [
        "import lib.datasets.phantom",
        "import lib.datasets.phantom as brain",
        "from lib.datasets import phantom",
        "from lib.datasets.phantom import write",
        "from lib import files\nfrom lib.datasets import phantom, other",
    ],
)
def test_every_way_to_import_a_member_of_a_folder_counts(package, source):
    rewrite(package, "work.py", source + "\n")
    assert "lib.datasets.phantom" in provenance.reachable({"lib.work"})


def test_an_import_inside_a_function_counts(package):
    rewrite(package, "work.py", "def f():\n    from lib import tables\n")
    assert "lib.tables" in provenance.reachable({"lib.work"})


def test_a_changed_module_changes_the_hashes_of_what_reaches_it_and_of_nothing_else(package):
    before, apart = provenance.module_hashes({"lib.work"}), provenance.module_hashes({"lib.tables"})
    rewrite(package, "files.py", AREA.replace("FACTOR = 2", "FACTOR = 3"))
    now = provenance.module_hashes({"lib.work"})
    assert [name for name in before if before[name] != now[name]] == ["lib.files"]
    assert provenance.module_hashes({"lib.tables"}) == apart


def test_params_and_notebook_do_not_count(package):
    rewrite(package, "work.py", "from lib import files\nfrom lib.study import params\n")
    assert set(provenance.module_hashes({"lib.work"})) == {"lib.files", "lib.work"}


def test_no_other_package_is_taken_for_this_one(package):
    assert provenance.module_file("library") is None
    assert provenance.module_file("numpy") is None


def test_a_name_without_a_module_is_refused(package):
    with pytest.raises(ValueError, match=r"lib\.nowhere: no module of this project"):
        provenance.module_hash("lib.nowhere")


def test_the_parameters_cell_is_no_code():
    path = files.ROOT / "notebooks" / "05_evaluation.ipynb"
    code = provenance.notebook_code(path)
    assert not any("flip_average =" in cell for cell in code)
    assert any('start("05_evaluation", globals())' in cell for cell in code)


def test_a_notebooks_hashes_name_itself_and_what_it_reaches():
    hashes = provenance.notebook_hashes(files.ROOT / "notebooks" / "04_training.ipynb")
    reached = {
        "lib.datasets.phantoms.write_images",
        "lib.datasets.busi",
        "lib.datasets.phantoms.heads",
        "lib.models.segnet",
        "lib.models.layers",
    }
    assert {"04_training.ipynb", "lib.training.loop", "lib.losses"} | reached <= set(hashes)
    assert not {"lib.evaluation.segmentation", "lib.evaluation.biometry", "lib.pipeline"} & set(hashes)


def test_training_reaches_no_figure_so_a_changed_figure_never_trains_again():
    reached = provenance.reachable({"lib.training.loop", "lib.preprocessing"})
    assert not [name for name in reached if name.startswith("lib.report.figures")]


def test_a_message_about_a_study_file_never_trains_again():
    assert {"lib.study.params", "lib.study.param_rules"} <= provenance.reachable({"lib.training.loop"})
    assert not {"lib.study.params", "lib.study.param_rules"} & provenance.module_hashes({"lib.training.loop"}).keys()


def test_what_only_verification_looks_for_never_trains_again():
    assert not {
        "lib.report.folder_check",
        "lib.verification.case_checks",
        "lib.verification.landmark_audit",
        "lib.verification.rehosted",
        "lib.verification.verify",
    } & provenance.reachable({"lib.training.loop"})


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("x = 1\ny: float = -2.5", {"x", "y"}),
        ("x = y = [1, 'a', None]", {"x", "y"}),
        ("x = 1\nprint(x)", set()),
        ("x = table.head()", set()),
        ("x, y = 1, 2", set()),
        ("x[0] = 1", set()),
        ("x: int", set()),
        ("x =", set()),
        ("", set()),
    ],
)
def test_assigned_names_are_those_of_cells_that_hold_written_out_values_only(source, names):
    assert provenance.assigned_names(source) == names


def test_versions_name_python_and_torch():
    assert {"python", "torch", "torchvision"} <= set(provenance.versions())


def test_outside_a_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    assert provenance.commit() == ""


# --- commit


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


def test_the_commit_is_the_project_s_own(repository):
    assert provenance.commit() == git(repository, "rev-parse", "--short=12", "HEAD")


def test_a_repository_around_the_project_is_another_s(repository):
    shutil.rmtree(repository / ".git")
    assert provenance.commit() == ""


def test_the_environment_of_a_git_hook_names_no_other_repository(repository, monkeypatch):
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
def test_changed_files_and_new_code_or_studies_give_the_commit_a_plus(repository, name, mark):
    files.write_text(repository / name, "changed\n")
    assert provenance.commit() == git(repository, "rev-parse", "--short=12", "HEAD") + mark


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give a folder away")
def test_the_commit_of_another_owner_s_folder_is_read(repository):
    for path in (repository, *repository.rglob("*")):
        os.chown(path, 65534, 65534)
    assert provenance.commit() == git(repository, "rev-parse", "--short=12", "HEAD")


def test_without_git_there_is_no_commit(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() == ""
