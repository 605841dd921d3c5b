from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lib import cases, datasets, evaluation, files, geometry, metrics, prediction
from lib.arrays import Arrays
from tests import builders
from tests.builders import one_thread  # noqa: F401

CPU = torch.device("cpu")
SAME = geometry.fit((32, 32), (32, 32))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return builders.tiny_study(tmp_path_factory.mktemp("study"))


def table_of(rows):
    """The long table from (case, fold, tp, fp, fn, tn)."""
    made = []
    for case, fold, *counts in rows:
        each = metrics.Overlap(*counts)
        key = {"case": case, "subject": case, "fold": fold, "seed": 0, "class": "head", "stage": "post"}
        made.append(key | vars(each) | {"dice": each.dice, "iou": each.iou})
    return pd.DataFrame(made, columns=evaluation.COLUMNS)


# Rows


def test_rows_of_two_classes_counted_by_hand():
    reference = np.array([[0, 1, 1], [0, 2, 2]], np.uint8)
    predicted = np.array([[1, 1, 1], [0, 2, 0]], np.uint8)
    rows = evaluation.class_rows(reference, predicted, ["background", "head", "csp"])
    assert list(rows) == ["head", "csp"]
    assert rows["head"] == {"tp": 2, "fp": 1, "fn": 0, "tn": 3, "dice": 4 / 5, "iou": 2 / 3}
    assert rows["csp"] == {"tp": 1, "fp": 0, "fn": 1, "tn": 4, "dice": 2 / 3, "iou": 1 / 2}


def test_a_class_in_neither_mask_has_a_row_without_dice():
    nothing = np.zeros((2, 2), np.uint8)
    row = evaluation.class_rows(nothing, nothing, ["background", "head"])["head"]
    assert (row["tp"], row["fp"], row["fn"], row["tn"]) == (0, 0, 0, 4)
    assert np.isnan(row["dice"])


# The threshold


def threshold_bench(tmp_path, foregrounds, references, monkeypatch):
    """A bench whose network says what a test wants: one foreground map a case, at network = native size."""
    names = [f"c{n}" for n in range(len(foregrounds))]
    for name, reference in zip(names, references):
        builders.save_png(tmp_path / f"{name}.png", reference.astype(np.uint8))
    table = pd.DataFrame({"case": names, "mask": [str(tmp_path / f"{name}.png") for name in names]})
    images = np.zeros((len(names), 1, 32, 32), np.uint8)
    arrays = Arrays(names, images, images[:, 0], [SAME] * len(names), "built")
    shown = np.stack([np.stack([1 - each, each]) for each in foregrounds]).astype(np.float32)
    monkeypatch.setattr(prediction, "predict", lambda *_: shown)
    dataset = replace(datasets.DATASETS["hc18"], read_mask=cases.read_pixels)
    return evaluation.Bench(table, pd.DataFrame(), arrays, dataset, tmp_path), names


def choose(tmp_path, monkeypatch, foregrounds, references, candidates):
    bench, names = threshold_bench(tmp_path, foregrounds, references, monkeypatch)
    chosen = builders.step_params("05_evaluation", threshold_candidates=candidates)
    return evaluation.choose_threshold(chosen, bench, torch.nn.Identity(), names, CPU, torch.float32)


def steps():
    """A map in columns of 0.1, 0.3, 0.45, 0.6, 0.8 (6 wide each, the last 8)."""
    return np.tile(np.repeat([0.1, 0.3, 0.45, 0.6, 0.8], [6, 6, 6, 6, 8]), (32, 1))


@pytest.mark.parametrize(("true_columns", "best"), [(26, 0.2), (20, 0.4), (14, 0.5), (8, 0.7)])
def test_the_threshold_with_the_best_dice_is_chosen(tmp_path, monkeypatch, true_columns, best):
    reference = np.zeros((32, 32), bool)
    reference[:, -true_columns:] = True
    choice = choose(tmp_path, monkeypatch, [steps()], [reference], [0.2, 0.4, 0.5, 0.7])
    assert choice == {"threshold": best, "validation_dice": 1.0, "validation_cases": 1}


