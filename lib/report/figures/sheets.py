"""Sheets of images: samples, preprocessing, augmentation, predictions and heatmaps."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.datasets.samples import Overlay, Samples
from lib.imaging.class_colours import class_colour, printed_name
from lib.report.figures import style
from lib.report.figures.style import PREDICTED, REFERENCE, draw_contour, draw_image, styled

Spacing = tuple[float, float] | None  # (row, col) pixel size, mm
MAX_OVERLAYS = 12  # on a sheet


@styled
def samples(items: Samples, classes: list[str]) -> Figure:
    """Images with the contours of all foreground classes in the colours of the classes."""
    figure, axes = style.sheet([image.shape for image in items.images])
    for each, image, mask, text, spacing_mm in zip(axes, items.images, items.masks, items.names, items.spacings_mm):
        draw_image(each, image, text, spacing_mm)
        for index, name in enumerate(classes[1:], start=1):
            draw_contour(each, mask == index, class_colour(name))
    style.add_legend(figure, {printed_name(name): class_colour(name) for name in classes[1:]})
    return figure


def without_scale(titles: list[str], images: list[np.ndarray], masks: list[np.ndarray]) -> Samples:
    """Titled images (H, W) uint8 without a pixel size."""
    return Samples(titles, images, masks, [None] * len(images), [0] * len(images))


def preprocessing(native: Samples, network: Samples, classes: list[str]) -> Figure:
    """Each case at native and network size, with reference contours."""
    images = [image for pair in zip(native.images, network.images) for image in pair]
    masks = [mask for pair in zip(native.masks, network.masks) for mask in pair]
    names = [name for one in native.names for name in (one, "network")]
    titles = [f"{name}\n{image.shape[0]} × {image.shape[1]}" for name, image in zip(names, images)]
    return samples(without_scale(titles, images, masks), classes)


@styled
def augmentations(images: np.ndarray, masks: np.ndarray, classes: list[str], points: np.ndarray | None) -> Figure:
    """A case and its augmentations, (N, H, W) uint8 with the original first, and their landmarks (N, 4, 2) or None."""
    titles = ["original", *(f"draw {i}" for i in range(1, len(images)))]
    figure = samples(without_scale(titles, list(images), list(masks)), classes)
    for axes, landmarks in zip(figure.axes, [] if points is None else points):
        for ends, line in lines_of(landmarks):
            axes.plot(ends[:, 1], ends[:, 0], color=REFERENCE, linewidth=0.9, linestyle=line)
            axes.plot(ends[0, 1], ends[0, 0], marker="o", markersize=2.5, color=REFERENCE)  # the first endpoint
    return figure


def lines_of(points: np.ndarray) -> tuple[tuple[np.ndarray, str], ...]:
    """Endpoints of OFD and of BPD (dashed), (2, 2) each, from landmarks (4, 2) in (row, col)."""
    return (points[:2], "-"), (points[2:], "--")


def overlay_sheet(items: list[Overlay], draw: Callable[[Axes, Overlay], None]) -> Figure:
    """Up to 12 cases, each overlaid by `draw`; predicted red, reference green."""
    if len(items) > MAX_OVERLAYS:
        raise ValueError(f"{len(items)} overlays; a sheet has at most {MAX_OVERLAYS}")
    figure, axes = style.sheet([item.image.shape for item in items])
    for each, item in zip(axes, items):
        draw_image(each, item.image, f"{item.name}\n{item.note}", item.spacing_mm)
        draw(each, item)
    style.add_legend(figure, {"reference": REFERENCE, "predicted": PREDICTED})
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
def close_ups(items: list[Overlay]) -> Figure:
    """Up to 12 parts of cases with one structure, masks (H, W) of 0 and 1: predicted (red) over reference (green)."""

    def draw(axes: Axes, item: Overlay) -> None:
        draw_contour(axes, item.reference == 1, REFERENCE, 1.2, closed=False)
        draw_contour(axes, item.predicted == 1, PREDICTED, 0.7, closed=False)

    return overlay_sheet(items, draw)


@styled
def landmark_overlays(items: list[Overlay]) -> Figure:
    """Up to 12 cases with predicted (red) over reference (green) lines between endpoints, BPD dashed."""

    def draw(axes: Axes, item: Overlay) -> None:
        frame = {"xlim": axes.get_xlim(), "ylim": axes.get_ylim()}
        for points, colour, width in ((item.reference, REFERENCE, 1.2), (item.predicted, PREDICTED, 0.7)):
            marks = {"color": colour, "linewidth": width, "marker": "o", "markersize": 2 * width}
            for ends, line in lines_of(points):
                axes.plot(ends[:, 1], ends[:, 0], linestyle=line, **marks)
        axes.set(**frame)  # an endpoint beyond the frame must not shrink the image

    return overlay_sheet(items, draw)


@styled
def probability(image: np.ndarray, probability: np.ndarray, name: str, spacing_mm: Spacing = None) -> Figure:
    """An image and its probability map (H, W), 0 to 1."""
    return image_and_maps(image, name, {"probability": probability}, "Probability", spacing_mm)


@styled
def heatmaps(image: np.ndarray, maps: np.ndarray, name: str, spacing_mm: Spacing = None) -> Figure:
    """An image and the (2, H, W) heatmaps of the endpoints of OFD and BPD, 0 to 1."""
    titled = dict(zip(("OFD endpoints", "BPD endpoints"), maps))
    return image_and_maps(image, name, titled, "Heatmap value", spacing_mm)


def image_and_maps(
    image: np.ndarray, name: str, maps: dict[str, np.ndarray], label: str, spacing_mm: Spacing
) -> Figure:
    """An image, with a scale bar if its pixel size is known, and titled maps (H, W) on a common scale from 0 to 1."""
    count = 1 + len(maps)
    width_mm = (style.WIDTH_MM - 20) / count  # one colour bar for all panels keeps them equally large
    figure, (axes,) = style.panels(width_mm * image.shape[0] / image.shape[1] + 7, count)
    draw_image(axes[0], image, name, spacing_mm)
    look = {"aspect": axes[0].get_aspect(), "interpolation": "antialiased"}
    for each, (title, values) in zip(axes[1:], maps.items()):
        drawn = each.imshow(values, cmap="cividis", vmin=0, vmax=1, **look)
        each.set_title(title, fontsize=7, pad=2)
    for each in axes:
        each.set_axis_off()
    figure.colorbar(drawn, ax=list(axes), pad=0.01, label=label)
    return figure
