"""Patients of a volume study, counted by hand: what each scores, and what dropped end slices cost."""

import numpy as np
import pandas as pd
import pytest

from lib import metrics
from lib.evaluation import segmentation
from lib.report.summaries import dice, patients

SLICES = {"a": 5, "b": 4, "c": 5, "d": 6}
VOXELS = 1000  # of each volume
# case: (TP, FP, FN) raw, the same after post-processing
COUNTS = {
    "a": ((24, 4, 24), (24, 0, 24)),
    "b": ((0, 3, 0), (0, 0, 0)),  # no lesion; an alarm that post-processing removes
    "c": ((32, 0, 16), (32, 0, 16)),
    "d": ((40, 20, 2), (40, 20, 2)),
}
DICE = {"a": 48 / 72, "b": 1.0, "c": 64 / 80, "d": 80 / 102}  # after post-processing
LOST = pd.DataFrame({"case": list("abcd"), "in_dropped_slices": [0, 0, 16, 0]})
MANIFEST = pd.DataFrame(
    {"case": list("abcd"), "slices": list(SLICES.values()), "stratum": ["CS", "CS", "DU", "HT old"]}
)


def long_table(counts=COUNTS, seed=0, class_name="lesion"):
    rows = []
    for case, stages in counts.items():
        for stage, (tp, fp, fn) in zip(segmentation.STAGES, stages):
            each = metrics.Overlap(tp, fp, fn, VOXELS - tp - fp - fn)
            key = {"case": case, "subject": case, "fold": 0, "seed": seed, "class": class_name, "stage": stage}
            rows.append(key | vars(each) | {"dice": each.dice, "iou": each.iou})
    return pd.DataFrame(rows, columns=segmentation.COLUMNS)


# Each patient


def test_patients_are_listed_from_the_worst_with_voxels_and_dice_of_both_stages():
    found = patients.listed(long_table(), MANIFEST)
    assert found.columns.tolist() == patients.PATIENT_COLUMNS
    assert found["case"].tolist() == ["a", "d", "c", "b"]
    rows = found.set_index("case")
    assert rows["dice"].to_dict() == pytest.approx(DICE | {"b": np.nan}, nan_ok=True)
    expected = {"a": 48 / 76, "b": np.nan, "c": 64 / 80, "d": 80 / 102}
    assert rows["dice_raw"].to_dict() == pytest.approx(expected, nan_ok=True)
    assert rows["reference_voxels"].to_dict() == {"a": 48, "b": 0, "c": 48, "d": 42}
    assert rows["predicted_voxels"].to_dict() == {"a": 24, "b": 0, "c": 32, "d": 60}
    assert rows["slices"].to_dict() == SLICES
    assert rows["group"].to_dict() == {"a": "CS", "b": "CS", "c": "DU", "d": "HT"}


def test_a_patient_without_lesion_of_whom_nothing_is_predicted_scores_1_and_has_no_dice_in_the_long_table():
    table = long_table()
    row = table.query("case == 'b' and stage == 'post'").iloc[0]
    assert np.isnan(row["dice"])
    assert patients.scored(table)[row.name] == 1
    assert dice.per_class(table).query("stage == 'post'").iloc[0][["n", "absent"]].tolist() == [3, 1]


def test_what_is_invented_in_a_patient_without_lesion_scores_0():
    table = long_table()
    row = table.query("case == 'b' and stage == 'raw'").iloc[0]
    assert patients.scored(table)[row.name] == 0


def test_a_patient_without_lesion_in_whom_one_is_invented_is_listed_among_the_worst_and_has_no_dice():
    found = patients.listed(long_table(COUNTS | {"b": ((0, 3, 0), (0, 3, 0))}), MANIFEST)
    assert found["case"].tolist() == ["b", "a", "d", "c"]
    assert np.isnan(found["dice"].iloc[0])


def test_a_dice_that_is_lost_is_not_taken_for_a_right_nothing():
    lost = long_table().assign(dice=np.nan)
    assert patients.scored(lost).dropna().index.tolist() == [3]  # b after post-processing
    assert patients.summary(lost, MANIFEST).set_index("stage")["n"].to_dict() == {"raw": 0, "post": 1}


def test_a_patient_of_several_seeds_has_one_row_with_their_means():
    both = pd.concat([long_table(), long_table({"a": ((24, 4, 24), (48, 0, 0))}, seed=1)], ignore_index=True)
    row = patients.listed(both, MANIFEST).set_index("case").loc["a"]
    assert row["dice"] == pytest.approx((48 / 72 + 1) / 2)
    assert (row["predicted_voxels"], row["reference_voxels"]) == (36, 48)


