import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy import ndimage, special

from lib.datasets.phantoms import heads, ultrasound
from lib.imaging.ellipse import edge_points, ellipse_perimeter_mm, fill_ellipse, fit_ellipse, measure_head

SEED = 3
OFTEN = (0.75, 0.65)


def draw(subject, frame=1, seed=SEED, plane=OFTEN):
    return heads.draw_frame(seed, subject, frame, plane)


@pytest.fixture(scope="module")
def dozen():
    """First frames of twelve subjects."""
    return [draw(subject) for subject in range(1, 13)]


def moment_axes(region, spacing=(1.0, 1.0)):
    """Full axes (long, short) of a filled ellipse: four standard deviations of its points."""
    return 4 * np.sqrt(np.linalg.eigvalsh(np.cov((np.argwhere(region) * spacing).T)))[::-1]


# The demo's images, as they were before other planes could be drawn


@pytest.mark.parametrize(
    ("subject", "counts", "mask", "means"),
    [
        (1, [57016, 49635, 1349, 0], "492e9b0e037a4027", [8.285, 79.408, 51.141, 55.116, 48.135, 53.904]),
        (7, [68937, 37348, 0, 1715], "bf4ca7e835fa6b7f", [80.61, 100.395, 90.658, 62.999, 99.88, 83.003]),
        (60, [74831, 29375, 901, 2893], "fbc19a277b8a14b2", [21.818, 91.483, 41.911, 42.261, 101.837, 75.293]),
        (150, [62396, 44579, 1025, 0], "bcbd5f9b5e557d30", [15.514, 61.202, 39.34, 42.973, 61.28, 58.49]),
    ],
)
def test_the_demo_s_frames_are_those_of_the_first_release(subject, counts, mask, means):
    frame = draw(subject, seed=12)
    assert np.bincount(frame.mask.ravel(), minlength=4).tolist() == counts
    assert hashlib.sha256(frame.mask.tobytes()).hexdigest().startswith(mask)
    blocks = frame.image.reshape(3, 90, 4, 100).mean((1, 3))  # processors round exponentials differently, so no hash
    assert blocks[:, :2].ravel() == pytest.approx(means, abs=0.1)


# Truth


def test_the_head_s_area_is_that_of_its_ellipse_within_pixel_error(dozen):
    for frame in dozen:
        area = (frame.mask > 0).sum() * frame.spacing_mm[0] ** 2
        exact = np.pi / 4 * frame.truth["bpd_mm"] * frame.truth["ofd_mm"]
        assert area == pytest.approx(exact, rel=1.5e-3)  # about a tenth of the outline's pixels


def test_moments_of_the_mask_give_bpd_ofd_and_hc_within_half_a_pixel(dozen):
    for frame in dozen:
        pixel, truth = frame.spacing_mm[0], frame.truth
        ofd, bpd = moment_axes(frame.mask > 0) * pixel
        hc = 2 * ofd * special.ellipe(1 - (bpd / ofd) ** 2)
        assert [bpd, ofd, hc] == pytest.approx([truth[f"{q}_mm"] for q in ("bpd", "ofd", "hc")], abs=0.5 * pixel)


def test_the_project_s_own_biometry_finds_the_truth_in_the_mask(dozen):
    for frame in dozen:
        found = measure_head(frame.mask > 0, frame.spacing_mm)
        assert found == pytest.approx({q: frame.truth[f"{q}_mm"] for q in ("bpd", "ofd", "hc")}, abs=0.3)  # mm


def test_areas_of_structures_are_those_of_the_mask_and_0_where_absent(dozen):
    for frame in dozen:
        for index, name in ((2, "csp"), (3, "lv")):
            area = (frame.mask == index).sum() * frame.spacing_mm[0] ** 2
            assert frame.truth[f"{name}_mm2"] == pytest.approx(area, abs=1e-5)
            assert (name in frame.structures) == (area > 0)
    assert all(0 < sum(name in frame.structures for frame in dozen) < 12 for name in ("csp", "lv"))  # some, not all


