import os
import shutil

import pytest

from lib import pipeline
from lib.study import files, params, staleness, steps
from lib.study.steps import Step

VERIFICATION, PREPROCESSING, MODEL = (Step(name) for name in ("01_data_verification", "02_preprocessing", "03_model"))
TRAINING, REPORT = Step("04_training", (0, 0)), Step("report")
EVALUATION, BIOMETRY, COMPARISON = (Step(name) for name in ("05_evaluation", "06_biometry", "07_comparison"))


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The demo study with reports, raw data and code of its own."""
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
    monkeypatch.setattr(files, "raw_folder", lambda dataset: tmp_path / "raw" / dataset)
    monkeypatch.setattr(steps, "code_hashes", lambda name, study: {f"{name}.ipynb": "1", "lib.study.files": "2"})
    files.write_text(files.raw_folder("phantom_brain") / "image.png", "pixels")
    return params.read_study(files.study_file("demo"))


def finish(step, study, **changed):
    """Writes an output and the record of a step; `changed` keys differ from the study file."""
    files.write_text(step.folder(study.study) / "table.csv", f"of {step.label}\n")
    own, before = steps.own_values(step, study) | changed, steps.snapshot(step, study)
    files.write_text(step.folder(study.study) / "timing.json", "{}")
    steps.write_record(step.folder(study.study), step, own, [], "cpu", before)


@pytest.fixture
def finished(study):
    for step in (VERIFICATION, PREPROCESSING, MODEL, TRAINING):
        finish(step, study)
    return study


def edit(step, study, **parts):
    path = step.record_file(study.study)
    files.write_json(path, files.read_json(path) | parts)


@pytest.mark.parametrize("change", [{}, {"flip_average": False, "title": "Another", "folds": [0, 1], "seeds": [0, 5]}])
def test_a_new_record_is_up_to_date_whatever_the_keys_of_other_steps(finished, change):
    other = finished.model_copy(update=change)
    for step in (VERIFICATION, PREPROCESSING, MODEL, TRAINING):
        assert staleness.stale_reasons(step, other) == []


def output(step, study, name="table.csv"):
    return step.folder(study.study) / name


def image(study):
    return files.raw_folder(study.dataset) / "image.png"


def change_times(study):
    os.utime(image(study), ns=(1, 1))
    for name in (".DS_Store", "Thumbs.db", "@eaDir/image.png"):
        files.write_text(image(study).parent / name, "")
        files.write_text(output(MODEL, study).parent / name, "")


def write_varying_files(study):
    for name in ("timing.json", "notebook.ipynb", "state.pt", ".lock", ".writing-a.csv", "tensorboard/events.out.1"):
        files.write_text(output(MODEL, study, name), "{}")


def write_notebook(study, text):
    edit(MODEL, study, needs=["timing.json", "notebook.ipynb"])
    files.write_text(output(MODEL, study, "notebook.ipynb"), text)


def change_everything(study):
    edit(MODEL, study, code={}, own=steps.own_values(MODEL, study) | {"depth": 2})
    files.write_text(output(MODEL, study), "nicer\n")


BOTH = ["code 03_model.ipynb changed", "code lib.study.files changed"]
TABLE, DATA = ["output files changed or missing (1): table.csv"], ["files in data/raw/phantom_brain have changed"]
INPUT, INCOMPLETE = ["input 01_data_verification must run"], ["notebook.ipynb is incomplete"]
CODE = {"03_model.ipynb": "1"}
STALE = [  # a change to a finished study, the step, the reasons why it is stale
    (lambda s: finish(MODEL, s, depth=2), MODEL, ["key depth: 2 -> 4"]),
    (lambda s: edit(MODEL, s, code=CODE | {"lib.study.files": "3"}), MODEL, ["code lib.study.files changed"]),
    (lambda s: edit(MODEL, s, code=CODE | {"lib.study.files": "2", "lib.old": "2"}), MODEL, ["code lib.old changed"]),
    (lambda s: edit(MODEL, s, code={}), MODEL, BOTH),
    (change_everything, MODEL, ["key depth: 2 -> 4", *BOTH, *TABLE]),
    (lambda s: VERIFICATION.record_file(s.study).unlink(), VERIFICATION, ["not completed yet"]),
    (lambda s: VERIFICATION.record_file(s.study).unlink(), PREPROCESSING, INPUT),
    (lambda s: finish(PREPROCESSING, s), MODEL, []),  # run again with equal outputs
    (lambda s: edit(PREPROCESSING, s, outputs={"table.csv": "0"}), MODEL, ["input 02_preprocessing has changed"]),
    (lambda s: files.write_text(image(s), "other pixels"), VERIFICATION, DATA),
    (lambda s: image(s).rename(image(s).with_name("other.png")), VERIFICATION, DATA),
    (lambda s: image(s).unlink(), VERIFICATION, DATA),
    (lambda s: image(s).unlink(), PREPROCESSING, []),
    (lambda s: edit(VERIFICATION, s, data=None), VERIFICATION, DATA),  # an older format of records
    (lambda s: edit(VERIFICATION, s, data="0123abcd"), VERIFICATION, DATA),
    (change_times, VERIFICATION, []),
    (lambda s: files.write_text(output(MODEL, s), "nicer\n"), MODEL, TABLE),
    (lambda s: output(MODEL, s).unlink(), MODEL, TABLE),
    (write_varying_files, MODEL, []),
    (lambda s: output(MODEL, s, "timing.json").unlink(), MODEL, ["timing.json is missing"]),  # the report prints it
    (lambda s: edit(MODEL, s, needs=["timing.csv"]), MODEL, ["timing.csv is missing"]),
    (lambda s: edit(MODEL, s, needs=["notebook.ipynb"]), MODEL, ["notebook.ipynb is missing"]),
    (lambda s: write_notebook(s, ""), MODEL, INCOMPLETE),
    (lambda s: write_notebook(s, '{"cells": [1, 2'), MODEL, INCOMPLETE),
    (lambda s: write_notebook(s, "{}\n"), MODEL, []),
]


@pytest.mark.parametrize(("change", "step", "reasons"), STALE)
def test_a_step_is_stale_for_these_reasons(finished, change, step, reasons):
    change(finished)
    assert staleness.stale_reasons(step, finished) == reasons


def test_each_of_several_trainings_has_a_number():
    study = params.read_study(files.study_file("busi_quick")).model_copy(update={"folds": [0, 2], "seeds": [0, 1]})
    numbers = [steps.number_of_run(step, study) for step in steps.study_steps(study)]
    assert [each for each in numbers if each] == [f", run {number} of 4" for number in (1, 2, 3, 4)]
    assert not any(
        steps.number_of_run(each, study.model_copy(update={"folds": [0], "seeds": [0]}))
        for each in steps.study_steps(study)
    )


@pytest.fixture
def available(study):
    """hc18_quick's parameters; data/raw has published, custom and synthetic data sets."""
    for name in ("hc18", "busi", "ultrasound_fetus", "own_cells", "phantom_brain", ".writing-phantom_hc18"):
        files.write_text(files.raw_folder(name) / "image.png", f"pixels of {name}")
    files.write_text(files.raw_folder("hc18").parent / "notes.txt", "no folder")
    return params.read_study(files.study_file("hc18_quick"))


