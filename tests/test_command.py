import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pypdfium2 import PdfDocument

from lib import __main__, pipeline
from lib.study import environment, files, params
from tests import builders
from tests.conftest import change_keys, python

ONE_CORE = ("--cores=1", "--gpus=0")


def run(*arguments, cwd=files.ROOT, **settings):
    """`python -m lib ...` as a user runs it."""
    command, settings = [sys.executable, "-m", "lib", *arguments], os.environ | settings
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["study", "../params/demo"],
            "'../params/demo': not the name of a study; expected a-z, 0-9, _, such as demo or ",
        ),
        (["diff", "demo", "params/params/demo.yaml.yaml"], "'params/params/demo.yaml.yaml': not the name of a study; "),
        (["why", "hc18"], f"{files.study_file('hc18')}: no such study file; nearest: hc18_quick, "),
        (["study", "demo", "--data", ""], "no folder is given; expected make study STUDY=demo DATA=<folder>\n"),
        (["study", "demo", "--profile", ""], "no folder is given; expected PROFILE=profiles/slurm\n"),
        (["verify", ""], "no folder is given; expected make verify DATA=<folder>\n"),
        (["new", "a"], "new a: expected --data <folder of own data>, or --like <study to copy>\n"),
        (["new", "a", "--data", ""], "no folder is given; expected new a --data <folder of own data>\n"),
    ],
)
def test_a_wrong_name_or_folder_is_refused_in_one_line(capsys, arguments, message):
    assert __main__.main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert printed.count("\n") == 1


def test_a_study_may_be_named_by_its_file_and_missing_data_are_the_first_line_of_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "raw_folder", lambda name: tmp_path / name)
    assert __main__.main(["why", "params/hc18_landmarks_quick.yaml"]) == 0
    first, second, third, *_ = capsys.readouterr().out.splitlines()
    link = "no such folder; link your copy with 'make study STUDY=hc18_landmarks_quick"
    assert first == f"data/raw/hc18: {link} DATA=<folder>', or run 'python -m lib download hc18'"
    assert second == f"data/raw/landmarks: {link} LANDMARKS=<folder>', or run 'python -m lib download landmarks'"
    assert third.startswith("01_data_verification")
    (tmp_path / "hc18").mkdir()
    (tmp_path / "landmarks").mkdir()
    for study in ("hc18_landmarks_quick", "demo"):
        assert __main__.main(["why", study]) == 0
        assert capsys.readouterr().out.startswith("01_data_verification")


def test_own_data_become_a_study_with_the_next_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "hc18_quick.yaml").write_bytes(files.study_file("hc18_quick").read_bytes())
    monkeypatch.setattr(files, "study_file", lambda name: tmp_path / f"{name}.yaml")
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
    folder = builders.write_own(tmp_path / "my data", builders.heads(6))
    assert __main__.main(["new", "mine", "--data", str(folder)]) == 0
    first, *lines, time, last = capsys.readouterr().out.splitlines()
    assert time == "Time of a training: once 03_model has run, 'make why STUDY=mine' estimates it from its speed"
    assert first.startswith("Wrote params/mine.yaml; network and training are those of hc18_quick. Review these keys,")
    assert lines[0] == "    classes: ['background', 'structure']   # from 6 masks: grey values 0 and 255"
    assert last == f"Then: make study STUDY=mine DATA='{folder}'"
    assert params.read_study(tmp_path / "mine.yaml").title == "Segmentation of mine"


@pytest.mark.slow
def test_own_data_become_a_pdf_with_their_own_title_from_the_printed_commands(bare_project, tmp_path):
    """verify, new and study as a user runs them, with epochs and folds reduced."""
    project = Path(shutil.copytree(bare_project, tmp_path / "a project"))
    folder = builders.write_own(tmp_path / "my data", builders.heads(12))
    text = python(project, "-m", "lib", "verify", str(folder)).stdout
    (command,) = re.findall("^Start with: python (.*)$", text, flags=re.MULTILINE)
    text = python(project, *shlex.split(command)).stdout
    (then,) = re.findall("^Then: make study STUDY=(.*) DATA=(.*)$", text, flags=re.MULTILINE)
    study, data = then[0], shlex.split(then[1])[0]
    change_keys(project / "params" / f"{study}.yaml", {"epochs": "3", "folds": "[0]", "base_channels": "32"})
    done = python(project, "-m", "lib", "study", f"params/{study}.yaml", "--cores", "1", "--data", data)
    assert done.returncode == 0, done.stdout + done.stderr
    content = files.read_json(project / "reports" / study / "report" / "content.json")
    rows = [row for group in content["parameters"] for row in group["rows"]]
    assert [row["reason"] for row in rows if row["reason"] == row["allowed"]] == []
    text = "".join(page.get_textpage().get_text_range() for page in PdfDocument(done.stdout.splitlines()[-1]))
    assert text.startswith("Segmentation of my data")
    assert "HC18" not in text


