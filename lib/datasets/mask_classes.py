"""Classes of custom data, inferred from the grey values or colours of all mask files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from lib.imaging import image_files
from lib.study import parallel

MAX_CLASSES, FEW_MASKS = 32, 10
GREY_TOLERANCE = 32  # between the channels of a pixel that JPEG stores as grey
BLACK, WHITE, ONE = (0, 0, 0), (255, 255, 255), (1, 1, 1)
BLOCK = np.ones((3, 3), np.uint8)  # a smoothed edge is thinner: its values fill no 3 x 3 pixels, those of a class do

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class MaskFile:
    """What one mask file contains."""

    size: tuple[int, int]  # rows, columns
    pixels: Counter[Colour]  # number of pixels of each colour; grey v is (v, v, v)
    solid: set[Colour]  # colours that fill 3 x 3 pixels somewhere
    edges: set[Colour]  # colours of which most pixels lie between a darker and a brighter one
    is_lossy: bool  # JPEG


@dataclass(frozen=True)
class MaskClasses:
    """Classes of a folder of masks."""

    names: list[str]  # by index, background first
    palette: list[list[int]]  # as in a study file: [] if grey values are class indices, or 0 and 255
    values: list[str]  # grey value or colour of each class as text
    masks: list[int]  # number of masks that contain each class
    total: int  # number of masks that were read
    median_size: tuple[int, int]  # rows, columns

    @property
    def source(self) -> str:
        """Such as "30 masks: grey values 0 and 255"."""
        kind = "colours" if "(" in self.values[0] else "grey values"
        return f"{self.total} masks: {kind} {', '.join(self.values[:-1])} and {self.values[-1]}"

    def table(self) -> pd.DataFrame:
        """One row per class: class, value in the masks, number of masks."""
        return pd.DataFrame({"class": self.names, "value in the masks": self.values, "masks": self.masks})


def infer(paths: Sequence[Path]) -> MaskClasses:
    """Classes of mask files; unreadable ones are left out, and JPEG too unless all are, since it changes values.

    A value is a class if it fills 3 x 3 pixels in at least two masks (one of few, 1 % of many), or is thin throughout
    as `_are_all_classes` says. Values 0 and 255, or 0
    and 1, are two classes; 0, 1, 2, … are class indices; other grey values and colours become the palette. Black is
    the background, or else the most frequent colour. ValueError if no mask can be read or there are too many values.
    """
    read_or_not = parallel.in_parallel(_read, paths)
    readable = [each for each in read_or_not if isinstance(each, MaskFile)]
    if not readable:
        first = read_or_not[0].removeprefix(f"{paths[0].parent}/")
        raise ValueError(f"{paths[0].parent}: none of {len(paths)} masks can be read; the first: {first}")
    read = [each for each in readable if not each.is_lossy]
    if not read:
        return _of_lossy(paths[0].parent, readable)
    colours = _classes(read)
    if len(colours) > MAX_CLASSES:
        expected = f"at most {MAX_CLASSES} classes, one value each: save masks as PNG, without smoothing or shading"
        raise ValueError(f"{paths[0].parent}: the masks have {len(colours)} different values; expected {expected}")
    if _are_two_tone(read, colours):
        present = [colour for colour in (ONE, WHITE) if any(colour in each.pixels for each in read)] or [WHITE]
        values = ["0", " or ".join(str(red) for red, *_ in present)]
        return _result(read, [[BLACK], [ONE, WHITE]], [], values)
    is_grey = all(len(set(colour)) == 1 for colour in colours)
    values = [str(colour[0] if is_grey else colour) for colour in colours]
    are_indices = is_grey and [colour[0] for colour in colours] == list(range(len(colours)))
    return _result(read, [[colour] for colour in colours], [] if are_indices else [[*c] for c in colours], values)


def _read(path: Path) -> MaskFile | str:
    """Contents of a mask, or why it cannot be read, which verification reports."""
    try:
        opened = image_files.open_mask(path)
    except ValueError as error:
        return str(error)
    pixels = opened.pixels
    darkest, brightest = cv2.erode(pixels, BLOCK), cv2.dilate(pixels, BLOCK)
    same = darkest == brightest
    between = same | ((darkest < pixels) & (pixels < brightest))
    if pixels.ndim == 3:
        same, between = same.all(axis=2), between.all(axis=2)
    counted, at_edges = _counts(pixels), _counts(pixels[between & ~same][None])
    edges = {colour for colour, count in at_edges.items() if 2 * count > counted[colour]}
    return MaskFile(pixels.shape[:2], counted, set(_counts(pixels[same][None])), edges, opened.is_lossy)


def _counts(pixels: np.ndarray) -> Counter[Colour]:
    """Number of pixels of each colour: (H, W) or (H, W, 3) uint8."""
    return Counter({_rgb(colour): n for colour, n in image_files.colour_counts(pixels).items()} if pixels.size else {})


def _rgb(colour: tuple[int, ...]) -> Colour:
    return (colour[0], colour[0], colour[0]) if len(colour) == 1 else colour  # type: ignore[return-value]


def _classes(read: list[MaskFile]) -> list[Colour]:
    """Colours that are classes, background first."""
    needed = 1 if len(read) < FEW_MASKS else max(2, len(read) / 100)
    solid = Counter(colour for each in read for colour in each.solid)
    any_size = Counter(colour for each in read for colour in each.pixels)
    found = {colour for colour, count in solid.items() if count >= needed}
    values = {colour for colour, count in any_size.items() if count >= needed}
    if len(found) < 2 or _are_all_classes(read, values, values - found):  # the first: outlines only, or no foreground
        found |= values
    total = sum((each.pixels for each in read), Counter())
    background = BLACK if BLACK in found or not found else max(found, key=lambda colour: total[colour])
    return [background, *sorted(found - {background})]


def _are_all_classes(read: list[MaskFile], values: set[Colour], thin: set[Colour]) -> bool:
    """Whether values that fill no 3 x 3 pixels are classes too, such as a midline or a needle, and not edges.

    That is if all values are 0, 1, 2, …, or if each of the thin ones is in most masks without being between two others;
    smoothing and JPEG leave other values as well.
    """
    if len(values) > MAX_CLASSES:
        return False
    drawn = Counter(colour for each in read for colour in each.pixels.keys() - each.edges)
    are_indices = sorted(values) == [(value,) * 3 for value in range(len(values))]
    return are_indices or all(2 * drawn[colour] > len(read) for colour in thin)


def _are_two_tone(read: list[MaskFile], colours: list[Colour]) -> bool:
    """Whether the classes are 0 and 255, or 0 and 1, in every mask; also if all masks are empty or full."""
    mixed = any({ONE, WHITE} <= each.pixels.keys() for each in read)
    return set(colours) <= {BLACK, ONE, WHITE} and not mixed


def _of_lossy(folder: Path, read: list[MaskFile]) -> MaskClasses:
    """Two classes of JPEG masks, cut at 128 as `own.read_mask` does; ValueError for colours, which JPEG changes."""
    if any(max(colour) - min(colour) > GREY_TOLERANCE for each in read for colour in each.solid):
        raise ValueError(f"{folder}: JPEG masks in colours, whose values JPEG changes; expected PNG")
    bright = sum(any(colour[0] >= 128 for colour in each.pixels) for each in read)
    size = _median_size(read)
    names = ["background", "structure"]
    return MaskClasses(names, [], ["below 128", "128 to 255"], [len(read), bright], len(read), size)


def _result(
    read: list[MaskFile], colours: list[list[Colour]], palette: list[list[int]], values: list[str]
) -> MaskClasses:
    numbers = [""] if len(values) == 2 else [f"_{index}" for index in range(1, len(values))]
    names = ["background", *(f"structure{number}" for number in numbers)]
    masks = [sum(not each.pixels.keys().isdisjoint(of) for each in read) for of in colours]
    return MaskClasses(names, palette, values, masks, len(read), _median_size(read))


def _median_size(read: list[MaskFile]) -> tuple[int, int]:
    rows, columns = np.median([each.size for each in read], axis=0)
    return int(rows), int(columns)
