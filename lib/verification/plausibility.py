"""Checks over a whole data set: references, images, pixel sizes and subjects that can be read but cannot be right.

A problem in most of the cases that a check concerns is one of the data set, and is one finding that stops the study;
otherwise, and where only a few cases are concerned, each case has its own finding.
"""

import re
import unicodedata
from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.data.cases import Case
from lib.data.dataset import Dataset
from lib.data.findings import Check, Finding
from lib.verification.case_checks import CheckedCase

MOST = 0.5  # fraction of the cases above which a problem is one of the data set
FEW_CASES = 5  # fewer say little: ratios spread over ± 5 % agree within 1 % by chance in 23 % of pairs, 0.1 % of fives
MANY_SUBJECTS = 20  # more subjects in several spellings are one finding
HC_TOLERANCE_MM = 0.5  # between HC from the annotation and the published HC; at most 0.09 on 640 HC18 images
MAX_HC_DIFFERENCE = 0.10  # relative; HC differs by 0.04 between the inner and the outer side of the skull
CONSTANT_RATIO = 0.01  # spread of the middle 80 % of ratios of HC, and their least distance from 1; HC18: 0.001
FILLED_OVER_FITTED = 1.5  # drawn pixels over those of the fitted ellipse: filled 2, lines of HC18 below 0.1
UNIFORM_RANGE = 8  # grey values, so that noise and values of 0 and 1 count; at least 223 in 803 real images
SPACING_FACTOR = 10.0  # a wrong unit; within HC18 sizes differ by a factor of 8.0, from 0.049 to 0.393 mm
CONTAINS = {"parenchyma": ("csp", "lv")}  # classes that lie inside another, which is the largest in every image

HC_DIFFERS = Check("HC differs from its annotation", "inspect the case; its pixel size or its annotation is wrong")
UNITS = "compare the pixel sizes (unit: mm) and the numbers of rows and columns of the images with the published ones"
HC_IN_CONSTANT_RATIO = Check("HC differs in a constant ratio: pixel size or resize", UNITS)
OTHERS = "check that the rows of the table belong to these images, and that the annotations are the published ones"
HC_DIFFERS_IN_MOST_CASES = Check("HC differs in most cases", OTHERS)
LINES = "use the outlines as published, lines 2 to 3 pixels thick; the ellipse fitted to a filled outline is too small"
OUTLINE_IS_FILLED = Check("outline is filled", LINES)
UNIFORM_IMAGE = Check("uniform image", "export the image again, with grey values of 0 to 255, or exclude the case")
EMPTY = "check that the masks were exported with their labels, or use groups whose masks are not empty"
ALL_MASKS_EMPTY = Check("all masks are empty", EMPTY)
FULL_MASK = Check("mask covers the whole image", "export the mask again or exclude the case; nothing is background")
INVERSE = "exchange black and white if the structure is black; for own data, `palette` may list white first instead"
MASK_INVERTED = Check("mask may be inverted", INVERSE)
UNUSED_CLASS = Check("class without a pixel", "correct `classes`, `palette` or the masks; it cannot be learnt")
COLOURS = "check the colours of the masks: red and blue are exchanged if OpenCV wrote them as BGR instead of RGB"
CLASSES_EXCHANGED = Check("classes may be exchanged", COLOURS)
MIXED_UNITS = "look for different units (mm, cm) in the table of pixel sizes, and for images that were resized"
PIXEL_SIZES_DIFFER = Check("pixel sizes differ by a factor of ten", MIXED_UNITS)
SLICE_DISTANCES_DIFFER = Check(
    "slice distances differ by a factor of ten", "look for different units (mm, cm) in the column slice_mm"
)
ONE_SPELLING = "write each subject in one way; all spellings are in one fold, but count as several subjects"
SUBJECT_SPELLINGS = Check("subject in several spellings", ONE_SPELLING)

SEPARATORS = r"[\s_\-\u2010-\u2015\u2212]+"  # blanks, underscores, dashes


def check_all(dataset: Dataset, name: str, usable: list[Case], checked: Mapping[str, CheckedCase]) -> list[Finding]:
    """Findings about all usable cases of a data set; those of the whole set have its `name` as their case."""
    results = [checked[case.name] for case in usable]
    rows = pd.DataFrame([each.row for each in results])
    pixels = np.array([each.class_pixels for each in results])  # (N, classes)
    drawn = np.array([each.drawn_pixels for each in results])
    is_filled = dataset.outlines & (drawn > FILLED_OVER_FITTED * pixels[:, 1:].sum(axis=1))
    texts = [f"{a} pixels drawn, {b} in the fitted ellipse" for a, b in zip(drawn, pixels[:, 1:].sum(axis=1))]
    filled = {case: text for case, text, each in zip(rows["case"], texts, is_filled) if each}
    findings = each_or_all("stop", OUTLINE_IS_FILLED, filled, len(rows), name, "an outline drawn as a line")
    findings += check_published_hc(name, rows[~is_filled], has_head="head" in dataset.classes)
    findings += check_images(name, rows) + check_masks(name, rows["case"], pixels, dataset.classes)
    findings += check_inversion(name, rows["case"], pixels, np.array([each.holds_corners for each in results]))
    return findings + check_pixel_sizes(name, usable) + check_subjects(name, usable)


