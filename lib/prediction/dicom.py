"""DICOM files of ultrasound: frames as grey values, and the pixel size by calibrated regions or PixelSpacing.

Nothing of a file but pixels and their size is kept: no name, date or other attribute reaches the output. Text that is
burned into the pixels stays there.

Sources: DICOM PS3.3, C.8.5.5 US Region Calibration (units: C.8.5.5.1.15, spatial format: C.8.5.5.1.1), C.7.6.3 Image
Pixel, 10.7 Pixel Spacing.
"""

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import uid
from pydicom.errors import InvalidDicomError
from pydicom.pixels import iter_pixels
from pydicom.pixels.processing import apply_color_lut

from lib.imaging import image_files
from lib.prediction.pixel_sizes import TOLERANCE
from lib.study import files

# Where several installed decoders could read a file, so that its values do not depend on what is installed.
PLUGINS = dict.fromkeys((uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEG2000, uid.JPEG2000Lossless), "pillow")
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")  # pydicom returns all of them as RGB
CENTIMETRES = 3  # of PhysicalUnitsXDirection; the only unit of length
UNITS = ("no unit", "percent", "dB", "cm", "seconds", "hertz", "dB/s", "cm/s", "cm²", "cm²/s", "degrees")
TWO_DIMENSIONAL = 1  # RegionSpatialFormat of a B-mode image; others are of motion, spectra, graphs
MAX_PIXELS = 2**31  # of all frames of a file together
# Exceptions of pydicom and its decoders for files that are not whole or not valid. pydicom converts an attribute when
# it is first used, so reading one of a damaged file may raise any of them, too; the refusal states the reason.
UNREADABLE = (OSError, EOFError, AttributeError, KeyError, IndexError, TypeError, ValueError, NotImplementedError)
UNREADABLE += (RuntimeError, OverflowError, struct.error, zlib.error, InvalidDicomError)
Spacing = tuple[float, float]


def read(path: Path) -> tuple[list[np.ndarray], Spacing | None, str]:
    """Frames (H, W) uint8 of a file, their (row, col) pixel size in mm, and where it is from or why it is unknown.

    ValueError, with the file and the reason, if it is no DICOM image of 8 bits, is damaged, encrypted or compressed in
    a way that no installed decoder reads.
    """
    try:
        dataset = pydicom.dcmread(path)
        _check_form(dataset)
        plugin = PLUGINS.get(dataset.file_meta.TransferSyntaxUID, "")
        frames = [_grey(frame, dataset) for frame in iter_pixels(dataset, decoding_plugin=plugin)]
        size, source = spacing_of(dataset, frames[0].shape)
    except UNREADABLE as error:
        reason = files.reason(error) if isinstance(error, OSError) else _reason(error)
        raise ValueError(f"{path}: cannot be read as a DICOM image: {reason}") from error
    return frames, size, source


def _reason(error: Exception) -> str:
    """The first line of a message, which pydicom fills with those of every decoder."""
    if isinstance(error, InvalidDicomError):
        return "no DICM mark after the first 128 bytes; expected a DICOM file (PS3.10)"
    text = str(error).strip() or type(error).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ": ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def _check_form(dataset: pydicom.Dataset) -> None:
    """ValueError unless the file holds pictures of 8 bits per channel, grey or coloured, in a form that is read."""
    if "EncryptedAttributesSequence" in dataset and "PixelData" not in dataset:
        raise ValueError("encrypted (Encrypted Attributes Sequence); expected a file that is not")
    if "PixelData" not in dataset:
        kind = dataset.get("Modality") or "no modality"
        raise ValueError(f"contains no picture ({kind}: a report, plan, waveform or directory?); expected an image")
    lacking = [name for name in ("Rows", "Columns", "BitsStored", "PhotometricInterpretation") if name not in dataset]
    if lacking:
        raise ValueError(f"{', '.join(lacking)} missing; expected the attributes of an image")
    form, bits, modality = dataset.PhotometricInterpretation, dataset.BitsStored, dataset.get("Modality") or "unknown"
    if bits != 8 or dataset.get("PixelRepresentation"):
        sign = ", signed," if dataset.get("PixelRepresentation") else ""
        raise ValueError(f"{bits} bits per channel{sign} (modality {modality}); expected 8 bits, as of ultrasound")
    if form not in (*GREY, *COLOURS, "PALETTE COLOR"):
        allowed = ", ".join((*GREY, *COLOURS, "PALETTE COLOR"))
        raise ValueError(f"photometric interpretation {form}; expected {allowed}")
    count = int(dataset.get("NumberOfFrames") or 1)
    total = dataset.Rows * dataset.Columns * count
    if not 0 < total <= MAX_PIXELS or dataset.Rows * dataset.Columns > image_files.MAX_PIXELS:
        found = f"{count} frames of {dataset.Rows} x {dataset.Columns} pixels"
        raise ValueError(f"{found}; expected up to {image_files.MAX_PIXELS} per frame and {MAX_PIXELS} in all")
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise ValueError("no transfer syntax; expected one in the file's header")
    if syntax.is_compressed:
        _check_decoder(syntax)


