"""The one place with plotting style: a function a figure, data in, Figure out."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from lib import files, statistics
from lib.cases import QUANTITIES, group_of

WIDTH_MM = 160.0  # of the printed column
DPI = 200
COLUMNS = 4  # images side by side on a sheet
INVENTED_AT = -0.06  # where cases stand that have no Dice between 0 and 1
MOST_STRATA = 12  # in a legend; beyond, their groups are shown

# Okabe and Ito 2008: told apart by the colour-blind; one colour a class name, everywhere.
CLASS_COLOURS = {
    "head": "#56B4E9",
    "parenchyma": "#56B4E9",
    "csp": "#E69F00",
    "lv": "#CC79A7",
    "tumour": "#E69F00",
    "lesion": "#E69F00",
}
OTHER_COLOURS = ("#F0E442", "#009E73", "#0072B2", "#D55E00")
REFERENCE, PREDICTED = "#7BE495", "#E8381B"  # light green and dark red: apart in lightness too
INK, FAINT = "#222222", "#9A9A9A"

STYLE = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same bytes
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "fetal-thesis",
    "savefig.facecolor": "white",
}
styled = matplotlib.rc_context(STYLE)

Images = list[np.ndarray]  # (H, W) uint8 each
Spacing = tuple[float, float] | None  # (row, col) in mm


@dataclass(frozen=True)
class Overlay:
    """One predicted mask over its image.

    Attributes:
        name: of the case.
        image, reference, predicted: (H, W) uint8.
        spacing_mm: (row, col), None where it is not known.
        note: beside the name, such as "Dice 0.971".
    """

    name: str
    image: np.ndarray
    reference: np.ndarray
    predicted: np.ndarray
    spacing_mm: Spacing
    note: str


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


def sheet(shapes: list[tuple[int, int]], columns: int = COLUMNS) -> tuple[Figure, np.ndarray]:
    """An empty sheet of images with room for a title each and a legend: axes as (N,)."""
    columns = 3 if len(shapes) in (5, 6, 9) else max(1, min(columns, len(shapes)))  # no row nearly empty
    rows = -(-len(shapes) // columns)
    tallest = max((height / width for height, width in shapes), default=1.0)
    cell_mm = min(WIDTH_MM / columns, 80.0)
    figure, axes = panels(rows * (cell_mm * tallest + 7) + 8, columns, rows)
    for each in axes.flat:
        each.set_axis_off()
    return figure, axes.ravel()[: len(shapes)]


def draw_image(axes: Axes, image: np.ndarray, title: str, spacing_mm: Spacing = None) -> None:
    """One grey image in true proportions, with a scale bar where its pixel size is known."""
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


def class_sheet(
    images: Images, masks: Images, titles: list[str], classes: list[str], spacings_mm: list[Spacing] | None = None
) -> Figure:
    """Images on a sheet, with the border of every class but background in the class's colour."""
    figure, axes = sheet([image.shape for image in images])
    for each, image, mask, text, spacing_mm in zip(axes, images, masks, titles, spacings_mm or [None] * len(images)):
        draw_image(each, image, text, spacing_mm)
        for index, name in enumerate(classes[1:], start=1):
            draw_contour(each, mask == index, class_colour(name))
    add_legend(figure, {name: class_colour(name) for name in classes[1:]})
    return figure


def jitter(count: int, width: float) -> np.ndarray:
    """Even, repeatable offsets within -width/2 to width/2: multiples of the golden ratio."""
    return (np.arange(count) * 0.6180339887498949 % 1 - 0.5) * width


def draw_points_and_box(axes: Axes, values: np.ndarray, at: float, colour: str, width: float = 0.6) -> None:
    """Every value as a point, and over them a box: median, quartiles, whiskers to 1.5 times their distance."""
    axes.scatter(at + jitter(len(values), width), values, s=5, color=colour, alpha=0.55, linewidths=0)
    if len(values):
        styles = {f"{part}props": {"color": INK, "linewidth": 0.8} for part in ("box", "median", "whisker", "cap")}
        axes.boxplot([values], positions=[at], widths=width * 0.7, showfliers=False, manage_ticks=False, **styles)


@styled
def samples(images: Images, masks: Images, names: list[str], classes: list[str], spacings_mm: list[Spacing]) -> Figure:
    """A sheet of (H, W) uint8 images with their reference contours."""
    return class_sheet(images, masks, names, classes, spacings_mm)


