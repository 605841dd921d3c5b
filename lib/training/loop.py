"""One training run: the whole protocol, to be read from top to bottom.

A run owns its folder. It writes `state.pt` after every epoch, so that a killed run resumes, and at the end
`model.safetensors` of the best epoch, `history.csv`, `timing.csv` and finally `run.json`. A finished run is loaded
instead of trained again; another run in the folder is moved to `.set_aside` until this one is complete. On a CPU a run
is reproducible to the byte with the same number of threads; on a GPU this is not guaranteed.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from lib import losses, models
from lib.data.arrays import Arrays
from lib.models import inference
from lib.study import files, locks, param_rules, params, provenance
from lib.study.params import TrainingParams
from lib.training import batches, checkpoint, history, objectives, sampling, tensorboard
from lib.training.augmentation import Augmentation
from lib.training.batches import AugmentedCases, Batches
from lib.training.checkpoint import Dependencies, Log, Run
from lib.training.objectives import Objective, RegionObjective
from lib.training.state import TrainingState, fresh_state

Network = dict[str, Any]  # a `models.describe` record
Parts = dict[str, list[str]]  # case names of "train", "validation" and "test"
Images = np.ndarray | torch.Tensor
# These do not change the result; `compile` may change its last digits.
NOT_IN_FINGERPRINT = {"study", "dataset", "workers", "tensorboard_every", "tensorboard_images"}


def fit(config: TrainingParams, network: Network, arrays: Arrays, parts: Parts, folder: Path, log: Log = print) -> Run:
    """Trains one network on one fold, resumes its training or loads the finished run; locks the folder meanwhile.

    `log` gets one line per epoch and per missing or changed file. ValueError: unavailable device or precision, a class
    or landmark missing from the training or validation cases, or diverged training.
    """
    check_trainable(config, network, arrays, parts)
    with locks.locked(folder / ".lock", "this training", log):  # a process that survived a kill may still train here
        depends_on = dependencies(config, network, arrays, parts)
        finished = checkpoint.load_finished(folder, depends_on, log)
        if finished is not None:
            log(f"already trained: best epoch {finished.best_epoch}, validation value {finished.best_value:.4f}")
            return finished
        return _train(config, network, arrays, parts, folder, depends_on, log)


def check_trainable(config: TrainingParams, network: Network, arrays: Arrays, parts: Parts) -> None:
    """ValueError if a class or landmark is missing, or batch normalisation would get a single value."""
    missing = sampling.missing_targets(params.pick(config, sampling.ClassWeights), arrays, parts, config.fold)
    if missing:
        raise ValueError("\n".join(missing))
    rows, size, arguments = len(arrays.rows(parts["train"])), list(arrays.images.shape[2:]), network["arguments"]
    depth, normalisation = arguments.get("depth", param_rules.RESNET_DEPTH), arguments.get("normalisation", "batch")
    leaves_one_image = rows % config.batch_size == 1 % config.batch_size
    if leaves_one_image and param_rules.ends_in_one_pixel(size, depth, network["model"], normalisation):
        raise ValueError(
            f"batch_size = {config.batch_size}   {rows} training images leave a last batch of one, and image_size "
            f"{size} leaves 1 x 1 pixels after {depth} poolings: batch normalisation needs more than one value; set "
            "another batch_size, a smaller depth or a larger image_size"
        )


def dependencies(config: TrainingParams, network: Network, arrays: Arrays, parts: Parts) -> Dependencies:
    """Everything that a run's result depends on: keys, network, arrays, cases, and the code that training imports."""
    return {
        "keys": config.model_dump(exclude=NOT_IN_FINGERPRINT),
        "network": {name: value for name, value in network.items() if name != "arguments"} | network["arguments"],
        "arrays": arrays.fingerprint,
        "cases": {name: files.digest(parts[name]) for name in ("train", "validation")},
        "code": provenance.module_hashes({"lib.training.loop"}),
    }


