"""CSV tables of publishers and users: cells as text, errors with file, row and column."""

import csv
import io
import unicodedata
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.data import findings as checks
from lib.data.findings import Check, Finding

HINT = " (a decimal point?)"
Range = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    file: str
    line: int  # number in the file, from 1
    cells: dict[str, str]  # by column

    @property
    def at(self) -> str:
        """Location for messages, such as "spacing.csv, row 3"."""
        return f"{self.file}, row {self.line}"


def read(
    path: Path, required: Sequence[str], normalise: Callable[[str], str] = str, rest_in_last: bool = False
) -> list[Row]:
    """Rows of a UTF-8 table separated by commas or semicolons; blank rows and trailing blank cells are ignored.

    A column matches a name in `required` if both are equal after `normalise`. With `rest_in_last`, surplus cells are
    joined to the last column, as after an unquoted decimal comma. ValueError if the file cannot be read, a column is
    missing or duplicated, there are no rows, or a row does not fit the header.
    """
    try:
        text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8-sig"))
        separator = max(",;", key=text.lstrip().partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if "".join(cells).strip()]
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a table in UTF-8: {error}") from error
    named = {normalise(name): name for name in required}
    header = [named.get(normalise(cell), cell) for cell in lines[0][1]] if lines else []
    columns = header[: max((count for count, name in enumerate(header, start=1) if name), default=0)]
    _check_columns(path, columns, required)
    rows = []
    for line, cells in lines[1:]:
        fitting = cells if any(cells[len(columns) :]) else cells[: len(columns)]
        if rest_in_last and len(fitting) > len(columns):
            fitting[len(columns) - 1 :] = [separator.join(fitting[len(columns) - 1 :])]
        if len(fitting) != len(columns):
            hint = HINT if len(fitting) > len(columns) else ""
            raise ValueError(f"{path}, row {line}: {len(fitting)} fields; expected {len(columns)}{hint}")
        rows.append(Row(path.name, line, dict(zip(columns, fitting))))
    if not rows:
        raise ValueError(f"{path}: no rows below the header; expected one row per image")
    return rows


def _check_columns(path: Path, columns: list[str], required: Sequence[str]) -> None:
    absent = [name for name in required if name not in columns]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if absent or twice:
        fault = f"{absent} are missing" if absent else f"{twice} appear twice"
        raise ValueError(f"{path}: columns {fault}; found {columns}, expected {list(required)}")


def unique_rows(
    named: Iterable[tuple[str, Row]], findings: list[Finding], check: Check = checks.TWO_ROWS_FOR_ONE_IMAGE
) -> dict[str, Row]:
    """The first row of each name; every further one is a stop."""
    rows: dict[str, Row] = {}
    for name, row in named:
        first = rows.setdefault(name, row)
        if first is not row:
            findings.append(Finding("stop", check, name, f"{first.at} and row {row.line}", "one row"))
    return rows


def rows_without_file(named: Iterable[tuple[str, Row]], present: Container[str]) -> list[Finding]:
    """A warning for each row whose image is missing."""
    absent = [(name, row.at) for name, row in named if name not in present]
    return [Finding("warn", checks.ROW_WITHOUT_FILE, name, at, "an image with this name") for name, at in absent]


def missing_row(name: str, table: str) -> Finding:
    """A warning for an image or patient without a row in the table of pixel sizes."""
    return Finding("warn", checks.MISSING_PIXEL_SIZE, name, f"no row in {table}", "a row; measurements in mm need it")


def numbers(
    row: Row, ranges: Mapping[str, Range], name: str, findings: list[Finding], unit: str = "mm", comma: bool = False
) -> tuple[float | None, ...]:
    """Numbers in the columns of `ranges`; None and a stop if unreadable (`comma` allows 0,5) or out of range."""
    values: list[float | None] = []
    for column, (low, high) in ranges.items():
        text = row.cells[column]
        try:
            value = float(text.replace(",", ".") if comma else text)
        except ValueError:
            value = float("nan")
        values.append(value if low <= value <= high else None)
        if values[-1] is None:
            found, expected = f'{row.at}, column "{column}": "{text}"', f"{unit}, {low:g} to {high:g}"
            findings.append(Finding("stop", checks.UNREADABLE_NUMBER, name, found, expected + HINT * ("," in text)))
    return tuple(values)
