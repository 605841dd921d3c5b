"""Style shared by all figures: sizes, colours and drawing functions."""

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import typst
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from lib.imaging.class_colours import PREDICTED, REFERENCE  # noqa: F401  # of this style, for its users
from lib.report.figures import scripts
from lib.report.tables import quoted
from lib.study import files

WIDTH_MM = 160.0  # of the printed column
DPI = 200
COLUMNS = 4  # maximum number of images in a row of a sheet
ZERO_BELOW = 1.6  # factor by which the line of zeros lies below the smallest value of a logarithmic axis
POINTS_WIDTH = 0.6  # horizontal spread of the points of a column; columns are 1 apart

INK, FAINT = "#222222", "#9A9A9A"

# Starts from matplotlib's defaults, so that a user's matplotlibrc has no effect. The backend is left to the caller.
STYLE = {key: value for key, value in matplotlib.rcParamsDefault.items() if "backend" not in key} | {
    "font.family": scripts.FONT,  # ships with matplotlib, so output is identical on every machine
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
    """Writes a figure as .png if it contains images, else as .svg and .pdf; equal figures give equal bytes.

    Returns the path of the .png or .svg. Warns of characters for which there is no font and which are drawn as their
    codes.
    """
    holds_images = any(axes.images for axes in figure.axes)
    suffix, metadata = (".png", {}) if holds_images else (".svg", {"Date": None})
    path = path_without_suffix.with_name(path_without_suffix.name + suffix)
    scripts.complete(figure)
    figure.draw_without_rendering()  # constrained layout needs two passes, or tick labels are cut off
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, metadata=metadata)
    if not holds_images:
        files.write_bytes(path.with_name(path_without_suffix.name + ".pdf"), to_pdf(path))
    return path


def to_pdf(svg: Path) -> bytes:
    """A figure as a PDF page of its size, which LaTeX can include; matplotlib's own would take 20 times as long."""
    page = "#set document(date: none)\n#set page(width: auto, height: auto, margin: 0pt)\n"
    source = f"{page}#image({quoted(f'/{svg.name}')})".encode()
    return typst.compile(source, root=svg.parent, format="pdf", ignore_system_fonts=True)


def panels(height_mm: float, columns: int = 1, rows: int = 1, share_y: bool = False) -> tuple[Figure, np.ndarray]:
    """An empty figure of the width of the text column with its axes, (rows, columns)."""
    figure = Figure(figsize=(WIDTH_MM / 25.4, height_mm / 25.4))
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=share_y)


def draw_image(axes: Axes, image: np.ndarray, title: str, spacing_mm: tuple[float, float] | None = None) -> None:
    """A grey-scale image in physical proportions, with a scale bar if its pixel size (row, col) is known."""
    aspect = spacing_mm[0] / spacing_mm[1] if spacing_mm else 1.0
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, aspect=aspect, interpolation="antialiased")
    axes.set_title(title, fontsize=7, pad=2)
    if spacing_mm:
        draw_scale_bar(axes, image.shape, spacing_mm[1])


def draw_scale_bar(axes: Axes, shape: tuple[int, ...], spacing_col_mm: float) -> None:
    """A scale bar of a round number of millimetres in the lower right corner."""
    length_mm = scale_bar_mm(shape[1] * spacing_col_mm)
    right, low = shape[1] * 0.96, shape[0] * 0.95
    left = right - length_mm / spacing_col_mm
    edge = [withStroke(linewidth=2.5, foreground="black")]
    axes.plot([left, right], [low, low], color="white", linewidth=1.5, path_effects=edge, solid_capstyle="butt")
    position = ((left + right) / 2, low - shape[0] * 0.02)
    ground = {"facecolor": "black", "alpha": 0.9, "linewidth": 0, "pad": 1}  # the scanner may have text there
    axes.text(*position, f"{length_mm} mm", color="white", fontsize=6, ha="center", va="bottom", bbox=ground)


def scale_bar_mm(width_mm: float) -> int:
    """Length of the scale bar of an image of this width."""
    return max((mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm <= width_mm / 3), default=1)


