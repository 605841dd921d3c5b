"""Cases for benchmarks on a machine without data sets: those packed by benchmarks/pack.sh, or drawn phantoms."""

import io
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.data.arrays import Arrays
from lib.datasets.phantoms import brains, heads
from lib.datasets.phantoms.write_images import DRAWN
from lib.imaging import geometry, preparation
from lib.imaging.geometry import Geometry
from lib.study import files, parallel, params

FOLDER = files.ROOT / "benchmarks" / "packed"
HC18, LGG = FOLDER / "hc18.zip", FOLDER / "lgg.zip"
PHANTOMS = 64  # drawn images; a larger set repeats them, which its speed does not notice
SEED = 12
COLUMNS = ["case", "subject", "fold_group", "stratum", "height", "width", "spacing_mm", "hc_mm"]
Pair = tuple[np.ndarray, np.ndarray, Geometry]  # network images (N, C, h, w), masks (N, h, w), and their geometry


@dataclass(frozen=True)
class Heads:
    """Heads with everything that measuring their circumference needs."""

    source: str  # "HC18" or "phantoms"
    arrays: Arrays
    table: pd.DataFrame  # COLUMNS
    masks: list[np.ndarray]  # native reference of each row of the table, (H, W) uint8


def settings_of(study: params.Study) -> dict[str, object]:
    """Preparation of the images of a study on HC18, brain structures or LGG."""
    size = {"image_size": study.image_size, "volumes": study.dataset == "lgg"}
    if not size["volumes"]:
        return size | {"channels": 1, "grey": preparation.GREY}
    return size | {"channels": 3} | {key: getattr(study, key) for key in preparation.VOLUME_KEYS}


def phantoms(study: params.Study, count: int, folder: Path) -> Arrays:
    """Arrays of `count` drawn images in the sizes, channels and classes of a study, in memory-mapped files."""
    settings, classes = settings_of(study), len(study.classes)
    distinct = min(count, PHANTOMS)
    if settings["volumes"]:
        pairs = _volumes(distinct, settings)
    else:
        drawn = parallel.in_parallel(lambda subject: heads.draw_frame(SEED, subject, 1, DRAWN), range(1, distinct + 1))
        pairs = [_prepare(frame.image, np.minimum(frame.mask, classes - 1), settings, classes) for frame in drawn]
    return store([f"p{row:05d}" for row in range(count)], pairs, settings, folder)


def lgg(study: params.Study, count: int, folder: Path) -> Arrays:
    """`count` slices of the packed patients; of phantoms if none are packed, or on a CPU."""
    if study.device == "cpu" or not LGG.is_file():
        return phantoms(study, count, folder)
    settings, classes = settings_of(study), len(study.classes)
    with zipfile.ZipFile(LGG) as packed:
        table = pd.read_csv(io.BytesIO(packed.read("cases.csv")), dtype={"case": str})
        pairs = []
        for case, depth in zip(table["case"], table["slices"]):
            names = [f"{case}/{index}" for index in range(depth)]
            image = np.stack([decode(packed.read(f"{name}.webp"), cv2.IMREAD_COLOR) for name in names])
            mask = np.stack([decode(packed.read(f"{name}.png"), cv2.IMREAD_GRAYSCALE) for name in names])
            pairs.append(_prepare(image, mask, settings, classes))
    return store([f"s{row:05d}" for row in range(count)], pairs, settings, folder)


