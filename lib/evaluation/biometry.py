"""Head biometry in millimetres with references and a trivial baseline, shapes of structures, volumes of lesions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.data import cases, splits
from lib.data.cases import QUANTITIES, TRIVIAL_BASELINES
from lib.data.dataset import Dataset
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import samples
from lib.evaluation import quality
from lib.imaging import ellipse, head_points, shapes
from lib.imaging.head_points import LINES, POINT_COLUMNS
from lib.imaging.regions import region_of
from lib.study import files, parallel

COLUMNS = ["case", "subject", "fold", "seed", "stage", "route", "quantity", "predicted_mm", "reference_mm", "flags"]
PREDICTION_COLUMNS = ["case", "fold", "seed", "stage"]
LANDMARK_COLUMNS = ["case", "subject", "fold", "seed", "route", *POINT_COLUMNS, "confidence_ofd", "confidence_bpd"]
HEAD_COLUMNS = [*LANDMARK_COLUMNS, "stage", "ofd_mm", "bpd_mm"]
SHAPE_COLUMNS = ["case", "subject", "fold", "seed", "class", "source", *shapes.COLUMNS]
WIDTHS = ("csp", "lv")  # structures whose width across their own axis is measured clinically
WIDTH_COLUMNS = ["case", "subject", "fold", "seed", "class", "part", "reference_mm", "predicted_mm", "outcome"]
SIZE_COLUMNS = ["reference_voxels", "predicted_voxels", "reference_ml", "predicted_ml"]
VOLUME_COLUMNS = ["case", "subject", "fold", "seed", "class", "stage", *SIZE_COLUMNS]
BPD_LONGER = "BPD longer than OFD"  # flag of the landmark route; impossible for the axes of an ellipse
NOT_MEASURED = {"ellipse": "no ellipse", "landmark": "no peak"}  # flag of a head that cannot be measured
NO_PIXEL_SIZE = "no pixel size"  # flag of a head whose endpoints are known in pixels only


def read_predictions(test_set: EvaluationSet) -> pd.DataFrame:
    """Predictions of 05_evaluation, one row per mask or landmark head; ValueError if a table or column is missing.

    ValueError, too, unless its rows are one for each test case of the tested folds (`_require_test_cases`). In a quick
    pass only those of its test cases: 05 may have evaluated all.
    """
    is_landmark = test_set.points is not None
    name, columns = ("points.csv", LANDMARK_COLUMNS) if is_landmark else ("cases.csv", PREDICTION_COLUMNS)
    table = files.read_csv(test_set.folder / name, [*columns, *([] if is_landmark else ["class"])])
    written = table[columns]
    if test_set.limited is not None:
        used = {(fold, case) for fold, parts in test_set.limited.items() for case in parts["test"]}
        kept = [key in used for key in zip(written["fold"], written["case"])]
        table, written = table[kept], written[kept]
    kinds = ["fold", "seed", *(["route"] if is_landmark else ["stage", "class"])]
    _require_test_cases(test_set, table, kinds, test_set.folder / name)
    return written.assign(stage="post") if is_landmark else written.drop_duplicates()


def _require_test_cases(test_set: EvaluationSet, table: pd.DataFrame, kinds: list[str], path: Path) -> None:
    """ValueError unless each group of `kinds`, fold first, has exactly one row for every test case of its fold."""
    for values, rows in table.groupby(kinds):
        group, expected = dict(zip(kinds, values)), test_set.parts(values[0])["test"]
        faults = {
            "two rows for": rows.loc[rows.duplicated("case"), "case"],
            "no row for": [case for case in expected if case not in set(rows["case"])],
            "a row for": [case for case in rows["case"] if case not in set(expected)],
        }
        for fault, names in faults.items():
            if len(names):
                named = ", ".join(f"{kind} {value}" for kind, value in group.items())
                advice = "expected one row for each test case of the fold; rerun 05_evaluation"
                raise ValueError(f"{path}: {fault} {', '.join(list(names)[:3])} ({named}); {advice}")
    unknown = sorted(set(table.get("class", [])) - set(test_set.dataset.classes[1:]))
    if unknown:
        raise ValueError(
            f"{path}, column class: {', '.join(unknown)}; expected {', '.join(test_set.dataset.classes[1:])}"
        )


def _read_mask(test_set: EvaluationSet, prediction: dict[str, Any]) -> np.ndarray:
    return test_set.read_predicted(*(prediction[name] for name in ("stage", "fold", "seed", "case")))


def class_indices(dataset: Dataset, head_classes: list[str]) -> list[int]:
    """Indices of the classes whose union is the head; [] for volumes."""
    return [] if dataset.volumes else [dataset.classes.index(name) for name in head_classes]


def find_heads(test_set: EvaluationSet, predictions: pd.DataFrame, head_classes: list[str]) -> pd.DataFrame:
    """Endpoints (native pixels, canonical order) and lengths of OFD and BPD, one row per prediction: HEAD_COLUMNS.

    In a mask, they are the axes of the ellipse fitted to the edge of the head, the union of `head_classes` ([]: no
    rows); with landmarks, the lines between the endpoints. NaN without a head; lengths also without a pixel size.
    """
    indices = class_indices(test_set.dataset, head_classes)

    def find(prediction: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
        spacing_mm = cases.spacing_mm(case)
        if test_set.points is not None:
            points = np.array([prediction[name] for name in POINT_COLUMNS], float).reshape(4, 2)
            return prediction | lengths_mm(points, spacing_mm)
        region = region_of(_read_mask(test_set, prediction), indices)
        return prediction | {"subject": case["subject"], "route": "ellipse"} | axes_of(region, spacing_mm)

    predicted = predictions.to_dict("records") if indices else []
    pairs = zip(predicted, test_set.rows([row["case"] for row in predicted]))
    return pd.DataFrame(parallel.in_parallel(lambda pair: find(*pair), pairs)).reindex(columns=HEAD_COLUMNS)


def lengths_mm(points: np.ndarray, spacing_mm: tuple[float, float] | None) -> dict[str, float]:
    """`ofd_mm` and `bpd_mm` of one head from its (4, 2) endpoints in native pixels; NaN without a pixel size."""
    lengths = head_points.line_lengths_mm(points, spacing_mm) if spacing_mm else dict.fromkeys(LINES, np.nan)
    return {f"{line}_mm": length for line, length in lengths.items()}


def axes_of(region: np.ndarray, spacing_mm: tuple[float, float] | None) -> dict[str, float]:
    """Endpoints and lengths of the axes of one predicted head; {} if no ellipse can be fitted."""
    unit = spacing_mm or (1.0, 1.0)
    try:
        fitted = ellipse.fit_head(region, unit)
    except ValueError:
        return {}
    points = dict(zip(POINT_COLUMNS, ellipse.ellipse_endpoints(fitted, unit).ravel().tolist()))
    return points | ({"ofd_mm": fitted.major, "bpd_mm": fitted.minor} if spacing_mm else {})


def points_of(heads: pd.DataFrame) -> pd.DataFrame:
    """Endpoints after post-processing, in the columns of a landmark study's points.csv for both routes."""
    return heads.loc[heads["stage"] == "post", LANDMARK_COLUMNS].reset_index(drop=True)


