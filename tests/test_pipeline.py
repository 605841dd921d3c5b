"""Exactly the stale steps run, and no incomplete step counts as up to date."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import psutil
import pytest
from filelock import FileLock

from lib import datasets, pipeline
from lib.study import files, params
from lib.study.environment import MESSAGE_MARK, ROOT_VARIABLE
from lib.study.steps import Step
from tests.conftest import environment, python, run_study, set_keys

STEPS = [
    *("01_data_verification", "02_preprocessing", "03_model", "04_training/fold0-seed0"),
    *("05_evaluation", "06_biometry", "report"),
]
PARAMS = files.ROOT / "params"
RUN = "04_training/fold0-seed0"
RESULTS = [f"{RUN}/history.csv", "05_evaluation/cases.csv", "05_evaluation/tables/per_class.csv"]
RESULTS += ["06_biometry/measurements.csv", f"{RUN}/model.safetensors"]
LONG = {"epochs": "30"}  # long enough to be killed in the middle, after the first of them
PATIENCE_SECONDS = 300  # before a test gives up waiting; nothing is measured by it


def report_folder(project: Path) -> Path:
    return project / "reports" / "tiny"


def times(project: Path) -> dict[str, int]:
    """When each file of the study was written; locks and Snakemake's own notes apart."""
    root = report_folder(project)
    paths = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    shown = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    return {path.as_posix(): (root / path).stat().st_mtime_ns for path in shown}


def why(project: Path) -> dict[str, list[str]]:
    """Steps that would run, each with its reasons."""
    said = python(project, "-m", "lib", "why", "tiny")
    assert said.returncode == 0, said.stderr
    found = re.findall(r"^(\S+) +(up to date|stale)$((?:\n    .+)*)", said.stdout, flags=re.MULTILINE)
    assert [step for step, _, _ in found] == STEPS
    assert all((state == "stale") == bool(reasons) for _, state, reasons in found)
    return {step: [line.strip() for line in reasons.split("\n")[1:]] for step, _, reasons in found if reasons}