def hc18(study: params.Study, count: int, folder: Path) -> Heads:
    """The packed images of HC18 at their packed size; `count` phantoms if none are packed, or on a CPU."""
    if study.device == "cpu" or not HC18.is_file():
        return _drawn_heads(study, count, folder)
    with zipfile.ZipFile(HC18) as packed:
        table = pd.read_csv(io.BytesIO(packed.read("cases.csv")), dtype=dict.fromkeys(COLUMNS[:4], str))
        table["stratum"] = table["stratum"].fillna("")
        images = [decode(packed.read(f"{case}.webp"), cv2.IMREAD_GRAYSCALE) for case in table["case"]]
        masks = [decode(packed.read(f"{case}.png"), cv2.IMREAD_GRAYSCALE) for case in table["case"]]
    settings = settings_of(study) | {"image_size": list(images[0].shape)}
    mappings = [geometry.fit(mask.shape, images[0].shape) for mask in masks]
    pairs = [
        (image[None, None], geometry.mask_to_network(mask, mapping, 2)[None], mapping)
        for image, mask, mapping in zip(images, masks, mappings)
    ]
    return Heads("HC18", store(table["case"].tolist(), pairs, settings, folder), table, masks)


def _drawn_heads(study: params.Study, count: int, folder: Path) -> Heads:
    drawn = parallel.in_parallel(lambda subject: heads.draw_frame(SEED, subject, 1, DRAWN), range(1, count + 1))
    masks, names = [np.minimum(frame.mask, 1) for frame in drawn], [f"p{row:05d}" for row in range(count)]
    settings = settings_of(study)
    pairs = [_prepare(frame.image, mask, settings, 2) for frame, mask in zip(drawn, masks)]
    rows = [
        (name, name, name, "", *mask.shape, frame.spacing_mm[0], frame.truth["hc_mm"])
        for name, mask, frame in zip(names, masks, drawn)
    ]
    return Heads("phantoms", store(names, pairs, settings, folder), pd.DataFrame(rows, columns=COLUMNS), masks)


def _volumes(count: int, settings: dict[str, object]) -> list[Pair]:
    """Drawn patients with at least `count` slices together."""
    pairs, slices, subject = [], 0, 0
    while slices < count:
        subject += 1
        volume = brains.draw_volume(SEED, subject)
        pairs.append(_prepare(volume.image, volume.mask, settings, 2))
        slices += len(pairs[-1][0])
    return pairs


def _prepare(native: np.ndarray, mask: np.ndarray, settings: dict[str, object], classes: int) -> Pair:
    """An image (H, W) with its mask, or a volume (D, H, W, C) with masks (D, H, W), at network size."""
    prepared = preparation.prepare(native, settings)
    kept = (mask if mask.ndim == 3 else mask[None])[prepared.slices]
    masks = [geometry.mask_to_network(each, prepared.mapping, classes) for each in kept]
    return prepared.images, np.stack(masks), prepared.mapping


def store(names: list[str], pairs: Iterable[Pair], settings: dict[str, object], folder: Path) -> Arrays:
    """Arrays of the named rows in memory-mapped files, as a study's; the pairs are repeated if they have fewer rows."""
    blocks = list(pairs)
    mappings = [mapping for images, _, mapping in blocks for _ in images]
    own = Path(tempfile.mkdtemp(dir=folder))
    files_of = {}
    for index, kind in enumerate(("images", "masks")):
        rows = np.concatenate([block[index] for block in blocks])
        path = own / f"{kind}.npy"
        written = np.lib.format.open_memmap(path, "w+", rows.dtype, (len(names), *rows.shape[1:]))
        for first in range(0, len(names), len(rows)):
            written[first : first + len(rows)] = rows[: len(names) - first]
        written.flush()
        files_of[kind] = np.load(path, mmap_mode="r")
    identity = files.digest([len(names), settings])
    return Arrays(
        names=names,
        images=files_of["images"],
        masks=files_of["masks"],
        geometries=[mappings[row % len(mappings)] for row in range(len(names))],
        slices=np.zeros(len(names), np.int64),
        points=None,
        sigmas=None,
        fingerprint=identity,
        content=identity,
        preparation=settings,
    )


def decode(content: bytes, flags: int) -> np.ndarray:
    """Pixels of a losslessly packed image: (H, W), or (H, W, 3) for IMREAD_COLOR."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
