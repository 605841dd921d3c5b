"""Heads in millimetres by both routes, against references and knowing nothing; shapes of structures; volumes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lib.data import cases, splits
from lib.data.cases import GUESSES, QUANTITIES
from lib.data.dataset import Dataset
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import samples
from lib.imaging import ellipse, head_points, mask_files, shapes
from lib.imaging.ellipse import ends_of_ellipse, fit_head
from lib.imaging.head_points import POINT_COLUMNS, line_lengths_mm
from lib.study import files, parallel
from lib.study.params import BiometryParams

COLUMNS = ["case", "subject", "fold", "seed", "stage", "route", "quantity", "predicted_mm", "reference_mm", "flags"]
FOUND_COLUMNS = ["case", "subject", "fold", "seed", "route", *POINT_COLUMNS, "confidence_ofd", "confidence_bpd"]
HEAD_COLUMNS = [*FOUND_COLUMNS, "stage", "ofd_mm", "bpd_mm"]
SHAPE_COLUMNS = ["case", "subject", "fold", "seed", "class", "source", *shapes.COLUMNS]
VOLUME_COLUMNS = [
    *("case", "subject", "fold", "seed", "class", "stage"),
    *("reference_voxels", "predicted_voxels", "reference_ml", "predicted_ml"),
]
EXCHANGED = "BPD longer than OFD"  # flag; an ellipse cannot have it
NOT_MEASURED = {"ellipse": "no ellipse", "landmark": "no peak"}  # flag of a head without its lines


@dataclass(frozen=True)
class Predictions:
    """What 05_evaluation left to be measured: masks or landmarks.

    Attributes:
        test_set: cases, their references, and where the predicted masks lie.
        tested: a row a prediction: case, fold, seed, stage.
        classes: names in index order, background first.
        head_classes: those whose union is the head; [] where no head is shown.
        max_axis_ratio: OFD/BPD above which a head is flagged.
        hc_range_mm: [least, largest] plausible HC; outside is flagged.
        found: predicted landmarks in native pixels (FOUND_COLUMNS); None where regions are learnt.
    """

    test_set: EvaluationSet
    tested: pd.DataFrame
    classes: list[str]
    head_classes: list[str]
    max_axis_ratio: float
    hc_range_mm: list[float]
    found: pd.DataFrame | None = None

    @property
    def heads(self) -> list[int]:
        """Indices of the classes that make up the head; none in a volume."""
        if self.test_set.dataset.volumes:
            return []
        return [self.classes.index(name) for name in self.head_classes]

    @property
    def measurable(self) -> set[str]:
        """Tested cases that show a head and have a pixel size."""
        cases = self.test_set.cases
        known = set(cases.loc[cases["spacing_row_mm"].notna(), "case"]) if self.heads else set()
        return known & set(self.tested["case"])

    def mask(self, row: dict[str, Any]) -> np.ndarray:
        """The predicted mask of a row of `tested`."""
        return mask_files.read(self.test_set.predicted(row["stage"], row["fold"], row["seed"], row["case"]))


def read_predictions(chosen: BiometryParams, test_set: EvaluationSet) -> Predictions:
    """What a study's 05_evaluation predicted.

    Raises:
        ValueError: a table is missing or lacks a column.
    """
    key = ["case", "fold", "seed", "stage"]
    keys = (chosen.classes, chosen.head_classes, chosen.max_axis_ratio, chosen.hc_range_mm)
    if test_set.points is None:
        tested = files.read_csv(test_set.folder / "cases.csv", key)[key].drop_duplicates()
        return Predictions(test_set, tested, *keys)
    found = files.read_csv(test_set.folder / "points.csv", FOUND_COLUMNS)
    tested = found.assign(stage="post")[key].drop_duplicates()
    return Predictions(test_set, tested, *keys, found=found[FOUND_COLUMNS])


# Heads


def find_heads(predictions: Predictions) -> pd.DataFrame:
    """The two lines of every predicted head: where they end, and how long they are.

    Of a mask they are the axes of the ellipse fitted to its edge, of landmarks the lines between the ends.

    Returns:
        A row a prediction and route (HEAD_COLUMNS): ends in native pixels, canonical order, NaN where there is no
        head; lengths in mm, NaN also without a pixel size. Empty where the study names no head.
    """
    if not predictions.heads:
        return pd.DataFrame(columns=HEAD_COLUMNS)
    about = predictions.test_set.cases.set_index("case")
    spacing = {name: cases.spacing_mm(row) for name, row in about.iterrows()}
    if predictions.found is None:
        subject, rows = about["subject"], predictions.tested.to_dict("records")
        lines = parallel.in_parallel(lambda row: _fit(predictions, row, spacing[row["case"]]), rows)
        rows = [row | {"subject": subject[row["case"]], "route": "ellipse"} | line for row, line in zip(rows, lines)]
        return pd.DataFrame(rows).reindex(columns=HEAD_COLUMNS)
    ends = predictions.found[POINT_COLUMNS].to_numpy(float).reshape(-1, 4, 2)
    lines = [lengths_mm(points, spacing[case]) for case, points in zip(predictions.found["case"], ends)]
    lengths = {f"{name}_mm": [line[name] for line in lines] for name in ("ofd", "bpd")}
    return predictions.found.assign(stage="post", **lengths)[HEAD_COLUMNS]


def lengths_mm(points: np.ndarray, spacing_mm: tuple[float, float] | None) -> dict[str, float]:
    """OFD and BPD of one head in mm, of (4, 2) ends in native pixels; NaN without a pixel size."""
    return {"ofd": np.nan, "bpd": np.nan} if spacing_mm is None else line_lengths_mm(points, spacing_mm)


def _fit(predictions: Predictions, row: dict[str, Any], spacing_mm: tuple[float, float] | None) -> dict[str, float]:
    """Ends and lengths of the axes of one predicted head; nothing where no ellipse can be fitted."""
    region, unit = np.isin(predictions.mask(row), predictions.heads), spacing_mm or (1.0, 1.0)
    try:
        ellipse = fit_head(region, unit)
    except ValueError:
        return {}
    ends = dict(zip(POINT_COLUMNS, ends_of_ellipse(ellipse, unit).ravel().tolist()))
    return ends | ({"ofd_mm": ellipse.major, "bpd_mm": ellipse.minor} if spacing_mm else {})


def points_of(heads: pd.DataFrame) -> pd.DataFrame:
    """End points after post-processing, in the columns of a landmark study's points.csv, whichever the route."""
    return heads.loc[heads["stage"] == "post", FOUND_COLUMNS].reset_index(drop=True)


