"""Landmarks of every test case at native size, by a network not trained on its subject, and two trivial baselines."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib import models
from lib.data import cases
from lib.data.evaluation_set import EvaluationSet
from lib.evaluation import intervals, previews, quality, training_precision, validation
from lib.evaluation.biometry import LANDMARK_COLUMNS
from lib.imaging import geometry, head_quality
from lib.imaging.head_points import LINES, POINT_COLUMNS, as_arrays, canonical, line_lengths, mean_shape, point_errors
from lib.models import devices, trained_model
from lib.models.trained_model import Model
from lib.study import files, params
from lib.study.params import EvaluationParams
from lib.study.progress import Live, follow

RUN_COLUMNS, UNITS = ["case", "subject", "fold", "seed", "route"], ["error_px", "error_mm", "normalised_error_percent"]
ERROR_COLUMNS = [*RUN_COLUMNS, "line", *UNITS]
ROUTES = NETWORK, MEAN_SHAPE, BLANK_MAP = "landmark", "mean shape", "blank map"  # the last two ignore the image


def predict_all(
    config: EvaluationParams, test_set: EvaluationSet, trainings: Path, live: Live | None = None
) -> tuple[pd.DataFrame, ...]:
    """Landmarks of every test case of every run, predicted in float32, and those of two trivial baselines.

    First table: one row per case, seed and route (LANDMARK_COLUMNS), in native pixels and canonical order; NaN where
    a heatmap has no peak. The confidence of a line is the height of the lower of its two peaks. Second table: how far
    the precision of training would shift each line (training_precision.POINT_CHANGE_COLUMNS). Third table: the
    measured heads of the validation cases (validation.COLUMNS). Fourth and fifth: indicators of the heads of validation
    and test cases, and limits of their flags (quality.table, quality.LIMIT_COLUMNS). Also writes previews and the
    completed model of each run; `trainings` is the folder of 04_training.
    """
    use = (config.flip_average, devices.choose(config.device), params.measuring(config))
    runs = [predict_run(test_set, trainings, fold, seed, *use, live) for fold in config.folds for seed in config.seeds]
    return tuple(pd.concat(tables, ignore_index=True) for tables in zip(*runs))


def predict_run(
    test_set: EvaluationSet,
    trainings: Path,
    fold: int,
    seed: int,
    flip_average: bool,
    device: torch.device,
    measuring: dict[str, Any],
    live: Live | None,
) -> tuple[pd.DataFrame, ...]:
    """`predict_all` for one trained network; `measuring` holds the keys of 06 for the model file."""
    run, arrays, parts = files.run_name(fold, seed), test_set.arrays, test_set.parts(fold)
    weights, rows = trainings / run / "model.safetensors", test_set.rows(parts["test"])
    model = trained_model.load(weights, flip_average, device)
    usual = quality.usual_greys(arrays, parts["train"])
    measured, validated = _validate(test_set, model, test_set.rows(parts["validation"]), measuring, usual, live)
    heads = pd.DataFrame([{"fold": fold, "seed": seed} | row for row in measured], columns=validation.COLUMNS)
    limits = quality.limits_of(heads, validated)
    use = {"flip_average": flip_average, "fold": fold, "seed": seed} | measuring | test_set.dataset.described
    if measuring["head_classes"]:
        use |= {"intervals": intervals.constants(heads), "flags": {"limits": limits, "usual_greys": usual}}
    models.complete(weights, test_set.folder / "models" / f"{run}.safetensors", use)
    points, heights, as_trained, indicators = _locate(test_set, model, rows, (fold, seed), usual, live)
    mappings = [arrays.geometry_of(name) for name in parts["test"]]
    shape = mean_shape(arrays.points[arrays.rows(parts["train"])])  # (4, 2) network pixels
    shapes = [geometry.points_to_native(shape, mapping) for mapping in mappings]
    centres = [np.tile([(m.native_height - 1) / 2, (m.native_width - 1) / 2], (4, 1)) for m in mappings]
    unknown, zero = np.full(heights.shape, np.nan), np.zeros(heights.shape)
    keys = [{"case": row["case"], "subject": row["subject"], "fold": fold, "seed": seed} for row in rows]
    tables = [
        pd.DataFrame(keys)
        .join(pd.DataFrame(np.reshape(ends, (-1, 8)), columns=POINT_COLUMNS))
        .assign(route=route, confidence_ofd=peaks[:, 0], confidence_bpd=peaks[:, 1])[LANDMARK_COLUMNS]
        for route, ends, peaks in zip(ROUTES, (points, shapes, centres), (heights, unknown, zero))
    ]
    shifts = [
        key | {"training_precision": model.about["training_precision"]} | shift
        for key, row, one, other in zip(keys, rows, points, as_trained)
        for shift in training_precision.compare_points(one, other, cases.spacing_mm(row))
    ]
    changes = pd.DataFrame(shifts, columns=training_precision.POINT_CHANGE_COLUMNS)
    of_run = {"fold": fold, "seed": seed}
    tested = [key | {"role": "test", "route": NETWORK} | of_head for key, of_head in zip(keys, indicators)]
    return (
        pd.concat(tables, ignore_index=True),
        changes,
        heads,
        quality.table([*(of_run | row for row in validated), *(tested if measuring["head_classes"] else [])]),
        pd.DataFrame([of_run | {"flag": n, "limit": v} for n, v in limits.items()], columns=quality.LIMIT_COLUMNS),
    )


def _validate(
    test_set: EvaluationSet,
    model: Model,
    rows: list[dict[str, Any]],
    measuring: dict[str, Any],
    usual: list[float],
    live: Live | None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Measured heads of validation cases (`validation.of_points`) and their indicators; none without a head class."""
    rows = rows if measuring["head_classes"] else []
    references = as_arrays(test_set.points, [row["case"] for row in rows])

    def measure(row: dict[str, Any], reference: np.ndarray) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        image, spacing_mm = _image(test_set, row), cases.spacing_mm(row)
        ends, heights = trained_model.landmarks(model, image, spacing_mm)
        key = {"case": row["case"], "subject": row["subject"], "role": "validation", "route": NETWORK}
        of_head = _indicators(model, image, ends, heights, spacing_mm, usual)
        return validation.of_points(row, reference, ends, measuring), key | of_head

    results = trained_model.in_threads(lambda pair: measure(*pair), zip(rows, references))
    known = [each for each in follow(results, len(rows), live, "validation case") if each[0]]
    return [row for heads, _ in known for row in heads], [indicators for _, indicators in known]


