import itertools
import os
import re
import tracemalloc
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lib import metrics, models, preprocessing
from lib.data import cases
from lib.datasets import samples
from lib.evaluation import (
    baselines,
    boundaries,
    postprocessing,
    previews,
    ranking,
    segmentation,
    training_precision,
)
from lib.evaluation.biometry import read_predictions, references_of, structures_of_all
from lib.imaging import image_files, mask_files
from lib.models import inference, trained_model
from lib.report.summaries import dice, distances
from lib.study import environment, files, progress
from tests import builders
from tests.builders import NOTHING, last_columns, one_thread  # noqa: F401

POST_PROCESSING = [{"step": "largest_component"}, {"step": "fill_holes"}]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return builders.tiny_study(tmp_path_factory.mktemp("study"))


def test_rows_of_two_classes_counted_by_hand():
    reference = np.array([[0, 1, 1], [0, 2, 2]], np.uint8)
    predicted = np.array([[1, 1, 1], [0, 2, 0]], np.uint8)
    rows = segmentation.class_rows(metrics.confusion(reference, predicted, 3), ["background", "head", "csp"])
    assert list(rows) == ["head", "csp"]
    grown, shrunk = {"size_error_percent": 50.0}, {"size_error_percent": -50.0}
    assert rows["head"] == {"tp": 2, "fp": 1, "fn": 0, "tn": 3, "dice": 4 / 5, "iou": 2 / 3} | grown
    assert rows["csp"] == {"tp": 1, "fp": 0, "fn": 1, "tn": 4, "dice": 2 / 3, "iou": 1 / 2} | shrunk
    absent = segmentation.class_rows(np.array([[4, 0], [0, 0]]), ["background", "head"])["head"]
    assert [absent[name] for name in ("tp", "fp", "fn", "tn")] == [0, 0, 0, 4]
    assert np.isnan(absent["dice"])
    pooled = {"raw": np.array([[5, 1], [2, 3]]), "post": np.array([[6, 0], [2, 3]])}
    table = segmentation.confusion_rows(pooled, ["background", "head"], fold=1, seed=7)
    assert table.columns.tolist() == segmentation.CONFUSION_COLUMNS
    assert table.values.tolist()[1] == [1, 7, "raw", "background", "head", 1]
    assert table.values.tolist()[6] == [1, 7, "post", "head", "background", 2]
    assert table["pixels"].tolist() == [5, 1, 2, 3, 6, 0, 2, 3]


def test_the_score_of_a_case_counted_by_hand():
    # partly predicted, missed, a false positive, correctly empty; foreground is any class
    pairs = ("11..", "1..."), ("11..", "...."), ("....", ".1.."), ("....", "...."), ("21..", "12..")
    scores = [segmentation.score(*map(builders.typed, pair)) for pair in pairs]
    assert scores == pytest.approx([2 / 3, 0, 0, 1, 1])


@pytest.fixture
def bench_of(tmp_path, monkeypatch):
    """Builds an evaluation set whose network predicts the image itself as foreground probability."""
    monkeypatch.setattr(inference, "predict", builders.predict_image)
    return partial(builders.image_bench, tmp_path)


def choose(bench, candidates, *steps):
    model, names = builders.model(bench.arrays.preparation), bench.cases["case"].tolist()
    protocol = segmentation.Protocol(candidates, postprocessing.describe(steps, {}), False, model.device, {})
    return segmentation.validate(bench, model, names, protocol, [])[0]


# a map in columns of 0.1, 0.3, 0.45, 0.6, 0.8 (6 wide each, the last 8)
STEPS = np.tile(np.repeat([0.1, 0.3, 0.45, 0.6, 0.8], [6, 6, 6, 6, 8]), (32, 1))


FAINT = 0.35 * last_columns(5)  # on an empty reference, a false positive up to 0.35


