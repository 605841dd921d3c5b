"""Pixel sizes that a user states: one for all images, or a table in one of the project's layouts."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib.data.findings import Finding
from lib.datasets import hc18, lgg, own, strict_table
from lib.datasets.strict_table import Row
from lib.imaging import image_files

HEAD_RANGE_MM = hc18.RANGES_MM["pixel size(mm)"]  # of images of a head; a size in cm or in pixels is outside
RANGE_MM = own.SPACING_RANGE_MM  # of other images
LAYOUTS = {  # column of the name -> columns of the sizes, in alternatives
    "filename": (("pixel size(mm)",),),
    "name": (("spacing_mm",), ("spacing_row_mm", "spacing_col_mm")),
    "patient": (("row_mm", "col_mm", "slice_mm"),),
}
TOLERANCE = 0.01  # relative difference up to which two pixel sizes are one, as written with few digits
EXPECTED = (
    "expected the columns filename and pixel size(mm), as in HC18; name and spacing_mm (or spacing_row_mm and "
    "spacing_col_mm), as in cases.csv; or patient, row_mm, col_mm and slice_mm, as in spacing.csv"
)
MANY = 5  # faults in a message
Range = tuple[float, float]


@dataclass(frozen=True)
class PixelSizes:
    """What was stated on the command line, in mm."""

    one: float | None = None  # of all images
    table: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # (row, col) or (row, col, slice) by name
    source: str = ""  # in words

    def of(self, path: Path) -> tuple[float, ...] | None:
        """(row, col) of a file, with the slices' distance where a table has it; None if nothing was stated."""
        if self.one is not None:
            return self.one, self.one
        return self.table.get(_folded(path.name), self.table.get(_folded(path.stem)))


def limits_mm(is_head: bool) -> Range:
    """Smallest and largest pixel size that is believed."""
    return HEAD_RANGE_MM if is_head else RANGE_MM


def parse(text: str, limits: Range) -> PixelSizes:
    """The pixel size of all images; ValueError unless it is a number of mm within the limits."""
    row = Row("--pixel-size", 1, {"MM": text.strip()})
    findings: list[Finding] = []
    ((value,),) = strict_table.numbers({"": row}, {"MM": limits}, findings).values()
    if value is None or "," in text:
        expected = findings[0].expected if value is None else f"mm, {limits[0]:g} to {limits[1]:g} (a decimal point?)"
        raise ValueError(f'pixel-size = "{text}"   not allowed; {expected}{_hint(text, limits)}')
    return PixelSizes(one=value, source="stated (--pixel-size)")


def _hint(text: str, limits: Range) -> str:
    """A hint at a number that would be allowed in another unit."""
    try:
        value = float(text)
    except ValueError:
        return ""
    return " (is it in cm?)" if value < limits[0] <= 10 * value <= limits[1] else ""


def read_table(path: Path, limits: Range) -> PixelSizes:
    """Pixel sizes by name of the file; ValueError, with all bad rows, if the table has another layout or a bad number.

    A name may have its suffix or not, and other letter case; a row whose size is empty counts as none.
    """
    findings: list[Finding] = []
    known = [name for key, sizes in LAYOUTS.items() for name in (key, *(each for part in sizes for each in part))]
    rows = strict_table.read(path, (), findings, known)
    key, columns = _layout(path, list(rows[0].cells))
    named = strict_table.named_rows(rows, lambda row: _name(row.cells[key]), findings)
    full = {name: row for name, row in strict_table.unique_rows(named, findings).items() if _is_full(row, columns)}
    ranges = {name: lgg.SPACING_RANGES_MM.get(name, limits) for name in columns}
    sizes = strict_table.numbers(full, ranges, findings)
    stops = [each for each in findings if each.severity == "stop"]
    if stops:
        listed = "; ".join(f"{each.found}; expected {each.expected}" for each in stops[:MANY])
        more = f"; and {len(stops) - MANY} more" if len(stops) > MANY else ""
        raise ValueError(f"{path}: {listed}{more}")
    table = {name: size if len(size) > 1 else size * 2 for name, size in sizes.items()}
    return PixelSizes(table=table, source=path.name)  # type: ignore[arg-type]  # None only with a stop


def _layout(path: Path, columns: list[str]) -> tuple[str, tuple[str, ...]]:
    """Column of the name, and those of the sizes, of a table with these columns."""
    for key, alternatives in LAYOUTS.items():
        for sizes in alternatives:
            if {key, *sizes} <= set(columns):
                return key, sizes
    raise ValueError(f"{path}: columns {columns}; {EXPECTED}")


def _is_full(row: Row, columns: tuple[str, ...]) -> bool:
    return all(row.cells[name] for name in columns)


def _name(text: str) -> str:
    """A name in a table without the suffix of an image, folded."""
    path = Path(text)
    return _folded(path.stem if path.suffix.lower() in image_files.IMAGE_SUFFIXES else text)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
