import subprocess
import sys
import threading
from dataclasses import replace
from itertools import chain, repeat

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock, Timeout

from lib import losses, models
from lib.models import inference
from lib.study import files, provenance
from lib.training import loop
from lib.training.batches import FixedBatches
from tests import builders, builders_tasks
from tests.builders import NETWORK, one_thread, training_params  # noqa: F401
from tests.builders_tasks import HEATMAPS, LANDMARKS, STABLE, contents, fit, of_network, parts_of

TRAIN_AND_WAIT = """
import sys
from pathlib import Path
from lib.training import loop, saving
from tests import builders, builders_tasks
builders.torch.set_num_threads(1)  # as in these tests, for equal sums
saving.SECONDS = 0.0
def log(line):
    if line.startswith("epoch   1"):
        print("waiting", flush=True)
        sys.stdin.readline()
arrays = builders.discs(8)
loop.fit(builders.training_params(), builders.NETWORK, arrays, builders_tasks.parts_of(arrays), Path(sys.argv[1]), log)
"""
THREE = {"classes": ["background", "a", "b"], "oversample_classes": ["b"], "oversample_factor": 3.0}
THREE |= {"cross_entropy_class_weights": [1.0, 1.0, 2.0], "dice_class_weights": [0.0, 1.0, 1.0]}
THREE |= {"selection_class_weights": [0.0, 1.0, 1.0]}


def fit_landmarks(folder, count=12, network=HEATMAPS, stop_after=None, **keys):
    return fit(folder, builders_tasks.landmarked(count), stop_after, network, **(LANDMARKS | keys))


def counts_of(*dice):
    """Confusion matrix with these Dice, whose errors are confusions with the background."""
    table = torch.zeros(len(dice) + 1, len(dice) + 1, dtype=torch.int64)
    for index, value in enumerate(dice, start=1):
        hits = round(value * 1000)
        table[index, index], table[0, index], table[index, 0] = hits, 1000 - hits, 1000 - hits
    return table.flatten()


def script(monkeypatch, *epochs):
    """Replaces validation: loss, and Dice or the sum of three errors, of each epoch."""
    scripted = chain(epochs, repeat(epochs[-1]))  # the last is also that of the saved weights

    def validate(state, objective, *_):
        loss, *figures = next(scripted)
        return loss, counts_of(*figures) if hasattr(objective, "classes") else torch.tensor([*figures, 3.0])

    monkeypatch.setattr(loop, "validate", validate)


OF_VOLUMES = {"epochs": 15, "schedule": "one_cycle", "area_weight_floor": 0.1, "intensity_probability": 0.5}
KINDS = {
    "regions": (builders.discs(24), NETWORK, {"epochs": 12, "schedule": "one_cycle"}),
    "volumes": (builders_tasks.volumes(9), of_network(in_channels=3), OF_VOLUMES),
    "landmarks": (builders_tasks.landmarked(48), HEATMAPS, LANDMARKS | {"epochs": 15}),
}


@pytest.fixture(scope="module", params=KINDS)
def learned(request, tmp_path_factory):
    folder, (arrays, network, keys) = tmp_path_factory.mktemp(request.param), KINDS[request.param]
    return folder, *fit(folder, arrays, None, network, **keys), arrays, network, keys


def test_discs_volumes_and_endpoints_are_learned_and_the_weights_of_the_best_epoch_are_saved(learned):
    folder, run, lines, arrays, network, keys = learned
    history, first = run.history, run.history.iloc[0]
    assert (history["best"] == (history["selection"] > history["selection"].cummax().shift(fill_value=-101))).all()
    assert run.best_value == history["selection"].max()
    score = history.columns[4]
    losses_and_scores = ["train_loss", "train_selection", "validation_loss", score, "selection"]
    assert history.columns.tolist() == ["epoch", *losses_and_scores, "learning_rate", "best"]
    if score == "validation_dice_head":  # only the head's Dice counts
        assert run.best_value > (0.9 if network is NETWORK else 0.85)
        assert history["train_loss"].iloc[-1] < 0.7 * first["train_loss"]
        assert (history["selection"] == history["validation_dice_head"]).all()
        assert lines[0].startswith(f"epoch   1/{keys['epochs']}   loss ")
    else:
        assert history["validation_loss"].iloc[-1] < 0.5  # 1 for an all-zero output
        assert history["validation_error_percent"].iloc[-1] < 15
        assert (history["selection"] == -history["validation_error_percent"]).all()
        assert f"error (% of OFD) {-first['train_selection']:.4f} / {-first['selection']:.4f} *" in lines[0]
    config = training_params(**keys)
    state, objective = loop.initial_state(config, network, 1, "rel"), loop.objective_of(config, network, arrays)
    state.network = models.load(folder / "model.safetensors")
    _, sums = loop.validate(
        state, objective, FixedBatches(objective, arrays, arrays.rows(parts_of(arrays)["validation"]), 16)
    )
    assert objective.scores(sums)["selection"] == pytest.approx(run.best_value, rel=1e-5)


