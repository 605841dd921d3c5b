import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock, Timeout

from lib import losses, models
from lib.models import inference
from lib.study import files, provenance
from lib.training import loop, objectives
from tests import builders, builders_tasks
from tests.builders import NETWORK, one_thread, training_params  # noqa: F401

CPU = torch.device("cpu")
STABLE = ("history.csv", "model.safetensors", "run.json")  # timing.csv says how long it took
TRAIN_AND_HOLD = """
import sys
from pathlib import Path
from lib.training import loop
from tests import builders
builders.torch.set_num_threads(1)  # as in these tests: other sums, other last digits
def say(line):
    if line.startswith("epoch   1"):
        print("holds", flush=True)
        sys.stdin.readline()
arrays = builders.discs(8)
loop.fit(builders.training_params(), builders.NETWORK, arrays, builders.disc_parts(arrays), Path(sys.argv[1]), say)
"""


class Stopped(Exception):
    """Raised by a test in the middle of a run."""


def fit(folder, chosen=None, arrays=None, say=None, network=NETWORK):
    arrays = arrays or builders.discs(12)
    lines = []
    run = loop.fit(
        chosen or training_params(), network, arrays, builders.disc_parts(arrays), folder, say or lines.append
    )
    return run, lines


def counts_of(*dice):
    """Pixels by reference and predicted class that have these Dice; what is wrong lies in the background."""
    table = torch.zeros(len(dice) + 1, len(dice) + 1, dtype=torch.int64)
    for index, value in enumerate(dice, start=1):
        hits = round(value * 1000)
        table[index, index], table[0, index], table[index, 0] = hits, 1000 - hits, 1000 - hits
    return table.flatten()


def validate(network, arrays, rows, described=NETWORK, **keys):
    """What a trained network scores on some rows."""
    chosen = training_params(device="cpu", precision="float32", **keys)
    state = loop.begin(chosen, described, steps=1, threshold_mode="rel")
    state.network = network
    return loop.validate(state, loop.objective_of(chosen, described, arrays), arrays, rows)


def stop_after(epoch):
    def say(line):
        if line.startswith(f"epoch {epoch:3d}/"):
            raise Stopped

    return say


def contents(folder, names=STABLE):
    return {name: (folder / name).read_bytes() for name in names}


# Learning


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned")
    run, lines = fit(folder, training_params(epochs=12, schedule="one_cycle"), builders.discs(24))
    return folder, run, lines


def test_bright_discs_are_learned(learned):
    assert learned[1].best_value > 0.9


def test_the_loss_falls(learned):
    history = learned[1].history
    assert history["train_loss"].iloc[-1] < 0.7 * history["train_loss"].iloc[0]


def test_there_is_a_line_and_a_row_for_every_epoch(learned):
    folder, run, lines = learned
    timing = pd.read_csv(folder / "timing.csv")
    assert run.history["epoch"].tolist() == timing["epoch"].tolist() == list(range(1, 13))
    assert len(lines) == 12
    assert lines[0].startswith("epoch   1/12   loss ")


def test_the_kept_weights_are_those_of_the_best_epoch(learned):
    folder, run, _ = learned
    arrays = builders.discs(24)
    rows = arrays.rows(builders.disc_parts(arrays)["validation"])
    network = models.load(folder / "model.safetensors")
    _, counts = validate(network, arrays, rows)
    assert run.best_value == run.history["selection"].max()
    assert objectives.pooled(counts, "dice")[1] == pytest.approx(run.best_value, abs=1e-6)


def test_the_best_epochs_so_far_are_marked(learned):
    history = learned[1].history
    assert (history["best"] == (history["selection"] > history["selection"].cummax().shift(fill_value=-1))).all()


def test_a_finished_run_leaves_its_tables_weights_and_record_and_no_state(learned):
    names = {path.name for path in learned[0].iterdir()} - {".lock"}
    assert names == {*STABLE, "timing.csv"}


def test_the_record_of_a_run_says_what_was_trained(learned):
    folder, run, _ = learned
    about = files.read_json(folder / "run.json")
    assert (about["epochs"], about["best_epoch"]) == (12, run.best_epoch)
    assert (about["device"], about["precision"]) == ("cpu", "float32")
    assert (about["train_cases"], about["validation_cases"]) == (16, 8)
    assert about["threads"] == 1
    assert about["files"] == {name: files.sha256(folder / name) for name in ("model.safetensors", "history.csv")}


