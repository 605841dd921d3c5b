"""One training run: read from top to bottom, it is the whole protocol.

A run owns its folder: `state.pt` after every epoch (so that a killed run goes on where it was), and at its end
`model.safetensors` of the best epoch, `history.csv`, `timing.csv`, and `run.json` last. A finished run is loaded, not
trained again. On a CPU a run repeats to the byte with the same number of threads; a GPU does not promise that.
"""

import os
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lib import augmentation, devices, files, losses, models, prediction, provenance, sampling
from lib.arrays import Arrays
from lib.params import TrainingParams

FINISHED_FILES = ("run.json", "model.safetensors", "history.csv", "timing.csv")
NOT_IN_FINGERPRINT = {"study", "dataset", "workers"}  # they do not change the result


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        history: a row an epoch: losses, Dice, learning rate, which epochs were the best so far.
        timing: a row an epoch: seconds, images per second.
        best_epoch: whose weights are kept, from 1.
        best_value: its weighted validation Dice or IoU.
    """

    history: pd.DataFrame
    timing: pd.DataFrame
    best_epoch: int
    best_value: float


class AugmentedCases(Dataset):
    """Training cases, changed anew for each (epoch, row, how often the row came before in this epoch)."""

    def __init__(self, arrays: Arrays, chosen: TrainingParams) -> None:
        self.arrays, self.seed = arrays, chosen.seed
        self.transform = augmentation.pipeline(chosen)

    def __getitem__(self, place: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        epoch, row, repeat = place
        image, mask = self.arrays.images[row, 0], self.arrays.masks[row]
        image, mask = augmentation.augment(self.transform, image, mask, (self.seed, epoch, row, repeat))
        return image[None], mask


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
        say: gets one line an epoch.

    Raises:
        ValueError: device or precision is not to be had, or training diverged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # a process that outlived a kill may still train here: wait, then load
        mark = fingerprint(chosen, network, arrays, parts)
        finished = load_finished(folder, mark)
        if finished is not None:
            say(f"trained before: epoch {finished.best_epoch}, validation value {finished.best_value:.4f}")
            return finished
        return _train(chosen, network, arrays, parts, folder, mark, say)


def fingerprint(chosen: TrainingParams, network: dict[str, Any], arrays: Arrays, parts: dict[str, list[str]]) -> str:
    """Digest of what a run depends on: its keys, network, arrays, cases, and the code that training reaches."""
    return files.digest(
        {
            "keys": chosen.model_dump(exclude=NOT_IN_FINGERPRINT),
            "network": network,
            "arrays": arrays.fingerprint,
            "parts": {name: parts[name] for name in ("train", "validation")},
            "code": provenance.module_hashes({"lib.training"}),
        }
    )


def load_finished(folder: Path, mark: str) -> Run | None:
    """The run in a folder if it is finished, whole, and of this fingerprint."""
    if not all((folder / name).is_file() for name in FINISHED_FILES):
        return None
    about = files.read_json(folder / "run.json")
    if about.get("fingerprint") != mark or files.sha256(folder / "model.safetensors") != about["weights_sha256"]:
        return None
    history = files.read_csv(folder / "history.csv", ["epoch", "selection"])
    timing = files.read_csv(folder / "timing.csv", ["epoch", "seconds"])
    return Run(history, timing, about["best_epoch"], about["best_value"])


def _train(
    chosen: TrainingParams,
    network: dict[str, Any],
    arrays: Arrays,
    parts: dict[str, list[str]],
    folder: Path,
    mark: str,
    say: Callable[[str], None],
) -> Run:
    device = devices.choose(chosen.device)
    precision = devices.choose_precision(chosen.precision, device)
    torch.manual_seed(chosen.seed)
    model = models.start(network).to(device, memory_format=torch.channels_last)
    train_rows, validation_rows = arrays.rows(parts["train"]), arrays.rows(parts["validation"])
    weights = case_weights(chosen, arrays, train_rows)
    steps = -(-len(train_rows) // chosen.batch_size)
    optimizer = _optimizer(chosen, model)
    schedule = _schedule(chosen, optimizer, steps)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    moving = {"model": model, "optimizer": optimizer, "schedule": schedule, "scaler": scaler}
    here = f"{mark} {device.type} {precision}"  # a state goes on only where it came from
    so_far = _resume(folder, here, moving, say)
    history, timing = so_far["history"], so_far["timing"]
    cases = AugmentedCases(arrays, chosen)

    for epoch in range(len(history) + 1, chosen.epochs + 1):
        if _is_exhausted(history, chosen.early_stopping_patience):
            say(f"stopped early: no better epoch for {chosen.early_stopping_patience}")
            break
        started = time.perf_counter()
        order = sampling.epoch_rows(train_rows, weights, chosen.seed, epoch)
        rate = optimizer.param_groups[0]["lr"]
        train_loss, train_counts = train_epoch(moving, batches(cases, order, epoch, chosen), chosen, device, precision)
        train_seconds = time.perf_counter() - started

        validation_loss, validation_counts = validate(model, arrays, validation_rows, chosen, device, precision)
        dice = pooled(validation_counts, "dice")
        selection = weighted(validation_counts, chosen)
        if chosen.schedule == "plateau":
            schedule.step(selection)
        best = all(selection > row["selection"] for row in history)
        history.append(
            {
                "epoch": epoch,
                "train_loss": train_loss,
                "train_selection": weighted(train_counts, chosen),
                "validation_loss": validation_loss,
                **{f"validation_dice_{name}": dice[i] for i, name in enumerate(chosen.classes) if i > 0},
                "selection": selection,
                "learning_rate": rate,
                "best": best,
            }
        )
        seconds = time.perf_counter() - started
        timing.append({"epoch": epoch, "seconds": seconds, "images_per_second": len(order) / train_seconds})
        if best:
            so_far["weights"] = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        save_state(folder / "state.pt", here, moving, so_far)
        say(progress(history[-1], timing[-1], chosen))
    models.save(folder / "model.safetensors", network["model"], network["arguments"], so_far["weights"])
    return _finish(folder, mark, history, timing, chosen, device, precision, parts)


def case_weights(chosen: TrainingParams, arrays: Arrays, rows: np.ndarray) -> np.ndarray:
    """How often each training case is drawn, relative to the others: (rows,)."""
    rare = [chosen.classes.index(name) for name in chosen.oversample_classes]
    return sampling.case_weights(arrays.masks[rows], rare, chosen.oversample_factor)


def train_epoch(
    moving: dict[str, Any],
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    chosen: TrainingParams,
    device: torch.device,
    precision: torch.dtype,
) -> tuple[float, torch.Tensor]:
    """One pass over the training cases: mean loss, and pixels by reference and predicted class.

    Raises:
        ValueError: the loss is not finite.
    """
    model, optimizer, scaler = moving["model"], moving["optimizer"], moving["scaler"]
    model.train()
    loss_sum, seen = torch.zeros((), device=device), 0
    counts = torch.zeros(len(chosen.classes) ** 2, dtype=torch.int64, device=device)
    mixture = mixture_of(chosen)
    for images, masks in batches:
        reference = masks.to(device, non_blocking=True).long()  # (N, H, W)
        logits = prediction.forward(model, prediction.to_input(images, device), precision)
        loss = losses.combined(logits, reference, mixture)
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
        counts += confusion(logits, reference, len(chosen.classes))
        seen += len(images)
    mean_loss = float(loss_sum) / seen
    if not np.isfinite(mean_loss):
        raise ValueError(f"the loss became {mean_loss}: training diverged; try a lower learning_rate")
    return mean_loss, counts


def _optimizer(chosen: TrainingParams, model: nn.Module) -> torch.optim.Optimizer:
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[chosen.optimizer]
    return kind(model.parameters(), lr=chosen.learning_rate, weight_decay=chosen.weight_decay)


def _schedule(chosen: TrainingParams, optimizer: torch.optim.Optimizer, steps: int) -> Any:
    """The learning rate's course: by step, and by epoch for plateau."""
    total = steps * chosen.epochs
    rates = torch.optim.lr_scheduler
    if chosen.schedule == "cosine":
        return rates.CosineAnnealingLR(optimizer, T_max=total)
    if chosen.schedule == "one_cycle":
        # One step more than there are: the last call would otherwise be past the end.
        return rates.OneCycleLR(
            optimizer,
            max_lr=chosen.learning_rate,
            total_steps=total + 1,
            pct_start=chosen.warm_up_fraction,
            cycle_momentum=False,
        )
    if chosen.schedule == "plateau":
        return rates.ReduceLROnPlateau(
            optimizer, mode="max", factor=chosen.plateau_factor, patience=chosen.plateau_patience
        )
    return rates.ConstantLR(optimizer, factor=1.0, total_iters=0)


