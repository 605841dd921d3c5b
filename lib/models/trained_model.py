"""From a native image or volume to its prediction at native size: the one way, for evaluation and for whoever uses it.

Each case is predicted by itself, so that its prediction depends on nothing that was predicted beside it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
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


@dataclass(frozen=True)
class Model:
    """A trained network and how it is used."""

    network: nn.Module  # on the device, in evaluation mode
    about: dict[str, Any]  # what its file says of it, `preparation` among it
    flip_average: bool  # whether the mirrored image is predicted too, and the mean taken
    device: torch.device
    precision: torch.dtype = torch.float32  # unless what another one costs is measured

    @property
    def preparation(self) -> dict[str, Any]:
        """As of `lib.imaging.preparation`."""
        return self.about["preparation"]


def load(path: Path, flip_average: bool, device: torch.device) -> Model:
    """A model from a file of weights, in float32; ValueError if broken or silent about how images are prepared."""
    network, about = models.load_described(path)
    if "preparation" not in about:
        raise ValueError(f"{path}: does not say how images are prepared (older weights); run the study again")
    grey = about["preparation"].get("grey", GREY)
    if grey != GREY:
        raise ValueError(f"{path}: grey values normalised by {grey}; this version knows {GREY}")
    return Model(network.to(device, memory_format=torch.channels_last), about, flip_average, device)


def as_trained(model: Model) -> Model:
    """The same model in the precision that its training computed in."""
    return replace(model, precision=getattr(torch, model.about["training_precision"]))


def probability(model: Model, native: np.ndarray) -> np.ndarray:
    """Class probabilities at native size; slices and borders that the network is not shown are background.

    An image (H, W) uint8 gives (C, H, W) float32, a volume (D, H, W, channels) uint8 (C, D, H, W). ValueError: neither.
    """
    prepared = prepare(native, model.preparation)
    how = (model.device, model.precision, model.flip_average)
    return to_native(inference.predict(model.network, prepared.images, *how), prepared, model.preparation["volumes"])


def to_native(predicted: np.ndarray, prepared: Prepared, is_volume: bool) -> np.ndarray:
    """Class probabilities of a case's rows at native size: (N, C, h, w) -> (C, H, W), of a volume (C, D, H, W)."""
    others = geometry.slices_to_native(predicted[:, 1:], prepared.mapping, prepared.slices, prepared.depth)
    whole = np.concatenate([1 - others.sum(axis=0, keepdims=True), others])
    return whole if is_volume else whole[:, 0]


def line_heatmaps(model: Model, native: np.ndarray) -> tuple[np.ndarray, Geometry]:
    """Heatmaps of both lines at network size, (2, h, w) float32, and where that lies in the native image (H, W)."""
    prepared = prepare(native, model.preparation)
    how = (model.device, model.precision, model.flip_average)
    return inference.predict_heatmaps(model.network, prepared.images, *how)[0], prepared.mapping


def landmarks(
    model: Model, native: np.ndarray, spacing_mm: tuple[float, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of OFD and BPD in a native image (H, W) uint8, and the lower peak of each line, as `decode` gives them.

    Pixels have the size (row, col), None where it is not known.
    """
    maps, mapping = line_heatmaps(model, native)
    return decode(maps, mapping, heatmap_sigma(model.preparation, mapping, spacing_mm))


def decode(maps: np.ndarray, mapping: Geometry, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends (4, 2) in native pixels, NaN without a peak, of heatmaps (2, h, w), and the lower peak of each line (2,)."""
    points, heights = heatmaps.decode(maps, sigma)
    return canonical(geometry.points_to_native(points, mapping)), heights.reshape(2, 2).min(axis=1)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in the order of the items, a few ahead; a generator of items runs here, the function in threads.

    So files are read and masks measured while the network, in the caller's thread, works on the case between.
    """
    workers = environment.threads()
    waiting: deque = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
