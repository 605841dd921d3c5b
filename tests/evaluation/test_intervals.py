"""Constants and limits of the intervals of measurements, counted by hand."""

import numpy as np
import pandas as pd
import pytest

from lib.data.cases import QUANTITIES
from lib.evaluation import biometry, intervals, validation


def heads(errors, subjects=None, fold=0, predicted=100.0):
    """validation.csv of heads measured `errors` mm too large, BPD and OFD without an error."""
    rows = []
    for place, error in enumerate(errors):
        subject = f"s{place}" if subjects is None else subjects[place]
        key = {"case": f"c{place}", "subject": subject, "fold": fold, "seed": 0, "stage": "post", "route": "ellipse"}
        for quantity in QUANTITIES:
            own = error if quantity == "hc" else 0.0
            value = predicted if np.isfinite(own) else np.nan
            rows.append(
                key | {"quantity": quantity, "predicted_mm": value, "reference_mm": predicted - own, "flags": ""}
            )
    table = pd.DataFrame(rows, columns=validation.COLUMNS)
    table.loc[table["predicted_mm"].isna(), "reference_mm"] = 100.0
    return table


def test_constants_are_the_scaled_error_of_the_right_rank():
    # nine subjects: the largest of |error| / root of 100 mm
    found = intervals.constants(heads([1, -2, 3, -4, 5, -6, 7, -9, 8]))
    assert found == {
        "level": 0.9,
        "subjects": 9,
        "images": 9,
        "error_per_root": {"bpd": 0, "ofd": 0, "hc": pytest.approx(0.9)},
    }


def test_a_study_with_too_few_subjects_or_without_measured_heads_has_no_bound():
    none = dict.fromkeys(QUANTITIES)
    images = [1.0] * 16  # two of each of eight subjects
    found = intervals.constants(heads(images, [f"s{n // 2}" for n in range(16)]))
    assert found == {"level": 0.9, "subjects": 8, "images": 16, "error_per_root": none}
    assert intervals.constants(heads([])) == {"level": 0.9, "subjects": 0, "images": 0, "error_per_root": none}


def test_a_head_that_is_not_measured_counts_as_an_infinite_error():
    assert intervals.constants(heads([*range(1, 20), np.nan]))["error_per_root"]["hc"] == pytest.approx(1.9)
    assert intervals.constants(heads([*range(1, 19), np.nan, np.nan]))["error_per_root"]["hc"] is None
    assert intervals.constants(heads([*range(1, 20), np.nan]))["subjects"] == 20


def test_a_length_of_zero_has_an_infinite_error():
    table = heads([1.0] * 9)
    table.loc[table["case"] == "c3", "predicted_mm"] = 0.0
    assert intervals.constants(table)["error_per_root"] == dict.fromkeys(QUANTITIES)


def test_the_table_has_the_constants_of_each_run():
    both = pd.concat([heads([2.0] * 9), heads([3.0] * 8, fold=1)])
    table = intervals.of_runs(both)
    assert table.columns.tolist() == intervals.COLUMNS
    assert table[table["quantity"] == "hc"].values.tolist()[0] == [0, 0, "hc", 0.9, 9, 9, pytest.approx(0.2)]
    assert table.loc[table["fold"] == 1, "error_per_root"].isna().all()
    assert table.loc[table["fold"] == 1, "subjects"].tolist() == [8] * 3
    assert intervals.of_runs(heads([])).columns.tolist() == intervals.COLUMNS


@pytest.mark.parametrize(
    ("predicted", "bound", "limits"),
    [
        (225.0, 0.2, (222.0, 228.0)),
        (225.0, 0.0, (225.0, 225.0)),
        (25.0, 6.0, (0.0, 55.0)),  # a length is not negative
        (np.nan, 0.2, (np.nan, np.nan)),
        (0.0, 0.2, (0.0, 0.0)),
        (225.0, None, (np.nan, np.nan)),
        (225.0, np.nan, (np.nan, np.nan)),
    ],
)
def test_limits_of_a_measurement_worked_by_hand(predicted, bound, limits):
    assert intervals.limits_mm(predicted, bound) == pytest.approx(limits, nan_ok=True)


def test_only_final_measurements_of_the_network_have_limits_those_of_their_own_run():
    final = {"case": "a", "subject": "s", "fold": 0, "seed": 0, "stage": "post", "route": "ellipse", "quantity": "hc"}
    final |= {"predicted_mm": 225.0, "reference_mm": 224.0, "flags": ""}
    others = [{"stage": "raw"}, {"route": "baseline"}, {"fold": 1}, {"seed": 1}, {"quantity": "bpd"}]
    others += [{"predicted_mm": np.nan}, {"route": "landmark"}]
    table = pd.DataFrame([final, *(final | other for other in others)], columns=biometry.COLUMNS)
    bounds = pd.DataFrame([(0, 0, "hc", 0.9, 9, 9, 0.2), (1, 0, "hc", 0.9, 9, 9, 0.4)], columns=intervals.COLUMNS)
    limited = intervals.with_limits(table, bounds)
    assert limited.columns.tolist() == [*biometry.COLUMNS[:-1], "low_mm", "high_mm", "flags"]
    expected = [(222, 228), *[(np.nan, np.nan)] * 2, (219, 231), *[(np.nan, np.nan)] * 3, (222, 228)]
    assert limited[intervals.LIMITS].to_numpy() == pytest.approx(np.array(expected, float), nan_ok=True)
    pd.testing.assert_frame_equal(limited[biometry.COLUMNS], table)
    empty = intervals.with_limits(table.head(0), bounds)
    assert (len(empty), empty.columns.tolist()) == (0, limited.columns.tolist())
