"""Sheets of images: samples, preprocessing, augmentation, predictions and heatmaps."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.datasets.samples import Overlay, Samples
from lib.imaging import connected_parts
from lib.imaging.class_colours import class_colour, printed_name
from lib.report.figures import insets, style
from lib.report.figures.style import PREDICTED, REFERENCE, draw_contour, draw_image, line_look, styled

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
    style.add_legend(figure, {printed_name(name): line_look(class_colour(name)) for name in classes[1:]})
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
        for ends, marker in lines_of(landmarks):
            axes.plot(ends[:, 1], ends[:, 0], **line_look(REFERENCE))
            axes.plot(ends[0, 1], ends[0, 0], **line_look(REFERENCE), marker=marker, markersize=2.5)  # first endpoint
    return figure


def lines_of(points: np.ndarray) -> tuple[tuple[np.ndarray, str], ...]:
    """Endpoints of OFD and of BPD, (2, 2) each, and their markers, from landmarks (4, 2) in (row, col)."""
    return (points[:2], "o"), (points[2:], "s")


def overlay_sheet(
    items: list[Overlay], draw: Callable[[Axes, Overlay], None], predicted: dict[str, str] | None = None
) -> Figure:
    """Up to 12 cases, each overlaid by `draw`, with a legend: colours of predictions by label, if there are several."""
    if len(items) > MAX_OVERLAYS:
        raise ValueError(f"{len(items)} overlays; a sheet has at most {MAX_OVERLAYS}")
    figure, axes = style.sheet([item.image.shape for item in items])
    for each, item in zip(axes, items):
        draw_image(each, item.image, f"{item.name}\n{item.note}", item.spacing_mm)
        draw(each, item)
    colours = predicted or {"predicted": PREDICTED}
    looks = {name: line_look(colour, dashed=True) for name, colour in colours.items()}
    style.add_legend(figure, {"reference": line_look(REFERENCE)} | looks)
    return figure


@styled
def overlays(items: list[Overlay], classes: list[str]) -> Figure:
    """Up to 12 cases with predicted (dashed) over reference (white) contours; of several classes each has its colour.

    Where both agree, the white of the reference shows between the dashes. An inset enlarges a framed error.
    """
    names = classes[1:]
    colours = [PREDICTED] if len(names) == 1 else [class_colour(name) for name in names]

    def draw_contours(axes: Axes, item: Overlay) -> None:
        for index in range(1, len(classes)):
            draw_contour(axes, _outer(item.reference, index), REFERENCE)
        for index, colour in enumerate(colours, start=1):
            draw_contour(axes, _outer(item.predicted, index), colour, dashed=True)

    def draw(axes: Axes, item: Overlay) -> None:
        draw_contours(axes, item)
        insets.draw_largest_error(axes, item, draw_contours)

    several = {f"predicted {printed_name(name)}": colour for name, colour in zip(names, colours)}
    return overlay_sheet(items, draw, several if len(names) > 1 else None)


def _outer(mask: np.ndarray, index: int) -> np.ndarray:
    """The (H, W) bool region of a class with the structures of other classes in it, which have a line of their own."""
    region = mask == index
    return region | (connected_parts.fill_holes(region) & (mask > 0))


@styled
def close_ups(items: list[Overlay]) -> Figure:
    """Up to 12 parts of cases with one structure, masks (H, W) of 0 and 1: predicted dashed over white reference."""

    def draw(axes: Axes, item: Overlay) -> None:
        draw_contour(axes, item.reference == 1, REFERENCE, closed=False)
        draw_contour(axes, item.predicted == 1, PREDICTED, dashed=True, closed=False)

    return overlay_sheet(items, draw)


@styled
def landmark_overlays(items: list[Overlay]) -> Figure:
    """Up to 12 cases with predicted (dashed) over reference (white) lines; ends of OFD are round, of BPD square."""

    def draw(axes: Axes, item: Overlay) -> None:
        frame = {"xlim": axes.get_xlim(), "ylim": axes.get_ylim()}
        for points, colour, size in ((item.reference, REFERENCE, 3.4), (item.predicted, PREDICTED, 2.0)):
            for ends, marker in lines_of(points):
                look = line_look(colour, dashed=colour == PREDICTED)
                axes.plot(ends[:, 1], ends[:, 0], **look, marker=marker, markersize=size)
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
        each.set_title(title, pad=2)
    for each in axes:
        each.set_axis_off()
    figure.colorbar(drawn, ax=list(axes), pad=0.01, label=label)
    return figure
