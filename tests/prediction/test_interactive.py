"""08_prediction: what its cells and its upload answer, in the process and in a kernel as JupyterLab has it."""

import asyncio
import tempfile
from datetime import UTC, datetime
from io import BytesIO

import nbformat
import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from PIL import Image
from traitlets.config import Config

from lib import models
from lib.datasets.phantoms import heads, write_images
from lib.prediction import interactive
from lib.study import files
from tests import builders
from tests.builders_predict import (
    HC_MM,
    SPACING_MM,
    USE,
    dicom,
    head_image,
    predict,
    region,
    transparent,  # noqa: F401
    write_model,
)
from tests.conftest import python

NOTEBOOK = files.ROOT / "notebooks" / "08_prediction.ipynb"
GIVEN = {"images": "", "pixel_size_mm": None, "out": "", "device": "cpu"}


def content_of(pixels, kind="PNG", **settings):
    """An image file in memory."""
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, kind, **settings)
    return stream.getvalue()


def turned():
    """A JPEG that is stored turned by a quarter, with the EXIF orientation that says so."""
    exif = Image.Exif()
    exif[274] = 6
    return content_of(np.rot90(head_image()).copy(), "JPEG", quality=95, exif=exif.tobytes())


def calibrated():
    """A DICOM file with a calibrated region."""
    stream = BytesIO()
    dicom(head_image(), SequenceOfUltrasoundRegions=[region()]).save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def chosen(**contents):
    """The value of FileUpload, by name of the file with __ for the point."""
    return [
        {"name": name.replace("__", "."), "type": "", "size": len(each), "content": memoryview(each)}
        | {"last_modified": datetime.now(UTC)}
        for name, each in contents.items()
    ]


@pytest.fixture
def page(tmp_path, transparent):  # noqa: F811
    return interactive.start("08_prediction", {"model": str(write_model(tmp_path / "model.safetensors"))} | GIVEN)


def hc_mm(answers):
    table = answers.numbers.query("quantity == 'hc'")
    return dict(zip(table["case"], table["predicted_mm"]))


