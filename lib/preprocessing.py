"""Preprocessing of native images into arrays of one size, with the geometry that maps each back."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib import metrics
from lib.data import arrays, cases
from lib.data.arrays import Arrays
from lib.data.dataset import Dataset
from lib.datasets import samples
from lib.imaging import display, geometry, head_points, preparation, volumes
from lib.imaging.geometry import Geometry
from lib.study import array_files, files, locks, parallel, provenance
from lib.study.params import PreprocessingParams
from lib.study.progress import Live


@dataclass(frozen=True)
class Source:
    """Everything that the arrays depend on, except code."""

    table: pd.DataFrame  # the manifest
    dataset: Dataset
    points: pd.DataFrame | None  # native landmarks (points.csv of 01), or None
    preparation: dict[str, Any]  # settings for `lib.imaging.preparation`


def source_of(
    config: PreprocessingParams, table: pd.DataFrame, dataset: Dataset, points: pd.DataFrame | None
) -> Source:
    """The source of a study's arrays, with those keys of 02_preprocessing that its data set uses."""
    keys = ["image_size"]
    keys += preparation.VOLUME_KEYS if dataset.volumes else ()
    keys += preparation.LANDMARK_KEYS if points is not None else ()
    settings = {"volumes": dataset.volumes, "channels": dataset.channels} | {key: getattr(config, key) for key in keys}
    return Source(table, dataset, points, settings if dataset.volumes else settings | {"grey": preparation.GREY})


def fingerprint(source: Source) -> str:
    """Digest of all dependencies of the arrays: cases and their bytes, classes, keys in use, and code.

    Only modules that process this data set's files count, so that another data set's module has no effect.
    """
    dataset, table = source.dataset, source.table
    used = {"lib.imaging.geometry", "lib.data.cases", "lib.imaging.image_files", "lib.study.parallel"}
    used |= {getattr(read, "func", read).__module__ for read in (dataset.read_mask, dataset.read_image)}
    used |= {"lib.imaging.volumes", "lib.imaging.intensity"} if dataset.volumes else set()
    depends = {"cases": list(zip(table["case"], table["sha256"])), "classes": list(dataset.classes)}
    if source.points is not None:
        used.add("lib.imaging.head_points")
        depends["points"] = source.points.to_csv(index=False)
        if source.preparation["heatmap_sigma_unit"] == "mm":  # the hashes of the cases do not cover pixel sizes
            depends["pixel_mm"] = table[cases.PIXEL_SIZE].to_csv(index=False)
    code = provenance.module_hashes({name for name in used if provenance.module_file(name) is not None})
    depends["preparation"] = source.preparation
    for name in ("lib.preprocessing", "lib.imaging.preparation", "lib.datasets.samples"):
        code[name] = provenance.module_hash(name)
    return files.digest(depends | {"code": code})[:16]


def preprocess(source: Source, log: Callable[[str], None] = print, live: Live | None = None) -> Arrays:
    """Arrays of all cases, computed unless they exist unchanged; ValueError: a raw file is unreadable or changed."""
    name = fingerprint(source)
    folder = files.processed_folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locks.locked(folder.with_name(f".{name}.lock"), "preprocessing"):  # two studies may need the same arrays
        fault = array_files.byte_fault(name)
        if fault is not None:
            if folder.is_dir():
                log(f"data/processed/{name}: {fault}; recomputing the arrays")
            _make(folder, source, live)
    return arrays.open_arrays(name)


def _make(folder: Path, source: Source, live: Live | None) -> None:
    """Writes the arrays atomically."""
    with files.replacing_folder(folder) as new:
        rows = _write_images(new, source, live)
        rows["sigma"] = np.nan if source.points is None else _write_points(new, source, rows)
        files.write_csv(new / "geometry.csv", rows)
        about = {"fingerprint": folder.name, "files": array_files.describe(new), "preparation": source.preparation}
        files.write_json(new / "dataset.json", about)


def _write_images(folder: Path, source: Source, live: Live | None) -> pd.DataFrame:
    """Writes images and masks; returns the geometry of each row, an image or a kept slice of a volume."""
    table, dataset, size = source.table, source.dataset, tuple(source.preparation["image_size"])
    dropped = source.preparation.get("end_slices_dropped", 0)
    kept = [volumes.kept_slices(depth, dropped) for depth in table["slices"]]
    firsts = np.concatenate([[0], np.cumsum([part.stop - part.start for part in kept])])
    memory, dtype = np.lib.format.open_memmap, np.float32 if dataset.volumes else np.uint8
    images = memory(folder / "images.npy", "w+", dtype, (int(firsts[-1]), dataset.channels, *size))
    masks = memory(folder / "masks.npy", "w+", np.uint8, (int(firsts[-1]), *size))

    def write(index: int) -> list[dict[str, Any]]:
        native, mask = samples.read_case(dataset, table.iloc[index])
        prepared = preparation.prepare(native, source.preparation)
        mapping, slices = prepared.mapping, (mask if dataset.volumes else mask[None])[prepared.slices]
        rows = slice(firsts[index], firsts[index + 1])
        images[rows] = prepared.images
        masks[rows] = [geometry.mask_to_network(each, mapping, len(dataset.classes)) for each in slices]
        return [{"case": table["case"].iloc[index], "slice": at, **asdict(mapping)} for at in prepared.slices]

    rows = parallel.in_parallel(write, range(len(table)), live, "preprocessed case")
    images.flush()
    masks.flush()
    return pd.DataFrame(list(chain.from_iterable(rows)))