def test_four_classes_are_trained_with_a_logit_each(tmp_path):
    arrays = builders.discs(12)
    arrays.masks[:, 14:18, 14:18] = 2
    chosen = training_params(
        classes=["background", "disc", "spot"],
        focal_weight=0.5,
        label_smoothing=0.05,
        cross_entropy_class_weights=[1.0, 1.0, 2.0],
        dice_class_weights=[0.0, 1.0, 1.0],
        selection_class_weights=[0.0, 1.0, 1.0],
        oversample_classes=["spot"],
        oversample_factor=2.0,
    )
    network = NETWORK | {"arguments": NETWORK["arguments"] | {"out_channels": 3}}
    run, _ = fit(tmp_path, chosen, arrays, network=network)
    assert {"validation_dice_disc", "validation_dice_spot"} <= set(run.history)


def test_the_history_holds_what_the_notebook_draws(learned):
    history = learned[1].history
    expected = ["epoch", "train_loss", "train_selection", "validation_loss", "validation_dice_head", "selection"]
    assert history.columns.tolist() == [*expected, "learning_rate", "best"]
    assert (history["selection"] == history["validation_dice_head"]).all()  # Dice of the head alone chooses


def test_each_figure_of_the_history_comes_from_its_own_cases(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "train_epoch", lambda *_: (0.7, counts_of(0.25)))
    monkeypatch.setattr(loop, "validate", lambda *_: (0.9, counts_of(0.5)))
    run, lines = fit(tmp_path, training_params(epochs=1, schedule="plateau"))
    row = run.history.iloc[0]
    assert (row["train_loss"], row["train_selection"], row["validation_loss"], row["selection"]) == (
        0.7,
        0.25,
        0.9,
        0.5,
    )
    assert "loss 0.7000 / 0.9000   pooled Dice 0.2500 / 0.5000 *" in lines[0]


def test_iou_may_choose_the_checkpoint(tmp_path):
    run, lines = fit(tmp_path, training_params(selection_metric="iou"))
    dice = run.history["validation_dice_head"]
    assert run.history["selection"].tolist() == pytest.approx((dice / (2 - dice)).tolist(), rel=1e-12)
    assert run.best_value == run.history["selection"].max()
    assert f"IoU {run.history['train_selection'].iloc[0]:.4f} / {run.history['selection'].iloc[0]:.4f}" in lines[0]


def test_dice_and_iou_of_several_classes_may_choose_different_epochs(tmp_path, monkeypatch):
    # classes a and b by epoch; the mean Dice prefers the first epoch, the mean IoU the second
    dice = [(0.75, 0.74), (1.0, 0.48)]
    iou = [tuple(d / (2 - d) for d in pair) for pair in dice]
    assert sum(dice[0]) > sum(dice[1])
    assert sum(iou[0]) < sum(iou[1])
    arrays = builders.discs(12)
    arrays.masks[:, 14:18, 14:18] = 2
    network = NETWORK | {"arguments": NETWORK["arguments"] | {"out_channels": 3}}
    keys = {"classes": ["background", "a", "b"], "oversample_classes": [], "epochs": 2}
    weighted = ("cross_entropy_class_weights", "dice_class_weights", "selection_class_weights")
    keys |= {key: [0.0, 1.0, 1.0] for key in weighted}
    for metric, best in (("dice", 1), ("iou", 2)):
        scripted = iter([counts_of(*pair) for pair in dice])
        monkeypatch.setattr(loop, "validate", lambda *_, rows=scripted: (0.5, next(rows)))
        run, _ = fit(tmp_path / metric, training_params(selection_metric=metric, **keys), arrays, network=network)
        assert run.best_epoch == best


def test_training_starts_from_the_weights_that_the_network_s_description_says(tmp_path, monkeypatch):
    started = []
    real = models.start
    monkeypatch.setattr(models, "start", lambda described: started.append(described) or real(described))
    fit(tmp_path)
    assert started == [NETWORK]