def test_the_threshold_is_best_on_the_mean_over_cases(tmp_path, monkeypatch):
    wide, narrow = np.zeros((2, 32, 32), bool)
    wide[:, -26:], narrow[:, -8:] = True, True
    choice = choose(tmp_path, monkeypatch, [steps()] * 3, [wide, wide, narrow], [0.2, 0.7])
    # At 0.2: 1, 1, 16/34. At 0.7: 16/34, 16/34, 1.
    assert choice["threshold"] == 0.2
    assert choice["validation_dice"] == pytest.approx((2 + 16 / 34) / 3)


@pytest.mark.parametrize("candidates", [[0.35, 0.4, 0.44], [0.44, 0.4, 0.35]])
def test_among_equals_the_threshold_nearest_to_one_half_is_chosen(tmp_path, monkeypatch, candidates):
    reference = steps() >= 0.45
    assert choose(tmp_path, monkeypatch, [steps()], [reference], candidates)["threshold"] == 0.44


def test_without_candidates_there_is_nothing_to_choose(tmp_path, monkeypatch):
    bench, names = threshold_bench(tmp_path, [steps()], [steps() > 0.5], monkeypatch)
    chosen = builders.step_params("05_evaluation").model_copy(update={"threshold_candidates": []})
    choice = evaluation.choose_threshold(chosen, bench, torch.nn.Identity(), names, CPU, torch.float32)
    assert choice == {"threshold": None, "validation_dice": None, "validation_cases": 1}


# A whole study


def test_every_test_case_is_measured_once_for_each_stage(study):
    assert not study.measured.duplicated(["case", "class", "stage", "seed"]).any()
    expected = study.folds[study.folds["fold"].isin([0, 1])]["case"]
    assert sorted(study.measured.query("stage == 'post'")["case"]) == sorted(expected)
    assert study.measured.columns.tolist() == evaluation.COLUMNS


def test_the_small_network_finds_the_drawn_heads(study):
    assert study.measured.query("stage == 'post'")["dice"].mean() > 0.8


def test_rows_are_those_of_the_masks_that_were_written(study):
    mask_of = study.table.set_index("case")["mask"]
    for row in study.measured.to_dict("records"):
        path = evaluation.prediction_file(study.bench.folder, row["stage"], row["fold"], row["seed"], row["case"])
        with Image.open(path) as image:
            predicted = np.asarray(image)
        reference = study.bench.dataset.read_mask(files.ROOT / mask_of[row["case"]])
        expected = metrics.overlap(reference, predicted, 1)
        assert (row["tp"], row["fp"], row["fn"], row["tn"]) == tuple(vars(expected).values())
        assert row["dice"] == expected.dice


def test_the_next_fold_chose_the_threshold(study):
    sizes = study.folds["fold"].value_counts()
    assert study.choices[["fold", "seed"]].values.tolist() == [[0, 0], [1, 0]]
    assert study.choices["validation_cases"].tolist() == [sizes[1], sizes[2]]
    assert study.choices["threshold"].isin(builders.values()["threshold_candidates"]).all()


def test_the_claims_of_the_notebook_hold_for_the_study(study):
    assert evaluation.is_complete(study.measured, study.folds, [0, 1])
    assert evaluation.counts_add_up(study.measured, study.table)
    assert evaluation.dice_and_iou_agree(study.measured)


def test_the_rival_s_dice_has_an_interval_and_a_count(study):
    names = sorted(set(study.measured["case"]))
    row = evaluation.baselines(study.bench, names, ["background", "head"]).iloc[0]
    assert row["n"] == len(names)
    assert 0 <= row["dice_low"] <= row["dice"] <= row["dice_high"] <= 1


def test_pictures_show_reference_and_prediction_of_the_same_case(study):
    rows = evaluation.ranked(study.measured).head(2)
    for row, shown in zip(rows.to_dict("records"), evaluation.overlays(study.bench, rows)):
        reference, predicted = vars(shown)["reference"], vars(shown)["predicted"]
        assert metrics.overlap(reference, predicted, 1).dice == pytest.approx(row["dice"])


