"""Writes image phantoms in the layouts of published data sets.

Writers fill an empty folder from (seed, subject, frame); ValueError if the file names cannot hold so many subjects.
`truth.csv` next to the layout has case (as named by the layout's reader), subject, stratum and exact quantities.
Sources of the layouts: Alzubaidi et al. 2023, doi:10.1016/j.dib.2023.109708; van den Heuvel et al. 2018,
doi:10.5281/zenodo.1327317; the Kaggle data set ultrasound-fetus-dataset, doi:10.17632/yrzzw9m6kk.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from lib.datasets.phantoms import TRUTH, heads, lesions
from lib.study import files, parallel

HC_BINS_MM = (180, 260)
OUTLINE_PX = 2.5  # thickness of HC18's drawn outlines

SEED = 12
BRAIN_SUBJECTS = 150  # 254 images
BRAIN_STRUCTURES_SUBJECTS = 130  # 208 images
HC18_SUBJECTS = 92  # 150 images
TUMOUR_SUBJECTS = 250  # 137 images with a mass, 113 without

STRUCTURES_HEADS, HC18_HEADS = 200_000, 100_000  # added to subject numbers, so that no two phantoms share a head
DRAWN = (0.75, 0.65)  # of images with CSP, ventricle: enough small structures for a demo of minutes
FRAME_SHARES = (0.55, 0.30, 0.15)  # of subjects with 1, 2, 3 frames: 240 images of 150 subjects
PLANE_SHARES = (0.56, 0.20, 0.24)  # of a patient's images; published: 1638, 597 and 714
DIVERSE_EVERY = 18  # one subject in this many is in Diverse, whose images are large: 5 % of all
DIVERSE_SHAPE = (661, 959)
HC18_SCALE = 0.5  # images have 270x400 pixels; HC18's CSV refers to 540x800
HC18_TABLE = "training_set_pixel_size_and_HC.csv"
HC18_COLUMNS = ["filename", "pixel size(mm)", "head circumference (mm)"]
TISSUE_CLASSES, TISSUE_SHARES = ("malignant", "benign", "normal"), (0.6, 0.2, 0.2)
SPLITS, SPLIT_SHARES = ("train", "validation", "test"), (0.73, 0.12, 0.15)
LARGE_SHARE = 0.08  # of the frame; larger masses are in the stratum "large"


@dataclass(frozen=True)
class Group:
    """One group of the data set of Alzubaidi et al., with names as published."""

    name: str  # also of its folder
    images: str  # subfolder of images
    segmentation: str  # subfolder of the segmentation export
    table: str  # CSV of pixel sizes
    shares: tuple[float, float]  # of images with the cavum, a ventricle
    column: str = "Pixel  in mm"  # two blanks
    decimal: str = "."
    csp: tuple[int, int, int] = (0, 255, 0)  # colour of the cavum, (red, green, blue)


THALAMIC = Group(
    "Trans-thalamic", "Trans-thalamic", "Trans-thalamic-Segmentation", "Trans-Thalamic-Pixel-Size.csv", (0.37, 0.32)
)
PLANES = (
    THALAMIC,
    Group(
        name="Trans-ventricular",
        images="Trans-ventricular",
        segmentation="Trans-ventricular-segmentation-mask",
        table="Trans-ventricular-Pixel-Size.csv",
        shares=(0.5, 0.8),
        column="Pixel in mm",
    ),
    Group(
        name="Trans-cerebellum",
        images="Trans-cerebellum",
        segmentation="Trans-cerebellum-Segmentation",
        table="Trans-cerebellum-Pixel-Size.csv",
        shares=(0.6, 0.05),
        decimal=",",
    ),
)
DIVERSE = Group(
    name="Diverse Fetal Head Images",
    images="Orginal_train_images_to_959_661",
    segmentation="Test-Dataset-Segmentation",
    table=HC18_TABLE,
    shares=(0.6, 0.4),
    csp=(255, 255, 0),
)


def write_brain(folder: Path, subjects: int, seed: int) -> None:
    """The demo: group Trans-thalamic with frequent structures; 1 to 99999 patients with 1 to 3 images each."""
    frames = _frames(seed, 0, subjects, 99999)
    _make_group(folder, THALAMIC)

    def write(numbers: tuple[int, int, int]) -> dict[str, Any]:
        subject, frame, count = numbers
        name = f"Patient{subject:05d}_Plane3_{frame}_of_{count}"
        drawn = heads.draw_frame(seed, subject, frame, DRAWN)
        _write_classes(folder, THALAMIC, name, drawn)
        size = f"hc{np.searchsorted(HC_BINS_MM, drawn.truth['hc_mm'])}"
        return _head_row(name, f"{subject:05d}", size, drawn)

    rows = parallel.in_parallel(write, frames)
    _write_pixel_sizes(folder, THALAMIC, rows)
    files.write_csv(folder / TRUTH, pd.DataFrame(rows).drop(columns="pixel_mm"))


def write_brain_structures(folder: Path, subjects: int, seed: int) -> None:
    """All groups of Alzubaidi et al., with structures as rare as published; 1 to 9999 patients with 1 to 3 images each.

    A patient's images show one head in several planes. Diverse has other heads, named as in HC18 and resized to 959x661
    non-square pixels; its pixel sizes, in HC18's CSV, are those of the 800x540 images.
    """
    frames = _frames(seed, STRUCTURES_HEADS, subjects, 9999)
    rows: dict[Group, list[dict[str, Any]]] = {group: [] for group in (*PLANES, DIVERSE)}
    for group in rows:
        _make_group(folder, group)

    def write(numbers: tuple[int, int, int]) -> tuple[Group, dict[str, Any]]:
        subject, frame, count = numbers
        if subject % DIVERSE_EVERY == DIVERSE_EVERY // 2:
            group, patient = DIVERSE, f"hc18-{subject // DIVERSE_EVERY:03d}"
            name = _hc18_name(subject // DIVERSE_EVERY, frame)
        else:
            rng = np.random.default_rng([seed, subject, frame, 8])  # its draws do not affect the frame
            group, patient = PLANES[rng.choice(3, p=PLANE_SHARES)], f"{subject:05d}"
            name = f"Patient{subject:05d}_Plane3_{frame}_of_{count}"
        drawn = heads.draw_frame(seed, STRUCTURES_HEADS + subject, frame, group.shares)
        published = heads.resize(drawn, DIVERSE_SHAPE) if group is DIVERSE else drawn
        _write_classes(folder, group, name, published)
        pixel_mm = drawn.spacing_mm[0] * (HC18_SCALE if group is DIVERSE else 1)
        stratum = group.name.split()[0].lower()  # trans-thalamic, ..., diverse
        return group, _head_row(name, patient, stratum, published) | {"pixel_mm": pixel_mm}

    for group, row in parallel.in_parallel(write, frames):
        rows[group].append(row)
    for group in PLANES:
        _write_pixel_sizes(folder, group, rows[group])
    _write_hc18_table(folder / DIVERSE.name, rows[DIVERSE])
    truth = pd.DataFrame([row for table in rows.values() for row in table])
    files.write_csv(folder / TRUTH, truth.drop(columns="pixel_mm"))


def write_hc18(folder: Path, subjects: int, seed: int) -> None:
    """HC18's layout (heads, outlines, a CSV of pixel size and HC); 1 to 1000 examinations with 1 to 3 images each."""
    frames = _frames(seed, HC18_HEADS, subjects, 1000)
    images = folder / "training_set"
    images.mkdir()

    def write(numbers: tuple[int, int, int]) -> dict[str, Any]:
        subject, frame, _ = numbers
        name, drawn = _hc18_name(subject - 1, frame), heads.draw_frame(seed, HC18_HEADS + subject, frame, DRAWN)
        _write_png(images / f"{name}.png", drawn.image)
        _write_png(images / f"{name}_Annotation.png", heads.outline(drawn, OUTLINE_PX) * np.uint8(255))
        return _head_row(name, name[:3], "", drawn)

    rows = parallel.in_parallel(write, frames)
    _write_hc18_table(folder, rows)
    unused = ["stratum", "csp_mm2", "lv_mm2", "pixel_mm"]  # the reader assigns strata by HC
    files.write_csv(folder / TRUTH, pd.DataFrame(rows).drop(columns=unused))