def test_a_folder_that_cannot_be_created_is_reported_in_one_line():
    done = run("study", "demo", REPORTS_ROOT="/proc/nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == ["/proc/nowhere: No such file or directory"]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, __main__.STOPPED),
        (OSError(28, "No space left on device", "a/report.pdf"), 2, "a/report.pdf: No space left on device"),
        (OSError(28, "No space left on device"), 2, "No space left on device"),
        (ValueError("two\nlines"), 2, "two\nlines"),
        (KeyError("a bug"), None, None),  # keeps its traceback
    ],
)
def test_errors_of_a_command_are_reported_without_a_traceback(monkeypatch, capsys, error, status, message):
    def explain(_):
        raise error

    monkeypatch.setattr(pipeline, "explain", explain)
    monkeypatch.delenv(environment.ROOT_VARIABLE, raising=False)
    if status is None:
        with pytest.raises(type(error)):
            __main__.main(["why", "demo"])
    else:
        assert __main__.main(["why", "demo"]) == status
        assert capsys.readouterr().err == f"{message}\n"


@pytest.mark.parametrize("cores", [0, -1, 10**9])
def test_a_number_of_cores_with_which_no_step_would_start_is_refused(monkeypatch, capsys, cores):
    monkeypatch.delenv(environment.ROOT_VARIABLE, raising=False)
    assert __main__.main(["study", "demo", f"--cores={cores}"]) == 2
    assert capsys.readouterr().err == f"cores = {cores}   not allowed; a whole number from 1 to 1024\n"


def test_gpus_that_this_machine_lacks_are_refused_before_any_step(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv(environment.ROOT_VARIABLE, raising=False)
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    assert __main__.main(["study", "demo", "--gpus=4"]) == 2
    assert capsys.readouterr().err == ("gpus = 4   not allowed; only 0, or leave it out (nvidia-smi lists no GPU)\n")
    assert not list(tmp_path.rglob("notebook.ipynb"))


def test_a_closed_pipe_ends_the_command_silently():
    writing = subprocess.Popen(
        [sys.executable, "-m", "lib", "why", "demo"], cwd=files.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    writing.stdout.close()
    assert writing.stderr.read() == b""
    assert writing.wait() == 0
    writing.stderr.close()


def test_output_works_in_a_terminal_without_utf_8():
    done = run("why", "demo", PYTHONUTF8="0", PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONCOERCECLOCALE="0")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_step_is_refused_and_the_available_ones_are_named():
    done = run("step", "demo", "05_evalution", *ONE_CORE, **{environment.ROOT_VARIABLE: str(files.ROOT)})
    assert done.returncode == 2
    message = done.stderr.strip(environment.MESSAGE_MARK + "\n")
    assert message.startswith("05_evalution: not a step of study demo; its steps are: 01_data_verification, ")
    assert message.endswith("04_training/fold0-seed0, 05_evaluation, 06_biometry")


def test_a_manual_step_is_refused_and_the_papermill_command_is_given():
    done = run("step", "demo", "05_evaluation", *ONE_CORE)
    assert done.returncode == 2
    assert "manually: papermill notebooks/05_evaluation.ipynb out.ipynb -f params/demo.yaml" in done.stderr


def test_a_command_in_a_copy_refuses_the_lib_of_the_original(tmp_path):
    for name in ("lib/notebook.py", "notebooks/01_data_verification.ipynb"):
        files.write_text(tmp_path / name, "")
    done = run("why", "demo", cwd=tmp_path, PYTHONPATH=str(files.ROOT), PYTHONSAFEPATH="1")
    assert done.returncode == 2
    assert done.stderr.startswith(f"the project is {tmp_path}, but Python imports the package lib from {files.ROOT}")
