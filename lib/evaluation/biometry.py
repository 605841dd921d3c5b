"""Heads in millimetres by both routes, beside references and a trivial baseline; shapes of structures; volumes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lib.data import cases, splits
from lib.data.cases import GUESSES, QUANTITIES
from lib.data.dataset import Dataset
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import samples
from lib.imaging import ellipse, head_points, mask_files, shapes
from lib.imaging.head_points import LINES, POINT_COLUMNS
from lib.study import files, parallel

COLUMNS = ["case", "subject", "fold", "seed", "stage", "route", "quantity", "predicted_mm", "reference_mm", "flags"]
PREDICTION_COLUMNS = ["case", "fold", "seed", "stage"]
LANDMARK_COLUMNS = ["case", "subject", "fold", "seed", "route", *POINT_COLUMNS, "confidence_ofd", "confidence_bpd"]
HEAD_COLUMNS = [*LANDMARK_COLUMNS, "stage", "ofd_mm", "bpd_mm"]
SHAPE_COLUMNS = ["case", "subject", "fold", "seed", "class", "source", *shapes.COLUMNS]
SIZE_COLUMNS = ["reference_voxels", "predicted_voxels", "reference_ml", "predicted_ml"]
VOLUME_COLUMNS = ["case", "subject", "fold", "seed", "class", "stage", *SIZE_COLUMNS]
EXCHANGED = "BPD longer than OFD"  # flag; an ellipse cannot have it
NOT_MEASURED = {"ellipse": "no ellipse", "landmark": "no peak"}  # flag of a head without its lines


def read_predictions(test_set: EvaluationSet) -> pd.DataFrame:
    """What 05_evaluation predicted: one row per mask (PREDICTION_COLUMNS), of landmarks with LANDMARK_COLUMNS too.

    ValueError if a table is missing or lacks a column.
    """
    if test_set.points is None:
        written = files.read_csv(test_set.folder / "cases.csv", PREDICTION_COLUMNS)
        return written[PREDICTION_COLUMNS].drop_duplicates()
    return files.read_csv(test_set.folder / "points.csv", LANDMARK_COLUMNS)[LANDMARK_COLUMNS].assign(stage="post")


def _read_mask(test_set: EvaluationSet, prediction: dict[str, Any]) -> np.ndarray:
    return mask_files.read(test_set.predicted(*(prediction[name] for name in ("stage", "fold", "seed", "case"))))


# Heads


def _indices(dataset: Dataset, head_classes: list[str]) -> list[int]:
    """Of the classes whose union is the head; none in a volume."""
    return [] if dataset.volumes else [dataset.classes.index(name) for name in head_classes]


def find_heads(test_set: EvaluationSet, predictions: pd.DataFrame, head_classes: list[str]) -> pd.DataFrame:
    """The two lines of every predicted head: where they end, and how long they are.

    Of a mask they are the axes of the ellipse fitted to the edge of the head, the union of `head_classes`; of landmarks
    the lines between the ends. One row per prediction and route (HEAD_COLUMNS): ends in native pixels, canonical order,
    NaN where there is no head; lengths in mm, NaN also without a pixel size. Empty where the study names no head ([]).
    """
    indices = _indices(test_set.dataset, head_classes)

    def find(prediction: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
        spacing_mm = cases.spacing_mm(case)
        if test_set.points is not None:
            ends = np.array([prediction[name] for name in POINT_COLUMNS], float).reshape(4, 2)
            return prediction | lengths_mm(ends, spacing_mm)
        region = np.isin(_read_mask(test_set, prediction), indices)
        return prediction | {"subject": case["subject"], "route": "ellipse"} | _fit(region, spacing_mm)

    predicted = predictions.to_dict("records") if indices else []
    pairs = zip(predicted, test_set.rows([row["case"] for row in predicted]))
    return pd.DataFrame(parallel.in_parallel(lambda pair: find(*pair), pairs)).reindex(columns=HEAD_COLUMNS)


def lengths_mm(points: np.ndarray, spacing_mm: tuple[float, float] | None) -> dict[str, float]:
    """OFD and BPD of one head in mm, of (4, 2) ends in native pixels; NaN without a pixel size."""
    lengths = head_points.line_lengths_mm(points, spacing_mm) if spacing_mm else dict.fromkeys(LINES, np.nan)
    return {f"{line}_mm": length for line, length in lengths.items()}


def _fit(region: np.ndarray, spacing_mm: tuple[float, float] | None) -> dict[str, float]:
    """Ends and lengths of the axes of one predicted head; nothing where no ellipse can be fitted."""
    unit = spacing_mm or (1.0, 1.0)
    try:
        fitted = ellipse.fit_head(region, unit)
    except ValueError:
        return {}
    ends = dict(zip(POINT_COLUMNS, ellipse.ellipse_endpoints(fitted, unit).ravel().tolist()))
    return ends | ({"ofd_mm": fitted.major, "bpd_mm": fitted.minor} if spacing_mm else {})


def points_of(heads: pd.DataFrame) -> pd.DataFrame:
    """End points after post-processing, in the columns of a landmark study's points.csv, whichever the route."""
    return heads.loc[heads["stage"] == "post", LANDMARK_COLUMNS].reset_index(drop=True)


