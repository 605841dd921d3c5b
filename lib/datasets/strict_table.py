"""CSV tables of publishers and users, as spreadsheets save them too: one reader and one reading of numbers for all.

What has one meaning is read, and a note says so; all else is named with file, row and column.
"""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from lib.data import findings as checks
from lib.data.findings import Check, Finding
from lib.datasets import table_files
from lib.study.files import NUMBER
from lib.study.printable import printable

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
AS_DOCUMENTED = "UTF-8, commas and the documented headings; read as meant"
UTF_8 = 'expected UTF-8 (spreadsheets save it as "CSV UTF-8")'
DECIMAL = re.compile(r"[+-]?(\d+,\d*|,\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}", re.ASCII)  # its mark may separate thousands
WORKBOOK = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # first bytes of .xlsx and .ods, and of .xls
INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
MARKER = re.compile(r'"?sep=([,;\t])"?[ ,;\t]*(?:\r\n|\r|\n)', re.IGNORECASE)  # of the separator, read by Excel only
HINT = " (a decimal point?)"
HINTS = (  # of what makes a text no number, the first that matches
    (re.compile(r"[+-]?\d{1,3}([.,'’\s]\d{3})+([.,]\d+)?"), " (without a thousands separator)"),
    (re.compile(r"[+-]?[\d.,]+\s*%"), " (without a per cent sign)"),
    (re.compile(r"[+-]?[\d.,]+\s*[^\W\d]+"), " (without a unit)"),
    (re.compile(".*,.*"), HINT),
)
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

    def cell(self, column: str) -> str:
        """Location and text of a cell for messages."""
        return f'{self.at}, column "{column}": "{printable(self.cells[column])}"'


def read(path: Path, required: Sequence[str], findings: list[Finding], optional: Sequence[str] = ()) -> list[Row]:
    """Rows of a table in UTF-8, or UTF-16 with byte-order mark, separated by commas, semicolons or tabs.

    Headings are those in `required` and `optional`, with other letter case, blanks or punctuation too; others stay as
    written. Blank rows, trailing blank cells and columns without a heading are ignored; optional cells may lack at the
    end of a row. A note names what differs from the documented form.
    ValueError, with the row, if the file is no such table, a column is missing or duplicated, there are no rows, or
    a row does not fit the header, as after an unquoted decimal comma. PermissionError if the file may not be read.
    """
    text, forms = _decode(path)
    marker = MARKER.match(text)
    separator = marker[1] if marker else _separator(path, text, required)
    forms += [f'first line "{marker[0].strip()}"'] if marker else []
    forms += [f"separated by {SEPARATORS[separator]}"] if separator != "," else []
    lines = _split(path, text, separator, forms)[1 if marker else 0 :]
    blank = [line for line, cells in lines if not any(cells) and len(cells) > 1]
    lines = [(line, cells) for line, cells in lines if any(cells)]
    columns = _columns(path, lines[0][1] if lines else [], required, optional, forms)
    needed = max((count for count, name in enumerate(columns, start=1) if name in required), default=0)
    fitting = _fitting(path, lines[1:], columns, needed, separator, forms)
    rows = [Row(path.name, line, {name: cell for name, cell in zip(columns, cells) if name}) for line, cells in fitting]
    forms += [f"blank rows: {len(blank)}, the first is row {blank[0]}"] if blank else []
    if not rows:
        raise ValueError(f"{path}: no rows below the header; expected one row per image")
    if forms:
        findings.append(Finding("note", checks.TABLE_FORM, path.name, "; ".join(forms), AS_DOCUMENTED))
    return rows


def _decode(path: Path) -> tuple[str, list[str]]:
    """Text of a table in composed Unicode, and what is to be said of its encoding.

    Other encodings are refused: no file says which code page its bytes are of, and names decide what belongs together.
    """
    content = table_files.read_bytes(path)
    if not content:
        raise ValueError(f"{path}: the file is empty (0 bytes); expected a header, and one row per image")
    if content.startswith(WORKBOOK):
        raise ValueError(f"{path}: its content is a workbook, which is not read; save it as CSV UTF-8")
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        row, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        likely = "" if wide else " (an older encoding, such as Windows-1252?)"
        raise ValueError(f"{path}, row {row}: byte 0x{byte:02x} is not {error.encoding}{likely}; {UTF_8}") from error
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{path}, row {row}: contains a null character; {UTF_8}")
    return unicodedata.normalize("NFC", text), ["encoded in UTF-16"] * wide