def test_a_patient_has_a_row_for_each_class():
    both = pd.concat([long_table(), long_table(class_name="core")], ignore_index=True)
    found = patients.listed(both, MANIFEST)
    assert sorted(zip(found["case"], found["class"])) == [(c, n) for c in "abcd" for n in ("core", "lesion")]


def test_without_strata_all_patients_are_one_group():
    found = patients.listed(long_table(), MANIFEST.assign(stratum=""))
    assert set(found["group"]) == {"all"}


# All patients


def test_the_mean_over_patients_is_the_one_computed_by_hand():
    found = patients.summary(long_table(), MANIFEST).set_index("stage")
    post, raw = found.loc["post"], found.loc["raw"]
    assert (post["class"], post["n"], post["absent"]) == ("lesion", 4, 1)
    assert post["dice_per_patient"] == pytest.approx(sum(DICE.values()) / 4)
    assert post["median_per_patient"] == pytest.approx((80 / 102 + 0.8) / 2)
    assert post["min_per_patient"] == pytest.approx(48 / 72)
    assert post["dice_per_patient_low"] < post["dice_per_patient"] < post["dice_per_patient_high"]
    assert raw["dice_per_patient"] == pytest.approx((48 / 76 + 0 + 0.8 + 80 / 102) / 4)
    assert raw["absent"] == 0


def test_a_study_of_images_has_no_patients():
    images = MANIFEST.assign(slices=1)
    assert patients.listed(long_table(), images).empty
    assert patients.listed(long_table(), images).columns.tolist() == patients.PATIENT_COLUMNS
    assert patients.summary(long_table(), images).empty


# End slices


def test_what_end_slices_cost_is_the_dice_without_their_voxels_minus_that_with_them():
    (row,) = patients.end_slice_cost(long_table(), LOST).to_dict("records")
    assert list(row) == patients.COST_COLUMNS
    assert (row["class"], row["n"], row["cut_patients"], row["lost_voxels"]) == ("lesion", 3, 1, 16)
    assert row["lost_percent"] == pytest.approx(100 * 16 / (48 + 0 + 48 + 42))
    of_table = dice.per_class(long_table()).query("stage == 'post'").iloc[0]
    assert (row["dice"], row["n"]) == (pytest.approx(of_table["dice"]), of_table["n"])
    assert row["dice_without"] == pytest.approx(row["dice"] + 0.2 / 3)  # c alone gains: 1 instead of 0.8
    assert row["cost"] == pytest.approx(0.2 / 3)


def test_voxels_that_were_left_out_count_once_however_many_seeds_there_are():
    both = pd.concat([long_table(), long_table(seed=1)], ignore_index=True)
    one, two = (patients.end_slice_cost(table, LOST).iloc[0] for table in (long_table(), both))
    assert two.to_dict() == pytest.approx(one.to_dict())


def test_a_lesion_in_dropped_slices_alone_costs_the_whole_score():
    counts = {"a": ((0, 0, 16), (0, 0, 16)), "b": COUNTS["b"]}
    lost = pd.DataFrame({"case": ["a", "b"], "in_dropped_slices": [16, 0]})
    (row,) = patients.end_slice_cost(long_table(counts), lost).to_dict("records")
    assert (row["dice"], row["dice_without"], row["cost"], row["lost_percent"]) == (0, 1, 1, 100)


def test_an_alarm_beside_a_lesion_that_was_left_out_still_counts():
    counts = {"a": ((0, 5, 16), (0, 5, 16))}
    (row,) = patients.end_slice_cost(long_table(counts), LOST.assign(in_dropped_slices=16)).to_dict("records")
    assert (row["dice"], row["dice_without"], row["cost"]) == (0, 0, 0)


def test_without_any_lesion_nothing_is_lost():
    counts = {"b": COUNTS["b"]}
    (row,) = patients.end_slice_cost(long_table(counts), LOST).to_dict("records")
    assert (row["lost_voxels"], row["n"]) == (0, 0)
    assert np.isnan([row["lost_percent"], row["dice"], row["cost"]]).all()


def test_a_study_of_images_loses_no_slices():
    found = patients.end_slice_cost(long_table(), LOST.iloc[:0])
    assert found.empty
    assert found.columns.tolist() == patients.COST_COLUMNS
