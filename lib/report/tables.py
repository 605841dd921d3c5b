"""Tables as CSV, Typst and LaTeX: column titles, units and rounding."""

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.imaging.class_colours import LABELS
from lib.report.latex import to_latex
from lib.study import files

DIGITS = {"mm": 2, "mm2": 1, "px": 2, "ml": 2, "voxels": 0, "percent": 1, "deg": 1, "seconds": 1}  # by last word
DIGITS |= {"days": 1, "sd": 2, "icc": 4, "ccc": 4}
UNITS = {"mm": "mm", "mm2": "mm²", "px": "pixels", "ml": "ml", "percent": "%", "deg": "°", "seconds": "s"}
UNITS |= {"days": "days", "sd": "SD", "voxels": "voxels"}
ABBREVIATIONS = (*LABELS, "a", "b", "tp", "fp", "fn", "tn", "hd95", "assd", "nsd", "sd", "rms", "icc", "ccc")
WORDS = {"dice": "Dice", "iou": "IoU", "mae": "Mean abs. error", "n": "n", "sha256": "SHA-256"}
WORDS |= {word: word.upper() for word in ABBREVIATIONS}
TITLES = {"dice_per_patient": "Dice per patient, absent = 1", "min_per_patient": "Lowest per patient"}
TITLES |= {"dice_mean": "Mean Dice", "dice_median": "Median Dice", "dice_min": "Lowest Dice"}
TITLES |= {"part_f1": "F1 of parts", "largest_hd95_mm": "Largest HD95 (mm)", "largest_hd95_px": "Largest HD95 (pixels)"}
TITLES |= {"hd95_mm": "Mean HD95 (mm)", "hd95_px": "Mean HD95 (pixels)"}
TITLES |= {"assd_mm": "Mean ASSD (mm)", "assd_px": "Mean ASSD (pixels)"}
TITLES |= {"others_hd95_mm": "Mean HD95 without the largest (mm)"}
TITLES |= {"others_hd95_px": "Mean HD95 without the largest (pixels)"}
TITLES |= {"nsd": "Mean NSD", "median_error_percent": "Median error (%)", "size_error_percent": "Mean error (%)"}
TITLES |= {"detected": "Detected (anywhere)", "dice_from_half": "Dice ≥ 0.5"}
TITLES |= {"median_mm": "Median error (mm)", "proportional": "Changes with size"}
TITLES |= {"found_parts": "Found parts (any overlap)"}
TITLES |= {"dice_least": "Lowest Dice", "kept_epoch": "Selected epoch", "percentile_95_mm": "95th percentile (mm)"}
TITLES |= {
    "share_percent": "Share (%)",
    "gap_percent": "Gap to the frame (%)",
    "spacing_mm": "Pixel size (mm)",
}
TITLES |= {"p_adjusted": "p × number of tests", "p": "p", "p_value": "p"}
TITLES |= {"slope_per_100_mm": "Slope (mm per 100 mm, or %)", "icc": "ICC(2,1)", "p_normal": "p, normal"}
TITLES |= {"percent_slope_per_100_mm": "Slope (percentage points per 100 mm)"}
TITLES |= {
    f"percentile_{name}_{unit}": f"{name.replace('_', '.')}th percentile ({UNITS[unit]})"
    for name in ("2_5", "97_5")
    for unit in ("mm", "percent", "ml", "voxels")
}
NAMED = ("class", "quantity", "line", "reference")  # columns whose values are names in WORDS
TEXT_MM, EM_MM = 160.0, 25.4 / 72  # width of the printed column; of an em at 1 pt
BODY, SMALL = (8.5, 3.0), (8.0, 2.0)  # pt of a table's text, and of the gap on each side of a column
FEW_ROWS = 6  # a table that has no more is short; one that is too wide is turned: its columns become rows
WIDTHS = {**dict.fromkeys(" .,:;\u00a0", 0.25), **dict.fromkeys("()[]|ijltfr/", 0.33), "%": 0.83, "−": 0.69}  # em
DASH = "–"
KEEP = "\u00a0"  # non-breaking space
ALL_EQUAL = f"all{KEEP}equal"  # instead of an interval
ZERO = 1e-9  # numbers up to it count as 0: rounding errors of sums
# Endings of the columns beside a value (`statistics.Estimate.columns`).
BOUNDS, SUBJECTS = ("_low", "_high", "_least", "_largest"), "_subjects"


