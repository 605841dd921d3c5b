"""One training run: read from top to bottom, it is the whole protocol.

A run owns its folder: `state.pt` after every epoch (so that a killed run goes on where it was), and at its end
`model.safetensors` of the best epoch, `history.csv`, `timing.csv`, and `run.json` last. A finished run is loaded, not
trained again; another run in the folder is set aside until this one is whole. On a CPU a run repeats to the byte with
the same number of threads; a GPU does not promise that.
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
from lib.training.checkpoint import Log, Mark, Run
from lib.training.objectives import Objective, RegionObjective
from lib.training.state import TrainingState, fresh_state

Network = dict[str, Any]  # as models.describe gives it
Parts = dict[str, list[str]]  # names of the cases that train, validate, are tested
Images = np.ndarray | torch.Tensor
# They do not change the result; `compile` may change its last digits.
NOT_IN_FINGERPRINT = {"study", "dataset", "workers", "tensorboard_every", "tensorboard_images"}


def fit(config: TrainingParams, network: Network, arrays: Arrays, parts: Parts, folder: Path, log: Log = print) -> Run:
    """Trains one network on one fold, or goes on with it, or loads it; its folder is locked while it is used.

    `log` gets one line per epoch, and one for each thing that is not as it was left. ValueError: there is no such
    device or precision, a class or landmark is shown by no case, or training diverged.
    """
    check_before(config, network, arrays, parts)
    with locks.locked(folder / ".lock", "this training", log):  # who outlived a kill may still train here
        origin = made_of(config, network, arrays, parts)
        finished = checkpoint.load_finished(folder, origin, log)
        if finished is not None:
            log(f"trained before: epoch {finished.best_epoch}, validation value {finished.best_value:.4f}")
            return finished
        return _train(config, network, arrays, parts, folder, origin, log)


def check_before(config: TrainingParams, network: Network, arrays: Arrays, parts: Parts) -> None:
    """ValueError for a class or landmark that no case shows, or a last batch of one image that cannot be normalised."""
    unshown = sampling.unshown(params.pick(config, sampling.Weighed), arrays, parts, config.fold)
    if unshown:
        raise ValueError("\n".join(unshown))
    rows, size, arguments = len(arrays.rows(parts["train"])), list(arrays.images.shape[2:]), network["arguments"]
    depth, normalisation = arguments.get("depth", param_rules.RESNET_DEPTH), arguments.get("normalisation", "batch")
    leaves_one_image = rows % config.batch_size == 1 % config.batch_size
    if leaves_one_image and param_rules.ends_in_one_pixel(size, depth, network["model"], normalisation):
        raise ValueError(
            f"batch_size = {config.batch_size}   {rows} training images leave a last batch of one, and image_size "
            f"{size} leaves 1 x 1 pixels after {depth} poolings: batch normalisation has one value to go by; give "
            "another batch_size, a smaller depth or a larger image_size"
        )


def made_of(config: TrainingParams, network: Network, arrays: Arrays, parts: Parts) -> dict[str, Any]:
    """What a run depends on: its keys, network, arrays, cases, and the code that training reaches."""
    return {
        "keys": config.model_dump(exclude=NOT_IN_FINGERPRINT),
        "network": {name: value for name, value in network.items() if name != "arguments"} | network["arguments"],
        "arrays": arrays.fingerprint,
        "cases": {name: files.digest(parts[name]) for name in ("train", "validation")},
        "code": provenance.module_hashes({"lib.training.loop"}),
    }


def _train(
    config: TrainingParams, network: Network, arrays: Arrays, parts: Parts, folder: Path, origin: Mark, log: Log
) -> Run:
    train_rows, validation_rows = arrays.rows(parts["train"]), arrays.rows(parts["validation"])
    weights = case_weights(config, arrays, train_rows)
    objective = objective_of(config, network, arrays)
    state = begin(config, network, -(-len(train_rows) // config.batch_size), objective.threshold_mode)
    machine = _machine(state)
    mark = origin | {"machine": machine}  # a state goes on only where its bytes came from
    checkpoint.resume(folder, mark, state, log)
    cases = AugmentedCases(arrays, params.pick(config, Augmentation), config.seed, objective)

    with tensorboard.writer(config.tensorboard_every, folder / "tensorboard", len(state.history) + 1) as board:
        for epoch in range(len(state.history) + 1, config.epochs + 1):
            if history.is_exhausted(state.history, config.early_stopping_patience):
                log(f"stopped early: no better epoch for {config.early_stopping_patience}")
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
            best = all(history.is_better(selection, validation_loss, row, objective.blank) for row in state.history)
            train = train_loss, objective.scores(train_sums)
            state.history.append(history.row(epoch, rate, train, (validation_loss, scores), best))
            speed = {"seconds": time.perf_counter() - started, "images_per_second": len(order) / train_seconds}
            state.timing.append({"epoch": epoch} | speed)
            if best:
                state.keep_weights()
            _watch(board, state, objective, arrays, validation_rows, config)
            state.save(folder / "state.pt", mark)
            log(history.progress(state.history[-1], state.timing[-1], config.epochs, objective.metric))
    if max(row["selection"] for row in state.history) == objective.blank:
        log("no epoch found anything in the validation cases: that of the smallest validation loss is kept")
    use = {name: getattr(config, name) for name in ("study", "dataset", "classes", "landmarks")}
    use |= {"preparation": arrays.preparation, "training_precision": machine["precision"]}  # as far as it is known here
    models.save(folder / "model.safetensors", network["model"], network["arguments"], state.weights, use)
    about = machine | {f"{name}_cases": len(parts[name]) for name in ("train", "validation")}
    return checkpoint.finish(folder, origin, state.history, state.timing, config.epochs, about)


def _machine(state: TrainingState) -> dict[str, Any]:
    """What of the machine decides about a run's bytes: sums on a CPU depend on the number of threads."""
    threads = torch.get_num_threads() if state.device.type == "cpu" else None
    precision = str(state.precision).removeprefix("torch.")
    return {"device": state.device.type, "precision": precision, "threads": threads}


