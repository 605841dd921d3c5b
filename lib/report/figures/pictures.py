"""Pictures of single predictions in their own pixels, drawn directly: a matplotlib figure takes 30 times as long."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageColor, ImageDraw, ImageFont

from lib.report.figures import scripts
from lib.report.figures.style import PREDICTED, scale_bar_mm

NARROWEST = 640  # pixels; smaller images are enlarged, so that text and lines can be seen
SUBPIXEL = 4  # bits of OpenCV's coordinates behind the point
HEAT, OPACITY = "cividis", 0.65  # colours of a probability, and of 1 the share of colour
EDGE = (0, 0, 0)  # RGB
MARGIN, TICK = 8, 7  # pixels: around text; half the length of a caliper's end mark


class Canvas:
    """A grey image (H, W) uint8 in physical proportions, on which is drawn in native pixels."""

    def __init__(self, image: np.ndarray, spacing_mm: tuple[float, float] | None) -> None:
        col = max(1, -(-NARROWEST // image.shape[1]))
        row = col * (spacing_mm[0] / spacing_mm[1] if spacing_mm else 1.0)
        size = (image.shape[1] * col, max(1, round(image.shape[0] * row)))
        grown = image if size == image.shape[::-1] else cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        self.scale = np.array([size[1] / image.shape[0], float(col)])  # canvas pixels per native (row, col)
        self.pixels = cv2.cvtColor(grown, cv2.COLOR_GRAY2RGB)  # (h, w, 3) RGB

    def _xy(self, points: np.ndarray) -> np.ndarray:
        """Native (row, col) points as OpenCV's fixed-point (x, y) on the canvas."""
        placed = (np.asarray(points, float) + 0.5) * self.scale - 0.5
        return np.rint(placed[:, ::-1] * 2**SUBPIXEL).astype(np.int32)

    def line(self, points: np.ndarray, colour: str, closed: bool = False) -> None:
        """A line with a dark edge through native points, (N, 2) of (row, col)."""
        xy = [self._xy(points)[:, None]]
        for rgb, thickness in ((EDGE, 4), (ImageColor.getrgb(colour), 2)):
            cv2.polylines(self.pixels, xy, closed, rgb, thickness, cv2.LINE_AA, SUBPIXEL)

    def contour(self, region: np.ndarray, colour: str) -> None:
        """The outlines of an (H, W) bool region."""
        found, _ = cv2.findContours(region.view(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        for outline in found:
            self.line(outline[:, 0, ::-1], colour, closed=True)

    def caliper(self, ends: np.ndarray, colour: str, name: str) -> None:
        """A line between two native points (2, 2), with a mark across each end and its name beside the first."""
        self.line(ends, colour)
        along = (ends[1] - ends[0]) * self.scale
        length = np.linalg.norm(along)
        across = np.array([-along[1], along[0]]) / length * TICK / self.scale if length else np.zeros(2)
        for end in ends:
            self.line(np.stack([end - across, end + across]), colour)
        outside = self._xy((ends[0] - along / max(length, 1) * 16 / self.scale)[None])[0] / 2**SUBPIXEL
        self._write(outside, name, 14, "white", "mm")

    def _write(self, xy: Sequence[float], text: str, size: int, colour: str, anchor: str) -> None:
        """A word on the picture, with a dark edge so that it can be read on any grey; the anchor is Pillow's."""
        box = font(size).getbbox(text, anchor=anchor, stroke_width=2)
        corner = [max(int(at + start) - 2, 0) for at, start in zip(xy, box)]
        ends = [int(at + end) + 3 for at, end in zip(xy, box[2:])]
        part = self.pixels[corner[1] : max(ends[1], 0), corner[0] : max(ends[0], 0)]
        if part.size:  # Pillow takes a copy, of the whole picture five times as long
            picture, look = Image.fromarray(part), {"anchor": anchor, "stroke_width": 2, "stroke_fill": "black"}
            ImageDraw.Draw(picture).text(tuple(np.subtract(xy, corner)), text, colour, font(size), **look)
            part[:] = picture

    def scale_bar(self, spacing_col_mm: float) -> None:
        """A scale bar of a round number of millimetres in the lower right corner."""
        height, width = self.pixels.shape[:2]
        mm = scale_bar_mm(width / self.scale[1] * spacing_col_mm)
        right, low = int(width * 0.96), int(height * 0.95)
        left = right - round(mm / spacing_col_mm * self.scale[1])
        cv2.line(self.pixels, (left, low), (right, low), (0, 0, 0), 7)
        cv2.line(self.pixels, (left, low), (right, low), (255, 255, 255), 3)
        self._write(((left + right) / 2, low - 6), f"{mm} mm", 16, "white", "mb")

    def heat(self, probability: np.ndarray) -> None:
        """Lays a probability (H, W), 0 to 1, over the image."""
        size = self.pixels.shape[1::-1]
        share = np.clip(cv2.resize(probability.astype(np.float32), size, interpolation=cv2.INTER_LINEAR), 0, 1)
        colours = (matplotlib.colormaps[HEAT](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.float32)
        tinted = colours[np.rint(share * 255).astype(np.uint8)]
        weight = OPACITY * share[..., None]
        self.pixels = np.rint((1 - weight) * self.pixels + weight * tinted).astype(np.uint8)

    def with_text(self, lines: Sequence[str]) -> np.ndarray:
        """The picture above a white strip with lines of text, (h, w, 3) uint8 RGB."""
        size = 17
        shown = [part for line in lines for part in _wrapped(scripts.in_one_font(line), self.pixels.shape[1], size)]
        strip = Image.new("RGB", (self.pixels.shape[1], 2 * MARGIN + len(shown) * (size + 5)), "white")
        ImageDraw.Draw(strip).multiline_text((MARGIN, MARGIN), "\n".join(shown), "#222222", font(size), spacing=5)
        return np.concatenate([self.pixels, np.asarray(strip)])


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """A font without serifs, for the screen, which comes with matplotlib."""
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _wrapped(line: str, width: int, size: int) -> list[str]:
    """A line in parts that fit the width, broken between words."""
    words, parts = line.split(), [""]
    if font(size).getlength(" ".join(words)) <= width - 2 * MARGIN:  # as most do: not measured word by word
        return [" ".join(words)]
    for word in words:
        longer = f"{parts[-1]} {word}".strip() if parts[-1] else word
        fits = font(size).getlength(longer) <= width - 2 * MARGIN
        parts = [*parts[:-1], longer] if fits or not parts[-1] else [*parts, word]
    return parts


def prediction(
    image: np.ndarray,
    spacing_mm: tuple[float, float] | None,
    regions: Sequence[tuple[np.ndarray, str]],
    endpoints: np.ndarray | None,
    is_ellipse: bool,
    lines: Sequence[str],
) -> np.ndarray:
    """An image with what was predicted on it, in physical proportions, above lines of text: (h, w, 3) uint8 RGB.

    Args:
        image: (H, W) uint8.
        spacing_mm: (row, col) for proportions and scale bar; None if unknown.
        regions: (H, W) bool and colour of each structure, drawn as contours.
        endpoints: of OFD and BPD, (4, 2) of (row, col), drawn as calipers; None without a head.
        is_ellipse: whether the endpoints are of the axes of an ellipse, which is drawn too.
    """
    canvas = Canvas(image, spacing_mm)
    for region, colour in regions:
        canvas.contour(np.ascontiguousarray(region), colour)
    if endpoints is not None:
        if is_ellipse:
            points = ellipse_points(endpoints)
            for start in range(0, len(points), 6):  # dashed, so that the outline below it shows
                canvas.line(points[start : start + 4], PREDICTED)
        for name, ends in (("OFD", endpoints[:2]), ("BPD", endpoints[2:])):
            if np.isfinite(ends).all():
                canvas.caliper(ends, PREDICTED, name)
    if spacing_mm:
        canvas.scale_bar(spacing_mm[1])
    return canvas.with_text(lines)


def heat(
    image: np.ndarray, spacing_mm: tuple[float, float] | None, probability: np.ndarray, lines: Sequence[str]
) -> np.ndarray:
    """An image (H, W) uint8 under the colours of a probability (H, W), above lines of text: (h, w, 3) uint8 RGB."""
    canvas = Canvas(image, spacing_mm)
    canvas.heat(probability)
    return canvas.with_text(lines)


def ellipse_points(endpoints: np.ndarray, count: int = 180) -> np.ndarray:
    """Points on the ellipse with these axes, (count, 2); endpoints (4, 2) of OFD and BPD, pixels square or not."""
    centre = endpoints.mean(axis=0)
    long, short = (endpoints[1] - endpoints[0]) / 2, (endpoints[3] - endpoints[2]) / 2
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)[:, None]
    return centre + np.cos(turn) * long + np.sin(turn) * short
