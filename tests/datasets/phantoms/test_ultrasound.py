from dataclasses import replace

import numpy as np
import pytest

from lib.datasets.phantoms import ultrasound
from lib.datasets.phantoms.ultrasound import TISSUE_LOSS_DB_MM, Chamber, Head, Tissue
from tests.datasets.phantoms.builders import SCAN

CAVUM = Chamber((12.0, 0.0), (5.0, 2.0), 0.0, 0.0, 0.0, True, -8.0, -60.0, 0.0)
VENTRICLE = Chamber((-10.0, 13.0), (9.0, 3.0), -6.0, 0.0, 0.0, False, -12.0, -58.0, 0.5)
TEXTURE = np.zeros((8, 8, 4), "f4")
HEAD = Head((70.0, 54.0), (33.0, 50.0), 0.0, False, 2.0, 0.0, -44.0, 0.5, 0.0, CAVUM, (VENTRICLE,), TEXTURE)
SQUARE = (0.25, 0.25)


def uniform_tissue(scatter_db: float = -20.0, reflection: float = 0.0) -> Tissue:
    ones = np.ones(SCAN.grid, np.float32)
    return Tissue(scatter_db * ones, reflection * ones, np.float32(TISSUE_LOSS_DB_MM) * ones)


def full_width(curve: np.ndarray) -> float:
    """Full width at half maximum, by interpolation."""
    half, top = curve.max() / 2, int(curve.argmax())
    left = np.interp(half, curve[: top + 1], np.arange(top + 1))
    right = np.interp(-half, -curve[top:], np.arange(top, len(curve)))
    return float(right - left)


@pytest.mark.parametrize(("exponent", "greys"), [(1.0, [1, 0.5, 0.75, 0, 0, 1]), (2.0, [1, 0.25, 0.5625, 0, 0, 1])])
def test_log_compression_of_60_db_at_known_levels_and_the_grey_map_darkens_the_middle(exponent, greys):
    levels = np.array([1.0, 10**-1.5, 10**-0.75, 1e-3, 0.0, 5.0], np.float32)
    assert ultrasound.compress(levels, 60.0, exponent) == pytest.approx(greys, abs=1e-6)


def test_uniform_tissue_gives_rayleigh_speckle_of_its_own_power_and_an_interface_of_one_is_white():
    echo = ultrasound.envelope(SCAN, uniform_tissue(-20.0), np.random.default_rng(1))[20:-20, 20:-20]
    assert echo.mean() / echo.std() == pytest.approx(1.913, abs=0.06)  # sqrt(pi / (4 - pi)); some 3000 speckles
    assert np.mean(echo**2) == pytest.approx(0.01, rel=0.06)
    echo = ultrasound.envelope(SCAN, uniform_tissue(-100.0, reflection=1.0), np.random.default_rng(1))
    assert echo[30:-30, 30:-30] == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize(("depth_mm", "width_mm"), [(15.0, 2.46), (30.0, 2.0), (51.0, 2 * 2**0.5)])
def test_a_single_scatterer_becomes_a_spot_of_the_pulse_s_length_and_the_beam_s_width(depth_mm, width_mm):
    field = np.zeros((*SCAN.grid, 2), np.float32)
    sample, beam = round(depth_mm / SCAN.spacing_mm), ultrasound.BEAMS // 2
    field[sample, beam, 0] = 1
    spot = np.hypot(*np.moveaxis(ultrasound.point_spread(SCAN, field), -1, 0))
    beam_step_mm = (50 + depth_mm) * np.deg2rad(70) / (ultrasound.BEAMS - 1)
    assert ultrasound.beam_width_mm(SCAN, np.float32(depth_mm)) == pytest.approx(width_mm, rel=1e-3)
    assert full_width(spot[:, beam]) * SCAN.spacing_mm == pytest.approx(1.0, abs=0.05)  # straight lines over a curve
    assert full_width(spot[sample]) * beam_step_mm == pytest.approx(width_mm, rel=0.06)  # one width in 16 samples


def test_ten_millimetres_of_one_decibel_more_leave_ten_decibels_less_and_fluid_is_brighter_behind():
    tissue = uniform_tissue()
    tissue.loss_db_mm[80:120, 50:60] += 1  # 40 samples of 0.25 mm
    tissue.loss_db_mm[0:80, 60:] = 0  # 20 mm of fluid, while the machine compensates for tissue
    left = ultrasound.transmission_db(SCAN, tissue.loss_db_mm)
    assert left[:80, :60] == pytest.approx(0, abs=1e-3)
    assert left[120:, 50:60] == pytest.approx(-10, abs=1e-3)
    assert left[120:, 60:] == pytest.approx(20 * TISSUE_LOSS_DB_MM, abs=1e-3)


def test_noise_grows_with_depth_by_its_slope():
    scan = replace(SCAN, noise_db=-60.0, noise_slope_db_mm=0.5)
    echo = ultrasound.envelope(scan, uniform_tissue(-200.0), np.random.default_rng(3))
    power = [10 * np.log10(np.mean(echo[row - 4 : row + 5] ** 2)) for row in (40, 200)]
    assert power == pytest.approx([-60 + 0.5 * 10, -60 + 0.5 * 50], abs=0.5)


