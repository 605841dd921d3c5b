import numpy as np
import pytest
import torch

from lib.imaging import head_points, heatmaps
from tests.builders_tasks import HEAD, SHAPE, heatmap_batch

PERS = ("line", "point")
SIGMAS = (1.5, 2.0, 3.0, 4.5, 6.0)
per_both = pytest.mark.parametrize("per", PERS)
all_sigmas = pytest.mark.parametrize("sigma", SIGMAS)


def random_head(draw, sigma, shape=SHAPE):
    """Four points anywhere in the frame; the ends of a line at least six standard deviations apart."""
    while True:
        head = draw.uniform(0, 1, (4, 2)) * (np.array(shape) - 1)
        if head_points.line_lengths(head).min() >= 6 * sigma:
            return head


def gaussian(row, col, row_sigma, col_sigma, shape=SHAPE):
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    return np.exp(-0.5 * ((rows - row) / row_sigma) ** 2 - 0.5 * ((cols - col) / col_sigma) ** 2).astype(np.float32)


def moved(index, point):
    """The head with one endpoint at another (row, col)."""
    head = HEAD.copy()
    head[index] = point
    return head


def quick(maps, sigma):
    """`peaks` of one image: (4, 2)."""
    return heatmaps.peaks(torch.from_numpy(maps[None]), sigma)[0].numpy()


@all_sigmas
def test_maps_are_those_of_the_formula(sigma):
    head = head_points.canonical(random_head(np.random.default_rng(1), sigma))
    four = np.stack([gaussian(*point, sigma, sigma) for point in head])
    two = np.stack([np.maximum(four[0], four[1]), np.maximum(four[2], four[3])])
    for per, expected in (("point", four), ("line", two)):
        maps = heatmaps.encode(head, sigma, SHAPE, per)
        assert maps.dtype == np.float32
        assert maps == pytest.approx(expected, abs=1e-6)
        assert np.array_equal(maps, heatmaps.encode(head[[1, 0, 3, 2]], sigma, SHAPE, per))  # in any order
    assert heatmaps.encode(moved(1, HEAD[0] + [0, 3]), sigma, SHAPE, "line").max() == 1  # near endpoints do not add up


def test_a_point_outside_the_frame_has_the_tail_of_its_gaussian_and_is_detected_one_standard_deviation_away():
    away = moved(0, (40, -6))
    first = heatmaps.encode(away, 3.0, SHAPE, "point")[0]
    assert first.max() == pytest.approx(np.exp(-2), rel=1e-5)
    assert np.unravel_index(first.argmax(), SHAPE) == (40, 0)
    points, _ = heatmaps.decode(heatmaps.encode(away, 3.0, SHAPE, "line"), 3.0)
    assert points[0] == pytest.approx([40, -3], abs=0.2)


@pytest.mark.parametrize(("row", "sigma"), [(np.nan, 2.0), (np.inf, 2.0), (1.0, 0.0), (1.0, np.nan), (1.0, np.inf)])
def test_points_and_sigmas_that_are_not_finite_are_refused(row, sigma):
    with pytest.raises(ValueError, match=f"sigma {sigma}; expected finite points, sigma above 0"):
        heatmaps.encode(moved(0, (row, 20)), sigma, SHAPE, "line")


@per_both
@all_sigmas
def test_points_come_back_within_a_hundredth_of_a_pixel_and_from_noise_of_a_twentieth_within_0_3(sigma, per):
    draw = np.random.default_rng(2)
    for _ in range(20):
        head = random_head(draw, sigma)
        maps = heatmaps.encode(head, sigma, SHAPE, per)
        before = maps.copy()
        points, heights = heatmaps.decode(maps, sigma)
        assert np.array_equal(maps, before)
        assert points == pytest.approx(head_points.canonical(head), abs=0.01)
        assert heights.min() > 0.75  # a peak between four pixels of the narrowest map has exp(-0.25 / 1.5^2) = 0.89
        noisy = maps + 0.05 * draw.standard_normal(maps.shape).astype(np.float32)
        away = heatmaps.decode(noisy, sigma)[0] - head_points.canonical(head)
        assert np.linalg.norm(away, axis=1).max() < 0.3


