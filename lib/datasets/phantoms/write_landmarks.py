"""Writes the landmarks of an HC18 phantom as their publisher lays them out; `landmark_tables` reads them.

Source of the layout: Di Vece et al. 2025, doi:10.5522/04/30819911, whose points of HC18 are the ends of fitted
ellipses as well, rounded to whole pixels.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.imaging.ellipse import fit_ellipse
from lib.imaging.head_points import axis_ends
from lib.imaging.image_files import read_binary
from lib.study import files

LANDMARK_SUBJECTS = 92  # 150 images
FOLDER = Path("landmarks", "multicentre", "HC18")
PIXEL_SIZES = "training_set_pixel_size_and_HC.csv"
TEST_EVERY = 4  # examination of this many lies in Head_Test.csv: the publisher's share, 262 of 999
SCALE_PX = 272.0  # published scales are some length in pixels over this one; nothing uses them
COLUMNS = [
    *("image_name", "scale", "center_w", "center_h"),
    *(f"{point}_{axis}" for point in ("ofd_1", "ofd_2", "bpd_1", "bpd_2") for axis in "xy"),
    *("SubjectID", "px_to_mm_rate", "Algo", "Split"),
]


def write_landmarks(folder: Path) -> None:
    """Adds `landmarks/multicentre/HC18/Head.csv`, `Head_Train.csv` and `Head_Test.csv` to an HC18 phantom.

    The ellipse is fitted to the written outline, which gives back the drawn one within a tenth of a pixel. Ends stand
    in the publisher's order, the upper one of OFD and the right one of BPD first; whole examinations are dealt to
    training and test.

    Args:
        folder: as `write_images.write_hc18` leaves it.

    Raises:
        ValueError: an outline without a row in the CSV of pixel sizes, or the folder is not such a phantom.
    """
    sizes = files.read_csv(folder / PIXEL_SIZES, ["filename", "pixel size(mm)"])
    pixel_mm = dict(zip(sizes["filename"], sizes["pixel size(mm)"]))
    rows = []
    for path in sorted((folder / "training_set").glob("*_Annotation.png")):
        image = path.name.replace("_Annotation", "")
        if image not in pixel_mm:
            raise ValueError(f"{folder / PIXEL_SIZES}: no row for {image}; expected one an image")
        rows.append(_row(image, read_binary(path), pixel_mm[image]))
    table = pd.DataFrame(rows, columns=COLUMNS)
    files.write_csv(folder / FOLDER / "Head.csv", table)
    for split in ("Train", "Test"):
        files.write_csv(folder / FOLDER / f"Head_{split}.csv", table[table["Split"] == split])


def _row(image: str, outline: np.ndarray, pixel_mm: float) -> list[object]:
    """A row of the publisher's table."""
    height, width = outline.shape
    ellipse = fit_ellipse(np.argwhere(outline))
    ends = axis_ends(ellipse.centre, ellipse.major, ellipse.minor, ellipse.angle_deg)
    whole = np.rint(ends).astype(int)
    ofd = sorted(whole[:2].tolist())  # the upper end first
    bpd = sorted(whole[2:].tolist(), key=lambda end: -end[1])  # the right end first
    points = [value for row, col in (*ofd, *bpd) for value in (col, row)]
    split = "Test" if int(image[:3]) % TEST_EVERY == TEST_EVERY - 1 else "Train"
    return [image, width / SCALE_PX, width / 2, height / 2, *points, "", pixel_mm, "", split]
