from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.datasets import samples
from lib.evaluation import biometry, failures, ranking
from lib.imaging import mask_files
from tests import builders
from tests.builders_figures import line_errors, measured, overlap_rows

UNKNOWN = float("nan")
FOUND = pd.DataFrame({"case": ["c1", "c1", "c1", "set"], "check": ["b", "a", "b", "c"]})


def manifest(count: int, **columns: object) -> pd.DataFrame:
    """Cases c0, c1, … in one group without a pixel size or HC."""
    unknown = dict.fromkeys(["spacing_row_mm", "spacing_col_mm", "spacing_slice_mm", "hc_mm"], UNKNOWN)
    return pd.DataFrame({"case": [f"c{n}" for n in range(count)], "stratum": ""} | unknown | columns)


def structures(shares: dict[str, list[float]]) -> pd.DataFrame:
    """References by class, of contrast -0.1, -0.2, … and 10 % from the frame where the share is above 0."""
    rows = [
        {"case": f"c{n}", "class": name, "share_percent": share, "contrast": -0.1 * (n + 1), "gap_percent": 10.0}
        for name, each in shares.items()
        for n, share in enumerate(each)
    ]
    table = pd.DataFrame(rows).reindex(columns=failures.STRUCTURE_COLUMNS)
    table.loc[table["share_percent"] == 0, ["contrast", "gap_percent"]] = UNKNOWN
    return table


def test_a_mask_fails_if_its_dice_is_low_or_it_is_missed_or_invented():
    rows = overlap_rows([(7, 3, 3), (6, 3, 3), (0, 0, 5), (0, 5, 0), (0, 0, 0), (0, 5, 5), (9, 1, 1)])
    table = failures.scores(pd.concat([rows, rows.assign(stage="raw", dice=0.1)]))
    assert dict(zip(table["case"], table["kind"])) == {
        **{"c2": "missed", "c3": "invented", "c5": "low Dice", "c1": "low Dice", "c0": "", "c6": "", "c4": ""}
    }  # the limit itself, 0.7, is no failure, nor is a class that is rightly absent
    assert table["result"].tolist() == [
        "CSP missed",
        "CSP invented",
        "CSP 0.000",
        "CSP 0.667",
        "CSP 0.700",
        "CSP 0.900",
        "CSP absent",
    ]
    assert table["score"].isna().tolist() == [False] * 6 + [True]


def test_a_line_fails_by_a_gross_error_or_if_it_is_missed_and_baselines_are_left_out():
    errors = pd.concat([line_errors([5.0, 5.1, UNKNOWN]), line_errors([40.0] * 3, route="mean shape")])
    table = failures.scores(errors)
    assert table["case"].tolist() == ["c2", "c1", "c0"]
    assert table["kind"].tolist() == ["missed", "gross error", ""]
    assert table["result"].tolist() == ["OFD missed", "OFD 5.1 %", "OFD 5.0 %"]


def test_a_measurement_fails_in_percent_of_its_reference_and_keeps_its_sign():
    heads = measured(3)
    is_hc = heads["quantity"].eq("hc") & (heads["route"] != "baseline") & (heads["stage"] == "post")
    heads.loc[is_hc & (heads["case"] == "c0"), "predicted_mm"] = 94.0  # of 100
    heads.loc[is_hc & (heads["case"] == "c1"), "predicted_mm"] = UNKNOWN
    heads.loc[heads["case"] == "c2", "reference_mm"] = UNKNOWN
    table = failures.scores(heads.assign(subject="s", fold=0))
    assert set(table["case"]) == {"c0", "c1"}
    assert table["result"].head(2).tolist() == ["HC not measured", "HC −6.0 %"]
    assert table["kind"].tolist() == ["not measured", "gross error", "", "", "", ""]


def test_every_failure_is_listed_once_with_all_that_failed_and_the_worst_if_few_failed():
    low, good = [(1, 9, 9)] * 4, [(90, n, 0) for n in range(16)]
    csp = overlap_rows(low + good)
    lv = csp.assign(**{"class": "lv", "tp": 0, "fn": 0, "fp": 3, "dice": 0.0})[csp["case"].isin(["c1", "c19"])]
    other_seed = csp[csp["case"] == "c4"].assign(seed=1, dice=0.2)
    table = failures.listed(pd.concat([csp, lv, other_seed]))
    assert table["case"].tolist() == ["c1", "c19", "c0", "c2", "c3", "c4"]  # a quarter of 20 is 5: all failed
    assert table.set_index("case")["result"].loc[["c1", "c4"]].tolist() == ["LV invented, CSP 0.100", "CSP 0.200"]
    assert table.set_index("case").loc["c4", "seed"] == 1
    table = failures.listed(overlap_rows(good))
    assert table["case"].tolist() == ["c15", "c14", "c13", "c12"]
    assert set(table["kind"]) == {failures.NOT_FAILED}
    assert len(failures.listed(overlap_rows(good * 5))) == failures.WORST
    bad = low[:1]
    assert len(failures.listed(overlap_rows(bad * 4 + good * 5))) == failures.WORST
    assert len(failures.listed(overlap_rows(bad * 5 + good * 5))) == 5  # enough to tell of causes
    assert len(failures.listed(overlap_rows(good[:1]))) == 1
    empty = [(0, 0, 0)] * 30
    assert failures.listed(overlap_rows([*empty, (9, 1, 0)]))["case"].tolist() == ["c30"]  # nothing else is to be seen
    assert len(failures.listed(overlap_rows(good + empty))) == 12  # a quarter of all 46 cases


