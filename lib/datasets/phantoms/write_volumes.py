"""Writes brain MRI phantoms in the published layout `kaggle_3m`, as read by `lgg`.

Two files are added that the publisher does not have: `kaggle_3m/spacing.csv`, for volumes in millilitres, and
`truth.csv`. Source of the layout: Buda, Saha and Mazurowski 2019, doi:10.1016/j.compbiomed.2019.05.002.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lib.datasets.phantoms import TRUTH, brains
from lib.study import files

LGG_SUBJECTS = 24  # 518 slices
SPACINGS = ["spacing_row_mm", "spacing_col_mm", "spacing_slice_mm"]
SPACING_HEADINGS = {"case": "patient"} | dict(zip(SPACINGS, ("row_mm", "col_mm", "slice_mm")))
DATA_HEADINGS = {"subject": "Patient", "gender": "gender", "age": "age_at_initial_pathologic"}  # of the publisher's 18


def write_lgg(folder: Path, subjects: int, seed: int) -> None:
    """One folder per patient, 1 to 999 (else ValueError), with TIFFs of three sequences and of the mask per slice."""
    if not 1 <= subjects <= 999:
        raise ValueError(f"subjects = {subjects}   not allowed; 1 to 999")
    rows = []
    for subject in range(1, subjects + 1):
        volume = brains.draw_volume(seed, subject)
        site = volume.kind.site.code
        rng = np.random.default_rng([seed, subject, 9])  # its draws do not affect the volume
        patient = f"TCGA_{site}_P{subject:03d}"
        year, month, day = (int(rng.integers(*limits)) for limits in ((1995, 2006), (1, 13), (1, 29)))
        name = f"{patient}_{year}{month:02d}{day:02d}"
        _write_slices(folder / "kaggle_3m" / name, volume)
        slice_mm, row_mm, col_mm = volume.grid.voxel_mm
        row = {"case": name, "subject": patient, "stratum": site, **volume.truth}
        row |= dict(zip(SPACINGS, (row_mm, col_mm, slice_mm)))
        rows.append(row | {"gender": int(rng.integers(1, 3)), "age": int(rng.integers(20, 76))})
    table = pd.DataFrame(rows)
    for name, headings in (("data.csv", DATA_HEADINGS), ("spacing.csv", SPACING_HEADINGS)):
        files.write_csv(folder / "kaggle_3m" / name, table[list(headings)].rename(columns=headings))
    files.write_csv(folder / TRUTH, table.drop(columns=["gender", "age"]))


def _write_slices(folder: Path, volume: brains.Volume) -> None:
    """Slices and masks of a patient, numbered from 1 without leading zeros."""
    folder.mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(volume.image, volume.mask), start=1):
        for suffix, pixels in (("", image), ("_mask", mask * np.uint8(255))):
            path = folder / f"{folder.name}_{number}{suffix}.tif"
            Image.fromarray(pixels).save(path, compression="tiff_adobe_deflate")
