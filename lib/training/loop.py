"""One training run: read from top to bottom, it is the whole protocol.

A run owns its folder: `state.pt` after every epoch (so that a killed run goes on where it was), and at its end
`model.safetensors` of the best epoch, `history.csv`, `timing.csv`, and `run.json` last. A finished run is loaded, not
trained again; another run in the folder is set aside until this one is whole. On a CPU a run repeats to the byte with
the same number of threads; a GPU does not promise that.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from lib import losses, models
from lib.data.arrays import Arrays
from lib.models import devices, inference
from lib.study import files, locks, param_rules, plain_values, provenance
from lib.study.params import TrainingParams
from lib.training import batches, checkpoint, history, objectives, sampling, tensorboard
from lib.training.augmentation import Augmentation
from lib.training.batches import AugmentedCases
from lib.training.checkpoint import Run
from lib.training.objectives import Objective, RegionObjective
from lib.training.state import TrainingState

Images = np.ndarray | torch.Tensor
# They do not change the result; `compile` may change its last digits.
NOT_IN_FINGERPRINT = {"study", "dataset", "workers", "tensorboard_every", "tensorboard_images"}


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
    unshown = sampling.unshown(plain_values.pick(chosen, sampling.Weighed), arrays, parts, chosen.fold)
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
    objective = objective_of(chosen, network, arrays)
    state = begin(chosen, network, -(-len(train_rows) // chosen.batch_size), objective.threshold_mode)
    machine = _machine(state)
    mark = whole | {"machine": machine}  # a state goes on only where its bytes came from
    checkpoint.resume(folder, mark, state, say)
    cases = AugmentedCases(arrays, plain_values.pick(chosen, Augmentation), chosen.seed, objective)

    with tensorboard.writer(chosen.tensorboard_every, folder / "tensorboard", len(state.history) + 1) as board:
        for epoch in range(len(state.history) + 1, chosen.epochs + 1):
            if history.is_exhausted(state.history, chosen.early_stopping_patience):
                say(f"stopped early: no better epoch for {chosen.early_stopping_patience}")
                break
            started = time.perf_counter()
            order = sampling.epoch_rows(train_rows, weights, chosen.seed, epoch)
            rate = state.optimizer.param_groups[0]["lr"]
            loaded = batches.load(cases, order, epoch, chosen.batch_size, chosen.workers)
            by_step = chosen.schedule != "plateau"
            train_loss, train_sums = train_epoch(state, objective, loaded, chosen.gradient_clip, by_step)
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
            _watch(board, state, objective, arrays, validation_rows, chosen)
            state.save(folder / "state.pt", mark)
            say(tensorboard.progress(state.history[-1], state.timing[-1], chosen.epochs, objective.metric))
    if max(row["selection"] for row in state.history) == objective.blank:
        say("no epoch found anything in the validation cases: that of the smallest validation loss is kept")
    use = _use(chosen, state, arrays)
    models.save(folder / "model.safetensors", network["model"], network["arguments"], state.weights, use)
    about = machine | {f"{name}_cases": len(parts[name]) for name in ("train", "validation")}
    return checkpoint.finish(folder, whole, state.history, state.timing, chosen.epochs, about)


def _machine(state: TrainingState) -> dict[str, Any]:
    """What of the machine decides about a run's bytes: sums on a CPU depend on the number of threads."""
    threads = torch.get_num_threads() if state.device.type == "cpu" else None
    precision = str(state.precision).removeprefix("torch.")
    return {"device": state.device.type, "precision": precision, "threads": threads}


def case_weights(chosen: TrainingParams, arrays: Arrays, rows: np.ndarray) -> np.ndarray:
    """How often each training row is drawn, relative to the others: (rows,)."""
    masks = arrays.masks[rows]
    rare = [chosen.classes.index(name) for name in chosen.oversample_classes]
    weights = sampling.case_weights(masks, rare, chosen.oversample_factor)
    if chosen.area_weight_floor is None:
        return weights
    return weights * sampling.area_weights(masks, [arrays.names[row] for row in rows], chosen.area_weight_floor)


