from dataclasses import replace

import numpy as np
import pytest

from lib.datasets.phantoms import ultrasound
from lib.datasets.phantoms.ultrasound import TISSUE_LOSS_DB_MM, Chamber, Head, Scan, Tissue

SCAN = Scan(
    shape=(270, 400),
    spacing_mm=0.25,
    apex_mm=(-50.0, 50.0),
    range_mm=(50.0, 115.0),
    half_angle_deg=35.0,
    axial_mm=1.0,
    lateral_mm=2.0,
    focus_mm=30.0,
    dynamic_range_db=60.0,
    gain_db=0.0,
    gain_slope_db_mm=0.0,
    noise_db=-200.0,
    noise_slope_db_mm=0.0,
    grey_exponent=1.0,
    smoothing=0.7,
)
CAVUM = Chamber((12.0, 0.0), (5.0, 2.0), 0.0, 0.0, 0.0, True, -8.0, -60.0, 0.0)
VENTRICLE = Chamber((-10.0, 13.0), (9.0, 3.0), -6.0, 0.0, 0.0, False, -12.0, -58.0, 0.5)
HEAD = Head(
    (70.0, 54.0), (33.0, 50.0), 0.0, False, 2.0, 0.0, -44.0, 0.5, 0.0, CAVUM, (VENTRICLE,), np.zeros((8, 8, 4), "f4")
)


def even_tissue(scan: Scan, scatter_db: float = -20.0, reflection: float = 0.0) -> Tissue:
    full = np.full(scan.grid, 1, np.float32)
    return Tissue(scatter_db * full, reflection * full, np.float32(TISSUE_LOSS_DB_MM) * full)


def full_width(curve: np.ndarray) -> float:
    """Width at half of the maximum, between the two crossings found by interpolation."""
    half, top = curve.max() / 2, int(curve.argmax())
    left = np.interp(half, curve[: top + 1], np.arange(top + 1))
    right = np.interp(-half, -curve[top:], np.arange(top, len(curve)))
    return float(right - left)


def test_twenty_decibels_are_a_factor_of_ten_in_amplitude():
    assert ultrasound.amplitude(np.array([-40.0, 0.0, 20.0])) == pytest.approx([0.01, 1, 10], rel=1e-6)


@pytest.mark.parametrize(
    ("level", "grey"),
    [(1.0, 1.0), (10**-1.5, 0.5), (10**-0.75, 0.75), (1e-3, 0.0), (0.0, 0.0), (5.0, 1.0)],
)
def test_log_compression_of_60_db_at_known_levels(level, grey):
    assert ultrasound.compress(np.array([level], np.float32), 60.0, 1.0) == pytest.approx([grey], abs=1e-6)


def test_the_grey_map_s_exponent_darkens_the_middle_and_keeps_the_ends():
    levels = np.array([1e-3, 10**-1.5, 1.0], np.float32)
    assert ultrasound.compress(levels, 60.0, 2.0) == pytest.approx([0, 0.25, 1], abs=1e-6)


def test_even_tissue_gives_rayleigh_speckle_of_its_own_power():
    echo = ultrasound.envelope(SCAN, even_tissue(SCAN, -20.0), np.random.default_rng(1))[20:-20, 20:-20]
    assert echo.mean() / echo.std() == pytest.approx(1.913, abs=0.06)  # sqrt(pi / (4 - pi)); some 3000 speckles
    assert np.mean(echo**2) == pytest.approx(0.01, rel=0.06)


def test_a_wide_smooth_interface_of_amplitude_one_is_white():
    echo = ultrasound.envelope(SCAN, even_tissue(SCAN, -100.0, reflection=1.0), np.random.default_rng(1))
    assert echo[30:-30, 30:-30] == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("depth_mm", [15.0, 30.0, 50.0])
def test_a_single_scatterer_becomes_a_spot_of_the_stated_width(depth_mm):
    field = np.zeros((*SCAN.grid, 2), np.float32)
    sample, beam = round(depth_mm / SCAN.spacing_mm), ultrasound.BEAMS // 2
    field[sample, beam, 0] = 1
    spot = np.hypot(*np.moveaxis(ultrasound.point_spread(SCAN, field), -1, 0))
    beam_step_mm = (50 + depth_mm) * np.deg2rad(70) / (ultrasound.BEAMS - 1)
    width_mm = float(ultrasound.beam_width_mm(SCAN, np.float32(depth_mm)))
    assert full_width(spot[:, beam]) * SCAN.spacing_mm == pytest.approx(1.0, abs=0.05)  # straight lines over a curve
    assert full_width(spot[sample]) * beam_step_mm == pytest.approx(width_mm, rel=0.06)  # one width in 16 samples