def _train(
    config: TrainingParams, network: Network, arrays: Arrays, parts: Parts, folder: Path, origin: Dependencies, log: Log
) -> Run:
    train_rows, validation_rows = arrays.rows(parts["train"]), arrays.rows(parts["validation"])
    weights = case_weights(config, arrays, train_rows)
    objective = objective_of(config, network, arrays)
    empty = objective.empty_score
    state = initial_state(config, network, -(-len(train_rows) // config.batch_size), objective.threshold_mode)
    machine = _machine(state)
    state_origin = origin | {"machine": machine}  # a run resumed elsewhere would not repeat to the byte
    checkpoint.resume(folder, state_origin, state, log)
    cases = AugmentedCases(arrays, params.pick(config, Augmentation), config.seed, objective)

    with tensorboard.writer(config.tensorboard_every, folder / "tensorboard", len(state.history) + 1) as board:
        for epoch in range(len(state.history) + 1, config.epochs + 1):
            if history.should_stop(state.history, config.early_stopping_patience):
                log(f"stopped early: no improvement in the last {config.early_stopping_patience} epochs")
                break
            started = time.perf_counter()
            order = sampling.epoch_rows(train_rows, weights, config.seed, epoch)
            rate = state.optimizer.param_groups[0]["lr"]
            loaded = batches.load(cases, order, epoch, config.batch_size, config.workers)
            by_step = config.schedule != "plateau"
            train_loss, train_sums = train_epoch(state, objective, loaded, config.gradient_clip, by_step)
            train_seconds = time.perf_counter() - started

            validation_loss, validation_sums = validate(state, objective, arrays, validation_rows)
            scores = objective.scores(validation_sums)
            selection = scores["selection"]
            history.check_finite(epoch, {"validation loss": validation_loss, "validation value": selection})
            if not by_step:
                state.schedule.step(selection)
            best = all(history.is_better(selection, validation_loss, row, empty) for row in state.history)
            train = train_loss, objective.scores(train_sums)
            state.history.append(history.row(epoch, rate, train, (validation_loss, scores), best))
            speed = {"seconds": time.perf_counter() - started, "images_per_second": len(order) / train_seconds}
            state.timing.append({"epoch": epoch} | speed)
            if best:
                state.keep_weights()
            _log_to_tensorboard(board, state, objective, arrays, validation_rows, config)
            state.save(folder / "state.pt", state_origin)
            log(history.progress(state.history[-1], state.timing[-1], config.epochs, objective.metric))
    if max(row["selection"] for row in state.history) == empty:
        log("all predictions on the validation cases are empty: keeping the epoch with the smallest validation loss")
    metadata = {name: getattr(config, name) for name in ("study", "dataset", "classes", "landmarks")}
    metadata |= {"preparation": arrays.preparation, "training_precision": machine["precision"]}
    models.save(folder / "model.safetensors", network["model"], network["arguments"], state.weights, metadata)
    about = machine | {f"{name}_cases": len(parts[name]) for name in ("train", "validation")}
    return checkpoint.finish(folder, origin, state.history, state.timing, config.epochs, about)


def _machine(state: TrainingState) -> dict[str, Any]:
    """Properties of the machine that affect a run's bytes; on a CPU, sums depend on the number of threads."""
    threads = torch.get_num_threads() if state.device.type == "cpu" else None
    precision = str(state.precision).removeprefix("torch.")
    return {"device": state.device.type, "precision": precision, "threads": threads}


def case_weights(config: TrainingParams, arrays: Arrays, rows: np.ndarray) -> np.ndarray:
    """Relative sampling weight of each training row: (rows,)."""
    rare = [config.classes.index(name) for name in config.oversample_classes or []]
    weights = sampling.case_weights(arrays.masks, rows, rare, config.oversample_factor or 1.0)
    if config.area_weight_floor is None:
        return weights
    names = [arrays.names[row] for row in rows]
    return weights * sampling.area_weights(arrays.masks, rows, names, config.area_weight_floor)


def objective_of(config: TrainingParams, network: Network, arrays: Arrays) -> Objective:
    """Heatmaps or class regions; ValueError if the network or the arrays do not fit a study of landmarks."""
    if config.learns_landmarks:
        return objectives.heatmap_objective(network, arrays)
    weights = config.selection_class_weights
    return RegionObjective(config.classes, mixture_of(config), config.selection_metric, weights)


def mixture_of(config: TrainingParams) -> losses.Mixture:
    """The loss set by a study file."""
    return losses.Mixture(
        cross_entropy=config.cross_entropy_weight,
        focal=config.focal_weight,
        dice=config.dice_weight,
        class_weights=config.cross_entropy_class_weights or [],
        dice_class_weights=config.dice_class_weights or [],
        label_smoothing=config.label_smoothing or 0.0,
        focal_gamma=config.focal_gamma or 0.0,
    )


def initial_state(
    config: TrainingParams, network: Network, steps: int, threshold_mode: Literal["rel", "abs"]
) -> TrainingState:
    """The state before the first step; `steps` is per epoch, `threshold_mode` the objective's."""
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    optimizer = partial(kind, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = partial(_schedule, config, steps, threshold_mode)
    return fresh_state(network, config.seed, config.device, config.precision, optimizer, schedule, config.compile)


def train_epoch(
    state: TrainingState, objective: Objective, loaded: Batches, gradient_clip: float | None, by_step: bool
) -> tuple[float, torch.Tensor]:
    """One epoch over batches of images and targets: mean loss and the objective's tally; ValueError if not finite.

    The schedule is stepped after each batch if `by_step`; else the caller steps it once per epoch.
    """
    state.network.train()
    loss_sum, count, tallies = torch.zeros((), device=state.device), 0, []
    for images, targets in loaded:
        targets = targets.to(state.device, non_blocking=True)  # (N, H, W) masks or (N, K, H, W) heatmaps
        loss, logits = step(state, objective, images, targets, gradient_clip)
        if by_step:
            state.schedule.step()
        loss_sum += loss * len(images)
        tallies.append(objective.tally(logits, targets))
        count += len(images)
    mean_loss = float(loss_sum) / count
    if not np.isfinite(mean_loss):
        raise ValueError(f"the loss became {mean_loss}: training diverged; try a lower learning_rate")
    return mean_loss, torch.stack(tallies).sum(dim=0)


def step(
    state: TrainingState, objective: Objective, images: Images, targets: torch.Tensor, gradient_clip: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """One optimizer step on images (N, C, H, W) and the objective's targets: loss and logits before the step."""
    logits = inference.forward(state.network, inference.to_input(images, state.device), state.precision)
    loss = objective.loss(logits, targets)
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(loss).backward()
    if gradient_clip is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), gradient_clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    return loss.detach(), logits.detach()


def _schedule(
    config: TrainingParams, steps: int, threshold_mode: Literal["rel", "abs"], optimizer: torch.optim.Optimizer
) -> Any:
    """Learning rate schedule, stepped per batch, or per epoch for plateau."""
    total = steps * config.epochs
    rates = torch.optim.lr_scheduler
    if config.schedule == "cosine":
        return rates.CosineAnnealingLR(optimizer, T_max=total)
    if config.schedule == "one_cycle":
        share = config.warm_up_fraction
        if share * (total + 1) == 1:  # a warm-up of exactly one step makes torch divide by 0
            share *= 1 + 1e-9
        # One more than the number of steps, so that the call after the last step stays within the schedule.
        return rates.OneCycleLR(
            optimizer, max_lr=config.learning_rate, total_steps=total + 1, pct_start=share, cycle_momentum=False
        )
    if config.schedule == "plateau":
        factor, patience = config.plateau_factor, config.plateau_patience
        return rates.ReduceLROnPlateau(optimizer, "max", factor, patience, threshold_mode=threshold_mode)
    return rates.ConstantLR(optimizer, factor=1.0, total_iters=0)


def validate(
    state: TrainingState, objective: Objective, arrays: Arrays, rows: np.ndarray
) -> tuple[float, torch.Tensor]:
    """Mean loss and the objective's tally on validation cases at network size."""
    loss_sum, tallies = torch.zeros((), device=state.device), []
    for first in range(0, len(rows), inference.BATCH):
        batch = rows[first : first + inference.BATCH]
        logits, targets = predict_rows(state, objective, arrays, batch)
        loss_sum += objective.loss(logits, targets) * len(batch)
        tallies.append(objective.tally(logits, targets))
    return float(loss_sum) / len(rows), torch.stack(tallies).sum(dim=0)


@torch.inference_mode()
def predict_rows(
    state: TrainingState, objective: Objective, arrays: Arrays, rows: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets of array rows, in one batch without augmentation."""
    state.network.eval()
    targets = torch.as_tensor(objectives.targets(objective, arrays, rows))
    inputs = inference.to_input(arrays.images[rows], state.device)
    logits = inference.forward(state.network, inputs, state.precision)
    return logits, targets.to(state.device)


def _log_to_tensorboard(
    board: Any, state: TrainingState, objective: Objective, arrays: Arrays, rows: np.ndarray, config: TrainingParams
) -> None:
    """Logs an epoch to TensorBoard if configured, with predictions in every `tensorboard_every`-th epoch."""
    if board is None:
        return
    row = state.history[-1]
    if (row["epoch"] - 1) % config.tensorboard_every == 0:
        selected = sampling.spread(arrays.masks, rows, config.tensorboard_images)
        outputs = predict_rows(state, objective, arrays, selected)
        predicted, reference = (objective.areas(each).cpu().numpy() for each in outputs)
        tensorboard.add_images(board, row["epoch"], arrays, selected, reference, predicted)
    tensorboard.add_scalars(board, row)
