import ast
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import nbformat
import pandas as pd
import pytest
from papermill import inspect_notebook

from lib.imaging import mask_files
from lib.notebook import parameters_cell
from lib.prediction import interactive
from lib.study import files, param_faults, params, provenance, steps
from tests.conftest import change_keys, python, run_study

NOTEBOOKS = sorted((files.ROOT / "notebooks").glob("*.ipynb"))
OF_LANDMARKS = files.ROOT / "notebooks" / f"05_evaluation{steps.OF_LANDMARKS}.ipynb"  # a second one of one step
PREDICTION = files.ROOT / "notebooks" / "08_prediction.ipynb"  # of no study
OF_STEPS = [path for path in NOTEBOOKS if path != PREDICTION]
MODELS = params.STEPS | {PREDICTION.stem: interactive.PredictionParams}
NOT_APPLICABLE = {  # cells of sections that do not apply to a study: no landmarks, volumes, heads, other data sets
    "tiny": {"03-11", "d12c3a27", "01-20", "46d26b05", "05-25", "06-33", "06-34"},
    "tiny_points": {"03-11", "01-20", "46d26b05", "05l-04", "06-27", "06-29", "06-31", "06-33", "06-34"},
    "tiny_volumes": {
        "03-11",
        "d12c3a27",
        "01-20",
        "06-04",
        "06-06",
        "06-08",
        "06-09",
        "06-10",
        "06-11",
        "06-13",
        "06-14",
        "05-40",
    }
    | {f"06-{number}" for number in (16, 17, 19, 20, 22, 24, 26, 27, 29, 31, 38, 39)},
}
HIDDEN_FIGURES = {("tiny_volumes", "06_biometry"): 3}  # saved by these cells; of volumes by 06 of any other study
SPEED = re.compile(r"\d+ images/s")
OBJECT = re.compile(r".{0,60}( object | at )0x|<(generator|function|bound method|zip|map|filter)\b")


def test_git_holds_notebooks_without_outputs(tmp_path):
    for path in NOTEBOOKS:  # outside git the file itself; JupyterLab may have saved outputs
        show = ["git", "-C", str(files.ROOT), "show", f":notebooks/{path.name}"]
        held = subprocess.run(show, capture_output=True, check=False)
        (tmp_path / path.name).write_bytes(path.read_bytes() if held.returncode else held.stdout)
    done = python(files.ROOT, "-m", "nbstripout", "--keep-id", "--verify", *map(str, tmp_path.iterdir()))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_states_its_files_starts_under_its_own_name_and_ends_with_checks(path):
    book = nbformat.read(path, as_version=4).cells
    parameters, start, *_ = [cell for cell in book if cell.cell_type == "code"]
    assert [cell for cell in book if "parameters" in cell.metadata.get("tags", [])] == [parameters]
    assert re.fullmatch(rf'page = .*start\("{path.stem}", .*\)', start.source.splitlines()[-1])
    assert start.source.count("globals()") == 1
    assert re.match(rf"# {path.stem[:2]} · \w(.|\n)*\n\*Reads\* (.|\n)*\*Writes\* ", book[0].source)
    assert book[-2].source.splitlines()[0] == "## Checks"
    assert "page.check(" in book[-1].source
    assert book[-1].source.splitlines()[-1] == "page.finish()"


def test_every_step_has_a_notebook_and_every_notebook_but_08_is_that_of_a_step():
    assert {path.stem.removesuffix(steps.OF_LANDMARKS) for path in OF_STEPS} == params.STEPS.keys() - {"report"}
    assert PREDICTION in NOTEBOOKS


def test_the_parameters_cell_of_08_is_valid_and_complete_as_it_is():
    given = parameters_cell(PREDICTION.stem)
    assert interactive.faults(given) == []
    assert given == interactive.PredictionParams.model_validate(given).model_dump()