@pytest.mark.parametrize(
    ("foregrounds", "references", "candidates", "best", "score"),
    [
        ([STEPS], [last_columns(26)], [0.2, 0.4, 0.5, 0.7], 0.2, 1),
        ([STEPS], [last_columns(14)], [0.2, 0.4, 0.5, 0.7], 0.5, 1),
        ([STEPS], [last_columns(8)], [0.2, 0.4, 0.5, 0.7], 0.7, 1),
        # the mean over cases, at 0.2: 1, 1, 16/34; at 0.7: 16/34, 16/34, 1
        ([STEPS] * 3, [last_columns(n) for n in (26, 26, 8)], [0.2, 0.7], 0.2, (2 + 16 / 34) / 3),
        # of equally good thresholds the one nearest to 0.5, in either order
        ([STEPS], [last_columns(20)], [0.35, 0.4, 0.44], 0.44, 1),
        ([STEPS], [last_columns(20)], [0.44, 0.4, 0.35], 0.44, 1),
        # a false positive counts, at 0.2: 1 and 0; at 0.4: 40/46 and 1
        ([STEPS, FAINT], [last_columns(26), NOTHING], [0.2, 0.4], 0.4, (40 / 46 + 1) / 2),
        # a miss counts, at 0.25: 28/40 and 1; at 0.5: 1 and a miss
        ([STEPS, FAINT], [last_columns(14), last_columns(5)], [0.25, 0.5], 0.25, (28 / 40 + 1) / 2),
        ([FAINT, FAINT], [NOTHING, NOTHING], [0.2, 0.3, 0.4], 0.4, 1),
        ([STEPS], [last_columns(14)], [], None, None),
    ],
)
def test_the_threshold_with_the_best_mean_score_is_chosen(bench_of, foregrounds, references, candidates, best, score):
    expected = {"threshold": best, "validation_score": pytest.approx(score), "validation_cases": len(foregrounds)}
    assert choose(bench_of(foregrounds, references), candidates) == expected


def test_the_threshold_is_chosen_after_post_processing(bench_of):
    foreground = STEPS.copy()
    foreground[:, 6:12] = 0.1
    foreground[:8, 1:5] = 0.45  # a separate spot, removed by largest_component
    bench = bench_of([foreground], [last_columns(20)])
    raw, post = choose(bench, [0.4, 0.7]), choose(bench, [0.4, 0.7], "largest_component")
    assert raw["validation_score"] == pytest.approx(2 * 640 / (2 * 640 + 32))
    assert post["validation_score"] == 1


def test_a_case_is_predicted_and_scaled_to_its_native_size_once_for_all_thresholds(bench_of, monkeypatch):
    scaled, to_native = [], trained_model.to_native
    monkeypatch.setattr(trained_model, "to_native", lambda *case: scaled.append(case) or to_native(*case))
    choose(bench_of([STEPS, FAINT], [last_columns(14)] * 2), [0.2, 0.4, 0.5, 0.7], "largest_component")
    assert len(scaled) == 2


@pytest.mark.parametrize(("spacing_mm", "above"), [(1.0, 0), (0.4, 0.5), (np.nan, 0)])
def test_the_raw_mask_is_cut_at_the_threshold_and_the_other_loses_small_parts_in_millimetres(spacing_mm, above):
    foreground = 0.9 * last_columns(10)
    foreground[3:5, 3:5] = 0.5  # four pixels: 4 mm2 at 1 mm, 0.64 mm2 at 0.4 mm
    probability = np.stack([1 - foreground, foreground]).astype(np.float32)
    area_mm2 = segmentation.pixel_mm2({"spacing_row_mm": spacing_mm, "spacing_col_mm": spacing_mm})
    small = {"step": "minimum_area", "minimum_area_mm2": 2.0}
    stages = segmentation.predicted_stages(probability, 0.5, [small], area_mm2)
    assert list(stages) == ["raw", "post"]
    assert list(segmentation.predicted_stages(probability, 0.5, [], area_mm2)) == ["post"]
    assert np.array_equal(stages["raw"], foreground > 0)
    assert np.array_equal(stages["post"], foreground > above)


@pytest.fixture
def screened(bench_of):
    """Six cases, two per fold; c1, c2 and c5 are empty. The only errors are faint false positives in c2 and c5."""
    regions = [last_columns(10), NOTHING, NOTHING, last_columns(6), last_columns(8), NOTHING]
    faint = 0.42 * last_columns(3)
    foregrounds = [0.9 * regions[0], regions[1], faint, 0.9 * regions[3], 0.9 * regions[4], faint]
    return bench_of(foregrounds, regions)


