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
from lib.datasets import landmark_tables
from lib.study import execution, files, params
from lib.study.environment import MESSAGE_MARK, ROOT_VARIABLE
from lib.study.steps import Step
from tests import builders
from tests.conftest import environment, python, run_study, set_keys

RUN, PARAMS = "04_training/fold0-seed0", files.ROOT / "params"
STEPS = ["01_data_verification", "02_preprocessing", "03_model", RUN, "05_evaluation", "06_biometry", "report"]
RESULTS = [f"{RUN}/history.csv", "05_evaluation/cases.csv", "05_evaluation/tables/per_class.csv"]
RESULTS += ["06_biometry/measurements.csv", f"{RUN}/model.safetensors"]
LONG = {"epochs": "30"}  # long enough to be killed during training
PLANTED = "RuntimeError: planted"
PATIENCE_SECONDS = 300  # after which a test stops waiting


def report_folder(project: Path) -> Path:
    return project / "reports" / "tiny"


def times(project: Path) -> dict[str, int]:
    """Modification time of each file of the study, without hidden files of locks and Snakemake."""
    root = report_folder(project)
    paths = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    visible = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    return {path.as_posix(): (root / path).stat().st_mtime_ns for path in visible}


def why(project: Path) -> dict[str, list[str]]:
    """Reasons by stale step, without the time that a training takes."""
    done = python(project, "-m", "lib", "why", "tiny")
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\S+) +(up to date|stale)$((?:\n    .+)*)", done.stdout, flags=re.MULTILINE)
    assert [step for step, _, _ in rows] == STEPS
    assert all((state == "stale") == bool(reasons) for _, state, reasons in rows)
    lines = {step: [line.strip() for line in reasons.split("\n")[1:]] for step, _, reasons in rows if reasons}
    return {step: [line for line in of_step if not line.startswith("takes about")] for step, of_step in lines.items()}


