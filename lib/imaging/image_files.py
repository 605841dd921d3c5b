"""Strict reading of image and mask files; every error names the file."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lib.study import system_files

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
PNG_SIGNATURE, PNG_DEPTH_OFFSET = b"\x89PNG\r\n\x1a\n", 24  # offset of the byte with the bits per channel
TIFF_DEPTH_TAG = 258  # bits per channel; Pillow silently reduces 16-bit colours to 8 bits
# Exceptions that Pillow raises for truncated, corrupted or other files.
UNREADABLE = (OSError, EOFError, SyntaxError, TypeError, ValueError, KeyError, Image.DecompressionBombError)
Reader = Callable[[Path], np.ndarray]  # read_pixels, or a wrapper that also stores the pixels


def read_pixels(path: Path) -> np.ndarray:
    """Pixels of an image, (H, W) or (H, W, channels) uint8; ValueError if unreadable or not 8 bits per channel."""
    try:
        with path.open("rb") as file:
            head = file.read(PNG_DEPTH_OFFSET + 1)
        deep = head.startswith(PNG_SIGNATURE) and head[PNG_DEPTH_OFFSET:] == b"\x10"
        with Image.open(path) as image:
            image.load()
            deep = deep or (image.format == "TIFF" and 16 in image.tag_v2.get(TIFF_DEPTH_TAG, ()))
            mode = image.mode
            plain = {"P": "RGB", "1": "L", "CMYK": "RGB", "YCbCr": "RGB"}.get(mode, mode)
            pixels = np.asarray(image if plain == mode else image.convert(plain))
    except UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read as an image: {error}") from error
    if deep or pixels.dtype != np.uint8:
        depth = "16 bits per channel" if deep else f"mode {mode}, {pixels.dtype}"
        raise ValueError(f"{path}: {depth}; expected 8 bits per channel (save it as an 8-bit PNG)")
    return pixels


def read_grey(path: Path) -> np.ndarray:
    """An image as (H, W) uint8; colours become Rec. 601 luma (0.299 R + 0.587 G + 0.114 B), transparency is ignored."""
    pixels = read_pixels(path)
    if pixels.ndim == 2:
        return pixels
    first = pixels[..., 0]
    if pixels.shape[2] <= 2 or all(np.array_equal(first, pixels[..., channel]) for channel in (1, 2)):
        return np.ascontiguousarray(first)
    return np.rint(pixels[..., :3] @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


def read_binary(path: Path, read: Reader = read_pixels) -> np.ndarray:
    """A mask file with the values 0 and 255, or 0 and 1, in any channel as (H, W) bool; transparency is ignored.

    Lossy files have values in between: 128 and above is foreground. ValueError with file and values in other cases.
    """
    pixels = read(path)
    if pixels.ndim == 3:
        colours = 1 if pixels.shape[2] <= 2 else 3
        pixels = pixels[..., :colours].max(axis=2)
    if is_lossy(path):
        return pixels >= 128
    highest, region = int(pixels.max(initial=0)), pixels > 0
    if highest not in (0, 1, 255) or (pixels[region] != highest).any():
        values = [value for (value,) in colour_counts(pixels)]
        raise ValueError(f"{path}: values {values[:8]}; expected a mask of 0 and 255, or 0 and 1")
    return region


def is_lossy(path: Path) -> bool:
    """Whether a file's format is lossy (JPEG)."""
    return path.suffix.lower() in (".jpg", ".jpeg")


def by_stem(folder: Path) -> dict[str, Path]:
    """Image files directly in a folder by stem, sorted; ValueError if two files share a stem."""
    files: dict[str, Path] = {}
    for path in system_files.visible(folder) if folder.is_dir() else ():
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        stem = unicodedata.normalize("NFC", path.stem)  # macOS decomposes names
        if stem in files:
            raise ValueError(f"{folder}: {files[stem].name} and {path.name}; expected one file per name")
        files[stem] = path
    return files


def colour_counts(pixels: np.ndarray) -> dict[tuple[int, ...], int]:
    """Number of pixels per colour: {(r, g, b): count}, or {(grey,): count}; transparency is ignored."""
    if pixels.ndim == 2 or pixels.shape[2] <= 2:
        grey = pixels if pixels.ndim == 2 else pixels[..., 0]
        counts = cv2.calcHist([np.ascontiguousarray(grey)], [0], None, [256], [0, 256])[:, 0]
        return {(int(value),): int(counts[value]) for value in np.flatnonzero(counts)}
    codes, counts = np.unique(colour_codes(pixels), return_counts=True)
    colours = zip((codes >> 16).tolist(), (codes >> 8 & 255).tolist(), (codes & 255).tolist())
    return dict(zip(colours, counts.tolist()))


def colour_codes(pixels: np.ndarray) -> np.ndarray:
    """Colours as numbers 0xRRGGBB: (H, W, 3 or 4) uint8 -> (H, W) uint32."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue


def decode_palette(pixels: np.ndarray, palette: dict[tuple[int, int, int], int], lossy: bool = False) -> np.ndarray:
    """Class indices of a colour mask: (H, W, 3 or 4) uint8 -> (H, W) uint8; black is 0 unless in the palette.

    ValueError if the mask is grey or has colours outside the palette; the message counts them. In a `lossy` file (JPEG)
    each pixel takes the class of the nearest colour instead.
    """
    if pixels.ndim != 3 or pixels.shape[2] < 3:
        raise ValueError(f"mask has shape {pixels.shape}; expected colours, (H, W, 3)")
    known = {(0, 0, 0): 0} | palette
    if lossy:
        return nearest_class(pixels, known)
    codes = colour_codes(pixels)
    decoded = np.full(codes.shape, 255, np.uint8)
    for (red, green, blue), index in known.items():
        decoded[codes == (red << 16 | green << 8 | blue)] = index
    if (decoded == 255).any():
        unknown = {colour: count for colour, count in colour_counts(pixels).items() if colour not in known}
        listed = ", ".join(f"{colour} in {count} pixels" for colour, count in list(unknown.items())[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise ValueError(f"unknown colours: {listed}{more}; expected {sorted(known)}")
    return decoded


def nearest_class(pixels: np.ndarray, palette: dict[tuple[int, int, int], int]) -> np.ndarray:
    """Class of the nearest colour in RGB, the first of ties: (H, W, 3 or 4) uint8 -> (H, W) uint8."""
    rgb = np.ascontiguousarray(pixels[..., :3])
    offsets = np.stack([cv2.absdiff(rgb, np.array([*colour, 0], np.float64)).astype(np.int32) for colour in palette])
    return np.array(list(palette.values()), np.uint8)[np.argmin((offsets**2).sum(axis=3), axis=0)]
