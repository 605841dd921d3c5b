from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import ndimage

from lib import cases, datasets, evaluation, geometry, metrics, models, prediction, tables
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
    rows = evaluation.class_rows(metrics.confusion(reference, predicted, 3), ["background", "head", "csp"])
    assert list(rows) == ["head", "csp"]
    assert rows["head"] == {"tp": 2, "fp": 1, "fn": 0, "tn": 3, "dice": 4 / 5, "iou": 2 / 3}
    assert rows["csp"] == {"tp": 1, "fp": 0, "fn": 1, "tn": 4, "dice": 2 / 3, "iou": 1 / 2}


def test_a_class_in_neither_mask_has_a_row_without_dice():
    row = evaluation.class_rows(np.array([[4, 0], [0, 0]]), ["background", "head"])["head"]
    assert (row["tp"], row["fp"], row["fn"], row["tn"]) == (0, 0, 0, 4)
    assert np.isnan(row["dice"])


def test_a_confusion_becomes_a_row_a_pair_of_classes():
    pooled = {"raw": np.array([[5, 1], [2, 3]]), "post": np.array([[6, 0], [2, 3]])}
    rows = evaluation.confusion_rows(pooled, ["background", "head"], fold=1, seed=7)
    assert rows.columns.tolist() == evaluation.CONFUSION_COLUMNS
    assert rows.values.tolist() == [
        [1, 7, "raw", "background", "background", 5],
        [1, 7, "raw", "background", "head", 1],
        [1, 7, "raw", "head", "background", 2],
        [1, 7, "raw", "head", "head", 3],
        [1, 7, "post", "background", "background", 6],
        [1, 7, "post", "background", "head", 0],
        [1, 7, "post", "head", "background", 2],
        [1, 7, "post", "head", "head", 3],
    ]


@pytest.mark.parametrize(
    ("reference", "predicted", "expected"),
    [
        ([1, 1, 0, 0], [1, 0, 0, 0], 2 / 3),
        ([1, 1, 0, 0], [0, 0, 0, 0], 0),  # a miss
        ([0, 0, 0, 0], [0, 1, 0, 0], 0),  # a false alarm
        ([0, 0, 0, 0], [0, 0, 0, 0], 1),  # rightly nothing
        ([2, 1, 0, 0], [1, 2, 0, 0], 1),  # foreground is any class
    ],
    ids=str,
)
def test_the_score_of_a_case_counted_by_hand(reference, predicted, expected):
    found = evaluation.score(np.array([reference], np.uint8), np.array([predicted], np.uint8))
    assert found == pytest.approx(expected)


# The threshold


