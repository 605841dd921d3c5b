"""Studies compared on the same cases, worked by hand on typed tables."""

import numpy as np
import pandas as pd
import pytest

from lib.evaluation import comparison
from lib.report.summaries import paired
from lib.study import files

NAN = float("nan")
CASES = ["001_HC", "002_HC", "003_HC", "004_HC"]
SUBJECT = dict(zip(CASES, ["001", "002", "003", "003"]))


def measurements(predicted, reference, route, quantity="hc", seed=0, stage="post", names=CASES):
    """measurements.csv of one route, values by case."""
    table = pd.DataFrame({"case": names, "predicted_mm": predicted, "reference_mm": reference})
    table["subject"] = table["case"].map(SUBJECT)
    return table.assign(fold=0, seed=seed, stage=stage, route=route, quantity=quantity, flags="")


def study(name, *tables, overlaps=None, tested=CASES):
    return comparison.Measured(name, frozenset(tested), pd.concat(tables, ignore_index=True), overlaps)


def ellipse_study(**changes):
    found = measurements([101.0, 198.0, 304.0, 400.0], [100.0, 200, 300, 400], "ellipse")
    return study("ellipses", found, measurements([250.0] * 4, [100.0, 200, 300, 400], "baseline"), **changes)


def landmark_study(**changes):
    found = measurements([102.0, 199.0, 301.0, NAN], [99.0, 199, 299, 399], "landmark")
    guesses = [
        measurements([0.0] * 4, [99.0, 199, 299, 399], route) for route in ("mean shape", "blank map", "baseline")
    ]
    return study("points", found, *guesses, **changes)


def test_errors_are_paired_by_case_and_each_study_has_its_own_reference():
    long = comparison.compare_all(ellipse_study(), [landmark_study()])
    pair = long[long["study_b"] == "points"].set_index("case")
    assert pair.index.tolist() == CASES
    assert set(pair["route_a"]) == {"ellipse"}
    assert set(pair["route_b"]) == {"landmark"}  # guesses of the other study are not compared
    assert pair["error_a_mm"].tolist() == [1, 2, 4, 0]
    assert pair["error_b_mm"].tolist()[:3] == [3, 0, 2]
    assert pair["difference_mm"].tolist()[:3] == [-2, 2, 2]
    assert np.isnan(pair.loc["004_HC", "difference_mm"])
    assert pair["not_measured_b"].tolist() == [0, 0, 0, 1]
    assert pair["subject"].tolist() == [SUBJECT[name] for name in CASES]
    assert long.columns.tolist() == comparison.COLUMNS


def test_a_case_that_one_study_missed_is_counted_and_not_dropped_silently():
    row = paired.comparison(comparison.compare_all(ellipse_study(), [landmark_study()])).iloc[0]
    assert (row["n"], row["not_measured_a"], row["not_measured_b"]) == (3, 0, 1)
    assert row["error_a_mm"] == pytest.approx(7 / 3)  # over the cases that both measured
    assert row["difference_mm"] == pytest.approx(2 / 3)


def test_the_last_pair_is_the_mean_of_the_training_cases_of_this_study():
    long = comparison.compare_all(ellipse_study(), [landmark_study()])
    last = long[long["study_b"] == "ellipses"]
    assert last["route_b"].tolist() == ["baseline"] * 4
    assert last["error_b_mm"].tolist() == [150, 50, 50, 150]
    assert last["difference_mm"].tolist() == [-149, -48, -46, -150]
    assert last.index.tolist() == [4, 5, 6, 7]


def test_seeds_are_averaged_within_a_case_before_they_are_compared():
    again = measurements([103.0, 200.0, NAN, 400.0], [100.0, 200, 300, 400], "ellipse", seed=1)
    one = ellipse_study()
    both = study("ellipses", one.measurements, again)
    pair = comparison.compare_all(both, [landmark_study()]).query("study_b == 'points'")
    assert pair["error_a_mm"].tolist() == [(1 + 3) / 2, (2 + 0) / 2, 4, 0]
    assert pair["not_measured_a"].tolist() == [0, 0, 1, 0]


