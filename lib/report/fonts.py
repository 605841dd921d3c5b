"""The font of the report and its figures: STIXGeneral, of the Times family, which comes with matplotlib.

Typst reads fonts from a folder only. matplotlib's own also holds a font with a box for every character, which would
hide that a character has no font, so the four files of the family are copied beside the report's source.
"""

from pathlib import Path

from matplotlib import get_data_path

from lib.study import files

FILES = ("STIXGeneral.ttf", "STIXGeneralBol.ttf", "STIXGeneralBolIta.ttf", "STIXGeneralItalic.ttf", "LICENSE_STIX")


def copy_to(folder: Path) -> Path:
    """Copies the fonts with their licence into a folder, which is made if need be; returns it."""
    source = Path(get_data_path()) / "fonts" / "ttf"
    for name in FILES:
        if not (folder / name).is_file():
            files.write_bytes(folder / name, (source / name).read_bytes())
    return folder