def batches(
    cases: AugmentedCases, order: np.ndarray, epoch: int, chosen: TrainingParams
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of images (N, 1, H, W) and masks (N, H, W), uint8."""
    places = [(epoch, int(row), repeat) for row, repeat in zip(order, sampling.repeats(order))]
    return iter(
        DataLoader(
            cases,  # type: ignore[arg-type]
            batch_size=chosen.batch_size,
            sampler=places,  # type: ignore[arg-type]
            num_workers=chosen.workers,
            pin_memory=torch.cuda.is_available(),
        )
    )


def confusion(logits: torch.Tensor, reference: torch.Tensor, class_count: int) -> torch.Tensor:
    """Pixels by reference and predicted class: (class_count ** 2,) int64, on the logits' device."""
    predicted = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
    return torch.bincount((reference * class_count + predicted).flatten(), minlength=class_count**2)


def pooled(counts: torch.Tensor, metric: Literal["dice", "iou"]) -> list[float]:
    """Dice or IoU of each class from summed counts; 1 for a class that is in neither."""
    table = counts.cpu().numpy().astype(float).reshape(int(len(counts) ** 0.5), -1)
    both, total = np.diag(table), table.sum(axis=0) + table.sum(axis=1)
    top, bottom = (2 * both, total) if metric == "dice" else (both, total - both)
    return [float(t / b) if b else 1.0 for t, b in zip(top, bottom)]


def weighted(counts: torch.Tensor, chosen: TrainingParams) -> float:
    """The figure that chooses the checkpoint: pooled Dice or IoU, averaged with class weights.

    Pooled over cases, because the mean over cases ignores what is invented where a class is absent.
    """
    return float(np.average(pooled(counts, chosen.selection_metric), weights=chosen.selection_class_weights))


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


def validate(
    model: nn.Module,
    arrays: Arrays,
    rows: np.ndarray,
    chosen: TrainingParams,
    device: torch.device,
    precision: torch.dtype,
) -> tuple[float, torch.Tensor]:
    """Loss, and pixels by reference and predicted class, on validation cases at network size."""
    model.eval()
    loss_sum = torch.zeros((), device=device)
    counts = torch.zeros(len(chosen.classes) ** 2, dtype=torch.int64, device=device)
    mixture = mixture_of(chosen)
    with torch.inference_mode():
        for first in range(0, len(rows), prediction.BATCH):
            batch = rows[first : first + prediction.BATCH]
            reference = torch.as_tensor(arrays.masks[batch]).to(device).long()
            logits = prediction.forward(model, prediction.to_input(arrays.images[batch], device), precision)
            loss = losses.combined(logits, reference, mixture)
            loss_sum += loss * len(batch)
            counts += confusion(logits, reference, len(chosen.classes))
    return float(loss_sum) / len(rows), counts


def _is_exhausted(history: list[dict[str, Any]], patience: int | None) -> bool:
    """Whether the last `patience` epochs brought nothing better."""
    best = max((row["epoch"] for row in history if row["best"]), default=0)
    return patience is not None and len(history) - best >= patience


def save_state(path: Path, mark: str, moving: dict[str, Any], so_far: dict[str, Any]) -> None:
    """Writes all that the next epoch depends on in one file, whole or not at all.

    Draws are functions of (seed, epoch, case), so the only random state is torch's. The best weights so far lie in
    the same file as the history that calls them the best.
    """
    state = {name: part.state_dict() for name, part in moving.items()}
    with files.replacing(path) as temporary:
        torch.save(state | so_far | {"mark": mark, "random": torch.get_rng_state()}, temporary)


def read_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote; empty where there is none, or a file that cannot be read as such."""
    if not path.is_file():
        return {}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError):  # whatever a broken archive raises
        return {}
    return state if isinstance(state, dict) else {}


def _resume(folder: Path, mark: str, moving: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Takes up the state of an unfinished run with this mark: history, timing, best weights; empty for a new run."""
    state = read_state(folder / "state.pt")
    if state.get("mark") != mark:
        for name in (*FINISHED_FILES, "state.pt"):
            (folder / name).unlink(missing_ok=True)
        return {"history": [], "timing": [], "weights": {}}
    for name, part in moving.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["random"])
    say(f"goes on after epoch {len(state['history'])}")
    return {name: state[name] for name in ("history", "timing", "weights")}