def test_quantities_stay_together_each_with_its_own_pairs():
    def with_bpd(measured):
        half = measured.measurements[["predicted_mm", "reference_mm"]] / 2
        return study(measured.study, measured.measurements, measured.measurements.assign(quantity="bpd", **half))

    long = comparison.compare_all(with_bpd(ellipse_study()), [with_bpd(landmark_study())])
    shown = long.drop_duplicates(["quantity", "study_b"])[["quantity", "study_b"]]
    assert shown.values.tolist() == [["hc", "points"], ["hc", "ellipses"], ["bpd", "points"], ["bpd", "ellipses"]]
    assert long.loc[long["quantity"] == "bpd", "error_a_mm"].tolist()[:3] == [0.5, 1, 2]


def test_a_quantity_that_the_other_study_has_not_is_compared_with_the_baseline_only():
    own = ellipse_study()
    more = study("ellipses", own.measurements, own.measurements.assign(quantity="ofd"))
    long = comparison.compare_all(more, [landmark_study()])
    assert set(long.loc[long["quantity"] == "ofd", "study_b"]) == {"ellipses"}
    assert comparison.is_complete(more, long)


def test_a_case_without_a_reference_is_not_compared():
    own = study("ellipses", measurements([101.0, 198.0, 304.0, 400.0], [100.0, 200, 300, NAN], "ellipse"))
    long = comparison.compare_all(own, [landmark_study()])
    assert long["case"].tolist() == CASES[:3]


def test_studies_that_did_not_test_the_same_cases_are_refused_and_the_cases_counted():
    fewer = landmark_study(tested=[*CASES[:2], "009_HC"])
    with pytest.raises(ValueError, match="compare_with = 'points'   ellipses tested 4 cases, points 3") as caught:
        comparison.compare_all(ellipse_study(), [fewer])
    said = str(caught.value)
    assert "2 only in ellipses ['003_HC', '004_HC']" in said
    assert "1 only in points ['009_HC']" in said
    assert "expected the same cases: equal fold_count, split_seed" in said
    with pytest.raises(ValueError, match="1 only in points"):
        comparison.compare_overlaps(ellipse_study(), [fewer])


@pytest.mark.parametrize("tested", [CASES[:3], [*CASES, "009_HC"]], ids=["one fewer", "one more"])
def test_one_case_that_one_study_alone_tested_is_enough_to_refuse(tested):
    with pytest.raises(ValueError, match=r"1 only in (ellipses|points)"):
        comparison.check_same_cases(ellipse_study(), [landmark_study(tested=tested)])


def test_a_study_compared_with_itself_differs_by_nothing():
    assert comparison.is_nothing_against_itself(ellipse_study(overlaps=overlaps([0.9, 0.8, 0.7, 0.0])))
    assert comparison.is_nothing_against_itself(landmark_study())


def test_with_nothing_to_compare_with_tables_are_empty_and_it_is_said():
    own = ellipse_study()
    long = comparison.compare_all(own, [])
    assert long.columns.tolist() == comparison.COLUMNS
    assert long.empty
    assert comparison.compare_overlaps(own, []).columns.tolist() == comparison.OVERLAP_COLUMNS
    assert comparison.is_complete(own, long)
    assert comparison.notes(own, [], paired.references(long)) == ["compare_with names no study: nothing is compared"]


def test_a_study_without_a_measured_head_is_compared_by_overlaps_alone():
    empty = measurements([], [], "ellipse", names=[])
    one, other = (study(name, empty, overlaps=overlaps([0.9, 0.8, 0.7, 0.0])) for name in ("one", "other"))
    assert comparison.compare_all(one, [other]).empty
    assert len(comparison.compare_overlaps(one, [other])) == 4
    assert comparison.is_nothing_against_itself(one)


def test_references_that_lie_half_a_millimetre_apart_are_said():
    own, other = ellipse_study(), landmark_study()
    references = paired.references(comparison.compare_all(own, [other]))
    assert comparison.notes(own, [other], references) == [
        "ellipses and points tested the same 4 cases",
        "HC: the references of ellipses and points differ by 1.00 mm on average",
    ]
    nearer = study("points", other.measurements.assign(reference_mm=[100.4, 199.6, 300.4, 399.6] * 4))
    references = paired.references(comparison.compare_all(own, [nearer]))
    assert comparison.notes(own, [nearer], references) == ["ellipses and points tested the same 4 cases"]