def save(table: pd.DataFrame, path_without_suffix: Path, subject: str = "subject") -> None:
    """Writes <path>.csv at full precision, <path>.typ and <path>.tex rounded.

    `subject` is the data set's word for a subject.
    """
    folder, name = path_without_suffix.parent, path_without_suffix.name
    files.write_csv(folder / f"{name}.csv", table)
    files.write_text(folder / f"{name}.typ", to_typst(table, subject))
    cells = printed_cells(table)
    is_numeric = [pd.api.types.is_numeric_dtype(table[column]) for column in cells]
    files.write_text(
        folder / f"{name}.tex", to_latex(printed_titles(table, subject), [*zip(*cells.values())], is_numeric)
    )


def has_rows(table: Path) -> bool:
    """Whether a .csv, if it exists, has more than a header."""
    if not table.is_file():
        return True
    with table.open(encoding="utf-8") as file:
        return sum(1 for _ in itertools.islice(file, 2)) > 1


def to_typst(table: pd.DataFrame, subject: str = "subject") -> str:
    """Typst markup of a table with horizontal rules only; a value and its confidence interval share a column.

    What rows of a long table share stands once above them. What is too wide in one line per row is set smaller,
    with intervals below their values; if it is still too wide, few rows become columns, and the intervals of many rows
    are broken in two.
    """
    if not len(table.columns):
        return "no rows\n"  # Typst requires a column
    titles, cells = printed_titles(table, subject), printed_cells(table)
    sides = ["right" if pd.api.types.is_numeric_dtype(table[name]) else "left" for name in cells]
    columns = [*cells.values()]
    shared = _shared(columns, sides)
    if _width_mm(titles[shared:], columns[shared:], *BODY) <= TEXT_MM:
        return _markup(_wrapped(titles, columns), columns, sides, shared)
    columns = [[_below(cell) if f"{name}_low" in table else cell for cell in cells[name]] for name in cells]
    if _width_mm(titles[shared:], columns[shared:], *SMALL) <= TEXT_MM:
        return SMALLER + _markup(_wrapped(titles, columns), columns, sides, shared)
    if len(table) <= FEW_ROWS:
        first, *others = ([text, *column] for text, column in zip(titles, cells.values()))
        turned = [*zip(*others)]
        sides = ["left", *["right"] * len(table)]
        fits = _width_mm(first, turned, *BODY) <= TEXT_MM
        return TURNED + _markup(first, turned if fits else [[*map(_below, each)] for each in turned], sides)
    columns = [
        [cell.replace(f",{KEEP}", ",\n").replace(f"{KEEP}to{KEEP}", f"{KEEP}to\n") for cell in column]
        for column in columns
    ]
    return SMALLER + _markup(_wrapped(titles, columns), columns, sides, shared)


SMALLER = f"#show table: set text({SMALL[0]}pt)\n#set table(inset: (x: {SMALL[1]}pt, y: 3.2pt))\n"
TURNED = "// turned: a column for each row\n"


