"""Every test case's landmarks found once, at native size, by a network that never saw its subject; and two guesses."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib import losses, models
from lib.data import cases, splits
from lib.data.evaluation_set import EvaluationSet
from lib.evaluation import training_precision
from lib.evaluation.biometry import FOUND_COLUMNS
from lib.imaging import geometry
from lib.imaging.head_points import LINES, POINT_COLUMNS, as_arrays, canonical, line_lengths, mean_shape, point_errors
from lib.models import devices, trained_model
from lib.models.trained_model import Model
from lib.study import files
from lib.study.params import EvaluationParams

ERROR_COLUMNS = [
    *("case", "subject", "fold", "seed", "route", "line"),
    *("error_px", "error_mm", "normalised_error_percent"),
]
FOUND, SHAPE, BLANK = "landmark", "mean shape", "blank map"  # routes: the network, and two that look at no image


def find_all(chosen: EvaluationParams, test_set: EvaluationSet, trainings: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The landmarks of every test case of every run, found in float32, and those of two guesses.

    Each run's model is written with what its use needs, models/<run>.safetensors.

    Args:
        chosen: the keys of 05_evaluation; its folds and seeds name the runs.
        test_set: cases, and their arrays, of which the guesses are made.
        trainings: folder of 04_training.

    Returns:
        A row a case x seed x route (FOUND_COLUMNS), native pixels, canonical order of ends; NaN where a heatmap shows
        no peak. The confidence of a line is the lower of the heights of its two peaks. And how far the precision of
        training would move each line (training_precision.POINT_CHANGE_COLUMNS).
    """
    how = (chosen.flip_average, devices.choose(chosen.device))
    runs = [
        find_run(test_set, trainings / files.run_name(fold, seed) / "model.safetensors", fold, seed, *how)
        for fold in chosen.folds
        for seed in chosen.seeds
    ]
    found, moved = (pd.concat(tables, ignore_index=True) for tables in zip(*runs))
    return found, moved