def test_a_pair_that_lacks_a_measured_case_is_found_out():
    own = ellipse_study()
    long = comparison.compare_all(own, [landmark_study()])
    assert comparison.is_complete(own, long)
    assert not comparison.is_complete(own, long.drop(index=2))


# Overlaps


def overlaps(dice, name="head", seed=0):
    """cases.csv of a study of regions; the last of four cases is a miss if its Dice is 0."""
    table = pd.DataFrame({"case": CASES, "dice": dice, "tp": 1, "fn": 1}).assign(stage="post", seed=seed)
    return table.assign(subject=table["case"].map(SUBJECT), **{"class": name})


def test_dice_is_paired_by_class_and_case():
    one = ellipse_study(overlaps=pd.concat([overlaps([0.9, 0.8, 0.7, 0.0]), overlaps([0.5] * 4, "csp")]))
    other = study("second", measurements([], [], "ellipse", names=[]), overlaps=overlaps([0.8, 0.8, 0.9, 0.4]))
    long = comparison.compare_overlaps(one, [other])
    assert long.columns.tolist() == comparison.OVERLAP_COLUMNS
    assert long["difference"].tolist() == pytest.approx([0.1, 0, -0.2, -0.4])
    assert set(long["class"]) == {"head"}  # the other study has no csp


def test_dice_counts_cases_whose_reference_shows_the_class():
    absent = overlaps([0.9, 0.8, 0.7, NAN]).assign(tp=[1, 1, 1, 0], fn=[1, 1, 1, 0])
    one, other = (ellipse_study(overlaps=table) for table in (absent, absent.assign(dice=0.5)))
    assert comparison.compare_overlaps(one, [other])["case"].tolist() == CASES[:3]


def test_seeds_of_dice_are_averaged_first():
    both = pd.concat([overlaps([0.9, 0.8, 0.7, 0.6]), overlaps([0.7, 0.8, 0.7, 0.6], seed=1)])
    long = comparison.compare_overlaps(ellipse_study(overlaps=both), [ellipse_study(overlaps=overlaps([0.5] * 4))])
    assert long["dice_a"].tolist() == pytest.approx([0.8, 0.8, 0.7, 0.6])


def test_regions_and_landmarks_have_no_overlap_to_compare():
    one, other = ellipse_study(overlaps=overlaps([0.9, 0.8, 0.7, 0.6])), landmark_study()
    assert comparison.compare_overlaps(one, [other]).empty
    assert comparison.compare_overlaps(other, [one]).empty


# Files


def test_studies_are_read_from_their_folders_after_post_processing_only(tmp_path):
    own = ellipse_study().measurements
    raw = own.assign(stage="raw", predicted_mm=0.0)
    files.write_csv(tmp_path / "06_biometry" / "measurements.csv", pd.concat([raw, own]))
    regions = overlaps([0.9, 0.8, 0.7, 0.6])
    path = tmp_path / "05_evaluation" / "cases.csv"
    files.write_csv(path, pd.concat([regions.assign(stage="raw", dice=0.1), regions]))
    read = comparison.read("ellipses", tmp_path)
    assert read.tested == frozenset(CASES)
    pd.testing.assert_frame_equal(
        comparison.compare_all(read, [landmark_study()]), comparison.compare_all(ellipse_study(), [landmark_study()])
    )
    assert read.overlaps["dice"].tolist() == [0.9, 0.8, 0.7, 0.6]


def test_a_study_of_landmarks_is_read_without_overlaps(tmp_path):
    files.write_csv(tmp_path / "06_biometry" / "measurements.csv", landmark_study().measurements)
    lines = pd.DataFrame({"case": CASES * 2, "line": ["ofd"] * 4 + ["bpd"] * 4, "error_mm": 1.0})
    files.write_csv(tmp_path / "05_evaluation" / "cases.csv", lines)
    read = comparison.read("points", tmp_path)
    assert read.overlaps is None
    assert read.tested == frozenset(CASES)


def test_a_study_that_has_not_been_measured_is_named_by_its_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"measurements.csv: missing; run the notebook that writes it first"):
        comparison.read("points", tmp_path)
