import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib.study import files, saved_notebook

# A python that prints its version and logs its calls, since venv and pip take minutes.
STUB = """#!/bin/sh
case "$*" in
  --version) echo "Python {version}";;
  "-c "*) exec {python} -c "import sys; sys.version_info = ({numbers}); exec(sys.argv[1])" "$2";;
  "-m venv --system-site-packages .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo "venv open" >> log
    echo "include-system-site-packages = true" > .venv/pyvenv.cfg;;
  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo "venv {version}" >> log; {venv};;
  "-m pip "*) echo pip >> log; {pip};;
  "-m lib "*) echo "lib PYTHONPATH=$PYTHONPATH PIP_USER=$PIP_USER PYTHONHOME=$PYTHONHOME" >> log
    printf '%s\\0' "$@" >> words;;
esac
"""
VARIABLES = ("PYTHON", "STUDY", "CORES", "GPUS", "DATA", "LANDMARKS", "PROFILE", "NAME", "TORCH", "MODEL", "IN", "OUT")
VARIABLES += ("DRAFT",)
# Values that a shell or make would run or change, and names that people give to folders.
ODD = (
    *("x;touch PWN", "x && touch PWN", "x | touch PWN", "`touch PWN`", "$(touch PWN)", "$$(touch PWN)", "x\ntouch PWN"),
    *("$(shell touch PWN)", "${shell touch PWN}", '";touch PWN;"', "';touch PWN;'", ">PWN", 'a $b "c"', "Anna's $HOME"),
    *("two  blanks ", "-x", "--cores=9", "*", "~", "#1 [y] {z} 100%", "back\\slash\\", "漢 ü", "$", "a,b)", "="),
)
NEW, KEPT, OPEN = ["venv 3.11.4", "pip", "lib"], ["lib"], ["venv open", "pip", "lib"]


@pytest.fixture
def project(tmp_path):
    """A folder with the Makefile, and `python3` first in PATH."""
    folder = copy_makefile(tmp_path / "Müller's {v2} $x project")
    write_python(folder, "python3", "3.11.4")
    return folder


def copy_makefile(folder: Path) -> Path:
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(files.ROOT / name, folder / name)
    return folder


def write_python(project: Path, name: str, version: str, venv: str = "true", pip: str = "true") -> None:
    numbers = ", ".join(version.split("."))
    path = project.parent / "tools" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(STUB.format(version=version, numbers=numbers, python=sys.executable, venv=venv, pip=pip))
    path.chmod(0o755)


def make(project: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    path = f"{project.parent / 'tools'}{os.pathsep}{os.environ['PATH']}"
    ours = ("MAKE", "MFLAGS", *VARIABLES)  # of a `make test` that runs these tests
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)} | {"PATH": path}
    command = ["make", "-C", str(project), *(arguments or ["why"])]
    return subprocess.run(command, env=environment | settings, capture_output=True, text=True, check=False)


def log(project: Path) -> list[str]:
    """Calls since the last `log`, first words only."""
    path = project / "log"
    lines = path.read_text().splitlines() if path.is_file() else []
    path.unlink(missing_ok=True)
    return [line if line.startswith("venv") else line.split()[0] for line in lines]


def assert_made(project: Path, expected: list[str], *arguments: str) -> None:
    """`make` succeeds with these calls."""
    assert make(project, *arguments).returncode == 0
    assert log(project) == expected


def test_venv_is_created_once_in_any_path_and_changed_dependencies_are_installed_into_it(project):
    assert_made(project, NEW)
    assert_made(project, KEPT)
    later = (project / ".venv" / ".ready").stat().st_mtime + 10
    os.utime(project / "pyproject.toml", (later, later))
    assert_made(project, ["pip", "lib"])


