"""Rows of tables and the words for their numbers, from which findings are made."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib.report import tables


class Row(NamedTuple):
    """A row of a table: its values, and its cells as printed."""

    values: dict[str, Any]
    text: dict[str, str]


def rows_of(table: pd.DataFrame, **wanted: object) -> list[Row]:
    """The rows of a table whose columns have the wanted values."""
    if table.empty:
        return []
    cells = tables.printed_cells(table)
    printed = [dict(zip(cells, row)) for row in zip(*cells.values())]
    rows = [Row(values, text) for values, text in zip(table.to_dict("records"), printed)]
    return [row for row in rows if all(row.values[name] == value for name, value in wanted.items())]


def number(row: Row, name: str, unit: str = "") -> str:
    """A printed value with its unit and its interval: "1.45 mm [1.13, 1.63]", or "1.45 mm (range 0.9 to 1.8)"."""
    value, keep, beside = row.text[name].partition(tables.KEEP)
    beside = beside.replace("(", f"(range{tables.KEEP}").replace("[all", "(all").replace("equal]", "equal)")
    return f"{value}{tables.KEEP * bool(unit)}{unit}{keep}{beside}"


def verdict(row: Row, name: str, centre: float = 0) -> int | None:
    """1 or -1 if the interval of a value lies above or below the centre, 0 if it contains it, None without interval."""
    low, high = row.values[f"{name}_low"], row.values[f"{name}_high"]
    if np.isnan(low) or np.isnan(high):
        return None
    return int(low > centre) - int(high < centre)


def apart(row: Row, other: Row, name: str) -> int | None:
    """1 or -1 if the interval of a value lies above or below that of another row, 0 if they overlap."""
    bounds = [each.values[f"{name}_{end}"] for each in (row, other) for end in ("low", "high")]
    if np.isnan(bounds).any():
        return None
    return int(bounds[0] > bounds[3]) - int(bounds[1] < bounds[2])


def p_value(text: str) -> str:
    """A printed p value as an equation: "p = 0.012", "p < 0.001"."""
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def joined(items: list[str]) -> str:
    """Items as a list in words."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def named(rows: list[Row], every: list[Row]) -> str:
    """The quantities of some rows as a list in words; `every` are all rows of the table."""
    return joined([quantity_of(row, every) for row in rows])


def quantity_of(row: Row, rows: list[Row]) -> str:
    """HC, or "HC by ellipse" where several routes measure it."""
    several = sum(each.values["quantity"] == row.values["quantity"] for each in rows) > 1
    return row.text["quantity"] + f" by {row.values['route']}" * several


def bias(rows: list[Row], names: list[str], unit: str) -> list[str]:
    """Which measurements are too large or too small on average, and of which no bias was shown.

    Args:
        rows: of a table of limits of agreement.
        names: what each row measures.
        unit: of the bias, at the end of its column.
    """
    sentences = []
    for side in (1, -1, 0, None):
        of = [(row, name) for row, name in zip(rows, names) if verdict(row, f"bias_{unit}") == side]
        measured, verb = joined([name for _, name in of]), "was" if len(of) == 1 else "were"
        values = joined([number(row, f"bias_{unit}", unit) for row, _ in of])
        told = {
            1: f"On average, {measured} {verb} too large (bias {values}).",
            -1: f"On average, {measured} {verb} too small (bias {values}).",
            0: f"No bias of {measured} was shown ({values}).",
            None: f"The bias of {measured} was {values}.",
        }
        sentences += [told[side]] * bool(of)
    return sentences
