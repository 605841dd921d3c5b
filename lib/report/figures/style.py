"""Style shared by all figures: sizes, colours and drawing functions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import typst
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullFormatter

from lib.imaging.class_colours import PREDICTED, REFERENCE  # noqa: F401  # of this style, for its users
from lib.report.figures import scripts
from lib.report.tables import quoted
from lib.study import files

WIDTH_MM = 160.0  # of the printed column
DPI = 300  # of figures with images, which journals ask for
PNG = {"pil_kwargs": {"compress_level": 3}}  # half the time of Pillow's 6 for files 2 to 7 % larger
SHEET_MM = 110.0  # maximum height of a sheet: less than half a page
COLUMNS = 4  # maximum number of images in a row of a sheet
LEGEND_COLUMNS = 4
NAME_LETTERS = 26  # of a name that fit above an image in a row of four
ZERO_BELOW = 1.6  # factor by which the line of zeros lies below the smallest value of a logarithmic axis
POINTS_WIDTH = 0.5  # horizontal spread of the points of a column; columns are 1 apart
POINTS_AT, BOX_AT, BOX_WIDTH = -0.12, 0.29, 0.18  # places within a column: the box stands beside its points
FEWEST_COLUMNS = 4  # for which there is room
MANY = 150  # points of a column, from which on they are smaller
MOST_VECTOR = 5000  # points drawn as vectors; of more, each would add 0.1 kB to the SVG that shows one blot

INK, FAINT = "#222222", "#9A9A9A"
LINE, EDGE = 1.0, 2.2  # points: width of a line over an image, and with its dark edge
GRID = {"cmap": "Blues", "cbar": False, "linewidths": 0.6, "linecolor": "white", "annot_kws": {"fontsize": 8}}
MARKERS = {"missed": "x", "invented": "^"}  # of structures without a value
DASHES = (0, (3.2, 2.2))  # of a prediction; where it agrees, the reference shows between them

# Starts from matplotlib's defaults, so that a user's matplotlibrc has no effect. The backend is left to the caller.
STYLE = {key: value for key, value in matplotlib.rcParamsDefault.items() if "backend" not in key} | {
    "font.family": list(scripts.FONTS),  # ship with matplotlib, so output is identical on every machine
    "text.parse_math": False,  # a name may hold dollar signs
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

    Points are pixels of DPI in them if they are more than MOST_VECTOR of one kind; lines and text never are.
    Returns the path of the .png or .svg. Warns of characters for which there is no font and which are drawn as their
    codes.
    """
    holds_images = any(axes.images for axes in figure.axes)
    suffix, options = (".png", PNG) if holds_images else (".svg", {"metadata": {"Date": None}})
    path = path_without_suffix.with_name(path_without_suffix.name + suffix)
    scripts.complete(figure)
    for points in (each for axes in figure.axes for each in axes.collections):
        points.set_rasterized(len(points.get_offsets()) > MOST_VECTOR)
    figure.draw_without_rendering()  # constrained layout needs two passes, or tick labels are cut off
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=DPI, **options)
    if not holds_images:
        files.write_bytes(path.with_name(path_without_suffix.name + ".pdf"), to_pdf(path))
    return path


def to_pdf(svg: Path) -> bytes:
    """A figure as a PDF page of its size, which LaTeX can include; matplotlib's own would take 20 times as long."""
    page = "#set document(date: none)\n#set page(width: auto, height: auto, margin: 0pt)\n"
    source = f"{page}#image({quoted(f'/{svg.name}')})".encode()
    return typst.compile(source, root=svg.parent, format="pdf", ignore_system_fonts=True)


def panels(
    height_mm: float, columns: int = 1, rows: int = 1, share_y: bool = False, width_mm: float = WIDTH_MM
) -> tuple[Figure, np.ndarray]:
    """An empty figure, as wide as the text unless it is printed narrower, with its axes (rows, columns)."""
    figure = Figure(figsize=(width_mm / 25.4, height_mm / 25.4))
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=share_y)


def draw_image(axes: Axes, image: np.ndarray, title: str, spacing_mm: tuple[float, float] | None = None) -> None:
    """A grey-scale image in physical proportions, with a scale bar if its pixel size (row, col) is known."""
    aspect = spacing_mm[0] / spacing_mm[1] if spacing_mm else 1.0
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, aspect=aspect, interpolation="antialiased")
    axes.set_title("\n".join(map(shortened, title.split("\n"))), pad=2, linespacing=1.0)
    if spacing_mm:
        draw_scale_bar(axes, image.shape, spacing_mm[1])


