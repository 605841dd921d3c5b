"""Writes phantoms with exactly known truth as publishers lay out their data; reading them is the layouts' business.

Each writer fills an empty folder. Beside what the publisher has lies `truth.csv`, as no published data set has it:
case (the name that the layout's reader gives), subject, stratum, and what was drawn.

Sources of the layouts: Alzubaidi et al. 2023, doi:10.1016/j.dib.2023.109708; van den Heuvel et al. 2018,
doi:10.5281/zenodo.1327317; the Kaggle data set ultrasound-fetus-dataset, doi:10.17632/yrzzw9m6kk.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from lib.datasets.phantoms import heads, lesions
from lib.study import files

TRUTH = "truth.csv"
NAMED, SIZES = ["case", "subject", "stratum"], ["ga_weeks", "bpd_mm", "ofd_mm", "hc_mm"]
STRUCTURES, SPACING = ["csp_mm2", "lv_mm2"], ["spacing_row_mm", "spacing_col_mm"]
HC_BINS_MM = (180, 260)
OUTLINE_PX = 2.5  # thickness of HC18's drawn outlines

SEED = 12
BRAIN_SUBJECTS = 150  # 254 images
BRAIN_STRUCTURES_SUBJECTS = 130  # 208 images
HC18_SUBJECTS = 92  # 150 images
TUMOUR_SUBJECTS = 250  # 137 images with a mass, 113 without

STRUCTURES_HEADS, HC18_HEADS = 200_000, 100_000  # added to numbers, so that no two phantoms show one head
DRAWN = heads.Plane(csp=0.75, lv=0.65)  # so that a demo of minutes sees enough of the small structures
FRAME_SHARES = (0.55, 0.30, 0.15)  # of subjects with 1, 2, 3 frames: 240 images of 150 subjects
PLANE_SHARES = (0.56, 0.20, 0.24)  # of a patient's images: the publisher's 1638, 597 and 714
DIVERSE_EVERY = 18  # subject of this many lies in Diverse, whose images are large: 5 % of all
DIVERSE_SHAPE = (661, 959)
HC18_SCALE = 0.5  # 270x400 pixels are drawn; HC18's CSV is of 540x800
HC18_TABLE = "training_set_pixel_size_and_HC.csv"
HC18_COLUMNS = ["filename", "pixel size(mm)", "head circumference (mm)"]
TISSUE_CLASSES, TISSUE_SHARES = ("malignant", "benign", "normal"), (0.6, 0.2, 0.2)
SPLITS, SPLIT_SHARES = ("train", "validation", "test"), (0.73, 0.12, 0.15)
LARGE_SHARE = 0.08  # of the frame; the stratum tells large masses from small ones


@dataclass(frozen=True)
class Group:
    """One group of Alzubaidi's data set.

    Attributes:
        name: of the group, and of its folder.
        images: folder of the images in it.
        segmentation: folder of the export in it.
        csp: colour of the cavum, (red, green, blue).
        plane: what its images show.
        table: CSV of pixel sizes in it; None for Diverse, which has HC18's.
        column: heading of the pixel size.
        decimal: point or comma.
    """

    name: str
    images: str
    segmentation: str
    csp: tuple[int, int, int]
    plane: heads.Plane
    table: str | None
    column: str = "Pixel  in mm"  # two blanks, as published
    decimal: str = "."

    @property
    def stratum(self) -> str:
        """The group as studies name it: trans-thalamic, ..., diverse."""
        return self.name.split()[0].lower()


THALAMIC = Group(
    "Trans-thalamic",
    "Trans-thalamic",
    "Trans-thalamic-Segmentation",
    (0, 255, 0),
    heads.Plane(csp=0.37, lv=0.32),
    "Trans-Thalamic-Pixel-Size.csv",
)
VENTRICULAR = Group(
    "Trans-ventricular",
    "Trans-ventricular",
    "Trans-ventricular-segmentation-mask",
    (0, 255, 0),
    heads.Plane(csp=0.5, lv=0.8),
    "Trans-ventricular-Pixel-Size.csv",
    column="Pixel in mm",
)
CEREBELLUM = Group(
    "Trans-cerebellum",
    "Trans-cerebellum",
    "Trans-cerebellum-Segmentation",
    (0, 255, 0),
    heads.Plane(csp=0.6, lv=0.05),
    "Trans-cerebellum-Pixel-Size.csv",
    decimal=",",
)
DIVERSE = Group(
    "Diverse Fetal Head Images",
    "Orginal_train_images_to_959_661",  # as published
    "Test-Dataset-Segmentation",
    (255, 255, 0),
    heads.Plane(csp=0.6, lv=0.4),
    None,
)
PLANES = (THALAMIC, VENTRICULAR, CEREBELLUM)


def write_brain(folder: Path, subjects: int, seed: int) -> None:
    """The demo: one group of Alzubaidi's layout, Trans-thalamic, that shows the structures often.

    Args:
        folder: an empty folder.
        subjects: number of patients, 1 to 99999, of 1 to 3 images each.
        seed: every draw is a function of (seed, subject, frame).

    Raises:
        ValueError: no such number of subjects.
    """
    _check_subjects(subjects, 99999)
    rows = []
    _make_group(folder, THALAMIC)
    for subject, frame, frames in _frames(seed, 0, subjects):
        name = f"Patient{subject:05d}_Plane3_{frame}_of_{frames}"
        drawn = heads.draw_frame(seed, subject, frame, DRAWN)
        _write_classes(folder, THALAMIC, name, drawn)
        size = f"hc{np.searchsorted(HC_BINS_MM, drawn.truth['hc_mm'])}"
        rows.append(_head_row(name, f"{subject:05d}", size, drawn))
    _write_pixel_sizes(folder, THALAMIC, rows)
    _write_truth(folder, rows, NAMED + SIZES + STRUCTURES + SPACING)


def write_brain_structures(folder: Path, subjects: int, seed: int) -> None:
    """All four groups of Alzubaidi's layout; structures are as rare as there.

    A patient's images are of one head and lie in several planes. Diverse has other heads, under HC18's names, resized
    to 959x661, so that pixels are not square; its pixel sizes are those of the 800x540 images, in HC18's CSV.

    Args:
        folder: an empty folder.
        subjects: number of patients and examinations, 1 to 9999, of 1 to 3 images each.
        seed: every draw is a function of (seed, subject, frame).

    Raises:
        ValueError: no such number of subjects.
    """
    _check_subjects(subjects, 9999)
    rows: dict[str, list[dict[str, Any]]] = {group.name: [] for group in (*PLANES, DIVERSE)}
    for group in (*PLANES, DIVERSE):
        _make_group(folder, group)
    for subject, frame, frames in _frames(seed, STRUCTURES_HEADS, subjects):
        if subject % DIVERSE_EVERY == DIVERSE_EVERY // 2:
            group, patient = DIVERSE, f"hc18-{subject // DIVERSE_EVERY:03d}"
            name = _hc18_name(subject // DIVERSE_EVERY, frame)
        else:
            deal = np.random.default_rng([seed, subject, frame, 8])  # apart from what is drawn
            group, patient = PLANES[deal.choice(3, p=PLANE_SHARES)], f"{subject:05d}"
            name = f"Patient{subject:05d}_Plane3_{frame}_of_{frames}"
        drawn = heads.draw_frame(seed, STRUCTURES_HEADS + subject, frame, group.plane)
        shown = heads.resize(drawn, DIVERSE_SHAPE) if group is DIVERSE else drawn
        _write_classes(folder, group, name, shown)
        row = _head_row(name, patient, group.stratum, shown)
        rows[group.name].append(row | {"spacing_mm": drawn.spacing_mm[0] * (HC18_SCALE if group is DIVERSE else 1)})
    for group in PLANES:
        _write_pixel_sizes(folder, group, rows[group.name])
    _write_hc18_table(folder / DIVERSE.name, rows[DIVERSE.name])
    _write_truth(folder, [row for own in rows.values() for row in own], NAMED + SIZES + STRUCTURES + SPACING)


def write_hc18(folder: Path, subjects: int, seed: int) -> None:
    """HC18's layout: heads, their outlines, and one CSV of pixel size and HC.

    Args:
        folder: an empty folder.
        subjects: number of examinations, 1 to 1000, of 1 to 3 images each.
        seed: every draw is a function of (seed, subject, frame).

    Raises:
        ValueError: no such number of subjects.
    """
    _check_subjects(subjects, 1000)
    images, rows = folder / "training_set", []
    images.mkdir()
    for subject, frame, _ in _frames(seed, HC18_HEADS, subjects):
        name, drawn = _hc18_name(subject - 1, frame), heads.draw_frame(seed, HC18_HEADS + subject, frame, DRAWN)
        _write_png(images / f"{name}.png", drawn.image)
        _write_png(images / f"{name}_Annotation.png", _white(heads.outline(drawn, OUTLINE_PX)))
        rows.append(_head_row(name, name[:3], "", drawn))
    _write_hc18_table(folder, rows)
    _write_truth(folder, rows, NAMED[:2] + SIZES + SPACING)  # strata by HC are the reader's


def write_tumour(folder: Path, subjects: int, seed: int) -> None:
    """The layout of ultrasound-fetus-dataset, with what its folders promise: masses in "malignant", none elsewhere.

    As there, an outline is dealt to a split of its own, numbers start anew in each class, a "2" in a name says
    nothing, and there are no pixel sizes.

    Args:
        folder: an empty folder.
        subjects: number of images of as many persons, 1 to 99999.
        seed: every draw is a function of (seed, subject).

    Raises:
        ValueError: no such number of subjects.
    """
    _check_subjects(subjects, 99999)
    for split in SPLITS:
        for tissue in TISSUE_CLASSES:
            (folder / split / tissue).mkdir(parents=True)
    rows, counts = [], dict.fromkeys(TISSUE_CLASSES, 0)
    for subject in range(1, subjects + 1):
        deal = np.random.default_rng([seed, subject, 9])
        tissue = str(deal.choice(TISSUE_CLASSES, p=TISSUE_SHARES))
        counts[tissue] += 1
        stem = f"{counts[tissue]}_{'2' * (deal.random() < 0.15)}HC"
        image_split, outline_split = deal.choice(SPLITS, 2, p=SPLIT_SHARES)
        drawn = lesions.draw_frame(seed, subject, tissue == "malignant")
        _write_png(folder / image_split / tissue / f"{stem}.png", drawn.image)
        if tissue == "malignant":
            line = _white(lesions.outline(drawn, OUTLINE_PX))
            _write_png(folder / outline_split / tissue / f"{stem}_Annotation.png", line)
        rows.append(_tissue_row(f"{tissue}-{stem}", tissue, drawn))
    _write_truth(folder, rows, [*NAMED, "lesion_mm2", "lesion_px", "spacing_mm"])


def _check_subjects(subjects: int, most: int) -> None:
    if not 1 <= subjects <= most:
        raise ValueError(f"subjects = {subjects}   not allowed; 1 to {most}")


def _frames(seed: int, added: int, subjects: int) -> list[tuple[int, int, int]]:
    """Subject, frame and number of the subject's frames, all from 1; `added` as to the numbers of heads."""
    found = []
    for subject in range(1, subjects + 1):
        draw = np.random.default_rng([seed, added + subject, 9])  # no frame has number 9
        frames = 1 + int(draw.choice(3, p=FRAME_SHARES))
        found += [(subject, frame, frames) for frame in range(1, frames + 1)]
    return found