@pytest.mark.parametrize("version", ["3.10.12", "2.7.18"])
def test_a_python_that_is_too_old_is_refused_before_anything_is_created(project, version):
    write_python(project, "python3", version)
    done = make(project)
    assert done.stderr.startswith(f"Python 3.11 or newer is required; python3 is Python {version}. Use ")
    assert done.returncode != 0
    assert not (project / ".venv").exists()
    write_python(project, "python3.12", "3.12.1")
    assert_made(project, ["venv 3.12.1", "pip", "lib"], "why", "PYTHON=python3.12")
    assert_made(project, KEPT)  # python3 is still too old, but .venv is kept
    assert make(project, "why", "PYTHON=python9").stderr.startswith("Python 3.11 or newer is required; python9 is ")


def test_a_failed_installation_is_repeated_from_the_start(project):
    write_python(project, "python3", "3.11.4", pip="exit 1")
    assert make(project).returncode != 0
    assert log(project) == ["venv 3.11.4", "pip"]
    (project / ".venv" / "left over").touch()
    write_python(project, "python3", "3.11.4")
    assert_made(project, NEW)
    assert not (project / ".venv" / "left over").exists()


def test_a_missing_venv_module_is_reported_in_one_sentence_and_can_be_installed(project):
    write_python(project, "python3", "3.11.4", venv="echo 'ensurepip is not available'; exit 1")
    done = make(project)
    assert done.stderr.startswith("python3 cannot make .venv; on Debian and Ubuntu run 'apt install python3-venv'")
    assert "ensurepip" not in done.stdout
    write_python(project, "python3", "3.11.4")
    assert make(project).returncode == 0


def test_a_copied_or_moved_project_sets_up_its_own_environment(project):
    assert_made(project, NEW)
    assert_made(shutil.copytree(project, project.with_name("copy"), symlinks=True), NEW)
    assert_made(project, KEPT)


def test_a_linked_environment_of_another_project_stays_unchanged(project):
    make(project)
    other = copy_makefile(project.with_name("other"))
    (other / ".venv").symlink_to(project / ".venv")
    assert make(other).returncode == 0
    assert not (other / ".venv").is_symlink()
    assert (project / ".venv" / ".ready").read_text().startswith(str(project))


def test_another_or_a_missing_python_rebuilds_the_environment(project):
    assert_made(project, NEW)
    write_python(project, "python3.13", "3.13.0")
    assert_made(project, ["venv 3.13.0", "pip", "lib"], "why", "PYTHON=python3.13")
    (project / ".venv" / "bin" / "python").unlink()
    assert_made(project, NEW)


def test_a_second_make_does_not_interfere_with_a_running_set_up(project):
    first = subprocess.Popen([shutil.copy(shutil.which("sleep"), project.parent / "make"), "600"])
    (project / ".venv").mkdir()
    (project / ".venv" / ".making").write_text(f"{first.pid}\n")
    done = make(project)
    first.kill()
    first.wait()
    assert done.returncode != 0
    assert done.stderr.startswith("another make is setting up .venv; wait for it to finish\n")
    assert log(project) == []
    assert make(project).returncode == 0


def test_a_process_id_that_was_reused_does_not_block_the_set_up(project):
    (project / ".venv").mkdir()
    (project / ".venv" / ".making").write_text(f"{os.getpid()}\n")
    assert_made(project, NEW)


def test_an_environment_that_make_did_not_create_is_kept_under_another_name(project):
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "mine").touch()
    assert_made(project, NEW)
    assert (project / ".venv.old" / "mine").is_file()


def test_user_settings_do_not_reach_python(project):
    make(project, "why", PYTHONPATH="/elsewhere", PIP_USER="1", PYTHONHOME="/nowhere")
    assert f"lib PYTHONPATH={project} PIP_USER=0 PYTHONHOME=" in (project / "log").read_text().splitlines()


def test_an_installed_torch_is_used_by_a_first_or_repeated_set_up_is_pinned_and_kept_by_later_commands(project):
    assert_made(copy_makefile(project.with_name("other")), OPEN, "why", "TORCH=installed")
    assert_made(project, NEW)
    own, pinned = project / "constraints.txt", project / ".venv" / "constraints.txt"
    assert pinned.read_bytes() == own.read_bytes()
    assert_made(project, OPEN, "why", "TORCH=installed")
    installed = {f"{name}=={importlib.metadata.version(name)}" for name in ("torch", "torchvision")}
    others = {line for line in own.read_text().splitlines() if not line.startswith("torch")}
    assert set(pinned.read_text().splitlines()) == others | installed
    assert_made(project, KEPT)
    assert_made(project, KEPT, "why", "TORCH=installed")