def shortened(name: str) -> str:
    """A name that fits above an image: of a longer one its start and its end, by which names differ."""
    half = NAME_LETTERS // 2
    return name if len(name) <= NAME_LETTERS else f"{name[: half - 1]}…{name[-half:]}"


def draw_scale_bar(axes: Axes, shape: tuple[int, ...], spacing_col_mm: float) -> None:
    """A scale bar of a round number of millimetres in the lower right corner."""
    length_mm = scale_bar_mm(shape[1] * spacing_col_mm)
    right, low = shape[1] * 0.96, shape[0] * 0.95
    left = right - length_mm / spacing_col_mm
    edge = [withStroke(linewidth=2.5, foreground="black")]
    axes.plot([left, right], [low, low], color="white", linewidth=1.5, path_effects=edge, solid_capstyle="butt")
    ground = {"facecolor": "black", "alpha": 0.9, "linewidth": 0, "pad": 0.6}  # the scanner may have text there
    axes.text(right, low - shape[0] * 0.03, f"{length_mm} mm", color="white", ha="right", va="bottom", bbox=ground)


def scale_bar_mm(width_mm: float) -> int:
    """Length of the scale bar of an image of this width."""
    return max((mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm <= width_mm / 3), default=1)


def line_look(colour: str, dashed: bool = False) -> dict[str, Any]:
    """How a line over an image is drawn: a reference solid, a prediction dashed, both with a dark edge."""
    edge = [withStroke(linewidth=EDGE, foreground="black")]
    return {"color": colour, "linewidth": LINE, "linestyle": DASHES if dashed else "-", "path_effects": edge}


def draw_contour(axes: Axes, region: np.ndarray, colour: str, dashed: bool = False, closed: bool = True) -> None:
    """The contour of an (H, W) bool region; where the frame cuts the region, it is closed along the frame or open."""
    if not region.any() or (region.all() and not closed):
        return
    rows, cols = np.arange(-1, region.shape[0] + 1), np.arange(-1, region.shape[1] + 1)
    padded = np.pad(region, 1, mode="constant" if closed else "edge").astype(np.float32)
    look = line_look(colour, dashed)
    drawn = axes.contour(cols, rows, padded, levels=[0.5], colors=[look["color"]], linewidths=look["linewidth"])
    drawn.set(linestyle=look["linestyle"], path_effects=look["path_effects"])
    axes.set(xlim=(-0.5, region.shape[1] - 0.5), ylim=(region.shape[0] - 0.5, -0.5))


def add_legend(figure: Figure, looks: dict[str, dict[str, Any]]) -> None:
    """A legend below the figure of lines over images, by label; each look as from `line_look`."""
    handles = [Line2D([], [], label=name, **look) for name, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handlelength=2.8)


