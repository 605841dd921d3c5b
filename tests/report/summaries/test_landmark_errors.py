import numpy as np
import pandas as pd
import pytest

from lib.report.summaries import landmark_errors
from lib.study import files
from tests.builders_figures import line_errors

NAN = float("nan")


def test_landmarks_of_five_lines_worked_by_hand():
    row = landmark_errors.landmarks(line_errors([1.0, 2.0, 3.0, 10.0, NAN])).iloc[0]
    assert (row["line"], row["route"], row["n"], row["n_mm"], row["missed"]) == ("ofd", "landmark", 4, 4, 1)
    assert (row["error_mm"], row["error_px"], row["normalised_error_percent"]) == (4, 8, 4)
    assert row["median_mm"] == 2.5
    assert (row["lower_quartile_mm"], row["upper_quartile_mm"]) == (1.75, 4.75)  # 0.75 and 2.25 steps of four
    assert row["percentile_95_mm"] == pytest.approx(3 + 0.85 * 7)  # 0.95 * 3 = 2.85 steps from the first of four
    row = landmark_errors.landmarks(line_errors([1.0, 2.0, 3.0, 10.0] * 4)).iloc[0]
    assert row["error_mm_low"] < 4 < row["error_mm_high"]
    assert row["median_mm_low"] < 2.5 < row["median_mm_high"]
    assert row["error_px_low"] == pytest.approx(2 * row["error_mm_low"])
    # one row per line and route
    keys = [["ofd", "landmark"], ["ofd", "blank map"], ["bpd", "landmark"], ["bpd", "blank map"]]
    table = landmark_errors.landmarks(pd.concat([line_errors([1.0, 2.0], *key) for key in keys]))
    assert table[["line", "route"]].values.tolist() == keys
    assert landmark_errors.landmarks(line_errors([])).empty


def test_seeds_of_a_case_are_averaged_before_the_mean_and_each_miss_counts():
    both = pd.concat([line_errors([1.0, 2.0]), line_errors([3.0, NAN], seed=1)])
    row = landmark_errors.landmarks(both).iloc[0]
    assert (row["n"], row["missed"]) == (2, 1)
    assert row["error_mm"] == (2 + 2) / 2
    assert landmark_errors.holds_all_lines(landmark_errors.landmarks(both), both)
    assert not landmark_errors.holds_all_lines(landmark_errors.landmarks(both[both["error_px"].notna()]), both)


def test_means_in_mm_are_over_cases_with_a_known_pixel_size():
    table = line_errors([1.0, 3.0, 5.0])
    row = landmark_errors.landmarks(table.assign(error_mm=[1.0, 3.0, NAN])).iloc[0]
    assert (row["n"], row["error_px"], row["n_mm"], row["error_mm"]) == (3, 6, 2, 2)
    none = landmark_errors.landmarks(table.assign(error_mm=NAN)).iloc[0]
    assert (none["n"], none["missed"], none["error_px"]) == (3, 0, 6)
    assert np.isnan([none["error_mm"], none["median_mm"], none["percentile_95_mm"]]).all()


def test_heatmap_losses_are_those_of_the_best_epoch_and_of_a_blank_map(tmp_path):
    for seed, losses in ((0, [1.01, 0.4, 0.3]), (1, [1.0, 1.0, 1.0])):
        table = pd.DataFrame({"epoch": [1, 2, 3], "validation_loss": losses, "best": [True, True, False]})
        table["validation_error_percent"] = [9.0, 3.0, 4.0]
        files.write_csv(tmp_path / f"fold0-seed{seed}" / "history.csv", table)
    table = landmark_errors.heatmap_losses([0], [0, 1], tmp_path)
    assert table.values.tolist() == [[0, 0, 2, 0.4, 1.0, 3.0], [0, 1, 2, 1.0, 1.0, 3.0]]
    assert table.columns.tolist()[2:5] == ["kept_epoch", "heatmap_loss", "blank_map_loss"]