def test_a_python_without_torch_and_another_value_are_refused_before_anything_is_created(project):
    stub = project.parent / "tools" / "python3"
    stub.write_text(stub.read_text().replace("exec(sys.argv[1])", "sys.modules['torch'] = None; exec(sys.argv[1])"))
    done = make(project, "why", "TORCH=installed")
    assert "TORCH=installed: python3 cannot import torch; set PYTHON=<path> to a Python that can" in done.stderr
    assert "TORCH=2.11 is not allowed; the only value is TORCH=installed" in make(project, "why", "TORCH=2.11").stderr
    assert not (project / ".venv").exists()


def test_gpus_are_passed_on_only_if_they_are_given(project):
    assert make(project, "study", "GPUS=4").returncode == 0
    assert "--cores=2\0--gpus=4\0--\0demo" in (project / "words").read_text()
    (project / "words").unlink()
    assert make(project, "demo").returncode == 0
    assert "gpus" not in (project / "words").read_text()


def test_a_profile_is_one_word_and_taken_from_the_command_line_alone(project):
    assert make(project, "study", f"PROFILE={ODD[1]}", PROFILE="of a shell").returncode == 0
    assert f"--cores=2\0--profile={ODD[1]}\0--\0demo" in (project / "words").read_text()
    (project / "words").unlink()
    assert make(project, "study", PROFILE="of a shell").returncode == 0
    assert "profile" not in (project / "words").read_text()


@pytest.mark.parametrize("start", range(0, len(ODD), 5))
def test_a_value_of_any_letters_is_one_word_to_the_program_and_nothing_to_make_or_the_shell(project, start):
    study, cores, data, landmarks, name = odd = ODD[start : start + 5]
    given = dict(zip(("STUDY", "CORES", "DATA", "LANDMARKS", "NAME"), odd))
    goals = ("study", "why", "download", "verify")
    for arguments, settings in ((map("=".join, given.items()), {}), ([f"NAME={name}"], given | {"NAME": "of WSL"})):
        done = make(project, *goals, *arguments, **settings)
        assert done.returncode == 0, done.stderr
        calls = (project / "words").read_text().removesuffix("\0").split("-m\0lib\0")[1:]
        assert [call.removesuffix("\0").split("\0") for call in calls] == [
            ["study", f"--cores={cores}", f"--data={data}", f"--landmarks={landmarks}", "--", study],
            *(["why", "--", study], ["download", "--", name], ["verify", "--", data]),
        ]
        (project / "words").unlink()
    assert list(project.parent.rglob("PWN")) == []


def test_the_words_of_predict_reach_the_command_whole_and_its_options_one_by_one(project):
    odd = {"MODEL": ODD[0], "IN": ODD[11], "OUT": ODD[12]}
    done = make(project, "predict", *(f"{name}={value}" for name, value in odd.items()), "ARGS=--pixel-size 0.1 *")
    assert done.returncode == 0
    words = (project / "words").read_bytes().decode().removesuffix("\0").split("\0")[2:]
    assert words == ["predict", f"--out={odd['OUT']}", "--pixel-size", "0.1", "*", "--", odd["MODEL"], odd["IN"]]
    assert list(project.parent.rglob("PWN")) == []


def test_the_words_of_card_and_ship_reach_the_command_whole(project):
    done = make(project, "card", "ship", f"STUDY={ODD[1]}", f"OUT={ODD[11]}")
    assert done.returncode == 0
    calls = (project / "words").read_bytes().decode().removesuffix("\0").split("-m\0lib\0")[1:]
    expected = [["card", "--", ODD[1]], ["ship", "--", ODD[1], ODD[11]]]
    assert [call.removesuffix("\0").split("\0") for call in calls] == expected
    assert list(project.parent.rglob("PWN")) == []


