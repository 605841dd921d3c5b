import gc
import shutil
from types import SimpleNamespace

import pytest
from IPython.core.interactiveshell import InteractiveShell
from papermill import iorw, parameterize
from traitlets.config import Config

from lib import datasets, notebook
from lib.study import environment, files, params, plain_yaml, staleness, steps

START = 'from lib.notebook import start\np = start("03_model", globals())'
VERIFY, PREPROCESS, TRAIN, EVALUATE, COMPARE = (
    START.replace("03_model", name)
    for name in ("01_data_verification", "02_preprocessing", "04_training", "05_evaluation", "07_comparison")
)
EVALUATE_LANDMARKS = START.replace("03_model", "05_evaluation_landmarks")
VALUES = params.step_params(params.read_study(files.study_file("demo")), "03_model").model_dump(exclude_unset=True)
DEMO = "\n".join(f"{key} = {value!r}" for key, value in VALUES.items())
ONLY_DEMO, QUICK, LANDMARKS = 'study = "demo"', 'study = "hc18_quick"\n', 'study = "phantom_hc18_landmarks"'
TYPO = DEMO + "\nbase_chanels = 8"
FIRST = "demo/01_data_verification"


@pytest.fixture
def reports(tmp_path, monkeypatch):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
    monkeypatch.setattr(steps, "data_digest", lambda _: "the same")
    monkeypatch.setattr(datasets, "prepare", files.raw_folder)  # no phantom is generated
    monkeypatch.setattr(steps, "input_digests", lambda *_: {})  # parameters are tested here, not the workflow
    return tmp_path / "reports"


