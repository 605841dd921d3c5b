"""Preprocessed arrays of heads with landmarks and of volumes, and trainings of a second."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib.data.arrays import Arrays
from lib.imaging import head_points, heatmaps
from lib.study import array_files, files
from lib.training import loop, saving
from lib.training.checkpoint import Run
from tests.builders import NETWORK, arrays_of, discs, of_images, of_volumes, training_params

SIGMA = 2.0
SHAPE = (96, 128)  # of heatmaps
STABLE = ("history.csv", "model.safetensors", "run.json")  # files of a run that are reproducible; timing.csv is not
LANDMARKS = {"landmarks": "multicentre", "schedule": "one_cycle", "rotation_deg": 5.0, "scale_fraction": 0.05}
HEAD = np.array([[40.0, 20.0], [52.0, 110.0], [20.0, 60.0], [80.0, 70.0]])  # four points in a frame of SHAPE


def landmarked(count: int = 12, size: int = 32, seed: int = 0) -> Arrays:
    """Endpoints of OFDs as bright spots and of BPDs as paler ones, on noise; the order of endpoints is random."""
    draw = np.random.default_rng(seed)
    images, points = np.zeros((count, 1, size, size), np.uint8), np.zeros((count, 4, 2), np.float32)
    masks = np.zeros((count, size, size), np.uint8)
    for row in range(count):
        centre, major = draw.uniform(size * 0.45, size * 0.55, 2), size * draw.uniform(0.5, 0.6)
        points[row] = head_points.axis_endpoints(centre, major, major * 0.7, draw.uniform(0, 180))
        points[row] = points[row][[1, 0, 2, 3]] if draw.random() < 0.5 else points[row]
        spots = heatmaps.encode(points[row], SIGMA, (size, size), "line")
        images[row, 0] = draw.integers(0, 30, (size, size)) + 220 * spots[0] * (spots[0] > spots[1]) + 100 * spots[1]
        masks[row] = spots.max(axis=0) > 0.1
    names, keys = [f"head{n}" for n in range(count)], {"heatmap_sigma": SIGMA, "heatmap_sigma_unit": "pixels"}
    fields = {"points": points, "sigmas": np.full(count, SIGMA, np.float32)}
    fields |= {"preparation": of_images(size, size) | keys}
    return arrays_of(names, images, masks, f"landmarked-{count}-{size}-{seed}", **fields)


def volumes(count: int = 4, slices: int = 5, size: int = 32, seed: int = 0) -> Arrays:
    """Normalised three-channel volumes: noise, a background of -1, and a bright disc in all but the outer slices."""
    draw = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    images = np.full((count * slices, 3, size, size), -1.0, np.float32)
    masks = np.zeros((count * slices, size, size), np.uint8)
    head = (rows - size / 2) ** 2 + (cols - size / 2) ** 2 <= (0.45 * size) ** 2
    for index in range(count * slices):
        if 0 < index % slices < slices - 1:
            row, col = draw.uniform(size * 0.4, size * 0.6, 2)
            masks[index] = (rows - row) ** 2 + (cols - col) ** 2 <= (size * draw.uniform(0.1, 0.2)) ** 2
        tissue = draw.normal(0, 0.3, (3, size, size)) + 3 * masks[index] * np.array([0.5, 1.0, -0.2])[:, None, None]
        images[index][:, head] = tissue[:, head].clip(-1)
    names, numbers = [f"patient{n}" for n in range(count) for _ in range(slices)], np.arange(1, slices + 1)
    fields = {"slices": np.tile(numbers, count), "preparation": of_volumes(size, size)}
    return arrays_of(names, images, masks, f"volumes-{count}-{slices}-{size}-{seed}", **fields)


def parts_of(arrays: Arrays) -> dict[str, list[str]]:
    """Assigns two thirds of the cases to training, a third to validation."""
    names = list(dict.fromkeys(arrays.names))
    cut = len(names) * 2 // 3
    return {"train": names[:cut], "validation": names[cut:], "test": []}


def of_network(**arguments: object) -> dict[str, object]:
    """The `models.describe` record of the small U-Net with other arguments."""
    return NETWORK | {"arguments": NETWORK["arguments"] | arguments}


HEATMAPS = of_network(out_channels=2, base_channels=8)


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


class Stopped(Exception):
    """Raised by `fit` in the middle of a run."""


def fit(
    folder: Path,
    arrays: Arrays | None = None,
    stop_after: int | None = None,
    network: dict[str, object] = NETWORK,
    **keys: object,
) -> tuple[Run | None, list[str]]:
    """The run of a training, or None if it is stopped after an epoch, and its log lines; saves after every step."""
    arrays, lines = arrays or discs(12), []

    def log(line: str) -> None:
        lines.append(line)
        if stop_after and line.startswith(f"epoch {stop_after:3d}/"):
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "SECONDS", 0.0)
        try:
            return loop.fit(training_params(**keys), network, arrays, parts_of(arrays), folder, log), lines
        except Stopped:
            return None, lines


def contents(folder: Path) -> dict[str, bytes]:
    """The reproducible files of a finished run."""
    return {name: (folder / name).read_bytes() for name in STABLE}


def heatmap_batch(heads: list[np.ndarray], sigma: float = 3.0, per: str = "line") -> torch.Tensor:
    """Heatmaps of heads in a frame of SHAPE: (N, 2 or 4, H, W)."""
    return torch.from_numpy(np.stack([heatmaps.encode(head, sigma, SHAPE, per) for head in heads]))


def write_arrays(folder: Path, arrays: Arrays) -> None:
    """Writes arrays as preprocessing does; the folder is named after their fingerprint."""
    folder.mkdir()
    np.save(folder / "images.npy", arrays.images)
    np.save(folder / "masks.npy", arrays.masks)
    rows = pd.DataFrame([asdict(each) for each in arrays.geometries])
    rows.insert(0, "case", arrays.names)
    rows.insert(1, "slice", arrays.slices)
    rows["sigma"] = np.nan if arrays.sigmas is None else arrays.sigmas
    files.write_csv(folder / "geometry.csv", rows)
    if arrays.points is not None:
        np.save(folder / "points.npy", arrays.points)
    about = {"fingerprint": folder.name, "files": array_files.describe(folder), "preparation": arrays.preparation}
    files.write_json(folder / "dataset.json", about)
