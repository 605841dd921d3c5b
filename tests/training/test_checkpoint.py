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


def fit(folder, stop_after=None, **keys):
    """Lines of a training of two epochs, or of other keys, which is stopped after an epoch."""
    return builders_tasks.fit(folder, builders.discs(8), stop_after, **({"epochs": 2} | keys))[1]


def trained(lines):
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


# A finished run that is not as it was left


def save_as_a_spreadsheet(path):
    pd.read_csv(path).to_csv(path, index=False, sep=";", float_format="%.3f", lineterminator="\r\n")


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def flatter(path):
    files.write_csv(path, pd.read_csv(path).assign(validation_loss=0.0123))


PLACE = "fold0-seed0/.set_aside/unknown-1"


@pytest.mark.parametrize("spoil", [save_as_a_spreadsheet, flatter, cut, lambda path: path.write_bytes(b"")])
def test_a_history_that_is_not_the_run_s_own_is_written_again_without_training(run, finished, spoil):
    spoil(run / "history.csv")
    spoilt = (run / "history.csv").read_bytes()
    (run / "timing.csv").unlink()
    lines = fit(run)
    assert lines[0].startswith(f"history.csv was not as it was written, and lies in {PLACE}; ")
    assert lines[1].startswith("timing.csv is missing")
    assert trained(lines) == 0
    assert contents(run) == contents(finished)
    assert (run.parent / PLACE / "history.csv").read_bytes() == spoilt
    (run / "history.csv").unlink()
    assert fit(run)[0].startswith("history.csv was missing")
    assert contents(run) == contents(finished)


def change(name, value):
    return lambda path: path.write_text(json.dumps(files.read_json(path) | {name: value}))


RECORDS = {
    "no JSON": (lambda path: path.write_text("{"), "run.json is no JSON"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "run.json is no JSON"),
    "a list": (lambda path: path.write_text("[]"), "run.json is not as it was written"),
    "no keys": (lambda path: path.write_text("{}"), "run.json is not as it was written"),
    "wrong type": (change("best_epoch", "two"), "run.json is not as it was written"),
    "nested deeply": (lambda path: path.write_text("[" * 100_000), "run.json is no JSON"),
    "flattered": (change("best_value", 0.99), "run.json is not as it was written"),
    "gone": (os.unlink, "run.json is missing"),
}


@pytest.mark.parametrize(("spoil", "message"), RECORDS.values(), ids=RECORDS)
def test_what_is_wrong_with_a_record_is_said_in_words(run, spoil, message):
    assert checkpoint.read_finished(run)[1] is None
    spoil(run / "run.json")
    assert checkpoint.read_finished(run) == (None, message)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("run.json", *RECORDS["a list"]),
        ("run.json", *RECORDS["gone"]),
        ("model.safetensors", cut, "model.safetensors has other bytes than when it was written"),
        ("model.safetensors", os.unlink, "model.safetensors is missing"),
    ],
)
def test_a_run_whose_record_or_weights_are_broken_is_kept_named_and_trained_again(run, finished, name, spoil, message):
    spoil(run / name)
    lines = fit(run, stop_after=1)
    assert lines[0].startswith(f"set aside: {message}; what ")
    (kept,) = (run / ".set_aside").iterdir()
    assert f"kept in fold0-seed0/.set_aside/{kept.name} " in lines[0]
    assert (kept / "history.csv").read_bytes() == contents(finished)["history.csv"]
    assert trained(fit(run)) == 1
    assert contents(run) == contents(finished)
    assert not (run / ".set_aside").exists()


# Other keys, and back


def test_a_finished_run_waits_while_another_is_tried_and_is_found_again(run, finished):
    lines = fit(run, stop_after=1, epochs=4)
    assert lines[0].startswith("set aside: epochs 2 -> 4; the finished run of 2 epochs is kept in fold0-seed0/.set_")
    assert not (run / "run.json").exists()
    lines = fit(run)
    assert lines[0].startswith("set aside: epochs 4 -> 2; 1 epoch of the unfinished run is kept in ")
    assert lines[1].startswith("the run with these values lay in fold0-seed0/.set_aside/")
    assert lines[2].startswith("trained before: epoch 2")
    assert contents(run) == contents(finished)