def test_files_of_every_kind_that_are_uploaded_are_measured_or_refused_and_nothing_is_kept(page, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    files_of = {"plain__png": content_of(head_image()), "turned__jpg": turned(), "scan__dcm": calibrated()}
    deep = content_of(head_image().astype(np.uint16) * 257)
    broken = {"deep__png": deep, "cut__png": content_of(head_image())[:-40], "empty__png": b"", "note__txt": b"hello"}
    answers, lines = interactive.answer_uploaded(page.model, chosen(**files_of, **broken), str(SPACING_MM))
    assert list((tmp_path / "temporary").iterdir()) == []
    assert {name: pytest.approx(HC_MM, rel=0.005) for name in ("plain", "turned", "scan")} == hc_mm(answers)
    refused = answers.table("refused.csv").set_index("image")["found"]
    assert refused["deep.png"] == (
        "cannot be read as an image: 16 bits per channel; expected 8 bits per channel (save it as an 8-bit PNG)"
    )
    assert "truncated at byte" in refused["cut.png"]
    assert "the file is empty" in refused["empty.png"]
    assert "its content starts with b'hello'" in refused["note.txt"]
    assert any(line.startswith("cut.png: refused: ") for line in lines)
    assert not any(str(tmp_path) in line for line in lines)
    assert sorted(answers.inputs) == sorted(name.replace("__", ".") for name in (files_of | broken))
    with Image.open(BytesIO(answers.pictures[0])) as picture:
        assert picture.format == "PNG"
    notes = answers.table("cases.csv").set_index("case")
    assert notes.loc["turned", "notes"] == "turned upright (EXIF orientation 6)"
    assert notes.loc["scan", "calibration"] == "stated (--pixel-size)"


def test_a_dicom_file_is_measured_by_its_own_calibration_and_a_picture_without_one_is_flagged(page):
    files_of = chosen(scan__dcm=calibrated(), plain__png=content_of(head_image()))
    answers, _ = interactive.answer_uploaded(page.model, files_of, "")
    assert hc_mm(answers) == {"scan": pytest.approx(HC_MM, rel=0.003), "plain": pytest.approx(np.nan, nan_ok=True)}
    flags = answers.numbers.query("quantity == 'hc'").set_index("case")["flags"]
    assert flags.to_dict() == {"scan": "", "plain": "no pixel size"}


@pytest.mark.parametrize(
    ("names", "size", "message"),
    [
        (["a.png"], "0,5", 'pixel-size = "0,5"   not allowed; mm, 0.02 to 1 (a decimal point?)'),
        (["a.png"], "0.012 cm", 'pixel-size = "0.012 cm"   not allowed; mm, 0.02 to 1 (without a unit)'),
        (["a.png", "C:\\scans\\a.png"], "", "two of the files are called a.png; choose them one after the other"),
    ],
)
def test_an_upload_that_cannot_be_answered_is_said_in_words(page, names, size, message):
    given = [chosen(x=content_of(head_image()))[0] | {"name": name} for name in names]
    assert interactive.answer_uploaded(page.model, given, size) == (None, [message])


def test_only_broken_files_are_refused_in_words_and_a_name_leaves_its_folder(page, tmp_path):
    given = [chosen(x=b"")[0] | {"name": "../../outside.png"}]
    answers, lines = interactive.answer_uploaded(page.model, given, "")
    assert answers is None
    assert lines[1].startswith("outside.png: refused: cannot be read as an image: the file is empty")
    assert lines[2] == "no case was predicted (inputs: 1); nothing is written"


def choice(contents):
    """What a browser sends when files were chosen, without their contents, which follow in order."""
    about = [{"name": name, "type": "", "size": len(each), "last_modified": 0} for name, each in contents.items()]
    places = [["value", number, "content"] for number in range(len(contents))]
    return {"method": "update", "state": {"value": about}, "buffer_paths": places}


def test_the_box_shows_pictures_and_numbers_and_again_with_another_pixel_size(page):
    box = page.upload()
    (button, size), shown = box.children[0].children, box.children[1]
    size.value = "0.5"  # nothing is chosen yet
    assert shown.children == ()
    contents = {"a.png": content_of(head_image()), "<i>.png": b""}
    button._handle_msg({"content": {"data": choice(contents)}, "buffers": list(contents.values())})
    said, picture, numbers, cases = shown.children
    assert bytes(picture.value[:4]) == b"\x89PNG"
    assert f"HC {HC_MM:.1f} mm" in said.value
    assert "&lt;i&gt;.png: refused: " in said.value  # a name is no HTML
    assert "<th>predicted_mm</th>" in numbers.value
    assert "stated (--pixel-size)" in cases.value
    size.value = "0.25"
    assert f"HC {HC_MM / 2:.1f} mm" in shown.children[0].value
    size.value = "5"
    assert [child.value for child in shown.children] == ["pixel-size = &quot;5&quot;   not allowed; mm, 0.02 to 1"]


def test_an_error_that_is_no_refusal_is_not_taken_for_a_long_computation(page, monkeypatch):
    monkeypatch.setattr(interactive, "answer", lambda *_: 1 / 0)
    box = page.upload()
    with pytest.raises(ZeroDivisionError):
        box.children[0].children[0].value = tuple(chosen(a__png=content_of(head_image())))
    assert [child.value for child in box.children[1].children] == ["failed; JupyterLab's log has the error"]


def test_more_cases_than_are_shown_are_counted(page, monkeypatch, capsys):
    monkeypatch.setattr(interactive, "MOST_SHOWN", 1)
    given = chosen(a__png=content_of(head_image()), b__png=content_of(head_image()))
    answers, lines = interactive.answer_uploaded(page.model, given, "")
    said = "the first 1 of 2 cases are shown"
    assert len(answers.pictures) == 1
    assert [child.value for child in interactive.contents(answers, lines)][2] == said
    answers.show()
    assert said in capsys.readouterr().out


def test_phantom_heads_come_with_their_truth_a_flag_and_a_refusal(page, capsys):
    answers = page.predict()
    frame = heads.draw_frame(write_images.SEED, interactive.FIRST_HEAD + 1, 1, write_images.DRAWN)
    truth = answers.truth.set_index(["case", "quantity"])["true_mm"]
    assert truth["head_1", "hc"] == frame.truth["hc_mm"]
    cases = answers.table("cases.csv").set_index("case")
    assert cases.loc["head_1", "spacing_row_mm"] == pytest.approx(frame.spacing_mm[0], rel=1e-9)
    assert set(cases.index) == {"head_1", "head_2", "head_3_without_pixel_size"}
    flags = answers.numbers.set_index(["case", "quantity"])["flags"]
    assert flags["head_3_without_pixel_size", "hc"] == "no pixel size"
    assert answers.table("refused.csv")["image"].tolist() == ["cut_off.png"]
    assert "cut_off.png: refused: cannot be read as an image: truncated at byte" in capsys.readouterr().out
    assert len(answers.errors) == 9
    off = answers.errors["predicted_mm"] - answers.errors["true_mm"]
    pd.testing.assert_series_equal(answers.errors["error_mm"], off, check_names=False)


def test_the_slices_of_a_volume_are_chosen_together_and_phantom_heads_are_not_drawn_for_its_model(tmp_path):
    preparation = builders.volume_bench(tmp_path).arrays.preparation
    trained = builders.write_weights(tmp_path / "trained.safetensors", preparation, in_channels=3)
    models.complete(trained, tmp_path / "model.safetensors", USE | {"head_classes": []})
    page = interactive.start("08_prediction", {"model": str(tmp_path / "model.safetensors")} | GIVEN)
    with pytest.raises(
        interactive.Message, match="measures no heads, and the phantoms of this page are heads; set ima"
    ):
        page.predict()
    slices = sorted((tmp_path / "raw" / "kaggle_3m" / builders.PATIENTS[0].name).glob("*[0-9].tif"))
    given = [chosen(x=path.read_bytes())[0] | {"name": path.name} for path in slices]
    answers, lines = interactive.answer_uploaded(page.model, given, "")
    assert len(slices) == 5
    assert answers.numbers.columns.tolist() == ["case", "class", "predicted_voxels", "predicted_ml"]
    assert answers.table("cases.csv")["slices"].tolist() == [5]
    assert lines[-1].startswith("uploaded  head ")


def test_images_that_are_not_there_and_a_folder_of_others_are_said_in_words(page, tmp_path, capsys):
    keys = page.params.model_dump()
    page.params = interactive.PredictionParams(**keys | {"images": "nowhere", "out": str(tmp_path / "new")})
    with pytest.raises(interactive.Message, match=r"^no case was predicted \(inputs: 1\); nothing is written$"):
        page.predict()
    assert "nowhere: refused: no such file or folder" in capsys.readouterr().out
    assert not (tmp_path / "new").exists()
    page.params = interactive.PredictionParams(**keys | {"out": str(tmp_path)})
    with pytest.raises(
        interactive.Message, match=r"1 files are not as predict wrote them, such as model\.safetensors; ex"
    ):
        page.predict()
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_all_faults_of_the_cell_are_named_at_once():
    given = {"model": "demo", "pixelsize_mm": 0.1} | GIVEN | {"pixel_size_mm": 0.1, "device": 3}
    with pytest.raises(interactive.Message) as stopped:
        interactive.start("08_prediction", given)
    first, *wrong = str(stopped.value).splitlines()
    assert first == "parameters of 08_prediction: 3 errors"
    assert "  pixelsize_mm = 0.1   no such key; nearest: pixel_size_mm" in wrong
    assert any(line.startswith("  device = 3   not allowed; auto (CUDA") for line in wrong)
    assert "  pixel_size_mm = 0.1   not used; requires images (phantoms have their own)" in wrong


def test_a_failed_check_stops_the_page_by_its_name(page):
    page.check("one and one is two", True)
    page.check("one and one is three", False)
    with pytest.raises(ValueError, match="1 of 2 checks failed: one and one is three"):
        page.finish()


def test_a_folder_under_papermill_is_answered_to_the_byte_as_by_the_command(tmp_path):
    model = write_model(tmp_path / "model.safetensors")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "turned.jpg").write_bytes(turned())
    (tmp_path / "in" / "deep.png").write_bytes(content_of(head_image().astype(np.uint16) * 257))
    keys = {"model": model, "images": tmp_path / "in", "pixel_size_mm": SPACING_MM, "out": tmp_path / "out"}
    given = [word for name, value in keys.items() for word in ("-p", name, str(value))]
    quiet = ("-k", "python3", "--no-progress-bar", "--log-level", "ERROR")
    done = python(files.ROOT, "-m", "papermill", str(NOTEBOOK), str(tmp_path / "a.ipynb"), *quiet, *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert predict(model, tmp_path / "in", tmp_path / "same", "--pixel-size", str(SPACING_MM), "--device", "auto") == 1
    first, second = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for out in (tmp_path / "out", tmp_path / "same")
    )
    assert first == second != {}
    executed = nbformat.read(tmp_path / "a.ipynb", as_version=4)
    outputs = {cell.id: cell.outputs for cell in executed.cells if cell.cell_type == "code"}
    assert "deep.png: refused: cannot be read as an image: 16" in "".join(each.text for each in outputs["08-06"])
    assert "image/png" in outputs["08-08"][0].data
    assert "(save it as an 8-bit PNG)</td>" in outputs["08-16"][0].data["text/html"]  # the whole sentence
    assert outputs["08-12"] == []  # no truth
    assert outputs["08-18"][0].data.keys() == {"text/plain", "application/vnd.jupyter.widget-view+json"}


