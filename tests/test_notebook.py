"""What `start` takes for parameters, in a fresh kernel and when a cell runs again; what `finish` writes, and when."""

from types import SimpleNamespace

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.figure import Figure
from traitlets.config import Config

from lib import datasets, notebook
from lib.study import environment, files, params, staleness, steps

START = 'from lib.notebook import start\np = start("03_model", globals())'
PAGE = START.replace("03_model", "01_data_verification")
DEMO = "\n".join(
    [
        'study = "demo"',
        'dataset = "phantom_brain"',
        'classes = ["background", "parenchyma", "csp", "lv"]',
        "palette = []",
        'landmarks = "none"',
        'device = "auto"',
        'precision = "auto"',
        'model = "unet"',
        "base_channels = 16",
        "depth = 4",
        'normalisation = "batch"',
        'encoder = "resnet34"',
        'encoder_weights = "none"',
        'heatmap_per = "line"',
    ]
)


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


def test_a_fresh_kernel_gives_typed_parameters_and_a_folder(shell, reports):
    run(shell, DEMO, START)
    page = shell.user_ns["p"]
    assert isinstance(page.params, params.ModelParams)
    assert page.folder == reports / "demo" / "03_model"
    assert page.folder.is_dir()


def test_an_unknown_name_stops_the_notebook_and_the_nearest_key_is_named(shell):
    said = message(shell, DEMO + "\nbase_chanels = 8", START)
    assert said == "parameters of 03_model: 1 fault\n  base_chanels = 8   no such key; nearest: base_channels"


def test_all_faults_of_the_cell_are_named_at_once(shell):
    said = message(shell, DEMO.replace("depth = 4", "depth = 9") + "\nbase_chanels = 8", START)
    assert said.startswith("parameters of 03_model: 2 faults\n")
    assert "  depth = 9   not allowed; number of poolings, 1 to 6" in said
    assert "  base_chanels = 8   no such key" in said


def test_an_unknown_name_is_seen_without_a_history_as_in_nbval(shell):
    assert "base_chanels" in message(shell, DEMO + "\nbase_chanels = 8", START, history=False)


def test_names_that_are_no_yaml_values_are_no_parameters(shell):
    run(shell, "import os\nimport numpy as np\ndef helper(): pass", DEMO, START)


def test_hidden_and_underscored_names_are_no_parameters(shell):
    run(shell, "_mine = 3", DEMO, START)


def test_keys_of_other_notebooks_are_checked_then_removed(shell):
    run(shell, DEMO + "\nepochs = 3\nflip_average = True", START)
    assert not {"epochs", "flip_average"} & set(shell.user_ns)
    assert shell.user_ns["depth"] == 4


def test_a_wrong_value_of_another_notebooks_key_stops_too(shell):
    assert "epochs = 0   not allowed" in message(shell, DEMO + "\nepochs = 0", START)


def test_only_the_study_given_takes_the_rest_from_its_file(shell):
    run(shell, 'study = "hc18_unet"', START)
    page, study = shell.user_ns["p"], params.read_study(files.study_file("hc18_unet"))
    assert page.params == params.step_params(study, "03_model")


def test_a_value_that_is_not_the_study_files_is_taken_and_named(shell, reports, capsys):
    run(shell, DEMO.replace("depth = 4", "depth = 3"), START)
    page = shell.user_ns["p"]
    assert page.params.depth == 3
    assert page.folder == reports / "demo" / "by_hand" / "depth-3" / "03_model"
    said = capsys.readouterr().out
    assert "03_model of study demo: by hand, with depth = 3\n" in said
    assert f"the study's own files are left as they are; this run writes to {page.folder}" in said


def test_shared_keys_given_otherwise_are_refused(shell):
    said = message(shell, 'study = "hc18_unet"\ndataset = "phantom_brain"', START)
    assert "dataset = 'phantom_brain'   params/hc18_unet.yaml says 'hc18'; to run another study" in said


