import json
from pathlib import Path

import numpy as np
import pandas as pd
import pypdfium2
import pytest
import typst

from lib import statistics
from lib.report import fonts, tables
from lib.report.recompute import compare, printed
from lib.report.summaries import means

# 1.2345 with the decimals of each unit.
ROUNDED = {"mm": "1.23", "mm2": "1.2", "px": "1.23", "ml": "1.23", "voxels": "1", "percent": "1.2", "deg": "1.2"}


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (0.97149, "dice", "0.971"),
        (-1.005, "bias_mm", "−1.00"),
        (-0.001, "bias_mm", ">−0.01"),
        (0.001, "bias_mm", "<0.01"),
        (-0.04, "bias_percent", ">−0.1"),
        (-0.005001, "bias_mm", "−0.01"),
        (-0.0, "bias_mm", "0.00"),
        (-1e-15, "bias_mm", "0.00"),  # a rounding error
        (0.0004, "p", "<0.001"),
        (0.0004, "p_adjusted", "<0.001"),
        *((1.2345, f"error_{unit}", text) for unit, text in ROUNDED.items()),
        (0.15384, "spacing_row_mm", "0.154"),
        (12345, "parameters", "12\u00a0345"),
        (np.nan, "dice", "–"),
        (None, "threshold", "–"),
        (0.00012, "learning_rate", "0.00012"),
        (0.00051, "learning_rate", "0.001"),
        (640.0, "value", "640"),
        (0.04941, "value", "0.0494"),
        ("csp", "class", "CSP"),
        ("csp", "case", "csp"),
        (True, "stopped_early", "yes"),
        (np.int64(3), "missed", "3"),
    ],
)
def test_a_cell_is_formatted(value: object, name: str, text: str) -> None:
    assert tables.format_cell(value, name) == text


def test_a_column_s_title() -> None:
    names = ["dice", "pooled_dice", "mae_mm", "mae_percent", "hc_mm", "n", "fold_groups", "bias_voxels"]
    read = ["Dice", "Pooled Dice", "Mean abs. error (mm)", "Mean abs. error (%)", "HC (mm)", "n", "Fold groups"]
    read += ["Bias (voxels)"]
    assert [tables.title(name) for name in names] == read


def test_the_csv_keeps_every_digit_and_equal_tables_give_equal_bytes(tmp_path: Path) -> None:
    table = pd.DataFrame({"dice": [1 / 3], "case": ["a"]})
    tables.save(table, tmp_path / "x")
    assert pd.read_csv(tmp_path / "x.csv", float_precision="round_trip")["dice"].item() == 1 / 3
    tables.save(table, tmp_path / "y")
    for suffix in (".csv", ".typ"):
        assert (tmp_path / f"x{suffix}").read_bytes() == (tmp_path / f"y{suffix}").read_bytes()


def test_tables_without_rows_or_columns_and_text_with_typst_markup_compile(tmp_path: Path) -> None:
    wild = '#panic("x") *b* _i_ $1$ @ref <l> \\ "q" ] } // /* `'
    text = tables.to_typst(pd.DataFrame({"found": [wild], "n": [1]}))
    escaped = wild.replace("\\", "\\\\").replace('"', '\\"')
    assert f'"{escaped}"' in text
    for typ in (text, tables.to_typst(pd.DataFrame(columns=["case", "flags"])), tables.to_typst(pd.DataFrame())):
        (tmp_path / "x.typ").write_text(typ, encoding="utf-8")
        typst.compile(tmp_path / "x.typ", output=tmp_path / "x.pdf", ignore_system_fonts=True)
    assert tables.readable(pd.DataFrame()).empty


def estimates(name: str, rows: list[tuple[float, ...]]) -> pd.DataFrame:
    return pd.DataFrame([means.with_interval(name, statistics.Estimate(*row)) for row in rows])


NAN = float("nan")
WITH = (0.9, 0.85, 0.95, 30, 20, 0.2, 0.99)  # value, low, high, count, subjects, least, largest
WITHOUT = (0.804, NAN, NAN, 4, 3, 0.48, 0.895)