def evaluate(bench, folds, **keys):
    changes = {"folds": folds, "device": "cpu", "threshold_candidates": [0.4, 0.45]} | keys
    config = builders.step_params("05_evaluation", **changes)
    for fold, seed in itertools.product(folds, config.seeds):
        weights = bench.folder.parent / files.run_name(fold, seed) / "model.safetensors"
        builders.write_weights(weights, bench.arrays.preparation, in_channels=bench.dataset.channels)
    return segmentation.evaluate_all(config, bench, bench.folder.parent)


def test_a_study_with_empty_references_is_evaluated_and_counts_them(screened):
    measured = evaluate(screened, [0, 1, 2])
    post = measured.table.query("stage == 'post'").set_index("case")
    # For fold 0, c2 and c3 validate: the false positive in c2 excludes 0.4. For fold 1, c4 and c5, likewise.
    # For fold 2, c0 and c1 validate, and both thresholds are equally good: the one nearest to 0.5 is chosen.
    assert measured.choices["threshold"].tolist() == [0.45, 0.45, 0.45]
    assert measured.choices["validation_score"].tolist() == [1, 1, 1]
    assert post.loc[["c0", "c3", "c4"], "dice"].tolist() == [1, 1, 1]
    assert post.loc[["c1", "c2", "c5"], "dice"].isna().all()
    row = dice.per_class(measured.table).query("stage == 'post'").iloc[0]
    assert (row["n"], row["dice"], row["absent"], row["missed"], row["invented"]) == (3, 1, 3, 0, 0)
    assert_claims_hold(measured, screened, [0, 1, 2])


def test_a_network_that_puts_out_nan_is_refused_with_the_case(screened, monkeypatch):
    for value, found in ((np.nan, "NaN"), (np.inf, "infinity")):
        monkeypatch.setattr(inference, "predict", lambda *given, value=value: builders.predict_image(*given) + value)
        with pytest.raises(ValueError, match=f"^case c2: the predicted probability contains {found}: the weights are"):
            evaluate(screened, [0])


def test_distances_and_parts_of_a_case_are_those_of_its_masks_in_mm_or_pixels(screened):
    sized = replace(screened, cases=screened.cases.assign(spacing_row_mm=0.5, spacing_col_mm=[0.5] * 5 + [np.nan]))
    measured = evaluate(sized, [0, 1, 2], threshold_candidates=[0.4], head_classes=[])  # stripes, not heads
    table = measured.table.query("stage == 'post'").set_index("case")
    assert table.loc[["c0", "c3"], "hausdorff_mm"].tolist() == [0, 0]
    assert table["nsd"].tolist() == pytest.approx([1, np.nan, 0, 1, 1, np.nan], nan_ok=True)
    assert table.loc[["c1", "c2", "c5"], ["hd95_mm", "hd95_px"]].isna().all(axis=None)
    assert table["diagonal_mm"].to_dict() == pytest.approx(
        dict.fromkeys(table.index[:5], 16 * 2**0.5) | {"c5": np.nan}, nan_ok=True
    )
    assert table.loc["c5", "diagonal_px"] == pytest.approx(32 * 2**0.5)
    assert table.loc[["c0", "c1", "c2"], boundaries.PART_COLUMNS].values.tolist() == [
        [1, 1, 1, 1],
        [0] * 4,
        [0, 0, 1, 0],
    ]
    assert distances.are_of_found_structures(table)


def test_the_memory_of_evaluation_does_not_grow_with_the_number_of_cases(bench_of, monkeypatch):
    monkeypatch.setattr(environment, "threads", lambda: 1)  # as many cases are in memory at once
    region, peaks = np.tile(last_columns(5), (4, 4)), []
    for count in (12, 48):
        bench = bench_of([0.9 * region] * count, [region] * count)
        tracemalloc.start()
        evaluate(bench, [0])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (
        peaks[1] - peaks[0] < 3 * 2 * region.size * 4
    )  # three probabilities; 12 more cases are tested and 12 validate


