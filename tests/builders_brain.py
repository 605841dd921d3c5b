"""The layout of Alzubaidi et al. 2023 in small: 40x60 images, colour masks with every class, tables of pixel sizes."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from tests.builders import save_png

CLASSES = np.zeros((40, 60), np.uint8)
CLASSES[5:35, 10:50] = 1
CLASSES[10:14, 20:26] = 2
CLASSES[20:28, 15:25] = 3
PLANES = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)]  # of background, parenchyma, CSP, ventricles
DIVERSE = [(0, 0, 0), (255, 0, 0), (255, 255, 0), (0, 0, 255)]
PASCAL = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nBrain:255,0,0::\nCSP:0,255,0::\nLV:0,0,255::\n"
HC18_TABLE = "training_set_pixel_size_and_HC.csv"
HC18_HEADER = "filename,pixel size(mm),head circumference (mm)\n"


@dataclass(frozen=True)
class Group:
    """Names of one group's parts, as published."""

    name: str
    images: str
    export: str
    cases: tuple[str, ...]
    table: str = ""
    column: str = "Pixel  in mm"
    colours: list[tuple[int, int, int]] = field(default_factory=lambda: PLANES)


THALAMIC = Group(
    "Trans-thalamic",
    "Trans-thalamic",
    "Trans-thalamic-Segmentation",
    ("Patient00168_Plane3_1_of_3", "Patient00168_Plane3_10_of_12", "Patient00020_Plane3_2_of_2"),
    "Trans-Thalamic-Pixel-Size.csv",
)
VENTRICULAR = Group(
    "Trans-ventricular",
    "Trans-ventricular",
    "Trans-ventricular-segmentation-mask",
    ("Patient00168_Plane3_2_of_3", "Patient00007_Plane3_1_of_1"),
    "Trans-ventricular-Pixel-Size.csv",
    "Pixel in mm",
)
CEREBELLUM = Group(
    "Trans-cerebellum",
    "Trans-cerebellum",
    "Trans-cerebellum-Segmentation",
    ("Patient00009_Plane3_1_of_1",),
    "Trans-cerebellum-Pixel-Size.csv",
)
DIVERSE_HEADS = Group(
    "Diverse Fetal Head Images",
    "Orginal_train_images_to_959_661",
    "Test-Dataset-Segmentation",
    ("010_HC", "010_2HC", "002_HC"),
    colours=DIVERSE,
)
ALL = (THALAMIC, VENTRICULAR, CEREBELLUM, DIVERSE_HEADS)


def write_group(root: Path, group: Group) -> Path:
    """Images, masks and the table of pixel sizes of a group; its folder comes back."""
    folder = root / group.name
    for place, name in enumerate(group.cases):
        save_png(folder / group.images / f"{name}.png", np.full((40, 60), 20 + place, np.uint8))
    write_masks(folder / group.export, group)
    if group.table:
        rows = {f"{name}.png": round(0.1 + place / 100, 2) for place, name in enumerate(group.cases)}
        write_table(folder / group.table, group.column, rows)
    return folder


def write_masks(export: Path, group: Group, colours: list[tuple[int, int, int]] | None = None) -> Path:
    """SegmentationClass of an export, all masks alike, with a SegmentationObject beside."""
    coloured = np.array(colours or group.colours, np.uint8)[CLASSES]
    for name in group.cases:
        save_png(export / "SegmentationClass" / f"{name}.png", coloured)
        save_png(export / "SegmentationObject" / f"{name}.png", coloured)
    return export / "SegmentationClass"


def write_table(path: Path, column: str, rows: dict[str, object]) -> Path:
    """A CSV of pixel sizes with its byte-order mark."""
    text = "".join(f"{label},{size}\n" for label, size in rows.items())
    path.write_text(f"Label,{column}\n{text}", encoding="utf-8-sig")
    return path


def write_all(root: Path) -> Path:
    """Four groups, with HC18's table in Diverse."""
    for group in ALL:
        write_group(root, group)
    rows = "".join(f"{name}.png,0.{place + 1},17{place}.5\n" for place, name in enumerate(DIVERSE_HEADS.cases))
    (root / DIVERSE_HEADS.name / HC18_TABLE).write_text(HC18_HEADER + rows)
    return root


def renamed(group: Group, **names: object) -> Group:
    """A group with other names."""
    return replace(group, **names)  # type: ignore[arg-type]


def save_jpeg(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=80)
    return path