def test_a_start_that_a_network_does_not_know_is_refused(tmp_path):
    with pytest.raises(ValueError, match="encoder_weights = 'imagenet'   not allowed with unet"):
        fit(tmp_path, network=NETWORK | {"encoder_weights": "imagenet"})
    assert not (tmp_path / "run.json").exists()


def test_another_kind_of_network_is_trained_by_its_name(tmp_path):
    arguments = NETWORK["arguments"] | {"base_channels": 4}
    run, _ = fit(tmp_path, training_params(epochs=1), network=NETWORK | {"model": "segnet", "arguments": arguments})
    assert type(models.load(tmp_path / "model.safetensors")).__name__ == "SegNet"
    assert run.best_epoch == 1


# Repeating


def test_two_runs_of_one_seed_are_equal_bytes_and_another_seed_is_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit(tmp_path / name, training_params(seed=seed))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert (tmp_path / "a" / "history.csv").read_bytes() != (tmp_path / "c" / "history.csv").read_bytes()


def test_loader_processes_do_not_change_the_result(tmp_path):
    for workers in (0, 2):
        fit(tmp_path / str(workers), training_params(workers=workers, epochs=2))
    assert contents(tmp_path / "0") == contents(tmp_path / "2")


def test_a_finished_run_is_loaded_and_no_file_changes(tmp_path):
    first, _ = fit(tmp_path)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir() if path.name != ".lock"}
    second, lines = fit(tmp_path)
    assert lines == [f"trained before: epoch {first.best_epoch}, validation value {first.best_value:.4f}"]
    assert all((path.read_bytes(), path.stat().st_mtime_ns) == value for path, value in before.items())
    pd.testing.assert_frame_equal(second.history, first.history, check_exact=True)
    assert (second.best_epoch, second.best_value) == (first.best_epoch, first.best_value)


# Interruptions


@pytest.mark.parametrize(
    "keys",
    [
        {"schedule": "constant"},
        {"schedule": "cosine"},
        {"schedule": "one_cycle"},
        {"schedule": "plateau", "plateau_patience": 0, "learning_rate": 0.05},
        {"schedule": "constant", "optimizer": "adam", "weight_decay": 0.01},
        {"schedule": "constant", "early_stopping_patience": 3, "learning_rate": 0.1, "epochs": 12},
    ],
    ids=str,
)
@pytest.mark.parametrize("stopped_after", [1, 3])
def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path, keys, stopped_after):
    chosen = training_params(**({"epochs": 5} | keys))
    fit(tmp_path / "unbroken", chosen)
    with pytest.raises(Stopped):
        fit(tmp_path / "broken", chosen, say=stop_after(stopped_after))
    assert not (tmp_path / "broken" / "run.json").exists()
    _, lines = fit(tmp_path / "broken", chosen)
    assert lines[0] == f"goes on after epoch {stopped_after}"
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")


def test_a_run_interrupted_after_every_epoch_comes_to_the_same_bytes(tmp_path):
    chosen = training_params(epochs=4, schedule="one_cycle")
    fit(tmp_path / "unbroken", chosen)
    for epoch in range(1, 5):
        with pytest.raises(Stopped):
            fit(tmp_path / "broken", chosen, say=stop_after(epoch))
    fit(tmp_path / "broken", chosen)
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")


def test_a_process_killed_in_the_middle_of_a_run_comes_to_the_same_bytes(tmp_path):
    arrays = builders.discs(8)
    fit(tmp_path / "unbroken", arrays=arrays)
    child = start_child(tmp_path / "broken")
    child.kill()
    child.communicate()
    _, lines = fit(tmp_path / "broken", arrays=arrays)
    assert lines[0] == "goes on after epoch 1"
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")


@pytest.mark.parametrize("length", [0, 10, 1000, -100])
def test_a_half_written_state_is_not_used(tmp_path, length):
    with pytest.raises(Stopped):
        fit(tmp_path / "broken", say=stop_after(2))
    state = tmp_path / "broken" / "state.pt"
    state.write_bytes(state.read_bytes()[:length])
    _, lines = fit(tmp_path / "broken")
    fit(tmp_path / "unbroken")
    assert lines[0].startswith("set aside: state.pt cannot be read; what was left of the run is kept in ")
    assert lines[1].startswith("epoch   1/")
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")


