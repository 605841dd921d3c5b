import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy import ndimage, special

from lib import metrics
from lib.datasets.phantoms import heads
from lib.imaging.ellipse import edge_points, ellipse_perimeter_mm, fill_ellipse, fit_ellipse
from tests.datasets.phantoms.builders import moment_axes

OFTEN = (0.75, 0.65)  # shares of images with a cavum, a ventricle


def draw(subject, frame=1, seed=3, shares=OFTEN):
    return heads.draw_frame(seed, subject, frame, shares)


@pytest.fixture(scope="module")
def dozen():
    return [draw(subject) for subject in range(1, 13)]


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
    blocks = frame.image.reshape(3, 90, 4, 100).mean((1, 3))  # no hash: processors round exponentials differently
    assert blocks[:, :2].ravel() == pytest.approx(means, abs=0.1)


def test_moments_of_the_mask_give_bpd_ofd_and_hc_within_half_a_pixel_inside_the_frame(dozen):
    for frame in dozen:
        pixel, truth, inside = frame.spacing_mm[0], frame.truth, frame.mask > 0
        ofd, bpd = moment_axes(inside) * pixel
        hc = 2 * ofd * special.ellipe(1 - (bpd / ofd) ** 2)
        assert [bpd, ofd, hc] == pytest.approx([truth[f"{q}_mm"] for q in ("bpd", "ofd", "hc")], abs=0.5 * pixel)
        assert not np.concatenate([*inside[[0, -1]], *inside[:, [0, -1]].T]).any()
        angle_deg = fit_ellipse(edge_points(inside)).angle_deg
        assert min(angle_deg, 180 - angle_deg) < 26


def test_structures_have_the_areas_in_truth_are_ten_pixels_wide_and_inside_the_head(dozen):
    for frame in dozen:
        for index, name in ((2, "csp"), (3, "lv")):
            region = frame.mask == index
            assert frame.truth[f"{name}_mm2"] == pytest.approx(region.sum() * frame.spacing_mm[0] ** 2, abs=1e-5)
            assert (name in frame.structures) == region.any()
            parts, count = ndimage.label(region)
            assert all(moment_axes(parts == part)[1] >= 10 for part in range(1, count + 1))
            assert frame.mask[ndimage.binary_dilation(region)].min(initial=3) > 0


def test_shares_decide_which_structures_are_drawn_but_neither_head_nor_position():
    other = draw(4)
    for shares, expected in (((0, 0), []), ((1, 0), ["csp"]), ((0, 1), ["lv"]), ((1, 1), ["csp", "lv"])):
        frames = [draw(subject, shares=shares) for subject in range(1, 5)]
        assert [frame.structures for frame in frames] == [expected] * 4
        assert np.array_equal(frames[3].mask > 0, other.mask > 0)
        assert frames[3].spacing_mm == other.spacing_mm


def test_a_resized_mask_is_exact_at_its_own_pixel_centres_and_matches_the_resized_image():
    frame = draw(2)
    wide, twice = heads.resize(frame, (661, 959)), heads.resize(frame, (540, 800))  # with half the pixel size
    assert wide.image.shape == wide.mask.shape == (661, 959)
    assert wide.spacing_mm == pytest.approx((frame.spacing_mm[0] * 270 / 661, frame.spacing_mm[1] * 400 / 959))
    ofd, bpd = moment_axes(wide.mask > 0, wide.spacing_mm)
    assert [bpd, ofd] == pytest.approx([wide.truth["bpd_mm"], wide.truth["ofd_mm"]], abs=0.05)
    agree = [np.mean(twice.mask[r::2, c::2] == frame.mask) for r in (0, 1) for c in (0, 1)]
    assert min(agree) > 0.98
    assert np.ptp(agree) < 0.003  # a shift by half a pixel would favour one side
    centres = [ndimage.center_of_mass(mask > 0) for mask in (frame.mask, twice.mask)]
    assert np.array(centres[1]) == pytest.approx(2 * np.array(centres[0]) + 0.5, abs=0.05)
    assert np.abs(twice.image[::2, ::2].astype(int) - frame.image).mean() < 4


def test_an_outline_is_closed_of_its_thickness_with_the_truth_on_its_centre_line(dozen):
    for frame in dozen:
        line = heads.outline(frame, 2.5)
        ellipse = fit_ellipse(np.argwhere(line) * frame.spacing_mm[0])
        measured = [ellipse.minor, ellipse.major, ellipse_perimeter_mm(ellipse.major, ellipse.minor)]
        assert measured == pytest.approx([frame.truth[f"{q}_mm"] for q in ("bpd", "ofd", "hc")], abs=0.1)
        assert ndimage.label(line, np.ones((3, 3)))[1] == 1
        assert (ndimage.binary_fill_holes(line) & ~line).any()
        assert line.sum() * frame.spacing_mm[0] / frame.truth["hc_mm"] == pytest.approx(2.5, rel=0.02)
        empty = replace(frame, head=replace(frame.head, csp=None, ventricles=()))
        assert np.array_equal(line, heads.outline(empty, 2.5))


def test_otsu_s_threshold_does_not_solve_the_phantom():
    dice = []
    for frame in (draw(subject, seed=12) for subject in range(1, 13)):
        _, bright = cv2.threshold(frame.image, 0, 1, cv2.THRESH_OTSU)
        region = fill_ellipse(fit_ellipse(edge_points(ndimage.binary_fill_holes(bright))), heads.SHAPE)
        dice.append(metrics.overlap(frame.mask > 0, region, 1).dice)
    assert np.mean(dice) < 0.80


def test_a_frame_depends_on_seed_and_subject_and_a_subject_has_one_head_in_many_positions(dozen):
    first, other = dozen[4], draw(5, 2, shares=(0, 0))
    assert not np.array_equal(draw(5, seed=4).image, first.image)
    assert not np.array_equal(draw(6).image, first.image)
    assert other.head.axes_mm == first.head.axes_mm
    assert other.ga_weeks == first.ga_weeks
    assert not np.array_equal(first.mask > 0, other.mask > 0)