def test_a_report_is_typeset_and_watched_with_or_without_reminders_and_no_other_value_of_draft(project):
    for draft, words in ((["DRAFT=yes"], ["--draft"]), ([], [])):
        assert make(project, "report", "watch", f"STUDY={ODD[1]}", *draft).returncode == 0
        calls = (project / "words").read_bytes().decode().removesuffix("\0").split("-m\0lib\0")[1:]
        expected = [[goal, *words, "--", ODD[1]] for goal in ("report", "watch")]
        assert [call.removesuffix("\0").split("\0") for call in calls] == expected
        (project / "words").unlink()
    done = make(project, "report", "DRAFT=no; touch PWN")
    assert "DRAFT=no; touch PWN is not allowed; the only value is DRAFT=yes" in done.stderr
    assert list(project.parent.rglob("PWN")) == []


@pytest.mark.parametrize("odd", ["x;touch PWN", "$(shell touch PWN)", "`touch PWN`", "';touch PWN;'", 'a $b "c"'])
def test_a_python_that_is_not_there_is_named_and_nothing_else_is_run(project, odd):
    done = make(project, "why", f"PYTHON={odd}")
    assert done.stderr.startswith(f"Python 3.11 or newer is required; {odd} is ")
    assert list(project.parent.rglob("PWN")) == []


def test_a_python_in_a_folder_with_blanks_dollars_and_quotes_sets_up_the_environment(project):
    folder = project.parent / """tools/a $b "c" 'd'"""
    folder.mkdir()
    python = shutil.move(project.parent / "tools" / "python3", folder / "python3")
    assert_made(project, NEW, "why", f"PYTHON={python}")
    assert_made(project, KEPT, "why", f"PYTHON={python}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify"], "DATA is empty; write: make verify DATA=<raw folder>"),
        (["verify", "DATA= "], "DATA is empty; write: make verify DATA=<raw folder>"),
        (["download"], "NAME is empty; write: make download NAME=<data set>"),  # WSL sets it in the environment
        (["predict", "IN=a", "OUT=b"], "MODEL is empty; write: make predict MODEL=<study or file>"),
        (["predict", "MODEL=a", "OUT=b"], "IN is empty; write: make predict IN=<image or folder>"),
        (["predict", "MODEL=a", "IN=b"], "OUT is empty; write: make predict OUT=<folder of the answers>"),
        (["ship", "OUT="], "OUT is empty; write: make ship OUT=<new folder>"),
        (["card", "STUDY="], "STUDY is empty; write: make card STUDY=<name>"),
        (["study", "STUDY="], "STUDY is empty; write: make study STUDY=<name>"),
        (["why", "STUDY="], "STUDY is empty; write: make why STUDY=<name>"),
        (["report", "STUDY="], "STUDY is empty; write: make report STUDY=<name>"),
        (["watch", "STUDY="], "STUDY is empty; write: make watch STUDY=<name>"),
    ],
)
def test_a_command_without_its_name_or_folder_is_refused_before_the_set_up(project, arguments, message):
    done = make(project, *arguments, NAME="DESKTOP-7")
    assert message in done.stderr
    assert done.returncode != 0
    assert log(project) == []


SOURCE = files.ROOT / "notebooks" / "03_model.ipynb"


def git(folder: Path, *arguments: str) -> str:
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    own = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", "-C", str(folder), *author, *arguments]
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
    assert "error" not in done.stderr
    return done.stdout


def write_notebook(project: Path) -> None:
    """The notebook 03 as JupyterLab saves it after Run All."""
    book = files.read_json(SOURCE)
    book["metadata"]["language_info"] |= {"codemirror_mode": {"name": "ipython", "version": 3}, "version": "3.12.1"}
    book["metadata"]["language_info"] |= {"file_extension": ".py", "pygments_lexer": "ipython3"}
    assert book["metadata"]["kernelspec"]["display_name"] == "Python 3 (ipykernel)"  # as JupyterLab writes it
    for number, cell in enumerate(each for each in book["cells"] if each["cell_type"] == "code"):
        cell["execution_count"] = number
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": ["patient 7"]}]
        cell["metadata"]["execution"] = {"iopub.execute_input": "2026-01-01T00:00:00Z"}
    files.write_json(project / "notebooks" / "run.ipynb", book)
    saved_notebook.refresh(os_path=str(project / "notebooks" / "run.ipynb"), model={})


