"""Notebooks are pages: what each of them holds, and whole studies run with them."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from lib.imaging import mask_files
from lib.study import files, params, steps
from tests.conftest import change_keys, python, run_study

NOTEBOOKS = sorted((files.ROOT / "notebooks").glob("*.ipynb"))
OF_LANDMARKS = files.ROOT / "notebooks" / f"05_evaluation{steps.OF_LANDMARKS}.ipynb"  # a second one of one step
SPEED = re.compile(r"\d+ images/s")
OBJECT = re.compile(r".{0,60}( object | at )0x|<(generator|function|bound method|zip|map|filter)\b")


# --- pages


def test_outputs_are_stripped():
    command = [sys.executable, "-m", "nbstripout", "--keep-id", "--verify", *map(str, NOTEBOOKS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_says_what_it_reads_and_writes_starts_under_its_own_name_and_ends_in_checks(path):
    book = nbformat.read(path, as_version=4).cells
    parameters, start, *_ = [cell for cell in book if cell.cell_type == "code"]
    assert [cell for cell in book if "parameters" in cell.metadata.get("tags", [])] == [parameters]
    assert start.source.splitlines()[-1] == f'page = start("{path.stem}", globals())'
    assert re.match(rf"# {path.stem[:2]} · \w(.|\n)*\n\*Reads\* (.|\n)*\*Writes\* ", book[0].source)
    assert book[-2].source.splitlines()[0] == "## Checks"
    assert "page.check(" in book[-1].source
    assert book[-1].source.splitlines()[-1] == "page.finish()"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_parameters_are_a_phantom_study_s_values_of_exactly_this_steps_keys(path):
    source = next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    given = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(source).body}
    name = "phantom_hc18_landmarks" if path == OF_LANDMARKS else "demo"  # the demo learns regions
    step = path.stem.removesuffix(steps.OF_LANDMARKS)
    run = {"fold": None, "seed": None} if step == "04_training" else {}
    used = run | params.values_of(params.read_study(files.study_file(name)))
    assert given == {key: value for key, value in used.items() if key in params.STEPS[step].model_fields}


# --- the demo study


def call(reports: Path, *arguments: str, cwd: Path = files.ROOT) -> subprocess.CompletedProcess:
    """Python on this project's lib, with reports elsewhere."""
    return python(files.ROOT, *arguments, cwd=cwd, REPORTS_ROOT=str(reports))


def papermill(reports: Path, *options: str) -> subprocess.CompletedProcess:
    """05_evaluation by itself, from another working directory, `elsewhere`."""
    (reports.parent / "elsewhere").mkdir()
    notebook, demo = str(files.ROOT / "notebooks" / "05_evaluation.ipynb"), str(files.study_file("demo"))
    quiet = ("-k", "python3", "--no-progress-bar", "--log-level", "ERROR")
    arguments = ("papermill", notebook, "out.ipynb", "-f", demo, *quiet, *options)
    return call(reports, "-m", *arguments, cwd=reports.parent / "elsewhere")


def states(study: str, project: Path = files.ROOT, **settings: str) -> dict[str, str]:
    """`done` or `runs` for each step of a study."""
    told = python(project, "-m", "lib", "why", study, **settings)
    assert told.returncode == 0, told.stderr
    return dict(line.split() for line in told.stdout.splitlines() if not line.startswith(" "))


def assert_is_done(study: str, project: Path = files.ROOT, **settings: str) -> None:
    assert set(states(study, project, **settings).values()) == {"done"}