def objective_of(chosen: TrainingParams, network: dict[str, Any], arrays: Arrays) -> Objective:
    """What 04_training trains.

    Args:
        chosen: the keys of 04_training.
        network: as models.describe gives it.
        arrays: preprocessed cases.

    Raises:
        ValueError: network or arrays are not those of a study of landmarks, where it is one.
    """
    if chosen.landmarks != "none":
        return objectives.heatmap_objective(network, arrays)
    weights = chosen.selection_class_weights
    return RegionObjective(chosen.classes, mixture_of(chosen), chosen.selection_metric, weights)


def mixture_of(chosen: TrainingParams) -> losses.Mixture:
    """The loss that a study file names."""
    return losses.Mixture(
        cross_entropy=chosen.cross_entropy_weight,
        focal=chosen.focal_weight,
        dice=chosen.dice_weight,
        class_weights=chosen.cross_entropy_class_weights,
        dice_class_weights=chosen.dice_class_weights,
        label_smoothing=chosen.label_smoothing,
        focal_gamma=chosen.focal_gamma,
    )


def begin(
    chosen: TrainingParams, network: dict[str, Any], steps: int, threshold_mode: Literal["rel", "abs"]
) -> TrainingState:
    """A network before its first step, with what moves as it learns.

    Args:
        chosen: the keys of 04_training.
        network: as models.describe gives it.
        steps: batches an epoch.
        threshold_mode: how the value that chooses is compared, where it sets the learning rate.

    Raises:
        ValueError: device or precision is not to be had.
    """
    device = devices.choose(chosen.device)
    precision = devices.choose_precision(chosen.precision, device)
    torch.manual_seed(chosen.seed)
    model = models.start(network).to(device, memory_format=torch.channels_last)
    optimizer = _optimizer(chosen, model)
    return TrainingState(
        model=model,
        network=torch.compile(model) if chosen.compile else model,  # shares its weights, but names them otherwise
        optimizer=optimizer,
        schedule=_schedule(chosen, optimizer, steps, threshold_mode),
        scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
        device=device,
        precision=precision,
    )


def train_epoch(
    state: TrainingState,
    objective: Objective,
    loaded: Iterable[tuple[torch.Tensor, torch.Tensor]],
    gradient_clip: float | None,
    by_step: bool,
) -> tuple[float, torch.Tensor]:
    """One pass over the training cases: mean loss, and the objective's tally.

    Args:
        state: the network that learns.
        objective: what it learns.
        loaded: batches of images and targets.
        gradient_clip: largest norm of a step's gradients, None for any.
        by_step: whether the learning rate moves with each step, not with the epoch.

    Raises:
        ValueError: the loss is not finite.
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
    """One step of the optimizer on one batch.

    Args:
        state: the network that learns, in training mode.
        objective: what it learns.
        images: (N, C, H, W) uint8 or float32.
        targets: what they must give, on the device.
        gradient_clip: largest norm of the gradients, None for any.

    Returns:
        The loss and the logits before the step.
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


def _optimizer(chosen: TrainingParams, model: nn.Module) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[chosen.optimizer]
    return kind(model.parameters(), lr=chosen.learning_rate, weight_decay=chosen.weight_decay)


def _schedule(
    chosen: TrainingParams, optimizer: torch.optim.Optimizer, steps: int, threshold_mode: Literal["rel", "abs"]
) -> Any:
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
            threshold_mode=threshold_mode,
        )
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
    board: Any, state: TrainingState, objective: Objective, arrays: Arrays, rows: np.ndarray, chosen: TrainingParams
) -> None:
    """Shows an epoch in TensorBoard, where a study wants it."""
    row = state.history[-1]
    if tensorboard.is_due(chosen.tensorboard_every, row["epoch"]):
        picked = sampling.spread(arrays.masks, rows, chosen.tensorboard_images)
        compared = compare(state, objective, arrays, picked)
        predicted, reference = (objective.areas(each).cpu().numpy() for each in compared)
        tensorboard.add_pictures(board, row["epoch"], arrays, picked, reference, predicted)
    tensorboard.add_scalars(board, row)


def _use(chosen: TrainingParams, state: TrainingState, arrays: Arrays) -> dict[str, Any]:
    """What the file of weights says to whoever uses them, as far as it is known when they are trained."""
    return {
        "study": chosen.study,
        "dataset": chosen.dataset,
        "classes": chosen.classes,
        "landmarks": chosen.landmarks,
        "preparation": arrays.preparation,
        "training_precision": str(state.precision).removeprefix("torch."),
    }