@pytest.mark.parametrize(
    "line",
    ["palette = [[0, 0, 0], [255, 0, 0]]", 'classes = ["background", "head"]', 'landmarks = "multicentre"'],
    ids=["palette", "classes", "landmarks"],
)
def test_what_says_which_data_a_study_has_is_not_set_by_hand(shell, line):
    key, _, value = line.partition(" = ")
    said = message(shell, f'study = "demo"\n{line}', START)
    assert f"{key} = {value.replace(chr(34), chr(39))}   params/demo.yaml says " in said
    assert "to run another study, give all its keys, or only its name" in said


def test_groups_can_be_tried_by_hand(shell):
    run(shell, 'study = "demo"\ngroups = ["trans-thalamic", "diverse"]', PAGE)
    assert shell.user_ns["p"].params.groups == ["trans-thalamic", "diverse"]


def test_a_page_knows_the_data_set_of_its_study(shell):
    run(shell, DEMO, START)
    assert shell.user_ns["p"].dataset is datasets.DATASETS["phantom_brain"]


OF_LANDMARKS = START.replace("03_model", "05_evaluation_landmarks")


def test_points_are_evaluated_in_the_folder_of_the_same_step(shell, reports):
    run(shell, 'study = "phantom_hc18_landmarks"', OF_LANDMARKS)
    page = shell.user_ns["p"]
    assert isinstance(page.params, params.EvaluationParams)
    assert page.folder == reports / "phantom_hc18_landmarks" / "05_evaluation"
    assert page.step == steps.Step("05_evaluation")


@pytest.mark.parametrize(
    ("study", "wrong", "right", "landmarks"),
    [
        ("demo", "05_evaluation_landmarks", "05_evaluation", "none"),
        ("phantom_hc18_landmarks", "05_evaluation", "05_evaluation_landmarks", "multicentre"),
    ],
)
def test_the_notebook_of_the_other_kind_says_which_one_to_run(shell, reports, study, wrong, right, landmarks):
    said = message(shell, f'study = "{study}"', START.replace("03_model", wrong))
    assert said == f"{wrong} cannot evaluate study {study}, whose landmarks = '{landmarks}'; run {right}"
    assert not (reports / study / "05_evaluation").exists()


def test_a_fault_in_the_notebook_of_landmarks_is_told_under_its_own_name(shell):
    said = message(shell, 'study = "phantom_hc18_landmarks"\nflip_averge = True', OF_LANDMARKS)
    assert said.startswith(
        "parameters of 05_evaluation_landmarks: 1 fault\n  flip_averge = True   no such key; nearest"
    )


def test_the_studies_that_are_compared_are_found_once_they_have_run(shell, reports):
    cells = ('study = "hc18_ellipse_quick"', START.replace("03_model", "07_comparison"), "found = p.compared()")
    write_record(reports, "hc18_ellipse_quick")
    said = message(shell, *cells)
    expected = "compare_with = 'hc18_landmarks_quick'   has not been run; 'make study STUDY=hc18_landmarks_quick' first"
    assert said == expected
    write_record(reports, "hc18_landmarks_quick")
    run(shell, *cells)
    names = ["hc18_ellipse_quick", "hc18_landmarks_quick"]  # its own first
    assert list(shell.user_ns["found"].items()) == [(name, reports / name) for name in names]


def write_record(reports, study):
    """As if a study had been evaluated and measured."""
    for step in ("05_evaluation", "06_biometry"):
        files.write_json(reports / study / step / "record.json", {"outputs": {}})


def test_a_study_that_is_compared_with_none_finds_itself(shell, reports):
    cells = ('study = "demo"', START.replace("03_model", "07_comparison"), "found = p.compared()")
    assert message(shell, *cells) == "06_biometry of study demo has not run; run that notebook first"
    write_record(reports, "demo")
    run(shell, *cells)
    assert shell.user_ns["found"] == {"demo": reports / "demo"}


def test_fold_and_seed_set_by_the_graph_are_no_difference(shell, reports):
    run(shell, 'study = "demo"\nfold = 2\nseed = 7', START.replace("03_model", "04_training"))
    page = shell.user_ns["p"]
    assert page.folder == page.run_folder == reports / "demo" / "04_training" / "fold2-seed7"


