"""Markdown texts as Typst markup: headings, emphasis, lists, quotes, links, code, pictures, footnotes, citations."""

import html
import re
from collections.abc import Mapping
from typing import Any

import mistune

from lib.report.tables import quoted

Token = Mapping[str, Any]
# All ASCII punctuation that Typst may read as markup. Quotes stay, so that Typst prints typographic ones.
SPECIAL = re.compile(r"[\\`*_$#<>@\[\]{}=+\-/~.^|]")
_ITEM = r"@[\w:./+-]+(?:,[^\[\]@;]*)?"
CITATION = rf"\[{_ITEM}(?:; *{_ITEM})*\]"  # [@key], [@key, p. 3], [@one; @other]
SPANS = {"emphasis": "emph", "strong": "strong"}


def to_typst(text: str) -> str:
    """Typst markup of a Markdown text (CommonMark, footnotes, and citations as in Pandoc); all else is literal.

    Raw HTML is printed as it stands. A key of the bibliography and a label of a figure or table are cited alike.
    """
    tokens = mistune.create_markdown(renderer=None, plugins=["footnotes", _citations])(text)
    blocks = [token for token in tokens if token["type"] not in ("footnotes", "blank_line")]
    items = [item for token in tokens if token["type"] == "footnotes" for item in token["children"]]
    notes = {item["attrs"]["key"]: item["children"] for item in items}
    return "\n\n".join(_block(token, notes) for token in blocks) + "\n"


def literal(text: str) -> str:
    """Text as Typst markup that prints it as it stands, but with typographic quotes."""
    return SPECIAL.sub(r"\\\g<0>", text)


def _citations(markdown: mistune.Markdown) -> None:
    """Plugin of mistune that recognises citations."""

    def parse(_inline: Any, match: re.Match[str], state: Any) -> int:
        state.append_token({"type": "citation", "raw": match[0]})
        return match.end()

    markdown.inline.register("citation", CITATION, parse, before="link")


def _block(token: Token, notes: Mapping[str, list[Token]]) -> str:
    kind, attrs, children = token["type"], token.get("attrs", {}), token.get("children", [])
    if kind == "heading":
        return f"{'=' * attrs['level']} {_inlines(children, notes)}"
    if kind in ("paragraph", "block_text"):
        return _inlines(children, notes)
    if kind == "list":
        items = "".join(f"[{_blocks(item['children'], notes)}]" for item in children)
        start = f", start: {attrs.get('start', 1)}" if attrs["ordered"] else ""
        return f"#{'enum' if attrs['ordered'] else 'list'}(tight: {str(token['tight']).lower()}{start}){items}"
    if kind == "block_quote":
        return f"#quote(block: true)[{_blocks(children, notes)}]"
    if kind == "block_code":
        language = attrs.get("info", "").split()[:1]
        of = f", lang: {quoted(language[0])}" if language else ""
        return f"#raw({quoted(token['raw'].removesuffix(chr(10)))}, block: true{of})"
    if kind == "thematic_break":
        return "#line(length: 100%, stroke: 0.4pt)"
    return literal(token.get("raw", "").strip())  # raw HTML


def _blocks(tokens: list[Token], notes: Mapping[str, list[Token]]) -> str:
    return "\n\n".join(_block(token, notes) for token in tokens if token["type"] != "blank_line")


def _inlines(tokens: list[Token], notes: Mapping[str, list[Token]]) -> str:
    return "".join(_inline(token, notes) for token in tokens)


def _inline(token: Token, notes: Mapping[str, list[Token]]) -> str:
    """Markup within a paragraph; a semicolon ends each expression, or what follows would belong to it."""
    kind, raw, children = token["type"], token.get("raw", ""), token.get("children", [])
    if kind == "text":
        return literal(html.unescape(raw))
    if kind in SPANS:
        return f"#{SPANS[kind]}[{_inlines(children, notes)}];"
    if kind == "codespan":
        return f"#raw({quoted(html.unescape(raw))});"
    if kind == "link":
        return f"#link({quoted(token['attrs']['url'])})[{_inlines(children, notes)}];"
    if kind == "image":
        caption = f", caption: [{_inlines(children, notes)}]" if children else ""
        return f"#figure(image({quoted(token['attrs']['url'])}){caption});"
    if kind == "footnote_ref":
        return f"#footnote[{_blocks(notes[raw], notes)}];"
    if kind == "citation":
        return "".join(_reference(item) for item in raw[1:-1].split(";"))
    return {"softbreak": "\n", "linebreak": " \\\n"}.get(kind) or literal(raw)  # raw HTML


def _reference(item: str) -> str:
    """A citation of a work, or a reference to a figure or table, with what follows the key, such as a page."""
    key, _, more = item.strip().removeprefix("@").partition(",")
    supplement = f", supplement: [{literal(more.strip())}]" if more.strip() else ""
    return f"#ref(label({quoted(key)}){supplement});"