@pytest.mark.parametrize("path", OF_STEPS, ids=lambda path: path.stem)
def test_the_parameters_cell_holds_exactly_the_step_s_keys_with_values_of_a_phantom_study(path):
    source = next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    given = provenance.assigned_values(source)
    name = "phantom_hc18_landmarks" if path == OF_LANDMARKS else "demo"  # the demo learns regions
    step = path.stem.removesuffix(steps.OF_LANDMARKS)
    of_a_run = {"fold": None, "seed": None, "case_limit": None, "profile": False}
    used = of_a_run | params.values_of(params.read_study(files.study_file(name)))
    assert given == {key: value for key, value in used.items() if key in params.STEPS[step].model_fields}


def type_name(annotation: object) -> str:
    """A type of a parameter model as the notebooks write it; allowed words are text."""
    kind, inner = get_origin(annotation), get_args(annotation)
    if kind in (Union, UnionType):
        return " or ".join("None" if each is NoneType else type_name(each) for each in inner)
    if kind in (Annotated, list):
        return type_name(inner[0]) if kind is Annotated else f"list[{type_name(inner[0])}]"
    return "str" if kind is Literal else annotation.__name__


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_shows_the_type_of_every_key_as_in_its_model_and_its_value(path):
    model = MODELS[path.stem.removesuffix(steps.OF_LANDMARKS)].model_fields
    shown = inspect_notebook(path)
    assert {key: ast.literal_eval(each["default"]) for key, each in shown.items()} == parameters_cell(path.stem)
    for key, each in shown.items():
        assert each["help"], key
        expected = type_name(model[key].annotation)
        if param_faults.option_of(params.Study, key):  # None in the model: absent
            expected = expected.removesuffix(" or None")
        may_be_left_open = " or None" if key in params.RUN else ""  # None: the study's first
        assert each["inferred_type_name"] == expected + may_be_left_open, key


def papermill(reports: Path, *options: str) -> subprocess.CompletedProcess:
    """Runs 05_evaluation alone, from the working directory `elsewhere`."""
    (reports.parent / "elsewhere").mkdir()
    notebook, demo = str(files.ROOT / "notebooks" / "05_evaluation.ipynb"), str(files.study_file("demo"))
    quiet = ("-k", "python3", "--no-progress-bar", "--log-level", "ERROR")
    arguments = ("papermill", notebook, "out.ipynb", "-f", demo, *quiet, *options)
    return python(files.ROOT, "-m", *arguments, cwd=reports.parent / "elsewhere", REPORTS_ROOT=str(reports))


def assert_is_done(study: str, project: Path = files.ROOT, **settings: str) -> None:
    listed = python(project, "-m", "lib", "why", study, **settings)
    assert listed.returncode == 0, listed.stderr
    lines = listed.stdout.splitlines()
    assert lines
    assert all(line.endswith(" up to date") for line in lines), lines


@pytest.fixture(scope="session")
def demo_reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports of the finished demo study; tests that change something copy them."""
    reports = tmp_path_factory.mktemp("demo") / "reports"
    done = python(files.ROOT, "-m", "lib", "study", "demo", "--cores", "2", REPORTS_ROOT=str(reports))
    assert done.returncode == 0, done.stdout + done.stderr
    return reports


@pytest.fixture
def reports(demo_reports: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_reports, tmp_path / "reports"))


def assert_displays_values(study: Path) -> None:
    """Every executed notebook displays the figures that it saved but HIDDEN_FIGURES, and no object's address."""
    executed = sorted(study.rglob("notebook.ipynb"))
    assert len(executed) >= 6
    for path in executed:
        outputs = [output for cell in files.read_json(path)["cells"] for output in cell.get("outputs", [])]
        displayed = [o for o in outputs if {"image/png", "image/svg+xml"} & set(o.get("data", {}))]
        saved = [file for file in path.parent.glob("figures/*") if file.suffix != ".pdf"]  # a chart is saved as SVG too
        of_volumes = int(path.parent.name == "06_biometry")
        saved += ["viewer"] * path.parent.name.startswith("05_")  # displayed without a file
        assert len(displayed) == len(saved) - HIDDEN_FIGURES.get((study.name, path.parent.name), of_volumes), path
        assert not [match[0] for match in map(OBJECT.search, outputs_of(path)) if match], path


