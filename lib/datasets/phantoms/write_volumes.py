"""Writes phantoms of brain MRI with exactly known truth in the publisher's layout `kaggle_3m`; `lgg` reads it.

Beside the layout lie two files that no published data set has: `kaggle_3m/spacing.csv`, so that volumes can be given in
millilitres, and `truth.csv`: case, subject, stratum, and what was drawn.

Source of the layout: Buda, Saha and Mazurowski 2019, doi:10.1016/j.compbiomed.2019.05.002.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lib.datasets.phantoms import brains
from lib.study import files

TRUTH, LAYOUT = "truth.csv", "kaggle_3m"
SEED = 12
LGG_SUBJECTS = 24  # 518 slices
TRUTH_COLUMNS = ["case", "subject", "stratum", "slices", "lesion_slices", "lesion_voxels", "parts", "lesion_ml"]
SPACINGS = ["spacing_row_mm", "spacing_col_mm", "spacing_slice_mm"]
SPACING_HEADINGS = {"case": "patient"} | dict(zip(SPACINGS, ("row_mm", "col_mm", "slice_mm")))
DATA_COLUMNS = {"subject": "Patient", "gender": "gender", "age": "age_at_initial_pathologic"}  # of the publisher's 18
YEARS = (1995, 2005)


def write_lgg(folder: Path, subjects: int, seed: int) -> None:
    """The layout of `kaggle_3m`: a folder a patient, a TIFF of three sequences and one of the mask a slice.

    Args:
        folder: an empty folder.
        subjects: number of patients, 1 to 999, of one examination each.
        seed: every draw is a function of (seed, subject).

    Raises:
        ValueError: no such number of subjects.
    """
    if not 1 <= subjects <= 999:
        raise ValueError(f"subjects = {subjects}   not allowed; 1 to 999")
    rows = []
    for subject in range(1, subjects + 1):
        volume = brains.draw_volume(seed, subject)
        deal = np.random.default_rng([seed, subject, 9])  # apart from what is drawn
        patient = f"TCGA_{volume.kind.site.code}_P{subject:03d}"
        name = f"{patient}_{_date(deal)}"
        _write_slices(folder / LAYOUT / name, volume)
        row = {"case": name, "subject": patient, "stratum": volume.kind.site.code} | volume.truth
        rows.append(row | _spacing(volume) | {"gender": int(deal.integers(1, 3)), "age": int(deal.integers(20, 76))})
    table = pd.DataFrame(rows)
    files.write_csv(folder / LAYOUT / "data.csv", table[list(DATA_COLUMNS)].rename(columns=DATA_COLUMNS))
    files.write_csv(folder / LAYOUT / "spacing.csv", table[["case", *SPACINGS]].rename(columns=SPACING_HEADINGS))
    files.write_csv(folder / TRUTH, table[[*TRUTH_COLUMNS, *SPACINGS]])


def _date(deal: np.random.Generator) -> str:
    """A day of an examination, such as 19970222."""
    year, month, day = (int(deal.integers(low, high + 1)) for low, high in (YEARS, (1, 12), (1, 28)))
    return f"{year}{month:02d}{day:02d}"


def _spacing(volume: brains.Volume) -> dict[str, float]:
    apart, row, col = volume.grid.voxel_mm
    return dict(zip(SPACINGS, (row, col, apart)))


def _write_slices(folder: Path, volume: brains.Volume) -> None:
    """Slices and masks of a patient, numbered from 1 without leading zeros."""
    folder.mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(volume.image, volume.mask), start=1):
        _write_tiff(folder / f"{folder.name}_{number}.tif", image)
        _write_tiff(folder / f"{folder.name}_{number}_mask.tif", mask * np.uint8(255))


def _write_tiff(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path, compression="tiff_adobe_deflate")
