"""Counts of 05_evaluation, pixel by pixel from the predicted masks and the references, where the raw data are here."""

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from lib.data import cases
from lib.report.recompute.results import Results, Row
from lib.study import files, parallel

RUN = ("fold", "seed", "stage")


def differing(results: Results) -> tuple[list[str], list[str]]:
    """Rows of cases.csv and confusion.csv with other counts than the masks; or a note why they were not counted."""
    manifest = {row["case"]: row for row in results.rows("01_data_verification/cases")}
    rows = results.rows("05_evaluation/cases")
    predictions = list(dict.fromkeys((row["case"], *(row[name] for name in RUN)) for row in rows))
    absent = [case for case, *_ in predictions if not (files.ROOT / manifest[case]["image"]).exists()]
    if absent:
        return [], [f"masks were not counted again: {manifest[absent[0]]['image']} is not here"]
    counted = parallel.in_parallel(lambda key: pairs_of(results, manifest[key[0]], *key[1:]), predictions)
    of_prediction = dict(zip(predictions, counted))
    return _cases(results, rows, of_prediction) + _confusion(results, of_prediction), []


def pairs_of(results: Results, case: Row, fold: int, seed: int, stage: str) -> Counter[tuple[int, int]]:
    """Number of pixels by reference and predicted class in one case."""
    suffix = "tif" if results.dataset.volumes else "png"
    path = Path(
        results.folder, "05_evaluation/predictions", stage, f"fold{fold}-seed{seed}", f"{case['case']}.{suffix}"
    )
    with Image.open(path) as image:
        pages = [np.asarray(page) for page in ImageSequence.Iterator(image)]
    predicted = np.stack(pages).ravel()
    reference = results.dataset.read_mask(cases.unchanged(case)[1]).ravel()
    if predicted.shape != reference.shape:
        raise ValueError(f"{path}: {predicted.size} pixels, the reference has {reference.size}")
    counts = np.bincount(reference.astype(np.uint16) * 256 + predicted)
    return Counter({divmod(int(code), 256): int(counts[code]) for code in np.flatnonzero(counts)})


def _cases(results: Results, rows: list[Row], counted: dict[tuple, Counter]) -> list[str]:
    classes, lines = results.study.classes, []
    for place, row in enumerate(rows, start=2):
        pairs, index = counted[row["case"], *(row[name] for name in RUN)], classes.index(row["class"])
        tp, whole = pairs[index, index], sum(pairs.values())
        fn = sum(count for (reference, _), count in pairs.items() if reference == index) - tp
        fp = sum(count for (_, predicted), count in pairs.items() if predicted == index) - tp
        for name, count in {"tp": tp, "fp": fp, "fn": fn, "tn": whole - tp - fp - fn}.items():
            if row[name] != count:
                lines.append(
                    f"05_evaluation/cases.csv, row {place}, column {name}: found {row[name]}, masks have {count}"
                )
    return lines


def _confusion(results: Results, counted: dict[tuple, Counter]) -> list[str]:
    totals: dict[tuple, Counter] = {}
    for (_, *run), pairs in counted.items():
        totals.setdefault(tuple(run), Counter()).update(pairs)
    classes, lines = results.study.classes, []
    for place, row in enumerate(results.rows("05_evaluation/confusion"), start=2):
        pair = classes.index(row["reference"]), classes.index(row["predicted"])
        count = totals[tuple(row[name] for name in RUN)][pair]
        if row["pixels"] != count:
            lines.append(
                f"05_evaluation/confusion.csv, row {place}, column pixels: found {row['pixels']}, masks have {count}"
            )
    return lines
