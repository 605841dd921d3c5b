"""Differences between what is printed and what is recomputed, one line each."""

import math
from collections.abc import Iterator
from typing import Any

from lib.report.recompute import printed
from lib.report.recompute.results import HASHED, Row

RELATIVE, ABSOLUTE = 1e-9, 1e-12  # sums in another order differ by less


def same(one: Any, other: Any) -> bool:
    """Whether two values agree: numbers to nine digits, both missing, or equal."""
    if isinstance(one, str) or isinstance(other, str) or one is None or other is None:
        return one == other
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def differing(file: str, columns: list[str], given: list[Row], expected: list[Row]) -> tuple[list[str], list[Row]]:
    """Differences of a table from the recomputed one, and the table with recomputed values where they differ."""
    names = list(expected[0]) if expected else columns
    if names != columns or len(given) != len(expected):
        found = f"{len(given)} rows of {', '.join(columns)}"
        return [f"{file}: {found}; recomputed {len(expected)} of {', '.join(names)}"], given
    problems, right = [], []
    for place, (row, recomputed) in enumerate(zip(given, expected), start=2):
        wrong = {
            name: float(value) if isinstance(row[name], float) else value  # printed as the other numbers of its column
            for name, value in recomputed.items()
            if value is not HASHED and not same(row[name], value)
        }
        problems += [
            f"{file}, row {place}, column {name}: printed {row[name]}, recomputed {value}"
            for name, value in wrong.items()
        ]
        right.append(row | wrong)
    return problems, right


def differing_print(file: str, markup: str, columns: list[str], rows: list[Row]) -> list[str]:
    """Cells of a .typ file that are not the rounded values of its table."""
    expected = printed.printed_rows(columns, rows)
    try:
        cells = printed.cells_of(markup) if columns else []
    except ValueError as error:
        return [f"{file}: {error}"]
    if len(cells) != len(expected):
        return [f"{file}: {len(cells)} rows; recomputed {len(expected)}"]
    return [
        f"{file}, row {place}, column {name}: printed {on_one_line(text)}, recomputed {value}"
        for place, (texts, row) in enumerate(zip(cells, expected), start=2)
        for text, (name, value) in zip(texts, row.items())
        if on_one_line(text) != on_one_line(value)
    ]


def repaired(markup: str, columns: list[str], rows: list[Row]) -> str:
    """The markup of a table with the cells of these rows; as it is if it has others, which `differing_print` names."""
    right = [list(row.values()) for row in printed.printed_rows(columns, rows)]
    try:
        given = printed.cells_of(markup)
        cells = [
            [text if on_one_line(text) == on_one_line(value) else value for text, value in zip(*pair)]
            for pair in zip(given, right, strict=True)
        ]
        return printed.with_cells(markup, cells)
    except ValueError:
        return markup


def on_one_line(cell: str) -> str:
    """A cell without the line break between a value and its interval that a long table has."""
    return cell.replace("\n", printed.SPACE)


def differing_values(where: str, given: Any, expected: Any) -> Iterator[str]:
    """Differences between two JSON values, each with its path."""
    if isinstance(given, dict) and isinstance(expected, dict):
        for key in sorted(given.keys() | expected.keys()):
            if key not in expected:
                yield f"{where}.{key}: printed {shown(given[key])}, but nothing recomputes it"
            elif key not in given:
                yield f"{where}.{key}: missing, recomputed {shown(expected[key])}"
            else:
                yield from differing_values(f"{where}.{key}", given[key], expected[key])
    elif isinstance(given, list) and isinstance(expected, list) and len(given) == len(expected):
        for place, pair in enumerate(zip(given, expected)):
            yield from differing_values(f"{where}[{place}]", *pair)
    elif type(given) is not type(expected) or given != expected:
        yield f"{where}: printed {shown(given)}, recomputed {shown(expected)}"


def shown(value: Any) -> str:
    """A value in a message; long ones are shortened."""
    text = f"{len(value)} items" if isinstance(value, list | dict) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
