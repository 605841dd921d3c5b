"""Test cases ranked from worst to best, masks by Dice and landmarks by error, and overlays of selected cases."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lib.data.cases import TRIVIAL_BASELINES
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import samples
from lib.imaging.class_colours import printed_name
from lib.imaging.head_points import LINES, POINT_COLUMNS, as_arrays


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """One row of cases.csv (05_evaluation) per test case and seed, the worst first.

    For masks, it is the row of the case's lowest class Dice after post-processing, correctly absent classes left out;
    for landmarks, a row of `by_case`, with missed lines first.
    """
    if "line" in table:
        rows, score, ties = by_case(table), "error_percent", ["case"]
    else:
        rows, score, ties = table[(table["stage"] == "post") & table["dice"].notna()], "dice", ["case", "class"]
    ascending = [score == "dice"] + [True] * len(ties)
    ordered = rows.sort_values([score, *ties], ascending=ascending, na_position="first", kind="stable")
    return ordered.drop_duplicates(["case", "seed"]).reset_index(drop=True)


def by_case(errors: pd.DataFrame) -> pd.DataFrame:
    """Errors of the network by case and seed; `error_percent`, their mean in % of OFD, is NaN if a line is missed."""
    rows = errors[~errors["route"].isin(TRIVIAL_BASELINES)]
    values = ["error_mm", "error_px", "normalised_error_percent"]
    wide = rows.pivot(index=["case", "fold", "seed"], columns="line", values=values)
    table = pd.DataFrame({f"{line}_{unit}": wide[f"error_{unit}"][line] for unit in ("mm", "px") for line in LINES})
    table["error_percent"] = wide["normalised_error_percent"].mean(axis=1, skipna=False)
    return table.reset_index()


def around_median(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` rows around the median of a ranked table; for masks, among those whose class is in the reference."""
    if "tp" in rows:
        rows = rows[rows["tp"] + rows["fn"] > 0]
    first = max(0, (len(rows) - count) // 2)
    return rows.iloc[first : first + count]


def is_complete(table: pd.DataFrame, test_set: EvaluationSet, tested_folds: list[int]) -> bool:
    """Whether the rows cover exactly the test cases of the tested folds, each under its own fold."""
    expected = [(case, fold) for fold in tested_folds for case in test_set.parts(fold)["test"]]
    return sorted(expected) == sorted(map(tuple, table[["case", "fold"]].drop_duplicates().values))


def overlays(
    test_set: EvaluationSet, rows: pd.DataFrame, landmarks: pd.DataFrame | None = None
) -> list[samples.Overlay]:
    """Overlays of rows of `ranked` with their scores, of predicted `landmarks` (points.csv) if given, else of masks."""
    loaded = samples.load(test_set.dataset, test_set.cases, rows["case"].tolist())
    if landmarks is None:
        reference, predicted = loaded.masks, _masks(test_set, rows, loaded.slices)
        notes = [mask_result(row) for row in rows.to_dict("records")]
    else:
        reference, predicted = as_arrays(test_set.points, loaded.names), _endpoints(rows, landmarks)
        notes = [_errors(row, size is not None) for row, size in zip(rows.to_dict("records"), loaded.spacings_mm)]
    columns = loaded.names, loaded.images, reference, predicted, loaded.spacings_mm, notes
    return [samples.Overlay(*values) for values in zip(*columns)]


def mask_result(row: Mapping[str, Any]) -> str:
    """The result of a class (a row of cases.csv) in words: "LV invented", "LV missed", "LV absent" or "LV 0.912"."""
    name, in_reference, in_prediction = printed_name(row["class"]), row["tp"] + row["fn"] > 0, row["tp"] + row["fp"] > 0
    if not in_reference:
        return f"{name} {'invented' if in_prediction else 'absent'}"
    return f"{name} {row['dice']:.3f}" if in_prediction else f"{name} missed"


def _masks(test_set: EvaluationSet, rows: pd.DataFrame, slices: list[int]) -> list[np.ndarray]:
    """Predicted masks after post-processing; for volumes the slice that is displayed."""
    keys = zip(rows["fold"], rows["seed"], rows["case"])
    masks = [test_set.read_predicted("post", *key) for key in keys]
    return [mask[at] if mask.ndim == 3 else mask for mask, at in zip(masks, slices)]


def _endpoints(rows: pd.DataFrame, landmarks: pd.DataFrame) -> np.ndarray:
    """Landmarks predicted by the network, (N, 4, 2), one head per row."""
    by_run = landmarks[~landmarks["route"].isin(TRIVIAL_BASELINES)].set_index(["case", "seed"])
    return by_run.loc[list(zip(rows["case"], rows["seed"])), POINT_COLUMNS].to_numpy(float).reshape(-1, 4, 2)


def _errors(row: dict[str, Any], in_mm: bool) -> str:
    """Errors of a case as text, such as "OFD 1.20 mm, BPD missed"."""
    unit, word = ("mm", "mm") if in_mm else ("px", "pixels")
    errors = {line.upper(): row[f"{line}_{unit}"] for line in LINES}
    return ", ".join(f"{line} missed" if np.isnan(e) else f"{line} {e:.2f} {word}" for line, e in errors.items())
