"""The CLAIM checklist and the references of a report."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import typst

from lib import datasets
from lib.report import build
from lib.report.content import LANDMARKS
from lib.study import files, params
from tests import builders_report

STUDIES = ("phantom_brain_structures", "lgg_quick", "hc18_landmarks_quick")
ANSWERS = {"yes", "partly", "no", "not applicable"}
WRITTEN = {number: name for name, numbers in {"introduction": (3, 4), "funding": (44,)}.items() for number in numbers}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Builds the report of a study, by name, once per module: its folder, which tests must not change."""

    @cache
    def build_once(name: str) -> Path:
        study = params.read_study(files.study_file(name))
        study = study.model_copy(update={"folds": [0], "seeds": [0], "compare_with": []})
        builders_report.write_study(study)
        return build.write_pdf(study).parent / "report"

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPORTS_ROOT", str(tmp_path_factory.mktemp("reports")))
        yield build_once


def items(folder: Path, changes: dict | None = None) -> dict[int, tuple[str, int | None]]:
    """Answer and page of every item, after some changes of the content."""
    if changes:
        files.write_json(folder / "content.json", files.read_json(folder / "content.json") | changes)
    compiler = typst.Compiler(folder / "report.typ", root=folder.parent, ignore_system_fonts=True)
    rows = json.loads(compiler.query("<claim-item>", field="value"))
    assert len({number for number, *_ in rows}) == len(rows)
    return {number: (answer, page) for number, answer, page in rows}


@pytest.mark.parametrize("name", STUDIES)
def test_every_item_is_answered_and_what_is_answered_has_a_page(built, name: str) -> None:
    folder = built(name)
    answers = items(folder)
    assert sorted(answers) == list(range(1, 45))
    assert {answer for answer, _ in answers.values()} <= ANSWERS
    pages = len(builders_report.PdfDocument(folder.parent / "report.pdf"))
    for number, (answer, page) in answers.items():
        assert (page is not None and 1 <= page <= pages) == (answer in ("yes", "partly")), number
    assert [answers[number][0] for number in (9, 19, 22, 24, 25, 28, 29, 32, 37, 39, 40, 42)] == ["yes"] * 12
    assert [answers[number][0] for number in (*WRITTEN, 21, 33)] == ["no"] * 5  # no text of the author, no other data
    assert answers[38][0] == ("not applicable" if name == "hc18_landmarks_quick" else "yes")
    if name == "phantom_brain_structures":  # generated: nobody was imaged, nobody outlined it
        assert [answers[number][0] for number in (5, 11, 13, 16, 18)] == ["not applicable"] * 5
    counts = Counter(answer for answer, _ in answers.values())
    said = f"the answer is yes for {counts['yes']}, partly for {counts['partly']}, no for {counts['no']} and not"
    assert said in builders_report.text_of(folder.parent / "report.pdf")


def test_an_item_that_the_author_writes_is_answered_where_the_text_exists(built, tmp_path) -> None:
    folder = shutil.copytree(built(STUDIES[0]).parent, tmp_path / "study") / "report"
    assert [items(folder)[number][0] for number in WRITTEN] == ["no"] * 3
    text = dict.fromkeys(WRITTEN.values(), "/report/own.typ")
    files.write_text(folder / "own.typ", "Why this study was made.")
    changes = {"texts": {"files": text, "sources": {}, "faults": {}, "draft": False, "folder": ""}}
    assert [items(folder, changes)[number][0] for number in WRITTEN] == ["yes"] * 3


def test_code_and_model_are_available_only_where_their_address_is_given(built, tmp_path) -> None:
    folder = shutil.copytree(built(STUDIES[0]).parent, tmp_path / "study") / "report"
    for address, answer in (("", "partly"), ("https://example.org/code", "yes")):
        software = {"doi": "", "repository": address, "version": "1"}
        assert items(folder, {"software": software})[43][0] == answer


def test_every_reference_exists_and_none_is_unused() -> None:
    template = build.TEMPLATE
    entries = re.findall(r"^@\w+\{([\w-]+),", (template / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    assert [key for key, count in Counter(entries).items() if count > 1] == []
    text = "\n".join(path.read_text(encoding="utf-8") for path in template.glob("*.typ"))
    labels = set(re.findall(r"<([\w-]+)>(?!\))", text)) | set(re.findall(r'short-table\(\s*"([\w-]+)"', text))
    cited = set(re.findall(r"@([\w-]+)", text)) - labels | set(re.findall(r"cite\(<([\w-]+)>", text))
    cited |= set(re.findall(r'versioned\(c, "[\w-]+", "\w+", "([\w-]+)"\)', text))
    cited |= {each.citation for each in datasets.DATASETS.values()}
    cited |= {citation for _, citation, _ in LANDMARKS.values() if citation}
    facts = [template / "published-results.yaml", files.ROOT / "data" / "sources.yaml"]
    cited |= {key for path in facts for key in re.findall(r"(?m)^ +citation: ([\w-]+)$", path.read_text("utf-8"))}
    assert sorted(cited - set(entries)) == []
    assert sorted(set(entries) - cited) == []


def test_no_reference_ends_its_authors_in_others() -> None:
    assert "and others" not in (build.TEMPLATE / "references.bib").read_text(encoding="utf-8")