def _hc18_name(examination: int, frame: int) -> str:
    """Such as 010_HC, 010_2HC."""
    return f"{examination:03d}_{frame if frame > 1 else ''}HC"


def _head_row(name: str, subject: str, stratum: str, frame: heads.Frame) -> dict[str, Any]:
    """A row of `truth.csv`, and of the CSV of pixel sizes; the stratum goes on with the structures shown."""
    named = {"case": name, "subject": subject, "stratum": " ".join([stratum, *frame.shown])}
    spacing = dict(zip(SPACING, (round(mm, 9) for mm in frame.spacing_mm)))
    return named | frame.truth | spacing | {"spacing_mm": frame.spacing_mm[0]}


def _tissue_row(name: str, tissue: str, frame: lesions.Frame) -> dict[str, Any]:
    """A row of `truth.csv`; a case is a subject of its own."""
    size = "" if frame.border is None else " large" if frame.mask.mean() > LARGE_SHARE else " small"
    pixels = {"lesion_px": round(frame.truth["lesion_mm2"] / frame.spacing_mm**2, 3)}
    return {"case": name, "subject": name, "stratum": tissue + size, **frame.truth, **pixels}


def _make_group(folder: Path, group: Group) -> None:
    """Folders of a group, and what its colours mean."""
    (folder / group.name / group.images).mkdir(parents=True)
    (folder / group.name / group.segmentation / "SegmentationClass").mkdir(parents=True)
    csp = ",".join(map(str, group.csp))
    classes = ("background:0,0,0", "Brain:255,0,0", f"CSP:{csp}", "LV:0,0,255")
    text = "".join(f"{line}\n" for line in ("# label:color_rgb:parts:actions", *(f"{c}::" for c in classes)))
    files.write_text(folder / group.name / group.segmentation / "labelmap.txt", text)


