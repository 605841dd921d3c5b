"""Rivals that learn nothing from images: on regions whose overlap is counted by hand."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from lib import datasets, metrics
from lib.data.arrays import Arrays
from lib.data.evaluation_set import EvaluationSet
from lib.evaluation import baselines
from lib.imaging import geometry, mask_files
from tests import builders
from tests.builders import one_thread  # noqa: F401

NOTHING = np.zeros((32, 32), bool)


def last_columns(count):
    region = np.zeros((32, 32), bool)
    region[:, 32 - count :] = True
    return region


@pytest.fixture
def bench_of(tmp_path):
    """Makes a bench of images; each is bright where it is told to be."""
    return partial(builders.image_bench, tmp_path)


# Images


def test_the_average_reference_fits_perfectly_where_all_references_are_alike(bench_of):
    region = builders.ellipse_region((32, 32), (15.6, 15.2), 20, 16, 0)
    bright = 0.1 + 0.8 * region
    rows = baselines.baselines(bench_of([bright] * 6, [region] * 6), [0, 1, 2])
    assert rows["class"].tolist() == ["head", "head"]
    guess, otsu = rows.to_dict("records")
    assert guess["method"] == "average of the training references"
    assert (guess["n"], guess["dice"], guess["dice_low"], guess["dice_high"]) == (6, 1, 1, 1)
    assert otsu["method"] == "Otsu's threshold, holes filled, ellipse"
    assert otsu["dice"] > 0.9


def test_the_guess_is_made_of_training_references_alone(bench_of):
    own, others = last_columns(8), last_columns(24)
    regions = [own, own, others, others, others, others]  # fold 0 is tested, fold 1 validates, fold 2 trains
    rows = baselines.baselines(bench_of(regions, regions), [0])
    assert rows.iloc[0]["n"] == 2
    assert rows.iloc[0]["dice"] == pytest.approx(2 * 8 / (8 + 24))


def test_cases_that_show_nothing_have_no_part_in_a_baseline(bench_of):
    regions = [last_columns(10), NOTHING, NOTHING, last_columns(6), last_columns(8), NOTHING]
    rows = baselines.baselines(bench_of([0.9 * region for region in regions], regions), [0, 1, 2])
    assert rows["n"].tolist() == [3, 3]
    assert rows["dice"].notna().all()


def test_a_class_that_no_training_case_shows_is_not_guessed(bench_of):
    regions = [last_columns(8)] * 2 + [NOTHING] * 4
    row = baselines.baselines(bench_of(regions, regions), [0]).iloc[0]
    assert (row["n"], row["dice"]) == (2, 0)


def test_the_best_level_of_three_references_worked_by_hand():
    references = np.array([[[1, 1, 0, 0]], [[1, 1, 0, 0]], [[1, 0, 0, 2]]], np.uint8)
    average = (references == 1).mean(axis=0).astype(np.float32)  # 1, 2/3, 0, 0
    # two pixels: 1, 1, 2/3; one pixel: 2/3, 2/3, 1
    level = baselines.best_level(average, references, np.arange(3), 1)
    assert (average >= level).tolist() == [[True, True, False, False]]
    level = baselines.best_level(average, references, np.array([0, 2, 2]), 1)  # 1, 2/3, 2/3 against 2/3, 1, 1
    assert (average >= level).tolist() == [[True, False, False, False]]


@pytest.mark.parametrize("seed", range(5))
def test_no_other_level_fits_the_references_better(seed):
    draw = np.random.default_rng(seed)
    references = np.stack(
        [builders.ellipse_region((24, 24), draw.uniform(9, 15, 2), draw.uniform(10, 16), 9, 0) for _ in range(6)]
    ).astype(np.uint8)
    references[0] = 0  # shows nothing, and counts for nothing
    average = references.mean(axis=0).astype(np.float32)
    best = baselines.best_level(average, references, np.arange(6), 1)

    def fit(level):
        return np.mean([metrics.overlap(mask == 1, average >= level, 1).dice for mask in references[1:]])

    assert all(fit(best) >= fit(level * average.max()) - 1e-6 for level in baselines.LEVELS)


def test_a_class_that_no_reference_shows_has_the_level_1():
    nothing = np.zeros((3, 4, 4), np.uint8)
    assert baselines.best_level(np.zeros((4, 4), np.float32), nothing, np.arange(3), 1) == 1


def test_baselines_have_an_interval_and_a_count(tmp_path):
    draw = np.random.default_rng(3)
    regions = [
        builders.ellipse_region((32, 32), draw.uniform(12, 20, 2), draw.uniform(14, 22), 12, draw.uniform(0, 180))
        for _ in range(12)
    ]
    bench = builders.image_bench(tmp_path, [0.2 + 0.6 * region for region in regions], regions)
    rows = baselines.baselines(bench, [0, 1])
    assert rows["n"].tolist() == [8, 8]
    for row in rows.to_dict("records"):
        assert 0 < row["dice_low"] < row["dice"] < row["dice_high"] < 1


# Volumes


BLOCK = np.s_[10:14, 12:16]  # 16 voxels a slice


def drawn(depth, lesion, tissue=0.0, speck=None):
    """Normalised FLAIR and mask of a volume (depth, 32, 32): lesion of 3 in some slices, other things beside it."""
    flair, mask = np.full((depth, 32, 32), tissue, np.float32), np.zeros((depth, 32, 32), np.uint8)
    flair[(lesion, *BLOCK)], mask[(lesion, *BLOCK)] = 3, 1
    if speck is not None:
        flair[speck] = 3
    return flair, mask


def volume_bench(folder, volumes):
    """Volumes at native size and network size, all slices kept, one a fold."""
    names = [f"v{n}" for n in range(len(volumes))]
    depths = [len(mask) for _, mask in volumes]
    images = np.full((sum(depths), 3, 32, 32), 9, np.float32)  # other channels are bright everywhere
    images[:, 1] = np.concatenate([flair for flair, _ in volumes])
    for name, (_, mask) in zip(names, volumes):
        mask_files.write(folder / f"{name}.tif", mask)
    paths = [str(folder / f"{name}.tif") for name in names]
    table = pd.DataFrame({"case": names, "subject": names, "slices": depths, "height": 32, "width": 32})
    table = table.assign(image=paths, mask=paths, spacing_row_mm=np.nan, spacing_col_mm=np.nan)
    table = builders.hashed(table)
    folds = table[["case", "subject"]].assign(fold_group=names, fold=range(len(names)), validates=True)
    arrays = Arrays(
        names=[name for name, depth in zip(names, depths) for _ in range(depth)],
        images=images,
        masks=np.concatenate([mask for _, mask in volumes]),
        geometries=[geometry.fit((32, 32), (32, 32))] * sum(depths),
        slices=np.concatenate([np.arange(depth) for depth in depths]),
        points=None,
        sigmas=None,
        fingerprint="built",
        preparation=builders.of_volumes(32, 32),
    )
    dataset = replace(datasets.DATASETS["lgg"], read_mask=lambda paths: mask_files.read(*paths))
    return EvaluationSet(table, folds, arrays, dataset, folder / "05_evaluation")


def test_the_bright_level_is_the_first_that_leaves_all_tissue_below(tmp_path):
    bench = volume_bench(tmp_path, [drawn(5, slice(1, 4), tissue=1.1), drawn(6, slice(2, 4), tissue=0.3)])
    assert (
        baselines.bright_level(bench.arrays, bench.dataset.shown_channel, ["v0", "v1"]) == 1.25
    )  # levels are a quarter apart
    assert baselines.bright_level(bench.arrays, bench.dataset.shown_channel, ["v1"]) == 0.5


def test_volumes_without_lesion_have_no_say_in_the_bright_level(tmp_path):
    without = drawn(5, slice(0, 0), speck=np.s_[1:4, 5:9, 5:9])
    bench = volume_bench(tmp_path, [without, drawn(6, slice(2, 4), tissue=0.3)])
    assert baselines.bright_level(bench.arrays, bench.dataset.shown_channel, ["v0", "v1"]) == 0.5
    assert baselines.bright_level(bench.arrays, bench.dataset.shown_channel, ["v0"]) == baselines.BRIGHT_LEVELS[-1]


def test_of_what_is_bright_the_largest_part_is_the_lesion_wherever_a_speck_is(tmp_path):
    speck = np.s_[0:2, 25:27, 25:27]
    volumes = [drawn(5, slice(1, 4), tissue=0.7, speck=speck), drawn(4, slice(1, 3)), drawn(6, slice(1, 5))]
    row = baselines.baselines(volume_bench(tmp_path, volumes), [0]).set_index("method").loc[baselines.BRIGHT]
    # Fold 2 trains, where no tissue asks for more than the least level: the tissue of fold 0, at 0.7, is taken too.
    assert row["dice"] == pytest.approx(2 * 48 / (48 + 5 * 32 * 32))
    volumes[2] = drawn(6, slice(1, 5), tissue=0.8)
    found = baselines.baselines(volume_bench(tmp_path, volumes), [0]).set_index("method")
    assert found.loc[baselines.BRIGHT, "dice"] == 1
    assert found.loc[baselines.BRIGHT, "n"] == 1
    assert set(found["class"]) == {"lesion"}  # the first class of the study


def test_a_part_outside_the_lesion_that_is_larger_is_what_is_taken(tmp_path):
    speck = np.s_[1:4, 20:30, 20:30]
    volumes = [drawn(5, slice(1, 4), speck=speck), drawn(4, slice(1, 3)), drawn(6, slice(1, 5))]
    found = baselines.baselines(volume_bench(tmp_path, volumes), [0]).set_index("method")
    assert found.loc[baselines.BRIGHT, "dice"] == 0


def test_the_average_reference_of_slices_is_guessed_in_every_slice(tmp_path):
    volumes = [drawn(5, slice(1, 4)), drawn(4, slice(1, 3)), drawn(6, slice(1, 5))]
    row = baselines.baselines(volume_bench(tmp_path, volumes), [0, 1, 2]).iloc[0]
    # The block in all slices of which three of five, two of four, four of six show it: Dice 2k / (k + depth).
    assert row["method"] == "average of the training references"
    assert row["n"] == 3
    assert row["dice"] == pytest.approx((6 / 8 + 4 / 6 + 8 / 10) / 3)


def test_a_volume_without_lesion_has_no_part_in_a_baseline(tmp_path):
    volumes = [drawn(5, slice(0, 0), speck=np.s_[1:3, 5:9, 5:9]), drawn(4, slice(1, 3)), drawn(6, slice(1, 5))]
    found = baselines.baselines(volume_bench(tmp_path, volumes), [0, 1, 2])
    assert found["n"].tolist() == [2, 2]


def test_both_baselines_of_volumes_go_from_raw_files_to_an_interval(tmp_path):
    bench = builders.volume_bench(tmp_path)
    bench = replace(bench, folds=bench.folds.assign(fold=[0, 1, 1, 2]))  # each fold trains on a lesion
    found = baselines.baselines(bench, [0, 1, 2])
    assert found["class"].tolist() == ["lesion", "lesion"]
    assert found["n"].tolist() == [3, 3]  # the fourth patient shows nothing
    guess, bright = found["dice"]
    assert bright == pytest.approx((1 + 64 / 80 + 80 / 82) / 3)  # a dropped slice, two voxels outside the crop
    assert guess < bright


# Otsu's ellipse


def test_otsu_finds_a_bright_disc():
    rows, cols = np.mgrid[:100, :140]
    disc = (rows - 48) ** 2 + (cols - 75) ** 2 <= 30**2
    image = (np.random.default_rng(0).integers(0, 40, disc.shape) + 150 * disc).astype(np.uint8)
    found = baselines.otsu_ellipse(image)
    assert 2 * (found & disc).sum() / (found.sum() + disc.sum()) > 0.98  # blurred by 2 px: less than 1 px outwards


def test_otsu_fills_a_bright_ring():
    rows, cols = np.mgrid[:100, :140]
    distance = np.hypot(rows - 50, cols - 70)
    image = np.where(abs(distance - 30) < 4, 220, 10).astype(np.uint8)
    assert baselines.otsu_ellipse(image)[50, 70]


@pytest.mark.parametrize("image", [np.zeros((40, 50), np.uint8), np.full((40, 50), 9, np.uint8)], ids=["black", "even"])
def test_otsu_finds_nothing_where_there_is_nothing(image):
    found = baselines.otsu_ellipse(image)
    assert found.shape == (40, 50)
    assert not found.any()
