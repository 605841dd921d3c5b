"""Tables of overlap typed out by hand: what a mean holds, what is counted beside it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.report.summaries import dice
from lib.study import files

NAN = float("nan")
FOUR = [(9, 1, 1), (8, 2, 2), (5, 5, 5), (9, 0, 2)]
SHOWN, MISSED, INVENTED, ABSENT = (40, 10, 10), (0, 0, 50), (0, 30, 0), (0, 0, 0)


def long_table(counts: list[tuple[int, int, int]], seed: int = 0, stage: str = "post") -> pd.DataFrame:
    """The long table of 05 for one class, from (tp, fp, fn) of each case; two cases a subject."""
    table = pd.DataFrame(counts, columns=["tp", "fp", "fn"])
    both = 2 * table["tp"] + table["fp"] + table["fn"]
    overlap = {"dice": 2 * table["tp"] / both.where(both > 0)}
    overlap["iou"] = overlap["dice"] / (2 - overlap["dice"])
    key = {"case": [f"c{place}" for place in range(len(table))], "class": "csp", "stage": stage}
    return table.assign(subject=[f"s{place // 2}" for place in range(len(table))], fold=0, seed=seed, tn=100).assign(
        **key, **overlap
    )


def test_a_miss_counts_0_and_absent_and_invented_cases_are_counted_beside_the_mean() -> None:
    row = dice.per_class(long_table([SHOWN, MISSED, INVENTED, ABSENT])).iloc[0]
    assert row["n"] == 2
    assert row["dice"] == pytest.approx((0.8 + 0) / 2)
    assert row["iou"] == pytest.approx((40 / 60 + 0) / 2)
    assert (row["dice_median"], row["dice_min"]) == (pytest.approx(0.4), 0)
    assert (row["absent"], row["missed"], row["no_overlap"], row["invented"]) == (1, 1, 1, 1)
    assert row["pooled_dice"] == pytest.approx(80 / (80 + 40 + 60))  # invented pixels count here
    none = dice.per_class(long_table([INVENTED, ABSENT])).iloc[0]
    assert (none["n"], none["invented"], none["absent"]) == (0, 1, 1)
    assert np.isnan(none["dice"])


def test_the_interval_holds_the_mean_and_needs_two_subjects() -> None:
    several, one = (dice.per_class(long_table(counts)).iloc[0] for counts in (FOUR, FOUR[:2]))
    assert several["dice_low"] < several["dice"] < several["dice_high"]
    assert np.isnan([one["dice_low"], one["dice_high"]]).all()


def test_one_seed_gives_no_seed_column_and_two_give_rows_of_their_own() -> None:
    one = long_table(FOUR[:2])
    assert "seeds" not in dice.per_class(one)
    both = dice.per_class(pd.concat([one, long_table([(7, 3, 3), (8, 2, 2)], seed=1)]))
    assert both["seeds"].tolist() == ["all", "0", "1"]
    assert both["n"].tolist() == [2, 2, 2]
    assert both["dice"].tolist() == pytest.approx([0.8, 0.85, 0.75])
    assert both["dice_min"].tolist() == pytest.approx([0.8, 0.8, 0.7])  # of cases, seeds averaged


def test_a_dice_that_is_missing_though_the_reference_shows_the_class_is_not_counted_by_n() -> None:
    lost = long_table([(9, 1, 1), (8, 2, 2), ABSENT, INVENTED]).assign(dice=[0.9, NAN, NAN, 0.0])
    table = dice.per_class(lost)
    assert (table["n"].item(), table["dice"].item()) == (1, 0.9)
    assert not dice.holds_all_cases(table, lost)


@pytest.mark.parametrize("seeds", [1, 2])
def test_every_row_of_the_long_table_is_in_n_absent_or_invented(seeds: int) -> None:
    counts = [SHOWN, MISSED, INVENTED, ABSENT]
    long = pd.concat([long_table(counts, seed, stage) for seed in range(seeds) for stage in ("raw", "post")])
    table = dice.per_class(long)
    assert dice.holds_all_cases(table, long)
    single = table if seeds == 1 else table[table["seeds"] != "all"]
    assert single[["n", "absent", "invented"]].sum().sum() == len(long)
    for case in ("c1", "c3"):
        assert not dice.holds_all_cases(dice.per_class(long[long["case"] != case]), long)


def test_a_row_without_a_subject_is_refused_and_not_left_out_of_the_mean() -> None:
    with pytest.raises(ValueError, match="2 of 4 values are of no subject"):
        dice.per_class(long_table(FOUR).assign(subject=["a", "b", None, None]))


@pytest.mark.parametrize("name", ["nan", "NA", "None", "null", "N/A", "#N/A", "n/a", "NULL"])
def test_a_class_and_a_subject_may_have_any_name_and_no_row_is_lost_on_disk(name: str, tmp_path: Path) -> None:
    long = long_table([(9, 1, 1), (8, 2, 2), (1, 9, 9), (2, 9, 9)]).assign(subject=["a", "b", name, name])
    long["class"] = name
    files.write_csv(tmp_path / "cases.csv", long)
    again = files.read_csv(tmp_path / "cases.csv", ["case"])
    pd.testing.assert_frame_equal(again, long)
    row = dice.per_class(again).iloc[0]
    assert (row["class"], row["n"]) == (name, 4)
    assert row["dice"] == pytest.approx((0.9 + 0.8 + 0.1 + 4 / 22) / 4)
    assert row["dice_low"] < 0.2  # the hard subject alone can be drawn


def test_rows_come_by_class_and_stage_as_in_the_long_table() -> None:
    raw, post = (long_table(FOUR[:1], stage=stage) for stage in ("raw", "post"))
    table = dice.per_class(pd.concat([raw, post, raw.assign(**{"class": "lv"})]))
    assert table[["class", "stage"]].values.tolist() == [["csp", "raw"], ["csp", "post"], ["lv", "raw"]]


# Sensitivity, specificity, precision


def test_detection_of_three_images_counted_by_hand() -> None:
    # sensitivity 3/4, 1/2, -; specificity 95/96, 97/98, 98/100; precision 3/4, 1/2, 0/2; each over what is defined
    table = long_table([(3, 1, 1), (1, 1, 1), (0, 2, 0)]).assign(tn=[95, 97, 98])
    rows = dice.detection(table).set_index("measure")
    assert (set(rows["class"]), set(rows["stage"])) == ({"csp"}, {"post"})
    assert rows["n"].to_dict() == {"sensitivity": 2, "specificity": 3, "precision": 3}
    means = {"sensitivity": (3 / 4 + 1 / 2) / 2, "specificity": (95 / 96 + 97 / 98 + 98 / 100) / 3}
    assert rows["mean"].to_dict() == pytest.approx(means | {"precision": (3 / 4 + 1 / 2 + 0) / 3})
    pooled = {"sensitivity": 4 / 6, "specificity": 290 / 294, "precision": 4 / 8}
    assert rows["pooled"].to_dict() == pytest.approx(pooled)


def test_detection_has_an_interval_beside_each_mean_and_rows_for_each_class_and_stage() -> None:
    table = dice.detection(pd.concat([long_table(FOUR, stage=s).assign(tn=[9, 8, 90, 95]) for s in ("raw", "post")]))
    assert table["stage"].tolist() == ["raw"] * 3 + ["post"] * 3
    assert table["measure"].tolist() == ["sensitivity", "specificity", "precision"] * 2
    assert ((table["mean_low"] < table["mean"]) & (table["mean"] < table["mean_high"])).all()


def test_what_is_not_defined_in_any_image_is_missing_and_not_0() -> None:
    rows = dice.detection(long_table([ABSENT, ABSENT])).set_index("measure")
    assert rows.loc[["sensitivity", "precision"], ["mean", "pooled"]].isna().all(axis=None)
    assert rows["n"].to_dict() == {"sensitivity": 0, "specificity": 2, "precision": 0}
    assert rows.loc["specificity", ["mean", "pooled"]].tolist() == [1, 1]


# Parts of the data, and what post-processing changes


def test_dice_by_fold_counted_by_hand() -> None:
    table = long_table([SHOWN, MISSED, (45, 5, 5), (0, 3, 0)]).assign(fold=[1, 1, 0, 0])
    again = table.iloc[:1].assign(seed=1, dice=0.6)  # counts once
    raw = table.assign(stage="raw", tp=0, fp=0, fn=1, dice=0.0)
    rows = dice.by_part(pd.concat([raw, table, again]), "fold").set_index("fold")
    assert rows.index.tolist() == [0, 1]
    assert rows["dice"].tolist() == pytest.approx([0.9, 0.7 / 2])
    assert rows[["cases", "n", "missed", "invented"]].values.tolist() == [[2, 1, 0, 1], [2, 2, 1, 0]]


def test_parts_may_be_strata_and_hold_a_row_for_each_class() -> None:
    csp = long_table(FOUR[:2]).assign(stratum=["early", "late"])
    rows = dice.by_part(pd.concat([csp, csp.assign(**{"class": "lv"})]), "stratum")
    assert rows["stratum"].tolist() == ["early", "early", "late", "late"]
    assert rows["class"].tolist() == ["csp", "lv"] * 2
    assert rows["dice"].tolist() == pytest.approx([0.9, 0.9, 0.8, 0.8])


def stages(raw: list[tuple[int, int, int]], post: list[tuple[int, int, int]], order: int = 0) -> pd.DataFrame:
    """The long table of both stages, the rows of each in another order."""
    both = [long_table(counts, stage=stage) for counts, stage in ((raw, "raw"), (post, "post"))]
    return pd.concat([table.sample(frac=1, random_state=order + place) for place, table in enumerate(both)])


@pytest.mark.parametrize("order", range(5))
def test_the_effect_of_post_processing_counted_by_hand(order: int) -> None:
    raw = [(40, 10, 10), (30, 30, 10), (20, 0, 20), (0, 5, 0), (0, 0, 9), (5, 0, 5), (8, 2, 2), (0, 5, 0)]
    post = [(40, 0, 10), (30, 10, 10), (0, 0, 40), (0, 0, 0), (0, 0, 9), (5, 0, 5), (8, 1, 2), (0, 2, 0)]
    row = dice.effect(stages(raw, post, order)).iloc[0]
    # the fourth and the last case do not show the class: what is invented there is counted, not averaged
    changes = [80 / 90 - 0.8, 60 / 80 - 0.6, 0 - 40 / 60, 0, 0, 16 / 19 - 0.8]
    assert row["change"] == pytest.approx(np.mean(changes))
    assert row["change_low"] < row["change"] < row["change_high"]
    assert (row["n"], row["better"], row["worse"]) == (6, 3, 1)
    assert (row["missed_raw"], row["missed_post"]) == (1, 2)
    assert (row["invented_raw"], row["invented_post"]) == (2, 1)


def test_the_effect_has_a_row_a_class_and_counts_a_case_of_two_seeds_once() -> None:
    one = stages([(9, 1, 1), (8, 2, 2)], [(9, 0, 1), (8, 2, 2)])
    both = pd.concat([one, one.assign(seed=1)])
    table = dice.effect(pd.concat([both, both.assign(**{"class": "lv"})]))
    assert table["class"].tolist() == ["csp", "lv"]
    assert table[["n", "better"]].values.tolist() == [[2, 2], [2, 2]]  # cases; predictions
    same = dice.effect(stages(FOUR, FOUR)).iloc[0]
    assert (same["change"], same["better"], same["worse"]) == (0, 0, 0)


# Confusion


def confusion_table(*parts: tuple[str, int, dict[str, list[int]]]) -> pd.DataFrame:
    """confusion.csv of (stage, fold, pixels by reference class)."""
    rows = [
        (fold, 0, stage, of, to, count)
        for stage, fold, pixels in parts
        for of, counts in pixels.items()
        for to, count in zip(pixels, counts)
    ]
    return pd.DataFrame(rows, columns=["fold", "seed", "stage", "reference", "predicted", "pixels"])


def test_a_confusion_of_two_folds_is_summed_and_given_in_percent_of_its_row() -> None:
    first = ("post", 0, {"background": [90, 10, 0], "head": [5, 40, 5], "csp": [0, 1, 3]})
    second = ("post", 1, {"background": [100, 0, 0], "head": [5, 40, 5], "csp": [0, 1, 3]})
    raw = ("raw", 0, {"background": [1, 1, 1], "head": [1, 1, 1], "csp": [1, 1, 1]})
    table = dice.confusion(confusion_table(raw, first, second))
    assert table["reference"].tolist() == ["background", "head", "csp"]
    assert table["pixels"].tolist() == [200, 100, 8]
    shares = table[["background_percent", "head_percent", "csp_percent"]].to_numpy(float)
    assert shares == pytest.approx(np.array([[95, 5, 0], [10, 80, 10], [0, 25, 75]]))
    assert dice.confusion(confusion_table(raw, first), "raw")["pixels"].tolist() == [3, 3, 3]


def test_shares_of_a_class_that_no_reference_shows_are_missing() -> None:
    table = dice.confusion(confusion_table(("post", 0, {"background": [8, 2], "csp": [0, 0]})))
    assert table["pixels"].tolist() == [10, 0]
    assert table.loc[1, ["background_percent", "csp_percent"]].isna().all()