def assert_claims_hold(measured, bench, folds):
    """The checks of the notebook."""
    assert ranking.is_complete(measured.table, bench, folds)
    assert segmentation.counts_add_up(measured.table, bench.cases)
    assert segmentation.dice_and_iou_agree(measured.table)
    assert not measured.table.duplicated(["case", "class", "stage", "seed"]).any()


def test_a_structure_invented_on_an_empty_reference_is_counted_and_not_averaged(screened):
    measured = evaluate(screened, [0, 1, 2], threshold_candidates=[0.4])
    row = dice.per_class(measured.table).query("stage == 'post'").iloc[0]
    assert (row["n"], row["dice"], row["absent"], row["invented"]) == (3, 1, 1, 2)
    assert row["pooled_dice"] < 1
    assert ranking.ranked(measured.table)["case"].iloc[:2].tolist() == ["c2", "c5"]


def test_tables_of_all_folds_and_seeds_are_concatenated(screened):
    measured = evaluate(screened, [0, 2], seeds=[0, 3])
    for table in (measured.table, measured.confusion, measured.choices):
        assert sorted(set(zip(table["fold"], table["seed"]))) == [(0, 0), (0, 3), (2, 0), (2, 3)]
        assert table.index.tolist() == list(range(len(table)))


def test_the_model_is_written_with_the_chosen_threshold_and_the_tensors_of_training(study):
    for row in study.measured.choices.to_dict("records"):
        run = files.run_name(row["fold"], row["seed"])
        network, about = models.load_described(study.bench.folder / "models" / f"{run}.safetensors")
        trained, known = models.load_described(study.trainings / run / "model.safetensors")
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in trained.state_dict().items())
        added = {"threshold": row["threshold"], "flip_average": True, "postprocessing": POST_PROCESSING}
        added |= {"head_classes": ["head"], "max_axis_ratio": 1.7, "hc_range_mm": [40.0, 400.0]}
        added |= {"fold": row["fold"], "seed": row["seed"], "licence": "CC BY 4.0", "display_channel": 0, "format": 1}
        limits = study.measured.limits.query("fold == @row['fold'] and seed == @row['seed']")
        assert about["flags"]["limits"] == dict(zip(limits["flag"], limits["limit"]))
        added |= {name: about[name] for name in ("checksum", "flags", "intervals")}
        assert about == known | added
        assert known["preparation"] == study.bench.arrays.preparation
        assert (known["training_precision"], known["classes"]) == ("float32", ["background", "head"])