@per_both
@all_sigmas
@pytest.mark.parametrize("angle_deg", [0, 30, 90, 135])
def test_two_endpoints_six_standard_deviations_apart_are_separated(sigma, per, angle_deg):
    step = 3 * sigma * np.array([np.sin(np.deg2rad(angle_deg)), np.cos(np.deg2rad(angle_deg))])
    centres = np.array([[48.3, 40.6], [47.7, 88.2]])
    head = np.concatenate([[centre - step, centre + step] for centre in centres])
    points, _ = heatmaps.decode(heatmaps.encode(head, sigma, SHAPE, per), sigma)
    errors = head_points.point_errors(points, head)  # rounding decides which endpoint of a vertical line is left
    assert max(errors["ofd_px"], errors["bpd_px"]) < 0.01
    near = moved(1, HEAD[0] + 10)  # 14.1 pixels apart: three standard deviations are 12
    maps = heatmaps.encode(near, 4.0, SHAPE, per)
    for points in (heatmaps.decode(maps, 4.0)[0], quick(maps, 4.0)):
        assert head_points.point_errors(points, near)["ofd_px"] < 1


@per_both
@pytest.mark.parametrize("sigma", [1.5, 4.0])
@pytest.mark.parametrize(
    "head",
    [
        [[20.0, 30.0], [70.0, 30.0], [15.0, 90.0], [80.0, 90.0]],  # vertical lines: the upper endpoint first
        [[0.0, 0.0], [95.0, 127.0], [-0.8, 60.3], [95.7, 61.9]],  # at the frame and just beyond it
    ],
)
def test_vertical_lines_and_ends_at_the_frame_come_back_exactly(sigma, per, head):
    maps = heatmaps.encode(np.array(head)[[1, 0, 3, 2]], sigma, SHAPE, per)
    errors = head_points.point_errors(heatmaps.decode(maps, sigma)[0], np.array(head))
    assert max(errors["ofd_px"], errors["bpd_px"]) < 0.01
    assert heatmaps.decode(maps, sigma)[0][2:] == pytest.approx(np.array(head)[2:], abs=0.01)


@pytest.mark.parametrize("width", [0.7, 1.5, 2.0])
def test_low_peaks_of_another_width_than_the_targets_are_detected(width):
    maps = 0.3 * heatmaps.encode(HEAD + 0.4, 3.0 * width, SHAPE, "line")
    points, heights = heatmaps.decode(maps, 3.0)
    assert points == pytest.approx(HEAD + 0.4, abs=0.02)
    assert heights == pytest.approx(0.3, abs=0.02)  # of the highest pixel


def test_heights_belong_to_their_points_and_the_two_maps_of_a_line_may_be_exchanged():
    maps = heatmaps.encode(HEAD, 3.0, SHAPE, "point") * np.array([0.2, 0.9, 0.8, 0.4], np.float32)[:, None, None]
    for order in ([0, 1, 2, 3], [1, 0, 3, 2]):
        points, heights = heatmaps.decode(maps[order], 3.0)
        assert heights == pytest.approx([0.2, 0.9, 0.8, 0.4], abs=1e-3)
        assert points == pytest.approx(HEAD, abs=0.01)


@pytest.mark.parametrize("value", [0.0, -1.0, head_points.PEAK_LEVEL, np.nan])
def test_a_blank_map_and_one_that_is_not_finite_somewhere_have_no_endpoints(value):
    maps = heatmaps.encode(HEAD, 3.0, SHAPE, "line")
    maps[0] = value
    partly = heatmaps.encode(HEAD, 3.0, SHAPE, "line")
    partly[0, 5, 5] = np.nan
    for each in (maps, partly):
        points, heights = heatmaps.decode(each, 3.0)
        assert heights[:2].tolist() == [0, 0]
        for ends in (points, quick(each, 3.0)):
            assert np.isnan(ends).all(axis=1).tolist() == [True, True, False, False]