@pytest.mark.parametrize(
    ("dataset", "listed"),
    [
        ("hc18", ["busi", "hc18", "ultrasound_fetus"]),
        ("busi", ["busi", "hc18", "ultrasound_fetus"]),
        ("own_cells", ["busi", "hc18", "own_cells", "ultrasound_fetus"]),
        ("phantom_brain", ["phantom_brain"]),
    ],
)
def test_all_available_published_data_sets_are_listed_but_none_for_a_phantom(available, dataset, listed):
    assert steps.data_digests(dataset) == {name: steps.data_digest(name) for name in listed}
    shutil.rmtree(files.raw_folder("hc18").parent)
    assert list(steps.data_digests(dataset)) == [dataset]  # even if its folder is missing


def test_another_data_set_that_changed_is_named(available):
    finish(VERIFICATION, available)
    assert "data" not in steps.snapshot(PREPROCESSING, available)  # the verification alone lists data
    assert staleness.stale_reasons(VERIFICATION, available) == []
    files.write_text(files.raw_folder("busi") / "image.png", "other pixels")
    assert staleness.stale_reasons(VERIFICATION, available) == ["files in data/raw/busi have changed"]
    lines = pipeline.explain(available).splitlines()
    assert lines[:2] == [f"{'01_data_verification':28} stale", "    files in data/raw/busi have changed"]


