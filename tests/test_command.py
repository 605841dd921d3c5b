import os
import subprocess
import sys

import pytest

from lib import __main__, pipeline
from lib.study import environment, files


def run(*arguments, cwd=files.ROOT, **settings):
    """`python -m lib ...` as a user runs it."""
    command, settings = [sys.executable, "-m", "lib", *arguments], os.environ | settings
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, check=False)


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
    done = run("step", "demo", "05_evalution", **{environment.ROOT_VARIABLE: str(files.ROOT)})
    assert done.returncode == 2
    message = done.stderr.strip(environment.MESSAGE_MARK + "\n")
    assert message.startswith("05_evalution: not a step of study demo; its steps are: 01_data_verification, ")
    assert message.endswith("04_training/fold0-seed0, 05_evaluation, 06_biometry")


def test_a_manual_step_is_refused_and_the_papermill_command_is_given():
    done = run("step", "demo", "05_evaluation")
    assert done.returncode == 2
    assert "manually: papermill notebooks/05_evaluation.ipynb out.ipynb -f params/demo.yaml" in done.stderr


def test_a_command_in_a_copy_refuses_the_lib_of_the_original(tmp_path):
    for name in ("lib/notebook.py", "notebooks/01_data_verification.ipynb"):
        files.write_text(tmp_path / name, "")
    done = run("why", "demo", cwd=tmp_path, PYTHONPATH=str(files.ROOT), PYTHONSAFEPATH="1")
    assert done.returncode == 2
    assert done.stderr.startswith(f"the project is {tmp_path}, but Python imports the package lib from {files.ROOT}")