@pytest.fixture(scope="session")
def demo_reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports root in which the demo study has run to its end; read it, copy it, leave it as it is."""
    reports = tmp_path_factory.mktemp("demo") / "reports"
    done = call(reports, "-m", "lib", "study", "demo", "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    return reports


@pytest.fixture
def reports(demo_reports: Path, tmp_path: Path) -> Path:
    """A copy of the finished reports to change."""
    return Path(shutil.copytree(demo_reports, tmp_path / "reports"))


def assert_shows_what_it_saved(study: Path) -> None:
    """Every executed notebook of a study holds as many pictures as lie in its folder."""
    executed = sorted(study.rglob("notebook.ipynb"))
    assert len(executed) >= 6
    for path in executed:
        outputs = [output for cell in files.read_json(path)["cells"] for output in cell.get("outputs", [])]
        pictures = [o for o in outputs if {"image/png", "image/svg+xml"} & set(o.get("data", {}))]
        saved = path.parent / "figures"
        assert len(pictures) == (len(list(saved.iterdir())) if saved.is_dir() else 0), path


def outputs_of(path: Path) -> list[str]:
    """What each code cell of an executed notebook shows: printed text as one, then the rest as JSON.

    Where the kernel cuts printed text in pieces is chance; speeds are another time's, and left out.
    """
    cells = [cell for cell in files.read_json(path)["cells"] if cell["cell_type"] == "code"]
    return [SPEED.sub("", shown_by(cell)) for cell in cells if "timing.csv" not in "".join(cell["source"])]


def shown_by(cell: dict) -> str:
    printed = "".join(line for each in cell["outputs"] for line in each.get("text", []))
    return printed + json.dumps([each for each in cell["outputs"] if "text" not in each], sort_keys=True)


def assert_prints_values(study: Path) -> None:
    """No executed notebook of a study prints where an object lies instead of what it holds."""
    for path in sorted(study.rglob("notebook.ipynb")):
        for output in outputs_of(path):
            assert not OBJECT.search(output), (path, OBJECT.search(output))


@pytest.mark.study
def test_the_demo_study_runs_from_nothing_to_its_pdf_and_nowhere_else(demo_reports):
    assert_is_done("demo", REPORTS_ROOT=str(demo_reports))
    assert (demo_reports / "demo" / "report.pdf").read_bytes().startswith(b"%PDF")
    assert_shows_what_it_saved(demo_reports / "demo")
    assert {path.name for path in demo_reports.iterdir() if not path.name.startswith(".")} == {"demo"}


@pytest.mark.study
def test_no_executed_notebook_prints_an_object_instead_of_what_it_holds(demo_reports, kinds_project):
    assert_prints_values(demo_reports)
    assert_prints_values(kinds_project / "reports")


@pytest.mark.slow
@pytest.mark.study
def test_every_notebook_executed_again_differs_in_nothing_but_times(tiny_project, project):
    first, again = tiny_project / "reports" / "tiny", project / "reports" / "tiny"
    shutil.rmtree(again)
    done = run_study(project)
    assert done.returncode == 0, done.stdout + done.stderr
    executed = sorted(path.relative_to(first) for path in first.rglob("notebook.ipynb"))
    assert len(executed) >= 6
    for name in executed:
        assert outputs_of(again / name) == outputs_of(first / name), name


@pytest.mark.study
def test_the_demo_finds_each_structure_and_measures_the_head_as_well_as_promised(demo_reports):
    demo = demo_reports / "demo"
    found = files.read_csv(demo / "05_evaluation" / "tables" / "per_class.csv", []).query("stage == 'post'")
    least = pd.Series({"parenchyma": 0.93, "csp": 0.70, "lv": 0.70})
    assert (found.set_index("class")["dice"].loc[least.index] >= least).all()
    guessed = files.read_csv(demo / "05_evaluation" / "tables" / "baselines.csv", [])
    assert guessed["dice"].max() < 0.80  # it is no toy: a threshold alone does far worse
    agreement = files.read_csv(demo / "06_biometry" / "tables" / "agreement.csv", [])
    row = agreement.set_index(["quantity", "route", "stage"]).loc[("hc", "ellipse", "post")]
    assert row["mae_percent"] <= 2
    assert row["not_measured"] == 0


@pytest.mark.study
def test_every_notebook_runs_under_nbval_and_leaves_the_study_current_and_the_network_untrained(reports):
    weights = reports / "demo" / "04_training" / "fold0-seed0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    options = ("--nbval-lax", "--nbval-cell-timeout=600", "-q", "-p", "no:cacheprovider")
    of_demo = [path for path in NOTEBOOKS if path != OF_LANDMARKS]  # the demo learns regions
    done = call(reports, "-m", "pytest", *options, *map(str, of_demo))
    assert done.returncode == 0, done.stdout
    assert_is_done("demo", REPORTS_ROOT=str(reports))
    assert weights.stat().st_mtime_ns == before


@pytest.mark.study
def test_a_notebook_by_itself_from_another_folder_leaves_equal_tables(reports, demo_reports):
    done = papermill(reports)
    assert done.returncode == 0, done.stderr
    own, apart = demo_reports / "demo" / "05_evaluation", reports / "demo" / "by_hand" / "unchanged" / "05_evaluation"
    tables = sorted(path.relative_to(own) for path in own.rglob("*.csv"))
    assert len(tables) >= 4
    for name in tables:
        assert (apart / name).read_bytes() == (own / name).read_bytes(), name
    assert_is_done("demo", REPORTS_ROOT=str(reports))
    assert [path.name for path in (reports.parent / "elsewhere").iterdir()] == ["out.ipynb"]
    shown = [
        outputs_of(path)[3:] for path in (reports.parent / "elsewhere" / "out.ipynb", own / "notebook.ipynb")
    ]  # after `start`
    assert shown[0] == shown[1] != []


@pytest.mark.study
@pytest.mark.parametrize(("key", "status"), [("flip_averge", 1), ("flip_average", 0)])
def test_a_key_on_the_command_line_leaves_the_study_as_it_is_and_a_mistyped_one_stops(reports, key, status):
    own = reports / "demo" / "05_evaluation" / "tables" / "per_class.csv"
    before = own.read_bytes()
    done = papermill(reports, "-p", key, "false")
    assert done.returncode == status, done.stderr
    assert_is_done("demo", REPORTS_ROOT=str(reports))
    assert own.read_bytes() == before
    if status:
        assert "flip_averge = 'false'   no such key; nearest: flip_average" in done.stderr
    else:
        tried = reports / "demo" / "by_hand" / "flip_average-False" / "05_evaluation" / "tables" / "per_class.csv"
        assert tried.read_bytes() != before


# --- the other kinds of study: landmarks, compared with others; volumes


def record_times(folder: Path) -> dict[str, int]:
    """When each step of a study was recorded."""
    found = {path.parent.relative_to(folder).as_posix(): path for path in folder.rglob("record.json")}
    return {name: path.stat().st_mtime_ns for name, path in found.items()}


@pytest.mark.study
@pytest.mark.parametrize(
    ("name", "notebook"), [("tiny_points", OF_LANDMARKS.name), ("tiny_volumes", "05_evaluation.ipynb")]
)
def test_a_study_of_another_kind_runs_from_nothing_to_its_pdf(kinds_project, name, notebook):
    study = kinds_project / "reports" / name
    assert_is_done(name, kinds_project)
    assert (study / "report.pdf").read_bytes().startswith(b"%PDF")
    code = files.read_json(study / "05_evaluation" / "record.json")["code"]
    assert [key for key in code if key.endswith(".ipynb")] == [notebook]
    assert_shows_what_it_saved(study)


@pytest.mark.study
def test_a_study_of_landmarks_measures_every_test_case_by_network_and_guesses(kinds_project):
    study = kinds_project / "reports" / "tiny_points"
    folds = files.read_csv(study / "01_data_verification" / "folds.csv", [])
    errors = files.read_csv(study / "05_evaluation" / "cases.csv", [])
    tested = set(folds.loc[folds["fold"] == 0, "case"])
    assert tested
    for (_, _), rows in errors.groupby(["line", "route"]):
        assert set(rows["case"]) == tested
    assert set(errors["line"]) == {"ofd", "bpd"}
    assert "landmark" in set(errors["route"])


@pytest.mark.study
def test_a_study_that_names_another_is_compared_with_it_and_nothing_else_runs_again(kinds_project, tmp_path):
    project = Path(shutil.copytree(kinds_project, tmp_path / "a project", symlinks=True))
    reports = project / "reports"
    before = record_times(reports / "tiny_points")
    change_keys(project / "params" / "tiny_points.yaml", {"compare_with": "[twin]"})
    refused = run_study(project, "tiny_points")
    assert refused.returncode == 2
    assert refused.stderr.strip() == "compare_with = 'twin'   has not been run; 'make study STUDY=twin' first"
    assert record_times(reports / "tiny_points") == before
    shutil.copytree(reports / "tiny_points", reports / "twin")
    done = run_study(project, "tiny_points")
    assert done.returncode == 0, done.stdout + done.stderr
    after = record_times(reports / "tiny_points")
    assert {step for step in after if after[step] != before.get(step)} == {"07_comparison", "report"}
    assert_shows_what_it_saved(reports / "tiny_points")
    assert_prints_values(reports / "tiny_points")
    said = outputs_of(reports / "tiny_points" / "07_comparison" / "notebook.ipynb")
    assert any("tiny_points and twin tested the same" in output for output in said)
    compared = files.read_csv(reports / "tiny_points" / "07_comparison" / "comparison.csv", [])
    twins = compared[(compared["study_b"] == "twin") & (compared["route_a"] == compared["route_b"])]
    assert len(twins)
    assert (twins["difference_mm"].dropna() == 0).all()  # its copy errs as it does
    assert_is_done("tiny_points", project)


@pytest.mark.study
def test_a_study_of_volumes_counts_every_voxel_that_was_drawn(kinds_project):
    study = kinds_project / "reports" / "tiny_volumes"
    truth = files.read_csv(kinds_project / "data" / "raw" / "phantom_lgg" / "truth.csv", []).set_index("case")
    lost = files.read_csv(study / "02_preprocessing" / "lost.csv", []).set_index("case")
    assert lost["reference_voxels"].to_dict() == truth["lesion_voxels"].to_dict()
    table = files.read_csv(study / "05_evaluation" / "cases.csv", []).query("stage == 'post'").set_index("case")
    assert (table["tp"] + table["fn"]).to_dict() == truth.loc[table.index, "lesion_voxels"].to_dict()
    for name, fold in zip(table.index, table["fold"]):
        path = mask_files.mask_path(study / "05_evaluation" / "predictions", "post", fold, 0, name, is_volume=True)
        assert mask_files.read(path).sum() == table.loc[name, ["tp", "fp"]].sum()


@pytest.mark.study
def test_curves_for_tensorboard_are_written_and_are_no_output(kinds_project):
    run = kinds_project / "reports" / "tiny_volumes" / "04_training" / "fold0-seed0"
    assert list((run / "tensorboard").rglob("events.out.tfevents.*"))
    assert not any("tensorboard" in name for name in files.read_json(run / "record.json")["outputs"])