@pytest.fixture
def shell(reports, tmp_path, monkeypatch):
    """IPython as in a kernel: namespace, history, hidden names."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    InteractiveShell.clear_instance()
    quiet = Config()
    quiet.HistoryManager.enabled = False
    yield InteractiveShell.instance(config=quiet)
    InteractiveShell.clear_instance()


def run(shell, *cells, history=True):
    """Runs cells, raises their first error, and returns the page `p` if there is one."""
    for cell in cells:
        shell.run_cell(cell, store_history=history, silent=False).raise_error()
    return shell.user_ns.get("p")


def message(shell, *cells, history=True):
    run(shell, *cells[:-1], history=history)
    with pytest.raises(ValueError) as stopped:  # noqa: PT011 (each test checks the text)
        run(shell, cells[-1], history=history)
    return str(stopped.value)


def test_a_fresh_kernel_gives_typed_parameters_a_folder_and_the_data_set(shell, reports):
    page = run(shell, "import os\nimport numpy as np\ndef helper(): pass\n_mine = 3", DEMO, START)
    assert isinstance(page.params, params.ModelParams)
    assert page.folder == reports / "demo" / "03_model"
    assert page.folder.is_dir()
    assert page.dataset is datasets.DATASETS["phantom_brain"]


@pytest.mark.parametrize("history", [True, False])  # without one as in nbval
def test_all_faults_of_the_cell_are_named_at_once_with_the_nearest_key(shell, history):
    stopped = message(shell, TYPO.replace("depth = 4", "depth = 9"), START, history=history)
    faults = stopped.splitlines()
    assert faults[0] == "parameters of 03_model: 2 errors"
    assert any(line.startswith("  depth = 9   not allowed; ") for line in faults)
    assert "  base_chanels = 8   no such key; nearest: base_channels" in faults


def test_keys_of_other_notebooks_are_checked_then_removed(shell):
    run(shell, DEMO + "\nepochs = 3\nflip_average = True", START)
    assert not {"epochs", "flip_average"} & set(shell.user_ns)
    assert shell.user_ns["depth"] == 4


def test_a_value_that_is_not_the_study_files_is_taken_and_named(shell, reports, capsys):
    page = run(shell, DEMO.replace("depth = 4", "depth = 3"), START)
    assert page.params.depth == 3
    assert page.folder == reports / "demo" / "by_hand" / "depth-3" / "03_model"
    printed = capsys.readouterr().out
    assert "03_model of study demo: manual run with depth = 3\n" in printed
    assert f"this run writes to {page.folder}" in printed


@pytest.mark.parametrize(
    ("line", "notebook", "key", "value"),
    [
        ('groups = ["trans-thalamic", "diverse"]', VERIFY, "groups", ["trans-thalamic", "diverse"]),
        ('flip_average = "true"', EVALUATE, "flip_average", True),  # as papermill -p leaves YAML's words
        ('flip_average = "false"', EVALUATE, "flip_average", False),
        ('gradient_clip = "null"', TRAIN, "gradient_clip", None),
    ],
)
def test_a_key_can_be_overridden(shell, line, notebook, key, value):
    assert getattr(run(shell, f"{ONLY_DEMO}\n{line}", notebook).params, key) == value


@pytest.mark.parametrize(
    ("cell", "notebook", "stops"),
    [
        ("depth = 4", START, "parameters of 03_model: study = None   expected the name of a file in params/"),
        ('study = "demos"', START, "demos.yaml: no such study file; nearest: demo"),
        (f'{ONLY_DEMO}\nflip_average = "yes"', EVALUATE, "flip_average = 'yes'   not allowed; true (average"),
        (f'{ONLY_DEMO}\nlearning_rate = "1e-4"', TRAIN, "learning_rate = '1e-4'   not allowed"),
        (DEMO + "\nepochs = 0", START, "epochs = 0   not allowed"),
        (QUICK + 'schedule = "plateau"', TRAIN, "plateau_factor   missing; required with schedule = plateau: factor"),
        (QUICK + "plateau_patience = 3", TRAIN, "plateau_patience = 3   not used; requires schedule = plateau"),
        (QUICK + "area_weight_floor = 0.1", TRAIN, "area_weight_floor = 0.1   not used with hc18; requires volumes"),
        (
            QUICK + 'schedule = "cosine"\nwarm_up_fraction = 0.5',
            TRAIN,
            "warm_up_fraction = 0.5   not used; requires schedule = one",
        ),
        (ONLY_DEMO + "\nimage_size = [64, 100]", PREPROCESS, "not allowed; must be multiples of 16; nearest: [64, 96]"),
        (LANDMARKS + "\nflip_averge = True", EVALUATE_LANDMARKS, "_landmarks: 1 error\n  flip_averge = True   no such"),
        (ONLY_DEMO, EVALUATE_LANDMARKS, "cannot evaluate study demo, whose landmarks = 'none'; run 05_evaluation"),
        *(
            (f"{ONLY_DEMO}\ncase_limit = {value}", TRAIN, f"case_limit = {value}   not allowed; cases per part of a ")
            for value in ("1", "0", "2.5", "True", "'few'")
        ),
        (
            f"{ONLY_DEMO}\ncase_limit = 9",
            PREPROCESS,
            "case_limit = 9   not used here; only in 04_training, 05_evaluation",
        ),
        (f"{ONLY_DEMO}\nprofile = True", TRAIN, "profile = True   not used here; only in 03_model"),
        (f"{ONLY_DEMO}\nprofile = 1", START, "profile = 1   not allowed; true (one epoch is timed"),
        (LANDMARKS, EVALUATE, "whose landmarks = 'multicentre'; run 05_evaluation_landmarks"),
        *(
            (f"{ONLY_DEMO}\n{line}", START, f"{line}   params/demo.yaml says ")  # keys that define the study
            for line in ("dataset = 'hc18'", "palette = [[0, 0, 0], [9, 0, 0]]", "classes = ['background', 'head']")
        ),
        (f"{ONLY_DEMO}\nlandmarks = 'multicentre'", START, "landmarks = 'multicentre'   params/demo.yaml says "),
    ],
)
def test_what_cannot_be_run_stops_before_anything_is_written(shell, reports, cell, notebook, stops):
    assert stops in message(shell, cell, notebook)
    assert not reports.exists()


def test_points_are_evaluated_in_the_folder_of_the_same_step(shell, reports):
    page = run(shell, LANDMARKS, EVALUATE_LANDMARKS)
    assert isinstance(page.params, params.EvaluationParams)
    assert page.folder == reports / "phantom_hc18_landmarks" / "05_evaluation"
    assert page.step == steps.Step("05_evaluation")


@pytest.mark.parametrize("path", sorted((files.ROOT / "params").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_runs_with_injected_parameters_and_with_its_name_alone(shell, path, monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda: 0)  # by each reset, of all that the tests before have loaded
    study = params.read_study(path)
    of_name = {step.name: step for step in reversed(steps.study_steps(study)) if step.name != "report"}  # the first run
    for step in of_name.values():
        file = steps.notebook_file(step.name, study)
        book = parameterize.parameterize_notebook(iorw.load_notebook_node(str(file)), plain_yaml.read(path))
        cells = [cell.source for cell in book.cells if set(cell.metadata.tags) & {"parameters", "injected-parameters"}]
        expected = steps.own_values(step, study)
        for given in (cells, [f"study = {study.study!r}"]):
            shell.reset()
            page = run(shell, *given, START.replace("03_model", file.stem))
            assert page.params.model_dump(exclude_unset=True) == expected


def test_types_in_the_parameters_cell_change_nothing(shell, reports):
    typed = DEMO.replace("depth = 4", "depth: int or None = 3")
    assert run(shell, typed, START).params.depth == 3
    assert run(shell, typed, START).folder == reports / "demo" / "by_hand" / "depth-3" / "03_model"
    assert "base_chanels = 8   no such key" in message(shell, typed + "\nbase_chanels: int = 8", START)


def test_without_a_user_who_could_see_it_no_progress_is_shown(shell, capsys):
    assert run(shell, DEMO, START).live() is None


def test_a_key_that_another_value_makes_unused_is_left_out_with_a_message(shell, capsys):
    page = run(shell, 'study = "hc18_quick"\nschedule = "cosine"', TRAIN)
    assert page.params.warm_up_fraction is None
    assert "warm_up_fraction is left out: it is used only with schedule = one_cycle" in capsys.readouterr().out
    assert page.folder.parent.parent.name == "schedule-cosine"


def test_the_studies_that_are_compared_are_found_once_they_have_run(shell, reports):
    def record(study):
        for step in ("05_evaluation", "06_biometry"):
            files.write_json(reports / study / step / "record.json", {"outputs": {}})

    cells = ('study = "hc18_ellipse_quick"', COMPARE, "folders = p.compared_folders()")
    assert message(shell, *cells) == "06_biometry of study hc18_ellipse_quick has not run; run that notebook first"
    record("hc18_ellipse_quick")
    assert message(shell, *cells).startswith("compare_with = 'hc18_landmarks_quick'   has not been run; ")
    record("hc18_landmarks_quick")
    run(shell, *cells)
    names = ["hc18_ellipse_quick", "hc18_landmarks_quick"]  # its own first
    assert list(shell.user_ns["folders"].items()) == [(name, reports / name) for name in names]


def test_fold_and_seed_are_no_changed_values(shell, reports):
    page = run(shell, f"{ONLY_DEMO}\nfold = 2\nseed = 7", TRAIN)
    assert page.folder == page.run_folder == reports / "demo" / "04_training" / "fold2-seed7"


def limited_record(reports, label, **own):
    files.write_json(reports / "demo/by_hand/case_limit-9" / label / "record.json", {"outputs": {}, "own": own})


def test_a_quick_pass_has_its_own_folder_says_so_and_is_never_the_step_itself(shell, reports, capsys, monkeypatch):
    monkeypatch.setattr(notebook, "parameters_cell", lambda name: {"case_limit": 9})  # as saved by JupyterLab
    page = run(shell, f"{ONLY_DEMO}\ncase_limit = 9", TRAIN)
    assert page.folder == page.run_folder == reports / "demo/by_hand/case_limit-9/04_training/fold0-seed0"
    printed = capsys.readouterr().out
    assert "04_training/fold0-seed0 of study demo: manual run with case_limit = 9\n" in printed
    assert (
        "quick pass: at most 9 cases each for training, validation and test; for debugging only, no results" in printed
    )
    assert run(shell, TRAIN, "p.finish()").params.case_limit == 9  # the check cell alone, again
    record = files.read_json(page.folder / "record.json")
    assert record["own"]["case_limit"] == 9
    own = page.step.folder("demo")
    shutil.copytree(page.folder, own, dirs_exist_ok=True)
    reasons = staleness.stale_reasons(page.step, params.read_study(files.study_file("demo")))
    assert "key case_limit: 9 -> None" in reasons
    for line in ("case_limit = None", 'case_limit = "null"', ""):
        assert run(shell, f"{ONLY_DEMO}\n{line}", EVALUATE).folder == reports / "demo" / "05_evaluation"


def test_a_quick_pass_evaluates_the_runs_trained_with_its_limit_or_else_the_study_s(shell, reports, capsys):
    cells = f"{ONLY_DEMO}\nfolds = [0, 1]\nseeds = [3, 4]\ncase_limit = 9", EVALUATE
    page = run(shell, *cells)
    assert (page.params.folds, page.params.seeds) == ([0, 1], [3, 4])
    assert "\nit reads 04_training/fold0-seed3 of the study itself, " in capsys.readouterr().out
    limited_record(reports, "04_training/fold7-seed3")  # not among those evaluated
    assert [step.root for step in run(shell, *cells).inputs] == [""] * 6
    limited_record(reports, "04_training/fold1-seed4")
    page = run(shell, *cells)
    assert (page.params.folds, page.params.seeds) == ([1], [4])
    assert page.trainings() == reports / "demo/by_hand/case_limit-9/04_training"
    assert page.folder.parent.name.startswith("case_limit-9_folds")  # named by what the user changed
    assert "\nit reads 04_training/fold1-seed4 of by_hand/case_limit-9\n" in capsys.readouterr().out
    limited_record(reports, "04_training/fold0-seed3")
    expected = "04_training/fold0-seed4 of study demo has not run in by_hand/case_limit-9; run that notebook first"
    assert message(shell, *cells, "p.trainings()") == expected
    assert run(shell, cells[0].replace("9", "8"), EVALUATE).params.folds == [0, 1]  # another limit


@pytest.mark.parametrize(
    "cells",
    [
        (DEMO, START, "table = [1, 2]\nrow = 3\nprint(row)", DEMO, START),
        (DEMO, START, "worst = sorted([2, 1])", START),  # a cell that computes holds no parameters
        (DEMO, START, "folds = object()\nprint(folds)", DEMO, START),  # another notebook's key as a name
    ],
)
def test_a_second_run_all_passes(shell, cells):
    run(shell, *cells)


def test_a_typo_stops_at_any_time_and_passes_once_corrected(shell):
    message(shell, TYPO, START)
    run(shell, DEMO, START)
    stopped = message(shell, "row = 3\nprint(row)", TYPO, START)
    assert stopped.endswith("base_chanels = 8   no such key; nearest: base_channels")
    assert message(shell, START) == stopped  # the same cell reruns with the same parameters
    run(shell, DEMO, START)
    assert shell.user_ns["base_chanels"] == 8  # although the name still exists


def test_the_check_cell_alone_after_a_computing_cell_takes_the_keys_in_the_namespace(shell):
    assert run(shell, DEMO, START, "depth = 3", "table = [1]\nprint(table)", START).params.depth == 3


def test_only_the_first_notebook_generates_phantoms(shell, monkeypatch):
    prepared = []
    monkeypatch.setattr(datasets, "prepare", prepared.append)
    run(shell, DEMO, START)
    assert prepared == []
    run(shell, ONLY_DEMO, VERIFY)
    assert prepared == ["phantom_brain"]


def test_only_published_images_are_searched_for_in_other_data_sets(shell, monkeypatch):
    monkeypatch.setattr(datasets, "available", lambda besides: {"busi": besides})
    pages = [run(shell, f"study = {name!r}", VERIFY) for name in ("hc18_quick", "demo", "lgg_quick")]
    assert [page.searched_datasets for page in pages] == [{"busi": "hc18"}, {}, {}]


@pytest.mark.parametrize("applies", [True, False])
def test_a_section_that_does_not_apply_writes_its_files_and_displays_nothing(shell, reports, capsys, applies):
    run(shell, ONLY_DEMO, VERIFY, "import matplotlib.figure, pandas as pd")
    capsys.readouterr()
    calls = ('show(matplotlib.figure.Figure(), "f"', 'table(pd.DataFrame({"n": []}), "empty"')
    calls += ('table(pd.DataFrame({"n": [7]}), "t"', 'caption("A caption"', 'check("a claim", True')
    page = run(shell, *(f"p.{call}, applies={applies})" for call in calls))
    printed = capsys.readouterr().out
    expected = ["<IPython.core.display.SVG", "No rows.\n", "7", "<IPython.core.display.Markdown", "holds   a claim\n"]
    assert all(text in printed for text in expected) if applies else printed == ""
    assert len(page.checks) == applies
    written = [f"tables/{stem}.{suffix}" for stem in ("empty", "t") for suffix in ("csv", "typ", "tex")]
    for name in ("figures/f.svg", "figures/f.pdf", *written):
        assert (reports / FIRST / name).stat().st_size


@pytest.mark.parametrize(("by_workflow", "needs"), [(False, []), (True, ["notebook.ipynb"])])
def test_a_finished_page_has_a_record_with_its_checks(shell, reports, monkeypatch, by_workflow, needs):
    if by_workflow:
        monkeypatch.setenv(environment.ROOT_VARIABLE, str(files.ROOT))
    run(shell, ONLY_DEMO, VERIFY, 'p.check("one is one", 1 == 1)', "p.finish()")
    record = files.read_json(reports / FIRST / "record.json")
    assert record["checks"] == [{"claim": "one is one", "holds": True}]
    assert record["own"]["fold_count"] == 5
    assert record["needs"] == ["timing.json", *needs]


def test_the_record_is_written_last(shell, reports, monkeypatch):
    written = []
    real = files.write_bytes
    monkeypatch.setattr(files, "write_bytes", lambda path, content: (written.append(path.name), real(path, content)))
    run(shell, ONLY_DEMO, VERIFY, 'p.write_json({"a": 1}, "facts.json")', "p.finish()")
    assert written == [".step.lock.json", "facts.json", "timing.json", "record.json"]
    assert "facts.json" in files.read_json(reports / FIRST / "record.json")["outputs"]


def test_further_lines_of_a_claim_are_printed_once_in_the_error(shell, reports, capsys):
    run(shell, ONLY_DEMO, VERIFY, r"p.check('no finding stops\n    1 x unreadable: copy the file again', False)")
    printed = capsys.readouterr().out
    assert printed.endswith("FAILS   no finding stops\n")
    said = message(shell, "p.finish()")
    assert said == "1 of 1 checks failed: no finding stops\n    1 x unreadable: copy the file again"


def test_failed_checks_are_all_named_at_finish_which_writes_no_record_and_unlocks_the_folder(shell, reports, capsys):
    checks = 'p.check("a holds", True)\np.check("b holds", False)\np.check("c holds", False)'
    assert message(shell, ONLY_DEMO, VERIFY, checks, "p.finish()") == "2 of 3 checks failed: b holds; c holds"
    assert "FAILS   b holds" in capsys.readouterr().out
    assert [path.name for path in (reports / FIRST).iterdir()] == [".step.lock"]
    assert shell.user_ns["p"].lock is None


def test_a_finished_page_writes_nothing_more(shell, reports):
    run(shell, ONLY_DEMO, VERIFY, "p.finish()")
    for cell in ('p.write_json({}, "facts.json")', "p.finish()"):
        assert message(shell, cell).startswith("this page is finished; run the cell with start() again")


def test_a_start_that_fails_removes_nothing_and_one_that_succeeds_removes_stale_files(shell, reports):
    folder = reports / FIRST
    run(shell, ONLY_DEMO, VERIFY, 'p.write_json({}, "facts.json")', "p.finish()")
    files.write_text(folder / "facts.json", "edited")
    files.write_text(folder / ".writing-a.csv", "left by a process that was killed")
    message(shell, ONLY_DEMO + "\nfold_count = 0", VERIFY)
    assert (folder / "record.json").is_file()
    run(shell, ONLY_DEMO, VERIFY)
    assert not any((folder / name).exists() for name in ("record.json", "facts.json", ".writing-a.csv"))


def test_a_manual_rerun_of_a_finished_step_changes_none_of_its_files(shell, reports, capsys):
    own = reports / FIRST
    run(shell, ONLY_DEMO, VERIFY, 'p.write_json({}, "facts.json")', "p.finish()")
    files.write_text(own / "notebook.ipynb", "executed")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in own.iterdir() if path.name[0] != "."}
    run(shell, ONLY_DEMO, VERIFY, 'p.write_json({"other": 1}, "facts.json")', "p.finish()")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert files.read_json(reports / "demo/by_hand/unchanged/01_data_verification/facts.json") == {"other": 1}
    assert "01_data_verification of study demo: manual rerun\n" in capsys.readouterr().out


def test_a_manual_run_with_another_value_leaves_the_step_up_to_date(shell, reports):
    run(shell, ONLY_DEMO, VERIFY, "p.finish()")
    run(shell, f"{ONLY_DEMO}\nsplit_seed = 1", VERIFY, "p.finish()")
    study = params.read_study(files.study_file("demo"))
    assert staleness.stale_reasons(steps.Step("01_data_verification"), study) == []
    manual = files.read_json(reports / "demo/by_hand/split_seed-1/01_data_verification/record.json")
    assert manual["own"]["split_seed"] == 1


def test_a_manual_run_names_the_inputs_that_are_stale(shell, reports, capsys):
    run(shell, ONLY_DEMO, VERIFY, 'p.write_json({}, "facts.json")', "p.finish()")
    run(shell, ONLY_DEMO, PREPROCESS)
    assert "stale" not in capsys.readouterr().out
    files.write_text(reports / FIRST / "facts.json", "edited")
    run(shell, ONLY_DEMO, PREPROCESS)
    reason = "output files changed or missing (1): facts.json"
    assert f"01_data_verification is stale ({reason}): results of before are read\n" in capsys.readouterr().out


def test_a_manual_training_has_its_own_folder_and_a_rerun_uses_the_study_s_run(shell, reports, monkeypatch):
    monkeypatch.setattr(steps, "step_inputs", lambda *_: [])
    page = run(shell, f"{ONLY_DEMO}\nepochs = 3", TRAIN)
    label = "04_training/fold0-seed0"
    assert page.folder == page.run_folder == reports / "demo" / "by_hand" / "epochs-3" / label
    page = run(shell, ONLY_DEMO, TRAIN, "p.finish()", ONLY_DEMO, TRAIN)
    assert page.run_folder == reports / "demo" / label
    assert page.folder == reports / "demo" / "by_hand" / "unchanged" / label


def test_the_workflow_writes_to_the_step_s_own_folder_even_if_it_is_up_to_date(shell, reports, monkeypatch):
    run(shell, ONLY_DEMO, VERIFY, "p.finish()")
    monkeypatch.setenv(environment.ROOT_VARIABLE, str(files.ROOT))
    assert run(shell, VERIFY).folder == reports / FIRST


@pytest.mark.parametrize(("key", "step"), [("case_limit = 9", TRAIN), ("profile = True", START)])
def test_a_key_of_manual_runs_that_was_saved_in_the_notebook_stops_the_workflow(shell, reports, monkeypatch, key, step):
    monkeypatch.setenv(environment.ROOT_VARIABLE, str(files.ROOT))
    with pytest.raises(ValueError, match=f"{key}   only for manual runs; set None or False in notebooks/0"):
        run(shell, f"{ONLY_DEMO}\n{key}", step)
    assert not reports.exists() or not list(reports.rglob("record.json"))


def test_a_folder_of_a_manual_run_is_named_by_changed_values_and_a_digest_if_too_long():
    assert notebook.folder_name({}) == "unchanged"
    assert notebook.folder_name({"learning_rate": 0.5, "epochs": 3}) == "epochs-3_learning_rate-0.5"
    names = [notebook.folder_name({"exclude": each}) for each in (["a/b"], ["a:b"], ["a/b" * 40])]
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
    why = "of study demo has not run; run that notebook first"
    assert message(shell, DEMO, START, 'p.step_folder("02_preprocessing")') == f"02_preprocessing {why}"
    assert message(shell, ONLY_DEMO, EVALUATE, "p.trainings()") == f"04_training/fold0-seed0 {why}"


def test_measured_time_and_memory_are_positive_and_on_windows_from_psutil(monkeypatch):
    measured = notebook.measure(0.0, 0.0)
    assert measured["seconds"] > 0
    assert measured["peak_bytes"] > 10**6
    monkeypatch.setattr(notebook.sys, "platform", "win32")
    counted = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=12345))
    monkeypatch.setattr(notebook.psutil, "Process", lambda: counted)
    assert notebook.measure(0.0, 0.0)["peak_bytes"] == 12345
