"""Native images to arrays of one size, once, and the way back known for each."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Source:
    """What arrays are made of.

    Attributes:
        table: the manifest.
        dataset: reads images and masks.
        points: native landmarks (points.csv of 01), None where none are learnt.
        preparation: what is done to every case, as of `lib.imaging.preparation`.
    """

    table: pd.DataFrame
    dataset: Dataset
    points: pd.DataFrame | None
    preparation: dict[str, Any]


def source_of(
    chosen: PreprocessingParams, table: pd.DataFrame, dataset: Dataset, points: pd.DataFrame | None
) -> Source:
    """What a study's arrays are made of; of the keys of 02_preprocessing those that this data set uses."""
    keys = ["image_size"]
    keys += preparation.VOLUME_KEYS if dataset.volumes else ()
    keys += preparation.LANDMARK_KEYS if points is not None else ()
    about = {"volumes": dataset.volumes, "channels": dataset.channels} | {key: getattr(chosen, key) for key in keys}
    return Source(table, dataset, points, about if dataset.volumes else about | {"grey": preparation.GREY})


def fingerprint(source: Source) -> str:
    """Digest of what the arrays depend on: cases and their bytes, classes, size, code; keys that are used.

    Of the code, what this data set's files go through: another data set's module changes nothing here.
    """
    dataset, table = source.dataset, source.table
    used = {
        "lib.imaging.geometry",
        "lib.data.cases",
        "lib.imaging.image_files",
        "lib.study.parallel",
        *(_module(read) for read in (dataset.read_mask, dataset.read_image)),
    }
    used |= {"lib.imaging.volumes", "lib.imaging.intensity"} if dataset.volumes else set()
    depends = {"cases": list(zip(table["case"], table["sha256"])), "classes": list(dataset.classes)}
    if source.points is not None:
        used.add("lib.imaging.head_points")
        depends["points"] = source.points.to_csv(index=False)
        if source.preparation["heatmap_sigma_unit"] == "mm":  # pixel sizes lie in a table that no case's hash covers
            depends["pixel_mm"] = table[["spacing_row_mm", "spacing_col_mm"]].to_csv(index=False)
    code = provenance.module_hashes({name for name in used if provenance.module_file(name) is not None})
    depends["preparation"] = source.preparation
    modules = ("lib.preprocessing", "lib.imaging.preparation", "lib.datasets.samples")
    own = {name: provenance.module_hash(name) for name in modules}
    return files.digest(depends | {"code": code | own})[:16]


def _module(function: object) -> str:
    return getattr(function, "func", function).__module__


def preprocess(source: Source, say: Callable[[str], None] = print) -> Arrays:
    """Arrays of all cases, from data/processed/<fingerprint>/ if they are there as they were made, else made now.

    Args:
        source: what they are made of.
        say: gets a line where arrays are there, but not as they were made.

    Raises:
        ValueError: a file has changed since the manifest was written, or cannot be read.
    """
    name = fingerprint(source)
    folder = files.processed_folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locks.held(folder.with_name(f".{name}.lock"), "preprocessing"):  # two studies may want the same arrays
        wrong = array_files.byte_fault(name)
        if wrong is not None:
            if folder.is_dir():
                say(f"data/processed/{name}: {wrong}; the arrays are made again")
            _make(folder, source)
    return arrays.open_arrays(name)


def _make(folder: Path, source: Source) -> None:
    """Writes the arrays, whole or not at all."""
    with files.replacing_folder(folder) as new:
        rows = _write_volumes(new, source) if source.dataset.volumes else _write_images(new, source)
        rows["sigma"] = np.nan if source.points is None else _write_points(new, source, rows)
        files.write_csv(new / "geometry.csv", rows)
        about = {"fingerprint": folder.name, "files": array_files.describe(new), "preparation": source.preparation}
        files.write_json(new / "dataset.json", about)