def test_structures_are_at_least_ten_pixels_across_and_lie_inside_the_head():
    for subject in range(1, 41):
        mask = draw(subject).mask
        for index in (2, 3):
            parts, count = ndimage.label(mask == index)
            for part in range(1, count + 1):
                assert moment_axes(parts == part)[1] >= 10
                assert mask[ndimage.binary_dilation(parts == part)].min() > 0


def test_heads_lie_inside_the_frame_mostly_level(dozen):
    for frame in dozen:
        head = frame.mask > 0
        assert not np.concatenate([*head[[0, -1]], *head[:, [0, -1]].T]).any()
        ellipse = fit_ellipse(edge_points(head))
        assert min(ellipse.angle_deg, 180 - ellipse.angle_deg) < 26


# Planes


@pytest.mark.parametrize(
    ("plane", "shown"), [((0, 0), []), ((1, 0), ["csp"]), ((0, 1), ["lv"]), ((1, 1), ["csp", "lv"])]
)
def test_a_plane_decides_what_is_shown(plane, shown):
    assert all(draw(subject, plane=plane).structures == shown for subject in range(1, 7))


def test_shares_of_a_plane_are_those_of_its_images(monkeypatch):
    monkeypatch.setattr(ultrasound, "scene", lambda *_: None)  # masks only
    monkeypatch.setattr(ultrasound, "render", lambda *_: np.zeros(heads.SHAPE, np.uint8))
    frames = [draw(subject, plane=(0.37, 0.32)) for subject in range(1, 401)]
    for name, share in (("csp", 0.37), ("lv", 0.32)):
        assert np.mean([name in frame.structures for frame in frames]) == pytest.approx(share, abs=0.07)  # 3 SD of 400


def test_a_rarer_structure_changes_neither_head_nor_place():
    often, never = draw(4, plane=(1, 1)), draw(4, plane=(0, 0))
    assert np.array_equal(often.mask > 0, never.mask > 0)
    assert often.head.axes_mm == never.head.axes_mm
    assert often.spacing_mm == never.spacing_mm


# Other pixels


def test_a_resized_frame_has_the_publisher_s_shape_and_two_pixel_sizes():
    frame = draw(2)
    wide = heads.resize(frame, (661, 959))
    assert wide.image.shape == wide.mask.shape == (661, 959)
    assert wide.spacing_mm == pytest.approx((frame.spacing_mm[0] * 270 / 661, frame.spacing_mm[1] * 400 / 959))
    assert {q: wide.truth[q] for q in ("bpd_mm", "ofd_mm", "hc_mm")} == {
        q: frame.truth[q] for q in ("bpd_mm", "ofd_mm", "hc_mm")
    }


def test_a_resized_mask_is_exact_at_its_own_pixel_centres():
    for subject in (2, 5, 9):
        wide = heads.resize(draw(subject), (661, 959))
        found = measure_head(wide.mask > 0, wide.spacing_mm)
        assert found == pytest.approx({q: wide.truth[f"{q}_mm"] for q in ("bpd", "ofd", "hc")}, abs=0.1)  # mm
        ofd, bpd = moment_axes(wide.mask > 0, wide.spacing_mm)
        assert [bpd, ofd] == pytest.approx([wide.truth["bpd_mm"], wide.truth["ofd_mm"]], abs=0.05)


def test_a_resized_mask_lies_where_the_resized_image_shows_the_head():
    frame = draw(2)
    wide = heads.resize(frame, (540, 800))  # twice as many pixels a side: four centres around each old one
    agree = [np.mean(wide.mask[r::2, c::2] == frame.mask) for r in (0, 1) for c in (0, 1)]
    assert min(agree) > 0.98
    assert np.ptp(agree) < 0.003  # no side is favoured, as half a pixel of shift would
    centres = [ndimage.center_of_mass(mask > 0) for mask in (frame.mask, wide.mask)]
    assert np.array(centres[1]) == pytest.approx(2 * np.array(centres[0]) + 0.5, abs=0.05)
    assert wide.image[::2, ::2] == pytest.approx(frame.image, abs=60)
    assert np.abs(wide.image[::2, ::2].astype(int) - frame.image).mean() < 4


