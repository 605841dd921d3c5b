"""Printed names of classes and quantities, and colours of classes, references and predictions.

Those of classes are of the palette of Okabe and Ito 2008, safe for colour-blind readers, but for its yellow, which
can hardly be seen on paper: olive (Tol 2021) takes its place. White is kept for the reference, from which all of them
differ in lightness too, so that overlays survive print in grey.
"""

import zlib

LABELS = {name: name.upper() for name in ("hc", "bpd", "ofd", "csp", "lv")}  # other names are printed as they are
# One fixed colour per class name.
CLASS_COLOURS = {"head": "#56B4E9", "parenchyma": "#56B4E9", "csp": "#E69F00", "lv": "#CC79A7"}
CLASS_COLOURS |= {"tumour": "#E69F00", "lesion": "#E69F00"}
REFERENCE, PREDICTED = "#FFFFFF", "#D55E00"  # a solid and a dashed line, both with a dark edge
OTHER_COLOURS = ("#999933", "#009E73", "#0072B2", "#D55E00")


def class_colour(name: str) -> str:
    """The colour of a class, determined by its name, as #RRGGBB."""
    return CLASS_COLOURS.get(name) or OTHER_COLOURS[zlib.crc32(name.encode()) % len(OTHER_COLOURS)]


def printed_name(name: str) -> str:
    """The name of a class or quantity, or of a group that holds such names, as tables and figures print it."""
    return " ".join(LABELS.get(word, word) for word in name.split(" "))