def _markup(header: list[str], columns: list[list[str]], sides: list[str], shared: int = 0) -> str:
    """Typst markup of a table from the texts of its header and columns, (n,) each.

    The first `shared` columns are printed as a line of their own above the rows with the same values.
    """
    lines = [
        "#table(",
        f"  columns: {len(columns) - shared}, stroke: none,",
        f"  align: (x, y) => ({', '.join(sides[shared:])},).at(x) + if y == 0 {{ bottom }} else {{ top }},",
        "  table.header(",
        f"    table.hline(stroke: 0.8pt), {', '.join(map(quoted, header[shared:]))}, table.hline(stroke: 0.5pt),",
        "  ),",
    ]
    for above, rows in itertools.groupby(zip(*columns), key=lambda row: row[:shared]):
        if shared:
            lines.append(_line_above(header[:shared], above, len(columns) - shared))
        lines += [f"  {', '.join(map(quoted, row[shared:]))}," for row in rows]
    return "\n".join([*lines, "  table.hline(stroke: 0.8pt),", ")"]) + "\n"


def _line_above(titles: list[str], values: Sequence[str], width: int) -> str:
    """A header of the rows below it over `width` columns: the first value, and the others with their titles."""
    named = [f", {text.lower()} " for text in titles[1:]]
    texts = [values[0], *itertools.chain(*zip(named, values[1:]))]
    return f"  table.header(level: 2, table.cell(colspan: {width}, strong({' + '.join(map(quoted, texts))}))),"


def _shared(columns: list[list[str]], sides: list[str]) -> int:
    """How many of the first columns to print above the rows that share them: of a long table, if three do on average.

    They are columns of words, of which the last remains to name the rows.
    """
    words = sum(1 for _ in itertools.takewhile(lambda side: side == "left", sides))
    rows = [*zip(*columns)]
    for count in range(words - 1, 0, -1):
        lines = sum(1 for _ in itertools.groupby(rows, key=lambda row: row[:count]))
        if len(rows) > FEW_ROWS and 3 * lines <= len(rows):
            return count
    return 0


def _wrapped(titles: list[str], columns: list[list[str]]) -> list[str]:
    return [broken(text, column) for text, column in zip(titles, columns)]


def _width_mm(titles: list[str], columns: list[list[str]], size_pt: float, gap_pt: float) -> float:
    """Width of a table, from the widths of its characters in a font of the Times family; titles are bold."""
    ems = [max(_ems(broken(text, column)) * 1.07, *map(_ems, column), 0) for text, column in zip(titles, columns)]
    return EM_MM * sum(em * size_pt + 2 * gap_pt for em in ems)


def _ems(text: str) -> float:
    """Width of the longest line of a text, in em."""
    return max(sum(WIDTHS.get(each, 0.7 if each.isupper() else 0.5) for each in line) for line in text.split("\n"))


def _below(cell: str) -> str:
    """A cell whose interval or range stands below its value."""
    return cell.replace(f"{KEEP}[", "\n[").replace(f"{KEEP}(", "\n(")


def readable(table: pd.DataFrame, subject: str = "subject") -> pd.DataFrame:
    """The printed table: titles as columns, cells as text, a value and its confidence interval in one column."""
    rows = list(zip(*printed_cells(table).values()))
    return pd.DataFrame(rows, columns=printed_titles(table, subject), dtype=object)


def printed_titles(table: pd.DataFrame, subject: str) -> list[str]:
    """Titles of the printed columns; `subject` is the data set's word for a subject, such as "examination"."""
    names = printed_columns(table)
    owners = {f"{name}{SUBJECTS}": title(name) for name in names if f"{name}{SUBJECTS}" in names}
    heading = f"{subject[:1].upper()}{subject[1:]}s"
    of_subjects = {name: f"{heading}: {owner}" if len(owners) > 1 else heading for name, owner in owners.items()}
    return [of_subjects.get(name) or title(name) + _bounds_title(table, name) for name in names]


def _bounds_title(table: pd.DataFrame, name: str) -> str:
    """What stands in brackets behind the values of a column: a confidence interval, or their minimum and maximum."""
    if f"{name}_low" not in table:
        return ""
    has_interval = table[f"{name}_low"].notna()
    has_range = ~has_interval & table.get(f"{name}_least", pd.Series(np.nan, table.index)).notna()
    interval, extremes = f" [95{KEEP}%{KEEP}CI]", f" (min{KEEP}to{KEEP}max)"
    if not has_range.any():
        return interval
    return f"{interval} or{extremes}" if has_interval.any() else extremes


