"""A viewer of test cases for notebooks 05 and 06: what a user chooses in widgets, drawn as one picture.

The predictions on disk are masks; the probability behind them is computed by the model of a case's fold when the case
is opened. Without a user (papermill, nbval) the first picture is displayed and no widget.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Image as Shown
from IPython.display import display
from PIL import Image

from lib.data import cases
from lib.data.evaluation_set import EvaluationSet
from lib.evaluation import biometry
from lib.imaging import ellipse, volumes
from lib.imaging.class_colours import PREDICTED, REFERENCE, class_colour, printed_name
from lib.imaging.head_points import POINT_COLUMNS, as_arrays
from lib.imaging.regions import region_of
from lib.report.figures.pictures import Canvas, ellipse_points
from lib.study import files

OUTLINE, ELLIPSE = "outline", "ellipse"  # routes of a study of regions
KEPT = 4  # opened cases; one of HC18 takes 5 MB
OPACITY, STEP = 0.4, 0.01  # at the start; of the sliders
FAILED = "failed; JupyterLab's log has the error"
DISPLAY_WIDTH = 640  # pixels on the screen


@dataclass(frozen=True)
class Opened:
    """One predicted case."""

    slices: int  # 1 for an image
    slice: int  # shown first: of a volume the one with most of the reference
    threshold: float | None  # of its model; None with landmarks, and where the most probable class is predicted
    draw: Callable[[int, float | None, float, str], Image.Image]  # of slice, threshold, opacity and route


@dataclass(frozen=True)
class Viewer:
    """The predictions of a study that can be looked at, the first one first."""

    names: list[str]  # of cases, with fold and seed
    routes: list[str]
    open: Callable[[int], Opened]  # by the place in `names`


def of_predictions(test_set: EvaluationSet, rows: pd.DataFrame, device: str, head_classes: list[str]) -> Viewer:
    """The predictions of some rows (case, fold, seed), in their order; `test_set.folder` is that of 05_evaluation."""
    keys = rows[["case", "fold", "seed"]].drop_duplicates().to_dict("records")
    names = [f"{key['case']} ({files.run_name(key['fold'], key['seed'])})" for key in keys]
    heads = biometry.class_indices(test_set.dataset, head_classes)
    routes = [ELLIPSE, OUTLINE] if heads else [OUTLINE]
    points = None
    if test_set.points is not None:
        points = files.read_csv(test_set.folder / "points.csv", biometry.LANDMARK_COLUMNS)
        routes = list(dict.fromkeys(points["route"]))

    @lru_cache(maxsize=KEPT)
    def opened(place: int) -> Opened:
        from lib.evaluation import reopening  # torch takes seconds to import, and 06 needs it for nothing else

        key = keys[place]
        model = reopening.load(test_set.folder, key["fold"], key["seed"], device)
        if points is None:
            return _opened_region(test_set, model, key, heads)
        return _opened_points(test_set, model, key, points)

    return Viewer(names, routes, opened)


def _opened_region(test_set: EvaluationSet, model: Any, key: dict[str, Any], heads: list[int]) -> Opened:
    """A mask at any threshold over its image, with the reference and the probability of any structure."""
    from lib.evaluation import reopening, segmentation

    case = segmentation.predict_case(test_set, model, test_set.rows([key["case"]])[0])
    about, spacing_mm = model.about, cases.spacing_mm(case.row)

    @lru_cache(maxsize=1)
    def mask_at(threshold: float | None) -> np.ndarray:
        area = segmentation.pixel_mm2(case.row)
        return segmentation.predicted_stages(case.probability, threshold, about["postprocessing"], area)["post"]

    def draw(at: int, threshold: float | None, opacity: float, route: str) -> Image.Image:
        mask = mask_at(threshold)
        is_volume = mask.ndim == 3
        image = np.ascontiguousarray(case.image[at, ..., test_set.dataset.display_channel]) if is_volume else case.image
        shown = [each[at] if is_volume else each for each in (case.reference, mask, 1 - case.probability[0])]
        canvas = tinted(image, spacing_mm, shown[2], opacity)
        for index, name in enumerate(about["classes"][1:], start=1):
            canvas.contour(np.ascontiguousarray(shown[0] == index), REFERENCE)
            canvas.contour(np.ascontiguousarray(shown[1] == index), class_colour(name))
        lines = [
            _of_case(key, at if is_volume else None, threshold),
            _overlaps(reopening.dice(case.reference, mask, about["classes"])),
        ]
        if route == ELLIPSE:
            axes = biometry.axes_of(region_of(mask, heads), spacing_mm)
            if axes:
                ends = np.array([axes[name] for name in POINT_COLUMNS]).reshape(4, 2)
                canvas.line(ellipse_points(ends), PREDICTED, closed=True)
                _calipers(canvas, ends, PREDICTED)
            lines.append(_lengths(axes) if axes else "no ellipse")
        return Image.fromarray(canvas.with_text(lines))

    depth = len(case.reference) if case.reference.ndim == 3 else 1
    first = volumes.fullest_slice(case.reference) if depth > 1 else 0
    return Opened(depth, first, about["threshold"], draw)


def _opened_points(test_set: EvaluationSet, model: Any, key: dict[str, Any], points: pd.DataFrame) -> Opened:
    """The endpoints of one route over the image, with those of the reference and the network's heatmaps."""
    from lib.evaluation import reopening

    (row,), (reference,) = test_set.rows([key["case"]]), as_arrays(test_set.points, [key["case"]])
    image, spacing_mm = test_set.dataset.read_image(cases.unchanged(row)[0]), cases.spacing_mm(row)
    heat = reopening.heatmap(model, image)
    of_case = points[(points[list(key)] == pd.Series(key)).all(axis=1)].set_index("route")

    def draw(at: int, threshold: float | None, opacity: float, route: str) -> Image.Image:  # noqa: ARG001
        canvas = tinted(image, spacing_mm, heat, opacity)
        predicted = of_case.loc[route, POINT_COLUMNS].to_numpy(float).reshape(4, 2)
        _calipers(canvas, reference, REFERENCE)
        _calipers(canvas, predicted, PREDICTED)
        lines = [_of_case(key, None, None), _lengths(biometry.lengths_mm(predicted, spacing_mm))]
        return Image.fromarray(canvas.with_text(lines))

    return Opened(1, 0, None, draw)