def test_without_a_model_the_notebook_says_in_one_sentence_how_to_make_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPORTS_ROOT", str(tmp_path / "reports"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    without_history = Config()
    without_history.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=without_history)
    try:
        for cell in nbformat.read(NOTEBOOK, as_version=4).cells[1:3]:
            done = shell.run_cell(cell.source)
    finally:
        InteractiveShell.clear_instance()
    assert isinstance(done.error_in_exec, ValueError)
    sentence = f"{tmp_path}/reports/demo/05_evaluation/models: no models; 'make demo' trains and evaluates them"
    assert capsys.readouterr().out == f"{sentence}\n"


@pytest.mark.slow  # the box is tested without a kernel above, Run All by tests/test_notebooks.py
def test_run_all_in_a_kernel_predicts_phantoms_and_then_what_a_browser_uploads(tmp_path):
    book = nbformat.read(NOTEBOOK, as_version=4)
    parameters = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    model = write_model(tmp_path / "model.safetensors")
    parameters.source = parameters.source.replace('"demo"', repr(str(model)), 1)
    client = NotebookClient(book, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    with client.setup_kernel():
        for number, cell in enumerate(book.cells):
            client.execute_cell(cell, number)
        state = client.widget_state
        (button,) = (key for key, each in state.items() if each["_model_name"] == "FileUploadModel")
        head = content_of(head_image())
        send(client, button, choice({"scan.png": head}), [head])
        texts = [each["value"] for each in state.values() if each["_model_name"] == "HTMLModel"]
        pictures = [each for each in state.values() if each["_model_name"] == "ImageModel"]
    assert texts[0] == "predicting …"
    assert texts[1].startswith("model tiny (model.safetensors); inputs: 1<br>scan  ")
    assert "<td>scan</td>" in texts[2]
    assert len(pictures) == 1
    printed = [each.text for cell in book.cells for each in cell.get("outputs", []) if each.output_type == "stream"]
    assert "FAILS" not in "".join(printed)
    assert printed[-1].endswith("08_prediction is done; not a medical device; for research only\n")
    (truth,) = (cell.outputs for cell in book.cells if cell.id == "08-12")
    assert "true_mm" in truth[0].data["text/plain"]


def send(client, comm, data, buffers):
    """Sends what a browser sends when files were chosen, and follows the kernel until it has answered."""
    session, shell = client.kc.session, client.kc.shell_channel
    message = session.msg("comm_msg", {"comm_id": comm, "data": data})
    session.send(shell.socket, message, buffers=buffers)
    while True:
        received = asyncio.run(client.kc.get_iopub_msg(timeout=60))
        if received["parent_header"].get("msg_id") != message["header"]["msg_id"]:
            continue
        if received["msg_type"].startswith("comm_"):
            client.handle_comm_msg([], received, 0)
        if received["msg_type"] == "status" and received["content"]["execution_state"] == "idle":
            return
