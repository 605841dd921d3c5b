import re

import nibabel
import numpy as np
import pytest
from nibabel import orientations

from lib.prediction import nifti, volume_files
from lib.prediction.inputs import Reading, Refusal
from lib.prediction.picture import Source
from lib.prediction.pixel_sizes import PixelSizes
from tests import builders

STACK = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)  # slices, rows, columns, channels
READING = Reading(True, 3, PixelSizes(), (0.02, 1.0))


def save(path, stack, axcodes="LPS", sizes=(1.1, 0.9, 2.5), kind=nibabel.Nifti1Image):
    """Writes a stack as NIfTI whose axes have these directions; sizes are of columns, rows and slices in mm."""
    voxels = np.moveaxis(stack, (0, 1, 2), (2, 1, 0))  # x, y, z to the left, back and head
    affine = np.diag([-sizes[0], -sizes[1], sizes[2], 1.0])
    image = kind(voxels, affine)
    turned = orientations.ornt_transform(orientations.axcodes2ornt("LPS"), orientations.axcodes2ornt(axcodes))
    nibabel.save(image.as_reoriented(turned), path)
    return path


@pytest.mark.parametrize("axcodes", ["LPS", "RAS", "PIR", "SLA"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_voxels_of_any_orientation_are_read_in_the_order_of_slices_and_masks_go_back(tmp_path, axcodes, kind):
    path = save(tmp_path / "a.nii.gz", STACK, axcodes, kind=kind)
    stack, sizes, geometry, notes = nifti.read_nifti(path, 3)
    assert np.array_equal(stack, STACK)
    assert sizes == pytest.approx((2.5, 0.9, 1.1), rel=1e-6)
    assert notes[0] == f"orientation {axcodes}"
    mask = (STACK[..., 0] > 128).astype(np.uint8)
    nifti.write_nifti(tmp_path / "mask.nii.gz", mask, geometry)
    written, given = nibabel.load(tmp_path / "mask.nii.gz"), nibabel.load(path)
    assert written.affine == pytest.approx(given.affine, rel=1e-6)  # NIfTI-1 stores float32
    assert np.array_equal(np.asarray(written.dataobj), (np.asarray(given.dataobj)[..., 0] > 128).astype(np.uint8))


def test_other_values_are_scaled_by_channel_and_rgb_is_read(tmp_path):
    values = STACK.astype(np.float32) * np.array([1.0, 0.5, 2.0], np.float32) - 3
    values[0, 0, 0], values[0, 0, 1] = -3, np.array([252, 124.5, 507])  # each channel reaches both ends
    stack, _, _, notes = nifti.read_nifti(save(tmp_path / "a.nii", values), 3)
    assert np.abs(stack[1:].astype(int) - STACK[1:]).max() == 0
    assert notes[1] == "values -3 to 252, -3 to 124.5, -3 to 507 (float32) scaled to 0 to 255"
    rgb = np.ascontiguousarray(STACK).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    assert np.array_equal(nifti.read_nifti(save(tmp_path / "b.nii", rgb), 3)[0], STACK)


def test_nifti_that_cannot_be_used_is_refused_with_the_reason(tmp_path):
    wrong = STACK.astype(np.float32)
    wrong[1, 2, 3, 0] = np.nan
    (tmp_path / "text.nii").write_bytes(b"no volume")
    whole = save(tmp_path / "whole.nii.gz", STACK).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    cases = {
        save(tmp_path / "nan.nii", wrong): "1 voxels are NaN or infinite; expected finite numbers",
        save(tmp_path / "one.nii", STACK[..., 0]): r"shape \(6, 5, 4\); expected \(columns, rows, slices, 3\)",
        tmp_path / "text.nii": "",
        tmp_path / "cut.nii.gz": "",
    }
    for path, reason in cases.items():
        refused = READING.read(Source(path.stem, path, path.name))
        assert isinstance(refused, Refusal), path
        assert refused.reason.startswith("cannot be read as NIfTI: "), refused
        assert re.search(reason, refused.reason), refused


def write_slices(folder, numbers=(1, 2, 3, 4), **named):
    """Slices of STACK by number, with masks that are no slices."""
    for number, image in zip(numbers, STACK):
        builders.save_png(folder / f"scan_{number}.png", named.get(f"s{number}", image))
        builders.save_png(folder / f"scan_{number}_mask.png", np.zeros((5, 6), np.uint8))
    return folder


def test_a_folder_of_slices_is_read_in_the_order_of_their_numbers(tmp_path):
    folder = write_slices(tmp_path / "a", (9, 10, 11, 12))
    stack, names = volume_files.read_slices(folder, 3)
    assert np.array_equal(stack, STACK)
    assert names == ["scan_9", "scan_10", "scan_11", "scan_12"]


@pytest.mark.parametrize(
    ("numbers", "named", "reason"),
    [
        ((1, 2, 4, 5), {}, "slices 1-2, 4-5; 3 missing; expected numbers without a gap"),
        ((1, 2), {}, "2 slices; expected at least 3, since the end slices may be dropped"),
        (
            (1, 2, 3),
            {"s2": STACK[0, :4]},
            r"scan_2\.png: \(rows, columns\) \(4, 6\); expected \(5, 6\) as in the first",
        ),
        ((1, 2, 3), {"s2": STACK[0, ..., 0]}, r"scan_2\.png: 1 channel\(s\); expected 3, as in training"),
        ((1, 2, 3, "03"), {}, r"scan_03\.png and scan_3\.png are both slice 3; expected one file"),
    ],
)
def test_a_folder_that_is_no_whole_volume_is_refused_with_the_reason(tmp_path, numbers, named, reason):
    folder = write_slices(tmp_path / "a", numbers, **named)
    with pytest.raises(ValueError, match=reason):
        volume_files.read_slices(folder, 3)