def write_tumour(folder: Path, subjects: int, seed: int) -> None:
    """The layout of ultrasound-fetus-dataset, with masses in "malignant" only; 1 to 99999 subjects with one image each.

    As published, outlines may be in another split than their image, numbers restart in each class, a "2" in a name has
    no meaning, and pixel sizes are missing.
    """
    _check_subjects(subjects, 99999)
    for split in SPLITS:
        for tissue in TISSUE_CLASSES:
            (folder / split / tissue).mkdir(parents=True)
    rows, counts = [], dict.fromkeys(TISSUE_CLASSES, 0)
    for subject in range(1, subjects + 1):
        rng = np.random.default_rng([seed, subject, 9])
        tissue = str(rng.choice(TISSUE_CLASSES, p=TISSUE_SHARES))
        counts[tissue] += 1
        stem = f"{counts[tissue]}_{'2' * (rng.random() < 0.15)}HC"
        image_split, outline_split = rng.choice(SPLITS, 2, p=SPLIT_SHARES)
        drawn = lesions.draw_frame(seed, subject, tissue == "malignant")
        _write_png(folder / image_split / tissue / f"{stem}.png", drawn.image)
        if drawn.border is not None:
            outline = lesions.outline(drawn.border, drawn.mask.shape, drawn.spacing_mm, OUTLINE_PX)
            _write_png(folder / outline_split / tissue / f"{stem}_Annotation.png", outline * np.uint8(255))
        rows.append(_tissue_row(f"{tissue}-{stem}", tissue, drawn))
    files.write_csv(folder / TRUTH, pd.DataFrame(rows))


