"""Recomputes every number of a study's report from its long tables, by code that shares nothing with the report's.

`tests/test_rooms.py` holds it to that: nothing here imports the summaries, tables, captions, metrics or statistics. A
table that is printed and has no function in `tables` is a difference.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import typst

from lib.report.recompute import compare, content, long_tables, masks, records, sentences, tables
from lib.report.recompute.results import HASHED, Results
from lib.study import files, params, steps


@dataclass
class Checked:
    """What was compared, and every difference."""

    cells: int = 0  # of tables, recomputed
    hashed: int = 0  # of tables, held to the hash of their file
    numbers: int = 0  # in sentences and captions
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """What `check-report` prints."""
        return [*self.differences, *(f"note: {note}" for note in self.notes), self.summary()]

    def summary(self) -> str:
        """The last line."""
        found = len(self.differences)
        verdict = f"{found} difference{'s' * (found != 1)}" if found else "all equal"
        held = f" ({self.hashed} more that no table holds: their files have the recorded hash)" if self.hashed else ""
        return f"{self.cells} table cells{held} and {self.numbers} numbers in sentences recomputed; {verdict}"


def check(study: params.Study) -> Checked:
    """Compares files, tables, content and PDF of a finished study with what is recomputed from its long tables."""
    results, checked = Results(study), Checked()
    checked.differences, checked.notes = records.differing(results)
    attempt(checked, "long tables", lambda: checked.differences.extend(long_tables.differing(results)))
    if not study.learns_landmarks:
        attempt(checked, "masks", partial(count_masks, results, checked))
    compared = check_tables(results, checked)
    attempt(checked, "report.pdf", lambda: check_sentences(results, compared, checked))
    return checked


def attempt(checked: Checked, name: str, compare_part: Callable[[], None]) -> None:
    """Runs one part of the comparison; what a damaged file makes impossible is a difference."""
    try:
        compare_part()
    except (ValueError, OSError, typst.TypstError) as error:
        checked.differences.append(f"{name}: cannot be recomputed: {error}")
    except (KeyError, IndexError) as error:
        checked.differences.append(f"{name}: cannot be recomputed: {error} is missing")


def count_masks(results: Results, checked: Checked) -> None:
    """Compares the counts of 05 with the masks."""
    differences, notes = masks.differing(results)
    checked.differences += differences
    checked.notes += notes


@dataclass
class Tables:
    """Tables that were compared."""

    verified: dict[str, content.Table] = field(default_factory=dict)  # by name, with recomputed values
    markup: dict[str, str] = field(default_factory=dict)  # their .typ with recomputed cells, as content.json names them


def check_tables(results: Results, checked: Checked) -> Tables:
    """Compares every table of every step."""
    compared = Tables()
    for step in steps.study_steps(results.study):
        for path in sorted((step.folder(results.study.study) / "tables").glob("[!.]*")):
            name = f"{step.label}/tables/{path.stem}"
            if path.suffix == ".typ" and not path.with_suffix(".csv").is_file():
                checked.differences.append(f"{name}.typ: is printed without a .csv")
            elif path.suffix == ".csv":
                attempt(checked, f"{name}.csv", partial(check_table, results, name, checked, compared))
    return compared


def check_table(results: Results, name: str, checked: Checked, compared: Tables) -> None:
    """Compares one .csv with what its function recomputes (or counts it as hashed), and its .typ with the .csv."""
    of_all_runs, recomputed = f"{name.split('/')[0]}/tables/{name.split('/')[-1]}", tables.sources(results.study)
    columns, given = list(results.table(name).columns), results.rows(name)
    if of_all_runs in recomputed:
        expected = recomputed[of_all_runs](results)
    elif of_all_runs in tables.HASHED:
        expected = [dict.fromkeys(columns, HASHED) for _ in given]
    else:
        raise ValueError("there is no function for this table in lib/report/recompute")
    hashed = sum(value is HASHED for row in expected for value in row.values())
    checked.hashed, checked.cells = checked.hashed + hashed, checked.cells + len(columns) * len(given) - hashed
    differences, right = compare.differing(f"{name}.csv", columns, given, expected)
    compared.verified[name] = columns, right
    text = Path(results.folder, f"{name}.typ").read_text(encoding="utf-8")
    checked.differences += differences + compare.differing_print(f"{name}.typ", text, columns, given)
    compared.markup[name.replace("/tables/", "/")] = compare.repaired(text, columns, right)


def check_sentences(results: Results, compared: Tables, checked: Checked) -> None:
    """Compares content.json with one rebuilt from verified tables, and report.pdf with one typeset from that."""
    given, right = results.json("report/content.json"), content.rebuild(results, compared.verified)
    right |= {name: given[name] for name in ("without_font", "texts") if name in given}
    values = compare.differing_values("", given, right)
    checked.differences += [f"report/content.json, {line.removeprefix('.')}" for line in values]
    for name, file in content.post_files(results).items():
        table = content.after_post(compared.verified[name.replace("/", "/tables/")])
        text = (results.folder / file).read_text(encoding="utf-8")
        checked.differences += compare.differing_print(file, text, *table)
        compared.markup[name] = compare.repaired(text, *table)
    pdf, said = sentences.typeset(results.folder, right, compared.markup)
    checked.numbers = len(sentences.numbers_in(said))
    checked.differences += sentences.differing(files.read_bytes(results.folder / "report.pdf"), pdf)