def rerun(project: Path) -> set[str]:
    """Runs the study and returns the steps that ran."""
    before = times(project)
    done = run_study(project)
    assert done.returncode == 0, done.stdout + done.stderr
    now = times(project)
    return {step for step in STEPS if now[f"{step}/record.json"] != before.get(f"{step}/record.json")}


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} does not contain {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def printed(notebook: Path) -> str:
    """Output and tracebacks of an executed notebook."""
    outputs = [out for cell in nbformat.read(notebook, as_version=4).cells for out in cell.get("outputs", [])]
    return "\n".join(out.get("text", "") + "\n".join(out.get("traceback", [])) for out in outputs)


@pytest.fixture
def bare(bare_project: Path, tmp_path: Path) -> Path:
    """A copy of the project that has not run."""
    return Path(shutil.copytree(bare_project, tmp_path / "a project"))


def test_a_second_run_a_comment_a_docstring_or_another_commit_makes_nothing_stale(project):
    cases = files.read_csv(report_folder(project) / "01_data_verification" / "cases.csv", ["subject"])
    assert cases["subject"].nunique() == 9  # every kernel used this project's lib and data
    replace_in(project / "lib" / "study" / "files.py", '"""Path of the study file."""', '"""Its path."""')
    with (project / "lib" / "evaluation" / "segmentation.py").open("a", encoding="utf-8") as file:
        file.write("\n\n# a remark\n")
    record = report_folder(project) / "01_data_verification" / "record.json"
    files.write_json(record, files.read_json(record) | {"commit": "another"})
    assert why(project) == {}
    (project / "Snakefile").unlink()  # Snakemake is not even started
    before = times(project)
    assert rerun(project) == set()
    assert times(project) == before
    assert not (files.ROOT / "reports" / "tiny").exists()


def test_a_changed_evaluation_key_reruns_evaluation_biometry_and_report_only(project):
    shutil.rmtree(report_folder(project) / ".snakemake")  # as in copied reports: Snakemake's metadata are not needed
    set_keys(project, flip_average="false")
    assert "key flip_average: True -> False" in why(project)["05_evaluation"]
    assert rerun(project) == {"05_evaluation", "06_biometry", "report"}
    assert why(project) == {}


def test_a_changed_figure_style_redraws_the_figures_of_training_without_retraining(project):
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


def test_a_failing_notebook_leaves_no_record_keeps_its_traceback_and_runs_again(project):
    replace_in(project / "notebooks" / "04_training.ipynb", "page.finish()", "raise RuntimeError('planted')")
    executed = report_folder(project) / RUN / "notebook.ipynb"
    for _ in range(2):
        before = executed.stat().st_mtime_ns
        done = run_study(project)
        assert done.returncode == 1
        where = f"{RUN} of study tiny failed; see the executed notebook: {executed}"
        assert done.stderr.splitlines() == [where, PLANTED]
        assert executed.stat().st_mtime_ns > before
        assert PLANTED in re.sub(r"\x1b\[[0-9;]*m", "", printed(executed))
        assert not (report_folder(project) / RUN / "record.json").exists()
        assert why(project)[RUN] == ["not completed yet"]


def test_a_deleted_training_record_is_rewritten_without_retraining(project):
    before = times(project)
    (report_folder(project) / RUN / "record.json").unlink()
    assert rerun(project) == {RUN, "05_evaluation", "06_biometry", "report"}
    assert times(project)[f"{RUN}/model.safetensors"] == before[f"{RUN}/model.safetensors"]


def test_an_edited_table_is_rewritten_and_a_deleted_pdf_by_the_report_only(project):
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
def uninterrupted(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Results of the longer study, run without interruption."""
    folder = tmp_path_factory.mktemp("long") / "a project"
    shutil.copytree(tiny_project, folder)
    set_keys(folder, **LONG)
    return run_to_the_end(folder)[1]


def run_to_the_end(project: Path) -> tuple[str, dict[str, bytes]]:
    """Messages and results of a run."""
    done = run_study(project)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr, {name: (report_folder(project) / name).read_bytes() for name in RESULTS}


@pytest.fixture
def running(project: Path) -> subprocess.Popen:
    """The longer study, running in the project in a separate process group, while it trains."""
    set_keys(project, **LONG)
    command = [sys.executable, "-m", "lib", "study", "tiny", "--cores", "2"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=project, env=environment(project), start_new_session=True, **quiet)
    end = time.monotonic() + PATIENCE_SECONDS
    while not (report_folder(project) / RUN / "state.pt").exists():
        assert process.poll() is None, "the study ended before it could be killed"
        assert time.monotonic() < end, "no state was written"
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(
    ("handler", "written", "code"),
    [("lambda *_: sys.exit(print(2))", b"2\n", 0), ("signal.SIG_IGN", b"", -signal.SIGKILL)],
)
def test_a_kernel_may_save_its_state_before_it_is_killed(monkeypatch, handler, written, code):
    monkeypatch.setattr(execution, "SAVE_SECONDS", 5 if written else 0.5)
    source = f"import signal, sys\nsignal.signal(signal.SIGTERM, {handler})\nprint(1, flush=True)\ninput()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen([sys.executable, "-c", source], start_new_session=True, **pipes)
    child.stdout.readline()
    execution._end_kernels()
    assert child.stdout.read() == written
    assert child.wait(PATIENCE_SECONDS) == code


def test_a_study_killed_during_training_resumes_with_identical_results(uninterrupted, project, running):
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not (report_folder(project) / RUN / "record.json").exists()
    assert run_to_the_end(project)[1] == uninterrupted
    assert "resuming after epoch" in printed(report_folder(project) / RUN / "notebook.ipynb")


def test_a_run_waits_for_a_study_whose_parent_process_alone_was_killed(uninterrupted, project, running):
    running.kill()
    running.wait()
    messages, results = run_to_the_end(project)
    assert "steps of a killed run of study tiny are still running" in messages
    assert results == uninterrupted
    assert why(project) == {}


def test_a_second_run_of_the_same_study_is_refused(project):
    before = times(project)
    with FileLock(report_folder(project) / ".lock"):
        second = run_study(project)
    assert second.returncode == 2
    assert second.stderr.strip() == "study tiny is already being run by another process; wait for it or stop it"
    assert times(project) == before


@pytest.mark.parametrize(
    ("key", "value", "allowed"), [("device", "cuda:99", "available: "), ("precision", "float16", "CUDA")]
)
def test_a_device_or_precision_that_this_machine_lacks_is_refused_before_any_step(bare, key, value, allowed):
    set_keys(bare, **{"device": "cpu", key: value})
    done = run_study(bare)
    assert done.returncode == 2
    assert re.match(f"{key} = '{value}'   .*{allowed}", done.stderr)
    assert not list(report_folder(bare).rglob("notebook.ipynb"))


SPINNING = "import re; re.match('(a+)+$', 'a' * 60 + 'b')"  # never ends and blocks all threads of the kernel
WITH_SHORT_LIMIT = """
import sys
from lib import __main__
from lib.study import execution
execution.START_SECONDS = 6
sys.exit(__main__.main(["step", "tiny", "01_data_verification", "--cores=2", "--gpus=0"]))
"""


@pytest.mark.study
def test_a_kernel_that_does_not_start_is_stopped_and_reported(bare):
    path = bare / "notebooks" / "01_data_verification.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [nbformat.v4.new_code_cell(SPINNING)]
    nbformat.write(notebook, path)
    done = python(bare, "-c", WITH_SHORT_LIMIT, **{ROOT_VARIABLE: str(bare)})
    assert done.returncode == 2
    where, reason = done.stderr.replace(MESSAGE_MARK, "").strip().splitlines()[-2:]
    assert where.startswith("01_data_verification of study tiny failed; see the executed notebook: ")
    assert reason.startswith("the kernel did not import lib within 6 s and was stopped; ")
    kernels = [p.info for p in psutil.process_iter(["cmdline", "cwd"]) if "ipykernel" in str(p.info["cmdline"])]
    assert str(bare) not in [kernel["cwd"] for kernel in kernels]


@pytest.fixture
def with_snakefile(bare: Path) -> Callable[[str], subprocess.CompletedProcess]:
    """Runs a study with another Snakefile and an empty data folder."""
    (bare / "data" / "raw" / "hc18").mkdir(parents=True)

    def run(text: str, **settings: str) -> subprocess.CompletedProcess:
        (bare / "Snakefile").write_text(text, encoding="utf-8")
        return run_study(bare, "hc18_quick", **settings)

    return run


@pytest.mark.parametrize(
    ("text", "printed", "error"),
    [
        ("raise NameError('planted')\n", "", "planted"),
        ("rule study:\n    output: 'x/record.json'\n    shell: 'echo a line'\n", "a line\n", "x/record.json (missing"),
    ],
)
def test_errors_of_snakemake_are_printed_without_its_routine_output(with_snakefile, text, printed, error):
    done = with_snakefile(text)
    assert (done.returncode, done.stdout) == (1, printed)
    assert error in done.stderr
    assert done.stderr.endswith("Snakemake stopped before the study was complete; its log is above\n")
    assert "Assuming unrestricted" not in done.stderr


def test_a_user_s_profile_is_ignored_and_status_0_without_records_is_an_error(with_snakefile, tmp_path):
    files.write_text(tmp_path / "profile" / "config.yaml", "dry-run: true\n")
    done = with_snakefile("rule study:\n    shell: 'echo ran'\n", SNAKEMAKE_PROFILE=str(tmp_path / "profile"))
    assert (done.returncode, done.stdout) == (1, "ran\n")
    first, *steps = done.stderr.splitlines()
    assert first == "these steps have no up-to-date record:"
    assert steps[0] == "01_data_verification: not completed yet"
    assert len(steps) == len(STEPS)


def test_all_errors_of_a_study_file_are_reported_at_once_before_any_work(bare):
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
    monkeypatch.setattr(files, "ROOT", tmp_path)
    return tmp_path


def test_external_data_are_linked_once_and_another_folder_is_refused(raw_root):
    first, second = raw_root / "first", raw_root / "second"
    first.mkdir()
    second.mkdir()
    for _ in range(2):
        pipeline.link_data("hc18", first, str)
    link = files.raw_folder("hc18")
    refused = f"{link}: already refers to {first}; to use {second}, remove the link (not the data) first: rm {link}"
    for _ in range(2):
        with pytest.raises(ValueError, match=re.escape(refused)):
            pipeline.link_data("hc18", second, str)
        assert files.raw_folder("hc18").readlink() == first
        shutil.rmtree(first, ignore_errors=True)  # a link to missing data is not replaced either


@pytest.mark.parametrize(
    ("study", "option", "message"),
    [
        ("hc18_quick", ["--data", "/nowhere"], "DATA=/nowhere: no such folder\n"),
        ("hc18_landmarks_quick", ["--landmarks", "/nowhere"], "LANDMARKS=/nowhere: no such folder\n"),
        ("hc18_quick", [], "data/raw/hc18: no such folder; link your copy with 'make study STUDY=<name> DATA="),
    ],
)
def test_a_missing_folder_is_refused_by_name_with_status_2(bare, study, option, message):
    done = python(bare, "-m", "lib", "study", study, *option)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (bare / "data").exists()


@pytest.fixture
def ran(raw_root, monkeypatch):
    """Names of studies whose steps would have run; data/raw/hc18 exists, landmarks and reports do not."""
    studies = []
    monkeypatch.setenv("REPORTS_ROOT", str(raw_root / "reports"))
    monkeypatch.setattr(pipeline, "_run_locked", lambda study, *_: studies.append(study.study) or 0)
    files.raw_folder("hc18").mkdir(parents=True)
    return studies


def study_named(name: str) -> params.Study:
    """A study file of this project, independent of a patched root."""
    return params.read_study(PARAMS / f"{name}.yaml")


LANDMARKS = f"image_name,{','.join(landmark_tables.XY_COLUMNS)}\n000_HC.png,1,2,3,4,5,6,7,8\n"


def test_a_study_of_landmarks_requires_them_and_links_both_folders_once(ran, raw_root):
    with pytest.raises(ValueError, match=r"data/raw/landmarks: no such folder; .*LANDMARKS=<folder>"):
        pipeline.run(study_named("hc18_landmarks_quick"), 2, None)
    assert ran == []
    files.raw_folder("hc18").rmdir()
    folders = [builders.write_hc18(raw_root / "images", builders.heads(2)), raw_root / "points"]
    files.write_text(folders[1] / "multicentre" / "HC18" / "Head.csv", LANDMARKS)
    for wrong, option in ((folders[::-1], "DATA"), ([folders[0]] * 2, "LANDMARKS")):
        with pytest.raises(
            ValueError, match=f"^{option}=.*: not the data of this study .*verify {wrong[option != 'DATA']}"
        ):
            pipeline.run(study_named("hc18_landmarks_quick"), 2, *wrong)
    (raw_root / "data" / "raw" / "hc18").unlink()  # the first link of the second attempt was right
    for _ in range(2):
        assert pipeline.run(study_named("hc18_landmarks_quick"), 2, *folders) == 0
    assert [files.raw_folder(name).readlink() for name in ("hc18", "landmarks")] == folders
    assert ran == ["hc18_landmarks_quick"] * 2


def test_a_study_of_own_data_that_names_a_published_one_is_warned_of(ran, raw_root, capsys):
    path = raw_root / "params" / "mine.yaml"
    path.parent.mkdir()
    text = (PARAMS / "hc18_quick.yaml").read_text(encoding="utf-8").replace("study: hc18_quick", "study: mine")
    path.write_text(
        text.replace("dataset: hc18 ", "dataset: own_mine\npalette: []\nnsd_tolerance_px: 3.0 "), encoding="utf-8"
    )
    files.raw_folder("own_mine").mkdir()
    assert pipeline.run(params.read_study(path), 2, None) == 0
    lines = [n for n, line in enumerate(path.read_text().splitlines(), start=1) if re.search(r"\bHC18\b", line)]
    assert len(lines) > 2
    assert capsys.readouterr().err == (
        f"params/mine.yaml: lines {', '.join(map(str, lines))} name a published data set (HC18, LGG, BUSI), but the "
        "data are your own; the report prints title and comments, so change them\n"
    )
    path.write_text(re.sub("HC18", "heads", path.read_text()), encoding="utf-8")
    assert pipeline.run(params.read_study(path), 2, None) == 0
    assert capsys.readouterr().err == ""


def test_a_phantom_s_landmarks_are_expected_in_its_own_folder(ran, monkeypatch):
    monkeypatch.setattr(datasets, "prepare", files.raw_folder)  # without writing the phantom
    with pytest.raises(ValueError, match="data/raw/landmarks: no such folder"):
        pipeline.run(study_named("phantom_hc18_landmarks"), 2, None)
    (files.raw_folder("phantom_landmarks") / "landmarks").mkdir(parents=True)
    assert pipeline.run(study_named("phantom_hc18_landmarks"), 2, None) == 0
    assert ran == ["phantom_hc18_landmarks"]


def test_a_comparison_with_a_study_that_has_not_run_is_refused_before_any_work(ran):
    with pytest.raises(ValueError, match="compare_with = 'hc18_landmarks_quick'   has not been run; run 'make study"):
        pipeline.run(study_named("hc18_ellipse_quick"), 2, None)
    assert ran == []
    for step in ("05_evaluation", "06_biometry"):
        files.write_json(Step(step).record_file("hc18_landmarks_quick"), {"outputs": {}})
    assert pipeline.run(study_named("hc18_ellipse_quick"), 2, None) == 0
    assert ran == ["hc18_ellipse_quick"]


def test_on_windows_the_how_to_is_named_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
    monkeypatch.setattr(pipeline.sys, "platform", "win32")
    with pytest.raises(ValueError, match=r"docs/howto-windows\.md"):
        pipeline.run(params.read_study(files.study_file("demo")), 2, None)
    assert not (tmp_path / "reports").exists()