def _with_pixel_size(test_set: EvaluationSet) -> list[dict[str, Any]]:
    return [row for row in test_set.cases.to_dict("records") if cases.spacing_mm(row)]


def measurable(test_set: EvaluationSet, predictions: pd.DataFrame, head_classes: list[str]) -> set[str]:
    """Predicted cases (`read_predictions`) that show a head and have a pixel size."""
    return {row["case"] for row in _with_pixel_size(test_set) if head_classes} & set(predictions["case"])


def references_of(test_set: EvaluationSet, head_classes: list[str]) -> dict[str, dict[str, float]]:
    """Quantities in mm of each case with a pixel size, whether tested or not; {} where the study names no head."""
    indices = _indices(test_set.dataset, head_classes)
    rows = _with_pixel_size(test_set) if indices else []
    names = [row["case"] for row in rows]
    if test_set.points is not None:
        return dict(zip(names, map(reference_of_points, rows, head_points.as_arrays(test_set.points, names))))
    return dict(zip(names, parallel.in_parallel(lambda row: reference_mm(row, test_set.dataset, indices), rows)))


def reference_mm(row: dict[str, Any], dataset: Dataset, heads: list[int]) -> dict[str, float]:
    """Published quantities of a case; what is not published is measured on its reference mask, of these classes."""
    published = {q: float(row[f"{q}_mm"]) for q in QUANTITIES}
    if np.isfinite(list(published.values())).all():
        return published
    measured = ellipse.measure_head(np.isin(samples.read_mask(dataset, row), heads), cases.spacing_mm(row))
    return {q: published[q] if np.isfinite(published[q]) else measured[q] for q in QUANTITIES}


def reference_of_points(row: dict[str, Any], points: np.ndarray) -> dict[str, float]:
    """Quantities of a case by its published landmarks, (4, 2) in native pixels; the published HC where there is one."""
    measured = ellipse.measure_lines(**lengths_mm(points, cases.spacing_mm(row)))
    return measured | ({"hc": float(row["hc_mm"])} if np.isfinite(row["hc_mm"]) else {})


def measure_all(
    heads: pd.DataFrame,
    references: dict[str, dict[str, float]],
    folds: pd.DataFrame,
    max_axis_ratio: float,
    hc_range_mm: list[float],
) -> pd.DataFrame:
    """BPD, OFD and HC of heads (`find_heads`) that have a reference (`references_of`), and of a guess: COLUMNS.

    The guess is the mean reference of a fold's training cases. A head is flagged if OFD/BPD is above `max_axis_ratio`,
    if HC is outside `hc_range_mm`, [least, largest], or if it cannot be measured (NaN).
    """
    known = heads[heads["case"].isin(references)].to_dict("records")
    rows = [head | row for head in known for row in _measure(head, max_axis_ratio, hc_range_mm)]
    measured = pd.DataFrame(rows, columns=COLUMNS)
    table = pd.concat([measured, baseline(measured, folds, references)], ignore_index=True)
    table["reference_mm"] = [references[case][q] for case, q in zip(table["case"], table["quantity"])]
    return table


def _measure(head: dict[str, Any], max_axis_ratio: float, hc_range_mm: list[float]) -> list[dict[str, Any]]:
    predicted = ellipse.measure_lines(head["ofd_mm"], head["bpd_mm"])
    if head["route"] in GUESSES:
        flags = ""
    elif np.isfinite(predicted["hc"]):
        flags = flags_of(predicted, max_axis_ratio, hc_range_mm)
    else:
        flags = NOT_MEASURED[head["route"]]
    return [{"quantity": q, "predicted_mm": predicted[q], "flags": flags} for q in QUANTITIES]


def flags_of(predicted: dict[str, float], max_axis_ratio: float, hc_range_mm: list[float]) -> str:
    """What is odd about a measured head, '' for nothing; it is kept all the same."""
    bpd, ofd = predicted["bpd"], predicted["ofd"]
    flags = {
        EXCHANGED: bpd > ofd,
        "long": max(bpd, ofd) > max_axis_ratio * min(bpd, ofd),
        "HC out of range": not hc_range_mm[0] <= predicted["hc"] <= hc_range_mm[1],
    }
    return "; ".join(flag for flag, is_raised in flags.items() if is_raised)


def baseline(measured: pd.DataFrame, folds: pd.DataFrame, references: dict[str, dict[str, float]]) -> pd.DataFrame:
    """The guess that looks at no image: the mean reference of each fold's training cases."""
    rows = measured[~measured["route"].isin(GUESSES)].assign(route="baseline", flags="")
    means = {fold: training_mean(folds, fold, references) for fold in sorted(set(rows["fold"]))}
    return rows.assign(predicted_mm=[means[fold][q] for fold, q in zip(rows["fold"], rows["quantity"])])


