"""Drawn heads in slices, their exact truth, and the folders that they are written to."""

import csv

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from lib.datasets import lgg
from lib.datasets.phantoms import brains, write_volumes
from lib.datasets.phantoms.brains import FLAIR, POST, PRE, Ellipsoid, Grid
from lib.study import files

SEED = 12
CORNERS = np.ones((3, 3, 3))  # neighbours, corners included
GRID = Grid((9, 31, 41), (5.0, 2.0, 1.5))


@pytest.fixture(scope="module")
def volumes():
    """One round of subjects by number."""
    return {subject: brains.draw_volume(SEED, subject) for subject in range(1, 25)}


@pytest.fixture(scope="module")
def with_lesion(volumes):
    return [volume for volume in volumes.values() if volume.mask.any()]


@pytest.fixture(scope="module")
def drawn():
    """Volumes of other seeds whose images are left black: geometry alone, in a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(brains, "_render", lambda head, *_: np.zeros((*head.grid.shape, 3), np.uint8))
        return [brains.draw_volume(seed, subject) for seed in range(100, 105) for subject in range(1, 25)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lgg")
    write_volumes.write_lgg(folder, 9, SEED)
    return folder


# Ellipsoids


def test_an_ellipsoid_s_level_is_0_in_its_centre_and_1_at_the_ends_of_its_axes():
    level = Ellipsoid((20.0, 30.0, 30.0), (10.0, 8.0, 6.0), 0.0).level(GRID)
    assert level.shape == GRID.shape
    assert level[4, 15, 20] == 0
    assert [level[6, 15, 20], level[4, 19, 20], level[4, 15, 24]] == pytest.approx([1, 1, 1])
    assert [level[8, 15, 20], level[4, 23, 20], level[4, 15, 36]] == pytest.approx([2, 2, 4])


def test_a_turn_goes_from_column_towards_row():
    level = Ellipsoid((20.0, 30.0, 30.0), (10.0, 3.0, 12.0), 30.0).level(Grid((9, 61, 61), (5.0, 1.0, 1.0)))
    along = np.deg2rad(30)
    end = (4, round(30 + 12 * np.sin(along)), round(30 + 12 * np.cos(along)))
    mirrored = (4, round(30 - 12 * np.sin(along)), round(30 + 12 * np.cos(along)))
    assert level[end] == pytest.approx(1, abs=0.06)
    assert level[mirrored] > 2


def test_voxels_of_an_ellipsoid_fill_its_volume():
    grid = Grid((60, 81, 81), (1.0, 1.0, 1.0))
    body = Ellipsoid((30.2, 40.1, 39.7), (17.0, 21.0, 13.0), 33.0)
    volume_ml = 4 / 3 * np.pi * 17 * 21 * 13 / 1000
    assert brains.reference_mask(((body,),), grid).sum() / 1000 == pytest.approx(volume_ml, rel=2e-3)


# Truth


def inside_any(volume):
    """Centres inside a lesion by matrices, one voxel a row: another way than `Ellipsoid.level`."""
    places = np.argwhere(np.ones(volume.grid.shape, bool)) * np.array(volume.grid.voxel_mm)
    found = np.zeros(len(places), bool)
    for body in (body for part in volume.parts for body in part):
        angle = np.deg2rad(body.turn_deg)
        axes = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
        shape = axes.T @ np.diag(1 / np.array(body.half_mm) ** 2) @ axes
        apart = places - np.array(body.centre_mm)
        found |= np.einsum("ni,ij,nj->n", apart, shape, apart) <= 1
    return found.reshape(volume.grid.shape)


def test_the_mask_holds_exactly_the_voxels_whose_centre_lies_in_the_drawn_lesion(volumes):
    for volume in volumes.values():
        assert volume.mask.dtype == np.uint8
        assert np.array_equal(volume.mask, inside_any(volume).astype(np.uint8))


def test_millilitres_are_voxels_times_their_size(volumes):
    for volume in volumes.values():
        apart, row, col = volume.grid.voxel_mm
        assert volume.truth["lesion_voxels"] == volume.mask.sum()
        assert volume.truth["lesion_ml"] == pytest.approx(volume.mask.sum() * apart * row * col / 1000, rel=1e-9)
        assert volume.truth["lesion_slices"] == volume.mask.any(axis=(1, 2)).sum()
        assert volume.truth["slices"] == len(volume.mask) == len(volume.image)


def test_a_lesion_of_one_ellipsoid_has_about_that_ellipsoid_s_volume(drawn):
    whole = [volume for volume in drawn if not volume.kind.at_end]  # the frame ends before that one does
    single = [volume for volume in whole if [len(part) for part in volume.parts] == [1]]
    assert len(single) > 15
    ratios = np.array(
        [volume.truth["lesion_ml"] / (4 / 3 * np.pi * np.prod(volume.parts[0][0].half_mm) / 1000) for volume in single]
    )
    assert np.abs(ratios - 1).max() < 0.1  # the thickest slices cut the smallest lesion three times
    assert ratios.mean() == pytest.approx(1, abs=0.01)


def test_parts_are_what_hangs_together_and_lie_apart(volumes):
    for volume in volumes.values():
        assert ndimage.label(volume.mask, CORNERS)[1] == volume.truth["parts"] == len(volume.parts)
        assert ndimage.label(ndimage.binary_dilation(volume.mask, CORNERS))[1] == len(volume.parts)


def test_lobes_add_to_the_first_ellipsoid_of_a_part(drawn):
    growth = [
        np.divide(*(brains.reference_mask((each,), volume.grid).sum() for each in (part, part[:1])))
        for volume in drawn
        for part in volume.parts
        if len(part) > 1
    ]
    assert len(growth) > 50
    assert min(growth) > 1
    assert 1.15 < np.median(growth) < 1.6


def test_lesions_lie_in_the_brain_clear_of_the_frame_and_of_two_slices_at_each_end(volumes):
    for subject, volume in volumes.items():
        assert not volume.mask[:, [0, -1]].any()
        assert not volume.mask[:, :, [0, -1]].any()
        assert not volume.mask[:2].any()
        assert volume.mask[-2:].any() == (subject == 9), subject
    assert volumes[9].mask[-1].sum() >= 8


def test_lesions_are_contiguous_and_of_the_published_extent(with_lesion):
    shares = []
    for volume in with_lesion:
        shown = np.flatnonzero(volume.mask.any(axis=(1, 2)))
        shares.append(len(shown) / len(volume.mask))
        if len(volume.parts) == 1:
            assert len(shown) == shown[-1] - shown[0] + 1 >= 3
    assert 0.3 < np.mean(shares) < 0.6  # 110 patients: median 0.36
    assert 0.005 < np.mean([volume.mask.mean() for volume in with_lesion]) < 0.03  # 110 patients: 0.010


# Kinds of subjects


def test_a_round_of_24_has_five_institutions_of_unequal_counts():
    sites = pd.Series([brains.kind_of(subject).site.code for subject in range(1, 25)])
    assert sites.value_counts().to_dict() == {"HT": 11, "CS": 6, "DU": 4, "FG": 2, "EZ": 1}
    assert [brains.kind_of(subject + 24) for subject in range(1, 25)] == [brains.kind_of(n) for n in range(1, 25)]


def test_the_oddities_of_published_patients_are_all_there(volumes):
    assert [subject for subject, volume in volumes.items() if not volume.mask.any()] == [6, 20]
    assert [subject for subject, volume in volumes.items() if len(volume.parts) == 2] == [2, 8, 14, 23]
    assert [subject for subject, volume in volumes.items() if volume.kind.faint] == [4, 10, 17]
    same = {s: [c for c in (PRE, POST) if (v.image[..., c] == v.image[..., FLAIR]).all()] for s, v in volumes.items()}
    assert {s: channels for s, channels in same.items() if channels} == {
        5: [POST],
        13: [PRE],
        18: [PRE, POST],
        21: [POST],
    }


def test_sequences_are_empty_in_a_few_first_slices_only(volumes):
    for subject, volume in volumes.items():
        empty = volume.image.max(axis=(1, 2)) == 0  # (slices, 3)
        assert empty.any() == (subject in (3, 15, 22)), subject
        assert not empty[2:].any()
        assert empty.any(axis=0).sum() <= 1


def test_depths_and_slice_distances_differ_and_the_head_shrinks_upward(volumes):
    depths = [len(volume.image) for volume in volumes.values()]
    assert min(depths) >= 12
    assert max(depths) <= 30
    assert len(set(depths)) > 8
    distances = [volume.grid.voxel_mm[0] for volume in volumes.values()]
    assert max(distances) > 2 * min(distances)
    for volume in volumes.values():
        area = (volume.image[..., FLAIR] > 25).sum(axis=(1, 2))
        assert area[2:5].mean() > 1.2 * area[-3:].mean()


def test_one_institution_has_pixels_higher_than_wide_and_another_the_other_way():
    shapes = {site.code: (site.shape, site.pixel_mm) for site in brains.SITES.values()}
    assert shapes["DU"] == ((112, 96), (2.1, 2.4))
    assert shapes["FG"] == ((96, 112), (2.4, 2.1))


# Images


def means(volume, channel):
    """Mean grey of the lesion and of the tissue within three pixels around it in its slices."""
    mask = volume.mask > 0
    around = ndimage.binary_dilation(mask, np.ones((1, 3, 3)), iterations=3) & ~mask
    return volume.image[mask, channel].mean(), volume.image[around, channel].mean()


def test_lesions_are_bright_on_flair_and_faint_ones_barely(with_lesion):
    ratios = {True: [], False: []}
    for volume in with_lesion:
        inside, around = means(volume, FLAIR)
        ratios[volume.kind.faint].append(inside / around)
    assert min(ratios[False]) > 1.2
    assert max(ratios[True]) < min(ratios[False])
    assert min(ratios[True]) > 1


def test_lesions_are_dark_before_contrast_and_most_have_a_bright_rim_after_it(with_lesion):
    own = [volume for volume in with_lesion if not volume.kind.replaced]
    assert all(np.less(*means(volume, PRE)) for volume in own)
    rims = []
    for volume in own:
        level = np.minimum.reduce([brains.part_level(part, volume.grid) for part in volume.parts])
        rim, core = (level > 0.75) & (level < 0.95), level < 0.6
        rims.append(volume.image[rim, POST].mean() / volume.image[core, POST].mean())
    assert 0.5 < np.mean(np.array(rims) > 1.1) < 0.95


def test_institutions_are_not_on_one_grey_scale(volumes):
    bright = pd.Series([np.percentile(volume.image[..., FLAIR], 99) for volume in volumes.values()])
    codes = [volume.kind.site.code for volume in volumes.values()]
    found = bright.groupby(codes).mean()
    assert found["EZ"] < 0.7 * found["DU"]
    assert 60 < bright.min() < bright.max() < 220  # published patients: 76 to 206


def test_background_is_near_0_and_never_the_same_in_two_sequences(volumes):
    for volume in volumes.values():
        corner = volume.image[2:, :8, :8]
        assert 0 < corner.mean() < 15
        assert volume.image.dtype == np.uint8


def dice(found, mask):
    return 2 * (found & mask).sum() / (found.sum() + mask.sum())


def test_no_threshold_of_flair_solves_the_phantom_not_even_the_best_of_each_patient(with_lesion):
    best = []
    for volume in with_lesion:
        mask, flair = volume.mask > 0, volume.image[..., FLAIR]
        best.append(max(dice(flair > level, mask) for level in range(20, 250, 5)))
    assert np.mean(best) < 0.4


# Randomness


def test_a_volume_is_a_function_of_seed_and_subject(volumes):
    again = brains.draw_volume(SEED, 7)
    assert np.array_equal(again.image, volumes[7].image)
    assert (again.parts, again.grid, again.kind) == (volumes[7].parts, volumes[7].grid, volumes[7].kind)
    other = brains.draw_volume(SEED + 1, 7)
    assert other.kind == again.kind
    assert other.parts != again.parts
    assert brains.draw_volume(SEED, 7 + 24).parts != again.parts


def test_a_lesion_finds_its_place_in_every_head(drawn):
    for volume in drawn:
        assert volume.mask.any() == volume.kind.lesion
        assert ndimage.label(volume.mask, CORNERS)[1] == len(volume.parts)


# Folders


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read_truth(folder):
    return files.read_csv(folder / "truth.csv", []).set_index("case")


def test_one_seed_gives_the_same_bytes(written, tmp_path):
    write_volumes.write_lgg(tmp_path, 9, SEED)
    assert contents(tmp_path) == contents(written)


def test_fewer_subjects_are_the_first_of_more(written, tmp_path):
    write_volumes.write_lgg(tmp_path, 2, SEED)
    whole, part = contents(written), contents(tmp_path)
    slices = [path for path in part if path.suffix == ".tif"]
    assert len({path.parent for path in slices}) == 2
    assert all(part[path] == whole[path] for path in slices)


def test_the_published_layout_is_written(written):
    assert sorted(path.name for path in written.iterdir()) == ["kaggle_3m", "truth.csv"]
    names = sorted(path.name for path in (written / "kaggle_3m").iterdir())
    assert names[-2:] == ["data.csv", "spacing.csv"]
    assert sorted(read_truth(written).index) == names[:-2]
    for name in names[:-2]:
        count = read_truth(written).loc[name, "slices"]
        expected = {f"{name}_{n}{end}.tif" for n in range(1, count + 1) for end in ("", "_mask")}
        assert {path.name for path in (written / "kaggle_3m" / name).iterdir()} == expected


def test_slices_are_deflated_tiffs_of_the_drawn_volume(written):
    volume = brains.draw_volume(SEED, 1)
    (folder,) = (written / "kaggle_3m").glob("TCGA_HT_P001_*")
    with (
        Image.open(folder / f"{folder.name}_10.tif") as image,
        Image.open(folder / f"{folder.name}_10_mask.tif") as mask,
    ):
        assert (image.mode, mask.mode) == ("RGB", "L")
        assert image.info["compression"] == mask.info["compression"] == "tiff_adobe_deflate"
        assert np.array_equal(np.asarray(image), volume.image[9])
        assert np.array_equal(np.asarray(mask), volume.mask[9] * 255)


def test_the_layout_s_reader_gives_the_drawn_volumes_and_their_pixel_sizes(written):
    found, findings = lgg.find_cases(written, ())
    assert findings == []
    truth = read_truth(written)
    assert [case.name for case in found] == sorted(truth.index)
    for case in found:
        volume = brains.draw_volume(SEED, int(case.subject[-3:]))
        assert np.array_equal(lgg.read_image(case.image), volume.image)
        assert np.array_equal(lgg.read_mask(case.mask), volume.mask)
        assert (case.slice_mm, *case.spacing_mm) == volume.grid.voxel_mm
        row = truth.loc[case.name]
        assert (row["subject"], row["stratum"]) == (case.subject, case.stratum)
        assert {key: row[key] for key in volume.truth} == volume.truth
        assert tuple(row[f"spacing_{axis}_mm"] for axis in ("slice", "row", "col")) == volume.grid.voxel_mm


def test_the_layout_s_reader_finds_the_oddities_in_pixels(written):
    found = lgg.find_cases(written, ())[0]
    said = {}
    for case in found:
        for finding in lgg.inspect(case, lgg.read_image(case.image), lgg.read_mask(case.mask)):
            said[finding.check.name, int(case.subject[-3:])] = finding.found
    assert set(said) == {
        ("constant channel", 3),
        ("sequence replaced by FLAIR", 5),
        ("no lesion", 6),
        ("lesion in an end slice", 9),
    }
    assert said["sequence replaced by FLAIR", 5] == "post-contrast"
    last, whole = brains.draw_volume(SEED, 9).mask[-1].sum(), brains.draw_volume(SEED, 9).mask.sum()
    assert said["lesion in an end slice", 9].endswith(f"{last} of {whole} lesion voxels")


def test_data_csv_has_a_row_a_patient_under_the_publisher_s_headings(written):
    with (written / "kaggle_3m" / "data.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["Patient", "gender", "age_at_initial_pathologic"]
    assert [row["Patient"] for row in rows] == read_truth(written)["subject"].tolist()
    assert all(row["gender"] in "12" and 20 <= int(row["age_at_initial_pathologic"]) <= 75 for row in rows)


def test_a_number_of_subjects_that_names_cannot_hold_is_refused(tmp_path):
    for subjects in (0, -1, 1000):
        with pytest.raises(ValueError, match=f"subjects = {subjects}   not allowed; 1 to 999"):
            write_volumes.write_lgg(tmp_path, subjects, SEED)
    assert list(tmp_path.iterdir()) == []
