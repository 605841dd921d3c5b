"""Text of files and tables as it is printed: no name or cell may move the cursor, change colours or hide."""

import unicodedata

LINE_BREAKS = "\n"


def printable(text: str, kept: str = "") -> str:
    """Text with control characters, invisible ones and line separators as Python writes them, such as \\x1b, \\u200b.

    Characters in `kept` stay, as line breaks of a message do.
    """
    return "".join(each if each in kept or not _is_hidden(each) else repr(each)[1:-1] for each in text)


def _is_hidden(character: str) -> bool:
    category = unicodedata.category(character)
    return category.startswith("C") or category in ("Zl", "Zp")
