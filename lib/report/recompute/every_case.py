"""The appendix with every test case, from the long tables of 05 and 06."""

import math
from urllib.parse import quote

from lib.report.recompute import printed
from lib.report.recompute.results import Results, Row, drawn, grouped, present
from lib.report.recompute.tables.biometry import GUESSES
from lib.report.recompute.tables.regions import dice_of

ALL_UP_TO, WORST = 200, 50  # cases; of more than the first number only so many are printed
KEY = ("case", "subject", "fold", "seed")


def every_case(results: Results) -> Row:
    """Printed rows of all test cases, or of many the worst, with their number, unit and names of classes or lines."""
    lines = results.study.learns_landmarks
    rows = results.rows("05_evaluation/cases")
    rows = [row for row in rows if (row["route"] not in GUESSES if lines else row["stage"] == "post")]
    measure = "error" if lines else "hd95"
    unit = "px" if all(math.isnan(row[f"{measure}_mm"]) for row in rows) else "mm"
    heads = _heads(results) if results.measures_heads else {}
    groups = grouped(rows, *KEY)
    cases = {key[0] for key in groups}
    keys = list(groups)
    if len(cases) > ALL_UP_TO:
        scores = {key: _score(of, lines) for key, of in groups.items()}
        known = [key for key in keys if scores[key] is not None]
        keys = sorted(known, key=lambda key: (scores[key], key[0]))[:WORST]
    texts = []
    for key in keys:
        row: Row = {name: str(value) for name, value in zip(KEY, key)} | {"anchor": quote(key[0], safe="")}
        row["values"] = [_of_line(each, unit) if lines else _of_mask(each) for each in groups[key]]
        row["distances"] = [] if lines else [printed.cell(each[f"hd95_{unit}"], "hd95_mm") for each in groups[key]]
        texts.append(row | ({"hc": heads.get(key, [printed.DASH] * 4 + [""])} if heads else {}))
    names = [name for (name,) in grouped(rows, "line" if lines else "class")]
    items = [" ".join(word.upper() if word in printed.CAPITALS else word for word in name.split(" ")) for name in names]
    return {"cases": len(cases), "unit": unit, "items": items, "rows": texts}


def _score(rows: list[Row], lines: bool) -> float | None:
    """What predictions are ranked by, the worst first; None if there is nothing in any mask."""
    if lines:
        errors = [row["normalised_error_percent"] for row in rows]
        return -math.inf if any(map(math.isnan, errors)) else -math.fsum(errors)
    known = [dice for dice in map(dice_of, rows) if not math.isnan(dice)]
    return min(known, default=None)


def _of_mask(row: Row) -> str:
    if present(row):
        return printed.cell(dice_of(row), "dice") if drawn(row) else "missed"
    return "invented" if drawn(row) else printed.DASH


def _of_line(row: Row, unit: str) -> str:
    return "missed" if math.isnan(row["error_px"]) else printed.cell(row[f"error_{unit}"], f"error_{unit}")


def _heads(results: Results) -> dict[tuple, list[str]]:
    """Reference, predicted HC, error, interval and flags of each prediction."""
    found = {}
    for row in results.rows("06_biometry/measurements"):
        if row["quantity"] == "hc" and row["stage"] == "post" and row["route"] not in GUESSES:
            numbers = row["reference_mm"], row["predicted_mm"], row["predicted_mm"] - row["reference_mm"]
            bounds = [printed.cell(row[name], "mm") for name in ("low_mm", "high_mm")]
            interval = printed.DASH if printed.DASH in bounds else f"{printed.SPACE}to{printed.SPACE}".join(bounds)
            found[tuple(row[name] for name in KEY)] = [*(printed.cell(each, "mm") for each in numbers), interval]
            found[tuple(row[name] for name in KEY)].append(row["flags"])
    return found
