"""Test cases that failed, joined with what is known of them: size, contrast, place in the frame, group, findings.

A prediction fails by limits that are the same for every study. The worst cases are listed even if none failed.
"""

import textwrap
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
import pandas as pd

from lib.data import cases
from lib.data.cases import TRIVIAL_BASELINES
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import samples
from lib.evaluation.ranking import mask_result
from lib.imaging import mask_files, surroundings
from lib.imaging.class_colours import printed_name
from lib.imaging.head_points import LINES, POINT_COLUMNS, as_arrays
from lib.study import parallel

LOW_DICE = 0.7  # of a class; two expert readers of a brain tumour are reported to agree at about 0.84
GROSS_PERCENT = 5.0  # of the reference (lines: OFD); limits of BPD on stored images are below it (Napolitano 2016)
FEWEST = 5  # failed cases, or cases with a property and without: fewer cannot tell of a cause
WORST = 12  # cases listed, if fewer than FEWEST failed, even though they did not: as many as a sheet shows
WORST_SHARE = 0.25  # but no more than this share of the cases
NOTE_WIDTH = 26  # letters above a close-up
KEEP = "\u00a0"  # non-breaking space
WHOLE = "all classes"  # the union of all classes; with a space, so it is the name of no class

KINDS = {"Dice": ["low Dice", "missed", "invented"]}  # of failures, by metric
KINDS |= {"endpoint error": ["gross error", "missed"], "measurement error": ["gross error", "not measured"]}
NOT_FAILED = "worst"
RUN = ["case", "subject", "fold", "seed"]
STRUCTURE_COLUMNS = ["case", "class", "share_percent", "area_mm2", "volume_ml", "contrast", "gap_percent"]
PROPERTY_COLUMNS = ["case", "group", "hc_mm", "spacing_mm", "share_percent", "contrast", "gap_percent", "lacking"]
PROPERTY_COLUMNS += ["findings"]
SCORE_COLUMNS = [*RUN, "item", "metric", "value", "score", "kind", "result"]
FAILURE_COLUMNS = [*RUN, "item", "metric", "value", "kind", "result", *STRUCTURE_COLUMNS[2:]]
FAILURE_COLUMNS += ["group", "hc_mm", "spacing_mm", "lacking", "findings"]


def structures_of(test_set: EvaluationSet, names: Sequence[str]) -> pd.DataFrame:
    """Size, contrast and distance from the frame of each reference structure of the named cases: STRUCTURE_COLUMNS.

    One row per case and class, and one for the union of all (WHOLE). The share is that of all pixels; contrast is as
    in `surroundings.contrast`, on the displayed channel; the distance is in percent of the shorter side of the frame.
    A class that is absent has a share of 0 and nothing else; sizes need a pixel (voxel) size.
    """
    dataset = test_set.dataset

    def measure(row: dict[str, Any]) -> list[dict[str, Any]]:
        image, mask = test_set.read_case(row)
        displayed = image[..., dataset.display_channel] if dataset.volumes else image
        regions = {name: mask == index for index, name in enumerate(dataset.classes) if index}
        known = {name: describe(displayed, region, row) for name, region in regions.items()}
        known[WHOLE] = known[dataset.classes[1]] if len(regions) == 1 else describe(displayed, mask > 0, row)
        return [{"case": row["case"], "class": name} | values for name, values in known.items()]

    measured = parallel.in_parallel(measure, test_set.rows(list(names)))
    return pd.DataFrame([row for rows in measured for row in rows], columns=STRUCTURE_COLUMNS)


def describe(image: np.ndarray, region: np.ndarray, row: Mapping[str, Any]) -> dict[str, float]:
    """One row of `structures_of` from an image and region, (H, W) or (D, H, W), and the sizes of a manifest row."""
    pixels, is_volume = int(np.count_nonzero(region)), region.ndim == 3
    known = {"share_percent": 100 * pixels / region.size, "area_mm2": np.nan, "volume_ml": np.nan}
    if pixels:
        mm2 = float(row["spacing_row_mm"]) * float(row["spacing_col_mm"])
        amount = pixels * mm2
        known |= {"volume_ml": amount * row["spacing_slice_mm"] / 1000} if is_volume else {"area_mm2": amount}
    gap = surroundings.border_gap(region.any(axis=0) if is_volume else region)
    return known | {"contrast": surroundings.contrast(image, region), "gap_percent": 100 * gap}


