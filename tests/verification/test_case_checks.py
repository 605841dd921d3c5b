"""One look at a case: figures drawn and counted by hand, of an image and of a volume."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lib import datasets
from lib.data import cases
from lib.verification import case_checks, image_hash
from tests import builders
from tests.builders import Head, save_png

HC18, LGG = datasets.DATASETS["hc18"], datasets.DATASETS["lgg"]


def block(top, left, height, width, shape=(100, 160)):
    mask = np.zeros(shape, np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


def look_at(tmp_path, mask, image=None, **about):
    """One case of an image and a mask as it is decoded."""
    image = np.full(mask.shape, 9, np.uint8) if image is None else image
    path = save_png(tmp_path / "a.png", image)
    case = cases.Case("a", "a", path, (path,), (0.1, 0.1), **about)
    return case_checks.look(case, replace(HC18, read_mask=lambda _, read: mask))


def findings_of(look):
    return [(finding.severity, finding.check.name) for finding in look.findings if finding.check.name != "low contrast"]


# Circumference


@pytest.mark.parametrize("row", [30.0, 17.0, 12.0], ids=["whole", "cut a little", "cut"])
def test_the_hc_of_a_head_is_recomputed_although_the_frame_cuts_it(row):
    head = Head("a", (row, 60.0), 56.0, 44.0, 0.0, (60, 120))
    found = case_checks.recompute_hc_mm(builders.region_of(head), (1.0, 1.0), head.hc_mm / head.spacing_mm)
    assert found == pytest.approx(builders.perimeter(56.0, 44.0), abs=case_checks.HC_TOLERANCE_MM)


def test_the_hc_of_another_head_is_not_taken_for_the_published_one():
    head = Head("a", (30.0, 60.0), 56.0, 44.0, 0.0, (60, 120))
    found = case_checks.recompute_hc_mm(builders.region_of(head), (1.0, 1.0), 170.0)
    assert found == pytest.approx(builders.perimeter(56.0, 44.0), abs=0.5)


@pytest.mark.parametrize(("spacing_mm", "published_mm"), [(None, 170.0), ((1.0, 1.0), float("nan"))])
def test_without_pixel_size_or_published_hc_none_is_recomputed(spacing_mm, published_mm):
    region = builders.region_of(Head("a"))
    assert np.isnan(case_checks.recompute_hc_mm(region, spacing_mm, published_mm))


# Region, frame, contrast


def test_a_mask_too_small_to_be_measured_stops_where_a_head_was_published(tmp_path):
    mask = block(20, 20, 1, 1)
    assert findings_of(look_at(tmp_path, mask, reference_mm={"hc": 170.0})) == [("stop", "unmeasurable mask")]
    assert findings_of(look_at(tmp_path, mask)) == []


@pytest.mark.parametrize(
    ("shows", "mask", "check"),
    [
        ("something", block(0, 0, 0, 0), "empty mask"),
        ("nothing", block(40, 40, 2, 3), "mask of a normal image"),
        ("nothing", block(0, 0, 0, 0), None),
        ("something", block(40, 40, 2, 3), None),
        ("either", block(0, 0, 0, 0), None),
        ("either", block(40, 40, 2, 3), None),
    ],
)
def test_a_mask_must_hold_what_the_case_is_to_show(tmp_path, shows, mask, check):
    seen = look_at(tmp_path, mask, shows=shows)
    assert findings_of(seen) == ([("stop", check)] if check else [])
    assert ("height" in seen.row) == (check is None)


def test_an_image_and_a_mask_of_different_size_stop(tmp_path):
    seen = look_at(tmp_path, block(40, 40, 20, 20), image=np.full((90, 160), 9, np.uint8))
    (finding,) = seen.findings
    assert (finding.check.name, finding.found) == ("size mismatch", "image (90, 160), mask (100, 160)")


@pytest.mark.parametrize(
    ("mask", "gap", "check"),
    [
        (block(30, 60, 40, 40), 0.30, None),
        (block(2, 30, 96, 100), 0.02, None),  # the limit itself is far enough
        (block(1, 30, 98, 100), 0.01, "near the frame"),  # the middle of this mass is that of the image
        (block(30, 1, 20, 158), 0.01, "near the frame"),
        (block(60, 30, 39, 20), 0.01, "near the frame"),  # below
        (block(30, 60, 40, 99), 0.01, "near the frame"),  # to the right
        (block(0, 30, 10, 10), 0.0, "touches the frame"),
        (block(30, 150, 10, 10), 0.0, "touches the frame"),
    ],
)
def test_how_near_the_frame_a_mass_is_goes_by_its_edge_not_by_its_middle(tmp_path, mask, gap, check):
    seen = look_at(tmp_path, mask)  # 100 rows, 160 columns
    assert seen.row["border_gap"] == pytest.approx(gap)
    assert findings_of(seen) == ([("note", check)] if check else [])


def test_a_mass_near_the_frame_is_noted_with_its_distance(tmp_path):
    (found,) = (f for f in look_at(tmp_path, block(1, 30, 98, 100)).findings if f.check.name == "near the frame")
    assert (found.found, found.expected) == ("1.0% of the shorter side away", "2% or more")


def test_an_empty_mask_lies_nowhere_and_has_no_contrast(tmp_path):
    row = look_at(tmp_path, block(0, 0, 0, 0), shows="either").row
    assert np.isnan([row["border_gap"], row["contrast"], row["mean_inside"]]).all()
    assert (row["area_fraction"], row["mean_outside"]) == (0, 9)


@pytest.mark.parametrize(
    ("inside", "outside", "contrast", "noted"),
    [(60, 20, 0.5, False), (20, 60, -0.5, False), (50, 50, 0.0, True), (103, 100, 3 / 203, True), (0, 0, 0.0, True)],
)
def test_contrast_by_hand_is_inside_minus_outside_over_their_sum(tmp_path, inside, outside, contrast, noted):
    mask = block(40, 60, 20, 40)
    seen = look_at(tmp_path, mask, image=np.where(mask > 0, inside, outside).astype(np.uint8))
    assert seen.row["contrast"] == pytest.approx(contrast)
    assert [finding.check.name for finding in seen.findings] == ["low contrast"] * noted
    assert seen.row["area_fraction"] == 20 * 40 / (100 * 160)


# Volumes


def patient_look(tmp_path, patient, seed=0, spoil=lambda folder: None, dataset=LGG):
    """A patient written, spoilt and looked at."""
    folder = builders.write_lgg(tmp_path / patient.name, (patient,))
    spoil(folder / "kaggle_3m" / patient.name)
    (case,) = LGG.find_cases(folder, [])[0]
    return case_checks.look(case, dataset)


def test_figures_of_a_volume_are_over_all_its_voxels(tmp_path):
    patient = builders.PATIENTS[2]  # 48 voxels of lesion in five slices
    row = patient_look(tmp_path, patient).row
    flair, mask = patient.image(0)[..., 1], patient.mask > 0
    assert (row["slices"], row["height"], row["width"]) == (5, 32, 32)
    assert row["area_fraction"] == 48 / (5 * 32 * 32)
    assert row["mean_inside"] == 220
    assert row["mean_outside"] == pytest.approx(flair[~mask].mean())
    assert row["contrast"] == pytest.approx((220 - flair[~mask].mean()) / (220 + flair[~mask].mean()))
    folder = tmp_path / patient.name / "kaggle_3m" / patient.name
    assert row["sha256"] == cases.content_hash(folder, (folder,))


def test_how_near_the_frame_a_lesion_comes_is_seen_over_all_slices(tmp_path):
    middle = (slice(1, 2), slice(10, 14), slice(12, 16))
    for low, gap in ((slice(20, 25), 7 / 32), (slice(26, 32), 0.0)):
        patient = builders.Patient(
            "TCGA_CS_0009_19990101", 4, (0, 0, 32, 32), (middle, (slice(2, 3), low, slice(9, 12)))
        )
        found = patient_look(tmp_path / str(gap), patient)
        assert found.row["border_gap"] == pytest.approx(gap)
        touches = [finding.check.name for finding in found.findings if "frame" in finding.check.name]
        assert touches == (["touches the frame", "lesion touches the frame"] if gap == 0 else [])


def test_a_volume_without_lesion_is_a_note_and_no_fault(tmp_path):
    found = patient_look(tmp_path, builders.PATIENTS[1])
    assert found.row["area_fraction"] == 0
    assert np.isnan([found.row["border_gap"], found.row["contrast"]]).all()
    assert findings_of(found) == [("note", "no lesion")]


def test_what_only_pixels_tell_of_a_volume_is_among_its_findings(tmp_path):
    found = patient_look(tmp_path, builders.PATIENTS[2])
    (finding,) = (each for each in found.findings if each.check.name == "lesion in an end slice")
    assert (finding.severity, finding.found) == ("warn", "slice 1: 16 of 48 lesion voxels")
    silent = patient_look(tmp_path / "again", builders.PATIENTS[2], dataset=replace(LGG, inspect=None))
    assert silent.findings == []


def test_colours_of_all_masks_of_a_volume_are_counted_together(tmp_path):
    found = patient_look(tmp_path, builders.PATIENTS[0])
    assert found.colours == {(0,): 5 * 32 * 32 - 48, (255,): 48}


def test_an_unreadable_slice_stops_and_is_named(tmp_path):
    name = f"{builders.PATIENTS[0].name}_3.tif"
    found = patient_look(tmp_path, builders.PATIENTS[0], spoil=lambda folder: (folder / name).write_text("no image"))
    (finding,) = found.findings
    assert (finding.severity, finding.check.name) == ("stop", "unreadable")
    assert name in finding.found
    assert "height" not in found.row


def test_masks_of_another_size_than_their_slices_stop(tmp_path):
    def shrink(folder):
        for path in folder.glob("*_mask.tif"):
            Image.fromarray(np.zeros((30, 32), np.uint8)).save(path)

    (finding,) = patient_look(tmp_path, builders.PATIENTS[0], spoil=shrink).findings
    assert (finding.check.name, finding.found) == ("size mismatch", "image (5, 32, 32), mask (5, 30, 32)")


def test_volumes_are_compared_by_their_middle_slice_and_are_equal_by_every_voxel():
    image = builders.PATIENTS[0].image(0)
    other = image.copy()
    other[0, 9, 11, 2] ^= 1  # one voxel of another channel of another slice
    one, two, again = (case_checks.alike(each, each[..., 1]) for each in (image, other, image.copy()))
    assert np.array_equal(one.thumbnail, two.thumbnail)
    assert one.pixels != two.pixels
    assert one.pixels == again.pixels
    assert one.perceptual == image_hash.describe(np.ascontiguousarray(image[2, ..., 1])).perceptual


def test_an_image_is_compared_by_itself():
    image = builders.image_of(Head("a"), 0)
    found, expected = case_checks.alike(image, image), image_hash.describe(image)
    assert (found.pixels, found.perceptual) == (expected.pixels, expected.perceptual)
