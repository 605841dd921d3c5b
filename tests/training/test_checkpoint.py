import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib.study import files
from lib.training import checkpoint, loop, state
from tests import builders, builders_tasks
from tests.builders import NETWORK, one_thread, training_params  # noqa: F401
from tests.builders_tasks import contents

ASIDE = "fold0-seed0/.set_aside/unknown-1"


def fit(folder, stop_after=None, **keys):
    """Log lines of a training of two epochs, optionally stopped after an epoch."""
    return builders_tasks.fit(folder, builders.discs(8), stop_after, **({"epochs": 2} | keys))[1]


def epochs_trained(lines):
    return sum(line.startswith("epoch ") for line in lines)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of two epochs; copy it, leave it as it is."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    fit(folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "fold0-seed0"))


def save_as_a_spreadsheet(path):
    pd.read_csv(path).to_csv(path, index=False, sep=";", float_format="%.3f", lineterminator="\r\n")


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def improve(path):
    files.write_csv(path, pd.read_csv(path).assign(validation_loss=0.0123))


@pytest.mark.parametrize("spoil", [save_as_a_spreadsheet, improve, cut, lambda path: path.write_bytes(b"")])
def test_a_history_that_has_changed_is_restored_without_training(run, finished, spoil):
    spoil(run / "history.csv")
    changed = (run / "history.csv").read_bytes()
    (run / "timing.csv").unlink()
    lines = fit(run)
    assert lines[0].startswith(f"history.csv had changed since it was written and was moved to {ASIDE}; ")
    assert lines[1].startswith("timing.csv is missing")
    assert epochs_trained(lines) == 0
    assert contents(run) == contents(finished)
    assert (run.parent / ASIDE / "history.csv").read_bytes() == changed
    (run / "history.csv").unlink()
    assert fit(run)[0].startswith("history.csv was missing")
    assert contents(run) == contents(finished)


def change(name, value):
    return lambda path: path.write_text(json.dumps(files.read_json(path) | {name: value}))


INVALID, CHANGED = "run.json is not valid JSON", "run.json has changed since it was written"
RECORDS = {
    "no JSON": (lambda path: path.write_text("{"), INVALID),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), INVALID),
    "nested deeply": (lambda path: path.write_text("[" * 100_000), INVALID),
    "a list": (lambda path: path.write_text("[]"), CHANGED),
    "no keys": (lambda path: path.write_text("{}"), CHANGED),
    "wrong type": (change("best_epoch", "two"), CHANGED),
    "another value": (change("best_value", 0.99), CHANGED),
    "missing": (os.unlink, "run.json is missing"),
}


@pytest.mark.parametrize(("spoil", "message"), RECORDS.values(), ids=RECORDS)
def test_an_unusable_record_is_described(run, spoil, message):
    assert checkpoint.read_finished(run)[1] is None
    spoil(run / "run.json")
    assert checkpoint.read_finished(run) == (None, message)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("run.json", *RECORDS["a list"]),
        ("run.json", *RECORDS["missing"]),
        ("model.safetensors", cut, "model.safetensors has changed since it was written"),
        ("model.safetensors", os.unlink, "model.safetensors is missing"),
    ],
)
def test_a_run_with_a_broken_record_or_weights_is_moved_and_trained_again(run, finished, name, spoil, message):
    spoil(run / name)
    lines = fit(run, stop_after=1)
    (aside,) = (run / ".set_aside").iterdir()
    assert lines[0].startswith(f"{message}: moved the rest of the run to fold0-seed0/.set_aside/{aside.name}, ")
    assert (aside / "history.csv").read_bytes() == contents(finished)["history.csv"]
    assert epochs_trained(fit(run)) == 1
    assert contents(run) == contents(finished)
    assert not (run / ".set_aside").exists()


def test_a_finished_run_is_restored_after_another_was_started(run, finished):
    lines = fit(run, stop_after=1, epochs=4)
    assert lines[0].startswith("epochs 2 -> 4: moved the finished run of 2 epochs to fold0-seed0/.set_aside/")
    assert not (run / "run.json").exists()
    lines = fit(run)
    assert lines[0].startswith("epochs 4 -> 2: moved the unfinished run of 1 epoch to ")
    assert lines[1].startswith("restored the finished run with these values from fold0-seed0/.set_aside/")
    assert lines[2].startswith("already trained: best epoch 2")
    assert contents(run) == contents(finished)


