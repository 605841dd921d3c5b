"""Writes the HC18 phantom with landmarks in their published layout, as read by `landmark_tables`.

Source of the layout: Di Vece et al. 2025, doi:10.5522/04/30819911; its points too are rounded endpoints of ellipses.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.datasets.phantoms import write_images
from lib.imaging.ellipse import fit_ellipse
from lib.imaging.head_points import axis_endpoints
from lib.imaging.image_files import read_binary
from lib.study import files

LANDMARK_SUBJECTS = 92  # 150 images
FOLDER = Path("landmarks", "multicentre", "HC18")
TEST_EVERY = 4  # one examination in this many is in Head_Test.csv, as published: 262 of 999
SCALE_PX = 272.0  # for the column "scale", which nothing reads
COLUMNS = [
    *("image_name", "scale", "center_w", "center_h"),
    *(f"{point}_{axis}" for point in ("ofd_1", "ofd_2", "bpd_1", "bpd_2") for axis in "xy"),
    *("SubjectID", "px_to_mm_rate", "Algo", "Split"),
]


def write_landmarks(folder: Path, subjects: int, seed: int) -> None:
    """As `write_images.write_hc18`, and `landmarks/multicentre/HC18/Head.csv`, `Head_Train.csv`, `Head_Test.csv`.

    The ellipses are fitted to the written outlines and exact within a tenth of a pixel. Endpoints are in published
    order, the upper one of OFD and the right one of BPD first; training and test share no examination.
    """
    write_images.write_hc18(folder, subjects, seed)
    sizes = files.read_csv(folder / write_images.HC18_TABLE, []).sort_values("filename")
    rows = [_row(folder / "training_set", image, mm) for image, mm in zip(sizes["filename"], sizes["pixel size(mm)"])]
    table = pd.DataFrame(rows, columns=COLUMNS)
    files.write_csv(folder / FOLDER / "Head.csv", table)
    for split in ("Train", "Test"):
        files.write_csv(folder / FOLDER / f"Head_{split}.csv", table[table["Split"] == split])


def _row(folder: Path, image: str, pixel_mm: float) -> list[object]:
    """A row of the published table; `image` is a file name like 010_2HC.png."""
    outline = read_binary(folder / image.replace(".png", "_Annotation.png"))
    height, width = outline.shape
    ellipse = fit_ellipse(np.argwhere(outline))
    ends = np.rint(axis_endpoints(ellipse.centre, ellipse.major, ellipse.minor, ellipse.angle_deg)).astype(int)
    ofd = sorted(ends[:2].tolist())  # the upper endpoint first
    bpd = sorted(ends[2:].tolist(), key=lambda end: -end[1])  # the right endpoint first
    points = [value for row, col in (*ofd, *bpd) for value in (col, row)]
    split = "Test" if int(image[:3]) % TEST_EVERY == TEST_EVERY - 1 else "Train"
    return [image, width / SCALE_PX, width / 2, height / 2, *points, "", pixel_mm, "", split]
