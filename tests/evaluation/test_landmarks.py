"""Landmarks of test cases: found, mapped back, compared; worked on typed points and drawn heatmaps."""

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
from lib.report.summaries import landmark_errors
from lib.study import files
from tests import builders

NATIVE, NETWORK, SIGMA = (120, 200), (48, 80), 1.5
GREY = 20  # levels between the images of two cases
NAMES = [f"{n:03d}_HC" for n in range(6)]
TALL_PIXELS, UNKNOWN = (0.4, 0.2), (np.nan, np.nan)
MAPPING = geometry.fit(NATIVE, NETWORK)
HEADS = np.array(  # ends of the lines of each case in native pixels, all different
    [head_points.axis_endpoints((58.3 + n, 97.6 - 2 * n), 110 - 5.0 * n, 80 - 4.0 * n, 10 + 25.0 * n) for n in range(6)]
)
REFERENCE = pd.DataFrame(HEADS.reshape(-1, 8), columns=POINT_COLUMNS).assign(case=NAMES)
POINTS = geometry.points_to_network(HEADS, MAPPING).astype(np.float32)


def bench_of(spacing_mm=TALL_PIXELS, folder=Path("none")):
    """Six cases of three folds, two each, with an image of one grey value a case that may lie in the folder."""
    table = pd.DataFrame({"case": NAMES, "subject": [f"s{n // 2}" for n in range(6)], "slices": 1})
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
    """The same with images, and weights of each run."""
    bench = bench_of(folder=tmp_path)
    for place, name in enumerate(NAMES):
        builders.save_png(tmp_path / f"{name}.png", np.full(NATIVE, GREY * place, np.uint8))
    for run in (files.run_name(fold, seed) for fold in (0, 1, 2) for seed in (0, 3)):
        builders.write_weights(tmp_path / run / "model.safetensors", bench.arrays.preparation, out_channels=2)
    dataset = replace(bench.dataset, read_mask=lambda paths: image_files.read_pixels(*paths))
    return replace(bench, cases=builders.hashed(bench.cases), dataset=dataset)


def find_all(bench, **changes):
    quick = {"landmarks": "multicentre", "folds": [0], "seeds": [0], "device": "cpu", "precision": "float32"}
    config = builders.step_params("05_evaluation", **(quick | changes))
    return landmarks.find_all(config, bench, bench.folder.parent)[0]


def perfect(place):
    """The heatmaps that a perfect network shows of a case, (1, 2, h, w)."""
    return heatmaps.encode(POINTS[place], SIGMA, NETWORK, "line")[None]