def test_a_finished_run_has_tables_weights_and_record_but_no_state(learned):
    folder, run, lines, arrays, *_ = learned
    assert {path.name for path in folder.iterdir()} - {".lock"} == {*STABLE, "timing.csv"}
    timing, about = pd.read_csv(folder / "timing.csv"), files.read_json(folder / "run.json")
    assert run.history["epoch"].tolist() == timing["epoch"].tolist() == list(range(1, len(lines) + 1))
    record = {"epochs": len(lines), "best_epoch": run.best_epoch, "device": "cpu", "precision": "float32", "threads": 1}
    record["torch"] = str(torch.__version__)
    assert record.items() <= about.items()
    assert about["train_cases"] == 2 * about["validation_cases"] == len(set(arrays.names)) * 2 // 3
    assert about["files"] == {name: files.sha256(folder / name) for name in ("model.safetensors", "history.csv")}


def test_the_history_tells_training_from_validation_values(tmp_path, monkeypatch):
    def train_epoch(state, *_):
        state.epoch.add(8, torch.tensor(0.75), counts_of(0.25), 0.0, 1.0)
        return state.epoch.sums()

    monkeypatch.setattr(loop, "train_epoch", train_epoch)
    script(monkeypatch, (0.9, 0.5))
    run, lines = fit(tmp_path, epochs=1, schedule="plateau")
    names = ["train_loss", "train_selection", "validation_loss", "selection"]
    assert run.history.loc[0, names].tolist() == [0.75, 0.25, 0.9, 0.5]
    assert "loss 0.7500 / 0.9000   pooled Dice 0.2500 / 0.5000 *" in lines[0]


@pytest.mark.parametrize(("metric", "best"), [("dice", 1), ("iou", 2)])
def test_dice_and_iou_of_several_classes_can_select_different_epochs(tmp_path, monkeypatch, metric, best):
    dice = [(0.75, 0.74), (1.0, 0.48)]  # of classes a and b by epoch
    script(monkeypatch, *((0.5, *pair) for pair in dice))
    keys = THREE | {"epochs": 2, "selection_metric": metric, "focal_weight": 0.5, "label_smoothing": 0.05}
    network, arrays = of_network(out_channels=3) | {"model": "segnet"}, builders.discs(12)
    arrays.masks[:, 14:18, 14:18] = 2
    run, lines = fit(tmp_path, arrays, network=network, **keys)
    means = {"dice": [np.mean(pair) for pair in dice], "iou": [np.mean([d / (2 - d) for d in pair]) for pair in dice]}
    assert run.history["selection"].tolist() == pytest.approx(means[metric], rel=1e-3)
    assert run.history[["validation_dice_a", "validation_dice_b"]].to_numpy() == pytest.approx(np.array(dice), rel=1e-3)
    assert (run.best_epoch, run.best_value) == (best, run.history["selection"].max())
    assert f"{ {'dice': 'Dice', 'iou': 'IoU'}[metric] } " in lines[0]
    assert type(models.load(tmp_path / "model.safetensors")).__name__ == "SegNet"


@pytest.mark.parametrize(("keys", "same"), [({}, True), ({"workers": 2}, True), ({"seed": 1}, False)], ids=str)
def test_a_seed_gives_equal_bytes_with_any_number_of_loader_processes(tmp_path, keys, same):
    fit(tmp_path / "a", epochs=2)
    fit(tmp_path / "b", epochs=2, **keys)
    assert (contents(tmp_path / "a") == contents(tmp_path / "b")) == same
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert (weights[0] == weights[1]) == same