def outputs_of(path: Path) -> list[str]:
    """Outputs of each code cell of an executed notebook without speeds: joined printed text, then the rest as JSON."""
    cells = [cell for cell in files.read_json(path)["cells"] if cell["cell_type"] == "code"]
    outputs = [cell["outputs"] for cell in cells if "timing.csv" not in "".join(cell["source"])]
    printed = ["".join(line for each in one for line in each.get("text", [])) for one in outputs]
    others = [json.dumps([each for each in one if "text" not in each], sort_keys=True) for one in outputs]
    return [SPEED.sub("", text + other) for text, other in zip(printed, others)]


def test_the_demo_study_runs_from_nothing_to_its_pdf_and_writes_nowhere_else(demo_reports):
    assert_is_done("demo", REPORTS_ROOT=str(demo_reports))
    assert (demo_reports / "demo" / "report.pdf").read_bytes().startswith(b"%PDF")
    assert_displays_values(demo_reports / "demo")
    assert {path.name for path in demo_reports.iterdir() if not path.name.startswith(".")} == {"demo"}


def test_exactly_the_sections_that_do_not_apply_display_nothing(tiny_project, kinds_project):
    for study, not_applicable in NOT_APPLICABLE.items():
        project, silent = tiny_project if study == "tiny" else kinds_project, set()
        for path in (project / "reports" / study).rglob("notebook.ipynb"):
            code = [cell for cell in files.read_json(path)["cells"] if cell["cell_type"] == "code"]
            silent |= {cell["id"] for cell in code[2:] if not cell["outputs"]}  # without the parameters, twice
        assert silent == not_applicable, study


@pytest.mark.slow
def test_every_notebook_executed_again_differs_only_in_times(tiny_project, project):
    first, again = tiny_project / "reports" / "tiny", project / "reports" / "tiny"
    shutil.rmtree(again)
    done = run_study(project)
    assert done.returncode == 0, done.stdout + done.stderr
    executed = sorted(path.relative_to(first) for path in first.rglob("notebook.ipynb"))
    assert len(executed) >= 6
    for name in executed:
        assert outputs_of(again / name) == outputs_of(first / name), name


def test_the_demo_segments_each_structure_and_measures_the_head_as_accurately_as_documented(demo_reports):
    demo = demo_reports / "demo"
    per_class = files.read_csv(demo / "05_evaluation" / "tables" / "per_class.csv", []).query("stage == 'post'")
    least = pd.Series({"parenchyma": 0.93, "csp": 0.70, "lv": 0.70})
    assert (per_class.set_index("class")["dice"].loc[least.index] >= least).all()
    baselines = files.read_csv(demo / "05_evaluation" / "tables" / "baselines.csv", [])
    reached = baselines.groupby("class")["dice"].max()
    assert reached[["csp", "lv"]].max() < 0.30  # without a network there are no structures
    assert baselines.set_index("method").loc["brightest pixels, robust ellipse", "dice"] > 0.9  # but there is a head,
    assert baselines.set_index("method").loc["network", "dice"] == reached["head"] > 0.98  # which the network improves
    agreement = files.read_csv(demo / "06_biometry" / "tables" / "agreement.csv", [])
    row = agreement.set_index(["quantity", "route", "stage"]).loc[("hc", "ellipse", "post")]
    assert row["mae_percent"] <= 2
    assert row["not_measured"] == 0


def test_the_demo_s_model_measures_the_phantoms_of_08_which_it_never_saw(demo_reports, monkeypatch):
    monkeypatch.setenv("REPORTS_ROOT", str(demo_reports))
    answers = interactive.start(PREDICTION.stem, parameters_cell(PREDICTION.stem)).predict()
    errors = answers.errors.query("quantity == 'hc'").dropna()
    assert len(errors) == interactive.PHANTOMS - 1  # the last has no pixel size
    assert (errors["error_mm"].abs() / errors["true_mm"]).mean() <= 0.02


def test_every_notebook_runs_under_nbval_and_leaves_the_study_up_to_date_without_training(reports):
    weights = reports / "demo" / "04_training" / "fold0-seed0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    options = ("--nbval-lax", "--nbval-cell-timeout=600", "-q", "-p", "no:cacheprovider")
    of_demo = [path for path in NOTEBOOKS if path != OF_LANDMARKS]  # the demo learns regions
    done = python(files.ROOT, "-m", "pytest", *options, *map(str, of_demo), REPORTS_ROOT=str(reports))
    assert done.returncode == 0, done.stdout
    assert_is_done("demo", REPORTS_ROOT=str(reports))
    assert weights.stat().st_mtime_ns == before