def _with_pixel_size(test_set: EvaluationSet) -> list[dict[str, Any]]:
    return [row for row in test_set.cases.to_dict("records") if cases.spacing_mm(row)]


def measurable(test_set: EvaluationSet, predictions: pd.DataFrame, head_classes: list[str]) -> set[str]:
    """Predicted cases with a pixel size; none if `head_classes` is []."""
    return {row["case"] for row in _with_pixel_size(test_set) if head_classes} & set(predictions["case"])


def references_of(test_set: EvaluationSet, head_classes: list[str]) -> dict[str, dict[str, float]]:
    """Reference quantities in mm of every case with a pixel size, tested or not; {} if `head_classes` is []."""
    indices = class_indices(test_set.dataset, head_classes)
    rows = _with_pixel_size(test_set) if indices else []
    names = [row["case"] for row in rows]
    if test_set.points is not None:
        return dict(zip(names, map(reference_of_points, rows, head_points.as_arrays(test_set.points, names))))
    return dict(zip(names, parallel.in_parallel(lambda row: reference_mm(row, test_set.dataset, indices), rows)))


def reference_mm(row: dict[str, Any], dataset: Dataset, heads: list[int]) -> dict[str, float]:
    """Published BPD, OFD and HC of a case; those not published are measured on its reference mask (classes `heads`)."""
    return reference_of_region(row, lambda: region_of(samples.read_mask(dataset, row), heads))


def reference_of_region(row: dict[str, Any], read_region: Callable[[], np.ndarray]) -> dict[str, float]:
    """`reference_mm` from a function that returns the reference head, (H, W) bool; called only if it is needed."""
    published = {q: float(row[f"{q}_mm"]) for q in QUANTITIES}
    if np.isfinite(list(published.values())).all():
        return published
    measured = ellipse.measure_head(read_region(), cases.spacing_mm(row))
    return {q: published[q] if np.isfinite(published[q]) else measured[q] for q in QUANTITIES}