@all_sigmas
def test_a_map_with_one_peak_has_one_endpoint(sigma):
    maps = heatmaps.encode(HEAD, sigma, SHAPE, "point")
    for lost in (np.stack([maps[0], 0 * maps[1], *maps[2:]]), np.stack([maps[0], maps[2] + maps[3]])):
        points, heights = heatmaps.decode(lost, sigma)
        for each in (points, quick(lost, sigma)):
            assert np.isnan(each).any(axis=1).tolist() == [False, True, False, False]
        assert points[0] == pytest.approx(HEAD[0], abs=0.01)
        assert heights[:2] == pytest.approx([1, 0])


def test_the_flank_of_a_smeared_end_is_not_taken_for_the_other_end():
    smeared = gaussian(12, 40, 2, 12)  # six times as long as wide
    line = np.maximum(smeared, 0.3 * gaussian(50, 44, 2, 2))
    assert line[12, 40 + 7] > 0.3  # beyond three standard deviations, and higher than the second endpoint
    points, heights = heatmaps.decode(np.stack([line, line]), 2.0)
    assert points[2:] == pytest.approx(np.array([[12, 40], [50, 44]]), abs=0.5)
    assert heights[2:] == pytest.approx([1.0, 0.3], abs=0.01)
    assert quick(np.stack([line, line]), 2.0)[2:].tolist() == [[12, 40], [50, 44]]
    points, _ = heatmaps.decode(np.stack([smeared, smeared]), 2.0)  # no other maximum: the highest remaining pixel
    assert np.isfinite(points).all()
    assert np.hypot(*(points[1] - points[0])) > 3 * 2.0 - 2.0  # outside the disc, refined by up to one sigma


@per_both
def test_peaks_equal_decoding_to_whole_pixels(per):
    draw = np.random.default_rng(4)
    maps = heatmap_batch([random_head(draw, 3.0) for _ in range(20)], per=per)
    peaks = heatmaps.peaks(maps, 3.0).numpy()
    assert peaks == pytest.approx(np.rint(peaks))
    for whole, each in zip(peaks, maps.numpy()):
        errors = head_points.point_errors(whole, heatmaps.decode(each, 3.0)[0])  # rounding may swap a line
        assert max(errors["ofd_px"], errors["bpd_px"]) <= np.hypot(0.51, 0.51)


def test_peaks_are_exact_in_canonical_order_and_in_half_precision():
    near = moved(1, HEAD[0] + [0, 12])
    vertical = np.array([[20.0, 30.0], [70.0, 30.0], [50.0, 80.0], [50.0, 110.0]])
    for head, sigma in ((near, 2.0), (HEAD, 6.0)):
        assert heatmaps.peaks(heatmap_batch([head[[1, 0, 3, 2]]], sigma), sigma).tolist() == [head.tolist()]
    peaks = heatmaps.peaks(heatmap_batch([vertical[[1, 0, 3, 2]]]).bfloat16(), 3.0)
    assert peaks.dtype == torch.float32
    assert peaks[0].tolist() == vertical.tolist()


def test_the_distance_is_the_normalised_error_of_points_and_1_for_a_blank_image():
    typed = torch.from_numpy(HEAD) + torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0], [0.0, -4.0]])
    share = 2.75 / np.hypot(12, 90)
    assert heatmaps.distance(typed[None], torch.from_numpy(HEAD[None])).tolist() == pytest.approx([share])
    heads, predicted = np.random.default_rng(5).uniform(0, 90, (2, 30, 4, 2))
    distances = heatmaps.distance(torch.from_numpy(predicted[:, [1, 0, 2, 3]]), torch.from_numpy(heads))
    percent = [head_points.point_errors(*pair)["normalised_mean_error_percent"] for pair in zip(predicted, heads)]
    assert 100 * distances.numpy() == pytest.approx(percent)
    reference = torch.from_numpy(np.stack([HEAD, HEAD])).float()
    predicted = reference.clone()
    predicted[0] = torch.nan
    predicted[1, :2] = torch.nan
    assert heatmaps.distance(predicted, reference).tolist() == [1, 0.5]
