"""Native images to arrays of one size, once, and the way back known for each."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from lib import arrays, cases, datasets, files, geometry, metrics, provenance
from lib.arrays import Arrays
from lib.geometry import Geometry


def fingerprint(table: pd.DataFrame, dataset: datasets.Dataset, image_size: list[int]) -> str:
    """Digest of what the arrays depend on: cases and their bytes, classes, size, code.

    Of the code, what this data set's masks go through: another data set's module changes nothing here.
    """
    reader = getattr(dataset.read_mask, "func", dataset.read_mask).__module__
    own = {name for name in (reader, "lib.geometry", "lib.cases") if provenance.module_file(name) is not None}
    code = provenance.module_hashes(own)
    return files.digest(
        {
            "cases": list(zip(table["case"], table["sha256"])),
            "classes": list(dataset.classes),
            "image_size": image_size,
            "code": code | {"lib.preprocessing": provenance.module_hash("lib.preprocessing")},
        }
    )[:16]


def preprocess(table: pd.DataFrame, dataset: datasets.Dataset, image_size: list[int]) -> Arrays:
    """Arrays of all cases, from data/processed/<fingerprint>/ if they are there, else made now.

    Args:
        table: the manifest.
        dataset: reads the masks.
        image_size: [rows, columns] of the network's input.

    Raises:
        ValueError: a file has changed since the manifest was written, or cannot be read.
    """
    name = fingerprint(table, dataset, image_size)
    folder = files.processed_folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{name}.lock")):  # two studies may want the same arrays
        if not (folder / "dataset.json").is_file():
            _make(folder, table, dataset, image_size)
    return arrays.open_arrays(name)


def _make(folder: Path, table: pd.DataFrame, dataset: datasets.Dataset, image_size: list[int]) -> None:
    """Writes the arrays in a folder of their own that gets its name when all is there."""
    making = folder.with_name(f".making-{folder.name}")
    shutil.rmtree(making, ignore_errors=True)  # left by a process that was killed
    making.mkdir()
    try:
        geometries = _write_arrays(making, table, dataset, (image_size[0], image_size[1]))
        rows = pd.DataFrame([asdict(each) for each in geometries])
        rows.insert(0, "case", table["case"].to_numpy())
        files.write_csv(making / "geometry.csv", rows)
        hashes = {name: files.sha256(making / name) for name in ("images.npy", "masks.npy")}
        files.write_json(making / "dataset.json", {"fingerprint": folder.name, "arrays": hashes, "size": image_size})
        shutil.rmtree(folder, ignore_errors=True)  # without dataset.json it is no data set
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _write_arrays(
    folder: Path, table: pd.DataFrame, dataset: datasets.Dataset, size: tuple[int, int]
) -> list[Geometry]:
    count = len(table)
    memory = np.lib.format.open_memmap
    images = memory(folder / "images.npy", "w+", np.uint8, (count, 1, *size))
    masks = memory(folder / "masks.npy", "w+", np.uint8, (count, *size))

    def put(row: int, image_path: str, mask_path: str, content: str) -> Geometry:
        mask_paths = cases.split_paths(mask_path)
        if cases.content_hash(files.ROOT / image_path, mask_paths) != content:
            raise ValueError(f"{image_path} or its mask has changed since 01_data_verification; run that again")
        image = cases.read_grey(files.ROOT / image_path)
        mask = dataset.read_mask(mask_paths)
        mapping = geometry.fit(image.shape, size)
        images[row, 0] = geometry.image_to_network(image, mapping)
        masks[row] = geometry.mask_to_network(mask, mapping, len(dataset.classes))
        return mapping

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        geometries = list(pool.map(put, range(count), table["image"], table["mask"], table["sha256"]))
    images.flush()
    masks.flush()
    return geometries


def round_trip(table: pd.DataFrame, dataset: datasets.Dataset, prepared: Arrays, names: list[str]) -> pd.DataFrame:
    """Dice of reference masks after the way to network size and back: what a hard mask of that size loses.

    Returns:
        Columns case, class, dice; a class that a case does not show has no row.
    """
    native = datasets.load(dataset, table, names).masks
    rows = []
    for name, mask, row in zip(names, native, prepared.rows(names)):
        shares = np.stack([prepared.masks[row] == index for index in range(len(dataset.classes))]).astype(np.float32)
        back = np.argmax(geometry.to_native(shares, prepared.geometries[row]), axis=0)
        for index, class_name in enumerate(dataset.classes):
            if index and (mask == index).any():
                dice = metrics.overlap(mask, back, index).dice
                rows.append({"case": name, "class": class_name, "dice": dice})
    return pd.DataFrame(rows, columns=["case", "class", "dice"])


def point_error(prepared: Arrays) -> float:
    """Largest distance, in pixels, of image corners and middles after the way to network size and back."""
    worst = 0.0
    for each in prepared.geometries:
        points = np.array([[0, 0], [each.native_height - 1, each.native_width - 1], [each.native_height / 2, 0]])
        back = geometry.points_to_native(geometry.points_to_network(points, each), each)
        worst = max(worst, float(np.abs(back - points).max()))
    return worst


def aspect_error(prepared: Arrays) -> float:
    """Largest departure from the native aspect, in network pixels over the image's width."""
    return max(abs(each.scale_col - each.scale_row) * each.native_width for each in prepared.geometries)


def ceiling_table(losses: pd.DataFrame) -> pd.DataFrame:
    """`round_trip` in a row a class: class, cases, dice_mean, dice_min."""
    grouped = losses.groupby("class", sort=False)["dice"]
    return grouped.agg(cases="size", dice_mean="mean", dice_min="min").reset_index()