def _indicators(
    model: Model,
    image: np.ndarray,
    ends: np.ndarray,
    heights: np.ndarray,
    spacing_mm: tuple[float, float] | None,
    usual: list[float],
) -> dict[str, float]:
    """Indicators of one predicted head and its image."""
    of_lines = head_quality.describe_lines(ends, heights, image.shape, spacing_mm)
    return of_lines | quality.grey_distance(image, model.preparation, usual)


def _locate(
    test_set: EvaluationSet,
    model: Model,
    rows: list[dict[str, Any]],
    run: tuple[int, int],
    usual: list[float],
    live: Live | None,
) -> tuple[np.ndarray, ...]:
    """Native endpoints (N, 4, 2), lower peaks (N, 2), endpoints in the precision of training, and indicators (N,).

    Writes a preview of each image under `run`, fold and seed.
    """
    as_trained = trained_model.as_trained(model)

    def locate(row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, float]]:
        image, spacing_mm = _image(test_set, row), cases.spacing_mm(row)
        ends, heights = trained_model.landmarks(model, image, spacing_mm)
        is_same = as_trained.precision == model.precision
        other = ends if is_same else trained_model.landmarks(as_trained, image, spacing_mm)[0]
        previews.write(test_set, *run, row, image, None)
        return ends, heights, other, _indicators(model, image, ends, heights, spacing_mm, usual)

    located = follow(trained_model.in_threads(locate, rows), len(rows), live, "test case")
    return tuple(np.array(values) for values in zip(*located))


def _image(test_set: EvaluationSet, row: dict[str, Any]) -> np.ndarray:
    return test_set.dataset.read_image(cases.unchanged(row)[0])


def errors_of(test_set: EvaluationSet, predicted: pd.DataFrame) -> pd.DataFrame:
    """Errors of predicted lines (`predict_all`); ValueError if a case has no reference.

    One row per case, seed, route and line (ERROR_COLUMNS): mean distance of the two endpoints from the reference under
    the better of the two pairings, in native pixels, mm and percent of the reference OFD; NaN without an endpoint.
    """
    names, rows = predicted["case"].tolist(), []
    ends = predicted[POINT_COLUMNS].to_numpy(float).reshape(-1, 4, 2)
    spacings_mm = map(cases.spacing_mm, test_set.rows(names))
    prediction_rows = predicted[RUN_COLUMNS].to_dict("records")
    for key, points, reference, size in zip(prediction_rows, ends, as_arrays(test_set.points, names), spacings_mm):
        errors = point_errors(points, reference, size)
        unit = "mm" if size else "px"
        ofd = line_lengths(reference * np.asarray(size or (1.0, 1.0)))[0]
        for line in LINES:
            values = errors[f"{line}_px"], errors[f"{line}_mm"], 100 * errors[f"{line}_{unit}"] / ofd
            rows.append([*key.values(), line, *values])
    return pd.DataFrame(rows, columns=ERROR_COLUMNS)


def is_independent_of_order(test_set: EvaluationSet, predicted: pd.DataFrame) -> bool:
    """Whether swapping the two endpoints of each predicted line changes no error."""
    swapped = predicted.copy()
    swapped[POINT_COLUMNS] = predicted[POINT_COLUMNS].to_numpy(float).reshape(-1, 2, 2, 2)[:, :, ::-1].reshape(-1, 8)
    values = [errors_of(test_set, table)[UNITS].to_numpy(float) for table in (predicted, swapped)]
    return bool(np.allclose(*values, rtol=1e-9, atol=0, equal_nan=True))


def is_canonical(predicted: pd.DataFrame) -> bool:
    """Whether each OFD starts at its left and each BPD at its upper endpoint."""
    points = predicted[POINT_COLUMNS].to_numpy(float).reshape(-1, 4, 2)
    return bool(np.array_equal(points, canonical(points), equal_nan=True))


def heatmaps_of(
    test_set: EvaluationSet, trainings: Path, row: pd.Series, flip_average: bool, device: str
) -> np.ndarray:
    """Heatmaps of both lines of one case at native size, (2, H, W) float32; `row` names case, fold and seed."""
    weights = trainings / files.run_name(row["fold"], row["seed"]) / "model.safetensors"
    model = trained_model.load(weights, flip_average, devices.choose(device))
    (case,) = test_set.rows([row["case"]])
    maps, mapping = trained_model.line_heatmaps(model, _image(test_set, case))
    return geometry.to_native(maps, mapping)