@styled
def sizes(cases: pd.DataFrame) -> Figure:
    """Head circumference and pixel size where known, and image sizes; `cases` as in cases.csv."""
    columns = {"hc_mm": "Head circumference (mm)", "spacing_row_mm": "Pixel size, rows (mm)"}
    known = [(cases[key].dropna().to_numpy(float), text) for key, text in columns.items() if cases[key].notna().any()]
    figure, axes = panels(58, len(known) + 1)
    for each, (values, text) in zip(axes[0], known):
        draw_points_and_box(each, values, 0, OTHER_COLOURS[2])
        each.set(ylabel=text, xticks=[], xlabel=f"n = {len(values)}", xlim=(-0.6, 0.6))
    counts = cases.groupby(["height", "width"]).size().reset_index(name="count")
    areas = 10 + 190 * counts["count"] / counts["count"].max()
    last = axes[0, -1]
    last.scatter(counts["width"], counts["height"], s=areas, color=OTHER_COLOURS[2], alpha=0.6, linewidths=0)
    last.set(xlabel=f"Columns (pixels), n = {len(cases)}", ylabel="Rows (pixels)")
    last.set(title="Image sizes, area by count", xmargin=0.25, ymargin=0.25)
    return figure


@styled
def folds(cases: pd.DataFrame, folds: pd.DataFrame) -> Figure:
    """Cases a fold, stacked by stratum, or by group where there are many."""
    joined = folds[["case", "fold"]].merge(cases[["case", "stratum"]], on="case")
    strata = joined["stratum"].fillna("").astype(str).replace("", "all cases")
    if strata.nunique() > MOST_STRATA:
        strata = group_of(joined["stratum"])
    counts = joined.groupby(["fold", strata]).size().unstack(fill_value=0)
    figure, ((axes,),) = panels(58)
    colours = matplotlib.colormaps["cividis"](np.linspace(0.15, 0.9, counts.shape[1]))
    below = counts.cumsum(axis=1) - counts
    for name, colour in zip(counts.columns, colours):
        label = f"{name} (n = {counts[name].sum()})"
        axes.bar(counts.index, counts[name], 0.7, bottom=below[name], color=colour, label=label)
    axes.set(xlabel="Fold", ylabel="Cases", xticks=list(counts.index))
    figure.legend(loc="outside right upper", title="Stratum", reverse=True)
    return figure


@styled
def preprocessing(
    native: Images, network: Images, native_masks: Images, network_masks: Images, names: list[str], classes: list[str]
) -> Figure:
    """Pairs of one case at native and at network size, with reference contours."""
    pairs = [pair for both in zip(native, network) for pair in both]
    masks = [mask for both in zip(native_masks, network_masks) for mask in both]
    before = [name for one in names for name in (one, "network")]
    titles = [f"{text}\n{image.shape[0]} × {image.shape[1]}" for text, image in zip(before, pairs)]
    return class_sheet(pairs, masks, titles, classes)


@styled
def augmentations(images: np.ndarray, masks: np.ndarray, classes: list[str]) -> Figure:
    """One case as it is, then as training sees it; (N, H, W) uint8 each."""
    return class_sheet(list(images), list(masks), ["original", *(f"draw {i}" for i in range(1, len(images)))], classes)


@styled
def feature_sizes(shapes: pd.DataFrame) -> Figure:
    """What each layer puts out and holds; columns layer, channels, rows, cols, parameters."""
    figure, axes = panels(14 + 4 * len(shapes), 2, share_y=True)
    at = np.arange(len(shapes))
    values = shapes[["channels", "rows", "cols"]].prod(axis=1)
    outputs = [f"{s.channels} × {s.rows} × {s.cols}" for s in shapes.itertuples()]
    counts = [f"{count:,}" for count in shapes["parameters"]]
    for each, widths, texts in zip(axes[0], (values, shapes["parameters"]), (outputs, counts)):
        each.bar_label(each.barh(at, widths, color=OTHER_COLOURS[2]), texts, padding=3, fontsize=7)
        each.margins(x=0.35, y=0.01)
        each.xaxis.set_major_formatter("{x:,.0f}")
        each.locator_params(axis="x", nbins=4)
    axes[0, 0].set_yticks(at, list(shapes["layer"]), fontsize=7)
    axes[0, 0].set_xlabel("Values put out (channels × rows × columns)")
    axes[0, 1].set_xlabel(f"Parameters ({shapes['parameters'].sum():,} in these layers)")
    axes[0, 0].invert_yaxis()
    return figure


@styled
def overfit(losses: list[float]) -> Figure:
    """The loss on one batch that is seen again and again."""
    figure, ((axes,),) = panels(55)
    axes.plot(np.arange(1, len(losses) + 1), losses, color=OTHER_COLOURS[2])
    axes.set(xlabel="Step", ylabel="Loss on the one batch", ylim=(min([0.0, *losses]), None))
    return figure


