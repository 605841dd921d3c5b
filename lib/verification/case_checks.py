"""Checks of one case: its files are read, measured and checked for problems."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lib.data import cases
from lib.data.cases import Case
from lib.data.dataset import Dataset
from lib.data.findings import Check, Finding
from lib.imaging import ellipse, image_files
from lib.imaging.image_files import OpenedImage
from lib.imaging.surroundings import border_gap
from lib.verification import image_hash

QUICK_TOLERANCE_MM = 0.1  # difference up to which HC by moments is accepted; on whole HC18 heads it is 0.01 mm off
NEAR_BORDER = 0.02  # fraction of the shorter side: a reference nearer to the frame may be cut
LOW_CONTRAST = 0.02  # magnitude of (inside - outside) / (inside + outside)
MIN_SIDE = 32  # pixels; also the least network size (`image_size`)

UNREADABLE = Check("unreadable", "do what the finding says, or copy the file again; or add the case to `exclude`")
REPLACE_BOTH = "mask and image do not belong together, or one was resized; replace them or exclude the case"
SIZE_MISMATCH = Check("size mismatch", REPLACE_BOTH)
TOO_SMALL = Check("too small for an image", "export the image again at its native size, or exclude the case")
EMPTY_MASK = Check("empty mask", "exclude the case or correct the mask")
MASK_OF_NORMAL_IMAGE = Check("mask of a normal image", "move the image to the correct group, or empty the mask")
UNMEASURABLE_MASK = Check("unmeasurable mask", "inspect the mask; exclude the case if it contains no whole head")
LOSSY_MASK = Check("lossy mask", "save masks as PNG; edges are blurred, and each pixel takes the nearest class colour")
ZERO_AND_ONE = Check("0 and 1 instead of 0 and 255", "no action needed: 1 is read as 255")
DRAWN = "check that the mask lies on the upright image; if it was drawn on the image as stored, remove the tag"
ORIENTATION_TAG = Check("orientation tag", DRAWN)
TURNED = {2: "mirrored left to right", 3: "rotated by 180 degrees", 4: "mirrored top to bottom"}  # to be upright
TURNED |= {5: "mirrored along the diagonal", 7: "mirrored along the other diagonal"}
TURNED |= {6: "rotated by 90 degrees clockwise", 8: "rotated by 90 degrees counterclockwise"}
OTHER_SUFFIX = Check("suffix and content disagree", "rename the file; it is read by its content")
TRANSPARENCY = Check("transparency")
TOUCHES_FRAME = Check("touches the frame")
NEAR_FRAME = Check("near the frame")
CONTRAST_IS_LOW = Check("low contrast")

Colours = dict[tuple[int, ...], int]  # pixel count of each colour, or grey value, of mask files


@dataclass(frozen=True)
class CheckedCase:
    """Measurements, findings, mask colours and hashes of one case."""

    row: dict[str, Any]  # from `describe`; only the case name if the files cannot be used
    findings: list[Finding]
    colours: Colours
    hashes: image_hash.ImageHashes | None = None  # None if the files cannot be used
    class_pixels: tuple[int, ...] = ()  # pixel count of each class in the mask, in index order
    drawn_pixels: int = 0  # pixels of the mask files that are not black
    holds_corners: bool = False  # whether the four corners, of every slice, are foreground


def check_case(case: Case, dataset: Dataset) -> CheckedCase:
    """Reads and checks one case; if it cannot be used, its findings are the reason and those about its files."""
    images: dict[Path, OpenedImage] = {}
    masks: dict[Path, OpenedImage] = {}
    unusable = {"case": case.name}
    try:
        image = dataset.read_image(case.image, read=storing(image_files.open_image, images))
        mask = dataset.read_mask(case.mask, read=storing(image_files.open_mask, masks))
    except ValueError as error:
        fault = Finding("stop", UNREADABLE, case.name, str(error), "a readable image and mask")
        colours, findings = audit(case, images, masks)
        return CheckedCase(unusable, [fault, *findings], colours)
    colours, findings = audit(case, images, masks)
    displayed = image[..., dataset.display_channel] if dataset.volumes else image
    mismatch = find_mismatch(case, displayed, mask)
    if mismatch is not None:
        return CheckedCase(unusable, [mismatch, *findings], colours)
    try:
        row = describe(case, displayed, mask)
    except ValueError as error:
        fault = Finding("stop", UNMEASURABLE_MASK, case.name, str(error), "a mask to which an ellipse can be fitted")
        return CheckedCase(unusable, [fault, *findings], colours)
    findings += findings_of(case, row) + (dataset.inspect(case, image, mask) if dataset.inspect else [])
    classes = tuple(np.count_nonzero(mask == index) for index in range(len(dataset.classes)))
    drawn = count_drawn(masks.values(), colours)
    corners = bool(mask[..., [0, 0, -1, -1], [0, -1, 0, -1]].all())
    return CheckedCase(row, findings, colours, hash_case(image, displayed), classes, drawn, corners)


def storing(read: image_files.Reader, opened: dict[Path, OpenedImage]) -> image_files.Reader:
    """A reader that reads each file once and stores it."""

    def read_once(path: Path) -> OpenedImage:
        if path not in opened:
            opened[path] = read(path)
        return opened[path]

    return read_once


def find_mismatch(case: Case, image: np.ndarray, mask: np.ndarray) -> Finding | None:
    """A finding if image and mask differ in size or are tiny, or the mask, contrary to its group, is empty or not."""
    pixels = int(np.count_nonzero(mask))
    rows, columns = image.shape[-2:]
    sizes, least = f"image {image.shape}, mask {mask.shape}", f"rows x columns, at least {MIN_SIDE} each"
    if image.shape == mask.swapaxes(-1, -2).shape:
        sizes += "; swapped: one of them rotated by 90 degrees?"
    for is_so, check, found, expected in (
        (image.shape != mask.shape, SIZE_MISMATCH, sizes, "equal (rows, columns)"),
        (min(rows, columns) < MIN_SIDE, TOO_SMALL, f"{rows} x {columns} pixels", least),
        (case.foreground == "present" and not pixels, EMPTY_MASK, "no foreground pixel", "at least one class"),
        (case.foreground == "absent" and pixels, MASK_OF_NORMAL_IMAGE, f"{pixels} foreground pixels", "an empty mask"),
    ):
        if is_so:
            return Finding("stop", check, case.name, found, expected)
    return None


def count_drawn(masks: Iterable[OpenedImage], colours: Colours) -> int:
    """Pixels of a case's mask files that are not black; in a lossy file, black has values up to 127."""
    least = 128 if any(mask.is_lossy for mask in masks) else 1
    return sum(count for colour, count in colours.items() if max(colour) >= least)