# The fingerprint


@pytest.mark.parametrize(
    "changes", [{"epochs": 4}, {"learning_rate": 0.02}, {"seed": 1}, {"fold": 1}, {"rotation_deg": 5.0}], ids=str
)
def test_a_changed_key_trains_again(tmp_path, changes):
    fit(tmp_path)
    _, lines = fit(tmp_path, training_params(**changes))
    assert lines[1].startswith("epoch   1/")


def mark(chosen=None, network=NETWORK, arrays=None, parts=None):
    arrays = arrays or builders.discs(12)
    parts = parts or builders.disc_parts(arrays)
    return files.digest(loop.made_of(chosen or training_params(), network, arrays, parts))


def test_keys_that_do_not_change_the_result_do_not_change_the_fingerprint():
    assert mark(training_params(workers=4)) == mark(training_params(study="other")) == mark()
    assert mark(training_params(tensorboard_every=2, tensorboard_images=9)) == mark()


def test_compiling_may_change_the_last_digits_and_so_changes_the_fingerprint():
    assert mark(training_params(compile=True)) != mark()


def test_network_arrays_and_cases_change_the_fingerprint():
    parts = builders.disc_parts(builders.discs(12))
    marks = {
        mark(),
        mark(network=NETWORK | {"arguments": NETWORK["arguments"] | {"depth": 3}}),
        mark(network=NETWORK | {"model": "segnet"}),
        mark(network=NETWORK | {"encoder_weights": "imagenet"}),
        mark(arrays=builders.discs(12, seed=1)),
        mark(parts=parts | {"train": parts["train"][1:]}),
        mark(parts=parts | {"train": parts["train"][::-1]}),
        mark(parts=parts | {"validation": parts["validation"][1:]}),
    }
    assert len(marks) == 8


def test_the_tested_cases_do_not_change_the_fingerprint():
    assert mark(parts=builders.disc_parts(builders.discs(12)) | {"test": ["disc0"]}) == mark()


def test_code_that_training_reaches_changes_the_fingerprint(monkeypatch):
    before = mark()
    monkeypatch.setattr(provenance, "module_hashes", lambda _: {"lib.training.loop": "changed"})
    assert mark() != before


# Schedules and stopping


def rates(folder, **keys):
    return fit(folder, training_params(epochs=6, **keys))[0].history["learning_rate"].to_numpy()


def test_a_constant_rate_stays(tmp_path):
    assert rates(tmp_path, schedule="constant") == pytest.approx(np.full(6, 0.01))


def test_cosine_falls_along_half_a_wave(tmp_path):
    expected = 0.01 * (1 + np.cos(np.pi * np.arange(6) / 6)) / 2
    assert rates(tmp_path, schedule="cosine") == pytest.approx(expected)


def test_one_cycle_rises_to_the_rate_and_falls_to_nearly_nothing(tmp_path):
    found = rates(tmp_path, schedule="one_cycle")
    assert found[0] == pytest.approx(0.01 / 25)
    assert 0.009 < found.max() <= 0.01
    assert found[-1] < 0.01 / 5


@pytest.mark.parametrize(("epochs", "share"), [(3, 0.25), (9, 0.1), (1, 0.5)])
def test_a_rise_of_exactly_one_step_is_that_of_a_hair_more(tmp_path, epochs, share):
    keys = {"epochs": epochs, "schedule": "one_cycle", "batch_size": 8}  # one step an epoch
    exact, above = (
        fit(tmp_path / name, training_params(**keys, warm_up_fraction=each))[0].history["learning_rate"].to_numpy()
        for name, each in (("exact", share), ("above", share * (1 + 1e-7)))
    )
    assert exact == pytest.approx(above, rel=1e-5)
    assert exact[0] == pytest.approx(0.01 / 25)


def script(monkeypatch, values):
    """Validation Dice epoch by epoch, whatever the network does."""
    scripted = iter(values)
    monkeypatch.setattr(loop, "validate", lambda *_: (0.5, counts_of(next(scripted))))


