"""The one look: sizes, colours, and what every figure is drawn with."""

import zlib
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from lib.study import files

WIDTH_MM = 160.0  # of the printed column
DPI = 200
COLUMNS = 4  # images side by side on a sheet
POINTS_WIDTH = 0.6  # over which the points of a column are spread; columns stand 1 apart

# Okabe and Ito 2008: told apart by the colour-blind; one colour a class name, everywhere.
CLASS_COLOURS = {"head": "#56B4E9", "parenchyma": "#56B4E9", "csp": "#E69F00", "lv": "#CC79A7"}
CLASS_COLOURS |= {"tumour": "#E69F00", "lesion": "#E69F00"}
OTHER_COLOURS = ("#F0E442", "#009E73", "#0072B2", "#D55E00")
REFERENCE, PREDICTED = "#7BE495", "#E8381B"  # light green and dark red: apart in lightness too
INK, FAINT = "#222222", "#9A9A9A"

# Over matplotlib's own defaults, so that a person's matplotlibrc changes nothing. Backends are not the figures'.
STYLE = {key: value for key, value in matplotlib.rcParamsDefault.items() if "backend" not in key} | {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same bytes
    "axes.edgecolor": INK,
    "lines.linewidth": 1.2,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "fetal-thesis",
    "savefig.facecolor": "white",
}
STYLE |= dict.fromkeys(("font.size", "axes.titlesize"), 8)
STYLE |= dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6)
STYLE |= dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False)
styled = matplotlib.rc_context(STYLE)


@styled
def save(figure: Figure, path_without_suffix: Path) -> Path:
    """Writes a figure, .png where it holds images and .svg elsewhere; equal figures give equal bytes."""
    holds_images = any(axes.images for axes in figure.axes)
    suffix, metadata = (".png", {}) if holds_images else (".svg", {"Date": None})
    path = path_without_suffix.with_name(path_without_suffix.name + suffix)
    figure.draw_without_rendering()  # once is not enough for the layout: tick labels would be cut off
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, metadata=metadata)
    return path


def class_colour(name: str) -> str:
    """The colour of a class, by its name alone."""
    return CLASS_COLOURS.get(name) or OTHER_COLOURS[zlib.crc32(name.encode()) % len(OTHER_COLOURS)]


def panels(height_mm: float, columns: int = 1, rows: int = 1, share_y: bool = False) -> tuple[Figure, np.ndarray]:
    """An empty figure of the column's width with its axes, (rows, columns)."""
    figure = Figure(figsize=(WIDTH_MM / 25.4, height_mm / 25.4))
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=share_y)


def draw_image(axes: Axes, image: np.ndarray, title: str, spacing_mm: tuple[float, float] | None = None) -> None:
    """One grey image in true proportions, with a scale bar where its pixel size (row, col) is known."""
    aspect = spacing_mm[0] / spacing_mm[1] if spacing_mm else 1.0
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, aspect=aspect, interpolation="antialiased")
    axes.set_title(title, fontsize=7, pad=2)
    if spacing_mm:
        draw_scale_bar(axes, image.shape, spacing_mm[1])


def draw_scale_bar(axes: Axes, shape: tuple[int, ...], spacing_col_mm: float) -> None:
    """A bar of a round number of millimetres in the lower right corner."""
    width_mm = shape[1] * spacing_col_mm
    length_mm = max((mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm <= width_mm / 3), default=1)
    right, low = shape[1] * 0.96, shape[0] * 0.95
    left = right - length_mm / spacing_col_mm
    edge = [withStroke(linewidth=2.5, foreground="black")]
    axes.plot([left, right], [low, low], color="white", linewidth=1.5, path_effects=edge, solid_capstyle="butt")
    place = ((left + right) / 2, low - shape[0] * 0.02)
    axes.text(*place, f"{length_mm} mm", color="white", fontsize=6, ha="center", va="bottom", path_effects=edge)


def draw_contour(axes: Axes, region: np.ndarray, colour: str, width: float = 0.9) -> None:
    """The border of a (H, W) bool region; padded, so that a region cut by the frame is closed along it."""
    if not region.any():
        return
    rows, cols = np.arange(-1, region.shape[0] + 1), np.arange(-1, region.shape[1] + 1)
    axes.contour(cols, rows, np.pad(region, 1).astype(np.float32), levels=[0.5], colors=[colour], linewidths=width)
    axes.set(xlim=(-0.5, region.shape[1] - 0.5), ylim=(region.shape[0] - 0.5, -0.5))


def add_legend(figure: Figure, colours: dict[str, str]) -> None:
    """Lines of colour under the whole figure."""
    handles = [Line2D([], [], color=colour, linewidth=2, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def add_marks(figure: Figure, marks: dict[str, str]) -> None:
    """Markers by what they mean, under the whole figure; a case is grey, what has no value red."""
    colours = {"o": FAINT, "x": PREDICTED, "^": PREDICTED}
    handles = [Line2D([], [], marker=m, color=colours[m], ls="", markersize=4, label=t) for t, m in marks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def sheet(shapes: list[tuple[int, int]]) -> tuple[Figure, np.ndarray]:
    """An empty sheet of images with room for a title each and a legend: axes as (N,)."""
    columns = 3 if len(shapes) in (5, 6, 9) else max(1, min(COLUMNS, len(shapes)))  # no row nearly empty
    rows = -(-len(shapes) // columns)
    tallest = max((height / width for height, width in shapes), default=1.0)
    figure, axes = panels(rows * (min(WIDTH_MM / columns, 80.0) * tallest + 7) + 8, columns, rows)
    for each in axes.flat:
        each.set_axis_off()
    return figure, axes.ravel()[: len(shapes)]


def jitter(count: int, width: float) -> np.ndarray:
    """Even, repeatable offsets within -width/2 to width/2: multiples of the golden ratio."""
    return (np.arange(count) * 0.6180339887498949 % 1 - 0.5) * width


def draw_marks(axes: Axes, count: int, at: float, height: float, marker: str = "x") -> None:
    """So many red marks beside one another, for cases that have no value."""
    marks = {"s": 16, "marker": marker, "color": PREDICTED, "linewidths": 0.8}
    axes.scatter(at + jitter(count, POINTS_WIDTH), np.full(count, height), **marks)


def draw_columns(axes: Axes, groups: list[str], parts: list[str], draw: Callable[[str, str, float], str]) -> None:
    """A column for each part of each group: `draw` is called with group, part and place, and returns its label."""
    labels = {}
    for index, group in enumerate(groups):
        for place, part in enumerate(parts):
            at = index * (len(parts) + 0.5) + place
            labels[at] = draw(group, part, at)
    axes.set(xticks=list(labels), xticklabels=list(labels.values()), xlim=(-0.7, max(labels, default=-1.5) + 0.7))


def draw_points_and_box(axes: Axes, values: np.ndarray, at: float, colour: str) -> None:
    """Every value as a point, and over them a box: median, quartiles, whiskers to 1.5 times their distance."""
    axes.scatter(at + jitter(len(values), POINTS_WIDTH), values, s=5, color=colour, alpha=0.55, linewidths=0)
    if len(values):
        lines = {f"{part}props": {"color": INK, "linewidth": 0.8} for part in ("box", "median", "whisker", "cap")}
        axes.boxplot([values], positions=[at], widths=POINTS_WIDTH * 0.7, showfliers=False, manage_ticks=False, **lines)
