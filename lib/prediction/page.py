"""The page of a folder of answers: one file with its pictures inside, which opens without a server or a network."""

import base64
import math
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from lib.prediction.inputs import Refusal
from lib.prediction.outputs import NOT_FOR_CLINICAL_USE, Written
from lib.report.index_page import STYLE, link

NAME = "index.html"
MOST_PICTURES = 500  # about 15 kB each
OWN_STYLE = """table { border-collapse: collapse }
td { padding: 0.4em; vertical-align: top; border-top: 1px solid #ddd }
td img { height: auto; width: 260px } .warning { background: #fff3cd; padding: 0.6em }"""
PRIVACY = (
    "File names are kept as they are. No DICOM attribute is copied; text that is burned into an image stays in the "
    "pictures of this folder: look at them before you pass them on."
)


def page(
    title: str, facts: Sequence[str], written: Sequence[Written], refused: Sequence[Refusal], tables: Sequence[str]
) -> str:
    """The page as HTML; tables are names of files beside it."""
    rows = "\n".join(_row(each, number < MOST_PICTURES) for number, each in enumerate(written))
    listed = "".join(f"<li>{escape(each.file)}: {escape(each.reason)}</li>" for each in refused)
    refusals = f"<h2>Not predicted ({len(refused)})</h2>\n<ul>{listed}</ul>" if refused else ""
    return "\n".join(
        [
            f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(title)}</title>',
            f"<style>\n{STYLE}\n{OWN_STYLE}\n</style>\n<h1>{escape(title)}</h1>",
            f'<p class="warning">{NOT_FOR_CLINICAL_USE.capitalize()}. {PRIVACY}</p>',
            "<ul>" + "".join(f"<li>{escape(fact)}</li>" for fact in facts) + "</ul>",
            "<p>Tables: " + " ".join(link(name, name) for name in tables) + "</p>",
            f"<h2>Cases ({len(written)})</h2>\n<table>\n{rows}\n</table>",
            refusals,
            "</html>\n",
        ]
    )


def _row(written: Written, with_picture: bool) -> str:
    """One case: its picture, which links to the large one, its result, and where its pixel size is from."""
    target = escape(quote(f"overlays/{written.case}.jpg"))
    data = base64.b64encode(written.thumbnail).decode("ascii")
    shown = f'<img src="data:image/jpeg;base64,{data}" alt="{escape(written.case)}">' if with_picture else "picture"
    (about,) = written.rows["cases.csv"]
    row, col, source = about["spacing_row_mm"], about["spacing_col_mm"], about["calibration"]
    size = f"no pixel size: {source}" if math.isnan(row) else f"{row:.4g} x {col:.4g} mm per pixel, from {source}"
    words = [size, *filter(None, [about["notes"]])]
    lines = "<br>".join([f"<b>{escape(written.case)}</b>", escape(written.line), *map(escape, words)])
    return f'<tr><td><a href="{target}">{shown}</a></td><td>{lines}</td></tr>'