def each_or_all(
    severity: str, check: Check, found: Mapping[str, str], of: int, name: str, expected: str
) -> list[Finding]:
    """A finding for each case in `found`, or one stop for the data set if they are most `of` the cases concerned.

    Warnings about fewer than FEW_CASES concerned cases stay warnings.
    """
    if len(found) <= MOST * of or (severity == "warn" and of < FEW_CASES):
        return [Finding(severity, check, case, text, expected) for case, text in found.items()]
    case, text = next(iter(found.items()))
    return [Finding("stop", check, name, f"{len(found)} of {of} cases, such as {case}: {text}", expected)]


def check_published_hc(name: str, rows: pd.DataFrame, has_head: bool) -> list[Finding]:
    """Compares the HC of each annotation with the published one.

    Differences above HC_TOLERANCE_MM are warnings, and stops above MAX_HC_DIFFERENCE. In most of FEW_CASES or more,
    they are one stop, which tells a constant ratio apart, unless half of them are within CONSTANT_RATIO. Without the
    head among the classes, only those above MAX_HC_DIFFERENCE count, because the published HC is then that of another
    structure than the annotated one.
    """
    rows = rows.dropna(subset=["mask_hc_mm", "published_hc_mm"])
    measured, published = rows["mask_hc_mm"], rows["published_hc_mm"]
    ratio = measured / published
    is_off, is_far = (measured - published).abs() > HC_TOLERANCE_MM, (ratio - 1).abs() > MAX_HC_DIFFERENCE
    texts = [f"{a:.2f} mm from the annotation, {b:.2f} mm published" for a, b in zip(measured, published)]
    found, expected = dict(zip(rows["case"], texts)), f"difference up to {HC_TOLERANCE_MM} mm"
    counted = is_off if has_head else is_far
    is_of_set = counted.sum() > MOST * len(rows) and len(rows) >= FEW_CASES
    if is_of_set and (ratio[counted] - 1).abs().median() > CONSTANT_RATIO:
        check = HC_DIFFERS_IN_MOST_CASES
        of_set = {case: found[case] for case in rows["case"][counted]}
        low, middle, high = ratio[counted].quantile([0.1, 0.5, 0.9])
        if high - low <= CONSTANT_RATIO * middle and counted.sum() >= FEW_CASES:
            check = HC_IN_CONSTANT_RATIO
            of_set = {case: f"{text}; common ratio {middle:#.3g}" for case, text in of_set.items()}
        return each_or_all("stop", check, of_set, len(rows), name, expected)
    severities = zip(rows["case"][counted], is_far[counted])
    return [Finding("stop" if far else "warn", HC_DIFFERS, case, found[case], expected) for case, far in severities]


def check_images(name: str, rows: pd.DataFrame) -> list[Finding]:
    """Stops for uniform images with foreground in their mask; a warning for each with an empty one, however many."""
    is_uniform, has_foreground = rows["brightest"] - rows["darkest"] <= UNIFORM_RANGE, rows["area_fraction"] > 0
    texts = [f"grey values {low:.0f} to {high:.0f}" for low, high in rows[["darkest", "brightest"]].values]
    found, expected = dict(zip(rows["case"], texts)), f"a range of more than {UNIFORM_RANGE}"
    with_foreground = {case: found[case] for case in rows["case"][is_uniform & has_foreground]}
    findings = each_or_all("stop", UNIFORM_IMAGE, with_foreground, int(has_foreground.sum()), name, expected)
    empty = rows["case"][is_uniform & ~has_foreground]
    return findings + [Finding("warn", UNIFORM_IMAGE, case, found[case], expected) for case in empty]


def check_masks(name: str, cases: pd.Series, pixels: np.ndarray, classes: tuple[str, ...]) -> list[Finding]:
    """Checks the pixel counts of the classes, (N, classes): empty and full masks, unused and exchanged classes."""
    whole, has_foreground = pixels.sum(axis=1), pixels[:, 1:].any(axis=1)
    if not has_foreground.any():
        words = f"no foreground in {len(pixels)} masks", f"{' or '.join(classes[1:])} in some masks"
        return [Finding("stop", ALL_MASKS_EMPTY, name, *words)]
    is_full = pixels[:, 1:].max(axis=1) == whole
    found = {case: f"all {count} pixels are of one class" for case, count in zip(cases[is_full], whole[is_full])}
    findings = each_or_all("warn", FULL_MASK, found, int(has_foreground.sum()), name, "some background")
    for unused in (label for label, used in zip(classes[1:], pixels[:, 1:].any(axis=0)) if not used):
        findings.append(Finding("warn", UNUSED_CLASS, name, f"{unused} is in none of {len(pixels)} masks", "in some"))
    return findings + check_sizes_of_classes(name, cases, pixels, classes)


