"""One look at each case: its files opened, its figures taken, what is odd about them said."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

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
SIZE_MISMATCH = Check(
    "size mismatch", "image and mask belong to different pictures, or one was resized: get both again, or exclude"
)
EMPTY_MASK = Check("empty mask", "exclude the case, or mend the mask")
MASK_OF_NORMAL_IMAGE = Check("mask of a normal image", "move the image to the group that it shows, or empty the mask")
UNMEASURABLE_MASK = Check("unmeasurable mask", "look at the mask; exclude the case if it shows no whole head")
LOSSY_MASK = Check("lossy mask", "save masks as PNG; borders are blurred, and each pixel was given the nearest colour")
ZERO_AND_ONE = Check("0 and 1 instead of 0 and 255", "nothing: taken as the same")
TOUCHES_FRAME = Check("touches the frame")
NEAR_FRAME = Check("near the frame")
CONTRAST_IS_LOW = Check("low contrast")
HC_DIFFERS = Check("HC differs from its annotation", "look at both; pixel size or annotation is wrong")


@dataclass(frozen=True)
class Look:
    """What one case's files hold; `row` lacks a size where they cannot be used."""

    row: dict[str, object]
    findings: list[Finding]
    colours: dict[tuple[int, ...], int]
    likeness: image_hash.Likeness


def look(case: Case, dataset: Dataset) -> Look:
    """Opens one case; what cannot be used is a finding, and its row then lacks a size."""
    held: dict[Path, np.ndarray] = {}

    def read(path: Path) -> np.ndarray:
        """Reads a mask file once for its classes and for the audit of its colours."""
        return held.setdefault(path, image_files.read_pixels(path))

    try:
        image = dataset.read_image(case.image)
        mask = dataset.read_mask(case.mask, read=read)
    except ValueError as error:
        return unusable(case, UNREADABLE, str(error), "a readable image and mask", audit(case, held)[0])
    colours, findings = audit(case, held)
    seen = image[..., dataset.shown_channel] if dataset.volumes else image
    if seen.shape != mask.shape:
        found = f"image {seen.shape}, mask {mask.shape}"
        return unusable(case, SIZE_MISMATCH, found, "equal (rows, columns)", colours)
    if case.shows == "something" and not mask.any():
        return unusable(case, EMPTY_MASK, "no pixel of any class", "at least one class", colours)
    if case.shows == "nothing" and mask.any():
        found = f"{int((mask > 0).sum())} pixels of a class"
        return unusable(case, MASK_OF_NORMAL_IMAGE, found, "an empty mask", colours)
    try:
        row = describe(case, seen, mask)
    except ValueError as error:
        return unusable(case, UNMEASURABLE_MASK, str(error), "a mask that an ellipse fits", colours)
    findings += judge(case, row) + (dataset.inspect(case, image, mask) if dataset.inspect else [])
    return Look(row, findings, colours, alike(image, seen))


def alike(image: np.ndarray, seen: np.ndarray) -> image_hash.Likeness:
    """What a case is compared by; of a volume (D, H, W) the middle slice, and every voxel for equality."""
    if seen.ndim == 2:
        return image_hash.describe(seen)
    middle = np.ascontiguousarray(seen[len(seen) // 2])
    return replace(image_hash.describe(middle), pixels=image_hash.pixel_hash(image))


def unusable(case: Case, check: Check, found: str, expected: str, colours: dict[tuple[int, ...], int]) -> Look:
    """The look at a case that stops the study."""
    finding = Finding("stop", check, case.name, found, expected)
    return Look({"case": case.name}, [finding], colours, image_hash.Likeness("", 0, np.zeros(0)))


def audit(case: Case, held: dict[Path, np.ndarray]) -> tuple[dict[tuple[int, ...], int], list[Finding]]:
    """Colours of a case's mask files, as read, with their counts; and what is odd about them."""
    counted: Counter[tuple[int, ...]] = Counter()
    findings = []
    for path, pixels in held.items():
        own = image_files.colour_counts(pixels)
        counted.update(own)
        if image_files.is_lossy(path):
            found = f"{path.name}: {len(own)} colours"
            findings.append(Finding("warn", LOSSY_MASK, case.name, found, "a lossless file; nearest colour taken"))
        elif set(own) == {(0,), (1,)}:
            findings.append(Finding("note", ZERO_AND_ONE, case.name, path.name, "0 and 255; taken as the same"))
    return dict(counted), findings


def describe(case: Case, image: np.ndarray, mask: np.ndarray) -> dict[str, object]:
    """Figures of one case: size, hash, area, contrast, border, HC from the reference mask.

    Args:
        case: to be described.
        image: (H, W) uint8, or (D, H, W) of a volume's channel that people look at.
        mask: class indices of the same shape.
    """
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
    """HC of a reference mask where it can be compared, else NaN: by moments, and by its edge where these disagree.

    Moments are quick, and right for a whole ellipse; a head that the frame cuts needs its edge.
    """
    if spacing_mm is None or not np.isfinite(published_mm):
        return float("nan")
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


def judge(case: Case, row: dict[str, object]) -> list[Finding]:
    """Findings that follow from a case's figures."""
    gap, contrast, hc, published = (
        float(row[name])  # type: ignore[arg-type]
        for name in ("border_gap", "contrast", "mask_hc_mm", "published_hc_mm")
    )
    found = []
    if gap == 0:
        found.append(Finding("note", TOUCHES_FRAME, case.name, "cut by the image's edge", "inside"))
    elif gap < NEAR_BORDER:
        said = f"{gap:.1%} of the shorter side away"
        found.append(Finding("note", NEAR_FRAME, case.name, said, f"{NEAR_BORDER:.0%} or more"))
    if abs(contrast) < LOW_CONTRAST:
        said = f"{contrast:+.3f} from inside to outside"
        found.append(Finding("note", CONTRAST_IS_LOW, case.name, said, f"{LOW_CONTRAST} or more, either way"))
    if abs(hc - published) > HC_TOLERANCE_MM:
        said = f"{hc:.2f} mm from the annotation, {published:.2f} mm published"
        found.append(Finding("warn", HC_DIFFERS, case.name, said, f"within {HC_TOLERANCE_MM} mm"))
    return found
