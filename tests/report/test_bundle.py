import re
import shutil
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from lib import __main__, datasets
from lib.report import build, bundle, index_page, model_card
from lib.study import files, params, staleness
from tests import builders_report
from tests.builders_report import folder

ODD = "05_evaluation/figures/a b#1 & 'c' 100% <d>.svg"
NOTEBOOK = "05_evaluation/notebook.ipynb"
LEFT_OUT = (
    "previews/fold0-seed0/a.svg",
    "predictions/post/fold0-seed0/a.png",
    "../04_training/fold0-seed0/tensorboard/events.1",
    ".step.lock",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Reports with the finished study `demo`: an executed notebook, a figure with an odd name, files of other kinds."""
    study = params.read_study(files.study_file("demo"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPORTS_ROOT", str(tmp_path_factory.mktemp("reports")))
        builders_report.write_study(study)
        drawn = next(folder(study, "05_evaluation/figures").glob("*.svg"))
        shutil.copy2(drawn, folder(study, ODD))
        book = files.read_json(files.ROOT / "notebooks" / "05_evaluation.ipynb")
        code = next(cell for cell in book["cells"] if cell["cell_type"] == "code")
        image = {"image/svg+xml": drawn.read_text(encoding="utf-8"), "text/plain": "<Figure>"}
        code["outputs"] = [{"output_type": "display_data", "data": image, "metadata": {}}]
        printed = [f"{folder(study, '')}, {Path.home() / 'data'}\n"]
        code["outputs"] += [{"output_type": "stream", "name": "stderr", "text": printed}]
        paths = {"input_path": str(files.ROOT / "notebooks"), "output_path": str(folder(study, NOTEBOOK))}
        book["metadata"]["papermill"] = paths | {"duration": 1.5}
        files.write_json(folder(study, NOTEBOOK), book)
        for name in LEFT_OUT:
            files.write_text(folder(study, "05_evaluation") / name, "left out")
        files.write_text(folder(study, "05_evaluation/models/fold0-seed0.safetensors"), "weights")
        files.write_text(folder(study, "04_training/fold0-seed0/model.safetensors"), "the same weights")
        builders_report.write_records(study)
        build.write_pdf(study)
        yield study


class Links(HTMLParser):
    """All that a page refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, _, attrs):
        self.found += [value for name, value in attrs if name in ("href", "src")]


def links(page: str) -> set[str]:
    return {unquote(each) for each in Links(page).found}


def test_the_index_of_a_study_links_to_its_report_notebooks_tables_figures_and_weights(finished):
    root = folder(finished, "")
    page = (root / "index.html").read_text(encoding="utf-8")
    found = links(page)
    assert [name for name in found if not (root / name).is_file()] == []
    expected = {
        "report.pdf",
        "gallery.html",
        NOTEBOOK,
        ODD,
        "05_evaluation/tables/per_class.csv",
        "05_evaluation/cases.csv",
    }
    assert found >= expected | {"05_evaluation/models/fold0-seed0.safetensors"}
    assert not {name for name in found if name.endswith((".json", ".typ", ".tex", ".png", "model.safetensors"))}
    assert not {name for name in found if "previews" in name or ("figures" in name and name.endswith(".pdf"))}
    assert not re.search("https?:|<script|<link", page)
    assert page == index_page.page(finished, ["report.pdf", "gallery.html"], index_page.result_files(finished))
    empty = "01_data_verification/tables/landmark-audit.csv"  # of landmarks only
    assert empty in index_page.result_files(finished)
    assert empty not in found


def test_names_are_escaped_and_a_missing_index_or_gallery_makes_the_report_stale(finished):
    odd = finished.model_copy(update={"title": "<b>A & B</b> 漢", "author": "<i>"})
    page = index_page.page(odd, [], [])
    assert "<h1>&lt;b&gt;A &amp; B&lt;/b&gt; 漢</h1>" in page
    assert "Study demo, by &lt;i&gt;." in page
    for name in ("index.html", "gallery.html"):
        content = folder(finished, name).read_bytes()
        folder(finished, name).unlink()
        assert staleness.stale_reasons(build.STEP, finished) == [f"output files changed or missing (1): ../{name}"]
        files.write_bytes(folder(finished, name), content)