def reference_of_points(row: dict[str, Any], points: np.ndarray) -> dict[str, float]:
    """BPD, OFD and HC of a case from published landmarks, (4, 2) in native pixels; HC as published if available."""
    measured = ellipse.measure_lines(**lengths_mm(points, cases.spacing_mm(row)))
    return measured | ({"hc": float(row["hc_mm"])} if np.isfinite(row["hc_mm"]) else {})


def measure_all(
    heads: pd.DataFrame,
    references: dict[str, dict[str, float]],
    folds: pd.DataFrame,
    max_axis_ratio: float,
    hc_range_mm: list[float],
    raised: Mapping[quality.Key, Sequence[str]],
) -> pd.DataFrame:
    """BPD, OFD and HC of heads (`find_heads`) with a reference (`references_of`), and of a trivial baseline: COLUMNS.

    The baseline is the mean reference of a fold's training cases. A head is flagged if the ratio of its axes is above
    `max_axis_ratio`, if its HC is outside `hc_range_mm`, [minimum, maximum], or if it cannot be measured (NaN); after
    post-processing also by the flags `raised` (`quality.raised_by_head`).
    """
    known = heads[heads["case"].isin(references)].to_dict("records")
    limits = (max_axis_ratio, hc_range_mm)
    more = [raised.get(quality.key_of(head), []) if head["stage"] == "post" else [] for head in known]
    rows = [head | row for head, flags in zip(known, more) for row in measure(head, *limits, flags)]
    measured = pd.DataFrame(rows, columns=COLUMNS)
    table = pd.concat([measured, baseline(measured, folds, references)], ignore_index=True)
    table["reference_mm"] = [references[case][q] for case, q in zip(table["case"], table["quantity"])]
    return table


