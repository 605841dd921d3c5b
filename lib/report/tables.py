"""Tables as CSV and Typst: column titles, units and rounding."""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from lib.study import files

DIGITS = {"mm": 2, "mm2": 1, "px": 2, "ml": 2, "voxels": 0, "percent": 1, "deg": 1, "seconds": 1}  # by last word
DIGITS |= {"days": 1, "sd": 2, "icc": 4, "ccc": 4}
UNITS = {"mm": "mm", "mm2": "mm²", "px": "pixels", "ml": "ml", "percent": "%", "deg": "°", "seconds": "s"}
UNITS |= {"days": "days", "sd": "SD"}
ABBREVIATIONS = ("hc", "bpd", "ofd", "csp", "lv", "a", "b", "tp", "fp", "fn", "tn", "icc", "ccc")
WORDS = {"dice": "Dice", "iou": "IoU", "mae": "Mean abs. error", "n": "n", "sha256": "SHA-256"}
WORDS |= {word: word.upper() for word in ABBREVIATIONS}
TITLES = {"dice_per_patient": "Dice per patient, absent = 1", "min_per_patient": "Lowest per patient"}
TITLES |= {"dice_mean": "Mean Dice", "dice_median": "Median Dice", "dice_min": "Lowest Dice"}
TITLES |= {"dice_least": "Lowest Dice", "kept_epoch": "Selected epoch", "percentile_95_mm": "95th percentile (mm)"}
TITLES |= {"slope_per_100_mm": "Slope (mm per 100 mm)", "icc": "ICC(2,1)", "p_value": "p"}
NAMED = ("class", "quantity", "line", "reference")  # columns whose values are names in WORDS
WIDE = 12  # columns from which a smaller font is used, so that the table fits the page
LONG = 110  # characters of a row above which it is used too
DASH = "–"
KEEP = "\u00a0"  # non-breaking space


def save(table: pd.DataFrame, path_without_suffix: Path) -> None:
    """Writes <path>.csv at full precision and <path>.typ rounded."""
    folder, name = path_without_suffix.parent, path_without_suffix.name
    files.write_csv(folder / f"{name}.csv", table)
    files.write_text(folder / f"{name}.typ", to_typst(table))


def to_typst(table: pd.DataFrame) -> str:
    """Typst markup of a table with horizontal rules only; a value and its confidence interval share a column."""
    if not len(table.columns):
        return "no rows\n"  # Typst requires a column
    titles, cells = printed_titles(table), printed_cells(table)
    headers = [quoted(broken(text, column)) for text, column in zip(titles, cells.values())]
    sides = ["right" if pd.api.types.is_numeric_dtype(table[name]) else "left" for name in cells]
    rows = [", ".join(map(quoted, row)) for row in zip(*cells.values())]
    lengths = (max(map(len, [*header.split("\\n"), *column])) for header, column in zip(headers, cells.values()))
    is_wide = len(cells) >= WIDE or sum(lengths) > LONG
    narrow = ["#show table: set text(7.4pt)", "#set table(inset: (x: 2pt, y: 3.2pt))"] if is_wide else []
    lines = [
        *narrow,
        "#table(",
        f"  columns: {len(cells)}, stroke: none,",
        f"  align: (x, y) => ({', '.join(sides)},).at(x) + if y == 0 {{ bottom }} else {{ top }},",
        f"  table.header(table.hline(stroke: 0.8pt), {', '.join(headers)}, table.hline(stroke: 0.5pt)),",
        *(f"  {row}," for row in rows),
        "  table.hline(stroke: 0.8pt),",
        ")",
    ]
    return "\n".join(lines) + "\n"


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The printed table: titles as columns, cells as text, a value and its confidence interval in one column."""
    rows = list(zip(*printed_cells(table).values()))
    return pd.DataFrame(rows, columns=printed_titles(table), dtype=object)


def printed_titles(table: pd.DataFrame) -> list[str]:
    """Titles of the printed columns."""
    interval = f" [95{KEEP}%{KEEP}CI]"
    return [title(name) + (interval if bounds else "") for name, bounds in printed_columns(table).items()]


def printed_cells(table: pd.DataFrame) -> dict[str, list[str]]:
    """Cells as formatted text, by column name."""
    cells = {}
    for name, bounds in printed_columns(table).items():
        cells[name] = [format_cell(value, name) for value in table[name]]
        if bounds:
            interval = ([format_cell(value, name) for value in table[bound]] for bound in bounds)
            rows = zip(cells[name], *interval)
            cells[name] = [f"{cell}{KEEP}[{low},{KEEP}{high}]" if low != DASH else cell for cell, low, high in rows]
    return cells


def printed_columns(table: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Printed columns with their confidence bounds: dice_low, dice_high for dice, and mae_low, mae_high for mae_mm."""
    names, owners = list(table.columns), {}
    for name in names:
        for stem in (name, name.rpartition("_")[0]):
            bounds = (f"{stem}_low", f"{stem}_high")
            if bounds[0] in names and bounds[1] in names and name not in bounds:
                owners.setdefault(bounds, name)  # the first column of a stem has the interval
                break
    bounds_of = {name: bounds for bounds, name in owners.items()}
    hidden = {bound for bounds in owners for bound in bounds}
    return {name: bounds_of.get(name, ()) for name in names if name not in hidden}


def format_cell(value: object, name: str) -> str:
    """One value, rounded according to the unit of its column; a dash if it is missing."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return DASH
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace(",", KEEP).replace("-", "−")
    if isinstance(value, float | np.floating):
        return format_float(float(value), name)
    return WORDS.get(str(value), str(value)) if name in NAMED else str(value)


def format_float(value: float, name: str) -> str:
    """A number with the decimals of its unit; a dimensionless one below 0.0005 has three significant digits instead."""
    if name == "value":  # mixed units: integers in full, other numbers with three significant digits
        return format_cell(int(value), name) if value.is_integer() else f"{value:.3g}".replace("-", "−")
    if name == "p_value" and value < 0.001:
        return "< 0.001"
    unit = name.rpartition("_")[2]
    digits = 3 if name.startswith("spacing") else DIGITS.get(unit, 3)
    if unit not in DIGITS and 0 < abs(value) < 0.0005:
        return f"{value:.3g}".replace("-", "−")
    text = f"{value:.{digits}f}"
    return (text[1:] if float(text) == 0 and text.startswith("-") else text).replace("-", "−")


def title(name: str) -> str:
    """Title of a column, with its unit in parentheses."""
    if name in TITLES:
        return TITLES[name]
    words = str(name).split("_")
    unit = UNITS.get(words[-1]) if len(words) > 1 else None
    text = " ".join(WORDS.get(word, word) for word in (words[:-1] if unit else words))
    if words[0] not in WORDS:
        text = text[:1].upper() + text[1:]
    return f"{text} ({unit})" if unit else text


def broken(text: str, cells: list[str]) -> str:
    """A title wrapped to about the width of its column, so that a wide table fits the page."""
    width = max([9, *(len(cell) for cell in cells)])
    return "\n".join(textwrap.wrap(text, width, break_long_words=False))


def quoted(text: str) -> str:
    """Text as a Typst string, with quotes and backslashes escaped."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "\\n") + '"'
