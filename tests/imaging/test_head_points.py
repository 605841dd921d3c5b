import numpy as np
import pandas as pd
import pytest

from lib.imaging import head_points

HEAD = np.array(
    [[50.0, 20.0], [50.0, 120.0], [10.0, 70.0], [90.0, 70.0]]
)  # OFD 100 px along a row, BPD 80 down a column


def random_heads(count, seed=0):
    return np.random.default_rng(seed).uniform(0, 200, (count, 4, 2))


def turned_at_random(heads, seed=0):
    """The same heads, the two ends of some lines exchanged."""
    turned = heads.copy()
    for head, ofd, bpd in zip(turned, *np.random.default_rng(seed).random((2, len(heads))) < 0.5):
        head[:2] = head[1::-1] if ofd else head[:2]
        head[2:] = head[:1:-1] if bpd else head[2:]
    return turned


# Order of ends


def test_the_left_end_of_ofd_and_the_upper_end_of_bpd_come_first():
    given = np.array([[10, 50], [20, 5], [9, 2], [1, 7]])
    assert head_points.canonical(given).tolist() == [[20, 5], [10, 50], [1, 7], [9, 2]]


def test_of_ends_above_or_beside_each_other_the_upper_or_the_left_comes_first():
    given = np.array([[10, 5], [2, 5], [9, 7], [9, 1]])
    assert head_points.canonical(given).tolist() == [[2, 5], [10, 5], [9, 1], [9, 7]]


def test_ends_in_order_stay_as_they_are():
    assert np.array_equal(head_points.canonical(HEAD), HEAD)


def test_the_order_does_not_depend_on_which_end_was_called_the_first():
    heads = random_heads(50)
    turned = turned_at_random(heads)
    assert not np.array_equal(turned, heads)
    assert np.array_equal(head_points.canonical(turned), head_points.canonical(heads))


def test_a_batch_of_batches_is_ordered_head_by_head():
    heads = random_heads(12)
    ordered = head_points.canonical(heads.reshape(3, 4, 4, 2))
    assert np.array_equal(ordered.reshape(12, 4, 2), [head_points.canonical(head) for head in heads])


def test_a_mirrored_head_is_ordered_anew():
    mirrored = head_points.canonical(HEAD * np.array([1, -1]) + np.array([0, 199]))
    assert mirrored.tolist() == [[50, 79], [50, 179], [10, 129], [90, 129]]


def test_a_confidence_goes_with_its_point():
    given = np.array([[10, 50, 0.9], [20, 5, 0.2], [1, 7, 0.5], [9, 8, 0.4]])
    assert head_points.canonical(given)[:, 2].tolist() == [0.2, 0.9, 0.5, 0.4]


# Lengths and errors


def test_lengths_of_a_head_in_square_pixels():
    assert head_points.line_lengths_mm(HEAD, (0.5, 0.5)) == {"ofd": 50, "bpd": 40}


def test_rows_and_columns_have_pixel_sizes_of_their_own():
    slanted = np.array([[0, 0], [3, 4], [0, 0], [4, -3]])
    found = head_points.line_lengths_mm(slanted, (2.0, 1.0))
    assert found == pytest.approx({"ofd": np.hypot(6, 4), "bpd": np.hypot(8, 3)})


@pytest.mark.parametrize("spacing_mm", [(0.0, 1.0), (1.0, -1.0), (np.nan, 1.0)])
def test_no_millimetres_without_a_positive_pixel_size(spacing_mm):
    with pytest.raises(ValueError, match="expected two positive numbers"):
        head_points.line_lengths_mm(HEAD, spacing_mm)


def test_errors_typed_by_hand():
    predicted = HEAD + np.array([[3, 4], [0, 0], [0, 2], [0, -4]])
    found = head_points.point_errors(predicted, HEAD, (0.5, 0.5))
    assert found == pytest.approx(
        {"ofd_px": 2.5, "bpd_px": 3, "ofd_mm": 1.25, "bpd_mm": 1.5, "normalised_mean_error_percent": 2.75}
    )