def test_a_reference_mask_takes_one_pixel_size_or_two():
    head = draw(2).head
    square = ultrasound.reference_mask(head, (270, 400), (0.4, 0.4))
    assert np.array_equal(square, ultrasound.reference_mask(head, (270, 400), (0.4, 0.4)))
    assert np.array_equal(square[::2], ultrasound.reference_mask(head, (135, 400), (0.8, 0.4)))
    assert np.array_equal(square[:, ::2], ultrasound.reference_mask(head, (270, 200), (0.4, 0.8)))


# Outlines


def test_an_outline_s_centre_line_is_the_truth(dozen):
    for frame in dozen:
        line = heads.outline(frame, 2.5)
        ellipse = fit_ellipse(np.argwhere(line) * frame.spacing_mm[0])
        found = [ellipse.minor, ellipse.major, ellipse_perimeter_mm(ellipse.major, ellipse.minor)]
        assert found == pytest.approx([frame.truth[f"{q}_mm"] for q in ("bpd", "ofd", "hc")], abs=0.1)


def test_an_outline_is_closed_and_of_the_asked_thickness():
    frame = draw(3)
    line = heads.outline(frame, 2.5)
    assert ndimage.label(line, np.ones((3, 3)))[1] == 1
    assert np.array_equal(ndimage.binary_fill_holes(line) | line, ndimage.binary_fill_holes(line))
    assert (ndimage.binary_fill_holes(line) & ~line).any()
    assert line.sum() * frame.spacing_mm[0] / frame.truth["hc_mm"] == pytest.approx(2.5, rel=0.02)


def test_an_outline_is_round_where_structures_lie_at_the_border():
    frame = draw(3, plane=(1, 1))
    empty = replace(frame, head=replace(frame.head, csp=None, ventricles=()))
    assert np.array_equal(heads.outline(frame, 2.5), heads.outline(empty, 2.5))


# Images


def otsu_dice(image, head):
    """Whole head by Otsu's threshold, filled holes and an ellipse around the largest part."""
    _, bright = cv2.threshold(image, 0, 1, cv2.THRESH_OTSU)
    points = edge_points(ndimage.binary_fill_holes(bright))
    found = fill_ellipse(fit_ellipse(points), head.shape)
    return 2 * (found & head).sum() / (found.sum() + head.sum())


def test_otsu_s_threshold_does_not_solve_the_phantom():
    frames = [draw(subject, seed=12) for subject in range(1, 13)]
    assert np.mean([otsu_dice(frame.image, frame.mask > 0) for frame in frames]) < 0.80


def test_bone_is_brighter_than_brain_and_brain_brighter_than_the_cavum(dozen):
    for frame in dozen:
        image, mask = frame.image, frame.mask
        depth_px = ndimage.distance_transform_edt(mask > 0)
        middle = ndimage.center_of_mass(mask > 0)[1]
        level = np.abs(np.arange(mask.shape[1]) - middle)[None] < 30  # where the beam meets the bone at right angles
        bone = image[(depth_px > 2) & (depth_px < 2 / frame.spacing_mm[0]) & level].mean()
        brain = image[(mask == 1) & (depth_px > 15)].mean()
        assert bone > brain + 20
        if (mask == 2).any():
            assert np.median(image[ndimage.binary_erosion(mask == 2, iterations=3)]) < brain


# Randomness


def test_a_frame_is_a_function_of_seed_subject_and_frame(dozen):
    assert np.array_equal(draw(5).image, dozen[4].image)
    assert not np.array_equal(draw(5, seed=4).image, dozen[4].image)
    assert not np.array_equal(draw(6).image, dozen[4].image)


def test_frames_of_one_subject_show_one_head_in_another_place():
    one, other = draw(5, 1), draw(5, 2, plane=(0, 0))
    common = ("ga_weeks", "bpd_mm", "ofd_mm", "hc_mm")
    assert [one.truth[name] for name in common] == [other.truth[name] for name in common]
    assert not np.array_equal(one.mask > 0, other.mask > 0)
