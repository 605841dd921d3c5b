"""Tables as publishers and users write them: every cell as text, every fault named by file, row and column."""

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
    line: int  # in the file, from 1
    cells: dict[str, str]  # by column

    @property
    def at(self) -> str:
        """Where it stands, such as "spacing.csv, row 3"."""
        return f"{self.file}, row {self.line}"


def read(
    path: Path, required: Sequence[str], alike: Callable[[str], str] = str, rest_in_last: bool = False
) -> list[Row]:
    """Rows of a table in UTF-8, separated by comma or semicolon; blank rows, and blank cells at ends, do not count.

    Columns are called as in `required`, and found by what `alike` leaves of a name; cells too many belong to the last
    column if `rest_in_last`, as of a decimal comma without quotes. ValueError where the file cannot be read, lacks a
    column, has one twice, has no rows, or a row that does not fit its header.
    """
    try:
        text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8-sig"))
        separator = max(",;", key=text.lstrip().partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if "".join(cells).strip()]
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as a table in UTF-8: {error}") from error
    named = {alike(name): name for name in required}
    header = [named.get(alike(cell), cell) for cell in lines[0][1]] if lines else []
    columns = header[: max((place for place, name in enumerate(header, start=1) if name), default=0)]
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
        raise ValueError(f"{path}: no rows below the header; expected one for each image")
    return rows


def _check_columns(path: Path, columns: list[str], required: Sequence[str]) -> None:
    absent = [name for name in required if name not in columns]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if absent or twice:
        fault = f"{absent} are missing" if absent else f"{twice} stand twice"
        raise ValueError(f"{path}: columns {fault}; found {columns}, expected {list(required)}")


def unique(
    named: Iterable[tuple[str, Row]], findings: list[Finding], check: Check = checks.TWO_ROWS_FOR_ONE_IMAGE
) -> dict[str, Row]:
    """The first row of each name; every other one is a finding that stops."""
    rows: dict[str, Row] = {}
    for name, row in named:
        first = rows.setdefault(name, row)
        if first is not row:
            findings.append(Finding("stop", check, name, f"{first.at} and row {row.line}", "one row"))
    return rows


def without_file(named: Iterable[tuple[str, Row]], present: Container[str]) -> list[Finding]:
    """A warning for each row by name whose image is not there."""
    absent = [(name, row.at) for name, row in named if name not in present]
    return [Finding("warn", checks.ROW_WITHOUT_FILE, name, at, "an image of that name") for name, at in absent]


def no_row(name: str, table: str) -> Finding:
    """A warning of an image, or of a patient, that a table of pixel sizes does not name."""
    return Finding("warn", checks.MISSING_PIXEL_SIZE, name, f"no row in {table}", "a row; no millimetres without")


def numbers(
    row: Row, ranges: Mapping[str, Range], name: str, findings: list[Finding], unit: str = "mm", comma: bool = False
) -> tuple[float | None, ...]:
    """Numbers of some columns of a row, within the range of each; else None and a finding on `name`, which stops.

    With `comma`, a decimal comma is read as a point.
    """
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
