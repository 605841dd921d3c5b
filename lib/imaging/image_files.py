"""Strict reading of image and mask files, all through `open_image`; every error names the file."""

import io
import re
import struct
import unicodedata
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    ImageSequence,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
)

from lib.study import files, system_files

SUFFIXES = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "BMP": (".bmp",), "TIFF": (".tif", ".tiff")}  # by format
IMAGE_SUFFIXES = {suffix for suffixes in SUFFIXES.values() for suffix in suffixes}
PNG_SIGNATURE, PNG_DEPTH_OFFSET = b"\x89PNG\r\n\x1a\n", 24  # offset of the byte with the bits per channel
# Pillow's reader by the first bytes. Its `open` could also start Ghostscript, and has a limit of pixels of its own.
# Of a JPEG with further pictures (previews, HDR maps of telephones), the first is read, as viewers do.
PLUGINS: tuple[tuple[bytes, Callable[[io.BytesIO], ImageFile.ImageFile]], ...] = (
    (PNG_SIGNATURE, PngImagePlugin.PngImageFile),
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"BM", BmpImagePlugin.BmpImageFile),
    *[(prefix, TiffImagePlugin.TiffImageFile) for prefix in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")],
)
# What other files are called that carry the suffix of an image, by their first bytes.
FOREIGN = tuple(
    (re.compile(form, re.DOTALL | re.IGNORECASE), name)
    for form, name in (
        (rb"GIF8", "a GIF"),
        (rb"RIFF....WEBP", "a WebP picture"),
        (rb"....ftyp(hei|hev|mif1|msf1)", "a HEIC picture"),
        (rb"....ftypavi", "an AVIF picture"),
        (rb".{128}DICM", "a DICOM file"),
        (rb"%PDF-", "a PDF"),
        (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
        (rb"(\xef\xbb\xbf)?\s*<(!doctype )?html", "a web page"),
        (rb"PK\x03\x04", "a zip archive"),
    )
)
TIFF_DEPTH_TAG, ORIENTATION_TAG = 258, 274  # bits per channel (Pillow silently reduces 16-bit colours to 8 bits); EXIF
TIFF_SIGN_TAG, SIGNED = 339, 2  # Pillow reads -1 as 255
TIFF_WHITE_TAG, WHITE_IS_ZERO = 262, 0
MANY_VALUES = 16  # of a mask: more are not drawn but interpolated
MAX_PIXELS = 8192 * 8192  # 200 MB in colours: above a photograph of 50 million; an image of HC18 has 0.4 million
# Modes of Pillow that are read, with that of the pixels: transparency is dropped, palettes become colours.
PLAIN_MODES = dict.fromkeys(("1", "L", "LA"), "L")
PLAIN_MODES |= dict.fromkeys(("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"), "RGB")
# Exceptions that Pillow raises for truncated, corrupted or other files.
UNREADABLE = (OSError, EOFError, SyntaxError, TypeError, ValueError, KeyError, struct.error, zlib.error)
UNREADABLE += (AssertionError, Image.DecompressionBombError)


@dataclass(frozen=True)
class OpenedImage:
    """Upright pixels of an image file, and what the file says about itself."""

    path: Path
    pixels: np.ndarray  # (H, W) or (H, W, 3) uint8; transparency is ignored
    format: str  # by content: a key of SUFFIXES
    mode: str  # Pillow's, as stored
    orientation: int  # of EXIF: 1 where the pixels are stored upright
    has_transparency: bool  # whether some pixels are more transparent than others
    hides_colours: bool  # whether some of them are fully transparent and not black
    white_is_zero: bool  # whether a TIFF stores white as 0

    @property
    def is_lossy(self) -> bool:
        """Whether the format changes values (JPEG)."""
        return self.format == "JPEG"


Reader = Callable[[Path], OpenedImage]  # open_image or open_mask, or a wrapper that also stores what it read


def open_image(path: Path) -> OpenedImage:
    """An image file, decoded and turned upright; ValueError, with the file, unless it is whole and one picture.

    Allowed are regular files whose content is PNG, JPEG, BMP or TIFF, whatever their suffix, of one page or frame, with
    8 bits or fewer per channel and up to MAX_PIXELS pixels. The checksums of a PNG are verified, which Pillow does not
    do for pixels; the other formats have none, so that damage inside their pixels cannot be detected.
    """
    with _named_errors(path):
        image = _open(path)
        pages = getattr(image, "n_frames", 1)
        if pages > 1:
            raise ValueError(f"{pages} pages or frames; expected one (save each as a file of its own)")
        return _decode(path, image)


def open_mask(path: Path) -> OpenedImage:
    """A mask file as by `open_image`; ValueError also where programs disagree on what is foreground.

    That is where its shape is in the transparency, which is ignored, or a TIFF stores white as 0, which viewers show as
    white, whereas libraries such as tifffile (which writes arrays of booleans so) return the stored 0.
    """
    opened = open_image(path)
    if opened.white_is_zero:
        found = "white is stored as 0 (photometric interpretation WhiteIsZero), which some programs read inverted"
        raise ValueError(f"{path}: {found}; expected black as 0 (save it as PNG: white on black)")
    if opened.has_transparency and (opened.pixels == opened.pixels[0, 0]).all():
        found = "one colour throughout; its shape is in the transparency (alpha channel), which is ignored"
        raise ValueError(f"{path}: {found}; expected it in the colours (save it without transparency: white on black)")
    if opened.hides_colours:
        found = "fully transparent pixels that are not black; transparency is ignored, so that they would be foreground"
        raise ValueError(f"{path}: {found}; expected black there (save it without transparency: white on black)")
    return opened


def read_pixels(path: Path) -> np.ndarray:
    """Upright pixels of an image file, (H, W) or (H, W, 3) uint8; ValueError as by `open_image`."""
    return open_image(path).pixels


def read_indices(path: Path) -> np.ndarray:
    """Stored values of all pages of a file with one channel, (D, H, W) uint8, palette indices as they are.

    ValueError if the file has colours, or a page cannot be read.
    """
    with _named_errors(path):
        image = _open(path)
        pages = np.stack([_indices(page) for page in ImageSequence.Iterator(image)])
        if image.format == "TIFF" and image.tag_v2.next:  # Pillow silently stops where the next page was truncated
            raise ValueError(f"truncated after {len(pages)} pages")
    return pages


def _indices(page: ImageFile.ImageFile) -> np.ndarray:
    _check_form(page)
    if page.mode not in ("L", "P"):
        raise ValueError(f"mode {page.mode}; expected class indices in one channel")
    return np.asarray(page)


def _open(path: Path) -> ImageFile.ImageFile:
    """An image file whose format is known by its content, not yet decoded."""
    content = files.read_bytes(path)
    if not content:
        raise ValueError("the file is empty (0 bytes)")
    for signature, plugin in PLUGINS:
        if content.startswith(signature):
            if signature == PNG_SIGNATURE:
                _check_png(content)
            return plugin(io.BytesIO(content))
    known = next((name for form, name in FOREIGN if form.match(content)), "")
    found = f"its content is {known}" if known else f"its content starts with {content[:8]!r}"
    raise ValueError(f"{found}; expected that of a PNG, JPEG, BMP or TIFF file")


def _check_png(content: bytes) -> None:
    """ValueError unless each chunk is whole and has its checksum (CRC-32), and depth is 8 bits.

    Only zeros and white space may follow, which some programs append.

    Source: PNG, third edition (W3C 2025), 5.3 Chunk layout: length, type, data, CRC of type and data.
    """
    view, start, kind = memoryview(content), len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        kind, end = content[start + 4 : start + 8], start + 8 + int.from_bytes(content[start : start + 4])
        if end + 4 > len(content):
            raise ValueError(f"truncated at byte {len(content)}")
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(content[end : end + 4]):
            raise ValueError(f"wrong checksum of bytes {start + 4} to {end}: damaged (copy or download it again)")
        start = end + 4
    if content[start:].strip(b"\0 \t\r\n"):
        raise ValueError(f"{len(content) - start} bytes follow its end, left by another file (save it again)")
    if content[PNG_DEPTH_OFFSET : PNG_DEPTH_OFFSET + 1] == b"\x10":
        raise ValueError("16 bits per channel; expected 8 bits per channel (save it as an 8-bit PNG)")


def _check_form(image: ImageFile.ImageFile) -> None:
    """ValueError if the current page of an opened file is too large, or has not 8 bits per channel, grey or colours."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} = {width * height} pixels; expected at most {MAX_PIXELS}")
    deep = image.format == "TIFF" and 16 in image.tag_v2.get(TIFF_DEPTH_TAG, ())
    if deep or image.mode not in PLAIN_MODES:
        found = "16 bits per channel" if deep else f"mode {image.mode}"
        raise ValueError(f"{found}; expected 8 bits per channel, grey or colours (save it as an 8-bit PNG)")
    if image.format == "TIFF" and SIGNED in image.tag_v2.get(TIFF_SIGN_TAG, ()):
        raise ValueError("signed values; expected 8 bits per channel from 0 to 255 (save it as an 8-bit PNG)")


def _decode(path: Path, image: ImageFile.ImageFile) -> OpenedImage:
    """The current page of an opened file; the pixels of TIFF are turned upright by Pillow itself."""
    _check_form(image)
    kind, mode = image.format or "", image.mode
    orientation = image.getexif().get(ORIENTATION_TAG, 1) or 1  # before it is applied and removed; many write 0
    of_white = image.tag_v2.get(TIFF_WHITE_TAG, WHITE_IS_ZERO) if kind == "TIFF" else None
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    upright: Image.Image = image.convert("RGBA") if image.has_transparency_data else image
    pixels = np.asarray(upright if upright.mode == PLAIN_MODES[mode] else upright.convert(PLAIN_MODES[mode]))
    alpha = np.asarray(upright.getchannel("A")) if image.has_transparency_data else np.full((1, 1), 255, np.uint8)
    differs = bool(alpha.min() < alpha.max())
    hides = differs and bool(pixels[alpha == 0].any())
    return OpenedImage(path, pixels, kind, mode, orientation, differs, hides, of_white == WHITE_IS_ZERO)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Errors about an image file as ValueErrors with its name."""
    try:
        yield
    except UNREADABLE as error:
        reason = files.reason(error) if isinstance(error, OSError) else error
        raise ValueError(f"{path}: cannot be read as an image: {reason}") from error


def read_grey(path: Path, read: Reader = open_image) -> np.ndarray:
    """An image file as (H, W) uint8, see `to_grey`."""
    return to_grey(read(path).pixels)


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) uint8 as Rec. 601 luma (0.299 R + 0.587 G + 0.114 B), (H, W) uint8; grey values unchanged."""
    if pixels.ndim == 2:
        return pixels
    first = pixels[..., 0]
    if all(np.array_equal(first, pixels[..., channel]) for channel in (1, 2)):
        return np.ascontiguousarray(first)
    return np.rint(pixels @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


def read_binary(path: Path, read: Reader = open_mask) -> np.ndarray:
    """A mask file with the values 0 and 255, or 0 and 1, in any channel as (H, W) bool; transparency is ignored.

    Lossy files are read `by_brightness`. ValueError with file and values in other cases.
    """
    opened = read(path)
    pixels = opened.pixels.max(axis=2) if opened.pixels.ndim == 3 else opened.pixels
    if opened.is_lossy:
        return by_brightness(path, pixels)
    if _only_value(pixels) not in (0, 1, 255):
        values = [value for (value,) in colour_counts(pixels)]
        raise ValueError(f"{path}: values {values[:8]}; expected a mask of 0 and 255, or 0 and 1{smoothed(values)}")
    return pixels > 0


def by_brightness(path: Path, grey: np.ndarray, class_count: int = 2) -> np.ndarray:
    """Foreground of a lossy mask (H, W) uint8, 128 and above, as (H, W) bool.

    ValueError for more than two classes, and if no pixel of several values is foreground, as with indices 0 and 1.
    """
    if class_count > 2 or grey.min() < grey.max() < 128:  # a black mask may be 1 throughout
        expected = "black and white, a PNG for more than two classes, or a palette, because JPEG changes values"
        raise ValueError(f"{path}: JPEG with values up to {grey.max()}; expected {expected}")
    return grey >= 128


def smoothed(values: Collection[object]) -> str:
    """A hint for a mask with this many values, "" for few."""
    many = len(values) > MANY_VALUES
    return " (many values: was the mask resized or blurred? resize masks by nearest neighbour)" if many else ""


def by_stem(folder: Path) -> dict[str, Path]:
    """Image files directly in a folder by stem, sorted; ValueError if two files share a stem."""
    found: dict[str, Path] = {}
    for path in system_files.visible(folder) if folder.is_dir() else ():
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        stem = unicodedata.normalize("NFC", path.stem)  # macOS decomposes names
        if stem in found:
            raise ValueError(f"{folder}: {found[stem].name} and {path.name}; expected one file per name")
        found[stem] = path
    return found


def colour_counts(pixels: np.ndarray) -> dict[tuple[int, ...], int]:
    """Number of pixels per colour: (H, W, 3) -> {(r, g, b): count}, (H, W) -> {(grey,): count}; uint8."""
    if pixels.ndim == 2:
        value, nonzero = _only_value(pixels), int(np.count_nonzero(pixels))
        if value is not None:
            return {(grey,): n for grey, n in ((0, pixels.size - nonzero), (value, nonzero)) if n}
        counts = cv2.calcHist([np.ascontiguousarray(pixels)], [0], None, [256], [0, 256])[:, 0]
        return {(int(value),): int(counts[value]) for value in np.flatnonzero(counts)}
    codes, counts = np.unique(colour_codes(pixels), return_counts=True)
    colours = zip((codes >> 16).tolist(), (codes >> 8 & 255).tolist(), (codes & 255).tolist())
    return dict(zip(colours, counts.tolist()))


def _only_value(pixels: np.ndarray) -> int | None:
    """The only value besides 0 of (H, W) uint8 pixels, 0 if there is none; None if there are several."""
    highest = int(pixels.max())
    # Ten times as fast as a histogram: no value exceeds the highest, so this is their sum only if none lies in between.
    return highest if cv2.sumElems(pixels)[0] == highest * cv2.countNonZero(pixels) else None


def colour_codes(pixels: np.ndarray) -> np.ndarray:
    """Colours as numbers 0xRRGGBB: (H, W, 3) uint8 -> (H, W) uint32."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue


def decode_palette(pixels: np.ndarray, palette: dict[tuple[int, int, int], int], lossy: bool = False) -> np.ndarray:
    """Class indices of a colour mask: (H, W, 3) uint8 -> (H, W) uint8; black is 0 unless in the palette.

    ValueError if the mask is grey or has colours outside the palette; the message counts them. In a `lossy` file (JPEG)
    each pixel takes the class of the nearest colour instead.
    """
    if pixels.ndim != 3:
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
    """Class of the nearest colour in RGB, the first of ties: (H, W, 3) uint8 -> (H, W) uint8."""
    rgb = np.ascontiguousarray(pixels)
    offsets = np.stack([cv2.absdiff(rgb, np.array([*colour, 0], np.float64)).astype(np.int32) for colour in palette])
    return np.array(list(palette.values()), np.uint8)[np.argmin((offsets**2).sum(axis=3), axis=0)]