def _write_points(folder: Path, source: Source, rows: pd.DataFrame) -> np.ndarray:
    """Writes landmarks in network pixels; returns the standard deviation of each case's heatmaps in network pixels."""
    native = head_points.as_arrays(source.points, rows["case"].tolist())  # (N, P, 2)
    mappings = [Geometry(**row) for row in rows[geometry.GEOMETRY_COLUMNS].to_dict("records")]
    mapped = [geometry.points_to_network(points, mapping) for points, mapping in zip(native, mappings)]
    np.save(folder / "points.npy", np.array(mapped, np.float32))
    about = source.table.set_index("case").loc[rows["case"]]
    unknown = about.index[~cases.has_pixel_size(about)].tolist()
    if unknown and source.preparation["heatmap_sigma_unit"] == "mm":
        raise ValueError(f"heatmap_sigma_unit = 'mm'   {len(unknown)} cases have no pixel size: {unknown[:5]}")
    sizes = map(cases.spacing_mm, about.to_dict("records"))
    return np.array([preparation.heatmap_sigma(source.preparation, *each) for each in zip(mappings, sizes)])


def round_trip(source: Source, prepared: Arrays, names: list[str]) -> pd.DataFrame:
    """Dice of reference masks mapped to network size and back: case, class, dice; no rows for absent classes."""
    rows, classes, about = [], source.dataset.classes, source.table.set_index("case")
    for name in names:
        of_case = prepared.rows([name])
        native = samples.read_mask(source.dataset, about.loc[name])
        masks = prepared.masks[of_case]  # read from disk once
        shares = np.stack([masks == index for index in range(len(classes))], axis=1)
        depth = native.shape[0] if native.ndim == 3 else 1
        mapping, slices = prepared.geometry_of(name), prepared.slices[of_case]
        back = np.argmax(geometry.slices_to_native(shares.astype(np.float32), mapping, slices, depth), axis=0)
        for index, class_name in enumerate(classes):
            if index and (native == index).any():
                dice = metrics.overlap(native.reshape(back.shape), back, index).dice
                rows.append({"case": name, "class": class_name, "dice": dice})
    return pd.DataFrame(rows, columns=["case", "class", "dice"])


def lost_voxels(source: Source, prepared: Arrays) -> pd.DataFrame:
    """Number of reference voxels of each volume outside the network's input: in dropped slices, or outside the crop."""

    def count(row: dict) -> list:
        mask = samples.read_mask(source.dataset, row) > 0
        kept = mask[prepared.slices[prepared.rows([row["case"]])]]
        inside = kept[(slice(None), *prepared.geometry_of(row["case"]).crop)]
        return [row["case"], int(mask.sum()), int(mask.sum() - kept.sum()), int(kept.sum() - inside.sum())]

    rows = source.table.to_dict("records") if source.dataset.volumes else []
    columns = ["case", "reference_voxels", "in_dropped_slices", "outside_crop"]
    return pd.DataFrame(parallel.in_parallel(count, rows), columns=columns)


def rows_are_complete(source: Source, prepared: Arrays) -> bool:
    """Whether the arrays have one row per image, or one per kept slice of each volume."""
    expected = source.table["slices"] - 2 * source.preparation.get("end_slices_dropped", 0)
    rows = pd.Series(prepared.names).value_counts().reindex(source.table["case"])
    return bool((rows.to_numpy() == expected.to_numpy()).all())


def network_views(prepared: Arrays, native: samples.Samples, channel: int) -> samples.Samples:
    """One channel of the network's input for each sample; for volumes, the kept slice nearest to the sample's."""
    of_cases = [prepared.rows([name]) for name in native.names]
    rows = [kept[np.argmin(np.abs(prepared.slices[kept] - at))] for kept, at in zip(of_cases, native.slices)]
    images = [prepared.images[row, channel] for row in rows]
    images, masks = [display.displayable(image, image) for image in images], [prepared.masks[row] for row in rows]
    return samples.Samples(native.names, images, masks, [None] * len(rows), prepared.slices[rows].tolist())


def point_error(prepared: Arrays) -> float:
    """Maximum error, in native pixels, of image corners and edge midpoints mapped to network size and back."""
    worst = 0.0
    for mapping in prepared.geometries:
        height, width = mapping.native_height, mapping.native_width
        points = np.array([[0, 0], [height - 1, width - 1], [height / 2, 0]])
        back = geometry.points_to_native(geometry.points_to_network(points, mapping), mapping)
        worst = max(worst, float(np.abs(back - points).max()))
    return worst


def aspect_error(prepared: Arrays) -> float:
    """Maximum deviation from the native aspect ratio, in network pixels over the image's width."""
    return max(abs(each.scale_col - each.scale_row) * each.crop_width for each in prepared.geometries)


def ceiling_table(losses: pd.DataFrame) -> pd.DataFrame:
    """Summary of `round_trip`, one row per class: class, cases, dice_mean, dice_min."""
    grouped = losses.groupby("class", sort=False)["dice"]
    return grouped.agg(cases="size", dice_mean="mean", dice_min="min").reset_index()