def tinted(image: np.ndarray, spacing_mm: tuple[float, float] | None, share: np.ndarray, opacity: float) -> Canvas:
    """A canvas with an image (H, W) uint8 under the colours of (H, W) values from 0 to 1, of an opacity from 0 to 1."""
    canvas = Canvas(image, spacing_mm)
    plain = canvas.pixels
    canvas.heat(share)
    canvas.pixels = np.rint((1 - opacity) * plain + opacity * canvas.pixels).astype(np.uint8)
    return canvas


def _calipers(canvas: Canvas, ends: np.ndarray, colour: str) -> None:
    for name, line in (("OFD", ends[:2]), ("BPD", ends[2:])):
        if np.isfinite(line).all():
            canvas.caliper(line, colour, name)


def _of_case(key: dict[str, Any], at: int | None, threshold: float | None) -> str:
    """What is shown, in words."""
    parts = [f"{key['case']}, fold {key['fold']}, seed {key['seed']}"]
    parts += [] if at is None else [f"slice {at + 1}"]
    return ", ".join(parts + ([] if threshold is None else [f"probability from {threshold:.2f}"]))


def _overlaps(dice: dict[str, float]) -> str:
    """Dice of each structure of a whole case; of one that is in neither mask "absent"."""
    words = (f"{printed_name(name)} {'absent' if np.isnan(value) else f'{value:.3f}'}" for name, value in dice.items())
    return "Dice after post-processing: " + ", ".join(words)


def _lengths(axes: dict[str, float]) -> str:
    """BPD, OFD and HC in words."""
    if not np.isfinite([axes.get(name, np.nan) for name in ("ofd_mm", "bpd_mm")]).all():
        return "no measurement in mm"
    lengths = ellipse.measure_lines(axes["ofd_mm"], axes["bpd_mm"])
    return ", ".join(f"{name.upper()} {lengths[name]:.1f} mm" for name in ("bpd", "ofd", "hc"))


def png(picture: Image.Image) -> bytes:
    """A picture as a PNG file."""
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


def show(viewer: Viewer, has_user: bool) -> None:
    """Displays the viewer with its controls; without a user only the picture that it starts with."""
    if has_user:
        display(controls(viewer))
    elif viewer.names:
        first = viewer.open(0)
        picture = first.draw(first.slice, first.threshold, OPACITY, viewer.routes[0])
        display(Shown(data=png(picture), width=DISPLAY_WIDTH))


def controls(viewer: Viewer) -> Any:
    """The viewer as an ipywidgets box: case, slice, threshold, opacity and route above the picture."""
    import ipywidgets as widgets  # only a live notebook needs them

    def slider(kind: type, name: str, **limits: Any) -> Any:
        return kind(description=name, continuous_update=False, **limits)

    case = widgets.Dropdown(options=[(name, place) for place, name in enumerate(viewer.names)], description="Case")
    at = slider(widgets.IntSlider, "Slice", min=1, max=1)
    threshold = slider(widgets.FloatSlider, "Threshold", min=STEP, max=1 - STEP, step=STEP)
    opacity = slider(widgets.FloatSlider, "Opacity", min=0, max=1, step=STEP, value=OPACITY)
    route = widgets.Dropdown(options=viewer.routes, description="Route")
    chosen, shown, said = (at, threshold, opacity, route), widgets.Image(), widgets.HTML()
    shown.layout.max_width = f"{DISPLAY_WIDTH}px"

    def draw() -> None:
        opened = viewer.open(case.value)
        level = None if opened.threshold is None else threshold.value
        shown.value = png(opened.draw(at.value - 1, level, opacity.value, route.value))

    def open_case() -> None:
        opened = viewer.open(case.value)
        for each in chosen:
            each.unobserve_all("value")
        at.max, at.value = opened.slices, opened.slice + 1
        threshold.value = threshold.min if opened.threshold is None else opened.threshold
        is_used = (opened.slices > 1, opened.threshold is not None, True, len(viewer.routes) > 1)
        for each, used in zip(chosen, is_used):
            each.layout.display = None if used else "none"
            each.observe(telling(draw), "value")
        draw()

    def telling(work: Callable[[], None]) -> Callable[[object], None]:
        def respond(_: object) -> None:
            said.value, outcome = "predicting …", FAILED
            try:
                work()
                outcome = ""
            finally:  # an error of which a user is not told would look like a long computation
                said.value = outcome

        return respond

    case.observe(telling(open_case), "value")
    if viewer.names:
        open_case()
    return widgets.VBox([widgets.HBox([case, route]), widgets.HBox([at, threshold, opacity]), said, shown])
