"""What the author writes: the files of texts/<study>, set into the report; a faulty one is named and left out."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.study import files, own_files, system_files

NAMES = ("background", "introduction", "related_work", "discussion", "conclusion")
NAMES += ("ethics", "funding", "contributions", "ai_use", "acknowledgements")
SUFFIXES = (".md", ".typ")
REFERENCES = "references"  # texts/<study>/references.bib, beside the report's own bibliography
FIGURES, PICTURES = "figures", (".png", ".jpg", ".jpeg", ".svg")
FOLDER = "texts"  # of the report's folder
ALLOWED = f"<name>.md or <name>.typ (names: {', '.join(NAMES)}), {REFERENCES}.bib, and pictures ("
ALLOWED += f"{', '.join(PICTURES)}) in {FIGURES}/"


class FaultyTextsError(ValueError):
    """The report was typeset without some of the author's texts; its message names each with line and reason."""


@dataclass(frozen=True)
class Fault:
    """Why a text was left out, as Typst says."""

    name: str
    line: int | None  # of the author's file; None if Typst names none
    reason: str


def sources(study: str) -> dict[str, Path]:
    """The texts of a study by name, empty ones left out; ValueError that lists every file that is not allowed."""
    folder, found, faults = own_files.folder_of(study), {}, []
    for path in system_files.walk(folder)[0]:
        inner = path.relative_to(folder)
        is_text = inner.parent == Path() and path.stem in NAMES and path.suffix in SUFFIXES
        if inner.parts[0] == FIGURES and len(inner.parts) > 1 and path.suffix.lower() in PICTURES:
            continue
        if not is_text and inner.as_posix() != f"{REFERENCES}.bib":
            faults.append(f"{path}: not a text of the report; allowed: {ALLOWED}")
        elif path.stem in found:
            faults.append(f"{path}: there is also {found[path.stem].name}; expected one of the two")
        elif (text := _text(path, faults)) is not None and text.strip():
            found[path.stem] = path
    if faults:
        raise ValueError("\n".join(faults))
    return found


def _text(path: Path, faults: list[str]) -> str | None:
    """A text without byte order mark; None and a fault if it is not UTF-8."""
    try:
        return files.read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = files.read_bytes(path)[: error.start].count(b"\n") + 1
        faults.append(f"{path}, line {line}: not UTF-8; save the file with the encoding UTF-8")
        return None


def write(study: str, found: dict[str, Path], report: Path, draft: bool) -> dict[str, Any]:
    """Puts the texts into the report's folder, Markdown as Typst; returns what the template knows of them.

    Returns {"files": {name: path in the report's folder}, "sources": {name: path in the project}, "faults": {name:
    reason}, "draft": whether a missing text is asked for, "folder": path in the project}. The caller holds the lock of
    the folder `report`.
    """
    folder = f"texts/{study}"
    with files.replacing_folder(report / FOLDER) as target:
        for path in found.values():
            text = files.read_bytes(path).decode("utf-8-sig")
            if path.suffix == ".md":
                from lib.report import markdown  # takes a while to import

                text = f"// From {folder}/{path.name}\n" + markdown.to_typst(text)
            files.write_text(target / _written(path), text)
        if found and (own_files.folder_of(study) / FIGURES).is_dir():
            shutil.copytree(own_files.folder_of(study) / FIGURES, target / FIGURES, copy_function=shutil.copyfile)
    written = {name: f"{FOLDER}/{_written(path)}" for name, path in found.items()}
    named = {name: own_files.in_project(path) for name, path in found.items()}
    return {"files": written, "sources": named, "faults": {}, "draft": draft, "folder": folder}


def _written(path: Path) -> str:
    """Name of a text in the report's folder."""
    return path.with_suffix(".typ").name if path.suffix == ".md" else path.name


def typeset(compiled: Callable[[], bytes], content_file: Path, found: dict[str, Path]) -> tuple[bytes, list[Fault]]:
    """The PDF by `compiled`, with a warning instead of each text at which it raises ValueError, and these faults.

    The texts are those in content.json, where faults are noted for the template. ValueError if the report does not
    compile without any text.
    """
    content, faults = files.read_json(content_file), list[Fault]()
    written = dict(content["texts"]["files"])

    def compile_with(names: set[str]) -> bytes:
        shown = {name: path for name, path in written.items() if name in names}
        of_faults = {fault.name: _sentence(fault) for fault in faults}
        content["texts"] |= {"files": shown, "faults": of_faults}
        files.write_json(content_file, files.read_json(content_file) | {"texts": content["texts"]})
        return compiled()

    kept = set(written)
    while True:
        try:
            return compile_with(kept), faults
        except ValueError as error:
            fault = _located(str(error), {name: found[name] for name in kept}) or _singled_out(
                compile_with, kept, error
            )
            faults.append(fault)
            kept.discard(fault.name)


def _located(message: str, found: dict[str, Path]) -> Fault | None:
    """The text in which Typst's message places the error, or a warning."""
    for reason, file, line in re.findall(r"(?m)^(?:error|warning): (.*)\n\s*┌─ .*?([^/\\\s]+):(\d+):\d+$", message):
        for name, path in found.items():
            if file == _written(path) and f"{FOLDER}/{file}:{line}" in message.replace("\\", "/"):
                return Fault(name, int(line) if path.suffix != ".md" else _line_with(path, reason), reason)
    return None


def _line_with(path: Path, reason: str) -> int | None:
    """The first line of a Markdown text that contains what Typst's message quotes, such as an unknown key."""
    quotes = re.findall(r"`<?(.+?)>?`|at .*?/(?:" + FOLDER + r")/(.+?)\)", reason)
    quoted = {each for groups in quotes for each in groups if each}
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return next((number for number, line in enumerate(lines, 1) if any(each in line for each in quoted)), None)


def _singled_out(compile_with: Callable[[set[str]], bytes], names: set[str], error: ValueError) -> Fault:
    """The text without which the error is gone, if Typst places it elsewhere; `error` itself if there is none."""
    for name in sorted(names, key=lambda each: (each == REFERENCES, each)):  # texts may cite what REFERENCES holds
        try:
            compile_with(names - {name})
        except ValueError:
            continue
        reason = re.search(r"(?m)^(?:error|warning): (.*)", str(error))
        return Fault(name, None, reason[1] if reason else str(error))
    raise error


def _sentence(fault: Fault) -> str:
    return f"Line {fault.line}: {fault.reason}" if fault.line else fault.reason[:1].upper() + fault.reason[1:]


def described(faults: list[Fault], found: dict[str, Path]) -> str:
    """One line per faulty text: its file, the line and what Typst says."""
    places = [
        f"{own_files.in_project(found[each.name])}{f', line {each.line}' if each.line else ''}" for each in faults
    ]
    return "\n".join(f"{place}: {fault.reason}" for place, fault in zip(places, faults))