def _write_classes(folder: Path, group: Group, name: str, frame: heads.Frame) -> None:
    """An image (colours in Diverse, as published) and its mask in the group's colours."""
    palette = np.array([(0, 0, 0), (255, 0, 0), group.csp, (0, 0, 255)], np.uint8)[:, ::-1]  # OpenCV's order
    image = np.dstack([frame.image] * 3) if group is DIVERSE else frame.image
    _write_png(folder / group.name / group.images / f"{name}.png", image)
    _write_png(folder / group.name / group.segmentation / "SegmentationClass" / f"{name}.png", palette[frame.mask])


def _write_pixel_sizes(folder: Path, group: Group, rows: list[dict[str, Any]]) -> None:
    """The CSV of a plane, with its byte-order mark; a decimal comma comes in quotes."""
    sizes = pd.DataFrame(
        {"Label": [f"{row['case']}.png" for row in rows], group.column: [row["spacing_mm"] for row in rows]}
    )
    text = sizes.to_csv(index=False, lineterminator="\n", decimal=group.decimal)
    files.write_bytes(folder / group.name / str(group.table), text.encode("utf-8-sig"))


def _write_hc18_table(folder: Path, rows: list[dict[str, Any]]) -> None:
    """HC18's CSV; HC with two decimals, as published."""
    values = [(f"{row['case']}.png", row["spacing_mm"], round(row["hc_mm"], 2)) for row in rows]
    files.write_csv(folder / HC18_TABLE, pd.DataFrame(values, columns=HC18_COLUMNS))


def _write_truth(folder: Path, rows: list[dict[str, Any]], columns: list[str]) -> None:
    files.write_csv(folder / TRUTH, pd.DataFrame(rows)[columns])


def _white(line: np.ndarray) -> np.ndarray:
    """A drawn line as (H, W) uint8, 0 and 255."""
    return np.where(line, 255, 0).astype(np.uint8)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    """Not `cv2.imwrite`, which fails without a word on paths that are not ASCII on Windows."""
    cv2.imencode(".png", pixels)[1].tofile(path)
