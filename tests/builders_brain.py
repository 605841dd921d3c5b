"""A small data set in the layout of Alzubaidi et al. 2023: 40x60 images, masks with every class, pixel sizes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.builders import save_png

CLASSES = np.zeros((40, 60), np.uint8)
CLASSES[5:35, 10:50] = 1
CLASSES[10:14, 20:26] = 2
CLASSES[20:28, 15:25] = 3
PLANES = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))  # of background, parenchyma, CSP, ventricles
DIVERSE = ((0, 0, 0), (255, 0, 0), (255, 255, 0), (0, 0, 255))
PASCAL = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nBrain:255,0,0::\nCSP:0,255,0::\nLV:0,0,255::\n"
HC18_TABLE = "training_set_pixel_size_and_HC.csv"


@dataclass(frozen=True)
class Group:
    """Published names of the parts of a group."""

    name: str
    images: str
    export: str
    cases: tuple[str, ...]
    table: str = ""
    column: str = "Pixel in mm"
    colours: tuple[tuple[int, int, int], ...] = PLANES


def plane(name: str, export: str, table: str, cases: str, column: str = "Pixel in mm") -> Group:
    stems = tuple("Patient{}_Plane3_{}_of_{}".format(*case.split("-")) for case in cases.split())
    return Group(name, name, f"{name}-{export}", stems, f"{table}-Pixel-Size.csv", column)


THREE = "00168-1-3 00168-10-12 00020-2-2"
THALAMIC = plane("Trans-thalamic", "Segmentation", "Trans-Thalamic", THREE, column="Pixel  in mm")
VENTRICULAR = plane("Trans-ventricular", "segmentation-mask", "Trans-ventricular", "00168-2-3 00007-1-1")
CEREBELLUM = plane("Trans-cerebellum", "Segmentation", "Trans-cerebellum", "00009-1-1")
DIVERSE_HEADS = Group(
    *("Diverse Fetal Head Images", "Orginal_train_images_to_959_661", "Test-Dataset-Segmentation"),
    cases=("010_HC", "010_2HC", "002_HC"),
    colours=DIVERSE,
)
ALL = (THALAMIC, VENTRICULAR, CEREBELLUM, DIVERSE_HEADS)


def image_of(index: int) -> np.ndarray:
    """The image of a group's case: brighter in each class, and with the case."""
    return 20 * (1 + CLASSES) + np.uint8(index)


def write_group(root: Path, group: Group) -> Path:
    """Writes images, masks and the table of pixel sizes (with byte-order mark); returns the group's folder."""
    folder = root / group.name
    for index, name in enumerate(group.cases):
        save_png(folder / group.images / f"{name}.png", image_of(index))
    write_masks(folder / group.export, group, group.colours)
    if group.table:
        rows = "".join(f"{name}.png,{round(0.1 + index / 100, 2)}\n" for index, name in enumerate(group.cases))
        (folder / group.table).write_text(f"Label,{group.column}\n{rows}", encoding="utf-8-sig")
    return folder


def write_masks(export: Path, group: Group, colours: tuple[tuple[int, int, int], ...]) -> None:
    """Writes SegmentationClass of an export with equal masks, and a SegmentationObject."""
    for name in group.cases:
        for part in ("SegmentationClass", "SegmentationObject"):
            save_png(export / part / f"{name}.png", np.array(colours, np.uint8)[CLASSES])


def write_all(root: Path) -> Path:
    """Writes four groups, with HC18's table in `diverse`."""
    for group in ALL:
        write_group(root, group)
    rows = "".join(f"{name}.png,0.{index + 1},17{index}.5\n" for index, name in enumerate(DIVERSE_HEADS.cases))
    header = "filename,pixel size(mm),head circumference (mm)\n"
    (root / DIVERSE_HEADS.name / HC18_TABLE).write_text(header + rows)
    return root


def save_jpeg(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=80)
    return path