def if_all_empty(name: str, checked: Mapping[str, CheckedCase], findings: list[Finding]) -> list[Finding]:
    """One stop in place of those of each case if the mask files of all cases that were read are black, else as given.

    For layouts in which an empty mask cannot be used, so that no case remains for `check_masks`.
    """
    drawn = [max(map(max, each.colours)) for each in checked.values() if each.colours]
    if len(drawn) < len(checked) or not drawn or max(drawn):
        return findings
    others = [each for each in findings if each.severity != "stop" or each.case not in checked]
    found = f"no foreground in {len(drawn)} masks"
    return [Finding("stop", ALL_MASKS_EMPTY, name, found, "foreground in some masks"), *others]


def check_inversion(name: str, cases: pd.Series, pixels: np.ndarray, holds_corners: np.ndarray) -> list[Finding]:
    """Warnings for masks of two classes whose foreground holds all corners and most of the image, but not all of it.

    From the pixel counts of the classes, (N, 2), and whether the corners are foreground, (N,) bool. Full masks do not
    count as concerned: the inverse of an empty mask is full.
    """
    if pixels.shape[1] != 2:  # the inverse of several classes has no meaning
        return []
    share = pixels[:, 1] / pixels.sum(axis=1)
    is_concerned = (share > 0) & (share < 1)
    is_inverse = is_concerned & holds_corners & (share > MOST)
    texts = [f"foreground in all four corners and {part:.1%} of the pixels" for part in share]
    found = {case: text for case, text, each in zip(cases, texts, is_inverse) if each}
    return each_or_all("warn", MASK_INVERTED, found, int(is_concerned.sum()), name, "background in some corner")


def check_sizes_of_classes(name: str, cases: pd.Series, pixels: np.ndarray, classes: tuple[str, ...]) -> list[Finding]:
    """Warnings for cases in which a class is larger than the one that contains it (CONTAINS)."""
    findings = []
    for outer, inner in CONTAINS.items():
        if {outer, *inner} <= set(classes):
            indices = [classes.index(label) for label in inner]
            of_outer, largest = pixels[:, classes.index(outer)], pixels[:, indices].max(axis=1)
            labels = [inner[at] for at in pixels[:, indices].argmax(axis=1)]
            texts = [f"{label} {a} pixels, {outer} {b}" for label, a, b in zip(labels, largest, of_outer)]
            found = {case: text for case, text, wrong in zip(cases, texts, largest > of_outer) if wrong}
            expected = f"{outer} larger than {' and '.join(inner)}"
            concerned = int((of_outer + largest > 0).sum())
            findings += each_or_all("warn", CLASSES_EXCHANGED, found, concerned, name, expected)
    return findings


def check_pixel_sizes(name: str, usable: list[Case]) -> list[Finding]:
    """A warning with the extremes if pixel sizes, or distances between slices, differ by SPACING_FACTOR or more."""
    in_plane = [(size, case.name) for case in usable if case.spacing_mm for size in case.spacing_mm]
    of_slices = [(case.slice_mm, case.name) for case in usable if case.slice_mm]
    findings = []
    for check, sizes in ((PIXEL_SIZES_DIFFER, in_plane), (SLICE_DISTANCES_DIFFER, of_slices)):
        low, high = min(sizes, default=(1.0, "")), max(sizes, default=(1.0, ""))
        if high[0] >= SPACING_FACTOR * low[0] * (1 - 1e-6):
            found = f"{low[0]:.3g} mm ({low[1]}) to {high[0]:.3g} mm ({high[1]})"
            findings.append(Finding("warn", check, name, found, f"a factor below {SPACING_FACTOR:g}"))
    return findings


def check_subjects(name: str, usable: list[Case]) -> list[Finding]:
    """A warning for each subject that is written in several ways, or one for the data set if they are many."""
    first = {spelling_key(case.subject): case.name for case in reversed(usable)}
    written = spellings(usable)
    found = [(first[spelling_key(each[0])], ", ".join(f'"{subject}"' for subject in each)) for each in written]
    if len(found) > MANY_SUBJECTS:
        found = [(name, f"{len(found)} subjects, such as {found[0][1]} ({found[0][0]})")]
    expected = "one spelling; all of them are assigned to the same fold"
    return [Finding("warn", SUBJECT_SPELLINGS, case, text, expected) for case, text in found]


def spellings(usable: list[Case]) -> list[list[str]]:
    """Subjects that are written in several ways, each as its sorted spellings; a case's own name is no subject."""
    written: dict[str, set[str]] = {}
    for case in usable:
        written.setdefault(spelling_key(case.subject), set()).add(case.subject)
    named = {case.subject for case in usable if case.subject != case.name}
    return [sorted(each) for each in written.values() if len(each) > 1 and each & named]


def spelling_key(subject: str) -> str:
    """A subject without what spellings differ in: letter case, Unicode form, separators, leading zeros.

    Numbers stay apart: "P-07" and "p 7" are one subject, "1-12" and "11-2" are two.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", subject).casefold())
    text = re.sub(rf"(?<=\d){SEPARATORS}(?=\d)", "|", text)
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(SEPARATORS, "", text))
