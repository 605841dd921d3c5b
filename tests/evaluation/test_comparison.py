import re

import numpy as np
import pandas as pd
import pytest

from lib.evaluation import comparison
from lib.report.summaries import paired
from lib.study import files

NAN = float("nan")
CASES = ["001_HC", "002_HC", "003_HC", "004_HC"]
SUBJECT = dict(zip(CASES, ["001", "002", "003", "003"]))
DICE = [0.9, 0.8, 0.7, 0.0]


def measurements(predicted, reference, route, seed=0, names=CASES):
    """measurements.csv of one route, values by case."""
    table = pd.DataFrame({"case": names, "predicted_mm": predicted, "reference_mm": reference})
    table["subject"] = table["case"].map(SUBJECT)
    return table.assign(fold=0, seed=seed, stage="post", route=route, quantity="hc", flags="")


def overlaps(dice, name="head", seed=0):
    """cases.csv of a study of regions; the class is present in all four cases."""
    table = pd.DataFrame({"case": CASES, "dice": dice, "tp": 1, "fn": 1}).assign(stage="post", seed=seed)
    return table.assign(subject=table["case"].map(SUBJECT), **{"class": name})


def study(name, *tables, overlaps=None, tested=CASES):
    return comparison.Measured(name, frozenset(tested), pd.concat(tables, ignore_index=True), overlaps)


def ellipse_study(*more, **changes):
    network = measurements([101.0, 198.0, 304.0, 400.0], [100.0, 200, 300, 400], "ellipse")
    return study("ellipses", network, measurements([250.0] * 4, [100.0, 200, 300, 400], "baseline"), *more, **changes)


def landmark_study(**changes):
    reference = [99.0, 199, 299, 399]
    network = measurements([102.0, 199.0, 301.0, NAN], reference, "landmark")
    trivial = [measurements([0.0] * 4, reference, route) for route in ("mean shape", "blank map", "baseline")]
    return study("points", network, *trivial, **changes)


def with_quantity(measured, quantity, factor=1.0):
    values = measured.measurements[["predicted_mm", "reference_mm"]] * factor
    return study(measured.study, measured.measurements, measured.measurements.assign(quantity=quantity, **values))


def test_errors_are_paired_by_case_and_each_study_has_its_own_reference():
    long = comparison.compare_all(ellipse_study(), [landmark_study()])
    pair = long[long["study_b"] == "points"].set_index("case")
    assert pair.index.tolist() == CASES
    assert set(pair["route_a"]) == {"ellipse"}
    assert set(pair["route_b"]) == {"landmark"}  # trivial baselines of the other study are not compared
    assert pair["error_a_mm"].tolist() == [1, 2, 4, 0]
    assert pair["error_b_mm"].tolist()[:3] == [3, 0, 2]
    assert pair["difference_mm"].tolist()[:3] == [-2, 2, 2]
    assert np.isnan(pair.loc["004_HC", "difference_mm"])
    assert pair["not_measured_b"].tolist() == [0, 0, 0, 1]
    assert pair["subject"].tolist() == [SUBJECT[name] for name in CASES]
    assert long.columns.tolist() == comparison.COLUMNS
    last = long[long["study_b"] == "ellipses"]  # this study's trivial baseline
    assert last["route_b"].tolist() == ["baseline"] * 4
    assert last["error_b_mm"].tolist() == [150, 50, 50, 150]
    assert last["difference_mm"].tolist() == [-149, -48, -46, -150]
    assert last.index.tolist() == [4, 5, 6, 7]
    assert comparison.is_complete(ellipse_study(), long)
    assert not comparison.is_complete(ellipse_study(), long.drop(index=2))


def test_seeds_are_averaged_within_a_case_before_they_are_compared():
    again = measurements([103.0, 200.0, NAN, 400.0], [100.0, 200, 300, 400], "ellipse", seed=1)
    pair = comparison.compare_all(ellipse_study(again), [landmark_study()]).query("study_b == 'points'")
    assert pair["error_a_mm"].tolist() == [(1 + 3) / 2, (2 + 0) / 2, 4, 0]
    assert pair["not_measured_a"].tolist() == [0, 0, 1, 0]
    own, other = (
        ellipse_study(overlaps=pd.concat(tables))
        for tables in ([overlaps(DICE), overlaps([0.7, 0.8, 0.7, 0.6], seed=1)], [overlaps([0.5] * 4)])
    )
    assert comparison.compare_overlaps(own, [other])["dice_a"].tolist() == pytest.approx([0.8, 0.8, 0.7, 0.3])


def test_quantities_stay_together_and_those_without_a_reference_in_both_studies_are_not_compared():
    own, other = (with_quantity(measured, "bpd", 0.5) for measured in (ellipse_study(), landmark_study()))
    long = comparison.compare_all(own, [other])
    pairs = long.drop_duplicates(["quantity", "study_b"])[["quantity", "study_b"]]
    assert pairs.values.tolist() == [["hc", "points"], ["hc", "ellipses"], ["bpd", "points"], ["bpd", "ellipses"]]
    assert long.loc[long["quantity"] == "bpd", "error_a_mm"].tolist()[:3] == [0.5, 1, 2]
    more = with_quantity(ellipse_study(), "ofd")
    long = comparison.compare_all(more, [landmark_study()])
    assert set(long.loc[long["quantity"] == "ofd", "study_b"]) == {"ellipses"}
    assert comparison.is_complete(more, long)
    own = study("ellipses", measurements([101.0, 198.0, 304.0, 400.0], [100.0, 200, 300, NAN], "ellipse"))
    assert comparison.compare_all(own, [landmark_study()])["case"].tolist() == CASES[:3]


