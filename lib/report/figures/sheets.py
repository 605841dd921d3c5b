"""Sheets of images: what a case looks like, and what was made of it."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.datasets.samples import Overlay, Samples
from lib.report.figures.style import (
    PREDICTED,
    REFERENCE,
    WIDTH_MM,
    Images,
    Spacing,
    add_legend,
    class_colour,
    draw_contour,
    draw_image,
    panels,
    sheet,
    styled,
)


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


@styled
def samples(shown: Samples, classes: list[str]) -> Figure:
    """A sheet of images with their reference contours."""
    return class_sheet(shown.images, shown.masks, shown.names, classes, shown.spacings_mm)


@styled
def preprocessing(native: Samples, network: Samples, classes: list[str]) -> Figure:
    """Pairs of one case at native and at network size, with reference contours."""
    pairs = [pair for both in zip(native.images, network.images) for pair in both]
    masks = [mask for both in zip(native.masks, network.masks) for mask in both]
    before = [name for one in native.names for name in (one, "network")]
    titles = [f"{text}\n{image.shape[0]} × {image.shape[1]}" for text, image in zip(before, pairs)]
    return class_sheet(pairs, masks, titles, classes)


@styled
def augmentations(images: np.ndarray, masks: np.ndarray, classes: list[str], points: np.ndarray | None) -> Figure:
    """One case as it is, then as training sees it: (N, H, W) uint8 each, and its landmarks (N, 4, 2), None for none."""
    titles = ["original", *(f"draw {i}" for i in range(1, len(images)))]
    figure = class_sheet(list(images), list(masks), titles, classes)
    for each, places in zip(figure.axes, [] if points is None else points):
        draw_lines(each, places, REFERENCE)
    return figure


def draw_lines(axes: Axes, points: np.ndarray, colour: str) -> None:
    """OFD and (dashed) BPD of landmarks (4, 2) in (row, col), with a dot at the first end of each."""
    for (first, second), line in ((points[:2], "-"), (points[2:], "--")):
        axes.plot([first[1], second[1]], [first[0], second[0]], color=colour, linewidth=0.9, linestyle=line)
        axes.plot(first[1], first[0], marker="o", markersize=2.5, color=colour)


def overlay_sheet(items: list[Overlay], draw: Callable[[Axes, Overlay], None]) -> Figure:
    """Up to 12 cases with what `draw` puts over each image: predicted red, reference green."""
    if len(items) > 12:
        raise ValueError(f"{len(items)} overlays; a sheet holds at most 12")
    figure, axes = sheet([item.image.shape for item in items])
    for each, item in zip(axes, items):
        draw_image(each, item.image, f"{item.name}\n{item.note}", item.spacing_mm)
        draw(each, item)
    add_legend(figure, {"reference": REFERENCE, "predicted": PREDICTED})
    return figure


@styled
def overlays(items: list[Overlay], classes: list[str]) -> Figure:
    """Up to 12 cases with predicted (red) over reference (green) contours of every class."""

    def draw(axes: Axes, item: Overlay) -> None:
        for index in range(1, len(classes)):
            draw_contour(axes, item.reference == index, REFERENCE, 1.2)
            draw_contour(axes, item.predicted == index, PREDICTED, 0.7)

    return overlay_sheet(items, draw)


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


@styled
def landmark_overlays(items: list[Overlay]) -> Figure:
    """Up to 12 cases with predicted (red) over reference (green) lines from end to end, BPD dashed."""

    def draw(axes: Axes, item: Overlay) -> None:
        frame = {"xlim": axes.get_xlim(), "ylim": axes.get_ylim()}
        for points, colour, width in ((item.reference, REFERENCE, 1.2), (item.predicted, PREDICTED, 0.7)):
            style = {"color": colour, "linewidth": width, "marker": "o", "markersize": 2 * width}
            for ends, line in ((points[:2], "-"), (points[2:], "--")):
                axes.plot(ends[:, 1], ends[:, 0], linestyle=line, **style)
        axes.set(**frame)  # an end beyond the frame must not make the picture smaller

    return overlay_sheet(items, draw)


@styled
def heatmaps(image: np.ndarray, maps: np.ndarray, name: str) -> Figure:
    """An image beside the (2, H, W) heatmaps of the ends of its OFD and its BPD, 0 to 1."""
    width_mm = (WIDTH_MM - 20) / 3  # the scale stands beside all, so that they are equally large
    figure, (axes,) = panels(width_mm * image.shape[0] / image.shape[1] + 7, 3)
    draw_image(axes[0], image, name)
    for each, shown, text in zip(axes[1:], maps, ("ends of the OFD", "ends of the BPD")):
        drawn = each.imshow(shown, cmap="cividis", vmin=0, vmax=1, interpolation="antialiased")
        each.set_title(text, fontsize=7, pad=2)
    for each in axes:
        each.set_axis_off()
    figure.colorbar(drawn, ax=list(axes), pad=0.01, label="Height")
    return figure