def find_run(
    test_set: EvaluationSet, weights: Path, fold: int, seed: int, flip_average: bool, device: torch.device
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`find_all` of one trained network."""
    model = trained_model.load(weights, flip_average, device)
    use = {"flip_average": flip_average}
    models.complete(weights, test_set.folder / "models" / f"{files.run_name(fold, seed)}.safetensors", use)
    parts = splits.parts(test_set.folds, fold)
    names, mappings = parts["test"], [test_set.arrays.geometry_of(name) for name in parts["test"]]
    points, heights, rough = locate(test_set, model, names)
    shape = mean_shape(test_set.arrays.points[test_set.arrays.rows(parts["train"])])  # (4, 2) network pixels
    shapes = [geometry.points_to_native(shape, mapping) for mapping in mappings]
    middles = [np.tile([(m.native_height - 1) / 2, (m.native_width - 1) / 2], (4, 1)) for m in mappings]
    unknown = np.full(heights.shape, np.nan)
    routes = ((FOUND, points, heights), (SHAPE, shapes, unknown), (BLANK, middles, np.zeros(heights.shape)))
    found = [_rows(test_set, names, fold, seed, *route) for route in routes]
    return pd.concat(found, ignore_index=True), _moved(test_set, model, found[0], rough)


def locate(test_set: EvaluationSet, model: Model, names: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Landmarks of some cases, from their files.

    Returns:
        Native ends (N, 4, 2), the lower peak of each line (N, 2), and the ends in the precision of training (N, 4, 2).
    """
    rows = test_set.cases.set_index("case", drop=False).loc[names].to_dict("records")
    rough, found = trained_model.as_trained(model), []
    for name, image in zip(names, trained_model.in_threads(lambda row: _image(test_set, row), rows)):
        size = test_set.spacing_mm(name)
        ends, heights = trained_model.landmarks(model, image, size)
        same = rough.precision == model.precision
        found.append((ends, heights, ends if same else trained_model.landmarks(rough, image, size)[0]))
    points, heights, others = (np.array(each) for each in zip(*found))
    return points, heights, others


def _image(test_set: EvaluationSet, row: dict[str, Any]) -> np.ndarray:
    return test_set.dataset.read_image(cases.unchanged(row)[0])


def _moved(test_set: EvaluationSet, model: Model, found: pd.DataFrame, rough: np.ndarray) -> pd.DataFrame:
    """How far the precision of training moves the lines of one run (training_precision.POINT_CHANGE_COLUMNS)."""
    other = found.copy()
    other[POINT_COLUMNS] = rough.reshape(-1, 8)
    spacing = {name: test_set.spacing_mm(name) for name in found["case"]}
    key = found.loc[found.index.repeat(len(LINES)), ["case", "subject", "fold", "seed"]].reset_index(drop=True)
    moved = pd.DataFrame(
        training_precision.compare_points(found, other, spacing), columns=training_precision.POINT_CHANGE_COLUMNS[-3:]
    )
    key["training_precision"] = model.about["training_precision"]
    return pd.concat([key, moved], axis=1)


def _rows(
    test_set: EvaluationSet, names: list[str], fold: int, seed: int, route: str, points: np.ndarray, heights: np.ndarray
) -> pd.DataFrame:
    table = pd.DataFrame(np.reshape(points, (-1, 8)), columns=POINT_COLUMNS)
    table[["confidence_ofd", "confidence_bpd"]] = heights
    subjects = test_set.cases.set_index("case").loc[names, "subject"].to_numpy()
    return table.assign(case=names, subject=subjects, fold=fold, seed=seed, route=route)[FOUND_COLUMNS]


def errors_of(test_set: EvaluationSet, found: pd.DataFrame) -> pd.DataFrame:
    """How far predicted lines lie from the reference's.

    Args:
        test_set: cases and their reference.
        found: from `find_all`.

    Returns:
        A row a case x seed x route x line (ERROR_COLUMNS): mean distance of the line's two ends under the better of
        the two pairings, in native pixels and mm, and in percent of the reference's OFD (in mm where the pixel size
        is known). NaN where an end is missing.

    Raises:
        ValueError: a case has no reference.
    """
    names = list(dict.fromkeys(found["case"]))
    reference = dict(zip(names, as_arrays(test_set.points, names)))
    spacing = {name: test_set.spacing_mm(name) for name in names}
    rows = []
    for row, ends in zip(found.to_dict("records"), found[POINT_COLUMNS].to_numpy(float).reshape(-1, 4, 2)):
        there, unit = reference[row["case"]], spacing[row["case"]]
        off = point_errors(ends, there, unit)
        scale, measure = ((1.0, 1.0), "px") if unit is None else (unit, "mm")
        ofd = line_lengths(there * np.asarray(scale))[0]
        key = {name: row[name] for name in ERROR_COLUMNS[:5]}
        for line in LINES:
            share = 100 * off[f"{line}_{measure}"] / ofd
            rows.append([*key.values(), line, off[f"{line}_px"], off[f"{line}_mm"], share])
    return pd.DataFrame(rows, columns=ERROR_COLUMNS)


def is_free_of_order(test_set: EvaluationSet, found: pd.DataFrame) -> bool:
    """Whether no error changes when the ends of each predicted line change places."""
    turned = found.copy()
    turned[POINT_COLUMNS] = found[POINT_COLUMNS].to_numpy(float).reshape(-1, 2, 2, 2)[:, :, ::-1].reshape(-1, 8)
    values = [errors_of(test_set, each)[ERROR_COLUMNS[6:]].to_numpy(float) for each in (found, turned)]
    return bool(np.allclose(*values, rtol=1e-9, atol=0, equal_nan=True))


def is_canonical(found: pd.DataFrame) -> bool:
    """Whether the left end of each line is its first."""
    points = found[POINT_COLUMNS].to_numpy(float).reshape(-1, 4, 2)
    return bool(np.array_equal(points, canonical(points), equal_nan=True))


def heatmap_losses(folds: list[int], seeds: list[int], trainings: Path) -> pd.DataFrame:
    """What each run's kept epoch scored on validation, beside what a network that shows nothing scores.

    Args:
        folds, seeds: of the runs.
        trainings: folder of 04_training.

    Returns:
        fold, seed, kept_epoch, heatmap_loss, blank_map_loss, validation_error_percent (of the OFD).
    """
    rows = []
    for fold in folds:
        for seed in seeds:
            path = trainings / files.run_name(fold, seed) / "history.csv"
            history = files.read_csv(path, ["epoch", "validation_loss", "validation_error_percent", "best"])
            kept = history[history["best"].astype(bool)].iloc[-1]
            rows.append(
                {
                    "fold": fold,
                    "seed": seed,
                    "kept_epoch": int(kept["epoch"]),
                    "heatmap_loss": float(kept["validation_loss"]),
                    "blank_map_loss": losses.BLANK_LOSS,
                    "validation_error_percent": float(kept["validation_error_percent"]),
                }
            )
    return pd.DataFrame(rows)


def heatmaps_of(
    test_set: EvaluationSet, trainings: Path, row: pd.Series, flip_average: bool, device: str
) -> np.ndarray:
    """Heatmaps of both lines of one case at native size, (2, H, W) float32; as `segmentation.probability_map`."""
    weights = trainings / files.run_name(row["fold"], row["seed"]) / "model.safetensors"
    model = trained_model.load(weights, flip_average, devices.choose(device))
    case = test_set.cases.set_index("case", drop=False).loc[row["case"]]
    maps, mapping = trained_model.line_heatmaps(model, _image(test_set, case))
    return geometry.to_native(maps, mapping)