def draw_contour(axes: Axes, region: np.ndarray, colour: str, width: float = 0.9, closed: bool = True) -> None:
    """The contour of an (H, W) bool region; where the frame cuts the region, it is closed along the frame or open."""
    if not region.any() or (region.all() and not closed):
        return
    rows, cols = np.arange(-1, region.shape[0] + 1), np.arange(-1, region.shape[1] + 1)
    padded = np.pad(region, 1, mode="constant" if closed else "edge").astype(np.float32)
    axes.contour(cols, rows, padded, levels=[0.5], colors=[colour], linewidths=width)
    axes.set(xlim=(-0.5, region.shape[1] - 0.5), ylim=(region.shape[0] - 0.5, -0.5))


def add_legend(figure: Figure, colours: dict[str, str]) -> None:
    """A legend of coloured lines below the figure."""
    handles = [Line2D([], [], color=colour, linewidth=2, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def add_markers(figure: Figure, markers: dict[str, str]) -> None:
    """A legend of markers, by label, below the figure: cases grey, failures red."""
    colours = {"o": FAINT, "x": PREDICTED, "^": PREDICTED}
    handles = [Line2D([], [], marker=m, color=colours[m], ls="", markersize=4, label=t) for t, m in markers.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def sheet(shapes: list[tuple[int, int]]) -> tuple[Figure, np.ndarray]:
    """An empty sheet for N images with titles and a legend; axes as (N,)."""
    columns = 3 if len(shapes) in (5, 6, 9) else max(1, min(COLUMNS, len(shapes)))  # avoids a nearly empty row
    rows = -(-len(shapes) // columns)
    tallest = max((height / width for height, width in shapes), default=1.0)
    figure, axes = panels(rows * (min(WIDTH_MM / columns, 80.0) * tallest + 7) + 8, columns, rows)
    for each in axes.flat:
        each.set_axis_off()
    return figure, axes.ravel()[: len(shapes)]


def jitter(count: int, width: float) -> np.ndarray:
    """Evenly spread, reproducible offsets from -width/2 to width/2, by multiples of the golden ratio."""
    return (np.arange(count) * 0.6180339887498949 % 1 - 0.5) * width


def draw_markers(axes: Axes, count: int, at: float, height: float, marker: str = "x") -> None:
    """A row of red markers at one height, one per case without a value."""
    style = {"s": 16, "marker": marker, "color": PREDICTED, "linewidths": 0.8}
    axes.scatter(at + jitter(count, POINTS_WIDTH), np.full(count, height), **style)


def mark_clipped(axes: Axes, at: np.ndarray, values: np.ndarray, top: float, colour: str) -> None:
    """Ends the axis at `top`, and marks values (N,) above it by triangles on its edge, at positions (N,)."""
    axes.set_ylim(top=top)
    above = np.asarray(values, float) > top
    axes.plot(np.asarray(at)[above], np.full(above.sum(), top), "^", markersize=3, color=colour, clip_on=False)


def on_logarithmic_axis(axes: Axes, values: pd.Series) -> pd.Series:
    """Makes an axis logarithmic and returns the values (not negative, or NaN) that can be drawn on it.

    A logarithm has no 0: such values lie on a dotted line below all others, which is labelled 0.
    """
    positive = values[values > 0]
    zero = positive.min() / ZERO_BELOW if len(positive) else 1.0
    if (values == 0).any():
        axes.axhline(zero, color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
        axes.text(1.01, zero, "0", transform=axes.get_yaxis_transform(), va="center", fontsize=7)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    return values.replace(0.0, zero)


def draw_columns(axes: Axes, groups: list[str], parts: list[str], draw: Callable[[str, str, float], str]) -> None:
    """One column for each part of each group; `draw` is called with group, part and position, and returns a label."""
    labels = {}
    for index, group in enumerate(groups):
        for offset, part in enumerate(parts):
            at = index * (len(parts) + 0.5) + offset
            labels[at] = draw(group, part, at)
    axes.set(xticks=list(labels), xticklabels=list(labels.values()), xlim=(-0.7, max(labels, default=-1.5) + 0.7))


def draw_points_and_box(axes: Axes, values: np.ndarray, at: float, colour: str) -> None:
    """Every value as a point, with a box plot: median, quartiles, whiskers of 1.5 interquartile ranges."""
    axes.scatter(at + jitter(len(values), POINTS_WIDTH), values, s=5, color=colour, alpha=0.55, linewidths=0)
    if len(values):
        lines = {f"{part}props": {"color": INK, "linewidth": 0.8} for part in ("box", "median", "whisker", "cap")}
        axes.boxplot([values], positions=[at], widths=POINTS_WIDTH * 0.7, showfliers=False, manage_ticks=False, **lines)
