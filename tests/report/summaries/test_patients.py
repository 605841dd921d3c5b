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
    "b": ((0, 3, 0), (0, 0, 0)),  # no lesion; a false positive removed by post-processing
    "c": ((32, 0, 16), (32, 0, 16)),
    "d": ((40, 20, 2), (40, 20, 2)),
}
DICE = {"a": 48 / 72, "b": 1.0, "c": 64 / 80, "d": 80 / 102}  # after post-processing
LOST = pd.DataFrame({"case": list("abcd"), "in_dropped_slices": [0, 0, 16, 0]})
STRATA = ["CS", "CS", "DU", "HT old"]
MANIFEST = pd.DataFrame({"case": list("abcd"), "slices": list(SLICES.values()), "stratum": STRATA})


def long_table(counts=COUNTS, seed=0, class_name="lesion"):
    rows = []
    for case, stages in counts.items():
        for stage, (tp, fp, fn) in zip(("raw", "post"), stages):
            each = metrics.Overlap(tp, fp, fn, VOXELS - tp - fp - fn)
            key = {"case": case, "subject": case, "fold": 0, "seed": seed, "class": class_name, "stage": stage}
            rows.append(key | vars(each) | {"dice": each.dice, "iou": each.iou})
    return pd.DataFrame(rows, columns=segmentation.COLUMNS)


def test_patients_are_sorted_from_the_worst_with_voxels_and_dice_of_both_stages():
    table = patients.per_patient(long_table(), MANIFEST)
    assert table.columns.tolist() == patients.PATIENT_COLUMNS
    assert table["case"].tolist() == ["a", "d", "c", "b"]
    rows = table.set_index("case")
    raw = {"a": 48 / 76, "b": np.nan, "c": 64 / 80, "d": 80 / 102}
    assert rows["dice"].to_dict() == pytest.approx(DICE | {"b": np.nan}, nan_ok=True)
    assert rows["dice_raw"].to_dict() == pytest.approx(raw, nan_ok=True)
    assert rows["reference_voxels"].to_dict() == {"a": 48, "b": 0, "c": 48, "d": 42}
    assert rows["predicted_voxels"].to_dict() == {"a": 24, "b": 0, "c": 32, "d": 60}
    assert rows["slices"].to_dict() == SLICES
    assert rows["group"].to_dict() == {"a": "CS", "b": "CS", "c": "DU", "d": "HT"}
    assert set(patients.per_patient(long_table(), MANIFEST.assign(stratum=""))["group"]) == {"all"}
    # one row per class, with the means of its seeds
    seeds = [long_table(), long_table({"a": ((24, 4, 24), (48, 0, 0))}, seed=1), long_table(class_name="core")]
    table = patients.per_patient(pd.concat(seeds, ignore_index=True), MANIFEST)
    assert sorted(zip(table["case"], table["class"])) == [(c, n) for c in "abcd" for n in ("core", "lesion")]
    row = table[table["class"] == "lesion"].set_index("case").loc["a"]
    assert row["dice"] == pytest.approx((48 / 72 + 1) / 2)
    assert (row["predicted_voxels"], row["reference_voxels"]) == (36, 48)


def test_a_patient_without_lesion_scores_1_if_nothing_is_predicted_and_0_otherwise():
    table = long_table()
    raw, post = table.index[table["case"] == "b"]
    assert np.isnan(table.loc[post, "dice"])
    assert patients.score(table)[[raw, post]].tolist() == [0, 1]
    assert dice.per_class(table).query("stage == 'post'").iloc[0][["n", "absent"]].tolist() == [3, 1]
    false_positive = patients.per_patient(long_table(COUNTS | {"b": ((0, 3, 0), (0, 3, 0))}), MANIFEST)
    assert false_positive["case"].tolist() == ["b", "a", "d", "c"]
    assert np.isnan(false_positive["dice"].iloc[0])
    # a missing Dice is not taken for an absent lesion
    lost = long_table().assign(dice=np.nan)
    assert patients.score(lost).dropna().index.tolist() == [3]  # b after post-processing
    assert patients.summary(lost, MANIFEST).set_index("stage")["n"].to_dict() == {"raw": 0, "post": 1}


def test_the_mean_over_patients_is_the_one_computed_by_hand():
    rows = patients.summary(long_table(), MANIFEST).set_index("stage")
    post, raw = rows.loc["post"], rows.loc["raw"]
    assert (post["class"], post["n"], post["absent"], raw["absent"]) == ("lesion", 4, 1, 0)
    assert post["dice_per_patient"] == pytest.approx(sum(DICE.values()) / 4)
    assert raw["dice_per_patient"] == pytest.approx((48 / 76 + 0 + 0.8 + 80 / 102) / 4)
    assert post["median_per_patient"] == pytest.approx((80 / 102 + 0.8) / 2)
    assert post["min_per_patient"] == pytest.approx(48 / 72)
    assert (post["dice_per_patient_subjects"], post["dice_per_patient_largest"]) == (4, 1)


def test_a_study_of_images_has_no_patients_and_loses_no_slices():
    images = MANIFEST.assign(slices=1)
    assert patients.summary(long_table(), images).empty
    by_patient, lost = patients.per_patient(long_table(), images), patients.end_slice_cost(long_table(), LOST.iloc[:0])
    assert (len(by_patient), by_patient.columns.tolist()) == (0, patients.PATIENT_COLUMNS)
    assert (len(lost), lost.columns.tolist()) == (0, patients.COST_COLUMNS)


def cost(table: pd.DataFrame, lost: pd.DataFrame = LOST) -> dict:
    (row,) = patients.end_slice_cost(table, lost).to_dict("records")
    return row


def test_the_cost_of_end_slices_is_the_dice_without_their_voxels_minus_that_with_them():
    row = cost(long_table())
    assert list(row) == patients.COST_COLUMNS
    assert (row["class"], row["n"], row["cut_patients"], row["lost_voxels"]) == ("lesion", 3, 1, 16)
    assert row["lost_percent"] == pytest.approx(100 * 16 / (48 + 0 + 48 + 42))
    of_table = dice.per_class(long_table()).query("stage == 'post'").iloc[0]
    assert (row["dice"], row["n"]) == (pytest.approx(of_table["dice"]), of_table["n"])
    assert row["dice_without"] == pytest.approx(row["dice"] + 0.2 / 3)  # only c gains: 1 instead of 0.8
    assert row["cost"] == pytest.approx(0.2 / 3)
    both = pd.concat([long_table(), long_table(seed=1)], ignore_index=True)
    assert cost(both) == pytest.approx(row)  # excluded voxels count once


@pytest.mark.parametrize(
    ("counts", "dropped", "figures"),
    [
        ({"a": (0, 0, 16), "b": (0, 0, 0)}, 16, (0, 1, 1, 100)),  # a lesion in excluded slices only
        ({"a": (0, 5, 16)}, 16, (0, 0, 0, 100)),  # a false positive elsewhere still counts
        ({"b": (0, 0, 0)}, 0, (np.nan,) * 4),  # no lesion
    ],
)
def test_the_cost_of_a_lesion_in_excluded_slices_only(counts, dropped, figures):
    lost = LOST.assign(in_dropped_slices=[dropped, 0, 0, 0])
    row = cost(long_table({case: (each, each) for case, each in counts.items()}), lost)
    names = ("dice", "dice_without", "cost", "lost_percent")
    assert tuple(row[name] for name in names) == pytest.approx(figures, nan_ok=True)
    assert (row["lost_voxels"], row["n"]) == (dropped, int("a" in counts))