def test_evaluation_is_in_float32_and_measures_the_effect_of_the_precision_of_training(study, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    weights = tmp_path / "model.safetensors"
    models.complete(study.trainings / "fold0-seed0" / "model.safetensors", weights, {"training_precision": "bfloat16"})
    candidates = builders.values()["threshold_candidates"]
    protocol = segmentation.Protocol(candidates, POST_PROCESSING, True, torch.device("cpu"), {"mm": 1.0})
    unchanged = training_precision.summary(study.measured.precision)
    tested = study.measured.table.query("fold == 0")["case"].nunique()
    assert unchanged.values.tolist() == [["head", "float32", len(study.measured.table) // 2, 1, 1, 0, 0, 0]]
    bench, lines = replace(study.bench, folder=tmp_path / "05"), []
    measured = segmentation.evaluate_run(protocol, bench, weights, 0, 0, lines.append)
    assert lines[0].startswith("validation case 1/")
    assert [line.partition(" ·")[0] for line in lines[-2:]] == [f"fold 0, seed 0: test case {tested}/{tested}", ""]
    pd.testing.assert_frame_equal(measured.table, study.measured.table.query("fold == 0").reset_index(drop=True))
    (row,) = training_precision.summary(measured.precision).to_dict("records")
    assert row["training_precision"] == "bfloat16"
    assert 0.9 < row["dice_least"] < 1
    assert 0 < row["largest_probability_change"] < 0.1
    assert row["n"] == measured.table["case"].nunique()


@pytest.fixture
def one_changed(study):
    """A tested case with half of its reference erased, at the same file size and time; restored afterwards."""
    row = study.table[study.table["case"] == study.measured.table["case"].iloc[0]].iloc[0]
    (path,) = cases.split_paths(row["mask"])
    content, status, pixels = path.read_bytes(), path.stat(), image_files.read_pixels(path)
    builders.save_png(path, np.where(np.arange(len(pixels))[:, None] < len(pixels) // 2, 0, pixels).astype(np.uint8))
    path.write_bytes(path.read_bytes().ljust(len(content), b"\0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    yield row["image"]
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_reference_changed_with_equal_size_and_time_is_refused_by_name(study, one_changed):
    dataset, evaluated = study.bench.dataset, study.bench.folder
    files.write_csv(evaluated / "cases.csv", study.measured.table)
    config = builders.step_params("05_evaluation", folds=[0, 1], device="cpu")
    predictions = read_predictions(study.bench)
    worst = study.measured.table.head(1)
    prepared = preprocessing.source_of(builders.step_params("02_preprocessing"), study.table, dataset, None)
    for use in (
        lambda: segmentation.evaluate_all(config, replace(study.bench, folder=evaluated / "again"), study.trainings),
        lambda: ranking.overlays(study.bench, worst),
        lambda: segmentation.probability_map(study.bench, study.trainings, worst.iloc[0], True, "cpu"),
        lambda: baselines.baselines(study.bench, [0, 1], [0], ["head"]),
        lambda: references_of(study.bench, ["head"]),
        lambda: structures_of_all(study.bench, predictions),
        lambda: preprocessing.round_trip(prepared, study.bench.arrays, study.table["case"].tolist()),
    ):
        with pytest.raises(ValueError, match=f"{re.escape(one_changed)} or its mask has changed"):
            use()


def test_every_test_case_is_measured_once_with_the_threshold_chosen_on_the_next_fold(study):
    assert_claims_hold(study.measured, study.bench, [0, 1])
    assert study.measured.table.columns.tolist() == segmentation.COLUMNS
    assert study.measured.table.query("stage == 'post'")["dice"].mean() > 0.8
    sizes = study.folds["fold"].value_counts()
    assert study.measured.choices[["fold", "seed"]].values.tolist() == [[0, 0], [1, 0]]
    assert study.measured.choices["validation_cases"].tolist() == [sizes[1], sizes[2]]
    assert study.measured.choices["threshold"].isin(builders.values()["threshold_candidates"]).all()


def test_rows_and_overlays_are_those_of_the_written_masks(study):
    mask_of = study.table.set_index("case")["mask"]
    for row in study.measured.table.to_dict("records"):
        path = study.bench.predicted(row["stage"], row["fold"], row["seed"], row["case"])
        reference = study.bench.dataset.read_mask(cases.split_paths(mask_of[row["case"]]))
        expected = metrics.overlap(reference, np.asarray(Image.open(path)), 1)
        assert (row["tp"], row["fp"], row["fn"], row["tn"]) == tuple(vars(expected).values())
        assert row["dice"] == expected.dice
    for row in study.measured.table.query("stage == 'post'").to_dict("records"):
        (drawn,) = previews.preview_files(study.bench.folder, row["case"], row["fold"], row["seed"], is_volume=False)
        text = drawn.read_text(encoding="utf-8")
        assert f'data-marked="{row["tp"] + row["fp"] + row["fn"]}"' in text
        assert 'class="probability"' in text
    counts = study.measured.confusion.groupby(["fold", "stage"])["pixels"].agg(list)
    rows = study.measured.table.groupby(["fold", "stage"])[["tn", "fp", "fn", "tp"]].sum()
    assert counts.to_dict() == {key: row.tolist() for key, row in rows.iterrows()}
    worst = ranking.ranked(study.measured.table).head(2)
    for dice_of_row, overlay in zip(worst["dice"], ranking.overlays(study.bench, worst)):
        assert metrics.overlap(overlay.reference, overlay.predicted, 1).dice == pytest.approx(dice_of_row)


def test_the_probability_map_cut_at_the_chosen_threshold_is_the_raw_mask(study):
    row = study.measured.table.query("stage == 'raw'").iloc[0]
    image, probability = segmentation.probability_map(study.bench, study.trainings, row, True, "cpu")
    drawn = {head.name: (seed, head) for seed, head in enumerate(study.drawn)}
    assert np.array_equal(image, builders.image_of(*drawn[row["case"]][::-1]))
    threshold = study.measured.choices.set_index("fold").loc[row["fold"], "threshold"]
    raw = mask_files.read(study.bench.predicted("raw", row["fold"], row["seed"], row["case"]))
    assert np.array_equal(probability >= threshold, raw == 1)


def blocks(depth, *boxes):
    """A volume (depth, 32, 32) with 1 in some boxes of (slices, rows, columns)."""
    return builders.Patient("any", depth, lesion=boxes).mask


FIRST, SECOND, THIRD, FOURTH = (patient.name for patient in builders.PATIENTS)
PREDICTED = {
    FIRST: blocks(5, np.s_[1:4, 10:14, 12:14], np.s_[1:2, 20:22, 18:20]),  # half of the lesion, and 4 separate voxels
    SECOND: blocks(4),  # correctly empty
    THIRD: blocks(5, np.s_[1:3, 12:16, 14:18]),  # all but the slice that was left out
    FOURTH: blocks(6, np.s_[2:5, 8:12, 8:13]),  # one slice too many; two voxels are outside the crop
}
COUNTS = {FIRST: (24, 4, 24), SECOND: (0, 0, 0), THIRD: (32, 0, 16), FOURTH: (40, 20, 2)}  # TP, FP, FN


def replace_output(patch, bench, foregrounds):
    """Replaces the network's output by foregrounds (D, 32, 32) at native size, of probability 1 in the padding."""
    outputs = {}
    for name, native in foregrounds.items():
        mapping, rows = bench.arrays.geometry_of(name), bench.arrays.rows([name])
        inner = native[(bench.arrays.slices[rows], *mapping.crop)]
        foreground = np.ones((len(rows), 32, 32), np.float32)
        foreground[(slice(None), *mapping.inner)] = inner.repeat(2, axis=1).repeat(2, axis=2)
        outputs[bench.arrays.images[rows].tobytes()] = np.stack([1 - foreground, foreground], axis=1)
    patch.setattr(inference, "predict", lambda _, images, *how: outputs[images.tobytes()])


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Four patients, and the evaluation of typed predictions."""
    bench = builders.volume_bench(tmp_path_factory.mktemp("volumes"))
    keys = {"classes": ["background", "lesion"], "threshold_candidates": [0.5]}
    with pytest.MonkeyPatch.context() as patch:
        replace_output(patch, bench, PREDICTED)
        return bench, evaluate(bench, [0, 1, 2], postprocessing=["largest_component"], **keys)


def test_voxels_and_dice_of_four_patients_are_those_counted_by_hand(volumes):
    bench, measured = volumes
    assert_claims_hold(measured, bench, [0, 1, 2])
    counts = measured.table.set_index(["case", "stage"])[["tp", "fp", "fn", "tn"]]
    fold_of = bench.folds.set_index("case")["fold"]
    for patient in builders.PATIENTS:
        three, path = COUNTS[patient.name], bench.predicted("raw", fold_of[patient.name], 0, patient.name)
        assert counts.loc[(patient.name, "raw")].tolist() == [*three, patient.depth * 32 * 32 - sum(three)]
        assert path.suffix == ".tif"
        assert np.array_equal(mask_files.read(path), PREDICTED[patient.name])
        fp = 0 if patient.name == FIRST else three[1]  # only the largest component is left
        assert counts.loc[(patient.name, "post"), ["tp", "fp", "fn"]].tolist() == [three[0], fp, three[2]]
        reference, post = (
            mask > 0
            for mask in (
                samples.read_mask(bench.dataset, bench.rows([patient.name])[0]),
                bench.read_predicted("post", fold_of[patient.name], 0, patient.name),
            )
        )
        drawn = previews.preview_files(bench.folder, patient.name, fold_of[patient.name], 0, is_volume=True)
        marked = np.flatnonzero((reference | post).any(axis=(1, 2))).tolist() or [patient.depth // 2]
        assert [int(path.stem) for path in drawn] == marked
    post = mask_files.read(bench.predicted("post", fold_of[FIRST], 0, FIRST))
    assert np.array_equal(post, blocks(5, np.s_[1:4, 10:14, 12:14]))
    by_hand = {FIRST: 48 / 72, THIRD: 64 / 80, FOURTH: 80 / 102}
    by_stage = measured.table.pivot(index="case", columns="stage", values="dice")
    assert by_stage["post"].drop(SECOND).to_dict() == pytest.approx(by_hand)
    assert np.isnan(by_stage["post"][SECOND])
    assert by_stage["raw"][FIRST] == pytest.approx(48 / 76)


def test_the_threshold_of_volumes_is_chosen_over_all_their_slices(volumes, monkeypatch):
    bench, _ = volumes
    faint = PREDICTED | {SECOND: 0.4 * blocks(4, np.s_[1:3, 10:14, 12:16])}  # a false positive up to 0.4
    faint[THIRD] = 0.45 * PREDICTED[THIRD]  # missed above 0.45
    replace_output(monkeypatch, bench, faint)
    model = builders.model(bench.arrays.preparation, in_channels=3)
    protocol = segmentation.Protocol([0.3, 0.42, 0.5], [], False, model.device, {})
    choice, heads, indicators = segmentation.validate(bench, model, [SECOND, THIRD], protocol, [])
    assert heads == indicators == []
    # At 0.3: 0 and 64/80. At 0.42: 1 and 64/80. At 0.5: 1 and 0.
    assert choice == {"threshold": 0.42, "validation_score": pytest.approx((1 + 0.8) / 2), "validation_cases": 2}


def test_overlay_and_probability_map_of_a_volume_are_the_slice_with_most_of_the_reference(volumes, monkeypatch):
    bench, measured = volumes
    rows = ranking.ranked(measured.table)
    assert rows["case"].tolist() == [FIRST, FOURTH, THIRD]
    places = {patient.name: place for place, patient in enumerate(builders.PATIENTS)}
    for name, fold, overlay in zip(rows["case"], rows["fold"], ranking.overlays(bench, rows)):
        patient = builders.PATIENTS[places[name]]
        at = patient.mask.sum(axis=(1, 2)).argmax()
        assert np.array_equal(overlay.image, patient.image(places[name])[at, ..., 1])
        assert np.array_equal(overlay.reference, patient.mask[at])
        assert np.array_equal(overlay.predicted, mask_files.read(bench.predicted("post", fold, 0, name))[at])
    foregrounds = {FOURTH: PREDICTED[FOURTH] * np.linspace(0.1, 0.6, 6)[:, None, None]}
    replace_output(monkeypatch, bench, foregrounds)
    row = measured.table.query("case == @FOURTH").iloc[0]
    image, probability = segmentation.probability_map(bench, bench.folder.parent, row, True, "cpu")
    assert np.array_equal(image, builders.PATIENTS[3].image(3)[2, ..., 1])  # slice 2 has two voxels more than 3
    assert probability == pytest.approx(foregrounds[FOURTH][2], abs=1e-6)


@pytest.mark.parametrize(("column", "change"), [*dict.fromkeys(["tp", "fp", "fn", "tn"], 1).items(), ("dice", 1e-6)])
def test_a_lost_pixel_and_a_dice_that_does_not_follow_from_iou_are_detected(column, change):
    manifest = pd.DataFrame({"case": list("abc"), "slices": [1, 1, 2], "height": [2, 2, 3], "width": [5, 5, 2]})
    table = builders.table_of([("a", 0, 4, 2, 1, 3), ("b", 0, 0, 0, 0, 10), ("c", 1, 5, 5, 2, 0)])
    assert segmentation.counts_add_up(table, manifest)
    assert segmentation.dice_and_iou_agree(table)
    table.loc[2, column] += change
    assert segmentation.counts_add_up(table, manifest) == (column == "dice")
    assert segmentation.dice_and_iou_agree(table) == (column != "dice")
