"""How full the pages of a PDF are."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pypdfium2 import PdfDocument, PdfPage

TOP_MM, HEIGHT_MM, GAP_MM = 28.0, 243.0, 12.0  # of the text block; a gap between lines, figures or sections is less
SCALE = 72 / 25.4  # pixels per mm: one for a point
WHITE = 250


@dataclass(frozen=True)
class Page:
    """A page of a report."""

    filled: float  # share of the height of the text block without gaps
    text: str
    lines: list[str]  # from top to bottom
    begins_chapter: bool  # has the heading of a chapter


def pages(pdf: Path) -> list[Page]:
    """The pages of a PDF on A4."""
    document = PdfDocument(pdf)
    heads = {entry.get_dest().get_index() for entry in document.get_toc() if entry.level == 0}
    return [
        Page(
            filled(np.asarray(page.render(grayscale=True).to_numpy())),
            page.get_textpage().get_text_bounded(),
            lines(page),
            number in heads,
        )
        for number, page in enumerate(document)
    ]


def lines(page: PdfPage) -> list[str]:
    """Pieces of text of one height and font, from top to bottom."""
    text = page.get_textpage()
    boxes = [text.get_rect(number) for number in range(text.count_rects())]
    return [text.get_text_bounded(*box) for box in sorted(boxes, key=lambda box: -box[3])]


def filled(image: np.ndarray) -> float:
    """Share of the text block of a page, (H, W) or (H, W, 1) at 72 ppi, that is no gap."""
    block = image.reshape(len(image), -1)[round(TOP_MM * SCALE) : round((TOP_MM + HEIGHT_MM) * SCALE)]
    inked = np.flatnonzero((block < WHITE).any(axis=1))
    gaps = np.diff([-1, *inked, len(block)]) - 1
    return float(1 - gaps[gaps > GAP_MM * SCALE].sum() / len(block))