def test_of_several_structures_the_smallest_faintest_and_nearest_count_and_absent_ones_are_named():
    long = overlap_rows([(5, 1, 0)] * 3)
    about = structures({"csp": [4.0, 2.0, 0.0], "lv": [3.0, 5.0, 0.0], failures.WHOLE: [7.0, 7.0, 0.0]})
    about.loc[0, ["contrast", "gap_percent"]] = 0.05, 1.0
    table = failures.properties(long, about, manifest(3, stratum=["a x", "b", ""], spacing_row_mm=0.2), FOUND)
    assert table.columns.tolist() == failures.PROPERTY_COLUMNS
    assert table["share_percent"].tolist() == pytest.approx([3, 2, UNKNOWN], nan_ok=True)
    assert table["contrast"].tolist() == pytest.approx([0.05, 0.2, UNKNOWN], nan_ok=True)
    assert table["gap_percent"].tolist() == pytest.approx([1, 10, UNKNOWN], nan_ok=True)
    assert table[["group", "lacking", "findings"]].values.tolist() == [
        ["a", "", ""],
        ["b", "", "b; a"],
        ["all", "csp; lv", ""],  # an empty reference has no property to measure
    ]
    assert table[["spacing_mm", "hc_mm"]].isna().all(axis=None)  # the size along one axis is unknown
    whole = failures.properties(line_errors([1.0] * 3), about, manifest(3), FOUND)
    assert whole["share_percent"].tolist() == pytest.approx([7, 7, UNKNOWN], nan_ok=True)
    assert set(whole["lacking"]) == {""}


def test_a_failure_is_joined_with_the_structure_that_failed():
    long = overlap_rows([(5, 1, 0), (0, 9, 0)])
    about = structures({"csp": [4.0, 0.0], failures.WHOLE: [7.0, 7.0]})
    known = failures.properties(long, about, manifest(2, hc_mm=[100.0, 200.0]), FOUND)
    table = failures.failures(long, known, about)
    assert table.columns.tolist() == failures.FAILURE_COLUMNS
    assert table.loc[0, ["case", "result", "share_percent", "hc_mm"]].tolist() == ["c1", "CSP invented", 0, 200]
    assert (np.isnan(table.loc[0, "contrast"]), table.loc[0, "lacking"], table.loc[0, "findings"]) == (
        True,
        "csp",
        "b; a",
    )
    with pytest.raises(KeyError, match="c1"):
        failures.properties(long, about, manifest(1), FOUND)


@pytest.mark.parametrize("long", [overlap_rows([(0, 0, 0)] * 2), pd.DataFrame(columns=biometry.COLUMNS)])
def test_without_anything_to_judge_nothing_is_listed(long):
    about = structures({"csp": [0.0, 0.0]})
    known = failures.properties(long, about, manifest(2), FOUND)
    table = failures.failures(long, known, about)
    assert (len(known), len(table)) == (2 * ("dice" in long), 0)
    assert table.columns.tolist() == failures.FAILURE_COLUMNS


@pytest.fixture
def bench(tmp_path):
    """Two cases of 32 x 32 pixels: a square predicted without a corner, and invented; class lv is one pixel."""
    reference, predicted, empty = (np.zeros((32, 32), np.uint8) for _ in range(3))
    reference[10:20, 10:20] = predicted[10:20, 10:20] = 1
    predicted[14:20, 14:20], reference[0, 0] = 0, 2
    made = builders.image_bench(tmp_path, [reference / 4, empty], [reference, empty], spacing_mm=0.5)
    made = replace(made, dataset=replace(made.dataset, classes=("background", "csp", "lv")))
    for name, mask in (("c0", predicted), ("c1", predicted)):
        mask_files.write(made.predicted("post", 0, 0, name), mask, made.dataset.classes)
    return made