def properties(
    long: pd.DataFrame, structures: pd.DataFrame, manifest: pd.DataFrame, findings: pd.DataFrame
) -> pd.DataFrame:
    """What is known of each case of a long table (as for `scores`): PROPERTY_COLUMNS, NaN where it is unknown.

    For masks, share, contrast (magnitude) and distance from the frame are the least among the structures in the
    reference, because a case is judged by its worst class; otherwise they are those of the union of all classes.
    `lacking` names classes absent from the reference, `findings` those of 01, which `manifest` and `findings` are from.
    """
    names = list(dict.fromkeys(scores(long)["case"]))
    by_class = "class" in long
    parts = structures[(structures["class"] != WHOLE) == by_class]
    shown = parts[parts["share_percent"] > 0].assign(contrast=parts["contrast"].abs()).groupby("case")
    about = manifest.set_index("case").assign(group=lambda table: cases.group_of(table["stratum"])).loc[names]
    table = shown[["share_percent", "contrast", "gap_percent"]].min().reindex(names)
    table = table.assign(group=about["group"], hc_mm=about["hc_mm"].astype(float))
    table["spacing_mm"] = np.sqrt(about["spacing_row_mm"].astype(float) * about["spacing_col_mm"].astype(float))
    absent = parts[parts["share_percent"] == 0] if by_class else parts.head(0)
    for column, rows, text in (("lacking", absent, "class"), ("findings", findings, "check")):
        joined = rows.groupby("case", sort=False)[text].agg(lambda each: "; ".join(dict.fromkeys(each)))
        table[column] = joined.reindex(names).fillna("")
    return table.rename_axis("case").reset_index()[PROPERTY_COLUMNS]


def scores(long: pd.DataFrame) -> pd.DataFrame:
    """Every prediction of a long table with its score, the worst first, and how it failed: SCORE_COLUMNS.

    `long` is cases.csv of 05_evaluation (masks after post-processing, or lines) or measurements.csv of 06_biometry;
    trivial baselines are left out. `kind` is one of KINDS, "" if the prediction did not fail. A missing line or
    measurement has an infinite score; a class that is absent from both masks has none, since nothing can be worse.
    """
    if "class" in long:
        rows = _of_masks(long[long["stage"] == "post"])
    else:
        network = long[~long["route"].isin(TRIVIAL_BASELINES)]
        rows = _of_lines(network) if "line" in long else _of_heads(network)
    ordered = rows.sort_values(["score", "case", "item"], ascending=[False, True, True], kind="stable")
    return ordered.reindex(columns=SCORE_COLUMNS).reset_index(drop=True)


def _of_masks(rows: pd.DataFrame) -> pd.DataFrame:
    in_reference, in_prediction = rows["tp"] + rows["fn"] > 0, rows["tp"] + rows["fp"] > 0
    failed = [in_reference & ~in_prediction, ~in_reference & in_prediction, rows["dice"] < LOW_DICE]
    kinds = np.select(failed, ["missed", "invented", "low Dice"], "")
    table = rows[RUN].assign(item=rows["class"], metric="Dice", value=rows["dice"], score=1 - rows["dice"], kind=kinds)
    return table.assign(result=[mask_result(row) for row in rows.to_dict("records")])


def _of_lines(rows: pd.DataFrame) -> pd.DataFrame:
    return _of_errors(rows, "line", "endpoint error", rows["normalised_error_percent"], "{:.1f} %")


def _of_heads(rows: pd.DataFrame) -> pd.DataFrame:
    known = rows[(rows["stage"] == "post") & rows["reference_mm"].notna()]
    percent = 100 * (known["predicted_mm"] - known["reference_mm"]) / known["reference_mm"]
    return _of_errors(known, "quantity", "measurement error", percent, "{:+.1f} %")


def _of_errors(rows: pd.DataFrame, item: str, metric: str, percent: pd.Series, form: str) -> pd.DataFrame:
    """Rows of `scores` from errors in percent, NaN where there is no prediction."""
    gross, missing = KINDS[metric]
    kinds = np.select([percent.isna(), percent.abs() > GROSS_PERCENT], [missing, gross], "")
    texts = [missing if np.isnan(value) else form.format(value).replace("-", "−") for value in percent]
    results = [f"{printed_name(name)} {text}" for name, text in zip(rows[item], texts)]
    score = percent.abs().fillna(np.inf)
    return rows[RUN].assign(item=rows[item], metric=metric, value=percent, score=score, kind=kinds, result=results)


def listed(long: pd.DataFrame) -> pd.DataFrame:
    """Rows of `scores`, one per case, the worst first: every case with a failure; if fewer than FEWEST, the worst too.

    The row is that of the case's worst prediction; `result` names all that failed. The worst are WORST cases, at most
    WORST_SHARE of all, and have a score; of those that did not fail, `kind` is NOT_FAILED.
    """
    every = scores(long)
    failed = every[every["kind"] != ""]
    of_case = every.drop_duplicates("case").reset_index(drop=True)
    enough = (of_case["kind"] != "").sum() >= FEWEST
    count = 0 if enough else min(WORST, ceil(WORST_SHARE * len(of_case)))
    kept = of_case[(of_case["kind"] != "") | (of_case["score"].notna() & (of_case.index < count))]
    texts = failed.groupby("case")["result"].agg(lambda each: ", ".join(dict.fromkeys(each)))
    kind = kept["kind"].replace("", NOT_FAILED)
    return kept.assign(
        kind=kind, result=texts.reindex(kept["case"]).fillna(kept.set_index("case")["result"]).to_numpy()
    )


