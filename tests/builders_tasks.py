"""Preprocessed arrays of the two other kinds, heads with landmarks and slices of volumes, and trainings of a second."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lib.data.arrays import Arrays
from lib.imaging import head_points, heatmaps
from lib.study import array_files, files
from lib.training import loop
from lib.training.checkpoint import Run
from tests.builders import NETWORK, arrays_of, discs, of_images, of_volumes, training_params

SIGMA = 2.0
SHAPE = (96, 128)  # of heatmaps
STABLE = ("history.csv", "model.safetensors", "run.json")  # of a run; timing.csv says how long it took
LANDMARKS = {"landmarks": "multicentre", "schedule": "one_cycle", "rotation_deg": 5.0, "scale_fraction": 0.05}
HEAD = np.array([[40.0, 20.0], [52.0, 110.0], [20.0, 60.0], [80.0, 70.0]])  # its four points in that frame


def landmarked(count: int = 12, size: int = 32, seed: int = 0) -> Arrays:
    """Ends of OFDs as bright spots and of BPDs as paler ones, on noise; which end is the first is left to chance."""
    draw = np.random.default_rng(seed)
    images, places = np.zeros((count, 1, size, size), np.uint8), np.zeros((count, 4, 2), np.float32)
    masks = np.zeros((count, size, size), np.uint8)
    for row in range(count):
        centre, major = draw.uniform(size * 0.45, size * 0.55, 2), size * draw.uniform(0.5, 0.6)
        places[row] = head_points.axis_endpoints(centre, major, major * 0.7, draw.uniform(0, 180))
        places[row] = places[row][[1, 0, 2, 3]] if draw.random() < 0.5 else places[row]
        spots = heatmaps.encode(places[row], SIGMA, (size, size), "line")
        images[row, 0] = draw.integers(0, 30, (size, size)) + 220 * spots[0] * (spots[0] > spots[1]) + 100 * spots[1]
        masks[row] = spots.max(axis=0) > 0.1
    names, how = [f"head{n}" for n in range(count)], {"heatmap_sigma": SIGMA, "heatmap_sigma_unit": "pixels"}
    about = {"points": places, "sigmas": np.full(count, SIGMA, np.float32)}
    about |= {"preparation": of_images(size, size) | how}
    return arrays_of(names, images, masks, f"landmarked-{count}-{size}-{seed}", **about)


def volumes(count: int = 4, slices: int = 5, size: int = 32, seed: int = 0) -> Arrays:
    """Normalised three-channel volumes of noise on a background of -1; all but the outer slices show a bright disc."""
    draw = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    images = np.full((count * slices, 3, size, size), -1.0, np.float32)
    masks = np.zeros((count * slices, size, size), np.uint8)
    for place in range(count * slices):
        head = (rows - size / 2) ** 2 + (cols - size / 2) ** 2 <= (0.45 * size) ** 2
        if 0 < place % slices < slices - 1:
            row, col = draw.uniform(size * 0.4, size * 0.6, 2)
            masks[place] = (rows - row) ** 2 + (cols - col) ** 2 <= (size * draw.uniform(0.1, 0.2)) ** 2
        tissue = draw.normal(0, 0.3, (3, size, size)) + 3 * masks[place] * np.array([0.5, 1.0, -0.2])[:, None, None]
        images[place][:, head] = tissue[:, head].clip(-1)
    names, numbers = [f"patient{n}" for n in range(count) for _ in range(slices)], np.arange(1, slices + 1)
    about = {"slices": np.tile(numbers, count), "preparation": of_volumes(size, size)}
    return arrays_of(names, images, masks, f"volumes-{count}-{slices}-{size}-{seed}", **about)


def parts_of(arrays: Arrays) -> dict[str, list[str]]:
    """Two thirds of the cases train, a third validates, none is tested."""
    names = list(dict.fromkeys(arrays.names))
    cut = len(names) * 2 // 3
    return {"train": names[:cut], "validation": names[cut:], "test": []}


def of_network(**arguments: object) -> dict[str, object]:
    """The small U-Net with other arguments, as models.describe gives it."""
    return NETWORK | {"arguments": NETWORK["arguments"] | arguments}


HEATMAPS = of_network(out_channels=2, base_channels=8)


class Stopped(Exception):
    """Raised by `fit` in the middle of a run."""


def fit(
    folder: Path,
    arrays: Arrays | None = None,
    stop_after: int | None = None,
    network: dict[str, object] = NETWORK,
    **keys: object,
) -> tuple[Run | None, list[str]]:
    """The run of a training, None if it is stopped after an epoch, and the lines that it said."""
    arrays, lines = arrays or discs(12), []

    def log(line: str) -> None:
        lines.append(line)
        if stop_after and line.startswith(f"epoch {stop_after:3d}/"):
            raise Stopped

    try:
        return loop.fit(training_params(**keys), network, arrays, parts_of(arrays), folder, log), lines
    except Stopped:
        return None, lines


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a finished run that are equal from run to run."""
    return {name: (folder / name).read_bytes() for name in STABLE}


def heatmap_batch(heads: list[np.ndarray], sigma: float = 3.0, per: str = "line") -> torch.Tensor:
    """Heatmaps of some heads in a frame of SHAPE: (N, 2 or 4, H, W)."""
    return torch.from_numpy(np.stack([heatmaps.encode(head, sigma, SHAPE, per) for head in heads]))


def write_arrays(folder: Path, made: Arrays) -> None:
    """Writes arrays as preprocessing leaves them; the folder is named after their fingerprint."""
    folder.mkdir()
    np.save(folder / "images.npy", made.images)
    np.save(folder / "masks.npy", made.masks)
    rows = pd.DataFrame([asdict(each) for each in made.geometries])
    rows.insert(0, "case", made.names)
    rows.insert(1, "slice", made.slices)
    rows["sigma"] = np.nan if made.sigmas is None else made.sigmas
    files.write_csv(folder / "geometry.csv", rows)
    if made.points is not None:
        np.save(folder / "points.npy", made.points)
    about = {"fingerprint": folder.name, "files": array_files.describe(folder), "preparation": made.preparation}
    files.write_json(folder / "dataset.json", about)
