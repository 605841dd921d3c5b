"""Results of every test case, as rows of text for the report's appendix."""

from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from lib.data.cases import TRIVIAL_BASELINES
from lib.evaluation import ranking
from lib.imaging.class_colours import printed_name
from lib.report import tables

MOST_CASES = 200  # of more, only the worst are printed
WORST_CASES = 50
KEY = ["case", "subject", "fold", "seed"]
MISSED, INVENTED = "missed", "invented"


def every_case(errors: pd.DataFrame, measurements: pd.DataFrame) -> dict[str, Any]:
    """Results after post-processing, one row per prediction in the order of 05, or of many cases the worst, as text.

    Args:
        errors: cases.csv of 05_evaluation.
        measurements: measurements.csv of 06_biometry; may be without rows.

    Returns:
        cases (their number), unit ("mm" or "px"), items (printed names of the classes or lines) and rows: case,
        subject, fold, seed, anchor (of the gallery), `values` (Dice of each class, or endpoint error of each line),
        `distances` (HD95 of each class) and, if heads were measured, `hc`: reference, predicted, error, interval (mm)
        and flags.
    """
    is_line = "line" in errors
    rows = errors[~errors["route"].isin(TRIVIAL_BASELINES)] if is_line else errors[errors["stage"] == "post"]
    total, item = rows["case"].nunique(), "line" if is_line else "class"
    distance = "error" if is_line else "hd95"
    unit = "mm" if rows[f"{distance}_mm"].notna().any() else "px"
    heads = _heads(measurements)
    keys = list(dict.fromkeys(rows[KEY].itertuples(index=False, name=None)))
    if total > MOST_CASES:
        worst = ranking.ranked(errors).head(WORST_CASES)[["case", "seed"]].itertuples(index=False, name=None)
        by_prediction = {(key[0], key[3]): key for key in keys}
        keys = [by_prediction[each] for each in worst]
    of_key = dict(list(rows.groupby(KEY, sort=False)))
    printed = []
    for key in keys:
        row: dict[str, Any] = dict(zip(KEY, map(str, key))) | {"anchor": quote(key[0], safe="")}
        of = of_key[key].to_dict("records")
        row["values"] = [_error(each, unit) if is_line else _dice(each) for each in of]
        row["distances"] = [] if is_line else [tables.format_cell(each[f"hd95_{unit}"], "hd95_mm") for each in of]
        if heads:
            row["hc"] = heads.get(key, [tables.DASH] * 4 + [""])
        printed.append(row)
    items = [printed_name(name) for name in dict.fromkeys(rows[item])]
    return {"cases": total, "unit": unit, "items": items, "rows": printed}


def _dice(row: dict[str, Any]) -> str:
    """Dice of a class; a dash if neither mask contains it."""
    if row["tp"] + row["fn"] == 0:
        return INVENTED if row["fp"] else tables.DASH
    return tables.format_cell(row["dice"], "dice") if row["tp"] + row["fp"] else MISSED


def _error(row: dict[str, Any], unit: str) -> str:
    """Endpoint error of a line; a dash without a pixel size."""
    return MISSED if np.isnan(row["error_px"]) else tables.format_cell(row[f"error_{unit}"], f"error_{unit}")


def _heads(measurements: pd.DataFrame) -> dict[tuple, list[str]]:
    """By prediction: reference, predicted HC, error, interval and flags."""
    if measurements.empty:
        return {}
    is_hc = (measurements["quantity"] == "hc") & (measurements["stage"] == "post")
    found = {}
    for row in measurements[is_hc & ~measurements["route"].isin(TRIVIAL_BASELINES)].to_dict("records"):
        error = row["predicted_mm"] - row["reference_mm"]
        texts = [tables.format_cell(each, "mm") for each in (row["reference_mm"], row["predicted_mm"], error)]
        low, high = (tables.format_cell(row[name], "mm") for name in ("low_mm", "high_mm"))
        interval = tables.DASH if tables.DASH in (low, high) else f"{low}{tables.KEEP}to{tables.KEEP}{high}"
        found[tuple(row[name] for name in KEY)] = [*texts, interval, row["flags"]]
    return found
