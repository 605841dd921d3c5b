import os
import unicodedata

import pytest

from lib.data.findings import Check
from lib.datasets import strict_table

REQUIRED = ["name", "mm"]
TABLE = "name,mm\na,0.1\nb,0.2\n"
UTF_8 = r'; expected UTF-8 \(spreadsheets save it as "CSV UTF-8"\)'


def read(folder, content, optional=()):
    """Rows of a table and what its note says, "" without one."""
    path, findings = folder / "sizes.csv", []
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    rows = strict_table.read(path, REQUIRED, findings, optional)
    assert [(f.severity, f.check.name, f.case) for f in findings] in ([], [("note", "form of a table", "sizes.csv")])
    return rows, "".join(finding.found for finding in findings)


def cells(rows):
    return [list(row.cells.values()) for row in rows]


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (TABLE, ""),
        ("\ufeff" + TABLE.replace("\n", "\r\n"), ""),
        (TABLE.replace("\n", "\r"), ""),  # "CSV (Macintosh)"
        ('\nname,"mm",,\n a ,0.1,,,\n"b",0.2\n\n\n', ""),
        ('name, mm\na, "0.1"\nb, 0.2\n', ""),
        ("name;mm\na;0.1\nb; 0.2\n", "separated by semicolons"),
        (TABLE.replace(",", "\t"), "separated by tabs"),
        (TABLE.replace(",", "\t").encode("utf-16"), "encoded in UTF-16; separated by tabs"),
        (TABLE + ",,\r\n , \n\n", "blank rows: 2, the first is row 4"),
        ("Name, MM \na,0.1\nb,0.2\n", 'heading "Name" for "name"; heading "MM" for "mm"'),
        ("sep=;\r\nname;mm\r\na;0.1\r\nb;0.2\r\n", 'first line "sep=;"; separated by semicolons'),
        ('"SEP=,"\nname,mm\na,0.1\nb,0.2\n', 'first line ""SEP=,""'),
        ('"name" ,"mm"\n"a" ,"0.1"\n"b","0.2" \n', "blanks after quotation marks"),
        ("name,,mm\na,x,0.1\nb,y,0.2\n", "columns without a heading: 1, not read"),
        ('"","name","mm"\n"1","a",0.1\n"2","b",0.2\n', "columns without a heading: 1, not read"),
        ("name,m m\na,0.1\nb,0.2\n", ""),
        ("name,(mm)\na,0.1\nb,0.2\n", 'heading "(mm)" for "mm"'),
    ],
)
def test_spellings_of_one_table_are_read_alike_and_noted(tmp_path, content, note):
    rows, found = read(tmp_path, content)
    assert (cells(rows), found) == ([["a", "0.1"], ["b", "0.2"]], note)


def test_columns_may_be_in_any_order_and_text_is_composed_unicode_and_stays_text(tmp_path):
    (row,), note = read(tmp_path, ",mm,About,name\n0,0.1,x,a\n", optional=["about"])
    assert (row.cells["name"], row.cells["mm"], row.cells["about"]) == ("a", "0.1", "x")
    assert note == 'columns without a heading: 1, not read; heading "About" for "about"'
    assert "" not in row.cells
    decomposed = unicodedata.normalize("NFD", "name,mm\nZoë,nan\nNA,\n")
    assert cells(read(tmp_path, decomposed)[0]) == [["Zoë", "nan"], ["NA", ""]]


