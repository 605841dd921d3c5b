"""Heads of validation cases: measured as test cases are, by the same network, threshold and post-processing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.evaluation import biometry, landmarks, quality, segmentation, validation
from lib.imaging import ellipse, head_points
from lib.models import devices, inference
from lib.study import files
from tests import builders
from tests.evaluation.test_landmarks import HEADS, NAMES, perfect, replace_output
from tests.evaluation.test_landmarks import bench as landmark_bench  # noqa: F401

MEASURING = {"head_classes": ["head"], "max_axis_ratio": 1.7, "hc_range_mm": [40.0, 400.0]}
CPU = devices.choose("cpu")
HEAD = builders.ellipse_region((120, 160), (60, 80), 100, 70, 20)
SMALLER = builders.ellipse_region((120, 160), (60, 80), 90, 63, 20)
ROW = {"case": "a", "subject": "s", "spacing_row_mm": 0.5, "spacing_col_mm": 0.5, "bpd_mm": np.nan, "ofd_mm": np.nan}
ROW |= {"hc_mm": 140.0, "height": 120, "width": 160}  # published HC


def kept(predicted, raw=None, row=ROW):
    """A case with one candidate, as it is kept until the threshold is chosen."""
    stages = {"post": predicted.astype(np.uint8)} | ({} if raw is None else {"raw": raw.astype(np.uint8)})
    reference_mm = validation.reference_mm(row, HEAD.astype(np.uint8), [1])
    return validation.Candidates(row, [1.0], reference_mm, [validation.packed_heads(stages, [1])], 50.0, {})


def test_a_head_of_known_size_is_measured_and_the_published_circumference_is_its_reference():
    rows, indicators = validation.measured(kept(SMALLER), 0, MEASURING)
    assert [(row["quantity"], row["route"], row["stage"], row["flags"]) for row in rows] == [
        (quantity, "ellipse", "post", "") for quantity in ("bpd", "ofd", "hc")
    ]
    assert [row["predicted_mm"] for row in rows[:2]] == pytest.approx([31.5, 45], abs=0.2)
    assert [row["reference_mm"] for row in rows] == pytest.approx([35, 50, 140], abs=0.2)
    assert {(row["case"], row["subject"]) for row in rows} == {("a", "s")}
    assert {key: indicators[key] for key in ("case", "subject", "role", "route")} == {
        **{"case": "a", "subject": "s", "role": "validation", "route": "ellipse"}
    }
    edge = len(ellipse.edge_points(SMALLER))
    assert indicators["uncertain_mm"] == pytest.approx(0.5 * 50 / edge)
    assert indicators["second_part"] == 0


def test_a_kept_head_is_that_of_its_mask_pixel_by_pixel_in_both_stages():
    raw = SMALLER | np.roll(SMALLER, 3, axis=0)
    packed = kept(SMALLER, raw).heads[0]
    assert np.array_equal(validation.unpacked(packed["post"], SMALLER.shape), SMALLER)
    assert np.array_equal(validation.unpacked(packed["raw"], SMALLER.shape), raw)
    odd = np.arange(35).reshape(5, 7) % 3  # 35 pixels fill no whole byte
    of_two = validation.packed_heads({"post": odd.astype(np.uint8)}, [1, 2])["post"]
    assert np.array_equal(validation.unpacked(of_two, odd.shape), odd > 0)
    assert sum(map(len, packed.values())) < SMALLER.size / 8


def test_a_head_that_is_not_predicted_has_rows_without_a_length():
    rows, indicators = validation.measured(kept(np.zeros(HEAD.shape)), 0, MEASURING)
    assert len(rows) == 3
    assert np.isnan(indicators["axis_ratio"])
    assert np.isnan([row["predicted_mm"] for row in rows]).all()
    assert {row["flags"] for row in rows} == {"no ellipse"}


def test_a_case_without_a_pixel_size_or_a_reference_head_or_of_a_study_without_heads_has_no_rows():
    mask = HEAD.astype(np.uint8)
    assert validation.reference_mm(ROW | {"spacing_col_mm": np.nan}, mask, [1]) == {}
    assert validation.reference_mm(ROW, np.zeros_like(mask), [1]) == {}
    assert validation.reference_mm(ROW, mask, []) == {}
    points = HEADS[0]
    assert validation.of_points(ROW | {"spacing_row_mm": np.nan}, points, points, MEASURING) == []
    assert validation.of_points(ROW, points, points, {"head_classes": []}) == []


def test_endpoints_of_known_distance_are_measured_and_a_missed_one_leaves_its_line_and_hc_unknown():
    points = head_points.axis_endpoints((60, 80), 100, 70, 20)
    missed = points.copy()
    missed[3] = np.nan  # of the BPD
    unpublished = ROW | {"hc_mm": np.nan}
    rows = validation.of_points(unpublished, points, points, MEASURING)
    assert [row["predicted_mm"] for row in rows[:2]] == pytest.approx([35, 50])
    assert [row["reference_mm"] for row in rows] == pytest.approx([row["predicted_mm"] for row in rows])
    rows = validation.of_points(ROW, points, missed, MEASURING)
    assert [row["predicted_mm"] for row in rows] == pytest.approx([np.nan, 50, np.nan], nan_ok=True)
    assert rows[2]["reference_mm"] == 140
    assert {row["flags"] for row in rows} == {"no peak"}


@pytest.mark.parametrize("candidates", [[0.4, 0.6], []])
def test_validation_heads_are_those_that_06_measures_if_the_same_network_tests_these_cases(
    tmp_path, monkeypatch, candidates
):
    # The network puts out the image. At 0.4 the heads have a rim of 0.5, at 0.6 and by argmax (0.55) they have not.
    monkeypatch.setattr(inference, "predict", builders.predict_image)
    sizes = [(24, 18), (22, 19), (21, 17), (23, 16), (20, 15), (19, 18)]
    drawn = [builders.ellipse_region((32, 32), (15, 16), *size, 30) for size in sizes]
    wider = [builders.ellipse_region((32, 32), (15, 16), long + 3, short + 3, 30) for long, short in sizes]
    images = [0.5 * rim + 0.4 * head - 0.05 * rim for head, rim in zip(drawn, wider)]
    bench = builders.image_bench(tmp_path, images, drawn, spacing_mm=0.9)
    weights = builders.write_weights(tmp_path / "model.safetensors", bench.arrays.preparation)
    protocol = segmentation.Protocol(candidates, [{"step": "largest_component"}], False, CPU, {}, MEASURING)
    of_fold_0 = segmentation.evaluate_run(protocol, bench, weights, 0, 0)
    assert of_fold_0.choices["threshold"].tolist() == [0.6 if candidates else None]
    assert of_fold_0.choices["validation_cases"].tolist() == [2]
    heads = of_fold_0.validation
    assert heads.columns.tolist() == validation.COLUMNS
    assert heads[["case", "fold", "seed"]].drop_duplicates().values.tolist() == [["c2", 0, 0], ["c3", 0, 0]]
    files.write_csv(bench.folder / "cases.csv", segmentation.evaluate_run(protocol, bench, weights, 1, 0).table)
    found = biometry.find_heads(bench, biometry.read_predictions(bench), ["head"])
    table = biometry.measure_all(found, biometry.references_of(bench, ["head"]), bench.folds, 1.7, [40.0, 400.0], {})
    tested = table.query("stage == 'post' and route == 'ellipse'").reset_index(drop=True)
    pd.testing.assert_frame_equal(heads.assign(fold=1), tested, check_exact=True)
    assert heads["predicted_mm"].tolist() == pytest.approx(heads["reference_mm"].tolist())


def test_heads_are_measured_once_per_case_whatever_the_number_of_candidates(tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "predict", builders.predict_image)
    drawn = [builders.ellipse_region((32, 32), (15, 16), 22, 18, 30)] * 6
    bench = builders.image_bench(tmp_path, [0.9 * head for head in drawn], drawn, spacing_mm=0.9)
    fitted, axes_of = [], biometry.axes_of
    monkeypatch.setattr(biometry, "axes_of", lambda *head: fitted.append(head) or axes_of(*head))
    protocol = segmentation.Protocol([0.3, 0.5, 0.7], [], False, CPU, {}, MEASURING)
    usual = quality.usual_greys(bench.arrays, ["c4", "c5"])
    model = builders.model(bench.arrays.preparation)
    choice, heads, indicators = segmentation.validate(bench, model, ["c2", "c3"], protocol, usual)
    assert choice["threshold"] == 0.5
    assert (len(fitted), len(heads), len(indicators)) == (2, 6, 2)


def test_a_study_without_candidates_and_heads_predicts_no_validation_case(tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "predict", lambda *given: pytest.fail("predicted"))
    bench = builders.image_bench(tmp_path, [HEAD[:32, :32]] * 6, [HEAD[:32, :32]] * 6)
    protocol = segmentation.Protocol([], [], False, CPU, {}, {"head_classes": []})
    model = builders.model(bench.arrays.preparation)
    choice, heads, indicators = segmentation.validate(bench, model, ["c2", "c3"], protocol, [])
    assert choice == {"threshold": None, "validation_score": None, "validation_cases": 2}
    assert heads == indicators == []


def test_landmarks_of_validation_cases_are_measured_against_the_published_points(
    monkeypatch,
    landmark_bench,  # noqa: F811
):
    replace_output(monkeypatch, perfect)
    sized = replace(landmark_bench, cases=landmark_bench.cases.assign(hc_mm=[77.0, *[np.nan] * 5]))
    how = (landmark_bench.folder.parent, 2, 0, False, CPU, MEASURING, None)
    tested, _, heads, *_ = landmarks.predict_run(sized, *how)
    assert heads[["case", "fold"]].drop_duplicates().values.tolist() == [[NAMES[0], 2], [NAMES[1], 2]]
    assert set(tested["case"]) == {NAMES[4], NAMES[5]}
    assert heads["predicted_mm"].tolist() == pytest.approx(
        [*heads["reference_mm"][:2], heads["predicted_mm"][2], *heads["reference_mm"][3:]], abs=0.1
    )
    assert heads["reference_mm"][2] == 77
