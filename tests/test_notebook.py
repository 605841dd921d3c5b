"""What `start` takes for parameters, in a fresh kernel and when a cell runs again; what `finish` writes, and when."""

from types import SimpleNamespace

import pytest
from IPython.core.interactiveshell import InteractiveShell
from papermill import iorw, parameterize
from traitlets.config import Config

from lib import datasets, notebook
from lib.study import environment, files, params, staleness, steps

START = 'from lib.notebook import start\np = start("03_model", globals())'
VERIFY, TRAIN, EVALUATE, COMPARE = (
    START.replace("03_model", name)
    for name in ("01_data_verification", "04_training", "05_evaluation", "07_comparison")
)
EVALUATE_LANDMARKS = START.replace("03_model", "05_evaluation_landmarks")
CHOSEN = params.step_params(params.read_study(files.study_file("demo")), "03_model").model_dump(exclude_unset=True)
DEMO = "\n".join(f"{key} = {value!r}" for key, value in CHOSEN.items())
ONLY_DEMO = 'study = "demo"'
TYPO = DEMO + "\nbase_chanels = 8"


@pytest.fixture
def reports(tmp_path, monkeypatch):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
    monkeypatch.setattr(steps, "data_digest", lambda _: "the same")
    monkeypatch.setattr(datasets, "prepare", files.raw_folder)  # the phantom is not drawn for this
    monkeypatch.setattr(steps, "input_digests", lambda *_: {})  # parameters are tested here, not the graph
    return tmp_path / "reports"


