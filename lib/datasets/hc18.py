"""HC18 as published: `training_set/NNN_kHC.png` with outlines, pixel sizes and HC in one CSV.

Source: van den Heuvel et al. 2018, PLoS ONE 13(8):e0200412; doi:10.5281/zenodo.1327317.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lib.data.cases import Case
from lib.data.findings import MISSING_IMAGE, UNKNOWN_FILE, Check, Finding
from lib.datasets import layouts, strict_table, table_files
from lib.imaging.ellipse import fill_ellipse, fit_ellipse
from lib.imaging.image_files import Reader, by_stem, open_mask, read_binary
from lib.study import system_files

TABLE = "training_set_pixel_size_and_HC.csv"
RANGES_MM = {"pixel size(mm)": (0.02, 1.0), "head circumference (mm)": (20.0, 450.0)}  # by column of the table
NAME = re.compile(r"(\d{3})_(\d?)HC")
OUTLINE = "_Annotation"  # after an image's name
HC_BINS_MM = (100, 150, 200, 250, 300)

MISSING_ANNOTATION = Check("missing annotation", "add the annotation, or list the case in `exclude`")


def find_cases(folder: Path, groups: Sequence[str]) -> tuple[list[Case], list[Finding]]:  # noqa: ARG001 every reader has this signature
    """Cases of HC18's training set by examination and image; no groups. ValueError for another layout or table."""
    training = layouts.subfolder(folder, "training_set")
    present = by_stem(training)
    images = {stem: path for stem, path in present.items() if NAME.fullmatch(stem)}
    if not images:
        raise ValueError(f"{folder}: no images such as training_set/000_HC.png; expected HC18's layout")
    sizes, findings = _read_sizes(folder, images)
    cases = []
    for name in sorted(images, key=lambda name: [int(part or 1) for part in NAME.findall(name)[0]]):
        annotation = present.get(f"{name}{OUTLINE}")
        if annotation is None:
            findings.append(Finding("stop", MISSING_ANNOTATION, name, "no file", f"{name}{OUTLINE}.png"))
            continue
        if name not in sizes:
            findings.append(strict_table.missing_row(name, TABLE))
        size, hc = sizes.get(name, (None, None))
        spacing = None if size is None else (size, size)
        stratum = "" if hc is None else f"hc{np.searchsorted(HC_BINS_MM, hc)}"
        known = {} if hc is None else {"hc": hc}
        cases.append(Case(name, name[:3], images[name], (annotation,), spacing, stratum, reference_mm=known))
    for path in system_files.visible(training):
        if not NAME.fullmatch(path.stem.removesuffix(OUTLINE)):
            findings.append(Finding("warn", UNKNOWN_FILE, path.name, "ignored", "a name such as 000_HC.png"))
    outlined = {stem.removesuffix(OUTLINE) for stem in present if stem.endswith(OUTLINE)}
    for name in sorted(outlined - set(images)):
        findings.append(Finding("stop", MISSING_IMAGE, name, f"only {name}{OUTLINE}.png", f"{name}.png"))
    return cases, findings


def read_mask(paths: Sequence[Path], read: Reader = open_mask) -> np.ndarray:
    """Head mask from its outline: (H, W) uint8, 0 or 1; ValueError, with the file, if there is no outline.

    The outline is a drawn ellipse about 2.5 px thick whose centre line is the reference. Five outlines touch the frame
    and four are open, so an ellipse is fitted to the pixels and filled. On 640 images, HC from the fitted axes agrees
    with the published HC within 0.05 mm.
    """
    (path,) = paths
    outline = read_binary(path, read)
    if not outline.any():
        raise ValueError(f"{path}: no head outline: the annotation is empty")
    xy = cv2.findNonZero(outline.view(np.uint8))  # four times as fast as np.argwhere
    points = xy[:, 0, ::-1]  # (N, 2) (row, col)
    try:
        ellipse = fit_ellipse(points)
    except ValueError as error:
        raise ValueError(f"{path}: no head outline: {error}") from error
    return fill_ellipse(ellipse, outline.shape).astype(np.uint8)


def _read_sizes(folder: Path, images: dict[str, Path]) -> tuple[dict[str, tuple[float | None, ...]], list[Finding]]:
    """(pixel size, HC) in mm by image name, and the findings of the table."""
    findings: list[Finding] = []
    table = table_files.find(folder, TABLE, findings)
    if table is None:
        raise ValueError(f"{folder / TABLE}: missing; this table contains HC18's pixel sizes")
    read = strict_table.read(table, ("filename", *RANGES_MM), findings)
    named = strict_table.named_rows(read, lambda row: Path(row.cells["filename"]).stem, findings)
    rows = strict_table.unique_rows(named, findings)
    sizes = strict_table.numbers(rows, RANGES_MM, findings)
    return sizes, findings + strict_table.rows_without_file(rows.items(), images)
