"""Methods without a network on regions with an overlap counted by hand."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import datasets, metrics
from lib.data.evaluation_set import EvaluationSet
from lib.evaluation import baselines
from lib.imaging import mask_files
from tests import builders
from tests.builders import NOTHING, last_columns, one_thread  # noqa: F401

ELLIPSE = builders.ellipse_region((32, 32), (15.6, 15.2), 20, 16, 0)


@pytest.mark.parametrize(
    ("regions", "folds", "n", "average"),
    [
        ([ELLIPSE] * 6, [0, 1, 2], 6, 1),  # all equal: the average fits perfectly
        # fold 0 is tested, fold 1 validates, fold 2 trains; only training references are averaged
        ([last_columns(8)] * 2 + [last_columns(24)] * 4, [0], 2, 2 * 8 / (8 + 24)),
        ([last_columns(8)] * 2 + [NOTHING] * 4, [0], 2, 0),  # the class is absent from all training cases
        ([ELLIPSE, NOTHING, NOTHING, ELLIPSE, ELLIPSE, NOTHING], [0, 1, 2], 3, 1),  # empty ones do not count
    ],
)
def test_both_baselines_of_images_counted_by_hand(regions, folds, n, average, tmp_path):
    bench = builders.image_bench(tmp_path, [0.1 + 0.8 * region for region in regions], regions)
    rows = baselines.baselines(bench, folds, [0], [])
    assert rows[["method", "class", "n"]].values.tolist() == [
        ["average of the training references", "head", n],
        ["Otsu's threshold, holes filled, ellipse", "head", n],
    ]
    assert rows["dice"][0] == pytest.approx(average)
    assert rows["dice"][1] >= (0.9 if regions[0] is ELLIPSE else 0)  # no ellipse is fitted to a region at the frame


@pytest.mark.parametrize("seed", range(5))
def test_no_other_level_has_a_better_mean_dice(seed):
    draw = np.random.default_rng(seed)
    drawn = [(draw.uniform(9, 15, 2), draw.uniform(10, 16), 9, 0) for _ in range(6)]
    references = np.stack([builders.ellipse_region((24, 24), *ellipse) for ellipse in drawn]).astype(np.uint8)
    references[0] = 0  # does not count
    average = references.mean(axis=0).astype(np.float32)

    def fit(level):
        return np.mean([metrics.overlap(mask == 1, average >= level, 1).dice for mask in references[1:]])

    best = baselines.best_level(average, references, np.arange(6), [1])
    assert all(fit(best) >= fit(level * average.max()) - 1e-6 for level in baselines.LEVELS)


def test_baselines_of_images_have_an_interval(tmp_path):
    draw = np.random.default_rng(3)
    drawn = [(draw.uniform(12, 20, 2), draw.uniform(14, 22), 12, draw.uniform(0, 180)) for _ in range(12)]
    regions = [builders.ellipse_region((32, 32), *ellipse) for ellipse in drawn]
    rows = baselines.baselines(
        builders.image_bench(tmp_path, [0.2 + 0.6 * each for each in regions], regions), [0, 1], [0], []
    )
    assert rows["n"].tolist() == [8, 8]
    assert (np.diff(rows[["dice_low", "dice", "dice_high"]]) > 0).all()


def test_the_best_level_of_references_worked_by_hand():
    references = np.array([[[1, 1, 0, 0]], [[1, 1, 0, 0]], [[1, 0, 0, 2]], [[0, 0, 0, 0]]], np.uint8)
    average = (references[:3] == 1).mean(axis=0).astype(np.float32)  # 1, 2/3, 0, 0
    for rows, pixels in (
        ([0, 1, 2], 2),  # two pixels: Dice 1, 1, 2/3; one pixel: 2/3, 2/3, 1
        ([0, 2, 2], 1),  # 1, 2/3, 2/3 against 2/3, 1, 1
        ([0, 2, 2, 3, 3, 3], 1),  # empty references do not count
    ):
        level = baselines.best_level(average, references, np.array(rows), [1])
        assert (average >= level).tolist() == [[place < pixels for place in range(4)]]
    assert baselines.best_level(0 * average, 0 * references, np.arange(3), [1]) == 1  # the class is absent


def test_the_memory_of_choosing_a_level_does_not_grow_with_the_number_of_references():
    references, peaks = np.ones((80, 64, 64), np.uint8), []
    for count in (8, 80):
        tracemalloc.start()
        baselines.best_level(np.ones((64, 64), np.float32), references, np.arange(count), [1])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


BLOCK = np.s_[10:14, 12:16]  # 16 voxels per slice


def drawn(depth, lesion, tissue=0.0, speck=None):
    """Normalised FLAIR and mask of a volume (depth, 32, 32): lesion of 3 in some slices, tissue and a bright speck."""
    flair, mask = np.full((depth, 32, 32), tissue, np.float32), np.zeros((depth, 32, 32), np.uint8)
    flair[(lesion, *BLOCK)], mask[(lesion, *BLOCK)] = 3, 1
    if speck is not None:
        flair[speck] = 3
    return flair, mask


def volume_bench(folder, volumes):
    """Volumes at native size and network size, all slices kept, one per fold."""
    names, depths = [f"v{n}" for n in range(len(volumes))], [len(mask) for _, mask in volumes]
    images = np.full((sum(depths), 3, 32, 32), 9, np.float32)  # other channels are bright everywhere
    images[:, 1] = np.concatenate([flair for flair, _ in volumes])
    paths = [str(folder / f"{name}.tif") for name in names]
    for name, (_, mask) in zip(names, volumes):
        mask_files.write(folder / f"{name}.tif", mask)
    table = pd.DataFrame({"case": names, "subject": names, "slices": depths, "image": paths, "mask": paths})
    folds = table[["case", "subject"]].assign(fold_group=names, fold=range(len(names)), validates=True)
    masks, slices = (np.concatenate(parts) for parts in ([mask for _, mask in volumes], [*map(np.arange, depths)]))
    about = {"slices": slices, "preparation": builders.of_volumes(32, 32)}
    arrays = builders.arrays_of(np.repeat(names, depths).tolist(), images, masks, "built", **about)
    dataset = replace(datasets.DATASETS["lgg"], read_mask=lambda paths: mask_files.read(*paths))
    return EvaluationSet(builders.hashed(table), folds, arrays, dataset, folder / "05_evaluation")


def test_the_bright_level_is_the_first_that_leaves_all_tissue_below_in_volumes_with_a_lesion(tmp_path):
    without = drawn(5, slice(0, 0), speck=np.s_[1:4, 5:9, 5:9])
    volumes = [drawn(5, slice(1, 4), tissue=1.1), drawn(6, slice(2, 4), tissue=0.3), without]
    arrays = volume_bench(tmp_path, volumes).arrays
    for names, level in (("v0 v1", 1.25), ("v1", 0.5), ("v1 v2", 0.5), ("v2", 4.0)):  # a quarter apart, up to 4
        assert baselines.bright_level(arrays, 1, names.split()) == level


@pytest.mark.parametrize(
    ("tissues", "speck", "dice"),
    [
        # Fold 2 trains. It has no tissue, so the lowest level fits, and the tissue of fold 0, at 0.7, is included.
        ((0.7, 0.0), np.s_[0:2, 25:27, 25:27], 2 * 48 / (48 + 5 * 32 * 32)),
        ((0.7, 0.8), np.s_[0:2, 25:27, 25:27], 1),  # the largest part is the lesion, not the speck
        ((0.0, 0.0), np.s_[1:4, 20:30, 20:30], 0),  # a speck larger than the lesion is kept instead
    ],
)
def test_of_what_is_bright_the_largest_part_is_taken(tissues, speck, dice, tmp_path):
    volumes = [drawn(5, slice(1, 4), tissues[0], speck), drawn(4, slice(1, 3)), drawn(6, slice(1, 5), tissues[1])]
    row = baselines.baselines(volume_bench(tmp_path, volumes), [0], [0], []).iloc[1]
    assert (row["method"], row["class"], row["n"]) == ("what is bright, largest part", "lesion", 1)
    assert row["dice"] == pytest.approx(dice)


def test_the_average_reference_is_predicted_in_every_slice_of_volumes_with_a_lesion(tmp_path):
    volumes = [drawn(5, slice(1, 4)), drawn(4, slice(1, 3)), drawn(6, slice(1, 5))]
    row = baselines.baselines(volume_bench(tmp_path, volumes), [0, 1, 2], [0], []).iloc[0]
    # The block in all slices of which three of five, two of four, four of six show it: Dice 2k / (k + depth).
    assert (row["method"], row["n"]) == ("average of the training references", 3)
    assert row["dice"] == pytest.approx((6 / 8 + 4 / 6 + 8 / 10) / 3)


def test_both_baselines_of_volumes_go_from_raw_files_to_an_interval(tmp_path):
    bench = builders.volume_bench(tmp_path)
    bench = replace(bench, folds=bench.folds.assign(fold=[0, 1, 1, 2]))  # each fold trains on a lesion
    rows = baselines.baselines(bench, [0, 1, 2], [0], [])
    assert rows["n"].tolist() == [3, 3]  # the fourth patient has no lesion
    average, bright = rows["dice"]
    assert bright == pytest.approx((1 + 64 / 80 + 80 / 82) / 3)  # a dropped slice, two voxels outside the crop
    assert average < bright
    assert (np.diff(rows[["dice_least", "dice", "dice_largest"]]) > 0).all()
    assert rows["dice_subjects"].tolist() == [3, 3]


def test_otsu_finds_a_bright_disc_fills_a_ring_and_finds_nothing_where_there_is_nothing():
    rows, cols = np.mgrid[:100, :140]
    disc = (rows - 48) ** 2 + (cols - 75) ** 2 <= 30**2
    image = (np.random.default_rng(0).integers(0, 40, disc.shape) + 150 * disc).astype(np.uint8)
    assert metrics.overlap(disc, baselines.otsu_ellipse(image), 1).dice > 0.98  # blurred by 2 px: less than 1 outwards
    distance = np.hypot(rows - 50, cols - 70)
    assert baselines.otsu_ellipse(np.where(abs(distance - 30) < 4, 220, 10).astype(np.uint8))[50, 70]
    for grey in (0, 9):
        assert baselines.otsu_ellipse(np.full((40, 50), grey, np.uint8)).tolist() == np.zeros((40, 50), bool).tolist()


def test_the_head_has_the_average_the_bright_ellipse_and_the_network_of_both_seeds_in_one_table(tmp_path):
    heads = [builders.ellipse_region((32, 32), (15.5, 15 + place / 4), 22, 18, 10 * place) for place in range(6)]
    inner = [builders.ellipse_region((32, 32), (15.5, 15 + place / 4), 6, 6, 0) for place in range(6)]
    rings = [
        each & ~builders.ellipse_region((32, 32), (15.5, 15 + n / 4), 19, 15, 10 * n) for n, each in enumerate(heads)
    ]
    references = [head + 1 * structure for head, structure in zip(heads, inner)]  # the head is classes 1 and 2
    bench = builders.image_bench(tmp_path, [0.1 + 0.8 * ring for ring in rings], references)
    bench = replace(bench, dataset=replace(bench.dataset, classes=("background", "brain", "csp")))
    for case, reference, seed in (
        (case, references[n], seed) for n, case in enumerate(bench.cases["case"]) for seed in (0, 1)
    ):
        predicted = (
            np.where(np.arange(32)[:, None] < 16, reference, 0) if seed else reference
        )  # seed 1 sees the upper half
        fold = int(bench.folds.set_index("case").loc[case, "fold"])
        mask_files.write(bench.predicted("post", fold, seed, case), predicted.astype(np.uint8))
    rows = baselines.baselines(bench, [0, 1, 2], [0, 1], ["brain", "csp"])
    assert rows[["method", "class", "n"]].values.tolist() == [
        *(["average of the training references", name, 6] for name in ("brain", "csp", "head")),
        ["brightest pixels, robust ellipse", "head", 6],
        ["network", "head", 6],
        ["network minus brightest pixels, robust ellipse", "head", 6],
    ]
    halves = [metrics.overlap(head, head & (np.arange(32)[:, None] < 16), 1).dice for head in heads]
    rival, network, gain = rows["dice"].iloc[-3:]
    assert network == pytest.approx((1 + np.mean(halves)) / 2)
    assert rival > 0.85  # the ring is only a few pixels thick
    assert gain == pytest.approx(network - rival)
    assert rows["hc_error_mm"].isna().all()  # without a pixel size


def test_an_error_of_hc_is_in_mm_from_the_published_one_and_the_whole_of_it_if_no_head_is_found():
    reference = builders.ellipse_region((60, 90), (30, 45), 60, 40, 20)
    larger, nothing = builders.ellipse_region((60, 90), (30, 45), 64, 44, 20), np.zeros((60, 90), bool)
    unknown = {"spacing_row_mm": 2.0, "spacing_col_mm": 2.0, "hc_mm": np.nan}
    published = unknown | {"hc_mm": 300.0}
    hc_mm, larger_mm = 2 * builders.perimeter(60, 40), 2 * builders.perimeter(64, 44)
    assert baselines.head_error_mm(unknown, reference, larger) == pytest.approx(larger_mm - hc_mm, abs=1)
    assert baselines.head_error_mm(published, reference, larger) == pytest.approx(larger_mm - 300, abs=0.5)
    assert baselines.head_error_mm(published, reference, nothing) == 300
    assert np.isnan(baselines.head_error_mm(unknown | {"spacing_row_mm": np.nan}, reference, larger))


def test_differences_are_paired_by_case_whatever_the_order_and_have_an_interval_by_subject():
    network = pd.DataFrame(
        {"subject": ["s", "s", "t"], "dice": [0.9, 0.8, np.nan], "hc_error_mm": [1.0, 4.0, np.nan]}, list("abc")
    )
    rival = pd.DataFrame(
        {"subject": ["t", "s", "s"], "dice": [np.nan, 0.6, 0.5], "hc_error_mm": [np.nan, 1.0, 9.0]}, list("cba")
    )
    paired = baselines._paired(network, rival)
    assert paired["dice"].tolist() == pytest.approx([0.4, 0.2, np.nan], nan_ok=True)
    assert paired["hc_error_mm"].tolist() == pytest.approx([-8, 3, np.nan], nan_ok=True)
    row = baselines._row_of("difference", "head", paired)
    assert (row["n"], row["dice_subjects"], row["hc_error_mm_subjects"]) == (2, 1, 1)
    assert (row["dice"], row["hc_error_mm"]) == pytest.approx((0.3, -2.5))