def test_the_error_does_not_depend_on_which_end_is_called_the_first():
    heads, guesses = random_heads(20), random_heads(20, seed=1)
    for head, guess, turned in zip(heads, guesses, turned_at_random(guesses)):
        assert head_points.point_errors(turned, head) == pytest.approx(
            head_points.point_errors(guess, head), nan_ok=True
        )


def test_the_better_pairing_is_taken_for_each_line_by_itself():
    crossed = HEAD[[0, 1, 3, 2]]
    assert head_points.point_errors(crossed, HEAD)["normalised_mean_error_percent"] == 0


def test_without_a_pixel_size_there_are_no_millimetres():
    found = head_points.point_errors(HEAD + 1, HEAD)
    assert np.isnan([found["ofd_mm"], found["bpd_mm"]]).all()
    assert found["normalised_mean_error_percent"] == pytest.approx(100 * np.sqrt(2) / 100)


def test_pixels_that_are_not_square_weigh_an_error_by_its_direction():
    down, right = (head_points.point_errors(HEAD + step, HEAD, (3.0, 1.0)) for step in ([2, 0], [0, 2]))
    assert (down["ofd_px"], right["ofd_px"]) == (2, 2)
    assert (down["ofd_mm"], right["ofd_mm"]) == (6, 2)


def test_a_missing_end_makes_the_error_of_its_line_unknown():
    lost = HEAD.copy()
    lost[3] = np.nan
    found = head_points.point_errors(lost, HEAD, (1.0, 1.0))
    assert found["ofd_px"] == 0
    assert np.isnan([found["bpd_px"], found["bpd_mm"], found["normalised_mean_error_percent"]]).all()


# Mean shape, ends of an ellipse, tables


def test_the_mean_shape_of_two_heads_whatever_their_ends_are_called():
    heads = np.stack([HEAD, (HEAD + np.array([4, 10]))[[1, 0, 3, 2]]])
    assert head_points.mean_shape(heads).tolist() == (HEAD + np.array([2, 5])).tolist()


def test_no_cases_have_no_mean_shape():
    with pytest.raises(ValueError, match="expected at least one"):
        head_points.mean_shape(np.zeros((0, 4, 2)))


@pytest.mark.parametrize(
    ("angle_deg", "ends"),
    [
        (0, [[50, 20], [50, 120], [10, 70], [90, 70]]),
        (90, [[0, 70], [100, 70], [50, 30], [50, 110]]),
        (45, [[14.645, 34.645], [85.355, 105.355], [21.716, 98.284], [78.284, 41.716]]),  # from column towards row
    ],
)
def test_the_ends_of_an_ellipse_s_axes(angle_deg, ends):
    assert head_points.axis_ends((50, 70), 100, 80, angle_deg) == pytest.approx(np.array(ends), abs=1e-3)


def table_of(heads):
    return pd.DataFrame(np.asarray(heads).reshape(-1, 8), columns=head_points.POINT_COLUMNS).assign(
        case=[f"{number:03d}_HC" for number in range(len(heads))]
    )


def test_a_table_becomes_arrays_in_the_order_asked_for():
    heads = random_heads(5)
    assert np.array_equal(head_points.as_arrays(table_of(heads), ["003_HC", "000_HC"]), heads[[3, 0]])
    assert head_points.as_arrays(table_of(heads), []).shape == (0, 4, 2)


def test_a_case_without_exactly_one_row_is_refused():
    table = table_of(random_heads(3))
    with pytest.raises(ValueError, match=r"1 cases without one row of landmarks: \['009_HC'\]"):
        head_points.as_arrays(table, ["000_HC", "009_HC"])
    with pytest.raises(ValueError, match=r"\['001_HC'\]"):
        head_points.as_arrays(pd.concat([table, table[1:2]]), ["000_HC", "001_HC"])
