"""Errors of landmarks, worked by hand."""

import numpy as np
import pandas as pd
import pytest

from lib.report.summaries import landmark_errors

NAN = float("nan")


def errors(values, line="ofd", route="landmark", seed=0):
    """cases.csv of a landmark study; two images a subject, pixels of half a mm, an OFD of 100 mm."""
    table = pd.DataFrame({"error_mm": values})
    table["case"] = [f"c{place}" for place in range(len(table))]
    table["subject"] = [f"s{place // 2}" for place in range(len(table))]
    table["error_px"], table["normalised_error_percent"] = table["error_mm"] * 2, table["error_mm"]
    return table.assign(line=line, route=route, seed=seed, fold=0)


def test_landmarks_of_five_lines_worked_by_hand():
    row = landmark_errors.landmarks(errors([1.0, 2.0, 3.0, 10.0, NAN])).iloc[0]
    assert (row["line"], row["route"], row["n"], row["n_mm"], row["missed"]) == ("ofd", "landmark", 4, 4, 1)
    assert (row["error_mm"], row["error_px"], row["normalised_error_percent"]) == (4, 8, 4)
    assert row["median_mm"] == 2.5
    assert row["percentile_95_mm"] == pytest.approx(3 + 0.85 * 7)  # 0.95 * 3 = 2.85 steps from the first of four
    assert row["error_mm_low"] < 4 < row["error_mm_high"]
    assert row["error_px_low"] == pytest.approx(2 * row["error_mm_low"])
    # a row for each line and route
    keys = [["ofd", "landmark"], ["ofd", "blank map"], ["bpd", "landmark"], ["bpd", "blank map"]]
    table = landmark_errors.landmarks(pd.concat([errors([1.0, 2.0], *key) for key in keys]))
    assert table[["line", "route"]].values.tolist() == keys
    assert landmark_errors.landmarks(errors([])).empty


def test_seeds_of_a_case_are_averaged_before_the_mean_and_each_miss_counts():
    both = pd.concat([errors([1.0, 2.0]), errors([3.0, NAN], seed=1)])
    row = landmark_errors.landmarks(both).iloc[0]
    assert (row["n"], row["missed"]) == (2, 1)
    assert row["error_mm"] == (2 + 2) / 2
    assert landmark_errors.holds_all_lines(landmark_errors.landmarks(both), both)
    assert not landmark_errors.holds_all_lines(landmark_errors.landmarks(both[both["error_px"].notna()]), both)


def test_means_in_mm_are_over_the_cases_whose_pixel_size_is_known_alone():
    table = errors([1.0, 3.0, 5.0])
    row = landmark_errors.landmarks(table.assign(error_mm=[1.0, 3.0, NAN])).iloc[0]
    assert (row["n"], row["error_px"], row["n_mm"], row["error_mm"]) == (3, 6, 2, 2)
    none = landmark_errors.landmarks(table.assign(error_mm=NAN)).iloc[0]
    assert (none["n"], none["missed"], none["error_px"]) == (3, 0, 6)
    assert np.isnan([none["error_mm"], none["median_mm"], none["percentile_95_mm"]]).all()