def test_the_beam_is_sharp_at_the_focus_and_widens_away_from_it():
    assert ultrasound.beam_width_mm(SCAN, np.float32(30)) == pytest.approx(2.0)
    assert ultrasound.beam_width_mm(SCAN, np.float32([9, 51])) == pytest.approx([2 * 2**0.5] * 2, rel=1e-5)


def test_blurring_keeps_the_power_of_white_noise():
    noise = np.random.default_rng(2).standard_normal((*SCAN.grid, 2), dtype=np.float32)
    assert ultrasound.point_spread(SCAN, noise)[20:-20, 20:-20].var() == pytest.approx(1, rel=0.06)


def test_ten_millimetres_of_one_decibel_more_leave_ten_decibels_less_behind_them():
    tissue = even_tissue(SCAN)
    tissue.loss_db_mm[80:120, 50:60] += 1  # 40 samples of 0.25 mm
    left = ultrasound.transmission_db(SCAN, tissue.loss_db_mm)
    assert left[:80] == pytest.approx(0, abs=1e-3)
    assert left[120:, 50:60] == pytest.approx(-10, abs=1e-3)
    assert left[120:, 60:] == pytest.approx(0, abs=1e-3)


def test_fluid_is_brighter_behind_because_the_machine_compensates_for_tissue():
    tissue = even_tissue(SCAN)
    tissue.loss_db_mm[0:80] = 0  # 20 mm
    left = ultrasound.transmission_db(SCAN, tissue.loss_db_mm)
    assert left[-1] == pytest.approx(20 * TISSUE_LOSS_DB_MM, abs=1e-3)


def test_noise_grows_with_depth_by_its_slope():
    scan = replace(SCAN, noise_db=-60.0, noise_slope_db_mm=0.5)
    echo = ultrasound.envelope(scan, even_tissue(scan, -200.0), np.random.default_rng(3))
    power = [10 * np.log10(np.mean(echo[row - 4 : row + 5] ** 2)) for row in (40, 200)]
    assert power == pytest.approx([-60 + 0.5 * 10, -60 + 0.5 * 50], abs=0.5)


def test_scan_conversion_puts_every_sample_at_its_own_place():
    rows, cols = ultrasound.grid_points_mm(SCAN)
    inside = ultrasound.to_frame(SCAN, np.ones(SCAN.grid, np.float32)) > 0.999
    assert 0.5 < inside.mean() < 0.95
    row, col = (0.25 * places[inside] for places in np.indices(SCAN.shape))
    assert ultrasound.to_frame(SCAN, rows)[inside] == pytest.approx(row, abs=0.02)  # mm, bilinear and 1/32 sample
    assert ultrasound.to_frame(SCAN, cols.astype(np.float32))[inside] == pytest.approx(col, abs=0.02)


def test_the_frame_is_black_outside_the_sector():
    frame = ultrasound.to_frame(SCAN, np.ones(SCAN.grid, np.float32))
    row, col = np.indices(SCAN.shape) * 0.25
    angle = np.rad2deg(np.arctan2(np.abs(col - 50), row + 50))
    distance = np.hypot(row + 50, col - 50)
    assert frame[(angle > 35.5) | (distance < 49.5) | (distance > 115.5)].max() == 0
    assert frame[(angle < 34.5) & (distance > 50.5) & (distance < 114)].min() == pytest.approx(1)


def test_smooth_noise_is_a_function_of_its_generator_alone_and_smooth():
    one, other = (ultrasound.smooth_noise(np.random.default_rng(5), (120, 90), (20, 20)) for _ in range(2))
    assert np.array_equal(one, other)
    assert one.shape == (120, 90)
    assert np.abs(np.diff(one, axis=0)).max() < 0.5 < one.std() + 0.2


@pytest.mark.parametrize(("boxy", "share"), [(True, 0.9270), (False, np.pi / 4)])
def test_a_chamber_covers_the_area_of_its_superellipse(boxy, share):
    u, v = np.meshgrid(np.arange(-8, 8, 0.02), np.arange(-4, 4, 0.02))
    chamber = replace(CAVUM, centre_mm=(1.0, -0.5), tilt_deg=20.0, boxy=boxy)
    inside = chamber.place(u, v)[2] <= 1
    assert inside.sum() * 0.02**2 == pytest.approx(share * 10 * 4, rel=2e-3)  # share of its box; 0.9270 for power 4


