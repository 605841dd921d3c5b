"""Error budget of HC where the exact value is known: each stage of the measurement replaced by the exact one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lib.data import cases
from lib.data.cases import TRIVIAL_BASELINES
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import samples
from lib.evaluation import biometry
from lib.imaging import ellipse, geometry, preparation
from lib.imaging.geometry import Geometry
from lib.imaging.head_points import POINT_COLUMNS
from lib.study import parallel

COMPONENTS = ("fit", "pixel size", "resolution", "prediction")  # their sum is the error of HC
COLUMNS = ["case", "subject", "fold", "seed", "route", *(f"{name.replace(' ', '_')}_mm" for name in COMPONENTS)]
COLUMNS += ["total_mm"]
Spacing = tuple[float, float]
Stages = tuple[float, float, float]  # HC in mm of a reference: exact pixel size, published one, through network size


def budget(
    test_set: EvaluationSet,
    measurements: pd.DataFrame,
    truth: pd.DataFrame | None,
    head_classes: list[str],
    prepared: dict[str, Any],
) -> pd.DataFrame:
    """The error of HC (post) of every prediction as a sum of components: COLUMNS; no rows without an exact HC.

    `truth` has the exact `hc_mm`, `spacing_row_mm` and `spacing_col_mm` of a phantom's cases, None for other data;
    `prepared` has `image_size` and, for landmarks, `heatmap_sigma` and `heatmap_sigma_unit`. Components, in mm:
    fit, the reference mask at native size (or its landmarks, in whole pixels) measured with the exact pixel size, minus
    the exact HC; pixel size, the same with the published pixel size; resolution, the reference mask (or landmarks as
    heatmaps) at network size and back; prediction, the predicted head instead of this. NaN if one cannot be measured.
    """
    rows = measurements[measurements["quantity"].eq("hc") & measurements["stage"].eq("post")]
    rows = rows[~rows["route"].isin(TRIVIAL_BASELINES)]
    if truth is None or "hc_mm" not in truth or rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    exact = truth.set_index("case")
    names = list(dict.fromkeys(rows["case"]))
    measure = _of_masks(test_set, head_classes, prepared) if test_set.points is None else _of_points(test_set, prepared)

    def stages_of(row: dict[str, Any]) -> Stages:
        known = exact.loc[row["case"]]
        return measure(row, (float(known["spacing_row_mm"]), float(known["spacing_col_mm"])))

    stages = dict(zip(names, parallel.in_parallel(stages_of, test_set.rows(names))))
    steps = [(float(exact.loc[row.case, "hc_mm"]), *stages[row.case], row.predicted_mm) for row in rows.itertuples()]
    parts = np.diff(np.array(steps), axis=1)
    values = np.column_stack([parts, parts.sum(axis=1)])
    return rows[COLUMNS[:5]].reset_index(drop=True).join(pd.DataFrame(values, columns=COLUMNS[5:]))


def _of_masks(
    test_set: EvaluationSet, head_classes: list[str], prepared: dict[str, Any]
) -> Callable[[dict[str, Any], Spacing], Stages]:
    indices, count = biometry.class_indices(test_set.dataset, head_classes), len(test_set.dataset.classes)

    def stages_of(row: dict[str, Any], exact_mm: Spacing) -> Stages:
        mask, published_mm = samples.read_mask(test_set.dataset, row), cases.spacing_mm(row)
        mapping = geometry.fit(mask.shape, tuple(prepared["image_size"]))
        resized = through_network(mask, mapping, count)
        regions = ((mask, exact_mm), (mask, published_mm), (resized, published_mm))
        return tuple(_hc_mm(np.isin(each, indices), spacing_mm) for each, spacing_mm in regions)

    return stages_of


def through_network(mask: np.ndarray, mapping: Geometry, class_count: int) -> np.ndarray:
    """A native mask (H, W) as a faultless network would predict it: at network size, and back by its probabilities."""
    scaled = geometry.mask_to_network(mask, mapping, class_count)
    probability = (scaled == np.arange(class_count)[:, None, None]).astype(np.float32)
    return geometry.to_native(probability, mapping).argmax(axis=0)


def _of_points(test_set: EvaluationSet, prepared: dict[str, Any]) -> Callable[[dict[str, Any], Spacing], Stages]:
    from lib.imaging import heatmaps  # imports torch, which 06_biometry of regions does without

    points_of = test_set.points.set_index("case")

    def stages_of(row: dict[str, Any], exact_mm: Spacing) -> Stages:
        points = points_of.loc[row["case"], POINT_COLUMNS].to_numpy(float).reshape(4, 2)
        published_mm, size = cases.spacing_mm(row), tuple(prepared["image_size"])
        mapping = geometry.fit((row["height"], row["width"]), size)
        sigma = preparation.heatmap_sigma(prepared, mapping, published_mm)
        maps = heatmaps.encode(geometry.points_to_network(points, mapping), sigma, size, "line")
        located = geometry.points_to_native(heatmaps.decode(maps, sigma)[0], mapping)
        ends = ((points, exact_mm), (points, published_mm), (located, published_mm))
        return tuple(_hc_of_lines(each, spacing_mm) for each, spacing_mm in ends)

    return stages_of


def _hc_mm(region: np.ndarray, spacing_mm: Spacing) -> float:
    try:
        return ellipse.measure_head(region, spacing_mm)["hc"]
    except ValueError:  # no ellipse; counted as not measured
        return float("nan")


def _hc_of_lines(points: np.ndarray, spacing_mm: Spacing) -> float:
    return ellipse.measure_lines(**biometry.lengths_mm(points, spacing_mm))["hc"]


def adds_up(table: pd.DataFrame, measurements: pd.DataFrame) -> bool:
    """Whether the total of every prediction is the error of HC in measurements.csv; so it is without any."""
    if table.empty:
        return True
    hc = measurements[measurements["quantity"].eq("hc") & measurements["stage"].eq("post")]
    errors = hc.set_index(["case", "seed", "route"]).eval("predicted_mm - reference_mm")
    of_rows = errors.loc[list(zip(table["case"], table["seed"], table["route"]))].to_numpy(float)
    return bool(np.allclose(table["total_mm"], of_rows, rtol=0, atol=1e-6, equal_nan=True))
