"""Which file is a folder's table, where copies, other suffixes or other letter cases lie beside it or in its place."""

import re
from collections.abc import Iterable
from pathlib import Path

from lib.data.findings import Check, Finding
from lib.study import system_files

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
WORKBOOK_SUFFIXES = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
COPY = re.compile(  # "cases (1)", "cases - Copy", "cases - Kopie (2)", "Copy of cases", "cases copy 2"
    r"^(copy of|kopie von)\s+|\s*\([^()]*\)$|\s*[-_]\s*(copy|kopie|copie|copia)(\s*\d+)?$|\s+(copy|kopie)(\s*\d+)?$"
)

OTHER_TABLE = Check("another table", "keep one table; what only the others contain is not used")
TABLE_UNDER_ANOTHER_NAME = Check("table under another name")


def find(folder: Path, name: str, findings: list[Finding]) -> Path | None:
    """The table `name` of a folder, in any letter case and as `choose` says; None if there is none."""
    stem = _stem(name)
    return choose([path for path in system_files.visible(folder) if _stem(path.name) == stem], name, findings)


def choose(paths: Iterable[Path], name: str, findings: list[Finding]) -> Path | None:
    """The file called `name`, else the only .csv, else the only other text, or the first of equal ones; None for none.

    Others beside it are a warning if they are text with another content, else a note. ValueError if the files to choose
    from differ, or there are workbooks only.
    """
    candidates = [path for path in paths if is_table(path.name) and (path.is_file() or path.is_symlink())]
    texts = [path for path in candidates if path.suffix.lower() in TEXT_SUFFIXES]
    if not texts and candidates:
        expected = f"save it as CSV UTF-8{f' under the name {name}' if name else ''}"
        raise ValueError(f"{candidates[0]}: a workbook, which is not read; {expected}")
    contents = {path: path.read_bytes() for path in texts} if len(texts) > 1 else {}
    exact = [path for path in texts if path.name == name]
    first = exact or [path for path in texts if path.suffix.lower() == ".csv"] or texts
    if len({contents.get(path) for path in first}) > 1:
        raise ValueError(f"{' and '.join(map(str, first))} differ; expected one table{f', {name}' if name else ''}")
    if not first:
        return None
    chosen = first[0]
    if name and not exact:
        findings.append(Finding("note", TABLE_UNDER_ANOTHER_NAME, chosen.name, "read", name))
    for path in candidates:
        differs = path in texts and contents.get(path) != contents.get(chosen)
        if path != chosen:
            found = f"not read, {'differs from' if differs else 'beside'} {chosen.name}"
            findings.append(Finding("warn" if differs else "note", OTHER_TABLE, path.name, found, "one table"))
    return chosen


def is_table(name: str) -> bool:
    """Whether a file has the suffix of a table: text, or a workbook."""
    return name.lower().endswith((*TEXT_SUFFIXES, *WORKBOOK_SUFFIXES))


def _stem(name: str) -> str:
    """Name in lower case without suffixes of tables ("cases.csv.txt") and marks of a copy."""
    stem = name.casefold()
    while is_table(stem):
        stem = stem.rpartition(".")[0].strip()
    while (shorter := COPY.sub("", stem, count=1)) != stem:
        stem = shorter
    return stem