def test_scan_conversion_puts_every_sample_at_its_position_and_is_black_outside_the_sector():
    row, col = np.indices(SCAN.shape) * 0.25
    white = ultrasound.to_frame(SCAN, np.ones(SCAN.grid, np.float32))
    angle, distance = np.rad2deg(np.arctan2(np.abs(col - 50), row + 50)), np.hypot(row + 50, col - 50)
    assert white[(angle > 35.5) | (distance < 49.5) | (distance > 115.5)].max() == 0
    inside = (angle < 34.5) & (distance > 50.5) & (distance < 114)
    assert white[inside].min() == pytest.approx(1)
    rows, cols = (ultrasound.to_frame(SCAN, axis.astype(np.float32)) for axis in ultrasound.grid_points_mm(SCAN))
    assert np.abs(rows - row)[inside].max() < 0.02  # mm, bilinear and 1/32 sample
    assert np.abs(cols - col)[inside].max() < 0.02


@pytest.mark.parametrize(("boxy", "share"), [(True, 0.9270), (False, np.pi / 4)])
def test_a_chamber_covers_the_area_of_its_superellipse(boxy, share):
    u, v = np.meshgrid(np.arange(-8, 8, 0.02), np.arange(-4, 4, 0.02))
    chamber = replace(CAVUM, centre_mm=(1.0, -0.5), tilt_deg=20.0, boxy=boxy)
    inside = chamber.coordinates(u, v)[2] <= 1
    assert inside.sum() * 0.02**2 == pytest.approx(share * 10 * 4, rel=2e-3)  # share of its box; 0.9270 for power 4
    turned = replace(chamber, centre_mm=(1.0, 2.0), tilt_deg=90.0).coordinates(np.array([1.0]), np.array([7.0]))
    assert np.ravel(turned) == pytest.approx([1, 0, 1])  # its end lies along v


def test_the_reference_mask_has_the_classes_where_the_head_has_its_structures():
    centred = replace(HEAD, centre_mm=(33.0, 49.875))  # the centre of 400 columns of 0.25 mm
    mask = ultrasound.reference_mask(centred, SCAN.shape, SQUARE)
    points = ((33, 50 + 12), (33 + 13, 50 - 10), (33 - 15, 50), (33, 50 + 36))  # mm: CSP, ventricle, brain, outside
    assert [mask[round(row / 0.25), round(col / 0.25)] for row, col in points] == [2, 3, 1, 0]
    assert (mask > 0).sum() * 0.25**2 == pytest.approx(np.pi / 4 * 70 * 54, rel=2e-3)
    mirrored = ultrasound.reference_mask(replace(centred, forehead_left=True), SCAN.shape, SQUARE)
    assert np.array_equal(mirrored, mask[:, ::-1])
    without = ultrasound.reference_mask(replace(centred, csp=None), SCAN.shape, SQUARE)
    assert np.array_equal(without, np.where(mask == 2, 1, mask))
    coarse = ultrasound.reference_mask(centred, (270, 200), (0.25, 0.5))
    assert np.array_equal(coarse, mask[:, ::2])


def test_bone_is_bright_at_normal_incidence_and_it_is_darker_behind_its_edge_than_beside_the_head():
    tissue = ultrasound.scene(SCAN, HEAD, np.random.default_rng(7))
    u, v = HEAD.coordinates_mm(*ultrasound.grid_points_mm(SCAN))
    radius = np.hypot(u / 35, v / 27)
    bone = (radius > 0.95) & (radius < 0.99)
    top, side = bone & (np.abs(u) < 5), bone & (np.abs(v) < 3)
    assert np.median(tissue.reflection[top]) > 10 * np.median(tissue.reflection[side])
    left = ultrasound.transmission_db(SCAN, tissue.loss_db_mm - tissue.loss_db_mm[:1])[-1]
    edge = np.flatnonzero((radius < 1).any(axis=0))[3]
    assert left[edge] < min(left[ultrasound.BEAMS // 2], left[: edge - 6].mean()) - 2


def test_the_cavum_is_darker_than_the_brain_around_it_and_its_walls_brighter():
    tissue = ultrasound.scene(SCAN, HEAD, np.random.default_rng(7))
    frame = ultrasound.render(SCAN, tissue, np.random.default_rng(7))
    assert (frame.dtype, frame.shape, frame.min()) == (np.uint8, (270, 400), 0)
    assert frame.max() > 200
    row, cols = round(33 / 0.25), slice(round((50 + 12) / 0.25) - 12, round((50 + 12) / 0.25) + 13)
    inside, brain = frame[row - 2 : row + 3, cols].mean(), frame[row + 25 : row + 45, cols].mean()
    wall = max(frame[row + side, cols].mean() for side in (-9, -8, -7, 7, 8, 9))
    assert inside < brain < wall
