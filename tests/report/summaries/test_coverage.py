"""Coverage of the intervals of measurements, counted by hand."""

import numpy as np
import pandas as pd
import pytest

from lib import statistics
from lib.evaluation import biometry, intervals, validation
from lib.report import captions
from lib.report.summaries import coverage
from lib.study import files


def measured(predicted, reference, subjects, fold=0, seed=0, **columns) -> pd.DataFrame:
    """measurements.csv of HC before its limits are known."""
    table = pd.DataFrame({"case": [f"c{fold}{place}" for place in range(len(predicted))], "subject": subjects})
    values = {"fold": fold, "seed": seed, "stage": "post", "route": "ellipse", "quantity": "hc"}
    values |= {"predicted_mm": np.asarray(predicted, float), "reference_mm": np.asarray(reference, float), "flags": ""}
    return table.assign(**(values | columns))


def bounds(*rows) -> pd.DataFrame:
    """intervals.csv of HC from (fold, seed, error_per_root)."""
    each = [(fold, seed, "hc", 0.9, 30, 40, error) for fold, seed, error in rows]
    return pd.DataFrame(each, columns=intervals.COLUMNS)


# Ten images of eight subjects, all predicted as 100 mm: 95 to 105 mm contains all but three references.
REFERENCES, SUBJECTS = (
    [100, 94, 105, 95, 106, 99, 101, 100, 107, 100],
    ["a", "a", "b", "b", "c", "d", "e", "f", "g", "h"],
)
LIMITED = intervals.with_limits(measured([100] * 10, REFERENCES, SUBJECTS), bounds((0, 0, 0.5)))


def test_covered_predictions_and_subjects_counted_by_hand():
    (row,) = coverage.coverage(LIMITED, bounds((0, 0, 0.5))).to_dict("records")
    assert (row["n"], row["covered"], row["not_measured"], row["without_interval"]) == (10, 7, 0, 0)
    assert row["covered_percent"] == pytest.approx(70)
    assert row["whole_subject_percent"] == pytest.approx(100 * 5 / 8)  # a, c and g are not
    low, high = statistics.proportion_interval(5, 8)[1:]
    assert [row["whole_subject_percent_low"], row["whole_subject_percent_high"]] == pytest.approx(
        [100 * low, 100 * high]
    )
    assert (row["median_width_mm"], row["median_width_percent"]) == (pytest.approx(10), pytest.approx(10))
    assert captions.of_coverage(pd.DataFrame([row])).startswith("HC by ellipse: 70.0 %")


def test_a_head_that_is_not_measured_is_not_covered_and_one_without_a_reference_is_not_judged():
    known = bounds((0, 0, 0.5))
    more = measured([np.nan, 100], [100, np.nan], ["i", "j"]).assign(case=["new", "other"])
    table = intervals.with_limits(pd.concat([measured([100] * 10, REFERENCES, SUBJECTS), more]), known)
    (row,) = coverage.coverage(table, known).to_dict("records")
    assert (row["n"], row["covered"], row["not_measured"]) == (11, 7, 1)
    assert row["covered_percent"] == pytest.approx(100 * 7 / 11)
    assert row["median_width_mm"] == pytest.approx(10)


def test_predictions_of_runs_without_a_bound_are_counted_and_not_judged():
    known = bounds((0, 0, 0.5), (1, 0, np.nan))
    other = measured([100, 100], [100, 300], ["x", "y"], fold=1)
    table = intervals.with_limits(pd.concat([LIMITED.drop(columns=intervals.LIMITS), other]), known)
    (row,) = coverage.coverage(table, known).to_dict("records")
    assert (row["n"], row["covered"], row["without_interval"]) == (10, 7, 2)
    none = coverage.coverage(intervals.with_limits(other, known), known)
    assert (none.loc[0, "n"], none.loc[0, "without_interval"]) == (0, 2)
    assert np.isnan(none.loc[0, "covered_percent"])
    assert "no run has an interval, which takes 9 validation subjects" in captions.of_coverage(none)
    assert coverage.coverage(LIMITED.head(0), known).empty


def test_baselines_and_masks_before_post_processing_have_no_part():
    known = bounds((0, 0, 0.5))
    others = [LIMITED.assign(route="baseline"), LIMITED.assign(stage="raw")]
    pd.testing.assert_frame_equal(
        coverage.coverage(pd.concat([LIMITED, *others]), known), coverage.coverage(LIMITED, known)
    )


def test_seeds_of_a_case_are_predictions_of_the_same_subject():
    known = bounds((0, 0, 0.5), (0, 1, 0.5))
    twice = coverage.coverage(pd.concat([LIMITED, LIMITED.assign(seed=1)]), known).iloc[0]
    once = coverage.coverage(LIMITED, known).iloc[0]
    assert (twice["n"], twice["covered"]) == (10, 14)
    assert twice["covered_percent"] == once["covered_percent"]
    widths = [row["covered_percent_high"] - row["covered_percent_low"] for row in (once, twice)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)  # no narrower


def test_groups_are_in_order_of_size():
    known = bounds((0, 0, 0.5))
    manifest = pd.DataFrame({"case": LIMITED["case"], "stratum": ["large"] * 5 + ["small"] * 5, "hc_mm": np.nan})
    sized = LIMITED.assign(reference_mm=LIMITED["reference_mm"] + ([0.5] * 5 + [-0.5] * 5))
    table = coverage.by_size(sized, known, manifest)
    assert table["group"].tolist() == ["large", "small"]  # by the smallest HC: 94.5 and 98.5
    assert table["covered"].tolist() == [2, 4]
    assert table[["smallest_hc_mm", "largest_hc_mm"]].values.tolist() == [[94.5, 106.5], [98.5, 106.5]]
    assert table["median_width_mm"].tolist() == pytest.approx([10, 10])
    assert coverage.by_size(LIMITED, bounds((0, 0, np.nan)), manifest).empty


def test_a_study_without_heads_has_no_rows(tmp_path):
    """Its tables have no rows, so columns of numbers and of text cannot be told apart when they are read."""
    path = tmp_path / "intervals.csv"
    files.write_csv(path, intervals.of_runs(pd.DataFrame(columns=validation.COLUMNS)))
    known, empty = files.read_csv(path, intervals.COLUMNS), pd.DataFrame(columns=biometry.HEAD_COLUMNS)
    table = biometry.measure_all(empty, {}, pd.DataFrame(columns=["case", "fold"]), 1.7, [40.0, 400.0], {})
    table = intervals.with_limits(table, known)
    covered = coverage.coverage(table, known)
    manifest = pd.DataFrame({"case": ["c0"], "stratum": [""], "hc_mm": np.nan})
    assert len(covered) == len(coverage.by_size(table, known, manifest)) == 0
    assert captions.of_coverage(covered) == "No head was measured against a reference."
    assert intervals.are_complete(table, known)
