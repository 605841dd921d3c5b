"""Rows of verified tables as values and in print, and lists in words."""

import math
from typing import NamedTuple

from lib.report.recompute import printed
from lib.report.recompute.results import Row

Table = tuple[list[str], list[Row]]  # columns and rows


class Line(NamedTuple):
    """A row of a table as values and in print."""

    v: Row
    t: dict[str, str]

    def with_unit(self, name: str, unit: str = "") -> str:
        """A cell with the unit behind its value, and a range in words."""
        value, *rest = self.t[name].split(printed.SPACE, 1)
        beside = "".join(printed.SPACE + each for each in rest)
        if beside.startswith(f"{printed.SPACE}("):
            beside = f"{printed.SPACE}(range{printed.SPACE}{beside[2:]}"
        if beside == f"{printed.SPACE}[all{printed.SPACE}equal]":
            beside = f"{printed.SPACE}(all{printed.SPACE}equal)"
        return value + (printed.SPACE + unit if unit else "") + beside

    def bare(self, name: str) -> str:
        """A cell without its interval."""
        return self.t[name].split(printed.SPACE)[0]

    def side(self, name: str, centre: float = 0.0) -> int | None:
        """Where the interval lies: above (1) or below (-1) the centre, around it (0), or nowhere."""
        low, high = self.v[f"{name}_low"], self.v[f"{name}_high"]
        if math.isnan(low + high):
            return None
        return 1 if low > centre else -1 if high < centre else 0


class Tables:
    """Verified tables by name, of which those by stage are taken after post-processing."""

    def __init__(self, verified: dict[str, Table]):
        self.verified = verified

    def columns(self, name: str) -> list[str]:
        """Columns of a table; none if the study has no such table."""
        return self.verified.get(name, ([], []))[0]

    def lines(self, name: str) -> list[Line]:
        """Rows of a table."""
        columns, rows = self.verified.get(name, ([], []))
        return [line for line in lines_of(columns, rows) if line.v.get("stage", "post") == "post"]


def lines_of(columns: list[str], rows: list[Row]) -> list[Line]:
    """Rows with what is printed of them."""
    return [Line(*pair) for pair in zip(rows, printed.printed_rows(columns, rows))]


def listed(items: list[str]) -> str:
    """Items in words."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""


def p_text(cell: str) -> str:
    """A p value as an equation."""
    return cell.replace("<", "p < ") if "<" in cell else f"p = {cell}"


def name_of(line: Line, every: list[Line]) -> str:
    """A quantity, with its route where there are several."""
    several = [each for each in every if each.v["quantity"] == line.v["quantity"]]
    return line.t["quantity"] + (f" by {line.v['route']}" if len(several) > 1 else "")


def names(lines: list[Line], every: list[Line]) -> str:
    """Quantities in words."""
    return listed([name_of(line, every) for line in lines])


def each_of(lines: list[Line], column: str, unit: str) -> str:
    """A value of each quantity."""
    return listed([f"{line.with_unit(column, unit)} for {name_of(line, lines)}" for line in lines])


def apart(line: Line, other: Line, name: str) -> int | None:
    """On which side of another interval one lies."""
    low, high, least, most = (each.v[f"{name}_{end}"] for each in (line, other) for end in ("low", "high"))
    if math.isnan(low + high + least + most):
        return None
    return 1 if low > most else -1 if high < least else 0


def bias(lines: list[Line], measured: list[str], unit: str) -> list[str]:
    """Too large, too small, or no bias shown."""
    forms = {
        1: "On average, {0} {1} too large (bias {2}).",
        -1: "On average, {0} {1} too small (bias {2}).",
        0: "No bias of {0} was shown ({2}).",
        None: "The bias of {0} was {2}.",
    }
    texts = []
    for side, form in forms.items():
        of = [(line, name) for line, name in zip(lines, measured) if line.side(f"bias_{unit}") == side]
        values = listed([line.with_unit(f"bias_{unit}", unit) for line, _ in of])
        text = form.format(listed([name for _, name in of]), "was" if len(of) == 1 else "were", values)
        texts += [text] if of else []
    return texts


def margin(lines: list[Line]) -> str:
    """The margin of equivalence."""
    return f"±{lines[0].v['margin_percent']:g}{printed.SPACE}%" if lines else ""