def test_added_or_removed_data_sets_custom_ones_and_phantoms_leave_a_verification_up_to_date(available):
    finish(VERIFICATION, available)
    for name in ("own_cells", "phantom_brain", "phantom_hc18", "lgg"):
        files.write_text(files.raw_folder(name) / "image.png", "other pixels")
    shutil.rmtree(files.raw_folder("busi"))
    assert staleness.stale_reasons(VERIFICATION, available) == []
    assert staleness.unsearched(available) == ["lgg"]


def test_data_are_read_again_only_where_size_or_time_changed(finished, monkeypatch):
    steps.data_digest("phantom_brain")
    read, real = [], files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: (read.append(path.name), real(path))[1])
    steps.data_digest("phantom_brain")
    assert read == []
    os.utime(files.raw_folder("phantom_brain") / "image.png", ns=(1, 1))
    steps.data_digest("phantom_brain")
    steps.data_digest("phantom_brain")
    assert read == ["image.png"]


@pytest.mark.parametrize("kept", ["", "[]", '{"image.png": 3}', '{"image.png": [6, 1]}'])
def test_a_broken_cache_of_hashes_is_ignored(finished, kept):
    digest = steps.data_digest("phantom_brain")
    files.write_text(files.raw_folder("phantom_brain").with_name(".phantom_brain.hashes.json"), kept)
    assert steps.data_digest("phantom_brain") == digest


def test_equal_steps_write_equal_records_and_timing_files_are_required(finished):
    before = MODEL.record_file(finished.study).read_bytes()
    finish(MODEL, finished)
    assert MODEL.record_file(finished.study).read_bytes() == before
    files.write_text(output(MODEL, finished, "timing.csv"), "images_per_second\n")
    finish(MODEL, finished)
    assert files.read_json(MODEL.record_file(finished.study))["needs"] == ["timing.json", "timing.csv"]


def test_the_pdf_is_an_output_of_the_report(finished):
    for step in steps.study_steps(finished)[4:-1]:
        finish(step, finished)
    pdf = files.study_folder(finished.study) / "report.pdf"
    files.write_text(pdf, "%PDF")
    finish(REPORT, finished)
    assert staleness.stale_reasons(REPORT, finished) == []
    pdf.unlink()
    assert staleness.stale_reasons(REPORT, finished) == ["output files changed or missing (1): ../report.pdf"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"own": {}}'])
def test_a_record_in_another_format_makes_its_step_and_later_ones_stale(finished, text):
    files.write_text(VERIFICATION.record_file(finished.study), text)
    assert staleness.stale_reasons(VERIFICATION, finished) == ["the record cannot be read"]
    assert staleness.stale_reasons(PREPROCESSING, finished) == ["input 01_data_verification must run"]


def test_no_record_is_written_before_its_inputs(study):
    with pytest.raises(ValueError, match=r"record\.json: missing; run 01_data_verification first"):
        finish(PREPROCESSING, study)
    assert not PREPROCESSING.record_file(study.study).exists()


def test_every_pair_of_fold_and_seed_is_a_step_before_evaluation_and_inputs_come_first(study):
    study = study.model_copy(update={"folds": [0, 2], "seeds": [0, 1]})
    planned = steps.study_steps(study)
    runs = [f"04_training/fold{fold}-seed{seed}" for fold in (0, 2) for seed in (0, 1)]
    assert [step.label for step in planned[3:]] == [*runs, "05_evaluation", "06_biometry", "report"]
    for place, step in enumerate(planned):
        assert set(steps.step_inputs(step, study)) <= {*planned[:place]}
    assert {*steps.step_inputs(EVALUATION, study)} == {VERIFICATION, PREPROCESSING, *planned[3:7]}


