"""Expected markup is typed out; where pdflatex is installed, it compiles the same tables."""

import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from pypdfium2 import PdfDocument

from lib.report import latex, tables

WILD = "#1 $x$ 100% a&b c_d ~ ^2 \\cmd {e}"
LETTERS = "Köpfe ß é"


def test_the_ten_special_characters_of_latex_are_escaped():
    expected = r"\#1 \$x\$ 100\% a\&b c\_d \textasciitilde{} \textasciicircum{}2 \textbackslash{}cmd \{e\}"
    assert latex.escaped(WILD) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("−0.12\u00a0[−0.30,\u00a00.05]", "$-$0.12~[$-$0.30,~0.05]"),
        ("Area (mm²), 90°, ≤ 5 × 3 ± 1", r"Area (mm$^2$), 90$^\circ$, $\leq$ 5 $\times$ 3 $\pm$ 1"),
        ("–", "--"),
        ("a--b", "a-{}-b"),  # two hyphens of a name are no dash
        ("<script>|`", r"\textless{}script\textgreater{}\textbar{}\textasciigrave{}"),
        ('"quoted"', "''quoted''"),
        ("one\ntwo\t three\r\n", "one two three "),
        ("a\u202eb\u200f\x00c\ud800", "abc"),  # right-to-left marks, control characters, half a character
        (LETTERS, LETTERS),
        ("e\u0301", "é"),
    ],
)
def test_numbers_units_ligatures_and_invisible_characters(text, expected):
    assert latex.escaped(text) == expected


def test_a_table_as_typed_by_hand():
    table = pd.DataFrame({"class": ["csp", "a_b"], "dice": [0.9, np.nan], "dice_low": [0.85, np.nan]})
    table["dice_high"], table["n"] = [0.95, np.nan], [12345, 0]
    titles, cells = tables.printed_titles(table, "subject"), [*zip(*tables.printed_cells(table).values())]
    assert latex.to_latex(titles, cells, [False, True, True]).splitlines()[1:] == [
        r"\begin{tabular}{@{}lrr@{}}",
        r"\toprule",
        r"Class & Dice [95~\%~CI] & n \\",
        r"\midrule",
        r"CSP & 0.900~[0.850,~0.950] & 12~345 \\",
        r"a\_b & -- & 0 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_row_that_begins_with_a_bracket_or_a_star_is_no_argument_of_the_line_before_it():
    lines = latex.to_latex(["[x]"], [("[7]",), ("* x",), ("y",)], [False]).splitlines()
    assert lines[3:8] == [r"{}[x] \\", r"\midrule", r"{}[7] \\", r"{}* x \\", r"y \\"]


def test_a_table_is_saved_as_latex_with_the_cells_of_the_typst_table(tmp_path):
    table = pd.DataFrame({"case": [WILD, "[7]", LETTERS], "hd95_mm": [1.234, np.nan, -0.5], "missed": [1, 2, 3]})
    for name, rows in (("x", table), ("y", table), ("empty", table.iloc[:0]), ("none", pd.DataFrame())):
        tables.save(rows, tmp_path / name)
    text = (tmp_path / "x.tex").read_text(encoding="utf-8")
    assert text.startswith("% needs \\usepackage{booktabs}")
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    # an unescaped & separates columns
    assert [len(re.split(r"(?<!\\)&", line)) for line in body] == [3, 3, 3]
    expected = [[latex.escaped(cell) for cell in row] for row in tables.readable(table).to_numpy()]
    assert [line.removeprefix("{}").removesuffix(" \\\\").split(" & ") for line in body] == expected
    assert (tmp_path / "y.tex").read_bytes() == (tmp_path / "x.tex").read_bytes()
    assert "\\midrule\n\\bottomrule" in (tmp_path / "empty.tex").read_text(encoding="utf-8")
    assert (tmp_path / "none.tex").read_text(encoding="utf-8") == "no rows\n"


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_tables_compile_and_print_names_literally(tmp_path):
    tables.save(pd.DataFrame({"case": [WILD, "[7]", LETTERS], "hd95_mm": [1.234, np.nan, -0.5]}), tmp_path / "wild")
    fonts = r"\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}"  # a small installation has no bitmap fonts
    page = rf"\documentclass{{article}}{fonts}\usepackage{{booktabs}}\begin{{document}}\input{{wild}}\end{{document}}"
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout
    printed = re.sub(r"\s+", " ", PdfDocument(tmp_path / "page.pdf")[0].get_textpage().get_text_bounded())
    for part in ("#1 $x$ 100% a&b", "{e}", "[7]", "1.23", "opfe"):
        assert part in printed
