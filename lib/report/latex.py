r"""Tables as LaTeX, with the rules of the package booktabs, for \input in a thesis."""

import re
import unicodedata
from collections.abc import Sequence

SPECIAL = {each: f"\\{each}" for each in "#$%&_{}"}
SPECIAL |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
SPECIAL |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}", '"': "''"}
SPECIAL |= {"\u00a0": "~", "\u2009": r"\,", "–": "--", "—": "---", "…": r"\dots{}"}
SPECIAL |= {"²": "$^2$", "³": "$^3$", "°": r"$^\circ$", "µ": r"$\mu$", "κ": r"$\kappa$", "−": "$-$", "×": r"$\times$"}
SPECIAL |= {"±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "→": r"$\rightarrow$", "·": r"$\cdot$"}
INVISIBLE = ("Cc", "Cf", "Cs")  # control and format characters, at which pdflatex stops
NEEDS = r"% needs \usepackage{booktabs}; \resizebox{\linewidth}{!}{\input{...}} fits a wide table to the page"


def to_latex(titles: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> str:
    """A tabular with horizontal rules only, from printed titles and cells; numeric columns are flush right."""
    if not titles:
        return "no rows\n"  # a tabular has at least one column
    lines = [" & ".join(map(escaped, row)) for row in (titles, *rows)]
    # A line that begins with [ or * would be read as an argument of the \\ or rule before it.
    ended = [rf"{{}}{line} \\" if line.startswith(("[", "*")) else rf"{line} \\" for line in lines]
    columns = "".join("r" if each else "l" for each in numeric)
    whole = [NEEDS, rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule", ended[0], r"\midrule", *ended[1:]]
    return "\n".join([*whole, r"\bottomrule", r"\end{tabular}"]) + "\n"


def escaped(text: str) -> str:
    """A text that LaTeX prints literally: special characters escaped, blanks as one, invisible characters left out.

    Letters beyond ASCII stay as they are: pdflatex prints Latin ones, lualatex and xelatex all that their font has.
    """
    words = " ".join(re.split(r"[ \t\r\n]+", unicodedata.normalize("NFC", text)))
    shown = "".join(each for each in words if unicodedata.category(each) not in INVISIBLE)
    unligated = shown.replace("--", "-\u2060-").replace("--", "-\u2060-")  # or two hyphens would be a dash
    return "".join(SPECIAL.get(each, each) for each in unligated).replace("\u2060", "{}")