@pytest.fixture
def bench_of(tmp_path, monkeypatch):
    """Makes a bench whose network says what a test wants: its foreground probability is the image itself.

    Images and references are (32, 32) at network and native size; two cases in turn to each of some folds.
    """
    monkeypatch.setattr(
        prediction, "predict", lambda _, images, *__: np.concatenate([255.0 - images, images], axis=1) / np.float32(255)
    )
    monkeypatch.setattr(models, "load", lambda _: torch.nn.Identity())

    def make(foregrounds, references, spacing_mm=np.nan, folds=3):
        names = [f"c{n}" for n in range(len(foregrounds))]
        images = np.stack([np.rint(255 * each).astype(np.uint8) for each in foregrounds])[:, None]
        masks = np.stack(references).astype(np.uint8)
        for name, image, mask in zip(names, images, masks):
            builders.save_png(tmp_path / f"{name}.png", mask)
            builders.save_png(tmp_path / f"{name}_image.png", image[0])
        table = pd.DataFrame({"case": names, "subject": names, "spacing_row_mm": spacing_mm}).assign(
            image=[str(tmp_path / f"{name}_image.png") for name in names],
            mask=[str(tmp_path / f"{name}.png") for name in names],
            spacing_col_mm=spacing_mm,
            height=32,
            width=32,
        )
        dealt = table[["case", "subject"]].assign(fold_group=names, fold=[n // 2 % folds for n in range(len(names))])
        arrays = Arrays(names, images, masks, [SAME] * len(names), "built")
        dataset = replace(datasets.DATASETS["hc18"], read_mask=lambda paths: cases.read_pixels(*paths))
        return evaluation.Bench(table, dealt, arrays, dataset, tmp_path / "05_evaluation")

    return make


def choose(bench, candidates, *steps):
    chosen = builders.step_params("05_evaluation", threshold_candidates=candidates, postprocessing=list(steps))
    names = bench.table["case"].tolist()
    return evaluation.choose_threshold(chosen, bench, torch.nn.Identity(), names, CPU, torch.float32)


def steps():
    """A map in columns of 0.1, 0.3, 0.45, 0.6, 0.8 (6 wide each, the last 8)."""
    return np.tile(np.repeat([0.1, 0.3, 0.45, 0.6, 0.8], [6, 6, 6, 6, 8]), (32, 1))


def last_columns(count):
    region = np.zeros((32, 32), bool)
    region[:, 32 - count :] = True
    return region


NOTHING = np.zeros((32, 32), bool)


@pytest.mark.parametrize(("true_columns", "best"), [(26, 0.2), (20, 0.4), (14, 0.5), (8, 0.7)])
def test_the_threshold_with_the_best_dice_is_chosen(bench_of, true_columns, best):
    choice = choose(bench_of([steps()], [last_columns(true_columns)]), [0.2, 0.4, 0.5, 0.7])
    assert choice == {"threshold": best, "validation_score": 1.0, "validation_cases": 1}


def test_the_threshold_is_best_on_the_mean_over_cases(bench_of):
    wide, narrow = last_columns(26), last_columns(8)
    choice = choose(bench_of([steps()] * 3, [wide, wide, narrow]), [0.2, 0.7])
    # At 0.2: 1, 1, 16/34. At 0.7: 16/34, 16/34, 1.
    assert choice["threshold"] == 0.2
    assert choice["validation_score"] == pytest.approx((2 + 16 / 34) / 3)


@pytest.mark.parametrize("candidates", [[0.35, 0.4, 0.44], [0.44, 0.4, 0.35]])
def test_among_equals_the_threshold_nearest_to_one_half_is_chosen(bench_of, candidates):
    assert choose(bench_of([steps()], [last_columns(20)]), candidates)["threshold"] == 0.44


def test_without_candidates_there_is_nothing_to_choose(bench_of):
    bench = bench_of([steps()], [last_columns(14)])
    chosen = builders.step_params("05_evaluation").model_copy(update={"threshold_candidates": []})
    choice = evaluation.choose_threshold(chosen, bench, torch.nn.Identity(), ["c0"], CPU, torch.float32)
    assert choice == {"threshold": None, "validation_score": None, "validation_cases": 1}


def test_a_false_alarm_on_an_empty_reference_counts_against_a_threshold(bench_of):
    faint = 0.35 * last_columns(5)  # something where nothing is: a false alarm up to 0.35
    bench = bench_of([steps(), faint], [last_columns(26), NOTHING])
    # At 0.2: 1 and 0. At 0.4: 40/46 and 1.
    choice = choose(bench, [0.2, 0.4])
    assert choice == {
        "threshold": 0.4,
        "validation_score": pytest.approx((40 / 46 + 1) / 2),
        "validation_cases": 2,
    }


def test_a_miss_counts_against_a_threshold(bench_of):
    bench = bench_of([steps(), 0.35 * last_columns(5)], [last_columns(14), last_columns(5)])
    # At 0.25: 28/40 and 1. At 0.5: 1 and a miss.
    choice = choose(bench, [0.25, 0.5])
    assert (choice["threshold"], choice["validation_score"]) == (0.25, pytest.approx((28 / 40 + 1) / 2))


def test_validation_cases_that_all_show_nothing_still_have_a_score(bench_of):
    faint = 0.35 * last_columns(5)
    choice = choose(bench_of([faint, faint], [NOTHING, NOTHING]), [0.2, 0.3, 0.4])
    assert choice == {"threshold": 0.4, "validation_score": 1.0, "validation_cases": 2}


def test_the_threshold_is_chosen_after_post_processing(bench_of):
    shown = steps()
    shown[:, 6:12] = 0.1
    shown[:8, 1:5] = 0.45  # a spot apart from the region, gone with largest_component
    bench = bench_of([shown], [last_columns(20)])
    raw, post = choose(bench, [0.4, 0.7]), choose(bench, [0.4, 0.7], "largest_component")
    assert raw["validation_score"] == pytest.approx(2 * 640 / (2 * 640 + 32))
    assert post["validation_score"] == 1


# Stages


def stages_of(bench, foreground, **keys):
    chosen = builders.step_params("05_evaluation", **keys)
    shown = np.stack([1 - foreground, foreground]).astype(np.float32)
    return evaluation.predicted_stages(chosen, bench, bench.table.iloc[0], shown, 0.5)


def test_the_raw_mask_is_cut_at_the_threshold_and_the_other_is_post_processed(bench_of):
    foreground = 0.9 * last_columns(10)
    foreground[3:5, 3:5] = 0.7
    stages = stages_of(bench_of([foreground], [NOTHING]), foreground, postprocessing=["largest_component"])
    assert list(stages) == list(evaluation.STAGES)
    assert np.array_equal(stages["raw"], foreground >= 0.5)
    assert np.array_equal(stages["post"], last_columns(10))


@pytest.mark.parametrize(("spacing_mm", "left"), [(1.0, 2), (0.4, 1), (np.nan, 2)], ids=["1 mm", "0.4 mm", "unknown"])
def test_a_least_area_is_taken_in_millimetres_where_the_pixel_size_is_known(bench_of, spacing_mm, left):
    foreground = 0.9 * last_columns(10)
    foreground[3:5, 3:5] = 0.9  # four pixels: 4 mm2 at 1 mm, 0.64 mm2 at 0.4 mm
    bench = bench_of([foreground], [NOTHING], spacing_mm)
    stages = stages_of(bench, foreground, postprocessing=["minimum_area"], minimum_area_mm2=2.0)
    assert ndimage.label(stages["post"])[1] == left
    assert ndimage.label(stages["raw"])[1] == 2


def test_of_several_classes_the_most_probable_is_raw(bench_of):
    bench = bench_of([NOTHING], [NOTHING])
    shown = np.random.default_rng(0).dirichlet(np.ones(4), (32, 32)).transpose(2, 0, 1).astype(np.float32)
    chosen = builders.step_params("05_evaluation", postprocessing=[])
    stages = evaluation.predicted_stages(chosen, bench, bench.table.iloc[0], shown, None)
    assert np.array_equal(stages["raw"], np.argmax(shown, axis=0))
    assert np.array_equal(stages["post"], stages["raw"])


# Cases that show nothing


@pytest.fixture
def screened(bench_of):
    """Six cases, two a fold; c1, c2 and c5 show nothing. The network is right but for a faint alarm in c2 and c5."""
    regions = [last_columns(10), NOTHING, NOTHING, last_columns(6), last_columns(8), NOTHING]
    alarm = 0.42 * last_columns(3)
    foregrounds = [0.9 * regions[0], regions[1], alarm, 0.9 * regions[3], 0.9 * regions[4], alarm]
    return bench_of(foregrounds, regions)


def evaluate(bench, folds, **keys):
    chosen = builders.step_params("05_evaluation", folds=folds, threshold_candidates=[0.4, 0.45], **keys)
    return evaluation.evaluate_all(chosen, bench, bench.folder)


def test_a_study_with_empty_references_is_evaluated_and_counts_them(screened):
    measured = evaluate(screened, [0, 1, 2])
    post = measured.table.query("stage == 'post'").set_index("case")
    # fold 0 is chosen on c2 and c3: the alarm in c2 costs 0.4 its place. Fold 1 on c4 and c5 likewise.
    # Fold 2 is chosen on c0 and c1, for which both do equally well: that nearest to one half.
    assert measured.choices["threshold"].tolist() == [0.45, 0.45, 0.45]
    assert measured.choices["validation_score"].tolist() == [1, 1, 1]
    assert post.loc[["c0", "c3", "c4"], "dice"].tolist() == [1, 1, 1]
    assert post.loc[["c1", "c2", "c5"], "dice"].isna().all()
    row = tables.per_class(measured.table).query("stage == 'post'").iloc[0]
    assert (row["n"], row["dice"], row["absent"], row["missed"], row["invented"]) == (3, 1, 3, 0, 0)


def test_what_is_invented_on_an_empty_reference_is_counted_and_not_averaged(screened):
    chosen = builders.step_params("05_evaluation", folds=[0, 1, 2], threshold_candidates=[0.4])
    measured = evaluation.evaluate_all(chosen, screened, screened.folder)
    row = tables.per_class(measured.table).query("stage == 'post'").iloc[0]
    assert (row["n"], row["dice"], row["absent"], row["invented"]) == (3, 1, 1, 2)
    assert row["pooled_dice"] < 1
    assert evaluation.ranked(measured.table)["case"].iloc[:2].tolist() == ["c2", "c5"]


def test_the_claims_of_the_notebook_hold_for_a_study_with_empty_references(screened):
    measured = evaluate(screened, [0, 1, 2])
    assert evaluation.is_complete(measured.table, screened.folds, [0, 1, 2])
    assert evaluation.counts_add_up(measured.table, screened.table)
    assert evaluation.dice_and_iou_agree(measured.table)


def test_runs_of_all_folds_and_seeds_are_put_together(screened):
    measured = evaluate(screened, [0, 2], seeds=[0, 3])
    runs = [(0, 0), (0, 3), (2, 0), (2, 3)]
    for table in (measured.table, measured.confusion, measured.choices):
        assert sorted(set(zip(table["fold"], table["seed"]))) == runs
        assert table.index.tolist() == list(range(len(table)))


def test_pixels_of_a_confusion_add_up_to_those_of_the_images(screened):
    measured = evaluate(screened, [0, 1, 2])
    sums = measured.confusion.groupby(["fold", "stage"])["pixels"].sum()
    assert (sums == 2 * 32 * 32).all()
    heads = measured.confusion.query("reference == 'head' and stage == 'post'").groupby("fold")["pixels"].sum()
    assert heads.tolist() == [32 * 10, 32 * 6, 32 * 8]


# Baselines


def test_the_average_reference_fits_perfectly_where_all_references_are_alike(bench_of):
    region = builders.ellipse_region((32, 32), (15.6, 15.2), 20, 16, 0)
    bright = 0.1 + 0.8 * region
    rows = evaluation.baselines(
        builders.step_params("05_evaluation", folds=[0, 1, 2]), bench_of([bright] * 6, [region] * 6)
    )
    assert rows["class"].tolist() == ["head", "head"]
    guess, otsu = rows.to_dict("records")
    assert guess["method"] == "average of the training references"
    assert (guess["n"], guess["dice"], guess["dice_low"], guess["dice_high"]) == (6, 1, 1, 1)
    assert otsu["method"] == "Otsu's threshold, holes filled, ellipse"
    assert otsu["dice"] > 0.9


def test_the_guess_is_made_of_training_references_alone(bench_of):
    own, others = last_columns(8), last_columns(24)
    regions = [own, own, others, others, others, others]  # fold 0 is tested, fold 1 validates, fold 2 trains
    rows = evaluation.baselines(builders.step_params("05_evaluation", folds=[0]), bench_of(regions, regions))
    assert rows.iloc[0]["n"] == 2
    assert rows.iloc[0]["dice"] == pytest.approx(2 * 8 / (8 + 24))


def test_cases_that_show_nothing_have_no_part_in_a_baseline(screened):
    rows = evaluation.baselines(builders.step_params("05_evaluation", folds=[0, 1, 2]), screened)
    assert rows["n"].tolist() == [3, 3]
    assert rows["dice"].notna().all()


def test_a_class_that_no_training_case_shows_is_not_guessed(bench_of):
    regions = [last_columns(8)] * 2 + [NOTHING] * 4
    row = evaluation.baselines(builders.step_params("05_evaluation", folds=[0]), bench_of(regions, regions)).iloc[0]
    assert (row["n"], row["dice"]) == (2, 0)


def test_the_best_level_of_three_references_worked_by_hand():
    masks = np.array([[[1, 1, 0, 0]], [[1, 1, 0, 0]], [[1, 0, 0, 2]]], np.uint8)
    average = (masks == 1).mean(axis=0).astype(np.float32)  # 1, 2/3, 0, 0
    # two pixels: 1, 1, 2/3; one pixel: 2/3, 2/3, 1
    level = evaluation.best_level(average, masks, np.arange(3), 1)
    assert (average >= level).tolist() == [[True, True, False, False]]
    level = evaluation.best_level(average, masks, np.array([0, 2, 2]), 1)  # 1, 2/3, 2/3 against 2/3, 1, 1
    assert (average >= level).tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("seed", range(5))
def test_no_other_level_fits_the_references_better(seed):
    draw = np.random.default_rng(seed)
    masks = np.stack(
        [builders.ellipse_region((24, 24), draw.uniform(9, 15, 2), draw.uniform(10, 16), 9, 0) for _ in range(6)]
    ).astype(np.uint8)
    masks[0] = 0  # shows nothing, and counts for nothing
    average = masks.mean(axis=0).astype(np.float32)
    best = evaluation.best_level(average, masks, np.arange(6), 1)

    def fit(level):
        return np.mean([metrics.overlap(mask == 1, average >= level, 1).dice for mask in masks[1:]])

    assert all(fit(best) >= fit(level * average.max()) - 1e-6 for level in evaluation.LEVELS)


def test_a_class_that_no_reference_shows_has_the_level_1():
    masks = np.zeros((3, 4, 4), np.uint8)
    assert evaluation.best_level(np.zeros((4, 4), np.float32), masks, np.arange(3), 1) == 1


# A whole study


def test_every_test_case_is_measured_once_for_each_stage(study):
    assert not study.measured.table.duplicated(["case", "class", "stage", "seed"]).any()
    expected = study.folds[study.folds["fold"].isin([0, 1])]["case"]
    assert sorted(study.measured.table.query("stage == 'post'")["case"]) == sorted(expected)
    assert study.measured.table.columns.tolist() == evaluation.COLUMNS


def test_the_small_network_finds_the_drawn_heads(study):
    assert study.measured.table.query("stage == 'post'")["dice"].mean() > 0.8


def test_rows_are_those_of_the_masks_that_were_written(study):
    mask_of = study.table.set_index("case")["mask"]
    for row in study.measured.table.to_dict("records"):
        path = evaluation.prediction_file(study.bench.folder, row["stage"], row["fold"], row["seed"], row["case"])
        with Image.open(path) as image:
            predicted = np.asarray(image)
        reference = study.bench.dataset.read_mask(cases.split_paths(mask_of[row["case"]]))
        expected = metrics.overlap(reference, predicted, 1)
        assert (row["tp"], row["fp"], row["fn"], row["tn"]) == tuple(vars(expected).values())
        assert row["dice"] == expected.dice


def test_the_next_fold_chose_the_threshold(study):
    sizes = study.folds["fold"].value_counts()
    assert study.measured.choices[["fold", "seed"]].values.tolist() == [[0, 0], [1, 0]]
    assert study.measured.choices["validation_cases"].tolist() == [sizes[1], sizes[2]]
    assert study.measured.choices["threshold"].isin(builders.values()["threshold_candidates"]).all()


def test_the_claims_of_the_notebook_hold_for_the_study(study):
    assert evaluation.is_complete(study.measured.table, study.folds, [0, 1])
    assert evaluation.counts_add_up(study.measured.table, study.table)
    assert evaluation.dice_and_iou_agree(study.measured.table)


def test_baselines_have_an_interval_and_a_count(study):
    names = set(study.measured.table["case"])
    rows = evaluation.baselines(builders.step_params("05_evaluation", folds=[0, 1]), study.bench)
    assert rows["n"].tolist() == [len(names)] * 2
    for row in rows.to_dict("records"):
        assert 0 <= row["dice_low"] <= row["dice"] <= row["dice_high"] <= 1


def test_the_confusion_of_the_study_is_that_of_its_rows(study):
    counts = study.measured.confusion.set_index(["fold", "stage", "reference", "predicted"])["pixels"].sort_index()
    rows = study.measured.table.groupby(["fold", "stage"])[["tp", "fp", "fn", "tn"]].sum()
    for (fold, stage), row in rows.iterrows():
        own = counts.loc[fold, stage]
        assert own["head", "head"] == row["tp"]
        assert own["background", "head"] == row["fp"]
        assert own["head", "background"] == row["fn"]
        assert own["background", "background"] == row["tn"]


def test_pictures_show_reference_and_prediction_of_the_same_case(study):
    rows = evaluation.ranked(study.measured.table).head(2)
    for row, shown in zip(rows.to_dict("records"), evaluation.overlays(study.bench, rows)):
        reference, predicted = vars(shown)["reference"], vars(shown)["predicted"]
        assert metrics.overlap(reference, predicted, 1).dice == pytest.approx(row["dice"])


def test_the_probability_map_cut_at_the_chosen_threshold_is_the_raw_mask(study):
    row = study.measured.table.query("stage == 'raw'").iloc[0]
    chosen = builders.step_params("05_evaluation", device="cpu", precision="float32")
    shown = evaluation.probability_map(chosen, study.bench, study.trainings, row)
    threshold = study.measured.choices.set_index("fold").loc[row["fold"], "threshold"]
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
    rows = pd.DataFrame({"case": list("xyabcde"), "tp": [0, 0, 0, 1, 2, 3, 4], "fn": [0, 0, 5, 4, 3, 2, 1]})
    assert evaluation.around_median(rows, count)["case"].tolist() == middle  # x and y are inventions


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