def test_an_unfinished_run_goes_on_where_it_was_when_its_keys_come_back(tmp_path):
    fit(tmp_path / "unbroken", epochs=4)
    fit(tmp_path / "run", stop_after=2, epochs=4)
    fit(tmp_path / "run", stop_after=1, epochs=3)
    lines = fit(tmp_path / "run", epochs=4)
    assert [line.split(";")[0] for line in lines[:1]] == ["set aside: epochs 3 -> 4"]
    assert lines[1].startswith("the unfinished run with these values lay in run/.set_aside/")
    assert lines[2] == "goes on after epoch 2"
    assert contents(tmp_path / "run") == contents(tmp_path / "unbroken")


def test_curves_for_tensorboard_move_with_their_run(tmp_path):
    keys = {"tensorboard_every": 1}
    fit(tmp_path, stop_after=1, epochs=3, **keys)
    before = {path.name for path in (tmp_path / "tensorboard").iterdir()}
    fit(tmp_path, stop_after=1, **keys)
    assert before.isdisjoint(path.name for path in (tmp_path / "tensorboard").iterdir())
    fit(tmp_path, epochs=3, **keys)
    assert before < {path.name for path in (tmp_path / "tensorboard").iterdir()}


def test_a_state_of_another_number_of_threads_is_set_aside_and_goes_on_with_its_own(tmp_path, monkeypatch):
    fit(tmp_path / "unbroken")
    fit(tmp_path / "run", stop_after=1)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 2)
        lines = fit(tmp_path / "run", stop_after=1)
    assert lines[0].startswith("set aside: threads 1 -> 2; 1 epoch of the unfinished run is kept in ")
    assert lines[1].startswith("epoch   1/")
    assert fit(tmp_path / "run")[2] == "goes on after epoch 1"
    assert contents(tmp_path / "run") == contents(tmp_path / "unbroken")


def test_what_two_runs_differ_in_is_said_by_name():
    one = {
        "keys": {"epochs": 6, "schedule": "cosine", "gradient_clip": None},
        **{"network": {"model": "unet", "depth": 4}, "arrays": "a", "cases": {"train": "t", "validation": "v"}},
        "code": {"lib.losses": "1", "lib.models": "2", "lib.training.checkpoint": "3", "lib.study.files": "4"},
        "machine": {"device": "cpu", "precision": "float32", "threads": 2},
    }
    other = {
        "keys": {"epochs": 4, "schedule": "cosine", "gradient_clip": 1.0},
        **{"network": {"model": "unet", "depth": 4, "skips": True}, "arrays": "b"},
        "cases": {"train": "t", "validation": "w"},
        "code": {"lib.losses": "5", "lib.models": "6", "lib.training.checkpoint": "7", "lib.new": "8"},
        "machine": {"device": "cpu", "precision": "float32", "threads": 1},
    }
    expected = ["epochs 6 -> 4", "gradient_clip null -> 1.0", "skips null -> true", "threads 2 -> 1", "other arrays"]
    expected += ["other validation cases", "code of lib.losses, lib.models, lib.new … changed"]
    assert checkpoint.differences(one, other) == expected
    assert checkpoint.differences(one, one) == []
    assert not any("threads" in line for line in checkpoint.differences(one | {"machine": {}}, {"keys": one["keys"]}))


# States that were forged


FORGED = {
    "no model": (lambda saved: saved.pop("model"), "KeyError: 'model'"),
    "other network": (lambda saved: saved["model"].update({"head.bias": torch.zeros(7)}), "RuntimeError: Error"),
    "other best weights": (lambda saved: saved.update(weights={}), "its best weights are of another network"),
    "no random state": (lambda saved: saved.update(random="none"), "TypeError: "),
    "short random state": (lambda saved: saved.update(random=torch.zeros(3, dtype=torch.uint8)), "RuntimeError: "),
    "other moments": (
        lambda saved: saved["optimizer"]["state"][0].update(exp_avg=torch.zeros(7)),
        "its optimizer is that of another network",
    ),
    "no groups": (lambda saved: saved["optimizer"].update(param_groups=[]), "its optimizer is another"),
    "schedule of no key": (lambda saved: saved.update(schedule={}), "its schedule is another"),
    "no history": (lambda saved: saved.update(history=[]), "its history is not that of epochs 1, 2"),
    "text for history": (lambda saved: saved.update(history="none"), "TypeError"),
    "numbers for history": (lambda saved: saved.update(history=3), "TypeError"),
}


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    """The folder of a run of two epochs that was stopped after the first; copy it, leave it as it is."""
    folder = tmp_path_factory.mktemp("unfinished") / "run"
    fit(folder, stop_after=1)
    return folder


