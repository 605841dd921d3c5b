"""`report` and `watch` on a small text: a real run of the loop, ended as Ctrl-C ends it."""

import itertools
from pathlib import Path

import pytest

from lib.report import build, command
from lib.study import files, own_files, params
from tests import builders_report
from tests.builders_report import folder, text_of


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> params.Study:
    """The finished study `demo` without a report."""
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
    monkeypatch.setattr(own_files, "texts_root", lambda: tmp_path / "texts")
    study = params.read_study(files.study_file("demo"))
    builders_report.write_study(study)
    return study


def test_watch_typesets_on_each_save_names_an_error_goes_on_and_ends_plainly(study) -> None:
    said, failed = list[str](), list[tuple[str, int]]()
    name = own_files.folder_of(study.study) / "introduction.md"
    saves = iter(["Unknown [@nobody].", b"na\xefve", "Last words."])

    def say(line: object) -> None:
        said.append(str(line))
        if "waits for a save" not in said[-1]:
            return
        content = next(saves, None)
        if content is None:
            raise KeyboardInterrupt
        files.write_bytes(name, content if isinstance(content, bytes) else content.encode())

    def fail(text: str, status: int) -> int:
        failed.append((text, status))
        return status

    assert command.watch(study.study, False, say, fail) == 0
    assert len([line for line in said if "waits for a save in texts/demo/ (Ctrl-C ends)" in line]) == 4
    assert said[-1] == "stopped watching"
    (unknown, first), (not_utf8, second) = failed
    assert (first, second) == (1, 2)
    assert unknown.startswith("texts/demo/introduction.md, line 1: label `<nobody>` does not exist")
    assert not_utf8 == f"{name}, line 1: not UTF-8; save the file with the encoding UTF-8"
    assert "Last words." in text_of(folder(study, "report.pdf"))
    assert own_files.stale_reasons(build.STEP, study) == []


def test_a_file_that_is_written_in_several_steps_is_one_save(monkeypatch) -> None:
    monkeypatch.setattr(command, "PAUSE_SECONDS", 0.0)
    sizes = iter([1, 1, 1, 2, 3, 3, 3, 4, 4])
    looked = []

    def look() -> command.State:
        looked.append(next(sizes))
        return {Path("a"): (0, looked[-1])}

    saved = [looked[-1] for _ in itertools.islice(command.saves(look), 3)]
    assert saved == [1, 3, 4]
    assert looked == [1, 1, 1, 2, 3, 3, 3, 4, 4]


def test_the_state_of_a_study_changes_with_its_texts_and_its_file(study) -> None:
    before = command.state_of(study.study)
    assert list(before) == [files.study_file(study.study)]
    files.write_text(own_files.folder_of(study.study) / "funding.md", "None.")
    assert len(command.state_of(study.study)) == 2
