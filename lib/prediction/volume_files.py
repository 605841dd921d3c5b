"""Volumes on disk: folders of slices, and which files are NIfTI (`nifti` reads those)."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.datasets import lgg
from lib.imaging import image_files
from lib.study import system_files

NIFTI = (".nii", ".nii.gz")
SLICE = re.compile(r"(.*?)(\d+)")
MASK = re.compile(r"(_mask|-mask|_seg|_label|_annotation)$", re.IGNORECASE)  # of the stem of a reference
FEWEST = lgg.MIN_SLICES


@dataclass(frozen=True)
class NiftiGeometry:
    """What a mask needs to lie on the NIfTI file that it belongs to."""

    affine: np.ndarray  # (4, 4), from voxels of the file to mm
    turned: np.ndarray  # (3, 2) orientation from the file's axes to `nifti.ORDER`


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI by its name."""
    return path.name.lower().endswith(NIFTI)


def slices_in(folder: Path) -> dict[int, Path]:
    """Image files of a volume's slices directly in a folder, by number, without masks; {} if there are none.

    ValueError if two files have one number, or names differ before the number.
    """
    found: dict[int, Path] = {}
    for path in system_files.visible(folder):
        match = SLICE.fullmatch(path.stem)
        if path.suffix.lower() not in image_files.IMAGE_SUFFIXES or MASK.search(path.stem) or match is None:
            continue
        first = found.setdefault(int(match[2]), path)
        if first is not path:
            raise ValueError(
                f"{folder}: {first.name} and {path.name} are both slice {int(match[2])}; expected one file"
            )
    return dict(sorted(found.items()))


def read_slices(folder: Path, channels: int) -> tuple[np.ndarray, list[str]]:
    """A folder of slices, in the order of their numbers: (D, H, W, channels) uint8, and the names of the slices.

    ValueError, with the file, if a number is missing, there are too few, or a slice has another size or no such
    channels.
    """
    paths = slices_in(folder)
    numbers = list(paths)
    if len(paths) < FEWEST:
        raise ValueError(
            f"{folder}: {len(paths)} slices; expected at least {FEWEST}, since the end slices may be dropped"
        )
    missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if missing:
        found = f"slices {lgg.format_ranges(numbers)}; {lgg.format_ranges(missing)} missing"
        raise ValueError(f"{folder}: {found}; expected numbers without a gap")
    slices: list[np.ndarray] = []
    for path in paths.values():
        pixels = image_files.read_pixels(path)
        pixels = pixels if pixels.ndim == 3 else pixels[..., None]
        if pixels.shape[2] != channels:
            raise ValueError(f"{path}: {pixels.shape[2]} channel(s); expected {channels}, as in training")
        if slices and pixels.shape != slices[0].shape:
            expected = f"expected {slices[0].shape[:2]} as in the first slice"
            raise ValueError(f"{path}: (rows, columns) {pixels.shape[:2]}; {expected}")
        slices.append(pixels)
    return np.stack(slices), [path.stem for path in paths.values()]