def test_a_finished_run_is_loaded_and_no_file_changes(learned):
    folder, first, _, arrays, network, keys = learned
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.name != ".lock"}
    second, lines = fit(folder, arrays, None, network, **keys)
    assert lines == [f"already trained: best epoch {first.best_epoch}, validation value {first.best_value:.4f}"]
    assert all((path.read_bytes(), path.stat().st_mtime_ns) == value for path, value in before.items())
    pd.testing.assert_frame_equal(second.history, first.history, check_exact=True)
    assert (second.best_epoch, second.best_value) == (first.best_epoch, first.best_value)


class Compiled(torch.nn.Module):
    """Like the result of torch.compile, as far as names of weights are concerned."""

    def __init__(self, plain):
        super().__init__()
        self._orig_mod = plain
        self.forward = plain.forward


@pytest.mark.parametrize(
    "keys",
    [
        *({"schedule": schedule} for schedule in ("constant", "cosine", "one_cycle")),
        {"schedule": "plateau", "plateau_patience": 0, "learning_rate": 0.05},
        {"schedule": "constant", "optimizer": "adam", "weight_decay": 0.01},
        {"schedule": "constant", "early_stopping_patience": 3, "learning_rate": 0.1, "epochs": 12},
        {"schedule": "constant", "compile": True},
        LANDMARKS | {"schedule": "plateau", "plateau_patience": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("stops", [[1], [3], [1, 2, 3, 4, 5]], ids=str)
def test_an_interrupted_run_resumes_to_the_same_bytes(tmp_path, monkeypatch, keys, stops):
    monkeypatch.setattr(torch, "compile", lambda model, **_: Compiled(model))
    train, keys = fit_landmarks if "landmarks" in keys else fit, {"epochs": 5} | keys
    train(tmp_path / "unbroken", **keys)
    for epoch in stops:
        assert train(tmp_path / "broken", stop_after=epoch, **keys)[0] is None
        assert not (tmp_path / "broken" / "run.json").exists()
    _, lines = train(tmp_path / "broken", **keys)
    assert lines[0] == f"resuming after epoch {stops[-1]}"
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")


def start_child(folder):
    command, pipe = [sys.executable, "-c", TRAIN_AND_WAIT, str(folder)], subprocess.PIPE
    child = subprocess.Popen(command, cwd=files.ROOT, stdin=pipe, stdout=pipe, text=True)
    assert child.stdout.readline() == "waiting\n"
    return child


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path):
    fit(tmp_path / "unbroken", builders.discs(8))
    child = start_child(tmp_path / "broken")
    child.kill()
    child.communicate()
    _, lines = fit(tmp_path / "broken", builders.discs(8))
    assert lines[0] == "resuming after epoch 1"
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")


@pytest.mark.parametrize("length", [0, 10, 1000, -100])
def test_a_half_written_state_is_not_used(tmp_path, length):
    fit(tmp_path / "broken", stop_after=2)
    state = tmp_path / "broken" / "state.pt"
    state.write_bytes(state.read_bytes()[:length])
    _, lines = fit(tmp_path / "broken")
    fit(tmp_path / "unbroken")
    assert lines[0].startswith("state.pt cannot be read: moved the rest of the run to ")
    assert lines[1].startswith("epoch   1/")
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")


def test_a_second_process_waits_for_the_first_and_loads_its_run(tmp_path):
    child = start_child(tmp_path)
    with pytest.raises(Timeout):
        FileLock(tmp_path / ".lock").acquire(timeout=0)
    arrays, lines, logged = builders.discs(8), [], threading.Event()

    def log(line):
        lines.append(line)
        logged.set()

    arguments = (training_params(), NETWORK, arrays, parts_of(arrays), tmp_path, log)
    waiting = threading.Thread(target=loop.fit, args=arguments)
    waiting.start()
    assert logged.wait(60)  # logs at once that it waits
    child.communicate("\n")
    waiting.join()
    assert child.returncode == 0
    assert [line.split(" ")[:2] for line in lines] == [["this", "training:"], ["already", "trained:"]]


def fingerprint(network=NETWORK, arrays=None, parts=None, **keys):
    arrays = arrays or builders.discs(12)
    return files.digest(loop.dependencies(training_params(**keys), network, arrays, parts_of(arrays) | (parts or {})))


def test_the_fingerprint_depends_on_everything_that_affects_the_result_and_on_nothing_else(monkeypatch):
    names = builders.discs(12).names
    changes = [
        *({"epochs": 4}, {"learning_rate": 0.02}, {"seed": 1}, {"fold": 1}, {"rotation_deg": 5.0}, {"compile": True}),
        *({"network": NETWORK | {key: value}} for key, value in (("model", "segnet"), ("encoder_weights", "imagenet"))),
        *({"network": of_network(depth=3)}, {"arrays": builders.discs(12, seed=1)}),
        *({"parts": {"train": some}} for some in (names[1:8], names[7::-1])),
        {"parts": {"validation": names[9:]}},
    ]
    made_anew = {"arrays": replace(builders.discs(12), fingerprint="by other code")}  # with the same bytes
    same = [made_anew, {"workers": 4}, {"study": "other"}, {"tensorboard_every": 2, "tensorboard_images": 9}]
    assert {fingerprint(**each) for each in [*same, {"parts": {"test": ["disc0"]}}]} == {fingerprint()}
    distinct = {fingerprint(), *(fingerprint(**each) for each in changes)}
    monkeypatch.setattr(provenance, "module_hashes", lambda _: {"lib.training.loop": "changed"})
    assert len(distinct | {fingerprint()}) == len(changes) + 2


def rates_of(folder, schedule, **keys):
    return fit(folder, schedule=schedule, **keys)[0].history["learning_rate"].to_numpy()


def test_learning_rates_of_the_schedules_by_epoch(tmp_path):
    names = ("constant", "cosine", "one_cycle")
    constant, cosine, one_cycle = (rates_of(tmp_path / name, name, epochs=6) for name in names)
    assert constant == pytest.approx(np.full(6, 0.01))
    assert cosine == pytest.approx(0.01 * (1 + np.cos(np.pi * np.arange(6) / 6)) / 2)
    assert one_cycle[0] == pytest.approx(0.01 / 25)
    assert 0.009 < one_cycle.max() <= 0.01
    assert one_cycle[5] < 0.01 / 5


@pytest.mark.parametrize(("epochs", "share"), [(3, 0.25), (9, 0.1), (1, 0.5)])
def test_a_warm_up_of_exactly_one_step_is_allowed(tmp_path, epochs, share):
    keys = {"epochs": epochs, "batch_size": 8}  # one step per epoch
    exact = rates_of(tmp_path / "exact", "one_cycle", warm_up_fraction=share, **keys)
    above = rates_of(tmp_path / "above", "one_cycle", warm_up_fraction=share * (1 + 1e-7), **keys)
    assert exact == pytest.approx(above, rel=1e-5)
    assert exact[0] == pytest.approx(0.01 / 25)


@pytest.mark.parametrize(
    ("train", "figures", "factor", "patience", "rates"),
    [
        (fit, [0.5, 0.6, 0.6, 0.7, 0.65, 0.8], 0.1, 0, [1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4]),
        (fit, [0.5, 0.5, 0.5, 0.5, 0.5, 0.5], 0.5, 1, [1e-2, 1e-2, 1e-2, 5e-3, 5e-3, 2.5e-3]),
        (fit_landmarks, [0.3, 0.24, 0.24, 0.21, 0.21, 0.18], 0.1, 0, [1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4]),
    ],
)
def test_plateau_reduces_the_rate_after_epochs_without_improvement(
    tmp_path, monkeypatch, train, figures, factor, patience, rates
):
    script(monkeypatch, *((0.5, figure) for figure in figures))
    keys = {"schedule": "plateau", "plateau_factor": factor, "plateau_patience": patience, "epochs": 6}
    assert train(tmp_path, **keys)[0].history["learning_rate"].tolist() == pytest.approx(rates)


def test_training_stops_early_without_improvement(tmp_path, monkeypatch):
    script(monkeypatch, *((0.5, dice) for dice in [0.5, 0.4, 0.6, 0.6, 0.5, 0.9]))
    run, lines = fit(tmp_path, epochs=6, early_stopping_patience=2)
    assert lines[-1] == "stopped early: no improvement in the last 2 epochs"
    assert (len(run.history), run.best_epoch, run.best_value) == (5, 3, 0.6)
    assert files.read_json(tmp_path / "run.json")["stopped_early"]


@pytest.mark.parametrize(
    ("train", "factor", "validated", "message"),
    [
        (fit, float("nan"), (0.5, 0.5), r"the loss became nan in epoch 1, batch 1 \(disc\d, .*\): .* learning_rate"),
        (fit, 1.0, (float("nan"), 0.5), "the validation loss became nan in epoch 1: .* learning_rate"),
        (fit, 1.0, (float("inf"), 0.5), "the validation loss became inf in epoch 1"),
        (fit_landmarks, 1.0, (0.5, float("nan")), "the validation value became nan in epoch 1"),
    ],
)
def test_a_training_that_diverges_is_refused_also_when_it_is_resumed(
    tmp_path, monkeypatch, train, factor, validated, message
):
    real = losses.combined
    monkeypatch.setattr(losses, "combined", lambda *arguments: real(*arguments) * factor)
    script(monkeypatch, validated)
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            train(tmp_path)
    assert (tmp_path / "state.pt").is_file() == (factor == 1)  # no state of a diverged network


@pytest.mark.parametrize(
    ("train", "epochs", "best", "warned"),
    [
        (fit, [(0.9, 0.0), (0.7, 0.0), (0.8, 0.0)], (2, 0), True),
        (fit_landmarks, [(1.0, 3.0), (0.9, 3.0), (0.95, 3.0)], (2, -100), True),  # an error of one OFD
        (fit, [(0.5, 0.0), (0.9, 0.1), (0.4, 0.1)], (2, 0.1), False),  # better despite its loss
    ],
)
def test_if_all_predictions_are_empty_the_smallest_validation_loss_is_kept_and_logged(
    tmp_path, monkeypatch, train, epochs, best, warned
):
    script(monkeypatch, *epochs)
    run, lines = train(tmp_path)
    assert (run.best_epoch, run.best_value) == best
    assert any(line.startswith("all predictions on the validation cases are empty") for line in lines) == warned


def test_unusable_arrays_and_configurations_are_refused_before_training(tmp_path):
    arrays, deep = builders.discs(6), of_network(depth=5)
    arrays.masks[4:] = 0
    with pytest.raises(ValueError, match="fold 2: none of its 2 validation cases contains head; set another"):
        fit(tmp_path / "run", arrays, fold=2)
    with pytest.raises(ValueError, match=r"batch_size = 7   8 training images .*\[32, 32\] leaves 1 x 1"):
        fit(tmp_path / "run", network=deep, batch_size=7)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="out_channels = 1: heatmaps need 2"):
        fit_landmarks(tmp_path / "run", network=NETWORK)
    assert not (tmp_path / "run" / "run.json").exists()
    assert fit(tmp_path, network=deep, batch_size=6, epochs=1)[0].best_epoch == 1  # two images suffice


EXTREME = [
    *({"learning_rate": 1.0e-320}, {"weight_decay": 1.0}, {"gradient_clip": 1.0e-320}, {"gradient_clip": 1.0e308}),
    *({"batch_size": 1}, {"batch_size": 1024}, {"seed": 2**63 - 1}, {"early_stopping_patience": 10**30}),
    *({"focal_weight": 1.0, "focal_gamma": 0.01}, {"label_smoothing": 0.999999999999}, {"area_weight_floor": 0.0}),
    {"oversample_classes": ["head"], "oversample_factor": 100.0},
    *({"schedule": "one_cycle", "warm_up_fraction": share} for share in (1.0e-12, 0.9999999999999999)),
    {"schedule": "plateau", "plateau_factor": 1.0e-300, "plateau_patience": 0},
    {"cross_entropy_weight": 0.0, "dice_weight": 1.0e-320},
    {"shift_fraction": 0.5, "scale_fraction": 0.5, "rotation_deg": 180.0, "affine_probability": 1.0},
]


@pytest.mark.slow
@pytest.mark.parametrize("keys", EXTREME, ids=str)
@pytest.mark.parametrize("kind", ["regions", "landmarks"])
def test_extreme_allowed_values_train(tmp_path, keys, kind):
    keys = {"epochs": 2} | keys
    run, _ = fit(tmp_path, builders.discs(7), **keys) if kind == "regions" else fit_landmarks(tmp_path, 7, **keys)
    assert len(run.history) == 2
    assert np.isfinite(run.history[["train_loss", "validation_loss", "selection"]]).all(axis=None)


def test_gradients_are_clipped_to_the_maximum_norm(tmp_path, monkeypatch):
    norms, real = [], torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda w, norm: norms.append(norm) or real(w, norm))
    fit(tmp_path, gradient_clip=0.25, epochs=1)
    assert norms == [0.25, 0.25]  # two steps of four images