def test_an_unfinished_run_resumes_when_its_keys_are_set_again(tmp_path):
    fit(tmp_path / "unbroken", epochs=4)
    fit(tmp_path / "run", stop_after=2, epochs=4)
    fit(tmp_path / "run", stop_after=1, epochs=3)
    lines = fit(tmp_path / "run", epochs=4)
    assert lines[0].startswith("epochs 3 -> 4: ")
    assert lines[1].startswith("restored the unfinished run with these values from run/.set_aside/")
    assert lines[2] == "resuming after epoch 2"
    assert contents(tmp_path / "run") == contents(tmp_path / "unbroken")


def test_tensorboard_logs_move_with_their_run(tmp_path):
    keys = {"tensorboard_every": 1}
    fit(tmp_path, stop_after=1, epochs=3, **keys)
    before = {path.name for path in (tmp_path / "tensorboard").iterdir()}
    fit(tmp_path, stop_after=1, **keys)
    assert before.isdisjoint(path.name for path in (tmp_path / "tensorboard").iterdir())
    fit(tmp_path, epochs=3, **keys)
    assert before < {path.name for path in (tmp_path / "tensorboard").iterdir()}


def test_a_state_of_another_number_of_threads_is_moved_and_resumes_with_its_own(tmp_path, monkeypatch):
    fit(tmp_path / "unbroken")
    fit(tmp_path / "run", stop_after=1)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 2)
        lines = fit(tmp_path / "run", stop_after=1)
    assert lines[0].startswith("threads 1 -> 2: moved the unfinished run of 1 epoch to ")
    assert lines[1].startswith("epoch   1/")
    assert fit(tmp_path / "run")[2] == "resuming after epoch 1"
    assert contents(tmp_path / "run") == contents(tmp_path / "unbroken")


def test_differences_between_two_runs_are_named():
    one = {
        "keys": {"epochs": 6, "schedule": "cosine", "gradient_clip": None},
        **{"network": {"model": "unet", "depth": 4}, "arrays": "a", "cases": {"train": "t", "validation": "v"}},
        "code": {"lib.losses": "1", "lib.models": "2", "lib.training.checkpoint": "3", "lib.study.files": "4"},
        "machine": {"device": "cpu", "precision": "float32", "threads": 2},
    }
    other = {name: dict(part) if name != "arrays" else "b" for name, part in one.items()}
    other["keys"] |= {"epochs": 4, "gradient_clip": 1.0}
    other["network"]["skips"], other["cases"]["validation"], other["machine"]["threads"] = True, "w", 1
    other["code"] = {"lib.losses": "5", "lib.models": "6", "lib.training.checkpoint": "7", "lib.new": "8"}
    expected = ["epochs 6 -> 4", "gradient_clip null -> 1.0", "skips null -> true", "threads 2 -> 1", "other arrays"]
    expected += ["other validation cases", "code of lib.losses, lib.models, lib.new … changed"]
    assert checkpoint.differences(one, other) == expected
    assert checkpoint.differences(one, one) == []
    assert not any("threads" in line for line in checkpoint.differences(one | {"machine": {}}, {"keys": one["keys"]}))


MANIPULATED = {
    "no model": (lambda saved: saved.pop("model"), "KeyError: 'model'"),
    "other network": (lambda saved: saved["model"].update({"head.bias": torch.zeros(7)}), "RuntimeError: Error"),
    "other best weights": (lambda saved: saved.update(weights={}), "its best weights belong to another network"),
    "no random state": (lambda saved: saved.update(random="none"), "TypeError: "),
    "short random state": (lambda saved: saved.update(random=torch.zeros(3, dtype=torch.uint8)), "RuntimeError: "),
    "other moments": (
        lambda saved: saved["optimizer"]["state"][0].update(exp_avg=torch.zeros(7)),
        "its optimizer belongs to another network",
    ),
    "no groups": (lambda saved: saved["optimizer"].update(param_groups=[]), "its optimizer differs"),
    "empty schedule": (lambda saved: saved.update(schedule={}), "its schedule differs"),
    "no history": (lambda saved: saved.update(history=[]), "its history does not cover epochs 1, 2"),
    "text for history": (lambda saved: saved.update(history="none"), "TypeError"),
    "numbers for history": (lambda saved: saved.update(history=3), "TypeError"),
}


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    """A run of two epochs that was stopped after the first; copy it, leave it as it is."""
    folder = tmp_path_factory.mktemp("unfinished") / "run"
    fit(folder, stop_after=1)
    return folder