def test_plateau_cuts_the_rate_after_an_epoch_that_is_no_better(tmp_path, monkeypatch):
    script(monkeypatch, [0.5, 0.6, 0.6, 0.7, 0.65, 0.8])
    found = rates(tmp_path, schedule="plateau", plateau_factor=0.1, plateau_patience=0)
    assert found == pytest.approx([1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4])


def test_plateau_waits_for_its_patience(tmp_path, monkeypatch):
    script(monkeypatch, [0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    found = rates(tmp_path, schedule="plateau", plateau_factor=0.5, plateau_patience=1)
    assert found == pytest.approx([1e-2, 1e-2, 1e-2, 5e-3, 5e-3, 2.5e-3])


def test_training_stops_after_so_many_epochs_without_a_better_one(tmp_path, monkeypatch):
    script(monkeypatch, [0.5, 0.4, 0.6, 0.6, 0.5, 0.9])
    run, lines = fit(tmp_path, training_params(epochs=6, early_stopping_patience=2))
    assert lines[-1] == "stopped early: no better epoch for 2"
    assert (len(run.history), run.best_epoch, run.best_value) == (5, 3, 0.6)
    assert files.read_json(tmp_path / "run.json")["stopped_early"]


def test_a_diverging_loss_names_the_learning_rate(tmp_path, monkeypatch):
    real = losses.combined
    monkeypatch.setattr(losses, "combined", lambda *given: real(*given) * float("nan"))
    with pytest.raises(ValueError, match="the loss became nan: training diverged; try a lower learning_rate"):
        fit(tmp_path)
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize(
    ("loss", "counts", "said"),
    [
        (float("nan"), counts_of(0.5), "the validation loss became nan in epoch 1: training diverged; try a lower"),
        (float("inf"), counts_of(0.5), "the validation loss became inf in epoch 1"),
    ],
)
def test_a_validation_that_diverges_is_refused_and_leaves_no_state(tmp_path, monkeypatch, loss, counts, said):
    monkeypatch.setattr(loop, "validate", lambda *_: (loss, counts))
    with pytest.raises(ValueError, match=said):
        fit(tmp_path)
    assert not (tmp_path / "state.pt").exists()


def test_an_error_that_is_no_number_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "validate", lambda *_: (0.5, torch.tensor([0.0, 0.0])))
    with pytest.raises(ValueError, match="the validation value became nan in epoch 1"):
        fit_landmarks(tmp_path, builders_tasks.landmarked(6))


# What would teach nothing


def test_training_without_foreground_is_refused_before_anything_is_written(tmp_path):
    arrays = builders.discs(6)
    arrays.masks[4:] = 0
    with pytest.raises(ValueError, match="fold 2: none of its 2 validation cases shows head; give another split_seed"):
        fit(tmp_path / "run", training_params(fold=2), arrays)
    assert not (tmp_path / "run").exists()


def test_where_nothing_is_found_the_epoch_of_the_smallest_validation_loss_is_kept_and_a_line_says_so(
    tmp_path, monkeypatch
):
    found = iter([(0.9, 0.0), (0.7, 0.0), (0.8, 0.0)])
    monkeypatch.setattr(loop, "validate", lambda *_: (lambda loss, dice: (loss, counts_of(dice)))(*next(found)))
    run, lines = fit(tmp_path)
    assert (run.best_epoch, run.best_value) == (2, 0)
    assert lines[-1] == "no epoch found anything in the validation cases: that of the smallest validation loss is kept"


def test_of_landmarks_nothing_found_is_an_error_of_one_ofd(tmp_path, monkeypatch):
    found = iter([(1.0, 3.0), (0.9, 3.0), (0.95, 3.0)])
    monkeypatch.setattr(loop, "validate", lambda *_: (lambda loss, s: (loss, torch.tensor([s, 3.0])))(*next(found)))
    run, lines = fit_landmarks(tmp_path, builders_tasks.landmarked(6))
    assert (run.best_epoch, run.best_value) == (2, -100)
    assert lines[-1].startswith("no epoch found anything in the validation cases")


def test_a_blank_heatmap_is_worth_what_its_task_says():
    arrays = builders_tasks.landmarked(4)
    task = loop.objective_of(training_params(**LANDMARKS), HEATMAPS, arrays)
    targets = torch.as_tensor(objectives.targets(task, arrays, np.arange(4)))
    assert task.scores(task.tally(torch.zeros_like(targets), targets))["selection"] == task.blank


def test_an_epoch_that_finds_something_is_better_whatever_its_loss(tmp_path, monkeypatch):
    found = iter([(0.5, 0.0), (0.9, 0.1), (0.4, 0.1)])
    monkeypatch.setattr(loop, "validate", lambda *_: (lambda loss, dice: (loss, counts_of(dice)))(*next(found)))
    run, lines = fit(tmp_path)
    assert run.best_epoch == 2
    assert not any("found anything" in line for line in lines)


def test_a_last_batch_of_one_image_that_cannot_be_normalised_is_refused_before_training(tmp_path):
    network = NETWORK | {"arguments": NETWORK["arguments"] | {"depth": 5}}
    said = (
        r"batch_size = 7   8 training images leave a last batch of one, and image_size \[32, 32\] leaves 1 x 1 pixels"
    )
    with pytest.raises(ValueError, match=said):
        fit(tmp_path, training_params(batch_size=7), network=network)
    fit(tmp_path, training_params(batch_size=6, epochs=1), network=network)


ODD = [
    {"learning_rate": 1.0e-320},
    {"gradient_clip": 1.0e-320},
    {"gradient_clip": 1.0e308},
    {"weight_decay": 1.0},
    {"batch_size": 1},
    {"batch_size": 1024},
    {"seed": 2**63 - 1},
    {"focal_weight": 1.0, "focal_gamma": 0.01},
    {"label_smoothing": 0.999999999999},
    {"oversample_classes": ["head"], "oversample_factor": 100.0},
    {"area_weight_floor": 0.0},
    {"schedule": "one_cycle", "warm_up_fraction": 1.0e-12},
    {"schedule": "one_cycle", "warm_up_fraction": 0.9999999999999999},
    {"schedule": "plateau", "plateau_factor": 1.0e-300, "plateau_patience": 0},
    {"early_stopping_patience": 10**30},
    {"cross_entropy_weight": 0.0, "dice_weight": 1.0e-320},
    {"shift_fraction": 0.5, "scale_fraction": 0.5, "rotation_deg": 180.0, "affine_probability": 1.0},
]


@pytest.mark.slow
@pytest.mark.parametrize("keys", ODD, ids=str)
@pytest.mark.parametrize("kind", ["regions", "landmarks"])
def test_odd_values_that_are_allowed_train(tmp_path, keys, kind):
    if kind == "regions":
        run, _ = fit(tmp_path, training_params(**({"epochs": 2} | keys)), builders.discs(7))
    else:
        run, _ = fit_landmarks(tmp_path, builders_tasks.landmarked(7), **({"epochs": 2} | keys))
    assert len(run.history) == 2
    assert np.isfinite(run.history[["train_loss", "validation_loss", "selection"]]).all(axis=None)


def test_gradients_are_clipped_to_the_largest_norm(tmp_path, monkeypatch):
    norms = []
    real = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda weights, norm: norms.append(norm) or real(weights, norm)
    )
    fit(tmp_path, training_params(gradient_clip=0.25, epochs=1))
    assert norms == [0.25, 0.25]  # two steps of four images