@pytest.mark.parametrize(("forge", "message"), FORGED.values(), ids=FORGED)
def test_a_forged_state_is_refused_and_nothing_has_moved(unfinished, forge, message):
    saved = state.read(unfinished / "state.pt")
    fresh = loop.begin(training_params(epochs=2), NETWORK, steps=2, threshold_mode="rel")
    random = torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in fresh.model.state_dict().items()}
    forge(saved)
    with pytest.raises(ValueError, match=message):
        fresh.load(saved)
    assert all(torch.equal(tensor, before[name]) for name, tensor in fresh.model.state_dict().items())
    assert fresh.optimizer.state_dict()["state"] == {}
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("name", ["no model", "short random state"])
def test_a_forged_state_is_named_once_and_the_run_starts_anew(unfinished, finished, tmp_path, name):
    forge, message = FORGED[name]
    folder = shutil.copytree(unfinished, tmp_path / "run")
    saved = torch.load(folder / "state.pt", weights_only=True)
    forge(saved)
    torch.save(saved, folder / "state.pt")
    lines = fit(folder)
    assert lines[0].startswith(f"set aside: state.pt does not fit this run ({message}")
    assert trained(lines) == 2
    assert contents(folder) == contents(finished)


# Killed at the awkward moments


def killed(work):
    """Does some work in a process of its own, which must end by SIGKILL."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at_rename(folder, number, **keys):
    """Fits in a process that is killed in place of a rename, counted from 0."""

    def work():
        real, left = Path.rename, iter(range(number))
        Path.rename = lambda path, target: kill() if next(left, None) is None else real(path, target)
        fit(folder, **keys)

    killed(work)


@pytest.mark.parametrize("number", range(4))  # as many files as a run has
def test_a_process_killed_while_it_sets_a_run_aside_loses_nothing(run, finished, number):
    killed_at_rename(run, number, epochs=4)
    assert trained(fit(run)) == 0
    assert contents(run) == contents(finished)


@pytest.mark.parametrize("number", range(5))
def test_a_process_killed_while_it_brings_a_run_back_loses_neither(run, finished, number):
    fit(run, stop_after=1, epochs=3)
    killed_at_rename(run, number)
    assert "goes on after epoch 1" in fit(run, stop_after=2, epochs=3)
    assert trained(fit(run)) == 0
    assert contents(run) == contents(finished)


def test_a_process_killed_before_the_first_epoch_s_end_loses_nothing_of_the_run_before(run, finished):
    def work():
        loop.validate = kill
        fit(run, epochs=4)

    killed(work)
    assert trained(fit(run)) == 0
    assert contents(run) == contents(finished)


@pytest.mark.parametrize("name", ["timing.csv", "run.json"])
def test_a_process_killed_while_a_run_ends_has_lost_nothing(tmp_path, finished, name):
    """Between model.safetensors and run.json, or between run.json and the end of state.pt."""

    def work():
        real = files.write_text
        files.write_text = lambda path, text: (real(path, text), kill() if path.name == name else None)
        fit(tmp_path, epochs=2)

    killed(work)
    assert (tmp_path / "state.pt").is_file()
    lines = fit(tmp_path)
    assert trained(lines) == 0
    assert contents(tmp_path) == contents(finished)
    assert not (tmp_path / "state.pt").exists()


def test_a_value_that_is_not_known_comes_back_as_such(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    rows = [{"epoch": 1, "train_selection": np.nan, "selection": -3.5, "best": True}]
    written = checkpoint.finish(tmp_path, {"keys": {}}, rows, [{"epoch": 1}], 1, {})
    read = checkpoint.load_finished(tmp_path, {"keys": {}}, pytest.fail)
    pd.testing.assert_frame_equal(written.history, read.history, check_exact=True)
    assert (tmp_path / "history.csv").read_text() == "epoch,train_selection,selection,best\n1,,-3.5,True\n"


def test_a_state_that_holds_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"mark": Trap()}, tmp_path / "state.pt")
    assert state.read(tmp_path / "state.pt") == {}
    assert not (tmp_path / "sprung").exists()
