from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.report.summaries import dice
from lib.study import files
from tests.builders_figures import overlap_rows

FOUR = [(9, 1, 1), (8, 2, 2), (5, 5, 5), (9, 0, 2)]
POSITIVE, MISSED, INVENTED, ABSENT = (40, 10, 10), (0, 0, 50), (0, 30, 0), (0, 0, 0)


def test_a_miss_counts_as_0_and_absent_and_invented_cases_are_counted_separately() -> None:
    row = dice.per_class(overlap_rows([POSITIVE, MISSED, INVENTED, ABSENT])).iloc[0]
    assert row["n"] == 2
    assert row["dice"] == pytest.approx((0.8 + 0) / 2)
    assert row["iou"] == pytest.approx((40 / 60 + 0) / 2)
    assert (row["dice_median"], row["dice_min"]) == (pytest.approx(0.4), 0)
    assert (row["absent"], row["missed"], row["no_overlap"], row["invented"]) == (1, 1, 1, 1)
    assert row["pooled_dice"] == pytest.approx(80 / (80 + 40 + 60))  # invented pixels count here
    none = dice.per_class(overlap_rows([INVENTED, ABSENT])).iloc[0]
    assert (none["n"], none["invented"], none["absent"]) == (0, 1, 1)
    assert np.isnan([none["dice"], dice.per_class(overlap_rows([ABSENT])).iloc[0]["pooled_dice"]]).all()
    several, few = (dice.per_class(overlap_rows(counts)).iloc[0] for counts in (FOUR * 4, FOUR[:2]))
    for name in ("dice", "dice_median", "iou"):
        assert several[f"{name}_low"] < several[name] < several[f"{name}_high"]
        assert np.isnan([few[f"{name}_low"], few[f"{name}_high"]]).all()
    assert few[["dice_least", "dice_largest"]].tolist() == pytest.approx([0.8, 0.9])


def test_rows_are_by_class_and_stage_and_each_of_two_seeds_has_its_own() -> None:
    raw, post = (overlap_rows(FOUR[:1], stage=stage) for stage in ("raw", "post"))
    table = dice.per_class(pd.concat([raw, post, raw.assign(**{"class": "lv"})]))
    assert table[["class", "stage"]].values.tolist() == [["csp", "raw"], ["csp", "post"], ["lv", "raw"]]
    one = overlap_rows(FOUR[:2])
    assert "seeds" not in dice.per_class(one)
    both = dice.per_class(pd.concat([one, overlap_rows([(7, 3, 3), (8, 2, 2)], seed=1)]))
    assert both["seeds"].tolist() == ["all", "0", "1"]
    assert both["n"].tolist() == [2, 2, 2]
    assert both["dice"].tolist() == pytest.approx([0.8, 0.85, 0.75])
    assert both["dice_min"].tolist() == pytest.approx([0.8, 0.8, 0.7])  # of cases, seeds averaged


def test_a_missing_dice_is_not_counted_by_n_and_a_row_without_a_subject_raises() -> None:
    lost = overlap_rows([(9, 1, 1), (8, 2, 2), ABSENT, INVENTED]).assign(dice=[0.9, np.nan, np.nan, 0.0])
    table = dice.per_class(lost)
    assert (table["n"].item(), table["dice"].item()) == (1, 0.9)
    assert not dice.holds_all_cases(table, lost)
    with pytest.raises(ValueError, match="2 of 4 values have no subject"):
        dice.per_class(overlap_rows(FOUR).assign(subject=["a", "b", None, None]))


@pytest.mark.parametrize("seeds", [1, 2])
def test_every_row_of_the_long_table_is_in_n_absent_or_invented(seeds: int) -> None:
    counts = [POSITIVE, MISSED, INVENTED, ABSENT]
    long = pd.concat([overlap_rows(counts, seed, stage) for seed in range(seeds) for stage in ("raw", "post")])
    table = dice.per_class(long)
    assert dice.holds_all_cases(table, long)
    single = table if seeds == 1 else table[table["seeds"] != "all"]
    assert single[["n", "absent", "invented"]].sum().sum() == len(long)
    for case in ("c1", "c3"):
        assert not dice.holds_all_cases(dice.per_class(long[long["case"] != case]), long)


@pytest.mark.parametrize("name", ["nan", "NA", "None", "null", "N/A", "#N/A", "n/a", "NULL"])
def test_a_class_and_a_subject_may_have_any_name_and_no_row_is_lost_on_disk(name: str, tmp_path: Path) -> None:
    long = overlap_rows([(9, 1, 1), (8, 2, 2), (1, 9, 9), (2, 9, 9)]).assign(subject=["a", "b", name, name])
    long["class"] = name
    files.write_csv(tmp_path / "cases.csv", long)
    again = files.read_csv(tmp_path / "cases.csv", ["case"])
    pd.testing.assert_frame_equal(again, long)
    row = dice.per_class(again).iloc[0]
    assert (row["class"], row["n"]) == (name, 4)
    assert row["dice"] == pytest.approx((0.9 + 0.8 + 0.1 + 4 / 22) / 4)
    assert row["dice_subjects"] == 3


