"""One training run: read from top to bottom, it is the whole protocol.

A run owns its folder: `state.pt` after every epoch (so that a killed run goes on where it was), and at its end
`model.safetensors` of the best epoch, `history.csv`, `timing.csv`, and `run.json` last. A finished run is loaded, not
trained again; another run in the folder is set aside until this one is whole. On a CPU a run repeats to the byte with
the same number of threads; a GPU does not promise that.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lib import models
from lib.data.arrays import Arrays
from lib.models import devices, inference
from lib.study import files, locks, param_rules, provenance
from lib.study.params import TrainingParams
from lib.training import batches, checkpoint, objectives, sampling, tensorboard
from lib.training.augmentation import Augmentation
from lib.training.batches import AugmentedCases
from lib.training.checkpoint import Run
from lib.training.objectives import Task

# They do not change the result; `compile` may change its last digits.
NOT_IN_FINGERPRINT = {"study", "dataset", "workers", "tensorboard_every", "tensorboard_images"}


@dataclass(frozen=True)
class Learner:
    """A network that learns.

    Attributes:
        network: as it is called, compiled perhaps; its weights are those of the plain model.
        task: what it learns.
        device, precision: where and how it computes.
    """

    network: nn.Module
    task: Task
    device: torch.device
    precision: torch.dtype


def fit(
    chosen: TrainingParams,
    network: dict[str, Any],
    arrays: Arrays,
    parts: dict[str, list[str]],
    folder: Path,
    say: Callable[[str], None] = print,
) -> Run:
    """Trains one network on one fold, or goes on with it, or loads it.

    Args:
        chosen: the keys of 04_training.
        network: as models.describe gives it.
        arrays: preprocessed cases.
        parts: names of the cases to train and validate on.
        folder: of this run; locked while it is used.
        say: gets one line an epoch, and one for each thing that is not as it was left.

    Raises:
        ValueError: device or precision is not to be had, a class or landmark is shown by no case, or training
            diverged.
    """
    check_before(chosen, network, arrays, parts)
    with locks.held(folder / ".lock", "this training", say):  # who outlived a kill may still train here
        whole = made_of(chosen, network, arrays, parts)
        finished = checkpoint.load_finished(folder, whole, say)
        if finished is not None:
            say(f"trained before: epoch {finished.best_epoch}, validation value {finished.best_value:.4f}")
            return finished
        return _train(chosen, network, arrays, parts, folder, whole, say)


def check_before(chosen: TrainingParams, network: dict[str, Any], arrays: Arrays, parts: dict[str, list[str]]) -> None:
    """Refuses what would fail, or teach nothing, only after hours.

    Raises:
        ValueError: a class or landmark is shown by no case, or a last batch of one image cannot be normalised.
    """
    unshown = sampling.unshown(chosen.pick(sampling.Weighed), arrays, parts, chosen.fold)
    if unshown:
        raise ValueError("\n".join(unshown))
    rows, size, given = len(arrays.rows(parts["train"])), list(arrays.images.shape[2:]), network["arguments"]
    depth, normalisation = given.get("depth", param_rules.RESNET_DEPTH), given.get("normalisation", "batch")
    if rows % chosen.batch_size == 1 % chosen.batch_size and param_rules.ends_in_one_pixel(
        size, depth, network["model"], normalisation
    ):
        raise ValueError(
            f"batch_size = {chosen.batch_size}   {rows} training images leave a last batch of one, and image_size "
            f"{size} leaves 1 x 1 pixels after {depth} poolings: batch normalisation has one value to go by; give "
            "another batch_size, a smaller depth or a larger image_size"
        )


def made_of(
    chosen: TrainingParams, network: dict[str, Any], arrays: Arrays, parts: dict[str, list[str]]
) -> dict[str, Any]:
    """What a run depends on: its keys, network, arrays, cases, and the code that training reaches."""
    return {
        "keys": chosen.model_dump(exclude=NOT_IN_FINGERPRINT),
        "network": {name: value for name, value in network.items() if name != "arguments"} | network["arguments"],
        "arrays": arrays.fingerprint,
        "cases": {name: files.digest(parts[name]) for name in ("train", "validation")},
        "code": provenance.module_hashes({"lib.training.loop"}),
    }


def _train(
    chosen: TrainingParams,
    network: dict[str, Any],
    arrays: Arrays,
    parts: dict[str, list[str]],
    folder: Path,
    whole: dict[str, Any],
    say: Callable[[str], None],
) -> Run:
    train_rows, validation_rows = arrays.rows(parts["train"]), arrays.rows(parts["validation"])
    weights = case_weights(chosen, arrays, train_rows)
    learner, moving = begin(chosen, network, arrays, steps=-(-len(train_rows) // chosen.batch_size))
    machine = _machine(learner)
    mark = whole | {"machine": machine}  # a state goes on only where its bytes came from
    so_far = checkpoint.resume(folder, mark, moving, say)
    model, task, history, timing = moving["model"], learner.task, so_far["history"], so_far["timing"]
    cases = AugmentedCases(arrays, chosen.pick(Augmentation), chosen.seed, task)

    with tensorboard.writer(chosen.tensorboard_every, folder / "tensorboard", len(history) + 1) as board:
        for epoch in range(len(history) + 1, chosen.epochs + 1):
            if _is_exhausted(history, chosen.early_stopping_patience):
                say(f"stopped early: no better epoch for {chosen.early_stopping_patience}")
                break
            started = time.perf_counter()
            order = sampling.epoch_rows(train_rows, weights, chosen.seed, epoch)
            rate = moving["optimizer"].param_groups[0]["lr"]
            loaded = batches.load(cases, order, epoch, chosen.batch_size, chosen.workers)
            train_loss, train_sums = train_epoch(learner, moving, loaded, chosen)
            train_seconds = time.perf_counter() - started

            validation_loss, validation_sums = validate(learner, arrays, validation_rows)
            scores = task.scores(validation_sums)
            selection = scores.pop("selection")
            _check_finite(epoch, {"validation loss": validation_loss, "validation value": selection})
            if chosen.schedule == "plateau":
                moving["schedule"].step(selection)
            best = all(_is_better(selection, validation_loss, row, task.blank) for row in history)
            history.append(
                {
                    "epoch": epoch,
                    "train_loss": train_loss,
                    "train_selection": task.scores(train_sums)["selection"],
                    "validation_loss": validation_loss,
                    **{f"validation_{name}": value for name, value in scores.items()},
                    "selection": selection,
                    "learning_rate": rate,
                    "best": best,
                }
            )
            seconds = time.perf_counter() - started
            timing.append({"epoch": epoch, "seconds": seconds, "images_per_second": len(order) / train_seconds})
            if best:
                so_far["weights"] = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            _watch(board, history[-1], learner, arrays, validation_rows, chosen)
            checkpoint.save_state(folder / "state.pt", mark, moving, so_far)
            say(tensorboard.progress(history[-1], timing[-1], chosen.epochs, task.metric))
    if max(row["selection"] for row in history) == task.blank:
        say("no epoch found anything in the validation cases: that of the smallest validation loss is kept")
    described = (network["model"], network["arguments"])
    models.save(folder / "model.safetensors", *described, so_far["weights"], _use(chosen, learner, arrays))
    about = machine | {f"{name}_cases": len(parts[name]) for name in ("train", "validation")}
    return checkpoint.finish(folder, whole, history, timing, chosen.epochs, about)


def _machine(learner: Learner) -> dict[str, Any]:
    """What of the machine decides about a run's bytes: sums on a CPU depend on the number of threads."""
    threads = torch.get_num_threads() if learner.device.type == "cpu" else None
    precision = str(learner.precision).removeprefix("torch.")
    return {"device": learner.device.type, "precision": precision, "threads": threads}