def measure_all(predictions: Predictions, heads: pd.DataFrame) -> pd.DataFrame:
    """BPD, OFD and HC of every predicted head, beside references and guesses.

    Args:
        predictions: what is measured.
        heads: from `find_heads`.

    Returns:
        The long table (COLUMNS); a case without a pixel size has no row, a head that cannot be measured has NaN and a
        flag. Landmarks have the rows of the guesses that come with them; both routes have the mean of the training
        references ("baseline"). Where the study names no head it is empty.
    """
    if heads.empty:
        return pd.DataFrame(columns=COLUMNS)
    references = references_of(predictions)
    rows = heads[heads["case"].isin(references)].to_dict("records")
    limits = (predictions.max_axis_ratio, predictions.hc_range_mm)
    long = [row for head in rows for row in _measure(head, *limits)]
    measured = pd.DataFrame(long, columns=[name for name in COLUMNS if name != "reference_mm"])
    both = pd.concat([measured, baseline(measured, predictions.test_set.folds, references)], ignore_index=True)
    both["reference_mm"] = [references[case][q] for case, q in zip(both["case"], both["quantity"])]
    return both[COLUMNS]


def _measure(head: dict[str, Any], max_axis_ratio: float, hc_range_mm: list[float]) -> list[dict[str, Any]]:
    found = ellipse.measure_lines(head["ofd_mm"], head["bpd_mm"])
    flags = ""
    if head["route"] not in GUESSES:
        whole = np.isfinite(found["hc"])
        flags = flags_of(found, max_axis_ratio, hc_range_mm) if whole else NOT_MEASURED[head["route"]]
    key = {name: head[name] for name in ("case", "subject", "fold", "seed", "stage", "route")}
    return [key | {"quantity": q, "predicted_mm": found[q], "flags": flags} for q in QUANTITIES]


