"""Preprocessing of MRI volumes relative to the same steps with scikit-image slice by slice, without reading."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from skimage import exposure, transform

from benchmarks import table
from lib.imaging import ellipse, geometry, image_files, intensity, volumes
from lib.study import files

ROUNDS, PATIENTS = 3, 4
LEVEL, PERCENTILES, SIZE = 0.1, (10.0, 99.0), (256, 256)
TOLERANCE = 1e-3  # of a standard deviation
FOLDERS = (files.raw_folder("lgg"), files.ROOT.parent / "shared" / "data" / "lgg" / "kaggle_3m")


def rows() -> list[dict[str, object]]:
    """Slices per second of both variants, timed alternately, after a check that their results are equal."""
    source, stacks = _volumes()
    for volume in stacks:
        difference = float(np.abs(_ours(volume) - _slice_by_slice(volume)).max())
        if not difference < TOLERANCE:
            raise ValueError(f"preprocessing differs from scikit-image by {difference}; expected below {TOLERANCE}")
    pairs = [(_seconds(_slice_by_slice, each), _seconds(_ours, each)) for _ in range(ROUNDS) for each in stacks]
    bare, ours = np.array(pairs).T
    slices = np.tile([len(each) for each in stacks], ROUNDS)
    ratios = bare / ours
    return [
        table.row(
            f"preprocessing of volumes / scikit-image by slice, {source}",
            f"{np.median(slices / bare):.1f} slices/s",
            f"{np.median(slices / ours):.1f} slices/s",
            ratios,
            ">= 3",
        )
    ]


def _seconds(variant: Callable[[np.ndarray], np.ndarray], volume: np.ndarray) -> float:
    volumes.spline_matrix.cache_clear()  # patients rarely share a crop, so a study rarely reuses a matrix
    started = time.perf_counter()
    variant(volume)
    return time.perf_counter() - started


def _ours(volume: np.ndarray) -> np.ndarray:
    mapping = geometry.fit(volume.shape[1:3], SIZE, volumes.content_box(volume, LEVEL))
    measured = intensity.statistics(volume[(slice(None), *mapping.crop)], PERCENTILES)
    return volumes.to_network(volume, mapping, measured)


def _slice_by_slice(volume: np.ndarray) -> np.ndarray:
    """The same with functions of scikit-image and numpy: (D, H, W, C) uint8 -> (D, C, h, w) float32."""
    content = (volume > LEVEL * volume.reshape(-1, volume.shape[-1]).max(axis=0)).any(axis=(0, 3))
    content_rows, content_cols = np.flatnonzero(content.any(axis=1)), np.flatnonzero(content.any(axis=0))
    cropped = volume[:, content_rows[0] : content_rows[-1] + 1, content_cols[0] : content_cols[-1] + 1]
    scale = min(SIZE[0] / cropped.shape[1], SIZE[1] / cropped.shape[2])
    height, width = round(cropped.shape[1] * scale), round(cropped.shape[2] * scale)
    top, left = (SIZE[0] - height) // 2, (SIZE[1] - width) // 2
    padded = np.empty((len(volume), volume.shape[-1], *SIZE), np.float32)
    normalised = np.empty(cropped.shape, np.float32)
    for channel in range(volume.shape[-1]):
        values = cropped[..., channel].astype(np.float32)
        low, high = np.percentile(values, PERCENTILES)
        scaled = exposure.rescale_intensity(values, in_range=(low, high), out_range=(0.0, 1.0))
        mean, std = scaled.mean(), scaled.std()
        normalised[..., channel] = (scaled - mean) / std
        padded[:, channel] = -mean / std
    for index, each in enumerate(normalised):
        resized = transform.resize(each, (height, width), order=2, mode="edge", anti_aliasing=False)
        padded[index, :, top : top + height, left : left + width] = np.moveaxis(resized, -1, 0)
    return padded


def _volumes() -> tuple[str, list[np.ndarray]]:
    """Patients spread evenly through LGG as (D, H, W, 3) uint8, or drawn heads if it is missing."""
    for folder in FOLDERS:
        patients = sorted({path.parent for path in folder.rglob("*_mask.tif")}) if folder.is_dir() else []
        if patients:
            selected = np.linspace(0, len(patients) - 1, min(PATIENTS, len(patients))).round().astype(int)
            return f"{len(selected)} LGG patients", [_read(patients[index]) for index in selected]
    return f"{PATIENTS} drawn heads", [_drawn(seed) for seed in range(PATIENTS)]


def _read(patient: Path) -> np.ndarray:
    slices = [path for path in patient.glob("*.tif") if re.search(r"_\d+$", path.stem)]
    return np.stack([image_files.read_pixels(p) for p in sorted(slices, key=lambda p: int(p.stem.rpartition("_")[2]))])


def _drawn(seed: int) -> np.ndarray:
    """A speckled ellipse in 24 slices of 256 x 256 pixels."""
    draw = np.random.default_rng(seed)
    head = ellipse.fill_ellipse(ellipse.Ellipse((128, 128), 220, 170, 90), SIZE)
    return np.where(
        head[..., None], draw.integers(40, 256, (24, *SIZE, 3)), draw.integers(0, 9, (24, *SIZE, 3))
    ).astype(np.uint8)
