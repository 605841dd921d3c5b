"""A small picture of a case with its reference, its prediction and its probability as layers of one SVG file.

Any browser opens it; `lib.report.gallery` shows many of them. The layers `outcome` and `probability` are hidden there
and wherever nothing turns them on.
"""

import base64
import io

import cv2
import numpy as np
from PIL import Image, ImageColor

from lib.imaging.class_colours import PREDICTED, REFERENCE

LONGEST = 480  # pixels of the longer side of the image; outlines keep the native pixels
MAP_LONGEST = 240  # of the probability, which is smooth
QUALITY = 70  # of WebP; an ultrasound image takes about 12 kB
TOLERANCE = 0.7  # native pixels by which an outline may leave out points
# As the lines, what is only predicted is vermilion, and what is only in the reference light; all differ in lightness.
OUTCOMES = {"true positive": "#56B4E9", "false positive": "#D55E00", "false negative": "#F0E442"}
OUTCOMES |= {"wrong class": "#882255"}
OPACITY = 0.6  # of the outcomes
EDGE = "filter:drop-shadow(0 0 .7px #000) drop-shadow(0 0 .7px #000)"  # so that a line shows on white


def svg(
    image: np.ndarray,
    aspect: float,
    reference: np.ndarray | None = None,
    predicted: np.ndarray | None = None,
    probability: np.ndarray | None = None,
) -> str:
    """A picture in physical proportions; user units are columns of the image.

    `data-marked` is the number of pixels of any structure in reference or prediction.

    Args:
        image: (H, W) uint8.
        aspect: height of a pixel divided by its width.
        reference, predicted: (H, W) uint8 class indices; both or neither.
        probability: (H, W) of any structure, 0 to 1.
    """
    height, width = image.shape
    box = f'width="{width}" height="{height * aspect:.6g}"'
    place = f'{box} preserveAspectRatio="none"'
    marked = ""
    parts = [f'<image class="image" {place} href="{_webp(image, LONGEST, QUALITY)}"/>']
    if probability is not None:
        grey = np.rint(255 * np.clip(probability, 0, 1)).astype(np.uint8)
        parts.append(f'<image class="probability" display="none" {place} href="{_webp(grey, MAP_LONGEST, 80)}"/>')
    if reference is not None and predicted is not None:
        marked = f' data-marked="{np.count_nonzero((reference > 0) | (predicted > 0))}"'
        found = _outcome_png(reference, predicted)
        parts.append(f'<image class="outcome" display="none" opacity="{OPACITY}" {place} href="{found}"/>')
        shift = f'transform="scale(1 {aspect:.6g}) translate(.5 .5)"'
        parts.append(f'<g class="reference" {line_style(REFERENCE)} {shift}>{_outlines(reference)}</g>')
        parts.append(f'<g class="predicted" {line_style(PREDICTED, True)} {shift}>{_outlines(predicted)}</g>')
    frame = f'viewBox="0 0 {width} {height * aspect:.6g}"'
    head = f'<svg class="preview" xmlns="http://www.w3.org/2000/svg" {frame}{marked}>'
    return "\n".join([head, *parts, "</svg>\n"])


def line_style(colour: str, dashed: bool = False) -> str:
    """Attributes of a group of lines with a dark edge, dashed for a prediction."""
    dashes = ' stroke-dasharray="7 4"' * dashed
    return f'fill="none" stroke="{colour}" stroke-width="2"{dashes} stroke-linecap="butt" style="{EDGE}"'


def path(commands: str, attributes: str = "") -> str:
    """A path whose width does not change with the size of the picture."""
    return f'<path{attributes} vector-effect="non-scaling-stroke" d="{commands}"/>'


def shown_slices(reference: np.ndarray, predicted: np.ndarray) -> list[int]:
    """Slices of a volume (D, H, W) with any structure in reference or prediction; the middle one if there is none."""
    marked = np.flatnonzero(((reference > 0) | (predicted > 0)).any(axis=(1, 2)))
    return marked.tolist() or [len(reference) // 2]


def _outlines(mask: np.ndarray) -> str:
    """Outlines of each class of a mask, through the centres of its border pixels."""
    paths = []
    for index in range(1, int(mask.max()) + 1):
        region = np.ascontiguousarray(mask == index).view(np.uint8)
        found, _ = cv2.findContours(region, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        if found:
            commands = "".join(_commands(cv2.approxPolyDP(each, TOLERANCE, True)[:, 0]) for each in found)
            paths.append(path(commands, f' data-class="{index}"'))
    return "".join(paths)


def _commands(points: np.ndarray) -> str:
    """A closed line through (N, 2) whole (x, y); of one or two points a stroke, so that it shows."""
    first, steps = points[0], np.diff(points, axis=0)
    if len(points) == 1:
        steps = np.array([[1, 0]])
    lines = "".join(f"{x} {y} " for x, y in steps).strip()
    return f"M{first[0]} {first[1]}l{lines}z"


def _outcome_png(reference: np.ndarray, predicted: np.ndarray) -> str:
    """Each pixel as one of OUTCOMES, or transparent; of a larger image every second or third pixel."""
    step = max(1, -(-max(reference.shape) // LONGEST))
    one, other = reference[::step, ::step], predicted[::step, ::step]
    cases = [(one > 0) & (one == other), (one == 0) & (other > 0), (one > 0) & (other == 0), one != other]
    picture = Image.fromarray(np.select(cases, [1, 2, 3, 4], 0).astype(np.uint8))
    picture.putpalette([0, 0, 0, *(value for colour in OUTCOMES.values() for value in ImageColor.getrgb(colour))])
    return _data(picture, "PNG", transparency=0, bits=4, optimize=False)


def _webp(image: np.ndarray, longest: int, quality: int) -> str:
    """A grey image (H, W) uint8, reduced to the longer side, as the address of its data."""
    factor = min(1.0, longest / max(image.shape))
    size = tuple(max(1, round(side * factor)) for side in image.shape[::-1])
    small = image if factor == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return _data(Image.fromarray(np.ascontiguousarray(small)), "WEBP", quality=quality, method=4)


def _data(picture: Image.Image, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