def test_a_notebook_run_alone_from_another_folder_writes_equal_tables(reports, demo_reports):
    done = papermill(reports)
    assert done.returncode == 0, done.stderr
    own, manual = demo_reports / "demo" / "05_evaluation", reports / "demo" / "by_hand" / "unchanged" / "05_evaluation"
    tables = sorted(path.relative_to(own) for path in own.rglob("*.csv"))
    assert len(tables) >= 4
    for name in tables:
        assert (manual / name).read_bytes() == (own / name).read_bytes(), name
    assert_is_done("demo", REPORTS_ROOT=str(reports))
    assert [path.name for path in (reports.parent / "elsewhere").iterdir()] == ["out.ipynb"]
    executed = (reports.parent / "elsewhere" / "out.ipynb", own / "notebook.ipynb")
    outputs = [outputs_of(path)[3:] for path in executed]  # after `start`
    assert outputs[0] == outputs[1] != []


@pytest.mark.parametrize(
    ("key", "value", "folder"),
    [
        ("flip_averge", "false", None),
        ("flip_average", "false", "flip_average-False"),
        ("case_limit", "3", "case_limit-3"),
    ],
)
def test_a_key_on_the_command_line_leaves_the_study_as_it_is_and_a_mistyped_one_stops(reports, key, value, folder):
    own = reports / "demo" / "05_evaluation" / "tables" / "per_class.csv"
    before = own.read_bytes()
    done = papermill(reports, "-p", key, value)
    assert done.returncode == (folder is None), done.stderr
    assert_is_done("demo", REPORTS_ROOT=str(reports))
    assert own.read_bytes() == before
    if folder is None:
        assert "flip_averge = 'false'   no such key; nearest: flip_average" in done.stderr
    else:
        manual = reports / "demo" / "by_hand" / folder / "05_evaluation" / "tables" / "per_class.csv"
        assert manual.read_bytes() != before


@pytest.mark.slow
@pytest.mark.parametrize("study", ["tiny", "tiny_points", "tiny_volumes"])
def test_a_quick_pass_of_every_kind_trains_evaluates_and_measures_two_cases(
    tiny_project, kinds_project, tmp_path, study
):
    project = Path(shutil.copytree(tiny_project if study == "tiny" else kinds_project, tmp_path / "p", symlinks=True))
    evaluation = OF_LANDMARKS.stem if study == "tiny_points" else "05_evaluation"
    keys = {"03_model": ("profile", "true")} | dict.fromkeys(
        ("04_training", evaluation, "06_biometry"), ("case_limit", "2")
    )
    for name, key in keys.items():
        files_given = (f"notebooks/{name}.ipynb", "out.ipynb", "-f", f"params/{study}.yaml", "-p", *key)
        done = python(project, "-m", "papermill", *files_given, "-k", "python3", "--no-progress-bar")
        assert done.returncode == 0, done.stderr
    folder = project / "reports" / study / "by_hand" / "case_limit-2"
    run = files.read_json(folder / "04_training" / "fold0-seed0" / "run.json")
    assert (run["made_of"]["keys"]["case_limit"], run["train_cases"]) == (2, 2)
    assert files.read_csv(folder / "05_evaluation" / "cases.csv", [])["case"].nunique() == 2
    inputs = files.read_json(folder / "06_biometry" / "record.json")["inputs"]
    outputs = files.read_json(folder / "05_evaluation" / "record.json")["outputs"]
    assert inputs["by_hand/case_limit-2/05_evaluation"] == files.digest(outputs)
    shares = pd.read_csv(folder.parent / "profile-True/03_model/tables/epoch-profile.csv")["percent"]
    assert shares.sum() == pytest.approx(100)
    assert_is_done(study, project)


def record_times(folder: Path) -> dict[str, int]:
    return {path.parent.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("record.json")}