def hash_case(image: np.ndarray, displayed: np.ndarray) -> image_hash.ImageHashes:
    """Hashes of an image; for a volume (D, H, W), those of its middle slice and the pixel hash of all its voxels."""
    if displayed.ndim == 2:
        return image_hash.describe(displayed)
    middle = np.ascontiguousarray(displayed[len(displayed) // 2])
    return replace(image_hash.describe(middle), pixels=image_hash.pixel_hash(image))


def audit(case: Case, images: dict[Path, OpenedImage], masks: dict[Path, OpenedImage]) -> tuple[Colours, list[Finding]]:
    """Colours of a case's mask files with their pixel counts, and findings about the encoding of all its files."""
    colours: Counter[tuple[int, ...]] = Counter()
    findings = findings_of_files(case, [*images.values(), *masks.values()])
    for path, mask in masks.items():
        counts = image_files.colour_counts(mask.pixels)
        colours.update(counts)
        if mask.is_lossy:
            found = f"{path.name}: {len(counts)} colours"
            findings.append(Finding("warn", LOSSY_MASK, case.name, found, "a lossless file format"))
        elif set(counts) == {(0,), (1,)}:
            findings.append(Finding("note", ZERO_AND_ONE, case.name, path.name, "0 and 255"))
    return dict(colours), findings


def findings_of_files(case: Case, opened: Iterable[OpenedImage]) -> list[Finding]:
    """Findings from what files say about themselves; equal ones, as of all slices of a volume, become one."""
    named: dict[tuple, list[str]] = defaultdict(list)
    for each in opened:
        suffixes, tag = image_files.SUFFIXES[each.format], each.orientation
        turned = f"EXIF orientation {tag}: read {TURNED.get(tag, 'as stored, being unknown')}"
        for is_so, *finding in (
            (tag != 1, "warn", ORIENTATION_TAG, turned, "orientation 1, or no such tag"),
            (each.path.suffix.lower() not in suffixes, "warn", OTHER_SUFFIX, f"content is {each.format}", suffixes[0]),
            (each.has_transparency, "note", TRANSPARENCY, "transparency ignored", "opaque throughout"),
        ):
            if is_so:
                named[tuple(finding)].append(f"{each.path.parent.name}/{each.path.name}")
    return [
        Finding(severity, check, case.name, f"{first}{f' and {len(more)} more' if more else ''}: {found}", expected)
        for (severity, check, found, expected), (first, *more) in named.items()
    ]


def describe(case: Case, image: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """Measurements of one case, from an image (H, W) or displayed channel (D, H, W), uint8, and its class indices."""
    region = mask > 0
    outline = region if region.ndim == 2 else region.any(axis=0)
    image, region = (np.ascontiguousarray(each).reshape(-1, each.shape[-1]) for each in (image, region))
    area = int(np.count_nonzero(region))
    inside = cv2.mean(image, region.view(np.uint8))[0] if area else np.nan
    outside = (cv2.sumElems(image)[0] - (inside * area if area else 0.0)) / max(region.size - area, 1)
    published = case.reference_mm.get("hc", np.nan)
    darkest, brightest = cv2.minMaxLoc(image)[:2]
    return {
        "case": case.name,
        "slices": 1 if mask.ndim == 2 else len(mask),
        "height": mask.shape[-2],
        "width": mask.shape[-1],
        "sha256": cases.content_hash(case.image, case.mask),
        "area_fraction": area / region.size,
        "border_gap": border_gap(outline),
        "darkest": darkest,
        "brightest": brightest,
        "mean_inside": inside,
        "mean_outside": outside,
        "contrast": (inside - outside) / max(inside + outside, 1e-6),
        "mask_hc_mm": recompute_hc_mm(outline, case.spacing_mm, published),
        "published_hc_mm": published,
    }


def recompute_hc_mm(region: np.ndarray, spacing_mm: tuple[float, float] | None, published_mm: float) -> float:
    """HC of a reference mask (H, W); NaN without a pixel size or a published HC to compare it with."""
    if spacing_mm is None or not np.isfinite(published_mm):
        return float("nan")
    # Moments are fast and exact for a whole ellipse; a head cut by the frame requires a fit to its edge.
    major, minor = ellipse.ellipse_of_moments(region, spacing_mm)
    if minor > 0:
        hc_mm = ellipse.ellipse_perimeter_mm(major, minor)
        if abs(hc_mm - published_mm) <= QUICK_TOLERANCE_MM:
            return hc_mm
    return ellipse.measure_head(region, spacing_mm)["hc"]


def findings_of(case: Case, row: dict[str, Any]) -> list[Finding]:
    """Findings that follow from the measurements of a case."""
    gap, contrast = row["border_gap"], row["contrast"]
    distance, difference = f"{gap:.1%} of the shorter side", f"{contrast:+.3f} inside against outside"
    checks = (
        (gap == 0, "note", TOUCHES_FRAME, "reference touches the image border", "a gap to the border"),
        (0 < gap < NEAR_BORDER, "note", NEAR_FRAME, distance, f"{NEAR_BORDER:.0%} or more"),
        (abs(contrast) < LOW_CONTRAST, "note", CONTRAST_IS_LOW, difference, f"magnitude of {LOW_CONTRAST} or more"),
    )
    return [Finding(severity, check, case.name, *texts) for is_so, severity, check, *texts in checks if is_so]