def references_of(predictions: Predictions) -> dict[str, dict[str, float]]:
    """Quantities in mm of each case with a pixel size, whether tested or not."""
    known = predictions.test_set.cases[predictions.test_set.cases["spacing_row_mm"].notna()]
    rows = [row for _, row in known.iterrows()]
    if predictions.test_set.points is not None:
        ends = head_points.as_arrays(predictions.test_set.points, known["case"].tolist())
        return {row["case"]: reference_of_points(row, points) for row, points in zip(rows, ends)}
    measured = parallel.in_parallel(
        lambda row: reference_mm(row, predictions.test_set.dataset, predictions.heads), rows
    )
    return dict(zip(known["case"], measured))


def reference_mm(row: pd.Series, dataset: Dataset, heads: list[int]) -> dict[str, float]:
    """Published quantities of a case; what is not published is measured on the reference mask."""
    published = {q: float(row[f"{q}_mm"]) for q in QUANTITIES}
    if all(np.isfinite(value) for value in published.values()):
        return published
    region = np.isin(samples.read_mask(dataset, row), heads)
    measured = ellipse.measure_head(region, (row["spacing_row_mm"], row["spacing_col_mm"]))
    return {q: published[q] if np.isfinite(published[q]) else measured[q] for q in QUANTITIES}


def reference_of_points(row: pd.Series, points: np.ndarray) -> dict[str, float]:
    """Quantities of a case by its published landmarks, (4, 2) in native pixels; the published HC where there is one."""
    lines = line_lengths_mm(points, (row["spacing_row_mm"], row["spacing_col_mm"]))
    measured = ellipse.measure_lines(lines["ofd"], lines["bpd"])
    return measured | ({"hc": float(row["hc_mm"])} if np.isfinite(row["hc_mm"]) else {})


def flags_of(found: dict[str, float], max_axis_ratio: float, hc_range_mm: list[float]) -> str:
    """What is odd about a measured head, '' for nothing; it is kept all the same."""
    flags, shorter, longer = [], *sorted([found["bpd"], found["ofd"]])
    if found["bpd"] > found["ofd"]:
        flags.append(EXCHANGED)
    if longer > max_axis_ratio * shorter:
        flags.append("long")
    if not hc_range_mm[0] <= found["hc"] <= hc_range_mm[1]:
        flags.append("HC out of range")
    return "; ".join(flags)


def baseline(measured: pd.DataFrame, folds: pd.DataFrame, references: dict[str, dict[str, float]]) -> pd.DataFrame:
    """The guess that looks at no image: the mean reference of each fold's training cases."""
    rows = measured[~measured["route"].isin(GUESSES)].copy()
    means = {fold: training_mean(folds, fold, references) for fold in sorted(set(rows["fold"]))}
    rows["route"], rows["flags"] = "baseline", ""
    rows["predicted_mm"] = [means[fold][q] for fold, q in zip(rows["fold"], rows["quantity"])]
    return rows