def test_a_number_that_yaml_reads_as_text_comes_with_a_hint(shell):
    said = message(shell, 'study = "demo"\nlearning_rate = "1e-4"', START.replace("03_model", "04_training"))
    assert "learning_rate = '1e-4'   not allowed" in said
    assert "this is text to YAML: write 0.0001 without quotes, with a point (1.0e-4, not 1e-4)" in said


@pytest.mark.parametrize(("word", "value"), [("true", True), ("false", False)])
def test_a_yaml_word_given_to_papermill_as_text_is_understood(shell, word, value):
    run(shell, f'study = "demo"\nflip_average = "{word}"', START.replace("03_model", "05_evaluation"))
    assert shell.user_ns["p"].params.flip_average is value


def test_null_given_to_papermill_as_text_is_understood(shell):
    run(shell, 'study = "demo"\ngradient_clip = "null"', START.replace("03_model", "04_training"))
    assert shell.user_ns["p"].params.gradient_clip is None


def test_another_word_for_true_is_refused(shell):
    said = message(shell, 'study = "demo"\nflip_average = "yes"', START.replace("03_model", "05_evaluation"))
    assert "flip_average = 'yes'   not allowed; true: average" in said


def test_without_a_study_the_cell_is_told_what_is_expected(shell):
    said = message(shell, "depth = 4", START)
    assert said == "parameters of 03_model: study = None   expected the name of a file in params/"


def test_an_unknown_study_is_named_with_the_nearest(shell):
    said = message(shell, 'study = "demos"', START)
    assert "demos.yaml: no such study file; there are: " in said
    assert said.endswith("; nearest: demo")


def test_rules_between_keys_hold_in_the_cell_too(shell):
    said = message(shell, 'study = "demo"\nimage_size = [64, 100]', START.replace("03_model", "02_preprocessing"))
    assert "image_size = [64, 100]   not allowed; multiples of 16; nearest: [64, 96]" in said


# --- start: again in the same kernel


def test_a_second_run_all_passes(shell):
    run(shell, DEMO, START, "table = [1, 2]\nrow = 3\nprint(row)", DEMO, START)


def test_a_later_typo_stops_and_names_the_nearest_key(shell):
    said = message(shell, DEMO, START, "row = 3\nprint(row)", DEMO + "\nbase_chanels = 8", START)
    assert said.endswith("base_chanels = 8   no such key; nearest: base_channels")


def test_a_mended_typo_passes_although_the_name_is_still_there(shell):
    message(shell, DEMO, START, DEMO + "\nbase_chanels = 8", START)
    run(shell, DEMO, START)
    assert shell.user_ns["base_chanels"] == 8


def test_a_typo_of_the_first_call_passes_once_it_is_mended(shell):
    message(shell, DEMO + "\nbase_chanels = 8", START)
    run(shell, DEMO, START)


def test_the_check_cell_run_twice_in_a_row_looks_at_the_same_parameters(shell):
    run(shell, DEMO, START)
    said = message(shell, DEMO + "\nbase_chanels = 8", START)
    assert message(shell, START) == said


def test_the_check_cell_alone_after_a_computing_cell_takes_the_keys_in_the_namespace(shell):
    run(shell, DEMO, START, "depth = 3", "table = [1]\nprint(table)", START)
    assert shell.user_ns["p"].params.depth == 3


def test_a_cell_that_assigns_what_it_computes_is_no_parameters_cell(shell):
    run(shell, DEMO, START, "worst = sorted([2, 1])", START)


def test_another_notebooks_key_that_later_cells_use_as_a_name_is_no_fault(shell):
    run(shell, DEMO, START, "folds = object()\nprint(folds)", DEMO, START)


def test_the_first_notebook_alone_has_its_data_made(shell, monkeypatch):
    made = []
    monkeypatch.setattr(datasets, "prepare", made.append)
    run(shell, DEMO, START)
    assert made == []
    run(shell, 'study = "demo"', PAGE)
    assert made == ["phantom_brain"]


# --- checks and finish


def test_a_finished_page_has_a_record_with_its_checks(shell, reports):
    run(shell, 'study = "demo"', PAGE, 'p.check("one is one", 1 == 1)', "p.finish()")
    record = files.read_json(reports / "demo" / "01_data_verification" / "record.json")
    assert record["checks"] == [{"claim": "one is one", "holds": True}]
    assert record["own"]["fold_count"] == 5
    assert record["needs"] == ["timing.json"]


