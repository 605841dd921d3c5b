"""Small images and tables for figures, and the text of a figure."""

from pathlib import Path

import numpy as np
import pandas as pd
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure

from lib.data.cases import QUANTITIES
from lib.datasets.samples import Samples

CLASSES = ["background", "parenchyma", "csp"]
IMAGE = np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1))
MASK = np.zeros((40, 60), np.uint8)
MASK[10:30, 15:45] = 1
MASK[18:22, 25:35] = 2


def samples(count: int = 1, spacings_mm: list | None = None) -> Samples:
    """Cases named a, b, …"""
    names = [chr(ord("a") + place) for place in range(count)]
    return Samples(names, [IMAGE] * count, [MASK] * count, spacings_mm or [None] * count, [0] * count)


def overlap_rows(counts: list[tuple[int, int, int]], seed: int = 0, stage: str = "post") -> pd.DataFrame:
    """The long table of 05 for one class and stage, from (tp, fp, fn) of each case; two cases per subject."""
    table = pd.DataFrame(counts, columns=["tp", "fp", "fn"])
    total = 2 * table["tp"] + table["fp"] + table["fn"]
    table["case"] = [f"c{place}" for place in range(len(table))]
    table["subject"] = [f"s{place // 2}" for place in range(len(table))]
    dice = 2 * table["tp"] / total.where(total > 0)
    table = table.assign(dice=dice, iou=dice / (2 - dice), seed=seed, fold=0, tn=100)
    return table.assign(**{"class": "csp", "stage": stage})


def line_errors(values: list[float], line: str = "ofd", route: str = "landmark", seed: int = 0) -> pd.DataFrame:
    """cases.csv of a landmark study: errors in mm, two cases per subject, pixels of 0.5 mm, an OFD of 100 mm."""
    names = [(f"c{place}", f"s{place // 2}") for place in range(len(values))]
    table = pd.DataFrame(names, columns=["case", "subject"]).assign(error_mm=values)
    table["error_px"], table["normalised_error_percent"] = table["error_mm"] * 2, table["error_mm"]
    return table.assign(line=line, route=route, seed=seed, fold=0)


def measured(count: int) -> pd.DataFrame:
    """measurements.csv of ellipses and the baseline; heads from 100 mm with errors of -1, 0 and 1 mm in turn."""
    rows = [
        {"case": f"c{i}", "seed": 0, "stage": stage, "route": route, "quantity": quantity, "reference_mm": 100.0 + i}
        for i in range(count)
        for quantity in QUANTITIES
        for route, stage in (("ellipse", "raw"), ("ellipse", "post"), ("baseline", "raw"), ("baseline", "post"))
    ]
    table = pd.DataFrame(rows).assign(predicted_mm=lambda t: t["reference_mm"] + (t["reference_mm"] % 3) - 1)
    return table.assign(subject=table["case"])


def texts(figure: Figure) -> str:
    """All text of a figure."""
    written = [axes.get_title() + axes.get_xlabel() + axes.get_ylabel() for axes in figure.axes]
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()] + figure.legends
    labels = [label for legend in legends for label in legend.get_texts()]
    labels += [label for axes in figure.axes for label in axes.get_xticklabels() + axes.texts]
    return " ".join(written + [label.get_text() for label in labels])


def write_font(path: Path, characters: str) -> Path:
    """A font called Squares in which each of the characters is a black square."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 800), (900, 800), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap(dict.fromkeys(map(ord, characters), "square"))
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 100)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular", "psName": "Squares"})
    font.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    font.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    font.save(path)
    return path