def test_landmarks_have_their_own_evaluation_notebook_in_the_same_step(study, monkeypatch):
    monkeypatch.undo()  # the real hashes
    kinds = [study.model_copy(update={"landmarks": kind, "compare_with": ["a"]}) for kind in ("none", "multicentre")]
    assert steps.study_steps(kinds[0]) == steps.study_steps(kinds[1])
    names = [step.name for step in steps.study_steps(study.model_copy(update={"compare_with": ["a"]}))[:-1]]
    of_regions, of_points = (dict.fromkeys(steps.notebook_file(name, kind) for name in names) for kind in kinds)
    assert {path.name for path in of_points.keys() - of_regions.keys()} == {"05_evaluation_landmarks.ipynb"}
    of_no_study = {files.ROOT / "notebooks" / "08_prediction.ipynb"}
    assert of_regions.keys() | of_points.keys() | of_no_study == set((files.ROOT / "notebooks").glob("*.ipynb"))
    code = [steps.code_hashes("05_evaluation", kind) for kind in kinds]
    assert "05_evaluation.ipynb" in code[0]
    assert {"05_evaluation_landmarks.ipynb", "lib.evaluation.landmarks"} <= code[1].keys() - code[0].keys()


@pytest.fixture
def comparing(finished):
    """A study compared with another; both have run from 01 to 06."""
    other = finished.model_copy(update={"study": "other"})
    for step in steps.study_steps(other)[:-1]:
        finish(step, other)
    study = finished.model_copy(update={"compare_with": ["other"]})
    for step in (EVALUATION, BIOMETRY):
        finish(step, study)
    return study


def test_a_study_is_compared_only_where_it_names_another(study):
    assert steps.compared_digests(study) == {}
    assert COMPARISON not in steps.study_steps(study)
    comparing = study.model_copy(update={"compare_with": ["other"]})
    assert steps.study_steps(comparing)[-3:] == [BIOMETRY, COMPARISON, REPORT]
    assert steps.step_inputs(COMPARISON, comparing) == [VERIFICATION, EVALUATION, BIOMETRY]
    assert COMPARISON in steps.step_inputs(REPORT, comparing)


def test_a_comparison_depends_on_the_measurements_of_the_other_study(comparing):
    finish(COMPARISON, comparing)
    inputs = files.read_json(COMPARISON.record_file(comparing.study))["inputs"]
    own = ["01_data_verification", "05_evaluation", "06_biometry"]
    assert list(inputs) == [*own, "other/05_evaluation", "other/06_biometry"]
    assert staleness.stale_reasons(COMPARISON, comparing) == []
    other = comparing.model_copy(update={"study": "other", "compare_with": []})
    finish(BIOMETRY, other)
    assert staleness.stale_reasons(COMPARISON, comparing) == []  # run again, equal
    edit(BIOMETRY, other, outputs={"measurements.csv": "others"})
    assert staleness.stale_reasons(COMPARISON, comparing) == ["input other/06_biometry has changed"]
    assert staleness.stale_reasons(BIOMETRY, comparing) == []
    third = comparing.model_copy(update={"compare_with": ["other", "third"]})
    with pytest.raises(ValueError, match="'third'   has not been run"):
        steps.compared_digests(third)
    for step in steps.study_steps(other)[:-1]:
        finish(step, other.model_copy(update={"study": "third"}))
    assert "key compare_with: ['other'] -> ['other', 'third']" in staleness.stale_reasons(COMPARISON, third)


def test_code_that_changes_while_a_step_runs_makes_it_stale(study, monkeypatch):
    before = steps.snapshot(VERIFICATION, study)
    monkeypatch.setattr(steps, "code_hashes", lambda name, study: {f"{name}.ipynb": "1", "lib.study.files": "newer"})
    own = steps.own_values(VERIFICATION, study)
    steps.write_record(VERIFICATION.folder("demo"), VERIFICATION, own, [], "cpu", before)
    assert staleness.stale_reasons(VERIFICATION, study) == ["code lib.study.files changed"]