def test_structures_are_measured_on_reference_and_image(bench):
    table = failures.structures_of(bench, ["c0", "c1"]).set_index(["case", "class"])
    csp = table.loc[("c0", "csp")]
    assert csp[["share_percent", "area_mm2", "gap_percent"]].tolist() == pytest.approx([100 / 10.24, 25.0, 1000 / 32])
    assert csp["contrast"] == 1.0  # around the square, the image is black
    assert table.loc[("c0", failures.WHOLE), "gap_percent"] == 0
    absent = table.loc[("c1", "csp")]
    assert absent["share_percent"] == 0
    assert absent.drop("share_percent").isna().all()
    unknown = replace(bench, cases=bench.cases.assign(spacing_row_mm=UNKNOWN))
    assert failures.structures_of(unknown, ["c0"])["area_mm2"].isna().all()


def test_size_of_a_lesion_is_its_volume(tmp_path):
    bench = builders.volume_bench(tmp_path)
    rows = bench.rows(bench.cases["case"].tolist())
    table = failures.structures_of(bench, bench.cases["case"].tolist()).set_index(["case", "class"])
    for row in rows:
        reference = samples.read_mask(bench.dataset, row) > 0
        assert table.loc[(row["case"], "lesion"), "share_percent"] == pytest.approx(100 * reference.mean())
    assert table[["area_mm2", "volume_ml"]].isna().all(axis=None)  # not published
    described = failures.describe(
        np.zeros((2, 9, 9), np.uint8),
        np.ones((2, 9, 9), bool),
        {"spacing_row_mm": 0.5, "spacing_col_mm": 2.0, "spacing_slice_mm": 10.0},
    )
    assert described["volume_ml"] == pytest.approx(162 * 10 / 1000)


def test_close_ups_of_masks_contain_the_error_of_the_class_or_head(bench):
    rows = pd.DataFrame(
        {"case": ["c0", "c1"], "fold": 0, "seed": 0, "item": "csp", "result": ["CSP 0.8", "CSP invented"]}
    )
    first, second = failures.mask_close_ups(bench, rows)
    assert (first.name, first.note, first.spacing_mm) == ("c0", "CSP 0.8", (0.5, 0.5))
    assert first.image.shape == first.reference.shape == first.predicted.shape == (24, 24)  # four times the error
    assert np.count_nonzero(first.reference != first.predicted) == 36
    assert second.reference.sum() == 0 < second.predicted.sum()
    several = rows.head(1).assign(result="BPD +8.7 %, HC +6.5 %, OFD +6.7 %, the roof of the lateral ventricle 0.12")
    (wide,) = failures.mask_close_ups(bench, several)  # broken between results, or in one that is wider than the image
    assert wide.note.split("\n") == ["BPD +8.7 %, HC +6.5 %,", "OFD +6.7 %, the roof of", "the lateral ventricle 0.12"]
    (head,) = failures.mask_close_ups(bench, rows.head(1), ["csp", "lv"])
    assert head.reference.max() == 1
    reference = bench.dataset.read_mask([bench.folder.parent / "c0.png"])
    mask_files.write(bench.predicted("post", 0, 0, "c0"), reference, bench.dataset.classes)
    (same,) = failures.mask_close_ups(bench, rows.head(1))  # a case can be among the worst without an error
    assert same.reference.any()
    assert np.array_equal(same.reference, same.predicted)


def test_a_result_in_words():
    counts = ((0, 2, 0), (0, 0, 2), (1, 1, 1), (0, 0, 0))
    words = [{"class": "lv", "tp": tp, "fp": fp, "fn": fn, "dice": 0.5} for tp, fp, fn in counts]
    assert [ranking.mask_result(row) for row in words] == ["LV invented", "LV missed", "LV 0.500", "LV absent"]
    assert ranking.mask_result(words[0] | {"class": "lesion"}) == "lesion invented"


def test_a_close_up_of_a_line_contains_its_farther_endpoint_or_the_whole_line_if_it_is_missed():
    reference = np.array([[50.0, 20], [50, 180], [10, 100], [90, 100]])
    predicted = reference[[1, 0, 3, 2]].copy()  # the order of endpoints is of no importance
    predicted[1] += (0, 6)
    whole = samples.Overlay("a", np.zeros((100, 200), np.uint8), reference, predicted, None, "OFD")
    near = failures._line_close_up(whole, "ofd")
    assert near.image.shape == (33, 33)
    assert ((near.predicted[1] >= 0) & (near.predicted[1] < 33)).all()
    assert near.reference[0] - near.predicted[1] == pytest.approx([0, -6])
    predicted[2] = UNKNOWN
    missed = failures._line_close_up(whole, "bpd")
    assert ((missed.reference[2:] >= 0) & (missed.reference[2:] < missed.image.shape)).all()
