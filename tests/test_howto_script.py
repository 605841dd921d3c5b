"""The scripts of docs/howto-script.md and howto-predict.md run unchanged in a folder with the files that they name."""

import re
import shutil

import numpy as np
import pytest

from lib.imaging import ellipse, image_files, mask_files
from lib.study import files
from tests import builders, builders_predict
from tests.builders import one_thread  # noqa: F401

BPD, DICE = re.findall(r"```python\n(.*?)```", (files.ROOT / "docs/howto-script.md").read_text(encoding="utf-8"), re.S)
DICOM, PREDICT = re.findall(
    r"```python\n(.*?)```", (files.ROOT / "docs/howto-predict.md").read_text(encoding="utf-8"), re.S
)
SPACING_MM = (0.12, 0.12)  # as in the scripts


def run(script, capsys):
    exec(compile(script, "docs/howto-script.md", "exec"), {})
    return capsys.readouterr().out.splitlines()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with an evaluated model and unseen images in the scripts' paths, and the predicted masks by name."""
    folder = tmp_path_factory.mktemp("project")
    study = builders.tiny_study(folder / "tiny")
    shutil.copytree(study.bench.folder, folder / "reports" / "hc18_quick" / "05_evaluation")
    (folder / "my_images").mkdir()
    names = sorted(set(study.measured.table.query("fold == 0")["case"]))
    for name in names:
        shutil.copy(folder / "tiny" / "raw" / "training_set" / f"{name}.png", folder / "my_images")
    return folder, {name: mask_files.read(study.bench.predicted("post", 0, 0, name)) for name in names}


def test_the_first_script_prints_the_bpd_of_the_masks_that_evaluation_predicted(project, monkeypatch, capsys):
    folder, masks = project
    monkeypatch.chdir(folder)
    bpd_mm = {name: ellipse.measure_head(mask == 1, SPACING_MM)["bpd"] for name, mask in masks.items()}
    assert len(bpd_mm) == 4
    assert run(BPD, capsys) == [f"{name}.png  BPD {value:.1f} mm" for name, value in bpd_mm.items()]


def test_the_script_of_howto_predict_prints_the_quantities_of_the_masks_that_evaluation_predicted(
    project, monkeypatch, capsys
):
    folder, masks = project
    monkeypatch.chdir(folder)
    measured = {name: ellipse.measure_head(mask == 1, SPACING_MM) for name, mask in masks.items()}
    assert run(PREDICT, capsys) == [f"{name}.png {quantities}" for name, quantities in measured.items()]


def test_the_dicom_script_of_howto_predict_measures_by_the_file_s_own_calibration(project, monkeypatch, capsys):
    folder, masks = project
    monkeypatch.chdir(folder)
    for name in masks:
        pixels = image_files.read_grey(folder / "my_images" / f"{name}.png")
        file = builders_predict.dicom(pixels, PixelSpacing=list(SPACING_MM))
        builders_predict.save_dicom(folder / "my_scans" / f"{name}.dcm", file)
    measured = {name: ellipse.measure_head(mask == 1, SPACING_MM) for name, mask in masks.items()}
    assert run(DICOM, capsys) == [f"{name}.dcm {quantities} PixelSpacing" for name, quantities in measured.items()]


def test_the_second_script_prints_the_dice_of_each_class(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mask_files.write(tmp_path / "reference.png", np.array([[0, 1, 1], [0, 1, 2]], np.uint8))
    mask_files.write(tmp_path / "predicted.png", np.array([[0, 1, 1], [1, 1, 0]], np.uint8))
    assert run(DICE, capsys) == ["head  0.857", "csp  0.000"]  # 2 * 3 / 7; missed
