"""Characters that no font of all figures has, such as 漢 or अ: in a font of the machine, else as their code, [U+6F22].

A figure whose characters are all in STIX, that of the report, or DejaVu Sans has the same bytes on every machine: both
come with matplotlib.
"""

import re
import unicodedata
import warnings
from collections.abc import Iterable
from contextlib import suppress
from functools import cache

from matplotlib import font_manager, get_data_path
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

FONTS = ("STIXGeneral", "DejaVu Sans")  # a character is drawn in the first that has it
INVISIBLE = ("Cc", "Cf", "Zs")  # Unicode categories without a glyph: control, format, blank
DRAWN = 4  # codes of one run of characters
NO_FONT = (
    "no font of this machine has these characters, so their codes are printed; to see them, install a font such as "
    "Noto Sans CJK (Chinese, Japanese, Korean) and draw the figure again"
)


def complete(figure: Figure) -> None:
    """Gives every text of a figure a font for its characters, or their codes, of which it warns."""
    axes = [axis for each in figure.axes for axis in (each.xaxis, each.yaxis)]
    named = [axis for axis in axes if isinstance(axis.get_major_formatter(), FuncFormatter)]  # by set_xticks
    named = [axis for axis in named if any(_missing(label.get_text()) for label in axis.get_ticklabels())]
    texts = [text for text in figure.findobj(Text) if _missing(text.get_text())]
    family_of = {character: _family(character) for text in texts for character in sorted(_missing(text.get_text()))}
    without = [character for character, family in family_of.items() if not family]
    for text in texts:
        text.set_fontfamily([*FONTS, *sorted(filter(None, set(family_of.values())))])
        text.set_text(with_codes(text.get_text(), without))
    for axis in named:  # it would write the first labels again when the figure is drawn
        axis.set_ticklabels([with_codes(label.get_text(), without) for label in axis.get_ticklabels()])
    if without:
        warnings.warn(no_font(without), stacklevel=2)


def in_one_font(text: str) -> str:
    """A text in which characters that the last of FONTS, which has the most, lacks are replaced by their codes."""
    return with_codes(text, sorted(_missing(text, FONTS[-1:])))


def with_codes(text: str, without: Iterable[str]) -> str:
    """A text in which characters without a font are replaced by their codes: 漢字_1 by [U+6F22 5B57]_1.

    Of a run of more than DRAWN characters the others are counted, since their codes would fill the figure.
    """
    characters = "".join(map(re.escape, without))
    return re.sub(f"[{characters}]+", lambda run: _codes(run[0]), text) if characters else text


def _codes(run: str) -> str:
    others = f" +{len(run) - DRAWN}" if len(run) > DRAWN else ""
    return f"[U+{' '.join(f'{ord(each):04X}' for each in run[:DRAWN])}{others}]"


def no_font(without: Iterable[str]) -> str:
    """Message that names characters without a font."""
    return f"{', '.join(f'{each} (U+{ord(each):04X})' for each in without)}: {NO_FONT}"


def _missing(text: str, fonts: tuple[str, ...] = FONTS) -> set[str]:
    """Characters of a text that none of the fonts can draw."""
    seen = {each for each in set(text) if unicodedata.category(each) not in INVISIBLE}
    return {each for each in seen if not any(_is_in_font(font, each) for font in fonts)}


@cache
def _is_in_font(font: str, character: str) -> bool:
    return _has(font_manager.findfont(font), 0, character)


@cache
def _family(character: str) -> str | None:
    """The machine's first upright font, by name, that has a character."""
    return next((f.name for f in _own_fonts() if _has(f.fname, getattr(f, "index", 0), character)), None)


@cache
def _own_fonts() -> list[font_manager.FontEntry]:
    """The machine's upright fonts, by name; matplotlib's list is of the day on which it was first used."""
    known = font_manager.fontManager.ttflist
    for path in sorted({*font_manager.findSystemFonts()} - {font.fname for font in known}):
        with suppress(OSError, RuntimeError, ValueError):  # a file that is no outline font, as matplotlib does
            font_manager.fontManager.addfont(path)
    upright = [font for font in known if font.style == "normal" and not font.fname.startswith(get_data_path())]
    real = [font for font in upright if "LastResort" not in font.name.replace(" ", "")]  # it has boxes for all
    return sorted(real, key=lambda font: (font.name, font.fname))


def _has(path: str, face: int, character: str) -> bool:
    return _opened(path, face).get_char_index(ord(character)) != 0


@cache
def _opened(path: str, face: int) -> FT2Font:
    return FT2Font(path, face_index=face) if face else FT2Font(path)