def test_tilt_turns_a_chamber_from_u_towards_v():
    along, across, radius = replace(CAVUM, centre_mm=(1.0, 2.0), tilt_deg=90.0).place(np.array([1.0]), np.array([7.0]))
    assert (along[0], across[0], radius[0]) == pytest.approx((1, 0, 1))


def test_the_reference_mask_has_the_classes_where_the_head_has_its_structures():
    mask = ultrasound.reference_mask(HEAD, (270, 400), (0.25, 0.25))
    at = {"csp": (33, 50 + 12), "ventricle": (33 + 13, 50 - 10), "brain": (33 - 15, 50), "outside": (33, 50 + 36)}
    found = {name: mask[round(row / 0.25), round(col / 0.25)] for name, (row, col) in at.items()}
    assert found == {"csp": 2, "ventricle": 3, "brain": 1, "outside": 0}
    assert (mask > 0).sum() * 0.25**2 == pytest.approx(np.pi / 4 * 70 * 54, rel=2e-3)


def test_a_forehead_to_the_left_mirrors_the_mask_and_an_absent_cavum_is_parenchyma():
    centred = replace(HEAD, centre_mm=(33.0, 49.875))  # the middle of 400 columns of 0.25 mm
    mask = ultrasound.reference_mask(centred, (270, 400), (0.25, 0.25))
    mirrored = ultrasound.reference_mask(replace(centred, forehead_left=True), (270, 400), (0.25, 0.25))
    assert np.array_equal(mirrored, mask[:, ::-1])
    without = ultrasound.reference_mask(replace(centred, csp=None), (270, 400), (0.25, 0.25))
    assert np.array_equal(without, np.where(mask == 2, 1, mask))


def test_bone_shines_where_the_beam_meets_it_at_right_angles_and_fades_at_the_sides():
    tissue = ultrasound.scene(SCAN, HEAD, np.random.default_rng(7))
    rows, cols = ultrasound.grid_points_mm(SCAN)
    u, v = HEAD.coordinates_mm(rows, cols)
    radius = np.hypot(u / 35, v / 27)
    bone = (radius > 0.95) & (radius < 0.99)
    top, side = bone & (np.abs(u) < 5), bone & (np.abs(v) < 3)
    assert np.median(tissue.reflection[top]) > 10 * np.median(tissue.reflection[side])


def test_it_is_darker_behind_the_edge_of_the_bone_than_beside_the_head():
    tissue = ultrasound.scene(SCAN, HEAD, np.random.default_rng(7))
    beams = ultrasound.BEAMS
    even = replace(tissue, loss_db_mm=tissue.loss_db_mm - tissue.loss_db_mm[:1])
    left = ultrasound.transmission_db(SCAN, even.loss_db_mm)[-1]
    rows, cols = ultrasound.grid_points_mm(SCAN)
    crossed = (np.hypot(*(x / a for x, a in zip(HEAD.coordinates_mm(rows, cols), (35, 27)))) < 1).any(axis=0)
    edge = np.flatnonzero(crossed)[3]
    assert left[edge] < left[beams // 2] - 2
    assert left[edge] < left[: edge - 6].mean() - 2


def test_a_frame_is_a_function_of_its_generator_and_uses_the_grey_scale():
    frames = [
        ultrasound.render(SCAN, ultrasound.scene(SCAN, HEAD, rng), rng)
        for rng in (np.random.default_rng(11), np.random.default_rng(11), np.random.default_rng(12))
    ]
    assert np.array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], frames[2])
    assert frames[0].dtype == np.uint8
    assert frames[0].shape == (270, 400)
    assert frames[0].max() > 200
    assert frames[0].min() == 0


def test_the_cavum_is_darker_than_the_brain_around_it_and_its_walls_brighter():
    tissue = ultrasound.scene(SCAN, HEAD, np.random.default_rng(7))
    frame = ultrasound.render(SCAN, tissue, np.random.default_rng(7)).astype(float)
    row, col = round(33 / 0.25), round((50 + 12) / 0.25)
    inside, brain = (
        frame[row - 2 : row + 3, col - 12 : col + 13].mean(),
        frame[row + 25 : row + 45, col - 12 : col + 13].mean(),
    )
    wall = max(frame[row + side, col - 12 : col + 13].mean() for side in (-9, -8, -7, 7, 8, 9))
    assert inside < brain < wall