@pytest.mark.parametrize(
    ("content", "line"),
    [("name,mm\na,1\n", 2), ("\n\nname,mm\n\n,\na,1\n", 6), ('name,mm,about\nb,1,"two\nlines"\na,1,\n', 4)],
)
def test_rows_are_counted_as_lines_of_the_file(tmp_path, content, line):
    row = read(tmp_path, content)[0][-1]
    assert (row.cells["name"], row.at) == ("a", f"sizes.csv, row {line}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,mm\na,Größe\n".encode("cp1252"), rf", row 2: byte 0xf6 is not utf-8 \(an .*Windows-1252\?\){UTF_8}"),
        (b"\xff\xfe\x00", f", row 1: byte 0x00 is not utf-16-le{UTF_8}"),
        (TABLE.encode("utf-16-le"), f", row 1: contains a null character{UTF_8}"),
        ('name,mm\na,0.1\n\nb,"0.1\nc,0.2\n', ", row 5: the quotation mark opened in row 4 is not closed"),
        ('name,mm\n"a,0.1\nb"c,0.1\n', r", row 3: cannot be read as a table: .*\(a quotation mark opened in row 2\?\)"),
        ("", r": the file is empty \(0 bytes\); expected a header"),
        ("\n", r": columns \['name', 'mm'\] are missing; found \[\], expected \['name', 'mm'\]"),
        (b"PK\3\4\x14\0", ": its content is a workbook, which is not read; save it as CSV UTF-8"),
        (
            "name,mm,about\na;0,1;x\n",
            r", row 2: 2 fields.* \(separated by semicolons, but the header by commas; use one",
        ),
        ("name,mm\na;1\n", r", row 2: 1 fields; expected 2 \(separated by semicolons, but the header by commas"),
        ("name,spacing\na,1\n", r": columns \['mm'\] are missing; found \['name', 'spacing'\]"),
        ("name,mm,MM\na,1,1\n", r": columns \['mm'\] appear twice; found \['name', 'mm', 'MM'\]"),
        ("name,mm,a,a\na,1,1,1\n", r": columns \['a'\] appear twice"),
        ("name,mm\n\n", ": no rows below the header"),
        ("name,mm\n\na,0,1\n", r", row 3: 3 fields; expected 2 \(a decimal comma without quotation marks\?.*point\)$"),
        ("name,mm\na,0,1\nb,0,2\n", r", row 2: 3 fields; expected 2 .*; so in 2 rows$"),
        ("name,mm\na,1\nb\n", r", row 3: 1 fields; expected 2 \(mm missing\)$"),
        ("name,mm,about\na,1\nb\n", r", row 3: 1 fields; expected 3 \(mm, about missing\)$"),
        ('"name","mm"\n"1","a",0.1\n"2","b",0.2\n', r", row 2: 3 fields; expected 2 \(row names without a heading\?.*"),
        ("name,mm\n1,0,1\n2,0,2\n", r", row 2: 3 fields; expected 2 \(a decimal comma"),
        ("name;mm\na;0;1\n", ", row 2: 3 fields; expected 2$"),
        ("name,mm\na,b,0.1\n", ", row 2: 3 fields; expected 2$"),
        (
            f"name,{'m' * 200_000}\na,1\n",
            ": the header cannot be read as one of a table: field larger than field limit",
        ),
        ("name,mm\n" + f"{'a' * 200_000},1\n", ", row 2: cannot be read as a table: field larger than field limit"),
    ],
)
def test_an_invalid_table_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"sizes\.csv{message}"):
        read(tmp_path, content)


def test_a_link_to_itself_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "a.csv").symlink_to(tmp_path / "a.csv")
    os.mkfifo(tmp_path / "b.csv")  # would be waited for without end
    for name, message in (("a", "cannot be read as a table: .*symbolic link"), ("b", "not a file; expected a table")):
        with pytest.raises(ValueError, match=rf"{name}\.csv: {message}"):
            strict_table.read(tmp_path / f"{name}.csv", REQUIRED, [])


def row_of(mm="0.1", line=2):
    return strict_table.Row("sizes.csv", line, {"name": "a", "mm": mm})


def number(texts, limits=(0.02, 1.0), unit="mm"):
    """Numbers of a column and (severity, check, case, found, expected) of its findings."""
    rows, findings = {f"case{n}": row_of(text, n) for n, text in enumerate(texts, start=2)}, []
    values = [value for (value,) in strict_table.numbers(rows, {"mm": limits}, findings, unit).values()]
    return values, [(f.severity, f.check.name, f.case, f.found, f.expected) for f in findings]


