import string
from pathlib import Path

import pytest
import typst
from pypdfium2 import PdfDocument

from lib.report import markdown

BIBLIOGRAPHY = "@misc{one, title = {First}, year = {2001}}\n@misc{other_work, title = {Second}, year = {2002}}\n"


def printed(tmp_path: Path, markup: str) -> str:
    """The text of a PDF with this markup, a figure and a bibliography."""
    (tmp_path / "own.bib").write_text(BIBLIOGRAPHY, encoding="utf-8")
    after = '\n#figure([drawing], caption: [c]) #label("figure:05:worst")\n#bibliography("own.bib")'
    (tmp_path / "a.typ").write_text(markup + after, encoding="utf-8")
    pdf, warnings = typst.Compiler(tmp_path / "a.typ", root=tmp_path).compile_with_warnings(format="pdf")
    assert warnings == []
    return " ".join(page.get_textpage().get_text_bounded() for page in PdfDocument(pdf)).replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Aim\n\n### Of *it*", "= Aim\n\n=== Of #emph[it];"),
        ("a **b**\nc", "a #strong[b];\nc"),
        ("line\\\nbreak", "line \\\nbreak"),
        ("- a\n- b\n  1. c", "#list(tight: true)[a][b\n\n#enum(tight: true, start: 1)[c]]"),
        ("3. a\n\n4. b", "#enum(tight: false, start: 3)[a][b]"),
        ("> said", "#quote(block: true)[said]"),
        ("[so](http://a.b/?c=1&d=2)", '#link("http://a.b/?c=1&d=2")[so];'),
        ('`a "b"`', '#raw("a \\"b\\"");'),
        ("```python\nx = 1\n```", '#raw("x = 1", block: true, lang: "python")'),
        ("![A head](figures/head.png)", '#figure(image("figures/head.png"), caption: [A head]);'),
        ("x[^n]\n\n[^n]: so *it* is", "x#footnote[so #emph[it]; is];"),
        ("as [@one] says", 'as #ref(label("one")); says'),
        ("[@one, p. 3; @two]", '#ref(label("one"), supplement: [p\\. 3]);#ref(label("two"));'),
        ("[@figure:05_evaluation:worst]", '#ref(label("figure:05_evaluation:worst"));'),
        ("[@] \\[@one] `[@one]` @one", '\\[\\@\\] \\[\\@one\\] #raw("[@one]"); \\@one'),
        ("a&lt;b &amp; c", "a\\<b & c"),
        ("", ""),
    ],
)
def test_markdown_becomes_typst_markup(text: str, expected: str) -> None:
    assert markdown.to_typst(text) == expected + "\n"


def test_text_that_typst_would_read_as_markup_is_printed_as_it_stands(tmp_path: Path) -> None:
    lines = [
        "#let x = 1 $x$ _a_b *",
        "= no heading \\alpha {y} ~ --- ... //",
        "1) / a: b + c",
        "<p onclick=x> @one #it[x]",
    ]
    markup = "\n\n".join(markdown.literal(line) for line in lines)
    text = printed(tmp_path, markup)
    assert [line for line in lines if line not in text] == []


def test_every_ascii_character_is_literal_wherever_it_stands(tmp_path: Path) -> None:
    marks = [each for each in string.punctuation if each not in "\"'"]
    words = [f"{one}{other}word" for one in marks for other in marks]
    text = printed(tmp_path, "\n\n".join(markdown.literal(word) for word in words))
    assert [word for word in words if word not in text] == []


def test_html_is_printed_and_what_follows_an_expression_is_text(tmp_path: Path) -> None:
    text = printed(tmp_path, markdown.to_typst("*a*(b) **c**.d `e`[f]\n\n<script>alert(1)</script>\n\nx <b>y</b>"))
    assert "a(b) c.d e[f]" in text
    assert "<script>alert(1)</script>" in text
    assert "x <b>y</b>" in text


def test_works_are_cited_by_number_and_figures_by_theirs(tmp_path: Path) -> None:
    text = printed(tmp_path, markdown.to_typst("As [@one, p. 3] and [@other_work] say, see [@figure:05:worst]."))
    assert "As [1, p. 3] and [2] say, see Figure\u00a01." in text
