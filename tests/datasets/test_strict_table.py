import unicodedata

import pytest

from lib.data.findings import Check
from lib.datasets import strict_table

REQUIRED = ["name", "mm"]


def read(folder, content, **how):
    path = folder / "sizes.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return strict_table.read(path, REQUIRED, **how)


def cells(rows):
    return [list(row.cells.values()) for row in rows]


@pytest.mark.parametrize(
    "content",
    [
        "name,mm\na,0.1\nb,0.2\n",
        "\ufeffname,mm\r\na,0.1\r\nb,0.2",
        "name;mm\na;0.1\n;\n\nb; 0.2\n\n",
        '\nname,"mm",,\n a ,0.1,,,\n"b",0.2\n',
    ],
    ids=["plain", "byte-order mark, Windows", "semicolons, blank rows", "blank line, cells and blanks"],
)
def test_spellings_of_one_table_are_read_alike(tmp_path, content):
    assert cells(read(tmp_path, content)) == [["a", "0.1"], ["b", "0.2"]]


def test_columns_may_be_in_any_order_and_text_is_composed_unicode_and_stays_text(tmp_path):
    (row,) = read(tmp_path, ",mm,about,name\n0,0.1,x,a\n")
    assert (row.cells["name"], row.cells["mm"], row.cells["about"]) == ("a", "0.1", "x")
    decomposed = unicodedata.normalize("NFD", "name,mm\nZoë,nan\nNA,\n")
    assert cells(read(tmp_path, decomposed)) == [["Zoë", "nan"], ["NA", ""]]
    assert read(tmp_path, "NAME,Mm\na,1\n", normalise=str.lower)[0].cells == {"name": "a", "mm": "1"}


@pytest.mark.parametrize(
    ("content", "line"),
    [("name,mm\na,1\n", 2), ("\n\nname,mm\n\n,\na,1\n", 6), ('name,mm,about\nb,1,"two\nlines"\na,1,\n', 4)],
)
def test_rows_are_counted_as_lines_of_the_file(tmp_path, content, line):
    row = read(tmp_path, content)[-1]
    assert (row.cells["name"], row.at) == ("a", f"sizes.csv, row {line}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,mm\na,Größe\n".encode("latin-1"), "cannot be read as a table in UTF-8: 'utf-8' codec"),
        (b"\xff\xfe\x00", "cannot be read as a table in UTF-8: 'utf-8' codec"),
        ('name,mm\na,"0.1\n', "cannot be read as a table in UTF-8: unexpected end of data"),
        ("", r"columns \['name', 'mm'\] are missing; found \[\], expected \['name', 'mm'\]"),
        ("name,spacing\na,1\n", r"columns \['mm'\] are missing; found \['name', 'spacing'\]"),
        ("name,mm,mm\na,1,1\n", r"columns \['mm'\] appear twice"),
        ("name,mm,a,a\na,1,1,1\n", r"columns \['a'\] appear twice"),
        ("name,mm\n\n", "no rows below the header"),
        ("name,mm\n\na,0,1\n", r"row 3: 3 fields; expected 2 \(a decimal point\?\)"),
        ("name,mm\na,1\nb\n", r"row 3: 1 fields; expected 2$"),
    ],
)
def test_an_invalid_table_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"sizes\.csv[:,] {message}"):
        read(tmp_path, content)
    (tmp_path / "sizes.csv").unlink()
    (tmp_path / "sizes.csv").symlink_to(tmp_path / "sizes.csv")
    with pytest.raises(ValueError, match=r"sizes\.csv: cannot be read as a table in UTF-8: .*symbolic link"):
        strict_table.read(tmp_path / "sizes.csv", REQUIRED)


@pytest.mark.parametrize(("separator", "rest"), [(",", "0,12"), (",", "0,1,2"), (";", "0;12")])
def test_surplus_cells_may_join_the_last_column_and_missing_ones_are_refused(tmp_path, separator, rest):
    table = f"name{separator}mm\na{separator}{rest}\n"
    assert cells(read(tmp_path, table, rest_in_last=True)) == [["a", rest]]
    with pytest.raises(ValueError, match=r"row 3: 1 fields; expected 2"):
        read(tmp_path, f"{table}b\n", rest_in_last=True)


def row_of(mm="0.1", line=2):
    return strict_table.Row("sizes.csv", line, {"name": "a", "mm": mm})


@pytest.mark.parametrize("text", ["0.02", "1", "1e-1", "0,5"])
def test_a_number_within_range_is_no_finding(text):
    findings = []
    (value,) = strict_table.numbers(row_of(text), {"mm": (0.02, 1.0)}, "a", findings, comma="," in text)
    assert (value, findings) == (float(text.replace(",", ".")), [])


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-0.1", "0.019", "1.01", "0.1 mm", "0,1"])
def test_an_unreadable_number_or_one_out_of_range_stops_with_row_column_text_and_range(text):
    findings = []
    assert strict_table.numbers(row_of(text, line=7), {"mm": (0.02, 1.0)}, "a", findings, "cm") == (None,)
    (found,) = findings
    assert (found.severity, found.check.name, found.case) == ("stop", "unreadable number", "a")
    assert found.found == f'sizes.csv, row 7, column "mm": "{text}"'
    assert found.expected == f"cm, 0.02 to 1{strict_table.HINT if ',' in text else ''}"


def test_a_second_row_of_a_name_stops_and_a_row_without_a_file_or_a_file_without_a_row_warns():
    findings, other = [], Check("two rows for one patient", "keep the correct row")
    rows = [row_of(line=line) for line in (2, 3, 5)]
    assert strict_table.unique_rows(zip("aba", rows), findings, other) == {"a": rows[0], "b": rows[1]}
    (found,) = findings
    assert (found.severity, found.check, found.case) == ("stop", other, "a")
    assert (found.found, found.expected) == ("sizes.csv, row 2 and row 5", "one row")
    (found,) = strict_table.rows_without_file([("a", row_of()), ("b", row_of(line=3))], {"a"})
    assert (found.severity, found.check.name, found.case) == ("warn", "row without a file", "b")
    assert found.found == "sizes.csv, row 3"
    found = strict_table.missing_row("c", "sizes.csv")
    assert (found.severity, found.check.name, found.case) == ("warn", "missing pixel size", "c")