def training_mean(folds: pd.DataFrame, fold: int, references: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean of each quantity over the training cases of a fold whose size is known; NaN without such a case."""
    train = [references[case] for case in splits.parts(folds, fold)["train"] if case in references]
    return {q: float(np.mean([quantities[q] for quantities in train])) if train else float("nan") for q in QUANTITIES}


def axes_in_order(table: pd.DataFrame) -> bool:
    """Whether BPD <= OFD wherever both were measured by an ellipse."""
    axes = _axes(table, "ellipse")
    return bool((axes["bpd"] <= axes["ofd"]).all())


def exchanged_are_flagged(table: pd.DataFrame) -> bool:
    """Whether every BPD that landmarks make longer than the OFD is flagged as such."""
    axes = _axes(table, "landmark")
    rows = table[(table["route"] == "landmark") & (table["quantity"] == "hc")].set_index(["case", "seed", "stage"])
    flagged_so = rows["flags"].loc[axes.index].map(lambda flags: EXCHANGED in flags).astype(bool)
    return bool((flagged_so == (axes["bpd"] > axes["ofd"])).all())


def _axes(table: pd.DataFrame, route: str) -> pd.DataFrame:
    """Columns bpd and ofd of the heads of which a route found both; by case, seed and stage."""
    rows = table[(table["route"] == route) & table["predicted_mm"].notna()]
    axes = rows.pivot_table(index=["case", "seed", "stage"], columns="quantity", values="predicted_mm")
    return axes.reindex(columns=["bpd", "ofd"]).dropna()


def flagged(table: pd.DataFrame) -> pd.DataFrame:
    """Heads with a flag, with their HC: case, stage, predicted_mm, reference_mm, flags."""
    rows = table[(table["flags"] != "") & (table["quantity"] == "hc")]
    return rows[["case", "stage", "predicted_mm", "reference_mm", "flags"]]


# Structures


def shapes_of_all(test_set: EvaluationSet, predictions: pd.DataFrame) -> pd.DataFrame:
    """Area, bounding box, centroid and form of every structure, predicted (after post-processing) and in the reference.

    One row per case, seed, class and source (SHAPE_COLUMNS); no rows for volumes, and where landmarks are learnt.
    """
    if test_set.dataset.volumes or test_set.points is not None:
        return pd.DataFrame(columns=SHAPE_COLUMNS)

    def describe(case: dict[str, Any], reference: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
        sources = {"reference": reference, "predicted": predicted}
        return [{"source": s} | shapes.describe(region, cases.spacing_mm(case)) for s, region in sources.items()]

    return _measure_masks(test_set, predictions[predictions["stage"] == "post"], describe, SHAPE_COLUMNS)


def volumes_of_all(test_set: EvaluationSet, predictions: pd.DataFrame) -> pd.DataFrame:
    """Size of every structure of every volume, predicted and in the reference; no rows for images.

    One row per case, seed, class and stage (VOLUME_COLUMNS); ml are NaN where the size of a voxel is not known.
    """
    if not test_set.dataset.volumes:
        return pd.DataFrame(columns=VOLUME_COLUMNS)

    def describe(case: dict[str, Any], reference: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
        ml = float(np.prod([case[f"spacing_{axis}_mm"] for axis in ("slice", "row", "col")])) / 1000
        voxels = [int(np.count_nonzero(region)) for region in (reference, predicted)]
        return [dict(zip(SIZE_COLUMNS, (*voxels, *(count * ml for count in voxels))))]

    return _measure_masks(test_set, predictions, describe, VOLUME_COLUMNS)


def _measure_masks(
    test_set: EvaluationSet,
    predictions: pd.DataFrame,
    describe: Callable[[dict[str, Any], np.ndarray, np.ndarray], list[dict[str, Any]]],
    columns: list[str],
) -> pd.DataFrame:
    """Rows of `describe` (manifest row, reference region, predicted region) by class; a reference is read once."""
    names = list(dict.fromkeys(predictions["case"]))
    case_of = dict(zip(names, test_set.rows(names)))

    def measure(group: tuple[str, pd.DataFrame]) -> list[dict[str, Any]]:
        case = case_of[group[0]]
        reference, rows = samples.read_mask(test_set.dataset, case), []
        for prediction in group[1].to_dict("records"):
            predicted = _read_mask(test_set, prediction)
            for index, name in enumerate(test_set.dataset.classes[1:], start=1):
                key = prediction | {"subject": case["subject"], "class": name}
                rows += [key | row for row in describe(case, reference == index, predicted == index)]
        return rows

    measured = parallel.in_parallel(measure, predictions.groupby("case", sort=False))
    return pd.DataFrame([row for rows in measured for row in rows], columns=columns)
