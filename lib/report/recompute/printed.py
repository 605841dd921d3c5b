"""What a number looks like in print, and the cells of a printed table, read back from its .typ file.

Rounding: by the unit at the end of a column's name (mm, pixels and ml to two decimals, mm² and percent, degrees and
seconds to one, voxels to none), pixel sizes and everything else to three; below 0.0005 three significant digits.
"""

import math
import re
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from lib.report.recompute.results import Row

DECIMALS = {
    "mm": 2,
    "px": 2,
    "ml": 2,
    "mm2": 1,
    "percent": 1,
    "deg": 1,
    "seconds": 1,
    "voxels": 0,
    "days": 1,
    "sd": 2,
    "icc": 4,
    "ccc": 4,
}
NAMES = {"class", "quantity", "line", "reference"}  # columns with names that are abbreviations in capitals
CAPITALS = {
    "hc",
    "bpd",
    "ofd",
    "csp",
    "lv",
    "a",
    "b",
    "tp",
    "fp",
    "fn",
    "tn",
    "hd95",
    "assd",
    "nsd",
    "sd",
    "rms",
    "icc",
    "ccc",
}
SPELLED = {"dice": "Dice", "iou": "IoU", "mae": "Mean abs. error", "sha256": "SHA-256"}
DASH, SPACE, MINUS = "–", "\u00a0", "−"
NEGLIGIBLE = 1e-9  # no larger than the rounding errors of sums
TURNED = "// turned"  # begins the markup of a table whose columns are lines
ABOVE = "  table.header(level: 2"  # begins a line of what the rows below it share
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def rounded(value: float, digits: int) -> str:
    """A number with that many decimals, from its exact binary value; one that is not 0 but rounds to 0 as a bound."""
    unit = Decimal(1).scaleb(-digits)
    number = Decimal(value).quantize(unit, rounding=ROUND_HALF_EVEN)
    if number:
        return signed(str(number))
    if abs(value) <= NEGLIGIBLE:
        return str(abs(number))
    return signed(f"<{unit}" if value > 0 else f">-{unit}")


def significant(value: float) -> str:
    """A number with three significant digits at most, as C's %.3g."""
    return signed(f"{value:.3g}")


def signed(text: str) -> str:
    """A number with a minus sign instead of a hyphen."""
    return text.replace("-", MINUS)


def whole(value: int) -> str:
    """An integer with a space after every third digit."""
    digits = str(abs(value))
    parts = [digits[max(0, end - 3) : end] for end in range(len(digits), 0, -3)][::-1]
    return (MINUS if value < 0 else "") + SPACE.join(parts)


