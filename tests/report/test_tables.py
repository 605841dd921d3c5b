from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typst

from lib.report import tables

# 1.2345 with the decimals of each unit.
ROUNDED = {"mm": "1.23", "mm2": "1.2", "px": "1.23", "ml": "1.23", "voxels": "1", "percent": "1.2", "deg": "1.2"}


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (0.97149, "dice", "0.971"),
        (-1.005, "bias_mm", "−1.00"),
        (-0.001, "bias_mm", "0.00"),
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
    names = ["dice", "pooled_dice", "mae_mm", "mae_percent", "hc_mm", "n", "fold_groups"]
    read = ["Dice", "Pooled Dice", "Mean abs. error (mm)", "Mean abs. error (%)", "HC (mm)", "n", "Fold groups"]
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


def test_a_value_and_its_interval_share_a_column_in_typst_and_in_notebooks() -> None:
    table = pd.DataFrame({"mae_mm": [1.234], "mae_low": [1.1], "mae_high": [1.4], "mae_percent": [0.5]})
    text = tables.to_typst(table).replace(tables.KEEP, " ")
    assert '"1.23 [1.10, 1.40]", "0.5"' in text
    assert "columns: 2" in text
    assert '  "1.23", "0.5",' in tables.to_typst(table.assign(mae_low=np.nan, mae_high=np.nan))  # no interval
    table = pd.DataFrame(
        {"class": ["csp"], "n": [3], "dice": [0.9], "dice_low": [0.85], "dice_high": [0.95]}, index=[7]
    )
    read = tables.readable(table)
    assert [text.replace(tables.KEEP, " ") for text in read.columns] == ["Class", "n", "Dice [95 % CI]"]
    assert [text.replace(tables.KEEP, " ") for text in read.iloc[0]] == ["CSP", "3", "0.900 [0.850, 0.950]"]
    assert all(f'"{cell}"' in tables.to_typst(table) for cell in read.iloc[0])
    assert list(tables.readable(table.iloc[:0]).columns) == list(read.columns)
    # a wide table is set smaller, so that it fits the page
    wide, narrow = (pd.DataFrame({f"column{n}": [0.5] for n in range(count)}) for count in (12, 11))
    assert tables.to_typst(wide).startswith("#show table: set text(")
    assert tables.to_typst(narrow).startswith("#table(")