def rerun(project: Path) -> set[str]:
    """Runs the study and returns the steps that ran."""
    before = times(project)
    done = run_study(project)
    assert done.returncode == 0, done.stdout + done.stderr
    now = times(project)
    return {step for step in STEPS if now[f"{step}/record.json"] != before.get(f"{step}/record.json")}


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} holds no {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def printed(notebook: Path) -> str:
    """All that an executed notebook printed or raised."""
    outputs = [out for cell in nbformat.read(notebook, as_version=4).cells for out in cell.get("outputs", [])]
    return "\n".join(out.get("text", "") + "\n".join(out.get("traceback", [])) for out in outputs)


def start_study(project: Path) -> subprocess.Popen:
    """The study in a process group of its own."""
    command = [sys.executable, "-m", "lib", "study", "tiny", "--cores", "2"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=project, env=environment(project), start_new_session=True, **quiet)


def wait_until(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert process.poll() is None, "the study ended before it could be killed"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def results(project: Path) -> dict[str, bytes]:
    return {name: (report_folder(project) / name).read_bytes() for name in RESULTS}


@pytest.fixture
def bare(bare_project: Path, tmp_path: Path) -> Path:
    """A copy of the project that has not run, to change."""
    return Path(shutil.copytree(bare_project, tmp_path / "a project"))


@pytest.mark.study
def test_a_second_call_a_comment_a_docstring_or_an_equal_record_runs_nothing(project):
    cases = files.read_csv(report_folder(project) / "01_data_verification" / "cases.csv", ["subject"])
    assert cases["subject"].nunique() == 9  # it is this project's own lib, data and reports that every kernel used
    replace_in(project / "lib" / "study" / "files.py", '"""Path of the study file."""', '"""Its location."""')
    with (project / "lib" / "evaluation" / "segmentation.py").open("a", encoding="utf-8") as file:
        file.write("\n\n# a remark\n")
    record = report_folder(project) / "01_data_verification" / "record.json"
    files.write_json(record, files.read_json(record) | {"commit": "another"})
    assert why(project) == {}
    before = times(project)
    assert rerun(project) == set()
    assert times(project) == before
    assert not (files.ROOT / "reports" / "tiny").exists()


@pytest.mark.study
def test_a_changed_evaluation_key_reruns_evaluation_biometry_and_report_only_without_snakemake_s_notes_too(project):
    shutil.rmtree(report_folder(project) / ".snakemake")  # as in copied reports
    set_keys(project, flip_average="false")
    assert "key flip_average: True -> False" in why(project)["05_evaluation"]
    assert rerun(project) == {"05_evaluation", "06_biometry", "report"}
    assert why(project) == {}


@pytest.mark.study
def test_a_changed_figure_draws_training_again_but_does_not_train_again(project):
    replace_in(project / "lib" / "report" / "figures" / "style.py", '"lines.linewidth": 1.2', '"lines.linewidth": 1.9')
    assert "code lib.report.figures.style changed" in why(project)[RUN]
    run, before = report_folder(project) / RUN, times(project)
    drawn = (run / "figures" / "curves.svg").read_bytes()
    notebook = ["notebooks/04_training.ipynb", str(run / "notebook.ipynb"), "-f", "params/tiny.yaml"]
    done = python(project, "-m", "papermill", *notebook, "-k", "python3", "--no-progress-bar")
    assert done.returncode == 0, done.stderr
    assert (run / "figures" / "curves.svg").read_bytes() != drawn
    for name in ("model.safetensors", "run.json", "history.csv"):
        assert times(project)[f"{RUN}/{name}"] == before[f"{RUN}/{name}"]
    assert "code lib.report.figures.style changed" not in why(project)[RUN]


@pytest.mark.study
def test_a_failing_notebook_leaves_no_record_keeps_its_traceback_and_is_tried_again(project):
    replace_in(project / "notebooks" / "04_training.ipynb", "page.finish()", "raise RuntimeError('planted')")
    executed = report_folder(project) / RUN / "notebook.ipynb"
    for _ in range(2):
        before = executed.stat().st_mtime_ns
        done = run_study(project)
        assert done.returncode == 1
        where, said = done.stderr.splitlines()
        assert where == f"{RUN} of study tiny failed; see the executed notebook: {executed}"
        assert said == "RuntimeError: planted"
        assert executed.stat().st_mtime_ns > before
        assert "RuntimeError: planted" in re.sub(r"\x1b\[[0-9;]*m", "", printed(executed))
        assert not (report_folder(project) / RUN / "record.json").exists()
        assert why(project)[RUN] == ["not completed yet"]


@pytest.mark.study
def test_a_deleted_training_record_is_made_again_without_training_again(project):
    before = times(project)
    (report_folder(project) / RUN / "record.json").unlink()
    assert rerun(project) == {RUN, "05_evaluation", "06_biometry", "report"}
    assert times(project)[f"{RUN}/model.safetensors"] == before[f"{RUN}/model.safetensors"]


@pytest.mark.study
def test_a_table_edited_by_hand_is_made_again_and_a_deleted_pdf_by_the_report_alone(project):
    (report_folder(project) / "report.pdf").unlink()
    assert rerun(project) == {"report"}
    assert (report_folder(project) / "report.pdf").is_file()
    table = report_folder(project) / "06_biometry" / "tables" / "agreement.csv"
    made = table.read_bytes()
    table.write_bytes(made.replace(b"ellipse", b"by hand"))
    assert why(project)["06_biometry"] == ["output files changed or missing (1): tables/agreement.csv"]
    assert rerun(project) == {"06_biometry", "report"}
    assert table.read_bytes() == made


@pytest.fixture(scope="module")
def undisturbed(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Results of the longer study, run without a disturbance."""
    folder = tmp_path_factory.mktemp("long") / "a project"
    shutil.copytree(tiny_project, folder)
    set_keys(folder, **LONG)
    done = run_study(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return results(folder)


@pytest.fixture
def at_work(project: Path) -> subprocess.Popen:
    """The longer study, running in the project, after its first epoch."""
    set_keys(project, **LONG)
    process = start_study(project)
    wait_until((report_folder(project) / RUN / "state.pt").exists, process)
    return process


@pytest.mark.study
def test_a_study_killed_in_the_middle_of_training_goes_on_and_ends_as_an_undisturbed_one(undisturbed, project, at_work):
    os.killpg(at_work.pid, signal.SIGKILL)
    at_work.wait()
    assert not (report_folder(project) / RUN / "record.json").exists()
    done = run_study(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming after epoch" in printed(report_folder(project) / RUN / "notebook.ipynb")
    assert results(project) == undisturbed


@pytest.mark.study
def test_a_study_whose_parent_alone_was_killed_is_waited_for_and_ends_well(undisturbed, project, at_work):
    at_work.kill()
    at_work.wait()
    done = run_study(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "steps of a killed run of study tiny are still running" in done.stderr
    assert results(project) == undisturbed
    assert why(project) == {}


@pytest.mark.study
def test_a_second_call_on_the_same_study_ends_with_status_2_and_says_who_runs_it(project):
    before = times(project)
    with FileLock(report_folder(project) / ".lock"):
        second = run_study(project)
    assert second.returncode == 2
    assert second.stderr.strip() == "study tiny is already being run by another process; wait for it or stop it"
    assert times(project) == before


# --- a kernel that does not start

SPINNING = "import re; re.match('(a+)+$', 'a' * 60 + 'b')"  # for ever, and no other thread of the kernel can run
WITH_LITTLE_PATIENCE = """
import sys
from lib import __main__, pipeline
pipeline.START_SECONDS = 6
sys.exit(__main__.main(["step", "tiny", "01_data_verification"]))
"""


@pytest.mark.study
def test_a_kernel_that_does_not_begin_is_ended_and_named(bare):
    path = bare / "notebooks" / "01_data_verification.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [nbformat.v4.new_code_cell(SPINNING)]
    nbformat.write(notebook, path)
    done = python(bare, "-c", WITH_LITTLE_PATIENCE, **{ROOT_VARIABLE: str(bare)})
    assert done.returncode == 2
    where, why_ended = done.stderr.replace(MESSAGE_MARK, "").strip().splitlines()[-2:]
    assert where.startswith("01_data_verification of study tiny failed; see the executed notebook: ")
    assert why_ended.startswith("the kernel did not import lib within 6 s and was stopped; ")
    folders = [psutil.Process(pid).cwd() for pid in psutil.pids() if "ipykernel" in command_line(pid)]
    assert str(bare) not in folders


def command_line(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


@pytest.fixture
def with_snakefile(bare: Path) -> Callable[[str], subprocess.CompletedProcess]:
    """Runs a study with another Snakefile; its data are an empty folder, since nothing reads them."""
    (bare / "data" / "raw" / "hc18").mkdir(parents=True)

    def run(text: str, **settings: str) -> subprocess.CompletedProcess:
        (bare / "Snakefile").write_text(text, encoding="utf-8")
        return run_study(bare, "hc18_quick", **settings)

    return run


def test_snakemake_s_own_errors_are_shown_and_its_usual_words_are_not(with_snakefile):
    done = with_snakefile("raise NameError('planted')\n")
    assert done.returncode == 1
    assert "planted" in done.stderr
    assert done.stderr.endswith("Snakemake stopped before the study was complete; its log is above\n")
    assert "Assuming unrestricted" not in done.stderr


def test_a_step_that_makes_no_record_is_named(with_snakefile):
    done = with_snakefile("rule study:\n    output: 'x/record.json'\n    shell: 'echo a line of a notebook'\n")
    assert done.returncode == 1
    assert done.stdout == "a line of a notebook\n"
    assert "x/record.json (missing locally" in done.stderr


def test_a_profile_of_the_user_is_not_read_and_status_0_is_not_believed_without_records(with_snakefile, tmp_path):
    files.write_text(tmp_path / "profile" / "config.yaml", "dry-run: true\n")
    done = with_snakefile("rule study:\n    shell: 'echo ran'\n", SNAKEMAKE_PROFILE=str(tmp_path / "profile"))
    assert (done.returncode, done.stdout) == (1, "ran\n")
    first, *steps = done.stderr.splitlines()
    assert first == "these steps have no up-to-date record:"
    assert steps[0] == "01_data_verification: not completed yet"
    assert len(steps) == len(STEPS)


def test_all_faults_of_a_study_file_are_said_at_once_before_any_work(bare):
    path = bare / "params" / "tiny.yaml"
    replace_in(path, "learning_rate:", "lerning_rate:")
    set_keys(bare, image_size="[30, 48]", epochs="0")
    done = run_study(bare)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{path}: 4 errors\n")
    assert not (bare / "reports" / "tiny").exists()
    assert not (bare / "data").exists()


@pytest.fixture
def raw_root(tmp_path, monkeypatch):
    """A project root without data."""
    monkeypatch.setattr(files, "ROOT", tmp_path)
    return tmp_path


def test_data_elsewhere_is_linked_once_and_another_folder_is_refused(raw_root):
    first, second = raw_root / "first", raw_root / "second"
    first.mkdir()
    second.mkdir()
    for _ in range(2):
        pipeline.link_data("hc18", first)
    link = raw_root / "data" / "raw" / "hc18"
    assert link.is_symlink()
    assert link.resolve() == first
    with pytest.raises(ValueError, match=rf"hc18: already refers to {first}; remove it first to use {second}"):
        pipeline.link_data("hc18", second)
    first.rmdir()  # a link to data that are gone is not followed elsewhere
    with pytest.raises(ValueError, match="remove it first"):
        pipeline.link_data("hc18", second)
    assert link.readlink() == first


@pytest.mark.parametrize(
    ("study", "option", "message"),
    [
        ("hc18_quick", ["--data", "/nowhere"], "DATA=/nowhere: no such folder\n"),
        ("hc18_landmarks_quick", ["--landmarks", "/nowhere"], "LANDMARKS=/nowhere: no such folder\n"),
        ("hc18_quick", [], "data/raw/hc18: no such folder; link your copy with 'make study STUDY=<name> DATA="),
    ],
)
def test_an_absent_folder_is_refused_under_its_own_name_with_status_2(bare, study, option, message):
    done = python(bare, "-m", "lib", "study", study, *option)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (bare / "data").exists()


@pytest.fixture
def ran(raw_root, monkeypatch):
    """Names of studies that would have run; data/raw/hc18 exists, without landmarks or reports."""
    studies = []
    monkeypatch.setenv("REPORTS_ROOT", str(raw_root / "reports"))
    monkeypatch.setattr(pipeline, "_run_locked", lambda study, folder, cores: studies.append(study.study) or 0)
    files.raw_folder("hc18").mkdir(parents=True)
    return studies


def study_named(name: str) -> params.Study:
    """A study file of this project, even if a test patches the project root."""
    return params.read_study(PARAMS / f"{name}.yaml")


def test_a_study_of_landmarks_needs_them_and_both_folders_are_linked_in_one_call_and_once(ran, raw_root):
    with pytest.raises(ValueError, match=r"data/raw/landmarks: no such folder; .*LANDMARKS=<folder>"):
        pipeline.run(study_named("hc18_landmarks_quick"), 2, None)
    assert ran == []
    files.raw_folder("hc18").rmdir()
    folders = [raw_root / "images", raw_root / "points"]
    for folder in folders:
        folder.mkdir()
    for _ in range(2):
        assert pipeline.run(study_named("hc18_landmarks_quick"), 2, *folders) == 0
    assert [files.raw_folder(name).readlink() for name in ("hc18", "landmarks")] == folders
    assert ran == ["hc18_landmarks_quick"] * 2


def test_a_phantom_s_landmarks_are_looked_for_in_its_own_folder(ran, monkeypatch):
    monkeypatch.setattr(datasets, "prepare", files.raw_folder)  # it is not drawn for this
    with pytest.raises(ValueError, match="data/raw/landmarks: no such folder"):
        pipeline.run(study_named("phantom_hc18_landmarks"), 2, None)
    (files.raw_folder("phantom_landmarks") / "landmarks").mkdir(parents=True)
    assert pipeline.run(study_named("phantom_hc18_landmarks"), 2, None) == 0
    assert ran == ["phantom_hc18_landmarks"]


def test_a_comparison_with_a_study_that_has_not_been_run_is_refused_before_any_work(ran):
    with pytest.raises(ValueError, match="compare_with = 'hc18_landmarks_quick'   has not been run; run 'make study"):
        pipeline.run(study_named("hc18_ellipse_quick"), 2, None)
    assert ran == []
    for step in ("05_evaluation", "06_biometry"):
        files.write_json(Step(step).record_file("hc18_landmarks_quick"), {"outputs": {}})
    assert pipeline.run(study_named("hc18_ellipse_quick"), 2, None) == 0
    assert ran == ["hc18_ellipse_quick"]


def test_on_windows_it_is_said_what_to_do_instead_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
    monkeypatch.setattr(pipeline.sys, "platform", "win32")
    with pytest.raises(ValueError, match=r"docs/howto-windows\.md"):
        pipeline.run(params.read_study(files.study_file("demo")), 2, None)
    assert not (tmp_path / "reports").exists()