def printed_cells(table: pd.DataFrame) -> dict[str, list[str]]:
    """Cells as formatted text, by column name."""
    rows = table.to_dict("records")
    return {
        name: [_interval_cell(row, name) for row in rows]
        if f"{name}_low" in table
        else [format_cell(value, name) for value in table[name]]
        for name in printed_columns(table)
    }


def _interval_cell(row: dict[str, float], name: str) -> str:
    """A value with its confidence interval in brackets, else with the least and largest value in parentheses.

    Values that are all equal have no interval: of several subjects the cell says so. All numbers of a cell have the
    same number of decimals.
    """
    number, *ends = (row.get(f"{name}{part}", np.nan) for part in ("", *BOUNDS))
    texts = (DASH if np.isnan(each) else fixed(each, decimals(name)) for each in (number, *ends))
    value, low, high, least, largest = texts
    if _nothing_varies(*ends):
        is_alone = row.get(f"{name}{SUBJECTS}", np.nan) == 1
        return value if is_alone else f"{value}{KEEP}[{ALL_EQUAL}]"
    if low != DASH:
        return f"{value}{KEEP}[{low},{KEEP}{high}]"
    return value if least == DASH else f"{value}{KEEP}({least}{KEEP}to{KEEP}{largest})"


def _nothing_varies(low: float, high: float, least: float, largest: float) -> bool:
    """Whether the values behind a cell are all equal, or where these are not known, the limits of its interval."""
    ends = (low, high) if np.isnan(least) else (least, largest)
    return ends[1] - ends[0] <= ZERO


def printed_columns(table: pd.DataFrame) -> list[str]:
    """Names of the printed columns: a value's interval shares its column, its number of subjects stands before it.

    A number of subjects that equals one printed before is not repeated.
    """
    owners = [name for name in table.columns if f"{name}_low" in table and f"{name}_high" in table]
    hidden = {f"{name}{part}" for name in owners for part in (*BOUNDS, SUBJECTS)}
    names: list[str] = []
    for name in table.columns:
        counts = f"{name}{SUBJECTS}"
        if (
            name in owners
            and counts in table
            and not any(table[counts].equals(table[each]) for each in hidden & {*names})
        ):
            names.append(counts)
        names += [name] * (name not in hidden)
    return names


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
    if name.endswith(SUBJECTS):  # a count, as a float because others of its column are missing
        return format_cell(int(value), name)
    if name == "value":  # mixed units: integers in full, other numbers with three significant digits
        return format_cell(int(value), name) if value.is_integer() else f"{value:.3g}".replace("-", "−")
    if name.split("_")[0] == "p" and value < 0.001:
        return "<0.001"
    if name.rpartition("_")[2] not in DIGITS and 0 < abs(value) < 0.0005:
        return f"{value:.3g}".replace("-", "−")
    return fixed(value, decimals(name))


def decimals(name: str) -> int:
    """Number of decimals of a column's values, by its unit."""
    return 3 if name.startswith("spacing") else DIGITS.get(name.rpartition("_")[2], 3)


def fixed(value: float, digits: int) -> str:
    """A number with a fixed number of decimals; one that would round to 0 is printed as a bound with its sign: <0.01.

    Only 0 itself (up to ZERO) is printed as 0.
    """
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        least = f"{10.0**-digits:.{digits}f}"
        text = text.removeprefix("-") if abs(value) <= ZERO else f"<{least}" if value > 0 else f">-{least}"
    return text.replace("-", "−")


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
    width = max([9, *(len(line) for cell in cells for line in cell.split("\n"))])
    return "\n".join(textwrap.wrap(text, width, break_long_words=False))


def quoted(text: str) -> str:
    """Text as a Typst string, with quotes and backslashes escaped."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "\\n") + '"'
