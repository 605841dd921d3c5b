import numpy as np
import pandas as pd
import pytest

from lib.imaging import head_points

HEAD = np.array([[50.0, 20.0], [50.0, 120.0], [10.0, 70.0], [90.0, 70.0]])  # OFD 100 px along a row, BPD 80 down
EXCHANGED = ([1, 0, 2, 3], [0, 1, 3, 2], [1, 0, 3, 2])  # endpoints of OFD, BPD, both


def random_heads(count, seed=0):
    return np.random.default_rng(seed).uniform(0, 200, (count, 4, 2))


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[10, 50], [20, 5], [9, 2], [1, 7]], [[20, 5], [10, 50], [1, 7], [9, 2]]),  # left of OFD, upper of BPD
        ([[10, 5], [2, 5], [9, 7], [9, 1]], [[2, 5], [10, 5], [9, 1], [9, 7]]),  # of ties the upper, the left
        (HEAD, HEAD.tolist()),
        (HEAD * [1, -1] + [0, 199], [[50, 79], [50, 179], [10, 129], [90, 129]]),  # mirrored
        ([[9, 50, 4], [20, 5, 2], [1, 7, 5], [9, 8, 3]], [[20, 5, 2], [9, 50, 4], [1, 7, 5], [9, 8, 3]]),  # confidences
    ],
)
def test_the_left_end_of_ofd_and_the_upper_end_of_bpd_come_first(points, expected):
    assert head_points.canonical(np.array(points)).tolist() == expected


def test_the_canonical_order_does_not_depend_on_the_original_order():
    heads = random_heads(48)
    ordered = head_points.canonical(heads)
    assert all(np.array_equal(head_points.canonical(heads[:, order]), ordered) for order in EXCHANGED)
    assert np.array_equal(head_points.canonical(heads.reshape(3, 16, 4, 2)).reshape(48, 4, 2), ordered)


def test_rows_and_columns_have_pixel_sizes_of_their_own_which_must_be_positive():
    assert head_points.line_lengths_mm(HEAD, (0.5, 0.5)) == {"ofd": 50, "bpd": 40}
    slanted = head_points.line_lengths_mm(np.array([[0, 0], [3, 4], [0, 0], [4, -3]]), (2.0, 1.0))
    assert slanted == pytest.approx({"ofd": np.hypot(6, 4), "bpd": np.hypot(8, 3)})
    down, right = (head_points.point_errors(HEAD + step, HEAD, (3.0, 1.0)) for step in ([2, 0], [0, 2]))
    assert (down["ofd_px"], right["ofd_px"]) == (2, 2)
    assert (down["ofd_mm"], right["ofd_mm"]) == (6, 2)
    for spacing_mm in ((0.0, 1.0), (1.0, -1.0), (np.nan, 1.0)):
        for measure in (head_points.line_lengths_mm, lambda *pair: head_points.point_errors(HEAD, *pair)):
            with pytest.raises(ValueError, match="expected two positive numbers"):
                measure(HEAD, spacing_mm)


def test_errors_typed_by_hand_are_nan_for_a_line_without_an_endpoint():
    predicted = HEAD + np.array([[3.0, 4], [0, 0], [0, 2], [0, -4]])
    pixels = {"ofd_px": 2.5, "bpd_px": 3, "normalised_mean_error_percent": 2.75}
    errors = head_points.point_errors(predicted, HEAD, (0.5, 0.5))
    assert errors == pytest.approx(pixels | {"ofd_mm": 1.25, "bpd_mm": 1.5})
    without_size = head_points.point_errors(predicted, HEAD)
    assert without_size == pytest.approx(pixels | {"ofd_mm": np.nan, "bpd_mm": np.nan}, nan_ok=True)
    predicted[3] = np.nan
    errors = head_points.point_errors(predicted, HEAD, (0.5, 0.5))
    assert (errors["ofd_px"], errors["ofd_mm"]) == (2.5, 1.25)
    assert np.isnan([errors["bpd_px"], errors["bpd_mm"], errors["normalised_mean_error_percent"]]).all()


def test_the_error_does_not_depend_on_which_end_is_called_the_first():
    for head, predicted in zip(random_heads(20), random_heads(20, seed=1)):
        errors = head_points.point_errors(predicted, head, (0.3, 0.2))
        for order in EXCHANGED:
            assert head_points.point_errors(predicted[order], head, (0.3, 0.2)) == pytest.approx(errors)


def test_the_mean_shape_of_two_heads_in_any_order_of_endpoints():
    heads = np.stack([HEAD, (HEAD + np.array([4, 10]))[[1, 0, 3, 2]]])
    assert head_points.mean_shape(heads).tolist() == (HEAD + np.array([2, 5])).tolist()
    with pytest.raises(ValueError, match="expected at least one"):
        head_points.mean_shape(heads[:0])


@pytest.mark.parametrize(
    ("angle_deg", "ends"),
    [
        (0, [[50, 20], [50, 120], [10, 70], [90, 70]]),
        (90, [[0, 70], [100, 70], [50, 30], [50, 110]]),
        (45, [[14.645, 34.645], [85.355, 105.355], [21.716, 98.284], [78.284, 41.716]]),  # from column towards row
    ],
)
def test_the_ends_of_an_ellipse_s_axes(angle_deg, ends):
    assert head_points.axis_endpoints((50, 70), 100, 80, angle_deg) == pytest.approx(np.array(ends), abs=1e-3)


def test_a_table_becomes_arrays_in_the_requested_order_and_needs_one_row_per_case():
    heads = random_heads(5)
    table = pd.DataFrame(heads.reshape(-1, 8), columns=head_points.POINT_COLUMNS).assign(case=list("abcde"))
    assert np.array_equal(head_points.as_arrays(table, ["d", "a"]), heads[[3, 0]])
    assert head_points.as_arrays(table, []).shape == (0, 4, 2)
    for faulty, name in ((table, "x"), (pd.concat([table, table[1:2]]), "b")):
        with pytest.raises(ValueError, match=rf"1 cases without one row of landmarks: \['{name}'\]"):
            head_points.as_arrays(faulty, ["a", name])