def test_detection_of_three_images_counted_by_hand() -> None:
    # sensitivity 3/4, 1/2, -; specificity 95/96, 97/98, 98/100; precision 3/4, 1/2, 0/2; means over defined values
    table = overlap_rows([(3, 1, 1), (1, 1, 1), (0, 2, 0)]).assign(tn=[95, 97, 98])
    rows = dice.detection(table).set_index("measure")
    assert (set(rows["class"]), set(rows["stage"])) == ({"csp"}, {"post"})
    assert rows["n"].to_dict() == {"sensitivity": 2, "specificity": 3, "precision": 3}
    means = {"sensitivity": (3 / 4 + 1 / 2) / 2, "specificity": (95 / 96 + 97 / 98 + 98 / 100) / 3}
    assert rows["mean"].to_dict() == pytest.approx(means | {"precision": (3 / 4 + 1 / 2 + 0) / 3})
    pooled = {"sensitivity": 4 / 6, "specificity": 290 / 294, "precision": 4 / 8}
    assert rows["pooled"].to_dict() == pytest.approx(pooled)
    # a measure that is defined in no image is missing, not 0
    rows = dice.detection(overlap_rows([ABSENT, ABSENT])).set_index("measure")
    assert rows.loc[["sensitivity", "precision"], ["mean", "pooled"]].isna().all(axis=None)
    assert rows["n"].to_dict() == {"sensitivity": 0, "specificity": 2, "precision": 0}
    assert rows.loc["specificity", ["mean", "pooled"]].tolist() == [1, 1]
    table = dice.detection(
        pd.concat([overlap_rows(FOUR * 4, stage=s).assign(tn=[9, 8, 90, 95] * 4) for s in ("raw", "post")])
    )
    assert table["stage"].tolist() == ["raw"] * 3 + ["post"] * 3
    assert table["measure"].tolist() == ["sensitivity", "specificity", "precision"] * 2
    assert ((table["mean_low"] < table["mean"]) & (table["mean"] < table["mean_high"])).all()


def test_dice_by_fold_counted_by_hand() -> None:
    table = overlap_rows([POSITIVE, MISSED, (45, 5, 5), (0, 3, 0)]).assign(fold=[1, 1, 0, 0])
    again = table.iloc[:1].assign(seed=1, dice=0.6)  # counts once
    raw = table.assign(stage="raw", tp=0, fp=0, fn=1, dice=0.0)
    rows = dice.by_part(pd.concat([raw, table, again]), "fold").set_index("fold")
    assert rows.index.tolist() == [0, 1]
    assert rows["dice"].tolist() == pytest.approx([0.9, 0.7 / 2])
    assert rows[["cases", "n", "missed", "invented"]].values.tolist() == [[2, 1, 0, 1], [2, 2, 1, 0]]
    assert dice.by_part(table.assign(fold=[1, 1, 0, np.nan]), "fold")["cases"].tolist() == [1, 2, 1]  # none is lost
    # parts may be strata, with one row per class
    csp = overlap_rows(FOUR[:2]).assign(stratum=["early", "late"])
    rows = dice.by_part(pd.concat([csp, csp.assign(**{"class": "lv"})]), "stratum")
    assert rows["stratum"].tolist() == ["early", "early", "late", "late"]
    assert rows["class"].tolist() == ["csp", "lv"] * 2
    assert rows["dice"].tolist() == pytest.approx([0.9, 0.9, 0.8, 0.8])


def stages(raw: list[tuple[int, int, int]], post: list[tuple[int, int, int]], order: int = 0) -> pd.DataFrame:
    """The long table of both stages, with shuffled rows."""
    both = [overlap_rows(counts, stage=stage) for counts, stage in ((raw, "raw"), (post, "post"))]
    return pd.concat([table.sample(frac=1, random_state=order + place) for place, table in enumerate(both)])


@pytest.mark.parametrize("order", range(3))
def test_the_effect_of_post_processing_counted_by_hand(order: int) -> None:
    raw = [(40, 10, 10), (30, 30, 10), (20, 0, 20), (0, 5, 0), (0, 0, 9), (5, 0, 5), (8, 2, 2), (0, 5, 0)]
    post = [(40, 0, 10), (30, 10, 10), (0, 0, 40), (0, 0, 0), (0, 0, 9), (5, 0, 5), (8, 1, 2), (0, 2, 0)]
    row = dice.effect(stages(raw, post, order)).iloc[0]
    # the references of the fourth and the last case lack the class: inventions there are counted, not averaged
    changes = [80 / 90 - 0.8, 60 / 80 - 0.6, 0 - 40 / 60, 0, 0, 16 / 19 - 0.8]
    assert row["change"] == pytest.approx(np.mean(changes))
    assert row[["change_least", "change_largest"]].tolist() == pytest.approx([min(changes), max(changes)])
    assert (row["n"], row["better"], row["worse"]) == (6, 3, 1)
    assert (row["missed_raw"], row["missed_post"]) == (1, 2)
    assert (row["invented_raw"], row["invented_post"]) == (2, 1)
    # one row per class; a case of two seeds counts once
    one = stages([(9, 1, 1), (8, 2, 2)], [(9, 0, 1), (8, 2, 2)])
    both = pd.concat([one, one.assign(seed=1)])
    table = dice.effect(pd.concat([both, both.assign(**{"class": "lv"})]))
    assert table["class"].tolist() == ["csp", "lv"]
    assert table[["n", "better"]].values.tolist() == [[2, 2], [2, 2]]  # cases; predictions
    same = dice.effect(stages(FOUR, FOUR)).iloc[0]
    assert (same["change"], same["better"], same["worse"]) == (0, 0, 0)


def confusion_table(*parts: tuple[str, int, dict[str, list[int]]]) -> pd.DataFrame:
    """confusion.csv of (stage, fold, pixels by reference class)."""
    rows = []
    for stage, fold, pixels in parts:
        for of, counts in pixels.items():
            rows += [(fold, 0, stage, of, to, count) for to, count in zip(pixels, counts)]
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
    # shares of a class that no reference contains are missing
    table = dice.confusion(confusion_table(("post", 0, {"background": [8, 2], "csp": [0, 0]})))
    assert table["pixels"].tolist() == [10, 0]
    assert table.loc[1, ["background_percent", "csp_percent"]].isna().all()
