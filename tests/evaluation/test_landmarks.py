"""Landmarks predicted for test cases, mapped to native size and compared, on typed points and drawn heatmaps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib import datasets, models
from lib.data import splits
from lib.data.evaluation_set import EvaluationSet
from lib.evaluation import landmarks, ranking
from lib.evaluation.biometry import LANDMARK_COLUMNS
from lib.imaging import geometry, head_points, heatmaps, image_files
from lib.imaging.head_points import POINT_COLUMNS
from lib.models import inference, trained_model
from lib.study import files
from tests import builders

NATIVE, NETWORK, SIGMA = (120, 200), (48, 80), 1.5
GREY = 20  # difference of grey value between the images of two cases
NAMES = [f"{n:03d}_HC" for n in range(6)]
TALL_PIXELS, UNKNOWN = (0.4, 0.2), (np.nan, np.nan)
MAPPING = geometry.fit(NATIVE, NETWORK)
HEADS = np.array(  # endpoints of each case in native pixels, all different
    [head_points.axis_endpoints((58.3 + n, 97.6 - 2 * n), 110 - 5.0 * n, 80 - 4.0 * n, 10 + 25.0 * n) for n in range(6)]
)
REFERENCE = pd.DataFrame(HEADS.reshape(-1, 8), columns=POINT_COLUMNS).assign(case=NAMES)
POINTS = geometry.points_to_network(HEADS, MAPPING).astype(np.float32)


def bench_of(spacing_mm=TALL_PIXELS, folder=Path("none")):
    """Six cases in three folds of two; the images, each of one grey value, are written by `bench`."""
    table = pd.DataFrame({"case": NAMES, "subject": [f"s{n // 2}" for n in range(6)], "slices": 1})
    table["hc_mm"] = np.nan
    table["spacing_row_mm"], table["spacing_col_mm"] = spacing_mm
    table["image"] = table["mask"] = [str(folder / f"{name}.png") for name in NAMES]
    folds = table[["case", "subject"]].assign(fold_group=table["subject"], fold=[0, 0, 1, 1, 2, 2], validates=True)
    empty, how = np.zeros((6, *NETWORK), np.uint8), {"heatmap_sigma": SIGMA, "heatmap_sigma_unit": "pixels"}
    about = {"geometries": [MAPPING] * 6, "points": POINTS, "sigmas": np.full(6, SIGMA, np.float32)}
    about |= {"preparation": builders.of_images(*NETWORK) | how}
    prepared = builders.arrays_of(NAMES, empty[:, None], empty, "drawn", **about)
    return EvaluationSet(table, folds, prepared, datasets.DATASETS["hc18"], folder / "05_evaluation", REFERENCE)


@pytest.fixture
def bench(tmp_path):
    """The same with images, and with weights of each run."""
    bench = bench_of(folder=tmp_path)
    for place, name in enumerate(NAMES):
        builders.save_png(tmp_path / f"{name}.png", np.full(NATIVE, GREY * place, np.uint8))
    for run in (files.run_name(fold, seed) for fold in (0, 1, 2) for seed in (0, 3)):
        builders.write_weights(tmp_path / run / "model.safetensors", bench.arrays.preparation, out_channels=2)
    dataset = replace(bench.dataset, read_mask=lambda paths: image_files.read_pixels(*paths))
    return replace(bench, cases=builders.hashed(bench.cases), dataset=dataset)


def predict_all(bench, **changes):
    quick = {"landmarks": "multicentre", "folds": [0], "seeds": [0], "device": "cpu", "precision": "float32"}
    config = builders.step_params("05_evaluation", **(quick | changes))
    lines: list[str] = []
    table = landmarks.predict_all(config, bench, bench.folder.parent, lines.append)[0]
    # the progress of a run is cleared at the end of its validation and of its test cases
    assert lines.count("") == 2 * len(config.folds) * len(config.seeds)
    return table


def perfect(place):
    """Heatmaps that a perfect network predicts for a case, (1, 2, h, w)."""
    return heatmaps.encode(POINTS[place], SIGMA, NETWORK, "line")[None]


def replace_output(patch, make):
    """Replaces the heatmaps of the network; `make` gets the number of the case, from its grey value."""
    patch.setattr(inference, "predict_heatmaps", lambda _, images, *how: make(images.max() // GREY))


def predicted(ends, route="landmark"):
    """points.csv of typed endpoints of the first cases, (N, 4, 2)."""
    table = pd.DataFrame(np.reshape(ends, (-1, 8)), columns=POINT_COLUMNS)
    table = table.assign(case=NAMES[: len(ends)], subject="s", fold=0, seed=0, route=route)
    return table.assign(confidence_ofd=1.0, confidence_bpd=1.0)[LANDMARK_COLUMNS]


def ends_of(table, route):
    return table.loc[table["route"] == route, POINT_COLUMNS].to_numpy(float).reshape(-1, 4, 2)


def test_perfect_heatmaps_return_the_native_points_within_a_tenth_of_a_pixel(monkeypatch, bench):
    replace_output(monkeypatch, perfect)
    table = predict_all(bench, folds=[0, 1, 2], seeds=[0, 3])
    assert table.columns.tolist() == LANDMARK_COLUMNS
    assert len(table) == 6 * 2 * 3
    assert not table.duplicated(["case", "seed", "route"]).any()
    assert (table["subject"] == table["case"].map(bench.cases.set_index("case")["subject"])).all()
    assert table.groupby("case")["fold"].unique().tolist() == [[0], [0], [1], [1], [2], [2]]
    first = table[table["seed"] == 0]
    assert ends_of(first, "landmark") == pytest.approx(HEADS, abs=0.1)
    heights = first.loc[first["route"] == "landmark", ["confidence_ofd", "confidence_bpd"]]
    assert heights.min(axis=None) > 0.8  # the highest pixel is next to the peak
    long = landmarks.errors_of(bench, table)
    assert long.columns.tolist() == landmarks.ERROR_COLUMNS
    assert len(long) == 2 * len(table)
    mixed = replace(bench, points=REFERENCE.iloc[::-1].reset_index(drop=True))  # order differs from the manifest
    pd.testing.assert_frame_equal(landmarks.errors_of(mixed, predict_all(mixed, folds=[0, 1, 2], seeds=[0, 3])), long)


def test_a_network_is_read_from_its_own_weights_applied_to_each_test_case_and_written_completed(monkeypatch, bench):
    read, load = [], trained_model.load
    monkeypatch.setattr(trained_model, "load", lambda path, *how: read.append(path) or load(path, *how))
    table = predict_all(bench, flip_average=True, folds=[1], seeds=[0, 3]).query("seed == 0")
    paths = [bench.folder.parent / f"fold1-seed{seed}" / "model.safetensors" for seed in (0, 3)]
    assert read == paths
    model = load(paths[0], True, torch.device("cpu"))
    for row, place in enumerate((2, 3)):
        ends, heights = trained_model.landmarks(model, np.full(NATIVE, GREY * place, np.uint8), TALL_PIXELS)
        assert np.array_equal(ends_of(table, "landmark")[row], ends, equal_nan=True)
        assert table.iloc[row][["confidence_ofd", "confidence_bpd"]].tolist() == heights.tolist()
    _, about = models.load_described(bench.folder / "models" / "fold1-seed0.safetensors")
    assert about["flip_average"] is True
    assert about["preparation"]["heatmap_sigma"] == SIGMA


def test_the_confidence_of_a_line_is_the_lower_of_its_peaks():
    maps = perfect(0)[0]
    row, col = np.unravel_index(np.argmax(maps[1, :, 40:]), (48, 40))  # the right end of the BPD
    maps[1, row - 6 : row + 7, 40 + col - 6 : 40 + col + 7] *= 0.25
    _, heights = trained_model.decode(maps, MAPPING, SIGMA)
    assert heights[0] > 0.8
    assert 0.2 < heights[1] <= 0.25


def test_blank_heatmaps_are_missed_lines_and_not_points(monkeypatch, bench):
    replace_output(monkeypatch, lambda _: np.zeros((1, 2, *NETWORK), np.float32))
    errors = landmarks.errors_of(bench, predict_all(bench)).set_index("route")["error_px"]
    assert errors["landmark"].isna().all()
    assert errors["mean shape"].notna().all()


def test_baselines_are_the_mean_shape_of_training_cases_and_the_centre_of_the_image(monkeypatch, bench):
    replace_output(monkeypatch, perfect)
    table = predict_all(bench)  # fold 0 is tested, 1 validates, 2 trains
    assert splits.parts(bench.folds, 0)["train"] == NAMES[4:]
    expected = HEADS[4:].mean(axis=0)  # one geometry, so the mean of native points; both in canonical order
    assert ends_of(table, "mean shape") == pytest.approx(np.array([expected] * 2), abs=1e-4)  # stored as float32
    blank = table[table["route"] == "blank map"]
    assert ends_of(table, "blank map").tolist() == [[[59.5, 99.5]] * 4] * 2
    assert (blank[["confidence_ofd", "confidence_bpd"]] == 0).all(axis=None)
    errors = landmarks.errors_of(bench, blank).set_index(["case", "line"])["error_mm"]
    distances_mm = np.linalg.norm((HEADS[0] - [59.5, 99.5]) * TALL_PIXELS, axis=1)
    assert errors[NAMES[0], "bpd"] == pytest.approx(distances_mm[2:].mean())


def test_errors_of_shifted_endpoints_worked_by_hand_with_pixels_that_are_not_square():
    ends = [HEADS[0] + (3, 4), HEADS[1] + (0, -10)]
    table = landmarks.errors_of(bench_of(), predicted(ends))
    ofd = [np.linalg.norm((head[1] - head[0]) * TALL_PIXELS) for head in HEADS[:2]]
    percent = [100 * np.hypot(1.2, 0.8) / ofd[0], 100 * 2 / ofd[1]]
    for line in head_points.LINES:  # both are normalised by the OFD
        rows = table[table["line"] == line]
        assert rows["error_px"].tolist() == pytest.approx([5, 10])
        assert rows["error_mm"].tolist() == pytest.approx([np.hypot(3 * 0.4, 4 * 0.2), 2])
        assert rows["normalised_error_percent"].tolist() == pytest.approx(percent)
    table = landmarks.errors_of(bench_of(UNKNOWN), predicted(ends[:1]))
    assert table["error_mm"].isna().all()
    assert table["error_px"].tolist() == pytest.approx([5, 5])
    assert table["normalised_error_percent"].tolist() == pytest.approx([100 * 5 / 110] * 2)


def test_the_order_of_endpoints_changes_no_error_and_a_measure_that_depends_on_it_is_detected(monkeypatch):
    ends = HEADS + np.array([2, 1])
    one, other = (landmarks.errors_of(bench_of(), predicted(each)) for each in (ends, ends[:, [1, 0, 3, 2]]))
    pd.testing.assert_frame_equal(one, other)
    assert landmarks.is_independent_of_order(bench_of(), predicted(ends))

    def first_end_only(predicted, reference, spacing_mm):
        distance = float(np.linalg.norm(predicted[0] - reference[0]))
        return {f"{line}_{unit}": distance for line in head_points.LINES for unit in ("px", "mm")}

    monkeypatch.setattr(landmarks, "point_errors", first_end_only)
    assert not landmarks.is_independent_of_order(bench_of(), predicted(ends))
    assert landmarks.is_canonical(predicted(HEADS))
    assert not landmarks.is_canonical(predicted(HEADS[:, [1, 0, 2, 3]]))
    missed = HEADS.copy()
    missed[0, 3] = np.nan
    assert landmarks.is_canonical(predicted(missed))


def test_a_missed_endpoint_has_no_error_and_a_case_without_reference_points_is_refused():
    ends = HEADS[:2] + np.array([3, 4])
    ends[1, 3] = np.nan  # of the BPD
    errors = landmarks.errors_of(bench_of(), predicted(ends))
    assert len(errors) == 4
    assert errors.loc[errors["error_px"].isna(), ["case", "line"]].values.tolist() == [[NAMES[1], "bpd"]]
    with pytest.raises(ValueError, match=r"1 cases without one row of landmarks: \['000_HC'\]"):
        landmarks.errors_of(replace(bench_of(), points=REFERENCE.iloc[1:]), predicted(HEADS[:1]))


def test_cases_are_ranked_by_the_mean_of_both_lines_a_missed_line_first():
    ends = HEADS + np.array([(1, 0), (9, 0), (4, 0), (0, 0), (0, 0), (2, 0)])[:, None]
    ends[3, 0] = np.nan
    points = pd.concat([predicted(ends), predicted(ends * 3, "mean shape")])
    table = ranking.ranked(landmarks.errors_of(bench_of(), points))
    assert table["case"].tolist() == [NAMES[place] for place in (3, 1, 2, 5, 0, 4)]
    assert table["error_percent"].isna().tolist() == [True] + [False] * 5
    assert table.loc[1, ["ofd_mm", "bpd_mm", "ofd_px"]].tolist() == pytest.approx([3.6, 3.6, 9])
    assert ranking.around_median(table, 2)["case"].tolist() == [NAMES[2], NAMES[5]]
    assert len(ranking.around_median(table, 20)) == 6


@pytest.mark.parametrize(("spacing_mm", "amount"), [(TALL_PIXELS, "2.00 mm"), (UNKNOWN, "5.00 pixels")])
def test_overlays_hold_reference_and_predicted_endpoints_and_the_errors(spacing_mm, amount, bench):
    bench.cases[["spacing_row_mm", "spacing_col_mm"]] = spacing_mm
    ends = HEADS + np.array([5, 0])
    ends[2, 3] = np.nan
    rows = ranking.ranked(landmarks.errors_of(bench, predicted(ends))).head(2)
    first, second = ranking.overlays(bench, rows, predicted(ends))
    assert first.name == NAMES[2] == rows["case"].iloc[0]
    assert first.note == f"OFD {amount}, BPD missed"
    assert second.note == f"OFD {amount}, BPD {amount}"
    assert second.reference == pytest.approx(HEADS[NAMES.index(second.name)])
    assert second.predicted == pytest.approx(ends[NAMES.index(second.name)])


def test_heatmaps_of_a_case_have_native_size(monkeypatch, bench):
    replace_output(monkeypatch, perfect)
    row = pd.Series({"case": NAMES[0], "fold": 0, "seed": 0})
    maps = landmarks.heatmaps_of(bench, bench.folder.parent, row, True, "cpu")
    assert maps.shape == (2, *NATIVE)
    peak = np.unravel_index(np.argmax(maps[0]), NATIVE)
    assert np.linalg.norm(HEADS[0, :2] - peak, axis=1).min() < 2
