from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from lib import datasets
from lib.data import cases
from lib.datasets import own
from lib.imaging import image_files
from lib.verification import case_checks, image_hash, plausibility
from tests import builders
from tests.builders import Head, save_png

HC18, LGG = datasets.DATASETS["hc18"], datasets.DATASETS["lgg"]


def block(top, left, height, width, shape=(100, 160)):
    mask = np.zeros(shape, np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


def checked(tmp_path, mask, image=None, **about):
    """The checks of a case with an image and a decoded mask."""
    image = np.full(mask.shape, 9, np.uint8) if image is None else image
    path = save_png(tmp_path / "a.png", image)
    case = cases.Case("a", "a", path, (path,), (0.1, 0.1), **about)
    return case_checks.check_case(case, replace(HC18, read_mask=lambda _, read: mask))


def findings_of(case):
    return [(finding.severity, finding.check.name) for finding in case.findings if finding.check.name != "low contrast"]


@pytest.mark.parametrize(("row", "published_mm"), [(30.0, None), (17.0, None), (12.0, None), (30.0, 170.0)])
def test_the_hc_of_a_head_is_recomputed_also_if_the_frame_cuts_it_or_a_different_one_is_published(row, published_mm):
    head, expected = Head("a", (row, 60.0), 56.0, 44.0, 0.0, (60, 120)), builders.perimeter(56.0, 44.0)
    region = builders.region_of(head)
    hc_mm = case_checks.recompute_hc_mm(region, (1.0, 1.0), published_mm or expected)
    assert hc_mm == pytest.approx(expected, abs=plausibility.HC_TOLERANCE_MM)
    for unknown in ((None, 170.0), ((1.0, 1.0), float("nan"))):  # no pixel size, nothing published
        assert np.isnan(case_checks.recompute_hc_mm(region, *unknown))


@pytest.mark.parametrize(
    ("mask", "about", "check"),
    [
        (block(0, 0, 0, 0), {"foreground": "present"}, "empty mask"),
        (block(40, 40, 2, 3), {"foreground": "absent"}, "mask of a normal image"),
        (block(0, 0, 0, 0), {"foreground": "absent"}, None),
        (block(40, 40, 2, 3), {"foreground": "present"}, None),
        (block(0, 0, 0, 0), {"foreground": "either"}, None),
        (block(40, 40, 2, 3), {"foreground": "either"}, None),
        (block(20, 20, 1, 1), {"reference_mm": {"hc": 170.0}}, "unmeasurable mask"),
        (block(20, 20, 1, 1), {}, None),
        (block(40, 40, 20, 20), {"image": np.full((90, 160), 9, np.uint8)}, "size mismatch"),
        (block(40, 40, 20, 20), {"image": np.full((160, 100), 9, np.uint8)}, "size mismatch"),
        (block(0, 0, 1, 1, (1, 1)), {"foreground": "either"}, "too small for an image"),
        (block(0, 0, 3, 9, (31, 400)), {}, "too small for an image"),
        (block(9, 9, 9, 9, (32, 32)), {}, None),
    ],
)
def test_a_mask_must_match_its_image_and_be_empty_or_not_as_its_group_requires(tmp_path, mask, about, check):
    case = checked(tmp_path, mask, **about)
    assert findings_of(case) == ([("stop", check)] if check else [])
    assert ("height" in case.row) == (case.hashes is not None) == (check is None)
    swapped = any(each.found.endswith("; swapped: one of them rotated by 90 degrees?") for each in case.findings)
    assert swapped == (about.get("image", mask).shape == mask.T.shape != mask.shape)


@pytest.mark.parametrize(
    ("mask", "gap", "check"),
    [
        (block(30, 60, 40, 40), 0.30, None),
        (block(2, 30, 96, 100), 0.02, None),  # exactly at the limit
        (block(1, 30, 98, 100), 0.01, "near the frame"),  # although its centroid is the image's centre
        (block(30, 1, 20, 158), 0.01, "near the frame"),
        (block(60, 30, 39, 20), 0.01, "near the frame"),  # below
        (block(30, 60, 40, 99), 0.01, "near the frame"),  # to the right
        (block(0, 30, 10, 10), 0.0, "touches the frame"),
        (block(30, 150, 10, 10), 0.0, "touches the frame"),
    ],
)
def test_the_distance_of_a_mass_from_the_frame_is_that_of_its_edge_not_of_its_centroid(tmp_path, mask, gap, check):
    case = checked(tmp_path, mask)  # 100 rows, 160 columns
    assert case.row["border_gap"] == pytest.approx(gap)
    assert findings_of(case) == ([("note", check)] if check else [])
    if check == "near the frame":
        assert case.findings[0].found.startswith("1.0%")


@pytest.mark.parametrize(
    ("inside", "outside", "contrast", "noted"),
    [(60, 20, 0.5, False), (20, 60, -0.5, False), (50, 50, 0.0, True), (103, 100, 3 / 203, True), (0, 0, 0.0, True)],
)
def test_contrast_by_hand_is_inside_minus_outside_over_their_sum(tmp_path, inside, outside, contrast, noted):
    mask = block(40, 60, 20, 40)
    case = checked(tmp_path, mask, image=np.where(mask > 0, inside, outside).astype(np.uint8))
    assert case.row["contrast"] == pytest.approx(contrast)
    assert [finding.check.name for finding in case.findings] == ["low contrast"] * noted
    assert case.row["area_fraction"] == 20 * 40 / (100 * 160)


def checked_patient(tmp_path, patient, spoil=lambda folder: None, dataset=LGG):
    """The checks of a patient whose files were written and spoilt."""
    folder = builders.write_lgg(tmp_path / patient.name, (patient,))
    spoil(folder / "kaggle_3m" / patient.name)
    (case,) = LGG.find_cases(folder, [])[0]
    return case_checks.check_case(case, dataset)


def test_measurements_of_a_volume_are_over_all_its_voxels(tmp_path):
    patient = builders.PATIENTS[2]  # 48 voxels of lesion in five slices
    case = checked_patient(tmp_path, patient)
    outside = patient.image(0)[..., 1][patient.mask == 0].mean()
    folder = tmp_path / patient.name / "kaggle_3m" / patient.name
    expected = {"slices": 5, "height": 32, "width": 32, "area_fraction": 48 / (5 * 32 * 32), "mean_inside": 220}
    expected |= {"mean_outside": outside, "contrast": (220 - outside) / (220 + outside)}
    assert {key: case.row[key] for key in expected} == pytest.approx(expected)
    assert case.row["sha256"] == cases.content_hash(folder, (folder,))
    assert case.colours == {(0,): 5 * 32 * 32 - 48, (255,): 48}
    (finding,) = (each for each in case.findings if each.check.name == "lesion in an end slice")
    assert (finding.severity, finding.found) == ("warn", "slice 1: 16 of 48 lesion voxels")
    assert checked_patient(tmp_path / "again", patient, dataset=replace(LGG, inspect=None)).findings == []


@pytest.mark.parametrize(
    ("low", "gap", "touches"),
    [(slice(20, 25), 7 / 32, []), (slice(26, 32), 0.0, ["touches the frame", "lesion touches the frame"])],
)
def test_the_distance_of_a_lesion_from_the_frame_is_the_smallest_over_all_slices(tmp_path, low, gap, touches):
    boxes = ((slice(1, 2), slice(10, 14), slice(12, 16)), (slice(2, 3), low, slice(9, 12)))
    case = checked_patient(tmp_path, builders.Patient("TCGA_CS_0009_19990101", 4, (0, 0, 32, 32), boxes))
    assert case.row["border_gap"] == pytest.approx(gap)
    assert [finding.check.name for finding in case.findings if "frame" in finding.check.name] == touches


def test_a_volume_without_lesion_is_a_note_and_an_empty_mask_has_no_distance_or_contrast(tmp_path):
    case = checked_patient(tmp_path, builders.PATIENTS[1])
    assert findings_of(case) == [("note", "no lesion")]
    for row in (case.row, checked(tmp_path, block(0, 0, 0, 0), foreground="either").row):
        assert row["area_fraction"] == 0
        assert np.isnan([row["border_gap"], row["contrast"], row["mean_inside"]]).all()
    assert row["mean_outside"] == 9


def shrink_masks(folder):
    for path in folder.glob("*_mask.tif"):
        Image.fromarray(np.zeros((30, 32), np.uint8)).save(path)


def test_a_volume_that_cannot_be_used_stops_the_study_with_the_reason(tmp_path):
    patient = builders.PATIENTS[0]
    name = f"{patient.name}_3.tif"
    for spoil, check, found in (
        (lambda folder: (folder / name).write_text("no image"), "unreadable", name),
        (shrink_masks, "size mismatch", "image (5, 32, 32), mask (5, 30, 32)"),
    ):
        case = checked_patient(tmp_path / check, patient, spoil=spoil)
        assert findings_of(case) == [("stop", check)]
        assert found in case.findings[0].found
        assert case.row == {"case": patient.name}


@pytest.mark.parametrize(("slices", "expected"), [("*", True), ("*_2", False)])
def test_an_inverted_mask_of_a_volume_holds_the_corners_of_every_slice(tmp_path, slices, expected):
    def invert(folder):
        for path in folder.glob(f"{slices}_mask.tif"):
            save_png(path, 255 - image_files.read_pixels(path))

    assert not checked_patient(tmp_path / "sound", builders.PATIENTS[0]).holds_corners
    assert checked_patient(tmp_path, builders.PATIENTS[0], spoil=invert).holds_corners is expected


def test_volumes_are_compared_by_their_middle_slice_and_for_equality_by_every_voxel():
    image = builders.PATIENTS[0].image(0)
    other = image.copy()
    other[0, 9, 11, 2] ^= 1  # one voxel of another channel of another slice
    one, two, again = (case_checks.hash_case(each, each[..., 1]) for each in (image, other, image.copy()))
    assert np.array_equal(one.thumbnail, two.thumbnail)
    assert one.pixels == again.pixels != two.pixels
    assert one.perceptual == image_hash.describe(np.ascontiguousarray(image[2, ..., 1])).perceptual
    plane = image[0, ..., 1].copy()
    assert case_checks.hash_case(plane, plane).pixels == image_hash.pixel_hash(plane)


def noise(shape=(60, 90)):
    return np.random.default_rng(0).integers(30, 90, shape).astype(np.uint8)


def ellipse_outline(shape=(60, 90)):
    """An outline, which each layout of ultrasound images reads as a mask."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    distance = ((rows - 28) / 18) ** 2 + ((cols - 40) / 25) ** 2
    return np.where(abs(distance - 1) < 0.12, 255, 0).astype(np.uint8)


def checked_files(folder, layout, write_image, write_mask, suffix="png"):
    """The checks of a case of one layout whose two files are written by functions of a path and pixels."""
    image, mask = folder / f"images/a.{suffix}", folder / f"masks/a.{suffix}"
    drawn = ellipse_outline()
    if layout == "brain_structures":
        drawn = drawn[..., None] * np.array([1, 0, 0], np.uint8)  # the colour of the parenchyma
    for path, write, pixels in ((image, write_image, noise()), (mask, write_mask, drawn)):
        path.parent.mkdir(parents=True)
        write(path, pixels)
    return case_checks.check_case(cases.Case("a", "a", image, (mask,), None, foreground="either"), LAYOUTS[layout])


LAYOUTS = {name: datasets.DATASETS[name] for name in ("hc18", "busi", "ultrasound_fetus", "brain_structures")}
LAYOUTS["own"] = replace(HC18, read_mask=partial(own.read_mask, palette=[], class_count=2))
LAYOUTS["own, palette"] = replace(HC18, read_mask=partial(own.read_mask, palette=[[0] * 3, [255] * 3], class_count=2))


def saved(kind, **options):
    return lambda path, pixels: Image.fromarray(pixels).save(path, format=kind, **options)


def tagged(orientation):
    tags = Image.Exif()
    tags[274] = orientation
    return tags


def with_alpha(path, pixels):
    image = Image.fromarray(pixels).convert("RGBA")
    image.putalpha(Image.fromarray(noise()))
    image.save(path)


def shape_in_alpha(path, pixels):
    shape = Image.fromarray(pixels).convert("L")
    Image.merge("LA", (Image.new("L", shape.size, 255), shape)).save(path)


UPSIDE_DOWN, UNKNOWN = saved("PNG", exif=tagged(3)), saved("PNG", exif=tagged(9))
ORIENTATION, SUFFIX = ("warn", "orientation tag"), ("warn", "suffix and content disagree")
FILES = [
    (UPSIDE_DOWN, save_png, *ORIENTATION, "images/a.png: EXIF orientation 3: read rotated by 180 degrees"),
    (UNKNOWN, UNKNOWN, *ORIENTATION, "images/a.png and 1 more: EXIF orientation 9: read as stored, being unknown"),
    (saved("JPEG"), save_png, *SUFFIX, "images/a.png: content is JPEG"),
    (save_png, saved("BMP"), *SUFFIX, "masks/a.png: content is BMP"),
    (with_alpha, with_alpha, "note", "transparency", "images/a.png and 1 more: transparency ignored"),
]
TWO_PAGES = {"save_all": True, "append_images": [Image.new("L", (90, 60))]}
STOPS = [
    (saved("PNG", exif=tagged(6)), save_png, "(90, 60), mask (60, 90); swapped: one of them rotated by 90 degrees?"),
    (save_png, shape_in_alpha, "masks/a.png: one colour throughout; its shape is in the transparency"),
    (save_png, saved("TIFF", **TWO_PAGES), "masks/a.png: cannot be read as an image: 2 pages or frames"),
    (saved("PNG", **TWO_PAGES), save_png, "images/a.png: cannot be read as an image: 2 pages or frames"),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("write_image", "write_mask", "severity", "check", "found"), FILES)
def test_what_files_say_about_themselves_is_a_finding_in_every_layout(
    tmp_path, layout, write_image, write_mask, severity, check, found
):
    case = checked_files(tmp_path, layout, write_image, write_mask)
    assert case.hashes is not None
    assert [(f.severity, f.found) for f in case.findings if f.check.name == check] == [(severity, found)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("write_image", "write_mask", "found"), STOPS)
def test_what_cannot_be_read_in_one_way_stops_in_every_layout(tmp_path, layout, write_image, write_mask, found):
    case = checked_files(tmp_path, layout, write_image, write_mask)
    assert case.findings[0].severity == "stop"
    assert found in case.findings[0].found
    reasons = [each.found for each in case.findings if each.check.name == "orientation tag"]
    assert reasons == ["images/a.png: EXIF orientation 6: read rotated by 90 degrees clockwise"] * ("swapped" in found)


def test_the_ringing_of_a_lossy_outline_is_not_drawn(tmp_path):
    case = checked_files(tmp_path, "hc18", save_png, saved("JPEG"))
    pixels = image_files.read_pixels(tmp_path / "masks/a.png")
    assert case.drawn_pixels == np.count_nonzero(pixels >= 128) < np.count_nonzero(pixels) / 2


def test_a_mask_drawn_on_the_upright_picture_matches_an_image_stored_upside_down(tmp_path):
    def turned(path, upright):
        UPSIDE_DOWN(path, upright[::-1, ::-1])

    stored = checked_files(tmp_path / "turned", "own", turned, save_png)
    upright = checked_files(tmp_path / "upright", "own", save_png, save_png)
    assert stored.hashes.pixels == upright.hashes.pixels
    assert stored.row["contrast"] == upright.row["contrast"]


def test_findings_about_all_slices_of_a_volume_are_one(tmp_path):
    patient = builders.PATIENTS[0]  # five slices

    def turn(folder):
        for path in folder.glob("*.tif"):
            pixels = image_files.read_pixels(path)
            if path.stem.endswith("_mask"):
                saved("PNG")(path, pixels)
            else:
                saved("TIFF", exif=tagged(3))(path, pixels[::-1, ::-1])

    case = checked_patient(tmp_path, patient, spoil=turn)
    assert [each.found for each in case.findings if each.severity == "warn"] == [
        f"{patient.name}/{patient.name}_1.tif and 4 more: EXIF orientation 3: read rotated by 180 degrees",
        f"{patient.name}/{patient.name}_1_mask.tif and 4 more: content is PNG",
    ]
    expected = {"area_fraction": patient.mask.mean(), "mean_inside": 220}
    assert {key: case.row[key] for key in expected} == pytest.approx(expected)