def test_an_unknown_case_is_refused(tmp_path):
    arrays = builders.discs(4)
    with pytest.raises(ValueError, match="1 cases are not in the arrays"):
        loop.fit(training_params(), NETWORK, arrays, {"train": ["disc9"], "validation": ["disc0"]}, tmp_path, print)


# One process at a time


def start_child(folder):
    child = subprocess.Popen(
        [sys.executable, "-c", TRAIN_AND_HOLD, str(folder)],
        cwd=files.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "holds\n"
    return child


def test_a_second_process_waits_and_then_loads_what_the_first_has_trained(tmp_path, monkeypatch):
    child = start_child(tmp_path)
    with pytest.raises(Timeout):
        FileLock(tmp_path / ".lock").acquire(timeout=0)
    said, told = [], threading.Event()

    def say(line):
        said.append(line)
        told.set()

    waiting = threading.Thread(target=fit, args=(tmp_path, None, builders.discs(8), say))
    waiting.start()
    assert told.wait(60)  # it says at once that it waits
    child.communicate("\n")
    waiting.join()
    assert child.returncode == 0
    assert len(said) == 2
    assert said[0].startswith("this training waits for ")
    assert said[1].startswith("trained before")


# Validation


def test_validation_loss_is_the_mean_over_cases_of_the_named_loss():
    arrays, network, chosen = builders.discs(inference.BATCH + 3), builders.network(), training_params()
    rows = np.arange(len(arrays.names))
    loss, counts = validate(network, arrays, rows)
    with torch.inference_mode():
        logits = network(inference.to_input(arrays.images, CPU))
        reference = torch.as_tensor(arrays.masks).long()
        expected = losses.combined(logits, reference, loop.mixture_of(chosen))
    assert loss == pytest.approx(float(expected), rel=1e-4)
    assert counts.tolist() == objectives.confusion(logits, reference, 2).tolist()
    assert counts.sum() == arrays.masks.size


# Who is drawn how often


def test_cases_that_show_a_rare_class_are_drawn_more_often():
    arrays = builders.discs(6)
    arrays.masks[4:, 0, 0] = 2
    chosen = training_params(classes=["background", "a", "b"], oversample_classes=["b"], oversample_factor=3.0)
    assert loop.case_weights(chosen, arrays, np.array([0, 4, 5, 1])).tolist() == [1, 3, 3, 1]


def striped():
    """Two patients of two slices with 1 and 3, and 0 and 2 foreground pixels; the last shows a second class."""
    arrays = builders_tasks.volumes(2, slices=2)
    arrays.masks[:] = 0
    for row, pixels in enumerate([1, 3, 0, 2]):
        arrays.masks[row, 0, :pixels] = 1
    arrays.masks[3, 0, 0] = 2
    return arrays


def test_slices_are_drawn_by_their_share_of_their_own_patient_s_foreground():
    chosen = training_params(area_weight_floor=0.2)
    found = loop.case_weights(chosen, striped(), np.array([3, 0, 1, 2]))
    assert found == pytest.approx([0.9, 0.3, 0.7, 0.1])  # 0.1 + 0.8 * (1, 1/4, 3/4, 0)


def test_area_and_a_rare_class_multiply():
    rare = {"classes": ["background", "a", "b"], "oversample_classes": ["b"], "oversample_factor": 3.0}
    found = loop.case_weights(training_params(area_weight_floor=0.2, **rare), striped(), np.arange(4))
    assert found == pytest.approx([0.3, 0.7, 0.1, 2.7])


# Landmarks


HEATMAPS = NETWORK | {"arguments": NETWORK["arguments"] | {"out_channels": 2, "base_channels": 8}}
LANDMARKS = {"landmarks": "multicentre", "schedule": "one_cycle", "rotation_deg": 5.0, "scale_fraction": 0.05}


def fit_landmarks(folder, arrays=None, say=None, network=HEATMAPS, **keys):
    arrays, lines = arrays or builders_tasks.landmarked(12), []
    chosen = training_params(**(LANDMARKS | keys))
    run = loop.fit(chosen, network, arrays, builders_tasks.parts_of(arrays), folder, say or lines.append)
    return run, lines


@pytest.fixture(scope="module")
def pointed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pointed")
    run, lines = fit_landmarks(folder, builders_tasks.landmarked(48), epochs=15)
    return folder, run, lines


def test_the_ends_of_lines_are_learned(pointed):
    history = pointed[1].history
    assert history["validation_loss"].iloc[-1] < 0.5  # a blank output has 1
    assert history["validation_error_percent"].iloc[-1] < 15


def test_the_history_of_landmarks_holds_an_error_and_the_smallest_chooses(pointed):
    _, run, _ = pointed
    expected = ["epoch", "train_loss", "train_selection", "validation_loss", "validation_error_percent", "selection"]
    assert run.history.columns.tolist() == [*expected, "learning_rate", "best"]
    assert (run.history["selection"] == -run.history["validation_error_percent"]).all()
    assert run.best_value == -run.history["validation_error_percent"].min()


def test_a_line_of_progress_names_the_error(pointed):
    _, run, lines = pointed
    row = run.history.iloc[0]
    assert f"error (% of OFD) {-row['train_selection']:.4f} / {row['validation_error_percent']:.4f} *" in lines[0]


def test_the_kept_weights_of_heatmaps_have_the_error_of_the_best_epoch(pointed):
    folder, run, _ = pointed
    arrays = builders_tasks.landmarked(48)
    rows = arrays.rows(builders_tasks.parts_of(arrays)["validation"])
    _, sums = validate(models.load(folder / "model.safetensors"), arrays, rows, HEATMAPS, **LANDMARKS)
    objective = loop.objective_of(training_params(**LANDMARKS), HEATMAPS, arrays)
    assert objective.scores(sums)["selection"] == pytest.approx(run.best_value, rel=1e-5)


def test_an_interrupted_run_of_landmarks_goes_on_to_the_same_bytes(tmp_path):
    keys = {"schedule": "plateau", "plateau_patience": 0, "epochs": 4}
    fit_landmarks(tmp_path / "unbroken", **keys)
    with pytest.raises(Stopped):
        fit_landmarks(tmp_path / "broken", say=stop_after(2), **keys)
    fit_landmarks(tmp_path / "broken", **keys)
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")


def test_plateau_takes_an_equal_error_as_no_gain(tmp_path, monkeypatch):
    errors = iter([0.10, 0.08, 0.08, 0.07, 0.07, 0.06])
    monkeypatch.setattr(loop, "validate", lambda *_: (0.5, torch.tensor([next(errors), 1.0])))
    keys = {"schedule": "plateau", "plateau_factor": 0.1, "plateau_patience": 0, "epochs": 6}
    run, _ = fit_landmarks(tmp_path, builders_tasks.landmarked(6), **keys)
    assert run.history["learning_rate"].tolist() == pytest.approx([1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4])


def test_a_network_of_regions_is_not_trained_on_landmarks(tmp_path):
    with pytest.raises(ValueError, match="out_channels = 1: heatmaps need 2"):
        fit_landmarks(tmp_path, network=NETWORK)


# Volumes


def volume_network():
    return NETWORK | {"arguments": NETWORK["arguments"] | {"in_channels": 3}}


def test_slices_of_several_normalised_channels_are_learned(tmp_path):
    arrays = builders_tasks.volumes(9)
    chosen = training_params(epochs=15, schedule="one_cycle", area_weight_floor=0.1, intensity_probability=0.5)
    run = loop.fit(chosen, volume_network(), arrays, builders_tasks.parts_of(arrays), tmp_path, lambda _: None)
    assert run.best_value > 0.85
    about = files.read_json(tmp_path / "run.json")
    assert (about["train_cases"], about["validation_cases"]) == (6, 3)  # patients, not slices


# Compiling and watching


class Compiled(torch.nn.Module):
    """What torch.compile gives, as far as names of weights go."""

    def __init__(self, plain):
        super().__init__()
        self._orig_mod = plain

    def forward(self, images):
        return self._orig_mod(images)


def test_a_compiled_network_leaves_the_weights_of_the_plain_one(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(Compiled(model)) or compiled[-1])
    fit(tmp_path / "plain")
    assert not compiled
    fit(tmp_path / "compiled", training_params(compile=True))
    assert len(compiled) == 1
    assert all(name.startswith("_orig_mod.") for name in compiled[0].state_dict())
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "compiled")]
    assert weights[0] == weights[1]
    assert type(models.load(tmp_path / "compiled" / "model.safetensors")).__name__ == "UNet"


def test_an_interrupted_compiled_run_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", Compiled)
    chosen = training_params(compile=True)
    fit(tmp_path / "unbroken", chosen)
    with pytest.raises(Stopped):
        fit(tmp_path / "broken", chosen, say=stop_after(1))
    fit(tmp_path / "broken", chosen)
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")


def test_watching_in_tensorboard_changes_no_result(tmp_path):
    fit(tmp_path / "alone")
    fit(tmp_path / "watched", training_params(tensorboard_every=1))
    assert contents(tmp_path / "watched") == contents(tmp_path / "alone")
    assert any((tmp_path / "watched" / "tensorboard").iterdir())
    assert not (tmp_path / "alone" / "tensorboard").exists()