@pytest.fixture
def shell(reports, tmp_path, monkeypatch):
    """IPython as a kernel has it: names, history, hidden names."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    InteractiveShell.clear_instance()
    quiet = Config()
    quiet.HistoryManager.enabled = False
    yield InteractiveShell.instance(config=quiet)
    InteractiveShell.clear_instance()


def run(shell, *cells, history=True):
    """Runs cells as a reader would; stops at the first error and raises it."""
    for cell in cells:
        shell.run_cell(cell, store_history=history, silent=False).raise_error()


def message(shell, *cells, history=True):
    """What the last of some cells says when it stops."""
    run(shell, *cells[:-1], history=history)
    with pytest.raises(ValueError) as stopped:  # noqa: PT011 (each test looks at the whole text)
        run(shell, cells[-1], history=history)
    return str(stopped.value)


# --- start: the first call


def test_a_fresh_kernel_gives_typed_parameters_a_folder_and_the_data_set(shell, reports):
    run(shell, "import os\nimport numpy as np\ndef helper(): pass\n_mine = 3", DEMO, START)
    page = shell.user_ns["p"]
    assert isinstance(page.params, params.ModelParams)
    assert page.folder == reports / "demo" / "03_model"
    assert page.folder.is_dir()
    assert page.dataset is datasets.DATASETS["phantom_brain"]


@pytest.mark.parametrize("history", [True, False])  # without one as in nbval
def test_all_faults_of_the_cell_are_named_at_once_with_the_nearest_key(shell, history):
    stopped = message(shell, TYPO.replace("depth = 4", "depth = 9"), START, history=history)
    faults = stopped.splitlines()
    assert faults[0] == "parameters of 03_model: 2 faults"
    assert any(line.startswith("  depth = 9   not allowed; ") for line in faults)
    assert "  base_chanels = 8   no such key; nearest: base_channels" in faults


def test_keys_of_other_notebooks_are_checked_then_removed(shell):
    run(shell, DEMO + "\nepochs = 3\nflip_average = True", START)
    assert not {"epochs", "flip_average"} & set(shell.user_ns)
    assert shell.user_ns["depth"] == 4
    assert "epochs = 0   not allowed" in message(shell, DEMO + "\nepochs = 0", START)


def test_a_value_that_is_not_the_study_files_is_taken_and_named(shell, reports, capsys):
    run(shell, DEMO.replace("depth = 4", "depth = 3"), START)
    page = shell.user_ns["p"]
    assert page.params.depth == 3
    assert page.folder == reports / "demo" / "by_hand" / "depth-3" / "03_model"
    printed = capsys.readouterr().out
    assert "03_model of study demo: by hand, with depth = 3\n" in printed
    assert f"this run writes to {page.folder}" in printed


@pytest.mark.parametrize(
    "line",
    [
        *('dataset = "hc18"', "palette = [[0, 0, 0], [255, 0, 0]]"),
        *('classes = ["background", "head"]', 'landmarks = "multicentre"'),
    ],
)
def test_what_says_which_data_a_study_has_is_not_set_by_hand(shell, line):
    assert f"{line.replace(chr(34), chr(39))}   params/demo.yaml says " in message(shell, f"{ONLY_DEMO}\n{line}", START)


@pytest.mark.parametrize(
    ("line", "notebook", "key", "value"),
    [
        ('groups = ["trans-thalamic", "diverse"]', VERIFY, "groups", ["trans-thalamic", "diverse"]),
        ('flip_average = "true"', EVALUATE, "flip_average", True),  # as papermill -p leaves YAML's words
        ('flip_average = "false"', EVALUATE, "flip_average", False),
        ('gradient_clip = "null"', TRAIN, "gradient_clip", None),
    ],
)
def test_a_key_can_be_tried_by_hand(shell, line, notebook, key, value):
    run(shell, f"{ONLY_DEMO}\n{line}", notebook)
    assert getattr(shell.user_ns["p"].params, key) == value


@pytest.mark.parametrize(
    ("cell", "notebook", "stops"),
    [
        ("depth = 4", START, "parameters of 03_model: study = None   expected the name of a file in params/"),
        ('study = "demos"', START, "demos.yaml: no such study file; there are: "),
        (f'{ONLY_DEMO}\nflip_average = "yes"', EVALUATE, "flip_average = 'yes'   not allowed; true: average"),
        (f'{ONLY_DEMO}\nlearning_rate = "1e-4"', TRAIN, "learning_rate = '1e-4'   not allowed"),
        (
            f"{ONLY_DEMO}\nimage_size = [64, 100]",
            START.replace("03_model", "02_preprocessing"),
            "image_size = [64, 100]   not allowed; multiples of 16; nearest: [64, 96]",
        ),
        (
            'study = "phantom_hc18_landmarks"\nflip_averge = True',
            EVALUATE_LANDMARKS,
            "parameters of 05_evaluation_landmarks: 1 fault\n  flip_averge = True   no such key; nearest",
        ),
        (
            ONLY_DEMO,
            EVALUATE_LANDMARKS,
            "05_evaluation_landmarks cannot evaluate study demo, whose landmarks = 'none'; run 05_evaluation",
        ),
        ('study = "phantom_hc18_landmarks"', EVALUATE, "whose landmarks = 'multicentre'; run 05_evaluation_landmarks"),
    ],
)
def test_what_cannot_be_run_stops_before_anything_is_written(shell, reports, cell, notebook, stops):
    assert stops in message(shell, cell, notebook)
    assert not reports.exists()


def test_points_are_evaluated_in_the_folder_of_the_same_step(shell, reports):
    run(shell, 'study = "phantom_hc18_landmarks"', EVALUATE_LANDMARKS)
    page = shell.user_ns["p"]
    assert isinstance(page.params, params.EvaluationParams)
    assert page.folder == reports / "phantom_hc18_landmarks" / "05_evaluation"
    assert page.step == steps.Step("05_evaluation")


# --- start: keys that only some options use


@pytest.mark.parametrize("path", sorted((files.ROOT / "params").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_runs_on_the_cell_of_each_notebook_as_papermill_injects_it_and_by_its_name_alone(shell, path):
    study = params.read_study(path)
    for step in steps.study_steps(study):
        if step.name == "report":
            continue
        file = steps.notebook_file(step.name, study)
        book = parameterize.parameterize_notebook(iorw.load_notebook_node(str(file)), params.read_yaml(path))
        cells = [cell.source for cell in book.cells if set(cell.metadata.tags) & {"parameters", "injected-parameters"}]
        expected = steps.own_values(steps.training_steps(study)[0] if step.run else step, study)
        for given in (cells, [f"study = {study.study!r}"]):
            shell.reset()
            run(shell, *given, START.replace("03_model", file.stem))
            assert shell.user_ns["p"].params.model_dump(exclude_unset=True) == expected


def test_a_key_that_another_value_makes_useless_is_left_out_and_the_page_says_so(shell, capsys):
    run(shell, 'study = "hc18_quick"\nschedule = "cosine"', TRAIN)
    page = shell.user_ns["p"]
    assert page.params.warm_up_fraction is None
    assert "warm_up_fraction is left out: it is used only with schedule = one_cycle" in capsys.readouterr().out
    assert page.folder.parent.parent.name == "schedule-cosine"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('schedule = "plateau"', "plateau_factor   missing; needed with schedule = plateau: between 0 and 1"),
        ("plateau_patience = 3", "plateau_patience = 3   not used; only with schedule = plateau"),
        ('schedule = "cosine"\nwarm_up_fraction = 0.5', "warm_up_fraction = 0.5   not used; only with schedule = one"),
        ("area_weight_floor = 0.1", "area_weight_floor = 0.1   not used with hc18; only with volumes"),
    ],
)
def test_a_key_that_another_value_needs_or_that_nothing_uses_is_named(shell, line, fault):
    assert fault in message(shell, f'study = "hc18_quick"\n{line}', TRAIN)


def write_record(reports, study):
    """As if a study had been evaluated and measured."""
    for step in ("05_evaluation", "06_biometry"):
        files.write_json(reports / study / step / "record.json", {"outputs": {}})


def test_the_studies_that_are_compared_are_found_once_they_have_run(shell, reports):
    cells = ('study = "hc18_ellipse_quick"', COMPARE, "found = p.compared()")
    assert message(shell, *cells) == "06_biometry of study hc18_ellipse_quick has not run; run that notebook first"
    write_record(reports, "hc18_ellipse_quick")
    assert message(shell, *cells).startswith("compare_with = 'hc18_landmarks_quick'   has not been run; ")
    write_record(reports, "hc18_landmarks_quick")
    run(shell, *cells)
    names = ["hc18_ellipse_quick", "hc18_landmarks_quick"]  # its own first
    assert list(shell.user_ns["found"].items()) == [(name, reports / name) for name in names]


def test_fold_and_seed_set_by_the_graph_are_no_difference(shell, reports):
    run(shell, f"{ONLY_DEMO}\nfold = 2\nseed = 7", TRAIN)
    page = shell.user_ns["p"]
    assert page.folder == page.run_folder == reports / "demo" / "04_training" / "fold2-seed7"


# --- start: again in the same kernel


@pytest.mark.parametrize(
    "cells",
    [
        (DEMO, START, "table = [1, 2]\nrow = 3\nprint(row)", DEMO, START),
        (DEMO, START, "worst = sorted([2, 1])", START),  # a cell that assigns what it computes holds no parameters
        (DEMO, START, "folds = object()\nprint(folds)", DEMO, START),  # another notebook's key as a name
    ],
)
def test_a_second_run_all_passes(shell, cells):
    run(shell, *cells)


def test_a_typo_stops_whenever_it_comes_and_passes_once_it_is_mended(shell):
    message(shell, TYPO, START)
    run(shell, DEMO, START)
    stopped = message(shell, "row = 3\nprint(row)", TYPO, START)
    assert stopped.endswith("base_chanels = 8   no such key; nearest: base_channels")
    assert message(shell, START) == stopped  # the same cell once more looks at the same parameters
    run(shell, DEMO, START)
    assert shell.user_ns["base_chanels"] == 8  # although the name is still there


def test_the_check_cell_alone_after_a_computing_cell_takes_the_keys_in_the_namespace(shell):
    run(shell, DEMO, START, "depth = 3", "table = [1]\nprint(table)", START)
    assert shell.user_ns["p"].params.depth == 3


def test_the_first_notebook_alone_has_its_data_made(shell, monkeypatch):
    made = []
    monkeypatch.setattr(datasets, "prepare", made.append)
    run(shell, DEMO, START)
    assert made == []
    run(shell, ONLY_DEMO, VERIFY)
    assert made == ["phantom_brain"]


# --- checks and finish


@pytest.mark.parametrize(("by_graph", "needs"), [(False, ["timing.json"]), (True, ["timing.json", "notebook.ipynb"])])
def test_a_finished_page_has_a_record_with_its_checks(shell, reports, monkeypatch, by_graph, needs):
    if by_graph:
        monkeypatch.setenv(environment.ROOT_VARIABLE, str(files.ROOT))
    run(shell, ONLY_DEMO, VERIFY, 'p.check("one is one", 1 == 1)', "p.finish()")
    record = files.read_json(reports / "demo" / "01_data_verification" / "record.json")
    assert record["checks"] == [{"claim": "one is one", "holds": True}]
    assert record["own"]["fold_count"] == 5
    assert record["needs"] == needs


def test_the_record_is_written_last(shell, reports, monkeypatch):
    written = []
    real = files.write_bytes
    monkeypatch.setattr(files, "write_bytes", lambda path, content: (written.append(path.name), real(path, content)))
    run(shell, ONLY_DEMO, VERIFY, 'p.write_json({"a": 1}, "facts.json")', "p.finish()")
    assert written == [".step.lock.json", "facts.json", "timing.json", "record.json"]
    assert "facts.json" in files.read_json(reports / "demo" / "01_data_verification" / "record.json")["outputs"]


def test_failed_checks_stop_at_finish_all_named_no_record_is_written_and_the_folder_is_free(shell, reports, capsys):
    checks = 'p.check("a holds", True)\np.check("b holds", False)\np.check("c holds", False)'
    assert message(shell, ONLY_DEMO, VERIFY, checks, "p.finish()") == "2 of 3 checks failed: b holds; c holds"
    assert "FAILS   b holds" in capsys.readouterr().out
    folder = reports / "demo" / "01_data_verification"
    assert [path.name for path in folder.iterdir() if path.name != ".step.lock"] == []
    assert shell.user_ns["p"].lock is None


def test_a_finished_page_writes_nothing_more(shell, reports):
    run(shell, ONLY_DEMO, VERIFY, "p.finish()")
    for cell in ('p.write_json({}, "facts.json")', "p.finish()"):
        assert message(shell, cell).startswith("this page is finished; run the cell with start() again")


def test_a_start_that_stops_takes_nothing_away_and_one_that_goes_on_what_no_longer_holds(shell, reports):
    folder = reports / "demo" / "01_data_verification"
    run(shell, ONLY_DEMO, VERIFY, 'p.write_json({}, "facts.json")', "p.finish()")
    files.write_text(folder / "facts.json", "edited")
    files.write_text(folder / ".writing-a.csv", "left by a process that was killed")
    message(shell, ONLY_DEMO + "\nfold_count = 0", VERIFY)
    assert (folder / "record.json").is_file()
    run(shell, ONLY_DEMO, VERIFY)
    assert not any((folder / name).exists() for name in ("record.json", "facts.json", ".writing-a.csv"))


# --- runs by hand


def test_a_finished_step_run_once_more_by_hand_takes_nothing_away(shell, reports, capsys):
    own, apart = reports / "demo" / "01_data_verification", reports / "demo" / "by_hand" / "unchanged"
    run(shell, ONLY_DEMO, VERIFY, 'p.write_json({}, "facts.json")', "p.finish()")
    files.write_text(own / "notebook.ipynb", "executed")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in own.iterdir() if path.name[0] != "."}
    run(shell, ONLY_DEMO, VERIFY, 'p.write_json({"other": 1}, "facts.json")', "p.finish()")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert files.read_json(apart / "01_data_verification" / "facts.json") == {"other": 1}
    assert "01_data_verification of study demo: by hand, once more\n" in capsys.readouterr().out


def test_a_value_tried_by_hand_leaves_the_study_s_step_done(shell, reports):
    run(shell, ONLY_DEMO, VERIFY, "p.finish()")
    run(shell, f"{ONLY_DEMO}\nsplit_seed = 1", VERIFY, "p.finish()")
    study = params.read_study(files.study_file("demo"))
    assert staleness.stale_reasons(steps.Step("01_data_verification"), study) == []
    record = files.read_json(reports / "demo" / "by_hand" / "split_seed-1" / "01_data_verification" / "record.json")
    assert record["own"]["split_seed"] == 1


def test_a_training_by_hand_has_a_run_of_its_own_and_one_run_once_more_that_of_the_study(shell, reports, monkeypatch):
    monkeypatch.setattr(steps, "step_inputs", lambda *_: [])
    run(shell, f"{ONLY_DEMO}\nepochs = 3", TRAIN)
    page = shell.user_ns["p"]
    label = "04_training/fold0-seed0"
    assert page.folder == page.run_folder == reports / "demo" / "by_hand" / "epochs-3" / label
    run(shell, ONLY_DEMO, TRAIN, "p.finish()", ONLY_DEMO, TRAIN)
    page = shell.user_ns["p"]
    assert page.run_folder == reports / "demo" / label
    assert page.folder == reports / "demo" / "by_hand" / "unchanged" / label


def test_the_graph_writes_to_the_step_s_own_folder_whatever_lies_there(shell, reports, monkeypatch):
    run(shell, ONLY_DEMO, VERIFY, "p.finish()")
    monkeypatch.setenv(environment.ROOT_VARIABLE, str(files.ROOT))
    run(shell, VERIFY)
    assert shell.user_ns["p"].folder == reports / "demo" / "01_data_verification"


def test_a_folder_by_hand_is_named_by_what_differs_or_told_apart_by_a_digest():
    assert notebook.name_of({}) == "unchanged"
    assert notebook.name_of({"learning_rate": 0.5, "epochs": 3}) == "epochs-3_learning_rate-0.5"
    names = [notebook.name_of({"exclude": each}) for each in (["a/b"], ["a:b"], ["a/b" * 40])]
    assert len(set(names)) == 3
    assert all(name.startswith("exclude-") and "/" not in name and len(name) < 70 for name in names)


def test_a_start_of_training_keeps_the_runs_own_files(shell, reports):
    folder = reports / "demo" / "04_training" / "fold0-seed0"
    for name in ("model.safetensors", "state.pt", "run.json", "history.csv", "figures/curves.svg", "record.json"):
        files.write_text(folder / name, "old")
    run(shell, ONLY_DEMO, TRAIN)
    left = {path.name for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}
    assert left == {"model.safetensors", "state.pt", "run.json", "history.csv"}


def test_the_step_or_training_that_has_not_run_is_named(shell):
    stopped = message(shell, DEMO, START, 'p.of("02_preprocessing")')
    assert stopped == "02_preprocessing of study demo has not run; run that notebook first"
    stopped = message(shell, ONLY_DEMO, EVALUATE, "p.trainings()")
    assert stopped == "04_training/fold0-seed0 of study demo has not run; run that notebook first"


def test_measured_time_and_memory_are_positive_and_on_windows_what_it_counted(monkeypatch):
    measured = notebook.measure(0.0)
    assert measured["seconds"] > 0
    assert measured["peak_bytes"] > 10**6
    monkeypatch.setattr(notebook.sys, "platform", "win32")
    counted = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=12345))
    monkeypatch.setattr(notebook.psutil, "Process", lambda: counted)
    assert notebook.measure(0.0)["peak_bytes"] == 12345