def _check_subjects(subjects: int, most: int) -> None:
    if not 1 <= subjects <= most:
        raise ValueError(f"subjects = {subjects}   not allowed; 1 to {most}")


def _frames(seed: int, added: int, subjects: int, most: int) -> list[tuple[int, int, int]]:
    """Subject, frame and number of the subject's frames, all from 1; `added` is the offset of the heads' numbers."""
    _check_subjects(subjects, most)
    frames = []
    for subject in range(1, subjects + 1):
        rng = np.random.default_rng([seed, added + subject, 9])  # no frame has number 9
        count = 1 + int(rng.choice(3, p=FRAME_SHARES))
        frames += [(subject, frame, count) for frame in range(1, count + 1)]
    return frames


def _hc18_name(examination: int, frame: int) -> str:
    """Names like 010_HC, 010_2HC."""
    return f"{examination:03d}_{frame if frame > 1 else ''}HC"


def _head_row(name: str, subject: str, stratum: str, frame: heads.Frame) -> dict[str, Any]:
    """A row of `truth.csv`, and the published pixel size; the structures are appended to the stratum."""
    named = {"case": name, "subject": subject, "stratum": " ".join([stratum, *frame.structures])}
    row_mm, col_mm = (round(mm, 9) for mm in frame.spacing_mm)
    spacing = {"spacing_row_mm": row_mm, "spacing_col_mm": col_mm, "pixel_mm": frame.spacing_mm[0]}
    return named | frame.truth | spacing


def _tissue_row(name: str, tissue: str, frame: lesions.Frame) -> dict[str, Any]:
    """A row of `truth.csv`; each case is its own subject."""
    size = "" if frame.border is None else " large" if frame.mask.mean() > LARGE_SHARE else " small"
    lesion_mm2 = 0.0 if frame.border is None else round(frame.border.area_mm2, 6)
    sizes = {"lesion_mm2": lesion_mm2, "lesion_px": round(lesion_mm2 / frame.spacing_mm**2, 3)}
    return {"case": name, "subject": name, "stratum": tissue + size, **sizes, "spacing_mm": frame.spacing_mm}


def _make_group(folder: Path, group: Group) -> None:
    """Creates a group's folders and its colour table."""
    (folder / group.name / group.images).mkdir(parents=True)
    (folder / group.name / group.segmentation / "SegmentationClass").mkdir(parents=True)
    classes = ("background:0,0,0", "Brain:255,0,0", f"CSP:{','.join(map(str, group.csp))}", "LV:0,0,255")
    text = "".join(f"{line}\n" for line in ("# label:color_rgb:parts:actions", *(f"{c}::" for c in classes)))
    files.write_text(folder / group.name / group.segmentation / "labelmap.txt", text)


def _write_classes(folder: Path, group: Group, name: str, frame: heads.Frame) -> None:
    """Writes an image (RGB in Diverse, as published) and its mask in the group's colours."""
    palette = np.array([(0, 0, 0), (255, 0, 0), group.csp, (0, 0, 255)], np.uint8)[:, ::-1]  # OpenCV's order
    image = np.dstack([frame.image] * 3) if group is DIVERSE else frame.image
    _write_png(folder / group.name / group.images / f"{name}.png", image)
    _write_png(folder / group.name / group.segmentation / "SegmentationClass" / f"{name}.png", palette[frame.mask])


def _write_pixel_sizes(folder: Path, group: Group, rows: list[dict[str, Any]]) -> None:
    """Writes the CSV of a plane, with byte-order mark; numbers with a decimal comma are quoted."""
    sizes = pd.DataFrame([(f"{row['case']}.png", row["pixel_mm"]) for row in rows], columns=["Label", group.column])
    text = sizes.to_csv(index=False, lineterminator="\n", decimal=group.decimal)
    files.write_bytes(folder / group.name / group.table, text.encode("utf-8-sig"))


def _write_hc18_table(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Writes HC18's CSV; HC has two decimals, as published."""
    values = [(f"{row['case']}.png", row["pixel_mm"], round(row["hc_mm"], 2)) for row in rows]
    files.write_csv(folder / HC18_TABLE, pd.DataFrame(values, columns=HC18_COLUMNS))


def _write_png(path: Path, pixels: np.ndarray) -> None:
    """Writes a PNG; `cv2.imwrite` would silently fail on non-ASCII paths on Windows."""
    cv2.imencode(".png", pixels)[1].tofile(path)