@pytest.mark.parametrize(("manipulate", "message"), MANIPULATED.values(), ids=MANIPULATED)
def test_a_manipulated_state_is_refused_and_nothing_has_changed(unfinished, manipulate, message):
    saved = state.read(unfinished / "state.pt")
    fresh = loop.initial_state(training_params(epochs=2), NETWORK, steps=2, threshold_mode="rel")
    random = torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in fresh.model.state_dict().items()}
    manipulate(saved)
    with pytest.raises(ValueError, match=message):
        fresh.load(saved)
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh.model.state_dict().items())
    assert fresh.optimizer.state_dict()["state"] == {}
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("name", ["no model", "short random state"])
def test_a_manipulated_state_is_reported_and_the_run_starts_anew(unfinished, finished, tmp_path, name):
    manipulate, message = MANIPULATED[name]
    folder = shutil.copytree(unfinished, tmp_path / "run")
    saved = torch.load(folder / "state.pt", weights_only=True)
    manipulate(saved)
    torch.save(saved, folder / "state.pt")
    lines = fit(folder)
    assert lines[0].startswith(f"state.pt does not fit this run ({message}")
    assert epochs_trained(lines) == 2
    assert contents(folder) == contents(finished)


def fit_killed(patch, *arguments, folder, **keys):
    """A training in a child process that is patched to kill itself, and must end by SIGKILL."""
    child = os.fork()
    if not child:
        try:
            patch(*arguments)
            fit(folder, **keys)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def at_rename(number):
    """Instead of the n-th rename, counted from 0."""
    real, left = Path.rename, iter(range(number))
    Path.rename = lambda path, target: kill() if next(left, None) is None else real(path, target)


def in_first_epoch():
    loop.validate = kill


def after_writing(name):
    real = files.write_text
    files.write_text = lambda path, text: (real(path, text), kill() if path.name == name else None)


@pytest.mark.parametrize("patch", [*((at_rename, number) for number in range(4)), (in_first_epoch,)])
def test_a_process_killed_while_moving_a_run_or_in_the_first_epoch_of_another_loses_nothing(run, finished, patch):
    fit_killed(*patch, folder=run, epochs=4)
    assert epochs_trained(fit(run)) == 0
    assert contents(run) == contents(finished)


@pytest.mark.parametrize("number", range(5))  # the number of files of both runs
def test_a_process_killed_while_restoring_a_run_loses_neither(run, finished, number):
    fit(run, stop_after=1, epochs=3)
    fit_killed(at_rename, number, folder=run)
    assert "resuming after epoch 1" in fit(run, stop_after=2, epochs=3)
    assert epochs_trained(fit(run)) == 0
    assert contents(run) == contents(finished)


@pytest.mark.parametrize("name", ["timing.csv", "run.json"])
def test_a_process_killed_at_the_end_of_a_run_loses_nothing(tmp_path, finished, name):
    """Between model.safetensors and run.json, or between run.json and the deletion of state.pt."""
    fit_killed(after_writing, name, folder=tmp_path)
    assert (tmp_path / "state.pt").is_file()
    lines = fit(tmp_path)
    assert epochs_trained(lines) == 0
    assert contents(tmp_path) == contents(finished)
    assert not (tmp_path / "state.pt").exists()


def test_a_missing_value_is_restored_as_missing(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    rows = [{"epoch": 1, "train_selection": np.nan, "selection": -3.5, "best": True}]
    written = checkpoint.finish(tmp_path, {"keys": {}}, rows, [{"epoch": 1}], 1, {"reloaded_value": -3.5})
    read = checkpoint.load_finished(tmp_path, {"keys": {}}, pytest.fail)
    pd.testing.assert_frame_equal(written.history, read.history, check_exact=True)
    assert (tmp_path / "history.csv").read_text() == "epoch,train_selection,selection,best\n1,,-3.5,True\n"


@pytest.mark.parametrize("content", [b"", b"broken", b"K", b"\x80\x02J.", b"PK\x03\x04"], ids=str)
def test_a_file_of_any_other_content_is_no_state(tmp_path, content):
    (tmp_path / "state.pt").write_bytes(content)
    assert state.read(tmp_path / "state.pt") == {}


def test_code_in_a_state_is_not_run(tmp_path):
    torch.save({"mark": builders_tasks.Trap(tmp_path / "sprung")}, tmp_path / "state.pt")
    assert state.read(tmp_path / "state.pt") == {}
    assert not (tmp_path / "sprung").exists()
