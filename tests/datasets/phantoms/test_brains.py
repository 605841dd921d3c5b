import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from lib.datasets.phantoms import brains
from lib.datasets.phantoms.brains import FLAIR, POST, PRE, Ellipsoid, Grid
from tests.datasets.phantoms.builders import SEED

CORNERS = np.ones((3, 3, 3))  # neighbours, corners included
GRID = Grid((9, 31, 41), (5.0, 2.0, 1.5))


@pytest.fixture(scope="module")
def volumes():
    """One cycle of subjects by number."""
    return {subject: brains.draw_volume(SEED, subject) for subject in range(1, 25)}


@pytest.fixture(scope="module")
def with_lesion(volumes):
    return [volume for volume in volumes.values() if volume.mask.any()]


@pytest.fixture(scope="module")
def drawn():
    """Volumes of other seeds with black images: geometry only, in a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(brains, "_render", lambda head, *_: np.zeros((*head.grid.shape, 3), np.uint8))
        return [brains.draw_volume(seed, subject) for seed in range(100, 105) for subject in range(1, 25)]


def test_an_ellipsoid_s_level_is_0_in_its_centre_and_1_at_the_ends_of_its_axes():
    level = Ellipsoid((20.0, 30.0, 30.0), (10.0, 8.0, 6.0), 0.0).level(GRID)
    assert level.shape == GRID.shape
    assert [level[4, 15, 20], level[6, 15, 20], level[4, 19, 20], level[4, 15, 24]] == pytest.approx([0, 1, 1, 1])
    assert [level[8, 15, 20], level[4, 23, 20], level[4, 15, 36]] == pytest.approx([2, 2, 4])


def inside_any(volume):
    """Centres inside a lesion, computed independently of `Ellipsoid.level` by rotation matrices."""
    centres = np.argwhere(np.ones(volume.grid.shape, bool)) * np.array(volume.grid.voxel_mm)
    inside = np.zeros(len(centres), bool)
    for body in (body for part in volume.parts for body in part):
        angle = np.deg2rad(body.turn_deg)
        axes = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
        inside |= np.sum(((centres - body.centre_mm) @ axes.T / body.half_mm) ** 2, axis=1) <= 1
    return inside.reshape(volume.grid.shape)


def test_the_mask_and_its_truth_are_the_voxels_whose_centre_lies_in_the_drawn_lesion(volumes, drawn):
    for volume in [*volumes.values(), *drawn[::5]]:  # of five other seeds, each kind once
        assert volume.mask.dtype == np.uint8
        assert np.array_equal(volume.mask, inside_any(volume).astype(np.uint8))
        truth = (len(volume.image), volume.mask.any(axis=(1, 2)).sum(), volume.mask.sum(), len(volume.parts))
        assert tuple(volume.truth.values())[:-1] == truth
        assert volume.truth["lesion_ml"] == pytest.approx(volume.mask.sum() * np.prod(volume.grid.voxel_mm) / 1000)


def test_lesions_lie_in_the_brain_in_their_parts_clear_of_the_frame_and_of_two_slices_at_each_end(volumes, drawn):
    for volume in [*volumes.values(), *drawn]:
        mask = volume.mask
        assert mask.any() == volume.kind.lesion
        assert ndimage.label(ndimage.binary_dilation(mask, np.ones((2, 2, 2))), CORNERS)[1] == len(volume.parts)
        assert not mask[:, [0, -1]].any()
        assert not mask[:, :, [0, -1]].any()
        assert not mask[:2].any()
        assert mask[-2:].any() == volume.kind.at_end
        assert not volume.kind.at_end or mask[-1].sum() >= 8


def test_lesions_are_contiguous_and_of_the_published_extent(with_lesion):
    shares = []
    for volume in with_lesion:
        slices = np.flatnonzero(volume.mask.any(axis=(1, 2)))
        shares.append(len(slices) / len(volume.mask))
        assert len(volume.parts) == 2 or len(slices) == slices[-1] - slices[0] + 1 >= 3
    assert 0.3 < np.mean(shares) < 0.6  # 110 patients: median 0.36
    assert 0.005 < np.mean([volume.mask.mean() for volume in with_lesion]) < 0.03  # 110 patients: 0.010


def test_the_oddities_of_published_patients_are_all_there(volumes):
    sites = pd.Series([volume.kind.site.code for volume in volumes.values()])
    assert sites.value_counts().to_dict() == {"HT": 11, "CS": 6, "DU": 4, "FG": 2, "EZ": 1}
    assert [brains.kind_of(subject + 24) for subject in volumes] == [volume.kind for volume in volumes.values()]
    assert [subject for subject, volume in volumes.items() if not volume.mask.any()] == [6, 20]
    assert [subject for subject, volume in volumes.items() if len(volume.parts) == 2] == [2, 8, 14, 23]
    assert [subject for subject, volume in volumes.items() if volume.kind.faint] == [4, 10, 17]
    assert [subject for subject, volume in volumes.items() if volume.kind.at_end] == [9]
    same = {s: [c for c in (PRE, POST) if (v.image[..., c] == v.image[..., FLAIR]).all()] for s, v in volumes.items()}
    replaced = {subject: channels for subject, channels in same.items() if channels}
    assert replaced == {5: [POST], 13: [PRE], 18: [PRE, POST], 21: [POST]}
    for subject, volume in volumes.items():
        empty = volume.image.max(axis=(1, 2)) == 0  # (slices, 3)
        assert empty.any() == (subject in (3, 15, 22)), subject
        assert not empty[2:].any()
        assert empty.any(axis=0).sum() <= 1


def test_depths_slice_distances_and_pixels_differ_and_the_head_shrinks_upward(volumes):
    depths = [len(volume.image) for volume in volumes.values()]
    assert 12 <= min(depths) < max(depths) <= 30
    assert len(set(depths)) > 8
    distances = [volume.grid.voxel_mm[0] for volume in volumes.values()]
    assert max(distances) > 2 * min(distances)
    pixels = {volume.kind.site.code: (volume.image.shape[1:3], volume.grid.voxel_mm[1:]) for volume in volumes.values()}
    assert (pixels["DU"], pixels["FG"]) == (((112, 96), (2.1, 2.4)), ((96, 112), (2.4, 2.1)))
    for volume in volumes.values():
        area = (volume.image[..., FLAIR] > 25).sum(axis=(1, 2))
        assert area[2:5].mean() > 1.2 * area[-3:].mean()


def contrast(volume, channel):
    """Mean grey value of the lesion relative to tissue within three pixels around it in the slice."""
    mask = volume.mask > 0
    around = ndimage.binary_dilation(mask, np.ones((1, 3, 3)), iterations=3) & ~mask
    return volume.image[mask, channel].mean() / volume.image[around, channel].mean()


def test_lesions_are_bright_on_flair_faint_ones_barely_and_dark_before_contrast_most_with_a_rim_after(with_lesion):
    plain = [contrast(volume, FLAIR) for volume in with_lesion if not volume.kind.faint]
    faint = [contrast(volume, FLAIR) for volume in with_lesion if volume.kind.faint]
    assert 1 < min(faint) < max(faint) < min(plain)
    assert min(plain) > 1.2
    rims, complete = [], [volume for volume in with_lesion if not volume.kind.replaced]
    for volume in complete:
        assert contrast(volume, PRE) < 1
        level = np.minimum.reduce([brains.part_level(part, volume.grid) for part in volume.parts])
        rim, core = (level > 0.75) & (level < 0.95), level < 0.6
        rims.append(volume.image[rim, POST].mean() / volume.image[core, POST].mean())
    assert 0.5 < np.mean(np.array(rims) > 1.1) < 0.95


def test_institutions_are_not_on_one_grey_scale_and_background_is_near_0(volumes):
    bright = pd.Series([np.percentile(volume.image[..., FLAIR], 99) for volume in volumes.values()])
    means = bright.groupby([volume.kind.site.code for volume in volumes.values()]).mean()
    assert means["EZ"] < 0.7 * means["DU"]
    assert 60 < bright.min() < bright.max() < 220  # published patients: 76 to 206
    assert all(0 < volume.image[2:, :8, :8].mean() < 15 for volume in volumes.values())
    assert all(volume.image.dtype == np.uint8 for volume in volumes.values())


def test_no_threshold_of_flair_solves_the_phantom_not_even_the_best_of_each_patient(with_lesion):
    best = []
    for volume in with_lesion:
        mask, flair = volume.mask > 0, volume.image[..., FLAIR]
        regions = [flair > level for level in range(20, 250, 5)]
        best.append(max(2 * (region & mask).sum() / (region.sum() + mask.sum()) for region in regions))
    assert np.mean(best) < 0.4


def test_another_seed_and_another_cycle_draw_other_lesions_of_the_same_kind(volumes):
    for other in (brains.draw_volume(SEED + 1, 7), brains.draw_volume(SEED, 7 + 24)):
        assert other.kind == volumes[7].kind
        assert other.parts != volumes[7].parts
