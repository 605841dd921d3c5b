"""Checks of one case: its files opened, its figures taken, what is odd about them found."""

from collections import Counter
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
from lib.verification import image_hash

HC_TOLERANCE_MM = 0.5  # of HC recomputed from the annotation against the published one
QUICK_TOLERANCE_MM = 0.1  # within which moments are trusted; on whole HC18 heads they are 0.01 mm off
NEAR_BORDER = 0.02  # of the shorter side: a reference whose edge comes nearer may be cut
LOW_CONTRAST = 0.02  # of (inside - outside) / (inside + outside), without sign

UNREADABLE = Check("unreadable", "get the file again, or name the case in `exclude`")
GET_BOTH = "image and mask belong to different pictures, or one was resized: get both again, or exclude"
SIZE_MISMATCH = Check("size mismatch", GET_BOTH)
EMPTY_MASK = Check("empty mask", "exclude the case, or mend the mask")
MASK_OF_NORMAL_IMAGE = Check("mask of a normal image", "move the image to the group that it shows, or empty the mask")
UNMEASURABLE_MASK = Check("unmeasurable mask", "look at the mask; exclude the case if it shows no whole head")
LOSSY_MASK = Check("lossy mask", "save masks as PNG; borders are blurred, and each pixel was given the nearest colour")
ZERO_AND_ONE = Check("0 and 1 instead of 0 and 255", "nothing: taken as the same")
TOUCHES_FRAME = Check("touches the frame")
NEAR_FRAME = Check("near the frame")
CONTRAST_IS_LOW = Check("low contrast")
HC_DIFFERS = Check("HC differs from its annotation", "look at both; pixel size or annotation is wrong")

Colours = dict[tuple[int, ...], int]  # pixels of each colour, or grey value, of mask files


@dataclass(frozen=True)
class Look:
    """What one case's files hold."""

    row: dict[str, Any]  # as `describe` gives it; the name alone where the files cannot be used
    findings: list[Finding]
    colours: Colours
    likeness: image_hash.Likeness | None = None  # None where the files cannot be used


def look(case: Case, dataset: Dataset) -> Look:
    """Opens one case; a fault that makes it useless is its only finding."""
    masks: dict[Path, np.ndarray] = {}

    def read(path: Path) -> np.ndarray:
        """Reads a mask file once for its classes and for the audit of its colours."""
        return masks.setdefault(path, image_files.read_pixels(path))

    try:
        image = dataset.read_image(case.image)
        mask = dataset.read_mask(case.mask, read=read)
    except ValueError as error:
        fault = Finding("stop", UNREADABLE, case.name, str(error), "a readable image and mask")
        return Look({"case": case.name}, [fault], audit(case, masks)[0])
    colours, findings = audit(case, masks)
    shown = image[..., dataset.display_channel] if dataset.volumes else image
    mismatch = find_mismatch(case, shown, mask)
    if mismatch is not None:
        return Look({"case": case.name}, [mismatch], colours)
    try:
        row = describe(case, shown, mask)
    except ValueError as error:
        fault = Finding("stop", UNMEASURABLE_MASK, case.name, str(error), "a mask that an ellipse fits")
        return Look({"case": case.name}, [fault], colours)
    findings += judge(case, row) + (dataset.inspect(case, image, mask) if dataset.inspect else [])
    return Look(row, findings, colours, alike(image, shown))


def find_mismatch(case: Case, image: np.ndarray, mask: np.ndarray) -> Finding | None:
    """A mask of another size than the image, or of other content than the case is to show."""
    pixels = int((mask > 0).sum())
    for is_so, check, found, expected in (
        (image.shape != mask.shape, SIZE_MISMATCH, f"image {image.shape}, mask {mask.shape}", "equal (rows, columns)"),
        (case.foreground == "present" and not pixels, EMPTY_MASK, "no pixel of any class", "at least one class"),
        (case.foreground == "absent" and pixels, MASK_OF_NORMAL_IMAGE, f"{pixels} pixels of a class", "an empty mask"),
    ):
        if is_so:
            return Finding("stop", check, case.name, found, expected)
    return None


