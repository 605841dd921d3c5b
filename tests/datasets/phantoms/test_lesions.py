from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy import ndimage

from lib import metrics
from lib.datasets.phantoms import lesions, ultrasound
from lib.datasets.phantoms.lesions import Border, Mass
from lib.imaging import connected_parts
from tests.datasets.phantoms import builders

SEED = 5
TWO_WAVES = Border((0.0, 0.0), (1.0, 1.0), 0.0, ((0.25, 0.0),))  # radius 1 + cos(2 a) / 4
WAVY = Border((13.0, 20.0), (6.0, 4.0), 25.0, ((0.08, -0.05), (0.1, 0.02), (0.0, 0.07)))
FLAT = {"apex_mm": (-1500.0, 24.0), "range_mm": (1500.0, 1533.0), "half_angle_deg": np.rad2deg(np.arctan(24.2 / 1500))}
SCAN = replace(builders.SCAN, spacing_mm=0.12, **FLAT)  # a linear array
LUMP = Mass(Border((12.0, 24.0), (6.0, 4.0), 0.0), 12.0, 0.0, 0.2, -60.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def masses():
    return [lesions.draw_frame(SEED, number, True) for number in range(1, 49)]


@pytest.mark.parametrize(
    ("border", "points", "area"),
    [
        (Border((3.0, 5.0), (2.0, 1.0), 0.0), [[3, 7], [4, 5], [3, 3], [2, 5]], 2 * np.pi),
        (Border((0.0, 0.0), (2.0, 1.0), 90.0), [[2, 0], [0, -1], [-2, 0], [0, 1]], 2 * np.pi),  # column towards row
        (TWO_WAVES, [[0, 1.25], [0.75, 0], [0, -1.25], [-0.75, 0]], np.pi * (1 + 1 / 32)),
    ],
)
def test_borders_by_hand(border, points, area):
    assert border.points_mm(4) == pytest.approx(np.array(points), abs=1e-12)
    assert border.level(*np.array(points, float).T) == pytest.approx(1)
    assert border.level(*np.mean([points, [border.centre_mm] * 4], axis=0).T) == pytest.approx(0.5)
    assert border.area_mm2 == pytest.approx(area)


def test_a_border_is_at_level_one_and_its_area_and_mask_are_those_of_its_polygon():
    assert WAVY.level(*WAVY.points_mm(500).T) == pytest.approx(1, abs=1e-9)
    rows, cols = WAVY.points_mm(20000).T
    shoelace = 0.5 * abs(np.sum(rows * np.roll(cols, -1) - cols * np.roll(rows, -1)))
    assert WAVY.area_mm2 == pytest.approx(shoelace, rel=1e-6)
    mask = lesions.reference_mask(WAVY, (60, 90), 0.45)
    polygon = (WAVY.points_mm(5000)[:, ::-1] / 0.45).astype(np.float32).reshape(-1, 1, 2)
    inside = [[cv2.pointPolygonTest(polygon, (col, row), False) >= 0 for col in range(90)] for row in range(60)]
    assert np.array_equal(mask, np.array(inside, np.uint8))


def test_masks_are_one_component_of_2_to_30_percent_with_the_border_s_area_inside_the_sector(masses):
    shares = np.array([frame.mask.mean() for frame in masses])
    assert 0.0195 < shares.min() < 0.03
    assert 0.15 < shares.max() < 0.305
    for frame in masses:
        area = frame.mask.sum() * frame.spacing_mm**2
        assert area == pytest.approx(frame.border.area_mm2, rel=8e-3)  # 2 % of the frame has 170 edge pixels
        assert ndimage.label(frame.mask)[1] == 1
        assert not np.concatenate([*frame.mask[[0, -1]], *frame.mask[:, [0, -1]].T]).any()
        bright = ndimage.binary_closing(frame.image > 0, iterations=6)
        sector = ndimage.binary_fill_holes(np.pad(bright, 1, constant_values=False))[1:-1, 1:-1]
        assert sector[frame.mask > 0].mean() > 0.999


def test_outlines_are_closed_lines_of_their_thickness_on_the_border(masses):
    for frame in masses:
        line = lesions.outline(frame.border, frame.mask.shape, frame.spacing_mm, 2.5)
        filled = ndimage.binary_fill_holes(line)
        assert ndimage.label(line, np.ones((3, 3)))[1] == 1
        inner, outer = (filled & ~line).sum(), filled.sum()
        assert (inner + outer) / 2 == pytest.approx(frame.mask.sum(), rel=0.02)  # the border is the centre line
        edges = np.diff(frame.border.points_mm(2000), axis=0, append=frame.border.points_mm(1))
        length = np.hypot(*edges.T).sum() / frame.spacing_mm
        assert line.sum() / length == pytest.approx(2.5, rel=0.04)


def contrast(frame):
    """Mean grey value within 15 pixels outside the border minus that of the mass."""
    mask = frame.mask > 0
    return frame.image[ndimage.binary_dilation(mask, iterations=15) & ~mask].mean() - frame.image[mask].mean()


def test_otsu_s_threshold_does_not_solve_the_phantom(masses):
    dice = []
    for frame in masses:
        smooth = cv2.GaussianBlur(frame.image, (0, 0), 3)
        _, dark = cv2.threshold(smooth, 0, 1, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
        dice.append(metrics.overlap(frame.mask, connected_parts.largest_component(dark), 1).dice)
    assert np.mean(dice) < 0.5


def test_images_look_like_breast_ultrasound_of_linear_and_curved_arrays_with_faint_and_obvious_masses(masses):
    contrasts = np.array([contrast(frame) for frame in masses])
    assert 0 < contrasts.min() < 20
    assert contrasts.max() > 60
    assert 25 < np.median(contrasts) < 70  # BUSI: 58
    grey = np.array([frame.image for frame in masses])
    assert (grey.dtype, grey.shape[1:]) == (np.uint8, (270, 400))
    assert 60 < grey.mean() < 110  # BUSI: 84
    assert 30 < grey.std(axis=(1, 2)).mean() < 60  # BUSI: 54
    assert 0.15 < np.mean(grey[:, -8:, :8].max(axis=(1, 2)) == 0) < 0.6  # black corners of curved arrays


def added(mass):
    """Uniform tissue with a mass."""
    ones = np.ones(SCAN.grid, np.float32)
    return lesions._add(SCAN, mass, ultrasound.Tissue(-30 * ones, 0 * ones, ones), np.random.default_rng(0))


def test_distances_to_a_circle_are_exact_near_it_and_facing_is_the_cosine():
    distance, facing = lesions._distance_mm(SCAN, Border((16.0, 24.0), (5.0, 5.0), 0.0))
    rows, cols = ultrasound.grid_points_mm(SCAN)
    radius = np.hypot(rows - 16, cols - 24)
    near = np.abs(radius - 5) < 1
    assert distance[near] == pytest.approx((radius - 5)[near], abs=0.02)
    assert facing[near] == pytest.approx((np.abs(rows - 16) / radius)[near], abs=0.03)


def test_a_mass_is_darker_by_its_contrast_up_to_its_border_with_a_halo_outside_and_a_capsule_across_the_beam():
    distance, facing = lesions._distance_mm(SCAN, LUMP.border)
    scatter, on = added(LUMP).scatter_db, np.abs(distance) < 0.02
    assert scatter[distance < -0.2] == pytest.approx(-42)
    assert scatter[distance > 0.2] == pytest.approx(-30)
    assert scatter[np.abs(distance) < 0.03].mean() == pytest.approx(-36, abs=1)  # halfway, for any width of the margin
    reflection = added(replace(LUMP, rim_db=-10.0)).reflection
    assert reflection[on & (facing > 0.95)].min() > 0.15
    assert reflection[(np.abs(distance) < 0.2) & (facing < 0.3)].max() < 0.001
    scatter = added(replace(LUMP, halo_db=5.0)).scatter_db
    assert scatter[(distance > 0.1) & (distance < 0.2)].min() > -27
    assert scatter[distance < -0.3] == pytest.approx(-42)


def test_a_mass_of_less_attenuation_is_brighter_behind_and_one_of_more_casts_a_shadow():
    losses = [added(replace(LUMP, loss=loss)).loss_db_mm - 1 for loss in (0.25, 1.0, 2.0)]
    left = [ultrasound.transmission_db(SCAN, loss)[-1, ultrasound.BEAMS // 2] for loss in losses]
    expected = [8 * 0.75, 0, -8 * 1.0]  # 8 mm of mass on the middle beam, 1 dB a millimetre in the tissue
    assert np.array(left) - left[1] == pytest.approx(expected, abs=0.3)


def test_distractors_stay_clear_of_the_mass():
    rng = np.random.default_rng(1)
    distractors = [small for _ in range(200) for small in lesions._draw_distractors(SCAN, LUMP, rng)]
    assert len(distractors) > 100
    assert all(LUMP.border.level(*small.border.points_mm(200).T).min() > 1.1 for small in distractors)
    assert max(small.border.area_mm2 for small in distractors) < 0.01 * 270 * 400 * 0.12**2  # half the smallest mass


def test_a_frame_depends_on_seed_and_mass(masses):
    assert not np.array_equal(lesions.draw_frame(SEED + 1, 3, True).image, masses[2].image)
    plain = lesions.draw_frame(SEED, 3, False)
    assert not np.array_equal(plain.image, masses[2].image)
    assert plain.border is None
    assert not plain.mask.any()