def _check_decoder(syntax: uid.UID) -> None:
    """ValueError if no installed package decompresses this transfer syntax."""
    try:
        has_decoder = pydicom.pixels.get_decoder(syntax).is_available
    except NotImplementedError:  # by pydicom, of a transfer syntax that none of its decoders is for
        has_decoder = False
    if not has_decoder:
        advice = "save it uncompressed, or as JPEG 2000 or RLE"
        raise ValueError(f"compressed as {syntax.name}, which no installed decoder reads; {advice}")


def _grey(frame: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """One frame as (H, W) uint8: inverted if white is stored as 0, colours by the luma of all other images."""
    form = dataset.PhotometricInterpretation
    if form == "PALETTE COLOR":
        colours = apply_color_lut(frame, dataset)
        frame = (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours
    if frame.dtype != np.uint8:
        frame = frame.astype(np.uint8)  # 8 of 16 allocated bits are stored
    grey = image_files.to_grey(frame)
    return 255 - grey if form == "MONOCHROME1" else grey


def spacing_of(dataset: pydicom.Dataset, shape: tuple[int, ...]) -> tuple[Spacing | None, str]:
    """The (row, col) pixel size in mm of an image of this shape, and its source; None, and why, if it is not sure."""
    regions = list(dataset.get("SequenceOfUltrasoundRegions") or [])
    of_regions, reason = _of_regions(regions, shape) if regions else (None, "")
    of_image = _of_attribute(dataset.get("PixelSpacing"))
    if reason:
        return None, reason
    if of_regions and of_image and not _agree(of_regions, of_image):
        return None, f"PixelSpacing is {_shown(of_image)}, but the calibrated region has {_shown(of_regions)}"
    if of_regions:
        return of_regions, "calibrated region"
    if of_image:
        return of_image, "PixelSpacing"
    if regions:
        units = {_unit(region) for region in regions}
        return (
            None,
            f"{len(regions)} ultrasound regions, none of them an image calibrated in cm ({', '.join(sorted(units))})",
        )
    return None, "no calibration in the file (neither SequenceOfUltrasoundRegions nor PixelSpacing)"


def _of_regions(regions: list[pydicom.Dataset], shape: tuple[int, ...]) -> tuple[Spacing | None, str]:
    """Pixel size of the regions of two-dimensional images in cm, or why it is not one; (None, "") if there are none."""
    images = [region for region in regions if region.get("RegionSpatialFormat") == TWO_DIMENSIONAL]
    images = [each for each in images if _codes(each) == (CENTIMETRES, CENTIMETRES)]
    sizes = [
        _positive(10 * abs(number(each, "PhysicalDeltaY")), 10 * abs(number(each, "PhysicalDeltaX"))) for each in images
    ]
    if None in sizes:
        return None, "a calibrated region without a positive size of its pixels"
    for region in images:
        right, low = number(region, "RegionLocationMaxX1"), number(region, "RegionLocationMaxY1")
        if right > shape[1] or low > shape[0]:
            reach = f"reaches to column {right:.0f} and row {low:.0f} of an image of {shape[1]} x {shape[0]}"
            return None, f"the calibrated region {reach}: the image was resized or cropped after its calibration"
    differ = [size for size in sizes[1:] if not _agree(size, sizes[0])]
    if differ:
        found = f"{len(sizes)} calibrated regions of different pixel size ({_shown(sizes[0])} and {_shown(differ[0])})"
        return None, f"{found}; crop the image to one of them"
    return (sizes[0], "") if sizes else (None, "")


def number(dataset: pydicom.Dataset, name: str) -> float:
    """A number among the attributes, NaN if it is missing."""
    value: Any = dataset.get(name)
    return math.nan if value is None else float(value)


def _codes(region: pydicom.Dataset) -> tuple[Any, Any]:
    return region.get("PhysicalUnitsYDirection"), region.get("PhysicalUnitsXDirection")


def _unit(region: pydicom.Dataset) -> str:
    """Units of a region's directions in words."""
    names = [UNITS[code] if code in range(len(UNITS)) else f"unit {code}" for code in _codes(region)]
    return " x ".join(dict.fromkeys(names))


def _of_attribute(value: Any) -> Spacing | None:
    """(row, col) of PixelSpacing, which is in this order; None if missing or not two positive numbers."""
    if value is None or isinstance(value, str) or len(value) != 2:
        return None
    return _positive(float(value[0]), float(value[1]))


def _positive(row: float, col: float) -> Spacing | None:
    return (row, col) if 0 < row < math.inf and 0 < col < math.inf else None


def _agree(one: Spacing, other: Spacing) -> bool:
    return all(abs(a - b) <= TOLERANCE * max(a, b) for a, b in zip(one, other))


def _shown(size: Spacing) -> str:
    return f"{size[0]:.4g} x {size[1]:.4g} mm"
