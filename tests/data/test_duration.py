import time

import pytest

from lib import notebook, pipeline
from lib.data import duration
from lib.study import files, params, steps
from tests import builders_report

RUN = steps.Step("04_training", (0, 0))


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
    study = params.read_study(files.study_file("lgg_quick"))
    builders_report.write_study(study.model_copy(update={"folds": [0]}))
    return study.model_copy(update={"folds": [0], "epochs": 30, "end_slices_dropped": 1})


def measure_speed(study: params.Study) -> None:
    speed = "training_images_per_second,prediction_images_per_second\n8.0,40.0\n"
    files.write_text(files.study_folder(study.study) / duration.SPEED, speed)


def test_a_finished_study_took_the_sum_of_its_steps_and_an_unfinished_one_has_no_time(study):
    took = 6 * 70.4 / 60  # six steps of 70.4 s
    assert duration.of_study(study) == f"{took:.0f} min on cpu (x86_64, 2 threads), for 30 epochs in 1 training run"
    RUN.record_file(study.study).unlink()
    assert duration.of_study(study) is None


def test_a_training_that_was_loaded_took_the_time_of_its_epochs(tmp_path):
    assert duration.trained(tmp_path) == 0
    files.write_text(tmp_path / "timing.csv", "epoch,seconds,images_per_second\n1,60.5,8.0\n2,59.5,8.1\n")
    assert duration.trained(tmp_path) == 120
    assert notebook.measure(time.time(), duration.trained(tmp_path))["seconds"] == 120
    assert notebook.measure(time.time() - 130, duration.trained(tmp_path))["seconds"] >= 130


def test_a_training_takes_its_epochs_times_the_slices_at_the_measured_speed(study):
    assert duration.of_trainings(study) == {}
    measure_speed(study)
    assert (
        duration.seconds_per_epoch(80, 20, {"training_images_per_second": 8, "prediction_images_per_second": 10}) == 12
    )
    root = files.study_folder(study.study) / "01_data_verification"
    table = files.read_csv(root / "folds.csv", []).merge(files.read_csv(root / "cases.csv", [])[["case", "slices"]])
    validates, tests = (table["fold"] == 1) & table["validates"], table["fold"] == 0
    slices = [int((table["slices"] - 2)[rows].sum()) for rows in (~validates & ~tests, validates)]
    seconds = 30 * (slices[0] / 8 + slices[1] / 40)
    assert duration.of_trainings(study) == {RUN: f"{seconds / 60:.0f} min"}


def test_why_estimates_the_trainings_that_must_run_once_the_speed_is_known(study):
    measure_speed(study)
    before = {step: [] for step in steps.study_steps(study)}
    (line,) = pipeline.training_times(study, before | {RUN: ["not completed yet"]})[RUN]
    time = duration.of_trainings(study)[RUN]
    assert line == f"takes about {time} for all 30 epochs, at the speed that 03_model measured"
    assert pipeline.training_times(study, before) == {}
    assert pipeline.training_times(study, {step: ["stale"] for step in before}) == {}