def test_the_probability_map_cut_at_the_chosen_threshold_is_the_raw_mask(study):
    row = study.measured.query("stage == 'raw'").iloc[0]
    chosen = builders.step_params("05_evaluation", device="cpu", precision="float32")
    shown = evaluation.probability_map(chosen, study.bench, study.trainings, row)
    threshold = study.choices.set_index("fold").loc[row["fold"], "threshold"]
    path = evaluation.prediction_file(study.bench.folder, "raw", row["fold"], row["seed"], row["case"])
    differ = (shown >= threshold) != (cases.read_pixels(path) == 1)
    assert differ.mean() < 1e-3  # a batch of one takes other kernels: the last digits differ


def test_a_mask_of_another_size_than_when_preprocessed_is_refused(study, tmp_path):
    path = builders.save_png(tmp_path / "other.png", builders.outline_of(builders.Head("a", shape=(70, 90))))
    case = study.table["case"].iloc[1]
    with pytest.raises(ValueError, match=r"other\.png: \(70, 90\) now, \(60, 90\) when preprocessed; run the study"):
        evaluation.read_reference(study.bench, case, str(path))


# Ranking


def test_cases_are_ranked_from_worst_to_best_and_absent_ones_left_out():
    table = table_of([("a", 0, 9, 1, 0, 0), ("b", 0, 1, 9, 0, 0), ("c", 0, 0, 0, 0, 10), ("d", 0, 1, 9, 0, 0)])
    assert evaluation.ranked(table)["case"].tolist() == ["b", "d", "a"]


def test_a_case_is_ranked_by_its_lowest_class():
    table = table_of([("a", 0, 9, 1, 0, 0), ("b", 0, 8, 2, 0, 0)])
    small = table_of([("a", 0, 1, 9, 0, 0), ("b", 0, 0, 0, 0, 10)]).assign(**{"class": "csp"})
    rows = evaluation.ranked(pd.concat([table, small], ignore_index=True))
    assert list(zip(rows["case"], rows["class"])) == [("a", "csp"), ("b", "head")]


@pytest.mark.parametrize(("count", "middle"), [(1, ["c"]), (3, ["b", "c", "d"]), (9, list("abcde"))])
def test_the_middle_of_a_ranking(count, middle):
    rows = pd.DataFrame({"case": list("abcde")})
    assert evaluation.around_median(rows, count)["case"].tolist() == middle


# Claims that must fail


FOLDS = pd.DataFrame({"case": list("abc"), "fold": [0, 0, 1]})
MANIFEST = pd.DataFrame({"case": list("abc"), "height": [2, 2, 3], "width": [5, 5, 4]})
SOUND = [("a", 0, 4, 2, 1, 3), ("b", 0, 0, 0, 0, 10), ("c", 1, 5, 5, 2, 0)]


def test_a_complete_table_is_complete():
    assert evaluation.is_complete(table_of(SOUND), FOLDS, [0, 1])
    assert evaluation.is_complete(table_of(SOUND[:2]), FOLDS, [0])


@pytest.mark.parametrize(
    "rows",
    [SOUND[:2], [*SOUND, ("d", 1, 1, 1, 1, 1)], [*SOUND[:2], ("c", 0, 5, 5, 2, 0)], [*SOUND, ("a", 1, 4, 2, 1, 3)]],
    ids=["a case is missing", "one is too many", "one is in another fold", "one is tested twice"],
)
def test_an_incomplete_table_is_found(rows):
    assert not evaluation.is_complete(table_of(rows), FOLDS, [0, 1])


def test_a_case_of_an_untested_fold_is_found():
    assert not evaluation.is_complete(table_of(SOUND), FOLDS, [0])


@pytest.mark.parametrize("column", ["tp", "fp", "fn", "tn"])
def test_a_lost_pixel_is_found(column):
    table = table_of(SOUND)
    assert evaluation.counts_add_up(table, MANIFEST)
    table.loc[2, column] += 1
    assert not evaluation.counts_add_up(table, MANIFEST)


def test_a_dice_that_does_not_follow_from_iou_is_found():
    table = table_of(SOUND)
    assert evaluation.dice_and_iou_agree(table)
    table.loc[0, "dice"] += 1e-6
    assert not evaluation.dice_and_iou_agree(table)
