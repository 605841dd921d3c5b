"""Predicted masks on disk: class indices at native size, one PNG per image or multi-page TIFF per volume."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from lib.imaging import image_files
from lib.imaging.class_colours import class_colour
from lib.study import files


def mask_path(predictions: Path, stage: str, fold: int, seed: int, case: str, is_volume: bool) -> Path:
    """Path of a predicted mask below the folder `predictions`."""
    return predictions / stage / files.run_name(fold, seed) / f"{case}.{'tif' if is_volume else 'png'}"


def write(path: Path, mask: np.ndarray, classes: Sequence[str] = ()) -> None:
    """Writes class indices atomically, (H, W) as an 8-bit PNG or (D, H, W) as a TIFF of D pages.

    With the names of the classes, background first, viewers show index 0 black and the others in their `class_colour`;
    the stored values are the indices in any case.
    """
    palette = [0, 0, 0, *(value for name in classes[1:] for value in ImageColor.getrgb(class_colour(name)))]
    pages = [Image.fromarray(page) for page in (mask if mask.ndim == 3 else mask[None])]
    for page in pages if classes else ():
        page.putpalette(palette)
    with files.replacing(path) as temporary:
        if mask.ndim == 2:
            pages[0].save(temporary, format="PNG")
        else:
            pages[0].save(temporary, format="TIFF", save_all=True, append_images=pages[1:], compression="tiff_deflate")


def read(path: Path) -> np.ndarray:
    """Class indices written by `write`, (H, W) or (D, H, W) uint8; ValueError if the file cannot be read."""
    pages = image_files.read_indices(path)
    return pages[0] if path.suffix == ".png" else pages
