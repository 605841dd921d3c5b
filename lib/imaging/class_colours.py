"""Colours of classes in figures and mask files: the palette of Okabe and Ito 2008, safe for colour-blind readers."""

import zlib

# One fixed colour per class name.
CLASS_COLOURS = {"head": "#56B4E9", "parenchyma": "#56B4E9", "csp": "#E69F00", "lv": "#CC79A7"}
CLASS_COLOURS |= {"tumour": "#E69F00", "lesion": "#E69F00"}
OTHER_COLOURS = ("#F0E442", "#009E73", "#0072B2", "#D55E00")


def class_colour(name: str) -> str:
    """The colour of a class, determined by its name, as #RRGGBB."""
    return CLASS_COLOURS.get(name) or OTHER_COLOURS[zlib.crc32(name.encode()) % len(OTHER_COLOURS)]