def alike(image: np.ndarray, shown: np.ndarray) -> image_hash.Likeness:
    """What a case is compared by; of a volume (D, H, W) the middle slice, and every voxel for equality."""
    if shown.ndim == 2:
        return image_hash.describe(shown)
    middle = np.ascontiguousarray(shown[len(shown) // 2])
    return replace(image_hash.describe(middle), pixels=image_hash.pixel_hash(image))


def audit(case: Case, masks: dict[Path, np.ndarray]) -> tuple[Colours, list[Finding]]:
    """Colours of a case's mask files, as read, with their counts; and what is odd about them."""
    colours: Counter[tuple[int, ...]] = Counter()
    findings = []
    for path, pixels in masks.items():
        counts = image_files.colour_counts(pixels)
        colours.update(counts)
        if image_files.is_lossy(path):
            found = f"{path.name}: {len(counts)} colours"
            findings.append(Finding("warn", LOSSY_MASK, case.name, found, "a lossless file; nearest colour taken"))
        elif set(counts) == {(0,), (1,)}:
            findings.append(Finding("note", ZERO_AND_ONE, case.name, path.name, "0 and 255; taken as the same"))
    return dict(colours), findings


def describe(case: Case, image: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """Figures of one case, from an image (H, W) uint8, or a volume's shown channel (D, H, W), and its class indices."""
    region = mask > 0
    outline = region if region.ndim == 2 else region.any(axis=0)
    image, region = (np.ascontiguousarray(each).reshape(-1, each.shape[-1]) for each in (image, region))
    area = int(np.count_nonzero(region))
    inside = cv2.mean(image, region.view(np.uint8))[0] if area else np.nan
    outside = (cv2.sumElems(image)[0] - (inside * area if area else 0.0)) / max(region.size - area, 1)
    published = case.reference_mm.get("hc", np.nan)
    return {
        "case": case.name,
        "slices": 1 if mask.ndim == 2 else len(mask),
        "height": mask.shape[-2],
        "width": mask.shape[-1],
        "sha256": cases.content_hash(case.image, case.mask),
        "area_fraction": area / region.size,
        "border_gap": border_gap(outline),
        "mean_inside": inside,
        "mean_outside": outside,
        "contrast": (inside - outside) / max(inside + outside, 1e-6),
        "mask_hc_mm": recompute_hc_mm(outline, case.spacing_mm, published),
        "published_hc_mm": published,
    }


def recompute_hc_mm(region: np.ndarray, spacing_mm: tuple[float, float] | None, published_mm: float) -> float:
    """HC of a reference mask (H, W) where it can be compared, else NaN."""
    if spacing_mm is None or not np.isfinite(published_mm):
        return float("nan")
    # Moments are quick, and right for a whole ellipse; a head that the frame cuts needs its edge.
    major, minor = ellipse.ellipse_of_moments(region, spacing_mm)
    if minor > 0:
        hc_mm = ellipse.ellipse_perimeter_mm(major, minor)
        if abs(hc_mm - published_mm) <= QUICK_TOLERANCE_MM:
            return hc_mm
    return ellipse.measure_head(region, spacing_mm)["hc"]


def border_gap(region: np.ndarray) -> float:
    """Pixels between a (H, W) bool region's edge and the image's frame, over the shorter side; NaN for no region."""
    left, top, width, height = cv2.boundingRect(region.view(np.uint8))
    if width == 0:
        return float("nan")
    below, right = region.shape[0] - top - height, region.shape[1] - left - width
    return min(left, top, right, below) / min(region.shape)


def judge(case: Case, row: dict[str, Any]) -> list[Finding]:
    """Findings that follow from a case's figures."""
    gap, contrast, hc, published = (row[name] for name in ("border_gap", "contrast", "mask_hc_mm", "published_hc_mm"))
    away, difference = f"{gap:.1%} of the shorter side away", f"{contrast:+.3f} from inside to outside"
    both = f"{hc:.2f} mm from the annotation, {published:.2f} mm published"
    checks = (
        (gap == 0, "note", TOUCHES_FRAME, "cut by the image's edge", "inside"),
        (0 < gap < NEAR_BORDER, "note", NEAR_FRAME, away, f"{NEAR_BORDER:.0%} or more"),
        (abs(contrast) < LOW_CONTRAST, "note", CONTRAST_IS_LOW, difference, f"{LOW_CONTRAST} or more, either way"),
        (abs(hc - published) > HC_TOLERANCE_MM, "warn", HC_DIFFERS, both, f"within {HC_TOLERANCE_MM} mm"),
    )
    return [Finding(severity, check, case.name, *texts) for is_so, severity, check, *texts in checks if is_so]
