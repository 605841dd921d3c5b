"""Insets: the thickest place of the error of a prediction, enlarged in a corner of its image."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from lib.datasets.samples import Overlay
from lib.imaging import surroundings

SIDE = 0.36  # of an inset, in shorter sides of its image: so small that only one corner can hide part of the error
SMALLEST, LARGEST = 1.5, 3.0  # magnification
THICKNESSES = 3.0  # of the error that fit in an inset, as far as the magnification allows
FRAME = "white"
LINE, EDGE = 0.6, 1.6  # points: width of a frame, and with its dark edge

Window = tuple[slice, slice]


def draw_largest_error(axes: Axes, item: Overlay, draw: Callable[[Axes, Overlay], None]) -> None:
    """Frames the thickest place of the error of masks and enlarges it in a corner, with what `draw` draws on axes."""
    part = enlarged_window(item.reference != item.predicted)
    if part is None:
        return
    height, width = item.image.shape
    (top, low), (left, right) = ((each.start - 0.5, each.stop - 0.5) for each in part)  # edges of its pixels
    look = {"edgecolor": FRAME, "linewidth": LINE, "path_effects": [withStroke(linewidth=EDGE, foreground="black")]}
    axes.add_patch(Rectangle((left, top), right - left, low - top, fill=False, **look))
    rows, cols = emptiest_corner((item.reference > 0) | (item.predicted > 0), part)
    side = rows.stop - rows.start
    inset = axes.inset_axes((cols.start / width, 1 - rows.stop / height, side / width, side / height))
    shown = {"aspect": axes.get_aspect(), "extent": (left, right, low, top), "interpolation": "antialiased"}
    inset.imshow(item.image[part], cmap="gray", vmin=0, vmax=255, **shown)
    draw(inset, item)
    inset.set(xlim=(left, right), ylim=(low, top), xticks=[], yticks=[])
    inset.spines[:].set(visible=True, **look)


def enlarged_window(wrong: np.ndarray) -> Window | None:
    """The square around the thickest place of an error, (H, W) bool, that an inset enlarges.

    None without an error, or if it is too thick to be enlarged; then it is seen without.
    """
    side = SIDE * min(wrong.shape)
    row, col, thickness = surroundings.thickest_place(wrong)
    if not 0 < thickness <= side / SMALLEST:
        return None
    wanted = np.clip(THICKNESSES * thickness, side / LARGEST, side / SMALLEST)
    return surroundings.window(wrong.shape, (row, col), wanted)


def emptiest_corner(structures: np.ndarray, part: Window) -> Window:
    """The place of an inset, (rows, columns): a corner that is clear of a window and hides least of (H, W) bool.

    The lower right corner is left to the scale bar.
    """
    height, width = structures.shape
    side = max(1, round(SIDE * min(height, width)))
    low, right = slice(height - side, height), slice(width - side, width)
    corners = [(slice(0, side), slice(0, side)), (slice(0, side), right), (low, slice(0, side))]
    clear = [each for each in corners if not all(a.start < b.stop and b.start < a.stop for a, b in zip(each, part))]
    return min(clear, key=lambda each: np.count_nonzero(structures[each]))
