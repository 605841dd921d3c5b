"""Landmarks of test cases: found, mapped back, compared; worked on typed points and drawn heatmaps."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib import datasets, models
from lib.data import arrays, splits
from lib.data.evaluation_set import EvaluationSet
from lib.datasets import samples
from lib.evaluation import biometry, landmarks, ranking
from lib.imaging import geometry, head_points, heatmaps
from lib.models import inference, trained_model
from lib.report import figures
from lib.report.summaries import landmark_errors
from lib.study import files
from tests import builders

NATIVE, NETWORK, SIGMA = (120, 200), (48, 80), 1.5
GREY = 20  # levels between the images of two cases
NAMES = [f"{n:03d}_HC" for n in range(6)]
TALL_PIXELS = (0.4, 0.2)


def head(place):
    """Ends of the lines of one case in native pixels, all different."""
    return head_points.axis_ends(
        (58.3 + place, 97.6 - 2 * place), 110 - 5.0 * place, 80 - 4.0 * place, 10 + 25.0 * place
    )


def reference_table(ends=None):
    drawn = np.array([head(place) for place in range(len(NAMES))] if ends is None else ends)
    table = pd.DataFrame(drawn.reshape(-1, 8), columns=head_points.POINT_COLUMNS)
    table.insert(0, "case", NAMES)
    return table


def bench_of(spacing_mm=TALL_PIXELS, folder=Path("none"), **changes):
    """Six cases of three folds, two each; with a folder an image of one grey value a case, and weights of each run."""
    mapping = geometry.fit(NATIVE, NETWORK)
    table = pd.DataFrame({"case": NAMES, "subject": [f"s{n // 2}" for n in range(6)], "slices": 1})
    table["spacing_row_mm"], table["spacing_col_mm"] = spacing_mm
    table["image"] = table["mask"] = [str(folder / f"{name}.png") for name in NAMES]
    folds = table[["case", "subject"]].assign(fold_group=table["subject"], fold=[0, 0, 1, 1, 2, 2], validates=True)
    reference = reference_table()
    native = head_points.as_arrays(reference, NAMES)
    prepared = arrays.Arrays(
        names=NAMES,
        images=np.zeros((6, 1, *NETWORK), np.uint8),
        masks=np.zeros((6, *NETWORK), np.uint8),
        geometries=[mapping] * 6,
        slices=np.zeros(6, int),
        points=geometry.points_to_network(native, mapping).astype(np.float32),
        sigmas=np.full(6, SIGMA, np.float32),
        fingerprint="drawn",
        preparation=builders.of_images(*NETWORK) | {"heatmap_sigma": SIGMA, "heatmap_sigma_unit": "pixels"},
    )
    given = {"cases": table, "folds": folds, "arrays": prepared, "dataset": datasets.DATASETS["hc18"]}
    given |= {"points": reference, "folder": folder / "05_evaluation"}
    if folder.is_dir():
        for place, name in enumerate(NAMES):
            builders.save_png(folder / f"{name}.png", np.full(NATIVE, GREY * place, np.uint8))
        for run in (files.run_name(fold, seed) for fold in (0, 1, 2) for seed in (0, 3)):
            builders.write_weights(folder / run / "model.safetensors", prepared.preparation, out_channels=2)
        given["cases"] = builders.hashed(table)
    return EvaluationSet(**(given | changes))


def chosen(**changes):
    quick = {"landmarks": "multicentre", "folds": [0], "seeds": [0], "device": "cpu", "precision": "float32"}
    return builders.step_params("05_evaluation", **(quick | changes))


def perfect(bench, names):
    """The heatmaps that a perfect network shows."""
    rows = bench.arrays.rows(names)
    return np.stack([heatmaps.encode(bench.arrays.points[row], SIGMA, NETWORK, "line") for row in rows])


@pytest.fixture
def shown(monkeypatch):
    """Puts a network's heatmaps in the place of its output; it knows a case by its grey value."""

    def show(make):
        def predict(_, images, *how):
            return make(bench_of(), [NAMES[images.max() // GREY]])

        monkeypatch.setattr(inference, "predict_heatmaps", predict)

    return show


def found_of(ends, route="landmark", names=NAMES, seed=0):
    """points.csv of typed ends, (N, 4, 2)."""
    table = pd.DataFrame(np.reshape(ends, (-1, 8)), columns=head_points.POINT_COLUMNS)
    table = table.assign(case=names, subject=[f"s{NAMES.index(name) // 2}" for name in names], fold=0, seed=seed)
    return table.assign(route=route, confidence_ofd=1.0, confidence_bpd=1.0)[biometry.LANDMARK_COLUMNS]


def errors(bench, found, line="ofd"):
    table = landmarks.errors_of(bench, found)
    return table[table["line"] == line].set_index("case")


# Points


def test_perfect_heatmaps_give_back_the_native_points_within_a_tenth_of_a_pixel(shown, tmp_path):
    shown(perfect)
    bench = bench_of(folder=tmp_path)
    found, _ = landmarks.find_all(chosen(folds=[0, 1, 2]), bench, tmp_path)
    ours = found[found["route"] == "landmark"]
    assert ours["case"].tolist() == NAMES
    native = head_points.as_arrays(bench.points, NAMES)
    assert ours[head_points.POINT_COLUMNS].to_numpy().reshape(-1, 4, 2) == pytest.approx(native, abs=0.1)
    assert ours[["confidence_ofd", "confidence_bpd"]].min(axis=None) > 0.8  # the highest pixel lies beside the peak


def test_every_test_case_has_a_row_for_each_route_and_seed(shown, tmp_path):
    shown(perfect)
    bench = bench_of(folder=tmp_path)
    found, _ = landmarks.find_all(chosen(folds=[0, 2], seeds=[0, 3]), bench, tmp_path)
    assert found.columns.tolist() == biometry.LANDMARK_COLUMNS
    assert len(found) == 4 * 2 * 3
    assert not found.duplicated(["case", "seed", "route"]).any()
    assert set(found["case"]) == {*NAMES[:2], *NAMES[4:]}
    assert (found["subject"] == found["case"].map(bench.cases.set_index("case")["subject"])).all()
    long = landmarks.errors_of(bench, found)
    assert long.columns.tolist() == landmarks.ERROR_COLUMNS
    assert len(long) == 2 * len(found)


def test_each_run_is_read_from_its_own_weights(monkeypatch, tmp_path):
    asked, load = [], trained_model.load
    monkeypatch.setattr(trained_model, "load", lambda path, *how: asked.append(path) or load(path, *how))
    landmarks.find_all(chosen(folds=[1], seeds=[0, 3]), bench_of(folder=tmp_path), tmp_path)
    assert asked == [tmp_path / f"fold1-seed{seed}" / "model.safetensors" for seed in (0, 3)]


def test_a_network_on_disk_is_asked_for_each_test_case_by_itself(tmp_path):
    bench = bench_of(folder=tmp_path)
    found, _ = landmarks.find_all(chosen(), bench, tmp_path)
    model = trained_model.load(
        tmp_path / "fold0-seed0" / "model.safetensors", chosen().flip_average, torch.device("cpu")
    )
    for place in (0, 1):
        ends, heights = trained_model.landmarks(model, np.full(NATIVE, GREY * place, np.uint8), TALL_PIXELS)
        row = found[found["route"] == "landmark"].iloc[place]
        assert np.array_equal(row[head_points.POINT_COLUMNS].to_numpy(float).reshape(4, 2), ends, equal_nan=True)
        assert np.array_equal(row[["confidence_ofd", "confidence_bpd"]].to_numpy(float), heights)


def test_the_model_is_written_with_what_its_use_needs(tmp_path):
    landmarks.find_all(chosen(flip_average=True), bench_of(folder=tmp_path), tmp_path)
    _, about = models.load_described(tmp_path / "05_evaluation" / "models" / "fold0-seed0.safetensors")
    assert about["flip_average"] is True
    assert about["preparation"]["heatmap_sigma"] == SIGMA


def test_the_confidence_of_a_line_is_the_lower_of_its_peaks():
    bench, name = bench_of(), NAMES[:1]
    maps = perfect(bench, name)
    row, col = np.unravel_index(np.argmax(maps[0, 1, :, 40:]), (48, 40))  # the right end of the BPD
    maps[0, 1, row - 6 : row + 7, 40 + col - 6 : 40 + col + 7] *= 0.25
    _, heights = trained_model.decode(maps[0], bench.arrays.geometries[0], SIGMA)
    assert heights[0] > 0.8
    assert 0.2 < heights[1] <= 0.25


def test_a_blank_output_of_the_network_is_missed_and_not_taken_for_a_point(shown, tmp_path):
    shown(lambda bench, names: np.zeros((len(names), 2, *NETWORK), np.float32))
    bench = bench_of(folder=tmp_path)
    found, _ = landmarks.find_all(chosen(), bench, tmp_path)
    table = landmark_errors.landmarks(landmarks.errors_of(bench, found)).set_index(["line", "route"])
    assert table.loc[("ofd", "landmark"), ["n", "missed"]].tolist() == [0, 2]
    assert np.isnan(table.loc[("ofd", "landmark"), "error_mm"])
    assert table.loc[("ofd", "mean shape"), "missed"] == 0


# Guesses


def test_the_mean_shape_is_that_of_the_training_cases_alone_worked_by_hand(shown, tmp_path):
    shown(perfect)
    bench = bench_of(folder=tmp_path)
    found, _ = landmarks.find_all(chosen(), bench, tmp_path)  # fold 0 is tested, 1 validates, 2 trains
    assert splits.parts(bench.folds, 0)["train"] == NAMES[4:]
    expected = (head(4) + head(5)) / 2  # one geometry, so the mean of native points; both in canonical order
    guess = found[found["route"] == "mean shape"][head_points.POINT_COLUMNS].to_numpy().reshape(-1, 4, 2)
    assert guess == pytest.approx(np.array([expected] * 2), abs=1e-4)  # network pixels are kept as float32


def test_a_blank_map_lies_in_the_middle_of_the_frame_and_has_no_length(shown, tmp_path):
    shown(perfect)
    bench = bench_of(folder=tmp_path)
    found, _ = landmarks.find_all(chosen(), bench, tmp_path)
    blank = found[found["route"] == "blank map"]
    assert blank[head_points.POINT_COLUMNS].values.tolist() == [[59.5, 99.5] * 4] * 2
    assert (blank[["confidence_ofd", "confidence_bpd"]] == 0).all(axis=None)
    # Both ends of the BPD of case 0, an ellipse about (58.3, 97.6), are seen from the middle of the frame.
    off = (np.array(head(0)) - [59.5, 99.5]) * TALL_PIXELS
    expected = np.linalg.norm(off, axis=1).reshape(2, 2).mean(axis=1)
    assert errors(bench, blank, "bpd").loc[NAMES[0], "error_mm"] == pytest.approx(expected[1])


# Errors


def moved(place, step):
    """Ends of a case, all moved by a step of (row, col)."""
    return head(place) + np.array(step)


def test_errors_of_moved_ends_worked_by_hand_in_pixels_that_are_not_square():
    bench, names = bench_of(), NAMES[:2]
    table = errors(bench, found_of([moved(0, (3, 4)), moved(1, (0, -10))], names=names))
    assert table["error_px"].tolist() == pytest.approx([5, 10])
    assert table["error_mm"].tolist() == pytest.approx([np.hypot(3 * 0.4, 4 * 0.2), 2])
    ofd = [np.linalg.norm((head(place)[1] - head(place)[0]) * TALL_PIXELS) for place in (0, 1)]
    expected = [100 * np.hypot(1.2, 0.8) / ofd[0], 100 * 2 / ofd[1]]
    assert table["normalised_error_percent"].tolist() == pytest.approx(expected)


def test_both_lines_are_normalised_by_the_ofd():
    bench = bench_of()
    found = found_of([moved(0, (3, 4))], names=NAMES[:1])
    assert errors(bench, found, "ofd")["normalised_error_percent"].tolist() == pytest.approx(
        errors(bench, found, "bpd")["normalised_error_percent"].tolist()
    )


def test_the_order_of_ends_changes_no_error():
    bench = bench_of()
    as_found = [moved(place, (2, 1)) for place in range(6)]
    turned = [np.asarray(ends)[[1, 0, 3, 2]] for ends in as_found]
    one, other = (landmarks.errors_of(bench, found_of(ends)) for ends in (as_found, turned))
    pd.testing.assert_frame_equal(one, other)
    assert landmarks.is_free_of_order(bench, found_of(as_found))


def test_a_measure_that_depends_on_the_order_of_ends_is_found_out(monkeypatch):
    def first_end_only(predicted, reference, spacing_mm):
        off = float(np.linalg.norm(predicted[0] - reference[0]))
        return {f"{line}_{unit}": off for line in head_points.LINES for unit in ("px", "mm")}

    monkeypatch.setattr(landmarks, "point_errors", first_end_only)
    assert not landmarks.is_free_of_order(bench_of(), found_of([moved(place, (2, 1)) for place in range(6)]))


def test_ends_in_another_order_than_left_before_right_are_found_out():
    drawn = [head(place) for place in range(6)]
    assert landmarks.is_canonical(found_of(drawn))
    assert not landmarks.is_canonical(found_of([ends[[1, 0, 2, 3]] for ends in drawn]))
    drawn[0] = drawn[0].copy()
    drawn[0][3] = np.nan
    assert landmarks.is_canonical(found_of(drawn))


def test_a_missed_end_is_an_error_without_a_value_and_is_counted():
    bench, names = bench_of(), NAMES[:2]
    ends = np.array([moved(0, (3, 4)), moved(1, (3, 4))])
    ends[1, 3] = np.nan  # of the BPD
    long = landmarks.errors_of(bench, found_of(ends, names=names))
    assert len(long) == 4
    table = landmark_errors.landmarks(long).set_index("line")
    assert table.loc["bpd", ["n", "missed"]].tolist() == [1, 1]
    assert table.loc["ofd", ["n", "missed"]].tolist() == [2, 0]


def test_without_a_pixel_size_errors_are_in_pixels_and_percent():
    bench = bench_of(spacing_mm=(np.nan, np.nan))
    table = errors(bench, found_of([moved(0, (3, 4))], names=NAMES[:1]))
    assert table["error_px"].tolist() == pytest.approx([5])
    assert table["error_mm"].isna().all()
    assert table["normalised_error_percent"].tolist() == pytest.approx([100 * 5 / 110])


def test_a_case_without_reference_points_is_refused():
    bench = bench_of(points=reference_table().iloc[1:])
    with pytest.raises(ValueError, match=r"1 cases without one row of landmarks: \['000_HC'\]"):
        landmarks.errors_of(bench, found_of([head(0)], names=NAMES[:1]))


# Loss


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
    ends = np.array([moved(0, (1, 0)), moved(1, (9, 0)), moved(2, (4, 0)), head(3), head(4), moved(5, (2, 0))])
    ends[3, 0] = np.nan
    bench = bench_of()
    found = pd.concat([found_of(ends), found_of(ends * 3, "mean shape")])
    table = ranking.ranked(landmarks.errors_of(bench, found))
    assert table["case"].tolist() == [NAMES[place] for place in (3, 1, 2, 5, 0, 4)]
    assert table["error_percent"].isna().tolist() == [True] + [False] * 5
    assert table.loc[1, ["ofd_mm", "bpd_mm", "ofd_px"]].tolist() == pytest.approx([3.6, 3.6, 9])
    assert ranking.around_median(table, 2)["case"].tolist() == [NAMES[2], NAMES[5]]
    assert len(ranking.around_median(table, 20)) == 6


@pytest.mark.parametrize("spacing_mm", [TALL_PIXELS, (np.nan, np.nan)], ids=["mm", "pixels"])
def test_overlays_hold_reference_and_predicted_ends_and_say_the_errors(spacing_mm, monkeypatch, tmp_path):
    bench = bench_of(spacing_mm)
    known = None if np.isnan(spacing_mm[0]) else spacing_mm
    monkeypatch.setattr(
        samples,
        "load",
        lambda dataset, table, names: samples.Samples(
            names, [np.zeros(NATIVE, np.uint8)] * len(names), [], [known] * len(names), [0] * len(names)
        ),
    )
    ends = np.array([moved(place, (5, 0)) for place in range(6)])
    ends[2, 3] = np.nan
    found = found_of(ends)
    rows = ranking.ranked(landmarks.errors_of(bench, found)).head(2)
    first, second = ranking.overlays(bench, rows, found)
    assert first.name == NAMES[2] == rows["case"].iloc[0]
    assert first.note == ("OFD 2.00 mm, BPD missed" if known else "OFD 5.00 pixels, BPD missed")
    assert second.note == ("OFD 2.00 mm, BPD 2.00 mm" if known else "OFD 5.00 pixels, BPD 5.00 pixels")
    assert second.reference == pytest.approx(head(NAMES.index(second.name)))
    assert second.predicted == pytest.approx(moved(NAMES.index(second.name), (5, 0)))
    assert figures.save(figures.landmark_overlays([first, second]), tmp_path / "x").suffix == ".png"


def test_heatmaps_of_a_case_are_shown_at_native_size(shown, tmp_path):
    shown(perfect)
    bench = bench_of(folder=tmp_path)
    row = pd.Series({"case": NAMES[0], "fold": 0, "seed": 0})
    maps = landmarks.heatmaps_of(bench, tmp_path, row, True, "cpu")
    assert maps.shape == (2, *NATIVE)
    peak = np.unravel_index(np.argmax(maps[0]), NATIVE)
    assert np.linalg.norm(np.array(head(0)[:2]) - peak, axis=1).min() < 2


def test_points_that_stand_in_the_manifest_s_order_are_not_mixed_up(shown, tmp_path):
    shown(perfect)
    bench = bench_of(folder=tmp_path)
    mixed = bench_of(folder=tmp_path, points=bench.points.iloc[::-1].reset_index(drop=True))
    one, other = (
        landmarks.errors_of(each, landmarks.find_all(chosen(folds=[0, 1, 2]), each, tmp_path)[0])
        for each in (bench, mixed)
    )
    pd.testing.assert_frame_equal(one, other)
    assert one.loc[one["route"] == "landmark", "error_px"].max() < 0.1