@pytest.mark.parametrize(
    ("tested", "message"),
    [
        ([*CASES[:2], "009_HC"], r"2 only in ellipses \['003_HC', '004_HC'\]; 1 only in points \['009_HC'\]"),
        (CASES[:3], r"ellipses tested 4 cases, points 3: 1 only in ellipses \['004_HC'\]"),
        ([*CASES, "009_HC"], r"ellipses tested 4 cases, points 5: 1 only in points \['009_HC'\]"),
    ],
)
def test_studies_that_did_not_test_the_same_cases_are_refused_and_the_cases_counted(tested, message):
    for compare in (comparison.compare_all, comparison.compare_overlaps):
        with pytest.raises(ValueError, match=f"compare_with = 'points' .*{message}; expected the same cases"):
            compare(ellipse_study(), [landmark_study(tested=tested)])


def test_a_study_does_not_differ_from_itself():
    assert comparison.is_zero_against_itself(ellipse_study(overlaps=overlaps(DICE)))
    assert comparison.is_zero_against_itself(landmark_study())
    empty = measurements([], [], "ellipse", names=[])  # no measured head: compared by Dice only
    one, other = (study(name, empty, overlaps=overlaps(DICE)) for name in ("one", "other"))
    assert comparison.compare_all(one, [other]).empty
    assert len(comparison.compare_overlaps(one, [other])) == 4
    assert comparison.is_zero_against_itself(one)


def test_without_other_studies_tables_are_empty_and_a_note_says_so():
    own = ellipse_study()
    long = comparison.compare_all(own, [])
    assert long.columns.tolist() == comparison.COLUMNS
    assert long.empty
    assert comparison.compare_overlaps(own, []).columns.tolist() == comparison.OVERLAP_COLUMNS
    of_regions = ellipse_study(overlaps=overlaps(DICE))  # landmark studies have no Dice to compare
    assert comparison.compare_overlaps(of_regions, [landmark_study()]).empty
    assert comparison.compare_overlaps(landmark_study(), [of_regions]).empty
    assert comparison.is_complete(own, long)
    assert len(comparison.notes(own, [], paired.references(long))) == 1


def test_a_note_names_references_that_differ_by_more_than_half_a_millimetre():
    own, other = ellipse_study(), landmark_study()
    nearer = study("points", other.measurements.assign(reference_mm=[100.4, 199.6, 300.4, 399.6] * 4))
    for each, amounts in ((other, ["1.00 mm"]), (nearer, [])):
        same, *differ = comparison.notes(own, [each], paired.references(comparison.compare_all(own, [each])))
        assert "4 cases" in same
        assert [re.findall(r"^HC: .*(\d\.\d\d mm)", note) for note in differ] == [amounts] * len(amounts)


def test_dice_is_paired_by_class_and_case_if_the_class_is_present_in_both_references():
    one = ellipse_study(overlaps=pd.concat([overlaps(DICE), overlaps([0.5] * 4, "csp")]))
    other = landmark_study(overlaps=overlaps([0.8, 0.8, 0.9, 0.4]))
    long = comparison.compare_overlaps(one, [other])
    assert long.columns.tolist() == comparison.OVERLAP_COLUMNS
    assert long["difference"].tolist() == pytest.approx([0.1, 0, -0.2, -0.4])
    assert set(long["class"]) == {"head"}  # the other study has no csp
    absent = overlaps([0.9, 0.8, 0.7, NAN]).assign(tp=[1, 1, 1, 0], fn=[1, 1, 1, 0])
    one, other = (ellipse_study(overlaps=table) for table in (absent, absent.assign(dice=0.5)))
    assert comparison.compare_overlaps(one, [other])["case"].tolist() == CASES[:3]


def test_studies_are_read_from_their_folders_after_post_processing_only_and_landmarks_without_dice(tmp_path):
    with pytest.raises(ValueError, match=r"measurements.csv: missing"):
        comparison.read("ellipses", tmp_path)
    own = ellipse_study()
    raw = own.measurements.assign(stage="raw", predicted_mm=0.0)
    files.write_csv(tmp_path / "06_biometry" / "measurements.csv", pd.concat([raw, own.measurements]))
    path = tmp_path / "05_evaluation" / "cases.csv"
    files.write_csv(path, pd.concat([overlaps(DICE).assign(stage="raw", dice=0.1), overlaps(DICE)]))
    read = comparison.read("ellipses", tmp_path)
    assert read.tested == frozenset(CASES)
    compared = [comparison.compare_all(each, [landmark_study()]) for each in (read, own)]
    pd.testing.assert_frame_equal(*compared)
    assert read.overlaps["dice"].tolist() == DICE
    files.write_csv(tmp_path / "06_biometry" / "measurements.csv", landmark_study().measurements)
    lines = pd.DataFrame({"case": CASES * 2, "line": ["ofd"] * 4 + ["bpd"] * 4, "error_mm": 1.0})
    files.write_csv(path, lines)
    read = comparison.read("points", tmp_path)
    assert read.overlaps is None
    assert read.tested == frozenset(CASES)