@pytest.mark.parametrize(
    ("rows", "title", "cells"),
    [
        ([WITH], "Dice [95 % CI]", ["0.900 [0.850, 0.950]"]),
        ([WITHOUT], "Dice (min to max)", ["0.804 (0.480 to 0.895)"]),
        ([WITH, WITHOUT], "Dice [95 % CI] or (min to max)", ["0.900 [0.850, 0.950]", "0.804 (0.480 to 0.895)"]),
        ([(0.9, NAN, NAN, 1, 1, 0.9, 0.9)], "Dice (min to max)", ["0.900"]),
        ([(NAN, NAN, NAN, 0, 0, NAN, NAN), WITH], "Dice [95 % CI]", ["–", "0.900 [0.850, 0.950]"]),
        # one number of decimals in a cell, also of numbers that have significant digits elsewhere; no sign is lost
        ([(8.74e-05, -0.0002, 0.0012, 9, 9, -1, 1)], "Dice [95 % CI]", ["<0.001 [>−0.001, 0.001]"]),
        # nothing varies: not of one value, and not a median whose limits are tied though the values differ
        ([(1.0, 1.0, 1.0, 9, 9, 1.0, 1.0)], "Dice [95 % CI]", ["1.000 [all equal]"]),
        ([(0.1 + 0.2, 0.3, 0.3, 9, 9, 0.3, 0.1 + 0.2)], "Dice [95 % CI]", ["0.300 [all equal]"]),
        (
            [(0.5, NAN, NAN, 4, 3, 0.5, 0.5), WITHOUT],
            "Dice (min to max)",
            ["0.500 [all equal]", "0.804 (0.480 to 0.895)"],
        ),
        ([(1.0, 1.0, 1.0, 9, 9, 0.5, 1.0)], "Dice [95 % CI]", ["1.000 [1.000, 1.000]"]),
        ([(2.0, 2.0, 2.0, 9, 9, NAN, NAN)], "Dice [95 % CI]", ["2.000 [all equal]"]),  # limits of equal differences
    ],
)
def test_an_interval_cannot_be_mistaken_for_a_range_and_names_its_subjects(rows, title, cells) -> None:
    table = estimates("dice", rows)
    read = tables.readable(table, "examination").map(lambda text: text.replace(tables.KEEP, " "))
    assert [text.replace(tables.KEEP, " ") for text in read.columns] == ["Examinations", title]
    assert read.iloc[:, 0].tolist() == [str(row[4]) for row in rows]
    assert read.iloc[:, 1].tolist() == cells
    assert all(f'"{cell}"' in tables.to_typst(table, "examination").replace(tables.KEEP, " ") for cell in cells)
    assert tables.readable(table.iloc[:0], "examination").columns[0] == "Examinations"


def test_equal_numbers_of_subjects_are_printed_once_and_others_with_their_value() -> None:
    dice = estimates("dice", [WITH]).assign(n=30)[["n", *estimates("dice", [WITH]).columns]]
    same, other = dice.join(estimates("iou", [WITH])), dice.join(estimates("error_mm", [WITHOUT]))
    assert tables.printed_columns(same) == ["n", "dice_subjects", "dice", "iou"]
    assert tables.printed_titles(other, "patient")[1::2] == ["Patients: Dice", "Patients: Error (mm)"]
    bounds = pd.DataFrame({"rate": [0.5], "rate_low": [0.2], "rate_high": [0.8]})  # without subjects and extremes
    assert tables.printed_cells(bounds) == {"rate": [f"0.500{tables.KEEP}[0.200,{tables.KEEP}0.800]"]}


def test_a_table_in_one_line_per_row_is_not_set_smaller() -> None:
    assert tables.to_typst(pd.DataFrame({f"column{n}": [0.5] for n in range(8)})).startswith("#table(")


