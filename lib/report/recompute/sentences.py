"""The text of the report, typeset anew from recomputed numbers and compared with report.pdf, sentence by sentence."""

import datetime
import difflib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typst
from pypdfium2 import PdfDocument

from lib.report.recompute.records import TEMPLATE
from lib.study import files

NUMBER = re.compile(r"\d+(?:[.\u00a0]\d+)*")
TAGGED, UNTAGGED = {"pdf_standards": ["a-2a", "ua-1"]}, {"pdf_standards": ["a-2b"], "pdf_tags": False}
NO_TEXTS = {"files": {}, "sources": {}, "faults": {}, "draft": False, "folder": ""}
AROUND = 6  # words of the sentence around a difference


def typeset(folder: Path, content: dict[str, Any], tables: dict[str, str]) -> tuple[bytes, list[str]]:
    """PDF of the project's template with this content and markup of tables, and its paragraphs and captions as text.

    What the author wrote is in the PDF, but not among the paragraphs: nothing recomputes its numbers.
    """
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        source = root / "report" / "report.typ"
        shutil.copytree(TEMPLATE, source.parent, ignore=lambda *_: [])
        if (folder / "report" / "texts").is_dir():
            shutil.copytree(folder / "report" / "texts", source.with_name("texts"))
        files.write_json(source.with_name("content.json"), content)
        for path in content["figures"].values():
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path[1:], root / path[1:])
        for name, path in content["tables"].items():
            files.write_text(root / path[1:], tables[name])
        date = datetime.datetime.strptime(content["provenance"]["date"], "%Y-%m-%d %H:%M UTC")
        own_fonts = "without_font" not in content
        fonts = {"ignore_system_fonts": own_fonts, "font_paths": [folder / "report" / "fonts"]}
        compiler = typst.Compiler(source, root=root, **fonts)
        moment = date.replace(tzinfo=datetime.UTC)
        try:
            pdf = compiler.compile(format="pdf", timestamp=moment, **TAGGED)
        except typst.TypstError as error:
            if "internal error" not in str(error) and "PDF/UA-1 error" not in str(error):
                raise
            pdf = compiler.compile(format="pdf", timestamp=moment, **UNTAGGED)  # as the report was
        if content.get("texts", {}).get("files"):
            files.write_json(source.with_name("content.json"), content | {"texts": NO_TEXTS})
            compiler = typst.Compiler(source, root=root, **fonts)
        elements = [each for kind in ("par", "figure.caption") for each in json.loads(compiler.query(kind))]
    return pdf, [re.sub(r"\s+", " ", "".join(texts_of(each["body"]))) for each in elements]


def texts_of(element: Any) -> Iterator[str]:
    """The text of a Typst element, without tables and pictures."""
    if isinstance(element, dict) and element.get("func") not in ("table", "image", "raw"):
        if isinstance(element.get("text"), str):
            yield element["text"]
        elif element.get("func") == "space":
            yield " "
        for key in ("child", "body", "children"):
            yield from texts_of(element.get(key))
    elif isinstance(element, list):
        for each in element:
            yield from texts_of(each)


def numbers_in(sentences: list[str]) -> list[str]:
    """Every number in some sentences."""
    return [number for sentence in sentences for number in NUMBER.findall(sentence)]


def differing(pdf: bytes, expected: bytes) -> list[str]:
    """Differences in the text of two PDFs, each with the words around it; none if they are equal to the byte."""
    if pdf == expected:
        return []
    given, right = words_of(pdf), words_of(expected)
    if [word for word, _ in given] == [word for word, _ in right]:
        return []
    # Without its default, which aligns the texts by words under 1 % of all, difflib takes half a minute.
    matcher = difflib.SequenceMatcher(None, [word for word, _ in given], [word for word, _ in right])
    return [
        f"report.pdf, page {given[min(start, len(given) - 1)][1]}: printed {_quoted(given, start, end)}, "
        f"recomputed {_quoted(right, begin, stop)}"
        for kind, start, end, begin, stop in matcher.get_opcodes()
        if kind != "equal"
    ]


def words_of(pdf: bytes) -> list[tuple[str, int]]:
    """The words of a PDF, each with its page."""
    return [
        (word, number)
        for number, page in enumerate(PdfDocument(pdf), start=1)
        for word in page.get_textpage().get_text_bounded().split()
    ]


def _quoted(words: list[tuple[str, int]], start: int, end: int) -> str:
    """Some words, with those before them."""
    before = " ".join(word for word, _ in words[max(0, start - AROUND) : start])
    return f'"{before} [{" ".join(word for word, _ in words[start:end])}]"'