def cell(value: Any, column: str) -> str:
    """A value as its column prints it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return whole(value)
    if isinstance(value, float):
        return number(value, column)
    if column in NAMES:
        return str(value).upper() if value in CAPITALS else SPELLED.get(value, value)
    return str(value)


def number(value: float, column: str) -> str:
    """A float as its column prints it; numbers of subjects are whole, a column `value` mixes units."""
    if column.endswith("_subjects"):
        return whole(int(value))
    if column == "value":
        return whole(int(value)) if value == int(value) else significant(value)
    if (column == "p" or column.startswith("p_")) and value < 0.001:
        return "<0.001"
    unit = column.split("_")[-1]
    if unit not in DECIMALS and 0 < abs(value) < 0.0005:
        return significant(value)
    return rounded(value, 3 if column.startswith("spacing") else DECIMALS.get(unit, 3))


def columns_in_print(columns: list[str], rows: list[Row]) -> list[str]:
    """Printed columns: bounds share that of their value, whose number of subjects stands before it where it is new."""
    owners = [name for name in columns if {f"{name}_low", f"{name}_high"} <= set(columns)]
    parts = ("low", "high", "least", "largest", "subjects")
    hidden = {f"{name}_{part}" for name in owners for part in parts}
    shown: list[str] = []
    counted: list[list[str]] = []
    for name in columns:
        subjects = [repr(row[f"{name}_subjects"]) for row in rows] if f"{name}_subjects" in columns else None
        if name in owners and subjects is not None and subjects not in counted:
            shown.append(f"{name}_subjects")
            counted.append(subjects)
        shown += [] if name in hidden else [name]
    return shown


def with_interval(row: Row, name: str) -> str:
    """A value with its interval in brackets or, without one, its least and largest value in parentheses.

    No interval has what does not vary.
    """
    digits = 3 if name.startswith("spacing") else DECIMALS.get(name.split("_")[-1], 3)
    ends = [row.get(f"{name}{part}", math.nan) for part in ("_low", "_high", "_least", "_largest")]
    texts = [DASH if math.isnan(part) else rounded(part, digits) for part in (row[name], *ends)]
    value, low, high, least, largest = texts
    first, last = ends[:2] if math.isnan(ends[2]) else ends[2:]
    if last - first <= NEGLIGIBLE:
        return value if row.get(f"{name}_subjects") == 1 else f"{value}{SPACE}[all{SPACE}equal]"
    if low != DASH:
        return f"{value}{SPACE}[{low},{SPACE}{high}]"
    if least == DASH:
        return value
    return f"{value}{SPACE}({least}{SPACE}to{SPACE}{largest})"


def printed_rows(columns: list[str], rows: list[Row]) -> list[dict[str, str]]:
    """A table as printed."""
    shown = columns_in_print(columns, rows)
    return [
        {name: with_interval(row, name) if f"{name}_low" in columns else cell(row[name], name) for name in shown}
        for row in rows
    ]


def cells_of(markup: str) -> list[list[str]]:
    """Rows of text cells in the Typst markup of a table; ValueError if it is no such table.

    In a turned table each line is a column, which begins with its title. Cells that rows share may stand above them.
    """
    count, start = re.search(r"columns: (\d+)", markup), markup.find("table.header(")
    if not count or start < 0:
        raise ValueError("is no table")
    width, lines, shared = int(count[1]), [], []
    for line in markup[start:].split("\n"):
        texts = [unescaped(text) for text in QUOTED.findall(line)]
        if line.startswith(ABOVE):
            shared = texts[::2]  # between them stand their titles
        elif len(texts) not in (0, width):
            raise ValueError(f"has a row of {len(texts)} cells; expected {width}")
        elif texts:
            lines.append([*shared, *texts])
    return [list(row) for row in zip(*lines)][1:] if markup.startswith(TURNED) else lines[1:]


def unescaped(text: str) -> str:
    """A Typst string as text."""
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text)


def with_cells(markup: str, rows: list[list[str]]) -> str:
    """Markup of a table with other text in its cells; ValueError unless it has as many, shared by the same rows."""
    if [len(row) for row in cells_of(markup)] != [len(row) for row in rows]:
        raise ValueError("has other rows")
    if not rows:
        return markup
    lines, columns, remaining = markup.split("\n"), list(zip(*rows)), list(rows)
    start = next(at for at, line in enumerate(lines) if "table.header(" in line)
    of_cells = [at for at in range(start, len(lines)) if QUOTED.search(lines[at])]
    shared: list[str] = []
    for number, at in enumerate(of_cells):
        texts = [unescaped(text) for text in QUOTED.findall(lines[at])]
        if markup.startswith(TURNED):
            texts[1:] = columns[number]
        elif lines[at].startswith(ABOVE):
            shared = remaining[0][: len(texts[::2])]
            texts[::2] = shared
        elif number > 0:
            row = remaining.pop(0)
            if row[: len(shared)] != shared:
                raise ValueError("has rows that share other cells")
            texts = row[len(shared) :]
        put = map(escaped, texts)
        lines[at] = QUOTED.sub(lambda _, put=put: f'"{next(put)}"', lines[at])
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Text as it stands between the quotes of a Typst string."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "\\n")


def with_unit(cell: str) -> str:
    """A printed percentage with its unit behind the value."""
    value, *interval = cell.split(SPACE)
    return SPACE.join([f"{value} %", *interval])


def duration(seconds: float) -> str:
    """Seconds as hours and minutes, or minutes and seconds."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
