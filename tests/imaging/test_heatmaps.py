import numpy as np
import pytest
import torch

from lib.imaging import head_points, heatmaps
from tests.builders_tasks import HEAD, SHAPE, heatmap_batch

PERS = ("line", "point")
SIGMAS = (1.5, 2.0, 3.0, 4.5, 6.0)


def random_head(draw, sigma, shape=SHAPE):
    """Four points anywhere in the frame; the ends of a line at least six standard deviations apart."""
    while True:
        head = draw.uniform(0, 1, (4, 2)) * (np.array(shape) - 1)
        if head_points.line_lengths(head).min() >= 6 * sigma:
            return head


def by_formula(head, sigma, shape=SHAPE):
    """A Gaussian about each point, pixel by pixel: (4, h, w)."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    return np.stack([np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / (2 * sigma**2)) for row, col in head])


# Encoding


@pytest.mark.parametrize("sigma", SIGMAS)
def test_maps_are_those_of_the_formula(sigma):
    head = head_points.canonical(random_head(np.random.default_rng(1), sigma))
    four = by_formula(head, sigma)
    assert heatmaps.encode(head, sigma, SHAPE, "point") == pytest.approx(four, abs=1e-6)
    two = np.stack([np.maximum(four[0], four[1]), np.maximum(four[2], four[3])])
    assert heatmaps.encode(head, sigma, SHAPE, "line") == pytest.approx(two, abs=1e-6)


@pytest.mark.parametrize("per", PERS)
def test_maps_are_float32_with_a_peak_of_1_at_each_end(per):
    maps = heatmaps.encode(HEAD, 3.0, SHAPE, per)
    assert maps.dtype == np.float32
    for line, ends in enumerate(HEAD.astype(int).reshape(2, 2, 2)):
        own = maps.reshape(2, -1, *SHAPE)[line].max(axis=0)
        assert [own[tuple(end)] for end in ends] == [1, 1]


def test_two_near_ends_of_one_map_do_not_add_up():
    near = HEAD.copy()
    near[1] = near[0] + [0, 3]
    assert heatmaps.encode(near, 3.0, SHAPE, "line").max() == 1


@pytest.mark.parametrize("per", PERS)
def test_maps_do_not_depend_on_which_end_is_called_the_first(per):
    maps, turned = (heatmaps.encode(head, 2.0, SHAPE, per) for head in (HEAD, HEAD[[1, 0, 3, 2]]))
    assert np.array_equal(maps, turned)


def test_per_point_the_left_end_has_the_first_map():
    maps = heatmaps.encode(HEAD[[1, 0, 2, 3]], 2.0, SHAPE, "point")
    assert [np.unravel_index(each.argmax(), SHAPE) for each in maps] == [tuple(end) for end in HEAD]


def test_a_point_outside_the_frame_leaves_the_tail_of_its_gaussian():
    away = HEAD.copy()
    away[0] = [40, -6]
    first = heatmaps.encode(away, 3.0, SHAPE, "point")[0]
    assert first.max() == pytest.approx(np.exp(-2), rel=1e-5)
    assert np.unravel_index(first.argmax(), SHAPE) == (40, 0)


@pytest.mark.parametrize(("place", "sigma"), [(np.nan, 2.0), (np.inf, 2.0), (1.0, 0.0), (1.0, np.nan)])
def test_what_has_no_heatmap_is_refused(place, sigma):
    head = HEAD.copy()
    head[0, 0] = place
    with pytest.raises(ValueError, match="expected finite points, sigma above 0"):
        heatmaps.encode(head, sigma, SHAPE, "line")


# Decoding


@pytest.mark.parametrize("per", PERS)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_points_come_back_within_a_hundredth_of_a_pixel(sigma, per):
    draw = np.random.default_rng(2)
    for _ in range(25):
        head = random_head(draw, sigma)
        found, heights = heatmaps.decode(heatmaps.encode(head, sigma, SHAPE, per), sigma)
        assert found == pytest.approx(head_points.canonical(head), abs=0.01)
        assert heights.min() > 0.75  # a peak between four pixels of the narrowest map has exp(-0.25 / 1.5^2) = 0.89


@pytest.mark.parametrize("per", PERS)
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("angle_deg", [0, 30, 90, 135])
def test_two_ends_six_standard_deviations_apart_are_told_apart(sigma, per, angle_deg):
    step = 3 * sigma * np.array([np.sin(np.deg2rad(angle_deg)), np.cos(np.deg2rad(angle_deg))])
    middles = np.array([[48.3, 40.6], [47.7, 88.2]])
    head = np.concatenate([[middle - step, middle + step] for middle in middles])
    found, _ = heatmaps.decode(heatmaps.encode(head, sigma, SHAPE, per), sigma)
    errors = head_points.point_errors(found, head)  # rounding decides which end of a vertical line is the left one
    assert max(errors["ofd_px"], errors["bpd_px"]) < 0.01


@pytest.mark.parametrize("per", PERS)
def test_two_ends_that_are_nearer_along_rows_and_columns_than_across_are_told_apart(per):
    near = HEAD.copy()
    near[1] = near[0] + 10  # 14.1 pixels apart: three standard deviations are 12
    maps = heatmaps.encode(near, 4.0, SHAPE, per)
    assert head_points.point_errors(heatmaps.decode(maps, 4.0)[0], near)["ofd_px"] < 1
    assert head_points.point_errors(heatmaps.peaks(torch.from_numpy(maps[None]), 4.0)[0].numpy(), near)["ofd_px"] < 1


@pytest.mark.parametrize("per", PERS)
def test_a_vertical_line_comes_back_with_its_upper_end_first(per):
    head = np.array([[20.0, 30.0], [70.0, 30.0], [15.0, 90.0], [80.0, 90.0]])
    found, _ = heatmaps.decode(heatmaps.encode(head[[1, 0, 3, 2]], 2.0, SHAPE, per), 2.0)
    assert found[:, 0] == pytest.approx(head[:, 0], abs=0.01)


@pytest.mark.parametrize("per", PERS)
@pytest.mark.parametrize("sigma", [1.5, 4.0])
def test_ends_at_the_frame_and_just_beyond_it_come_back_exactly(sigma, per):
    head = np.array([[0.0, 0.0], [95.0, 127.0], [-0.8, 60.3], [95.7, 61.9]])
    found, _ = heatmaps.decode(heatmaps.encode(head, sigma, SHAPE, per), sigma)
    assert found == pytest.approx(head, abs=0.01)


def test_an_end_far_outside_is_sought_no_farther_than_one_standard_deviation():
    away = HEAD.copy()
    away[0, 1] = -6.0
    found, _ = heatmaps.decode(heatmaps.encode(away, 3.0, SHAPE, "line"), 3.0)
    assert found[0] == pytest.approx([40, -3], abs=0.2)


@pytest.mark.parametrize("per", PERS)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_noise_of_a_twentieth_moves_points_by_less_than_0_3_pixels(sigma, per):
    draw = np.random.default_rng(3)
    for _ in range(10):
        head = random_head(draw, sigma)
        maps = heatmaps.encode(head, sigma, SHAPE, per)
        noisy = maps + 0.05 * draw.standard_normal(maps.shape).astype(np.float32)
        away = heatmaps.decode(noisy, sigma)[0] - head_points.canonical(head)
        assert np.linalg.norm(away, axis=1).max() < 0.3


@pytest.mark.parametrize("width", [0.7, 1.5, 2.0])
def test_low_peaks_of_another_width_than_taught_are_found_all_the_same(width):
    maps = 0.3 * heatmaps.encode(HEAD + 0.4, 3.0 * width, SHAPE, "line")
    found, heights = heatmaps.decode(maps, 3.0)
    assert found == pytest.approx(HEAD + 0.4, abs=0.02)
    assert heights == pytest.approx(0.3, abs=0.02)  # of the highest pixel


def test_the_height_goes_with_its_point():
    maps = heatmaps.encode(HEAD, 3.0, SHAPE, "point") * np.array([0.2, 0.9, 0.8, 0.4], np.float32)[:, None, None]
    found, heights = heatmaps.decode(maps, 3.0)
    assert heights == pytest.approx([0.2, 0.9, 0.8, 0.4], abs=1e-3)
    assert found == pytest.approx(HEAD, abs=0.01)


def test_per_point_the_two_maps_of_a_line_may_be_exchanged():
    maps = heatmaps.encode(HEAD, 3.0, SHAPE, "point")
    assert heatmaps.decode(maps[[1, 0, 3, 2]], 3.0)[0] == pytest.approx(heatmaps.decode(maps, 3.0)[0])


@pytest.mark.parametrize("value", [0.0, -1.0, heatmaps.LEVEL, np.nan])
def test_a_blank_map_shows_no_point(value):
    found, heights = heatmaps.decode(np.full((2, *SHAPE), value, np.float32), 3.0)
    assert np.isnan(found).all()
    assert heights.tolist() == [0, 0, 0, 0]


def test_a_map_that_is_not_finite_somewhere_shows_no_point():
    maps = heatmaps.encode(HEAD, 3.0, SHAPE, "line")
    maps[0, 5, 5] = np.nan
    lost = [True, True, False, False]
    assert np.isnan(heatmaps.decode(maps, 3.0)[0]).any(axis=1).tolist() == lost
    assert heatmaps.peaks(torch.from_numpy(maps[None]), 3.0)[0].isnan().any(dim=1).tolist() == lost


@pytest.mark.parametrize("per", PERS)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_map_with_one_peak_shows_one_end(sigma, per):
    maps = heatmaps.encode(HEAD, sigma, SHAPE, "point")
    lost = (
        np.stack([maps[0], 0 * maps[1], maps[2], maps[3]]) if per == "point" else np.stack([maps[0], maps[2] + maps[3]])
    )
    found, heights = heatmaps.decode(lost, sigma)
    assert np.isnan(found).any(axis=1).tolist() == [False, True, False, False]
    assert found[0] == pytest.approx(HEAD[0], abs=0.01)
    assert heights[:2] == pytest.approx([1, 0])


def test_decoding_leaves_the_maps_as_they_are():
    maps = heatmaps.encode(HEAD, 3.0, SHAPE, "line")
    before = maps.copy()
    heatmaps.decode(maps, 3.0)
    assert np.array_equal(maps, before)


# Peaks and their distance


@pytest.mark.parametrize("per", PERS)
def test_peaks_are_what_decoding_finds_in_whole_pixels(per):
    draw = np.random.default_rng(4)
    heads = [random_head(draw, 3.0) for _ in range(20)]
    maps = heatmap_batch(heads, per=per)
    found = heatmaps.peaks(maps, 3.0).numpy()
    decoded = np.stack([heatmaps.decode(each, 3.0)[0] for each in maps.numpy()])
    assert found == pytest.approx(np.rint(found))
    for whole, exact in zip(found, decoded):
        errors = head_points.point_errors(whole, exact)  # rounding may turn a line whose ends share a column
        assert max(errors["ofd_px"], errors["bpd_px"]) <= np.hypot(0.51, 0.51)


def test_peaks_of_whole_pixels_are_exact_in_canonical_order():
    found = heatmaps.peaks(heatmap_batch([HEAD, HEAD[[1, 0, 3, 2]]]), 3.0)
    assert found.tolist() == [HEAD.tolist(), HEAD.tolist()]


def test_each_image_has_its_own_standard_deviation():
    near = HEAD.copy()
    near[1] = near[0] + [0, 12]
    maps = torch.cat([heatmap_batch([near], sigma=2.0), heatmap_batch([HEAD], sigma=6.0)])
    assert heatmaps.peaks(maps, torch.tensor([2.0, 6.0])).tolist() == [near.tolist(), HEAD.tolist()]


def test_peaks_of_half_precision_on_a_blank_and_a_shown_line():
    maps = heatmap_batch([HEAD]).bfloat16()
    maps[:, 1] = 0
    found = heatmaps.peaks(maps, 3.0)
    assert found.dtype == torch.float32
    assert found[0, :2].tolist() == HEAD[:2].tolist()
    assert found[0, 2:].isnan().all()


def test_a_single_peak_is_one_end():
    maps = heatmap_batch([HEAD], per="point")[:, [0, 2]]
    assert heatmaps.peaks(maps, 3.0)[0].isnan().any(dim=1).tolist() == [False, True, False, True]


def test_the_distance_of_a_head_by_hand():
    reference = torch.tensor([[[50.0, 20.0], [50.0, 120.0], [10.0, 70.0], [90.0, 70.0]]])
    predicted = reference + torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0], [0.0, -4.0]])
    assert heatmaps.distance(predicted, reference).tolist() == pytest.approx([0.0275])
    assert heatmaps.distance(predicted[:, [1, 0, 3, 2]], reference).tolist() == pytest.approx([0.0275])


def test_the_distance_is_the_normalised_error_of_points():
    draw = np.random.default_rng(5)
    heads, guesses = draw.uniform(0, 90, (2, 30, 4, 2))
    found = heatmaps.distance(torch.from_numpy(guesses), torch.from_numpy(heads))
    percent = [head_points.point_errors(*pair)["normalised_mean_error_percent"] for pair in zip(guesses, heads)]
    assert 100 * found.numpy() == pytest.approx(percent)


def test_a_blank_image_has_distance_1_and_a_blank_line_half_of_it():
    reference = torch.from_numpy(np.stack([HEAD, HEAD])).float()
    predicted = reference.clone()
    predicted[0] = torch.nan
    predicted[1, :2] = torch.nan
    assert heatmaps.distance(predicted, reference).tolist() == [1, 0.5]


def test_the_flank_of_a_smeared_end_is_not_taken_for_the_other_end():
    rows, cols = np.mgrid[:60, :90].astype(np.float32)
    smeared = np.exp(-0.5 * ((rows - 12) / 2) ** 2 - 0.5 * ((cols - 40) / 12) ** 2)  # six times as long as wide
    faint = 0.3 * np.exp(-0.5 * ((rows - 50) / 2) ** 2 - 0.5 * ((cols - 44) / 2) ** 2)
    line = np.maximum(smeared, faint).astype(np.float32)
    assert line[12, 40 + 7] > faint.max()  # beyond three standard deviations, and higher than the second end
    maps = np.stack([line, line])
    found, heights = heatmaps.decode(maps, 2.0)
    assert found[2:] == pytest.approx(np.array([[12, 40], [50, 44]]), abs=0.5)
    assert heights[2:] == pytest.approx([1.0, 0.3], abs=0.01)
    quick = heatmaps.peaks(torch.from_numpy(maps[None]), 2.0)[0, 2:]
    assert quick.tolist() == [[12, 40], [50, 44]]


def test_where_no_other_summit_is_left_the_highest_of_the_rest_is_the_second_end():
    rows, cols = np.mgrid[:60, :90].astype(np.float32)
    line = np.exp(-0.5 * ((rows - 12) / 2) ** 2 - 0.5 * ((cols - 40) / 12) ** 2).astype(np.float32)
    found, _ = heatmaps.decode(np.stack([line, line]), 2.0)
    assert np.isfinite(found).all()
    assert np.hypot(*(found[1] - found[0])) > 3 * 2.0 - 2.0  # beyond the disc, less what refining may move it back