def training_mean(folds: pd.DataFrame, fold: int, references: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean of each quantity over the training cases of a fold whose size is known."""
    train = [references[case] for case in splits.parts(folds, fold)["train"] if case in references]
    return {q: float(np.mean([each[q] for each in train])) if train else float("nan") for q in QUANTITIES}


def axes_in_order(table: pd.DataFrame) -> bool:
    """Whether BPD <= OFD wherever both were measured by an ellipse."""
    axes = _axes(table, "ellipse")
    return bool((axes["bpd"] <= axes["ofd"]).all())


def exchanged_are_flagged(table: pd.DataFrame) -> bool:
    """Whether every BPD that landmarks make longer than the OFD is flagged as such."""
    axes = _axes(table, "landmark")
    rows = table[(table["route"] == "landmark") & (table["quantity"] == "hc")].set_index(["case", "seed", "stage"])
    flags = rows["flags"].loc[axes.index]
    said = flags.map(lambda text: EXCHANGED in text).astype(bool)
    return bool((said == (axes["bpd"] > axes["ofd"])).all())


def _axes(table: pd.DataFrame, route: str) -> pd.DataFrame:
    """Columns bpd and ofd of the heads of which a route found both; by case, seed and stage."""
    rows = table[(table["route"] == route) & table["predicted_mm"].notna()]
    axes = rows.pivot_table(index=["case", "seed", "stage"], columns="quantity", values="predicted_mm")
    return axes.reindex(columns=["bpd", "ofd"]).dropna()


def flagged(table: pd.DataFrame) -> pd.DataFrame:
    """Heads with a flag, a row each, with their HC: case, stage, predicted_mm, reference_mm, flags."""
    rows = table[(table["flags"] != "") & (table["quantity"] == "hc")]
    return rows[["case", "stage", "predicted_mm", "reference_mm", "flags"]]


# Structures


def shapes_of_all(predictions: Predictions) -> pd.DataFrame:
    """Area, bounding box, centroid and form of every structure, predicted (after post-processing) and in the reference.

    Returns:
        A row a case x seed x class x source (SHAPE_COLUMNS); a class that is not shown has 0 parts. No rows for
        volumes, and where landmarks are learnt.
    """
    if predictions.test_set.dataset.volumes or predictions.found is not None:
        return pd.DataFrame(columns=SHAPE_COLUMNS)

    def measure(case: pd.Series, row: dict[str, Any], reference: np.ndarray) -> list[dict[str, Any]]:
        spacing = cases.spacing_mm(case)
        shown = {"reference": reference, "predicted": predictions.mask(row)}
        key = {"case": row["case"], "subject": case["subject"], "fold": row["fold"], "seed": row["seed"]}
        return [
            key | {"class": name, "source": source} | shapes.describe(mask == index, spacing)
            for index, name in enumerate(predictions.classes[1:], start=1)
            for source, mask in shown.items()
        ]

    return _measure_masks(
        predictions, predictions.tested[predictions.tested["stage"] == "post"], measure, SHAPE_COLUMNS
    )


def volumes_of_all(predictions: Predictions) -> pd.DataFrame:
    """Size of every structure of every volume, predicted (both stages) and in the reference.

    Returns:
        A row a case x seed x class x stage (VOLUME_COLUMNS), ml where the size of a voxel is known. No rows for images.
    """
    if not predictions.test_set.dataset.volumes:
        return pd.DataFrame(columns=VOLUME_COLUMNS)

    def measure(case: pd.Series, row: dict[str, Any], reference: np.ndarray) -> list[dict[str, Any]]:
        ml = float(np.prod([case[f"spacing_{axis}_mm"] for axis in ("slice", "row", "col")])) / 1000  # NaN: not known
        predicted = predictions.mask(row)
        key = {"case": row["case"], "subject": case["subject"]} | {
            name: row[name] for name in ("fold", "seed", "stage")
        }
        counts = [
            (name, int(np.count_nonzero(reference == index)), int(np.count_nonzero(predicted == index)))
            for index, name in enumerate(predictions.classes[1:], start=1)
        ]
        return [
            key | {"class": name} | dict(zip(VOLUME_COLUMNS[-4:], (there, found, there * ml, found * ml)))
            for name, there, found in counts
        ]

    return _measure_masks(predictions, predictions.tested, measure, VOLUME_COLUMNS)


def _measure_masks(
    predictions: Predictions,
    tested: pd.DataFrame,
    measure: Callable[[pd.Series, dict[str, Any], np.ndarray], list[dict[str, Any]]],
    columns: list[str],
) -> pd.DataFrame:
    """Rows of `measure` (manifest row, prediction, reference mask) for each prediction; a reference is read once."""
    about = predictions.test_set.cases.set_index("case")

    def measure_case(group: tuple[str, pd.DataFrame]) -> list[dict[str, Any]]:
        name, rows = group
        reference = samples.read_mask(predictions.test_set.dataset, about.loc[name])
        return [row for each in rows.to_dict("records") for row in measure(about.loc[name], each, reference)]

    measured = parallel.in_parallel(measure_case, tested.groupby("case", sort=False))
    return pd.DataFrame([row for each in measured for row in each], columns=columns)