def _check_finite(epoch: int, values: dict[str, float]) -> None:
    for name, value in values.items():
        if not np.isfinite(value):
            raise ValueError(
                f"the {name} became {value} in epoch {epoch}: training diverged; try a lower learning_rate, or "
                "float32 as precision"
            )


def _is_better(selection: float, validation_loss: float, than: dict[str, Any], blank: float) -> bool:
    """Whether an epoch is better than another; of two that found nothing at all, the one of the smaller loss."""
    if selection == than["selection"] == blank:
        return validation_loss < than["validation_loss"]
    return selection > than["selection"]


def case_weights(chosen: TrainingParams, arrays: Arrays, rows: np.ndarray) -> np.ndarray:
    """How often each training row is drawn, relative to the others: (rows,)."""
    masks = arrays.masks[rows]
    rare = [chosen.classes.index(name) for name in chosen.oversample_classes]
    weights = sampling.case_weights(masks, rare, chosen.oversample_factor)
    if chosen.area_weight_floor is None:
        return weights
    return weights * sampling.area_weights(masks, [arrays.names[row] for row in rows], chosen.area_weight_floor)


def begin(
    chosen: TrainingParams, network: dict[str, Any], arrays: Arrays, steps: int
) -> tuple[Learner, dict[str, Any]]:
    """A network before its first step, and what moves as it learns: model, optimizer, schedule, scaler.

    Args:
        chosen: the keys of 04_training.
        network: as models.describe gives it.
        arrays: preprocessed cases.
        steps: batches an epoch.

    Raises:
        ValueError: device or precision is not to be had, or network or arrays do not fit the task.
    """
    device = devices.choose(chosen.device)
    precision = devices.choose_precision(chosen.precision, device)
    task = objectives.of_training(chosen, network, arrays)
    torch.manual_seed(chosen.seed)
    model = models.start(network).to(device, memory_format=torch.channels_last)
    optimizer = _optimizer(chosen, model)
    schedule = _schedule(chosen, optimizer, steps, task)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    called = torch.compile(model) if chosen.compile else model  # shares its weights, but names them otherwise
    moving = {"model": model, "optimizer": optimizer, "schedule": schedule, "scaler": scaler}
    return Learner(called, task, device, precision), moving