def of_classes(count: int, rows: int) -> pd.DataFrame:
    columns = [estimates(f"dice_of_{n}", [WITH, WITHOUT] * (rows // 2)) for n in range(count)]
    return pd.concat([pd.DataFrame({"class": [f"c{n}" for n in range(rows)]}), *columns], axis=1)


def test_a_wide_table_is_set_at_8_pt_with_intervals_below_the_values() -> None:
    table = of_classes(6, 8)
    text = tables.to_typst(table).replace(tables.KEEP, " ")
    assert text.startswith("#show table: set text(8.0pt)")
    assert text.count('"0.900\\n[0.850, 0.950]"') == text.count('"0.804\\n(0.480 to 0.895)"') == 6 * 4
    assert not any("\n" in cell for cell in tables.readable(table).to_numpy().ravel())  # elsewhere on one line


def test_a_table_too_wide_for_that_is_turned_or_if_long_has_its_intervals_in_two_lines() -> None:
    turned, long = (tables.to_typst(of_classes(9, rows)).replace(tables.KEEP, " ") for rows in (2, 8))
    assert turned.startswith("// turned")
    assert "columns: 3," in turned
    assert '"Dice of 8 [95 % CI] or (min to max)", "0.900 [0.850, 0.950]", "0.804 (0.480 to 0.895)",' in turned
    assert '"0.900\\n[0.850,\\n0.950]"' in long
    assert "columns: 11," in long


QUANTITIES, GROUPS = ("bpd", "ofd", "hc"), [f"hc{n}" for n in range(6)]


def by_groups() -> pd.DataFrame:
    """Six groups of three quantities, with intervals as wide as those of the largest errors of heads."""
    rows = [{"quantity": each, "route": "landmark", "group": group, "n": 7} for each in QUANTITIES for group in GROUPS]
    wide, extremes = (-25.22, -177.35, -11.21, 30, 20, -180.5, 9.25), (-22.95, NAN, NAN, 4, 3, -25.03, -14.78)
    names = ("bias_mm", "lower_limit_mm", "upper_limit_mm", "mae_mm")
    return pd.concat([pd.DataFrame(rows), *(estimates(name, [wide, extremes] * 9) for name in names)], axis=1)


def test_what_the_rows_of_a_long_table_share_stands_once_above_them() -> None:
    table = by_groups()
    text = tables.to_typst(table)
    assert [text.count(f'"{quantity.upper()}" + ", route " + "landmark"') for quantity in QUANTITIES] == [1, 1, 1]
    assert text.count("landmark") == 3
    assert '"Group", "n",' in text
    few, unlike = table.iloc[::3], table.assign(route=[f"by {n}" for n in range(len(table))])  # two rows a quantity
    assert "level: 2" not in tables.to_typst(few.head(6))
    assert 'strong("BPD"))' in tables.to_typst(unlike)  # what not three rows share remains in each
    assert '"by 0", "hc0",' in tables.to_typst(unlike)


def test_an_interval_stays_on_one_line_of_the_page(tmp_path) -> None:
    (tmp_path / "x.typ").write_text(tables.to_typst(by_groups()), encoding="utf-8")
    style = '#set text(font: "STIXGeneral")\n#set page(margin: 25mm)\n#set table(inset: (x: 3pt, y: 3.2pt))\n'
    (tmp_path / "main.typ").write_text(style + '#include "x.typ"', encoding="utf-8")
    own = [fonts.copy_to(tmp_path / "fonts")]
    typst.compile(tmp_path / "main.typ", tmp_path / "x.pdf", font_paths=own, ignore_system_fonts=True)
    page = pypdfium2.PdfDocument(tmp_path / "x.pdf")[0].get_textpage()
    lines = [line.strip() for line in page.get_text_bounded().replace(tables.KEEP, " ").split("\n")]
    assert lines.count("[−177.35, −11.21]") == lines.count("(−25.03 to −14.78)") == 4 * 9


@pytest.mark.parametrize(("columns", "rows"), [(1, 2), (6, 8), (9, 2), (8, 8)])
def test_no_table_is_wider_than_the_page_in_the_report_s_font(tmp_path, columns: int, rows: int) -> None:
    (tmp_path / "x.typ").write_text(tables.to_typst(of_classes(columns, rows)), encoding="utf-8")
    style = '#set text(font: "STIXGeneral")\n#set table(inset: (x: 3pt, y: 3.2pt))\n#show table: set text(8.5pt)\n'
    style += '#show table.cell.where(y: 0): set text(weight: "bold")\n'
    measured = '#context [#metadata(measure(include "x.typ").width / 1mm) <width>]'
    (tmp_path / "main.typ").write_text(style + measured, encoding="utf-8")
    own = [fonts.copy_to(tmp_path / "fonts")]
    compiler = typst.Compiler(tmp_path / "main.typ", root=tmp_path, font_paths=own, ignore_system_fonts=True)
    assert json.loads(compiler.query("<width>", field="value"))[0] <= tables.TEXT_MM


@pytest.mark.parametrize("table", [*(of_classes(*size) for size in ((1, 2), (6, 8), (9, 2), (8, 8))), by_groups()])
def test_printed_cells_are_read_back_and_replaced_however_the_table_is_set(table: pd.DataFrame) -> None:
    markup = tables.to_typst(table)
    expected = [*map(list, zip(*tables.printed_cells(table).values()))]
    read = printed.cells_of(markup)
    assert [[compare.on_one_line(cell) for cell in row] for row in read] == expected
    assert printed.with_cells(markup, read) == markup
    changed = [[cell + "x" for cell in row] for row in read]
    assert printed.cells_of(printed.with_cells(markup, changed)) == changed


def test_a_row_that_no_longer_shares_the_cells_above_it_is_not_put_below_them() -> None:
    markup = tables.to_typst(by_groups())
    rows = printed.cells_of(markup)
    with pytest.raises(ValueError, match="has rows that share other cells"):
        printed.with_cells(markup, [*rows[:7], ["HC", *rows[7][1:]], *rows[8:]])
    with pytest.raises(ValueError, match="has a row of 6 cells; expected 7"):
        printed.cells_of(markup.replace('"hc3", ', ""))
