"""A forger who changes one printed number, makes the report agree with it, and records every file again."""

import copy
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.report import build, recompute, tables
from lib.report.recompute import sentences
from lib.report.recompute.results import Results
from lib.study import files, params, steps


@dataclass(frozen=True)
class Forged:
    """One number in a file, and what the check must say of it."""

    file: str
    place: str  # row and column, or the path in content.json
    before: str
    after: str

    def is_named(self, lines: list[str]) -> bool:
        """Whether a line names file, place, and both values."""
        wanted = (self.file, self.place, f"printed {self.after}", f"recomputed {self.before}")
        return any(all(part in line for part in wanted) for line in lines)


def numbers_of_tables(results: Results) -> list[tuple[str, int, str]]:
    """Every number in a printed table that long tables determine: table, row from 0, column."""
    found, how = [], recompute.tables.sources(results.study)
    for name in results.json("report/content.json")["tables"]:
        step, _, stem = name.rpartition("/")
        if f"{step}/tables/{stem}" in how:
            expected = how[f"{step}/tables/{stem}"](results)
            cells = [(place, *cell) for place, row in enumerate(expected) for cell in row.items()]
            kept = [(place, column) for place, column, value in cells if type(value) in (int, float) and value == value]
            found += [(f"{step}/tables/{stem}", place, column) for place, column in kept]
    return found


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths of the numbers, and texts with numbers, in a JSON value."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, (*path, key))
    elif type(value) in (int, float) or (isinstance(value, str) and re.search(r"\d", value)):
        yield path


def changed(value: Any) -> Any:
    """A number, or a text with its first digit, changed."""
    if isinstance(value, str):
        return re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), value, count=1)
    return value + 1 if isinstance(value, int) else value * 1.25 + 0.5


def with_leaf(content: Any, path: tuple) -> tuple[Any, Any, Any]:
    """A copy of a JSON value with one leaf changed, and the leaf before and after."""
    forged = copy.deepcopy(content)
    *parents, last = path
    part = forged
    for key in parents:
        part = part[key]
    before, part[last] = part[last], changed(part[last])
    return forged, before, part[last]


def in_sentences(results: Results, draw: random.Random, count: int) -> list[tuple]:
    """Leaves of content.json that stand in a sentence or caption, drawn by chance."""
    content, chosen = results.json("report/content.json"), []
    markup = {name: (results.folder / path[1:]).read_text() for name, path in content["tables"].items()}
    before = sentences.typeset(results.folder, content, markup)[1]
    paths = [path for path in leaves(content) if path[0] not in ("figures", "tables", "checks")]
    while len(chosen) < count:
        path = paths.pop(draw.randrange(len(paths)))
        try:
            after = sentences.typeset(results.folder, with_leaf(content, path)[0], markup)[1]
        except (ValueError, KeyError, build.typst.TypstError):  # a date, a label or a seed that is no longer one
            continue
        chosen += [path] if after != before else []
    return chosen


def forge_table(study: params.Study, name: str, place: int, column: str) -> Forged:
    """Changes a number of a table, as .csv and .typ, and makes the report anew from it."""
    path = files.study_folder(study.study) / f"{name}.csv"
    table = files.read_csv(path, [])
    before = table.at[place, column].item()
    after = changed(before)
    table[column] = [after if row == place else cell for row, cell in enumerate(table[column])]
    tables.save(table, path.with_suffix(""))
    record_again(study)
    build.write_pdf(study)
    return Forged(f"{name}.csv", f"row {place + 2}, column {column}:", f"{before}"[:9], str(after))


def forge_sentence(study: params.Study, path: tuple) -> Forged:
    """Changes a number of content.json and typesets the report from it."""
    content = files.study_folder(study.study) / "report" / "content.json"
    forged, before, after = with_leaf(files.read_json(content), path)
    files.write_json(content, forged)
    date = forged["provenance"]["date"]
    pdf = build.typeset(content.with_name("report.typ"), date)
    files.write_bytes(content.parents[1] / "report.pdf", pdf)
    record_again(study)
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")
    return Forged("report/content.json", where, str(before)[:40], str(after)[:40])


def record_again(study: params.Study) -> None:
    """Writes the hashes of the present files into every record, as if they had been made so."""
    for step in steps.study_steps(study):
        path: Path = step.record_file(study.study)
        if path.is_file():
            record = files.read_json(path)
            record["outputs"] = steps.step_outputs(step, path.parent)
            record["inputs"] = steps.input_digests(step, study)
            files.write_json(path, record)