def test_the_bundle_holds_the_results_opens_offline_and_is_the_same_file_again(finished, tmp_path, capsys):
    assert __main__.main(["bundle", "demo"]) == 0
    path = folder(finished, "demo.zip")
    assert capsys.readouterr().out == f"{path} ({path.stat().st_size / 2**20:.1f} MB)\n"
    before = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
        names = {name.removeprefix("demo/") for name in archive.namelist()}
    page = NOTEBOOK.replace("ipynb", "html")
    weights = "05_evaluation/models/fold0-seed0.safetensors"
    assert names >= {
        "report.pdf",
        "gallery.html",
        "demo.yaml",
        "README.txt",
        "index.html",
        NOTEBOOK,
        page,
        weights,
        ODD,
    }
    assert names >= {"05_evaluation/record.json", "05_evaluation/timing.json", "06_biometry/measurements.csv"}
    assert not [name for name in names if re.search("predictions|previews|tensorboard|model.safetensors|/\\.", name)]
    found = links((tmp_path / "demo" / "index.html").read_text(encoding="utf-8"))
    assert found >= {"report.pdf", "gallery.html", "demo.yaml", "README.txt", page, NOTEBOOK, weights}
    assert [name for name in found if not (tmp_path / "demo" / name).is_file()] == []
    for name in names:
        content = (tmp_path / "demo" / name).read_bytes()
        assert str(files.ROOT).encode() not in content, name
        assert str(folder(finished, "")).encode() not in content, name
    book = files.read_json(tmp_path / "demo" / NOTEBOOK)
    assert book["metadata"]["papermill"]["input_path"] == "./notebooks"
    (printed,) = [each["text"] for cell in book["cells"] for each in cell.get("outputs", []) if "text" in each]
    assert printed == ["reports/demo, ~/data\n"]
    assert bundle.write(finished).read_bytes() == before


def test_what_no_step_wrote_is_left_out_and_a_link_to_another_place_is_refused(finished, tmp_path):
    stray, timing = folder(finished, "05_evaluation/@eaDir/notes.csv"), folder(finished, "05_evaluation/timing.json")
    files.write_text(stray, "patient 7")
    files.write_text(folder(finished, "05_evaluation/tables/mine.csv"), "patient 7")
    assert not [name for name in index_page.result_files(finished) if "notes" in name or "mine" in name]
    shutil.move(timing, tmp_path / "timing.json")
    timing.symlink_to(tmp_path / "timing.json")
    with pytest.raises(ValueError, match=r"timing\.json: a link out of the study's folder; expected a file"):
        bundle.write(finished)
    shutil.move(tmp_path / "timing.json", timing)


def test_an_executed_notebook_as_html_shows_its_figures_and_loads_nothing(finished):
    page = bundle.as_html(folder(finished, NOTEBOOK).read_text(encoding="utf-8"), "05_evaluation")
    assert "<title>05_evaluation</title>" in page
    assert "Content-Security-Policy" in page
    assert "How well is each class segmented?" in page
    assert "<script" not in page
    sources = [each for each in links(page) if not each.startswith("#")]
    assert [each for each in sources if not each.startswith("data:image/")] == []
    assert len(sources) == 1


@pytest.mark.parametrize(("name", "expected"), [("demo", "they show no patient"), ("busi", "show images of patients")])
def test_the_readme_names_the_licence_of_the_data_and_whom_the_images_show(name, expected):
    study = params.read_study(files.study_file(name))
    text = bundle.readme(study, datasets.of(study))
    assert expected in text
    assert f"Licence: {datasets.of(study).licence}." in text


def test_a_study_that_has_not_run_to_its_end_is_refused(finished, capsys):
    record = folder(finished, "06_biometry/record.json")
    content = record.read_bytes()
    record.unlink()
    assert __main__.main(["bundle", "demo"]) == 2
    expected = (
        "study demo has not run to its end; run 'make study STUDY=demo' first:\n  06_biometry: not completed yet\n"
    )
    assert capsys.readouterr().err.startswith(expected)
    record.write_bytes(content)


def test_bundle_and_card_of_an_earlier_report_are_set_aside_once_and_said(finished, capsys):
    assert __main__.main(["bundle", "demo"]) == 0
    files.write_text(model_card.card_file(finished), "card")
    packed, old = bundle.bundle_file(finished), folder(finished, "demo-outdated.zip")
    card = folder(finished, "card-outdated.md")
    content = packed.read_bytes()
    capsys.readouterr()
    assert __main__.main(["report", "demo"]) == 0
    said = capsys.readouterr().out
    assert said == (
        f"the bundle of an earlier report is now {old}; a new one: make bundle STUDY=demo\n"
        f"the card of an earlier report is now {card}; a new one: make card STUDY=demo\n"
        f"{folder(finished, 'report.pdf')}\n"
    )
    assert (packed.exists(), old.read_bytes()) == (False, content)
    assert __main__.main(["report", "demo"]) == 0
    assert capsys.readouterr().out == f"{folder(finished, 'report.pdf')}\n"