@styled
def training_curves(history: pd.DataFrame, classes: list[str]) -> Figure:
    """Losses, Dice and learning rate by epoch (history.csv); the epoch that was kept is marked."""
    figure, (axes,) = panels(58 + 4 * len(classes), 3)
    epochs = history["epoch"]
    below = {"color": FAINT, "linewidth": 2.6, "zorder": 1.5, "label": "training"}  # seen where others cover it
    axes[0].plot(epochs, history["train_loss"], **below)
    axes[0].plot(epochs, history["validation_loss"], color=INK, label="validation")
    axes[1].plot(epochs, history["train_selection"], **below)
    for name in classes[1:]:
        values = history[f"validation_dice_{name}"]
        axes[1].plot(epochs, values, color=class_colour(name), label=f"validation, {name}")
    axes[1].plot(epochs, history["selection"], color=INK, linestyle=":", label="validation, chooses")
    axes[2].plot(epochs, history["learning_rate"], color=INK)
    chosen = history.loc[history["best"].astype(bool), "epoch"].max()
    for each, text in zip(axes, ("Loss", "Dice, and what chooses", "Learning rate")):
        each.set(xlabel="Epoch", title=text)
        each.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if np.isfinite(chosen):
            each.axvline(chosen, color=OTHER_COLOURS[3], linewidth=0.8, linestyle="--", label=f"kept: epoch {chosen}")
    for each in axes[:2]:
        each.legend(loc="upper center", bbox_to_anchor=(0.5, -0.33), fontsize=7)
    axes[2].ticklabel_format(axis="y", scilimits=(0, 0))
    axes[1].set_ylim(-0.02, 1.02)
    return figure


@styled
def overlays(items: list[Overlay], classes: list[str]) -> Figure:
    """Up to 12 cases with predicted (red) over reference (green) contours of every class."""
    if len(items) > 12:
        raise ValueError(f"{len(items)} overlays; a sheet holds at most 12")
    figure, axes = sheet([item.image.shape for item in items])
    for each, item in zip(axes, items):
        draw_image(each, item.image, f"{item.name}\n{item.note}", item.spacing_mm)
        for index in range(1, len(classes)):
            draw_contour(each, item.reference == index, REFERENCE, 1.2)
            draw_contour(each, item.predicted == index, PREDICTED, 0.7)
    add_legend(figure, {"reference": REFERENCE, "predicted": PREDICTED})
    return figure