def test_the_record_is_written_last(shell, reports, monkeypatch):
    written = []
    real = files.write_bytes
    monkeypatch.setattr(files, "write_bytes", lambda path, content: (written.append(path.name), real(path, content)))
    run(shell, 'study = "demo"', PAGE, 'p.write_json({"a": 1}, "facts.json")', "p.finish()")
    assert written == [".step.lock.json", "facts.json", "timing.json", "record.json"]
    assert "facts.json" in files.read_json(reports / "demo" / "01_data_verification" / "record.json")["outputs"]


def test_the_graph_s_record_needs_the_executed_notebook(shell, reports, monkeypatch):
    monkeypatch.setenv(environment.ROOT_VARIABLE, str(files.ROOT))
    run(shell, 'study = "demo"', PAGE, "p.finish()")
    record = files.read_json(reports / "demo" / "01_data_verification" / "record.json")
    assert record["needs"] == ["timing.json", "notebook.ipynb"]


def test_failed_checks_stop_at_finish_all_named_and_no_record_is_written(shell, reports, capsys):
    checks = 'p.check("a holds", True)\np.check("b holds", False)\np.check("c holds", False)'
    said = message(shell, 'study = "demo"', PAGE, checks, "p.finish()")
    assert said == "2 of 3 checks failed: b holds; c holds"
    assert "FAILS   b holds" in capsys.readouterr().out
    assert not (reports / "demo" / "01_data_verification" / "record.json").exists()


def test_a_finished_page_writes_nothing_more_and_its_folder_is_free(shell, reports):
    run(shell, 'study = "demo"', PAGE, "p.finish()")
    said = message(shell, 'p.write_json({}, "facts.json")')
    assert said == "this page is finished; run the cell with start() again before writing anything"
    assert message(shell, "p.finish()") == said


def test_a_page_whose_checks_failed_keeps_nobody_waiting(shell, reports):
    message(shell, 'study = "demo"', PAGE, 'p.check("a holds", False)', "p.finish()")
    assert not (reports / "demo" / "01_data_verification" / ".step.lock.json").exists()
    assert shell.user_ns["p"].lock is None


def test_a_start_takes_a_record_that_no_longer_holds_and_its_files_away(shell, reports):
    folder = reports / "demo" / "01_data_verification"
    run(shell, 'study = "demo"', PAGE, 'p.write_json({}, "facts.json")', "p.finish()")
    files.write_text(folder / "facts.json", "edited")
    files.write_text(folder / ".writing-a.csv", "left by a process that was killed")
    run(shell, PAGE)
    assert not (folder / "record.json").exists()
    assert not (folder / "facts.json").exists()
    assert not (folder / ".writing-a.csv").exists()


# --- runs by hand


def test_a_finished_step_run_once_more_by_hand_takes_nothing_away(shell, reports, capsys):
    own, apart = reports / "demo" / "01_data_verification", reports / "demo" / "by_hand" / "unchanged"
    run(shell, 'study = "demo"', PAGE, 'p.write_json({}, "facts.json")', "p.finish()")
    files.write_text(own / "notebook.ipynb", "executed")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in own.iterdir() if path.name[0] != "."}
    run(shell, 'study = "demo"', PAGE, 'p.write_json({"other": 1}, "facts.json")', "p.finish()")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert files.read_json(apart / "01_data_verification" / "facts.json") == {"other": 1}
    assert "01_data_verification of study demo: by hand, once more\n" in capsys.readouterr().out


def test_a_value_tried_by_hand_leaves_the_study_s_step_done(shell, reports):
    run(shell, 'study = "demo"', PAGE, "p.finish()")
    run(shell, 'study = "demo"\nsplit_seed = 1', PAGE, "p.finish()")
    study = params.read_study(files.study_file("demo"))
    assert staleness.stale_reasons(steps.Step("01_data_verification"), study) == []
    record = files.read_json(reports / "demo" / "by_hand" / "split_seed-1" / "01_data_verification" / "record.json")
    assert record["own"]["split_seed"] == 1


