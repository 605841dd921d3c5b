"""Notebooks are pages: rules that each of them keeps, and the demo study run with them."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from lib.imaging import mask_files
from lib.study import files, params, steps
from tests.conftest import change_keys, environment, python, run_study

NOTEBOOKS = sorted((files.ROOT / "notebooks").glob("*.ipynb"))
NOT_A_NOTEBOOK = ("report",)
OF_LANDMARKS = files.ROOT / "notebooks" / f"05_evaluation{steps.OF_LANDMARKS}.ipynb"  # a second one of one step
RESULT = re.compile(r"\d\s*%|\b\d+\.\d+")  # 95 %, 0.97
INTERVAL = "95 % of single measurements"  # what limits of agreement are, not a result
SPEED = re.compile(r"\d+ images/s")
OBJECT = re.compile(r".{0,60}( object | at )0x|<(generator|function|bound method|zip|map|filter)\b")
MOST_LINES = {"function": 10, "cell": 25}

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def parameters_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in cells(path, "code") if "parameters" in cell.metadata.get("tags", [])]


def step_of(path: Path) -> str:
    """The step that a notebook serves."""
    return path.stem.removesuffix(steps.OF_LANDMARKS)


def code(path: Path) -> list[str]:
    """Sources of the code cells after that of parameters."""
    return [cell.source for cell in cells(path, "code")][1:]


def nodes(path: Path, kind: type | tuple[type, ...]) -> list[ast.AST]:
    return [node for source in code(path) for node in ast.walk(ast.parse(source)) if isinstance(node, kind)]


# --- rules


def test_there_is_a_notebook_for_every_step_and_no_other():
    expected = {name for name in params.STEPS if name not in NOT_A_NOTEBOOK}
    assert {path.stem for path in NOTEBOOKS} == expected | {OF_LANDMARKS.stem}


def test_outputs_are_stripped():
    command = [sys.executable, "-m", "nbstripout", "--keep-id", "--verify", *map(str, NOTEBOOKS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@each
def test_the_first_code_cell_and_no_other_holds_the_parameters(path):
    assert parameters_cells(path) == cells(path, "code")[:1]


@each
def test_the_parameters_are_a_phantom_study_s_values_of_exactly_this_steps_keys(path):
    body = ast.parse(parameters_cells(path)[0].source).body
    assert all(isinstance(node, ast.Assign) for node in body)
    given = {node.targets[0].id: ast.literal_eval(node.value) for node in body}
    name = "phantom_hc18_landmarks" if path == OF_LANDMARKS else "demo"  # the demo learns regions
    study, step = params.read_study(files.study_file(name)), step_of(path)
    assert given == params.step_params(study, step).model_dump()
    assert list(given) == list(params.STEPS[step].model_fields)


@each
def test_each_parameter_has_a_comment(path):
    for line in parameters_cells(path)[0].source.splitlines():
        assert re.search(r"  # \S", line), f"{line}: no comment"


@each
def test_the_next_cell_starts_the_page_under_the_notebooks_own_name(path):
    assert code(path)[0].splitlines()[-1] == f'page = start("{path.stem}", globals())'
    starts = [node for node in nodes(path, ast.Call) if ast.unparse(node.func) == "start"]
    assert len(starts) == 1


@each
def test_the_last_section_is_checks_and_ends_in_finish(path):
    book = nbformat.read(path, as_version=4).cells
    assert [cell.cell_type for cell in book[-2:]] == ["markdown", "code"]
    assert book[-2].source.splitlines()[0] == "## Checks"
    assert book[-1].source.splitlines()[-1] == "page.finish()"
    assert "page.check(" in book[-1].source
    finishes = [node for node in nodes(path, ast.Call) if ast.unparse(node.func) == "page.finish"]
    assert len(finishes) == 1


@each
def test_every_claim_of_a_notebook_is_named_once(path):
    calls = [node for node in nodes(path, ast.Call) if ast.unparse(node.func) == "page.check"]
    claims = [ast.unparse(node.args[0]) for node in calls]
    assert len(set(claims)) == len(claims)


@each
def test_no_function_is_longer_than_ten_lines_and_no_cell_than_twenty_five(path):
    for node in nodes(path, ast.FunctionDef):
        assert node.end_lineno - node.lineno < MOST_LINES["function"], node.name
    for source in code(path):
        assert len(source.splitlines()) <= MOST_LINES["cell"], source


@each
def test_no_loop_computes_in_a_notebook(path):
    assert nodes(path, (ast.For, ast.While, ast.ClassDef, ast.Try)) == []


@each
def test_no_plotting_library_is_imported_so_style_stays_in_one_place(path):
    assert not imported(path) & {"matplotlib", "seaborn", "plotly"}


def imported(path: Path) -> set[str]:
    """First parts of all imported modules."""
    plain = {alias.name for node in nodes(path, ast.Import) for alias in node.names}
    return {name.partition(".")[0] for name in plain | {node.module for node in nodes(path, ast.ImportFrom)}}


@each
def test_no_path_is_written_out_and_no_folder_changed(path):
    texts = [node.value for node in nodes(path, ast.Constant) if isinstance(node.value, str)]
    assert not [text for text in texts if re.search(r"^(\.{0,2}/|~|[A-Za-z]:\\)|^(data|reports|params|lib)/", text)]
    calls = {ast.unparse(node.func) for node in nodes(path, ast.Call)}
    assert not calls & {"open", "os.chdir", "Path", "pathlib.Path", "pd.read_csv", "os.path.join"}
    assert not imported(path) & {"os", "pathlib", "sys"}


@each
def test_no_cell_is_a_shell_command_or_a_magic(path):
    assert not [line for source in code(path) for line in source.splitlines() if line.lstrip().startswith(("%", "!"))]


@each
def test_every_import_is_used(path):
    bound = {
        (alias.asname or alias.name).partition(".")[0]
        for node in nodes(path, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    used = {node.id for node in nodes(path, ast.Name)}
    assert bound <= used, f"imported, never used: {sorted(bound - used)}"


@each
def test_prose_holds_no_result(path):
    for cell in cells(path, "markdown"):
        assert not RESULT.search(cell.source.replace(INTERVAL, "")), cell.source


@each
def test_a_page_begins_with_its_title_what_it_is_about_and_what_it_reads_and_writes(path):
    first = cells(path, "markdown")[0].source
    number, _, _ = path.stem.partition("_")
    assert re.match(rf"# {number} · \w", first)
    assert re.search(r"(?m)^\*\*[^*]+[?.]\*\*", first)
    assert "*Reads* " in first
    assert "*Writes* " in first


@each
def test_every_cell_has_an_id_of_its_own(path):
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    assert len(set(ids)) == len(ids)


# --- the demo study


def lib(reports: Path, *arguments: str) -> subprocess.CompletedProcess:
    """`python -m lib …` of this project, with reports elsewhere."""
    return call(reports, "-m", "lib", *arguments)


def call(reports: Path, *arguments: str, cwd: Path = files.ROOT) -> subprocess.CompletedProcess:
    settings = environment(files.ROOT, REPORTS_ROOT=str(reports))
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=settings, capture_output=True, text=True, check=False
    )


def papermill(reports: Path, cwd: Path, *options: str) -> subprocess.CompletedProcess:
    """05_evaluation by itself, from another working directory."""
    notebook = str(files.ROOT / "notebooks" / "05_evaluation.ipynb")
    demo = str(files.study_file("demo"))
    quiet = ("-k", "python3", "--no-progress-bar", "--log-level", "ERROR")
    return call(reports, "-m", "papermill", notebook, "out.ipynb", "-f", demo, *quiet, *options, cwd=cwd)


def states(reports: Path) -> dict[str, str]:
    """`done` or `runs` for each step of the demo."""
    said = lib(reports, "why", "demo")
    assert said.returncode == 0, said.stderr
    return dict(line.split() for line in said.stdout.splitlines() if not line.startswith(" "))


@pytest.fixture(scope="session")
def demo_reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports root in which the demo study has run to its end; read it, copy it, leave it as it is."""
    reports = tmp_path_factory.mktemp("demo") / "reports"
    done = lib(reports, "study", "demo", "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    return reports


@pytest.fixture
def reports(demo_reports: Path, tmp_path: Path) -> Path:
    """A copy of the finished reports to change."""
    return Path(shutil.copytree(demo_reports, tmp_path / "reports"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A working directory that holds nothing."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


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


def dice(reports: Path, class_name: str) -> float:
    table = files.read_csv(reports / "demo" / "05_evaluation" / "tables" / "per_class.csv", []).set_index(
        ["class", "stage"]
    )
    return float(table.loc[(class_name, "post"), "dice"])


@pytest.mark.study
def test_the_demo_study_runs_from_nothing_to_its_pdf(demo_reports):
    assert set(states(demo_reports).values()) == {"done"}
    assert (demo_reports / "demo" / "report.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.study
def test_an_executed_notebook_shows_every_figure_that_it_saved(demo_reports):
    assert_shows_what_it_saved(demo_reports / "demo")


@pytest.mark.study
def test_no_executed_notebook_prints_an_object_instead_of_what_it_holds(demo_reports):
    assert_prints_values(demo_reports)


@pytest.mark.study
def test_no_executed_notebook_of_another_kind_prints_an_object(kinds_project):
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
@pytest.mark.parametrize(("class_name", "least"), [("parenchyma", 0.93), ("csp", 0.70), ("lv", 0.70)])
def test_the_demo_finds_each_structure_as_well_as_promised(demo_reports, class_name, least):
    assert dice(demo_reports, class_name) >= least


@pytest.mark.study
def test_the_demo_measures_head_circumference_within_two_percent(demo_reports):
    table = files.read_csv(demo_reports / "demo" / "06_biometry" / "tables" / "agreement.csv", [])
    row = table.set_index(["quantity", "route", "stage"]).loc[("hc", "ellipse", "post")]
    assert row["mae_percent"] <= 2
    assert row["not_measured"] == 0


@pytest.mark.study
def test_the_demo_is_no_toy_a_threshold_alone_does_far_worse(demo_reports):
    table = files.read_csv(demo_reports / "demo" / "05_evaluation" / "tables" / "baselines.csv", [])
    assert table["dice"].max() < 0.80


@pytest.mark.study
def test_reports_go_where_reports_root_says_and_nowhere_else(demo_reports):
    shown = {path.name for path in demo_reports.iterdir() if not path.name.startswith(".")}
    assert shown == {"demo"}


@pytest.mark.study
def test_every_notebook_runs_under_nbval_and_leaves_the_study_current_and_the_network_untrained(reports):
    weights = reports / "demo" / "04_training" / "fold0-seed0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    options = ("--nbval-lax", "--nbval-cell-timeout=600", "-q", "-p", "no:cacheprovider")
    of_demo = [path for path in NOTEBOOKS if path != OF_LANDMARKS]  # the demo learns regions
    done = call(reports, "-m", "pytest", *options, *map(str, of_demo))
    assert done.returncode == 0, done.stdout
    assert set(states(reports).values()) == {"done"}
    assert weights.stat().st_mtime_ns == before


@pytest.mark.study
def test_a_notebook_by_itself_from_another_folder_leaves_equal_tables(reports, demo_reports, elsewhere):
    done = papermill(reports, elsewhere)
    assert done.returncode == 0, done.stderr
    own, apart = demo_reports / "demo" / "05_evaluation", reports / "demo" / "by_hand" / "unchanged" / "05_evaluation"
    tables = sorted(path.relative_to(own) for path in own.rglob("*.csv"))
    assert len(tables) >= 4
    for name in tables:
        assert (apart / name).read_bytes() == (own / name).read_bytes(), name
    assert set(states(reports).values()) == {"done"}
    assert [path.name for path in elsewhere.iterdir()] == ["out.ipynb"]
    shown = [outputs_of(path)[3:] for path in (elsewhere / "out.ipynb", own / "notebook.ipynb")]  # after `start`
    assert shown[0] == shown[1] != []


@pytest.mark.study
def test_a_mistyped_key_on_the_command_line_stops_and_names_the_nearest(reports, elsewhere):
    record = reports / "demo" / "05_evaluation" / "record.json"
    before = record.read_bytes()
    done = papermill(reports, elsewhere, "-p", "flip_averge", "true")
    assert done.returncode == 1
    assert "flip_averge = 'true'   no such key; nearest: flip_average" in done.stderr
    assert record.read_bytes() == before


@pytest.mark.study
def test_a_value_tried_on_the_command_line_leaves_the_study_as_it_is(reports, elsewhere):
    own = reports / "demo" / "05_evaluation" / "tables" / "per_class.csv"
    before = own.read_bytes()
    done = papermill(reports, elsewhere, "-p", "flip_average", "false")
    assert done.returncode == 0, done.stderr
    assert set(states(reports).values()) == {"done"}
    tried = reports / "demo" / "by_hand" / "flip_average-False" / "05_evaluation" / "tables" / "per_class.csv"
    assert own.read_bytes() == before != tried.read_bytes()


# --- the other kinds of study: landmarks, compared with others; volumes


def step_states(project: Path, study: str) -> dict[str, str]:
    """`done` or `runs` for each step of a study in a project of its own."""
    said = python(project, "-m", "lib", "why", study)
    assert said.returncode == 0, said.stderr
    return dict(line.split() for line in said.stdout.splitlines() if not line.startswith(" "))


def record_times(folder: Path) -> dict[str, int]:
    """When each step of a study was recorded."""
    found = {path.parent.relative_to(folder).as_posix(): path for path in folder.rglob("record.json")}
    return {name: path.stat().st_mtime_ns for name, path in found.items()}


@pytest.mark.study
def test_a_study_of_landmarks_runs_from_nothing_to_its_pdf(kinds_project):
    study = kinds_project / "reports" / "tiny_points"
    assert set(step_states(kinds_project, "tiny_points").values()) == {"done"}
    assert (study / "report.pdf").read_bytes().startswith(b"%PDF")
    code = files.read_json(study / "05_evaluation" / "record.json")["code"]
    assert OF_LANDMARKS.name in code
    assert "05_evaluation.ipynb" not in code
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
    assert set(step_states(project, "tiny_points").values()) == {"done"}


@pytest.mark.study
def test_a_study_of_volumes_runs_from_nothing_to_its_pdf(kinds_project):
    study = kinds_project / "reports" / "tiny_volumes"
    assert set(step_states(kinds_project, "tiny_volumes").values()) == {"done"}
    assert (study / "report.pdf").read_bytes().startswith(b"%PDF")
    assert_shows_what_it_saved(study)


@pytest.mark.study
def test_a_study_of_volumes_counts_every_voxel_that_was_drawn(kinds_project):
    study = kinds_project / "reports" / "tiny_volumes"
    truth = files.read_csv(kinds_project / "data" / "raw" / "phantom_lgg" / "truth.csv", []).set_index("case")
    lost = files.read_csv(study / "02_preprocessing" / "lost.csv", []).set_index("case")
    assert lost["reference_voxels"].to_dict() == truth["lesion_voxels"].to_dict()
    table = files.read_csv(study / "05_evaluation" / "cases.csv", []).query("stage == 'post'").set_index("case")
    assert (table["tp"] + table["fn"]).to_dict() == truth.loc[table.index, "lesion_voxels"].to_dict()
    for name, fold in zip(table.index, table["fold"]):
        path = mask_files.place(study / "05_evaluation" / "predictions", "post", fold, 0, name, is_volume=True)
        assert mask_files.read(path).sum() == table.loc[name, ["tp", "fp"]].sum()


@pytest.mark.study
def test_curves_for_tensorboard_are_written_and_are_no_output(kinds_project):
    run = kinds_project / "reports" / "tiny_volumes" / "04_training" / "fold0-seed0"
    events = list((run / "tensorboard").rglob("events.out.tfevents.*"))
    assert events
    assert not any("tensorboard" in name for name in files.read_json(run / "record.json")["outputs"])