@styled
def dice_distribution(table: pd.DataFrame, classes: list[str]) -> Figure:
    """Dice by class and stage, a point a case and seed; boxes hold those whose reference shows the class."""
    figure, ((axes,),) = panels(68)
    labels, at = {}, 0.0  # of the ticks; where the next column stands
    for name in classes[1:]:
        for stage in dict.fromkeys(table["stage"]):
            rows = table[(table["class"] == name) & (table["stage"] == stage)]
            labels[at] = f"{name}\n{stage}\nn = {draw_dice(axes, rows, at, class_colour(name))}"
            at += 1
        at += 0.5
    axes.set(xticks=list(labels), xticklabels=list(labels.values()), ylabel="Dice", xlim=(-0.7, at - 0.8))
    least = float(np.nanmin(table["dice"])) if table["dice"].notna().any() else 0.0
    axes.set_ylim(np.floor(least * 10) / 10 - 0.02 if least >= 0.1 else -0.1, 1.01)
    marks = {"a case": ("o", FAINT), "missed": ("x", PREDICTED), "invented (in no box)": ("^", PREDICTED)}
    handles = [Line2D([], [], marker=m, color=c, ls="", markersize=4, label=text) for text, (m, c) in marks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


@styled
def confusion(shares: pd.DataFrame, classes: list[str]) -> Figure:
    """Where the pixels of each reference class go, in percent of its row; `shares` as tables.confusion gives it."""
    values = shares.set_index("reference").loc[classes, [f"{name}_percent" for name in classes]].to_numpy(float)
    figure, ((axes,),) = panels(28 + 12 * len(classes))
    axes.imshow(np.nan_to_num(values), cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for (row, col), value in np.ndenumerate(values):
        text = "none" if np.isnan(value) else f"{value:.1f}"
        axes.text(col, row, text, ha="center", va="center", color="white" if not value >= 60 else "black")
    axes.set(xlabel="Predicted class (% of the reference class's pixels)", ylabel="Reference class")
    axes.set(xticks=range(len(classes)), xticklabels=classes, yticks=range(len(classes)), yticklabels=classes)
    axes.spines[:].set_visible(False)
    return figure


def draw_dice(axes: Axes, rows: pd.DataFrame, at: float, colour: str) -> int:
    """One column of `dice_distribution`; returns in how many cases the reference shows the class."""
    shown = rows["tp"] + rows["fn"] > 0
    empty = rows["tp"] + rows["fp"] == 0
    invented = ~shown & ~empty
    draw_points_and_box(axes, rows.loc[shown, "dice"].to_numpy(float), at, colour)
    for chosen, marker, height in ((shown & empty, "x", 0.0), (invented, "^", INVENTED_AT)):
        count = int(chosen.sum())
        style = {"s": 16, "marker": marker, "color": PREDICTED, "linewidths": 0.8}
        axes.scatter(at + jitter(count, 0.6), np.full(count, height), **style)
    return int(rows.loc[shown, "case"].nunique())


@styled
def probability(image: np.ndarray, probability: np.ndarray, name: str) -> Figure:
    """An image beside its (H, W) map of probabilities, 0 to 1."""
    width_mm = (WIDTH_MM - 20) / 2  # the scale stands beside both, so that they are equally large
    figure, (axes,) = panels(width_mm * image.shape[0] / image.shape[1] + 7, 2)
    draw_image(axes[0], image, name)
    shown = axes[1].imshow(probability, cmap="cividis", vmin=0, vmax=1, interpolation="antialiased")
    for each, text in zip(axes, (name, "probability")):
        each.set_title(text, fontsize=7, pad=2)
        each.set_axis_off()
    figure.colorbar(shown, ax=list(axes), pad=0.01, label="Probability")
    return figure


def quantity_panels(measurements: pd.DataFrame, height_mm: float) -> tuple[Figure, dict[str, Axes]]:
    """One panel for each quantity that is there."""
    present = [quantity for quantity in QUANTITIES if (measurements["quantity"] == quantity).any()]
    figure, (axes,) = panels(height_mm if present else 14, max(1, len(present)))
    if not present:
        axes[0].set_axis_off()
        axes[0].text(0.5, 0.5, "no head with a pixel size was measured", ha="center", va="center")
    return figure, dict(zip(present, axes))


def measured_rows(measurements: pd.DataFrame, baseline: bool) -> pd.DataFrame:
    """Rows with both values: of the baseline (a case once), or of the measuring route after post-processing."""
    rows = measurements[(measurements["route"] == "baseline") == baseline]
    rows = rows.drop_duplicates(["case", "quantity"]) if baseline else rows[rows["stage"] == "post"]
    return rows.dropna(subset=["predicted_mm", "reference_mm"])


@styled
def agreement_scatter(measurements: pd.DataFrame) -> Figure:
    """Predicted against reference with the line of identity, a point a case and seed; the baseline as faint crosses."""
    figure, axes = quantity_panels(measurements, 62)
    routes = (("x", FAINT, "baseline"), ("o", OTHER_COLOURS[2], "measured"))
    for quantity, each in axes.items():
        for marker, colour, label in routes:
            rows = measured_rows(measurements[measurements["quantity"] == quantity], label == "baseline")
            style = {"s": 9, "marker": marker, "color": colour, "alpha": 0.7, "linewidths": 0.6}
            text = f"{label}, n = {rows['case'].nunique()}"
            each.scatter(rows["reference_mm"], rows["predicted_mm"], label=text, **style)
        ends = min(each.get_xlim()[0], each.get_ylim()[0]), max(each.get_xlim()[1], each.get_ylim()[1])
        each.plot(ends, ends, color=INK, linewidth=0.7)
        each.set(aspect="equal", xlim=ends, ylim=ends)
        each.set(xlabel=f"Reference {quantity.upper()} (mm)", ylabel=f"Predicted {quantity.upper()} (mm)")
        each.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), fontsize=7)
    return figure


@styled
def bland_altman(measurements: pd.DataFrame) -> Figure:
    """Difference against mean of both after post-processing, a point a case and seed, with bias and 95 % limits."""
    rows = measured_rows(measurements, baseline=False)
    figure, axes = quantity_panels(rows, 62)
    for quantity, each in axes.items():
        one = rows[rows["quantity"] == quantity]
        difference = (one["predicted_mm"] - one["reference_mm"]).to_numpy()
        middle = ((one["predicted_mm"] + one["reference_mm"]) / 2).to_numpy()
        each.scatter(middle, difference, s=9, color=OTHER_COLOURS[2], alpha=0.7, linewidths=0)
        each.axhline(0, color=FAINT, linewidth=0.6)
        if len(difference) >= 2:
            draw_limits(each, statistics.limits_of_agreement(difference))
        each.set(xlabel=f"Mean of both {quantity.upper()} (mm)", ylabel="Predicted − reference (mm)", ymargin=0.2)
        each.set_title(f"{quantity.upper()}, n = {one['case'].nunique()}")
    return figure


def draw_limits(axes: Axes, limits: tuple[float, float, float]) -> None:
    """Bias and limits of agreement as lines with their values."""
    for value, line in zip(limits, ("-", "--", "--")):
        axes.axhline(value, color=OTHER_COLOURS[3], linewidth=0.9, linestyle=line)
        text = f"{value:+.2f}".replace("-", "−")
        axes.text(1.02, value, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7)
