"""Which file is a folder's table, where copies, other suffixes or other letter cases lie beside it or in its place."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from lib.data.findings import Check, Finding
from lib.study import files, system_files

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
WORKBOOK_SUFFIXES = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
WORD = r"(copy|copie|kopie|copia|kopia|kopi)"  # in the languages that write it so; accents are removed first
COPY = re.compile(  # "cases (1)", "cases - Copy", "cases – Kopie (2)", "Copy of cases", "cases copy 2", "cases-1"
    rf"^{WORD} (of|von|de|di)\s+|\s*\(({WORD}\s*)?\d*\)$|\s*[-–—_]\s*{WORD}(\s*\d+)?$|\s+{WORD}(\s*\d+)?$|[-_\s]\d\d?$"
)

OTHER_TABLE = Check("another table", "keep one table; what only the others contain is not used")
TABLE_UNDER_ANOTHER_NAME = Check("table under another name")


def find(folder: Path, name: str, findings: list[Finding]) -> Path | None:
    """The table `name` of a folder, in any letter case and as `choose` says; None if there is none."""
    stem = _stem(name)
    return choose([path for path in system_files.visible(folder) if _stem(path.name) == stem], name, findings)


def choose(paths: Iterable[Path], name: str, findings: list[Finding]) -> Path | None:
    """The file called `name`, else the only .csv, else the only other text, or the first of equal ones; None for none.

    Others beside it are a warning if they are text with another content or cannot be read, else a note. ValueError if
    the files to choose from differ, or there are workbooks only.
    """
    candidates = [path for path in paths if is_table(path.name)]  # reading the chosen one names what is no file
    texts = [path for path in candidates if path.suffix.lower() in TEXT_SUFFIXES]
    if not texts and candidates:
        expected = f"save it as CSV UTF-8{f' under the name {name}' if name else ''}"
        raise ValueError(f"{candidates[0]}: a workbook, which is not read; {expected}")
    contents = {path: _content(path) for path in texts} if len(texts) > 1 else {}
    readable = [path for path in texts if isinstance(contents.get(path), bytes)] or texts
    exact = [path for path in texts if path.name == name]
    first = exact or [path for path in readable if path.suffix.lower() == ".csv"] or readable
    if len({contents.get(path) for path in first}) > 1:
        raise ValueError(f"{' and '.join(map(str, first))} differ; expected one table{f', {name}' if name else ''}")
    if not first:
        return None
    chosen = first[0]
    if name and not exact:
        findings.append(Finding("note", TABLE_UNDER_ANOTHER_NAME, chosen.name, "read", name))
    for path in candidates:
        content = contents.get(path)
        differs = path in texts and content != contents.get(chosen)
        if path != chosen:
            found = f"not read, {'differs from' if differs else 'beside'} {chosen.name}"
            found = f"not read: {content}" if isinstance(content, str) else found
            findings.append(Finding("warn" if differs else "note", OTHER_TABLE, path.name, found, "one table"))
    return chosen


def others(folder: Path, name: str, findings: list[Finding]) -> list[Finding]:
    """A warning for each .csv, .tsv or workbook of a folder that is neither called `name` nor in the findings."""
    known = {finding.case for finding in findings} | {name}
    names = [path.name for path in system_files.visible(folder) if is_table(path.name) and not path.is_dir()]
    unread = [each for each in names if each not in known and not each.lower().endswith(".txt")]
    return [Finding("warn", OTHER_TABLE, each, "not read", f"one table, {name}") for each in unread]


def _content(path: Path) -> bytes | str:
    """Content of a table, or why it cannot be read."""
    try:
        return read_bytes(path)
    except PermissionError as error:
        return files.reason(error)
    except ValueError as error:
        return str(error).removeprefix(f"{path}: ")


def read_bytes(path: Path) -> bytes:
    """Content of a table; ValueError unless it is a regular file, PermissionError if it may not be read."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path}: not a file; expected a table")
        return files.read_bytes(path)
    except PermissionError:
        raise
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a table: {error.strerror}") from error


def is_table(name: str) -> bool:
    """Whether a file has the suffix of a table: text, or a workbook."""
    return name.lower().endswith((*TEXT_SUFFIXES, *WORKBOOK_SUFFIXES))


def _stem(name: str) -> str:
    """Name in lower case without accents, suffixes of tables ("cases.csv.txt") and marks of a copy."""
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    stem = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    while is_table(stem):
        stem = stem.rpartition(".")[0].strip()
    while (shorter := COPY.sub("", stem, count=1)) != stem:
        stem = shorter
    return stem
