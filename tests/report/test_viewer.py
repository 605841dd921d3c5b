"""The viewer of 05 and 06: what it draws of typed predictions, its controls, and a notebook without a user."""

import numpy as np
import pandas as pd
import pytest

from lib import models
from lib.evaluation import landmarks
from lib.imaging.class_colours import PREDICTED
from lib.models import inference, trained_model
from lib.report import viewer
from lib.report.figures.pictures import Canvas
from lib.study import files
from tests import builders
from tests.builders import last_columns
from tests.builders_predict import USE
from tests.evaluation.test_landmarks import HEADS, NAMES, perfect, predict_all, replace_output
from tests.evaluation.test_landmarks import bench as landmark_bench  # noqa: F401
from tests.evaluation.test_segmentation import PREDICTED as VOXELS
from tests.evaluation.test_segmentation import STEPS
from tests.evaluation.test_segmentation import replace_output as replace_volumes

HEAD = builders.ellipse_region((32, 32), (15, 16), 22, 18, 30)
ROWS = pd.DataFrame({"case": ["c0", "c1"], "fold": [0, 0], "seed": [0, 0], "dice": [0.4, 0.5]})


def complete(bench, use, **changes):
    """Writes the model of fold 0 as 05_evaluation does."""
    weights = builders.write_weights(bench.folder.parent / "trained.safetensors", bench.arrays.preparation, **changes)
    models.complete(weights, bench.folder / "models" / "fold0-seed0.safetensors", USE | use)
    return bench


@pytest.fixture
def lines(monkeypatch):
    """The lines under each picture that was drawn."""
    drawn, with_text = [], Canvas.with_text
    monkeypatch.setattr(Canvas, "with_text", lambda self, said: drawn.append(said) or with_text(self, said))
    return drawn


@pytest.fixture
def predicted(tmp_path, monkeypatch):
    """Two images that are their own probability, columns of 0.1 to 0.8 and a head of 0.9; and what was computed."""
    computed = []
    monkeypatch.setattr(inference, "predict", lambda *given: computed.append(1) or builders.predict_image(*given))
    bench = builders.image_bench(tmp_path, [STEPS, 0.9 * HEAD], [last_columns(14), HEAD], spacing_mm=2.0)
    return complete(bench, {"threshold": 0.7, "postprocessing": []}), computed


def test_a_mask_is_cut_at_the_threshold_that_is_chosen_and_first_at_that_of_its_model(predicted, lines):
    shown = viewer.of_predictions(predicted[0], ROWS, "cpu", [])
    assert (shown.names, shown.routes) == (["c0 (fold0-seed0)", "c1 (fold0-seed0)"], ["outline"])
    opened = shown.open(0)
    assert (opened.slices, opened.slice, opened.threshold) == (1, 0, 0.7)
    for threshold in (0.7, 0.5, 0.2):
        opened.draw(0, threshold, 0.4, "outline")
    assert [said[1] for said in lines] == [
        f"Dice after post-processing: head {dice:.3f}" for dice in (16 / 22, 1, 28 / 40)
    ]
    assert lines[1][0] == "c0, fold 0, seed 0, probability from 0.50"


def test_a_case_is_predicted_once_for_all_that_is_drawn_of_it(predicted):
    bench, computed = predicted
    shown = viewer.of_predictions(bench, ROWS, "cpu", ["head"])
    for place in (0, 1, 0, 1):
        for threshold in (0.2, 0.5):
            shown.open(place).draw(0, threshold, 0.4, "ellipse")
    assert len(computed) == 2


def test_the_axes_of_the_head_are_measured_in_its_route_alone(predicted, lines):
    shown = viewer.of_predictions(predicted[0], ROWS, "cpu", ["head"])
    assert shown.routes == ["ellipse", "outline"]
    opened = shown.open(1)
    colours = [np.asarray(opened.draw(0, level, 0.0, route)) for level, route in ((0.7, "ellipse"), (0.7, "outline"))]
    red = [(picture == tuple(bytes.fromhex(PREDICTED[1:]))).all(axis=2).any() for picture in colours]
    assert red == [True, False]
    bpd, ofd = (float(part.split()[1]) for part in lines[0][2].split(", ")[:2])
    assert (bpd, ofd) == pytest.approx((36, 44), abs=1)  # 18 and 22 pixels of 2 mm
    opened.draw(0, 0.95, 0.0, "ellipse")
    assert lines[-1][1:] == ["Dice after post-processing: head 0.000", "no ellipse"]