def test_numbers_within_range_are_no_finding_and_decimal_commas_are_one_note():
    assert number(["0.02", "1", "1e-1", "1.5E-01"]) == ([0.02, 1, 0.1, 0.15], [])
    values, (note,) = number(["0.5", "0,5", ",5", "1,5E-01", "0,154"])
    assert values == [0.5, 0.5, 0.5, 0.15, 0.154]
    assert note[:3] == ("note", "decimal comma", "sizes.csv")
    assert note[3:] == ('cells: 4, the first is sizes.csv, row 3, column "mm": "0,5"', "a decimal point; read as one")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        *((text, "") for text in ("", "x", "nan", "inf", "-0.1", "0.019", "1.01", "1_0", "٣")),
        *((text, " (without a unit)") for text in ("0.1 mm", "0,1mm")),
        *((text, " (without a per cent sign)") for text in ("50%", "50 %")),
        *((text, " (without a thousands separator)") for text in ("1.234,5", "1 234", "1,234,567", "1'234.5")),
        ("0.1,2", strict_table.HINT),
    ],
)
def test_an_unreadable_number_or_one_out_of_range_stops_with_row_column_text_range_and_hint(text, hint):
    values, (found,) = number([text], unit="cm")
    assert values == [None]
    assert found[:3] == ("stop", "unreadable number", "case2")
    assert found[3:] == (f'sizes.csv, row 2, column "mm": "{text}"', f"cm, 0.02 to 1{hint}")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1,234", "12,5"], [None, 12.5]),
        (["1.234", "12.5"], [1.234, 12.5]),  # a point is a point
        (["1.234", "12,5"], [None, 12.5]),  # unless commas are used beside it
        (["1,234"], [None]),
        (["0,234", "12,3456"], [0.234, 12.3456]),  # no thousands
    ],
)
def test_a_mark_that_may_separate_thousands_within_the_range_stops(texts, expected):
    values, findings = number(texts, (-10_000, 10_000), "pixels")
    assert values == expected
    stops = [found for found in findings if found[0] == "stop"]
    assert len(stops) == expected.count(None)
    assert all("without a mark that may separate thousands" in found[4] for found in stops)


def test_a_row_without_a_name_and_a_second_row_of_one_stop_and_a_row_without_a_file_or_a_file_without_a_row_warns():
    findings, other = [], Check("two rows for one patient", "keep the correct row")
    rows = [row_of(line=line) for line in (2, 3, 5, 6)]
    names = dict(zip(map(id, rows), ("a", "b", "a", "")))
    named = strict_table.named_rows(rows, lambda row: names[id(row)], findings)
    assert strict_table.unique_rows(named, findings, other) == {"a": rows[0], "b": rows[1]}
    nameless, twice = ((f.severity, f.check.name, f.case, f.found, f.expected) for f in findings)
    assert nameless == ("stop", "row without a name", "sizes.csv", "sizes.csv, row 6", "the name of an image")
    assert twice == ("stop", other.name, "a", "sizes.csv, row 2 and row 5", "one row")
    (found,) = strict_table.rows_without_file([("a", row_of()), ("b", row_of(line=3))], {"a"})
    assert (found.severity, found.check.name, found.case) == ("warn", "row without a file", "b")
    assert found.found == "sizes.csv, row 3"
    found = strict_table.missing_row("c", "sizes.csv")
    assert (found.severity, found.check.name, found.case) == ("warn", "missing pixel size", "c")


def test_a_quotation_mark_in_a_cell_is_kept_where_blanks_after_others_are_left_out(tmp_path):
    (row,), _ = read(tmp_path, 'name,mm\n"a "" , b" ,"0.1"\n')
    assert (row.cells["name"], row.cells["mm"]) == ('a " , b', "0.1")


def test_optional_cells_that_a_spreadsheet_left_out_at_the_end_are_blank_and_noted(tmp_path):
    rows, note = read(tmp_path, "name,mm,subject,about\na,0.1,x,y\nb,0.2\nc,0.3,z\n", ["subject", "about"])
    assert cells(rows) == [["a", "0.1", "x", "y"], ["b", "0.2", "", ""], ["c", "0.3", "z", ""]]
    assert note == "rows without their last cells: 2, the first is row 3"


def test_a_character_without_width_in_a_number_is_printed_as_its_code():
    _, ((*_, found, _),) = number(["0.1\u200b"])
    assert found == r'sizes.csv, row 2, column "mm": "0.1\u200b"'