def add_markers(figure: Figure, counts: dict[str, int]) -> None:
    """A legend below the figure of the markers that are in it: of MARKERS by name, with their number."""
    handles = [
        Line2D([], [], marker=MARKERS[name], color=PREDICTED, ls="", markersize=4, label=f"{name} (n = {count})")
        for name, count in counts.items()
        if count
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def spaced(number: float) -> str:
    """A whole number with no-break spaces between thousands, as in the tables of the report."""
    return f"{number:,.0f}".replace(",", "\u00a0").replace("-", "−")


def add_shared_legend(figure: Figure) -> None:
    """One legend below the figure for what is labelled in any of its panels."""
    shown = {}
    for axes in figure.axes:
        shown |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels()) if label not in shown}
    rows = -(-len(shown) // LEGEND_COLUMNS)
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=-(-len(shown) // rows))


def sheet(shapes: list[tuple[int, int]]) -> tuple[Figure, np.ndarray]:
    """An empty sheet for N images with titles and a legend; axes as (N,)."""
    columns = 3 if len(shapes) in (5, 6, 9) else max(1, min(COLUMNS, len(shapes)))  # avoids a nearly empty row
    rows = -(-len(shapes) // columns)
    tallest = max((height / width for height, width in shapes), default=1.0)
    titles, legend = 8.5 * rows, 7.0
    wanted = rows * min(WIDTH_MM / columns, 80.0) * tallest + titles + legend
    figure, axes = panels(min(wanted, SHEET_MM), columns, rows)
    for each in axes.flat:
        each.set_axis_off()
    return figure, axes.ravel()[: len(shapes)]


def jitter(count: int, width: float) -> np.ndarray:
    """Evenly spread, reproducible offsets from -width/2 to width/2, by multiples of the golden ratio."""
    return (np.arange(count) * 0.6180339887498949 % 1 - 0.5) * width


def draw_markers(axes: Axes, count: int, at: float, height: float, name: str = "missed") -> None:
    """A row of the marker of this name at one height, one per case without a value; clear of the frame."""
    style = {"s": 18, "marker": MARKERS[name], "color": PREDICTED, "linewidths": 1.0, "clip_on": False, "zorder": 3}
    if count:
        axes.scatter(at + POINTS_AT + jitter(count, POINTS_WIDTH), np.full(count, height), **style)


def mark_clipped(axes: Axes, at: np.ndarray, values: np.ndarray, top: float, colour: str) -> None:
    """Ends the axis at `top`, and marks values (N,) above it by triangles on its edge, at positions (N,)."""
    axes.set_ylim(top=top)
    above = np.asarray(values, float) > top
    if above.any():  # an empty unclipped line would take room in the layout
        axes.plot(np.asarray(at)[above], np.full(above.sum(), top), "^", markersize=3, color=colour, clip_on=False)


def on_logarithmic_axis(axes: Axes, values: pd.Series) -> pd.Series:
    """Makes an axis logarithmic and returns the values (not negative, or NaN) that can be drawn on it.

    A logarithm has no 0: such values lie on a dotted line below all others, which is labelled 0.
    """
    positive = values[values > 0]
    zero = positive.min() / ZERO_BELOW if len(positive) else 1.0
    if (values == 0).any():
        axes.axhline(zero, color=FAINT, linewidth=0.8, linestyle=":", zorder=0)
        axes.text(1.01, zero, "0", transform=axes.get_yaxis_transform(), va="center")
    axes.set_yscale("log")
    is_wide = len(positive) and positive.max() > 100 * zero
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if is_wide else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    return values.replace(0.0, zero)


def draw_columns(axes: Axes, groups: list[str], parts: list[str], draw: Callable[[str, str, float], str]) -> None:
    """One column for each part of each group; `draw` is called with group, part and position, and returns a label."""
    labels = {}
    for index, group in enumerate(groups):
        for offset, part in enumerate(parts):
            at = index * (len(parts) + 0.5) + offset
            labels[at] = draw(group, part, at)
    last = max(labels, default=0.0)
    margin = max(0.7, (FEWEST_COLUMNS - 1 - last) / 2)  # or the points of a single column would fill the figure
    axes.set(xticks=list(labels), xticklabels=list(labels.values()), xlim=(-margin, last + margin))


def draw_points_and_box(axes: Axes, values: np.ndarray, at: float, colour: str) -> None:
    """Every value as a point, beside a box plot of all."""
    draw_points(axes, values, at, colour)
    draw_box(axes, values, at)


def draw_box(axes: Axes, values: np.ndarray, at: float) -> None:
    """A box plot beside the points of a column: median, quartiles, whiskers of 1.5 interquartile ranges."""
    import seaborn  # takes half a second, and not every notebook draws

    if len(values):
        place = {"x": np.full(len(values), at + BOX_AT), "y": values, "native_scale": True, "width": BOX_WIDTH}
        seaborn.boxplot(**place, ax=axes, fill=False, color=INK, linewidth=0.9, fliersize=0)
        axes.set(xlabel="", ylabel="")


def draw_points(axes: Axes, values: np.ndarray, at: float, colour: str, horizontal: bool = False) -> None:
    """Every value (N,) as a point with a dark edge around the line `at`, of a column or of a row."""
    import seaborn  # takes half a second, and not every notebook draws

    if not len(values):
        return
    place = dict(zip("yx" if horizontal else "xy", (np.full(len(values), at), values)))
    look = {"size": 3.2 if len(values) < MANY else 2.4, "color": colour, "edgecolor": INK, "linewidth": 0.35}
    orient = "h" if horizontal else "v"
    seaborn.stripplot(**place, **look, ax=axes, orient=orient, native_scale=True, jitter=False, zorder=2)
    points = axes.collections[-1]  # seaborn's own jitter is random, and equal data must give equal bytes
    offsets = np.array(points.get_offsets(), float)
    offsets[:, int(horizontal)] += POINTS_AT * (not horizontal) + jitter(len(offsets), POINTS_WIDTH)
    points.set_offsets(offsets)
    axes.set(xlabel="", ylabel="")