def progress(row: dict[str, Any], timing: dict[str, Any], chosen: TrainingParams) -> str:
    """One line an epoch."""
    metric, epochs = {"dice": "Dice", "iou": "IoU"}[chosen.selection_metric], chosen.epochs
    return (
        f"epoch {row['epoch']:3d}/{epochs}   loss {row['train_loss']:.4f} / {row['validation_loss']:.4f}   "
        f"{metric} {row['train_selection']:.4f} / {row['selection']:.4f}{' *' if row['best'] else '  '}   "
        f"{timing['images_per_second']:.0f} images/s"
    )


def _finish(
    folder: Path,
    mark: str,
    history: list[dict[str, Any]],
    timing: list[dict[str, Any]],
    chosen: TrainingParams,
    device: torch.device,
    precision: torch.dtype,
    parts: dict[str, list[str]],
) -> Run:
    """Writes tables, then run.json, then drops the state that only an unfinished run needs."""
    best = [row for row in history if row["best"]][-1]
    files.write_csv(folder / "history.csv", pd.DataFrame(history))
    files.write_csv(folder / "timing.csv", pd.DataFrame(timing))
    files.write_json(
        folder / "run.json",
        {
            "fingerprint": mark,
            "best_epoch": best["epoch"],
            "best_value": best["selection"],
            "epochs": len(history),
            "stopped_early": len(history) < chosen.epochs,
            "device": device.type,
            "precision": str(precision).removeprefix("torch."),
            "train_cases": len(parts["train"]),
            "validation_cases": len(parts["validation"]),
            "weights_sha256": files.sha256(folder / "model.safetensors"),
        },
    )
    os.unlink(folder / "state.pt")
    return Run(pd.DataFrame(history), pd.DataFrame(timing), best["epoch"], best["selection"])