def _separator(path: Path, text: str, required: Sequence[str]) -> str:
    """The separator under which the first row contains the required headings, else the one that occurs most often."""
    first = next((line for line in text.splitlines() if line.strip(" ,;\t")), "")
    try:
        headers = {each: next(csv.reader([first], delimiter=each, skipinitialspace=True), []) for each in SEPARATORS}
    except csv.Error as error:
        raise ValueError(f"{path}: the header cannot be read as one of a table: {error}") from error
    wanted = set(map(letters, required))
    fitting = [each for each, header in headers.items() if wanted <= set(map(letters, header))]
    return max(fitting or SEPARATORS, key=lambda each: len(headers[each]))


def letters(name: str) -> str:
    """Letters and digits of a name in lower case: spellings that differ in nothing else are one name."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFC", name).casefold())


def _split(path: Path, text: str, separator: str, forms: list[str]) -> list[tuple[int, list[str]]]:
    """(number, stripped cells) of each line; one with line breaks in its cells has the number of its last.

    Blanks between a quotation mark and the separator are left out, and added to `forms`.
    """
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=separator, skipinitialspace=True, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            lines.append((reader.line_num, [cell.strip() for cell in cells]))
        return lines
    except csv.Error as error:
        closed = re.sub(rf'("(?:[^"]|"")*") +(?=[{separator}\r\n]|\Z)', r"\1", text)
        if closed != text:
            forms.append("blanks after quotation marks")
            return _split(path, closed, separator, forms)
        first, last = lines[-1][0] + 1 if lines else 1, reader.line_num  # of the line that cannot be read
        if str(error) == "unexpected end of data":
            raise ValueError(f"{path}, row {last}: the quotation mark opened in row {first} is not closed") from error
        hint = f" (a quotation mark opened in row {first}?)" if first < last else ""
        raise ValueError(f"{path}, row {last}: cannot be read as a table: {error}{hint}") from error


def _columns(
    path: Path, header: list[str], required: Sequence[str], optional: Sequence[str], forms: list[str]
) -> list[str]:
    """Names of the columns up to the last that has one; a known heading in another spelling is added to `forms`."""
    known = {letters(name): name for name in (*optional, *required)}
    columns = [known.get(letters(cell), cell) for cell in header]
    columns = columns[: max((count for count, name in enumerate(columns, start=1) if name), default=0)]
    absent = [name for name in required if name not in columns]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if absent or twice:
        fault = f"{absent} are missing" if absent else f"{twice} appear twice"
        raise ValueError(f"{path}: columns {fault}; found {header[: len(columns)]}, expected {list(required)}")
    unnamed = columns.count("")
    forms += [f"columns without a heading: {unnamed}, not read"] if unnamed else []
    differ = [(cell, name) for cell, name in zip(header, columns) if "".join(cell.split()) != "".join(name.split())]
    forms += [f'heading "{cell}" for "{name}"' for cell, name in differ]
    return columns


def _fitting(
    path: Path, lines: list[tuple[int, list[str]]], columns: list[str], needed: int, separator: str, forms: list[str]
) -> list[tuple[int, list[str]]]:
    """Lines with one cell per column: without blank cells beyond the last, with blank ones that a spreadsheet left out.

    The latter are added to `forms`. ValueError, for the first, if a line has more cells, or fewer than `needed`.
    """
    count = len(columns)
    cut = [(line, cells if any(cells[count:]) else cells[:count]) for line, cells in lines]
    wrong = [
        (line, cells)
        for line, cells in cut
        if not needed <= len(cells) <= count or _other_separator(cells, count, separator)
    ]
    if wrong:
        line, cells = wrong[0]
        more = f"; so in {len(wrong)} rows" if len(wrong) > 1 else ""
        reason = _reason(cells, [cells for _, cells in cut], columns, separator)
        raise ValueError(f"{path}, row {line}: {len(cells)} fields; expected {count}{reason}{more}")
    short = [line for line, cells in cut if len(cells) < count]
    forms += [f"rows without their last cells: {len(short)}, the first is row {short[0]}"] if short else []
    return [(line, cells + [""] * (count - len(cells))) for line, cells in cut]


def _reason(cells: list[str], rows: list[list[str]], columns: list[str], separator: str) -> str:
    """A hint at why a row has another number of fields than the header."""
    other = _other_separator(cells, len(columns), separator)
    if other:
        return f" (separated by {SEPARATORS[other]}, but the header by {SEPARATORS[separator]}; use one)"
    if len(cells) < len(columns):
        return f" ({', '.join(filter(None, columns[len(cells) :]))} missing)"
    are_numbered = [row[0] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    if are_numbered and {len(row) for row in rows} == {len(columns) + 1} and not _are_split(cells[1:]):
        return " (row names without a heading? in R: write.csv, or row.names = FALSE)"
    is_comma = separator == "," and _are_split(cells)
    return " (a decimal comma without quotation marks? write a decimal point)" if is_comma else ""


def _other_separator(cells: list[str], count: int, separator: str) -> str:
    """Another separator under which a row with another number of fields has `count`; "" for none."""
    text = separator.join(cells) if len(cells) != count else ""
    return next((each for each in SEPARATORS if text and each != separator and text.count(each) == count - 1), "")


def _are_split(cells: list[str]) -> bool:
    """Whether two neighbouring cells may be the halves of a number with a decimal comma."""
    return any(INTEGER.fullmatch(left) and right[:1].isdigit() and "." not in right for left, right in pairwise(cells))


def named_rows(rows: Iterable[Row], name_of: Callable[[Row], str], findings: list[Finding]) -> list[tuple[str, Row]]:
    """Each row with its name; one without a name is a stop and left out."""
    named = [(name_of(row), row) for row in rows]
    nameless = [row for name, row in named if not name]
    findings += [Finding("stop", checks.ROW_WITHOUT_NAME, row.file, row.at, "the name of an image") for row in nameless]
    return [(name, row) for name, row in named if name]


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
    rows: Mapping[str, Row], ranges: Mapping[str, Range], findings: list[Finding], unit: str = "mm"
) -> dict[str, tuple[float | None, ...]]:
    """Numbers in the columns of `ranges`, by name of the row; None and a stop if unreadable or out of range.

    A decimal comma has one meaning, since a cell holds one only if quoted or not separated by commas; one note counts
    them. A mark that may as well separate thousands (1,234; 1.234 where decimal commas occur) is a stop.
    """
    commas = [row.cell(c) for row in rows.values() for c in ranges if DECIMAL.fullmatch(row.cells[c])]
    values: dict[str, tuple[float | None, ...]] = {}
    for name, row in rows.items():
        read = {c: _number(row.cells[c], limits, "," if not commas else ",.") for c, limits in ranges.items()}
        values[name] = tuple(value for value, _ in read.values())
        for column, (value, hint) in read.items():
            if value is None:
                low, high = ranges[column]
                expected = f"{unit}, {low:g} to {high:g}{hint}"
                findings.append(Finding("stop", checks.UNREADABLE_NUMBER, name, row.cell(column), expected))
    if commas:
        found, file = f"cells: {len(commas)}, the first is {commas[0]}", next(iter(rows.values())).file
        findings.append(Finding("note", checks.DECIMAL_COMMA, file, found, "a decimal point; read as one"))
    return values


def _number(text: str, limits: Range, marks: str) -> tuple[float | None, str]:
    """The number in a cell, None if it is not within the limits or not a number, and a hint at the reason."""
    plain = text.replace(",", ".") if DECIMAL.fullmatch(text) else text
    grouped = GROUPED.fullmatch(text) and any(mark in text for mark in marks)
    if grouped and limits[0] <= float(text.replace(",", "").replace(".", "")) <= limits[1]:
        return None, " (without a mark that may separate thousands)"
    if NUMBER.fullmatch(plain):
        value = float(plain)
        return (value, "") if limits[0] <= value <= limits[1] else (None, "")
    return None, next((hint for pattern, hint in HINTS if pattern.fullmatch(text)), "")