def test_a_training_tried_by_hand_has_a_run_of_its_own_and_one_run_once_more_that_of_the_study(
    shell, reports, monkeypatch
):
    monkeypatch.setattr(steps, "step_inputs", lambda *_: [])
    training = START.replace("03_model", "04_training")
    run(shell, 'study = "demo"\nepochs = 3', training)
    page = shell.user_ns["p"]
    label = "04_training/fold0-seed0"
    assert page.folder == page.run_folder == reports / "demo" / "by_hand" / "epochs-3" / label
    run(shell, 'study = "demo"', training, "p.finish()", 'study = "demo"', training)
    page = shell.user_ns["p"]
    assert page.run_folder == reports / "demo" / label
    assert page.folder == reports / "demo" / "by_hand" / "unchanged" / label


def test_the_graph_writes_to_the_step_s_own_folder_whatever_lies_there(shell, reports, monkeypatch):
    run(shell, 'study = "demo"', PAGE, "p.finish()")
    monkeypatch.setenv(environment.ROOT_VARIABLE, str(files.ROOT))
    run(shell, PAGE)
    assert shell.user_ns["p"].folder == reports / "demo" / "01_data_verification"


@pytest.mark.parametrize(
    ("differs", "name"),
    [
        ({}, "unchanged"),
        ({"epochs": 3}, "epochs-3"),
        ({"learning_rate": 0.5, "epochs": 3}, "epochs-3_learning_rate-0.5"),
    ],
)
def test_a_folder_by_hand_is_named_by_what_differs(differs, name):
    assert notebook.name_of(differs) == name


def test_values_that_are_no_file_name_are_told_apart_by_a_digest():
    names = [notebook.name_of({"exclude": each}) for each in (["a/b"], ["a:b"], ["a/b" * 40])]
    assert len(set(names)) == 3
    assert all(name.startswith("exclude-") and "/" not in name and len(name) < 70 for name in names)


def test_a_start_of_training_keeps_the_runs_own_files(shell, reports):
    folder = reports / "demo" / "04_training" / "fold0-seed0"
    for name in ("model.safetensors", "state.pt", "run.json", "history.csv", "figures/curves.svg", "record.json"):
        files.write_text(folder / name, "old")
    run(shell, 'study = "demo"', START.replace("03_model", "04_training"))
    left = {path.name for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}
    assert left == {"model.safetensors", "state.pt", "run.json", "history.csv"}


def test_a_start_that_stops_takes_nothing_away(shell, reports):
    record = reports / "demo" / "03_model" / "record.json"
    files.write_text(record, "old")
    message(shell, DEMO + "\nbase_chanels = 8", START)
    assert record.read_text() == "old"


def test_the_folder_of_a_step_that_has_not_run_is_refused(shell):
    said = message(shell, DEMO, START, 'p.of("02_preprocessing")')
    assert said == "02_preprocessing of study demo has not run; run that notebook first"


def test_a_training_that_is_missing_is_named(shell):
    said = message(shell, 'study = "demo"', START.replace("03_model", "05_evaluation"), "p.trainings()")
    assert said == "04_training/fold0-seed0 of study demo has not run; run that notebook first"


def test_measured_time_and_memory_are_positive():
    found = notebook.measure(0.0)
    assert found["seconds"] > 0
    assert found["peak_bytes"] > 10**6


def test_on_windows_the_most_memory_is_what_windows_counted(monkeypatch):
    monkeypatch.setattr(notebook.sys, "platform", "win32")
    counted = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=12345))
    monkeypatch.setattr(notebook.psutil, "Process", lambda: counted)
    assert notebook.measure(0.0)["peak_bytes"] == 12345


@pytest.mark.parametrize(("images", "kind"), [(False, "image/svg+xml"), (True, "image/png")])
def test_a_figure_is_shown_as_it_was_saved(shell, images, kind):
    run(shell, DEMO, START)
    page = shell.user_ns["p"]
    figure = Figure()
    axes = figure.subplots()
    if images:
        axes.imshow(np.zeros((4, 4)))
    with capture_output() as shown:
        page.show(figure, "picture")
    assert [kind in output.data for output in shown.outputs] == [True]
    assert (page.folder / "figures" / f"picture.{'png' if images else 'svg'}").is_file()