def clipped_steps(arrays, norm, scaler, portion):
    """Losses of six steps on one batch, and the weights after them."""
    plain, keys = of_network(normalisation="none"), {"deterministic": False, "optimizer": "adamw"}
    config = training_params(**keys, schedule="constant", cross_entropy_class_weights=[0.5, 2.0])
    state, objective = loop.initial_state(config, plain, 9, "rel"), loop.objective_of(config, plain, arrays)
    state.scaler, state.portion = scaler or state.scaler, portion
    batch = next(iter(FixedBatches(objective, arrays, np.arange(8), 8)))
    state.network.train()
    values = [float(loop.step(state, objective, *batch, norm)[0]) for _ in range(6)]
    return values, torch.cat([each.detach().flatten() for each in state.model.parameters()]).numpy()


@pytest.mark.parametrize("portion", [None, 3])
def test_a_scaled_loss_gives_the_clipped_steps_of_an_unscaled_one(portion):
    arrays, norm = builders.discs(8), 0.05
    values, weights = clipped_steps(arrays, norm, None, None)
    scaled, weights_of_scaled = clipped_steps(arrays, norm, torch.amp.GradScaler("cpu", enabled=True), portion)
    assert scaled == pytest.approx(values, rel=1e-4)
    assert weights_of_scaled == pytest.approx(weights, abs=2e-5)
    _, unclipped = clipped_steps(arrays, None, None, None)
    assert np.abs(unclipped - weights).max() > 1e-3