@pytest.fixture
def clone(project):
    """The project as a git repository in which `make` has run, with a notebook."""
    (project / "notebooks").mkdir()
    shutil.copy2(SOURCE, project / "notebooks" / "run.ipynb")
    for name in (".gitattributes", ".gitignore"):
        shutil.copy2(files.ROOT / name, project / name)
    git(project, "init", "-q")
    git(project, "add", ".gitattributes", ".gitignore", "notebooks")
    git(project, "commit", "-qm", "first")
    make(project)
    (project / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    return project


def changed(project: Path) -> str:
    return git(project, "status", "--porcelain", "notebooks") + git(project, "diff", "notebooks")


def test_a_notebook_that_was_run_and_saved_is_unchanged_for_git_also_once_the_clone_was_moved(clone):
    write_notebook(clone)
    assert changed(clone) == ""
    moved = clone.rename(clone.with_name("moved to 'a' place"))
    write_notebook(moved)
    assert changed(moved) == ""
    run = moved / "notebooks" / "run.ipynb"
    run.write_text(run.read_text(encoding="utf-8").replace("depth: int = 4", "depth: int = 3"), encoding="utf-8")
    new = shutil.copy2(run, moved / "notebooks" / "new.ipynb")
    for path in (run, new):
        saved_notebook.refresh(str(path))
    assert git(moved, "status", "--porcelain", "notebooks") == " M notebooks/run.ipynb\n?? notebooks/new.ipynb\n"
    git(moved, "commit", "-qam", "another depth")
    committed = git(moved, "show", "HEAD:notebooks/run.ipynb")
    assert committed == SOURCE.read_text(encoding="utf-8").replace("depth: int = 4", "depth: int = 3")
    assert "patient 7" in run.read_text(encoding="utf-8")


def test_without_venv_and_in_a_worktree_without_one_git_works_and_keeps_notebooks_as_they_are(clone):
    shutil.rmtree(clone / ".venv")
    write_notebook(clone)
    assert "patient 7" in changed(clone)
    git(clone, "commit", "-qam", "with outputs")
    tree = clone.with_name("tree")
    git(clone, "worktree", "add", "-q", str(tree), "HEAD~1")
    assert (tree / "notebooks" / "run.ipynb").read_bytes() == SOURCE.read_bytes()
    assert changed(tree) == ""


def test_a_broken_environment_makes_git_refuse_a_notebook_rather_than_take_its_outputs(clone):
    (clone / "nbformat.py").write_text("raise SystemExit('another module of this name')")
    write_notebook(clone)
    assert changed(clone) == ""
    (clone / ".venv" / "bin" / "python").unlink()
    write_notebook(clone)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        git(clone, "commit", "-qam", "with outputs")
    assert "clean filter 'fetal-thesis' failed" in caught.value.stderr
    assert "patient 7" not in git(clone, "show", "HEAD:notebooks/run.ipynb")


def test_the_filter_is_set_in_this_clone_only_and_not_without_git(project):
    around, foreign = project.parent, project.with_name("foreign")
    git(around, "init", "-q")
    git(around, "init", "-q", str(foreign))
    before = [(each / ".git" / "config").read_bytes() for each in (around, foreign)]
    assert make(project, "why", GIT_DIR=str(foreign / ".git")).returncode == 0  # as in a hook of another repository
    assert [(each / ".git" / "config").read_bytes() for each in (around, foreign)] == before
    no_git = project.parent / "tools" / "git"  # first in PATH
    no_git.write_text("#!/bin/sh\nexit 127\n")
    no_git.chmod(0o755)
    shutil.rmtree(project / ".venv")
    assert make(project).returncode == 0
