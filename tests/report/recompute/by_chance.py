"""Synthetic studies as those of `builders_report`, of more cases and seeds and with numbers drawn by chance."""

import itertools

import numpy as np
import pandas as pd
import pytest

from lib import metrics
from lib.datasets import of
from lib.evaluation import biometry, boundaries, error_budget, failures, intervals, landmarks, segmentation, validation
from lib.study import params
from tests import builders_report

SEEDS = (0, 1)


def write_study(study: params.Study, seed: int, patch: pytest.MonkeyPatch) -> None:
    """Writes a study whose long tables have all cases, two seeds of each, and random numbers, a tenth missing."""
    draw = np.random.default_rng(seed)
    keys = [key | {"seed": each} for key in cases_of(study) for each in SEEDS]
    drawn = {"tested": keys, "counted": counted(study, keys, draw), "structures": structures(study, draw)}
    drawn |= {"errors_of": errors(keys, draw), "measured": measured(study, keys, draw)}
    drawn |= {"widths_of": widths(study, keys, draw), "budget_of": budget(study, keys, draw)}
    drawn["validated"] = validated(study, draw)
    drawn["measured"] = intervals.with_limits(drawn["measured"], intervals.of_runs(drawn["validated"]))
    for name, table in drawn.items():
        patch.setattr(builders_report, name, lambda _, table=table: table.copy())
    builders_report.write_study(study)


def cases_of(study: params.Study) -> list[dict]:
    manifest = builders_report.manifest_of(study)
    return [{"case": case, "subject": subject, "fold": 0} for case, subject in manifest[["case", "subject"]].values]


def counted(study: params.Study, keys: list[dict], draw: np.random.Generator) -> pd.DataFrame:
    rows, unit = [], "mm" if study.head_classes else "px"
    for key, name, stage in itertools.product(keys, study.classes[1:], ("raw", "post")):
        tp, fp, fn = draw.integers(0, 900, 3) * draw.permutation([1, 1, draw.random() > 0.3])
        one = metrics.Overlap(int(tp), int(fp), int(fn), 1000)
        row = key | {"class": name, "stage": stage} | vars(one) | {f"diagonal_{unit}": draw.uniform(90, 110)}
        row |= {each: getattr(one, each) for each in ("dice", "iou", "size_error_percent")}
        row |= dict(zip(boundaries.PART_COLUMNS, [*np.sort(draw.integers(1, 4, 2))[::-1], 2, int(draw.integers(0, 3))]))
        if tp + fp > 0 and tp + fn > 0:
            row |= {f"{length}_{unit}": draw.gamma(2, 3) for length in boundaries.LENGTHS} | {"nsd": draw.random()}
        rows.append(row)
    return pd.DataFrame(rows).reindex(columns=segmentation.COLUMNS)


def structures(study: params.Study, draw: np.random.Generator) -> pd.DataFrame:
    names = [*study.classes[1:], failures.WHOLE]
    rows = [(key["case"], name) for key in cases_of(study) for name in names]
    table = pd.DataFrame(rows, columns=["case", "class"])
    table["share_percent"] = draw.uniform(0, 20, len(table)) * (draw.random(len(table)) > 0.1)
    table["contrast"], table["gap_percent"] = draw.normal(0, 1, len(table)), draw.uniform(0, 5, len(table))
    absent = table["share_percent"] == 0
    table.loc[absent, ["contrast", "gap_percent"]] = np.nan
    return table.reindex(columns=failures.STRUCTURE_COLUMNS)


def errors(keys: list[dict], draw: np.random.Generator) -> pd.DataFrame:
    rows, routes = [], (landmarks.NETWORK, landmarks.MEAN_SHAPE, landmarks.BLANK_MAP)
    for key, route, line in itertools.product(keys, routes, ("ofd", "bpd")):
        rows.append([*key.values(), route, line, *(draw.gamma(2, 2, 3) * (1 if draw.random() > 0.1 else np.nan))])
    return pd.DataFrame(rows, columns=landmarks.ERROR_COLUMNS)


def measured(study: params.Study, keys: list[dict], draw: np.random.Generator) -> pd.DataFrame:
    """Heads within and outside the growth chart, whose errors grow with size."""
    routes = ["landmark", "baseline", "mean shape"] if study.learns_landmarks else ["ellipse", "baseline"]
    sizes = {key["case"]: draw.uniform(0.5, 2) for key in keys}
    rows, quantities = [], (("bpd", 50.0), ("ofd", 65.0), ("hc", 180.0))
    for key, (quantity, size), route in itertools.product(keys, quantities if study.head_classes else (), routes):
        mm = size * sizes[key["case"]]
        predicted = mm * draw.normal(1.02, 0.04) if draw.random() > 0.1 else np.nan
        flags = draw.choice(["", "", "", "elongated", "uncertain outline; two regions", "two regions"])
        rows.append([*key.values(), "post", route, quantity, predicted, mm, flags])
    columns = ["case", "subject", "fold", "seed", "stage", "route", "quantity", "predicted_mm", "reference_mm", "flags"]
    return pd.DataFrame(rows, columns=columns).reindex(columns=biometry.COLUMNS)


def validated(study: params.Study, draw: np.random.Generator) -> pd.DataFrame:
    """Heads of 40 subjects with up to three images each, some not measured; of the last seed too few for a bound."""
    rows, quantities = [], ("bpd", "ofd", "hc") if study.head_classes else ()
    for seed, subjects in zip(SEEDS, (40, 8)):
        names = [f"v{n}" for n in range(subjects) for _ in range(draw.integers(1, 4))]
        for (place, subject), quantity in itertools.product(enumerate(names), quantities):
            mm = draw.uniform(50, 300)
            predicted = mm * draw.normal(1.02, 0.04) if draw.random() > 0.02 else np.nan
            key = {"case": f"c{place}", "subject": subject, "fold": 0, "seed": seed, "stage": "post", "route": "any"}
            rows.append(key | {"quantity": quantity, "predicted_mm": predicted, "reference_mm": mm, "flags": ""})
    return pd.DataFrame(rows, columns=validation.COLUMNS)


def widths(study: params.Study, keys: list[dict], draw: np.random.Generator) -> pd.DataFrame:
    names = [name for name in study.classes if name in biometry.WIDTHS and not study.learns_landmarks]
    rows, wide = [], {key["case"]: draw.uniform(6, 14) for key in keys}
    for key, name in itertools.product(keys, names):
        mm = wide[key["case"]]
        is_missed = draw.random() < 0.1
        values = [mm, np.nan, "missed"] if is_missed else [mm, mm + draw.normal(), "both"]
        rows.append([*key.values(), name, 1, *values])
    return pd.DataFrame(rows, columns=biometry.WIDTH_COLUMNS)


def budget(study: params.Study, keys: list[dict], draw: np.random.Generator) -> pd.DataFrame:
    of_heads = keys if study.head_classes and of(study).phantom else []
    rows = []
    for key in of_heads:
        parts = draw.normal(0.2, 1, 4) * (1 if draw.random() > 0.1 else np.nan)
        rows.append([*key.values(), "ellipse", *parts, parts.sum()])
    return pd.DataFrame(rows, columns=error_budget.COLUMNS)