def _memory(folder: Path, source: Source, rows: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks on disk, to be filled."""
    size, kind = tuple(source.preparation["image_size"]), np.float32 if source.dataset.volumes else np.uint8
    memory = np.lib.format.open_memmap
    images = memory(folder / "images.npy", "w+", kind, (rows, channels, *size))
    return images, memory(folder / "masks.npy", "w+", np.uint8, (rows, *size))


def _write_images(folder: Path, source: Source) -> pd.DataFrame:
    table, classes = source.table, len(source.dataset.classes)
    images, masks = _memory(folder, source, len(table), 1)

    def put(place: int) -> Geometry:
        image, mask = samples.read_case(source.dataset, table.iloc[place])
        prepared = preparation.prepare(image, source.preparation)
        images[place] = prepared.images[0]
        masks[place] = geometry.mask_to_network(mask, prepared.mapping, classes)
        return prepared.mapping

    mappings = parallel.in_parallel(put, range(len(table)))
    images.flush()
    masks.flush()
    return _geometry_rows(table["case"].tolist(), [0] * len(table), mappings)


def _write_volumes(folder: Path, source: Source) -> pd.DataFrame:
    table, dropped = source.table, source.preparation["end_slices_dropped"]
    kept = [volumes.kept_slices(depth, dropped) for depth in table["slices"]]
    counts = [each.stop - each.start for each in kept]
    firsts = np.concatenate([[0], np.cumsum(counts)])
    images, masks = _memory(folder, source, int(firsts[-1]), source.dataset.channels)

    def put(place: int) -> Geometry:
        volume, mask = samples.read_case(source.dataset, table.iloc[place])
        prepared = preparation.prepare(volume, source.preparation)
        rows = slice(firsts[place], firsts[place + 1])
        images[rows] = prepared.images
        classes = len(source.dataset.classes)
        masks[rows] = [geometry.mask_to_network(mask[at], prepared.mapping, classes) for at in prepared.slices]
        return prepared.mapping

    mappings = parallel.in_parallel(put, range(len(table)))
    images.flush()
    masks.flush()
    names = [name for name, count in zip(table["case"], counts) for _ in range(count)]
    slices = [place for each in kept for place in range(each.start, each.stop)]
    return _geometry_rows(names, slices, [each for each, count in zip(mappings, counts) for _ in range(count)])


def _geometry_rows(names: list[str], slices: list[int], mappings: list[Geometry]) -> pd.DataFrame:
    rows = pd.DataFrame([asdict(each) for each in mappings])
    rows.insert(0, "case", names)
    rows.insert(1, "slice", slices)
    return rows


def _write_points(folder: Path, source: Source, rows: pd.DataFrame) -> np.ndarray:
    """Writes landmarks in network pixels, and gives the standard deviation of each case's heatmaps in these.

    Raises:
        ValueError: a standard deviation in mm, and a case without pixel size.
    """
    native = head_points.as_arrays(source.points, rows["case"].tolist())  # (N, P, 2)
    mappings = [Geometry(**row) for row in rows[geometry.GEOMETRY_COLUMNS].to_dict("records")]
    mapped = [geometry.points_to_network(each, mapping) for each, mapping in zip(native, mappings)]
    np.save(folder / "points.npy", np.array(mapped, np.float32))
    about = source.table.set_index("case").loc[rows["case"]]
    sizes = [cases.spacing_mm(row) for row in about.to_dict("records")]
    unknown = [name for name, size in zip(rows["case"], sizes) if size is None]
    if unknown and source.preparation["heatmap_sigma_unit"] == "mm":
        raise ValueError(f"heatmap_sigma_unit = 'mm'   {len(unknown)} cases have no pixel size: {unknown[:5]}")
    pairs = zip(mappings, sizes)
    return np.array([preparation.heatmap_sigma(source.preparation, mapping, size) for mapping, size in pairs])


def round_trip(source: Source, prepared: Arrays, names: list[str]) -> pd.DataFrame:
    """Dice of reference masks after the way to network size and back: what a hard mask of that size loses.

    Returns:
        Columns case, class, dice; a class that a case does not show has no row.
    """
    rows, classes, about = [], source.dataset.classes, source.table.set_index("case")
    for name in names:
        of_case = prepared.rows([name])
        native = samples.read_mask(source.dataset, about.loc[name])
        seen = prepared.masks[of_case]
        shares = np.stack([seen == index for index in range(len(classes))], axis=1).astype(np.float32)
        depth = native.shape[0] if native.ndim == 3 else 1
        mapping = prepared.geometry_of(name)
        back = np.argmax(geometry.slices_to_native(shares, mapping, prepared.slices[of_case], depth), axis=0)
        for index, class_name in enumerate(classes):
            if index and (native == index).any():
                dice = metrics.overlap(native.reshape(back.shape), back, index).dice
                rows.append({"case": name, "class": class_name, "dice": dice})
    return pd.DataFrame(rows, columns=["case", "class", "dice"])


def lost(source: Source, prepared: Arrays) -> pd.DataFrame:
    """Reference voxels that the network cannot find, because their slice is left out or they lie outside the crop.

    Returns:
        Columns case, reference_voxels, in_dropped_slices, outside_crop; a row a volume, none for images.
    """
    columns = ["case", "reference_voxels", "in_dropped_slices", "outside_crop"]
    if not source.dataset.volumes:
        return pd.DataFrame(columns=columns)

    def count(row: dict) -> list:
        mask = samples.read_mask(source.dataset, row) > 0
        of_case = prepared.rows([row["case"]])
        kept = mask[prepared.slices[of_case]]
        inside = kept[(slice(None), *prepared.geometry_of(row["case"]).crop)]
        return [row["case"], int(mask.sum()), int(mask.sum() - kept.sum()), int(kept.sum() - inside.sum())]

    return pd.DataFrame(parallel.in_parallel(count, source.table.to_dict("records")), columns=columns)


def rows_are_whole(source: Source, prepared: Arrays) -> bool:
    """Whether each image has one row in the arrays, and each volume one for each slice that is kept."""
    dropped = 2 * source.preparation["end_slices_dropped"] if source.dataset.volumes else 0
    held = pd.Series(prepared.names).value_counts()
    return bool((held.reindex(source.table["case"]).to_numpy() == source.table["slices"].to_numpy() - dropped).all())


def network_views(prepared: Arrays, shown: samples.Samples, channel: int) -> samples.Samples:
    """Some cases as the network gets them, to look at; without pixel sizes.

    Args:
        prepared: arrays.
        shown: the cases; of a volume the slice that is shown there, or the kept one nearest to it.
        channel: that people look at.
    """
    images, masks, slices = [], [], []
    for name, at in zip(shown.names, shown.slices):
        of_case = prepared.rows([name])
        row = of_case[np.argmin(np.abs(prepared.slices[of_case] - at))]
        image = prepared.images[row, channel]
        images.append(display.displayable(image, image))
        masks.append(prepared.masks[row])
        slices.append(int(prepared.slices[row]))
    return samples.Samples(shown.names, images, masks, [None] * len(images), slices)


def point_error(prepared: Arrays) -> float:
    """Largest distance, in pixels, of image corners and middles after the way to network size and back."""
    worst = 0.0
    for each in prepared.geometries:
        marks = np.array([[0, 0], [each.native_height - 1, each.native_width - 1], [each.native_height / 2, 0]])
        back = geometry.points_to_native(geometry.points_to_network(marks, each), each)
        worst = max(worst, float(np.abs(back - marks).max()))
    return worst


def aspect_error(prepared: Arrays) -> float:
    """Largest departure from the native aspect, in network pixels over the image's width."""
    return max(abs(each.scale_col - each.scale_row) * each.crop_width for each in prepared.geometries)


def ceiling_table(losses: pd.DataFrame) -> pd.DataFrame:
    """`round_trip` in a row a class: class, cases, dice_mean, dice_min."""
    grouped = losses.groupby("class", sort=False)["dice"]
    return grouped.agg(cases="size", dice_mean="mean", dice_min="min").reset_index()
