"""Predicted masks on disk: class indices as grey values, native size; a PNG per image, a TIFF of pages per volume."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from lib.imaging import image_files
from lib.study import files


def place(predictions: Path, stage: str, fold: int, seed: int, case: str, is_volume: bool) -> Path:
    """Where a predicted mask lies below the folder `predictions`."""
    return predictions / stage / files.run_name(fold, seed) / f"{case}.{'tif' if is_volume else 'png'}"


def write(path: Path, mask: np.ndarray) -> None:
    """Writes class indices, (H, W) as an 8-bit PNG or (D, H, W) as a TIFF of D pages, whole or not at all."""
    pages = [Image.fromarray(page) for page in (mask if mask.ndim == 3 else mask[None])]
    with files.replacing(path) as temporary:
        if mask.ndim == 2:
            pages[0].save(temporary, format="PNG")
        else:
            pages[0].save(temporary, format="TIFF", save_all=True, append_images=pages[1:], compression="tiff_deflate")


def read(path: Path) -> np.ndarray:
    """Class indices as `write` wrote them, (H, W) or (D, H, W) uint8; ValueError if the file cannot be read."""
    if path.suffix == ".png":
        return image_files.read_pixels(path)
    try:
        with Image.open(path, formats=["TIFF"]) as image:
            pages = np.stack([np.asarray(page) for page in ImageSequence.Iterator(image)])
            if image.tag_v2.next:  # Pillow stops without a word where the page that is named next was cut off
                raise ValueError(f"it ends after {len(pages)} pages, though another is named")
    except image_files.UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read as pages of a mask: {error}") from error
    return pages