def test_validation_loss_is_the_mean_of_the_configured_loss_over_cases():
    arrays, config = builders.discs(inference.BATCH + 3), training_params()
    state, objective = loop.initial_state(config, NETWORK, 1, "rel"), loop.objective_of(config, NETWORK, arrays)
    loss, counts = loop.validate(state, objective, FixedBatches(objective, arrays, np.arange(len(arrays.names)), 16))
    with torch.inference_mode():
        logits = state.network(inference.to_input(arrays.images, torch.device("cpu")))
        reference = torch.as_tensor(arrays.masks).long()
        expected = losses.combined(logits, reference, loop.mixture_of(config))
    assert loss == pytest.approx(float(expected), rel=1e-4)
    assert counts.tolist() == objective.tally(logits, reference).tolist()
    assert counts.sum() == arrays.masks.size


@pytest.mark.parametrize(
    ("keys", "rows", "weights"),
    [
        (THREE, [3, 0, 1, 2], [3, 1, 1, 1]),
        ({"area_weight_floor": 0.2}, [3, 0, 1, 2], [0.9, 0.3, 0.7, 0.1]),  # 0.1 + 0.8 * (1, 1/4, 3/4, 0)
        (THREE | {"area_weight_floor": 0.2}, [0, 1, 2, 3], [0.3, 0.7, 0.1, 2.7]),
    ],
)
def test_slices_are_weighted_by_rare_classes_and_their_fraction_of_the_patient_s_foreground(keys, rows, weights):
    arrays = builders_tasks.volumes(2, slices=2)
    arrays.masks[:] = 0
    for row, pixels in enumerate([1, 3, 0, 2]):
        arrays.masks[row, 0, :pixels] = 1
    arrays.masks[3, 0, 0] = 2
    assert loop.case_weights(training_params(**keys), arrays, np.array(rows)) == pytest.approx(weights)


def test_without_oversampling_and_area_weights_no_mask_is_read():
    arrays = replace(builders.discs(6), masks=None)
    assert loop.case_weights(training_params(oversample_classes=[]), arrays, np.arange(1, 5)).tolist() == [1] * 4


def test_compile_and_tensorboard_change_neither_weights_nor_their_names(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model, **_: compiled.append(Compiled(model)) or compiled[-1])
    fit(tmp_path / "plain")
    fit(tmp_path / "watched", tensorboard_every=1)
    assert not compiled
    assert contents(tmp_path / "watched") == contents(tmp_path / "plain")
    assert any((tmp_path / "watched" / "tensorboard").iterdir())
    assert not (tmp_path / "plain" / "tensorboard").exists()
    fit(tmp_path / "compiled", compile=True)
    assert all(name.startswith("_orig_mod.") for name in compiled[0].state_dict())
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "compiled")]
    assert weights[0] == weights[1]
