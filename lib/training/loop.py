"""One training run: the whole protocol, to be read from top to bottom.

A run owns its folder. It writes `state.pt` about once a minute, so that a killed run resumes, and at the end
`model.safetensors` of the best epoch, `history.csv`, `timing.csv` and finally `run.json`. A finished run is loaded
instead of trained again; another run in the folder is moved to `.set_aside` until this one is complete. A run is
reproducible to the byte: on a CPU with the same number of threads, on a GPU if the study is `deterministic`.

Several processes may share the training (`launch`): each then takes its share of every batch, and what depends on the
whole batch is added up by `ranks`, which in one process does nothing.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from lib import losses, models
from lib.data.arrays import Arrays
from lib.data.splits import Parts
from lib.models import devices, inference
from lib.study import files, locks, param_rules, params, provenance
from lib.study.params import TrainingParams
from lib.study.progress import Live
from lib.training import batches, checkpoint, history, memory, objectives, ranks, sampling, saving, tensorboard
from lib.training.augmentation import Augmentation
from lib.training.batches import AugmentedCases, Batches, EpochSampler, FixedBatches
from lib.training.checkpoint import Dependencies, Log, Run
from lib.training.monitor import Monitor
from lib.training.objectives import Objective, RegionObjective
from lib.training.state import TrainingState, fresh_state

Network = dict[str, Any]  # a `models.describe` record
# These do not change the result. `compile` may change its last digits, so it is not among them.
# `processes` may too, but belongs to the machine, as threads do.
NOT_IN_FINGERPRINT = {"study", "dataset", "processes", "workers", "tensorboard_every", "tensorboard_images"}


def fit(
    config: TrainingParams,
    network: Network,
    arrays: Arrays,
    parts: Parts,
    folder: Path,
    log: Log = print,
    live: Live | None = None,
) -> Run:
    """Trains one network on one fold, resumes its training or loads the finished run; locks the folder meanwhile.

    `log` gets one line per epoch and per missing or changed file, `live` the progress within epochs. ValueError:
    unavailable device or precision, a class or landmark missing from the training or validation cases, diverged
    training, images with values that are not finite, too little memory, a loader's process that died. OSError: a full
    disk.
    """
    check_trainable(config, network, arrays, parts)
    lock = locks.locked(folder / ".lock", "this training", log)  # a process that survived a kill may still train here
    with lock if ranks.is_first() else nullcontext():
        depends_on = dependencies(config, network, arrays, parts)
        finished = ranks.from_first(lambda: checkpoint.load_finished(folder, depends_on, log))
        if finished is not None:
            log(f"already trained: best epoch {finished.best_epoch}, validation value {finished.best_value:.4f}")
            return finished
        device = devices.choose(config.device)
        with (
            devices.configured(device, config.deterministic),
            memory.advising(device),
            batches.reporting_dead_workers(),
        ):
            return _train(config, network, arrays, parts, folder, depends_on, log, live)


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
        "arrays": arrays.content,
        "cases": {name: files.digest(parts[name]) for name in ("train", "validation")},
        "code": provenance.module_hashes({"lib.training.loop"}),
    }


def _train(
    config: TrainingParams,
    network: Network,
    arrays: Arrays,
    parts: Parts,
    folder: Path,
    depends_on: Dependencies,
    log: Log,
    live: Live | None,
) -> Run:
    train_rows, validation_rows = arrays.rows(parts["train"]), arrays.rows(parts["validation"])
    objective = objective_of(config, network, arrays)
    state = initial_state(config, network, -(-len(train_rows) // config.batch_size), objective.threshold_mode)
    resumable = depends_on | {"machine": _machine(state)}  # a run resumed elsewhere would not repeat to the byte
    with ranks.first_alone():
        checkpoint.resume(folder, resumable, state, log)
    sampler, loaded = training_batches(config, arrays, train_rows, objective, state.device)
    validation: Batches = batches.validation_batches(objective, arrays, validation_rows, config.batch_size)
    by_step, first_epoch, portion = config.schedule != "plateau", len(state.history) + 1, None
    monitor = Monitor(live, config.epochs, len(train_rows), state)
    if config.batch_size > len(train_rows):
        log(f"batch_size = {config.batch_size}, but only {len(train_rows)} training images: one batch per epoch")

    with (
        tensorboard.writer(config.tensorboard_every, folder / "tensorboard", first_epoch) as board,
        saving.periodic(folder / "state.pt", resumable) as save_if_due,
    ):
        for epoch in range(first_epoch, config.epochs + 1):
            if history.should_stop(state.history, config.early_stopping_patience):
                log(f"stopped early: no improvement in the last {config.early_stopping_patience} epochs")
                break
            sampler.begin(epoch, skipped=sum(state.epoch.images))
            train = train_epoch(state, objective, loaded, config.gradient_clip, by_step, save_if_due, monitor.show)
            history.check_batches(epoch, state.epoch, sampler.order(), arrays)
            state.portion = min(filter(None, ranks.gathered(state.portion)), default=None)
            if state.portion != portion:
                portion = state.portion
                log(
                    f"out of memory: each batch of {config.batch_size} images is now processed in portions of "
                    f"{portion}; the gradient is that of the batch, batch normalisation uses statistics of a portion"
                )
            if epoch == first_epoch:
                validation = batches.resident(validation, state.device)
            _end_epoch(state, objective, epoch, train, validation, by_step, arrays, validation_rows)
            if board is not None:
                cases = FixedBatches(objective, arrays, validation_rows, config.batch_size)
                how = config.tensorboard_every, config.tensorboard_images, partial(predict, state)
                tensorboard.add_epoch(board, state.history[-1], cases, *how)
            save_if_due(state)
            log(history.progress(state.history[-1], state.timing[-1], config.epochs, objective.metric))
        monitor.clear()
        state.save(folder / "state.pt", resumable)  # if the process is killed from here on, nothing is lost
    if max(row["selection"] for row in state.history) == objective.empty_score:
        log("all predictions on the validation cases are empty: keeping the epoch with the smallest validation loss")
    if ranks.is_first():
        _save_weights(config, network, arrays, state, folder / checkpoint.WEIGHTS)
    ranks.wait()
    about = _machine(state) | {f"{name}_cases": len(parts[name]) for name in ("train", "validation")}
    about["reloaded_value"] = _reloaded_value(state, objective, validation, folder / checkpoint.WEIGHTS)
    about |= {"portion": state.portion, "processes": ranks.count()}
    histories = state.history, state.timing, config.epochs
    return ranks.from_first(lambda: checkpoint.finish(folder, depends_on, *histories, about))


def _end_epoch(
    state: TrainingState,
    objective: Objective,
    epoch: int,
    train: tuple[float, torch.Tensor],
    validation: Batches,
    by_step: bool,
    arrays: Arrays,
    rows: np.ndarray,
) -> None:
    """Validates, and adds the epoch to the history; `train` is the result of `train_epoch`, `rows` are validated."""
    started = time.perf_counter()
    loss, tally = validate(state, objective, validation)
    scores = objective.scores(tally)
    history.check_finite(epoch, {"validation loss": loss, "validation value": scores["selection"]}, rows, arrays)
    if not by_step:
        state.schedule.step(scores["selection"])
    results = (train[0], objective.scores(train[1])), (loss, scores)
    state.end_epoch(
        history.row(epoch, state.epoch.learning_rate, *results, state.history, objective.empty_score),
        history.timing(epoch, state.epoch, time.perf_counter() - started),
    )


def _save_weights(config: TrainingParams, network: Network, arrays: Arrays, state: TrainingState, path: Path) -> None:
    """Saves the weights of the best epoch with what a prediction for other images needs to know."""
    metadata = {name: getattr(config, name) for name in ("study", "dataset", "classes", "landmarks")}
    metadata |= {"preparation": arrays.preparation, "training_precision": _machine(state)["precision"]}
    models.save(path, network["model"], network["arguments"], state.weights, metadata)


def _reloaded_value(state: TrainingState, objective: Objective, validation: Batches, path: Path) -> float:
    """The validation value of the saved weights, read back from their file."""
    state.model.load_state_dict(models.load(path).state_dict())
    return objective.scores(validate(state, objective, validation)[1])["selection"]


def _machine(state: TrainingState) -> dict[str, Any]:
    """Properties of the machine that affect a run's bytes; on a CPU, sums depend on the number of threads.

    They also depend on the number of processes, which may change within a run that is not deterministic.
    """
    is_cuda = state.device.type == "cuda"
    return {
        "processes": ranks.count() if state.deterministic else None,
        "device": torch.cuda.get_device_name(state.device) if is_cuda else state.device.type,
        "precision": str(state.precision).removeprefix("torch."),
        "threads": torch.get_num_threads() if state.device.type == "cpu" else None,
        "torch": str(torch.__version__),  # a plain text: a state is read without running code
    }


def training_batches(
    config: TrainingParams, arrays: Arrays, rows: np.ndarray, objective: Objective, device: torch.device
) -> tuple[EpochSampler, Batches]:
    """The batches of an epoch, augmented, and the sampler that sets the epoch; ValueError as `batches.loader`."""
    sampler = EpochSampler(rows, case_weights(config, arrays, rows), config.seed)
    cases = AugmentedCases(arrays, params.pick(config, Augmentation), config.seed, objective)
    return sampler, batches.loader(cases, sampler, config.batch_size, config.workers, device)


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
    settings = config.device, config.precision, optimizer, schedule, config.compile, config.deterministic
    return fresh_state(network, config.seed, *settings)


def train_epoch(
    state: TrainingState,
    objective: Objective,
    loaded: Batches,
    gradient_clip: float | None,
    by_step: bool,
    *after_step: Callable[[TrainingState], None],
) -> tuple[float, torch.Tensor]:
    """Trains on batches of images and targets, recorded in `state.epoch`: the epoch's mean loss and summed tally.

    The schedule is stepped after each batch if `by_step`; else the caller steps it once per epoch. `after_step` is
    called after each step. Nothing else waits for the device, so that it never idles between two steps.
    """
    state.network.train()
    epoch = state.epoch
    started = time.perf_counter() - epoch.seconds
    if not epoch.images:
        epoch.learning_rate = state.optimizer.param_groups[0]["lr"]
    for (images, targets), waited in batches.timed(loaded):
        loss, tally = step(state, objective, images, targets, gradient_clip)
        if by_step:
            state.schedule.step()
        epoch.add(ranks.total_number(len(images)), loss, tally, waited, time.perf_counter() - started)
        for call in after_step:
            call(state)
    mean_loss, tally = epoch.sums()
    epoch.seconds = time.perf_counter() - started  # the sums have waited for the device
    return mean_loss, tally


def step(
    state: TrainingState, objective: Objective, images: torch.Tensor, targets: torch.Tensor, gradient_clip: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """One optimizer step on images (N, C, H, W) and the objective's targets: the loss and the tally before it.

    Of several processes, each gives its share of a batch; loss, tally and gradient are those of the whole batch. If
    memory runs out, the gradient is accumulated over smaller portions of the batch, here and in later steps.
    ValueError: too little memory for one image, or for a batch of a deterministic study.
    """
    targets = inference.to_device(targets, state.device)  # (N, H, W) masks or (N, K, H, W) heatmaps
    batch = ranks.total(objective.extent(targets))
    loss, tally = memory.in_portions(
        state, len(images), lambda parts: accumulate(state, objective, images, targets, batch, parts)
    )
    ranks.sum_gradients(state.model)
    if gradient_clip is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), gradient_clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    return ranks.total(loss), ranks.total(tally)


def accumulate(
    state: TrainingState,
    objective: Objective,
    images: torch.Tensor,
    targets: torch.Tensor,
    batch: torch.Tensor,
    portions: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of images in so many portions of about equal size: their part of their batch's loss, and tally.

    `batch` is the extent of the whole batch.
    """
    state.optimizer.zero_grad(set_to_none=True)
    losses_of, tallies = [], []
    for portion, reference in zip(images.chunk(portions), targets.chunk(portions)):
        logits = inference.forward(state.network, inference.to_input(portion, state.device), state.precision)
        # The sum of no logits is 0 and has a gradient of 0.
        loss = objective.loss(logits, reference, batch) if len(reference) else logits.float().sum()
        state.scaler.scale(loss).backward()
        losses_of.append(loss.detach())
        tallies.append(objective.tally(logits.detach(), reference))
    return torch.stack(losses_of).sum(), torch.stack(tallies).sum(dim=0)


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


def validate(state: TrainingState, objective: Objective, loaded: Batches) -> tuple[float, torch.Tensor]:
    """Mean loss and the objective's summed tally of batches of images and targets, without augmentation."""
    loss_sum, count, tallies = torch.zeros((), device=state.device), 0, []
    for images, targets in loaded:
        logits, reference = predict(state, images, targets)
        loss_sum += objective.loss(logits, reference) * len(images)
        tallies.append(objective.tally(logits, reference))
        count += len(images)
    own = float(loss_sum), count, torch.stack(tallies).sum(dim=0).cpu() if tallies else 0
    loss_sums, counts, tallies_of_ranks = zip(*ranks.gathered(own))
    return sum(loss_sums) / sum(counts), sum(tallies_of_ranks)


@torch.inference_mode()
def predict(state: TrainingState, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a batch in evaluation mode, and its targets, both on the device; ValueError as in `step`."""
    state.network.eval()

    def logits(portions: int) -> torch.Tensor:
        inputs = (inference.to_input(each, state.device) for each in images.chunk(portions))
        return torch.cat([inference.forward(state.network, each, state.precision) for each in inputs])

    return memory.in_portions(state, len(images), logits), inference.to_device(targets, state.device)
