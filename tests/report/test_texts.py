"""The author's texts: in a report of one page, and in that of a synthetic study."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from lib import __main__, pipeline
from lib.report import build, texts
from lib.report.recompute import sentences
from lib.study import files, own_files, params
from tests import builders_report
from tests.builders_report import folder, text_of

MINE = "@article{mine, author = {Mustermann, Erika}, title = {Of my own}, journal = {J. Own}, year = {2020}}\n"
# A report of one page with every text, a figure, a table and a label of its own.
REPORT = """
#import "texts.typ": own-text, own-references, faulty-references
#let content = json("content.json")
#set document(title: "Texts")
#set heading(numbering: "1.1")
#for name in NAMES { own-text(content, name) }
= Findings
@findings
#figure([drawn], alt: "drawn", caption: [The worst]) #label("figure:05_evaluation:worst")
#figure(table([x]), caption: [The groups]) #label("table:05_evaluation:groups")
#figure(table([y]), caption: [What was found]) <findings>
#faulty-references(content)
#bibliography(("references.bib", ..own-references(content)), style: "ieee")
"""


@pytest.fixture(autouse=True)
def no_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project without texts."""
    monkeypatch.setattr(own_files, "texts_root", lambda: tmp_path / "texts")


@pytest.fixture
def typeset(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Typesets a small report with the texts of the demo; returns its text and the faults as lines."""
    report = tmp_path / "reports" / "demo" / "report"
    for name in ("texts.typ", "style.typ", "plain.typ", "references.bib"):
        files.write_bytes(report / name, (build.TEMPLATE / name).read_bytes())
    files.write_text(report / "report.typ", REPORT.replace("NAMES", str(texts.NAMES).replace("'", '"')))

    def run(draft: bool = False) -> tuple[str, str]:
        found = texts.sources("demo")
        files.write_json(report / "content.json", {"texts": texts.write("demo", found, report, draft)})
        compiled = partial(build.typeset, report / "report.typ", builders_report.DATE)
        pdf, faults = texts.typeset(compiled, report / "content.json", found)
        files.write_bytes(tmp_path / "small.pdf", pdf)
        return text_of(tmp_path / "small.pdf"), texts.described(faults, found)

    return run


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> params.Study:
    """The finished study `demo` without a report."""
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
    study = params.read_study(files.study_file("demo"))
    builders_report.write_study(study)
    return study


def write(**named: str) -> None:
    """Writes texts of the demo; in their names, two underscores stand for the dot."""
    for name, text in named.items():
        files.write_text(own_files.folder_of("demo") / name.replace("__", "."), text)


def test_texts_stand_in_their_places_below_the_chapter_with_citations_and_references(typeset) -> None:
    write(introduction__md="Heads *grow* [@hc18; @mine], see [@figure:05_evaluation:worst].\n\n# Aim\n\nNone.")
    write(related_work__typ="= Old work\n@mine and @table:05_evaluation:groups, $x^2$.", references__bib=MINE)
    write(conclusion__typ="\ufeffAll is said. // not printed", ethics__md="  \n", funding__md="# Grant\n\nNone.")
    text, faults = typeset()
    assert faults == ""
    order = ["1 Introduction", "Heads grow [1], [2], see Figure 1.", "1.1 Aim", "2 Related work", "2.1 Old work"]
    order += ["[2] and Table 1, ", "3 Conclusion", "All is said.", "3.0.1 Grant", "Mustermann, “Of my own,”"]
    places = [text.find(part) for part in order]
    assert -1 not in places
    assert places == sorted(places)
    assert "not printed" not in text
    assert "To be written" not in text


def test_without_texts_nothing_is_printed_and_a_draft_asks_for_each(typeset) -> None:
    write(introduction__md=" \n", funding__md="None.")
    text, _ = typeset()
    assert "Introduction" not in text
    text, _ = typeset(draft=True)
    for name in texts.NAMES:
        assert (f"[To be written: texts/demo/{name}.md]" in text.replace("_ ", "_")) == (name != "funding")


FAULTY = {
    "conclusion.typ": ("Fine.\n\n#[not closed\n", 3, "unclosed delimiter"),
    "introduction.md": ("Known [@hc18].\n\nUnknown [@nobody].", 3, "label `<nobody>` does not exist in the document"),
    "related_work.typ": ('\n#set text(font: "Nowhere")\nx', 2, "unknown font family: nowhere"),
    "discussion.typ": ("$ x + $ #undefined", 1, "unknown variable: undefined"),
    "ethics.md": ("Look:\n\n![Plane](figures/none.png)", 3, "file not found"),
    "ai_use.typ": ("#while true {}", 1, "condition is always true"),
}


@pytest.mark.parametrize("names", [[name] for name in FAULTY] + [list(FAULTY)])
def test_a_faulty_text_is_named_with_its_line_and_the_rest_is_typeset(typeset, names: list[str]) -> None:
    write(funding__md="Paid by nobody.", **{name.replace(".", "__"): FAULTY[name][0] for name in names})
    text, said = typeset()
    for name in names:
        _, line, reason = FAULTY[name]
        assert f"texts/demo/{name}, line {line}: {reason}" in said
        warning = f"The text texts/demo/{name} could not be typeset. Line {line}: {reason}"
        assert warning.replace("`", "") in text.replace("`", "").replace("_ ", "_")
    assert said.count("\n") == len(names) - 1
    assert "Paid by nobody." in text


def test_a_fault_that_typst_places_elsewhere_is_that_of_the_text_without_which_it_is_gone(typeset) -> None:
    write(introduction__typ="#figure([x], caption: [y]) <findings>", conclusion__md="All is said.")
    text, said = typeset()
    assert said == "texts/demo/introduction.typ: label `<findings>` occurs multiple times in the document"
    assert "All is said." in text
    assert "texts/demo/introduction.typ could not be typeset." in text


def test_an_error_of_the_report_itself_is_not_blamed_on_a_text(typeset, tmp_path) -> None:
    write(introduction__md="Fine.")
    report = tmp_path / "reports" / "demo" / "report" / "report.typ"
    report.write_text(report.read_text(encoding="utf-8") + "\n#nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="unknown variable: nothing"):
        typeset()


@pytest.mark.parametrize(
    ("bibliography", "said"),
    [
        ("\n@misc{a, title = {T}\n@misc{b", "texts/demo/references.bib, line 3: failed to parse BibLaTeX"),
        ("@misc{hc18, title = {T}}\n", "texts/demo/references.bib: duplicate bibliography keys: hc18"),
    ],
)
def test_a_faulty_bibliography_is_named_and_the_texts_are_printed(typeset, bibliography: str, said: str) -> None:
    write(references__bib=bibliography, conclusion__md="As [@hc18] says.")
    text, faults = typeset()
    assert faults.startswith(said)
    assert "As [1] says." in text


def test_pictures_of_the_author_are_printed(typeset) -> None:
    files.write_text(own_files.folder_of("demo") / "figures" / "own.svg", builders_report.PICTURE)
    write(introduction__md="Look:\n\n![My drawing](figures/own.svg)")
    text, faults = typeset()
    assert faults == ""
    assert "Figure 1: My drawing" in text


def test_all_files_that_are_not_allowed_are_named_together() -> None:
    write(intro__md="x", introduction__md="x", introduction__typ="y", background__txt="z")
    files.write_bytes(own_files.folder_of("demo") / "ethics.md", b"ok\nna\xefve")
    files.write_text(own_files.folder_of("demo") / "old" / "funding.md", "x")
    files.write_text(own_files.folder_of("demo") / "figures" / "a.svg", "<svg/>")
    files.write_text(own_files.folder_of("demo") / ".DS_Store", "x")
    at = own_files.folder_of("demo")
    with pytest.raises(ValueError, match="not a text of the report") as error:
        texts.sources("demo")
    assert sorted(str(error.value).split("\n")) == [
        f"{at / 'background.txt'}: not a text of the report; allowed: {texts.ALLOWED}",
        f"{at / 'ethics.md'}, line 2: not UTF-8; save the file with the encoding UTF-8",
        f"{at / 'intro.md'}: not a text of the report; allowed: {texts.ALLOWED}",
        f"{at / 'introduction.typ'}: there is also introduction.md; expected one of the two",
        f"{at / 'old' / 'funding.md'}: not a text of the report; allowed: {texts.ALLOWED}",
    ]


def test_a_report_with_a_faulty_text_ends_with_status_1_and_is_finished_once_it_is_mended(study, capsys) -> None:
    write(introduction__md="It weighs 4711 g [@nobody].", funding__md="None.")
    assert __main__.main(["report", "demo"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("texts/demo/introduction.md, line 1: label `<nobody>` does not exist in the document\n")
    assert "report.pdf has a warning in place of each text above" in said.err
    pdf = folder(study, "report.pdf")
    assert said.out == f"{pdf}\n"
    assert "texts/demo/introduction.md could not be typeset." in text_of(pdf)
    assert own_files.stale_reasons(build.STEP, study) == ["not completed yet"]
    write(introduction__md="It weighs 4711 g.")
    assert __main__.main(["report", "demo"]) == 0
    assert own_files.stale_reasons(build.STEP, study) == []
    gallery = pdf.with_name("gallery.html")
    first = gallery.read_bytes(), gallery.stat().st_mtime_ns
    write(introduction__md="It weighs 4712 g.", ethics__typ="Not needed.")
    (own_files.folder_of("demo") / "funding.md").unlink()
    reasons = [
        "texts/demo/ethics.typ was added or removed",
        "texts/demo/funding.md was added or removed",
        "texts/demo/introduction.md was changed",
    ]
    assert own_files.stale_reasons(build.STEP, study) == reasons
    assert "\n    ".join(["report                       stale", *reasons]) in pipeline.explain(study)
    assert __main__.main(["report", "demo", "--draft"]) == 0
    assert own_files.stale_reasons(build.STEP, study) == ["it was typeset as a draft"]
    assert sorted(path.name for path in folder(study, "report/texts").iterdir()) == ["ethics.typ", "introduction.typ"]
    assert (gallery.read_bytes(), gallery.stat().st_mtime_ns) == first  # nothing in it has changed
    numbers_of_texts_are_printed_and_not_counted(pdf)


def numbers_of_texts_are_printed_and_not_counted(pdf: Path) -> None:
    content = files.read_json(pdf.parent / "report" / "content.json")
    tables = {name: (pdf.parent / path[1:]).read_text(encoding="utf-8") for name, path in content["tables"].items()}
    again, said = sentences.typeset(pdf.parent, content, tables)
    assert again == pdf.read_bytes()
    assert "4712" in text_of(pdf)
    assert "4712" not in sentences.numbers_in(said)
    assert len(sentences.numbers_in(said)) > 50


def test_the_gallery_is_current_only_if_all_that_it_is_made_of_is_as_before(tmp_path) -> None:
    page = tmp_path / "gallery.html"
    files.write_text(page, "cases")
    last = {"outputs": {"../gallery.html": files.sha256(page)}, "own": {"title": "a"}, "inputs": {"05": "b"}}
    last |= {"code": {"gallery.js": "c", "front.typ": "d", "references.bib": "e"}}
    now = last | {"code": last["code"] | {"front.typ": "x", "references.bib": "y"}}
    assert build._is_current(page, last, now)
    others = ({"own": {"title": "x"}}, {"inputs": {"05": "x"}}, {"code": last["code"] | {"gallery.js": "x"}})
    assert [build._is_current(page, last, last | other) for other in others] == [False, False, False]
    assert not build._is_current(page, None, last)
    files.write_text(page, "edited")
    assert not build._is_current(page, last, last)