def failures(long: pd.DataFrame, known: pd.DataFrame, structures: pd.DataFrame) -> pd.DataFrame:
    """The cases of `listed` with their structure (WHOLE for heads and lines) and `properties`: FAILURE_COLUMNS."""
    rows = listed(long)
    rows["class"] = rows["item"] if "class" in long else WHOLE
    joined = rows.merge(structures, on=["case", "class"], how="left", validate="one_to_one")
    about = known[["case", *(name for name in FAILURE_COLUMNS if name in known and name not in STRUCTURE_COLUMNS)]]
    return joined.merge(about, on="case", how="left", validate="one_to_one")[FAILURE_COLUMNS]


def mask_close_ups(
    test_set: EvaluationSet, rows: pd.DataFrame, head_classes: Sequence[str] = ()
) -> list[samples.Overlay]:
    """Rows of `failures` around the thickest place of their error, with masks of 0 and 1: the class of the row, or the
    union of `head_classes`. Of a volume, the slice with the largest error.
    """
    return [_mask_close_up(test_set, row, head_classes or [row["item"]]) for row in rows.to_dict("records")]


def _mask_close_up(test_set: EvaluationSet, row: dict[str, Any], names: Sequence[str]) -> samples.Overlay:
    dataset, (case,) = test_set.dataset, test_set.rows([row["case"]])
    image, reference = test_set.read_case(case)
    predicted = mask_files.read(test_set.predicted("post", row["fold"], row["seed"], row["case"]))
    indices = [dataset.classes.index(name) for name in names]
    masks = np.stack([np.isin(mask, indices) for mask in (reference, predicted)])
    if dataset.volumes:
        at = int(np.count_nonzero(masks[0] != masks[1], axis=(1, 2)).argmax())
        image, masks = np.ascontiguousarray(image[at, ..., dataset.display_channel]), masks[:, at]
    error = masks[0] != masks[1]
    *centre, thickness = surroundings.thickest_place(error if error.any() else masks[0])
    part = _window(image, centre, 4 * thickness)
    crops = [np.ascontiguousarray(mask[part]).view(np.uint8) for mask in masks]
    return samples.Overlay(row["case"], image[part], *crops, cases.spacing_mm(case), _wrapped(row["result"]))


def line_close_ups(test_set: EvaluationSet, rows: pd.DataFrame, landmarks: pd.DataFrame) -> list[samples.Overlay]:
    """Rows of `failures` around the farther endpoint of their line; around the whole line if it was missed.

    `landmarks` is points.csv of 05_evaluation.
    """
    network = landmarks[~landmarks["route"].isin(TRIVIAL_BASELINES)].set_index(["case", "seed"])
    loaded = samples.load(test_set.dataset, test_set.cases, rows["case"].tolist())
    references = as_arrays(test_set.points, loaded.names)
    keys = zip(rows["case"], rows["seed"])
    predicted = [network.loc[key, POINT_COLUMNS].to_numpy(float).reshape(4, 2) for key in keys]
    notes = map(_wrapped, rows["result"])
    columns = loaded.names, loaded.images, references, predicted, loaded.spacings_mm, notes, rows["item"]
    return [_line_close_up(samples.Overlay(*values), item) for *values, item in zip(*columns)]


def _line_close_up(whole: samples.Overlay, line: str) -> samples.Overlay:
    at = slice(2 * LINES.index(line), 2 * LINES.index(line) + 2)
    reference = whole.reference[at]
    pairings = whole.predicted[at], whole.predicted[at][::-1]
    ends = min(pairings, key=lambda each: np.linalg.norm(each - reference, axis=1).sum())
    distances = np.linalg.norm(ends - reference, axis=1)
    if np.isnan(distances).any():
        centre, side = reference.mean(axis=0), 1.2 * np.linalg.norm(reference[1] - reference[0])
    else:
        far = int(distances.argmax())
        centre, side = (ends[far] + reference[far]) / 2, 2 * distances[far]
    part = _window(whole.image, centre, side)
    corner = np.array([axis.start for axis in part])
    points = whole.reference - corner, whole.predicted - corner
    return samples.Overlay(whole.name, whole.image[part], *points, whole.spacing_mm, whole.note)


def _wrapped(result: str) -> str:
    """In lines no wider than an image of a sheet, broken between results, and inside one only if it is wider."""
    results = [text.replace(" ", KEEP) if len(text) < NOTE_WIDTH else text for text in result.split(", ")]
    return textwrap.fill(", ".join(results), NOTE_WIDTH).replace(KEEP, " ")


def _window(image: np.ndarray, centre: Sequence[float], side: float) -> tuple[slice, slice]:
    """At least a third of the shorter side, so that the surroundings are recognised."""
    return surroundings.window(image.shape, (centre[0], centre[1]), max(side, min(image.shape) / 3))