def test_the_opacity_of_the_probability_is_the_share_of_its_colour():
    image, share = np.full((700, 700), 100, np.uint8), np.ones((700, 700), np.float32)
    plain, half, whole = (viewer.tinted(image, None, share, opacity).pixels[9, 9] for opacity in (0.0, 0.5, 1.0))
    assert plain.tolist() == [100, 100, 100]
    assert half == pytest.approx((plain.astype(float) + whole) / 2, abs=1)
    assert whole[0] > whole[2]  # probability 1 is yellow


def test_a_volume_opens_at_the_slice_with_most_of_its_reference(tmp_path, monkeypatch, lines):
    bench = builders.volume_bench(tmp_path)
    replace_volumes(monkeypatch, bench, VOXELS)
    complete(bench, {"postprocessing": [], "head_classes": []}, in_channels=3)
    case = builders.PATIENTS[3]
    rows = pd.DataFrame({"case": [case.name], "fold": [0], "seed": [0]})
    opened = viewer.of_predictions(bench, rows, "cpu", []).open(0)
    assert (opened.slices, opened.slice) == (6, case.mask.sum(axis=(1, 2)).argmax())
    first, other = (opened.draw(at, 0.5, 0.4, "outline") for at in (opened.slice, 0))
    assert viewer.png(first) != viewer.png(other)
    assert [said[0].split(", ")[3] for said in lines] == ["slice 3", "slice 1"]
    assert lines[0][1] == f"Dice after post-processing: head {80 / 102:.3f}"  # of all slices


def test_the_points_of_each_route_are_shown_beside_those_of_the_reference(landmark_bench, monkeypatch, lines):  # noqa: F811
    replace_output(monkeypatch, perfect)
    table = predict_all(landmark_bench)
    files.write_csv(landmark_bench.folder / "points.csv", table)
    drawn, caliper = [], Canvas.caliper
    monkeypatch.setattr(Canvas, "caliper", lambda *given: drawn.append(given[1:]) or caliper(*given))
    shown = viewer.of_predictions(landmark_bench, table, "cpu", ["head"])
    assert shown.routes == list(landmarks.ROUTES)
    assert len(shown.names) == 2
    opened = shown.open(0)
    assert (opened.slices, opened.threshold) == (1, None)
    opened.draw(0, None, 0.4, "landmark")
    reference = HEADS[NAMES.index(shown.names[0].split()[0])]
    assert np.concatenate([ends for ends, *_ in drawn[:2]]) == pytest.approx(reference)
    assert np.concatenate([ends for ends, *_ in drawn[2:]]) == pytest.approx(reference, abs=0.1)
    opened.draw(0, None, 0.4, "blank map")
    assert len({tuple(end) for ends, *_ in drawn[6:] for end in ends}) == 1  # the centre of the frame
    assert lines[0][1].startswith("BPD ")


def test_controls_draw_again_and_another_case_starts_at_the_threshold_of_its_model(predicted):
    box = viewer.controls(viewer.of_predictions(predicted[0], ROWS, "cpu", []))
    (case, route), (at, threshold, opacity), said, shown = (getattr(each, "children", each) for each in box.children)
    assert [each.layout.display for each in (route, at, threshold)] == ["none", "none", None]
    first = shown.value
    assert first[:4] == b"\x89PNG"
    threshold.value = 0.3
    lower = shown.value
    opacity.value = 0.9
    case.value = 1
    assert len({first, lower, shown.value}) == 3
    assert threshold.value == 0.7
    case.value, opacity.value = 0, viewer.OPACITY
    assert shown.value == first
    assert said.value == ""


def test_an_error_is_not_taken_for_a_long_computation(predicted, monkeypatch):
    box = viewer.controls(viewer.of_predictions(predicted[0], ROWS, "cpu", []))
    monkeypatch.setattr(trained_model, "load", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        box.children[0].children[0].value = 1
    assert box.children[2].value == "failed; JupyterLab's log has the error"


def test_without_a_user_a_notebook_shows_one_picture_and_no_widget(predicted, monkeypatch):
    displayed = []
    monkeypatch.setattr(viewer, "display", displayed.append)
    shown = viewer.of_predictions(predicted[0], ROWS, "cpu", ["head"])
    viewer.show(shown, False)
    viewer.show(shown, False)
    viewer.show(viewer.of_predictions(predicted[0], ROWS[:0], "cpu", []), False)
    assert [each.data[:4] for each in displayed] == [b"\x89PNG"] * 2
    assert displayed[0].data == displayed[1].data
    viewer.show(shown, True)
    assert type(displayed[2]).__name__ == "VBox"