@pytest.mark.parametrize(
    ("name", "notebook"), [("tiny_points", OF_LANDMARKS.name), ("tiny_volumes", "05_evaluation.ipynb")]
)
def test_a_study_of_another_kind_runs_from_nothing_to_its_pdf(kinds_project, name, notebook):
    study = kinds_project / "reports" / name
    assert_is_done(name, kinds_project)
    assert (study / "report.pdf").read_bytes().startswith(b"%PDF")
    code = files.read_json(study / "05_evaluation" / "record.json")["code"]
    assert [key for key in code if key.endswith(".ipynb")] == [notebook]
    assert_displays_values(study)


def test_a_landmark_study_measures_every_test_case_by_network_and_baselines(kinds_project):
    study = kinds_project / "reports" / "tiny_points"
    folds = files.read_csv(study / "01_data_verification" / "folds.csv", [])
    errors = files.read_csv(study / "05_evaluation" / "cases.csv", [])
    tested = set(folds.loc[folds["fold"] == 0, "case"])
    assert tested
    for (_, _), rows in errors.groupby(["line", "route"]):
        assert set(rows["case"]) == tested
    assert set(errors["line"]) == {"ofd", "bpd"}
    assert "landmark" in set(errors["route"])


def test_a_study_that_names_another_is_compared_with_it_and_nothing_else_runs_again(kinds_project, tmp_path):
    project = Path(shutil.copytree(kinds_project, tmp_path / "a project", symlinks=True))
    reports = project / "reports"
    before = record_times(reports / "tiny_points")
    change_keys(project / "params" / "tiny_points.yaml", {"compare_with": "[twin]"})
    refused = run_study(project, "tiny_points")
    assert refused.returncode == 2
    assert refused.stderr.strip() == "compare_with = 'twin'   has not been run; run 'make study STUDY=twin' first"
    assert record_times(reports / "tiny_points") == before
    shutil.copytree(reports / "tiny_points", reports / "twin")
    done = run_study(project, "tiny_points")
    assert done.returncode == 0, done.stdout + done.stderr
    after = record_times(reports / "tiny_points")
    assert {step for step in after if after[step] != before.get(step)} == {"07_comparison", "report"}
    assert_displays_values(reports / "tiny_points")
    outputs = outputs_of(reports / "tiny_points" / "07_comparison" / "notebook.ipynb")
    assert any("tiny_points and twin tested the same" in output for output in outputs)
    compared = files.read_csv(reports / "tiny_points" / "07_comparison" / "comparison.csv", [])
    twins = compared[(compared["study_b"] == "twin") & (compared["route_a"] == compared["route_b"])]
    assert len(twins)
    assert (twins["difference_mm"].dropna() == 0).all()  # a copy has the same errors
    assert_is_done("tiny_points", project)


def test_a_study_of_volumes_counts_every_lesion_voxel_of_the_phantom(kinds_project):
    study = kinds_project / "reports" / "tiny_volumes"
    truth = files.read_csv(kinds_project / "data" / "raw" / "phantom_lgg" / "truth.csv", []).set_index("case")
    lost = files.read_csv(study / "02_preprocessing" / "lost.csv", []).set_index("case")
    assert lost["reference_voxels"].to_dict() == truth["lesion_voxels"].to_dict()
    table = files.read_csv(study / "05_evaluation" / "cases.csv", []).query("stage == 'post'").set_index("case")
    assert (table["tp"] + table["fn"]).to_dict() == truth.loc[table.index, "lesion_voxels"].to_dict()
    for name, fold in zip(table.index, table["fold"]):
        path = mask_files.mask_path(study / "05_evaluation" / "predictions", "post", fold, 0, name, is_volume=True)
        assert mask_files.read(path).sum() == table.loc[name, ["tp", "fp"]].sum()


def test_curves_for_tensorboard_are_written_and_are_no_output(kinds_project):
    run = kinds_project / "reports" / "tiny_volumes" / "04_training" / "fold0-seed0"
    assert list((run / "tensorboard").rglob("events.out.tfevents.*"))
    assert not any("tensorboard" in name for name in files.read_json(run / "record.json")["outputs"])