def measure(
    head: dict[str, Any], max_axis_ratio: float, hc_range_mm: list[float], raised: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Rows of one head with `route`, `ofd_mm` and `bpd_mm` (NaN if not measured): quantity, predicted_mm, flags.

    `raised` are flags raised by its indicators (`quality.raised`), which follow those of its measurements.
    """
    predicted = ellipse.measure_lines(head["ofd_mm"], head["bpd_mm"])
    if head["route"] in TRIVIAL_BASELINES:
        own = []
    elif np.isfinite(predicted["hc"]):
        own = flags_of(predicted, max_axis_ratio, hc_range_mm)
    else:
        has_ends = np.isfinite([head.get(name, np.nan) for name in POINT_COLUMNS]).all()
        own = [NO_PIXEL_SIZE if has_ends else NOT_MEASURED[head["route"]]]
    flags = "; ".join(dict.fromkeys([*own, *raised]))
    return [{"quantity": q, "predicted_mm": predicted[q], "flags": flags} for q in QUANTITIES]


def flags_of(predicted: dict[str, float], max_axis_ratio: float, hc_range_mm: list[float]) -> list[str]:
    """Flags of the measurements of a head; a flagged head is kept."""
    bpd, ofd = predicted["bpd"], predicted["ofd"]
    flags = {
        BPD_LONGER: bpd > ofd,
        quality.ELONGATED: max(bpd, ofd) > max_axis_ratio * min(bpd, ofd),
        "HC out of range": not hc_range_mm[0] <= predicted["hc"] <= hc_range_mm[1],
    }
    return [flag for flag, is_raised in flags.items() if is_raised]


def baseline(measured: pd.DataFrame, folds: pd.DataFrame, references: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Rows of the trivial baseline, which ignores the image: the mean reference of each fold's training cases."""
    rows = measured[~measured["route"].isin(TRIVIAL_BASELINES)].assign(route="baseline", flags="")
    means = {fold: training_mean(folds, fold, references) for fold in sorted(set(rows["fold"]))}
    return rows.assign(predicted_mm=[means[fold][q] for fold, q in zip(rows["fold"], rows["quantity"])])


def training_mean(folds: pd.DataFrame, fold: int, references: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean of each quantity over the training cases of a fold that have a reference; NaN if there are none."""
    train = [references[case] for case in splits.parts(folds, fold)["train"] if case in references]
    return {q: float(np.mean([quantities[q] for quantities in train])) if train else float("nan") for q in QUANTITIES}


def axes_in_order(table: pd.DataFrame) -> bool:
    """Whether BPD <= OFD wherever both were measured by an ellipse."""
    axes = _axes(table, "ellipse")
    return bool((axes["bpd"] <= axes["ofd"]).all())


def longer_bpd_is_flagged(table: pd.DataFrame) -> bool:
    """Whether exactly those landmark heads whose BPD is longer than their OFD are flagged for it."""
    axes = _axes(table, "landmark")
    rows = table[(table["route"] == "landmark") & (table["quantity"] == "hc")].set_index(["case", "seed", "stage"])
    is_flagged = rows["flags"].loc[axes.index].map(lambda flags: BPD_LONGER in flags).astype(bool)
    return bool((is_flagged == (axes["bpd"] > axes["ofd"])).all())


def _axes(table: pd.DataFrame, route: str) -> pd.DataFrame:
    """Columns bpd and ofd of the heads with both, by case, seed and stage."""
    rows = table[(table["route"] == route) & table["predicted_mm"].notna()]
    axes = rows.pivot_table(index=["case", "seed", "stage"], columns="quantity", values="predicted_mm")
    return axes.reindex(columns=["bpd", "ofd"]).dropna()


def flagged(table: pd.DataFrame) -> pd.DataFrame:
    """Flagged heads after post-processing with their HC: case, predicted_mm, reference_mm, flags."""
    rows = table[(table["flags"] != "") & (table["quantity"] == "hc") & (table["stage"] == "post")]
    return rows[["case", "predicted_mm", "reference_mm", "flags"]]


def structures_of_all(test_set: EvaluationSet, predictions: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Shape of every structure, predicted (post) and reference, and widths of the connected parts of WIDTHS.

    SHAPE_COLUMNS, and WIDTH_COLUMNS with one row per part (`shapes.match_parts`) of the images with a pixel size. None
    for volumes and landmarks.
    """
    if test_set.dataset.volumes or test_set.points is not None:
        return pd.DataFrame(columns=SHAPE_COLUMNS), pd.DataFrame(columns=WIDTH_COLUMNS)

    def describe(case: dict[str, Any], name: str, reference: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
        spacing_mm, sources = cases.spacing_mm(case), {"reference": reference, "predicted": predicted}
        parts = shapes.match_parts(reference, predicted, spacing_mm) if name in WIDTHS and spacing_mm else []
        described = [{"source": s} | shapes.describe(region, spacing_mm) for s, region in sources.items()]
        return described + [{"part": number} | vars(part) for number, part in enumerate(parts, start=1)]

    rows = _measure_masks(test_set, predictions[predictions["stage"] == "post"], describe)
    described, widths = ([row for row in rows if key in row] for key in ("source", "part"))
    return pd.DataFrame(described, columns=SHAPE_COLUMNS), pd.DataFrame(widths, columns=WIDTH_COLUMNS)


def volumes_of_all(test_set: EvaluationSet, predictions: pd.DataFrame) -> pd.DataFrame:
    """Volume of every structure, predicted and reference: VOLUME_COLUMNS, ml NaN without a voxel size; none in 2-D."""
    if not test_set.dataset.volumes:
        return pd.DataFrame(columns=VOLUME_COLUMNS)

    def describe(case: dict[str, Any], _: str, reference: np.ndarray, predicted: np.ndarray) -> list[dict[str, Any]]:
        ml = float(np.prod(cases.sample_mm(case, is_volume=True) or np.nan)) / 1000
        voxels = [int(np.count_nonzero(region)) for region in (reference, predicted)]
        return [dict(zip(SIZE_COLUMNS, (*voxels, *(count * ml for count in voxels))))]

    return pd.DataFrame(_measure_masks(test_set, predictions, describe), columns=VOLUME_COLUMNS)


def _measure_masks(
    test_set: EvaluationSet,
    predictions: pd.DataFrame,
    describe: Callable[[dict[str, Any], str, np.ndarray, np.ndarray], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Rows of `describe(manifest row, class, reference region, predicted region)` for every prediction and class."""
    names = list(dict.fromkeys(predictions["case"]))
    case_of = dict(zip(names, test_set.rows(names)))

    def measure(group: tuple[str, pd.DataFrame]) -> list[dict[str, Any]]:
        case = case_of[group[0]]
        reference, rows = samples.read_mask(test_set.dataset, case), []
        for prediction in group[1].to_dict("records"):
            predicted = _read_mask(test_set, prediction)
            for index, name in enumerate(test_set.dataset.classes[1:], start=1):
                key = prediction | {"subject": case["subject"], "class": name}
                rows += [key | row for row in describe(case, name, reference == index, predicted == index)]
        return rows

    measured = parallel.in_parallel(measure, predictions.groupby("case", sort=False))
    return [row for rows in measured for row in rows]
