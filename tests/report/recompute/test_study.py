"""The check of whole studies that have run, and of what a forger changes in them."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from lib.report import recompute
from lib.report.recompute.results import Results
from lib.study import files, params
from tests import conftest
from tests.report.recompute import forgery

STUDIES = {"tiny": "tiny_project", "tiny_points": "kinds_project", "tiny_volumes": "kinds_project"}


@pytest.fixture
def study_of(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A finished study by name, whose files a test may change; its report is made anew by `fresh`."""

    def fresh(name: str) -> params.Study:
        project = request.getfixturevalue(STUDIES[name])
        monkeypatch.setattr(files, "ROOT", project)
        monkeypatch.setenv("REPORTS_ROOT", str(tmp_path))
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        shutil.copytree(project / "reports" / name, tmp_path / name)
        return params.read_study(project / "params" / f"{name}.yaml")

    return fresh


def check(study: params.Study) -> list[str]:
    return recompute.check(study).differences


def command(reports: Path) -> subprocess.CompletedProcess:
    return conftest.python(files.ROOT, "-m", "lib", "check-report", "tiny", REPORTS_ROOT=str(reports))


@pytest.mark.parametrize("name", STUDIES)
def test_a_finished_study_is_equal_in_all_its_numbers(study_of, name: str) -> None:
    study = study_of(name)
    checked = recompute.check(study)
    assert checked.differences == []
    assert checked.cells > 100
    assert checked.numbers > 100
    assert checked.summary().endswith(f" and {checked.numbers} numbers in sentences recomputed; all equal")
    assert not [note for note in checked.notes if "masks" in note]  # they were counted


def test_what_a_forger_changes_in_a_long_table_a_sentence_or_the_pdf_is_named(study_of, tmp_path) -> None:
    study = study_of("tiny")
    folder, content = files.study_folder("tiny"), files.study_folder("tiny") / "report" / "content.json"
    true_pdf, true_content = (folder / "report.pdf").read_bytes(), content.read_bytes()

    forgery.forge_sentence(study, ("evaluation", "cases"))
    content.write_bytes(true_content)  # only the PDF stays changed
    forgery.record_again(study)
    (line,) = [line for line in check(study) if "report.pdf" in line][:1]
    cases = files.read_json(content)["evaluation"]["cases"]
    assert line.startswith("report.pdf, page 2: printed ")  # of the abstract
    assert f"[{cases + 1}]" in line.partition(", recomputed ")[0]
    assert f"[{cases}]" in line.partition(", recomputed ")[2]
    assert len(check(study)) == len([line for line in check(study) if line.startswith("report.pdf, page ")])
    (folder / "report.pdf").write_bytes(true_pdf)

    words = folder / "report" / "limits.typ"
    text = words.read_text()
    words.write_text(text.replace("The test set contains", "The test set contains 999 and"))
    forgery.record_again(study)
    assert "report/limits.typ: differs from reports/template/limits.typ; make the report again" in check(study)
    words.write_text(text)

    table = folder / "05_evaluation" / "cases.csv"
    text = table.read_text()
    rows = files.read_csv(table, [])
    rows.loc[0, ["tp", "fn"]] += [1, -1]
    files.write_csv(table, rows)
    forgery.record_again(study)
    found = check(study)
    assert [line for line in found if line.startswith("05_evaluation/cases.csv, row 2, column dice: found ")]
    assert (
        f"05_evaluation/cases.csv, row 2, column tp: found {rows.at[0, 'tp']}, masks have {rows.at[0, 'tp'] - 1}"
        in found
    )
    table.write_text(text)

    forgery.record_again(study)
    assert check(study) == []
    done = command(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith("; all equal")


def test_a_changed_or_added_file_and_a_stale_step_are_named_and_the_command_fails(study_of, tmp_path) -> None:
    study = study_of("tiny")
    folder = files.study_folder("tiny")
    figure = next((folder / "05_evaluation" / "figures").glob("*.svg"))
    figure.write_text(figure.read_text().replace("</svg>", "<!-- -->\n</svg>"))
    (folder / "06_biometry" / "notes.csv").write_text("a\n1\n")
    (folder / "03_model" / "figures" / "one-batch.svg").unlink()
    found = check(study)
    assert f"05_evaluation/figures/{figure.name}: has changed since 05_evaluation was recorded" in found
    assert "06_biometry/notes.csv: was added after 06_biometry was recorded" in found
    assert "03_model/figures/one-batch.svg: missing" in found
    forgery.record_again(study)
    record = folder / "05_evaluation" / "record.json"
    files.write_json(record, files.read_json(record) | {"inputs": {}})
    assert "05_evaluation is stale: input 01_data_verification has changed" in check(study)
    done = command(tmp_path)
    assert done.returncode == 1
    assert "05_evaluation is stale: input 01_data_verification has changed" in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1].endswith(" differences")


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_20_numbers_drawn_by_a_seed_5_of_them_in_sentences_are_named_when_changed(study_of, name: str) -> None:
    study = study_of(name)
    results, draw = Results(study), random.Random(22)
    assert check(study) == []
    jobs = [(forgery.forge_table, each) for each in draw.sample(forgery.numbers_of_tables(results), 15)]
    jobs += [(forgery.forge_sentence, (path,)) for path in forgery.in_sentences(results, draw, 5)]
    missed = []
    for forge, job in jobs:
        study_of(name)
        forged = forge(study, *job)
        missed += [] if forged.is_named(check(study)) else [forged]
    assert missed == []
    assert len(jobs) == 20