def train_epoch(
    learner: Learner,
    moving: dict[str, Any],
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    chosen: TrainingParams,
) -> tuple[float, torch.Tensor]:
    """One pass over the training cases: mean loss, and the task's tally.

    Raises:
        ValueError: the loss is not finite.
    """
    model, optimizer, scaler = moving["model"], moving["optimizer"], moving["scaler"]
    task, device = learner.task, learner.device
    learner.network.train()
    loss_sum, seen, tallies = torch.zeros((), device=device), 0, []
    for images, targets in batches:
        targets = targets.to(device, non_blocking=True)  # (N, H, W) masks or (N, K, H, W) heatmaps
        logits = inference.forward(learner.network, inference.to_input(images, device), learner.precision)
        loss = task.loss(logits, targets)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        if chosen.gradient_clip is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), chosen.gradient_clip)
        scaler.step(optimizer)
        scaler.update()
        if chosen.schedule != "plateau":
            moving["schedule"].step()
        loss_sum += loss.detach() * len(images)
        tallies.append(task.tally(logits.detach(), targets))
        seen += len(images)
    mean_loss = float(loss_sum) / seen
    if not np.isfinite(mean_loss):
        raise ValueError(f"the loss became {mean_loss}: training diverged; try a lower learning_rate")
    return mean_loss, torch.stack(tallies).sum(dim=0)


def _optimizer(chosen: TrainingParams, model: nn.Module) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[chosen.optimizer]
    return kind(model.parameters(), lr=chosen.learning_rate, weight_decay=chosen.weight_decay)


def _schedule(chosen: TrainingParams, optimizer: torch.optim.Optimizer, steps: int, task: Task) -> Any:
    """The learning rate's course: by step, and by epoch for plateau."""
    total = steps * chosen.epochs
    rates = torch.optim.lr_scheduler
    if chosen.schedule == "cosine":
        return rates.CosineAnnealingLR(optimizer, T_max=total)
    if chosen.schedule == "one_cycle":
        share = chosen.warm_up_fraction
        if share * (total + 1) == 1:  # torch divides by the length of the rise, which would be 0: a step and a bit
            share *= 1 + 1e-9
        # One step more than there are: the last call would otherwise be past the end.
        return rates.OneCycleLR(
            optimizer, max_lr=chosen.learning_rate, total_steps=total + 1, pct_start=share, cycle_momentum=False
        )
    if chosen.schedule == "plateau":
        return rates.ReduceLROnPlateau(
            optimizer,
            mode="max",
            factor=chosen.plateau_factor,
            patience=chosen.plateau_patience,
            threshold_mode=task.threshold_mode,
        )
    return rates.ConstantLR(optimizer, factor=1.0, total_iters=0)


def validate(learner: Learner, arrays: Arrays, rows: np.ndarray) -> tuple[float, torch.Tensor]:
    """Mean loss, and the task's tally, on validation cases at network size."""
    loss_sum, tallies = torch.zeros((), device=learner.device), []
    for first in range(0, len(rows), inference.BATCH):
        batch = rows[first : first + inference.BATCH]
        logits, targets = compare(learner, arrays, batch)
        loss_sum += learner.task.loss(logits, targets) * len(batch)
        tallies.append(learner.task.tally(logits, targets))
    return float(loss_sum) / len(rows), torch.stack(tallies).sum(dim=0)


@torch.inference_mode()
def compare(learner: Learner, arrays: Arrays, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of some rows as they are, in one batch, and what they are to be."""
    learner.network.eval()
    targets = torch.as_tensor(objectives.targets(learner.task, arrays, rows))
    inputs = inference.to_input(arrays.images[rows], learner.device)
    logits = inference.forward(learner.network, inputs, learner.precision)
    return logits, targets.to(learner.device)


def _is_exhausted(history: list[dict[str, Any]], patience: int | None) -> bool:
    """Whether the last `patience` epochs brought nothing better."""
    best = max((row["epoch"] for row in history if row["best"]), default=0)
    return patience is not None and len(history) - best >= patience


def _watch(
    board: Any, row: dict[str, Any], learner: Learner, arrays: Arrays, rows: np.ndarray, chosen: TrainingParams
) -> None:
    """Shows an epoch in TensorBoard, where a study wants it."""
    if tensorboard.is_due(chosen.tensorboard_every, row["epoch"]):
        picked = sampling.spread(arrays.masks, rows, chosen.tensorboard_images)
        found, there = (learner.task.areas(each).cpu().numpy() for each in compare(learner, arrays, picked))
        tensorboard.add_pictures(board, row["epoch"], arrays, picked, there, found)
    tensorboard.add_scalars(board, row)


def _use(chosen: TrainingParams, learner: Learner, arrays: Arrays) -> dict[str, Any]:
    """What the file of weights says to whoever uses them, as far as it is known when they are trained."""
    return {
        "study": chosen.study,
        "dataset": chosen.dataset,
        "classes": chosen.classes,
        "landmarks": chosen.landmarks,
        "preparation": arrays.preparation,
        "training_precision": str(learner.precision).removeprefix("torch."),
    }
