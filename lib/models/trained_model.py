"""Prediction of native images and volumes at native size, case by case, so that cases are independent."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from lib import models
from lib.imaging import geometry, heatmaps
from lib.imaging.geometry import Geometry
from lib.imaging.head_points import canonical
from lib.imaging.preparation import GREY, Prepared, heatmap_sigma, prepare
from lib.models import inference
from lib.study import environment

Item, Result = TypeVar("Item"), TypeVar("Result")
AT_ONCE = 16  # images on a processor at most: one of 384 x 576 takes 1.1 GB in a network of 64 channels
TURN = threading.Lock()  # held while a case has the device, or all threads of the processor


@dataclass(frozen=True)
class Model:
    """A trained network with its metadata and prediction settings."""

    network: nn.Module  # on the device, in evaluation mode
    about: dict[str, Any]  # metadata of its file, including `preparation`
    flip_average: bool  # average the predictions of the image and its mirror image
    device: torch.device
    precision: torch.dtype = torch.float32  # lower only to measure its effect

    @property
    def preparation(self) -> dict[str, Any]:
        """Settings for `lib.imaging.preparation`."""
        return self.about["preparation"]


def load(path: Path, flip_average: bool, device: torch.device) -> Model:
    """Loads a model in float32; ValueError if the file is corrupt or lacks the preparation of images."""
    network, about = models.load_described(path)
    if "preparation" not in about:
        raise ValueError(f"{path}: the metadata lack the preparation of images (older weights); rerun the study")
    grey = about["preparation"].get("grey", GREY)
    if grey != GREY:
        raise ValueError(f"{path}: grey values normalised by {grey}; this version supports {GREY}")
    return Model(network.to(device, memory_format=torch.channels_last), about, flip_average, device)


def as_trained(model: Model) -> Model:
    """The model in the precision of its training."""
    return replace(model, precision=getattr(torch, model.about["training_precision"]))


def probability(model: Model, native: np.ndarray) -> np.ndarray:
    """Class probabilities at native size; slices and borders outside the network's input are background.

    (C, H, W) float32 for an image (H, W) uint8, (C, D, H, W) for a volume (D, H, W, channels) uint8; else ValueError.
    """
    prepared = prepare(native, model.preparation)
    settings = (model.device, model.precision, model.flip_average)
    with _threads_for(model):
        predicted = inference.predict(model.network, prepared.images, *settings)
    if not np.isfinite(predicted).all():
        found = "NaN" if np.isnan(predicted).any() else "infinity"
        raise ValueError(
            f"the predicted probability contains {found}: the weights are damaged, or the input is not finite"
        )
    return to_native(predicted, prepared, model.preparation["volumes"])


@contextmanager
def _threads_for(model: Model) -> Iterator[None]:
    """One thread for an image on a processor, beside which threads of the caller may predict others (`in_threads`).

    So no thread waits for another within a layer, which costs most on a busy machine, and no digit of an image depends
    on the number of cores. A volume has all threads, and on other devices a case has the device: then one at a time.
    """
    if model.device.type != "cpu" or model.preparation["volumes"]:
        with TURN:
            yield
        return
    before = torch.get_num_threads()  # of the calling thread, as is what is set
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def to_native(predicted: np.ndarray, prepared: Prepared, is_volume: bool) -> np.ndarray:
    """Probabilities of a case at native size: (N, C, h, w) -> (C, H, W), or (C, D, H, W) for a volume."""
    whole = geometry.slices_to_native(predicted, prepared.mapping, prepared.slices, prepared.depth)
    np.subtract(1, whole[1:].sum(axis=0), out=whole[0])  # what lies outside the network's input is background
    return whole if is_volume else whole[:, 0]


def line_heatmaps(model: Model, native: np.ndarray) -> tuple[np.ndarray, Geometry]:
    """Heatmaps of OFD and BPD at network size, (2, h, w) float32, and the mapping to the native image (H, W)."""
    prepared = prepare(native, model.preparation)
    settings = (model.device, model.precision, model.flip_average)
    with _threads_for(model):
        return inference.predict_heatmaps(model.network, prepared.images, *settings)[0], prepared.mapping


def landmarks(
    model: Model, native: np.ndarray, spacing_mm: tuple[float, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Endpoints and peaks, as in `decode`, of a native image (H, W) uint8; None for an unknown pixel size."""
    maps, mapping = line_heatmaps(model, native)
    return decode(maps, mapping, heatmap_sigma(model.preparation, mapping, spacing_mm))


def decode(maps: np.ndarray, mapping: Geometry, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Native endpoints (4, 2) of heatmaps (2, h, w), NaN without a peak; and the lower peak of each line, (2,)."""
    points, heights = heatmaps.decode(maps, sigma)
    return canonical(geometry.points_to_native(points, mapping)), heights.reshape(2, 2).min(axis=1)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in order, computed a few items ahead in threads; the items are taken in the caller's thread."""
    workers = min(environment.threads(), AT_ONCE)
    pending: deque = deque()
    with ThreadPoolExecutor(workers, initializer=_start_with, initargs=(torch.get_num_threads(),)) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _start_with(count: int) -> None:
    """Gives a new thread its number of torch's threads.

    On its first question it would take the number that any thread has set last, which may be that of `_threads_for`.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)