def case_weights(config: TrainingParams, arrays: Arrays, rows: np.ndarray) -> np.ndarray:
    """How often each training row is drawn, relative to the others: (rows,)."""
    masks = arrays.masks[rows]
    rare = [config.classes.index(name) for name in config.oversample_classes or []]
    weights = sampling.case_weights(masks, rare, config.oversample_factor or 1.0)
    if config.area_weight_floor is None:
        return weights
    return weights * sampling.area_weights(masks, [arrays.names[row] for row in rows], config.area_weight_floor)


def objective_of(config: TrainingParams, network: Network, arrays: Arrays) -> Objective:
    """Heatmaps or class regions; ValueError if network or arrays do not fit a study of landmarks, where it is one."""
    if config.learns_landmarks:
        return objectives.heatmap_objective(network, arrays)
    weights = config.selection_class_weights
    return RegionObjective(config.classes, mixture_of(config), config.selection_metric, weights)


def mixture_of(config: TrainingParams) -> losses.Mixture:
    """The loss that a study file names."""
    return losses.Mixture(
        cross_entropy=config.cross_entropy_weight,
        focal=config.focal_weight,
        dice=config.dice_weight,
        class_weights=config.cross_entropy_class_weights or [],
        dice_class_weights=config.dice_class_weights or [],
        label_smoothing=config.label_smoothing or 0.0,
        focal_gamma=config.focal_gamma or 0.0,
    )


def begin(config: TrainingParams, network: Network, steps: int, threshold_mode: Literal["rel", "abs"]) -> TrainingState:
    """A network before its first step; `steps` per epoch, `threshold_mode` of the objective."""
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    optimizer = partial(kind, lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = partial(_schedule, config, steps, threshold_mode)
    return fresh_state(network, config.seed, config.device, config.precision, optimizer, schedule, config.compile)


def train_epoch(
    state: TrainingState, objective: Objective, loaded: Batches, gradient_clip: float | None, by_step: bool
) -> tuple[float, torch.Tensor]:
    """One pass over batches of images and targets: mean loss, and the objective's tally; ValueError if not finite.

    The learning rate moves with each step if `by_step`; else the caller moves it once per epoch.
    """
    state.network.train()
    loss_sum, seen, tallies = torch.zeros((), device=state.device), 0, []
    for images, targets in loaded:
        targets = targets.to(state.device, non_blocking=True)  # (N, H, W) masks or (N, K, H, W) heatmaps
        loss, logits = step(state, objective, images, targets, gradient_clip)
        if by_step:
            state.schedule.step()
        loss_sum += loss * len(images)
        tallies.append(objective.tally(logits, targets))
        seen += len(images)
    mean_loss = float(loss_sum) / seen
    if not np.isfinite(mean_loss):
        raise ValueError(f"the loss became {mean_loss}: training diverged; try a lower learning_rate")
    return mean_loss, torch.stack(tallies).sum(dim=0)


def step(
    state: TrainingState, objective: Objective, images: Images, targets: torch.Tensor, gradient_clip: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of the optimizer, in training mode, on one batch: the loss and the logits before it.

    Images are (N, C, H, W) uint8 or float32, targets the objective's, on the device; gradients of a larger norm than
    `gradient_clip` are shortened.
    """
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
    """The learning rate's course: by step, and by epoch for plateau."""
    total = steps * config.epochs
    rates = torch.optim.lr_scheduler
    if config.schedule == "cosine":
        return rates.CosineAnnealingLR(optimizer, T_max=total)
    if config.schedule == "one_cycle":
        share = config.warm_up_fraction
        if share * (total + 1) == 1:  # torch divides by the length of the rise, which would be 0: a step and a bit
            share *= 1 + 1e-9
        # One step more than there are: the last call would otherwise be past the end.
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
    """Mean loss, and the objective's tally, on validation cases at network size."""
    loss_sum, tallies = torch.zeros((), device=state.device), []
    for first in range(0, len(rows), inference.BATCH):
        batch = rows[first : first + inference.BATCH]
        logits, targets = compare(state, objective, arrays, batch)
        loss_sum += objective.loss(logits, targets) * len(batch)
        tallies.append(objective.tally(logits, targets))
    return float(loss_sum) / len(rows), torch.stack(tallies).sum(dim=0)


@torch.inference_mode()
def compare(
    state: TrainingState, objective: Objective, arrays: Arrays, rows: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of some rows as they are, in one batch, and their targets."""
    state.network.eval()
    targets = torch.as_tensor(objectives.targets(objective, arrays, rows))
    inputs = inference.to_input(arrays.images[rows], state.device)
    logits = inference.forward(state.network, inputs, state.precision)
    return logits, targets.to(state.device)


def _watch(
    board: Any, state: TrainingState, objective: Objective, arrays: Arrays, rows: np.ndarray, config: TrainingParams
) -> None:
    """Shows an epoch in TensorBoard, where a study wants it: predictions of the first, and then every so many."""
    if board is None:
        return
    row = state.history[-1]
    if (row["epoch"] - 1) % config.tensorboard_every == 0:
        picked = sampling.spread(arrays.masks, rows, config.tensorboard_images)
        compared = compare(state, objective, arrays, picked)
        predicted, reference = (objective.areas(each).cpu().numpy() for each in compared)
        tensorboard.add_pictures(board, row["epoch"], arrays, picked, reference, predicted)
    tensorboard.add_scalars(board, row)