def show(patch, make):
    """Puts a network's heatmaps in the place of its output; it knows a case by its grey value."""
    patch.setattr(inference, "predict_heatmaps", lambda _, images, *how: make(images.max() // GREY))


def predicted(ends, route="landmark"):
    """points.csv of typed ends of the first cases, (N, 4, 2)."""
    table = pd.DataFrame(np.reshape(ends, (-1, 8)), columns=POINT_COLUMNS)
    table = table.assign(case=NAMES[: len(ends)], subject="s", fold=0, seed=0, route=route)
    return table.assign(confidence_ofd=1.0, confidence_bpd=1.0)[LANDMARK_COLUMNS]


def ends_of(table, route):
    return table.loc[table["route"] == route, POINT_COLUMNS].to_numpy(float).reshape(-1, 4, 2)


# Points


def test_perfect_heatmaps_give_back_the_native_points_within_a_tenth_of_a_pixel(monkeypatch, bench):
    show(monkeypatch, perfect)
    found = find_all(bench, folds=[0, 1, 2], seeds=[0, 3])
    assert found.columns.tolist() == LANDMARK_COLUMNS
    assert len(found) == 6 * 2 * 3
    assert not found.duplicated(["case", "seed", "route"]).any()
    assert (found["subject"] == found["case"].map(bench.cases.set_index("case")["subject"])).all()
    assert found.groupby("case")["fold"].unique().tolist() == [[0], [0], [1], [1], [2], [2]]
    first = found[found["seed"] == 0]
    assert ends_of(first, "landmark") == pytest.approx(HEADS, abs=0.1)
    heights = first.loc[first["route"] == "landmark", ["confidence_ofd", "confidence_bpd"]]
    assert heights.min(axis=None) > 0.8  # the highest pixel lies beside the peak
    long = landmarks.errors_of(bench, found)
    assert long.columns.tolist() == landmarks.ERROR_COLUMNS
    assert len(long) == 2 * len(found)
    mixed = replace(bench, points=REFERENCE.iloc[::-1].reset_index(drop=True))  # in another order than the manifest
    pd.testing.assert_frame_equal(landmarks.errors_of(mixed, find_all(mixed, folds=[0, 1, 2], seeds=[0, 3])), long)


def test_each_run_is_read_from_its_own_weights(monkeypatch, bench):
    asked, load = [], trained_model.load
    monkeypatch.setattr(trained_model, "load", lambda path, *how: asked.append(path) or load(path, *how))
    find_all(bench, folds=[1], seeds=[0, 3])
    assert asked == [bench.folder.parent / f"fold1-seed{seed}" / "model.safetensors" for seed in (0, 3)]


def test_a_network_on_disk_is_asked_for_each_test_case_by_itself_and_written_with_its_use(bench):
    found = find_all(bench, flip_average=True)
    model = trained_model.load(bench.folder.parent / "fold0-seed0" / "model.safetensors", True, torch.device("cpu"))
    for place in (0, 1):
        ends, heights = trained_model.landmarks(model, np.full(NATIVE, GREY * place, np.uint8), TALL_PIXELS)
        assert np.array_equal(ends_of(found, "landmark")[place], ends, equal_nan=True)
        assert found.iloc[place][["confidence_ofd", "confidence_bpd"]].tolist() == heights.tolist()
    _, about = models.load_described(bench.folder / "models" / "fold0-seed0.safetensors")
    assert about["flip_average"] is True
    assert about["preparation"]["heatmap_sigma"] == SIGMA


def test_the_confidence_of_a_line_is_the_lower_of_its_peaks():
    maps = perfect(0)[0]
    row, col = np.unravel_index(np.argmax(maps[1, :, 40:]), (48, 40))  # the right end of the BPD
    maps[1, row - 6 : row + 7, 40 + col - 6 : 40 + col + 7] *= 0.25
    _, heights = trained_model.decode(maps, MAPPING, SIGMA)
    assert heights[0] > 0.8
    assert 0.2 < heights[1] <= 0.25


def test_a_blank_output_of_the_network_is_missed_and_not_taken_for_a_point(monkeypatch, bench):
    show(monkeypatch, lambda _: np.zeros((1, 2, *NETWORK), np.float32))
    table = landmark_errors.landmarks(landmarks.errors_of(bench, find_all(bench))).set_index(["line", "route"])
    assert table.loc[("ofd", "landmark"), ["n", "missed"]].tolist() == [0, 2]
    assert np.isnan(table.loc[("ofd", "landmark"), "error_mm"])
    assert table.loc[("ofd", "mean shape"), "missed"] == 0


def test_guesses_are_the_mean_shape_of_training_cases_and_the_middle_of_the_frame(monkeypatch, bench):
    show(monkeypatch, perfect)
    found = find_all(bench)  # fold 0 is tested, 1 validates, 2 trains
    assert splits.parts(bench.folds, 0)["train"] == NAMES[4:]
    expected = HEADS[4:].mean(axis=0)  # one geometry, so the mean of native points; both in canonical order
    assert ends_of(found, "mean shape") == pytest.approx(np.array([expected] * 2), abs=1e-4)  # kept as float32
    blank = found[found["route"] == "blank map"]
    assert ends_of(found, "blank map").tolist() == [[[59.5, 99.5]] * 4] * 2
    assert (blank[["confidence_ofd", "confidence_bpd"]] == 0).all(axis=None)
    # Both ends of the BPD of case 0, an ellipse about (58.3, 97.6), are seen from the middle of the frame.
    errors = landmarks.errors_of(bench, blank).set_index(["case", "line"])["error_mm"]
    apart = np.linalg.norm((HEADS[0] - [59.5, 99.5]) * TALL_PIXELS, axis=1)
    assert errors[NAMES[0], "bpd"] == pytest.approx(apart[2:].mean())


# Errors


def test_errors_of_moved_ends_worked_by_hand_in_pixels_that_are_not_square():
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


def test_the_order_of_ends_changes_no_error_and_a_measure_that_depends_on_it_is_found_out(monkeypatch):
    ends = HEADS + np.array([2, 1])
    one, other = (landmarks.errors_of(bench_of(), predicted(each)) for each in (ends, ends[:, [1, 0, 3, 2]]))
    pd.testing.assert_frame_equal(one, other)
    assert landmarks.is_free_of_order(bench_of(), predicted(ends))

    def first_end_only(predicted, reference, spacing_mm):
        apart = float(np.linalg.norm(predicted[0] - reference[0]))
        return {f"{line}_{unit}": apart for line in head_points.LINES for unit in ("px", "mm")}

    monkeypatch.setattr(landmarks, "point_errors", first_end_only)
    assert not landmarks.is_free_of_order(bench_of(), predicted(ends))
    assert landmarks.is_canonical(predicted(HEADS))
    assert not landmarks.is_canonical(predicted(HEADS[:, [1, 0, 2, 3]]))
    missed = HEADS.copy()
    missed[0, 3] = np.nan
    assert landmarks.is_canonical(predicted(missed))


def test_a_missed_end_is_counted_without_a_value_and_a_case_without_reference_points_is_refused():
    ends = HEADS[:2] + np.array([3, 4])
    ends[1, 3] = np.nan  # of the BPD
    long = landmarks.errors_of(bench_of(), predicted(ends))
    assert len(long) == 4
    table = landmark_errors.landmarks(long).set_index("line")
    assert table.loc[["bpd", "ofd"], ["n", "missed"]].values.tolist() == [[1, 1], [2, 0]]
    with pytest.raises(ValueError, match=r"1 cases without one row of landmarks: \['000_HC'\]"):
        landmarks.errors_of(replace(bench_of(), points=REFERENCE.iloc[1:]), predicted(HEADS[:1]))


def test_the_loss_of_the_kept_epoch_stands_beside_that_of_a_blank_map(tmp_path):
    for seed, losses in ((0, [1.01, 0.4, 0.3]), (1, [1.0, 1.0, 1.0])):
        table = pd.DataFrame({"epoch": [1, 2, 3], "validation_loss": losses, "best": [True, True, False]})
        table["validation_error_percent"] = [9.0, 3.0, 4.0]
        files.write_csv(tmp_path / f"fold0-seed{seed}" / "history.csv", table)
    found = landmarks.heatmap_losses([0], [0, 1], tmp_path)
    assert found.values.tolist() == [[0, 0, 2, 0.4, 1.0, 3.0], [0, 1, 2, 1.0, 1.0, 3.0]]
    assert found.columns.tolist()[2:5] == ["kept_epoch", "heatmap_loss", "blank_map_loss"]


# Pictures


def test_cases_are_ranked_by_the_mean_of_both_lines_a_missed_line_first():
    ends = HEADS + np.array([(1, 0), (9, 0), (4, 0), (0, 0), (0, 0), (2, 0)])[:, None]
    ends[3, 0] = np.nan
    found = pd.concat([predicted(ends), predicted(ends * 3, "mean shape")])
    table = ranking.ranked(landmarks.errors_of(bench_of(), found))
    assert table["case"].tolist() == [NAMES[place] for place in (3, 1, 2, 5, 0, 4)]
    assert table["error_percent"].isna().tolist() == [True] + [False] * 5
    assert table.loc[1, ["ofd_mm", "bpd_mm", "ofd_px"]].tolist() == pytest.approx([3.6, 3.6, 9])
    assert ranking.around_median(table, 2)["case"].tolist() == [NAMES[2], NAMES[5]]
    assert len(ranking.around_median(table, 20)) == 6


@pytest.mark.parametrize(("spacing_mm", "amount"), [(TALL_PIXELS, "2.00 mm"), (UNKNOWN, "5.00 pixels")])
def test_overlays_hold_reference_and_predicted_ends_and_say_the_errors(spacing_mm, amount, bench):
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


def test_heatmaps_of_a_case_are_shown_at_native_size(monkeypatch, bench):
    show(monkeypatch, perfect)
    row = pd.Series({"case": NAMES[0], "fold": 0, "seed": 0})
    maps = landmarks.heatmaps_of(bench, bench.folder.parent, row, True, "cpu")
    assert maps.shape == (2, *NATIVE)
    peak = np.unravel_index(np.argmax(maps[0]), NATIVE)
    assert np.linalg.norm(HEADS[0, :2] - peak, axis=1).min() < 2
